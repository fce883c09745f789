//! Whether the log is what was written: every record, its checksum and its place in the chain.
//!
//! The chain finds whatever was edited, dropped, inserted or put elsewhere, as long as what follows
//! was left alone. It has no key: whoever can write the files could make all of it anew from some
//! point on, or cut its end off. Against that there are anchors - the hash of everything up to a
//! point, kept where the files' owner cannot change it - and, for the end, the index, which knows up
//! to where it saw the log.

mod frames;
mod graves;
mod report;
mod walk;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use super::OpenError;
use super::check::existing;
use super::index::{Index, Place};
use super::lock::Lock;
use super::log::Cursor;
use super::record::Chain;
use super::recovery::open_catalog;
use super::storage::{Disk, Storage};

pub use report::{AuditReport, Begin, Finding, FindingKind, OnRecord};

/// The hash of everything before a point of the log: `SEGMENT:HASH`, 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub(crate) segment: u64,
    pub(crate) chain: Chain,
}

impl Anchor {
    pub(crate) fn of(cursor: Cursor) -> Self {
        Self {
            segment: cursor.position.segment,
            chain: cursor.chain,
        }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.chain)
    }
}

impl Serialize for Anchor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What was given is no anchor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found `{0}`, expected what `open-aiops audit head` prints: the number of a segment, a colon and \
     32 hexadecimal digits"
)]
pub struct BadAnchor(String);

impl FromStr for Anchor {
    type Err = BadAnchor;

    fn from_str(text: &str) -> Result<Self, BadAnchor> {
        let parts = text.trim().split_once(':');
        let anchor = parts.and_then(|(segment, chain)| {
            Some(Self {
                segment: segment.parse().ok()?,
                chain: Chain::parse(chain)?,
            })
        });
        anchor.ok_or_else(|| BadAnchor(text.to_owned()))
    }
}

/// Reads the whole log of `dir` and says whatever is not as it was written, or not as `anchors` say.
/// A server may run on it: what it writes meanwhile is left out.
pub fn verify(dir: &Path, anchors: &[Anchor]) -> Result<AuditReport, OpenError> {
    let (storage, lock) = match existing(dir) {
        Err(OpenError::Locked { .. }) => {
            let disk: std::sync::Arc<dyn Storage> = std::sync::Arc::new(Disk::at(&dir.join("log")));
            (disk, None)
        }
        other => other?,
    };
    let seen = lock.as_ref().and_then(|lock| seen_by_index(dir, lock));
    let segments = open_catalog(&*storage)?.all();
    walk::verify(&*storage, &segments, anchors, seen).map_err(|source| OpenError::Unreadable {
        path: dir.join("log"),
        source,
    })
}

/// Up to where the index saw the log, if there is one that can be opened.
fn seen_by_index(dir: &Path, lock: &Lock) -> Option<Cursor> {
    let path = dir.join("index.redb");
    let index = path
        .exists()
        .then(|| Index::open(Place::File(path), lock.left_open()).ok());
    let seen = index.flatten().and_then(|index| index.seen());
    lock.leave();
    seen
}

/// The same of a log in tests.
#[cfg(test)]
pub(crate) fn verify_on(
    storage: &dyn Storage,
    anchors: &[Anchor],
    seen: Option<Cursor>,
) -> AuditReport {
    let segments = super::log::catalog(storage).unwrap().all();
    walk::verify(storage, &segments, anchors, seen).unwrap()
}
