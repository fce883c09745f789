//! One call in the ledger, from its admission to its settlement.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Durability, RecordLevel};
use crate::core::budget::Charge;
use crate::core::call::{Admission, Outcome, Settlement};
use crate::core::id::CallId;
use crate::core::recorded::HeaderLines;
use crate::core::space::Room;

use super::body::Capture;
use super::queue::{Durable, Op, Queue, Receipt, commit};
use super::recovery::unsettled;
use super::{Policy, RECORD_ROOM, Unavailable, charges_room};

/// A call that was admitted. Settle it; dropped without that, it is recorded as cut.
#[derive(Debug)]
#[must_use = "a call that is not settled is recorded as cut"]
pub struct Entry {
    id: CallId,
    durable: Durable,
    /// How to record the end, and what is known of it as long as nobody says more. None when the
    /// ledger takes nothing in and calls are served all the same.
    recording: Option<(Recording, Box<Settlement>)>,
}

/// What recording the settlement takes.
#[derive(Debug)]
struct Recording {
    queue: Arc<Queue>,
    room: Room,
    /// How much of the room is for charges.
    charges_room: usize,
    policy: Policy,
    clock: Clock,
}

impl Entry {
    /// Queues an admission.
    pub(super) fn record(
        queue: &Arc<Queue>,
        policy: Policy,
        clock: &Clock,
        mut admission: Admission,
        mut request: Option<Capture>,
    ) -> Result<Self, Unavailable> {
        let charges_room = charges_room(&admission.hold);
        let reserve = || queue.reserve(RECORD_ROOM + charges_room);
        let room = reserve().ok_or(Unavailable::Full)?;
        let mut admission_room = reserve().ok_or(Unavailable::Full)?;
        keep_headers(queue, &mut admission_room, policy, &mut admission.headers);
        let mut known = Box::new(unsettled(&admission, Outcome::Cut));
        known.request_bytes = request.as_ref().map_or(0, |request| request.len);
        limit(policy.record, &mut request);
        if policy.record == RecordLevel::None
            && let Some(query) = admission.target.find('?')
        {
            admission.target.truncate(query);
        }
        fit(queue, &mut admission_room, policy, &mut request);
        let (commit, durable) = match policy.durability {
            Durability::Relaxed => (None, Durable::READY),
            Durability::Strict => {
                let (commit, durable) = commit();
                (Some(commit), durable)
            }
        };
        let receipt = Receipt {
            room: admission_room,
            commit,
        };
        let id = admission.id;
        queue.push(Op::Admit(Box::new(admission), request, receipt));
        let recording = Recording {
            queue: Arc::clone(queue),
            room,
            charges_room,
            policy,
            clock: clock.clone(),
        };
        Ok(Self {
            id,
            durable,
            recording: Some((recording, known)),
        })
    }

    /// One that records nothing.
    pub(super) fn unrecorded(id: CallId) -> Self {
        Self {
            id,
            durable: Durable::READY,
            recording: None,
        }
    }

    pub fn id(&self) -> CallId {
        self.id
    }

    /// What it costs, as long as nobody says more, is more than it held at first.
    pub fn now_holds(&mut self, hold: Vec<Charge>) {
        if let Some((_, known)) = &mut self.recording {
            known.settle_at(hold);
        }
    }

    /// Whether this call is recorded; not so while the ledger fails and calls are served.
    pub fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// Resolves when the admission is on disk; at once when nobody waits for that, or when the
    /// ledger fails.
    pub fn durable(&self) -> Durable {
        self.durable.clone()
    }

    /// Records how the call ended. Cannot fail and does not block: the room is reserved. The body
    /// is left out (and counted) when there is no room for it.
    pub fn settle(mut self, settlement: Settlement, response: Option<Capture>) {
        if let Some((recording, _)) = self.recording.take() {
            recording.settle(Box::new(settlement), response);
        }
    }
}

impl Recording {
    fn settle(mut self, mut settlement: Box<Settlement>, mut response: Option<Capture>) {
        limit(self.policy.record, &mut response);
        if self.policy.record == RecordLevel::None {
            settlement.error = None;
        }
        // What was not held beforehand can be charged too, and must not be left out for lack of room.
        let more = charges_room(&settlement.charges).saturating_sub(self.charges_room);
        self.room.grow(more, usize::MAX);
        let marks = size_of_val(settlement.chunks.as_slice());
        if !self.queue.extend(&mut self.room, marks) {
            settlement.chunks = Vec::new();
        }
        let headers = &mut settlement.headers;
        keep_headers(&self.queue, &mut self.room, self.policy, headers);
        fit(&self.queue, &mut self.room, self.policy, &mut response);
        let receipt = Receipt {
            room: self.room,
            commit: None,
        };
        self.queue
            .push(Op::Settle(settlement, response, Some(receipt)));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some((recording, mut known)) = self.recording.take() {
            let now = recording.clock.now();
            known.timings.total_us = now.micros_since(known.started_at);
            known.settled_at = Some(now);
            recording.settle(known, None);
        }
    }
}

/// Bodies are kept at level `full` only.
fn limit(level: RecordLevel, body: &mut Option<Capture>) {
    if level < RecordLevel::Full {
        *body = None;
    }
}

/// Takes room for headers; leaves them out if there is none, or if no more is kept than what a call
/// used.
fn keep_headers(queue: &Queue, room: &mut Room, policy: Policy, headers: &mut Option<HeaderLines>) {
    let len = headers.as_ref().map_or(0, HeaderLines::len);
    if policy.record == RecordLevel::None || !queue.extend(room, len) {
        *headers = None;
    }
}

/// Takes room for what is stored of a body; leaves its bytes out if there is not that much.
fn fit(queue: &Queue, room: &mut Room, policy: Policy, body: &mut Option<Capture>) {
    let Some(body) = body else { return };
    body.cut(policy.max_body_bytes);
    if !queue.extend(room, body.size()) {
        body.chunks.clear();
        body.segments.clear();
        queue.count_dropped_body();
    }
}
