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
    fn amounts_read_as_dollars() {
        assert_eq!(NanoUsd::new(0).to_string(), "$0.00");
        assert_eq!(NanoUsd::new(1_500_000_000).to_string(), "$1.50");
        assert_eq!(NanoUsd::new(-20).to_string(), "-$0.00000002");
    }
}
