//! What a damaged place is known by, so that whoever looked into it can say so once.

use std::io;
use std::ops::Range;

use super::super::record::Chain;
use super::super::storage::Storage;
use super::Anchor;
use super::report::FindingKind;

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 16;

/// What accepts a finding of `kind` about these bytes of a segment: as long as they stay what they are,
/// where they are.
pub(super) fn accept(
    storage: &dyn Storage,
    (segment, kind): (u64, FindingKind),
    bytes: Range<u64>,
) -> io::Result<Anchor> {
    let kind: &'static str = kind.into();
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_bytes());
    hasher.update(&bytes.start.to_le_bytes());
    let mut file = storage.open(segment)?;
    let mut at = bytes.start;
    while at < bytes.end {
        let len = usize::try_from(CHUNK.min(bytes.end - at)).map_err(io::Error::other)?;
        let mut chunk = vec![0; len];
        let filled = file.read_at(at, &mut chunk)?;
        hasher.update(chunk.get(..filled).unwrap_or_default());
        if filled == 0 {
            break;
        }
        at += filled as u64;
    }
    let mut chain = [0; 16];
    hasher.finalize_xof().fill(&mut chain);
    Ok(Anchor {
        segment,
        chain: Chain::of(chain),
    })
}
