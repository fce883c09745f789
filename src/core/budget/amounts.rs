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
    /// Of the custom metric that the rule counts, in millionths; not stored where it is nothing.
    #[cbor(n(4), skip_if = "is_zero")]
    pub micro_metric: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "as the encoding calls it"
)]
const fn is_zero(amount: &i64) -> bool {
    *amount == 0
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
    /// The sum of a custom metric, in millionths: the rule says of which.
    Metric,
}

impl Measure {
    /// What is counted over a window; calls at once are not.
    pub const COUNTED: [Self; 6] = [
        Self::Usd,
        Self::Tokens,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Calls,
        Self::Metric,
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
            Self::Metric => format!("{} of its metric", micro_text(amount)),
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
            Measure::Metric => self.micro_metric,
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
            micro_metric: act(self.micro_metric, other.micro_metric),
        }
    }
}

/// Millionths as people read them: `12.5`.
pub fn micro_text(micro: i64) -> String {
    let (whole, part) = (
        micro.unsigned_abs() / 1_000_000,
        micro.unsigned_abs() % 1_000_000,
    );
    let sign = if micro < 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{part:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What [`micro_text`] says, up to a billion; nothing negative.
pub fn parse_micro(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !(is_digits(whole) && is_digits(part) && whole.len() <= 9 && part.len() <= 6) {
        return None;
    }
    format!("{whole}{part:0<6}").parse().ok()
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
    /// The sum of the custom metric of a budget, in millionths.
    #[n(6)]
    pub micro_metric: Option<i64>,
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
            Measure::Metric => self.micro_metric,
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
            Measure::Metric => &mut self.micro_metric,
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
        micro_metric: None,
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
    fn millionths_are_told_without_what_says_nothing() {
        let texts = [0, 500_000_000, 12_500_000, -1, i64::MIN].map(micro_text);
        let expected = ["0", "500", "12.5", "-0.000001", "-9223372036854.775808"];
        assert_eq!(texts, expected);
        let read = [
            "12.5",
            "500",
            "0.000001",
            "",
            "1.",
            "-1",
            "1e3",
            "0.0000001",
        ]
        .map(parse_micro);
        let micro = [Some(12_500_000), Some(500_000_000), Some(1)];
        assert_eq!(read[..3], micro);
        assert!(read[3..].iter().all(Option::is_none), "{read:?}");
    }

    #[test]
    fn amounts_without_a_metric_are_stored_as_they_always_were() {
        let plain = Amounts {
            nano_usd: 1,
            calls: 1,
            ..Amounts::default()
        };
        let stored = [0x84, 1, 0, 0, 1];
        assert_eq!(minicbor::to_vec(plain).unwrap(), stored);
        assert_eq!(minicbor::decode::<Amounts>(&stored).unwrap(), plain);
        let with = Amounts {
            micro_metric: 7,
            ..plain
        };
        let bytes = minicbor::to_vec(with).unwrap();
        assert_eq!(minicbor::decode::<Amounts>(&bytes).unwrap(), with);
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
