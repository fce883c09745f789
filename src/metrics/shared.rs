//! How this instance stands among those that share its budgets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::Registration;

#[derive(Debug)]
pub(super) struct SharedMetrics {
    joined: Gauge,
    instances: Gauge,
    takes: Counter,
    take_seconds: Counter<f64, AtomicU64>,
    full: Counter,
    failures: Counter,
    pushed: Counter,
    losses: Counter,
    given: Counter,
    taken: Counter,
    missed: Counter,
    unread: Counter,
}

/// What is known of it at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharedFigures {
    pub is_joined: bool,
    pub instances: usize,
    pub takes: u64,
    pub take_us: u64,
    pub full: u64,
    pub failures: u64,
    pub pushed: u64,
    pub losses: u64,
    pub given: u64,
    pub taken: u64,
    pub missed: u64,
    pub unread: u64,
}

impl SharedMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        Self {
            joined: to.add(
                "open_aiops_shared_joined",
                "1 while budgets are shared with other instances, 0 while Redis is away or nothing is shared",
                Gauge::default(),
            ),
            instances: to.add(
                "open_aiops_shared_instances",
                "Instances that share budgets and live, this one too",
                Gauge::default(),
            ),
            takes: to.add(
                "open_aiops_shared_questions",
                "How often Redis was asked on the way of a call",
                Counter::default(),
            ),
            take_seconds: to.add(
                "open_aiops_shared_questions_seconds",
                "How long calls waited for these answers, all together",
                Counter::default(),
            ),
            full: to.add(
                "open_aiops_shared_full",
                "Answers that a hold does not fit beside those of other instances",
                Counter::default(),
            ),
            failures: to.add(
                "open_aiops_shared_failures",
                "Questions that Redis did not answer",
                Counter::default(),
            ),
            pushed: to.add(
                "open_aiops_shared_accounts_told",
                "Accounts whose state Redis was told beside the way of calls",
                Counter::default(),
            ),
            losses: to.add(
                "open_aiops_shared_losses",
                "How often Redis went away",
                Counter::default(),
            ),
            given: to.add(
                "open_aiops_shared_records_given",
                "Records told to other instances",
                Counter::default(),
            ),
            taken: to.add(
                "open_aiops_shared_records_taken",
                "Records of other instances that were taken in",
                Counter::default(),
            ),
            missed: to.add(
                "open_aiops_shared_records_missed",
                "How often records of other instances were gone before they were taken in",
                Counter::default(),
            ),
            unread: to.add(
                "open_aiops_shared_records_unread",
                "Records of other instances that this version does not understand",
                Counter::default(),
            ),
        }
    }

    pub(super) fn set(&self, figures: &SharedFigures) {
        self.joined.set(i64::from(figures.is_joined));
        let instances = i64::try_from(figures.instances).unwrap_or(i64::MAX);
        self.instances.set(instances);
        for (counter, value) in [
            (&self.takes, figures.takes),
            (&self.full, figures.full),
            (&self.failures, figures.failures),
            (&self.pushed, figures.pushed),
            (&self.losses, figures.losses),
            (&self.given, figures.given),
            (&self.taken, figures.taken),
            (&self.missed, figures.missed),
            (&self.unread, figures.unread),
        ] {
            counter.inner().store(value, Ordering::Relaxed);
        }
        let waited = Duration::from_micros(figures.take_us).as_secs_f64();
        let seconds = self.take_seconds.inner();
        seconds.store(waited.to_bits(), Ordering::Relaxed);
    }
}
