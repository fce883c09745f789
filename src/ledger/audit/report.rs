//! What looking through the log came to.

use serde::Serialize;
use strum::IntoStaticStr;

use crate::core::time::Timestamp;

use super::super::record::Position;
use super::Anchor;

/// Findings that are told one by one; more are counted.
pub(super) const MAX_FINDINGS: usize = 1000;

/// What [`verify`](super::verify) found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AuditReport {
    pub segments: u64,
    pub bytes: u64,
    /// Records whose place in the chain was verified.
    pub records: u64,
    pub begins: Begin,
    /// Of these only tombstones are left, as a record of the deletion says.
    pub deleted: u64,
    /// What was taken out of the log, as is on record: whoever can write the files could add such
    /// records as well, so read them. The newest at most 1000, oldest first.
    pub on_record: Vec<OnRecord>,
    /// How many there are before those.
    pub more_on_record: u64,
    /// The end of the log: keep it elsewhere, and verify against it later.
    pub head: Option<Anchor>,
    /// The first of what is not as it was written.
    pub findings: Vec<Finding>,
    /// How many more there are that nobody accepted.
    pub more_findings: u64,
    /// How many more there are that somebody did.
    pub more_accepted: u64,
    /// Anchors whose point the log holds.
    pub anchors_met: u64,
    /// Anchors of segments that retention let go since.
    pub anchors_before_retention: u64,
    /// Bytes of a record at the end that was never finished: a crash leaves that, or a server that is
    /// writing it.
    pub unfinished_bytes: u64,
    /// Bytes that a failed write left behind where a segment was given up; they never were part of the
    /// log.
    pub given_up_bytes: u64,
}

/// Where the log begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// With the first record there ever was.
    #[default]
    Start,
    /// With this segment: those before it were let go by retention, which is on record.
    AfterRetention { segment: u64 },
    /// With this segment, and nothing says where those before it are.
    Unexplained { segment: u64 },
}

/// One deletion that was taken out of the log, or what retention let go until the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OnRecord {
    /// When it was put on record last.
    pub at: Timestamp,
    pub who: String,
    pub what: TakenOut,
    /// Behind the last record that says so: to be accepted where it reaches before an anchor.
    pub accept: Anchor,
    /// In one sentence. Made of what is gone, not of what the record says in words.
    pub words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TakenOut {
    /// By retention: all segments before this one.
    Segments { before: u64, rounds: u64 },
    /// By a deletion: these many records of segments `first` to `last`.
    Records { records: u64, first: u64, last: u64 },
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub kind: FindingKind,
    pub at: Position,
    /// The number of the record in its segment, from 0 on.
    pub record: u64,
    /// When the last record before it was made that says so, and the first one after it.
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
    pub words: String,
    /// What accepts it, where that is possible: of a deletion, and where a server found its log
    /// shorter, the point behind the record that says so; of damage a hash of its kind, its place and
    /// the bytes there, up to where the chain can be verified again.
    pub accept: Option<Anchor>,
    /// Somebody did.
    pub accepted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FindingKind {
    /// Its bytes do not have its checksum.
    Edited,
    /// Not even a record can be told.
    Unreadable,
    /// Its checksum was made to fit, its place in the chain cannot be: it was changed, or what was
    /// before it is gone.
    ChainBroken,
    /// It belongs elsewhere.
    Reordered,
    /// It belongs nowhere.
    Inserted,
    /// Segments or records are gone.
    Missing,
    /// A tombstone that no record of a deletion accounts for.
    ForgedTombstone,
    /// A record that a deletion names is still there: it was not finished, or the record put back.
    Undeleted,
    /// The head of a segment is not as it was written.
    Header,
    /// Records before an anchor were taken out after it was taken, and nobody accepted that.
    TakenOut,
    /// A server found its log shorter than it had been, and went on.
    Shortened,
    /// The log does not hold a point that it once held: its end was cut off, or all of it made anew
    /// from somewhere before that.
    Rewritten,
}

impl FindingKind {
    /// Whether no failed write leaves that.
    pub(super) fn is_by_hand(self) -> bool {
        !matches!(self, Self::Edited | Self::Unreadable)
    }
}

impl AuditReport {
    /// Whether all is as it was written, but for what somebody accepted.
    pub fn is_sound(&self) -> bool {
        self.more_findings == 0 && self.unaccepted().next().is_none()
    }

    /// The findings that nobody accepted.
    pub fn unaccepted(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|it| !it.accepted)
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.count(finding.accepted);
        }
    }

    /// Counts a finding that is not told.
    pub(super) fn count(&mut self, accepted: bool) {
        if accepted {
            self.more_accepted += 1;
        } else {
            self.more_findings += 1;
        }
    }
}
