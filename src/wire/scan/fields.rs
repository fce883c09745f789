//! The small fields of a request body: taken raw in the pass, read once it is over.
//!
//! A field of the wrong type, with a broken string or beyond its size is left out, not an error.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{RequestFacts, ToolChoice};
use crate::core::call::Operation;

/// A longer string is no name of anything.
const MAX_FIELD_BYTES: usize = 1024;
const MAX_METADATA_PAIRS: usize = 16;
/// Room for 16 pairs of the longest strings, escaped.
const MAX_METADATA_BYTES: usize = 64 * 1024;

type Raw<'de> = Option<&'de RawValue>;

#[derive(Default)]
pub(super) struct SmallFields<'de> {
    model: Raw<'de>,
    stream: Raw<'de>,
    stream_options: Raw<'de>,
    max_completion_tokens: Raw<'de>,
    max_tokens: Raw<'de>,
    max_output_tokens: Raw<'de>,
    n: Raw<'de>,
    best_of: Raw<'de>,
    generation_config: Raw<'de>,
    service_tier: Raw<'de>,
    previous_response_id: Raw<'de>,
    conversation: Raw<'de>,
    user: Raw<'de>,
    safety_identifier: Raw<'de>,
    prompt_cache_key: Raw<'de>,
    session_id: Raw<'de>,
    metadata: Raw<'de>,
    background: Raw<'de>,
    tool_choice: Raw<'de>,
}

impl<'de> SmallFields<'de> {
    pub(super) fn slot(&mut self, key: &str) -> Option<&mut Raw<'de>> {
        Some(match key {
            "model" => &mut self.model,
            "stream" => &mut self.stream,
            "stream_options" => &mut self.stream_options,
            "max_completion_tokens" => &mut self.max_completion_tokens,
            "max_tokens" => &mut self.max_tokens,
            "max_output_tokens" => &mut self.max_output_tokens,
            "n" => &mut self.n,
            "best_of" => &mut self.best_of,
            "generationConfig" | "generation_config" => &mut self.generation_config,
            "service_tier" => &mut self.service_tier,
            "previous_response_id" => &mut self.previous_response_id,
            "conversation" => &mut self.conversation,
            "user" => &mut self.user,
            "safety_identifier" => &mut self.safety_identifier,
            "prompt_cache_key" => &mut self.prompt_cache_key,
            "session_id" => &mut self.session_id,
            "metadata" => &mut self.metadata,
            "background" => &mut self.background,
            "tool_choice" => &mut self.tool_choice,
            _ => return None,
        })
    }

    pub(super) fn facts(&self, operation: Operation) -> RequestFacts {
        RequestFacts {
            readable: true,
            model: string(self.model),
            stream: read(self.stream) == Some(true),
            include_usage: field(self.stream_options, "include_usage").and_then(parse),
            output_limit: self.output_limit(operation),
            service_tier: string(self.service_tier),
            previous_response_id: string(self.previous_response_id),
            conversation: string(self.conversation)
                .or_else(|| string(field(self.conversation, "id"))),
            user: string(self.user),
            safety_identifier: string(self.safety_identifier),
            prompt_cache_key: string(self.prompt_cache_key),
            session_id: string(self.session_id),
            metadata: metadata(self.metadata),
            background: read(self.background) == Some(true),
            tool_choice: tool_choice(self.tool_choice),
            segments: Vec::new(),
        }
    }

    fn output_limit(&self, operation: Operation) -> Option<u64> {
        let config = |names: [&str; 2]| -> Option<u64> {
            names
                .iter()
                .find_map(|name| read(field(self.generation_config, name)))
        };
        let each = read(self.max_completion_tokens)
            .or_else(|| read(self.max_tokens))
            .or_else(|| read(self.max_output_tokens))
            .or_else(|| config(["maxOutputTokens", "max_output_tokens"]))?;
        let choices = match operation {
            Operation::Chat => read(self.n),
            Operation::TextCompletion => read::<u64>(self.n).max(read(self.best_of)),
            Operation::GenerateContent => config(["candidateCount", "candidate_count"]),
            _ => None,
        };
        Some(each.saturating_mul(choices.unwrap_or(1).max(1)))
    }
}

fn parse<'de, T: Deserialize<'de>>(raw: &'de RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn read<'de, T: Deserialize<'de>>(raw: Raw<'de>) -> Option<T> {
    raw.and_then(parse)
}

fn string(raw: Raw<'_>) -> Option<String> {
    raw.filter(|raw| raw.get().len() <= MAX_FIELD_BYTES)
        .and_then(parse)
}

/// The field `name` of an object; the last one when it is repeated.
fn field<'de>(raw: Raw<'de>, name: &str) -> Raw<'de> {
    let object: BTreeMap<String, &'de RawValue> = raw
        .filter(|raw| raw.get().len() <= MAX_METADATA_BYTES && raw.get().starts_with('{'))
        .and_then(parse)?;
    object.get(name).copied()
}

fn metadata(raw: Raw<'_>) -> BTreeMap<String, String> {
    let pairs: BTreeMap<String, &RawValue> = raw
        .filter(|raw| raw.get().len() <= MAX_METADATA_BYTES)
        .and_then(parse)
        .unwrap_or_default();
    pairs
        .into_iter()
        .filter(|(key, _)| key.len() <= MAX_FIELD_BYTES)
        .filter_map(|(key, value)| Some((key, string(Some(value))?)))
        .take(MAX_METADATA_PAIRS)
        .collect()
}

/// Reads the spelling of chat, responses and messages.
fn tool_choice(raw: Raw<'_>) -> ToolChoice {
    let kind = string(raw).or_else(|| string(field(raw, "type")));
    match kind.as_deref() {
        Some("none") => ToolChoice::None,
        Some("required" | "any") => ToolChoice::Required,
        Some("function" | "tool" | "custom") => {
            let name = string(field(field(raw, "function"), "name"))
                .or_else(|| string(field(raw, "name")));
            name.map_or(ToolChoice::Required, ToolChoice::Named)
        }
        _ => ToolChoice::Auto,
    }
}
