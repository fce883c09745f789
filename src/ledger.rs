//! The ledger: the durable, append-only record of calls, and what is derived from it.
//!
//! The log in `log/` is the truth: one thread writes it, many records with one sync. The index in
//! `index.redb` follows behind on a thread of its own and can be made anew from the log alone.
//! Nothing on a call's way blocks here: admitting reserves the room that settling will need, so
//! that settling cannot fail.

mod adopt;
pub mod audit;
pub(crate) mod body;
mod budgets;
pub mod check;
mod checkpoint;
mod entry;
pub mod erase;
#[cfg(test)]
pub(crate) mod fake;
mod feed;
pub(crate) mod index;
mod lock;
mod log;
mod naming;
mod note;
mod progress;
pub mod query;
mod queue;
mod record;
mod recovery;
mod redaction;
mod removal;
mod retention;
pub mod rows;
mod sketch;
mod slices;
pub mod storage;
mod summary;
#[cfg(test)]
mod tests;
pub mod totals;
mod writer;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use crate::clock::Clock;
use crate::config::{Durability, LedgerConfig, OnFailure, RecordLevel};
use crate::core::budget::Charge;
use crate::core::call::{Admission, Outcome, Settlement};
use crate::core::digest::{Digest, DigestSeed};
use crate::core::latencies::Latencies;
use crate::core::metric::Measurement;

pub use adopt::Adopted;
pub use body::{Capture, Decode};
pub use entry::Entry;
pub use feed::{BadBookmark, Batch, Bookmark, Feed, News};
pub use index::IndexError;
pub use lock::{Doors, Holder, holder, running_server};
pub use log::Damage;
pub use note::Note;
pub use query::{
    BodyReader, By, CallFilter, CompareFilter, Gathered, MAX_COMPARED_RUNS, MAX_MARKS,
    MeasuredCursor, MetricCursor, MetricCursorError, MetricFilter, MetricScope, MetricSums,
    Neighbours, OutcomeFilter, RunEvents, RunFilter, RunMetrics, SeriesFilter, Sought, SpanFilter,
    Standing, View, measured_identity,
};
pub use queue::Durable;
pub use record::{Event, Position};
pub use recovery::{OpenError, Recovery};
pub use rows::{
    AgentRow, Body, CallDetail, CallRow, EdgeRow, Figures, Line, LineOf, Mark, ModelRow, Page,
    RollupRow, RunAgentRow, RunCalls, RunDetail, RunEdgeRow, RunMarks, RunRow, Series, SpanFigures,
    Spanned, Tops,
};
pub use sketch::Latency;
pub use totals::Totals;

use body::{Bodies, Known};
use index::Place;
use index::follow::{Follower, IndexThread};
use lock::{Lock, LockError};
use progress::Progress;
use queue::{Op, Queue, Receipt, commit};
use recovery::{Opened, ToTell};
use retention::Retention;
use storage::{Disk, Storage};
use writer::{Health, Settings, Shared, Writer};

/// The ledger of one directory; cheap to clone. The last clone to go closes it.
#[derive(Clone)]
pub struct Ledger {
    open: Arc<Open>,
}

/// Room set aside for a record without its body.
const RECORD_ROOM: usize = 2048;

/// Room for charges within a record: there can be hundreds.
const fn charges_room(charges: &[Charge]) -> usize {
    /// One of them as it is encoded takes no more than this, and about as much in memory.
    const CHARGE_ROOM: usize = 72;
    charges.len() * CHARGE_ROOM
}

struct Open {
    queue: Arc<Queue>,
    progress: Arc<Progress>,
    health: Arc<Health>,
    catalog: Arc<log::Catalog>,
    view: View,
    seed: DigestSeed,
    clock: Clock,
    policy: Policy,
    hearing: Arc<Hearing>,
    lock: Option<Lock>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    /// Resolves when both threads are done.
    done: [Durable; 2],
}

/// What of the config concerns those who record.
#[derive(Clone, Copy, Debug)]
struct Policy {
    durability: Durability,
    on_failure: OnFailure,
    record: RecordLevel,
    max_body_bytes: usize,
}

impl Policy {
    fn of(config: &LedgerConfig) -> Self {
        Self {
            durability: config.durability,
            on_failure: config.on_failure,
            record: config.record,
            max_body_bytes: config.max_body_bytes,
        }
    }
}

/// Who hears of events as they happen, whether or not they can be recorded.
pub type Listener = Box<dyn Fn(&Event) + Send + Sync>;

/// Set once, by whoever watches.
#[derive(Default)]
pub(crate) struct Hearing(OnceLock<Listener>);

