//! Bodies reduced to what the rules compare: digests, sizes, names.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};
use serde_json::value::RawValue;

use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::suggest::facts::{Answered, Part, PartKind, Sent, Tool};
use crate::ledger::{Body, CallRow};
use crate::wire::decode::decode_all;
use crate::wire::marks::without_marks;
use crate::wire::message::{self, Piece, Role};
use crate::wire::readable::{self, Kind};
use crate::wire::route::{Dialect, route};
use crate::wire::scan::{Segment, SegmentKind, scan_front};

/// Digests are compared within one look alone.
const SEED: DigestSeed = DigestSeed(0x5169_6e73);
const MAX_DECODED: usize = 64 << 20;
/// Messages that are remembered.
const MAX_KNOWN: usize = 200_000;
/// Bytes of a text in an answer that are looked at.
const ANSWER: usize = 16 << 10;
/// Shorter lines come again by chance.
const MIN_LINE: usize = 24;
const MAX_LINES: usize = 64;

/// Looks into bodies, into each message once.
#[derive(Default)]
pub(super) struct Contents {
    known: FxHashMap<Digest, (PartKind, Digest)>,
    tools: FxHashMap<Digest, Arc<Vec<Tool>>>,
}

impl Contents {
    /// None where it is not whole, or no request to a model that is understood.
    pub(super) fn sent(&mut self, row: &CallRow, body: Body) -> Option<Sent> {
        let bytes = plain(body)?;
        let mut sent = Sent {
            body: SEED.digest(&bytes),
            parts: Vec::new(),
            tools: None,
            lines: Arc::default(),
        };
        for segment in segments(row, &bytes) {
            let raw = bytes.get(segment.range.clone())?;
            let digest = match without_marks(raw) {
                Some(raw) => SEED.digest(&raw),
                None => segment.digest,
            };
            let (kind, shape) = self.look(&segment, digest, raw);
            if kind == PartKind::Tools {
                sent.tools = self.tools.get(&digest).cloned();
            }
            sent.parts.push(Part {
                kind,
                digest,
                shape,
                bytes: u32::try_from(raw.len()).unwrap_or(u32::MAX),
            });
            sent.lines = Arc::default();
            if kind == PartKind::User {
                let text = String::from_utf8_lossy(raw).replace("\\n", "\n");
                sent.lines = lines(&text).into();
            }
        }
        (!sent.parts.is_empty()).then_some(sent)
    }

    fn look(&mut self, segment: &Segment, digest: Digest, raw: &[u8]) -> (PartKind, Digest) {
        if let Some(known) = self.known.get(&digest) {
            return *known;
        }
        let looked = if segment.kind == SegmentKind::Tools {
            let tools = tools(raw);
            let mut texts = elements(raw);
            texts.sort_unstable();
            self.tools.insert(digest, Arc::new(tools));
            (PartKind::Tools, SEED.digest(texts.join("\n").as_bytes()))
        } else {
            (role(segment.kind, raw), SEED.digest(&shape(raw)))
        };
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
            self.tools.clear();
        }
        self.known.insert(digest, looked);
        looked
    }

    /// None where it is not whole.
    pub(super) fn answered(body: Body) -> Option<Answered> {
        let content_type = body.content_type.clone();
        let bytes = plain(body)?;
        let mut answered = Answered::default();
        for message in readable::answer(&bytes, content_type.as_deref(), ANSWER) {
            for piece in message.pieces {
                let text = piece.said.text.as_str();
                match piece.kind {
                    Kind::ToolCall => {
                        let name = piece.name.unwrap_or_default();
                        answered.calls.push((name, hash(text)));
                    }
                    Kind::Text => answered.lines.extend(lines(text)),
                    _ => {}
                }
            }
        }
        Some(answered)
    }
}

/// The text of one part of a request.
pub(super) fn text_of(row: &CallRow, body: Body, index: usize) -> Option<String> {
    let bytes = plain(body)?;
    let segment = segments(row, &bytes).into_iter().nth(index)?;
    let raw = bytes.get(segment.range)?;
    let raw = without_marks(raw).unwrap_or_else(|| raw.to_vec());
    Some(String::from_utf8_lossy(&raw).into_owned())
}

fn plain(mut body: Body) -> Option<Vec<u8>> {
    if body.truncated || body.bytes.is_empty() {
        return None;
    }
    match body.content_encoding.take() {
        Some(encoding) => decode_all(&encoding, &body.bytes, MAX_DECODED).ok(),
        None => Some(body.bytes),
    }
}

/// In the order in which caches take them: tools, instructions, messages.
fn segments(row: &CallRow, bytes: &[u8]) -> Vec<Segment> {
    let facts = scan_front(row.operation, dialect(row), bytes, SEED);
    let mut segments = facts.segments;
    segments.retain(|it| !matches!(it.kind, SegmentKind::ResponseFormat | SegmentKind::Schema));
    segments.sort_by_key(|segment| match segment.kind {
        SegmentKind::Tools => 0,
        SegmentKind::Instructions => 1,
        _ => 2,
    });
    segments
}

fn dialect(row: &CallRow) -> Dialect {
    match row.operation {
        Operation::Other | Operation::WebSocket => Dialect::Other,
        _ => {
            let method = row.method.parse();
            method.map_or(Dialect::Other, |method| route(&method, &row.target).dialect)
        }
    }
}

fn role(kind: SegmentKind, raw: &[u8]) -> PartKind {
    let Some(message) = message::read(kind, raw) else {
        return PartKind::User;
    };
    let is_result = |piece: &Piece| matches!(piece, Piece::Result { .. });
    match message.role {
        Role::Tool => PartKind::ToolResult,
        _ if message.pieces.iter().any(is_result) => PartKind::ToolResult,
        Role::System => PartKind::System,
        Role::User => PartKind::User,
        Role::Assistant => PartKind::Assistant,
    }
}

/// What is left when words with a digit in them are taken out: times, ids, numbers.
fn shape(raw: &[u8]) -> Vec<u8> {
    let is_of_word = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'.' | b'_' | b'/' | b'+')
    };
    let mut left = Vec::with_capacity(raw.len());
    for word in raw.split_inclusive(|byte| !is_of_word(byte)) {
        if word.iter().any(u8::is_ascii_digit) {
            left.push(b'#');
            left.extend(word.last().filter(|byte| !is_of_word(byte)));
        } else {
            left.extend_from_slice(word);
        }
    }
    left
}

fn elements(raw: &[u8]) -> Vec<String> {
    let tools: Vec<&RawValue> = serde_json::from_slice(raw).unwrap_or_default();
    tools
        .into_iter()
        .map(|tool| tool.get().to_owned())
        .collect()
}

/// Each element with its name; one that declares several has none that could be told apart.
fn tools(raw: &[u8]) -> Vec<Tool> {
    let named = |text: &String| {
        let names = message::tool_names(format!("[{text}]").as_bytes());
        let [name] = names.as_slice() else {
            return None;
        };
        Some(Tool {
            name: name.clone(),
            bytes: u32::try_from(text.len()).unwrap_or(u32::MAX),
        })
    };
    elements(raw).iter().filter_map(named).collect()
}

fn lines(text: &str) -> Vec<u64> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| line.len() >= MIN_LINE);
    lines.take(MAX_LINES).map(hash).collect()
}

fn hash(text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    text.hash(&mut hasher);
    hasher.finish()
}
