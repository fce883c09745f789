//! How the log is told that the collector fails: once, and once more when it works again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::transport::{Failure, Taken};
use crate::ledger::IndexError;
use crate::metrics::{Loss, Metrics, Otel};

/// Speaks of one signal.
pub(super) struct Reporter {
    signal: Otel,
    metrics: Arc<Metrics>,
    is_failing: AtomicBool,
    /// Whether it was said that the collector takes not all.
    is_choosy: AtomicBool,
    /// Whether it was said that the ledger cannot be read.
    is_unread: AtomicBool,
}

impl Reporter {
    pub(super) fn new(signal: Otel, metrics: &Arc<Metrics>) -> Self {
        metrics.otel_foresee(signal);
        Self {
            signal,
            metrics: Arc::clone(metrics),
            is_failing: AtomicBool::new(false),
            is_choosy: AtomicBool::new(false),
            is_unread: AtomicBool::new(false),
        }
    }

    /// The collector took `sent`, or most of it.
    pub(super) fn took(&self, sent: u64, taken: &Taken) {
        let rejected = taken.rejected.min(sent);
        self.metrics.otel_exported(self.signal, sent - rejected);
        if self.is_failing.swap(false, Ordering::Relaxed) {
            let signal = self.signal.name();
            tracing::info!("the OpenTelemetry collector takes {signal} again");
        }
        if rejected > 0 {
            self.rejected(rejected, &taken.words);
        }
    }

    /// It takes none of it, ever.
    pub(super) fn refused(&self, sent: u64, failure: &Failure) {
        self.metrics.otel_failed(self.signal);
        self.rejected(sent, &failure.text);
    }

    /// It took nothing, for now.
    pub(super) fn failed(&self, failure: &Failure) {
        self.metrics.otel_failed(self.signal);
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            let (signal, why) = (self.signal.name(), &failure.text);
            tracing::warn!(
                "the OpenTelemetry collector takes no {signal} ({why}); it is tried again, and not told here again"
            );
        }
    }

    /// What is recorded cannot be read, for now.
    pub(super) fn unread(&self, error: &IndexError) {
        if !self.is_unread.swap(true, Ordering::Relaxed) {
            let signal = self.signal.name();
            tracing::warn!(
                "{signal} wait, for the ledger cannot be read ({error}); it is tried again"
            );
        }
    }

    pub(super) fn read(&self) {
        self.is_unread.store(false, Ordering::Relaxed);
    }

    /// Making something of what is recorded failed by a fault of ours.
    pub(super) fn broke(&self) {
        let signal = self.signal.name();
        tracing::error!(
            "making {signal} of what is recorded broke off; it begins again where it stood"
        );
    }

    pub(super) fn lost(&self, loss: Loss, count: u64) {
        self.metrics.otel_dropped(self.signal, loss, count);
    }

    fn rejected(&self, count: u64, words: &str) {
        self.lost(Loss::Rejected, count);
        if !self.is_choosy.swap(true, Ordering::Relaxed) {
            let signal = self.signal.name();
            tracing::warn!(
                "the OpenTelemetry collector does not want some {signal} ({words}); what it does not want is \
                 counted, and not told here again"
            );
        }
    }
}
