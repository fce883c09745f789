//! Trips that are open now, apart from the runs that they are of: whoever asks walks no runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::lock;
use crate::core::id::{CallId, Label};
use crate::core::loops::guard::{No, Verdict};
use crate::core::loops::trip::Trip;

/// What one run is watched under.
pub(super) type Key = (u64, Label);

/// All open trips. Changed only while the lock of the run is held that they are of, so that one
/// that closes cannot be put in after it was taken out.
#[derive(Debug, Default)]
pub(super) struct OpenTrips(Mutex<BTreeMap<CallId, (Key, Arc<Trip>)>>);

impl OpenTrips {
    /// Takes in what a call did to the trips of its run.
    pub(super) fn note(&self, key: &Key, verdict: &Verdict) {
        let refused = match &verdict.refusal {
            Some(No::Tripped(trip)) => Some(trip),
            Some(No::Beyond(_)) | None => None,
        };
        if verdict.changed.is_empty() && refused.is_none() {
            return;
        }
        let mut open = lock(&self.0);
        for trip in &verdict.changed {
            match trip.closed {
                None => open.insert(trip.id, (key.clone(), Arc::new(trip.clone()))),
                Some(_) => open.remove(&trip.id),
            };
        }
        if let Some(trip) = refused
            && let Some((_, known)) = open.get_mut(&trip.id)
        {
            Arc::make_mut(known).refused = trip.refused;
        }
    }

    pub(super) fn close(&self, trips: &[Trip]) {
        let mut open = lock(&self.0);
        for trip in trips {
            open.remove(&trip.id);
        }
    }

    /// Of which run a trip is.
    pub(super) fn run_of(&self, id: CallId) -> Option<Key> {
        let open = lock(&self.0);
        open.get(&id).map(|(key, _)| key.clone())
    }

    pub(super) fn trip(&self, id: CallId) -> Option<Arc<Trip>> {
        let open = lock(&self.0);
        open.get(&id).map(|(_, trip)| Arc::clone(trip))
    }

    /// How many there are, and the latest of them, at most `most`.
    pub(super) fn latest(&self, most: usize) -> (usize, Vec<Arc<Trip>>) {
        let open = lock(&self.0);
        let trips = open.values().rev().take(most);
        let trips = trips.map(|(_, trip)| Arc::clone(trip));
        (open.len(), trips.collect())
    }
}
