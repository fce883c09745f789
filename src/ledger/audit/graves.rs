//! Tombstones, and the records that account for them.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::super::record::{Chain, HEADER_LEN, Position};
use super::super::removal::{Erased, Tombstone};
use super::super::storage::Storage;
use super::frames::Frames;
use super::report::FindingKind;

/// A tombstone.
struct Grave {
    chain: Chain,
    hash: [u8; 16],
    offset: u64,
    /// Its number in the segment.
    record: u64,
    /// It says nothing but what a tombstone may.
    is_proper: bool,
    /// The last record that names it knows it as it is.
    is_accounted: bool,
}

/// What one record of a deletion names.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Named {
    pub(super) records: u64,
    /// Of these, lying before the point that was asked about.
    pub(super) reaching: u64,
}

/// Something wrong: where, the number of the record, how.
pub(super) type Wrong = (FindingKind, Position, u64, &'static str);

/// The tombstones of a log.
#[derive(Default)]
pub(super) struct Graves {
    /// Those of each segment that was left, by chain.
    by_segment: BTreeMap<u64, Vec<Grave>>,
    /// Of each segment how many records are there that should be gone.
    undeleted: BTreeMap<u64, u64>,
    /// How far each segment is part of the log.
    limits: Vec<(u64, u64)>,
}

impl Graves {
    pub(super) fn add(&mut self, (at, record): (Position, u64), chain: Chain, payload: &[u8]) {
        let tombstone = Tombstone::parse(super::super::record::kind::TOMBSTONE, payload);
        self.by_segment.entry(at.segment).or_default().push(Grave {
            chain,
            hash: super::super::removal::hash(payload),
            offset: at.offset,
            record,
            is_proper: tombstone.is_some_and(|it| it.is_proper()),
            is_accounted: false,
        });
    }

    /// A segment was gone through, which is part of the log up to `limit`.
    pub(super) fn leave(&mut self, segment: u64, limit: u64) {
        self.limits.push((segment, limit));
        if let Some(graves) = self.by_segment.get_mut(&segment) {
            graves.retain(|grave| grave.offset < limit);
            graves.sort_by_key(|grave| grave.chain.to_bytes());
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.by_segment
            .values()
            .map(|graves| graves.len() as u64)
            .sum()
    }

    /// Takes in what a record of a deletion names in one segment; of several that name one record the
    /// last counts. Says how many of them lie before `point`.
    pub(super) fn name(&mut self, erased: &Erased, point: Option<Position>) -> Named {
        let mut named = Named::default();
        let mut graves = self.by_segment.get_mut(&erased.number);
        for (chain, hash) in erased.iter() {
            named.records += 1;
            let found = graves.as_mut().and_then(|graves| {
                let key = |grave: &Grave| grave.chain.to_bytes();
                let at = graves.binary_search_by_key(&chain.to_bytes(), key).ok()?;
                graves.get_mut(at)
            });
            let offset = if let Some(grave) = found {
                grave.is_accounted = grave.hash == hash;
                grave.offset
            } else {
                *self.undeleted.entry(erased.number).or_default() += 1;
                HEADER_LEN as u64
            };
            let at = Position {
                segment: erased.number,
                offset,
            };
            named.reaching += u64::from(point.is_some_and(|point| at < point));
        }
        named
    }

    /// What is wrong with them, in a log that begins with segment `first`.
    pub(super) fn judge(&self, first: u64) -> Vec<Wrong> {
        let mut found = Vec::new();
        for (segment, grave) in self.each() {
            let words = if !grave.is_proper {
                "what is left of a record says more than a deletion leaves"
            } else if !grave.is_accounted {
                "a record is gone, or what is left of it was changed, and no later record of a deletion \
                 says so"
            } else {
                continue;
            };
            let at = grave.at(segment);
            found.push((FindingKind::ForgedTombstone, at, grave.record, words));
        }
        for segment in self.undeleted.keys().filter(|segment| **segment >= first) {
            let at = Position {
                segment: *segment,
                offset: 0,
            };
            let words = "a record that was to be deleted is here, or its tombstone is gone: the \
                         deletion was not finished, or somebody changed the segment after it";
            found.push((FindingKind::Undeleted, at, 0, words));
        }
        found.sort_by_key(|(_, at, ..)| *at);
        found
    }

    fn each(&self) -> impl Iterator<Item = (u64, &Grave)> {
        let segments = self.by_segment.iter();
        segments.flat_map(|(segment, graves)| graves.iter().map(|grave| (*segment, grave)))
    }

    /// Tombstones that lead back to where the log was before: so records could be put in between. No
    /// other record can, its place in the chain being made of what it says.
    pub(super) fn loops(&self, storage: &dyn Storage, start: Chain) -> io::Result<Vec<Wrong>> {
        let mut met: HashMap<Chain, bool> =
            self.each().map(|(_, grave)| (grave.chain, false)).collect();
        let mut found = Vec::new();
        if met.is_empty() {
            return Ok(found);
        }
        met.insert(start, true);
        for (number, limit) in &self.limits {
            let mut frames = Frames::open(storage, (*number, *limit))?;
            let (mut offset, mut record) = (HEADER_LEN as u64, 0);
            while let Some((chain, len)) = frames.chain_at(offset)? {
                if let Some(met) = met.get_mut(&chain)
                    && std::mem::replace(met, true)
                {
                    let at = Position {
                        segment: *number,
                        offset,
                    };
                    let words = "the log was at this point of its chain before: records were put in \
                                 between";
                    found.push((FindingKind::Inserted, at, record, words));
                }
                offset += len;
                record += 1;
            }
        }
        Ok(found)
    }
}

impl Grave {
    fn at(&self, segment: u64) -> Position {
        Position {
            segment,
            offset: self.offset,
        }
    }
}
