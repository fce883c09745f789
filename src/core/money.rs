//! Money: whole nano-USD, checked arithmetic, never floating point.

use std::fmt;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text;

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

    /// For people at a glance: `$1,234`, `$1.20`, `$0.0034`, `<$0.0001`. What is not zero never reads
    /// as zero.
    pub fn brief(self) -> String {
        const UNIT: u64 = 1_000_000_000;
        let sign = if self.0 < 0 { "-" } else { "" };
        let size = self.0.unsigned_abs();
        match size {
            0 => "$0".to_owned(),
            1..100_000 => format!("{sign}<$0.0001"),
            // Two significant digits.
            100_000..1_000_000 => format!("{sign}$0.{:05}", (size + 5_000) / 10_000),
            1_000_000..10_000_000 => format!("{sign}$0.{:04}", (size + 50_000) / 100_000),
            _ if size < 100 * UNIT => {
                let cents = (size + UNIT / 200) / (UNIT / 100);
                format!("{sign}${}.{:02}", cents / 100, cents % 100)
            }
            _ => format!("{sign}${}", text::grouped((size + UNIT / 2) / UNIT)),
        }
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

    #[test]
    fn money_that_is_not_zero_never_reads_as_zero() {
        for (nano, text) in [
            (0, "$0"),
            (1, "<$0.0001"),
            (99_000, "<$0.0001"),
            (340_000, "$0.00034"),
            (3_400_000, "$0.0034"),
            (12_000_000, "$0.01"),
            (1_204_000_000, "$1.20"),
            (99_999_000_000, "$100.00"),
            (1_234_567_000_000_000, "$1,234,567"),
            (-1_500_000_000, "-$1.50"),
        ] {
            assert_eq!(NanoUsd::new(nano).brief(), text, "{nano}");
        }
    }
}
