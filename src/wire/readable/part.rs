//! Content parts and blocks of every dialect, in requests and in answers.

use super::excerpt::Excerpt;
use super::{Kind, Piece, name};
use crate::wire::fields::Fields;

/// Pieces of one message past this many are counted only.
const MAX_PIECES: usize = 256;
/// Results within results past this depth are shown as JSON: whoever sends a body chooses how deep it
/// goes, and each level takes stack and a reading of all that is within.
const MAX_DEPTH: usize = 4;

/// The pieces of one message as they are found.
pub(super) struct Pieces {
    pub(super) most: usize,
    found: Vec<Piece>,
    left_out: u64,
    /// Results that these are within.
    depth: usize,
}

impl Pieces {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            found: Vec::new(),
            left_out: 0,
            depth: 0,
        }
    }

    pub(super) fn finish(self) -> (Vec<Piece>, u64) {
        (self.found, self.left_out)
    }

    pub(super) fn push(&mut self, mut piece: Piece) {
        if self.found.len() < MAX_PIECES {
            piece.name.iter_mut().for_each(super::shorten);
            self.found.push(piece);
        } else {
            self.left_out += 1;
        }
    }

    /// A piece that says `raw`: a JSON string, or any JSON.
    pub(super) fn say(&mut self, kind: Kind, raw: &str) {
        self.push(Piece {
            kind,
            said: Excerpt::of_json(raw, self.most),
            ..Piece::default()
        });
    }

    /// As [`Self::say`], where there is such a field and it says something.
    pub(super) fn field(&mut self, kind: Kind, from: &Fields<'_>, key: &str) {
        if let Some(raw) = from.raw(key).filter(|raw| *raw != "\"\"") {
            self.say(kind, raw);
        }
    }

    /// Bytes of no known form.
    pub(super) fn raw(&mut self, raw: &[u8]) {
        let front = raw.get(..self.most.saturating_add(4)).unwrap_or(raw);
        let text = String::from_utf8_lossy(front);
        let mut said = Excerpt::of(&text, self.most);
        said.is_cut |= front.len() < raw.len();
        said.len = raw.len() as u64;
        self.push(Piece {
            kind: Kind::Other,
            said,
            ..Piece::default()
        });
    }

    /// What is not understood, as JSON.
    pub(super) fn other(&mut self, kind: Option<String>, raw: &str) {
        self.push(Piece {
            kind: Kind::Other,
            said: Excerpt::of(raw, self.most),
            name: kind,
            ..Piece::default()
        });
    }

    /// The content of a message: a text, or parts.
    pub(super) fn content(&mut self, raw: &str) {
        match raw.as_bytes().first() {
            Some(b'[') => {
                let items: Vec<&serde_json::value::RawValue> =
                    serde_json::from_str(raw).unwrap_or_default();
                for item in items {
                    self.part(item.get());
                }
            }
            Some(b'{') => self.part(raw),
            _ if matches!(raw, "null" | "\"\"") => {}
            _ => self.say(Kind::Text, raw),
        }
    }

    /// One part: a text or an object.
    pub(super) fn part(&mut self, raw: &str) {
        match Fields::parse_str(raw) {
            Some(part) => self.object(&part, raw),
            None if raw != "null" => self.say(Kind::Text, raw),
            None => {}
        }
    }

    fn object(&mut self, part: &Fields<'_>, raw: &str) {
        if self.gemini(part) {
            return;
        }
        let kind = part.string("type");
        match kind.as_deref() {
            Some("text" | "input_text" | "output_text") => self.field(Kind::Text, part, "text"),
            Some("refusal") => self.field(Kind::Refusal, part, "refusal"),
            Some("thinking") => self.field(Kind::Reasoning, part, "thinking"),
            Some("reasoning" | "summary_text" | "reasoning_text") => {
                self.field(Kind::Reasoning, part, "text");
            }
            Some("redacted_thinking") => self.sealed(part, "data"),
            Some("tool_use" | "server_tool_use" | "mcp_tool_use") => self.call(part),
            Some(kind) if kind.ends_with("tool_result") => self.result(part, "content"),
            Some(
                "image" | "image_url" | "input_image" | "output_image" | "document" | "file"
                | "input_file" | "input_audio" | "audio" | "video" | "video_url",
            ) => self.media(part),
            _ if part.has("text") => self.field(Kind::Text, part, "text"),
            _ => self.other(kind, raw),
        }
    }

    /// Parts of Gemini are told by their keys. False when it is none.
    fn gemini(&mut self, part: &Fields<'_>) -> bool {
        let either = |camel, snake| part.object(camel).or_else(|| part.object(snake));
        if let Some(call) = either("functionCall", "function_call") {
            self.call(&call);
        } else if let Some(result) = either("functionResponse", "function_response") {
            self.result(&result, "response");
        } else if let Some(data) = either("inlineData", "inline_data") {
            self.media(&data);
        } else if let Some(file) = either("fileData", "file_data") {
            self.media(&file);
        } else if let Some(code) = either("executableCode", "executable_code") {
            self.push(Piece {
                kind: Kind::ToolCall,
                name: Some("code_execution".to_owned()),
                said: self.excerpt(&code, &["code"]),
                ..Piece::default()
            });
        } else if let Some(result) = either("codeExecutionResult", "code_execution_result") {
            self.push(Piece {
                kind: Kind::ToolResult,
                name: Some("code_execution".to_owned()),
                said: self.excerpt(&result, &["output"]),
                ..Piece::default()
            });
        } else if part.is_true("thought") {
            self.field(Kind::Reasoning, part, "text");
        } else {
            return false;
        }
        true
    }

    pub(super) fn excerpt(&self, from: &Fields<'_>, keys: &[&str]) -> Excerpt {
        let raw = keys.iter().find_map(|key| from.raw(key));
        raw.map(|raw| Excerpt::of_json(raw, self.most))
            .unwrap_or_default()
    }

    /// Reasoning that only the upstream can read.
    pub(super) fn sealed(&mut self, from: &Fields<'_>, key: &str) {
        let len = from.raw(key).map_or(0, |raw| raw.len().saturating_sub(2));
        self.push(Piece {
            kind: Kind::Reasoning,
            said: Excerpt {
                len: len as u64,
                is_cut: true,
                ..Excerpt::default()
            },
            name: Some("encrypted".to_owned()),
            ..Piece::default()
        });
    }

    /// A call of a tool in the words of any dialect.
    pub(super) fn call(&mut self, call: &Fields<'_>) {
        let piece = self.called(call);
        self.push(piece);
    }

    pub(super) fn called(&self, call: &Fields<'_>) -> Piece {
        let inner = call.object("function").or_else(|| call.object("custom"));
        let inner = inner.as_ref().unwrap_or(call);
        Piece {
            kind: Kind::ToolCall,
            said: self.excerpt(inner, &["arguments", "input", "args"]),
            id: name(call, "call_id").or_else(|| name(call, "id")),
            name: name(inner, "name"),
            ..Piece::default()
        }
    }

    /// What a tool gave; media in it become pieces of their own.
    pub(super) fn result(&mut self, result: &Fields<'_>, key: &str) {
        let ids = ["tool_call_id", "call_id", "tool_use_id", "id"];
        let mut within = Self::new(self.most);
        within.depth = self.depth + 1;
        let mut said = Excerpt::default();
        match result.raw(key) {
            Some(raw) if raw.starts_with('[') && within.depth <= MAX_DEPTH => {
                within.content(raw);
                for piece in within
                    .found
                    .extract_if(.., |piece| piece.kind != Kind::Media)
                {
                    if said.len > 0 {
                        said.push("\n", self.most);
                    }
                    said.push(&piece.said.text, self.most);
                    said.len += piece.said.len - piece.said.text.len() as u64;
                    said.is_cut |= piece.said.is_cut;
                }
            }
            Some(raw) => said.push_json(raw, self.most),
            None => {}
        }
        self.push(Piece {
            kind: Kind::ToolResult,
            said,
            id: ids.iter().find_map(|key| name(result, key)),
            name: name(result, "name"),
            is_error: result.is_true("is_error"),
            ..Piece::default()
        });
        for piece in within.found {
            self.push(piece);
        }
    }

    /// An image, a file or sound, wherever the dialect keeps it.
    pub(super) fn media(&mut self, part: &Fields<'_>) {
        const HOLDERS: [&str; 8] = [
            "source",
            "image_url",
            "file",
            "input_audio",
            "audio",
            "video_url",
            "inlineData",
            "image",
        ];
        let inner = HOLDERS.iter().find_map(|key| part.object(key));
        let inner = inner.as_ref().unwrap_or(part);
        if inner.string("type").as_deref() == Some("text") {
            return self.field(Kind::Text, inner, "data");
        }
        let data = [
            "data",
            "file_data",
            "url",
            "image_url",
            "result",
            "b64_json",
        ];
        let data = data.iter().find_map(|key| inner.raw(key));
        let data = data.filter(|raw| raw.starts_with('"'));
        let named = [
            "filename", "title", "file_id", "file_url", "fileUri", "file_uri", "id",
        ];
        let named = |from: &Fields<'_>| named.iter().find_map(|key| name(from, key));
        let kinds = ["media_type", "mimeType", "mime_type", "format"];
        let mut piece = Piece {
            kind: Kind::Media,
            name: named(inner).or_else(|| named(part)),
            media_type: kinds.iter().find_map(|key| name(inner, key)),
            ..Piece::default()
        };
        match data.map(|data| data.trim_matches('"')) {
            Some(url) if url.starts_with("data:") => {
                let (head, payload) = url.split_once(',').unwrap_or((url, ""));
                let kind = head.trim_start_matches("data:").split(';').next();
                piece.media_type = kind.map(str::to_owned).filter(|kind| !kind.is_empty());
                piece.said.len = decoded_len(payload);
            }
            Some(url) if url.contains("://") => {
                let address = Excerpt::of_json(&format!("\"{url}\""), super::MAX_NAME).text;
                piece.name = Some(address);
            }
            Some(payload) => piece.said.len = decoded_len(payload),
            None => {}
        }
        piece.said.is_cut = piece.said.len > 0;
        piece.media_type = piece.media_type.or_else(|| part.string("type"));
        piece.media_type.iter_mut().for_each(super::shorten);
        self.push(piece);
    }
}

/// Bytes that base64 stands for.
pub(super) fn decoded_len(payload: &str) -> u64 {
    let digits = payload.trim_end_matches('=').len() as u64;
    digits / 4 * 3 + (digits % 4).saturating_sub(1)
}
