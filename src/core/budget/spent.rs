//! What was spent, by time: one fold that the running proxy, the index and checkpoints share, so
//! that they cannot disagree.

use minicbor::{Decode, Encode};

use super::super::time::Timestamp;
use super::amounts::Amounts;

/// Parts of a window that are told apart; older ones are put together.
const MAX_BUCKETS: usize = 64;

/// Sums of charges, each under the start of the time it counts for. Knows nothing of windows: what
/// was spent stays what it is when a rule gets another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Spent(#[n(0)] Vec<Bucket>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Bucket {
    #[n(0)]
    start: Timestamp,
    #[n(1)]
    sum: Amounts,
}

impl Spent {
    /// Adds a charge for the time that begins at `start`.
    pub fn add(&mut self, start: Timestamp, amounts: Amounts) {
        match self.0.binary_search_by_key(&start, |bucket| bucket.start) {
            Ok(at) => {
                if let Some(bucket) = self.0.get_mut(at) {
                    bucket.sum = bucket.sum.plus(amounts);
                }
            }
            Err(at) => {
                let sum = amounts;
                self.0.insert(at, Bucket { start, sum });
                self.merge_oldest();
            }
        }
    }

    /// What was spent in buckets that start from `from` on and before `to`.
    pub fn between(&self, from: Timestamp, to: Timestamp) -> Amounts {
        self.0
            .iter()
            .filter(|bucket| bucket.start >= from && bucket.start < to)
            .fold(Amounts::default(), |sum, bucket| sum.plus(bucket.sum))
    }

    /// The buckets from `from` on and before `to`, oldest first.
    pub fn buckets(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, Amounts)> {
        self.0
            .iter()
            .filter(move |bucket| bucket.start >= from && bucket.start < to)
            .map(|bucket| (bucket.start, bucket.sum))
    }

    /// Of times that begin later all stays.
    pub fn forget_until(&mut self, at: Timestamp) {
        self.0.retain(|bucket| bucket.start > at);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing is lost: these two left a window of their own long ago, and totals stay whole. In a
    /// longer window that the rule may get, the older one counts for too long rather than too short.
    fn merge_oldest(&mut self) {
        if self.0.len() <= MAX_BUCKETS {
            return;
        }
        let oldest = self.0.remove(0);
        if let Some(next) = self.0.first_mut() {
            next.sum = next.sum.plus(oldest.sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn calls(calls: i64) -> Amounts {
        Amounts {
            calls,
            ..Amounts::default()
        }
    }

    proptest! {
        #[test]
        fn sum_of_all_time_is_the_sum_of_the_charges(
            charges in proptest::collection::vec((0i64..500, 0i64..100), 0..300)
        ) {
            let mut spent = Spent::default();
            for (start, amount) in &charges {
                spent.add(Timestamp::from_micros(*start), calls(*amount));
            }
            let all = spent.between(Timestamp::from_micros(0), Timestamp::from_micros(i64::MAX));
            prop_assert_eq!(all.calls, charges.iter().map(|(_, amount)| amount).sum::<i64>());
            prop_assert!(spent.0.len() <= MAX_BUCKETS);
            let bytes = minicbor::to_vec(&spent).unwrap();
            prop_assert_eq!(minicbor::decode::<Spent>(&bytes).unwrap(), spent);
        }

        #[test]
        fn order_of_charges_does_not_matter_while_few_buckets_are_told_apart(
            charges in proptest::collection::vec((0i64..60, 0i64..100), 0..200)
        ) {
            let fold = |charges: &[(i64, i64)]| {
                let mut spent = Spent::default();
                for (start, amount) in charges {
                    spent.add(Timestamp::from_micros(*start), calls(*amount));
                }
                spent
            };
            let mut backwards = charges.clone();
            backwards.reverse();
            prop_assert_eq!(fold(&charges), fold(&backwards));
        }
    }
}