impl Hearing {
    fn tell(&self, event: &Event) {
        if let Some(listener) = self.0.get() {
            listener(event);
        }
    }
}

/// Records cannot be taken in at the moment, and the config says that calls must not go unrecorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the ledger cannot be written at the moment")]
    Failing,
    #[error("the ledger's queue is full: the disk is too slow")]
    Full,
    #[error("the ledger is closed")]
    Closed,
}

/// Some records could not be written before the ledger was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{records} records were not written before the ledger was closed")]
pub struct CloseError {
    pub records: u64,
}

/// How the ledger is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerStatus {
    /// The disk does not take records at the moment.
    pub failing: bool,
    /// The index does not follow at the moment.
    pub index_failing: bool,
    pub last_error: Option<String>,
    /// Records that wait for the writer.
    pub queued_records: usize,
    /// Bytes reserved: queued, being written, or kept free for settlements.
    pub reserved_bytes: usize,
    pub segments: usize,
    pub log_bytes: u64,
    /// Records lost to failure or lack of room.
    pub dropped_records: u64,
    /// Bodies left out for lack of room.
    pub dropped_bodies: u64,
    pub syncs: Latencies,
}

/// Opens the ledger of `config.dir`, which is created if need be. `decode` undoes content
/// encodings where redaction has to look into a body.
pub fn open(
    config: &LedgerConfig,
    clock: Clock,
    decode: Decode,
) -> Result<(Ledger, Recovery), OpenError> {
    let disk = Disk::create_dir(&config.dir.join("log"));
    let disk = disk.map_err(|source| OpenError::Unusable {
        dir: config.dir.clone(),
        source,
    })?;
    open_on(Arc::new(disk), config, clock, decode)
}

/// Like [`open`], with the log on `storage`. Lock and index are in `config.dir`, which must exist.
pub fn open_on(
    storage: Arc<dyn Storage>,
    config: &LedgerConfig,
    clock: Clock,
    decode: Decode,
) -> Result<(Ledger, Recovery), OpenError> {
    let lock = Some(acquire(&config.dir)?);
    let parts = Parts {
        storage,
        place: Place::File(config.dir.join("index.redb")),
        lock,
    };
    open_parts(parts, config, clock, decode, Settings::of(config))
}

fn acquire(dir: &Path) -> Result<Lock, OpenError> {
    Lock::acquire(dir).map_err(|error| match error {
        LockError::Held(holder) => OpenError::Locked {
            dir: dir.to_owned(),
            holder,
        },
        LockError::Io(source) => OpenError::Unusable {
            dir: dir.to_owned(),
            source,
        },
    })
}

/// What a ledger stands on.
struct Parts {
    storage: Arc<dyn Storage>,
    place: Place,
    lock: Option<Lock>,
}

fn open_parts(
    parts: Parts,
    config: &LedgerConfig,
    clock: Clock,
    decode: Decode,
    settings: Settings,
) -> Result<(Ledger, Recovery), OpenError> {
    let Parts {
        storage,
        place,
        lock,
    } = parts;
    let unusable = |source| OpenError::Unusable {
        dir: config.dir.clone(),
        source,
    };
    erase::resume(&*storage, &place).map_err(unusable)?;
    let doubtful = lock.as_ref().is_none_or(Lock::left_open);
    let Opened {
        catalog,
        view,
        indexed,
        follower,
        resume,
        mut recovery,
        to_tell,
    } = recovery::open(&storage, (&place, doubtful), &clock)?;
    let queue = Queue::new(config.max_queue_bytes);
    let progress = Arc::new(Progress::default());
    progress.set_written(resume.end);
    progress.set_indexed(resume.end.position);
    let health = Arc::new(Health::default());
    let hearing = Arc::<Hearing>::default();

    let bodies = bodies(config, decode, resume.seed, indexed.contents);
    let shared = Shared {
        storage,
        catalog: Arc::clone(&catalog),
        queue: Arc::clone(&queue),
        progress: Arc::clone(&progress),
        health: Arc::clone(&health),
        hearing: Arc::clone(&hearing),
    };
    let seed = resume.seed;
    let indexer = indexer(follower, &shared, config, &clock);
    let writer = Writer::new(shared, clock.clone(), settings, bodies, &resume).map_err(unusable)?;
    let (writing, writing_done) = spawn("ledger", move || writer.run()).map_err(unusable)?;
    let (indexing, indexing_done) =
        spawn("ledger-index", move || indexer.run()).map_err(unusable)?;
    let ledger = Ledger {
        open: Arc::new(Open {
            queue,
            progress,
            health,
            catalog,
            view,
            seed,
            clock,
            policy: Policy::of(config),
            hearing,
            lock,
            threads: Mutex::new(vec![writing, indexing]),
            done: [writing_done, indexing_done],
        }),
    };
    // Before anything else is written.
    ledger.tell_found(to_tell);
    recovery.recovered_calls = ledger.settle_recovered(&indexed.open_calls);
    recovery.clean &= recovery.recovered_calls == 0;
    Ok((ledger, recovery))
}

