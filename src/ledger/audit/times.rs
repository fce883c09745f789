//! When records were made, as far as they say so.

use std::io;

use crate::core::budget::Act;
use crate::core::call::{Admission, LateUsage, Settlement};
use crate::core::metric::Measurement;
use crate::core::time::Timestamp;

use super::super::log::read_record;
use super::super::record::{Event, Position, kind};
use super::super::removal::Removal;
use super::super::storage::Storage;

/// A record that says when it was made.
pub(super) type Timed = (u8, Position);

/// The last record that was met and says when it was made: read only when somebody asks, and once.
#[derive(Default)]
pub(super) struct LastTime {
    timed: Option<Timed>,
    read: Option<(Timed, Option<Timestamp>)>,
}

impl LastTime {
    pub(super) fn pass(&mut self, timed: Timed) {
        self.timed = Some(timed);
    }

    pub(super) fn get(&mut self, storage: &dyn Storage) -> io::Result<Option<Timestamp>> {
        let Some(timed) = self.timed else {
            return Ok(None);
        };
        if let Some((read, time)) = self.read
            && read == timed
        {
            return Ok(time);
        }
        let time = read(storage, timed)?;
        self.read = Some((timed, time));
        Ok(time)
    }
}

pub(super) fn read(storage: &dyn Storage, (kind, at): Timed) -> io::Result<Option<Timestamp>> {
    let record = read_record(storage, at)?;
    Ok(record.and_then(|record| time_of(kind, &record.payload)))
}

pub(super) fn is_timed(kind: u8) -> bool {
    is_stamped(kind) || matches!(kind, kind::SETTLEMENT | kind::LATE | kind::MEASUREMENT)
}

/// Whether it is handed to the writer the moment that it says.
pub(super) fn is_stamped(kind: u8) -> bool {
    matches!(
        kind,
        kind::ADMISSION | kind::EVENT | kind::ACT | kind::REMOVAL
    )
}

/// When a record was made, if it says so.
pub(super) fn time_of(kind: u8, payload: &[u8]) -> Option<Timestamp> {
    match kind {
        kind::ADMISSION => decode(payload).map(|it: Admission| it.started_at),
        kind::SETTLEMENT => decode(payload).map(|it: Settlement| it.charged_at()),
        kind::EVENT => decode(payload).map(|it: Event| it.at),
        kind::ACT => decode(payload).map(|it: Act| it.at),
        kind::LATE => decode(payload).map(|it: LateUsage| it.at),
        kind::MEASUREMENT => decode(payload).map(|it: Measurement| it.at),
        kind::REMOVAL => Removal::parse(payload).map(|it| it.at),
        _ => None,
    }
}

fn decode<'b, T: minicbor::Decode<'b, ()>>(payload: &'b [u8]) -> Option<T> {
    minicbor::decode(payload).ok()
}
