//! What operators see and do of loops while calls run.

use std::sync::Arc;

use super::{Loops, lock};
use crate::core::id::CallId;
use crate::core::loops::refusal;
use crate::core::loops::trip::{Closed, ClosedBy, Trip};
use crate::ledger::{Event, Unavailable};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    #[error("no trip {0} is open")]
    NoSuchTrip(CallId),
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
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
    /// whatever they repeat. It is in the ledger before any call goes on, or nothing is done.
    pub async fn reset(&self, id: CallId, allow: u32, who: &str) -> Result<Trip, OperateError> {
        let now = self.clock.now();
        if let Some(trip) = self.remote_trips.trip(id) {
            return self.reset_elsewhere(trip, who).await;
        }
        let run = self.open.run_of(id);
        let watched = run.and_then(|(tenant, run)| self.known(tenant, &run));
        let watched = watched.ok_or(OperateError::NoSuchTrip(id))?;
        let (trip, durable) = {
            let mut watched = lock(&watched);
            let open = watched.guard.open_trips().find(|trip| trip.id == id);
            let mut trip = open.cloned().ok_or(OperateError::NoSuchTrip(id))?;
            let by = ClosedBy::Operator;
            trip.closed = Some(Closed { at: now, by });
            let details = format!("by {who}: {}", refusal::closed(&trip));
            let mut event = Event::own(now, "loop_closed", Some(details));
            event.trip = Some(Box::new(trip.clone()));
            let durable = self.keeper.keep(event)?;
            watched.guard.reset(id, allow, now);
            self.open.close(std::slice::from_ref(&trip));
            (trip, durable)
        };
        durable.await;
        self.tell_remote(0, &trip);
        Ok(trip)
    }

    /// Closes a trip of another instance, there too.
    async fn reset_elsewhere(&self, mut trip: Trip, who: &str) -> Result<Trip, OperateError> {
        let (at, by) = (self.clock.now(), ClosedBy::Operator);
        trip.closed = Some(Closed { at, by });
        let details = format!("by {who}: {}", refusal::closed(&trip));
        let mut event = Event::own(at, "loop_closed", Some(details));
        event.trip = Some(Box::new(trip.clone()));
        let durable = self.keeper.keep(event)?;
        self.remote_trips.close(trip.id);
        durable.await;
        self.tell_remote(0, &trip);
        Ok(trip)
    }

    /// Closes a trip that was reset on another instance.
    pub fn unfollow(&self, id: CallId) {
        self.remote_trips.close(id);
        let Some((tenant, run)) = self.open.run_of(id) else {
            return;
        };
        let Some(watched) = self.known(tenant, &run) else {
            return;
        };
        let now = self.clock.now();
        let closed = {
            let mut watched = lock(&watched);
            let closed = watched.guard.reset(id, 0, now);
            self.open.close(closed.as_slice());
            closed
        };
        if let Some(trip) = closed {
            let details = format!("on another instance: {}", refusal::closed(&trip));
            self.event("loop_closed", details, Some(trip));
        }
    }
}
