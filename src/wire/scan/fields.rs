//! The small fields of a request body: taken raw in the pass, read once it is over.
//!
//! A field of the wrong type, with a broken string or beyond its size is left out, not an error.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use strum::{EnumCount, EnumString, IntoStaticStr};

use super::{RequestFacts, ToolChoice};
use crate::core::call::Operation;

/// A longer string is no name of anything.
const MAX_FIELD_BYTES: usize = 1024;
const MAX_METADATA_PAIRS: usize = 16;
/// Room for 16 pairs of the longest strings, escaped.
const MAX_METADATA_BYTES: usize = 64 * 1024;

/// The text of a value.
type Raw<'de> = Option<&'de [u8]>;

/// The fields that are read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumCount, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Small {
    Model,
    Stream,
    StreamOptions,
    MaxCompletionTokens,
    MaxTokens,
    MaxOutputTokens,
    N,
    BestOf,
    #[strum(serialize = "generation_config", serialize = "generationConfig")]
    GenerationConfig,
    Thinking,
    ServiceTier,
    PreviousResponseId,
    Conversation,
    User,
    SafetyIdentifier,
    PromptCacheKey,
    SessionId,
    Metadata,
    Background,
    ToolChoice,
}

impl Small {
    /// What limits the output of one choice; the first that is set counts. Of an operation that is
    /// known no other field does: it would be a limit that the upstream never sees.
    pub(super) fn limits(operation: Operation) -> &'static [Self] {
        match operation {
            Operation::Chat => &[Self::MaxCompletionTokens, Self::MaxTokens],
            Operation::TextCompletion | Operation::Messages => &[Self::MaxTokens],
            Operation::Responses => &[Self::MaxOutputTokens],
            Operation::GenerateContent => &[Self::GenerationConfig],
            _ => &[
                Self::MaxCompletionTokens,
                Self::MaxTokens,
                Self::MaxOutputTokens,
                Self::GenerationConfig,
            ],
        }
    }
}

#[derive(Default)]
pub(super) struct SmallFields<'de>([Raw<'de>; Small::COUNT]);

impl<'de> SmallFields<'de> {
    pub(super) fn set(&mut self, field: Small, raw: &'de [u8]) {
        if let Some(slot) = self.0.get_mut(field as usize) {
            *slot = Some(raw);
        }
    }

    fn get(&self, field: Small) -> Raw<'de> {
        self.0.get(field as usize).copied().flatten()
    }

    pub(super) fn facts(&self, operation: Operation) -> RequestFacts {
        let choices = self.choices(operation);
        let limit = self.limit_of_choice(operation);
        RequestFacts {
            readable: true,
            model: string(self.get(Small::Model)),
            stream: read(self.get(Small::Stream)) == Some(true),
            include_usage: field(self.get(Small::StreamOptions), "include_usage").and_then(parse),
            output_limit: limit.map(|limit| limit.saturating_mul(choices)),
            choices,
            limit_fields: Vec::new(),
            thinking_budget: read(field(self.get(Small::Thinking), "budget_tokens")),
            service_tier: string(self.get(Small::ServiceTier)),
            previous_response_id: string(self.get(Small::PreviousResponseId)),
            conversation: string(self.get(Small::Conversation))
                .or_else(|| string(field(self.get(Small::Conversation), "id"))),
            user: string(self.get(Small::User)),
            safety_identifier: string(self.get(Small::SafetyIdentifier)),
            prompt_cache_key: string(self.get(Small::PromptCacheKey)),
            session_id: string(self.get(Small::SessionId)),
            metadata: metadata(self.get(Small::Metadata)),
            background: read(self.get(Small::Background)) == Some(true),
            tool_choice: tool_choice(self.get(Small::ToolChoice)),
            stream_options: None,
            segments: Vec::new(),
        }
    }

    /// The schema that Gemini keeps among the settings of the answer.
    pub(super) fn response_schema(&self) -> Raw<'de> {
        const NAMES: [&str; 4] = [
            "responseSchema",
            "response_schema",
            "responseJsonSchema",
            "response_json_schema",
        ];
        let schema = |name: &&str| field(self.get(Small::GenerationConfig), name);
        let schema = NAMES.iter().find_map(schema);
        schema.filter(|schema| *schema != b"null")
    }

    fn limit_of_choice(&self, operation: Operation) -> Option<u64> {
        let limit = |field: &Small| match field {
            Small::GenerationConfig => self.setting(["maxOutputTokens", "max_output_tokens"]),
            field => read(self.get(*field)),
        };
        Small::limits(operation).iter().find_map(limit)
    }

    fn choices(&self, operation: Operation) -> u64 {
        let choices = match operation {
            Operation::Chat | Operation::Image => read(self.get(Small::N)),
            Operation::TextCompletion => {
                read::<u64>(self.get(Small::N)).max(read(self.get(Small::BestOf)))
            }
            Operation::GenerateContent => self.setting(["candidateCount", "candidate_count"]),
            _ => None,
        };
        choices.unwrap_or(1).max(1)
    }

    /// A number among the settings of the answer, as Gemini has them.
    fn setting(&self, names: [&str; 2]) -> Option<u64> {
        names
            .iter()
            .find_map(|name| read(field(self.get(Small::GenerationConfig), name)))
    }
}

fn parse<'de, T: Deserialize<'de>>(raw: &'de [u8]) -> Option<T> {
    serde_json::from_slice(raw).ok()
}

fn read<'de, T: Deserialize<'de>>(raw: Raw<'de>) -> Option<T> {
    raw.and_then(parse)
}

fn string(raw: Raw<'_>) -> Option<String> {
    raw.filter(|raw| raw.len() <= MAX_FIELD_BYTES)
        .and_then(parse)
}

/// The field `name` of an object; the last one when it is repeated.
fn field<'de>(raw: Raw<'de>, name: &str) -> Raw<'de> {
    let object: BTreeMap<String, &'de RawValue> = raw
        .filter(|raw| raw.len() <= MAX_METADATA_BYTES && raw.starts_with(b"{"))
        .and_then(parse)?;
    object.get(name).map(|raw| raw.get().as_bytes())
}

fn metadata(raw: Raw<'_>) -> BTreeMap<String, String> {
    let pairs: BTreeMap<String, &RawValue> = raw
        .filter(|raw| raw.len() <= MAX_METADATA_BYTES)
        .and_then(parse)
        .unwrap_or_default();
    pairs
        .into_iter()
        .filter(|(key, _)| key.len() <= MAX_FIELD_BYTES)
        .filter_map(|(key, value)| Some((key, string(Some(value.get().as_bytes()))?)))
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
