//! Looking at a ledger no server is using: reading it, checking it, making its index anew.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::index::follow::Follower;
use super::index::{Index, Place, is_sound};
use super::lock::Lock;
use super::log::{Damage, LogReader, Step};
use super::query::View;
use super::record::{Position, kind};
use super::recovery::{OpenError, catch_up, open_catalog, open_index};
use super::storage::{Disk, Storage};

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    pub segments: usize,
    pub bytes: u64,
    pub contents: u64,
    pub admissions: u64,
    pub settlements: u64,
    pub checkpoints: u64,
    pub events: u64,
    pub accounts: u64,
    pub acts: u64,
    pub late_usages: u64,
    pub measurements: u64,
    /// Records that were deleted: only their places in the chain and what they spent are left.
    pub deleted: u64,
    /// Of what was taken out of the log.
    pub removals: u64,
    /// Of what the heads of segments say.
    pub heads: u64,
    /// Records of kinds this version does not know.
    pub unknown: u64,
    /// Parts that cannot be read: their records are lost, those around them are not.
    pub damages: Vec<Damage>,
    /// An unfinished record at the end; opening the ledger cuts it off.
    pub torn_bytes: u64,
    /// What answers questions is not as it was written: the log is, [`rebuild`] makes a new index
    /// from it. None if there is no index, or it cannot be looked at here.
    pub index_damaged: Option<bool>,
    /// Up to where the log can be read.
    pub end: Position,
}

/// What [`rebuild`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RebuildReport {
    pub records: u64,
    pub damages: Vec<Damage>,
}

/// A ledger opened for reading.
pub struct ReadOnly {
    view: View,
    lock: Option<Lock>,
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        self.view.index.close();
        if let Some(lock) = &self.lock {
            lock.leave();
        }
    }
}

impl ReadOnly {
    pub fn view(&self) -> &View {
        &self.view
    }
}

pub(super) fn existing(dir: &Path) -> Result<(Arc<dyn Storage>, Option<Lock>), OpenError> {
    let log = dir.join("log");
    if !log.is_dir() {
        return Err(OpenError::Missing {
            dir: dir.to_owned(),
        });
    }
    let lock = match super::acquire(dir) {
        Ok(lock) => Some(lock),
        // A directory that cannot be written has no writer either.
        Err(OpenError::Unusable { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok((Arc::new(Disk::at(&log)), lock))
}

/// Opens a ledger that no process uses for reading. The log is left as it is; the index is brought
/// up to it, in memory if the directory cannot be written.
pub fn open_read_only(dir: &Path) -> Result<ReadOnly, OpenError> {
    let (storage, lock) = existing(dir)?;
    let catalog = Arc::new(open_catalog(&*storage)?);
    let place = if lock.is_some() {
        Place::File(dir.join("index.redb"))
    } else {
        Place::Memory
    };
    let doubtful = lock.as_ref().is_some_and(Lock::left_open);
    let index = open_index(&place, doubtful)?;
    let (mut follower, _) = Follower::new(Arc::clone(&index), Arc::clone(&storage), catalog)
        .map_err(OpenError::Index)?;
    let view = View { index, storage };
    catch_up(&mut follower, |_| Ok(()))?;
    Ok(ReadOnly { view, lock })
}

/// Reads the whole log and verifies every checksum and the chain; verifies the index.
pub fn check(dir: &Path) -> Result<CheckReport, OpenError> {
    let (storage, lock) = existing(dir)?;
    let catalog = open_catalog(&*storage)?;
    let (segments, bytes) = catalog.size();
    let mut report = CheckReport {
        segments,
        bytes,
        ..CheckReport::default()
    };
    let all = catalog.all();
    let mut reader = LogReader::from_start(&*storage, &all);
    loop {
        let step = reader.next().map_err(|source| OpenError::Unreadable {
            path: dir.join("log"),
            source,
        })?;
        match step {
            None => break,
            Some(Step::Entered(_)) => {}
            Some(Step::Damage(damage)) => report.damages.push(damage),
            Some(Step::Record { kind, .. }) => *report.count(kind) += 1,
        }
    }
    if let Some(lock) = lock {
        let index = dir.join("index.redb");
        let sound = |index| is_sound(&Place::File(index)).map_err(OpenError::Index);
        let sound = index.exists().then(|| sound(index)).transpose()?;
        report.index_damaged = sound.map(|sound| !sound);
        if sound != Some(false) {
            lock.leave();
        }
    }
    report.end = reader.cursor().position;
    report.torn_bytes = catalog
        .last()
        .map_or(0, |last| last.len.saturating_sub(report.end.offset));
    Ok(report)
}

impl CheckReport {
    fn count(&mut self, kind: u8) -> &mut u64 {
        match kind {
            kind::CONTENT => &mut self.contents,
            kind::ADMISSION => &mut self.admissions,
            kind::SETTLEMENT => &mut self.settlements,
            kind::CHECKPOINT => &mut self.checkpoints,
            kind::EVENT => &mut self.events,
            kind::ACCOUNT => &mut self.accounts,
            kind::ACT => &mut self.acts,
            kind::LATE => &mut self.late_usages,
            kind::MEASUREMENT => &mut self.measurements,
            kind::TOMBSTONE | kind::SUM | kind::CHARGED | kind::LINK => &mut self.deleted,
            kind::REMOVAL => &mut self.removals,
            kind::BEGUN => &mut self.heads,
            _ => &mut self.unknown,
        }
    }
}

/// Makes the index anew from nothing but the log.
pub fn rebuild(dir: &Path) -> Result<RebuildReport, OpenError> {
    let (storage, lock) = existing(dir)?;
    let report = rebuild_on(dir, &storage)?;
    lock.iter().for_each(Lock::leave);
    Ok(report)
}

/// The same under a lock that is held.
pub(super) fn rebuild_on(
    dir: &Path,
    storage: &Arc<dyn Storage>,
) -> Result<RebuildReport, OpenError> {
    let catalog = Arc::new(open_catalog(&**storage)?);
    let index = Index::create(Place::File(dir.join("index.redb"))).map_err(OpenError::Index)?;
    let (mut follower, _) =
        Follower::new(Arc::new(index), Arc::clone(storage), catalog).map_err(OpenError::Index)?;
    catch_up(&mut follower, |_| Ok(()))?;
    follower.index.close();
    Ok(RebuildReport {
        records: follower.records,
        damages: follower.damages,
    })
}
