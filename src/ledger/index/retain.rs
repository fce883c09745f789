//! Letting the oldest segments go: first what the index has of them, then the files.

use std::collections::HashSet;
use std::io;

use redb::{ReadableTable, WriteTransaction};

use crate::core::call::{Admission, Settlement};
use crate::core::id::CallId;
use crate::core::metric::Measurement;
use crate::core::time::Timestamp;

use super::super::checkpoint::{self, Calls};
use super::super::log::{LogReader, Segment, Step, read_record};
use super::super::record::{Chain, Content, Event, Position, kind};
use super::super::removal::{Removal, Removed};
use super::super::storage::Storage;
use super::super::summary::Key;
use super::batch::budgets::lasts;
use super::batch::measured::Measured;
use super::batch::slices::raise_floor;
use super::batch::{Batch, decode, id_key};
use super::follow::Follower;
use super::{
    ACCOUNTS, BY_AGENT, BY_RUN, CALLS, CHECKPOINTS, CONTENTS, CallMark, EVENTS, Index, IndexError,
    OPEN, OpenMark, PENDING, RESPONSES, RUNS_BY_ACTIVITY, SUMMARIES, StoredCall,
};

/// The last border up to `keep_from` that has a checkpoint, if any segment lies before it.
pub(super) fn border(follower: &Follower, keep_from: u64) -> Result<Option<u64>, IndexError> {
    let first = follower.catalog.first().map_or(0, |first| first.number);
    if first >= keep_from {
        return Ok(None);
    }
    follower.index.read(|txn| {
        let checkpoints = match txn.open_table(CHECKPOINTS) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table?,
        };
        let border = checkpoints
            .range(first + 1..=keep_from)?
            .next_back()
            .transpose()?;
        Ok(border.map(|(before, _)| before.value()))
    })
}

/// What is on record before all segments before `before` go; none while nothing is known of that
/// one's place.
pub(super) fn removal(before: u64, segments: &[Segment], now: Timestamp) -> Option<Removal> {
    let going = || segments.iter().filter(|it| it.number < before);
    let next = segments.iter().find(|it| it.number == before)?.header?;
    let bytes: u64 = going().map(|it| it.len).sum();
    let details = format!(
        "retention: segments {} to {} go ({} files, {bytes} bytes, begun {} to {}); the log begins \
         with segment {before}",
        going().next()?.number,
        going().next_back()?.number,
        going().count(),
        going().find_map(|it| it.header)?.created_at,
        next.created_at,
    );
    Some(Removal {
        at: now,
        who: "open-aiops".to_owned(),
        details,
        what: Removed::Front {
            before,
            chain: next.continues,
        },
    })
}

