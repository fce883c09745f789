//! What operators see and do of loops while calls run.

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
        let mut open = Vec::new();
        for shard in &self.runs {
            let all: Vec<_> = lock(shard).values().cloned().collect();
            for watched in all {
                open.extend(lock(&watched).guard.open_trips().cloned());
            }
        }
        open.sort_unstable_by_key(|trip| std::cmp::Reverse(trip.id));
        open
    }

    /// Closes a trip: its pattern has to show again from nothing, after `allow` calls that pass
    /// whatever they repeat.
    pub fn reset(&self, id: CallId, allow: u32, who: &str) -> Result<Trip, OperateError> {
        let now = self.clock.now();
        for shard in &self.runs {
            let all: Vec<_> = lock(shard).values().cloned().collect();
            for watched in all {
                let Some(trip) = lock(&watched).guard.reset(id, allow, now) else {
                    continue;
                };
                let details = format!("by {who}: {}", refusal::closed(&trip));
                self.event("loop_closed", details, Some(trip.clone()));
                return Ok(trip);
            }
        }
        Err(OperateError::NoSuchTrip(id))
    }
}
