//! The messages of a request: what stands for each, and what the new ones say.

use memchr::memmem;

use super::recognise::Request;
use crate::core::call::Operation;
use crate::core::digest::Digest;
use crate::core::lineage::Told;
use crate::wire::message::{self, Message};
use crate::wire::scan::{Segment, SegmentKind};

/// New messages of one request that are looked at: the last ones.
const MAX_NEW: usize = 32;
/// Messages at the end in which a client may have moved a mark of its cache.
const MARKED: usize = 6;
/// A message of so many bytes is nobody else's by chance.
const TELLING: usize = 96;

/// The messages of a request, each with what stands for it; without a first one that is the agent's
/// instructions, which may tell the time.
pub(super) fn transcript<'a>(request: &Request<'a>, skips_first: bool) -> Vec<(&'a Segment, Told)> {
    let segments = request.facts.segments.iter();
    let segments: Vec<&Segment> = segments
        .filter(|it| is_message(it))
        .skip(usize::from(skips_first))
        .collect();
    let plain = segments.len().saturating_sub(MARKED);
    let may_be_marked = matches!(request.operation, Operation::Messages | Operation::Chat);
    let hashed = segments.into_iter().enumerate().map(|(at, segment)| {
        let raw = request.text.get(segment.range.clone());
        let raw = raw.filter(|_| may_be_marked && at >= plain);
        let plain = raw.and_then(without_marks);
        let digest = plain.map_or(segment.digest, |plain| request.seed.digest(&plain));
        let told = Told {
            hash: fold(digest),
            tells: segment.range.len() >= TELLING,
        };
        (segment, told)
    });
    hashed.collect()
}

/// A message without the marks that say up to where a cache reaches: they move on with each call.
/// None where there are none.
fn without_marks(raw: &[u8]) -> Option<Vec<u8>> {
    const MARK: &[u8] = b"\"cache_control\"";
    let mut at = Some(memmem::find(raw, MARK)?);
    let mut rest = raw;
    let mut kept: Vec<u8> = Vec::new();
    while let Some(start) = at {
        let (front, tail) = rest.split_at(start);
        let front = front.trim_ascii_end();
        rest = tail.get(mark_len(tail)?..)?;
        // One of the commas around it goes too.
        if let Some(front) = front.strip_suffix(b",") {
            kept.extend_from_slice(front);
        } else {
            kept.extend_from_slice(front);
            let next = rest.trim_ascii_start();
            rest = next.strip_prefix(b",").unwrap_or(rest);
        }
        at = memmem::find(rest, MARK);
    }
    kept.extend_from_slice(rest);
    Some(kept)
}

/// The length of a mark with its value, which is an object or one word.
fn mark_len(text: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', text)?;
    let value = text.get(colon + 1..)?;
    let len = match value.trim_ascii_start().first()? {
        b'{' => memchr::memchr(b'}', value)? + 1,
        _ => memchr::memchr2(b',', b'}', value)?,
    };
    Some(colon + 1 + len)
}

/// The messages behind the first `known` ones, as far as they are understood.
pub(super) fn new_messages(
    request: &Request<'_>,
    messages: &[(&Segment, Told)],
    known: usize,
) -> Vec<Message> {
    let from = known.max(messages.len().saturating_sub(MAX_NEW));
    let new = messages.get(from..).unwrap_or_default().iter();
    let read = new.filter_map(|(segment, _)| {
        message::read(segment.kind, request.text.get(segment.range.clone())?)
    });
    read.collect()
}

fn is_message(segment: &Segment) -> bool {
    matches!(segment.kind, SegmentKind::Message | SegmentKind::Input)
}

pub(super) fn fold(digest: Digest) -> u64 {
    let front = digest.to_bytes().first_chunk().copied();
    u64::from_le_bytes(front.unwrap_or_default())
}
