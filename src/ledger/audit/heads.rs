//! The heads of segments, which no chain covers: a record in the segment says the same, and where there
//! is none, as in those of older versions, the records around it say when it can have been begun.

use std::collections::HashMap;
use std::io;

use crate::core::time::Timestamp;

use super::super::record::{Begun, Header};
use super::super::storage::Storage;
use super::times::{self, Timed};

/// Records wait before they are written, and clocks are set: nobody gains by moving a segment so
/// little.
const SLACK_US: i64 = 3_600_000_000;

struct Head {
    number: u64,
    /// None where it cannot be read.
    header: Option<Header>,
    /// A record says what it says.
    is_on_record: bool,
    first: Option<Timed>,
    last: Option<Timed>,
}

/// The heads of a log, in order.
#[derive(Default)]
pub(super) struct Heads(Vec<Head>);

impl Heads {
    pub(super) fn enter(&mut self, number: u64, header: Option<Header>) {
        self.0.push(Head {
            number,
            header,
            is_on_record: false,
            first: None,
            last: None,
        });
    }

    /// Takes in what a record says of the head of its segment; false where that says otherwise.
    pub(super) fn compare(&mut self, payload: &[u8]) -> bool {
        let begun: Option<Begun> = minicbor::decode(payload).ok();
        let Some((head, begun)) = self.0.last_mut().zip(begun) else {
            return true;
        };
        head.is_on_record = true;
        head.header.is_none_or(|header| begun.says(&header))
    }

    pub(super) fn pass(&mut self, timed: Timed) {
        if let Some(head) = self.0.last_mut() {
            head.first.get_or_insert(timed);
            head.last = Some(timed);
        }
    }

    /// Segments whose heads cannot be what was written, and why.
    pub(super) fn judge(&self, storage: &dyn Storage) -> io::Result<Vec<(u64, String)>> {
        let mut found = Vec::new();
        let usual = self.usual_seed();
        for (index, head) in self.0.iter().enumerate() {
            let Some(header) = head.header.filter(|_| !head.is_on_record) else {
                continue;
            };
            if Some(header.seed.0) != usual {
                let words = "its head has another secret than those of the other segments";
                found.push((head.number, words.to_owned()));
            }
            if let Some(words) = self.misdated(storage, index, header.created_at)? {
                found.push((head.number, words));
            }
        }
        Ok(found)
    }

    /// The secret of a directory never changes.
    fn usual_seed(&self) -> Option<u64> {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        for header in self.0.iter().filter_map(|head| head.header) {
            *counts.entry(header.seed.0).or_default() += 1;
        }
        let usual = counts
            .into_iter()
            .max_by_key(|(seed, count)| (*count, *seed));
        usual.map(|(seed, _)| seed)
    }

    /// What is wrong with when it says that it was begun.
    fn misdated(
        &self,
        storage: &dyn Storage,
        index: usize,
        at: Timestamp,
    ) -> io::Result<Option<String>> {
        let (earlier, rest) = self.0.split_at(index);
        let Some((own, later)) = rest.split_first() else {
            return Ok(None);
        };
        let before = earlier.iter().rev().find_map(|head| head.last);
        let after = later.iter().find_map(|head| head.first);
        let around = [before, own.first, own.last, after];
        let mut times = Vec::new();
        for timed in around.into_iter().flatten() {
            times.extend(times::read(storage, timed)?);
        }
        let (Some(earliest), Some(latest)) = (times.iter().min(), times.iter().max()) else {
            return Ok(None);
        };
        // Where nothing lies on that side, nobody knows how long it stood open.
        let is_early = before.is_some() && at.micros() < earliest.micros() - SLACK_US;
        let is_late = after.is_some() && at.micros() > latest.micros() + SLACK_US;
        Ok((is_early || is_late).then(|| {
            format!(
                "its head says that it was begun at {at}, the records around it are of {earliest} to \
                 {latest}"
            )
        }))
    }
}
