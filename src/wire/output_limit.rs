//! Lowering the output limit of a request, so that an answer cannot cost more than is held for it.
//!
//! The request is changed by the smallest edit of its text; every other byte stays. A limit is
//! lowered or added, never raised. Where it cannot be made sure that the upstream keeps to the new
//! limit, or where it would refuse the request for it, nothing is changed.

use std::ops::Range;

use http::Uri;

use super::fields::Fields;
use super::route::{Dialect, Route};
use super::scan::RequestFacts;
use super::scan::limits::{Limits, Member};
use crate::core::price::{Provider, provider_of};

/// What OpenAI allows a legacy completion that sets no limit.
const UNLIMITED_COMPLETION: u64 = 16;
/// Azure does not know `max_completion_tokens` before this version of its API.
const NEWER_AZURE: &str = "2024-09";
/// OpenAI refuses a response with a lower limit.
const MIN_OF_RESPONSES: u64 = 16;

/// A part of the body and what takes its place.
type Edit = (Range<usize>, String);

/// The body with `to` as the limit of each of its choices, given what the scan of it found. None
/// when no limit is above that, or when it cannot be done.
///
/// Servers differ in which of several limits they know, and of repeated keys the last one counts
/// at most of them: all are lowered. `uri` is where the request goes.
pub fn lower(
    (route, uri): (&Route, &Uri),
    body: &[u8],
    facts: &RequestFacts,
    to: u64,
) -> Option<Vec<u8>> {
    if !facts.readable || to == 0 || !may_have(to, route.dialect, facts) {
        return None;
    }
    let request = Request {
        body,
        facts,
        limits: Limits::of(route.operation, route.dialect)?,
        missing: missing((route, uri), facts, to)?,
        to,
    };
    apply(body, request.edits()?)
}

/// Whether the upstream would take a request with that limit.
fn may_have(to: u64, dialect: Dialect, facts: &RequestFacts) -> bool {
    match dialect {
        Dialect::Responses => to >= MIN_OF_RESPONSES,
        // Thinking has to leave something for the answer.
        Dialect::Messages => facts.thinking_budget.is_none_or(|budget| budget < to),
        _ => true,
    }
}

/// What is added where no limit is set.
fn missing((route, uri): (&Route, &Uri), facts: &RequestFacts, to: u64) -> Option<Missing> {
    let (name, limit) = match route.dialect {
        Dialect::Chat => {
            let model = route.path_model.as_deref().or(facts.model.as_deref());
            (name_in_chat(uri, model.unwrap_or_default()), to)
        }
        Dialect::Completions if Server::of(uri) != Server::Other => {
            ("max_tokens", to.min(UNLIMITED_COMPLETION))
        }
        Dialect::Completions | Dialect::Messages => ("max_tokens", to),
        Dialect::Responses => ("max_output_tokens", to),
        Dialect::Gemini => ("maxOutputTokens", to),
        Dialect::Ollama => ("num_predict", to),
        Dialect::LlamaCpp => ("n_predict", to),
        _ => return None,
    };
    Some(Missing { name, limit })
}

struct Request<'a> {
    body: &'a [u8],
    facts: &'a RequestFacts,
    limits: &'static Limits,
    missing: Missing,
    to: u64,
}

/// A limit that is added where none is set.
struct Missing {
    name: &'static str,
    limit: u64,
}

impl<'a> Request<'a> {
    fn edits(&self) -> Option<Vec<Edit>> {
        match self.limits.within {
            Some(settings) => self.of_settings(settings),
            None => self.of_body(),
        }
    }

    /// Of a body whose own members are limits.
    fn of_body(&self) -> Option<Vec<Edit>> {
        let fields = self.facts.limit_fields.iter();
        let members: Option<Vec<_>> = fields
            .map(|field| {
                let (name, value) = (field.name, self.text(&field.value)?);
                Some(Member { name, value })
            })
            .collect();
        self.lowered(&members?, || self.at_the_end(&self.missing.text()))
    }

    /// Of a body whose settings of the answer hold the limit.
    fn of_settings(&self, name: &str) -> Option<Vec<Edit>> {
        let settings = format!("{{{}}}", self.missing.text());
        let mut edits = Vec::new();
        for field in &self.facts.limit_fields {
            match self.text(&field.value)? {
                "null" => edits.push((field.value.clone(), settings.clone())),
                object => edits.extend(self.of_object(object)?),
            }
        }
        if self.facts.limit_fields.is_empty() {
            edits.push(self.at_the_end(&format!("\"{name}\":{settings}"))?);
        }
        Some(edits)
    }

