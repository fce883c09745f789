//! How two calls differ in what they were sent, in words.

use serde_json::Value;

use super::Request;
use crate::core::compare::{Departure, What};
use crate::core::replay::steady;
use crate::ledger::{BodyReader, CallDetail, IndexError};
use crate::wire::readable::{Entry, Kind, Message};

/// Fields that hold what is compared by itself.
const READ: [&str; 11] = [
    "messages",
    "input",
    "contents",
    "prompt",
    "system",
    "instructions",
    "systemInstruction",
    "system_instruction",
    "tools",
    "functions",
    "model",
];

/// The first thing in which two requests differ: a message, then their tools, then any other field.
/// None where only times, identifiers, marks of a cache or the way of writing do.
pub(in crate::admin) fn departure(
    (a, b): (&CallDetail, &CallDetail),
    bodies: &mut BodyReader<'_>,
) -> Result<Option<Departure>, IndexError> {
    let (a, b) = (Request::read(a, bodies)?, Request::read(b, bodies)?);
    if a.bytes.is_empty() || b.bytes.is_empty() {
        return Ok(Some(Departure::of(What::Request, "", "")));
    }
    let (of_a, of_b) = (a.transcript.entries().len(), b.transcript.entries().len());
    if !a.is_whole() || !b.is_whole() {
        // What differs otherwise may be in what was not kept.
        let found = message(&a, &b, of_a.min(of_b));
        let found = found.unwrap_or_else(|| Departure::of(What::Request, "", ""));
        return Ok(Some(found));
    }
    Ok(message(&a, &b, of_a.max(of_b))
        .or_else(|| tools(&a, &b))
        .or_else(|| settings(&a, &b)))
}

/// Among the first `count` messages.
fn message(a: &Request, b: &Request, count: usize) -> Option<Departure> {
    let (of_a, of_b) = (a.transcript.entries(), b.transcript.entries());
    (0..count).find_map(|at| {
        let (one, other) = (of_a.get(at), of_b.get(at));
        if one.map(|entry| entry.digest) == other.map(|entry| entry.digest) {
            return None;
        }
        let read = |of: &Request, entry: Option<&Entry>| {
            entry.map(|entry| entry.read(&of.bytes, usize::MAX))
        };
        let (one, other) = (read(a, one), read(b, other));
        let words = |of: &Option<Message>| of.as_ref().map_or_else(String::new, Message::words);
        let has_more = |of: &Option<Message>| {
            of.as_ref().is_some_and(|message| {
                let is_media = |kind| kind == Kind::Media;
                message.left_out > 0 || message.pieces.iter().any(|it| is_media(it.kind))
            })
        };
        let (was, is) = (words(&one), words(&other));
        let is_same = steady(&was).text == steady(&is).text && !has_more(&one) && !has_more(&other);
        (!is_same).then(|| Departure::of(What::Message, &was, &is).at(at as u64))
    })
}

fn tools(a: &Request, b: &Request) -> Option<Departure> {
    let of = |of: &Request| of.transcript.tools(&of.bytes);
    let (one, other) = (of(a), of(b));
    if one.digest == other.digest {
        return None;
    }
    let written = |of: &Request| of.transcript.written_tools(&of.bytes);
    let (was, is) = if one.names == other.names {
        (written(a), written(b))
    } else {
        (one.names.join("\n"), other.names.join("\n"))
    };
    Some(Departure::of(What::Tools, &was, &is))
}

fn settings(a: &Request, b: &Request) -> Option<Departure> {
    let (was, is) = (written(a), written(b));
    (steady(&was).text != steady(&is).text).then(|| Departure::of(What::Settings, &was, &is))
}

/// Fields that are no part of the messages, one a line.
fn written(of: &Request) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_slice(&of.bytes) else {
        return String::new();
    };
    let fields = fields.iter();
    // A prompt that the provider keeps is named by an object, and is no text.
    let is_read =
        |name: &str, it: &Value| READ.contains(&name) && !(name == "prompt" && it.is_object());
    let others = fields.filter(|(name, it)| !is_read(name, it));
    let mut lines: Vec<String> = others.map(|(name, it)| format!("{name}: {it}")).collect();
    lines.sort_unstable();
    lines.join("\n")
}
