//! From what the wire says to what the detector compares.

use serde_json::Value;

use crate::config::ToolRule;
use crate::core::lineage::CallMade;
use crate::core::loops::reading::{Reading, Voice};
use crate::core::loops::settings::ToolTraits;
use crate::core::loops::turn::{self, Action, Answer, From, Part};
use crate::core::redaction::Redaction;
use crate::core::text;
use crate::wire::message::{Message, Piece, Role, ToolCall};
use xxhash_rust::xxh3::xxh3_64;

/// Texts of one tool call that may be what another agent begins with.
const MAX_TEXTS: usize = 16;
const MIN_TEXT: usize = 12;
/// So much of a text is searched for secrets; a sample of it is shorter.
const SAMPLED: usize = 4096;

/// How what is said is read, and what of it may be shown.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub tools: &'a [ToolRule],
    pub redact: &'a Redaction,
    pub shows: bool,
}

impl Reader<'_> {
    /// An answer by its text and its tool calls.
    pub fn answer(self, text: &str, calls: &[ToolCall]) -> Answer {
        let sample = match calls.first() {
            Some(call) => self.sample(&format!("{}({})", call.name, call.arguments)),
            None => self.sample(text),
        };
        Answer {
            text: turn::read_answer(text),
            actions: calls.iter().map(|call| self.action(call)).collect(),
            chants: false,
            sample,
        }
    }

    fn action(self, call: &ToolCall) -> Action {
        let rule = self.tools.iter().find(|rule| rule.matches(&call.name));
        Action {
            id: id_hash(&call.id),
            tool: xxh3_64(call.name.as_bytes()),
            arguments: Reading::of(Voice::World, &call.arguments),
            polls: turn::polls(&call.name, &call.arguments),
            traits: rule.map_or_else(ToolTraits::default, |rule| rule.traits),
        }
    }

    /// What the messages of a request say that is not the agent's own. `is_agent` tells whether
    /// another agent said it.
    pub fn parts(self, messages: &[Message], is_agent: impl Fn(&Message) -> bool) -> Vec<Part> {
        let mut parts = Vec::new();
        for message in messages {
            let is_agent = message.role != Role::System && is_agent(message);
            if message.role == Role::Assistant && !is_agent {
                continue;
            }
            let pieces = message.pieces.iter();
            parts.extend(pieces.filter_map(|piece| self.part(message.role, piece, is_agent)));
        }
        parts
    }

    fn part(self, role: Role, piece: &Piece, is_agent: bool) -> Option<Part> {
        let (from, text) = match piece {
            Piece::Call(_) => return None,
            Piece::Text(text) if role == Role::System => (From::System, text),
            Piece::Text(text) if is_agent => (From::Agent, text),
            Piece::Text(text) => (From::User, text),
            Piece::Result {
                call,
                text,
                is_error,
            } => {
                let call = id_hash(call);
                let is_error = *is_error || turn::is_error(text);
                (From::Tool { call, is_error }, text)
            }
        };
        let voice = if from == From::Agent {
            Voice::Agent
        } else {
            Voice::World
        };
        Some(Part {
            from,
            reading: Reading::of(voice, text),
            raw: xxh3_64(text.as_bytes()),
            sample: self.sample(text),
        })
    }

    /// The last answer of the agent that a request repeats.
    pub fn own_answer(
        self,
        messages: &[Message],
        is_agent: impl Fn(&Message) -> bool,
    ) -> Option<Answer> {
        let mut text = String::new();
        let mut calls = Vec::new();
        let own = messages
            .iter()
            .filter(|it| it.role == Role::Assistant && !is_agent(it));
        for piece in own.flat_map(|message| &message.pieces) {
            match piece {
                Piece::Text(more) => text.push_str(more),
                Piece::Call(call) => calls.push(call.clone()),
                Piece::Result { .. } => {}
            }
        }
        let is_empty = text.is_empty() && calls.is_empty();
        (!is_empty).then(|| self.answer(&text, &calls))
    }

    /// The front of a text, secrets taken out.
    fn sample(self, text: &str) -> String {
        if !self.shows {
            return String::new();
        }
        let front = text::front(text, SAMPLED);
        turn::sample(self.redact.text(front).as_deref().unwrap_or(front))
    }
}

/// 0 where there is none: then results are matched by their place.
fn id_hash(id: &str) -> u64 {
    if id.is_empty() {
        0
    } else {
        xxh3_64(id.as_bytes())
    }
}

/// The ids of tool calls, and the texts that they hand over.
pub fn calls_made(calls: &[ToolCall]) -> Vec<CallMade> {
    let made = calls.iter().map(|call| CallMade {
        id: call.id.clone(),
        texts: texts_in(&call.arguments),
    });
    made.collect()
}

fn texts_in(arguments: &str) -> Vec<String> {
    let mut texts = Vec::new();
    match serde_json::from_str(arguments) {
        Ok(value) => collect(&value, &mut texts),
        Err(_) => texts.push(arguments.to_owned()),
    }
    texts
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    if texts.len() >= MAX_TEXTS {
        return;
    }
    match value {
        Value::String(text) if text.len() >= MIN_TEXT => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
        _ => {}
    }
}
