//! Every metric: its name, its labels and its buckets, each written once, here and below.
//!
//! Metrics are counted by naming what happened ([`Metrics::call_settled`], ...), never by reaching
//! for a counter. `docs/metrics.md` describes each; a test keeps it in step. Label values that
//! clients choose are bounded, so that no client can grow the memory of the proxy or its scraper.

mod alerts;
mod budgets;
mod calls;
mod ledger;
mod loops;
mod measured;
mod shared;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use self::alerts::AlertMetrics;
pub use self::alerts::MessageResult;
use self::budgets::BudgetMetrics;
use self::calls::CallMetrics;
pub use self::ledger::LedgerFigures;
use self::ledger::LedgerMetrics;
use self::loops::LoopMetrics;
use self::measured::MeasuredMetrics;
pub use self::shared::SharedFigures;
use self::shared::SharedMetrics;
use crate::core::alert::Rule;
use crate::core::build;
use crate::core::call::Settlement;
use crate::core::id::Label;
use crate::core::loops::finding::Signal;
use crate::core::metric::Measurement;

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the process counts. One per process; shared by reference.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: CallMetrics,
    in_flight: Gauge,
    streams: Gauge,
    body_bytes: Gauge,
    refusals: Family<ReasonLabels, Counter>,
    /// The sum of these.
    refused_calls: AtomicU64,
    budgets: BudgetMetrics,
    loops: LoopMetrics,
    alerts: AlertMetrics,
    measured: MeasuredMetrics,
    rejects: Family<KindLabels, Counter>,
    upstream_faults: Family<FaultLabels, Counter>,
    ignored_headers: Counter,
    connections: Gauge,
    connections_opened: Counter,
    config_reloads: Family<ResultLabels, Counter>,
    ledger: LedgerMetrics,
    shared: SharedMetrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    upstream: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

