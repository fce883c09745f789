//! One message of a request, taken apart: who speaks, what is said, which tools are called and what
//! they gave.
//!
//! Dialects are told apart by their keys, as everywhere: one reader serves chat, responses, messages,
//! Gemini and Ollama. What is not understood is left out; nothing here fails.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use strum::IntoStaticStr;
use utoipa::ToSchema;

use super::scan::SegmentKind;

/// Pieces of one message past this many are left out.
const MAX_PIECES: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    /// `name`: which of several speakers it is.
    pub name: Option<String>,
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Call(ToolCall),
    Result {
        /// The id of the call that it is the result of; empty where the dialect has none.
        call: String,
        text: String,
        /// The message says that it is an error.
        is_error: bool,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON with sorted keys where it is JSON, else as it is.
    pub arguments: String,
}

/// Reads the raw JSON of one segment; none when it is no message or is not JSON.
pub fn read(kind: SegmentKind, raw: &[u8]) -> Option<Message> {
    let value: Value = serde_json::from_slice(raw).ok()?;
    match kind {
        SegmentKind::Message => match &value {
            Value::Object(item) => Some(item_of(item)),
            other => Some(plain(Role::User, texts(other))),
        },
        SegmentKind::Instructions => Some(plain(Role::System, texts(&value))),
        SegmentKind::Input => Some(plain(Role::User, texts(&value))),
        SegmentKind::Tools | SegmentKind::ResponseFormat | SegmentKind::Schema => None,
    }
}

/// The names in an array of tools, sorted.
pub fn tool_names(raw: &[u8]) -> Vec<String> {
    let Ok(Value::Array(tools)) = serde_json::from_slice(raw) else {
        return Vec::new();
    };
    let mut names: Vec<String> = tools.iter().flat_map(names_of).collect();
    names.sort_unstable();
    names
}

fn names_of(tool: &Value) -> Vec<String> {
    let declared = tool
        .get("functionDeclarations")
        .or_else(|| tool.get("function_declarations"));
    if let Some(Value::Array(declared)) = declared {
        return declared.iter().flat_map(names_of).collect();
    }
    let function = tool.get("function").unwrap_or(tool);
    let name = text(function, "name").or_else(|| text(tool, "type"));
    name.map(str::to_owned).into_iter().collect()
}

fn plain(role: Role, text: String) -> Message {
    Message {
        role,
        name: None,
        pieces: vec![Piece::Text(text)],
    }
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

fn word<'v>(item: &'v Map<String, Value>, key: &str) -> Option<&'v str> {
    item.get(key).and_then(Value::as_str)
}

fn item_of(item: &Map<String, Value>) -> Message {
    let of = |role, piece| Message {
        role,
        name: None,
        pieces: vec![piece],
    };
    match word(item, "type").unwrap_or("message") {
        "function_call" | "custom_tool_call" => of(Role::Assistant, Piece::Call(call_of(item))),
        kind if kind.ends_with("_call_output") => of(Role::Tool, result_of(item, "output")),
        "message" => spoken(item),
        _ => Message {
            role: Role::Assistant,
            name: None,
            pieces: Vec::new(),
        },
    }
}

/// A message with a role.
fn spoken(item: &Map<String, Value>) -> Message {
    let role = match word(item, "role") {
        Some("system" | "developer") => Role::System,
        Some("assistant" | "model") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        _ => Role::User,
    };
    let mut message = Message {
        role,
        name: word(item, "name").map(str::to_owned),
        pieces: Vec::new(),
    };
    if role == Role::Tool && item.contains_key("content") {
        message.pieces.push(result_of(item, "content"));
        return message;
    }
    let content = item.get("content").or_else(|| item.get("parts"));
    parts_of(content, &mut message.pieces);
    for call in item
        .get("tool_calls")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .chain(item.get("function_call"))
        .filter_map(Value::as_object)
    {
        message.pieces.push(Piece::Call(call_of(call)));
    }
    message.pieces.truncate(MAX_PIECES);
    message
}

fn parts_of(content: Option<&Value>, pieces: &mut Vec<Piece>) {
    match content {
        Some(Value::String(text)) => pieces.push(Piece::Text(text.clone())),
        Some(Value::Array(parts)) => {
            for part in parts.iter().take(MAX_PIECES) {
                part_of(part, pieces);
            }
        }
        Some(part @ Value::Object(_)) => part_of(part, pieces),
        _ => {}
    }
}

/// A content part or block; the text of several is several pieces.
fn part_of(part: &Value, pieces: &mut Vec<Piece>) {
    let Some(item) = part.as_object() else {
        return pieces.extend(part.as_str().map(|text| Piece::Text(text.to_owned())));
    };
    let either = |camel: &str, snake: &str| {
        let found = item.get(camel).or_else(|| item.get(snake));
        found.and_then(Value::as_object)
    };
    if let Some(call) = either("functionCall", "function_call") {
        return pieces.push(Piece::Call(call_of(call)));
    }
    if let Some(result) = either("functionResponse", "function_response") {
        return pieces.push(result_of(result, "response"));
    }
    match word(item, "type") {
        Some("tool_use" | "server_tool_use") => pieces.push(Piece::Call(call_of(item))),
        Some("tool_result") => pieces.push(result_of(item, "content")),
        Some("thinking" | "redacted_thinking" | "reasoning") => {}
        _ => {
            let text = word(item, "text").or_else(|| word(item, "refusal"));
            pieces.extend(text.map(|text| Piece::Text(text.to_owned())));
        }
    }
}

/// A call of a tool in the words of any dialect.
pub(super) fn call_of(call: &Map<String, Value>) -> ToolCall {
    let inner = ["function", "custom"]
        .iter()
        .find_map(|key| call.get(*key).and_then(Value::as_object))
        .unwrap_or(call);
    let id = word(call, "call_id").or_else(|| word(call, "id"));
    let arguments = ["arguments", "input", "args"]
        .iter()
        .find_map(|key| inner.get(*key));
    ToolCall {
        id: id.unwrap_or_default().to_owned(),
        name: word(inner, "name").unwrap_or_default().to_owned(),
        arguments: arguments.map(sorted).unwrap_or_default(),
    }
}

/// JSON in one form, whether it comes as a value or as text.
fn sorted(arguments: &Value) -> String {
    match arguments {
        Value::String(text) => sorted_text(text),
        other => other.to_string(),
    }
}

/// The same JSON with its keys in order; what is no JSON stays as it is.
pub(super) fn sorted_text(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => value.to_string(),
        _ => text.to_owned(),
    }
}

fn result_of(item: &Map<String, Value>, key: &str) -> Piece {
    let call = ["tool_call_id", "call_id", "tool_use_id", "id"]
        .iter()
        .find_map(|key| word(item, key));
    Piece::Result {
        call: call.unwrap_or_default().to_owned(),
        text: item.get(key).map(texts).unwrap_or_default(),
        is_error: item.get("is_error").and_then(Value::as_bool) == Some(true),
    }
}

/// All text of a value of any shape, media left out.
fn texts(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let parts = parts.iter().map(texts);
            parts.collect::<Vec<_>>().join("\n")
        }
        Value::Object(part) => match word(part, "text").or_else(|| word(part, "output")) {
            Some(text) => text.to_owned(),
            None => match part.get("parts") {
                Some(parts) => texts(parts),
                None if part.contains_key("source") || part.contains_key("image_url") => {
                    String::new()
                }
                None => value.to_string(),
            },
        },
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
