//! What calls of one kind usually put out, and cost: learnt from those that ended.

use super::super::digest::Digest;
use super::super::memo::Memo;

/// Kinds of calls that are remembered.
const KINDS: usize = 20_000;
/// What is assumed of a kind that was never seen: on average, and at most.
const UNKNOWN: Expected = Expected {
    usual: 64,
    ample: 1024,
};
const LEAST: i64 = 16;
/// The weight of one more call, as a part of all: 1/8.
const WEIGHT: i64 = 8;

/// By kind of call: agent, model and operation.
#[derive(Debug)]
pub struct Usual {
    /// Output tokens.
    outputs: Memo<Digest, Spread>,
    /// In nano-USD, where it does not follow from tokens.
    costs: Memo<Digest, Spread>,
}

/// What is to be expected of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// On average.
    pub usual: i64,
    /// What nearly all stay below; no more than the largest that was seen of late.
    pub ample: i64,
}

/// A moving mean, a moving mean deviation and a slowly sinking maximum, in sixteenths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spread {
    mean: i64,
    deviation: i64,
    largest: i64,
}

impl Default for Usual {
    fn default() -> Self {
        Self {
            outputs: Memo::new(KINDS),
            costs: Memo::new(KINDS),
        }
    }
}

impl Usual {
    /// The output tokens of calls of `kind`.
    pub fn output(&self, kind: Digest) -> Expected {
        let known = self.outputs.get(spread(kind), &kind);
        known.map_or(UNKNOWN, |known| Expected {
            usual: (known.mean / 16).max(LEAST),
            ample: known.most().max(LEAST),
        })
    }

    /// As much as nearly all calls of `kind` cost at most; nothing as long as none is known.
    pub fn cost(&self, kind: Digest) -> i64 {
        let known = self.costs.get(spread(kind), &kind);
        known.map_or(0, Spread::most)
    }

    /// Takes in a call that ended. One that was cut off at its limit would have gone on: it counts
    /// for twice as much.
    pub fn learn(&self, kind: Digest, output_tokens: i64, cut_off: bool) {
        let factor = if cut_off { 2 } else { 1 };
        learn(&self.outputs, kind, output_tokens.saturating_mul(factor));
    }

    /// Takes in what a call cost.
    pub fn learn_cost(&self, kind: Digest, nano_usd: i64) {
        learn(&self.costs, kind, nano_usd);
    }
}

impl Spread {
    /// For a normal distribution the mean deviation is 0.8 of the standard deviation, so this is the
    /// mean and 2.4 of the latter.
    fn most(self) -> i64 {
        let most = self.mean.saturating_add(self.deviation.saturating_mul(3));
        most.min(self.largest) / 16
    }
}

fn learn(kinds: &Memo<Digest, Spread>, kind: Digest, seen: i64) {
    let seen = seen.saturating_mul(16);
    let next = match kinds.get(spread(kind), &kind) {
        None => Spread {
            mean: seen,
            deviation: seen / 4,
            largest: seen,
        },
        Some(Spread {
            mean,
            deviation,
            largest,
        }) => {
            let off = seen.saturating_sub(mean);
            let further = off.saturating_abs().saturating_sub(deviation);
            Spread {
                mean: mean.saturating_add(off / WEIGHT),
                deviation: deviation.saturating_add(further / WEIGHT),
                largest: seen.max(largest - largest / 512),
            }
        }
    };
    kinds.insert(spread(kind), kind, next);
}

fn spread(kind: Digest) -> u8 {
    let [first, ..] = kind.to_bytes();
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Digest = Digest::from_bytes([7; 16]);

    #[test]
    fn steady_calls_are_expected_to_go_on_as_they_were() {
        let usual = Usual::default();
        assert_eq!(usual.output(KIND), UNKNOWN);
        for _ in 0..100 {
            usual.learn(KIND, 200, false);
        }
        assert!(
            (200..=210).contains(&usual.output(KIND).ample),
            "{:?}",
            usual.output(KIND)
        );
    }

    #[test]
    fn nearly_all_of_varying_calls_stay_below_what_is_usual() {
        let usual = Usual::default();
        let outputs = (0..400i64).map(|n| 100 + (n * 7919) % 300);
        let mut above = 0;
        for (n, output) in outputs.enumerate() {
            above += usize::from(n >= 50 && output > usual.output(KIND).ample);
            usual.learn(KIND, output, false);
        }
        assert!(above <= 10, "{above} of 350 were longer");
    }

    #[test]
    fn calls_cut_off_at_their_limit_do_not_keep_it_low() {
        let usual = Usual::default();
        for _ in 0..30 {
            let limit = usual.output(KIND).ample.min(4000);
            usual.learn(KIND, limit, limit < 4000);
        }
        assert!(usual.output(KIND).ample >= 4000);
    }
}
