//! What databases were sent, and how far they are behind.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Registration;
use super::bounded::{Bounded, Labels, OTHER};
use crate::core::id::Label;
use crate::core::time::Timestamp;

type Told = (&'static str, &'static str);

const ROWS_TOLD: Told = (
    "open_aiops_sink_rows",
    "Rows written to a database, again or for the first time",
);
const REFUSED_TOLD: Told = (
    "open_aiops_sink_refused_rows",
    "Rows that a database did not take, which were left out",
);
const FAILURES_TOLD: Told = (
    "open_aiops_sink_failures",
    "Attempts to reach a database or to write to it that failed",
);
const GAPS_TOLD: Told = (
    "open_aiops_sink_gaps",
    "Times that retention removed records before a database had them",
);

#[derive(Debug)]
pub(super) struct SinkMetrics {
    rows: Bounded<TableLabels>,
    refused: Bounded<SinkLabels>,
    failures: Bounded<SinkLabels>,
    gaps: Bounded<SinkLabels>,
    failing: Family<SinkLabels, Gauge>,
    lag: Family<SinkLabels, Gauge>,
    delivered: Family<SinkLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    sink: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabels {
    sink: String,
    table: &'static str,
}

/// The configuration chooses sinks, and may change as often as it likes.
impl Labels for SinkLabels {
    fn without_choice(&self) -> Self {
        let sink = OTHER.to_owned();
        Self { sink }
    }
}

impl Labels for TableLabels {
    fn without_choice(&self) -> Self {
        let sink = OTHER.to_owned();
        Self { sink, ..*self }
    }
}

fn labels(sink: &Label) -> SinkLabels {
    let sink = sink.to_string();
    SinkLabels { sink }
}

impl SinkMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        Self {
            rows: Bounded::new(to, ROWS_TOLD, Counter::default),
            refused: Bounded::new(to, REFUSED_TOLD, Counter::default),
            failures: Bounded::new(to, FAILURES_TOLD, Counter::default),
            gaps: Bounded::new(to, GAPS_TOLD, Counter::default),
            failing: to.add(
                "open_aiops_sink_failing",
                "1 while the last attempt failed",
                Family::default(),
            ),
            lag: to.add(
                "open_aiops_sink_lag_bytes",
                "Bytes of the log that a database is behind, bodies included",
                Family::default(),
            ),
            delivered: to.add(
                "open_aiops_sink_delivered_timestamp_seconds",
                "Unix time by which all that was recorded is in the database",
                Family::default(),
            ),
        }
    }

    /// All that is counted, from 0 on: else the first loss is no increase to whoever watches.
    pub(super) fn begin(&self, sink: &Label, tables: impl Iterator<Item = &'static str>) {
        for table in tables {
            self.rows(sink, table, 0);
        }
        for counter in [&self.refused, &self.failures, &self.gaps] {
            counter.with(&labels(sink), |_| {});
        }
    }

    pub(super) fn rows(&self, sink: &Label, table: &'static str, count: u64) {
        let sink = sink.to_string();
        self.rows.with(&TableLabels { sink, table }, |rows| {
            rows.inc_by(count);
        });
    }

    pub(super) fn refused(&self, sink: &Label, count: u64) {
        self.refused.with(&labels(sink), |rows| {
            rows.inc_by(count);
        });
    }

    pub(super) fn gap(&self, sink: &Label) {
        self.gaps.with(&labels(sink), |gaps| {
            gaps.inc();
        });
    }

    pub(super) fn failed(&self, sink: &Label, lag_bytes: Option<u64>) {
        self.failures.with(&labels(sink), |failures| {
            failures.inc();
        });
        self.set(sink, (true, lag_bytes));
    }

    pub(super) fn reached(&self, sink: &Label, lag_bytes: u64, at: Option<Timestamp>) {
        self.set(sink, (false, Some(lag_bytes)));
        if let Some(at) = at {
            let seconds = at.micros().div_euclid(1_000_000);
            self.delivered.get_or_create(&labels(sink)).set(seconds);
        }
    }

    fn set(&self, sink: &Label, (is_failing, lag_bytes): (bool, Option<u64>)) {
        let labels = labels(sink);
        self.failing
            .get_or_create(&labels)
            .set(i64::from(is_failing));
        if let Some(lag) = lag_bytes {
            let lag = i64::try_from(lag).unwrap_or(i64::MAX);
            self.lag.get_or_create(&labels).set(lag);
        }
    }

    /// What is not configured any more does not fail.
    pub(super) fn gone(&self, sink: &Label) {
        let labels = labels(sink);
        for gauges in [&self.failing, &self.lag, &self.delivered] {
            gauges.remove(&labels);
        }
    }
}
