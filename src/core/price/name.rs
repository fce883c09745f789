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
    let mut found = Vec::new();
    if let Some(tuned) = fine_tune(&model) {
        with_shorter_forms(None, tuned, &mut found);
        return found;
    }
    let mut rest = model.as_str();
    let mut maker = None;
    loop {
        match claude_on_bedrock(rest) {
            Some(names) => found.extend(names),
            None => with_shorter_forms(maker, rest, &mut found),
        }
        let Some((prefix, name)) = rest.split_once('/') else {
            return found;
        };
        maker = Provider::parse(prefix).or(maker);
        rest = name;
    }
}

/// Whether this is the name under which Bedrock sells a model of Anthropic.
pub(super) fn is_on_bedrock(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    claude_on_bedrock(&name.to_ascii_lowercase()).is_some()
}

/// Whether an aggregator that offers variants of models gives this one away.
pub(super) fn is_free(model: &str) -> bool {
    model.contains('/') && model.to_ascii_lowercase().ends_with(":free")
}

/// `ft:gpt-4o:org:name:id` is a fine-tune of `gpt-4o`, and costs as `ft:gpt-4o`.
fn fine_tune(model: &str) -> Option<&str> {
    let base = model.strip_prefix("ft:")?.split(':').next()?;
    model.get(.."ft:".len() + base.len())
}

/// `us.anthropic.claude-sonnet-4-5-20250929-v1:0` is Claude in one geography of Amazon Bedrock,
/// which has prices of its own; without one, and with `global`, it costs what Anthropic takes.
fn claude_on_bedrock(name: &str) -> Option<Vec<Candidate>> {
    let (geography, model) = name
        .strip_prefix("anthropic.")
        .map(|model| ("global", model))
        .or_else(|| name.split_once(".anthropic."))?;
    let model = without_date(without_version(model));
    let candidate = |maker, name| Candidate {
        maker: Some(maker),
        name,
    };
    Some(match geography {
        "global" => vec![
            candidate(Provider::Bedrock, format!("anthropic.{model}")),
            candidate(Provider::Anthropic, model.to_owned()),
        ],
        "us" | "eu" | "apac" | "jp" | "au" => {
            vec![candidate(
                Provider::Bedrock,
                format!("us.anthropic.{model}"),
            )]
        }
        _ if geography
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b == b'-') =>
        {
            vec![candidate(
                Provider::Bedrock,
                format!("{geography}.anthropic.{model}"),
            )]
        }
        _ => return None,
    })
}

/// Cuts `-v1:0`, `-v1` and `:0`.
fn without_version(name: &str) -> &str {
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    match name.rsplit_once("-v") {
        Some((head, version)) if version.bytes().all(|b| b.is_ascii_digit()) => head,
        _ => name,
    }
}

/// Cuts what tells an aggregator by which route to go, at the price of the model.
fn without_route(name: &str) -> &str {
    [":nitro", ":floor", ":exacto"]
        .iter()
        .find_map(|route| name.strip_suffix(route))
        .unwrap_or(name)
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
    let name = without_route(name);
    let undated = without_date(name.strip_suffix("@default").unwrap_or(name));
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
