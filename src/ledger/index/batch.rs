//! One batch of records on its way into the index.
//!
//! Calls and summaries that change are kept in memory and written once, at the end: most calls
//! begin and end within one batch.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map, hash_map};
use std::mem;

use redb::{ReadableTable, Table, WriteTransaction};

use crate::core::budget::{Act, Charged, Control, MAX_ANCESTORS, StoredAccount};
use crate::core::call::{Admission, LateUsage, Settlement};
use crate::core::id::{CallId, Label};
use crate::core::metric::Measurement;
use crate::core::time::Timestamp;

use super::super::checkpoint::{self, Calls, Packed, Packing};
use super::super::log::{Cursor, read_record};
use super::super::record::{Checkpoint, Content, Event, Link, NewAccount, Position, kind};
use super::super::removal::Removal;
use super::super::rows::CallRow;
use super::super::storage::Storage;
use super::super::summary::{Key, Summary, keys_of_admission, keys_of_settlement};
use super::super::totals::Totals;
use super::{
    ACCOUNTS, BY_AGENT, BY_RUN, CALLS, CHECKPOINTS, CONTENTS, CallMark, EVENTS, IndexError, META,
    Meta, OPEN, OpenMark, PENDING, RESPONSES, RUNS_BY_ACTIVITY, SLICES, SUMMARIES, StoredCall,
    VERSION,
};

pub(crate) mod budgets;
pub(crate) mod measured;
mod runs;
pub(crate) mod slices;

use measured::Measured;
use slices::Sliced;

type Rows<'t, K> = Table<'t, K, &'static [u8]>;

/// The tables of one write transaction.
pub(crate) struct Batch<'t> {
    meta: Rows<'t, &'static str>,
    calls: Rows<'t, u128>,
    open: Table<'t, u128, OpenMark>,
    pending: Table<'t, u128, ()>,
    accounts: Rows<'t, u128>,
    by_run: Table<'t, (&'static str, u128), CallMark>,
    by_activity: Table<'t, (i64, &'static str), ()>,
    by_agent: Table<'t, (&'static str, u128), ()>,
    responses: Table<'t, &'static str, u128>,
    summaries: Rows<'t, &'static [u8]>,
    slices: Rows<'t, &'static [u8]>,
    contents: Table<'t, u128, (u64, u64, bool)>,
    checkpoints: Table<'t, u64, (u64, u64)>,
    events: Rows<'t, (i64, u64, u64)>,
    measured: Measured<'t>,
    /// Calls that were looked at to change them, in the order of the table.
    touched: BTreeMap<u128, Touched>,
    /// Summaries that were changed.
    changed: HashMap<Key, Summary>,
    /// Accounts that were changed, in the order of the table.
    used: BTreeMap<u128, StoredAccount>,
    /// When runs that are among them were last active before that, as far as the tables know them.
    active_before: HashMap<Label, Timestamp>,
    /// What is to be added to slices.
    sliced: Sliced,
}

/// A call to be written.
struct Touched {
    call: StoredCall,
    /// The tables know it already.
    stored: bool,
}

/// A run that was active this long before a border between segments may go on after it. One that
/// goes on later counts from there, should the index be made anew.
const RUN_PAUSE_US: i64 = 24 * 3_600_000_000;

pub(crate) fn id_key(id: CallId) -> u128 {
    u128::from_be_bytes(id.to_bytes())
}

pub(crate) fn decode<'b, T: minicbor::Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, IndexError> {
    minicbor::decode(bytes).map_err(|_| IndexError::Damaged)
}

/// The value as bytes, in a buffer that is used again.
fn encode<'b>(
    value: &impl minicbor::Encode<()>,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b [u8], IndexError> {
    buffer.clear();
    minicbor::encode(value, &mut *buffer).map_err(|_| IndexError::Damaged)?;
    Ok(buffer)
}

