//! Recorded bodies as people read them: who said what, which tools were called and what they gave.
//!
//! Where `message` reduces a message to what agents act on, this leaves nothing out: reasoning,
//! media and what is not understood have their place too. Texts are excerpts of bounded size,
//! taken without a copy of the whole. Nothing here fails: a body that is not understood is shown
//! as it is.

mod answer;
mod excerpt;
mod item;
mod part;

use std::ops::Range;

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use utoipa::ToSchema;

use super::fields::Fields;
use super::marks::without_marks;
pub use super::message::Role;
use super::message::tool_names;
use super::route::Dialect;
use super::scan::{self, Segment, SegmentKind};
use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::text::front;
pub use answer::answer;
pub use excerpt::Excerpt;
use part::Pieces;

/// Names of tools that are told; more are counted.
const MAX_TOOLS: usize = 256;
/// Ids and names are cut behind so many bytes.
const MAX_NAME: usize = 256;

/// One message: what one speaker said in one go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    pub role: Role,
    /// Which of several speakers it is.
    pub name: Option<String>,
    /// In the order they were said in.
    pub pieces: Vec<Piece>,
    /// Pieces beyond what is shown of one message.
    pub left_out: u64,
    /// Bytes of the message in its body.
    pub bytes: u64,
    /// Where it lies in the recorded body; null where it was put together from a stream.
    pub place: Option<Place>,
    /// The same for the same message, in whichever call.
    pub digest: Option<String>,
}

/// A range of bytes in a body, encodings undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Place {
    pub from: u64,
    pub to: u64,
}

/// A part of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Piece {
    pub kind: Kind,
    /// What was said, verbatim: a text, the arguments of a call, the result of one. Of media only
    /// `len` is told: how many bytes it has.
    #[serde(flatten)]
    pub said: Excerpt,
    /// What a call and its result have in common.
    pub id: Option<String>,
    /// The tool that is called or gave the result, the name or address of a file, or what kind of
    /// thing it is that is not understood.
    pub name: Option<String>,
    /// `image/png`
    pub media_type: Option<String>,
    /// The tool says that it failed.
    pub is_error: bool,
    /// Of a result: the arguments of the call that asked for it, where that is known.
    pub asked: Option<Excerpt>,
}

/// What a piece is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    #[default]
    Text,
    Reasoning,
    Refusal,
    ToolCall,
    ToolResult,
    /// An image, a file, sound.
    Media,
    /// An error in the place of an answer.
    Error,
    /// Not understood: the JSON or the text as it is.
    Other,
}

/// The tools that a request offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tools {
    /// Sorted; the first 256.
    pub names: Vec<String>,
    pub count: u64,
    /// The same for the same tools; null where there are none.
    pub digest: Option<String>,
}

/// A request body taken apart into messages that are not read yet.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    entries: Vec<Entry>,
    tools: Vec<Range<usize>>,
}

/// One message of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub range: Range<usize>,
    /// Of its bytes, without the marks of a cache that move on with each call.
    pub digest: Digest,
    kind: Option<SegmentKind>,
}

impl Transcript {
    /// Takes a whole body apart, or the front of one that was cut. Instructions come first.
    pub fn of(operation: Operation, dialect: Dialect, body: &[u8]) -> Self {
        let facts = scan::scan_front(operation, dialect, body, DigestSeed(0));
        Self::of_segments(facts.segments, body)
    }

