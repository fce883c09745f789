//! What an open connection occupies of the limit and of the gauge, until it is dropped.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::metrics::Metrics;

pub(super) struct Seat {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Seat {
    pub(super) fn take(permit: OwnedSemaphorePermit, metrics: Arc<Metrics>) -> Self {
        metrics.connection_opened();
        Self {
            metrics,
            _permit: permit,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.metrics.connection_closed();
    }
}
