//! What the ledger reports of itself. It counts by itself: the metrics here mirror its figures each
//! time they are scraped, so that it needs to know nothing of metrics.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Registration;
use super::mirror::Times;
use crate::core::latencies::Latencies;

#[derive(Debug)]
pub(super) struct LedgerMetrics {
    queued_records: Gauge,
    reserved_bytes: Gauge,
    segments: Gauge,
    log_bytes: Gauge,
    failing: Gauge,
    index_failing: Gauge,
    syncs: Times,
    dropped_records: Counter,
    dropped_bodies: Counter,
}

/// The ledger's own figures, read when metrics are scraped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct LedgerFigures {
    /// Records cannot be written at the moment.
    pub failing: bool,
    /// The index does not follow at the moment.
    pub index_failing: bool,
    /// Records that wait for the writer.
    pub queued_records: u64,
    /// Bytes queued, being written, or kept free for settlements.
    pub reserved_bytes: u64,
    pub segments: u64,
    pub log_bytes: u64,
    /// Records lost to failure or lack of room.
    pub dropped_records: u64,
    /// Bodies left out for lack of room.
    pub dropped_bodies: u64,
    pub syncs: u64,
    /// Time spent in all syncs.
    pub sync_us: u64,
}

impl LedgerMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        let syncs = Times::new(
            to,
            (
                "open_aiops_ledger_sync_seconds",
                "Time it took to make the log durable, each time",
            ),
        );
        let mut gauge = |name, help| to.add(name, help, Gauge::default());
        Self {
            queued_records: gauge(
                "open_aiops_ledger_queued_records",
                "Records waiting to be written",
            ),
            reserved_bytes: gauge(
                "open_aiops_ledger_reserved_bytes",
                "Bytes queued, being written, or kept free for settlements",
            ),
            segments: gauge("open_aiops_ledger_segments", "Segments of the log"),
            log_bytes: gauge("open_aiops_ledger_log_bytes", "Bytes of the log on disk"),
            failing: gauge(
                "open_aiops_ledger_failing",
                "1 while records cannot be written",
            ),
            index_failing: gauge(
                "open_aiops_ledger_index_failing",
                "1 while the index does not follow the log",
            ),
            syncs,
            dropped_records: to.add(
                "open_aiops_ledger_dropped_records",
                "Records lost to failure or lack of room",
                Counter::default(),
            ),
            dropped_bodies: to.add(
                "open_aiops_ledger_dropped_bodies",
                "Bodies left out for lack of room",
                Counter::default(),
            ),
        }
    }

    pub(super) fn set(&self, figures: &LedgerFigures, syncs: Latencies) {
        self.syncs.set(syncs);
        self.failing.set(i64::from(figures.failing));
        self.index_failing.set(i64::from(figures.index_failing));
        for (gauge, value) in [
            (&self.queued_records, figures.queued_records),
            (&self.reserved_bytes, figures.reserved_bytes),
            (&self.segments, figures.segments),
            (&self.log_bytes, figures.log_bytes),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        for (counter, value) in [
            (&self.dropped_records, figures.dropped_records),
            (&self.dropped_bodies, figures.dropped_bodies),
        ] {
            counter.inner().store(value, Ordering::Relaxed);
        }
    }
}