/// What keeps the index behind the log.
fn indexer(
    mut follower: Follower,
    shared: &Shared,
    config: &LedgerConfig,
    clock: &Clock,
) -> IndexThread {
    let retention = Retention::of(config);
    follower.queue = Some(Arc::clone(&shared.queue));
    follower.retention = retention;
    IndexThread {
        follower,
        queue: Arc::clone(&shared.queue),
        progress: Arc::clone(&shared.progress),
        health: Arc::clone(&shared.health),
        retention,
        clock: clock.clone(),
        failures: 0,
        leaving: None,
    }
}

/// What stores bodies, knowing what is stored already.
fn bodies(
    config: &LedgerConfig,
    decode: Decode,
    seed: DigestSeed,
    contents: Vec<(Digest, u64, bool)>,
) -> Bodies {
    let mut bodies = Bodies::new(&config.redact, config.max_body_bytes, decode, seed);
    for (digest, segment, redacted) in contents {
        bodies.known.put(digest, Known { segment, redacted });
    }
    bodies
}

/// A thread, and a future that resolves when it ends, however it does.
fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<(thread::JoinHandle<()>, Durable)> {
    let (commit, done) = commit();
    let work = move || {
        let _done = commit;
        work();
    };
    Ok((
        thread::Builder::new().name(name.to_owned()).spawn(work)?,
        done,
    ))
}

impl Ledger {
    /// The secret of this directory that message digests are made with.
    pub fn seed(&self) -> DigestSeed {
        self.open.seed
    }

    /// Records that a call is let through, and reserves the room to record how it ends. Never
    /// blocks.
    pub fn admit(
        &self,
        admission: Admission,
        request: Option<Capture>,
    ) -> Result<Entry, Unavailable> {
        let Open {
            queue,
            policy,
            clock,
            ..
        } = &*self.open;
        let id = admission.id;
        let recorded = if queue.is_closed() {
            Err(Unavailable::Closed)
        } else if queue.is_failing() {
            Err(Unavailable::Failing)
        } else {
            Entry::record(queue, *policy, clock, admission, request)
        };
        match recorded {
            Err(_) if policy.on_failure == OnFailure::Serve => {
                queue.count_dropped(1);
                Ok(Entry::unrecorded(id))
            }
            recorded => recorded,
        }
    }

    /// Has `listener` hear of every event from now on, within the call or thread that it comes from:
    /// it must not wait. The first listener stays.
    pub fn listen(&self, listener: Listener) {
        let _ = self.open.hearing.0.set(listener);
    }

    /// Records something that is no call.
    pub fn event(&self, event: Event) -> Result<Durable, Unavailable> {
        self.open.hearing.tell(&event);
        let details = event.details.as_ref().map_or(0, String::len);
        self.tell(details, |receipt| Op::Event(Box::new(event), receipt))
    }

    /// Records what must not happen unrecorded: where it cannot be, nobody hears of it.
    pub fn deed(&self, event: Event) -> Result<Durable, Unavailable> {
        let details = event.details.as_ref().map_or(0, String::len);
        let heard = event.clone();
        let durable = self.tell(details, |receipt| Op::Event(Box::new(event), receipt))?;
        self.open.hearing.tell(&heard);
        Ok(durable)
    }

    /// Records a custom metric.
    pub fn measured(&self, measurement: Measurement) -> Result<Durable, Unavailable> {
        let note = measurement.note.as_ref().map_or(0, String::len);
        let charged = measurement.charged.as_ref().map_or(0, |charged| {
            let replaced = charged.replaced.as_ref();
            charges_room(&charged.charges)
                + replaced.map_or(0, |(_, charges)| charges_room(charges))
        });
        let it = Box::new(measurement);
        self.tell(note + charged, |receipt| Op::Measured(it, receipt))
    }

