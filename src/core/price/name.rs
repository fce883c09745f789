//! The names under which a model may stand in the table, likeliest first.

use super::provider::Provider;

/// A name to look up, and the seller that its prefix named.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) maker: Option<Provider>,
    pub(super) name: String,
}

/// `openai/gpt-5-2025-08-07` gives itself, `gpt-5-2025-08-07` and `gpt-5`.
pub(super) fn candidates(model: &str) -> Vec<Candidate> {
    let model = model.trim().to_ascii_lowercase();
    let model = model
        .strip_prefix("ft:")
        .map_or(model.as_str(), base_of_fine_tune);
    let mut found = Vec::new();
    with_shorter_forms(None, model, &mut found);
    let mut rest = model;
    let mut maker = None;
    while let Some((prefix, name)) = rest.split_once('/') {
        maker = Provider::parse(prefix).or(maker);
        with_shorter_forms(maker, name, &mut found);
        rest = name;
    }
    found
}

/// `gpt-4o:org:name:id` is a fine-tune of `gpt-4o`.
fn base_of_fine_tune(rest: &str) -> &str {
    rest.split_once(':').map_or(rest, |(base, _)| base)
}

fn with_shorter_forms(maker: Option<Provider>, name: &str, found: &mut Vec<Candidate>) {
    let mut add = |name: &str| {
        let candidate = Candidate {
            maker,
            name: name.to_owned(),
        };
        if !name.is_empty() && !found.contains(&candidate) {
            found.push(candidate);
        }
    };
    add(name);
    let undated = without_date(name);
    add(undated);
    let released = undated.strip_suffix("-latest").unwrap_or(undated);
    add(released);
    // Aggregators write claude-opus-4.5 and gpt-35-turbo where makers write 4-5 and 3.5.
    if released.starts_with("claude-") {
        add(&released.replace('.', "-"));
    }
    add(&released.replace("gpt-35-", "gpt-3.5-"));
}

/// Cuts `-2025-08-07`, `-20250807` and `@20250807`.
fn without_date(name: &str) -> &str {
    for (length, separators) in [(10, "-"), (8, "-@")] {
        let Some((head, date)) = name
            .len()
            .checked_sub(length)
            .and_then(|at| name.split_at_checked(at))
        else {
            continue;
        };
        let digits = date.bytes().filter(u8::is_ascii_digit).count();
        let is_date = digits == 8 && date.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let dashes_fit =
            length == 8 || (date.get(4..5) == Some("-") && date.get(7..8) == Some("-"));
        if is_date && dashes_fit && head.ends_with(|c| separators.contains(c)) {
            return head.get(..head.len() - 1).unwrap_or(head);
        }
    }
    name
}
