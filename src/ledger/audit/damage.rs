//! What a damaged place is known by, so that whoever looked into it can say so once.

use std::io;
use std::ops::Range;

use super::super::log::Segment;
use super::super::record::Chain;
use super::super::storage::Storage;
use super::Anchor;
use super::report::FindingKind;

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 16;

/// What the log has on both sides of damage, where nothing else holds the two together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Around<'s> {
    /// The chain up to it: without that all records before it could be made anew.
    before: Option<Chain>,
    /// The next segment, where no record comes between: without that some could be taken out.
    next: Option<&'s Segment>,
}

impl<'s> Around<'s> {
    pub(super) fn of(before: Option<Chain>, next: Option<&'s Segment>) -> Self {
        Self { before, next }
    }

    fn hash(self, hasher: &mut blake3::Hasher) {
        let next = self.next.map(|next| next.number.to_le_bytes());
        let chains = [self.before, self.next.and_then(Segment::continues)];
        let chains = chains.map(|chain| chain.map(Chain::to_bytes));
        let parts = [
            next.as_ref().map(<[u8; 8]>::as_slice),
            chains[0].as_ref().map(<[u8; 16]>::as_slice),
            chains[1].as_ref().map(<[u8; 16]>::as_slice),
        ];
        for part in parts {
            hasher.update(&[u8::from(part.is_some())]);
            hasher.update(part.unwrap_or_default());
        }
    }
}

/// What accepts a finding of `kind` about these bytes of a segment: as long as they stay what they are,
/// where they are, with that around them.
pub(super) fn accept(
    storage: &dyn Storage,
    (segment, kind): (u64, FindingKind),
    bytes: Range<u64>,
    around: Around<'_>,
) -> io::Result<Anchor> {
    let kind: &'static str = kind.into();
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_bytes());
    hasher.update(&bytes.start.to_le_bytes());
    around.hash(&mut hasher);
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