    /// Records what somebody may wait for, with `more` room than usual.
    fn tell(&self, more: usize, op: impl FnOnce(Receipt) -> Op) -> Result<Durable, Unavailable> {
        let queue = &self.open.queue;
        if queue.is_failing() {
            return Err(Unavailable::Failing);
        }
        let room = queue.reserve(RECORD_ROOM + more).ok_or(Unavailable::Full)?;
        let (commit, durable) = commit();
        let commit = Some(commit);
        if queue.push(op(Receipt { room, commit })) {
            Ok(durable)
        } else {
            Err(Unavailable::Closed)
        }
    }

    /// Blocks until everything handed over by now is written and indexed, or cannot be; says
    /// whether it is.
    pub fn sync_index(&self) -> bool {
        let (commit, written) = commit();
        self.open.queue.push(Op::Barrier(commit));
        written.block();
        // While the log fails nobody is kept waiting, and what waits for the disk is not written.
        let is_written = !self.open.queue.is_failing();
        self.open.progress.wait_indexed();
        is_written && !self.open.progress.is_index_stuck()
    }

    /// Questions to all that was recorded by now. Blocks: see [`Self::sync_index`].
    pub fn view(&self) -> &View {
        self.sync_index();
        &self.open.view
    }

    /// Questions to what is indexed by now, which lags behind what was recorded by a moment.
    pub fn peek(&self) -> &View {
        &self.open.view
    }

    /// How often the index was [synced](Self::sync_index).
    #[cfg(test)]
    pub(crate) fn syncs(&self) -> u64 {
        self.open.progress.waits()
    }

    /// A number that changes whenever something was written.
    pub fn written(&self) -> u64 {
        self.open.progress.written()
    }

    /// 0 where all is well; bit 0: records cannot be written, bit 1: the index does not follow.
    pub fn health(&self) -> u64 {
        let (queue, progress) = (&self.open.queue, &self.open.progress);
        u64::from(queue.is_failing()) | u64::from(progress.is_index_stuck()) << 1
    }

    pub fn status(&self) -> LedgerStatus {
        let Open {
            queue,
            progress,
            health,
            catalog,
            ..
        } = &*self.open;
        let (segments, log_bytes) = catalog.size();
        let vitals = health.get();
        LedgerStatus {
            failing: queue.is_failing(),
            index_failing: progress.is_index_stuck(),
            last_error: vitals.log_error.or(vitals.index_error),
            queued_records: queue.len(),
            reserved_bytes: queue.reserved_bytes(),
            segments,
            log_bytes,
            dropped_records: queue.dropped(),
            dropped_bodies: queue.dropped_bodies(),
            syncs: vitals.syncs,
        }
    }

    /// Lets other processes find the listeners of this one: see [`running_server`].
    pub fn announce(&self, doors: Doors) -> io::Result<()> {
        self.open
            .lock
            .as_ref()
            .map_or(Ok(()), |lock| lock.write(Some(doors)))
    }

    /// Takes nothing more in, writes what is queued and brings the index up to it.
    pub async fn close(&self) -> Result<(), CloseError> {
        let before = self.open.queue.dropped();
        self.open.queue.close();
        for done in self.open.done.clone() {
            done.await;
        }
        match self.open.queue.dropped() - before {
            0 => Ok(()),
            records => Err(CloseError { records }),
        }
    }

    /// Puts on record what was found at opening.
    fn tell_found(&self, ToTell { missed, front }: ToTell) {
        if let Some(front) = front {
            drop(self.tell(0, |receipt| Op::Removal(Box::new(front), receipt)));
        }
        let Some(event) = missed else { return };
        tracing::warn!(
            details = event.details,
            "the end of the ledger's log is not where it was"
        );
        let Ok(told) = self.event(event) else { return };
        told.clone().block();
        if told.is_kept() {
            // Until then the index keeps it.
            drop(self.open.view.index.set_missed(None));
        }
    }

    /// Settles calls that were open when the process before this one ended.
    fn settle_recovered(&self, open_calls: &[Admission]) -> u64 {
        let now = self.open.clock.now();
        // How calls of other instances ended comes from those.
        let own = open_calls.iter().filter(|it| it.instance.is_none());
        let mut settled = 0;
        for admission in own {
            let settlement = Settlement {
                settled_at: Some(now),
                ..recovery::unsettled(admission, Outcome::Recovered)
            };
            let settle = Op::Settle(Box::new(settlement), None, None);
            self.open.queue.push(settle);
            settled += 1;
        }
        if settled > 0 {
            self.sync_index();
        }
        settled
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.queue.close();
        let threads = self
            .threads
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A thread that panicked has said so; what it held is lost either way.
            drop(thread.join());
        }
        if let Some(lock) = &self.lock {
            lock.leave();
        }
    }
}
