//! The one thread that writes the log: takes what is queued, writes it with one call, syncs once.
//!
//! What somebody waits for is written without delay: while one batch is being synced the next one
//! gathers. Records that nobody waits for, such as settlements, gather for a moment, and share the
//! next sync with those that somebody does, or get one soon. What has not been synced stays in
//! memory, so that after a failure - when nothing is known of what the failed file holds - it is
//! written again, into a new segment that goes on from the last synced record.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, info};

use crate::clock::Clock;
use crate::config::{Durability, LedgerConfig};
use crate::core::call::{Admission, Settlement};
use crate::core::digest::DigestSeed;
use crate::core::latencies::Latencies;
use crate::core::time::Timestamp;

use super::Hearing;
use super::audit::Anchor;
use super::body::{Bodies, Capture};
use super::log::{Catalog, Cursor, Segment};
use super::progress::Progress;
use super::queue::{Commit, Op, Queue, Receipt};
use super::record::{Event, Frames, HEADER_LEN, Header, Position, kind};
use super::redaction;
use super::retention::Retention;
use super::storage::{SegmentFile, Storage};

/// What the writer works with and on.
pub(crate) struct Writer {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) health: Arc<Health>,
    pub(crate) hearing: Arc<Hearing>,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    pub(crate) bodies: Bodies,
    pub(crate) seed: DigestSeed,
    /// The segment being written, or to be created with the next write.
    number: u64,
    active: Option<Active>,
    synced: Cursor,
    /// What came after `synced`; the first `written` bytes of it are in the file.
    pending: Frames,
    written: usize,
    receipts: Vec<Receipt>,
    barriers: Vec<Commit>,
    /// When the first of what is pending came.
    unsynced_since: Option<Instant>,
    /// When the end of the log was last told to the operators.
    told_at: Option<Timestamp>,
    /// When a segment was begun of which nothing is on disk yet; `pending` says so.
    begun_at: Option<Timestamp>,
}

/// What of the config concerns the writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
    pub(crate) max_queue_bytes: usize,
    pub(crate) retention: Retention,
    /// How long to wait before writing is tried again.
    pub(crate) retry: Duration,
}

impl Settings {
    pub(crate) fn of(config: &LedgerConfig) -> Self {
        Self {
            durability: config.durability,
            segment_bytes: config.segment_bytes,
            max_queue_bytes: config.max_queue_bytes,
            retention: Retention::of(config),
            retry: Duration::from_secs(1),
        }
    }
}

struct Active {
    file: Box<dyn SegmentFile>,
    header: Header,
    len: u64,
    /// Nothing of it has been synced yet, nor its name.
    fresh: bool,
}

/// How the threads are doing, for status and metrics.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Vitals>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Vitals {
    pub(crate) log_error: Option<String>,
    pub(crate) index_error: Option<String>,
    pub(crate) syncs: Latencies,
}

impl Health {
    pub(crate) fn get(&self) -> Vitals {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Vitals)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Bodies encoded before they are written, at most (one more may begin below this).
const BATCH_BYTES: usize = 8 << 20;
/// How often the end of the log is told to the operators.
const TELL_US: u64 = 3_600_000_000;
/// How long records may stay unsynced if nobody waits for them.
const STRICT_SYNC: Duration = Duration::from_millis(100);
const RELAXED_SYNC: Duration = Duration::from_secs(1);

/// Whatever ends the writer, nobody waits for it afterwards.
struct Farewell(Arc<Queue>, Arc<Progress>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.abandon();
        self.1.set_writer_done();
    }
}

/// What the writer shares with the rest of the ledger.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) health: Arc<Health>,
    pub(crate) hearing: Arc<Hearing>,
}

/// Where writing goes on.
pub(crate) struct Resume {
    pub(crate) seed: DigestSeed,
    /// The segment to append to; none starts a new one.
    pub(crate) segment: Option<Segment>,
    pub(crate) next_number: u64,
    pub(crate) end: Cursor,
}

