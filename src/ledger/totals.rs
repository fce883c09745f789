//! Totals: a fold over settlements, and nothing else.
//!
//! Index, checkpoints and tests use this one function, so that they cannot disagree.

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::core::call::{Outcome, Settlement};
use crate::core::money::NanoUsd;
use crate::core::usage::{Provenance, Usage};

use super::rows::CallRow;

/// Sums over settled calls. All of them saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Totals {
    #[n(0)]
    pub calls: u64,
    /// Calls that failed, whoever's fault it was; clients that left are no failures.
    #[n(1)]
    pub errors: u64,
    #[n(2)]
    pub input_tokens: u64,
    #[n(3)]
    pub output_tokens: u64,
    #[n(4)]
    pub cache_read_input_tokens: u64,
    #[n(5)]
    pub cache_write_input_tokens: u64,
    #[n(6)]
    pub reasoning_output_tokens: u64,
    #[n(7)]
    pub cost_nano_usd: i64,
    /// Calls that used something whose price is not known.
    #[n(8)]
    pub unpriced_calls: u64,
    /// Calls whose usage is an estimate.
    #[n(9)]
    pub estimated_calls: u64,
    #[n(10)]
    pub duration_us: u64,
}

impl Totals {
    /// The totals of one call.
    pub fn of(settlement: &Settlement) -> Self {
        Self::of_one(
            settlement.outcome,
            &settlement.usage,
            settlement.provenance,
            settlement.cost.map(NanoUsd::get),
            settlement.timings.total_us,
        )
    }

    /// The same from its row; none while the call is open.
    pub(super) fn of_row(row: &CallRow) -> Option<Self> {
        Some(Self::of_one(
            row.outcome?,
            &row.usage,
            row.provenance?,
            row.cost_nano_usd,
            row.duration_us?,
        ))
    }

    fn of_one(
        outcome: Outcome,
        usage: &Usage,
        provenance: Provenance,
        cost: Option<i64>,
        duration_us: u64,
    ) -> Self {
        let used = *usage != Usage::default();
        Self {
            calls: 1,
            errors: u64::from(is_error(outcome)),
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_read_input_tokens: usage.cache_read_input_tokens,
            cache_write_input_tokens: usage.cache_write_input_tokens,
            reasoning_output_tokens: usage.reasoning_output_tokens,
            cost_nano_usd: cost.unwrap_or(0),
            unpriced_calls: u64::from(used && cost.is_none()),
            estimated_calls: u64::from(used && provenance == Provenance::Estimated),
            duration_us,
        }
    }

    /// Adds `other` to these.
    pub fn add(&mut self, other: &Self) {
        self.exchange(&Self::default(), other);
    }

    /// Takes `old`, which was added before, out of these and adds `new` in its place.
    pub(super) fn exchange(&mut self, old: &Self, new: &Self) {
        let Self {
            calls,
            errors,
            input_tokens,
            output_tokens,
            cache_read_input_tokens,
            cache_write_input_tokens,
            reasoning_output_tokens,
            cost_nano_usd,
            unpriced_calls,
            estimated_calls,
            duration_us,
        } = self;
        let cost = i128::from(*cost_nano_usd) - i128::from(old.cost_nano_usd);
        let cost = cost + i128::from(new.cost_nano_usd);
        *cost_nano_usd = i64::try_from(cost).unwrap_or(if cost < 0 { i64::MIN } else { i64::MAX });
        for (sum, old, new) in [
            (calls, old.calls, new.calls),
            (errors, old.errors, new.errors),
            (input_tokens, old.input_tokens, new.input_tokens),
            (output_tokens, old.output_tokens, new.output_tokens),
            (
                cache_read_input_tokens,
                old.cache_read_input_tokens,
                new.cache_read_input_tokens,
            ),
            (
                cache_write_input_tokens,
                old.cache_write_input_tokens,
                new.cache_write_input_tokens,
            ),
            (
                reasoning_output_tokens,
                old.reasoning_output_tokens,
                new.reasoning_output_tokens,
            ),
            (unpriced_calls, old.unpriced_calls, new.unpriced_calls),
            (estimated_calls, old.estimated_calls, new.estimated_calls),
            (duration_us, old.duration_us, new.duration_us),
        ] {
            // Added first: the sum may be less than `old` only where it was cut off at its bound.
            let more = u128::from(*sum) + u128::from(new);
            *sum = u64::try_from(more.saturating_sub(u128::from(old))).unwrap_or(u64::MAX);
        }
    }
}

/// Whether a call with this outcome failed.
pub const fn is_error(outcome: Outcome) -> bool {
    match outcome {
        Outcome::UpstreamError
        | Outcome::UpstreamUnavailable
        | Outcome::UpstreamCut
        | Outcome::Cut
        | Outcome::Rejected => true,
        Outcome::Completed | Outcome::ClientGone | Outcome::Recovered => false,
    }
}
