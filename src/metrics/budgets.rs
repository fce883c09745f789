//! What budgets did to calls, and how they stand.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::Registration;
use super::bounded::{Bounded, Labels, OTHER};
use super::mirror::Gauges;
use crate::core::budget::Measure;
use crate::core::budget::fill::{Fill, Fullest};
use crate::core::id::Label;

/// How long calls are made to wait: 1 ms to 5 minutes.
const WAITS: [f64; 12] = [
    0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];

#[derive(Debug)]
pub(super) struct BudgetMetrics {
    refusals: Bounded<BudgetLabels>,
    slowed: Histogram,
    used: Gauges<MeasureLabels>,
    left: Gauges<MeasureLabels>,
    accounts: Gauges<BudgetLabels>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BudgetLabels {
    budget: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MeasureLabels {
    budget: String,
    measure: &'static str,
}

/// The configuration chooses names, and may change as often as it likes.
impl Labels for BudgetLabels {
    fn without_choice(&self) -> Self {
        Self {
            budget: OTHER.to_owned(),
        }
    }
}

/// A limit of 0 is used up by nothing.
fn ratio(fill: &Fill) -> f64 {
    if fill.limit <= 0 {
        1.0
    } else {
        whole(fill.used) / whole(fill.limit)
    }
}

/// In US dollars where that is what is counted.
fn left(fill: &Fill) -> f64 {
    let left = whole(fill.limit.saturating_sub(fill.used));
    match fill.measure {
        Measure::Usd => left / 1e9,
        Measure::Metric => left / 1e6,
        Measure::Tokens
        | Measure::InputTokens
        | Measure::OutputTokens
        | Measure::Calls
        | Measure::Concurrent => left,
    }
}

impl BudgetMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        let refusals = (
            "open_aiops_budget_refusals",
            "Calls refused because of a budget, by its name in the config",
        );
        let used = (
            "open_aiops_budget_used_ratio",
            "Part of its limit that the fullest account of a budget used",
        );
        let left = (
            "open_aiops_budget_left",
            "What the fullest account of a budget has left, in USD, tokens, calls or units of a \
             custom metric; below 0 where more was used",
        );
        let accounts = (
            "open_aiops_budget_accounts",
            "Accounts of a budget that are in memory",
        );
        Self {
            refusals: Bounded::new(to, refusals, Counter::default),
            slowed: to.add(
                "open_aiops_slowed_seconds",
                "How long calls were made to wait: for others, or to slow them down",
                Histogram::new(WAITS),
            ),
            used: Gauges::new(to, used),
            left: Gauges::new(to, left),
            accounts: Gauges::new(to, accounts),
        }
    }

    pub(super) fn refused(&self, budget: &Label, calls: u64) {
        let budget = budget.to_string();
        self.refusals.with(&BudgetLabels { budget }, |refusals| {
            refusals.inc_by(calls);
        });
    }

    pub(super) fn slowed(&self, wait: Duration) {
        self.slowed.observe(wait.as_secs_f64());
    }

    pub(super) fn set(&self, all: &[Fullest]) {
        let each = |value: fn(&Fill) -> f64| {
            let of = |fullest: &Fullest| {
                let of = |fill: &Fill| (MeasureLabels::new(&fullest.budget, fill), value(fill));
                fullest.fills.iter().map(of).collect::<Vec<_>>()
            };
            all.iter().flat_map(of).collect()
        };
        self.used.set(each(ratio));
        self.left.set(each(left));
        let accounts = all.iter().map(|fullest| {
            let budget = fullest.budget.to_string();
            let count = f64::from(u32::try_from(fullest.accounts).unwrap_or(u32::MAX));
            (BudgetLabels { budget }, count)
        });
        self.accounts.set(accounts.collect());
    }
}

impl MeasureLabels {
    fn new(budget: &Label, fill: &Fill) -> Self {
        Self {
            budget: budget.to_string(),
            measure: fill.measure.name(),
        }
    }
}

/// Exact up to 2^53, which no amount here comes near to where it matters.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn whole(amount: i64) -> f64 {
    amount as f64
}
