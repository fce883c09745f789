//! What budgets did to calls.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::Registration;
use crate::core::id::Label;

/// How long calls are made to wait: 1 ms to 5 minutes.
const WAITS: [f64; 12] = [
    0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];

#[derive(Debug)]
pub(super) struct BudgetMetrics {
    refusals: Family<BudgetLabels, Counter>,
    slowed: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BudgetLabels {
    budget: String,
}

impl BudgetMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        Self {
            refusals: to.add(
                "open_aiops_budget_refusals",
                "Calls refused because of a budget, by its name in the config",
                Family::default(),
            ),
            slowed: to.add(
                "open_aiops_slowed_seconds",
                "How long calls were made to wait: for others, or to slow them down",
                Histogram::new(WAITS),
            ),
        }
    }

    pub(super) fn refused(&self, budget: &Label) {
        let budget = budget.to_string();
        self.refusals.get_or_create(&BudgetLabels { budget }).inc();
    }

    pub(super) fn slowed(&self, wait: Duration) {
        self.slowed.observe(wait.as_secs_f64());
    }
}
