//! What operators see and do of loops while calls run.

use std::sync::Arc;

use super::{Loops, lock};
use crate::core::id::CallId;
use crate::core::loops::refusal;
use crate::core::loops::trip::Trip;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    #[error("no trip {0} is open")]
    NoSuchTrip(CallId),
}

impl Loops {
    /// All trips that are open now, the latest first.
    pub fn open_trips(&self) -> Vec<Trip> {
        let (_, open) = self.open.latest(usize::MAX);
        open.iter().map(|trip| Trip::clone(trip)).collect()
    }

    /// How many trips are open now, and the latest of them, at most `most`. Cheap: walks no runs.
    pub fn latest_trips(&self, most: usize) -> (usize, Vec<Arc<Trip>>) {
        self.open.latest(most)
    }

    /// The trip of this id, if it is open.
    pub fn open_trip(&self, id: CallId) -> Option<Arc<Trip>> {
        self.open.trip(id)
    }

    /// Closes a trip: its pattern has to show again from nothing, after `allow` calls that pass
    /// whatever they repeat.
    pub fn reset(&self, id: CallId, allow: u32, who: &str) -> Result<Trip, OperateError> {
        let now = self.clock.now();
        let run = self.open.run_of(id);
        let watched = run.and_then(|(tenant, run)| self.known(tenant, &run));
        let reset = watched.and_then(|watched| {
            let mut watched = lock(&watched);
            let trip = watched.guard.reset(id, allow, now)?;
            self.open.close(std::slice::from_ref(&trip));
            Some(trip)
        });
        let trip = reset.ok_or(OperateError::NoSuchTrip(id))?;
        let details = format!("by {who}: {}", refusal::closed(&trip));
        self.event("loop_closed", details, Some(trip.clone()));
        Ok(trip)
    }
}
