//! What one part of a request body costs: a message, instructions, tools, a format, an input.
//!
//! The dialects name their parts differently enough that one reader serves all of them, whatever
//! the operation. What has no text of its own (images, sound, files) is estimated.

use serde_json::{Map, Value};

use super::encoding::{Encoding, MAX_COUNTED_BYTES, count};
use super::image::{Detail, ImageScheme, dimensions};
use super::tools;
use crate::wire::scan::SegmentKind;

/// Tokens that begin and separate a message.
const MESSAGE: u32 = 3;
/// Around all tool definitions together.
const TOOLS: u32 = 9;
/// Around the schema of a structured answer.
const SCHEMA: u32 = 10;
/// A document that is elsewhere.
const REMOTE_FILE: u32 = 1500;
/// Bytes per token of what is not text: a page of a PDF between text and scan; compressed sound.
const FILE_BYTES: usize = 40;
const SOUND_BYTES: usize = 1600;
/// A longer run of base64 is no text.
const MIN_PAYLOAD: usize = 1024;
/// Characters per token of encrypted reasoning.
const SEALED_CHARS: usize = 5;

/// What a part of a request costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Tokens of text, in the encoding it was counted with.
    pub(super) text: u32,
    /// Tokens that do not depend on the encoding.
    pub(super) fixed: u32,
    /// Something in it was guessed.
    pub(super) estimated: bool,
    /// It is a message of the system or developer.
    pub(super) system: bool,
}

/// Counts one part.
pub(super) struct Reader {
    encoding: Encoding,
    images: ImageScheme,
    pub(super) tally: Tally,
    /// Bytes of text that went through the tokenizer.
    pub(super) tokenised: u64,
}

impl Reader {
    pub(super) fn new(encoding: Encoding, images: ImageScheme) -> Self {
        Self {
            encoding,
            images,
            tally: Tally::default(),
            tokenised: 0,
        }
    }

    /// Reads the raw JSON of one segment. What does not parse (too deep, broken strings) is
    /// counted as the text it is.
    pub(super) fn segment(&mut self, kind: SegmentKind, raw: &[u8]) {
        let Ok(value) = serde_json::from_slice::<Value>(raw) else {
            self.tally.estimated = true;
            return self.text(&String::from_utf8_lossy(raw));
        };
        match kind {
            SegmentKind::Message => self.message(&value),
            SegmentKind::Instructions => self.instructions(&value),
            SegmentKind::Tools => self.tools(&value),
            SegmentKind::ResponseFormat => self.response_format(&value),
            SegmentKind::Schema => self.schema(Some(&value)),
            SegmentKind::Input => self.input(&value),
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.tally.estimated |= text.len() > MAX_COUNTED_BYTES;
        self.tally.text = self.tally.text.saturating_add(count(self.encoding, text));
        self.tokenised += text.len() as u64;
    }

    fn fixed(&mut self, tokens: u32) {
        self.tally.fixed = self.tally.fixed.saturating_add(tokens);
    }

    fn guess(&mut self, tokens: u32) {
        self.fixed(tokens);
        self.tally.estimated = true;
    }

    fn guess_bytes(&mut self, bytes: usize, bytes_per_token: usize) {
        self.guess(u32::try_from(bytes / bytes_per_token + 1).unwrap_or(u32::MAX));
    }

    /// The text of a string, the JSON of anything else.
    fn rendered(&mut self, value: Option<&Value>) {
        match value {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => self.text(text),
            Some(other) => self.text(&other.to_string()),
        }
    }

    fn message(&mut self, value: &Value) {
        self.fixed(MESSAGE);
        let Some(item) = value.as_object() else {
            return self.rendered(Some(value));
        };
        match text_of(item, "type") {
            None | Some("message") => self.role_message(item),
            Some("function_call" | "custom_tool_call") => self.call(item),
            Some("function_call_output" | "custom_tool_call_output" | "computer_call_output") => {
                self.content(item.get("output"));
            }
            Some("reasoning") => {
                self.content(item.get("summary"));
                self.sealed(text_of(item, "encrypted_content"));
            }
            Some(_) => self.unknown(value),
        }
    }

    fn role_message(&mut self, message: &Map<String, Value>) {
        let role = text_of(message, "role").unwrap_or("user");
        self.tally.system = matches!(role, "system" | "developer");
        self.text(role);
        self.content(message.get("content").or_else(|| message.get("parts")));
        self.rendered(message.get("refusal"));
        if let Some(name) = text_of(message, "name") {
            self.fixed(1);
            self.text(name);
        }
        for call in message
            .get("tool_calls")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let call = call
                .get("function")
                .or_else(|| call.get("custom"))
                .unwrap_or(call);
            call.as_object()
                .into_iter()
                .for_each(|call| self.call(call));
        }
        if let Some(Value::Object(call)) = message.get("function_call") {
            self.call(call);
        }
    }

