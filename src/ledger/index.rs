//! The index: everything derived from the log, in redb. It may be deleted at any time.
//!
//! It knows up to where it covers the log and the chain hash there; if the log does not hold that
//! point, or anything in the index cannot be read, it is made anew from the log. The database
//! verifies its pages only when asked to, and may panic on one in which bits flipped: that is
//! damage like any other.

pub(crate) mod batch;
pub(crate) mod follow;
pub(super) mod retain;

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use minicbor::{Decode, Encode};
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use crate::core::call::Outcome;

use super::checkpoint::Calls;
use super::log::{Catalog, Cursor, LogReader, Segment, Step, read_record};
use super::record::{Chain, Checkpoint, Position, kind};
use super::rows::CallRow;
use super::storage::Storage;

/// Goes up with every change of the tables: an index of another version is made anew.
const VERSION: u16 = 6;

type Bytes = &'static [u8];
type OpenMark = (i64, Option<&'static str>, &'static str);
/// Of a call when it started, how long it took, what it cost, how it ended and whose it was: enough to
/// draw a run of thousands without reading each.
type CallMark = (i64, Option<u64>, Option<i64>, Option<u8>, &'static str);
pub(crate) const META: TableDefinition<'_, &str, Bytes> = TableDefinition::new("meta");
pub(crate) const CALLS: TableDefinition<'_, u128, Bytes> = TableDefinition::new("calls");
/// Calls without settlement: when each started, its run and its agent.
pub(crate) const OPEN: TableDefinition<'_, u128, OpenMark> = TableDefinition::new("open");
pub(crate) const BY_RUN: TableDefinition<'_, (&str, u128), CallMark> =
    TableDefinition::new("by_run");
pub(crate) const BY_AGENT: TableDefinition<'_, (&str, u128), ()> = TableDefinition::new("by_agent");
pub(crate) const RESPONSES: TableDefinition<'_, &str, u128> = TableDefinition::new("responses");
pub(crate) const SUMMARIES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("summaries");
/// What calls of a minute, an hour or a day come to, by [`SliceKey`](super::slices::SliceKey).
pub(crate) const SLICES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("slices");
/// Runs by when they were last active.
pub(crate) const RUNS_BY_ACTIVITY: TableDefinition<'_, (i64, &str), ()> =
    TableDefinition::new("runs_by_activity");
/// Calls that may be settled late.
pub(crate) const PENDING: TableDefinition<'_, u128, ()> = TableDefinition::new("pending");
pub(crate) const ACCOUNTS: TableDefinition<'_, u128, Bytes> = TableDefinition::new("accounts");
/// By time, segment and offset: records of events and of acts.
pub(crate) const EVENTS: TableDefinition<'_, (i64, u64, u64), Bytes> =
    TableDefinition::new("events");
/// Segment, offset, whether redacted.
pub(crate) const CONTENTS: TableDefinition<'_, u128, (u64, u64, bool)> =
    TableDefinition::new("contents");
/// Custom metrics by scope, name, time and `tie`: see
/// [`Scope`](super::query::MetricScope).
pub(crate) const MEASURED: TableDefinition<'_, (&str, &str, i64, u64), Bytes> =
    TableDefinition::new("measured");
/// What was said of what by whom: when, and the segment that holds it.
pub(crate) const MEASURES: TableDefinition<'_, u128, (i64, u64)> = TableDefinition::new("measures");
/// First segment not covered -> where the checkpoint lies.
pub(crate) const CHECKPOINTS: TableDefinition<'_, u64, (u64, u64)> =
    TableDefinition::new("checkpoints");

/// A key of `META`.
const MISSED: &str = "missed";

const OUTCOMES: [Outcome; 8] = [
    Outcome::Completed,
    Outcome::UpstreamError,
    Outcome::UpstreamUnavailable,
    Outcome::UpstreamCut,
    Outcome::ClientGone,
    Outcome::Recovered,
    Outcome::Cut,
    Outcome::Rejected,
];

/// An outcome as a [`CallMark`] has it.
fn outcome_number(outcome: Outcome) -> Option<u8> {
    let at = OUTCOMES.iter().position(|known| *known == outcome)?;
    u8::try_from(at).ok()
}

pub(crate) fn outcome_of(number: u8) -> Option<Outcome> {
    OUTCOMES.get(usize::from(number)).copied()
}

/// Why the index could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("the index failed: {0}")]
    Database(#[source] Box<redb::Error>),
    #[error("the log cannot be read: {0}")]
    Log(#[from] io::Error),
    #[error("the index is damaged")]
    Damaged,
    #[error("the index is being made anew")]
    Partial,
    #[error("the ledger is closed")]
    Closed,
}

macro_rules! from_database {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for IndexError {
            fn from(error: redb::$error) -> Self {
                Self::of(error.into())
            }
        }
    )*};
}

