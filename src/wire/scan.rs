//! One pass over a JSON request body: its few facts, and where its messages lie.
//!
//! Only small fields are copied out. Messages, tools and instructions stay where they are: they
//! become byte ranges with a digest. A repeated key counts by its last value, as upstreams read
//! it. Nothing here fails: a body that is no JSON object gives facts that are not `readable`.

mod fields;
mod payload;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use self::fields::SmallFields;
use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};

/// What a request body says, as far as this proxy cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The body is one JSON object; everything else here is empty when it is not.
    pub readable: bool,
    pub model: Option<String>,
    pub stream: bool,
    /// `stream_options.include_usage`
    pub include_usage: Option<bool>,
    /// The largest number of output tokens, times the number of choices.
    pub output_limit: Option<u64>,
    pub service_tier: Option<String>,
    pub previous_response_id: Option<String>,
    /// `conversation`: its id, whether given as a string or as an object.
    pub conversation: Option<String>,
    pub user: Option<String>,
    pub safety_identifier: Option<String>,
    pub prompt_cache_key: Option<String>,
    pub session_id: Option<String>,
    /// The first 16 pairs whose value is a string.
    pub metadata: BTreeMap<String, String>,
    pub background: bool,
    pub tool_choice: ToolChoice,
    /// In the order of the body, never overlapping.
    pub segments: Vec<Segment>,
}

/// `tool_choice`, as far as it costs tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    #[default]
    Auto,
    None,
    Required,
    Named(String),
}

/// A part of the body that is counted, stored and compared as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub range: Range<usize>,
    pub kind: SegmentKind,
    /// Digest of the raw bytes of `range`.
    pub digest: Digest,
    /// Base64 payloads (images, audio, files) in it.
    pub payloads: u32,
    /// Bytes of the range inside such payloads.
    pub payload_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentKind {
    /// One element of `messages`, `contents` or an array `input` of a response.
    Message,
    /// `system`, `instructions` or `system_instruction` as a whole.
    Instructions,
    /// `tools` (or `functions`) as a whole.
    Tools,
    /// `response_format`, or the `text` settings of a response.
    ResponseFormat,
    /// A text or a list of texts to embed, complete, speak or check.
    Input,
}

/// Reads the facts of `body`, taken as the request of `operation`.
pub fn scan(operation: Operation, body: &[u8], seed: DigestSeed) -> RequestFacts {
    let Ok(text) = std::str::from_utf8(body) else {
        return RequestFacts::default();
    };
    let mut top = TopLevel {
        operation,
        text,
        small: SmallFields::default(),
        spans: Vec::new(),
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer
        .deserialize_map(&mut top)
        .and_then(|()| deserializer.end());
    if read.is_err() {
        return RequestFacts::default();
    }
    top.spans.sort_unstable_by_key(|span| span.range.start);
    let segments = top
        .spans
        .iter()
        .filter_map(|span| span.segment(body, seed))
        .collect();
    RequestFacts {
        segments,
        ..top.small.facts(operation)
    }
}

/// A top-level key whose value becomes segments.
#[derive(Clone, Copy)]
struct Content {
    /// The spelling that stands for all spellings of the key.
    name: &'static str,
    kind: SegmentKind,
    /// An array is split into its elements, which are messages.
    split: bool,
}

impl Content {
    fn of(operation: Operation, key: &str) -> Option<Self> {
        use Operation::{
            Chat, Embeddings, GenerateContent, Image, Messages, Moderation, Responses, Speech,
            TextCompletion,
        };
        let whole = |name, kind| {
            Some(Self {
                name,
                kind,
                split: false,
            })
        };
        let split = |name| {
            Some(Self {
                name,
                kind: SegmentKind::Input,
                split: true,
            })
        };
        match (operation, key) {
            (Chat | Messages, "messages") => split("messages"),
            (GenerateContent, "contents") => split("contents"),
            (Responses, "input") => split("input"),
            (Messages, "system") => whole("system", SegmentKind::Instructions),
            (Responses, "instructions") => whole("instructions", SegmentKind::Instructions),
            (GenerateContent, "systemInstruction" | "system_instruction") => {
                whole("systemInstruction", SegmentKind::Instructions)
            }
            (Chat | Responses | Messages | GenerateContent, "tools") => {
                whole("tools", SegmentKind::Tools)
            }
            (Chat, "functions") => whole("functions", SegmentKind::Tools),
            (Chat, "response_format") => whole("response_format", SegmentKind::ResponseFormat),
            (Responses, "text") => whole("text", SegmentKind::ResponseFormat),
            (TextCompletion | Image, "prompt") => whole("prompt", SegmentKind::Input),
            (Embeddings | Speech | Moderation, "input") => whole("input", SegmentKind::Input),
            _ => None,
        }
    }
}

/// A range found in the body, and the key it was found under.
struct Span {
    key: &'static str,
    kind: SegmentKind,
    range: Range<usize>,
}

impl Span {
    fn segment(&self, body: &[u8], seed: DigestSeed) -> Option<Segment> {
        let bytes = body.get(self.range.clone())?;
        let (payloads, payload_bytes) = payload::measure(bytes);
        Some(Segment {
            range: self.range.clone(),
            kind: self.kind,
            digest: seed.digest(bytes),
            payloads,
            payload_bytes,
        })
    }
}

/// Collects the top-level object.
struct TopLevel<'de> {
    operation: Operation,
    text: &'de str,
    small: SmallFields<'de>,
    spans: Vec<Span>,
}

