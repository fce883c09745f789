//! Reads a response beside its way to the client: pieces in, facts out.
//!
//! JSON, server-sent events or JSON lines, compressed or not, in any pieces; the first byte tells
//! which. Of a stream only events that say something about the call are parsed while it runs;
//! deltas are kept unparsed, for the case that the upstream reports no usage. Nothing here can
//! fail the call, and memory has a bound.

mod body;
mod collect;
mod decimal;
mod interest;
mod lines;
mod said;
mod tally;
mod text;

use super::decode::Decoder;
use super::route::Dialect;
use super::sse::{Event, SseDecoder};
use crate::core::money::NanoUsd;
use crate::core::usage::Usage;

use body::JsonBody;
use collect::Collector;
use interest::Kind;
use lines::LineDecoder;
pub use said::Said;
pub use text::OutputText;

/// Of an error in plain text this much is kept.
const PLAIN_TEXT_LIMIT: usize = 1 << 10;

/// What a response said about its call.
#[derive(Debug, Default)]
pub struct ResponseFacts {
    /// None when the upstream reported none. When the response did not come to its end this may
    /// be an early report, whose output is less than `output_text` has.
    pub usage: Option<Usage>,
    /// What the upstream itself says it charges.
    pub cost: Option<NanoUsd>,
    pub response_id: Option<String>,
    pub model: Option<String>,
    pub service_tier: Option<String>,
    /// One for each choice that ended, in order of choices.
    pub finish_reasons: Vec<String>,
    /// `status` of a response or batch object.
    pub status_word: Option<String>,
    /// The message of an error body or of an error within a stream, cut short.
    pub error: Option<String>,
    /// The response came to its own end: the last event or a whole JSON body was seen.
    pub ended: bool,
    /// Some of the body could not be read: an unknown or broken encoding, or a limit was passed.
    pub unread: bool,
    /// What output tokens can be counted from when `usage` is none.
    pub output_text: OutputText,
}

/// Collects [`ResponseFacts`] from the bytes of one response.
pub struct ResponseReader {
    encoding: Encoding,
    content: Content,
}

enum Encoding {
    Identity,
    Coded(Box<Decoder>),
    /// Unknown, or broken within.
    Unreadable,
}

impl ResponseReader {
    pub fn new(
        dialect: Dialect,
        content_type: Option<&str>,
        content_encoding: Option<&str>,
        status: u16,
    ) -> Self {
        let content = Content::new(dialect, content_type, status);
        let encoding = match Decoder::new(content_encoding.unwrap_or_default()) {
            _ if matches!(content.framing, Framing::Opaque) => Encoding::Identity,
            Some(decoder) if decoder.is_identity() => Encoding::Identity,
            Some(decoder) => Encoding::Coded(Box::new(decoder)),
            None => Encoding::Unreadable,
        };
        Self { encoding, content }
    }

    /// Takes the next bytes of the response as they came from the upstream.
    pub fn push(&mut self, chunk: &[u8]) {
        let Self { encoding, content } = self;
        match encoding {
            Encoding::Identity => content.push(chunk),
            Encoding::Coded(decoder) => {
                if decoder
                    .push(chunk, &mut |decoded| content.push(decoded))
                    .is_err()
                {
                    *encoding = Encoding::Unreadable;
                }
            }
            Encoding::Unreadable => {}
        }
    }

    /// Whether the client has all it waits for: the terminal event of a stream was seen. Many
    /// clients hang up there, before the body's own end.
    pub fn ended(&self) -> bool {
        self.content.sink.collector.ended()
    }

    /// A sign of how much output there may be, in tokens, that costs nothing: seldom too small.
    pub fn output_progress(&self) -> u64 {
        self.content.sink.text.progress()
    }

    /// The output so far. Reads all of it: not to be asked for often.
    pub fn text_so_far(&self) -> String {
        self.content.sink.text.clone().into_text()
    }

    /// What the response says and does as far as it is here. Each piece is read once.
    pub fn said(&mut self) -> &Said {
        if let Framing::Json(body) = &self.content.framing
            && let Some(whole) = body.whole()
        {
            return self.content.sink.text.said_in(whole);
        }
        if matches!(self.encoding, Encoding::Unreadable)
            || matches!(self.content.framing, Framing::Json(_))
        {
            self.content.sink.text.cut_said();
        }
        self.content.sink.text.said()
    }

    /// The id that the upstream gave the response, as far as it was read.
    pub fn response_id(&self) -> Option<String> {
        match &self.content.framing {
            // Only those of responses are gone on from.
            Framing::Json(_) if self.content.sink.dialect != Dialect::Responses => None,
            Framing::Json(body) => body.whole().and_then(collect::id_in),
            _ => self.content.sink.collector.response_id(),
        }
    }

    /// Bytes of the response that are kept to be read at its end.
    pub fn held_bytes(&self) -> usize {
        let body = match &self.content.framing {
            Framing::Json(body) => body.held_bytes(),
            _ => 0,
        };
        body + self.content.sink.text.held_bytes()
    }

    /// Memory is short: of a body that is read as a whole only the ends are kept, of a stream no
    /// more text.
    pub fn keep_less(&mut self) {
        self.content.sink.text.keep_less();
        if let Framing::Json(body) = &mut self.content.framing {
            body.keep_less();
        }
    }

