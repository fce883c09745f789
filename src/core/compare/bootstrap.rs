//! The bootstrap: how far a difference between two samples may be off, told by drawing from them again.
//!
//! Runs are drawn, not calls: calls of one run hang together, and an interval that took them for
//! independent would be too narrow. The interval is bias-corrected and accelerated (`BCa`; Efron 1987), as
//! `scipy.stats.bootstrap` has it for two samples; where that is not defined - all values alike - it is
//! the plain one of percentiles. Equal samples give equal intervals: the draws follow from the values.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "indices and counts of samples, far below 2^52"
)]

use super::normal;
use super::proportion::{self, Share};

/// Draws, where there are not too many values for it.
pub const RESAMPLES: usize = 10_000;
/// Draws, however many values there are.
const LEAST_RESAMPLES: usize = 1_000;

/// Half of what is left outside of an interval of 95 %.
const TAIL: f64 = 0.025;

/// What one run adds to a statistic, which is the sum of all `top` over the sum of all `of`: with `of`
/// as 1 that is a mean over runs, else a ratio such as errors over calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    pub top: f64,
    pub of: f64,
}

impl Value {
    pub const fn new(top: f64) -> Self {
        Self { top, of: 1.0 }
    }

    /// It is a value of a run, and no ratio.
    pub(super) const fn is_whole(self) -> bool {
        self.of.to_bits() == 1.0_f64.to_bits()
    }

    pub(super) fn ratio(self) -> f64 {
        if self.of > 0.0 {
            self.top / self.of
        } else {
            0.0
        }
    }
}

/// The sums of some values.
#[derive(Clone, Copy, Default)]
struct Sums {
    top: f64,
    of: f64,
}

impl Sums {
    fn of(values: &[Value]) -> Self {
        let mut sums = Self::default();
        for value in values {
            sums.add(*value);
        }
        sums
    }

    fn add(&mut self, value: Value) {
        self.top += value.top;
        self.of += value.of;
    }

    fn without(self, value: Value) -> Self {
        Self {
            top: self.top - value.top,
            of: self.of - value.of,
        }
    }

    fn ratio(self) -> f64 {
        if self.of > 0.0 {
            self.top / self.of
        } else {
            0.0
        }
    }
}

/// The statistic of one sample; none where there is nothing to divide by.
pub fn statistic(values: &[Value]) -> Option<f64> {
    let sums = Sums::of(values);
    (sums.of > 0.0).then(|| sums.ratio())
}

/// What is known of the difference between two samples, the second less the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub difference: f64,
    /// Of 95 %.
    pub low: f64,
    pub high: f64,
    /// How often chance alone would make as much of nothing: the level at which the interval would
    /// just reach zero, from both sides.
    pub p: f64,
}

/// Draws for samples of so many values together, where `steps` values may be drawn in all.
pub fn resamples(values: usize, steps: usize) -> usize {
    (steps / values.max(1)).clamp(LEAST_RESAMPLES, RESAMPLES)
}

/// The level of a difference, where an arm has values that are all alike. What is drawn from those is
/// always the same, as if it were certain; that they are alike by chance is told by counting the runs
/// of the other arm that lie where the difference is.
pub(super) fn level(found: &Estimate, a: &[Value], b: &[Value]) -> f64 {
    let against = |alike: &[Value], other: &[Value], sign: f64| {
        let first = alike.first()?.ratio();
        let is_first = |it: &Value| it.ratio().total_cmp(&first).is_eq();
        if !alike.iter().all(is_first) {
            return None;
        }
        let beyond = |it: &&Value| (it.ratio() - first) * sign * found.difference > 0.0;
        let counted = Share {
            count: other.iter().filter(beyond).count() as f64,
            of: other.len() as f64,
        };
        let none = Share {
            count: 0.0,
            of: alike.len() as f64,
        };
        Some(proportion::difference(none, counted).p)
    };
    let levels = [against(a, b, 1.0), against(b, a, -1.0)];
    levels.into_iter().flatten().fold(found.p, f64::max)
}

/// The difference of `b` to `a` and its interval from so many draws; none where a sample has fewer than
/// two values or nothing to divide by.
pub fn difference(a: &[Value], b: &[Value], resamples: usize) -> Option<Estimate> {
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    let difference = statistic(b)? - statistic(a)?;
    let mut drawn = drawn(a, b, resamples.max(1));
    drawn.sort_by(f64::total_cmp);
    let at_or_below = |value: f64| {
        let below = drawn.partition_point(|it| *it < value);
        let equal = drawn.partition_point(|it| *it <= value);
        (below + equal) as f64 / (2.0 * drawn.len() as f64)
    };
    let bias = normal::quantile(at_or_below(difference));
    let skew = acceleration(a, b);
    let correction = Correction { bias, skew }.checked();
    let (low, high) = (correction.level(TAIL), correction.level(1.0 - TAIL));
    Some(Estimate {
        difference,
        low: percentile(&drawn, low),
        high: percentile(&drawn, high),
        p: correction.significance(at_or_below(0.0), drawn.len()),
    })
}