impl<'de> TopLevel<'de> {
    fn add(&mut self, content: Content, kind: SegmentKind, raw: &RawValue) {
        let start = self.offset(raw.get());
        let range = start..start + raw.get().len();
        self.spans.push(Span {
            key: content.name,
            kind,
            range,
        });
    }

    /// Where `part`, borrowed from the body, lies in it.
    fn offset(&self, part: &str) -> usize {
        part.as_ptr().addr() - self.text.as_ptr().addr()
    }

    /// Whether the value after `key` opens an array; false for a key that is not borrowed.
    fn opens_array(&self, key: &Key<'de>) -> bool {
        let Key::Borrowed(key) = key else {
            return false;
        };
        let after = self
            .text
            .as_bytes()
            .get(self.offset(key) + key.len()..)
            .unwrap_or_default();
        after.iter().find(|byte| !b"\": \t\r\n".contains(byte)) == Some(&b'[')
    }

    fn read_content<A: MapAccess<'de>>(
        &mut self,
        content: Content,
        key: &Key<'de>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        self.spans.retain(|span| span.key != content.name);
        if content.split && self.opens_array(key) {
            return map.next_value_seed(Elements { top: self, content });
        }
        let raw: &RawValue = map.next_value()?;
        if content.split && raw.get().starts_with('[') {
            let elements = Elements { top: self, content };
            return elements
                .deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
                .map_err(serde::de::Error::custom);
        }
        if raw.get() != "null" {
            self.add(content, content.kind, raw);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for &mut TopLevel<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed)? {
            if let Some(content) = Content::of(self.operation, key.as_str()) {
                self.read_content(content, &key, &mut map)?;
            } else if let Some(slot) = self.small.slot(key.as_str()) {
                *slot = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Splits an array into spans, one per element.
struct Elements<'a, 'de> {
    top: &'a mut TopLevel<'de>,
    content: Content,
}

impl<'de> DeserializeSeed<'de> for Elements<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(raw) = elements.next_element::<&RawValue>()? {
            self.top.add(self.content, SegmentKind::Message, raw);
        }
        Ok(())
    }
}

/// A key of the object: borrowed from the body unless it holds an escape.
enum Key<'de> {
    Borrowed(&'de str),
    Owned(String),
}

impl Key<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(key) => key,
            Self::Owned(key) => key,
        }
    }
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests;
