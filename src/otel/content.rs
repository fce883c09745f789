//! What was said, as the conventions write it: messages of parts, in JSON, up to a bound.

use serde_json::{Map, Value, json};

use crate::core::id::Label;
use crate::wire::message::Role;
use crate::wire::readable::{Kind, Message, Piece, Transcript, answer};
use crate::wire::scan::SegmentKind;

/// What is told of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// What stands apart from the messages.
    pub(super) instructions: Option<String>,
    pub(super) input: Option<String>,
    pub(super) output: Option<String>,
    pub(super) tools: Option<String>,
    /// The last thing that it was sent, and what it answered, for people.
    pub(super) asked: Option<String>,
    pub(super) said: Option<String>,
    /// Messages, the earliest ones, that there was no room for.
    pub(super) left_out: u64,
}

/// Bytes of a text that are told of one side; what is left of them.
struct Budget(usize);

impl Budget {
    /// Whether there is room for so much.
    fn takes(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.0;
        if fits {
            self.0 -= bytes;
        }
        fits
    }
}

impl Content {
    /// Of the body of a request, taken apart.
    pub(super) fn hear(&mut self, transcript: &Transcript, body: &[u8], most: usize) {
        let mut budget = Budget(most);
        let (mut instructions, mut messages) = (Vec::new(), Vec::new());
        // The latest first: who looks at a call looks at what is new in it.
        for entry in transcript.entries().iter().rev() {
            let message = entry.read(body, most / 2);
            let parts = parts(&message);
            if !budget.takes(Value::from(parts.clone()).to_string().len()) {
                self.left_out += 1;
            } else if entry.kind() == Some(SegmentKind::Instructions) {
                instructions.extend(parts);
            } else {
                if self.asked.is_none() {
                    self.asked = words(&message);
                }
                messages.push(spoken(&message, &parts));
            }
        }
        messages.reverse();
        self.instructions = written(instructions);
        self.input = written(messages);
        let tools = definitions(&transcript.written_tools(body));
        self.tools = written(tools).filter(|tools| budget.takes(tools.len()));
    }

    /// Of the body of an answer, and why its messages ended.
    pub(super) fn hear_answer(
        &mut self,
        (body, content_type): (&[u8], Option<&str>),
        (reasons, else_reason): (&[Label], &str),
        most: usize,
    ) {
        let mut budget = Budget(most);
        let mut messages = Vec::new();
        for (n, message) in answer(body, content_type, most / 2).iter().enumerate() {
            let parts = parts(message);
            if !budget.takes(Value::from(parts.clone()).to_string().len()) {
                self.left_out += 1;
                continue;
            }
            let mut spoken = spoken(message, &parts);
            // Deprecated in the later conventions, but those who know the earlier ones insist on it.
            let reason = reasons.get(n).map_or(else_reason, |it| it.as_str());
            spoken["finish_reason"] = reason.into();
            if self.said.is_none() {
                self.said = words(message);
            }
            messages.push(spoken);
        }
        self.output = written(messages);
    }
}

fn written(items: Vec<Value>) -> Option<String> {
    (!items.is_empty()).then(|| Value::from(items).to_string())
}

fn spoken(message: &Message, parts: &[Value]) -> Value {
    let role: &'static str = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut spoken = json!({"role": role, "parts": parts});
    if let Some(name) = &message.name {
        spoken["name"] = name.as_str().into();
    }
    spoken
}

fn words(message: &Message) -> Option<String> {
    let of = |piece: &Piece| match piece.kind {
        Kind::ToolCall => format!(
            "{}({})",
            piece.name.as_deref().unwrap_or_default(),
            piece.said.text
        ),
        _ => piece.said.text.clone(),
    };
    let words: Vec<String> = message.pieces.iter().map(of).collect();
    let words = words.join("\n");
    (!words.trim().is_empty()).then_some(words)
}

fn parts(message: &Message) -> Vec<Value> {
    let mut parts: Vec<Value> = message.pieces.iter().map(part).collect();
    if message.left_out > 0 {
        parts.push(json!({"type": "left_out", "count": message.left_out}));
    }
    parts
}

fn part(piece: &Piece) -> Value {
    let said = || piece.said.text.as_str();
    let id = piece.id.as_deref();
    let mut part = match piece.kind {
        Kind::Text => json!({"type": "text", "content": said()}),
        Kind::Reasoning => json!({"type": "reasoning", "content": said()}),
        Kind::ToolCall => json!({
            "type": "tool_call",
            "id": id,
            "name": piece.name.as_deref().unwrap_or_default(),
            "arguments": parsed(piece),
        }),
        Kind::ToolResult => json!({
            "type": "tool_call_response",
            "id": id,
            "response": parsed(piece),
        }),
        Kind::Media => json!({
            "type": "media",
            "mime_type": piece.media_type,
            "name": piece.name,
            "bytes": piece.said.len,
        }),
        Kind::Refusal => json!({"type": "refusal", "content": said()}),
        Kind::Error => json!({"type": "error", "content": said()}),
        Kind::Other => json!({"type": "other", "content": said()}),
    };
    if piece.said.is_cut && piece.kind != Kind::Media {
        part["cut"] = true.into();
    }
    part
}

/// As JSON where it is that, and whole; else the text.
fn parsed(piece: &Piece) -> Value {
    let text = &piece.said.text;
    let is_json = !piece.said.is_cut && text.trim_start().starts_with(['{', '[']);
    let json = is_json.then(|| serde_json::from_str(text).ok()).flatten();
    json.unwrap_or_else(|| text.as_str().into())
}

/// The tools that a request offers, whichever dialect it speaks.
fn definitions(written: &str) -> Vec<Value> {
    let lists = serde_json::Deserializer::from_str(written).into_iter::<Value>();
    let mut tools = Vec::new();
    for list in lists.map_while(Result::ok) {
        let Value::Array(list) = list else { continue };
        for tool in list {
            match tool.get("functionDeclarations") {
                Some(Value::Array(functions)) => tools.extend(functions.iter().map(definition)),
                _ => tools.push(definition(&tool)),
            }
        }
    }
    tools
}

fn definition(tool: &Value) -> Value {
    let of = tool.get("function").unwrap_or(tool);
    let kind = tool.get("type").and_then(Value::as_str);
    let kind = kind.filter(|kind| *kind != "custom").unwrap_or("function");
    let mut told = Map::new();
    told.insert("type".to_owned(), kind.into());
    let name = of.get("name").and_then(Value::as_str).unwrap_or(kind);
    told.insert("name".to_owned(), name.into());
    if let Some(description) = of.get("description") {
        told.insert("description".to_owned(), description.clone());
    }
    let parameters = ["parameters", "input_schema", "parametersJsonSchema"];
    if let Some(schema) = parameters.iter().find_map(|key| of.get(*key)) {
        told.insert("parameters".to_owned(), schema.clone());
    }
    told.into()
}

#[cfg(test)]
mod tests;
