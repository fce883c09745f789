//! Money: whole nano-USD, checked arithmetic, never floating point.

use std::fmt;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An amount in 1e-9 USD. 20 nano-USD a token is 0.02 USD per million tokens.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = i64)]
#[cbor(transparent)]
pub struct NanoUsd(#[n(0)] i64);

impl NanoUsd {
    pub const ZERO: Self = Self(0);

    pub const fn new(nano: i64) -> Self {
        Self(nano)
    }

    pub const fn get(self) -> i64 {
        self.0
    }

    /// Reads an amount in USD, exactly: digits with at most one point and nine decimals.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 {
            return None;
        }
        let whole: i64 = whole.parse().ok()?;
        let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
        let nano = whole.checked_mul(1_000_000_000)?.checked_add(fraction)?;
        Some(Self(nano))
    }

    /// Sums saturate: a total that no longer fits stays at the largest amount.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for NanoUsd {
    /// `$1.234567`: six digits, nine where the rest would be lost, at least two.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nano = self.0.unsigned_abs();
        let whole = nano / 1_000_000_000;
        let digits = format!("{:09}", nano % 1_000_000_000);
        let kept = digits.trim_end_matches('0').len().max(2);
        write!(
            f,
            "{sign}${whole}.{}",
            digits.get(..kept).unwrap_or(&digits)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_exactly_or_not_at_all() {
        let read = |text: &str| NanoUsd::parse(text).map(NanoUsd::get);
        assert_eq!(read("2"), Some(2_000_000_000));
        assert_eq!(read("0.10"), Some(100_000_000));
        assert_eq!(read("0.000000001"), Some(1));
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "1e3",
            "1_000",
            "0.0000000001",
            "9999999999999",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_read_as_dollars() {
        assert_eq!(NanoUsd::new(0).to_string(), "$0.00");
        assert_eq!(NanoUsd::new(1_500_000_000).to_string(), "$1.50");
        assert_eq!(NanoUsd::new(-20).to_string(), "-$0.00000002");
    }
}
