//! Tombstones, and the records that account for them.

use std::collections::HashMap;

use super::super::record::{Chain, Position};
use super::super::removal::Removal;
use super::report::FindingKind;

/// A tombstone: where it is, its number in the segment, its hash.
type Grave = (Position, u64, [u8; 16]);

/// The tombstones of a log.
#[derive(Default)]
pub(super) struct Graves(HashMap<[u8; 16], Grave>);

impl Graves {
    pub(super) fn add(&mut self, chain: Chain, grave: Grave) {
        self.0.insert(chain.to_bytes(), grave);
    }

    /// What is wrong with them. A tombstone counts only where a later record names it, and says what
    /// is left in it; of several the last does.
    pub(super) fn judge(
        &self,
        removals: &[(u64, Removal)],
        first: u64,
    ) -> Vec<(FindingKind, Position, u64, &'static str)> {
        let mut named = HashMap::new();
        for (segment, removal) in removals {
            for erased in removal.erased().iter().filter(|it| it.number < *segment) {
                for (chain, hash) in erased.iter() {
                    named.insert(chain.to_bytes(), (erased.number, hash));
                }
            }
        }
        let mut found = Vec::new();
        for (chain, (at, record, hash)) in &self.0 {
            let accounted = named
                .get(chain)
                .is_some_and(|it| *it == (at.segment, *hash));
            if !accounted {
                let words = "a record is gone, or what is left of it was changed, and no later record \
                             of a deletion says so";
                found.push((FindingKind::ForgedTombstone, *at, *record, words));
            }
        }
        for (chain, (segment, _)) in &named {
            if *segment >= first && !self.0.contains_key(chain) {
                let at = Position {
                    segment: *segment,
                    offset: 0,
                };
                let words = "a record that was to be deleted is here, or its tombstone is gone: the \
                             deletion was not finished, or somebody changed the segment after it";
                found.push((FindingKind::Undeleted, at, 0, words));
            }
        }
        found.sort_by_key(|(_, at, ..)| *at);
        found
    }
}
