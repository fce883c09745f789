//! Whether the log is what was written: every record, its checksum and its place in the chain.
//!
//! The chain finds whatever was edited, dropped, inserted or put elsewhere, as long as what follows
//! was left alone. It has no key: whoever can write the files could make all of it anew from some
//! point on, or cut its end off. Against that there are anchors - the hash of everything up to a
//! point, kept where the files' owner cannot change it - and, for the end, the index, which knows up
//! to where it saw the log.

mod damage;
mod decisions;
mod frames;
mod graves;
mod heads;
mod report;
mod taken;
mod times;
mod walk;

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use super::OpenError;
use super::check::existing;
use super::index::{Index, Place};
use super::log::{Cursor, Segment};
use super::record::Chain;
use super::recovery::open_catalog;
use super::storage::{Disk, Storage};

pub use decisions::{Decision, DecisionFilter, each_decision};
pub use report::{AuditReport, Begin, Finding, FindingKind, OnRecord, TakenOut};

/// The hash of everything before a point of the log: `SEGMENT:HASH`, 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    /// The last one in a line of text, whatever stands around it.
    pub fn last_in(line: &str) -> Option<Self> {
        line.rmatch_indices(':').find_map(|(at, _)| {
            let (before, after) = (line.get(..at)?, line.get(at + 1..)?);
            let digits = before.trim_end_matches(|it: char| it.is_ascii_digit());
            let segment = before.get(digits.len()..)?.parse().ok()?;
            let next = after.as_bytes().get(32);
            let is_longer = next.is_some_and(u8::is_ascii_hexdigit);
            let chain = after.get(..32).filter(|_| !is_longer)?;
            let chain = Chain::parse(chain)?;
            Some(Self { segment, chain })
        })
    }

    /// The hash alone, without the segment.
    pub fn chain_text(&self) -> String {
        self.chain.to_string()
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
    "found `{0}`, expected what `open-aiops audit head` prints, or `verify` to accept a finding: the \
     number of a segment, a colon and 32 hexadecimal digits"
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

/// What a log is verified against.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given<'a> {
    pub(crate) anchors: &'a [Anchor],
    /// What findings that somebody looked into are to be accepted by.
    pub(crate) accepted: &'a [Anchor],
    /// Up to where the index saw it.
    pub(crate) seen: Option<Cursor>,
    /// What a server found is a finding once more.
    pub(crate) retells: bool,
}

/// How often reading begins again since retention let go what was to be read.
const ATTEMPTS: usize = 8;

/// Reads the whole log of `dir` and says whatever is not as it was written, or not as `anchors` say;
/// findings that `accepted` names are told as such. A server may run on it: what it writes
/// meanwhile is left out.
pub fn verify(
    dir: &Path,
    anchors: &[Anchor],
    accepted: &[Anchor],
) -> Result<AuditReport, OpenError> {
    let given = Given {
        anchors,
        accepted,
        seen: seen_by_index(dir)?,
        retells: true,
    };
    read(dir, &given, |_, _| Ok(()))
}

/// The same of a log that nobody vouches for, whose end is made durable before it is read: an anchor
/// of what a loss of power takes back would not be met any more.
pub fn head(dir: &Path, accepted: &[Anchor]) -> Result<AuditReport, OpenError> {
    let given = Given {
        accepted,
        seen: seen_by_index(dir)?,
        ..Given::default()
    };
    read(dir, &given, |storage, segments| {
        if let Some(last) = segments.last() {
            storage.open(last.number)?.sync()?;
        }
        storage.sync_dir()
    })
}

pub(super) fn read(
    dir: &Path,
    given: &Given<'_>,
    mut prepare: impl FnMut(&dyn Storage, &[Segment]) -> io::Result<()>,
) -> Result<AuditReport, OpenError> {
    let log = dir.join("log");
    let storage = Disk::at(&log);
    let mut attempt = 0;
    loop {
        let read = open_catalog(&storage).and_then(|catalog| {
            let segments = catalog.all();
            let verified = prepare(&storage, &segments)
                .and_then(|()| walk::verify(&storage, &segments, given));
            verified.map_err(|source| OpenError::Unreadable {
                path: log.clone(),
                source,
            })
        });
        attempt += 1;
        match read {
            // Beside a server the oldest segments may go meanwhile.
            Err(OpenError::Unreadable { source, .. })
                if source.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {}
            read => return read,
        }
    }
}

/// Up to where the index saw the log, if no server runs and there is one that can be opened. The lock
/// is held no longer than that takes.
fn seen_by_index(dir: &Path) -> Result<Option<Cursor>, OpenError> {
    let lock = match existing(dir) {
        Err(OpenError::Locked { .. }) => None,
        other => other?.1,
    };
    let Some(lock) = lock else {
        return Ok(None);
    };
    let path = dir.join("index.redb");
    let index = path
        .exists()
        .then(|| Index::open(Place::File(path), lock.left_open()));
    // Where somebody ended without closing an index that is damaged, the next one has to know.
    let knows = !lock.left_open() || index.as_ref().is_none_or(Result::is_ok);
    let index = index.and_then(Result::ok);
    let seen = index.and_then(|index| index.missed().or_else(|| index.seen()));
    if knows {
        lock.leave();
    }
    Ok(seen)
}

/// The same of a log in tests.
#[cfg(test)]
pub(crate) fn verify_on(
    storage: &dyn Storage,
    anchors: &[Anchor],
    seen: Option<Cursor>,
) -> AuditReport {
    let given = Given {
        anchors,
        seen,
        retells: true,
        ..Given::default()
    };
    verify_given(storage, &given)
}

#[cfg(test)]
pub(crate) fn verify_given(storage: &dyn Storage, given: &Given<'_>) -> AuditReport {
    let segments = super::log::catalog(storage).unwrap().all();
    walk::verify(storage, &segments, given).unwrap()
}
