//! What is kept per run, agent and edge: one key type, one value type, one fold.
//!
//! Keys sort so that everything about one run or agent lies together in the index.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::core::attribution::Attribution;
use crate::core::budget::{Control, Limits, RunState};
use crate::core::call::{Admission, Settlement};
use crate::core::id::Label;
use crate::core::time::Timestamp;

use super::rows::CallRow;
use super::slices::SliceKey;
use super::totals::Totals;

/// What a [`Summary`] sums up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub(crate) enum Key {
    #[n(0)]
    Run(#[n(0)] Label),
    #[n(1)]
    RunAgent(#[n(0)] Label, #[n(1)] Label),
    /// Parent run, run.
    #[n(2)]
    Child(#[n(0)] Label, #[n(1)] Label),
    #[n(3)]
    Agent(#[n(0)] Label),
    #[n(4)]
    AgentModel(#[n(0)] Label, #[n(1)] Label),
    /// Caller, agent.
    #[n(5)]
    Edge(#[n(0)] Label, #[n(1)] Label),
    /// In checkpoints of older versions only: days are slices now.
    #[n(6)]
    Rollup(#[n(0)] Rollup),
    /// Run, caller, agent.
    #[n(7)]
    RunEdge(#[n(0)] Label, #[n(1)] Option<Label>, #[n(2)] Label),
}

/// What daily roll-ups were kept by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub(crate) struct Rollup {
    /// Days since the epoch, UTC.
    #[n(0)]
    pub(crate) day: i32,
    #[n(1)]
    pub(crate) agent: Label,
    #[n(2)]
    pub(crate) model: Option<Label>,
    #[n(3)]
    pub(crate) upstream: Label,
}

/// Ends a label within a key: labels hold no control characters.
pub(super) const END: u8 = 0;

impl Key {
    /// The run it is about, if it leaves the index with that run's calls.
    pub(crate) const fn run(&self) -> Option<&Label> {
        match self {
            Self::Run(run)
            | Self::RunAgent(run, _)
            | Self::RunEdge(run, ..)
            | Self::Child(_, run) => Some(run),
            Self::Agent(_) | Self::AgentModel(..) | Self::Edge(..) | Self::Rollup(_) => None,
        }
    }

    /// The key as it sorts in the index.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        match self {
            Self::Run(run) => prefix(&mut key, b'r', &[run]),
            Self::RunAgent(run, agent) => prefix(&mut key, b'q', &[run, agent]),
            Self::Child(parent, run) => prefix(&mut key, b'c', &[parent, run]),
            Self::Agent(agent) => prefix(&mut key, b'a', &[agent]),
            Self::AgentModel(agent, model) => prefix(&mut key, b'm', &[agent, model]),
            Self::Edge(caller, agent) => prefix(&mut key, b'e', &[caller, agent]),
            Self::RunEdge(run, caller, agent) => {
                prefix(&mut key, b'g', &[run]);
                let caller = caller.as_ref().map_or("", Label::as_str);
                key.extend_from_slice(caller.as_bytes());
                key.push(END);
                key.extend_from_slice(agent.as_str().as_bytes());
                key.push(END);
            }
            Self::Rollup(rollup) => return SliceKey::of_rollup(rollup.clone()).to_bytes(),
        }
        key
    }

    /// The key of `bytes`.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let mut labels = labels(rest);
        let first = labels.next()??;
        if *tag == b'g' {
            return Some(Self::RunEdge(first, labels.next()?, labels.next()??));
        }
        let mut second = || labels.next().flatten();
        Some(match tag {
            b'r' => Self::Run(first),
            b'q' => Self::RunAgent(first, second()?),
            b'c' => Self::Child(first, second()?),
            b'a' => Self::Agent(first),
            b'm' => Self::AgentModel(first, second()?),
            b'e' => Self::Edge(first, second()?),
            _ => return None,
        })
    }

    /// What all keys of one kind begin with, those about `label` only if there is one.
    pub(crate) fn prefix_of(tag: u8, label: Option<&Label>) -> Vec<u8> {
        let mut key = Vec::new();
        match label {
            Some(label) => prefix(&mut key, tag, &[label]),
            None => key.push(tag),
        }
        key
    }
}

fn prefix(key: &mut Vec<u8>, tag: u8, labels: &[&Label]) {
    key.push(tag);
    for label in labels {
        key.extend_from_slice(label.as_str().as_bytes());
        key.push(END);
    }
}

pub(super) fn labels(bytes: &[u8]) -> impl Iterator<Item = Option<Label>> {
    bytes
        .split(|byte| *byte == END)
        .map(|label| Label::parse(str::from_utf8(label).ok()?).ok())
}

/// What is known of a [`Key`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Summary {
    /// When the first call started.
    #[n(0)]
    pub(crate) first_at: Timestamp,
    /// When the last call started or ended.
    #[n(1)]
    pub(crate) last_at: Timestamp,
    #[n(2)]
    pub(crate) totals: Totals,
    /// Of a run: its parent.
    #[n(3)]
    pub(crate) parent: Option<Label>,
    /// Of an agent: in how many runs it was seen.
    #[cbor(n(4), default)]
    pub(crate) runs: u64,
    /// Of a run: whether it may go on.
    #[cbor(n(5), default)]
    pub(crate) control: Control,
    /// Of a run: the smallest limits its clients named.
    #[cbor(n(6), default)]
    pub(crate) tightened: Limits,
    /// Of a run, of an agent or an edge in it: its calls without settlement.
    #[cbor(n(7), default, skip_if = "is_zero")]
    pub(crate) open_calls: u64,
    /// Of a run: the depth of its deepest call.
    #[cbor(n(8), default, skip_if = "is_zero")]
    pub(crate) depth: u32,
    /// Of a run: the first that was named.
    #[n(9)]
    pub(crate) variant: Option<Label>,
    /// Of a run: of each name the first value.
    #[cbor(n(10), default, skip_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, Label>,
    /// Of a run, or of an agent in it: loops that were stopped.
    #[cbor(n(11), default, skip_if = "is_zero")]
    pub(crate) trips: u64,
    /// The same: how often it was recorded that a budget or a limit refuses its calls for good.
    #[cbor(n(12), default, skip_if = "is_zero")]
    pub(crate) refused: u64,
}

/// Most summaries have none of most things, and checkpoints hold many.
fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// Names of tags that are kept of one run.
const MAX_TAGS: usize = 16;

impl Summary {
    /// Widens the time this covers; a new one covers just `from` to `to`.
    pub(crate) fn cover(&mut self, from: Timestamp, to: Timestamp) {
        // No call ran at the epoch.
        if (self.first_at, self.last_at) == Default::default() {
            (self.first_at, self.last_at) = (from, to);
        } else {
            self.first_at = self.first_at.min(from);
            self.last_at = self.last_at.max(to);
        }
    }

    /// Of a run: takes in what a call says of it.
    pub(crate) fn describe(&mut self, who: &Attribution) {
        self.depth = self.depth.max(who.depth);
        if self.variant.is_none() {
            self.variant.clone_from(&who.variant);
        }
        for (name, value) in &who.tags {
            if self.tags.len() < MAX_TAGS && !self.tags.contains_key(name) {
                self.tags.insert(name.clone(), value.clone());
            }
        }
    }

    /// Of a run: whether a call of it may have a tag of this name.
    pub(crate) fn may_have_tag(&self, name: &str) -> bool {
        self.tags.contains_key(name) || self.tags.len() >= MAX_TAGS
    }

    /// Of a run: what of it concerns its budgets.
    pub(crate) fn run_state(self) -> RunState {
        RunState {
            parent: self.parent,
            control: self.control,
            tightened: self.tightened,
        }
    }
}

/// The keys that show a call from its admission on, as part of a run with this parent.
pub(crate) fn keys_of_admission(admission: &Admission, parent: Option<&Label>) -> Vec<Key> {
    let who = &admission.attribution;
    keys_of(&who.agent, who.run.as_ref(), parent, who.caller.as_ref())
}

/// The keys whose totals a settlement counts into.
pub(crate) fn keys_of_settlement(settlement: &Settlement, parent: Option<&Label>) -> Vec<Key> {
    let Settlement {
        agent,
        run,
        caller,
        model,
        ..
    } = settlement;
    let mut keys = keys_of(agent, run.as_ref(), parent, caller.as_ref());
    keys.extend(of_model(agent, model.as_ref()));
    keys
}

/// The keys the settlement of this call counted into.
pub(crate) fn keys_of_row(row: &CallRow, parent: Option<&Label>) -> Vec<Key> {
    let mut keys = keys_of(&row.agent, row.run.as_ref(), parent, row.caller.as_ref());
    keys.extend(of_model(&row.agent, row.model.as_ref()));
    keys
}

fn of_model(agent: &Label, model: Option<&Label>) -> Option<Key> {
    model.map(|model| Key::AgentModel(agent.clone(), model.clone()))
}

fn keys_of(
    agent: &Label,
    run: Option<&Label>,
    parent: Option<&Label>,
    caller: Option<&Label>,
) -> Vec<Key> {
    let mut keys = Vec::with_capacity(7);
    keys.push(Key::Agent(agent.clone()));
    if let Some(run) = run {
        keys.push(Key::Run(run.clone()));
        keys.push(Key::RunAgent(run.clone(), agent.clone()));
        keys.push(Key::RunEdge(run.clone(), caller.cloned(), agent.clone()));
        if let Some(parent) = parent {
            keys.push(Key::Child(parent.clone(), run.clone()));
        }
    }
    if let Some(caller) = caller {
        keys.push(Key::Edge(caller.clone(), agent.clone()));
    }
    keys
}
