//! What pages are drawn from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::Semaphore;

use super::deeds::Memory;
use super::graph::Layouts;
use super::near::Near;
use crate::admin::AdminState;
use crate::admin::problem::Problem;
use crate::core::time::Timestamp;
use crate::ledger::{IndexError, View};

/// Pages that may be open live at once: each keeps a connection.
const LIVE_PAGES: usize = 32;

const HALF_MINUTE_US: i64 = 30_000_000;

/// Everything a page may ask. Cheap to clone.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) state: AdminState,
    /// The zone that times are shown in.
    pub(super) zone: TimeZone,
    pub(super) live: Arc<Semaphore>,
    /// Forms that were carried out.
    pub(super) deeds: Arc<Memory>,
    /// Budgets that are almost used.
    pub(super) near: Arc<Near>,
    /// Drawings of call graphs by their shape.
    pub(super) layouts: Arc<Layouts>,
    /// Whose turn it is to have a run written into a file.
    pub(super) files: Arc<Semaphore>,
    /// Microseconds that drawing a page takes, smoothed.
    drawing: Arc<AtomicU64>,
}

impl Desk {
    pub(super) fn new(state: AdminState) -> Self {
        Self {
            state,
            zone: TimeZone::system(),
            live: Arc::new(Semaphore::new(LIVE_PAGES)),
            deeds: Arc::default(),
            near: Arc::default(),
            layouts: Arc::default(),
            files: Arc::new(Semaphore::new(1)),
            drawing: Arc::default(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    /// Asks the ledger on a thread that may wait for the disk.
    pub(super) async fn ask<T, Q>(&self, query: Q) -> Result<T, Problem>
    where
        T: Send + 'static,
        Q: FnOnce(&View) -> Result<T, IndexError> + Send + 'static,
    {
        self.state.records.ask(query).await
    }

    /// What has happened by now. It changes when something was recorded, when the ledger or a loop
    /// stands otherwise, and every half minute, for what changes without a record.
    pub(super) fn moment(&self, now: Timestamp) -> String {
        let happened = self.state.happened();
        format!("{happened:x}-{}", now.micros() / HALF_MINUTE_US)
    }

    /// Live pages that are open.
    pub(super) fn open_pages(&self) -> u32 {
        let open = LIVE_PAGES.saturating_sub(self.live.available_permits());
        u32::try_from(open).unwrap_or(u32::MAX)
    }

    /// Takes note of how long a page took.
    pub(super) fn drawn_in(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.drawing.load(Ordering::Relaxed);
        let smooth = before - before / 4 + took / 4;
        self.drawing.store(smooth, Ordering::Relaxed);
    }

    /// How long drawing a page takes about now.
    pub(super) fn drawing(&self) -> Duration {
        Duration::from_micros(self.drawing.load(Ordering::Relaxed))
    }
}
