//! The thread that keeps the index behind the log, and what it has in common with opening.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::clock::Clock;

use super::super::RECORD_ROOM;
use super::super::checkpoint::Packed;
use super::super::log::{Catalog, Cursor, Damage, LogReader, Segment, Step};
use super::super::progress::{Follow, Progress};
use super::super::queue::{Durable, Op, Queue, Receipt, commit};
use super::super::record::{Chain, Position};
use super::super::retention::Retention;
use super::super::storage::Storage;
use super::super::writer::Health;
use super::batch::Batch;
use super::{Index, IndexError, find_base, retain};

/// Records in one transaction.
const BATCH_RECORDS: u64 = 8192;
/// After a crash this much of the log is read again; in exchange a page that changes all the time
/// is seldom written, and its syncs do not often delay those of the log.
const DURABLE_EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(1);
/// An error that stays may be in the file itself: after so many attempts it is made anew.
const ATTEMPTS: u32 = 60;

/// Brings the index up to the log.
pub(crate) struct Follower {
    pub(crate) index: Arc<Index>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) catalog: Arc<Catalog>,
    /// Takes checkpoints; without one none are made.
    pub(crate) queue: Option<Arc<Queue>>,
    /// How far apart they are.
    pub(crate) retention: Retention,
    /// The last border for which one was made: it may not be in the index yet.
    border: u64,
    /// The bytes of that checkpoint; 0 when none was made since the start.
    carried: u64,
    pub(crate) cursor: Cursor,
    /// The last record before `cursor`; none at the start of a segment.
    last: Option<Position>,
    pub(crate) damages: Vec<Damage>,
    /// Records taken in since it was made.
    pub(crate) records: u64,
}

impl Follower {
    /// Follows from where `index` stands, or from the start if that is no point of this log.
    /// Says whether it has to be made anew.
    pub(crate) fn new(
        index: Arc<Index>,
        storage: Arc<dyn Storage>,
        catalog: Arc<Catalog>,
    ) -> Result<(Self, bool), IndexError> {
        let covered = index.covered(&*storage, &catalog).unwrap_or(None);
        let mut follower = Self {
            index,
            storage,
            catalog,
            queue: None,
            retention: Retention::default(),
            border: 0,
            carried: 0,
            cursor: covered.map(|covered| covered.cursor).unwrap_or_default(),
            last: covered.and_then(|covered| covered.last),
            damages: Vec::new(),
            records: 0,
        };
        if covered.is_none() {
            // Before what it saw is forgotten; a damaged index cannot keep it either.
            if let Some(seen) = follower.index.seen() {
                drop(follower.index.set_missed(Some(seen)));
            }
            follower.start_anew()?;
        }
        Ok((follower, covered.is_none()))
    }

    /// Empties the index, but for what a checkpoint says of segments that are gone, and for what it
    /// missed.
    pub(crate) fn start_anew(&mut self) -> Result<(), IndexError> {
        let missed = self.index.missed();
        self.index.reset()?;
        if missed.is_some() {
            self.index.set_missed(missed)?;
        }
        (self.cursor, self.last) = (Cursor::default(), None);
        let segments = self.catalog.all();
        let base = find_base(&*self.storage, &segments)?;
        let first = match &base {
            Some((_, base)) => segments
                .iter()
                .find(|segment| segment.number >= base.before),
            None => segments.first(),
        };
        if let Some(first) = first {
            self.cursor = Cursor {
                position: Position {
                    segment: first.number,
                    offset: 0,
                },
                chain: first.continues().unwrap_or_default(),
            };
        }
        self.index.write(false, |txn| {
            let mut batch = Batch::begin(txn)?;
            if let Some((at, base)) = &base {
                batch.load(*at, base)?;
            }
            batch.finish(self.cursor, None)
        })
    }

    /// Takes in everything up to `end`; `durable` makes it survive a crash.
    pub(crate) fn catch_up(&mut self, end: Position, durable: bool) -> Result<(), IndexError> {
        while self.batch(end)? {}
        self.index.set_whole();
        if durable { self.make_durable() } else { Ok(()) }
    }

