//! What operators do to budgets and runs, and what is known of a run because of it.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use utoipa::ToSchema;

use super::super::id::Label;
use super::super::time::Timestamp;
use super::account::{AccountId, Charge, Raise};
use super::amounts::Limits;

/// One deed of an operator, or of a client. Two that are equal are one that was recorded twice.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Act {
    #[n(0)]
    pub at: Timestamp,
    /// Who did it, by their own word.
    #[n(1)]
    pub who: String,
    #[n(2)]
    pub deed: Deed,
    /// What was done, in one sentence, for whoever reads the events.
    #[n(3)]
    pub details: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Deed {
    #[n(0)]
    BudgetRaised(#[n(0)] AccountId, #[n(1)] Raise),
    #[n(1)]
    BudgetReset(#[n(0)] AccountId),
    #[n(2)]
    RunPaused(#[n(0)] Label),
    #[n(3)]
    RunResumed(#[n(0)] Label),
    #[n(4)]
    RunStopped(#[n(0)] Label),
    /// By a client, with a call that was refused: no admission says it.
    #[n(5)]
    RunTightened(#[n(0)] Label, #[n(1)] Limits),
    /// By the program itself: what was charged while no record could be written.
    #[n(6)]
    ChargesRecorded(#[n(0)] Vec<Charge>),
}

/// Whether a run may go on.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Encode,
    Decode,
    IntoStaticStr,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Control {
    #[default]
    #[n(0)]
    Running,
    /// New calls wait.
    #[n(1)]
    Paused,
    /// New calls are refused, running ones were ended.
    #[n(2)]
    Stopped,
}

/// A chain of parents longer than this is cut: clients can claim anything.
pub const MAX_ANCESTORS: usize = 256;

/// What of a run concerns its budgets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RunState {
    #[n(0)]
    pub parent: Option<Label>,
    #[cbor(n(1), default)]
    pub control: Control,
    /// What its clients allowed it by header: the smallest limits they ever named.
    #[cbor(n(2), default)]
    pub tightened: Limits,
}

impl Deed {
    /// The run it is about and what becomes of it.
    pub fn control(&self) -> Option<(&Label, Control)> {
        match self {
            Self::BudgetRaised(..)
            | Self::BudgetReset(_)
            | Self::RunTightened(..)
            | Self::ChargesRecorded(_) => None,
            Self::RunPaused(run) => Some((run, Control::Paused)),
            Self::RunResumed(run) => Some((run, Control::Running)),
            Self::RunStopped(run) => Some((run, Control::Stopped)),
        }
    }

    /// The run it is about.
    pub fn run(&self) -> Option<&Label> {
        match self {
            Self::RunTightened(run, _) => Some(run),
            _ => self.control().map(|(run, _)| run),
        }
    }
}
