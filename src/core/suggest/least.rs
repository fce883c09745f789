//! How long a prompt has to be for a provider to cache it.

use crate::core::id::Label;

/// Of models that are not named below.
const USUAL: u64 = 1024;

/// Tokens below which nothing of a prompt is cached, by the family of the model: the minimums that the
/// providers publish, as far as they are known. They have raised and lowered some of them, and disagree
/// on others; the larger is taken, and so it is for a Haiku or a Gemini that is not known.
pub(super) fn cached_from(model: Option<&Label>) -> u64 {
    let name = model.map_or("", Label::as_str).to_ascii_lowercase();
    // Resellers write `claude-haiku-4.5`, and some `claude-4.5-haiku`.
    let name = name.replace('.', "-");
    let is = |family: &str, versions: &[&str]| {
        name.contains(family) && versions.iter().any(|it| name.contains(it))
    };
    if is("haiku", &["claude-3"]) || is("opus", &["4-7"]) || is("sonnet", &["4-6"]) {
        2048
    } else if name.contains("haiku") || is("opus", &["4-5", "4-6"]) {
        4096
    } else if is("gemini", &["2-5-flash"]) {
        2048
    } else if name.contains("gemini") {
        4096
    } else {
        USUAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_is_cached_from_its_own_length_on() {
        for (least, models) in [
            (
                1024,
                &[
                    "gpt-5",
                    "claude-sonnet-4-5-20250929",
                    "claude-opus-4-20250514",
                    "claude-opus-4-1-20250805",
                    "claude-3-opus-20240229",
                    "claude-3-5-sonnet-20241022",
                ][..],
            ),
            (
                2048,
                &[
                    "claude-3-haiku-20240307",
                    "claude-3-5-haiku-20241022",
                    "anthropic/claude-3.5-haiku",
                    "claude-sonnet-4-6",
                    "gemini-2.5-flash-lite",
                ],
            ),
            (
                4096,
                &[
                    "claude-haiku-4-5",
                    "us.anthropic.claude-haiku-4-5-20251001-v1:0",
                    "anthropic/claude-4.5-haiku",
                    "claude-opus-4-5-20251101",
                    "anthropic/claude-opus-4.5",
                    "gemini-2.5-pro",
                ],
            ),
        ] {
            for model in models {
                let label = Label::parse(model).unwrap();
                assert_eq!(cached_from(Some(&label)), least, "{model}");
            }
        }
        assert_eq!(cached_from(None), USUAL);
    }
}
