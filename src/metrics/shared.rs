//! How this instance stands among those that share its budgets. There is nothing of it where nothing
//! is shared.

use super::Registration;
use super::mirror::{Figure, Times};
use crate::core::latencies::Latencies;

/// What is known of it at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharedFigures {
    pub is_joined: bool,
    pub instances: usize,
    /// How long calls waited for Redis, each time.
    pub requests: Latencies,
    pub denied: u64,
    pub failures: u64,
    pub pushed: u64,
    pub disconnects: u64,
    pub given: u64,
    pub taken: u64,
    pub missed: u64,
    pub unread: u64,
}

type Of = fn(&SharedFigures) -> u64;

const GAUGES: [(&str, &str, Of); 2] = [
    (
        "open_aiops_shared_joined",
        "1 while budgets are shared with other instances, 0 while Redis is away",
        |it| u64::from(it.is_joined),
    ),
    (
        "open_aiops_shared_instances",
        "Instances that share budgets and live, this one too",
        |it| u64::try_from(it.instances).unwrap_or(u64::MAX),
    ),
];

const COUNTERS: [(&str, &str, Of); 8] = [
    (
        "open_aiops_shared_denied",
        "Answers that a hold does not fit beside those of other instances",
        |it| it.denied,
    ),
    (
        "open_aiops_shared_failures",
        "Requests that Redis did not answer",
        |it| it.failures,
    ),
    (
        "open_aiops_shared_accounts_pushed",
        "Accounts whose state Redis was told beside the way of calls",
        |it| it.pushed,
    ),
    (
        "open_aiops_shared_disconnects",
        "How often Redis went away",
        |it| it.disconnects,
    ),
    (
        "open_aiops_shared_records_given",
        "Records told to other instances",
        |it| it.given,
    ),
    (
        "open_aiops_shared_records_taken",
        "Records of other instances that were taken in",
        |it| it.taken,
    ),
    (
        "open_aiops_shared_records_missed",
        "How often records of other instances were gone before they were taken in",
        |it| it.missed,
    ),
    (
        "open_aiops_shared_records_unread",
        "Records of other instances that this version does not understand",
        |it| it.unread,
    ),
];

#[derive(Debug)]
pub(super) struct SharedMetrics {
    figures: Vec<(Figure, Of)>,
    requests: Times,
}

impl SharedMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        let mut figures = Vec::with_capacity(GAUGES.len() + COUNTERS.len());
        for (name, help, of) in GAUGES {
            figures.push((Figure::gauge(to, (name, help)), of));
        }
        for (name, help, of) in COUNTERS {
            figures.push((Figure::counter(to, (name, help)), of));
        }
        let name = "open_aiops_shared_request_seconds";
        let help = "How long calls waited for Redis, each time";
        let requests = Times::new(to, (name, help));
        Self { figures, requests }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures are floats")]
    pub(super) fn set(&self, now: &SharedFigures) {
        for (figure, of) in &self.figures {
            figure.set(Some(of(now) as f64));
        }
        self.requests.set(now.requests);
    }
}
