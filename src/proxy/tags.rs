//! Tags in the base URL: `/run/<id>/agent/<name>/v1/...` for clients that cannot set headers.
//!
//! A path is touched only when its front is made of tags and what remains is plainly an API path,
//! so that nothing an upstream offers is hidden behind a tag's name.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A path, and what its front says about the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tagged<'a> {
    pub upstream: Option<Cow<'a, str>>,
    pub run: Option<Cow<'a, str>>,
    pub agent: Option<Cow<'a, str>>,
    /// The path as the upstream gets it.
    pub rest: &'a str,
}

/// First segments of the paths that OpenAI-compatible and other LLM endpoints have, next to
/// version segments such as `v1` or `v1beta`.
const API_SEGMENTS: [&str; 17] = [
    "openai",
    "api",
    "chat",
    "completions",
    "responses",
    "embeddings",
    "messages",
    "models",
    "images",
    "audio",
    "moderations",
    "files",
    "batches",
    "realtime",
    "rerank",
    "deployments",
    "inference",
];

/// Takes the tags off the front of `path`, which has no query. They come in any order, each at
/// most once, and `/upstream/<name>` only with a name that `is_upstream` knows.
pub fn take_tags(path: &str, is_upstream: impl Fn(&str) -> bool) -> Tagged<'_> {
    let untouched = || Tagged {
        rest: path,
        ..Tagged::default()
    };
    let mut tagged = untouched();
    while let Some((kind, name, rest)) = first_tag(tagged.rest) {
        let slot = match kind {
            "upstream" if is_upstream(&name) => &mut tagged.upstream,
            "run" => &mut tagged.run,
            "agent" => &mut tagged.agent,
            _ => break,
        };
        if slot.replace(name).is_some() {
            return untouched();
        }
        tagged.rest = rest;
    }
    if is_api_path(tagged.rest) {
        tagged
    } else {
        untouched()
    }
}

/// Splits `/<kind>/<name>/rest` into kind, decoded name and `/rest`.
fn first_tag(path: &str) -> Option<(&str, Cow<'_, str>, &str)> {
    let (kind, after) = path.strip_prefix('/')?.split_once('/')?;
    let end = after.find('/')?;
    let (name, rest) = after.split_at_checked(end)?;
    if name.is_empty() || name.contains(['?', '#']) {
        return None;
    }
    Some((kind, percent_decode_str(name).decode_utf8().ok()?, rest))
}

fn is_api_path(path: &str) -> bool {
    let first = path
        .trim_start_matches('/')
        .split(['/', '?'])
        .next()
        .unwrap_or_default();
    let is_version = first
        .strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    is_version || API_SEGMENTS.contains(&first)
}

#[cfg(test)]
mod tests;