    /// As [`Self::of`], where the body was scanned already.
    pub fn of_segments(segments: Vec<Segment>, body: &[u8]) -> Self {
        let mut this = Self::default();
        for segment in segments {
            match segment.kind {
                SegmentKind::Tools => this.tools.push(segment.range),
                SegmentKind::ResponseFormat | SegmentKind::Schema => {}
                kind => this
                    .entries
                    .push(Entry::of(Some(kind), segment.range, body)),
            }
        }
        if this.entries.is_empty() && !body.is_empty() {
            this.entries.push(Entry::of(None, 0..body.len(), body));
        }
        this.entries
            .sort_by_key(|entry| entry.kind != Some(SegmentKind::Instructions));
        this
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tools in `body`, which this was made of, as they are written there.
    pub fn written_tools(&self, body: &[u8]) -> String {
        let texts = self.tools.iter().filter_map(|range| {
            let text = body.get(range.clone())?;
            let plain = without_marks(text);
            Some(String::from_utf8_lossy(plain.as_deref().unwrap_or(text)).into_owned())
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    /// The names of the tools in `body`, which this was made of.
    pub fn tools(&self, body: &[u8]) -> Tools {
        let texts = || {
            self.tools
                .iter()
                .filter_map(|range| body.get(range.clone()))
        };
        let mut names: Vec<String> = texts().flat_map(tool_names).collect();
        names.sort_unstable();
        let count = names.len() as u64;
        names.truncate(MAX_TOOLS);
        names.iter_mut().for_each(shorten);
        let mut hasher = blake3::Hasher::new();
        texts().for_each(|text| {
            hasher.update(&without_marks(text).unwrap_or_else(|| text.to_vec()));
        });
        let digest = short(&hasher).to_string();
        Tools {
            names,
            count,
            digest: Some(digest).filter(|_| !self.tools.is_empty()),
        }
    }
}

impl Entry {
    fn of(kind: Option<SegmentKind>, range: Range<usize>, body: &[u8]) -> Self {
        let raw = body.get(range.clone()).unwrap_or_default();
        let plain = without_marks(raw);
        let mut hasher = blake3::Hasher::new();
        hasher.update(plain.as_deref().unwrap_or(raw));
        Self {
            digest: short(&hasher),
            kind,
            range,
        }
    }

    /// What part of the request it is; None for a body that is not understood.
    pub fn kind(&self) -> Option<SegmentKind> {
        self.kind
    }

    /// What it says, with up to `most` bytes of each text. `body` is the one it was found in.
    pub fn read(&self, body: &[u8], most: usize) -> Message {
        let raw = body.get(self.range.clone()).unwrap_or_default();
        let text = std::str::from_utf8(raw).ok();
        let message = match (self.kind, text) {
            (Some(SegmentKind::Message), Some(text)) => item::message(text, most),
            (Some(SegmentKind::Instructions), Some(text)) => item::plain(Role::System, text, most),
            (Some(_), Some(text)) => item::plain(Role::User, text, most),
            _ => raw_message(Role::User, raw, most),
        };
        Message {
            bytes: raw.len() as u64,
            place: Some(Place {
                from: self.range.start as u64,
                to: self.range.end as u64,
            }),
            digest: Some(self.digest.to_string()),
            ..message
        }
    }
}

impl Message {
    fn new(role: Role, pieces: Pieces) -> Self {
        let (pieces, left_out) = pieces.finish();
        Self {
            role,
            name: None,
            pieces,
            left_out,
            bytes: 0,
            place: None,
            digest: None,
        }
    }

    /// The first text of it that a person would read.
    pub fn first_text(&self) -> Option<&Piece> {
        let of = |kind| self.pieces.iter().find(move |piece| piece.kind == kind);
        of(Kind::Text)
            .or_else(|| of(Kind::Refusal))
            .or_else(|| of(Kind::Error))
    }

    /// All of it in one text: `user: Weather?`, `assistant: weather({"city":"Rome"})`.
    pub fn words(&self) -> String {
        let pieces = self.pieces.iter().map(|piece| {
            let name = piece.name.as_deref().unwrap_or_default();
            match piece.kind {
                Kind::ToolCall => format!("{name}({})", piece.said.text),
                Kind::Media => format!("[{name} {} bytes]", piece.said.len),
                _ => piece.said.text.clone(),
            }
        });
        let pieces: Vec<String> = pieces.collect();
        let role = format!("{:?}", self.role).to_ascii_lowercase();
        format!("{role}: {}", pieces.join(" "))
    }

    pub fn tool_calls(&self) -> impl Iterator<Item = &Piece> {
        self.pieces
            .iter()
            .filter(|piece| piece.kind == Kind::ToolCall)
    }
}

/// What is no message of any known form.
fn raw_message(role: Role, raw: &[u8], most: usize) -> Message {
    let mut pieces = Pieces::new(most);
    pieces.raw(raw);
    Message::new(role, pieces)
}

fn short(hasher: &blake3::Hasher) -> Digest {
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    Digest::from_bytes(bytes)
}

fn shorten(name: &mut String) {
    name.truncate(front(name, MAX_NAME).len());
}

/// A short text that names something.
fn name(fields: &Fields<'_>, key: &str) -> Option<String> {
    let mut name = fields.string(key)?;
    shorten(&mut name);
    Some(name)
}

#[cfg(test)]
mod tests;
