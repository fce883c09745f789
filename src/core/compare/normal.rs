//! The normal distribution: how much of it lies below a value, and the other way round.

use std::f64::consts::{SQRT_2, TAU};

/// Beyond this nothing is left that an `f64` could tell from 0 or 1 in our use.
const FAR: f64 = 8.0;

/// The share of a standard normal distribution below `x`, to about 1e-15.
pub(super) fn below(x: f64) -> f64 {
    if x <= -FAR {
        return 0.0;
    }
    if x >= FAR {
        return 1.0;
    }
    // Marsaglia's series: x + x^3/3 + x^5/(3 5) + ...
    let (mut term, mut sum, mut of) = (x, x, 1.0);
    while (sum + term - sum).abs() > 0.0 && of < 400.0 {
        of += 2.0;
        term *= x * x / of;
        sum += term;
    }
    (0.5 + sum * density(x)).clamp(0.0, 1.0)
}

fn density(x: f64) -> f64 {
    (-x * x / 2.0).exp() / TAU.sqrt()
}

/// The value with that share of a standard normal distribution below it; infinite for 0 and 1.
pub(super) fn quantile(share: f64) -> f64 {
    if share <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if share >= 1.0 {
        return f64::INFINITY;
    }
    // A first guess by Abramowitz and Stegun 26.2.23, then Newton's method.
    let tail = share.min(1.0 - share);
    let t = (-2.0 * tail.ln()).sqrt();
    let top = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let bottom = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let mut x = top / bottom - t;
    for _ in 0..6 {
        let step = (below(x) - tail) / density(x).max(f64::MIN_POSITIVE);
        x -= step.clamp(-0.5, 0.5);
        if step.abs() < 1e-14 * SQRT_2 {
            break;
        }
    }
    if share < 0.5 { x } else { -x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
    }

    #[test]
    fn shares_and_quantiles_are_those_of_tables() {
        for (x, share) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_543),
            (1.959_963_984_540_054, 0.975),
            (-2.575_829_303_548_901, 0.005),
            (-3.090_232_306_167_813, 0.001),
            (4.0, 0.999_968_328_758_167),
        ] {
            near(below(x), share);
            near(quantile(share), x);
        }
        assert_eq!((below(-40.0), below(40.0)), (0.0, 1.0));
        assert!(quantile(0.0) < f64::MIN && quantile(1.0) > f64::MAX);
    }
}
