//! The messages of a request: what stands for each, and what the new ones say.

use super::recognise::Request;
use crate::core::call::Operation;
use crate::core::digest::Digest;
use crate::core::lineage::Told;
use crate::wire::marks::without_marks;
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