    /// Makes everything taken in survive a crash.
    fn make_durable(&self) -> Result<(), IndexError> {
        self.index.write(true, |txn| {
            Batch::begin(txn)?.finish(self.cursor, self.last)
        })
    }

    /// Takes in one batch; says whether there is more.
    fn batch(&mut self, end: Position) -> Result<bool, IndexError> {
        let index = Arc::clone(&self.index);
        let storage = Arc::clone(&self.storage);
        let segments = self.catalog.all();
        let mut reader = LogReader::new(&*storage, &segments, self.cursor, end);
        let makes_checkpoints = self.queue.is_some();
        let (mut records, mut border) = (0, (self.border, self.carried));
        let mut checkpoints = Vec::new();
        let mut damages = Vec::new();
        let (mut reached, mut last) = (self.cursor, self.last);
        let more = index.write(false, |txn| {
            let mut batch = Batch::begin(txn)?;
            let more = loop {
                if records == BATCH_RECORDS {
                    break true;
                }
                match reader.next()? {
                    None => break false,
                    Some(Step::Record { at, kind, payload }) => {
                        batch.apply(at, kind, payload)?;
                        records += 1;
                        last = Some(at);
                        reached = reader.cursor();
                    }
                    Some(Step::Damage(damage)) => damages.push(damage),
                    Some(Step::Entered(segment)) => {
                        // It may not go on from here: records that a failed sync left in doubt were
                        // taken in and come again. A checkpoint would count them twice.
                        let goes_on = segment.continues() == Some(reached.chain);
                        last = None;
                        reached = reader.cursor();
                        border.0 = border.0.max(batch.last_border()?.unwrap_or(0));
                        if let (true, Some(header)) = (makes_checkpoints && goes_on, segment.header)
                            && header.continues != Chain::GENESIS
                            && self.retention.is_border(&segments, border, &segment)
                        {
                            let (before, at) = (segment.number, header.created_at);
                            let checkpoint = batch.checkpoint(&*storage, before, at)?;
                            border = (before, checkpoint.as_ref().map_or(0, Packed::len));
                            checkpoints.extend(checkpoint);
                        }
                    }
                }
            };
            batch.finish(reached, last)?;
            Ok(more)
        })?;
        (self.cursor, self.last) = (reached, last);
        (self.border, self.carried) = border;
        self.records += records;
        self.damages.append(&mut damages);
        if let Some(queue) = &self.queue {
            for checkpoint in checkpoints {
                queue.push(Op::Checkpoint(Box::new(checkpoint)));
            }
        }
        Ok(more)
    }
}

/// However the index thread ends, nobody waits for it afterwards.
struct Farewell(Arc<Progress>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.set_index_stuck();
    }
}

/// What the index thread needs beside the follower.
pub(crate) struct IndexThread {
    pub(crate) follower: Follower,
    pub(crate) queue: Arc<Queue>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) health: Arc<Health>,
    pub(crate) retention: Retention,
    pub(crate) clock: Clock,
    /// How often it failed since it last worked.
    pub(crate) failures: u32,
    /// Segments before this one go as soon as the writer refers to nothing in them any more.
    pub(crate) leaving: Option<(u64, [Durable; 2])>,
}

