//! Loops that other instances stopped: their calls are refused here too, for as long as they would be
//! there. What is a loop each instance finds by itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::open::Key;
use super::{Loops, lock};
use crate::core::attribution::Attribution;
use crate::core::id::CallId;
use crate::core::loops::finding::Scope;
use crate::core::loops::refusal;
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;
use crate::shared::Shared;
use crate::shared::deeds::{SharedDeed, Told};

/// Trips of other instances that are kept; the oldest leave.
const MOST: usize = 1000;

/// What other instances stopped, and the way to tell them.
#[derive(Default)]
pub(super) struct RemoteTrips {
    shared: OnceLock<Arc<Shared>>,
    /// Nobody locks the list where there is nothing in it.
    has_any: AtomicBool,
    trips: Mutex<VecDeque<(Key, Trip)>>,
}

impl RemoteTrips {
    /// The trip that bars a call: of its run, or of what it says that it is.
    pub(super) fn bars(
        &self,
        key: &Key,
        who: &Attribution,
        (now, cool_down_us): (Timestamp, u64),
    ) -> Option<Trip> {
        if !self.has_any.load(Ordering::Acquire) {
            return None;
        }
        let covers = |trip: &Trip| match trip.evidence.scope {
            Scope::Run => true,
            Scope::Conversation => {
                trip.conversation.is_some() && trip.conversation == who.conversation
            }
            Scope::Edge => trip.agent == who.agent && trip.caller == who.caller,
        };
        let mut trips = lock(&self.trips);
        trips.retain(|(_, trip)| now.micros_since(trip.at) < cool_down_us);
        self.has_any.store(!trips.is_empty(), Ordering::Release);
        let mut of_run = trips.iter_mut().filter(|(of, _)| of == key);
        let (_, trip) = of_run.find(|(_, trip)| covers(trip))?;
        trip.refused = trip.refused.saturating_add(1);
        Some(trip.clone())
    }

    pub(super) fn trip(&self, id: CallId) -> Option<Trip> {
        let trips = lock(&self.trips);
        let mut trips = trips.iter();
        trips
            .find(|(_, trip)| trip.id == id)
            .map(|(_, trip)| trip.clone())
    }

    pub(super) fn close(&self, id: CallId) {
        let mut trips = lock(&self.trips);
        trips.retain(|(_, trip)| trip.id != id);
        self.has_any.store(!trips.is_empty(), Ordering::Release);
    }

    fn add(&self, key: Key, trip: Trip) {
        let mut trips = lock(&self.trips);
        trips.retain(|(_, known)| known.id != trip.id);
        if trips.len() >= MOST {
            trips.pop_front();
        }
        trips.push_back((key, trip));
        self.has_any.store(true, Ordering::Release);
    }
}

impl Loops {
    /// From now on other instances are told of trips.
    pub fn share(&self, shared: Arc<Shared>) {
        // It is said once, at the start.
        let _ = self.remote_trips.shared.set(shared);
    }

    /// A loop was stopped on another instance.
    pub fn follow(&self, tenant: u64, trip: Trip) {
        if let Some(run) = trip.run.clone() {
            self.remote_trips.add((tenant, run), trip);
        }
    }

    /// Tells other instances that a trip opened or closed.
    pub(super) fn tell_remote(&self, tenant: u64, trip: &Trip) {
        let Some(shared) = self.remote_trips.shared.get() else {
            return;
        };
        let (deed, details) = match &trip.closed {
            None => {
                let shown = Trip {
                    // What is repeated stays where it was said.
                    evidence: crate::core::loops::trip::Evidence {
                        sample: Vec::new(),
                        ..trip.evidence.clone()
                    },
                    ..trip.clone()
                };
                (
                    SharedDeed::Tripped(tenant, Box::new(shown)),
                    refusal::opened(trip),
                )
            }
            Some(_) => (SharedDeed::Closed(trip.id), refusal::closed(trip)),
        };
        shared.tell_soon(&Told {
            at: self.clock.now(),
            who: "open-aiops".to_owned(),
            deed,
            details,
            place: shared.naming().title().to_owned(),
        });
    }
}
