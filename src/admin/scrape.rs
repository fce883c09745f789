//! What metrics tell of the state of things: looked up whenever somebody scrapes them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::AdminState;
use super::process::figures;
use crate::core::time::Timestamp;
use crate::metrics::{BoundFigures, ProcessFigures, SharedFigures};
use crate::shared::Shared;

/// Hands all figures to the metrics. Waits for the disk.
pub(super) fn look(state: &AdminState) {
    let metrics = &state.metrics;
    let status = state.ledger.status();
    metrics.ledger(&figures(&status), status.syncs);
    metrics.body_bytes(state.memory.taken());
    let (open_loops, _) = state.loops.latest_trips(0);
    metrics.watched_runs(state.loops.watched_runs(), open_loops);
    metrics.open_alerts(&state.alerts.open());
    match state.budgets.fullest_of_each() {
        Ok(budgets) => metrics.budgets(&budgets),
        Err(error) => tracing::warn!(%error, "metrics of budgets are not up to date"),
    }
    let config = state.config.load();
    metrics.bounds(&BoundFigures {
        connections: config.proxy.max_connections,
        body_bytes: config.proxy.max_memory_bytes,
        queue_bytes: config.ledger.max_queue_bytes,
        free_bytes: state.alerts.free_bytes(),
    });
    metrics.process(&process(state.started_at));
    if let Some(shared) = state.budgets.shared() {
        metrics.shared(&figures_of(shared));
    }
}

fn figures_of(shared: &Shared) -> SharedFigures {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let figures = &shared.figures;
    SharedFigures {
        is_joined: shared.is_joined(),
        instances: shared.living(),
        requests: figures.requests(),
        denied: of(&figures.denied),
        failures: of(&figures.failures),
        pushed: of(&figures.pushed),
        disconnects: of(&figures.disconnects),
        given: of(&figures.given),
        taken: of(&figures.taken),
        missed: of(&figures.missed),
        unread: of(&figures.unread),
    }
}

/// This process, as the system has it.
fn process(started_at: Timestamp) -> ProcessFigures {
    let started_at_seconds = Some(seconds(started_at));
    ProcessFigures {
        started_at_seconds,
        ..of_system()
    }
}

#[cfg(target_os = "linux")]
#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn of_system() -> ProcessFigures {
    use procfs::process::{LimitValue, Process};

    let Ok(process) = Process::myself() else {
        return ProcessFigures::default();
    };
    let (stat, limits) = (process.stat().ok(), process.limits().ok());
    let ticks = |stat: &procfs::process::Stat| stat.utime.saturating_add(stat.stime);
    let most_files = limits.and_then(|limits| match limits.max_open_files.soft_limit {
        LimitValue::Value(most) => Some(most as f64),
        LimitValue::Unlimited => None,
    });
    ProcessFigures {
        started_at_seconds: None,
        cpu_seconds: stat
            .as_ref()
            .map(|stat| ticks(stat) as f64 / procfs::ticks_per_second() as f64),
        resident_bytes: stat
            .as_ref()
            .map(|stat| stat.rss.saturating_mul(procfs::page_size()) as f64),
        virtual_bytes: stat.as_ref().map(|stat| stat.vsize as f64),
        open_files: process.fd_count().ok().map(|count| count as f64),
        most_files,
        threads: stat.as_ref().map(|stat| stat.num_threads as f64),
    }
}

/// Elsewhere nothing is known.
#[cfg(not(target_os = "linux"))]
fn of_system() -> ProcessFigures {
    ProcessFigures::default()
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn seconds(at: Timestamp) -> f64 {
    at.micros() as f64 / 1e6
}
