//! Tags in the base URL: `/run/<id>/agent/<name>/v1/...` for clients that cannot set headers.
//!
//! A path is touched only when its front is made of tags and what remains is plainly an API path,
//! so that nothing an upstream offers is hidden behind a tag's name. A path that names an upstream
//! goes there whatever remains, or nowhere: it must not reach another one. Nor must one that names it
//! behind a tag that is empty, repeated or not text.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A path, and what its front says about the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tagged<'a> {
    pub upstream: Option<Cow<'a, str>>,
    pub run: Option<Cow<'a, str>>,
    pub parent_run: Option<Cow<'a, str>>,
    pub agent: Option<Cow<'a, str>>,
    pub variant: Option<Cow<'a, str>>,
    pub budget_usd: Option<Cow<'a, str>>,
    pub budget_tokens: Option<Cow<'a, str>>,
    pub budget_calls: Option<Cow<'a, str>>,
    /// The path as the upstream gets it; empty where only tags were given.
    pub rest: &'a str,
    /// An upstream is named behind tags that are none, so that nobody can tell where it should go.
    pub is_broken: bool,
}

const UPSTREAM: &str = "upstream";

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
/// most once.
pub fn take_tags(path: &str) -> Tagged<'_> {
    let untouched = Tagged {
        rest: path,
        ..Tagged::default()
    };
    let mut tagged = untouched.clone();
    while let Some((kind, name, rest)) = first_tag(tagged.rest) {
        match tagged.slot(kind) {
            Some(slot @ None) => *slot = Some(name),
            Some(Some(_)) | None => break,
        }
        tagged.rest = rest;
    }
    if tagged.upstream.is_some() || is_api_path(tagged.rest) {
        return tagged;
    }
    Tagged {
        is_broken: begins_with_tag(path) && tagged.rest.split('/').any(|it| it == UPSTREAM),
        ..untouched
    }
}

/// Whether somebody meant tags here, even after a slash too many.
fn begins_with_tag(path: &str) -> bool {
    let first = path.split('/').find(|segment| !segment.is_empty());
    first.is_some_and(|first| Tagged::default().slot(first).is_some())
}

impl<'a> Tagged<'a> {
    fn slot(&mut self, kind: &str) -> Option<&mut Option<Cow<'a, str>>> {
        Some(match kind {
            UPSTREAM => &mut self.upstream,
            "run" => &mut self.run,
            "parent-run" => &mut self.parent_run,
            "agent" => &mut self.agent,
            "variant" => &mut self.variant,
            "budget-usd" => &mut self.budget_usd,
            "budget-tokens" => &mut self.budget_tokens,
            "budget-calls" => &mut self.budget_calls,
            _ => return None,
        })
    }
}

/// Splits `/<kind>/<name>/rest` into kind, decoded name and `/rest`. A name that cannot be one is
/// none, but for an upstream: that is then one that nobody knows.
fn first_tag(path: &str) -> Option<(&str, Cow<'_, str>, &str)> {
    let (kind, after) = path.strip_prefix('/')?.split_once('/')?;
    if kind == UPSTREAM {
        let (name, rest) = after.split_at(after.find('/').unwrap_or(after.len()));
        return Some((kind, percent_decode_str(name).decode_utf8_lossy(), rest));
    }
    let (name, rest) = after.split_at_checked(after.find('/')?)?;
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