/// What is put on record once where an older version let the front of the log go: it did not say so.
pub(crate) fn unrecorded_front(
    index: &Index,
    (storage, segments): (&dyn Storage, &[Segment]),
    now: Timestamp,
) -> Result<Option<Removal>, IndexError> {
    let first = segments.first().and_then(|first| first.header);
    let Some(first) = first.filter(|first| first.continues != Chain::GENESIS) else {
        return Ok(None);
    };
    let what = Removed::Front {
        before: first.number,
        chain: first.continues,
    };
    let is_owed = index.read(|txn| {
        // Retention leaves a checkpoint that stands for what went.
        let checkpoints = txn.open_table(CHECKPOINTS)?;
        if checkpoints.get(first.number)?.is_none() {
            return Ok(false);
        }
        for entry in txn.open_table(EVENTS)?.iter()?.rev() {
            let (key, event) = entry?;
            let event = Event::parse(event.value());
            if event.is_none_or(|event| event.what != Event::SEGMENTS_RETIRED) {
                continue;
            }
            let (_, segment, offset) = key.value();
            let record = read_record(storage, Position { segment, offset })?;
            let told = record.and_then(|record| Removal::parse(&record.payload));
            if told.is_some_and(|told| told.what == what) {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    let details = format!(
        "the log began with segment {} when this version first ran on it: an older one let those before \
         it go and did not say so",
        first.number
    );
    Ok(is_owed.then(|| Removal {
        at: now,
        who: "open-aiops".to_owned(),
        details,
        what,
    }))
}

/// Drops all segments before `before`, for which there is a checkpoint.
pub(super) fn drop_before(follower: &Follower, before: u64) -> Result<(), IndexError> {
    let segments: Vec<Segment> = follower
        .catalog
        .all()
        .into_iter()
        .filter(|segment| segment.number < before)
        .collect();
    follower
        .index
        .write(true, |txn| forget(follower, txn, &segments, before))?;
    for segment in &segments {
        match follower.storage.remove(segment.number) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => follower.catalog.remove(segment.number),
        }
        // One by one: were a later one gone and this one back after a loss of power, the log would
        // have a hole.
        follower.storage.sync_dir()?;
    }
    Ok(())
}

/// Takes out of the index what only these segments hold.
fn forget(
    follower: &Follower,
    txn: &WriteTransaction,
    segments: &[Segment],
    before: u64,
) -> Result<(), IndexError> {
    let Some(at) = checkpoint_at(txn, before)? else {
        return Ok(());
    };
    let record = read_record(&*follower.storage, at)?;
    let checkpoint = record.and_then(|record| checkpoint::calls(&record.payload));
    let pending = checkpoint.iter().flat_map(|checkpoint| &checkpoint.pending);
    let pending = pending.map(|(admission, _)| admission.id).collect();
    let mut forgetting = Forgetting::begin(txn, before, (at, pending))?;
    let mut reader = LogReader::from_start(&*follower.storage, segments);
    while let Some(step) = reader.next()? {
        if let Step::Record { kind, payload, .. } = step {
            forgetting.record(kind, payload)?;
        }
    }
    drop(forgetting);
    txn.open_table(EVENTS)?
        .retain(|(_, segment, _), _| segment >= before)?;
    if let Some(checkpoint) = checkpoint {
        raise_floor(txn, checkpoint.at)?;
        forget_runs(txn, &checkpoint)?;
        txn.open_table(ACCOUNTS)?.retain(|_, account| {
            // What makes no sense is found by whoever asks for it.
            decode(account).map_or(true, |account| lasts(&account, checkpoint.at))
        })?;
    }
    Ok(())
}

fn checkpoint_at(txn: &WriteTransaction, before: u64) -> Result<Option<Position>, IndexError> {
    let mut checkpoints = txn.open_table(CHECKPOINTS)?;
    checkpoints.retain(|border, _| border >= before)?;
    let at = checkpoints.get(before)?;
    Ok(at.map(|at| Position {
        segment: at.value().0,
        offset: at.value().1,
    }))
}

/// Runs that ended before the border go with their calls.
fn forget_runs(txn: &WriteTransaction, checkpoint: &Calls) -> Result<(), IndexError> {
    let lasting: HashSet<_> = Batch::begin(txn)?.lasting_runs(checkpoint.at)?;
    let mut summaries = txn.open_table(SUMMARIES)?;
    summaries.retain(|key, _| {
        let key = Key::from_bytes(key);
        key.as_ref()
            .and_then(Key::run)
            .is_none_or(|run| lasting.contains(run))
    })?;
    txn.open_table(RUNS_BY_ACTIVITY)?
        .retain(|(_, run), ()| lasting.contains(run))?;
    Ok(())
}

/// The tables calls and contents are taken out of.
struct Forgetting<'t> {
    before: u64,
    /// Where the checkpoint lies that has the admissions of calls that were open at the border.
    checkpoint: Position,
    /// Calls it has both records of, since they were pending.
    kept: HashSet<CallId>,
    pending: redb::Table<'t, u128, ()>,
    calls: redb::Table<'t, u128, &'static [u8]>,
    open: redb::Table<'t, u128, OpenMark>,
    by_run: redb::Table<'t, (&'static str, u128), CallMark>,
    by_agent: redb::Table<'t, (&'static str, u128), ()>,
    responses: redb::Table<'t, &'static str, u128>,
    contents: redb::Table<'t, u128, (u64, u64, bool)>,
    measured: Measured<'t>,
}

impl<'t> Forgetting<'t> {
    fn begin(
        txn: &'t WriteTransaction,
        before: u64,
        (checkpoint, kept): (Position, HashSet<CallId>),
    ) -> Result<Self, IndexError> {
        Ok(Self {
            before,
            checkpoint,
            kept,
            pending: txn.open_table(PENDING)?,
            calls: txn.open_table(CALLS)?,
            open: txn.open_table(OPEN)?,
            by_run: txn.open_table(BY_RUN)?,
            by_agent: txn.open_table(BY_AGENT)?,
            responses: txn.open_table(RESPONSES)?,
            contents: txn.open_table(CONTENTS)?,
            measured: Measured::begin(txn)?,
        })
    }

