//! Who invoked whom within one run, as an indented tree.
//!
//! It is drawn from the calls of the run: each names its agent and that agent's caller.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::format;
use super::table::{Output, printable};
use crate::admin::view::CallView;
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::usage::Usage;

/// Deeper chains are cut in the picture.
const MAX_DEPTH: usize = 24;

pub(super) fn write(calls: &[CallView], out: &mut Output<'_>) -> io::Result<()> {
    let mut tree = Tree::default();
    for call in calls {
        let invoked = tree.invoked.entry(call.caller.as_ref()).or_default();
        invoked.entry(&call.agent).or_default().add(call);
    }
    tree.branch(None, 0, out)?;
    let agents: BTreeSet<_> = calls.iter().map(|call| &call.agent).collect();
    let callers: BTreeSet<_> = calls
        .iter()
        .filter_map(|call| call.caller.as_ref())
        .collect();
    // Callers without calls of their own are roots too; what is left then hangs on a circle.
    let (circular, strangers): (Vec<_>, Vec<_>) = callers
        .into_iter()
        .partition(|caller| agents.contains(caller));
    for root in strangers.into_iter().chain(circular) {
        if tree.seen.insert(root) {
            writeln!(out.writer, "{}", printable(root.as_str()))?;
            tree.branch(Some(root), 1, out)?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Tree<'a> {
    /// By caller, by agent.
    invoked: BTreeMap<Option<&'a Label>, BTreeMap<&'a Label, Sum>>,
    /// Agents whose branch is drawn: each once, since chains may be circular.
    seen: BTreeSet<&'a Label>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    calls: u64,
    unpriced: u64,
    cost: NanoUsd,
}

impl Sum {
    fn add(&mut self, call: &CallView) {
        self.calls += 1;
        match call.cost_nano_usd {
            Some(cost) => self.cost = self.cost.saturating_add(cost),
            None if call.usage == Usage::default() => {}
            None => self.unpriced += 1,
        }
    }
}

impl<'a> Tree<'a> {
    fn branch(
        &mut self,
        caller: Option<&'a Label>,
        depth: usize,
        out: &mut Output<'_>,
    ) -> io::Result<()> {
        for (agent, sum) in self.invoked.get(&caller).cloned().unwrap_or_default() {
            let (indent, name) = ("  ".repeat(depth), printable(agent.as_str()));
            let cost = format::total_cost(sum.cost, sum.unpriced, sum.calls);
            let calls = match sum.calls {
                1 => "1 call".to_owned(),
                calls => format!("{} calls", format::count(calls)),
            };
            writeln!(out.writer, "{indent}{name}  {calls}, {cost}")?;
            if depth < MAX_DEPTH && self.seen.insert(agent) {
                self.branch(Some(agent), depth + 1, out)?;
            }
        }
        Ok(())
    }
}
