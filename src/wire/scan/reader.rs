//! Reading a body value by value, from wherever reading stood before.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

use super::fields::{Small, SmallFields, prompts};
use super::limits::Limits;
use super::{LimitField, RequestFacts, Segment, SegmentKind, payload, unseen};
use crate::core::call::Operation;
use crate::core::digest::DigestSeed;
use crate::wire::route::Dialect;

/// Reads one body.
pub(super) struct Reader<'b> {
    operation: Operation,
    seed: DigestSeed,
    body: &'b [u8],
    pub(super) stand: Stand,
    pub(super) items: Vec<Item>,
}

/// A point between two values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    pub(super) at: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Before the object.
    Start,
    /// Before a member of the object.
    Object { first: bool },
    /// Before an element of a member that is split.
    Array { content: Content, first: bool },
    /// Behind the object.
    End,
}

/// What was found, in the order of the body.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// This key begins: what it held before counts no more.
    Begin(&'static str),
    Segment(&'static str, Segment),
    Small(Small, Range<usize>),
}

/// A body with more in it is taken for unreadable: nobody sends so many messages.
const MAX_ITEMS: usize = 64 * 1024;

/// What a legacy completion is about.
const PROMPT: &str = "prompt";

/// The body is not one JSON object, or has too much in it.
#[derive(Debug)]
pub(super) struct Unreadable;

/// A top-level key whose value becomes segments.
#[derive(Clone, Copy, Debug)]
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
            (Messages, "output_config") => whole("output_config", SegmentKind::ResponseFormat),
            (Messages, "output_format") => whole("output_format", SegmentKind::ResponseFormat),
            (Responses, "text") => whole("text", SegmentKind::ResponseFormat),
            (TextCompletion | Image, PROMPT) => whole(PROMPT, SegmentKind::Input),
            (TextCompletion, "suffix") => whole("suffix", SegmentKind::Input),
            (Embeddings | Speech | Moderation, "input") => whole("input", SegmentKind::Input),
            _ => None,
        }
    }
}