    fn of_object(&self, object: &'a str) -> Option<Vec<Edit>> {
        let fields = Fields::parse_str(object)?;
        let members = fields.all().filter_map(|(key, value)| {
            let name = self.limits.name(key)?;
            Some(Member { name, value })
        });
        let first = || {
            let inside = self.range(object)?.start + 1;
            let comma = if fields.is_empty() { "" } else { "," };
            Some((inside..inside, format!("{}{comma}", self.missing.text())))
        };
        self.lowered(&members.collect::<Vec<_>>(), first)
    }

    /// The edits for the members of one object, into which `add` puts the limit that is missing.
    /// None when a value cannot be read: what an upstream makes of it is not known.
    fn lowered(
        &self,
        members: &[Member<'a>],
        add: impl FnOnce() -> Option<Edit>,
    ) -> Option<Vec<Edit>> {
        let mut edits = Vec::new();
        for member in members.iter().filter(|member| !member.is_null()) {
            if self.limits.allowed(member.value)? > self.to {
                edits.push((self.range(member.value)?, self.to.to_string()));
            }
        }
        if self.limits.is_set(members) {
            return Some(edits);
        }
        let nulls = members.iter().filter(|member| member.is_null());
        let named = nulls.filter(|null| null.name == self.missing.name);
        let before = edits.len();
        for null in named {
            edits.push((self.range(null.value)?, self.missing.limit.to_string()));
        }
        if edits.len() == before {
            edits.push(add()?);
        }
        Some(edits)
    }

    fn at_the_end(&self, member: &str) -> Option<Edit> {
        let end = self.body.iter().rposition(|byte| *byte == b'}')?;
        let is_empty = self.body.get(..end)?.trim_ascii_end().ends_with(b"{");
        let comma = if is_empty { "" } else { "," };
        Some((end..end, format!("{comma}{member}")))
    }

    fn text(&self, range: &Range<usize>) -> Option<&'a str> {
        str::from_utf8(self.body.get(range.clone())?).ok()
    }

    /// Where `part`, which is borrowed from the body, lies in it.
    fn range(&self, part: &str) -> Option<Range<usize>> {
        let start = part
            .as_ptr()
            .addr()
            .checked_sub(self.body.as_ptr().addr())?;
        Some(start..start + part.len())
    }
}

impl Missing {
    fn text(&self) -> String {
        format!("\"{}\":{}", self.name, self.limit)
    }
}

/// Who serves OpenAI's models as OpenAI does, as far as the address tells.
#[derive(PartialEq, Eq)]
enum Server {
    OpenAi,
    Azure,
    /// Azure by a version of its API that is too old for `max_completion_tokens`.
    OldAzure,
    Other,
}

impl Server {
    fn of(uri: &Uri) -> Self {
        let path = uri.path().to_ascii_lowercase();
        let is_azure = match provider_of(uri.host().unwrap_or_default()) {
            Some(Provider::OpenAi) => return Self::OpenAi,
            // Models of others are served there too, under other paths.
            Some(Provider::Azure) => path.contains("/openai/"),
            _ => path.contains("/openai/deployments/"),
        };
        let mut pairs = uri.query().unwrap_or_default().split('&');
        let version = pairs.find_map(|pair| pair.strip_prefix("api-version="));
        match version {
            _ if !is_azure => Self::Other,
            Some(version) if version < NEWER_AZURE => Self::OldAzure,
            _ => Self::Azure,
        }
    }
}

/// The name of the limit of a chat that has none. Every server knows `max_tokens`, but OpenAI's
/// newer models refuse it, and the name of a deployment does not say which model that is.
fn name_in_chat(uri: &Uri, model: &str) -> &'static str {
    match Server::of(uri) {
        Server::OpenAi | Server::Azure => "max_completion_tokens",
        Server::Other if is_of_openai(model) => "max_completion_tokens",
        Server::OldAzure | Server::Other => "max_tokens",
    }
}

/// Whether OpenAI alone serves the model, itself or behind a gateway. Its open models are served
/// by others.
fn is_of_openai(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let reasons = matches!(name.as_bytes(), [b'o', b'0'..=b'9', ..]);
    let is_gpt = name.starts_with("gpt-") && !name.starts_with("gpt-oss");
    reasons || is_gpt || name.starts_with("chatgpt-") || name.starts_with("chat-latest")
}

/// None when there is nothing to change.
fn apply(body: &[u8], mut edits: Vec<Edit>) -> Option<Vec<u8>> {
    edits.sort_by_key(|(range, _)| range.start);
    let mut changed = Vec::with_capacity(body.len() + 64);
    let mut at = 0;
    for (range, text) in &edits {
        changed.extend_from_slice(body.get(at..range.start)?);
        changed.extend_from_slice(text.as_bytes());
        at = range.end;
    }
    changed.extend_from_slice(body.get(at..)?);
    (!edits.is_empty()).then_some(changed)
}

#[cfg(test)]
mod tests;
