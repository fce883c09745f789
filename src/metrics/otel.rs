//! What an OpenTelemetry collector was told, and what it was not.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Registration;

/// What a collector is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
}

/// Why a collector is not told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It waited too long for the collector.
    Late,
    /// The collector does not want it.
    Rejected,
    /// The ledger dropped it first.
    Gone,
    /// There was no room for it to wait.
    Full,
}

#[derive(Debug)]
pub(super) struct OtelMetrics {
    exported: Family<SignalLabels, Counter>,
    dropped: Family<LossLabels, Counter>,
    failures: Family<SignalLabels, Counter>,
    lag: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignalLabels {
    signal: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LossLabels {
    signal: &'static str,
    reason: &'static str,
}

impl Signal {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

impl Loss {
    const ALL: [Self; 4] = [Self::Late, Self::Rejected, Self::Gone, Self::Full];

    const fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Rejected => "rejected",
            Self::Gone => "gone",
            Self::Full => "full",
        }
    }
}

impl OtelMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        Self {
            exported: to.add(
                "open_aiops_otel_exported",
                "Spans, data points and log lines that the OpenTelemetry collector took",
                Family::default(),
            ),
            dropped: to.add(
                "open_aiops_otel_dropped",
                "Spans, data points and log lines that the OpenTelemetry collector was not told",
                Family::default(),
            ),
            failures: to.add(
                "open_aiops_otel_failures",
                "Requests to the OpenTelemetry collector that failed",
                Family::default(),
            ),
            lag: to.add(
                "open_aiops_otel_lag_bytes",
                "Bytes of the log that spans were not made of yet",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn foresee(&self, signal: Signal) {
        for loss in Loss::ALL {
            self.dropped(signal, loss, 0);
        }
        self.exported(signal, 0);
        let signal = signal.name();
        drop(self.failures.get_or_create(&SignalLabels { signal }));
    }

    pub(super) fn exported(&self, signal: Signal, count: u64) {
        let signal = signal.name();
        let labels = SignalLabels { signal };
        self.exported.get_or_create(&labels).inc_by(count);
    }

    pub(super) fn dropped(&self, signal: Signal, loss: Loss, count: u64) {
        let (signal, reason) = (signal.name(), loss.name());
        let labels = LossLabels { signal, reason };
        self.dropped.get_or_create(&labels).inc_by(count);
    }

    pub(super) fn failed(&self, signal: Signal) {
        let signal = signal.name();
        self.failures.get_or_create(&SignalLabels { signal }).inc();
    }

    pub(super) fn lag(&self, bytes: u64) {
        self.lag.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