impl<'b> Reader<'b> {
    pub(super) fn new(operation: Operation, body: &'b [u8], seed: DigestSeed) -> Self {
        Self {
            operation,
            seed,
            body,
            stand: Stand {
                at: 0,
                place: Place::Start,
            },
            items: Vec::new(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.stand.place, Place::End)
    }

    /// Reads on to behind the next member or element, or the bracket that opens or closes one.
    pub(super) fn step(&mut self) -> Result<(), Unreadable> {
        if self.items.len() > MAX_ITEMS {
            return Err(Unreadable);
        }
        let next = self.peek();
        self.stand.place = match self.stand.place {
            Place::Start => {
                self.expect(b'{')?;
                Place::Object { first: true }
            }
            Place::Object { .. } if next == Some(b'}') => {
                self.stand.at += 1;
                self.peek().map_or(Ok(Place::End), |_| Err(Unreadable))?
            }
            Place::Object { first } => {
                self.separator(first)?;
                self.member()?
            }
            Place::Array { .. } if next == Some(b']') => {
                self.stand.at += 1;
                Place::Object { first: false }
            }
            Place::Array { content, first } => {
                self.separator(first)?;
                let element = self.value()?;
                let message = self.segment(SegmentKind::Message, element);
                self.items.push(Item::Segment(content.name, message));
                Place::Array {
                    content,
                    first: false,
                }
            }
            Place::End => Place::End,
        };
        Ok(())
    }

    /// Everything the items say.
    pub(super) fn facts(self, dialect: Dialect) -> RequestFacts {
        let (mut small, mut stream_options) = (SmallFields::default(), None);
        let (mut limit_fields, mut prompt) = (Vec::new(), None);
        let limits = Limits::of(self.operation, dialect);
        let mut begun: Vec<(&str, usize)> = Vec::new();
        for (index, item) in self.items.iter().enumerate() {
            match item {
                Item::Begin(name) => {
                    prompt = prompt.filter(|_| *name != PROMPT);
                    begun.retain(|(other, _)| other != name);
                    begun.push((name, index));
                }
                Item::Small(field, range) => {
                    small.set(*field, self.text(range));
                    if *field == Small::StreamOptions {
                        stream_options = Some(range.clone());
                    }
                    let name = field.into();
                    if limits.is_some_and(|limits| limits.are_in(name)) {
                        limit_fields.push(LimitField {
                            name,
                            value: range.clone(),
                        });
                    }
                }
                Item::Segment(name, segment) if *name == PROMPT => prompt = Some(&segment.range),
                Item::Segment(..) => {}
            }
        }
        let facts = small.facts(self.operation, dialect);
        let prompts = match self.operation {
            Operation::TextCompletion => prompt.map_or(1, |range| prompts(self.text(range))),
            _ => 1,
        };
        let choices = facts.choices.saturating_mul(prompts);
        let limit = limits.and_then(|limits| limits.of_choice(self.body, &limit_fields));
        let counts = |index: usize, key: &str| {
            let begin = begun.iter().find(|(name, _)| *name == key);
            begin.is_none_or(|(_, begin)| *begin < index)
        };
        let schema = self.schema(&small);
        let items = self.items.into_iter().enumerate();
        let mut segments: Vec<Segment> = items
            .filter_map(|(index, item)| match item {
                Item::Segment(key, segment) if counts(index, key) => Some(segment),
                _ => None,
            })
            .collect();
        if let Some(schema) = schema {
            let before = |segment: &Segment| segment.range.start < schema.range.start;
            segments.insert(segments.partition_point(before), schema);
        }
        RequestFacts {
            stream_options,
            output_limit: limit.map(|limit| limit.saturating_mul(choices)),
            choices,
            limit_fields,
            segments,
            ..facts
        }
    }

    fn schema(&self, small: &SmallFields<'b>) -> Option<Segment> {
        let schema = small.response_schema()?;
        let start = schema.as_ptr().addr() - self.body.as_ptr().addr();
        let is_gemini = self.operation == Operation::GenerateContent;
        is_gemini.then(|| self.segment(SegmentKind::Schema, start..start + schema.len()))
    }

    fn member(&mut self) -> Result<Place, Unreadable> {
        let key = self.value()?;
        let key = self.key(&key)?;
        self.expect(b':')?;
        let content = Content::of(self.operation, &key);
        if let Some(content) = content {
            self.items.push(Item::Begin(content.name));
            if content.split && self.peek() == Some(b'[') {
                self.stand.at += 1;
                return Ok(Place::Array {
                    content,
                    first: true,
                });
            }
        }
        let value = self.value()?;
        if let Some(content) = content {
            if self.text(&value) != b"null" {
                let segment = self.segment(content.kind, value);
                self.items.push(Item::Segment(content.name, segment));
            }
        } else if let Ok(field) = key.parse() {
            self.items.push(Item::Small(field, value));
        }
        Ok(Place::Object { first: false })
    }

    fn segment(&self, kind: SegmentKind, range: Range<usize>) -> Segment {
        let bytes = self.text(&range);
        let (payloads, payload_bytes) = payload::measure(bytes);
        let unseen = match kind {
            SegmentKind::Tools => unseen::hosted_tools(bytes),
            SegmentKind::Message | SegmentKind::Instructions | SegmentKind::Input => {
                unseen::parts(bytes)
            }
            SegmentKind::ResponseFormat | SegmentKind::Schema => 0,
        };
        Segment {
            unseen,
            kind,
            digest: self.seed.digest(bytes),
            payloads,
            payload_bytes,
            range,
        }
    }

    /// A key without its quotes. One that is no text names nothing.
    fn key(&self, range: &Range<usize>) -> Result<Cow<'b, str>, Unreadable> {
        let quoted = self.text(range);
        let inner = quoted
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""))
            .ok_or(Unreadable)?;
        if memchr::memchr(b'\\', inner).is_some() {
            return Ok(serde_json::from_slice(quoted).unwrap_or_default());
        }
        let key = std::str::from_utf8(inner).map_err(|_| Unreadable)?;
        Ok(Cow::Borrowed(key))
    }

    /// Passes over one value of any kind; where it lies.
    fn value(&mut self) -> Result<Range<usize>, Unreadable> {
        self.peek();
        let start = self.stand.at;
        let rest = self.body.get(start..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
        match values.next() {
            Some(Ok(raw)) => {
                self.stand.at += raw.get().len();
                Ok(start..self.stand.at)
            }
            _ => Err(Unreadable),
        }
    }

    fn text(&self, range: &Range<usize>) -> &'b [u8] {
        self.body.get(range.clone()).unwrap_or_default()
    }

    fn separator(&mut self, first: bool) -> Result<(), Unreadable> {
        if first { Ok(()) } else { self.expect(b',') }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unreadable> {
        if self.peek() != Some(byte) {
            return Err(Unreadable);
        }
        self.stand.at += 1;
        Ok(())
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.body.get(self.stand.at..).unwrap_or_default();
        let blank = rest.iter().take_while(|byte| b" \t\r\n".contains(byte));
        self.stand.at += blank.count();
        self.body.get(self.stand.at).copied()
    }
}
