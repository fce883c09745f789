//! What a response says and does: its text, and the tools it calls, put together from its deltas.
//!
//! Only the first choice counts: it is the one that agents go on with. Reasoning is left out, as
//! it differs each time and is not acted on.

use std::fmt::Write as _;

use crate::wire::fields::Fields;
use crate::wire::message::{ToolCall, sorted_text};

/// More text or more calls are not kept.
const MAX_TEXT: usize = 256 << 10;
const MAX_CALLS: usize = 64;

/// An answer as far as it was read.
#[derive(Clone, Debug, Default)]
pub struct Said {
    text: String,
    calls: Vec<Pending>,
    is_cut: bool,
}

#[derive(Clone, Debug, Default)]
struct Pending {
    /// What deltas name it by: an index or the id of an item.
    key: String,
    call: ToolCall,
}

impl Said {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tools it calls, their arguments in one form.
    pub fn calls(&self) -> impl Iterator<Item = ToolCall> + '_ {
        self.calls.iter().map(|pending| ToolCall {
            arguments: sorted_text(&pending.call.arguments),
            ..pending.call.clone()
        })
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.calls.is_empty()
    }

    /// Some of it was too much to keep.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// From here on something is missing.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Takes one document in: a delta, an event, a line or a whole body.
    pub(super) fn take(&mut self, json: &[u8]) {
        if let Some(object) = Fields::parse(json) {
            self.object(&object);
        }
    }

    fn object(&mut self, object: &Fields<'_>) {
        let is_first = |choice: &Fields<'_>| choice.count("index").unwrap_or(0) == 0;
        if let Some(choice) = object.objects("choices").find(is_first) {
            for key in ["delta", "message"] {
                if let Some(message) = choice.object(key) {
                    self.message(&message);
                }
            }
            self.say(&choice, "text");
            return;
        }
        if let Some(candidate) = object.objects("candidates").find(is_first) {
            let content = candidate.object("content");
            for part in content.iter().flat_map(|content| content.objects("parts")) {
                self.part(&part, None);
            }
            return;
        }
        if let Some(kind) = object.string("type").filter(|kind| kind != "message") {
            return self.event(object, &kind);
        }
        for item in object.objects("output") {
            self.item(&item);
        }
        match object.object("message") {
            Some(message) => self.message(&message),
            None => self.message(object),
        }
        self.say(object, "response");
    }

    /// An event of responses or messages.
    fn event(&mut self, event: &Fields<'_>, kind: &str) {
        match kind {
            "response.output_text.delta" | "response.refusal.delta" => self.say(event, "delta"),
            "response.output_item.added" => {
                let item = event.object("item");
                let is_call = |item: &Fields<'_>| {
                    item.string("type")
                        .is_some_and(|kind| matches!(&*kind, "function_call" | "custom_tool_call"))
                };
                if let Some(item) = item.filter(is_call) {
                    self.open_call(&key(event, "output_index"), &item);
                }
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                self.argue(&key(event, "output_index"), event, "delta");
            }
            "content_block_start" => {
                if let Some(block) = event.object("content_block") {
                    self.part(&block, Some(&key(event, "index")));
                }
            }
            "content_block_delta" => {
                if let Some(delta) = event.object("delta") {
                    self.say(&delta, "text");
                    self.argue(&key(event, "index"), &delta, "partial_json");
                }
            }
            _ => {}
        }
    }

    /// A chat message or its delta; also a body that is a message itself.
    fn message(&mut self, message: &Fields<'_>) {
        self.say(message, "content");
        self.say(message, "refusal");
        for part in message.objects("content") {
            self.part(&part, None);
        }
        for (place, call) in message.objects("tool_calls").enumerate() {
            let key = match call.count("index") {
                Some(index) => index.to_string(),
                None => place.to_string(),
            };
            self.call_delta(&key, &call);
        }
        if let Some(call) = message.object("function_call") {
            self.call_delta("0", &call);
        }
    }

    /// One element of the output of a response.
    fn item(&mut self, item: &Fields<'_>) {
        match item.string("type").as_deref() {
            Some("message") => {
                for part in item.objects("content") {
                    self.part(&part, None);
                }
            }
            Some("function_call" | "custom_tool_call") => {
                let key = self.calls.len().to_string();
                self.open_call(&key, item);
            }
            _ => {}
        }
    }

    /// A content part or block. One that only opens names the key that its deltas go by.
    fn part(&mut self, part: &Fields<'_>, key: Option<&str>) {
        let call = part.object("functionCall");
        let is_call = |kind: String| matches!(&*kind, "tool_use" | "server_tool_use");
        if call.is_some() || part.string("type").is_some_and(is_call) {
            let place = self.calls.len().to_string();
            self.open_call(key.unwrap_or(&place), call.as_ref().unwrap_or(part));
        } else if part.string("type").as_deref() != Some("thinking") && !part.is_true("thought") {
            self.say(part, "text");
            self.say(part, "refusal");
        }
    }

    /// A piece of a tool call of chat; the first has its id and name.
    fn call_delta(&mut self, key: &str, call: &Fields<'_>) {
        let function = call.object("function");
        let function = function.as_ref().unwrap_or(call);
        if let Some(name) = function.string("name") {
            let known = self.calls.iter_mut().find(|pending| pending.key == key);
            match known {
                None => self.open_call(key, call),
                Some(pending) if pending.call.name.is_empty() => pending.call.name = name,
                // Some servers repeat the name in each delta.
                Some(_) => self.argue(key, function, "arguments"),
            }
        } else {
            self.argue(key, function, "arguments");
        }
    }

    fn open_call(&mut self, key: &str, call: &Fields<'_>) {
        if self.calls.len() >= MAX_CALLS {
            self.is_cut = true;
            return;
        }
        let inner = call.object("function");
        let inner = inner.as_ref().unwrap_or(call);
        let id = call.string("call_id").or_else(|| call.string("id"));
        self.calls.push(Pending {
            key: key.to_owned(),
            call: ToolCall {
                id: id.unwrap_or_default(),
                name: inner.string("name").unwrap_or_default(),
                arguments: String::new(),
            },
        });
        for name in ["arguments", "input", "args"] {
            match inner.raw(name) {
                Some(object) if object.starts_with(['{', '[']) && object != "{}" => {
                    self.add_arguments(key, object);
                }
                _ => self.argue(key, inner, name),
            }
        }
    }

    fn argue(&mut self, key: &str, from: &Fields<'_>, name: &str) {
        if let Some(text) = from.text(name) {
            self.add_arguments(key, &text);
        }
    }

    fn add_arguments(&mut self, key: &str, text: &str) {
        let known = self
            .calls
            .iter_mut()
            .rev()
            .find(|pending| pending.key == key);
        let Some(pending) = known else { return };
        if pending.call.arguments.len() + text.len() > MAX_TEXT {
            self.is_cut = true;
            return;
        }
        pending.call.arguments.push_str(text);
    }

    fn say(&mut self, from: &Fields<'_>, name: &str) {
        let Some(text) = from.text(name) else { return };
        if self.text.len() + text.len() > MAX_TEXT {
            self.is_cut = true;
            return;
        }
        self.text.push_str(&text);
    }
}

/// A number that stands for a block or item.
fn key(event: &Fields<'_>, name: &str) -> String {
    let mut key = String::new();
    // Writing to a string cannot fail.
    let _ = write!(key, "{}", event.count(name).unwrap_or(0));
    key
}

#[cfg(test)]
mod tests;
