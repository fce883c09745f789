//! Who invoked whom within one run, as an indented tree.
//!
//! It is drawn from the edges of the run: each names an agent and that agent's caller.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::format;
use super::table::{Output, printable};
use crate::admin::view::RunEdgeView;
use crate::core::id::Label;

/// Deeper chains are cut in the picture.
const MAX_DEPTH: usize = 24;

pub(super) fn write(edges: &[RunEdgeView], out: &mut Output<'_>) -> io::Result<()> {
    let mut tree = Tree::default();
    for edge in edges {
        let invoked = tree.invoked.entry(edge.caller.as_ref()).or_default();
        invoked.insert(&edge.agent, edge);
    }
    tree.branch(None, 0, out)?;
    let agents: BTreeSet<_> = edges.iter().map(|edge| &edge.agent).collect();
    let callers: BTreeSet<_> = edges
        .iter()
        .filter_map(|edge| edge.caller.as_ref())
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
    invoked: BTreeMap<Option<&'a Label>, BTreeMap<&'a Label, &'a RunEdgeView>>,
    /// Agents whose branch is drawn: each once, since chains may be circular.
    seen: BTreeSet<&'a Label>,
}

impl<'a> Tree<'a> {
    fn branch(
        &mut self,
        caller: Option<&'a Label>,
        depth: usize,
        out: &mut Output<'_>,
    ) -> io::Result<()> {
        for (agent, edge) in self.invoked.get(&caller).cloned().unwrap_or_default() {
            let (indent, name) = ("  ".repeat(depth), printable(agent.as_str()));
            let made = edge.totals.calls + edge.open_calls;
            let cost =
                format::total_cost(edge.totals.cost_nano_usd, edge.totals.unpriced_calls, made);
            let calls = match made {
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
