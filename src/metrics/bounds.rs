//! What there may be of what is bounded, beside how much of it there is.

use super::Registration;
use super::mirror::Figure;

#[derive(Debug)]
pub(super) struct BoundMetrics {
    connections: Figure,
    bodies: Figure,
    queue: Figure,
    free: Figure,
}

/// What the configuration and the disk allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BoundFigures {
    pub connections: usize,
    pub body_bytes: usize,
    pub queue_bytes: usize,
    /// None where the system does not say.
    pub free_bytes: Option<u64>,
}

impl BoundMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        let mut gauge = |name, help| Figure::gauge(to, (name, help));
        Self {
            connections: gauge(
                "open_aiops_connections_limit",
                "Client connections that may be open at once: proxy.max_connections",
            ),
            bodies: gauge(
                "open_aiops_calls_body_limit_bytes",
                "Bytes that bodies of running calls may hold: proxy.max_memory",
            ),
            queue: gauge(
                "open_aiops_ledger_queue_limit_bytes",
                "Bytes that may be reserved for the ledger: ledger.max_queue",
            ),
            free: gauge(
                "open_aiops_ledger_free_bytes",
                "Bytes that are free on the disk of the ledger",
            ),
        }
    }

    pub(super) fn set(&self, figures: &BoundFigures) {
        let count = |count: usize| bytes(u64::try_from(count).unwrap_or(u64::MAX));
        self.connections.set(Some(count(figures.connections)));
        self.bodies.set(Some(count(figures.body_bytes)));
        self.queue.set(Some(count(figures.queue_bytes)));
        self.free.set(figures.free_bytes.map(bytes));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn bytes(count: u64) -> f64 {
    count as f64
}
