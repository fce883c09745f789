//! A breaker that opened: for what, on which evidence, and when it closes.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use utoipa::ToSchema;

use super::super::id::{CallId, Label};
use super::super::time::Timestamp;
use super::finding::{Scope, Signal};

/// What was found, in words that a person can check.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema)]
#[cbor(map)]
pub struct Evidence {
    #[n(0)]
    pub signal: Signal,
    #[n(1)]
    pub scope: Scope,
    /// Calls of one round of the pattern.
    #[n(2)]
    pub period: u32,
    /// How often it came.
    #[n(3)]
    pub count: u32,
    #[n(4)]
    pub agents: Vec<Label>,
    /// The last of its calls, oldest first.
    #[n(5)]
    pub calls: Vec<CallId>,
    /// When the first of them began.
    #[n(6)]
    pub since: Timestamp,
    /// What these calls used, as far as it is known.
    #[n(7)]
    pub tokens: u64,
    /// What is repeated: what the agent does and what comes of it.
    #[n(8)]
    pub sample: Vec<String>,
}

/// One trip and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema)]
#[cbor(map)]
pub struct Trip {
    /// The call at which it opened.
    #[n(0)]
    pub id: CallId,
    #[n(1)]
    pub at: Timestamp,
    #[n(2)]
    pub run: Option<Label>,
    #[n(3)]
    pub conversation: Option<Label>,
    #[n(4)]
    pub agent: Label,
    #[n(5)]
    pub caller: Option<Label>,
    #[n(6)]
    pub evidence: Evidence,
    /// Calls refused so far.
    #[n(7)]
    pub refused: u32,
    #[n(8)]
    pub closed: Option<Closed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema)]
#[cbor(map)]
pub struct Closed {
    #[n(0)]
    pub at: Timestamp,
    #[n(1)]
    pub by: ClosedBy,
}

/// Why a trip is over.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    Serialize,
    Deserialize,
    ToSchema,
    IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ClosedBy {
    /// An operator reset it.
    #[n(0)]
    Operator,
    /// A user said something new.
    #[n(1)]
    User,
    /// A call let through after the cool-down brought something new.
    #[n(2)]
    Probe,
    /// The run was idle for long, or ended.
    #[n(3)]
    End,
}