impl BuildLabels {
    fn of_this() -> Self {
        Self {
            version: build::VERSION,
            commit: build::COMMIT,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut to = Registration(Registry::default());
        let build = BuildLabels::of_this();
        to.0.register(
            "open_aiops_build",
            "The running version and the commit it was built from",
            Info::new(build),
        );
        Self {
            calls: CallMetrics::register(&mut to),
            in_flight: to.add(
                "open_aiops_calls_in_flight",
                "Calls admitted and not yet settled",
                Gauge::default(),
            ),
            streams: to.add(
                "open_aiops_streams_open",
                "Streamed calls admitted and not yet settled",
                Gauge::default(),
            ),
            body_bytes: to.add(
                "open_aiops_calls_body_bytes",
                "Bytes of bodies of running calls that are held in memory",
                Gauge::default(),
            ),
            budgets: BudgetMetrics::register(&mut to),
            loops: LoopMetrics::register(&mut to),
            alerts: AlertMetrics::register(&mut to),
            measured: MeasuredMetrics::register(&mut to),
            shared: SharedMetrics::register(&mut to),
            refusals: to.add(
                "open_aiops_refusals",
                "Calls the policy refused",
                Family::default(),
            ),
            refused_calls: AtomicU64::new(0),
            rejects: to.add(
                "open_aiops_rejects",
                "Requests that were malformed",
                Family::default(),
            ),
            upstream_faults: to.add(
                "open_aiops_upstream_faults",
                "Failures to reach an upstream or to read its response",
                Family::default(),
            ),
            ignored_headers: to.add(
                "open_aiops_ignored_headers",
                "Attribution headers with values that are no valid labels",
                Counter::default(),
            ),
            connections: to.add(
                "open_aiops_connections",
                "Client connections now open on the proxy listener",
                Gauge::default(),
            ),
            connections_opened: to.add(
                "open_aiops_connections_opened",
                "Client connections accepted on the proxy listener",
                Counter::default(),
            ),
            config_reloads: to.add(
                "open_aiops_config_reloads",
                "Times the configuration was read again",
                Family::default(),
            ),
            ledger: LedgerMetrics::register(&mut to),
            registry: to.0,
        }
    }

    /// What the bodies of running calls hold now.
    pub fn body_bytes(&self, bytes: usize) {
        self.body_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A call was let through; it is in flight until [`call_ended`](Self::call_ended).
    pub fn call_admitted(&self, stream: bool) {
        self.in_flight.inc();
        if stream {
            self.streams.inc();
        }
    }

    /// It ended, however it did; `stream` is what its admission said.
    pub fn call_ended(&self, stream: bool) {
        self.in_flight.dec();
        if stream {
            self.streams.dec();
        }
    }

    /// What an ended call used and cost is known.
    pub fn call_settled(&self, settlement: &Settlement, stream: bool) {
        self.calls.settled(settlement, stream);
    }

    /// A call was made to wait by its budgets, for others or to slow it down.
    pub fn call_slowed(&self, wait: Duration) {
        self.budgets.slowed(wait);
    }

    /// The policy refused a call; `reason` is one of a closed list.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ReasonLabels { reason }).inc();
        self.refused_calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls the policy refused since the process started.
    pub fn refused_calls(&self) -> u64 {
        self.refused_calls.load(Ordering::Relaxed)
    }

    /// A budget was why; rules are named in the config.
    pub fn budget_refused(&self, budget: &Label) {
        self.budgets.refused(budget);
    }

    /// A loop was stopped.
    pub fn loop_stopped(&self, signal: Signal) {
        self.loops.stopped(signal);
    }

    /// An alert began.
    pub fn alert(&self, rule: Rule) {
        self.alerts.told(rule);
    }

    /// So many messages about alerts were sent, failed or were held back.
    pub fn alert_messages(&self, result: MessageResult, count: u64) {
        self.alerts.messages(result, count);
    }

    /// An event came too fast to be looked at for alerts.
    pub fn alert_event_missed(&self) {
        self.alerts.missed();
    }

    /// Tells of the custom metrics of these names, as [`export`](Self::export) has it.
    pub fn exporting(names: Option<&[String]>) -> Self {
        let metrics = Self::new();
        metrics.export(names);
        metrics
    }

    /// Custom metrics of these names are told from now on; none: the first that come.
    pub fn export(&self, names: Option<&[String]>) {
        self.measured.export(names);
    }

    /// Somebody measured a custom metric, in the place of what the same said of the same before.
    pub fn measured(&self, measurement: &Measurement, before: Option<&Measurement>) {
        self.measured.measured(measurement, before);
    }

    /// Takes over how this instance stands among others; called before each
    /// [`render`](Self::render).
    pub fn shared(&self, figures: &SharedFigures) {
        self.shared.set(figures);
    }

    /// So many runs are watched for loops.
    pub fn watched_runs(&self, runs: usize) {
        self.loops.watched(runs);
    }

    /// A request was malformed or too large; `kind` is one of a closed list.
    pub fn call_rejected(&self, kind: &'static str) {
        self.rejects.get_or_create(&KindLabels { kind }).inc();
    }

    /// An upstream failed us; `kind` is one of a closed list.
    pub fn upstream_fault(&self, upstream: &Label, kind: &'static str) {
        self.upstream_faults
            .get_or_create(&FaultLabels {
                upstream: upstream.to_string(),
                kind,
            })
            .inc();
    }

    /// The value of an attribution header was not usable.
    pub fn ignored_header(&self) {
        self.ignored_headers.inc();
    }

    pub fn connection_opened(&self) {
        self.connections.inc();
        self.connections_opened.inc();
    }

    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    pub fn config_reload(&self, ok: bool) {
        let result = if ok { "ok" } else { "error" };
        self.config_reloads
            .get_or_create(&ResultLabels { result })
            .inc();
    }

    /// Takes over the ledger's own figures, and its syncs by the upper bound of their time in
    /// seconds; called before each [`render`](Self::render).
    pub fn ledger(&self, figures: &LedgerFigures, syncs: Vec<(f64, u64)>) {
        self.ledger.set(figures, syncs);
    }

    /// All metrics in the `OpenMetrics` text format, which Prometheus reads.
    pub fn render(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing into a String does not fail; a half-written page would mislead.
            Err(_) => String::new(),
        }
    }
}

/// The registry while metrics are being added to it.
struct Registration(Registry);

impl Registration {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

#[cfg(test)]
mod tests;
