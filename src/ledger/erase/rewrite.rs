//! A segment is written anew, with tombstones where records were.

use std::collections::HashMap;
use std::io;

use super::super::log::Segment;
use super::super::record::{Chain, Frame, Frames, HEADER_LEN, kind, parse_frame};
use super::super::removal::{Erased, Tombstone, hash};
use super::super::storage::Storage;
use super::rules::Rules;

/// Writes a segment anew, up to `next`, from where the next one goes on, unless that is done.
pub(super) fn segment(
    storage: &dyn Storage,
    (segment, next): (&Segment, Option<Chain>),
    erased: &Erased,
    rules: &Rules,
) -> io::Result<()> {
    let Some(start) = segment.continues() else {
        return Ok(());
    };
    let mut bytes = vec![0; usize::try_from(segment.len).map_err(io::Error::other)?];
    let filled = storage.open(segment.number)?.read_at(0, &mut bytes)?;
    bytes.truncate(filled);
    let rewritten = rewrite(&bytes, (start, next), erased, rules);
    if rewritten == bytes {
        return Ok(());
    }
    storage.replace(segment.number, &rewritten)
}

fn rewrite(
    bytes: &[u8],
    (start, next): (Chain, Option<Chain>),
    erased: &Erased,
    rules: &Rules,
) -> Vec<u8> {
    let listed: HashMap<Chain, [u8; 16]> = erased.iter().collect();
    let (head, mut rest) = bytes.split_at_checked(HEADER_LEN).unwrap_or((bytes, &[]));
    let mut frames = Frames {
        bytes: head.to_vec(),
        ..Frames::default()
    };
    let mut before = start;
    let mut left = (next.is_none() || next == Some(before)).then_some(head.len());
    while let Some(frame) = parse_frame(rest) {
        let (whole, behind) = rest.split_at_checked(frame.len()).unwrap_or((rest, &[]));
        match listed.get(&frame.chain) {
            Some(hash) if !is_done(&frame, *hash) => {
                let earlier = Tombstone::parse(frame.kind, frame.payload);
                let (kind, payload) = match &earlier {
                    None => (frame.kind, frame.payload),
                    Some(it) => it.residue().unwrap_or((kind::TOMBSTONE, &[])),
                };
                let residue = rules.residue(kind, payload);
                let tombstone = Tombstone::of(kind, payload.len(), before, residue);
                frames.push_tombstone(frame.chain, &tombstone.to_bytes());
            }
            _ => frames.bytes.extend_from_slice(whole),
        }
        before = frame.chain;
        rest = behind;
        if next.is_none_or(|next| next == before) {
            left = Some(frames.bytes.len());
        }
    }
    match left {
        Some(left) => {
            frames.bytes.truncate(left);
            frames.bytes
        }
        // What is not understood is not thrown away.
        None => bytes.to_vec(),
    }
}

/// Whether a deletion that goes on came this far before.
fn is_done(frame: &Frame<'_>, left: [u8; 16]) -> bool {
    frame.kind == kind::TOMBSTONE && hash(frame.payload) == left
}
