//! Who makes a call, for whom, within which run.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use utoipa::ToSchema;

use super::id::Label;

/// The claims of one call about its origin, after precedence was applied. Claims may tighten
/// what the policy does, never loosen it.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize, ToSchema)]
#[cbor(map)]
pub struct Attribution {
    #[n(0)]
    pub agent: Label,
    /// The agent that invoked `agent`; none for the first of a run or when nobody said.
    #[n(1)]
    pub caller: Option<Label>,
    #[n(2)]
    pub run: Option<Label>,
    #[n(3)]
    pub parent_run: Option<Label>,
    /// The chain of agents from the root, `agent` last; empty when unknown.
    #[n(4)]
    pub path: Vec<Label>,
    /// Length of the chain: 1 for a root agent.
    #[n(5)]
    pub depth: u32,
    #[n(6)]
    pub user: Option<Label>,
    #[n(7)]
    pub variant: Option<Label>,
    /// Conversation named by the client (`conversation`, `thread-id`, ...).
    #[n(8)]
    pub conversation: Option<Label>,
    #[cbor(n(9), default)]
    pub tags: BTreeMap<String, Label>,
    /// Numbers given with the call by `x-aiops-metric-<name>`.
    #[cbor(n(10), default)]
    pub metrics: BTreeMap<String, f64>,
    /// Where `agent` and `run` came from.
    #[n(11)]
    pub agent_source: Source,
    #[n(12)]
    pub run_source: Option<Source>,
}

/// Kinds of evidence, strongest first.
#[derive(IntoStaticStr, ToSchema)]
#[strum(serialize_all = "snake_case")]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `x-aiops-*` or a tag in the base URL.
    #[n(0)]
    Own,
    /// A header of another gateway or tracing product.
    #[n(1)]
    Alias,
    /// A header that a coding agent sends by itself.
    #[n(2)]
    Harness,
    /// `traceparent` or `baggage`.
    #[n(3)]
    W3c,
    /// A field of the request body.
    #[n(4)]
    Body,
    /// Nobody said: a placeholder.
    #[n(5)]
    Unknown,
}
