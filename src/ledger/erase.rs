//! Taking calls out of the log for good, at somebody's wish.
//!
//! What is taken out leaves a tombstone, which keeps the place in the chain and what was spent, and
//! nothing of what was said or by whom. First a record says which records go, and what is left in the
//! place of each; then each segment is written anew beside itself and put in its own place. A file
//! beside the log says that this is under way, until it is done.

mod plan;
mod rewrite;
mod rules;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::core::digest::DigestSeed;
use crate::core::id::Label;
use crate::core::time::Timestamp;

use super::OpenError;
use super::check::existing;
use super::log::{LogReader, Segment, Step, catalog};
use super::record::{Frames, Header, kind};
use super::removal::{Erased, Removal, Removed};
use super::storage::Storage;

/// Which calls are meant.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Scope {
    #[n(0)]
    Run(#[n(0)] Label),
    #[n(1)]
    User(#[n(0)] Label),
    /// All that began before this.
    #[n(2)]
    Before(#[n(0)] Timestamp),
}

/// What was deleted, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErasedReport {
    pub calls: u64,
    /// Calls that are meant but did not end yet: they stay.
    pub running_calls: u64,
    /// Records of which a tombstone is left.
    pub records: u64,
    /// Messages and other contents among them; those that other calls share stay.
    pub contents: u64,
    pub segments: u64,
    /// By how much the log gets smaller.
    pub freed_bytes: u64,
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "the log is not what was written, and what is not understood cannot be deleted from: see \
         `open-aiops audit verify`"
    )]
    Unsound,
    #[error("the log cannot be changed: {0}")]
    Io(#[from] io::Error),
}

/// What is under way.
#[derive(Debug, Encode, Decode)]
struct Intent {
    #[n(0)]
    scope: Scope,
    /// Of the record that says so.
    #[n(1)]
    at: Timestamp,
}

const INTENT: &str = "deleting";

/// Says what [`erase`] would do.
pub fn preview(dir: &Path, scope: &Scope) -> Result<ErasedReport, EraseError> {
    let (storage, lock) = existing(dir)?;
    let planned = plan::plan(&*storage, &sound(&*storage)?, scope)?;
    lock.iter().for_each(super::lock::Lock::leave);
    Ok(planned.report)
}

/// Deletes the calls of `scope` from a ledger that no process uses and that was closed properly.
pub fn erase(
    dir: &Path,
    scope: &Scope,
    who: &str,
    at: Timestamp,
) -> Result<ErasedReport, EraseError> {
    let (storage, lock) = existing(dir)?;
    let report = erase_on(&*storage, dir, scope, (who, at))?;
    lock.iter().for_each(super::lock::Lock::leave);
    drop(lock);
    if report.records > 0 {
        super::check::rebuild(dir)?;
    }
    Ok(report)
}

pub(super) fn erase_on(
    storage: &dyn Storage,
    dir: &Path,
    scope: &Scope,
    (who, at): (&str, Timestamp),
) -> Result<ErasedReport, EraseError> {
    let segments = sound(storage)?;
    let planned = plan::plan(storage, &segments, scope)?;
    let Some(last) = segments.last().filter(|_| planned.report.records > 0) else {
        return Ok(planned.report);
    };
    let intent = Intent {
        scope: scope.clone(),
        at,
    };
    write_intent(dir, &intent)?;
    let details = planned.report.words(scope, last);
    let removal = Removal {
        at,
        who: who.to_owned(),
        details,
        what: Removed::Records {
            segments: planned.erased,
        },
    };
    record(storage, &segments, &removal)?;
    carry_out(storage, dir, &segments, &removal, scope)?;
    Ok(planned.report)
}

/// Finishes a deletion that was under way when its process ended; one of which nothing is on record
/// did not happen.
pub(super) fn resume(storage: &Arc<dyn Storage>, dir: &Path) -> Result<(), EraseError> {
    let Ok(bytes) = fs::read(dir.join(INTENT)) else {
        return Ok(());
    };
    let intent: Option<Intent> = minicbor::decode(&bytes).ok();
    let Some(intent) = intent else {
        return Ok(forget_intent(dir)?);
    };
    let segments = all(&**storage)?;
    let mut reader = LogReader::from_start(&**storage, &segments);
    let mut found = None;
    while let Some(step) = reader.next()? {
        if let Step::Record {
            kind: kind::REMOVAL,
            payload,
            ..
        } = step
        {
            let removal = Removal::parse(payload).filter(|it| it.at == intent.at);
            found = removal.or(found);
        }
    }
    match found {
        Some(removal) => carry_out(&**storage, dir, &segments, &removal, &intent.scope)?,
        None => forget_intent(dir)?,
    }
    Ok(())
}