impl<'t> Batch<'t> {
    pub(crate) fn begin(txn: &'t WriteTransaction) -> Result<Self, IndexError> {
        let meta = txn.open_table(META)?;
        Ok(Self {
            sliced: Sliced::begin(&meta)?,
            meta,
            calls: txn.open_table(CALLS)?,
            open: txn.open_table(OPEN)?,
            pending: txn.open_table(PENDING)?,
            accounts: txn.open_table(ACCOUNTS)?,
            by_run: txn.open_table(BY_RUN)?,
            by_activity: txn.open_table(RUNS_BY_ACTIVITY)?,
            by_agent: txn.open_table(BY_AGENT)?,
            responses: txn.open_table(RESPONSES)?,
            summaries: txn.open_table(SUMMARIES)?,
            slices: txn.open_table(SLICES)?,
            contents: txn.open_table(CONTENTS)?,
            checkpoints: txn.open_table(CHECKPOINTS)?,
            events: txn.open_table(EVENTS)?,
            measured: Measured::begin(txn)?,
            touched: BTreeMap::new(),
            changed: HashMap::new(),
            used: BTreeMap::new(),
            active_before: HashMap::new(),
        })
    }

    /// Takes in one record. What cannot be decoded was not written by this version: skipped.
    pub(crate) fn apply(
        &mut self,
        at: Position,
        kind: u8,
        payload: &[u8],
    ) -> Result<(), IndexError> {
        match kind {
            kind::CONTENT => {
                if let Ok(content) = minicbor::decode::<Content<'_>>(payload) {
                    let digest = u128::from_be_bytes(content.digest.to_bytes());
                    let value = (at.segment, at.offset, content.redacted);
                    self.contents.insert(digest, value)?;
                }
            }
            kind::ADMISSION => {
                if let Ok(admission) = minicbor::decode::<Admission>(payload) {
                    self.admit(admission, at)?;
                }
            }
            kind::SETTLEMENT => {
                if let Ok(settlement) = minicbor::decode::<Settlement>(payload) {
                    self.settle(&settlement, at)?;
                }
            }
            kind::SUM => {
                if let Ok(sum) = minicbor::decode::<Settlement>(payload) {
                    self.count_deleted(&sum)?;
                }
            }
            kind::CHARGED => {
                if let Ok(charged) = minicbor::decode::<Charged>(payload) {
                    self.charge_measured(&charged)?;
                }
            }
            kind::LINK => {
                if let Ok(link) = minicbor::decode::<Link>(payload) {
                    self.link(link)?;
                }
            }
            kind::CHECKPOINT => {
                if let Some(Calls { before, .. }) = checkpoint::calls(payload) {
                    self.checkpoints.insert(before, (at.segment, at.offset))?;
                }
            }
            kind::EVENT | kind::ACT => self.hear(at, kind, payload)?,
            kind::ACCOUNT => {
                if let Ok(account) = minicbor::decode::<NewAccount>(payload) {
                    self.open_account(account)?;
                }
            }
            kind::LATE => {
                if let Ok(late) = minicbor::decode::<LateUsage>(payload) {
                    self.settle_late(&late, at)?;
                }
            }
            kind::MEASUREMENT => {
                if let Ok(measurement) = minicbor::decode::<Measurement>(payload) {
                    let is_new = self.measured.put(&measurement, at.segment)?;
                    if let Some(charged) = measurement.charged.filter(|_| is_new) {
                        self.charge_measured(&charged)?;
                    }
                }
            }
            kind::REMOVAL => self.removal(payload, at)?,
            _ => {}
        }
        Ok(())
    }

    /// Takes in what the program or an operator did.
    fn hear(&mut self, at: Position, kind: u8, payload: &[u8]) -> Result<(), IndexError> {
        if kind == kind::ACT {
            if let Ok(act) = minicbor::decode::<Act>(payload)
                && self.note(act.at.micros(), payload, at)?
            {
                self.act(&act)?;
            }
        } else if let Ok(event) = minicbor::decode::<Event>(payload)
            && self.note(event.at.micros(), payload, at)?
        {
            self.stopped(&event)?;
        }
        Ok(())
    }

    /// What a removal lists is for the audit; records of one deletion tell of one event.
    fn removal(&mut self, payload: &[u8], at: Position) -> Result<(), IndexError> {
        if let Some(removal) = Removal::parse(payload) {
            let event = Event::from(removal);
            let bytes = encode(&event, &mut Vec::new())?.to_vec();
            self.note(event.at.micros(), &bytes, at)?;
        }
        Ok(())
    }

    /// An event that is there already was written again after a failure, as in
    /// [`admit`](Self::admit): says whether it is new.
    fn note(&mut self, micros: i64, event: &[u8], at: Position) -> Result<bool, IndexError> {
        let moment = (micros, 0, 0)..=(micros, u64::MAX, u64::MAX);
        let mut is_new = true;
        self.events.retain_in(moment, |_, stored| {
            is_new &= stored != event;
            stored != event
        })?;
        self.events.insert((micros, at.segment, at.offset), event)?;
        Ok(is_new)
    }

    fn call(&self, id: CallId) -> Result<Option<StoredCall>, IndexError> {
        self.calls
            .get(id_key(id))?
            .map(|bytes| decode(bytes.value()))
            .transpose()
    }

    /// A call that was admitted or settled before, to be changed.
    fn touch(&mut self, id: u128) -> Result<Option<&mut Touched>, IndexError> {
        match self.touched.entry(id) {
            btree_map::Entry::Occupied(touched) => Ok(Some(touched.into_mut())),
            btree_map::Entry::Vacant(vacant) => {
                let Some(bytes) = self.calls.get(id)? else {
                    return Ok(None);
                };
                let call = decode(bytes.value())?;
                Ok(Some(vacant.insert(Touched { call, stored: true })))
            }
        }
    }

    fn add(&mut self, call: StoredCall) {
        let id = id_key(call.row.id);
        let stored = false;
        self.touched.insert(id, Touched { call, stored });
    }

    /// A second admission of a call was written again after a failure: nobody knows whether the copy
    /// before it is on disk.
    fn admit(&mut self, admission: Admission, at: Position) -> Result<(), IndexError> {
        self.measured.put_headers(&admission, at.segment)?;
        if let Some(Touched { call, .. }) = self.touch(id_key(admission.id))? {
            call.admission = Some(at);
            return Ok(());
        }
        let who = &admission.attribution;
        let parent = self.parent(who.run.as_ref(), who.parent_run.as_ref())?;
        for key in keys_of_admission(&admission, parent.as_ref()) {
            self.begin_call(key, &admission)?;
        }
        self.cover_ancestors(parent, admission.started_at)?;
        self.tighten(&admission)?;
        self.add_open(admission, at);
        Ok(())
    }

    fn add_open(&mut self, admission: Admission, at: Position) {
        self.add(StoredCall {
            row: CallRow::admitted(admission),
            admission: Some(at),
            settlement: None,
            late: None,
        });
    }

    /// A second settlement of a call changes nothing: the first one counts.
    fn settle(&mut self, settlement: &Settlement, at: Position) -> Result<(), IndexError> {
        let mut was_open = false;
        match self.touch(id_key(settlement.id))? {
            Some(Touched { call, .. }) if call.row.outcome.is_some() => {
                call.settlement = Some(at);
                return Ok(());
            }
            Some(Touched { call, .. }) => {
                was_open = true;
                call.row.settle(settlement);
                call.settlement = Some(at);
            }
            None => self.add(StoredCall {
                row: CallRow::settled(settlement),
                admission: None,
                settlement: Some(at),
                late: None,
            }),
        }
        if let Some(response) = &settlement.response_id {
            self.name_response(response, id_key(settlement.id))?;
        }
        let ended = settlement
            .started_at
            .micros()
            .saturating_add_unsigned(settlement.timings.total_us);
        let ended = Timestamp::from_micros(ended);
        self.charge(&settlement.charges, settlement.charged_at())?;
        let totals = Totals::of(settlement);
        let parent = self.parent(settlement.run.as_ref(), settlement.parent_run.as_ref())?;
        for key in keys_of_settlement(settlement, parent.as_ref()) {
            let summary = self.summary(key)?;
            summary.cover(settlement.started_at, ended);
            summary.totals.add(&totals);
            summary.open_calls = summary.open_calls.saturating_sub(u64::from(was_open));
        }
        self.sliced.add(settlement, ended, totals);
        self.cover_ancestors(parent, ended)
    }

    /// What a call spent that was deleted stays counted, wherever its run does not matter.
    fn count_deleted(&mut self, sum: &Settlement) -> Result<(), IndexError> {
        let took = sum.timings.total_us;
        let ended = sum.started_at.micros().saturating_add_unsigned(took);
        let ended = Timestamp::from_micros(ended);
        self.charge(&sum.charges, sum.charged_at())?;
        let totals = Totals::of(sum);
        for key in keys_of_settlement(sum, None) {
            let summary = self.summary(key)?;
            summary.cover(sum.started_at, ended);
            summary.totals.add(&totals);
        }
        self.sliced.add(sum, ended, totals);
        Ok(())
    }

    /// A run goes on as long as one of those it began, whether or not it makes calls of its own.
    fn cover_ancestors(&mut self, parent: Option<Label>, at: Timestamp) -> Result<(), IndexError> {
        let mut next = parent;
        for _ in 0..MAX_ANCESTORS {
            let Some(run) = next.take() else { break };
            let summary = self.summary(Key::Run(run))?;
            summary.cover(at, at);
            next.clone_from(&summary.parent);
        }
        Ok(())
    }

    /// The parent of a run: the first one that was named.
    fn parent(
        &mut self,
        run: Option<&Label>,
        named: Option<&Label>,
    ) -> Result<Option<Label>, IndexError> {
        let Some(run) = run else { return Ok(None) };
        let summary = self.summary(Key::Run(run.clone()))?;
        if summary.parent.is_none() {
            summary.parent = named.filter(|named| *named != run).cloned();
        }
        Ok(summary.parent.clone())
    }

    /// The summary of a key, ready to be changed.
    fn summary(&mut self, key: Key) -> Result<&mut Summary, IndexError> {
        let vacant = match self.changed.entry(key) {
            hash_map::Entry::Occupied(changed) => return Ok(changed.into_mut()),
            hash_map::Entry::Vacant(vacant) => vacant,
        };
        let stored = self.summaries.get(vacant.key().to_bytes().as_slice())?;
        let stored: Option<Summary> = stored.map(|bytes| decode(bytes.value())).transpose()?;
        if let (Some(stored), Key::Run(run)) = (&stored, vacant.key()) {
            self.active_before.insert(run.clone(), stored.last_at);
        }
        Ok(vacant.insert(stored.unwrap_or_default()))
    }

    /// Starts from a checkpoint, in an empty index.
    pub(crate) fn load(&mut self, at: Position, base: &Checkpoint) -> Result<(), IndexError> {
        for admission in &base.open {
            self.measured.put_headers(admission, at.segment)?;
            self.add_open(admission.clone(), at);
        }
        for (admission, _) in &base.pending {
            self.measured.put_headers(admission, at.segment)?;
        }
        self.load_summaries(base);
        self.load_budgets(at, base)
    }

    /// Brings the tables up to what was taken in.
    fn flush(&mut self) -> Result<(), IndexError> {
        let mut buffer = Vec::new();
        for (id, Touched { call, stored }) in mem::take(&mut self.touched) {
            self.name(&call.row, stored)?;
            if call.row.is_pending {
                self.pending.insert(id, ())?;
            } else if stored {
                self.pending.remove(id)?;
            }
            self.calls.insert(id, encode(&call, &mut buffer)?)?;
        }
        for (key, summary) in mem::take(&mut self.changed) {
            self.activate(&key, summary.last_at)?;
            let summary = encode(&summary, &mut buffer)?;
            self.summaries.insert(key.to_bytes().as_slice(), summary)?;
        }
        self.flush_slices(&mut buffer)?;
        for (id, account) in mem::take(&mut self.used) {
            self.accounts.insert(id, encode(&account, &mut buffer)?)?;
        }
        Ok(())
    }

    /// The last border that has a checkpoint.
    pub(crate) fn last_border(&self) -> Result<Option<u64>, IndexError> {
        Ok(self.checkpoints.last()?.map(|(before, _)| before.value()))
    }

    /// What outlives the segments before `before`, as of now; none when that is too much.
    pub(crate) fn checkpoint(
        &mut self,
        storage: &dyn Storage,
        before: u64,
        at: Timestamp,
    ) -> Result<Option<Packed>, IndexError> {
        self.flush()?;
        let mut packing = Packing::begin(Calls {
            before,
            at,
            open: self.lasting_open(storage)?,
            pending: self.lasting_pending(storage, at)?,
        })?;
        let runs = self.lasting_runs(at)?;
        for entry in self.summaries.iter()? {
            let (key, summary) = entry?;
            let key = Key::from_bytes(key.value()).ok_or(IndexError::Damaged)?;
            if key.run().is_none_or(|run| runs.contains(run)) {
                packing.summary(&key, summary.value())?;
            }
        }
        packing.end_of_summaries()?;
        self.each_day(|start, of, slice| packing.slice(start, &of, slice))?;
        packing.end_of_slices()?;
        for entry in self.accounts.iter()? {
            let (id, account) = entry?;
            if budgets::lasts(&decode(account.value())?, at) {
                packing.account(budgets::account_id(id.value()), account.value())?;
            }
        }
        Ok(packing.finish()?)
    }

    /// The admissions of calls without settlement, without their bodies.
    fn lasting_open(&self, storage: &dyn Storage) -> Result<Vec<Admission>, IndexError> {
        let mut open = Vec::new();
        for entry in self.open.iter()? {
            let id = CallId::from_bytes(entry?.0.value().to_be_bytes());
            let admission = self.call(id)?.and_then(|call| call.admission);
            let admission = admission
                .map(|at| read_admission(storage, at, id))
                .transpose()?;
            open.extend(admission.flatten().map(|admission| Admission {
                request: None,
                headers: None,
                ..admission
            }));
        }
        Ok(open)
    }

    /// The runs that may go on after a border between segments at `at`: their summaries outlive
    /// the calls before it.
    pub(super) fn lasting_runs(&self, at: Timestamp) -> Result<HashSet<Label>, IndexError> {
        let mut runs = HashSet::new();
        for entry in self.open.iter()? {
            let id = CallId::from_bytes(entry?.0.value().to_be_bytes());
            runs.extend(self.call(id)?.and_then(|call| call.row.run));
        }
        for call in self.pending_calls(at)? {
            runs.extend(call.row.run);
        }
        let prefix = Key::prefix_of(b'r', None);
        for entry in self.summaries.range(prefix.as_slice()..)? {
            let (key, summary) = entry?;
            let Some(Key::Run(run)) = Key::from_bytes(key.value()) else {
                break;
            };
            let summary: Summary = decode(summary.value())?;
            let pause = if summary.tightened.is_empty() {
                RUN_PAUSE_US
            } else {
                budgets::RUN_ACCOUNT_US
            };
            let is_recent = summary.last_at.micros() >= at.micros().saturating_sub(pause);
            if is_recent || summary.control != Control::Running {
                runs.insert(run);
            }
        }
        Ok(runs)
    }

    /// Writes what is left and how far the index now reaches.
    pub(crate) fn finish(
        mut self,
        cursor: Cursor,
        last: Option<Position>,
    ) -> Result<(), IndexError> {
        self.flush()?;
        self.sliced.finish(&mut self.meta)?;
        let meta = Meta {
            version: VERSION,
            position: cursor.position,
            chain: cursor.chain,
            last,
        };
        self.meta.insert("meta", encode(&meta, &mut Vec::new())?)?;
        Ok(())
    }
}

