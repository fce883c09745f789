//! Loops that were stopped, and runs under watch.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use strum::VariantNames;

use super::Registration;
use crate::core::loops::finding::Signal;

#[derive(Debug)]
pub(super) struct LoopMetrics {
    trips: Family<SignalLabels, Counter>,
    open: Gauge,
    watched: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignalLabels {
    signal: &'static str,
}

impl LoopMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        let all = Self {
            trips: to.add(
                "open_aiops_loops_stopped",
                "Loops that were stopped, by what gave them away",
                Family::default(),
            ),
            open: to.add(
                "open_aiops_loops_open",
                "Loops that are stopped at the moment",
                Gauge::default(),
            ),
            watched: to.add(
                "open_aiops_runs_watched",
                "Runs that are watched for loops",
                Gauge::default(),
            ),
        };
        for signal in Signal::VARIANTS {
            drop(all.trips.get_or_create(&SignalLabels { signal }));
        }
        all
    }

    pub(super) fn stopped(&self, signal: Signal) {
        let signal = signal.into();
        self.trips.get_or_create(&SignalLabels { signal }).inc();
    }

    pub(super) fn watched(&self, runs: usize, open: usize) {
        self.watched.set(i64::try_from(runs).unwrap_or(i64::MAX));
        self.open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}