    /// A call of a tool, in the words of any dialect.
    fn call(&mut self, call: &Map<String, Value>) {
        self.fixed(1);
        self.rendered(call.get("name"));
        for key in ["arguments", "input", "args", "response"] {
            self.rendered(call.get(key));
        }
    }

    fn content(&mut self, content: Option<&Value>) {
        match content {
            Some(Value::Array(parts)) => parts.iter().for_each(|part| self.part(part)),
            Some(part @ Value::Object(_)) => self.part(part),
            other => self.rendered(other),
        }
    }

    fn part(&mut self, value: &Value) {
        let Some(part) = value.as_object() else {
            return self.rendered(Some(value));
        };
        match text_of(part, "type") {
            Some(
                "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text"
                | "refusal" | "thinking",
            ) => ["text", "refusal", "thinking"]
                .iter()
                .for_each(|key| self.rendered(part.get(*key))),
            Some("image_url" | "input_image" | "image" | "computer_screenshot") => self.image(part),
            Some("input_audio") => {
                let data = part.get("input_audio").and_then(|audio| audio.get("data"));
                self.guess_bytes(decoded_len(data), SOUND_BYTES);
            }
            Some("file" | "input_file" | "document") => self.document(part),
            Some("tool_use" | "server_tool_use") => self.call(part),
            Some("tool_result") => self.content(part.get("content")),
            Some("redacted_thinking") => self.sealed(text_of(part, "data")),
            None => self.gemini_part(part),
            Some(_) => self.unknown(value),
        }
    }

