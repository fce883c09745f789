//! How long calls took, as a histogram: small, exact to merge, and told back within five percent.
//!
//! Buckets grow by a tenth from one millisecond to a bit over an hour; what lies in one is told as its
//! middle. That is at most 4.9 % off, or half a millisecond below one. What took longer than the last
//! bucket's beginning is told as that.

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::core::call::Outcome;

/// A percentile of fewer calls says nothing.
const ENOUGH: u64 = 20;

const BUCKETS: usize = 160;

/// Where each bucket ends, in microseconds.
const ENDS: [u64; BUCKETS] = {
    let mut ends = [1000; BUCKETS];
    let mut at = 1;
    while at < BUCKETS {
        ends[at] = ends[at - 1] + ends[at - 1] / 10;
        at += 1;
    }
    ends
};

/// Counts of calls by how long they took: of each bucket that has any its number and its count, in
/// the order of the buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sketch(Vec<(u8, u32)>);

impl Sketch {
    pub(crate) fn add(&mut self, micros: u64) {
        let bucket = ENDS.partition_point(|end| *end <= micros);
        // There are fewer than 256 of them.
        self.count(u8::try_from(bucket).unwrap_or(u8::MAX), 1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for (bucket, count) in &other.0 {
            self.count(*bucket, *count);
        }
    }

    fn count(&mut self, bucket: u8, more: u32) {
        match self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => {
                if let Some((_, count)) = self.0.get_mut(at) {
                    *count = count.saturating_add(more);
                }
            }
            Err(at) => self.0.insert(at, (bucket, more)),
        }
    }

    fn calls(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The time that so many percent of the calls did not exceed; none when there are none.
    fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (self.calls() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let at = self.0.iter().find(|(_, count)| {
            seen += u64::from(*count);
            seen >= rank
        });
        at.map(|(bucket, _)| middle(usize::from(*bucket)))
    }

    pub(crate) fn latency(&self) -> Latency {
        let calls = self.calls();
        let percentile = |percent| self.percentile(percent).filter(|_| calls >= ENOUGH);
        Latency {
            calls,
            p50_us: percentile(50),
            p95_us: percentile(95),
        }
    }
}

/// What calls of a bucket are told to have taken.
fn middle(bucket: usize) -> u64 {
    let start = bucket.checked_sub(1).and_then(|at| ENDS.get(at).copied());
    let start = start.unwrap_or(0);
    ENDS.get(bucket).map_or(start, |end| start.midpoint(*end))
}

/// An array of pairs, flat: how many buckets further, and the count.
impl<C> Encode<C> for Sketch {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.array(2 * self.0.len() as u64)?;
        let mut last = 0;
        for (bucket, count) in &self.0 {
            e.u8(bucket - last)?.u32(*count)?;
            last = *bucket;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Sketch {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let wrong = || decode::Error::message("a sketch is pairs of buckets and counts");
        let len = d.array()?.ok_or_else(wrong)?;
        let mut buckets = Vec::with_capacity(usize::try_from(len / 2).unwrap_or(0).min(BUCKETS));
        let mut bucket = 0_u8;
        for _ in 0..len / 2 {
            bucket = bucket.checked_add(d.u8()?).ok_or_else(wrong)?;
            buckets.push((bucket, d.u32()?));
        }
        Ok(Self(buckets))
    }

    fn nil() -> Option<Self> {
        Some(Self::default())
    }
}

/// How long calls took that completed: percentiles within 5 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Latency {
    /// Calls this is told from.
    pub calls: u64,
    /// Half of them took no longer; null with fewer than 20 calls.
    pub p50_us: Option<u64>,
    /// 95 % of them took no longer; null with fewer than 20 calls.
    pub p95_us: Option<u64>,
}

/// Calls that failed or were left say nothing of how fast answers come.
pub(crate) fn says_how_fast(outcome: Outcome) -> bool {
    outcome == Outcome::Completed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        for micros in times {
            sketch.add(*micros);
        }
        sketch
    }

    proptest! {
        #[test]
        fn percentiles_are_within_five_percent_of_what_the_calls_took(
            mut times in prop::collection::vec(1000..3_600_000_000_u64, 20..300),
        ) {
            let told = of(&times).latency();
            times.sort_unstable();
            for (percent, told) in [(50, told.p50_us), (95, told.p95_us)] {
                let told = told.unwrap();
                let real = times[(times.len() * percent).div_ceil(100) - 1];
                prop_assert!(told.abs_diff(real) * 100 <= real * 5, "{told} for {real}");
            }
        }

        #[test]
        fn merged_sketches_are_the_sketch_of_all_calls_and_survive_being_written(
            a in prop::collection::vec(0..u64::MAX, 0..50),
            b in prop::collection::vec(0..10_000_000_u64, 0..50),
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(&merged, &of(&[a, b].concat()));
            let bytes = minicbor::to_vec(&merged).unwrap();
            let read: Sketch = minicbor::decode(&bytes).unwrap();
            prop_assert_eq!(read, merged);
        }
    }

    #[test]
    fn few_calls_have_no_percentiles() {
        assert_eq!(of(&[5000; 19]).latency().p50_us, None);
        let enough = of(&[5000; 20]).latency();
        assert_eq!((enough.calls, enough.p95_us.is_some()), (20, true));
    }

    #[test]
    fn the_last_bucket_begins_behind_an_hour() {
        assert!(ENDS[BUCKETS - 1] > 3_600_000_000);
        assert!(of(&[u64::MAX; 20]).latency().p50_us.unwrap() > 3_600_000_000);
    }
}
