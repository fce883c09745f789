//! Events in the order they came: all of a span one by one, or those of one run.

use std::collections::VecDeque;

use redb::ReadTransaction;

use crate::core::id::Label;
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;

use super::super::index::{EVENTS, IndexError};
use super::super::record::Event;
use super::{MAX_ROWS, View, table};

/// Events that are looked at for what became of the trips of a run after its time.
const MAX_LOOKED_AT: usize = 20_000;

/// What happened to one run, oldest first: the last thousand of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunEvents {
    /// As they were said last.
    pub trips: Vec<Trip>,
    /// What people and the proxy did to the run as a whole.
    pub deeds: Vec<Event>,
}

impl View {
    /// Gives every event since a moment to `take`, oldest first.
    pub fn each_event(
        &self,
        since: Timestamp,
        mut take: impl FnMut(&Event),
    ) -> Result<(), IndexError> {
        self.index.read(|txn| {
            each(txn, since, |event| {
                take(&event);
                true
            })
        })
    }

    /// Gives events to `take`, newest first, for as long as it says that it wants more. One that cannot
    /// be read is passed over.
    pub fn each_event_back(&self, mut take: impl FnMut(&Event) -> bool) -> Result<(), IndexError> {
        self.index.read(|txn| {
            let Some(events) = table(txn, EVENTS)? else {
                return Ok(());
            };
            for entry in events.range::<(i64, u64, u64)>(..)?.rev() {
                let event = Event::parse(entry?.1.value());
                if event.is_some_and(|event| !take(&event)) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// What happened to a run from `since` until before `until`, however much happened to others.
    /// Of trips that are open by then it is looked for their end after that, among some events.
    pub fn events_of_run(
        &self,
        run: &Label,
        (since, until): (Timestamp, Timestamp),
    ) -> Result<RunEvents, IndexError> {
        self.index.read(|txn| of_run(txn, run, (since, until)))
    }
}

fn of_run(
    txn: &ReadTransaction,
    run: &Label,
    (since, until): (Timestamp, Timestamp),
) -> Result<RunEvents, IndexError> {
    let details = format!("run {run}");
    let (mut trips, mut deeds) = (VecDeque::<Trip>::new(), VecDeque::new());
    let mut looked_at_after = 0;
    each(txn, since, |event| {
        let is_after = event.at >= until;
        looked_at_after += usize::from(is_after);
        if is_after
            && (looked_at_after > MAX_LOOKED_AT || trips.iter().all(|trip| trip.closed.is_some()))
        {
            return false;
        }
        match event.trip {
            Some(trip) if trip.run.as_ref() == Some(run) => {
                match trips.iter_mut().rev().find(|known| known.id == trip.id) {
                    Some(known) => *known = *trip,
                    None if is_after => {}
                    None => push(&mut trips, *trip),
                }
            }
            None if !is_after && event.details.as_ref() == Some(&details) => {
                push(&mut deeds, event);
            }
            _ => {}
        }
        true
    })?;
    Ok(RunEvents {
        trips: trips.into(),
        deeds: deeds.into(),
    })
}

fn push<T>(last: &mut VecDeque<T>, one: T) {
    if last.len() >= MAX_ROWS {
        last.pop_front();
    }
    last.push_back(one);
}

/// Events from a moment on, oldest first, for as long as `take` says so.
fn each(
    txn: &ReadTransaction,
    since: Timestamp,
    mut take: impl FnMut(Event) -> bool,
) -> Result<(), IndexError> {
    let Some(events) = table(txn, EVENTS)? else {
        return Ok(());
    };
    for entry in events.range((since.micros(), 0, 0)..)? {
        let event = Event::parse(entry?.1.value()).ok_or(IndexError::Damaged)?;
        if !take(event) {
            break;
        }
    }
    Ok(())
}