    /// A shape that is not known here: its keys and texts; what looks like base64 as an image.
    fn unknown(&mut self, value: &Value) {
        self.tally.estimated = true;
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.fixed(1);
                    self.text(key);
                    self.unknown(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.unknown(item)),
            Value::String(text) => match base64_of(text) {
                Some(data) => self.fixed(self.images.tokens(dimensions(data), Detail::Auto)),
                None => self.text(text),
            },
            other => self.text(&other.to_string()),
        }
    }

    fn gemini_part(&mut self, part: &Map<String, Value>) {
        let either = |camel: &str, snake: &str| part.get(camel).or_else(|| part.get(snake));
        if let Some(text) = part.get("text") {
            self.rendered(Some(text));
        } else if let Some(call) = either("functionCall", "function_call")
            .or_else(|| either("functionResponse", "function_response"))
            .and_then(Value::as_object)
        {
            self.call(call);
        } else if let Some(blob) = either("inlineData", "inline_data") {
            let mime = blob.get("mimeType").or_else(|| blob.get("mime_type"));
            self.blob(
                mime.and_then(Value::as_str).unwrap_or_default(),
                blob.get("data"),
            );
        } else if either("fileData", "file_data").is_some() {
            self.guess(REMOTE_FILE);
        } else {
            part.values().for_each(|value| self.unknown(value));
            self.tally.estimated = true;
        }
    }

    /// An image in the words of chat, responses or messages.
    fn image(&mut self, part: &Map<String, Value>) {
        let object = part.get("image_url").unwrap_or(&Value::Null);
        let detail = object
            .get("detail")
            .or_else(|| part.get("detail"))
            .and_then(Value::as_str);
        let detail = match detail {
            Some("low") => Detail::Low,
            Some("high") => Detail::High,
            Some("original") => Detail::Original,
            _ => Detail::Auto,
        };
        let url = object
            .as_str()
            .or_else(|| object.get("url").and_then(Value::as_str));
        let inline = part.get("source").and_then(|source| source.get("data"));
        let data = url
            .and_then(|url| url.split_once(";base64,"))
            .map(|(_, data)| data)
            .or_else(|| inline.and_then(Value::as_str));
        self.guess(self.images.tokens(data.and_then(dimensions), detail));
    }

    /// A file of a chat or response, or a document of messages.
    fn document(&mut self, part: &Map<String, Value>) {
        let holder = part.get("file").or_else(|| part.get("source"));
        let get = |key| {
            part.get(key)
                .or_else(|| holder.and_then(|holder| holder.get(key)))
        };
        let is_text = holder
            .and_then(|source| source.get("type"))
            .and_then(Value::as_str)
            == Some("text");
        match (get("file_data").or_else(|| get("data")), get("content")) {
            (Some(text), _) if is_text => self.rendered(Some(text)),
            (Some(data), _) => self.guess_bytes(decoded_len(Some(data)), FILE_BYTES),
            (None, Some(content)) => self.content(Some(content)),
            (None, None) => self.guess(REMOTE_FILE),
        }
    }

    fn blob(&mut self, mime: &str, data: Option<&Value>) {
        if mime.starts_with("image/") {
            let size = data.and_then(Value::as_str).and_then(dimensions);
            self.guess(self.images.tokens(size, Detail::Auto));
        } else if mime.starts_with("audio/") || mime.starts_with("video/") {
            self.guess_bytes(decoded_len(data), SOUND_BYTES);
        } else {
            self.guess_bytes(decoded_len(data), FILE_BYTES);
        }
    }

    fn sealed(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            self.guess_bytes(text.len(), SEALED_CHARS);
        }
    }

    fn instructions(&mut self, value: &Value) {
        self.fixed(MESSAGE);
        self.tally.system = true;
        self.text("system");
        match value {
            Value::Array(items) => {
                for item in items {
                    if item.get("role").is_some() {
                        self.message(item);
                    } else {
                        self.part(item);
                    }
                }
            }
            Value::Object(content) => self.content(content.get("parts").or(Some(value))),
            other => self.rendered(Some(other)),
        }
    }

    fn tools(&mut self, value: &Value) {
        let rendered = tools::render(value);
        self.tally.estimated = true;
        self.fixed(TOOLS);
        self.text(&rendered);
    }

    fn response_format(&mut self, value: &Value) {
        let format = value.get("format").unwrap_or(value);
        if format.get("type").and_then(Value::as_str) == Some("json_schema") {
            let schema = format.get("schema").or_else(|| format.get("json_schema"));
            self.schema(schema);
        }
    }

    fn schema(&mut self, schema: Option<&Value>) {
        self.guess(SCHEMA);
        self.rendered(schema);
    }

    /// A string, numbers that are tokens already, or a list of either.
    fn input(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.input(item)),
            Value::Number(_) => self.fixed(1),
            Value::Object(_) => self.part(value),
            other => self.rendered(Some(other)),
        }
    }
}

fn text_of<'v>(object: &'v Map<String, Value>, key: &str) -> Option<&'v str> {
    object.get(key).and_then(Value::as_str)
}

/// The base64 data that `text` is or, as a data URL, holds.
fn base64_of(text: &str) -> Option<&str> {
    let data = text.split_once(";base64,").map_or(text, |(_, data)| data);
    let mut head = data.bytes().take(MIN_PAYLOAD);
    let is_data = head.all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte));
    (data.len() >= MIN_PAYLOAD && is_data).then_some(data)
}

/// The bytes that base64 text stands for.
fn decoded_len(base64: Option<&Value>) -> usize {
    base64
        .and_then(Value::as_str)
        .map_or(0, |text| text.len() / 4 * 3)
}
