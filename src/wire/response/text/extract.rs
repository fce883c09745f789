//! Output text from one JSON document: a delta, an event, a line or a whole body.
//!
//! Shapes are told apart by their keys. Only what a model generated is taken: no roles, no ids,
//! no encrypted reasoning, no media.

use serde_json::Value;
use serde_json::value::RawValue;

use super::Lanes;
use crate::wire::fields::Fields;

/// Keys of a message or delta that hold generated text, in the order it is generated.
const MESSAGE_KEYS: [&str; 6] = [
    "reasoning_content",
    "reasoning",
    "thinking",
    "content",
    "refusal",
    "transcript",
];
/// Keys of content parts, blocks, items and tool calls.
const PART_KEYS: [&str; 9] = [
    "text",
    "refusal",
    "thinking",
    "partial_json",
    "name",
    "arguments",
    "input",
    "code",
    "args",
];
/// Keys that hold more parts.
const NESTED_KEYS: [&str; 7] = [
    "content",
    "summary",
    "thinking",
    "functionCall",
    "executableCode",
    "function",
    "custom",
];
/// Parts within parts go no deeper than this anywhere.
const MAX_DEPTH: u32 = 6;

/// False when this is no JSON.
pub(super) fn extract(json: &[u8], lanes: &mut Lanes) -> bool {
    if let Some(object) = Fields::parse(json) {
        from_object(&object, lanes);
        return true;
    }
    let Ok(items) = serde_json::from_slice::<Vec<&RawValue>>(json) else {
        return false;
    };
    for object in items
        .iter()
        .filter_map(|item| Fields::parse_str(item.get()))
    {
        from_object(&object, lanes);
    }
    true
}

fn from_object(object: &Fields<'_>, lanes: &mut Lanes) {
    for choice in object.objects("choices") {
        let index = index(&choice);
        for key in ["delta", "message"] {
            if let Some(message) = choice.object(key) {
                from_message(&message, index, lanes);
            }
        }
        push_text(&choice, "text", index, lanes);
    }
    for candidate in object.objects("candidates") {
        let content = candidate.object("content");
        for part in content.iter().flat_map(|content| content.objects("parts")) {
            from_part(&part, index(&candidate), 0, lanes);
        }
    }
    from_parts(object, "output", 0, 0, lanes);
    for key in ["delta", "item", "content_block"] {
        from_parts(object, key, 0, 0, lanes);
    }
    for key in ["delta", "response", "text"] {
        push_text(object, key, 0, lanes);
    }
    if let Some(message) = object.object("message") {
        from_message(&message, 0, lanes);
    } else {
        from_message(object, 0, lanes);
    }
}

/// A chat message or its delta; also a body that is a message itself (Anthropic).
fn from_message(message: &Fields<'_>, choice: u64, lanes: &mut Lanes) {
    let reasoning = message.raw("reasoning");
    // Some servers send reasoning under its old and its new name.
    let twice = reasoning.is_some() && reasoning == message.raw("reasoning_content");
    for key in MESSAGE_KEYS
        .into_iter()
        .filter(|key| !(twice && *key == "reasoning"))
    {
        push_text(message, key, choice, lanes);
        from_array(message, key, choice, 0, lanes);
    }
    if let Some(audio) = message.object("audio") {
        push_text(&audio, "transcript", choice, lanes);
    }
    for key in ["function_call", "tool_calls"] {
        from_parts(message, key, choice, 0, lanes);
    }
}

/// A content part, a content block, an output item, a tool call.
fn from_part(part: &Fields<'_>, choice: u64, depth: u32, lanes: &mut Lanes) {
    for key in PART_KEYS {
        match part.raw(key) {
            // Arguments that come as an object were generated as its text. An item that only
            // opens has an empty one.
            Some(object) if object.starts_with('{') && object != "{}" => {
                lanes.push(choice, &compact(object));
            }
            _ => push_text(part, key, choice, lanes),
        }
    }
    if depth < MAX_DEPTH {
        for key in NESTED_KEYS {
            from_parts(part, key, choice, depth + 1, lanes);
        }
    }
}

/// One part or an array of them.
fn from_parts(object: &Fields<'_>, key: &str, choice: u64, depth: u32, lanes: &mut Lanes) {
    if let Some(part) = object.object(key) {
        from_part(&part, choice, depth, lanes);
    }
    from_array(object, key, choice, depth, lanes);
}

fn from_array(object: &Fields<'_>, key: &str, choice: u64, depth: u32, lanes: &mut Lanes) {
    for part in object.objects(key) {
        from_part(&part, choice, depth, lanes);
    }
}

/// Without the white space that the server, not the model, put between the tokens.
fn compact(object: &str) -> String {
    serde_json::from_str(object)
        .map_or_else(|_| object.to_owned(), |value: Value| value.to_string())
}

fn index(choice: &Fields<'_>) -> u64 {
    choice.count("index").unwrap_or(0)
}

fn push_text(object: &Fields<'_>, key: &str, choice: u64, lanes: &mut Lanes) {
    if let Some(text) = object.text(key) {
        lanes.push(choice, &text);
    }
}
