//! Answers: a JSON body, or a stream of events or lines put together again.

use serde_json::value::RawValue;

use super::excerpt::Excerpt;
use super::item::output_item;
use super::part::{Pieces, decoded_len};
use super::{Kind, Message, Piece, name, raw_message};
use crate::wire::fields::Fields;
use crate::wire::message::Role;
use crate::wire::sse::{Event, SseDecoder};

/// Pieces of all choices together; more are counted only.
const MAX_LANES: usize = 1024;

/// What a response body says, with up to `most` bytes of each text: one message for each choice.
/// `body` is what is recorded of it, encodings undone.
pub fn answer(body: &[u8], content_type: Option<&str>, most: usize) -> Vec<Message> {
    let trimmed = body.trim_ascii_start();
    if trimmed.is_empty() {
        return Vec::new();
    }
    let mut answer = Answer::new(most);
    match trimmed.first() {
        Some(b'{' | b'[') if answer.document(trimmed) => {}
        Some(b'{' | b'[') => answer.lines(trimmed),
        Some(b':' | b'd' | b'e' | b'i' | b'r' | 0xef) => answer.events(body),
        _ => {}
    }
    let messages = answer.finish();
    if messages.is_empty() {
        return vec![unread(body, content_type, most)];
    }
    messages
}

/// An answer that is media, or of no known form.
fn unread(body: &[u8], content_type: Option<&str>, most: usize) -> Message {
    let media_type = content_type
        .and_then(|it| it.split(';').next())
        .map(str::trim);
    let is_text = media_type
        .is_none_or(|it| it.starts_with("text/") || it.contains("json") || it.contains("xml"));
    if is_text {
        return raw_message(Role::Assistant, body, most);
    }
    let mut pieces = Pieces::new(most);
    let mut piece = Piece {
        kind: Kind::Media,
        media_type: media_type.map(str::to_owned),
        ..Piece::default()
    };
    piece.said.len = body.len() as u64;
    piece.said.is_cut = true;
    pieces.push(piece);
    Message::new(Role::Assistant, pieces)
}

/// What a piece that grows is known by: the choice, the block or item of it, and the part in that.
type Key = (u64, u64, u64, Kind);

/// An answer as far as it was read.
struct Answer {
    most: usize,
    /// In the order in which they began.
    lanes: Vec<(Key, Piece)>,
    left_out: u64,
}

impl Answer {
    fn new(most: usize) -> Self {
        Self {
            most,
            lanes: Vec::new(),
            left_out: 0,
        }
    }

    fn finish(self) -> Vec<Message> {
        let mut choices: Vec<u64> = self.lanes.iter().map(|((choice, ..), _)| *choice).collect();
        choices.sort_unstable();
        choices.dedup();
        let mut messages: Vec<Message> = Vec::new();
        for choice in choices {
            let mut pieces = Pieces::new(self.most);
            for ((of, ..), piece) in &self.lanes {
                if *of == choice {
                    pieces.push(piece.clone());
                }
            }
            let mut message = Message::new(Role::Assistant, pieces);
            message.bytes = message.pieces.iter().map(|piece| piece.said.len).sum();
            messages.push(message);
        }
        if let Some(last) = messages.last_mut() {
            last.left_out += self.left_out;
        }
        messages
    }

    /// A whole body. False when it is no JSON.
    fn document(&mut self, json: &[u8]) -> bool {
        if let Some(object) = Fields::parse(json) {
            self.object(&object);
            if self.lanes.is_empty() {
                let text = std::str::from_utf8(json).unwrap_or_default();
                self.add(0, |pieces| pieces.other(None, text));
            }
            return true;
        }
        // Gemini without `alt=sse` sends its chunks as one array.
        let Ok(items) = serde_json::from_slice::<Vec<&RawValue>>(json) else {
            return false;
        };
        for item in items
            .iter()
            .filter_map(|item| Fields::parse_str(item.get()))
        {
            self.object(&item);
        }
        true
    }

    fn lines(&mut self, body: &[u8]) {
        for line in body.split(|byte| *byte == b'\n') {
            if let Some(object) = Fields::parse(line.trim_ascii()) {
                self.object(&object);
            }
        }
    }

