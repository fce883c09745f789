//! Bodies reduced to what the rules compare: digests, sizes, names.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use memchr::memmem;
use rustc_hash::{FxHashMap, FxHasher};

use super::offer;
use super::part::{Looked, look};
use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::suggest::facts::{Answered, Caching, Part, PartKind, Sent, Tool};
use crate::core::suggest::words::Words;
use crate::ledger::{Body, CallRow};
use crate::wire::decode::decode_all;
use crate::wire::marks::without_marks;
use crate::wire::readable::{self, Kind};
use crate::wire::route::{Dialect, route};
use crate::wire::scan::{RequestFacts, Segment, SegmentKind, scan_front};

/// Digests are compared within one look alone.
pub(super) const SEED: DigestSeed = DigestSeed(0x5169_6e73);
const MAX_DECODED: usize = 64 << 20;
/// Messages that are remembered.
const MAX_KNOWN: usize = 200_000;
/// Bytes of a text in an answer that are looked at.
const ANSWER: usize = 64 << 10;

/// Looks into bodies, into each message once.
#[derive(Default)]
pub(super) struct Contents {
    known: FxHashMap<Digest, Looked>,
    tools: FxHashMap<Digest, Arc<Vec<Tool>>>,
    /// Bytes of memory that what was read takes.
    size: usize,
}

impl Contents {
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// None where it is not whole, or no request to a model that is understood.
    pub(super) fn sent(&mut self, row: &CallRow, body: Body) -> Option<Sent> {
        let bytes = plain(body)?;
        let dialect = dialect(row);
        let facts = scan_front(row.operation, dialect, &bytes, SEED);
        let mut sent = Sent {
            body: SEED.digest(&bytes),
            parts: Vec::new(),
            tools: None,
            earlier: earlier(&facts),
            besides: besides(&facts),
            has_unseen: false,
            caching: caching(row, dialect, &bytes),
            asked: None,
        };
        let segments = ordered(facts.segments);
        for segment in &segments {
            self.part(&mut sent, segment, bytes.get(segment.range.clone())?);
        }
        let is_answered =
            |part: &Part| matches!(part.kind, PartKind::Assistant | PartKind::ToolResult);
        if let Some(last) = segments.last()
            && sent.earlier.is_none()
            && !sent.parts.iter().any(is_answered)
        {
            sent.asked = super::part::asked(last, bytes.get(last.range.clone())?).map(Arc::new);
        }
        self.size += sent.parts.len() * size_of::<Part>();
        self.size += sent.asked.as_ref().map_or(0, |words| words.size());
        (!sent.parts.is_empty()).then_some(sent)
    }

    fn part(&mut self, sent: &mut Sent, segment: &Segment, raw: &[u8]) {
        let digest = match without_marks(raw) {
            Some(raw) => SEED.digest(&raw),
            None => segment.digest,
        };
        if !self.known.contains_key(&digest) {
            self.learn(segment, digest, raw);
        }
        let Some(looked) = self.known.get(&digest) else {
            return;
        };
        if looked.kind == PartKind::Tools {
            sent.tools = self.tools.get(&digest).cloned();
        }
        sent.has_unseen |= looked.has_unseen;
        let text = raw.len().saturating_sub(segment.payload_bytes);
        sent.parts.push(Part {
            kind: looked.kind,
            digest,
            shape: looked.shape,
            bytes: u32::try_from(text).unwrap_or(u32::MAX),
            steady: looked.steady,
            words: looked.words.clone(),
            calls: looked.calls.clone(),
            is_nudge: looked.is_nudge,
        });
    }

    fn learn(&mut self, segment: &Segment, digest: Digest, raw: &[u8]) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
            self.tools.clear();
        }
        let looked = look(segment, digest, raw);
        if looked.kind == PartKind::Tools {
            self.tools.insert(digest, Arc::new(offer::tools(raw)));
        }
        self.size += looked.words.as_ref().map_or(0, |words| words.size());
        self.known.insert(digest, looked);
    }

    /// None where it is not whole.
    pub(super) fn answered(&mut self, body: Body) -> Option<Answered> {
        let content_type = body.content_type.clone();
        let bytes = plain(body)?;
        let mut answered = Answered::default();
        let mut texts = String::new();
        let mut is_cut = false;
        for message in readable::answer(&bytes, content_type.as_deref(), ANSWER) {
            is_cut |= message.left_out > 0;
            for piece in message.pieces {
                if piece.kind == Kind::Media {
                    continue;
                }
                is_cut |= piece.said.is_cut;
                texts.push_str(&piece.said.text);
                texts.push('\n');
                if piece.kind == Kind::ToolCall {
                    let name = piece.name.unwrap_or_default();
                    answered.calls.push((name, hash(&piece.said.text)));
                }
            }
        }
        let words = Words::of(&texts);
        answered.words = if is_cut { words.cut() } else { words };
        self.size += answered.words.size();
        Some(answered)
    }
}

/// The text of one part of a request.
pub(super) fn text_of(row: &CallRow, body: Body, index: usize) -> Option<String> {
    let bytes = plain(body)?;
    let facts = scan_front(row.operation, dialect(row), &bytes, SEED);
    let segment = ordered(facts.segments).into_iter().nth(index)?;
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

fn is_form(segment: &Segment) -> bool {
    matches!(
        segment.kind,
        SegmentKind::ResponseFormat | SegmentKind::Schema
    )
}

/// In the order in which caches take them: tools, instructions, messages.
fn ordered(mut segments: Vec<Segment>) -> Vec<Segment> {
    segments.retain(|it| !is_form(it));
    segments.sort_by_key(|segment| match segment.kind {
        SegmentKind::Tools => 0,
        SegmentKind::Instructions => 1,
        _ => 2,
    });
    segments
}

/// What of earlier turns is kept by the provider.
fn earlier(facts: &RequestFacts) -> Option<Digest> {
    let response = facts.previous_response_id.as_deref();
    let id = response.or(facts.conversation.as_deref())?;
    Some(SEED.digest(id.as_bytes()))
}

fn besides(facts: &RequestFacts) -> u64 {
    let forms = facts.segments.iter().filter(|it| is_form(it));
    forms.map(|it| it.range.len() as u64).sum()
}

/// Anthropic caches what has a mark, whoever sells it; others by themselves.
fn caching(row: &CallRow, dialect: Dialect, bytes: &[u8]) -> Caching {
    let model = row.model.as_ref().map_or("", |model| model.as_str());
    if memmem::find(bytes, b"\"cache_control\"").is_some() {
        Caching::Asked
    } else if dialect == Dialect::Messages || model.contains("claude") {
        Caching::NotAsked
    } else {
        Caching::Automatic
    }
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

fn hash(text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    text.hash(&mut hasher);
    hasher.finish()
}
