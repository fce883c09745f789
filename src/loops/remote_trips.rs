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

/// A trip of another instance.
struct Barred {
    key: Key,
    trip: Trip,
    /// By the clock that all instances share.
    until: Timestamp,
}

/// What other instances stopped, and the way to tell them.
#[derive(Default)]
pub(super) struct RemoteTrips {
    shared: OnceLock<Arc<Shared>>,
    /// Nobody locks the list where there is nothing in it.
    has_any: AtomicBool,
    trips: Mutex<VecDeque<Barred>>,
}

impl RemoteTrips {
    /// The trip that bars a call: of its run, or of what it says that it is. `now` is by our clock.
    pub(super) fn bars(&self, key: &Key, who: &Attribution, now: Timestamp) -> Option<Trip> {
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
        let now = self.shared_time(now);
        let mut trips = lock(&self.trips);
        trips.retain(|barred| now < barred.until);
        self.has_any.store(!trips.is_empty(), Ordering::Release);
        let mut all = trips.iter_mut();
        let Barred { trip, .. } = all.find(|it| it.key == *key && covers(&it.trip))?;
        trip.refused = trip.refused.saturating_add(1);
        Some(trip.clone())
    }

    pub(super) fn trip(&self, id: CallId) -> Option<Trip> {
        let trips = lock(&self.trips);
        let mut trips = trips.iter();
        trips.find(|it| it.trip.id == id).map(|it| it.trip.clone())
    }

    pub(super) fn close(&self, id: CallId) {
        let mut trips = lock(&self.trips);
        trips.retain(|it| it.trip.id != id);
        self.has_any.store(!trips.is_empty(), Ordering::Release);
    }

    fn add(&self, barred: Barred) {
        let mut trips = lock(&self.trips);
        trips.retain(|known| known.trip.id != barred.trip.id);
        if trips.len() >= MOST {
            trips.pop_front();
        }
        trips.push_back(barred);
        self.has_any.store(true, Ordering::Release);
    }

    /// A moment of our clock by the one that all instances share.
    fn shared_time(&self, at: Timestamp) -> Timestamp {
        let shared = self.shared.get();
        shared.map_or(at, |shared| shared.corrected(at))
    }
}

impl Loops {
    /// From now on other instances are told of trips.
    pub fn share(&self, shared: Arc<Shared>) {
        // It is said once, at the start.
        let _ = self.remote_trips.shared.set(shared);
    }

    /// A loop was stopped on another instance: for as long as it would be here.
    pub fn follow(&self, tenant: u64, trip: Trip) {
        let Some(run) = trip.run.clone() else { return };
        let cool_down_us = self.config.load().policy_for(&trip.agent).cool_down_us;
        self.remote_trips.add(Barred {
            key: (tenant, run),
            until: trip.at.plus_micros(cool_down_us),
            trip,
        });
    }

    /// Tells other instances that a trip opened or closed.
    pub(super) fn tell_remote(&self, tenant: u64, trip: &Trip) {
        let Some(shared) = self.remote_trips.shared.get() else {
            return;
        };
        let (deed, details) = match &trip.closed {
            None => {
                let shown = Trip {
                    at: self.remote_trips.shared_time(trip.at),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::core::attribution::{Confidence, Source};
    use crate::core::id::Label;
    use crate::core::loops::finding::Signal;
    use crate::core::loops::trip::Evidence;

    const SECOND: i64 = 1_000_000;

    fn label(text: &str) -> Label {
        Label::parse(text).unwrap()
    }

    fn trip(agent: &str, at: Timestamp) -> Trip {
        Trip {
            id: CallId::from_bytes([1; 16]),
            at,
            run: Some(label(agent)),
            conversation: None,
            agent: label(agent),
            caller: None,
            evidence: Evidence {
                signal: Signal::Repeat,
                scope: Scope::Run,
                period: 1,
                count: 9,
                agents: Vec::new(),
                calls: Vec::new(),
                since: at,
                tokens: 0,
                sample: Vec::new(),
            },
            refused: 0,
            closed: None,
        }
    }

    fn calls(agent: &str) -> Attribution {
        Attribution {
            agent: label(agent),
            caller: None,
            run: Some(label(agent)),
            parent_run: None,
            path: Vec::new(),
            depth: 1,
            user: None,
            variant: None,
            conversation: None,
            tags: BTreeMap::new(),
            metrics: BTreeMap::new(),
            agent_source: Source::Own,
            run_source: None,
            inferred: Confidence::default(),
        }
    }

    #[test]
    fn loop_stopped_elsewhere_stays_stopped_for_its_own_cool_down_whoever_calls_meanwhile() {
        let agents = "[[loops.agent]]\nmatch = \"quick\"\ncool_down = \"10s\"\n\
                      [[loops.agent]]\nmatch = \"slow\"\ncool_down = \"5m\"\n";
        let config = Config::parse("test", agents, &|_| None).unwrap();
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let loops = Loops::new(&config, clock.clone(), Box::new(()));
        loops.follow(7, trip("slow", clock.now()));
        let is_barred = |agent: &str| {
            let key = (7, label(agent));
            let trips = &loops.remote_trips;
            trips.bars(&key, &calls(agent), clock.now()).is_some()
        };
        clock.advance_micros(20 * SECOND);
        assert!(!is_barred("quick"));
        assert!(is_barred("slow"), "that one of another agent came first");
        clock.advance_micros(280 * SECOND);
        assert!(!is_barred("slow"));
    }
}
