//! What budgets count, and how much of it there may be.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoStaticStr};
use utoipa::ToSchema;

use super::super::money::NanoUsd;

/// How much of everything a budget can count. Sums saturate; a correction may be negative.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema,
)]
#[cbor(array)]
pub struct Amounts {
    #[n(0)]
    pub nano_usd: i64,
    #[n(1)]
    pub input_tokens: i64,
    #[n(2)]
    pub output_tokens: i64,
    #[n(3)]
    pub calls: i64,
}

/// What is measured against a limit.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    EnumIter,
    IntoStaticStr,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    Usd,
    /// Input and output together.
    Tokens,
    InputTokens,
    OutputTokens,
    Calls,
    /// Calls that run at once.
    Concurrent,
}

impl Measure {
    /// What is counted over a window; calls at once are not.
    pub const COUNTED: [Self; 5] = [
        Self::Usd,
        Self::Tokens,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Calls,
    ];

    pub fn name(self) -> &'static str {
        self.into()
    }

    /// An amount of it, as people read it: `$1.50`, `12000 tokens`, `3 calls`.
    pub fn text(self, amount: i64) -> String {
        match self {
            Self::Usd => NanoUsd::new(amount).to_string(),
            Self::Tokens => format!("{amount} tokens"),
            Self::InputTokens => format!("{amount} input tokens"),
            Self::OutputTokens => format!("{amount} output tokens"),
            Self::Calls => format!("{amount} calls"),
            Self::Concurrent => format!("{amount} calls at once"),
        }
    }
}

impl Amounts {
    /// How much of `measure` this is; nothing runs in amounts.
    pub fn of(&self, measure: Measure) -> i64 {
        match measure {
            Measure::Usd => self.nano_usd,
            Measure::Tokens => self.input_tokens.saturating_add(self.output_tokens),
            Measure::InputTokens => self.input_tokens,
            Measure::OutputTokens => self.output_tokens,
            Measure::Calls => self.calls,
            Measure::Concurrent => 0,
        }
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, i64::saturating_add)
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.each(other, i64::saturating_sub)
    }

    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    fn each(self, other: Self, act: fn(i64, i64) -> i64) -> Self {
        Self {
            nano_usd: act(self.nano_usd, other.nano_usd),
            input_tokens: act(self.input_tokens, other.input_tokens),
            output_tokens: act(self.output_tokens, other.output_tokens),
            calls: act(self.calls, other.calls),
        }
    }
}

/// The most there may be of each measure; none where it does not matter.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema,
)]
#[cbor(map)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    #[n(0)]
    pub nano_usd: Option<i64>,
    #[n(1)]
    pub tokens: Option<i64>,
    #[n(2)]
    pub input_tokens: Option<i64>,
    #[n(3)]
    pub output_tokens: Option<i64>,
    #[n(4)]
    pub calls: Option<i64>,
    #[n(5)]
    pub concurrent: Option<i64>,
}

impl Limits {
    pub fn of(&self, measure: Measure) -> Option<i64> {
        match measure {
            Measure::Usd => self.nano_usd,
            Measure::Tokens => self.tokens,
            Measure::InputTokens => self.input_tokens,
            Measure::OutputTokens => self.output_tokens,
            Measure::Calls => self.calls,
            Measure::Concurrent => self.concurrent,
        }
    }

    pub fn set(&mut self, measure: Measure, limit: Option<i64>) {
        *match measure {
            Measure::Usd => &mut self.nano_usd,
            Measure::Tokens => &mut self.tokens,
            Measure::InputTokens => &mut self.input_tokens,
            Measure::OutputTokens => &mut self.output_tokens,
            Measure::Calls => &mut self.calls,
            Measure::Concurrent => &mut self.concurrent,
        } = limit;
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The measures that are limited.
    pub fn each(&self) -> impl Iterator<Item = (Measure, i64)> + use<> {
        use strum::IntoEnumIterator;
        let this = *self;
        Measure::iter().filter_map(move |measure| Some((measure, this.of(measure)?)))
    }

    /// These with `more` on top; what is not limited stays so.
    #[must_use]
    pub fn raised(mut self, more: &Self) -> Self {
        for (measure, limit) in self.each() {
            let more = more.of(measure).unwrap_or(0);
            self.set(measure, Some(limit.saturating_add(more)));
        }
        self
    }

    /// The smaller one of each.
    #[must_use]
    pub fn tightened(mut self, other: &Self) -> Self {
        for (measure, limit) in other.each() {
            let own = self.of(measure).unwrap_or(i64::MAX);
            self.set(measure, Some(own.min(limit)));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        nano_usd: Some(10),
        tokens: Some(i64::MAX - 1),
        input_tokens: None,
        output_tokens: Some(0),
        calls: None,
        concurrent: Some(2),
    };

    #[test]
    fn raise_adds_to_what_is_limited_and_limits_nothing_else() {
        let more = Limits {
            nano_usd: Some(5),
            tokens: Some(5),
            input_tokens: Some(5),
            output_tokens: Some(5),
            ..Limits::default()
        };
        let raised = Limits {
            nano_usd: Some(15),
            tokens: Some(i64::MAX),
            output_tokens: Some(5),
            ..LIMITS
        };
        assert_eq!(LIMITS.raised(&more), raised);
        assert_eq!(LIMITS.raised(&Limits::default()), LIMITS);
        assert!(Limits::default().raised(&more).is_empty());
    }

    #[test]
    fn tightening_takes_the_smaller_and_never_loosens() {
        let other = Limits {
            nano_usd: Some(20),
            tokens: Some(7),
            calls: Some(3),
            concurrent: Some(1),
            ..Limits::default()
        };
        let tightened = Limits {
            tokens: Some(7),
            calls: Some(3),
            concurrent: Some(1),
            ..LIMITS
        };
        assert_eq!(LIMITS.tightened(&other), tightened);
        assert_eq!(other.tightened(&LIMITS), tightened);
        assert_eq!(LIMITS.tightened(&Limits::default()), LIMITS);
    }

    #[test]
    fn each_measure_is_set_and_read_by_itself() {
        use strum::IntoEnumIterator;
        for (n, measure) in (1..).zip(Measure::iter()) {
            let mut limits = Limits::default();
            limits.set(measure, Some(n));
            assert_eq!(limits.each().collect::<Vec<_>>(), [(measure, n)]);
            limits.set(measure, None);
            assert!(limits.is_empty());
        }
    }
}
