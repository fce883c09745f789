//! The shapes of the calls of one run.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CallView, OPEN};
use crate::core::id::{CallId, Label};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::ledger::{Mark, RunCalls, RunMarks};

/// Some of the calls of a run, in the order they came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunCallList {
    /// The number of the first of `calls`, from 0.
    pub from: u64,
    /// How many calls of the run are recorded.
    pub total: u64,
    pub calls: Vec<CallView>,
}

impl From<RunCalls> for RunCallList {
    fn from(found: RunCalls) -> Self {
        Self {
            from: found.from,
            total: found.total,
            calls: found.calls.into_iter().map(Into::into).collect(),
        }
    }
}

/// The calls of a run with little of each, in the order they came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MarkList {
    /// The first 20,000.
    pub marks: Vec<MarkView>,
    /// How many calls of the run are recorded.
    pub total: u64,
}

impl From<RunMarks> for MarkList {
    fn from(found: RunMarks) -> Self {
        Self {
            marks: found.marks.into_iter().map(Into::into).collect(),
            total: found.total,
        }
    }
}

/// One call of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MarkView {
    pub id: CallId,
    pub started_at: Timestamp,
    /// Null while it is open.
    pub duration_us: Option<u64>,
    /// How it ended; `open` while it runs.
    pub outcome: String,
    /// Null when no price is known.
    pub cost_nano_usd: Option<NanoUsd>,
    pub agent: Label,
}

impl From<Mark> for MarkView {
    fn from(mark: Mark) -> Self {
        Self {
            id: mark.id,
            started_at: mark.started_at,
            duration_us: mark.duration_us,
            outcome: mark.outcome.map_or(OPEN, Into::into).to_owned(),
            cost_nano_usd: mark.cost_nano_usd.map(NanoUsd::new),
            agent: mark.agent,
        }
    }
}