impl Writer {
    pub(crate) fn new(
        shared: Shared,
        clock: Clock,
        settings: Settings,
        bodies: Bodies,
        resume: &Resume,
    ) -> io::Result<Self> {
        let active = match resume.segment {
            Some(Segment {
                number,
                len,
                header: Some(header),
            }) => Some(Active {
                file: shared.storage.open(number)?,
                header,
                len,
                fresh: false,
            }),
            _ => None,
        };
        let Shared {
            storage,
            catalog,
            queue,
            progress,
            health,
            hearing,
        } = shared;
        let mut writer = Self {
            number: active
                .as_ref()
                .map_or(resume.next_number, |active| active.header.number),
            storage,
            catalog,
            queue,
            progress,
            health,
            hearing,
            clock,
            settings,
            bodies,
            seed: resume.seed,
            active,
            synced: resume.end,
            pending: Frames {
                chain: resume.end.chain,
                ..Frames::default()
            },
            written: 0,
            receipts: Vec::new(),
            barriers: Vec::new(),
            unsynced_since: None,
            told_at: None,
            begun_at: None,
        };
        writer.fade();
        Ok(writer)
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let _farewell = Farewell(Arc::clone(&self.queue), Arc::clone(&self.progress));
        loop {
            let taken = self.queue.take(self.until_sync(), BATCH_BYTES);
            let result = self.batch(taken.ops, taken.closed);
            if let Err(error) = result
                && !self.recover(&error)
            {
                break;
            }
            if taken.closed && self.pending.bytes.is_empty() {
                self.tell_head();
                break;
            }
        }
    }

    /// How long writing may wait before a sync is due; none if nothing is unsynced.
    fn until_sync(&self) -> Option<Duration> {
        let patience = match self.settings.durability {
            Durability::Strict => STRICT_SYNC,
            Durability::Relaxed => RELAXED_SYNC,
        };
        let since = self.unsynced_since?;
        Some(patience.saturating_sub(since.elapsed()))
    }

    fn batch(&mut self, ops: Vec<Op>, closing: bool) -> io::Result<()> {
        // Not for a checkpoint: a new segment asks for one, which may fill it by itself.
        let rolled = if self.is_full() && ops.iter().any(Op::is_record) {
            self.sync().map(|()| self.roll())
        } else {
            Ok(())
        };
        for op in ops {
            self.encode(op);
        }
        // Only now: what is pending survives a failure, operations do not.
        rolled?;
        self.write()?;
        if closing || self.is_sync_due() {
            self.sync()?;
        }
        self.barriers.clear();
        Ok(())
    }

    fn is_sync_due(&self) -> bool {
        let strict = self.settings.durability == Durability::Strict;
        let awaited = self.receipts.iter().any(|receipt| receipt.commit.is_some());
        awaited
            || (strict && !self.barriers.is_empty())
            || self.until_sync() == Some(Duration::ZERO)
            || self.pending.bytes.len() >= self.settings.max_queue_bytes / 4
    }

