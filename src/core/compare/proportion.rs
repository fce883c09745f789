//! Shares of runs: how far the difference between two of them may be off.
//!
//! Where no run of an arm failed, nothing that is drawn from it again ever does, and a bootstrap takes
//! the share for certain: five failures in twenty runs against none would seem beyond doubt. So shares
//! of runs have the interval of Newcombe (1998, method 10), made of the score intervals of both.

#![expect(
    clippy::cast_precision_loss,
    reason = "statistics of counts far below 2^52"
)]

use super::bootstrap::{Estimate, Value};
use super::normal;

/// Of a normal distribution, so much lies beyond on each side of an interval of 95 %.
const TAIL: f64 = 0.975;
/// Beyond this no level can be told from 0.
const FAR: f64 = 8.0;

/// So many of all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) count: f64,
    pub(super) of: f64,
}

impl Share {
    /// Of values that are each 0 or 1; none where one is not.
    pub(super) fn of(values: &[Value]) -> Option<Self> {
        let is_flag = |it: &Value| {
            it.is_whole() && (it.top.to_bits() == 0 || it.top.to_bits() == 1.0_f64.to_bits())
        };
        let is_share = !values.is_empty() && values.iter().all(is_flag);
        is_share.then(|| Self {
            count: values.iter().map(|it| it.top).sum(),
            of: values.len() as f64,
        })
    }

    fn value(self) -> f64 {
        self.count / self.of
    }

    /// The score interval (Wilson 1927).
    fn interval(self, z: f64) -> (f64, f64) {
        let (n, p, square) = (self.of, self.value(), z * z);
        let middle = p + square / (2.0 * n);
        let reach = z * (p * (1.0 - p) / n + square / (4.0 * n * n)).sqrt();
        let scale = 1.0 + square / n;
        (
            ((middle - reach) / scale).max(0.0),
            ((middle + reach) / scale).min(1.0),
        )
    }
}

/// The difference of `b` to `a`, its interval of 95 %, and the level at which the interval would just
/// reach zero.
pub(super) fn difference(a: Share, b: Share) -> Estimate {
    let difference = b.value() - a.value();
    let (low, high) = interval(a, b, normal::quantile(TAIL));
    // The farther out, the wider: the place where it reaches zero is closed in on.
    let (mut inside, mut outside) = (0.0, FAR);
    for _ in 0..60 {
        let z = f64::midpoint(inside, outside);
        let (low, high) = interval(a, b, z);
        if low > 0.0 || high < 0.0 {
            inside = z;
        } else {
            outside = z;
        }
    }
    Estimate {
        difference,
        low,
        high,
        p: (2.0 * (1.0 - normal::below(outside))).clamp(0.0, 1.0),
    }
}

fn interval(a: Share, b: Share, z: f64) -> (f64, f64) {
    let difference = b.value() - a.value();
    let (low_a, high_a) = a.interval(z);
    let (low_b, high_b) = b.interval(z);
    let below = (b.value() - low_b).hypot(high_a - a.value());
    let above = (high_b - b.value()).hypot(a.value() - low_a);
    (difference - below, difference + above)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share((count, of): (f64, f64)) -> Share {
        Share { count, of }
    }

    #[test]
    fn intervals_are_those_that_newcombe_gives() {
        // Statistics in Medicine 17 (1998), table II, method 10.
        for (b, a, low, high) in [
            ((56.0, 70.0), (48.0, 80.0), 0.0524, 0.3339),
            ((9.0, 10.0), (3.0, 10.0), 0.1705, 0.8090),
            ((6.0, 7.0), (2.0, 7.0), 0.0582, 0.8062),
            ((5.0, 56.0), (0.0, 29.0), -0.0381, 0.1926),
            ((0.0, 10.0), (0.0, 20.0), -0.1611, 0.2775),
            ((0.0, 10.0), (0.0, 10.0), -0.2775, 0.2775),
            ((10.0, 10.0), (0.0, 20.0), 0.6791, 1.0000),
            ((10.0, 10.0), (0.0, 10.0), 0.6075, 1.0000),
        ] {
            let found = difference(share(a), share(b));
            let near = |found: f64, known: f64| (found - known).abs() < 5.1e-5;
            assert!(
                near(found.low, low) && near(found.high, high),
                "{a:?} {b:?} {found:?}"
            );
        }
    }

    #[test]
    fn level_is_the_one_at_which_the_interval_reaches_zero() {
        for (a, b) in [
            ((3.0, 30.0), (12.0, 30.0)),
            ((0.0, 20.0), (5.0, 20.0)),
            ((9.0, 10.0), (3.0, 12.0)),
        ] {
            let found = difference(share(a), share(b));
            let z = -normal::quantile(found.p / 2.0);
            let (low, high) = interval(share(a), share(b), z);
            assert!(
                low.abs().min(high.abs()) < 1e-6,
                "{found:?}: {low} to {high}"
            );
            assert_eq!(found.p < 0.05, found.low > 0.0 || found.high < 0.0);
            let back = difference(share(b), share(a));
            assert!((back.p - found.p).abs() < 1e-9 && (back.low + found.high).abs() < 1e-12);
        }
        let same = difference(share((4.0, 20.0)), share((4.0, 20.0)));
        assert!((same.p - 1.0).abs() < 1e-9, "{same:?}");
    }
}