impl IndexThread {
    /// Works until the writer is done and everything is indexed.
    pub(crate) fn run(mut self) {
        let _farewell = Farewell(Arc::clone(&self.progress));
        let mut durable_at = Instant::now();
        let mut unsynced = false;
        loop {
            let follow = self.progress.follow();
            let due = durable_at.elapsed() >= DURABLE_EVERY;
            let finish = matches!(follow, Follow::Finish);
            let result = match follow {
                _ if self.follower.index.is_damaged() => Err(IndexError::Damaged),
                Follow::To(end) => {
                    unsynced = !due;
                    self.follower
                        .catch_up(end, due)
                        .map(|()| self.progress.set_indexed(end))
                }
                Follow::Idle | Follow::Finish if unsynced => {
                    unsynced = false;
                    self.follower.make_durable()
                }
                Follow::Idle | Follow::Finish => Ok(()),
            };
            if due {
                durable_at = Instant::now();
            }
            let result = result.and_then(|()| self.retain());
            let stop = match result {
                Ok(()) => {
                    self.works();
                    finish
                }
                Err(error) => self.recover(&error) || finish,
            };
            if stop {
                break;
            }
        }
        self.follower.index.close();
    }

    /// Drops what is too old, in two steps: first the writer must know.
    fn retain(&mut self) -> Result<(), IndexError> {
        for damage in self.follower.damages.drain(..) {
            warn!(
                segment = damage.at.segment,
                offset = damage.at.offset,
                bytes = damage.bytes,
                "a part of the ledger cannot be read"
            );
        }
        match self.leaving.take() {
            Some((before, done)) if done.iter().all(Durable::is_done) => {
                // While writing fails nobody is kept waiting, and nothing is on record: tried again.
                let [recorded, _] = done;
                if recorded.is_kept() {
                    retain::drop_before(&self.follower, before)?;
                }
            }
            Some(waiting) => self.leaving = Some(waiting),
            None if self.queue.is_failing() => {}
            None => {
                let segments = self.follower.catalog.all();
                let keep_from = self.retention.keep_from(&segments, self.clock.now());
                if let Some(before) = retain::border(&self.follower, keep_from)? {
                    self.leaving = self.announce(before, &segments);
                }
            }
        }
        Ok(())
    }

    /// Puts on record that the segments before this one go, and has the writer refer to nothing in
    /// them any more. None while there is no room for that.
    fn announce(&self, before: u64, segments: &[Segment]) -> Option<(u64, [Durable; 2])> {
        let room = self.queue.reserve(RECORD_ROOM)?;
        let removal = retain::removal(before, segments, self.clock.now())?;
        let (recorded, is_recorded) = commit();
        let receipt = Receipt {
            room,
            commit: Some(recorded),
        };
        if !self.queue.push(Op::Removal(Box::new(removal), receipt)) {
            return None;
        }
        let (forgotten, is_forgotten) = commit();
        self.queue.push(Op::Forget(before, forgotten));
        Some((before, [is_recorded, is_forgotten]))
    }

    fn works(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            info!("the index of the ledger works again");
            self.health.change(|vitals| vitals.index_error = None);
        }
    }

    /// Tries to get a working index again; says whether there is no time left for that.
    fn recover(&mut self, cause: &IndexError) -> bool {
        error!(error = %cause, "the index of the ledger failed; it is tried again");
        self.health
            .change(|vitals| vitals.index_error = Some(cause.to_string()));
        self.progress.set_index_stuck();
        self.leaving = None;
        self.failures += 1;
        let damaged = matches!(cause, IndexError::Damaged);
        let anew = damaged || self.failures.is_multiple_of(ATTEMPTS);
        let patience = if damaged && self.failures == 1 {
            Duration::ZERO
        } else {
            PATIENCE
        };
        let done = self.progress.pause(patience);
        let reopened = self.follower.index.reopen().and_then(|()| {
            let covered = self
                .follower
                .index
                .covered(&*self.follower.storage, &self.follower.catalog)?;
            match covered {
                Some(covered) if !anew => {
                    if covered.cursor.position >= self.follower.cursor.position {
                        self.follower.index.set_whole();
                    }
                    (self.follower.cursor, self.follower.last) = (covered.cursor, covered.last);
                    Ok(())
                }
                _ => self.follower.start_anew(),
            }
        });
        if reopened.is_err() && self.follower.start_anew().is_err() {
            warn!("the index of the ledger cannot be made anew yet");
        } else {
            self.progress.set_indexed(self.follower.cursor.position);
        }
        done
    }
}
