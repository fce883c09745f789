//! Who makes a call, for whom, within which run.

use std::collections::BTreeMap;
use std::fmt;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use utoipa::ToSchema;

use super::id::Label;
use super::metric::Value;

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
    /// Custom metrics given with the call by `x-aiops-metric-<name>`.
    #[cbor(n(10), default)]
    pub metrics: BTreeMap<String, Value>,
    /// Where `agent` and `run` came from.
    #[n(11)]
    pub agent_source: Source,
    #[n(12)]
    pub run_source: Option<Source>,
    /// How sure it is of what nobody said.
    #[cbor(n(13), default)]
    pub inferred: Confidence,
}

/// How sure an inference is, in percent. None for what was claimed, or is not known.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema,
)]
#[cbor(map)]
pub struct Confidence {
    #[n(0)]
    pub agent: Option<Percent>,
    #[n(1)]
    pub caller: Option<Percent>,
    #[n(2)]
    pub run: Option<Percent>,
    #[n(3)]
    pub conversation: Option<Percent>,
}

impl Confidence {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Confidence {
    /// `agent=80, run=60`, in percent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = [
            ("agent", self.agent),
            ("caller", self.caller),
            ("run", self.run),
            ("conversation", self.conversation),
        ];
        let known = of.iter().filter_map(|(name, sure)| Some((name, (*sure)?)));
        for (n, (name, sure)) in known.enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{name}={}", sure.get())?;
        }
        Ok(())
    }
}

/// 0 to 100.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Percent(#[n(0)] u8);

impl Percent {
    pub const fn new(percent: u8) -> Self {
        Self(if percent > 100 { 100 } else { percent })
    }

    pub const fn get(self) -> u8 {
        self.0
    }
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
    /// Nobody said: it follows from what the call repeats and begins with.
    #[n(6)]
    Inferred,
    /// Nobody said: a placeholder.
    #[n(5)]
    Unknown,
}
