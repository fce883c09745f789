//! Runs as JSON lines: one run a line, its calls with what is new in each request.
//!
//! `{"id", "calls": [{"agent", "caller", "new_messages": [...], "response": {...}}]}`, where messages
//! are those of chat completions. `"fresh": true` begins the agent's history anew, no new messages
//! are the same request again, a response of null is one that failed. `at` is a time in RFC 3339;
//! without it calls follow each other at once.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use super::{Call, Run, Who};
use crate::config::LoopsConfig;
use crate::core::attribution::Confidence;
use crate::core::id::{CallId, Label};
use crate::core::loops::chant::Chant;
use crate::core::loops::turn::{Answer, Ask, Kind};
use crate::core::redaction::Redaction;
use crate::core::time::Timestamp;
use crate::loops::read::Reader;
use crate::wire::message::{self, Message, Piece, Role, ToolCall};
use crate::wire::scan::SegmentKind;

/// English text and code have about as many bytes per token.
const BYTES_PER_TOKEN: u64 = 4;

/// Why a line is no run.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {cause}")]
pub struct LineError {
    line: usize,
    cause: serde_json::Error,
}

#[derive(Deserialize)]
struct RunLine<'a> {
    id: String,
    #[serde(borrow)]
    calls: Vec<CallLine<'a>>,
}

#[derive(Deserialize)]
struct CallLine<'a> {
    agent: Label,
    caller: Option<Label>,
    #[serde(borrow, default)]
    new_messages: Vec<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(default)]
    fresh: bool,
    at: Option<Timestamp>,
}

/// One agent of a run, as far as it was read.
#[derive(Default)]
struct Agent {
    depth: u32,
    /// Bytes of its history.
    history: u64,
    ended_at: Option<Timestamp>,
}

/// Reads all lines that are not empty.
pub fn read<'a>(
    text: &'a str,
    config: &'a LoopsConfig,
) -> impl Iterator<Item = Result<Run, LineError>> + 'a {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| {
        let run: RunLine<'_> = serde_json::from_str(line).map_err(|cause| LineError {
            line: at + 1,
            cause,
        })?;
        Ok(run_of(run, config))
    })
}

fn run_of(line: RunLine<'_>, config: &LoopsConfig) -> Run {
    let mut agents: HashMap<Label, Agent> = HashMap::new();
    let run = Label::parse(&line.id).ok();
    let calls = line.calls.iter().enumerate().map(|(at, call)| {
        let number = u128::try_from(at).unwrap_or(0);
        let id = CallId::from_bytes(number.to_be_bytes());
        call_of(call, id, (&mut agents, run.as_ref()), config)
    });
    Run {
        calls: calls.collect(),
        id: line.id,
    }
}

fn call_of(
    line: &CallLine<'_>,
    id: CallId,
    (agents, run): (&mut HashMap<Label, Agent>, Option<&Label>),
    config: &LoopsConfig,
) -> Call {
    let read = |raw: &RawValue| message::read(SegmentKind::Message, raw.get().as_bytes());
    let messages: Vec<Message> = line
        .new_messages
        .iter()
        .filter_map(|raw| read(raw))
        .collect();
    let answered = line.response.and_then(read);
    let of_caller = line.caller.as_ref().and_then(|caller| agents.get(caller));
    let depth = of_caller.map_or(1, |caller| caller.depth + 1);
    let is_known = agents.contains_key(&line.agent);
    let agent = agents.entry(line.agent.clone()).or_default();
    let is_fresh = line.fresh || !is_known;
    if is_fresh {
        (agent.depth, agent.history) = (depth, 0);
    }
    let bytes = |messages: &[Message]| -> u64 { messages.iter().map(size).sum() };
    agent.history += bytes(&messages);
    let input = agent.history;
    let output = answered.as_ref().map_or(0, size);
    agent.history += output;
    let at = line.at.unwrap_or_default();
    let idle = agent.ended_at.map(|ended| at.micros_since(ended) / 1000);
    agent.ended_at = line.at;
    let reader = Reader {
        tools: &config.tools,
        redact: &Redaction::default(),
        shows: true,
    };
    let hash = |label: &Label| xxh3_64(label.as_str().as_bytes());
    let kind = match (is_fresh, messages.is_empty()) {
        (true, _) => Kind::Fresh,
        (false, true) => Kind::Again,
        (false, false) => Kind::Next,
    };
    Call {
        id,
        ask: Some(Ask {
            agent: hash(&line.agent),
            caller: line.caller.as_ref().map_or(0, hash),
            conversation: hash(&line.agent),
            depth: agent.depth,
            kind,
            brought: reader.parts(&messages, |message| {
                message.role == Role::User && message.name.is_some()
            }),
            said: None,
            request: 0,
            idle_ms: idle,
        }),
        answer: answered.map(|message| answer_of(message, reader)),
        who: Who {
            run: run.cloned(),
            agent: line.agent.clone(),
            caller: line.caller.clone(),
            user: None,
            model: None,
            upstream: None,
            variant: None,
            inferred: Confidence::default(),
        },
        at,
        ended_at: at,
        input_tokens: input / BYTES_PER_TOKEN,
        output_tokens: output / BYTES_PER_TOKEN,
        nano_usd: 0,
        is_retry: false,
    }
}

fn answer_of(message: Message, reader: Reader<'_>) -> Answer {
    let (text, calls) = parts(message);
    let mut answer = reader.answer(&text, &calls);
    answer.chants = Chant::default().push(&text);
    answer
}

fn parts(message: Message) -> (String, Vec<ToolCall>) {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for piece in message.pieces {
        match piece {
            Piece::Text(more) => text.push_str(&more),
            Piece::Call(call) => calls.push(call),
            Piece::Result { .. } => {}
        }
    }
    (text, calls)
}

fn size(message: &Message) -> u64 {
    let sizes = message.pieces.iter().map(|piece| match piece {
        Piece::Text(text) | Piece::Result { text, .. } => text.len(),
        Piece::Call(call) => call.name.len() + call.arguments.len(),
    });
    sizes.sum::<usize>() as u64
}
