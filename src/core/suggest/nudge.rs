//! Messages that ask for the rest of an answer, and for nothing else.

const WORDS: [&str; 11] = [
    "continue",
    "continue generating",
    "continue where you left off",
    "continue where you stopped",
    "continue from where you left off",
    "continue from where you stopped",
    "go on",
    "go on where you stopped",
    "go on from where you stopped",
    "keep going",
    "carry on",
];
/// A longer text says more than to go on.
const MAX_BYTES: usize = 64;

/// Whether a text says no more than to go on. Case, punctuation and `please` do not matter.
pub fn says_go_on(text: &str) -> bool {
    if text.len() > MAX_BYTES {
        return false;
    }
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words: Vec<&str> = words
        .filter(|word| !word.is_empty() && *word != "please")
        .collect();
    WORDS.contains(&words.join(" ").as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_no_more_than_to_go_on_asks_for_the_rest() {
        for text in [
            "continue",
            "Please, continue...",
            "Go on!",
            "keep going please",
            "Continue from where you left off.",
        ] {
            assert!(says_go_on(text), "{text}");
        }
        for text in [
            "",
            "please",
            "thanks",
            "Go on holiday",
            "continue with the second one",
            &"go on ".repeat(20),
        ] {
            assert!(!says_go_on(text), "{text}");
        }
    }
}
