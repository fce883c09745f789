//! The small fields of a request body: taken raw in the pass, read once it is over.
//!
//! A field of the wrong type, with a broken string or beyond its size is left out, not an error.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use strum::{EnumCount, EnumString, IntoStaticStr};

use super::{RequestFacts, ToolChoice};
use crate::core::call::Operation;
use crate::wire::route::Dialect;

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
    NPredict,
    N,
    BestOf,
    #[strum(to_string = "generationConfig", serialize = "generation_config")]
    GenerationConfig,
    /// Settings of the answer, as Ollama has them.
    Options,
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

    /// All but what needs the places of fields: their ranges, and the limit of the output.
    pub(super) fn facts(&self, operation: Operation, dialect: Dialect) -> RequestFacts {
        RequestFacts {
            readable: true,
            model: string(self.get(Small::Model)),
            stream: read(self.get(Small::Stream)) == Some(true),
            include_usage: field(self.get(Small::StreamOptions), "include_usage").and_then(parse),
            output_limit: None,
            choices: self.choices(operation, dialect),
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

    fn choices(&self, operation: Operation, dialect: Dialect) -> u64 {
        let choices = match (operation, dialect) {
            // It knows no number of choices.
            (_, Dialect::Ollama) => None,
            (Operation::Chat | Operation::Image, _) => read(self.get(Small::N)),
            (Operation::TextCompletion, _) => {
                read::<u64>(self.get(Small::N)).max(read(self.get(Small::BestOf)))
            }
            (Operation::GenerateContent, _) => {
                let config = self.get(Small::GenerationConfig);
                let count = |name| read(field(config, name));
                count("candidateCount").or_else(|| count("candidate_count"))
            }
            _ => None,
        };
        choices.unwrap_or(1).max(1)
    }
}

/// How many prompts a legacy completion has, each with an answer of its own. Numbers are the tokens
/// of one.
pub(super) fn prompts(raw: &[u8]) -> u64 {
    let count = if raw.starts_with(b"[") {
        parse::<Prompts>(raw)
    } else {
        None
    };
    count.map_or(1, |Prompts(count)| count.max(1))
}

struct Prompts(u64);

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PromptsVisitor)
    }
}

struct PromptsVisitor;

impl<'de> Visitor<'de> for PromptsVisitor {
    type Value = Prompts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("prompts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Prompts, A::Error> {
        let mut count = 0;
        while let Some(element) = seq.next_element::<&RawValue>()? {
            count += u64::from(element.get().starts_with(['"', '[', '{']));
        }
        Ok(Prompts(count))
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