    fn record(&mut self, kind: u8, payload: &[u8]) -> Result<(), IndexError> {
        match kind {
            kind::CONTENT => {
                if let Ok(content) = minicbor::decode::<Content<'_>>(payload) {
                    let digest = u128::from_be_bytes(content.digest.to_bytes());
                    let stored = self.contents.get(digest)?.map(|at| at.value().0);
                    if stored.is_some_and(|segment| segment < self.before) {
                        self.contents.remove(digest)?;
                    }
                }
            }
            kind::ADMISSION => {
                if let Ok(admission) = minicbor::decode::<Admission>(payload) {
                    self.hand_over(admission.id)?;
                    self.measured(&admission)?;
                }
            }
            kind::MEASUREMENT => {
                if let Ok(measurement) = minicbor::decode::<Measurement>(payload) {
                    self.measured.forget(&measurement, self.before)?;
                }
            }
            kind::SETTLEMENT => {
                if let Ok(settlement) = minicbor::decode::<Settlement>(payload) {
                    self.call(settlement.id)?;
                }
            }
            kind::CHECKPOINT => {
                let Some(passed) = checkpoint::calls(payload) else {
                    return Ok(());
                };
                for admission in passed.open {
                    self.hand_over(admission.id)?;
                    self.measured(&admission)?;
                }
                for (admission, _) in passed.pending {
                    self.call(admission.id)?;
                    self.measured(&admission)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn stored(&self, id: CallId) -> Result<Option<StoredCall>, IndexError> {
        self.calls
            .get(id_key(id))?
            .map(|bytes| decode(bytes.value()))
            .transpose()
    }

    /// A call that goes on behind the border has its admission in the checkpoint from now on.
    fn hand_over(&mut self, id: CallId) -> Result<(), IndexError> {
        let Some(mut call) = self.stored(id)? else {
            return Ok(());
        };
        let stays = call.settlement.is_none_or(|at| at.segment >= self.before);
        if stays && call.admission.is_some_and(|at| at.segment < self.before) {
            call.admission = Some(self.checkpoint);
            self.put(&call)?;
        }
        Ok(())
    }

    /// What came with a call goes with its admission, wherever that is by now.
    fn measured(&mut self, admission: &Admission) -> Result<(), IndexError> {
        let (before, stays) = (self.before, self.checkpoint.segment);
        if admission.attribution.metrics.is_empty() {
            return Ok(());
        }
        let kept = self.kept.contains(&admission.id);
        let goes_on = self.stored(admission.id)?.is_some_and(|call| {
            let ended = call.settlement;
            call.admission == Some(self.checkpoint) || ended.is_none_or(|at| at.segment >= before)
        });
        for measurement in Measurement::of_headers(admission) {
            if kept || goes_on {
                self.measured.hand_over(&measurement, before, stays)?;
            } else {
                self.measured.forget(&measurement, before)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, call: &StoredCall) -> Result<(), IndexError> {
        let bytes = minicbor::to_vec(call).map_err(|_| IndexError::Damaged)?;
        self.calls.insert(id_key(call.row.id), bytes.as_slice())?;
        Ok(())
    }

    fn call(&mut self, id: CallId) -> Result<(), IndexError> {
        let Some(call) = self.stored(id)? else {
            return Ok(());
        };
        if call.settlement.is_none_or(|at| at.segment >= self.before) {
            return Ok(());
        }
        if self.kept.contains(&id) {
            return self.put(&StoredCall {
                row: call.row,
                admission: Some(self.checkpoint),
                settlement: Some(self.checkpoint),
                late: None,
            });
        }
        let (id, row) = (id_key(id), call.row);
        self.calls.remove(id)?;
        self.open.remove(id)?;
        self.pending.remove(id)?;
        self.by_agent.remove((row.agent.as_str(), id))?;
        if let Some(run) = &row.run {
            self.by_run.remove((run.as_str(), id))?;
        }
        if let Some(response) = &row.response_id
            && self
                .responses
                .get(response.as_str())?
                .is_some_and(|call| call.value() == id)
        {
            self.responses.remove(response.as_str())?;
        }
        Ok(())
    }
}