    fn events(&mut self, body: &[u8]) {
        let mut decoder = SseDecoder::default();
        let mut take = |event: Event<'_>| {
            if let Some(object) = Fields::parse(event.data.trim_ascii()) {
                self.object(&object);
            }
        };
        decoder.push(body, &mut take);
        decoder.finish(take);
    }

    fn object(&mut self, object: &Fields<'_>) {
        if self.failure(object) || self.choices(object) {
            return;
        }
        if let Some(kind) = object.string("type").filter(|kind| kind != "message") {
            return self.event(object, &kind);
        }
        if object.has("output") {
            return self.output(object);
        }
        match object.object("message") {
            Some(message) => self.delta(0, &message),
            None => self.delta(0, object),
        }
        self.grow((0, 0, 0, Kind::Text), object.raw("response"));
        self.grow((0, 0, 0, Kind::Text), object.raw("text"));
        self.data(object);
    }

    /// An error in the place of an answer or within one.
    fn failure(&mut self, object: &Fields<'_>) -> bool {
        let Some(raw) = object.raw("error") else {
            return false;
        };
        let error = object.object("error");
        let message = error.as_ref().and_then(|error| error.raw("message"));
        let named = |key| error.as_ref().and_then(|error| name(error, key));
        let (kind, most) = (named("type").or_else(|| named("code")), self.most);
        self.add(0, |pieces| {
            pieces.push(Piece {
                kind: Kind::Error,
                said: Excerpt::of_json(message.unwrap_or(raw), most),
                name: kind,
                is_error: true,
                ..Piece::default()
            });
        });
        true
    }

    /// Chat, completions and Gemini. False when it is none of these.
    fn choices(&mut self, object: &Fields<'_>) -> bool {
        for choice in object.objects("choices") {
            let index = choice.count("index").unwrap_or(0);
            for key in ["delta", "message"] {
                if let Some(message) = choice.object(key) {
                    self.delta(index, &message);
                }
            }
            self.grow((index, 0, 0, Kind::Text), choice.raw("text"));
        }
        for candidate in object.objects("candidates") {
            let index = candidate.count("index").unwrap_or(0);
            let content = candidate.object("content");
            for raw in content.iter().flat_map(|content| content.array("parts")) {
                let Some(part) = Fields::parse_str(raw.get()) else {
                    continue;
                };
                let kind = if part.is_true("thought") {
                    Kind::Reasoning
                } else {
                    Kind::Text
                };
                match part.raw("text") {
                    Some(text) => self.go_on(index, kind, text),
                    None => self.add(index, |pieces| pieces.part(raw.get())),
                }
            }
        }
        object.has("choices") || object.has("candidates")
    }

    /// A message or a piece of one that streams.
    fn delta(&mut self, choice: u64, message: &Fields<'_>) {
        for key in ["reasoning_content", "reasoning", "thinking"] {
            self.grow((choice, 0, 0, Kind::Reasoning), message.raw(key));
        }
        match message.raw("content") {
            Some(content) if !content.starts_with('"') => {
                self.add(choice, |pieces| pieces.content(content));
            }
            content => self.grow((choice, 0, 0, Kind::Text), content),
        }
        self.grow((choice, 0, 0, Kind::Refusal), message.raw("refusal"));
        for (place, call) in message.objects("tool_calls").enumerate() {
            let index = call.count("index").unwrap_or(place as u64);
            self.call_delta((choice, 0, index, Kind::ToolCall), &call);
        }
        if let Some(call) = message.object("function_call") {
            self.call_delta((choice, 1, 0, Kind::ToolCall), &call);
        }
        for image in message.objects("images") {
            self.add(choice, |pieces| pieces.media(&image));
        }
        if let Some(audio) = message.object("audio") {
            self.grow((choice, 2, 0, Kind::Text), audio.raw("transcript"));
        }
    }

    /// A piece of a tool call of chat; the first has its id and name.
    fn call_delta(&mut self, key: Key, call: &Fields<'_>) {
        let function = call.object("function");
        let function = function.as_ref().unwrap_or(call);
        let most = self.most;
        let Some(piece) = self.lane(key) else { return };
        let id = || name(call, "call_id").or_else(|| name(call, "id"));
        piece.id = piece.id.take().or_else(id);
        piece.name = piece.name.take().or_else(|| name(function, "name"));
        if let Some(raw) = function.raw("arguments") {
            piece.said.push_json(raw, most);
        }
    }

    /// An event of responses or messages.
    fn event(&mut self, event: &Fields<'_>, kind: &str) {
        let item = event.count("output_index").unwrap_or(0);
        let part = event
            .count("content_index")
            .or_else(|| event.count("summary_index"));
        let part = part.unwrap_or(0) + 1;
        let block = event.count("index").unwrap_or(0);
        match kind {
            "response.output_text.delta" => {
                self.grow((0, item, part, Kind::Text), event.raw("delta"));
            }
            "response.refusal.delta" => {
                self.grow((0, item, part, Kind::Refusal), event.raw("delta"));
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.grow((0, item, part, Kind::Reasoning), event.raw("delta"));
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                self.grow((0, item, 0, Kind::ToolCall), event.raw("delta"));
            }
            "response.output_item.added" | "response.output_item.done" => {
                if let Some(raw) = event.raw("item") {
                    self.item(item, raw, kind.ends_with("done"));
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                if let Some(response) = event.object("response") {
                    self.failure(&response);
                    self.output(&response);
                }
            }
            "content_block_start" => self.open_block(block, event),
            "content_block_delta" => self.block_delta(block, event),
            "error" => {
                self.failure(event);
            }
            _ => {}
        }
    }

    /// An element of the output of a response. Where it is over it takes the place of its deltas.
    fn item(&mut self, index: u64, raw: &str, is_over: bool) {
        let Some(item) = Fields::parse_str(raw) else {
            return;
        };
        let kind = item.string("type").unwrap_or_default();
        if !is_over {
            if matches!(&*kind, "function_call" | "custom_tool_call") {
                self.call_delta((0, index, 0, Kind::ToolCall), &item);
            }
            return;
        }
        self.lanes.retain(|((_, of, ..), _)| *of != index);
        let mut pieces = Pieces::new(self.most);
        output_item(&item, &kind, raw, &mut pieces);
        let (found, left_out) = pieces.finish();
        self.left_out += left_out;
        let at = self.lanes.iter().position(|((_, of, ..), _)| *of > index);
        let at = at.unwrap_or(self.lanes.len());
        let numbered = (0..).zip(found);
        let found = numbered.map(|(part, piece)| ((0, index, part, piece.kind), piece));
        self.lanes.splice(at..at, found);
        self.bound();
    }

    /// The whole output of a response, which says all that its deltas said.
    fn output(&mut self, response: &Fields<'_>) {
        let items = response.array("output");
        if items.is_empty() {
            return;
        }
        self.lanes.retain(|(_, piece)| piece.kind == Kind::Error);
        for (index, item) in (0..).zip(items) {
            self.item(index, item.get(), true);
        }
    }

    fn open_block(&mut self, index: u64, event: &Fields<'_>) {
        let Some(block) = event.raw("content_block") else {
            return;
        };
        let mut pieces = Pieces::new(self.most);
        pieces.part(block);
        for (part, mut piece) in (0..).zip(pieces.finish().0) {
            if piece.kind == Kind::ToolCall && piece.said.text == "{}" {
                piece.said = Excerpt::default();
            }
            self.push((0, index, part, piece.kind), piece);
        }
    }

    fn block_delta(&mut self, index: u64, event: &Fields<'_>) {
        let Some(delta) = event.object("delta") else {
            return;
        };
        self.grow((0, index, 0, Kind::Text), delta.raw("text"));
        self.grow((0, index, 0, Kind::Reasoning), delta.raw("thinking"));
        self.grow((0, index, 0, Kind::ToolCall), delta.raw("partial_json"));
    }

    /// What is no text: vectors, images.
    fn data(&mut self, object: &Fields<'_>) {
        let data = object.objects("data");
        let mut vectors = 0_u64;
        for element in data {
            if let Some(vector) = element.raw("embedding") {
                vectors += 1;
                if vectors == 1 {
                    self.add(0, |pieces| {
                        pieces.other(Some("embedding".to_owned()), vector);
                    });
                }
            } else if element.has("b64_json") || element.has("url") {
                let len = element.raw("b64_json").map_or(0, decoded_len);
                let address = name(&element, "url");
                self.add(0, |pieces| {
                    let mut piece = Piece {
                        kind: Kind::Media,
                        media_type: Some("image".to_owned()),
                        name: address,
                        ..Piece::default()
                    };
                    piece.said.len = len;
                    piece.said.is_cut = len > 0;
                    pieces.push(piece);
                });
            }
        }
        self.left_out += vectors.saturating_sub(1);
    }

    /// Text that goes on with the piece before it where that is of the same kind.
    fn go_on(&mut self, choice: u64, kind: Kind, raw: &str) {
        let last = self
            .lanes
            .iter_mut()
            .rev()
            .find(|((of, ..), _)| *of == choice);
        if let Some((_, piece)) = last.filter(|(_, piece)| piece.kind == kind) {
            piece.said.push_json(raw, self.most);
            return;
        }
        self.add(choice, |pieces| pieces.say(kind, raw));
    }

    /// Adds to the piece of this key, which begins if it is not there.
    fn grow(&mut self, key: Key, raw: Option<&str>) {
        let Some(raw) = raw.filter(|raw| *raw != "\"\"") else {
            return;
        };
        let most = self.most;
        if let Some(piece) = self.lane(key) {
            piece.said.push_json(raw, most);
        }
    }

    fn lane(&mut self, key: Key) -> Option<&mut Piece> {
        let found = self.lanes.iter().rposition(|(known, _)| *known == key);
        if found.is_none() {
            let kind = key.3;
            let piece = Piece {
                kind,
                ..Piece::default()
            };
            self.push(key, piece);
        }
        let at = found.or_else(|| self.lanes.iter().rposition(|(known, _)| *known == key))?;
        self.lanes.get_mut(at).map(|(_, piece)| piece)
    }

    /// Pieces that are whole.
    fn add(&mut self, choice: u64, find: impl FnOnce(&mut Pieces)) {
        let mut pieces = Pieces::new(self.most);
        find(&mut pieces);
        let (found, left_out) = pieces.finish();
        self.left_out += left_out;
        for piece in found {
            // Nothing is added to them by this key.
            let part = u64::MAX - self.lanes.len() as u64;
            self.push((choice, u64::MAX, part, piece.kind), piece);
        }
    }

    fn push(&mut self, key: Key, piece: Piece) {
        self.lanes.push((key, piece));
        self.bound();
    }

    fn bound(&mut self) {
        let over = self.lanes.len().saturating_sub(MAX_LANES);
        self.left_out += over as u64;
        self.lanes.truncate(MAX_LANES);
    }
}