fn carry_out(
    storage: &dyn Storage,
    dir: &Path,
    segments: &[Segment],
    removal: &Removal,
    scope: &Scope,
) -> io::Result<()> {
    // It knows where records lay, and its free pages still hold what was in them: it is made anew.
    remove_index(dir)?;
    let rules = rules::Rules::read(storage, segments, scope)?;
    for (at, segment) in segments.iter().enumerate() {
        let mut erased = removal.erased().iter();
        let none = Erased::of(segment.number);
        let erased = erased.rfind(|it| it.number == segment.number);
        let next = segments.get(at + 1).and_then(Segment::continues);
        // Also where nothing is named: what a failed write left behind goes.
        rewrite::segment(storage, (segment, next), erased.unwrap_or(&none), &rules)?;
    }
    remove_index(dir)?;
    forget_intent(dir)
}

fn remove_index(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join("index.redb")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn all(storage: &dyn Storage) -> io::Result<Vec<Segment>> {
    let catalog = catalog(storage).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(catalog.all())
}

/// The segments of a log in which every record is where it belongs.
fn sound(storage: &dyn Storage) -> Result<Vec<Segment>, EraseError> {
    let segments = all(storage)?;
    let report = super::audit::verify_segments(storage, &segments)?;
    if report.is_sound() && report.unfinished_bytes == 0 {
        Ok(segments)
    } else {
        Err(EraseError::Unsound)
    }
}

/// Puts what is about to be done on record, in a segment of its own.
fn record(storage: &dyn Storage, segments: &[Segment], removal: &Removal) -> io::Result<()> {
    let mut reader = LogReader::from_start(storage, segments);
    while reader.next()?.is_some() {}
    let end = reader.cursor();
    let (Some(last), Some(header)) = (
        segments.last(),
        segments.iter().rev().find_map(|it| it.header),
    ) else {
        return Ok(());
    };
    let header = Header {
        number: last.number + 1,
        created_at: removal.at,
        continues: end.chain,
        ..header
    };
    let mut frames = Frames {
        chain: end.chain,
        ..Frames::default()
    };
    frames.push(kind::REMOVAL, removal);
    let mut bytes = header.to_bytes();
    bytes.extend_from_slice(&frames.bytes);
    let mut file = storage.create(header.number)?;
    file.append(&bytes)?;
    file.sync()?;
    storage.sync_dir()
}

fn write_intent(dir: &Path, intent: &Intent) -> io::Result<()> {
    let bytes = minicbor::to_vec(intent).map_err(io::Error::other)?;
    let mut file = File::create(dir.join(INTENT))?;
    file.write_all(&bytes)?;
    file.sync_all()
}

fn forget_intent(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(INTENT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl ErasedReport {
    /// For the record, which does not repeat the name that was to be forgotten.
    fn words(&self, scope: &Scope, last: &Segment) -> String {
        let named = |what: &str, name: &Label| {
            let seed = last.header.map_or(DigestSeed(0), |header| header.seed);
            format!(
                "one {what} (digest {})",
                seed.digest(name.as_str().as_bytes())
            )
        };
        let meant = match scope {
            Scope::Run(run) => named("run", run),
            Scope::User(user) => named("user", user),
            Scope::Before(at) => format!("all that began before {at}"),
        };
        let Self {
            calls,
            records,
            contents,
            ..
        } = self;
        format!("deleted {meant}: {calls} calls, {records} records, {contents} of them contents")
    }
}

impl Removal {
    /// Which records of a segment go.
    pub(super) fn erased(&self) -> &[Erased] {
        match &self.what {
            Removed::Records { segments } => segments,
            Removed::Front { .. } => &[],
        }
    }
}
