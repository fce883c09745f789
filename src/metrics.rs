//! Every metric: its name, its labels and its buckets, each written once, here and below.
//!
//! Metrics are counted by naming what happened ([`Metrics::call_settled`], ...), never by reaching
//! for a counter. `docs/metrics.md` describes each; a test keeps it in step. Label values that
//! clients choose are bounded, so that no client can grow the memory of the proxy or its scraper.

mod alerts;
mod bounded;
mod bounds;
pub mod buckets;
mod budgets;
mod calls;
mod exposition;
mod ledger;
mod loops;
mod measured;
mod mirror;
mod otel;
mod process;
mod shared;
mod sinks;

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
use self::bounded::{Bounded, Labels, OTHER};
pub use self::bounds::BoundFigures;
use self::bounds::BoundMetrics;
use self::budgets::BudgetMetrics;
use self::calls::CallMetrics;
pub use self::exposition::Exposition;
pub use self::ledger::LedgerFigures;
use self::ledger::LedgerMetrics;
use self::loops::LoopMetrics;
use self::measured::MeasuredMetrics;
use self::otel::OtelMetrics;
pub use self::otel::{Loss, Signal as Otel};
pub use self::process::ProcessFigures;
use self::process::ProcessMetrics;
pub use self::shared::SharedFigures;
use self::shared::SharedMetrics;
use self::sinks::SinkMetrics;
use crate::core::alert::Rule;
use crate::core::budget::fill::Fullest;
use crate::core::build;
use crate::core::call::Settlement;
use crate::core::id::Label;
use crate::core::latencies::Latencies;
use crate::core::loops::finding::Signal;
use crate::core::metric::Measurement;
use crate::core::time::Timestamp;

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
    otel: OtelMetrics,
    sinks: SinkMetrics,
    rejects: Family<KindLabels, Counter>,
    upstream_faults: Bounded<FaultLabels>,
    ignored_headers: Counter,
    connections: Gauge,
    connections_opened: Counter,
    config_reloads: Family<ResultLabels, Counter>,
    ledger: LedgerMetrics,
    bounds: BoundMetrics,
    process: ProcessMetrics,
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

/// The configuration chooses upstreams, and may change as often as it likes.
impl Labels for FaultLabels {
    fn without_choice(&self) -> Self {
        Self {
            upstream: OTHER.to_owned(),
            ..*self
        }
    }
}

