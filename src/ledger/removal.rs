//! What was taken out of the log, and on whose word: the record that makes a gap no tampering.
//!
//! Such a record is written, and is on disk, before anything goes.

use std::io;

use minicbor::{Decode, Encode};

use crate::core::time::Timestamp;

use super::record::{Chain, Event, may_leave};

/// Something is about to be taken out of the log. Its numbers begin at 20, so that it is never taken
/// for an event or an act.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Removal {
    #[n(20)]
    pub(crate) at: Timestamp,
    /// Who wanted it: the program itself, or an operator.
    #[n(21)]
    pub(crate) who: String,
    /// In one sentence, for whoever reads the events.
    #[n(22)]
    pub(crate) details: String,
    #[n(23)]
    pub(crate) what: Removed,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Removed {
    /// All segments before `before`, which goes on from `chain`.
    #[n(0)]
    Front {
        #[n(0)]
        before: u64,
        #[n(1)]
        chain: Chain,
    },
    /// These records, at somebody's wish. A deletion has one such record for each segment, and more
    /// for one with more than [`Erased::MOST`]; they are alike in all else.
    #[n(1)]
    Records {
        #[n(0)]
        segments: Vec<Erased>,
    },
}

impl Removal {
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        minicbor::decode(payload).ok()
    }
}

impl From<Removal> for Event {
    fn from(removal: Removal) -> Self {
        let what = match removal.what {
            Removed::Front { .. } => Event::SEGMENTS_RETIRED,
            Removed::Records { .. } => "calls_deleted",
        };
        Self {
            at: removal.at,
            who: removal.who,
            what: what.to_owned(),
            details: Some(removal.details),
            trip: None,
            signal: None,
        }
    }
}

/// Which records of one segment go. Each is known by its place in the chain; what is left of it is
/// vouched for by a hash.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Erased {
    #[n(0)]
    pub(crate) number: u64,
    /// The chain after each, and the hash of its tombstone: 32 bytes a record.
    #[cbor(n(1), with = "minicbor::bytes")]
    entries: Vec<u8>,
}

impl Erased {
    /// Bytes of one.
    pub(crate) const ENTRY: usize = 32;
    /// So many are listed in one record, which is read as a whole; few in tests, which then meet that.
    pub(crate) const MOST: usize = if cfg!(test) { 8 } else { 1 << 16 };

    pub(crate) fn of(number: u64) -> Self {
        Self {
            number,
            entries: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, chain: Chain, tombstone: &Tombstone) {
        self.entries.extend_from_slice(&chain.to_bytes());
        self.entries.extend_from_slice(&hash(&tombstone.to_bytes()));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= Self::MOST * Self::ENTRY
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Chain, [u8; 16])> {
        let (pairs, _) = self.entries.as_chunks::<16>();
        let (pairs, _) = pairs.as_chunks::<2>();
        pairs.iter().map(|[chain, hash]| (Chain::of(*chain), *hash))
    }
}

/// The hash of a tombstone's payload.
pub(crate) fn hash(payload: &[u8]) -> [u8; 16] {
    let mut hash = [0; 16];
    blake3::Hasher::new()
        .update(payload)
        .finalize_xof()
        .fill(&mut hash);
    hash
}

/// What stands where a record was.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Tombstone {
    /// What the record was.
    #[n(0)]
    kind: u8,
    /// How many bytes it had.
    #[n(1)]
    len: u64,
    /// The chain it followed from: what is before it cannot be changed either.
    #[n(2)]
    pub(crate) before: Chain,
    #[n(3)]
    residue: Option<Residue>,
}

/// What a tombstone still says: a record of some kind, without what was to go.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Residue {
    #[n(0)]
    kind: u8,
    #[cbor(n(1), with = "minicbor::bytes")]
    payload: Vec<u8>,
}

impl Residue {
    pub(crate) fn of(kind: u8, record: &impl Encode<()>) -> io::Result<Self> {
        let payload = minicbor::to_vec(record).map_err(io::Error::other)?;
        Ok(Self { kind, payload })
    }
}

impl Tombstone {
    pub(crate) fn of(kind: u8, len: usize, before: Chain, residue: Option<Residue>) -> Self {
        Self {
            kind,
            len: len as u64,
            before,
            residue,
        }
    }

    pub(crate) fn parse(kind: u8, payload: &[u8]) -> Option<Self> {
        let is_one = kind == super::record::kind::TOMBSTONE;
        is_one.then(|| minicbor::decode(payload).ok()).flatten()
    }

    /// Whether it says nothing but what a tombstone may.
    pub(crate) fn is_proper(&self) -> bool {
        let left = self.residue.as_ref();
        left.is_none_or(|left| may_leave(self.kind, left.kind, &left.payload))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Writing into a Vec cannot fail.
        minicbor::to_vec(self).unwrap_or_default()
    }
}