    /// The response is over, at its end or before.
    pub fn finish(self) -> ResponseFacts {
        let mut facts = self.content.finish();
        facts.unread |= matches!(self.encoding, Encoding::Unreadable);
        facts
    }
}

/// What the head of the response says where the first byte does not decide.
#[derive(Clone, Copy)]
enum Hint {
    None,
    Events,
    Lines,
    /// An error that no server calls a stream.
    PlainText,
}

/// The decoded body.
struct Content {
    framing: Framing,
    sink: Sink,
}

enum Framing {
    /// Only white space so far.
    Undecided(Hint),
    Json(JsonBody),
    Events(Box<SseDecoder>),
    Lines(LineDecoder),
    /// An error that is not JSON.
    PlainText(Vec<u8>),
    /// Media, a format without facts, or a response that nothing is to be known of.
    Opaque,
}

impl Content {
    fn new(dialect: Dialect, content_type: Option<&str>, status: u16) -> Self {
        let media_type = content_type.map(media_type);
        let framing = match media_type.as_deref() {
            Some(media_type) if is_media(media_type) => Framing::Opaque,
            _ if dialect == Dialect::Other && status < 400 => Framing::Opaque,
            Some("application/x-ndjson" | "application/jsonl" | "application/ndjson") => {
                Framing::Undecided(Hint::Lines)
            }
            None if dialect == Dialect::Ollama => Framing::Undecided(Hint::Lines),
            Some("text/event-stream") => Framing::Undecided(Hint::Events),
            _ if status >= 400 => Framing::Undecided(Hint::PlainText),
            _ => Framing::Undecided(Hint::None),
        };
        Self {
            framing,
            sink: Sink::new(dialect, status),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if let Framing::Undecided(hint) = self.framing {
            bytes = bytes.trim_ascii_start();
            let Some(&first) = bytes.first() else { return };
            self.framing = Framing::by_first_byte(first, hint);
        }
        let Self { framing, sink } = self;
        match framing {
            Framing::Json(body) => body.push(bytes),
            Framing::Events(decoder) => decoder.push(bytes, |event| sink.event(event)),
            Framing::Lines(decoder) => decoder.push(bytes, |line| sink.unnamed(line)),
            Framing::PlainText(text) => {
                let room = PLAIN_TEXT_LIMIT.saturating_sub(text.len()).min(bytes.len());
                text.extend_from_slice(bytes.get(..room).unwrap_or_default());
            }
            Framing::Undecided(_) | Framing::Opaque => {}
        }
    }

    fn finish(mut self) -> ResponseFacts {
        let sink = &mut self.sink;
        let mut unread = false;
        match self.framing {
            Framing::Events(mut decoder) => {
                decoder.finish(|event| sink.event(event));
                unread = decoder.skipped() > 0;
            }
            Framing::Lines(mut decoder) => {
                decoder.finish(|line| sink.unnamed(line));
                unread = decoder.skipped() > 0;
            }
            Framing::Json(body) => {
                unread = body.is_over_limit();
                let body = body.finish(&mut sink.collector);
                sink.text.keep_body(body);
            }
            Framing::PlainText(text) => sink.collector.plain_error(&text),
            Framing::Undecided(_) | Framing::Opaque => {}
        }
        ResponseFacts {
            unread,
            output_text: self.sink.text,
            ..self.sink.collector.finish()
        }
    }
}

impl Framing {
    /// No event begins with a bracket and no JSON document of ours with a letter, so this is
    /// surer than a content type, which servers get wrong for errors.
    fn by_first_byte(first: u8, hint: Hint) -> Self {
        match (first, hint) {
            (b'{' | b'[', Hint::Lines) => Self::Lines(LineDecoder::default()),
            (b'{' | b'[', _) => Self::Json(JsonBody::default()),
            (b'<', _) => Self::Opaque,
            (_, Hint::PlainText) => Self::PlainText(Vec::new()),
            (_, Hint::Events) | (b':' | b'd' | b'e' | b'i' | b'r' | 0xef, _) => {
                Self::Events(Box::default())
            }
            _ => Self::Opaque,
        }
    }
}

/// Where events and lines go.
struct Sink {
    dialect: Dialect,
    collector: Collector,
    text: OutputText,
}

impl Sink {
    fn new(dialect: Dialect, status: u16) -> Self {
        let collector = Collector::new(dialect, status);
        Self {
            dialect,
            collector,
            text: OutputText::new(dialect),
        }
    }

    fn unnamed(&mut self, data: &[u8]) {
        self.event(Event { name: None, data });
    }

    fn event(&mut self, event: Event<'_>) {
        let data = event.data.trim_ascii();
        if data.is_empty() {
            return;
        }
        if data == b"[DONE]" {
            self.collector.end();
            return;
        }
        let kind = Kind::of(event.name, data);
        let wants_head = self.collector.wants_head();
        if kind.has_facts(self.dialect, data) || (kind.is_plain() && wants_head) {
            self.collector.json(data);
        }
        if kind.has_text() {
            self.text.keep_event(data);
        }
    }
}

/// `text/event-stream; charset=utf-8` -> `text/event-stream`
fn media_type(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

fn is_media(media_type: &str) -> bool {
    ["audio/", "image/", "video/", "multipart/"]
        .iter()
        .any(|kind| media_type.starts_with(kind))
        || media_type == "application/octet-stream"
}

#[cfg(test)]
mod tests;