    fn is_full(&self) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let age = self.clock.now().micros_since(active.header.created_at);
            active.len >= self.settings.segment_bytes
                || (self.settings.retention.is_old(age) && active.len > HEADER_LEN as u64)
        })
    }

    /// The next write starts a new segment.
    fn roll(&mut self) {
        self.active = None;
        self.number += 1;
        self.fade();
    }

    fn fade(&mut self) {
        let segments = self.catalog.all();
        let before = self
            .settings
            .retention
            .fading_before(&segments, self.clock.now());
        self.bodies.known.fade_before(before);
    }

    fn encode(&mut self, op: Op) {
        let (start, receipts) = (self.pending.bytes.len(), self.receipts.len());
        self.encode_op(op);
        let encoded = self.pending.bytes.len() - start;
        for receipt in self.receipts.iter_mut().skip(receipts) {
            receipt.room.shrink_to(encoded);
        }
    }

    fn encode_op(&mut self, op: Op) {
        match op {
            Op::Admit(admission, body, receipt) => self.admit(*admission, body, receipt),
            Op::Settle(settlement, body, receipt) => self.settle(*settlement, body, receipt),
            Op::Event(mut event, receipt) => {
                redaction::event(&self.bodies.redact, &mut event);
                self.record(kind::EVENT, &*event, receipt);
            }
            Op::Account(account, receipt) => self.record(kind::ACCOUNT, &*account, receipt),
            Op::Act(act, receipt) => self.record(kind::ACT, &*act, receipt),
            Op::Late(late, receipt) => self.record(kind::LATE, &*late, receipt),
            Op::Measured(mut it, receipt) => {
                redaction::measurement(&self.bodies.redact, &mut it);
                self.record(kind::MEASUREMENT, &*it, receipt);
            }
            Op::Removal(removal, receipt) => self.record(kind::REMOVAL, &*removal, receipt),
            Op::Checkpoint(packed) => self.pending.push(kind::CHECKPOINT, &*packed),
            Op::Forget(before, done) => {
                self.bodies.known.fade_before(before);
                done.resolve();
            }
            Op::Barrier(commit) => self.barriers.push(commit),
        }
    }

    fn record(&mut self, kind: u8, record: &impl minicbor::Encode<()>, receipt: Receipt) {
        self.pending.push(kind, record);
        self.receipts.push(receipt);
    }

    fn admit(&mut self, mut admission: Admission, body: Option<Capture>, receipt: Receipt) {
        admission.request =
            body.and_then(|body| self.bodies.store(body, self.number, &mut self.pending));
        redaction::admission(&self.bodies.redact, &mut admission);
        self.pending.push(kind::ADMISSION, &admission);
        self.receipts.push(receipt);
    }

    fn settle(
        &mut self,
        mut settlement: Settlement,
        body: Option<Capture>,
        receipt: Option<Receipt>,
    ) {
        settlement.response =
            body.and_then(|body| self.bodies.store(body, self.number, &mut self.pending));
        redaction::settlement(&self.bodies.redact, &mut settlement);
        self.pending.push(kind::SETTLEMENT, &settlement);
        self.receipts.extend(receipt);
    }

    /// Appends what is pending and not yet in the file, with one call.
    fn write(&mut self) -> io::Result<()> {
        if self.pending.bytes.len() == self.written {
            return Ok(());
        }
        let len = match &mut self.active {
            Some(active) => {
                let rest = self.pending.bytes.get(self.written..).unwrap_or_default();
                active.file.append(rest)?;
                active.len += rest.len() as u64;
                active.len
            }
            None => self.create()?,
        };
        self.written = self.pending.bytes.len();
        self.unsynced_since.get_or_insert_with(Instant::now);
        if self.settings.durability == Durability::Relaxed {
            self.publish(len);
        }
        Ok(())
    }

    /// Starts the segment `number` with all that is pending.
    fn create(&mut self) -> io::Result<u64> {
        let header = Header {
            number: self.number,
            created_at: self.begin(),
            seed: self.seed,
            continues: self.synced.chain,
        };
        let file = self.storage.create(self.number)?;
        let active = Active {
            file,
            header,
            len: 0,
            fresh: true,
        };
        let active = self.active.insert(active);
        let mut bytes = header.to_bytes();
        bytes.extend_from_slice(&self.pending.bytes);
        active.file.append(&bytes)?;
        active.len = bytes.len() as u64;
        Ok(active.len)
    }

    /// When the new segment is begun: once on record, it stays so however often that is tried.
    fn begin(&mut self) -> Timestamp {
        if let Some(at) = self.begun_at {
            return at;
        }
        let at = self.clock.now();
        self.pending.push_begun(at, self.seed);
        self.begun_at = Some(at);
        at
    }

    /// Lets readers see everything in the file.
    fn publish(&self, len: u64) -> Cursor {
        let end = Cursor {
            position: Position {
                segment: self.number,
                offset: len,
            },
            chain: self.pending.chain,
        };
        let header = self.active.as_ref().map(|active| active.header);
        self.catalog.put(Segment {
            number: self.number,
            len,
            header,
        });
        self.progress.set_written(end);
        end
    }

    /// Makes durable what was written, then lets go who waits for that.
    fn sync(&mut self) -> io::Result<()> {
        let Some(active) = self.active.as_mut().filter(|_| self.written > 0) else {
            return Ok(());
        };
        let start = Instant::now();
        active.file.sync()?;
        if active.fresh {
            self.storage.sync_dir()?;
            active.fresh = false;
        }
        let len = active.len;
        let took = start.elapsed();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.health.change(|vitals| vitals.syncs.add(micros));
        self.synced = self.publish(len);
        self.settle_up();
        if self
            .told_at
            .is_none_or(|at| self.clock.now().micros_since(at) >= TELL_US)
        {
            self.tell_head();
        }
        Ok(())
    }

    /// Leaves an anchor where the operators keep their logs: whoever verifies against it finds what
    /// was changed or taken out before it.
    fn tell_head(&mut self) {
        self.told_at = Some(self.clock.now());
        info!(anchor = %Anchor::of(self.synced), "the ledger is written up to here");
    }

    /// Everything pending is on disk.
    fn settle_up(&mut self) {
        self.pending.bytes.clear();
        self.pending.bytes.shrink_to(BATCH_BYTES);
        self.pending.records = 0;
        self.written = 0;
        self.unsynced_since = None;
        self.begun_at = None;
        for receipt in self.receipts.drain(..) {
            receipt.commit.iter().for_each(Commit::keep);
        }
    }

    /// Writing failed: nobody waits any longer, and what is pending is tried again in a new
    /// segment until it is written. False when the ledger was closed before that.
    fn recover(&mut self, cause: &io::Error) -> bool {
        self.report(cause);
        self.queue.set_failing(true);
        let (failed_at, dropped) = (self.clock.now(), self.queue.dropped());
        let failed = Event::own(failed_at, "ledger_failed", Some(cause.to_string()));
        self.hearing.tell(&failed);
        loop {
            self.barriers.clear();
            for receipt in &mut self.receipts {
                receipt.commit = None;
            }
            self.leave_segment();
            let closed = self.queue.pause(self.settings.retry);
            match self.write().and_then(|()| self.sync()) {
                Ok(()) => {
                    info!("the ledger can be written again");
                    self.health.change(|vitals| vitals.log_error = None);
                    self.queue.set_failing(false);
                    self.tell_of_failure(&failed, dropped);
                    return true;
                }
                Err(error) if closed => {
                    self.report(&error);
                    self.queue.count_dropped(self.pending.records);
                    return false;
                }
                Err(error) => self.report(&error),
            }
        }
    }

    /// Now that it can be recorded.
    fn tell_of_failure(&mut self, failed: &Event, dropped_before: u64) {
        let dropped = self.queue.dropped() - dropped_before;
        let lost = format!("{dropped} records were lost meanwhile");
        let resumed = Event::own(self.clock.now(), "ledger_resumed", Some(lost));
        self.hearing.tell(&resumed);
        self.pending.push(kind::EVENT, failed);
        self.pending.push(kind::EVENT, &resumed);
        // Nothing else may come for long to take them along.
        self.unsynced_since.get_or_insert_with(Instant::now);
    }

    fn report(&self, cause: &io::Error) {
        let path = self.storage.path(self.number);
        error!(path = %path.display(), error = %cause, "the ledger cannot be written");
        self.health.change(|vitals| {
            vitals.log_error = Some(format!("{} cannot be written: {cause}", path.display()));
        });
    }

    /// Never writes to the current segment again: after a failed sync nobody knows what it holds.
    fn leave_segment(&mut self) {
        self.bodies.known.forget(self.number);
        self.written = 0;
        let relaxed = self.settings.durability == Durability::Relaxed;
        let unseen = self
            .active
            .take()
            .is_some_and(|active| active.fresh && !relaxed);
        let removed = unseen && self.storage.remove(self.number).is_ok();
        if !removed {
            self.number += 1;
        }
    }
}
