//! Lowering the output limit of a request, so that an answer cannot cost more than is held for it.
//!
//! The request is changed by the smallest edit of its text; every other byte stays. A limit is
//! lowered or added, never raised. Where it cannot be made sure that the upstream keeps to the new
//! limit, or where it would refuse the request for it, nothing is changed.

use std::ops::Range;

use super::fields::Fields;
use super::route::{Dialect, Route};
use super::scan::RequestFacts;
use crate::core::call::Operation;

/// OpenAI refuses a response with a lower limit.
const MIN_OF_RESPONSES: u64 = 16;
/// Both spellings, the usual one first.
const CONFIG_NAMES: [&str; 2] = ["maxOutputTokens", "max_output_tokens"];

/// A part of the body and what takes its place.
type Edit = (Range<usize>, String);

/// The body with `to` as the limit of each of its choices, given what the scan of it found. None
/// when no limit is above that, or when it cannot be done.
///
/// Of repeated keys the last one counts at the upstreams, but all are lowered.
pub fn lower(route: &Route, body: &[u8], facts: &RequestFacts, to: u64) -> Option<Vec<u8>> {
    if !facts.readable || to == 0 {
        return None;
    }
    let request = Request { body, facts, to };
    let edits = match (route.operation, route.dialect) {
        (Operation::Chat, Dialect::Chat) => {
            let model = route.path_model.as_deref().or(facts.model.as_deref());
            request.members(Some(name_in_chat(model.unwrap_or_default())))
        }
        // Without a limit these get 16 tokens at most servers, so that adding one would raise it.
        (Operation::TextCompletion, Dialect::Completions) => request.members(None),
        (Operation::Responses, Dialect::Responses) if to >= MIN_OF_RESPONSES => {
            request.members(Some("max_output_tokens"))
        }
        // Without a limit it is refused, as it is with one that leaves nothing beside thinking.
        (Operation::Messages, Dialect::Messages)
            if facts.thinking_budget.is_none_or(|budget| budget < to) =>
        {
            request.members(None)
        }
        (Operation::GenerateContent, Dialect::Gemini) => request.settings(),
        _ => None,
    }?;
    apply(body, edits)
}

struct Request<'a> {
    body: &'a [u8],
    facts: &'a RequestFacts,
    to: u64,
}

/// A member that sets a limit, unless it is null.
struct Member<'a> {
    name: &'static str,
    at: Range<usize>,
    value: &'a str,
}

/// A limit that can be added where none is set.
struct Missing {
    name: &'static str,
    edit: Edit,
}

impl<'a> Request<'a> {
    /// Of a body whose own members are limits: `missing` is added where none is set.
    fn members(&self, missing: Option<&'static str>) -> Option<Vec<Edit>> {
        let fields = self.facts.limit_fields.iter();
        let members: Option<Vec<_>> = fields
            .map(|field| {
                Some(Member {
                    name: field.name,
                    at: field.value.clone(),
                    value: self.text(&field.value)?,
                })
            })
            .collect();
        let missing = missing.and_then(|name| {
            let edit = self.at_the_end(&format!("\"{name}\":{}", self.to))?;
            Some(Missing { name, edit })
        });
        self.lowered(&members?, missing)
    }

    /// Of a body whose settings of the answer hold the limit.
    fn settings(&self) -> Option<Vec<Edit>> {
        let [name, _] = CONFIG_NAMES;
        let config = format!("{{\"{name}\":{}}}", self.to);
        let mut edits = Vec::new();
        for field in &self.facts.limit_fields {
            match self.text(&field.value)? {
                "null" => edits.push((field.value.clone(), config.clone())),
                object => edits.extend(self.config(object)?),
            }
        }
        if self.facts.limit_fields.is_empty() {
            edits.push(self.at_the_end(&format!("\"generationConfig\":{config}"))?);
        }
        Some(edits)
    }

    fn config(&self, object: &'a str) -> Option<Vec<Edit>> {
        let [name, _] = CONFIG_NAMES;
        let fields = Fields::parse_str(object)?;
        let mut members = Vec::new();
        for (key, value) in fields.all() {
            if let Some(name) = CONFIG_NAMES.into_iter().find(|name| *name == key) {
                let start = self.offset(value)?;
                let at = start..start + value.len();
                members.push(Member { name, at, value });
            }
        }
        let inside = self.offset(object)? + 1;
        let comma = if fields.is_empty() { "" } else { "," };
        let edit = (inside..inside, format!("\"{name}\":{}{comma}", self.to));
        self.lowered(&members, Some(Missing { name, edit }))
    }

    /// The edits for the members of one object. None when a value cannot be read: what an
    /// upstream makes of it is not known.
    fn lowered(&self, members: &[Member<'_>], missing: Option<Missing>) -> Option<Vec<Edit>> {
        let mut edits = Vec::new();
        for member in members.iter().filter(|member| !member.is_null()) {
            if limit(member.value)? > self.to {
                edits.push((member.at.clone(), self.to.to_string()));
            }
        }
        let last = |name| members.iter().rfind(|member| member.name == name);
        let is_set = |member: &Member<'_>| last(member.name).is_some_and(|last| !last.is_null());
        if members.iter().any(is_set) {
            return Some(edits);
        }
        let missing = missing?;
        let named = |member: &&Member<'_>| member.name == missing.name && member.is_null();
        let nulls = members.iter().filter(named);
        let before = edits.len();
        edits.extend(nulls.map(|null| (null.at.clone(), self.to.to_string())));
        if edits.len() == before {
            edits.push(missing.edit);
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

    /// Where `part`, which is borrowed from the body, begins in it.
    fn offset(&self, part: &str) -> Option<usize> {
        part.as_ptr().addr().checked_sub(self.body.as_ptr().addr())
    }
}

impl Member<'_> {
    fn is_null(&self) -> bool {
        self.value == "null"
    }
}

/// The name of the limit of a chat that has none. OpenAI's newer models refuse `max_tokens`, which
/// is the one that every other server knows, also where it serves OpenAI's open models.
fn name_in_chat(model: &str) -> &'static str {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let reasons = matches!(name.as_bytes(), [b'o', b'0'..=b'9', ..]);
    let is_gpt = name.starts_with("gpt-") && !name.starts_with("gpt-oss");
    if reasons || is_gpt || name.starts_with("chatgpt-") || name.starts_with("chat-latest") {
        "max_completion_tokens"
    } else {
        "max_tokens"
    }
}

/// How much a value allows. Some servers also take a fraction or a quoted number, and a negative
/// one for no limit.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what is wanted"
)]
fn limit(value: &str) -> Option<u64> {
    let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let number = quoted.unwrap_or(value).trim();
    number.parse().ok().or_else(|| {
        let number: f64 = number
            .parse()
            .ok()
            .filter(|number: &f64| !number.is_nan())?;
        let is_unlimited = number.is_sign_negative();
        Some(if is_unlimited {
            u64::MAX
        } else {
            number.ceil() as u64
        })
    })
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