from_database!(
    CommitError,
    CompactionError,
    DatabaseError,
    SetDurabilityError,
    StorageError,
    TableError,
    TransactionError
);

impl IndexError {
    /// What cannot have been written like this is damage; all else may pass.
    fn of(error: redb::Error) -> Self {
        use redb::Error;
        match error {
            Error::Corrupted(_)
            | Error::UpgradeRequired(_)
            | Error::TableTypeMismatch { .. }
            | Error::TableIsMultimap(_)
            | Error::TableIsNotMultimap(_)
            | Error::TypeDefinitionChanged { .. } => Self::Damaged,
            Error::Io(error) if is_of_content(error.kind()) => Self::Damaged,
            error => Self::Database(Box::new(error)),
        }
    }
}

/// Not the disk is at fault but what is on it.
fn is_of_content(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// How far the index covers the log.
#[derive(Clone, Copy, Debug, Default, Encode, Decode)]
struct Meta {
    #[n(0)]
    version: u16,
    #[n(1)]
    position: Position,
    #[n(2)]
    chain: Chain,
    /// The last record covered; none at the start of a segment.
    #[n(3)]
    last: Option<Position>,
}

/// How far the index covers a log that holds this point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Covered {
    pub(crate) cursor: Cursor,
    pub(crate) last: Option<Position>,
}

/// What the index keeps of a call.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct StoredCall {
    #[n(0)]
    pub(crate) row: CallRow,
    #[n(1)]
    pub(crate) admission: Option<Position>,
    #[n(2)]
    pub(crate) settlement: Option<Position>,
    /// Where it was settled for good.
    #[n(3)]
    pub(crate) late: Option<Position>,
}

/// Where the index is kept.
#[derive(Clone)]
pub(crate) enum Place {
    File(PathBuf),
    Memory,
    #[cfg(test)]
    Fake(super::fake::IndexDisk),
}

impl Place {
    /// Takes away whatever is there, durably.
    pub(crate) fn clear(&self) -> io::Result<()> {
        remove_database(self)?;
        if let Self::File(path) = self
            && let Some(dir) = path.parent()
        {
            super::storage::sync_dir(dir)?;
        }
        Ok(())
    }

    /// Whether reading all of it takes no time to speak of.
    fn is_small(&self) -> Result<bool, IndexError> {
        const SMALL: u64 = 64 << 20;
        match self {
            Self::File(path) => Ok(!path.exists() || fs::metadata(path)?.len() <= SMALL),
            Self::Memory => Ok(true),
            #[cfg(test)]
            Self::Fake(_) => Ok(true),
        }
    }
}

/// The database and how far it reaches.
pub(crate) struct Index {
    place: Place,
    db: RwLock<Option<Database>>,
    /// A question met damage: whoever writes the index has to make it anew.
    damaged: AtomicBool,
    /// It knows less than it did and does not cover the log yet: nobody may take it for the whole.
    partial: AtomicBool,
}

const CACHE_BYTES: usize = 32 << 20;

impl Index {
    /// Opens it, after a look at every page when `doubtful`, and where that takes no time.
    pub(crate) fn open(place: Place, doubtful: bool) -> Result<Self, IndexError> {
        let db = if doubtful || place.is_small()? {
            open_verified(&place)?
        } else {
            open_database(&place)?
        };
        Ok(Self {
            place,
            db: RwLock::new(Some(db)),
            damaged: AtomicBool::new(false),
            partial: AtomicBool::new(false),
        })
    }

