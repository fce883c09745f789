//! Where one request parts from another, and what stays the same behind that.

use super::facts::{Part, PartKind, Sent};

/// Messages that may have been put in or dropped at one place.
const SHIFT: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    Volatile,
    Reordered,
    Rewritten,
    Inserted,
    Dropped,
}

/// Where a request parts from one before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Break {
    pub(super) part: usize,
    pub(super) kind: PartKind,
    pub(super) how: How,
    /// Bytes in front of it, and bytes that would be cached if it stayed the same.
    pub(super) kept: u64,
    pub(super) could: u64,
}

/// None where nothing of what was sent before stands otherwise now. A part that differs is a loss
/// only for what comes behind it: at the end it is what is new.
pub(super) fn part_from(before: &Sent, now: &Sent) -> Option<Break> {
    let mut pairs = before.parts.iter().zip(&now.parts);
    let part = pairs.position(|(one, other)| one.digest != other.digest)?;
    let (old, new) = (before.parts.get(part..)?, now.parts.get(part..)?);
    let (was, is) = (old.first()?, new.first()?);
    let kept = size(now.parts.get(..part)?);
    let stays = |how, itself, follows| Break {
        part,
        kind: is.kind,
        how,
        kept,
        could: kept + itself + follows,
    };
    let replaced = same(old.get(1..)?, new.get(1..)?);
    let is_fixed = matches!(is.kind, PartKind::Tools | PartKind::System);
    if is_fixed && was.kind == is.kind && was.shape == is.shape && new.len() > 1 {
        let (how, itself) = match is.kind {
            PartKind::Tools => (How::Reordered, is.bytes),
            _ => (How::Volatile, is.steady),
        };
        return Some(stays(how, u64::from(itself), replaced));
    }
    // Who leaves most of a message out saves more than the cache would have held.
    if replaced > 0 && was.kind == is.kind && is.bytes >= was.bytes / 2 {
        return Some(stays(How::Rewritten, 0, replaced));
    }
    Some(
        moved(old, new).map_or(stays(How::Rewritten, 0, 0), |(how, follows)| {
            stays(how, 0, follows)
        }),
    )
}

/// What follows where a few messages were put in or dropped, in bytes.
fn moved(old: &[Part], new: &[Part]) -> Option<(How, u64)> {
    for by in 1..=SHIFT {
        let inserted = same(old, new.get(by..).unwrap_or_default());
        if inserted > 0 {
            return Some((How::Inserted, inserted));
        }
        let (dropped, left) = old.split_at_checked(by).unwrap_or((old, &[]));
        let follows = same(left, new);
        // Who drops much at once has done as he should.
        if follows > 0 && size(dropped) * 10 <= follows {
            return Some((How::Dropped, follows));
        }
    }
    None
}

/// Bytes of the parts at the front of both that are the same.
fn same(old: &[Part], new: &[Part]) -> u64 {
    let pairs = old.iter().zip(new);
    let pairs = pairs.take_while(|(one, other)| one.digest == other.digest);
    pairs.map(|(_, part)| u64::from(part.bytes)).sum()
}

fn size(parts: &[Part]) -> u64 {
    parts.iter().map(|part| u64::from(part.bytes)).sum()
}