/// The admission of a call, from its own record or from the checkpoint that took it over.
pub(crate) fn read_admission(
    storage: &dyn Storage,
    at: Position,
    id: CallId,
) -> Result<Option<Admission>, IndexError> {
    let Some(record) = read_record(storage, at)? else {
        return Ok(None);
    };
    Ok(match record.kind {
        kind::ADMISSION => minicbor::decode(&record.payload).ok(),
        kind::CHECKPOINT => checkpoint::calls(&record.payload).and_then(|checkpoint| {
            let pending = checkpoint.pending.into_iter();
            let pending = pending.map(|(admission, _)| admission);
            let mut all = checkpoint.open.into_iter().chain(pending);
            all.find(|admission| admission.id == id)
        }),
        _ => None,
    })
}

/// The settlement of a call, in the same way.
pub(crate) fn read_settlement(
    storage: &dyn Storage,
    at: Position,
    id: CallId,
) -> Result<Option<Settlement>, IndexError> {
    let Some(record) = read_record(storage, at)? else {
        return Ok(None);
    };
    Ok(match record.kind {
        kind::SETTLEMENT => minicbor::decode(&record.payload).ok(),
        kind::CHECKPOINT => checkpoint::calls(&record.payload).and_then(|checkpoint| {
            let pending = checkpoint.pending.into_iter();
            let mut all = pending.map(|(_, settlement)| settlement);
            all.find(|settlement| settlement.id == id)
        }),
        _ => None,
    })
}

/// What a call really used.
pub(crate) fn read_late(
    storage: &dyn Storage,
    at: Position,
    id: CallId,
) -> Result<Option<LateUsage>, IndexError> {
    let record = read_record(storage, at)?.filter(|record| record.kind == kind::LATE);
    let late = record.and_then(|record| minicbor::decode::<LateUsage>(&record.payload).ok());
    Ok(late.filter(|late| late.id == id))
}