    /// An empty one, whatever is there.
    pub(crate) fn create(place: Place) -> Result<Self, IndexError> {
        remove_database(&place)?;
        Self::open(place, false)
    }

    /// Throws everything away.
    pub(crate) fn reset(&self) -> Result<(), IndexError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        self.partial.store(true, Ordering::Relaxed);
        close(&mut db);
        remove_database(&self.place)?;
        *db = Some(open_database(&self.place)?);
        self.damaged.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Opens the same file again: after an error the database refuses to go on. It may have gone back
    /// to what survives a crash.
    pub(crate) fn reopen(&self) -> Result<(), IndexError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        self.partial.store(true, Ordering::Relaxed);
        close(&mut db);
        *db = Some(open_database(&self.place)?);
        Ok(())
    }

    /// Gives disk space back when most of the file is free: after segments went.
    pub(crate) fn compact_if_sparse(&self) -> Result<(), IndexError> {
        /// Below this nobody minds.
        const WORTH_IT: u64 = 64 << 20;
        let Place::File(path) = &self.place else {
            return Ok(());
        };
        let file_bytes = fs::metadata(path)?.len();
        let mut guard = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = guard.as_mut().filter(|_| file_bytes > WORTH_IT) else {
            return Ok(());
        };
        guarded(|| {
            let stats = db.begin_write()?.stats()?;
            let used = stats
                .allocated_pages()
                .saturating_mul(stats.page_size() as u64);
            if used < file_bytes / 3 {
                db.compact()?;
            }
            Ok(())
        })
    }

    pub(crate) fn close(&self) {
        close(&mut self.db.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// It covers the log.
    pub(crate) fn set_whole(&self) {
        self.partial.store(false, Ordering::Relaxed);
    }

    /// Whether a question met damage since it was made.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    fn guard(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.db.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from one consistent state.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let guard = self.guard();
        if self.partial.load(Ordering::Relaxed) {
            return Err(IndexError::Partial);
        }
        let result = read_from(guard.as_ref(), read);
        if matches!(result, Err(IndexError::Damaged)) {
            self.damaged.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Changes everything or nothing; `durable` makes this and all changes before it survive.
    pub(crate) fn write<T>(
        &self,
        durable: bool,
        write: impl FnOnce(&WriteTransaction) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let guard = self.guard();
        let db = guard.as_ref().ok_or(IndexError::Closed)?;
        guarded(|| {
            let mut txn = db.begin_write()?;
            if durable {
                txn.set_quick_repair(true);
            } else {
                txn.set_durability(Durability::None)?;
            }
            let result = write(&txn)?;
            txn.commit()?;
            Ok(result)
        })
    }

    fn meta(&self) -> Result<Option<Meta>, IndexError> {
        read_from(self.guard().as_ref(), |txn| {
            let table = match txn.open_table(META) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            let Some(bytes) = table.get("meta")? else {
                return Ok(None);
            };
            minicbor::decode(bytes.value())
                .map(Some)
                .map_err(|_| IndexError::Damaged)
        })
    }

    /// Up to where it saw the log, whatever the log holds by now.
    pub(crate) fn seen(&self) -> Option<Cursor> {
        let meta = self.meta().ok().flatten();
        meta.filter(|meta| meta.version == VERSION && meta.last.is_some())
            .map(|meta| Cursor {
                position: meta.position,
                chain: meta.chain,
            })
    }

    /// Up to where an index saw the log that the log does not hold any more, and of which nothing is on
    /// record yet.
    pub(crate) fn missed(&self) -> Option<Cursor> {
        let read = read_from(self.guard().as_ref(), |txn| {
            let bytes = txn.open_table(META)?.get(MISSED)?;
            Ok(bytes.and_then(|bytes| minicbor::decode::<Meta>(bytes.value()).ok()))
        });
        let missed = read.ok().flatten();
        missed.map(
            |Meta {
                 position, chain, ..
             }| Cursor { position, chain },
        )
    }

    pub(crate) fn set_missed(&self, missed: Option<Cursor>) -> Result<(), IndexError> {
        self.write(true, |txn| {
            let mut table = txn.open_table(META)?;
            let Some(Cursor { position, chain }) = missed else {
                table.remove(MISSED)?;
                return Ok(());
            };
            if table.get(MISSED)?.is_some() {
                // The first is what counts.
                return Ok(());
            }
            let meta = Meta {
                position,
                chain,
                ..Meta::default()
            };
            let bytes = minicbor::to_vec(meta).map_err(|_| IndexError::Damaged)?;
            table.insert(MISSED, bytes.as_slice())?;
            Ok(())
        })
    }

    /// How far it covers this log; none when it belongs to another state of it.
    pub(crate) fn covered(
        &self,
        storage: &dyn Storage,
        catalog: &Catalog,
    ) -> Result<Option<Covered>, IndexError> {
        let Some(meta) = self.meta()? else {
            return Ok(None);
        };
        let cursor = Cursor {
            position: meta.position,
            chain: meta.chain,
        };
        let segments = catalog.all();
        let segment = segments
            .iter()
            .find(|segment| segment.number == meta.position.segment);
        let (true, Some(segment)) = (meta.version == VERSION, segment) else {
            return Ok(None);
        };
        let holds = match meta.last {
            Some(last) => read_record(storage, last)?.is_some_and(|record| record.behind == cursor),
            None => segment.start() == meta.position && segment.continues() == Some(meta.chain),
        };
        Ok(holds.then_some(Covered {
            cursor,
            last: meta.last,
        }))
    }
}

fn open_database(place: &Place) -> Result<Database, IndexError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    guarded(|| {
        Ok(match place {
            Place::File(path) => builder.create(path)?,
            Place::Memory => builder.create_with_backend(redb::backends::InMemoryBackend::new())?,
            #[cfg(test)]
            Place::Fake(disk) => builder.create_with_backend(disk.backend())?,
        })
    })
}

/// Opens a database all of whose pages are as they were written.
fn open_verified(place: &Place) -> Result<Database, IndexError> {
    let mut db = open_database(place)?;
    let sound = guarded(|| Ok(db.check_integrity()?));
    if let Ok(true) = sound {
        return Ok(db);
    }
    close(&mut Some(db));
    Err(sound.err().unwrap_or(IndexError::Damaged))
}

/// Verifies every page of the index at `place`, which exists. False when one is damaged.
pub(crate) fn is_sound(place: &Place) -> Result<bool, IndexError> {
    match open_verified(place) {
        Ok(_) => Ok(true),
        Err(IndexError::Damaged) => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_from<T>(
    db: Option<&Database>,
    read: impl FnOnce(&redb::ReadTransaction) -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    let db = db.ok_or(IndexError::Closed)?;
    guarded(|| read(&db.begin_read()?))
}

fn close(db: &mut Option<Database>) {
    // Should closing it panic, it is as closed as can be.
    let _: Result<(), _> = guarded(|| {
        drop(db.take());
        Ok(())
    });
}

fn guarded<T>(act: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(Err(IndexError::Damaged))
}

fn remove_database(place: &Place) -> io::Result<()> {
    match place {
        Place::File(path) => match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
        Place::Memory => Ok(()),
        #[cfg(test)]
        Place::Fake(disk) => disk.remove(),
    }
}

/// Where making the index anew begins if the log's first segments are gone: the checkpoint that
/// stands for them, and where it lies.
pub(crate) fn find_base(
    storage: &dyn Storage,
    segments: &[Segment],
) -> io::Result<Option<(Position, Checkpoint)>> {
    let Some(first) = segments.first() else {
        return Ok(None);
    };
    if first.number == 1 || first.continues() == Some(Chain::GENESIS) {
        return Ok(None);
    }
    let mut base: Option<(Position, Checkpoint)> = None;
    let mut reader = LogReader::from_start(storage, segments);
    while let Some(step) = reader.next()? {
        let Step::Record {
            at,
            kind: kind::CHECKPOINT,
            payload,
        } = step
        else {
            continue;
        };
        let Some(Calls { before, .. }) = super::checkpoint::calls(payload) else {
            continue;
        };
        let best = base.as_ref().map_or(u64::MAX, |(_, base)| base.before);
        if before >= first.number && before < best {
            let found = before == first.number;
            base = super::checkpoint::parse(payload)
                .map(|whole| (at, whole))
                .or(base);
            if found {
                break;
            }
        }
    }
    Ok(base)
}