/// What `BCa` changes about a percentile.
#[derive(Clone, Copy)]
struct Correction {
    bias: f64,
    skew: f64,
}

impl Correction {
    /// None, where it is not defined.
    fn checked(self) -> Self {
        if self.bias.is_finite() && self.skew.is_finite() {
            return self;
        }
        Self {
            bias: 0.0,
            skew: 0.0,
        }
    }

    /// Which percentile stands for this one.
    fn level(self, level: f64) -> f64 {
        let z = self.bias + normal::quantile(level);
        normal::below(self.bias + z / (1.0 - self.skew * z))
    }

    /// The smallest level at which an interval holds the value that `share` of the draws lie below:
    /// [`level`](Self::level) the other way round. Draws cannot show less than one in their number.
    fn significance(self, share: f64, draws: usize) -> f64 {
        let least = 1.0 / (draws as f64 + 1.0);
        let u = normal::quantile(share.clamp(least, 1.0 - least)) - self.bias;
        let z = u / (1.0 + self.skew * u) - self.bias;
        let below = normal::below(z);
        (2.0 * below.min(1.0 - below)).clamp(2.0 * least, 1.0)
    }
}

/// From what the statistic would be without each of the values in turn.
fn acceleration(a: &[Value], b: &[Value]) -> f64 {
    let (mut cubes, mut squares) = (0.0, 0.0);
    for (values, sign) in [(a, -1.0), (b, 1.0)] {
        let (sums, n) = (Sums::of(values), values.len() as f64);
        let without: Vec<f64> = values
            .iter()
            .map(|value| sign * sums.without(*value).ratio())
            .collect();
        let mean = without.iter().sum::<f64>() / n;
        let influence = without.iter().map(|it| (n - 1.0) * (mean - it) / n);
        for it in influence {
            cubes += it.powi(3);
            squares += it.powi(2);
        }
    }
    cubes / (6.0 * squares.powf(1.5))
}

/// Differences of samples that are drawn from `a` and `b`, with replacement.
fn drawn(a: &[Value], b: &[Value], resamples: usize) -> Vec<f64> {
    let (of_a, of_b) = (digest(a), digest(b));
    // The same two samples the other way round are drawn alike: what is higher by so much is then
    // lower by exactly that.
    let seed = of_a.wrapping_add(of_b);
    let (mut for_a, mut for_b) = (Draw(seed), Draw(!seed));
    if of_a > of_b {
        std::mem::swap(&mut for_a, &mut for_b);
    }
    (0..resamples)
        .map(|_| for_b.sample(b).ratio() - for_a.sample(a).ratio())
        .collect()
}

/// A number that follows from the values.
fn digest(values: &[Value]) -> u64 {
    values.iter().fold(values.len() as u64, |hash, value| {
        let mixed = mix(hash ^ value.top.to_bits());
        mix(mixed ^ value.of.to_bits())
    })
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014).
fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// splitmix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// As many values as there are, each drawn from all of them.
    fn sample(&mut self, values: &[Value]) -> Sums {
        let mut sums = Sums::default();
        let n = values.len() as u128;
        for _ in 0..values.len() {
            let index = usize::try_from((u128::from(self.next()) * n) >> 64).unwrap_or(0);
            if let Some(value) = values.get(index) {
                sums.add(*value);
            }
        }
        sums
    }
}

/// Of sorted values, between two of them where it falls there.
fn percentile(sorted: &[f64], level: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = level.clamp(0.0, 1.0) * last as f64;
    let low = at.floor();
    let index = (low as usize).min(last);
    let of = |index: usize| sorted.get(index.min(last)).copied().unwrap_or(0.0);
    of(index) + (of(index + 1) - of(index)) * (at - low)
}

/// The middle one of some values; none of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.sort_by(f64::total_cmp);
    Some(percentile(&values, 0.5))
}

/// The same of whole numbers.
pub fn median_of(values: &[u64]) -> Option<f64> {
    median(values.iter().map(|value| *value as f64).collect())
}

/// What each level of significance becomes where so many questions were asked at once (Holm 1979):
/// the chance that any of those called significant is none stays below the level.
pub fn holm(levels: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..levels.len()).collect();
    let level = |index: &usize| levels.get(*index).copied().unwrap_or(1.0);
    order.sort_by(|one, other| level(one).total_cmp(&level(other)));
    let (mut adjusted, mut least) = (vec![1.0; levels.len()], 0.0_f64);
    for (rank, index) in order.iter().enumerate() {
        let left = (levels.len() - rank) as f64;
        least = least.max((level(index) * left).min(1.0));
        if let Some(place) = adjusted.get_mut(*index) {
            *place = least;
        }
    }
    adjusted
}