const FAULTS_TOLD: (&str, &str) = (
    "open_aiops_upstream_faults",
    "Failures to reach an upstream or to read its response",
);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut to = Registration(Registry::default());
        to.add_build();
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
            otel: OtelMetrics::register(&mut to),
            sinks: SinkMetrics::register(&mut to),
            shared: SharedMetrics::register(&mut to),
            refusals: to.add(
                "open_aiops_refusals",
                "Calls that were not let through, by the policy or for lack of room",
                Family::default(),
            ),
            refused_calls: AtomicU64::new(0),
            rejects: to.add(
                "open_aiops_rejects",
                "Requests that were malformed",
                Family::default(),
            ),
            upstream_faults: Bounded::new(&mut to, FAULTS_TOLD, Counter::default),
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
            config_reloads: reloads(&mut to),
            ledger: LedgerMetrics::register(&mut to),
            bounds: BoundMetrics::register(&mut to),
            process: ProcessMetrics::register(&mut to),
            registry: to.0,
        }
    }

    /// Counts of these reasons and kinds are there from the start, so that the first of them shows as
    /// a change.
    pub fn foresee(&self, reasons: &[&'static str], kinds: &[&'static str]) {
        for &reason in reasons {
            drop(self.refusals.get_or_create(&ReasonLabels { reason }));
        }
        for &kind in kinds {
            drop(self.rejects.get_or_create(&KindLabels { kind }));
        }
    }

    /// The same for what the configuration names.
    pub fn foresee_upstream(&self, upstream: &Label, kinds: &[&'static str]) {
        for kind in kinds {
            self.upstream_faults(upstream, kind, 0);
        }
    }

    pub fn foresee_budget(&self, budget: &Label) {
        self.budgets.refused(budget, 0);
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
        self.budgets.refused(budget, 1);
    }

    /// How the configured budgets stand now.
    pub fn budgets(&self, budgets: &[Fullest]) {
        self.budgets.set(budgets);
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

    /// So many alerts are open, by rule.
    pub fn open_alerts(&self, open: &[(Rule, usize)]) {
        self.alerts.open(open);
    }

    /// So many runs are watched for loops, and so many loops are stopped now.
    pub fn watched_runs(&self, runs: usize, open_loops: usize) {
        self.loops.watched(runs, open_loops);
    }

    /// What there may be of what is bounded.
    pub fn bounds(&self, figures: &BoundFigures) {
        self.bounds.set(figures);
    }

    /// What the process takes of the machine.
    pub fn process(&self, figures: &ProcessFigures) {
        self.process.set(figures);
    }

    /// A collector is told of this: its counts are there from the start, so that the first of them
    /// shows as a change.
    pub fn otel_foresee(&self, signal: Otel) {
        self.otel.foresee(signal);
    }

    /// The collector took so many spans, data points or log lines.
    pub fn otel_exported(&self, signal: Otel, count: u64) {
        self.otel.exported(signal, count);
    }

    /// The collector is not told so many spans, data points or log lines.
    pub fn otel_dropped(&self, signal: Otel, loss: Loss, count: u64) {
        if count > 0 {
            self.otel.dropped(signal, loss, count);
        }
    }

    /// A request to the collector failed.
    pub fn otel_failed(&self, signal: Otel) {
        self.otel.failed(signal);
    }

    /// So many bytes of the log were not made spans of yet.
    pub fn otel_lag(&self, bytes: u64) {
        self.otel.lag(bytes);
    }

    /// Takes over how this instance stands among others; called before each
    /// [`render`](Self::render).
    pub fn shared(&self, figures: &SharedFigures) {
        self.shared.set(figures);
    }

    /// A request was malformed or too large; `kind` is one of a closed list.
    pub fn call_rejected(&self, kind: &'static str) {
        self.rejects.get_or_create(&KindLabels { kind }).inc();
    }

    /// An upstream failed us; `kind` is one of a closed list.
    pub fn upstream_fault(&self, upstream: &Label, kind: &'static str) {
        self.upstream_faults(upstream, kind, 1);
    }

    fn upstream_faults(&self, upstream: &Label, kind: &'static str, count: u64) {
        let upstream = upstream.to_string();
        let labels = FaultLabels { upstream, kind };
        self.upstream_faults.with(&labels, |faults| {
            faults.inc_by(count);
        });
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
        let result = if ok { RELOADED } else { NOT_RELOADED };
        self.config_reloads
            .get_or_create(&ResultLabels { result })
            .inc();
    }

    /// A database is configured to get these tables.
    pub fn sink_begins(&self, sink: &Label, tables: impl Iterator<Item = &'static str>) {
        self.sinks.begin(sink, tables);
    }

    /// Rows of a table were written to a database.
    pub fn sink_rows(&self, sink: &Label, table: &'static str, count: u64) {
        self.sinks.rows(sink, table, count);
    }

    /// A database did not take these rows, and they were left out.
    pub fn sink_refused(&self, sink: &Label, count: u64) {
        self.sinks.refused(sink, count);
    }

    /// Records were gone before a database had them.
    pub fn sink_gap(&self, sink: &Label) {
        self.sinks.gap(sink);
    }

    /// An attempt to reach a database or to write to it failed.
    pub fn sink_failed(&self, sink: &Label, lag_bytes: Option<u64>) {
        self.sinks.failed(sink, lag_bytes);
    }

    /// A database is so far behind; where it has all that was recorded by `at`, that is said.
    pub fn sink_reached(&self, sink: &Label, lag_bytes: u64, at: Option<Timestamp>) {
        self.sinks.reached(sink, lag_bytes, at);
    }

    /// A database is not configured any more.
    pub fn sink_gone(&self, sink: &Label) {
        self.sinks.gone(sink);
    }

    /// Takes over the ledger's own figures, and its syncs by the upper bound of their time in
    /// seconds; called before each [`render`](Self::render).
    pub fn ledger(&self, figures: &LedgerFigures, syncs: Latencies) {
        self.ledger.set(figures, syncs);
    }

    /// All metrics, as Prometheus reads them.
    pub fn render(&self, as_what: Exposition) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) if as_what == Exposition::Text => exposition::older(&text),
            Ok(()) => text,
            // Writing into a String does not fail; a half-written page would mislead.
            Err(_) => String::new(),
        }
    }
}

const RELOADED: &str = "ok";
const NOT_RELOADED: &str = "error";

fn reloads(to: &mut Registration) -> Family<ResultLabels, Counter> {
    let help = "Times the configuration was read again";
    let reloads = to.add("open_aiops_config_reloads", help, Family::default());
    for result in [RELOADED, NOT_RELOADED] {
        drop(reloads.get_or_create(&ResultLabels { result }));
    }
    reloads
}

/// The registry while metrics are being added to it.
struct Registration(Registry);

impl Registration {
    fn add_build(&mut self) {
        let build = BuildLabels {
            version: build::VERSION,
            commit: build::COMMIT,
        };
        self.0.register(
            "open_aiops_build",
            "The running version and the commit it was built from",
            Info::new(build),
        );
    }

    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

#[cfg(test)]
mod tests;
