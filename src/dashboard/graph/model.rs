//! The graph of who calls whom: agents, edges, which of them lie on a cycle, and what is left of it
//! where there is too much to draw.

use std::collections::{BTreeMap, BTreeSet};

use super::place::Shape;
use crate::core::id::Label;
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;
use crate::ledger::Totals;

/// Agents that are drawn one by one; of more the first so many are, and one node for the rest.
const DRAWN: usize = 60;
const LEFT_OF_MORE: usize = 40;
/// Edges that are drawn: more are a tangle, and take long to lay out.
const DRAWN_EDGES: usize = 120;
/// An edge with this share of all that was spent on edges is hot, in percent, where there are some.
const HOT_PERCENT: u64 = 20;
const HOT_AMONG: usize = 4;

/// What an agent or an edge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) totals: Totals,
    pub(super) p95_us: Option<u64>,
    /// Calls on their way.
    pub(super) open: u64,
    pub(super) first_at: Timestamp,
}

/// A node: one agent, or all that are not drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// None of all others.
    pub(super) agent: Option<Label>,
    pub(super) work: Work,
    pub(super) is_tripped: bool,
}

/// Calls of one agent on behalf of another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a mark of its own")]
pub(super) struct Edge {
    /// Numbers of nodes.
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) work: Work,
    pub(super) is_on_cycle: bool,
    pub(super) is_tripped: bool,
    pub(super) is_hot: bool,
    /// Nobody said so: it was found out.
    pub(super) is_inferred: bool,
}

/// Nodes in the order in which they were first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CallGraph {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    /// Agents that the last node stands for.
    pub(super) others: usize,
    /// Edges that are not drawn.
    pub(super) left_out: usize,
}

/// What a graph is made of.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) agents: Vec<(Label, Work)>,
    pub(super) edges: Vec<((Label, Label), Work)>,
    /// Edges that were found out.
    pub(super) inferred: BTreeSet<(Label, Label)>,
    pub(super) trips: Vec<Trip>,
}

impl CallGraph {
    /// All of it, however much.
    pub(super) fn whole(facts: &Facts) -> Self {
        let mut works: BTreeMap<&Label, Work> = BTreeMap::new();
        for ((caller, _), edge) in &facts.edges {
            // A caller of whose own calls nothing is known is there from its first call on.
            let work = works.entry(caller).or_insert(Work {
                first_at: edge.first_at,
                ..Work::default()
            });
            work.first_at = work.first_at.min(edge.first_at);
        }
        for ((_, agent), edge) in &facts.edges {
            let work = works.entry(agent).or_insert(Work {
                first_at: edge.first_at,
                ..Work::default()
            });
            work.first_at = work.first_at.min(edge.first_at);
            work.add(edge);
        }
        for (agent, work) in &facts.agents {
            works.insert(agent, *work);
        }
        let mut order: Vec<(&Label, Work)> = works.into_iter().collect();
        order.sort_by_key(|(_, work)| work.first_at);
        let numbers: BTreeMap<&Label, usize> = order
            .iter()
            .enumerate()
            .map(|(number, (agent, _))| (*agent, number))
            .collect();
        let nodes = order.iter().map(|(agent, work)| Node {
            agent: Some((*agent).clone()),
            work: *work,
            is_tripped: facts.trips.iter().any(|trip| is_of_agent(trip, agent)),
        });
        let mut edges: Vec<Edge> = Vec::with_capacity(facts.edges.len());
        for ((caller, agent), work) in &facts.edges {
            if let (Some(from), Some(to)) = (numbers.get(caller), numbers.get(agent)) {
                edges.push(Edge {
                    from: *from,
                    to: *to,
                    work: *work,
                    is_on_cycle: false,
                    is_tripped: facts
                        .trips
                        .iter()
                        .any(|trip| is_of_edge(trip, caller, agent)),
                    is_hot: false,
                    is_inferred: facts.inferred.contains(&(caller.clone(), agent.clone())),
                });
            }
        }
        edges.sort_by_key(|edge| (edge.from, edge.to));
        let mut graph = Self {
            nodes: nodes.collect(),
            edges,
            others: 0,
            left_out: 0,
        };
        graph.mark_cycles();
        graph.mark_hot();
        graph
    }

    /// So much of it as can be drawn. Cycles are those of the whole.
    pub(super) fn cut(self) -> Self {
        let mut graph = self.cut_nodes();
        graph.cut_edges();
        graph
    }

    /// Leaves those that tripped, then those on a cycle, then the most expensive.
    fn cut_edges(&mut self) {
        self.left_out = self.edges.len().saturating_sub(DRAWN_EDGES);
        if self.left_out == 0 {
            return;
        }
        self.edges.sort_by_key(|edge| {
            let totals = &edge.work.totals;
            let marks = (edge.is_tripped, edge.is_on_cycle);
            std::cmp::Reverse((marks, totals.cost_nano_usd, totals.calls))
        });
        self.edges.truncate(DRAWN_EDGES);
        self.edges.sort_by_key(|edge| (edge.from, edge.to));
    }

    fn cut_nodes(self) -> Self {
        if self.nodes.len() <= DRAWN {
            return self;
        }
        let mut ranked: Vec<usize> = (0..self.nodes.len()).collect();
        ranked.sort_by_key(|number| {
            let node = self.nodes.get(*number);
            let totals = node.map(|node| node.work.totals).unwrap_or_default();
            let is_tripped = node.is_some_and(|node| node.is_tripped);
            std::cmp::Reverse((is_tripped, totals.cost_nano_usd, totals.calls))
        });
        let kept: BTreeSet<usize> = ranked.into_iter().take(LEFT_OF_MORE).collect();
        let last = kept.len();
        let mut nodes = Vec::with_capacity(last + 1);
        let mut others = Node {
            agent: None,
            work: Work::default(),
            is_tripped: false,
        };
        let all = self.nodes.len();
        for (number, node) in self.nodes.into_iter().enumerate() {
            if kept.contains(&number) {
                nodes.push(node);
            } else {
                others.work.add(&node.work);
                others.is_tripped |= node.is_tripped;
            }
        }
        nodes.push(others);
        let number_of = |number: usize| kept.iter().position(|one| *one == number).unwrap_or(last);
        let mut edges: BTreeMap<(usize, usize), Edge> = BTreeMap::new();
        for edge in self.edges {
            let (from, to) = (number_of(edge.from), number_of(edge.to));
            // What they do among themselves is theirs.
            if (from, to) != (last, last) {
                let edge = Edge { from, to, ..edge };
                let known = edges.get_mut(&(from, to));
                match known {
                    Some(known) => known.add(&edge),
                    None => _ = edges.insert((from, to), edge),
                }
            }
        }
        Self {
            nodes,
            edges: edges.into_values().collect(),
            others: all - last,
            left_out: 0,
        }
    }

    pub(super) fn shape(&self) -> Shape {
        Shape {
            nodes: self.nodes.len(),
            edges: self.edges.iter().map(|edge| (edge.from, edge.to)).collect(),
        }
    }

    pub(super) fn agent(&self, node: usize) -> Option<&Label> {
        self.nodes.get(node)?.agent.as_ref()
    }

    /// Of an edge its caller and its agent; none where one of them is not drawn by itself.
    pub(super) fn ends(&self, edge: &Edge) -> Option<(&Label, &Label)> {
        Some((self.agent(edge.from)?, self.agent(edge.to)?))
    }

    fn mark_cycles(&mut self) {
        let components = components(&self.shape());
        let component = |node: usize| components.get(node);
        for edge in &mut self.edges {
            edge.is_on_cycle = edge.from == edge.to || component(edge.from) == component(edge.to);
        }
    }

    fn mark_hot(&mut self) {
        let cost: i64 = self
            .edges
            .iter()
            .map(|edge| edge.work.totals.cost_nano_usd)
            .fold(0, i64::saturating_add);
        let weigh = move |edge: &Edge| {
            let totals = &edge.work.totals;
            if cost > 0 {
                u64::try_from(totals.cost_nano_usd).unwrap_or(0)
            } else {
                totals.calls
            }
        };
        let all = self.edges.iter().map(weigh).fold(0, u64::saturating_add);
        let among_some = self.edges.len() >= HOT_AMONG;
        for edge in &mut self.edges {
            let share = u128::from(weigh(edge)) * 100;
            edge.is_hot =
                among_some && share >= u128::from(all) * u128::from(HOT_PERCENT) && share > 0;
        }
    }
}

impl Work {
    fn add(&mut self, other: &Self) {
        self.totals.add(&other.totals);
        self.open += other.open;
        // There is no telling it of the sum.
        self.p95_us = None;
    }
}

impl Edge {
    fn add(&mut self, other: &Self) {
        self.work.add(&other.work);
        self.is_on_cycle |= other.is_on_cycle;
        self.is_tripped |= other.is_tripped;
        self.is_hot |= other.is_hot;
        self.is_inferred &= other.is_inferred;
    }
}

fn is_of_agent(trip: &Trip, agent: &Label) -> bool {
    trip.agent == *agent || trip.evidence.agents.contains(agent)
}

fn is_of_edge(trip: &Trip, caller: &Label, agent: &Label) -> bool {
    let is_its_own = trip.agent == *agent && trip.caller.as_ref() == Some(caller);
    let agents = &trip.evidence.agents;
    is_its_own || (agents.len() > 1 && agents.contains(caller) && agents.contains(agent))
}

/// The strongly connected component of each node, by Tarjan, without recursion.
fn components(shape: &Shape) -> Vec<usize> {
    let mut leaving = vec![Vec::new(); shape.nodes];
    for (from, to) in &shape.edges {
        if let Some(edges) = leaving.get_mut(*from) {
            edges.push(*to);
        }
    }
    let mut walk = Walk::new(shape.nodes);
    for root in 0..shape.nodes {
        walk.from(root, &leaving);
    }
    walk.component
}

const UNSEEN: usize = usize::MAX;

struct Walk {
    index: Vec<usize>,
    low: Vec<usize>,
    component: Vec<usize>,
    stack: Vec<usize>,
    seen: usize,
    found: usize,
}

impl Walk {
    fn new(nodes: usize) -> Self {
        Self {
            index: vec![UNSEEN; nodes],
            low: vec![UNSEEN; nodes],
            component: vec![UNSEEN; nodes],
            stack: Vec::new(),
            seen: 0,
            found: 0,
        }
    }

    fn from(&mut self, root: usize, leaving: &[Vec<usize>]) {
        if at(&self.index, root) != UNSEEN {
            return;
        }
        let mut way = vec![(root, 0)];
        self.enter(root);
        while let Some((node, followed)) = way.last_mut() {
            let node = *node;
            let next = leaving
                .get(node)
                .and_then(|edges| edges.get(*followed))
                .copied();
            *followed += 1;
            match next {
                Some(to) if at(&self.index, to) == UNSEEN => {
                    self.enter(to);
                    way.push((to, 0));
                }
                Some(to) => {
                    if at(&self.component, to) == UNSEEN {
                        self.lower(node, at(&self.index, to));
                    }
                }
                None => {
                    way.pop();
                    self.leave(node);
                    if let Some((before, _)) = way.last() {
                        self.lower(*before, at(&self.low, node));
                    }
                }
            }
        }
    }

    fn enter(&mut self, node: usize) {
        put(&mut self.index, node, self.seen);
        put(&mut self.low, node, self.seen);
        self.seen += 1;
        self.stack.push(node);
    }

    fn lower(&mut self, node: usize, to: usize) {
        let low = at(&self.low, node).min(to);
        put(&mut self.low, node, low);
    }

    /// The first node of a component takes all of it from the stack.
    fn leave(&mut self, node: usize) {
        if at(&self.low, node) != at(&self.index, node) {
            return;
        }
        while let Some(member) = self.stack.pop() {
            put(&mut self.component, member, self.found);
            if member == node {
                break;
            }
        }
        self.found += 1;
    }
}

fn at(all: &[usize], node: usize) -> usize {
    all.get(node).copied().unwrap_or(UNSEEN)
}

fn put(all: &mut [usize], node: usize, value: usize) {
    if let Some(one) = all.get_mut(node) {
        *one = value;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn label(text: &str) -> Label {
        Label::parse(text).unwrap()
    }

    fn work(calls: u64, cost: i64, first_at: i64) -> Work {
        Work {
            totals: Totals {
                calls,
                cost_nano_usd: cost,
                ..Totals::default()
            },
            first_at: Timestamp::from_micros(first_at),
            ..Work::default()
        }
    }

    fn facts(edges: &[(&str, &str)]) -> Facts {
        let edge = |(number, (caller, agent)): (usize, &(&str, &str))| {
            let at = i64::try_from(number).unwrap() + 1;
            ((label(caller), label(agent)), work(1, 5, at))
        };
        Facts {
            edges: edges.iter().enumerate().map(edge).collect(),
            ..Facts::default()
        }
    }

    fn cycles(graph: &CallGraph) -> Vec<String> {
        let on = graph.edges.iter().filter(|edge| edge.is_on_cycle);
        let ends = on.filter_map(|edge| graph.ends(edge));
        ends.map(|(caller, agent)| format!("{caller}-{agent}"))
            .collect()
    }

    #[test]
    fn edges_of_cycles_are_marked_and_only_those() {
        let graph = CallGraph::whole(&facts(&[
            ("a", "b"),
            ("b", "c"),
            ("c", "b"),
            ("c", "d"),
            ("d", "d"),
        ]));
        assert_eq!(cycles(&graph), ["b-c", "c-b", "d-d"]);
    }

    #[test]
    fn nodes_stand_in_the_order_they_were_seen() {
        let graph = CallGraph::whole(&facts(&[("z", "m"), ("m", "a")]));
        let names: Vec<_> = (0..3)
            .map(|node| graph.agent(node).unwrap().to_string())
            .collect();
        assert_eq!(
            names,
            ["m", "z", "a"],
            "z was first seen with m, which sorts before it"
        );
    }

    #[test]
    fn many_agents_are_cut_to_the_most_expensive_and_others_without_losing_calls_or_cycles() {
        let mut facts = Facts::default();
        for number in 0..100 {
            let (agent, next) = (
                label(&format!("a{number}")),
                label(&format!("a{}", (number + 1) % 100)),
            );
            facts
                .agents
                .push((agent.clone(), work(1, 1000 - number, number)));
            facts.edges.push(((agent, next), work(1, 1, number)));
        }
        let graph = CallGraph::whole(&facts).cut();
        assert_eq!((graph.nodes.len(), graph.others), (41, 60));
        let calls: u64 = graph.nodes.iter().map(|node| node.work.totals.calls).sum();
        assert_eq!(calls, 100);
        assert!(graph.edges.iter().all(|edge| edge.is_on_cycle));
        assert_eq!(
            graph.edges.len(),
            41,
            "39 among the first, one out, one back"
        );
    }

    #[test]
    fn many_edges_are_cut_to_those_that_matter_and_the_rest_is_counted() {
        let mut facts = Facts::default();
        for from in 0..50_i64 {
            for to in from + 1..50 {
                let edge = (label(&format!("a{from}")), label(&format!("a{to}")));
                facts.edges.push((edge, work(1, from, from + 1)));
            }
        }
        let back = (label("a1"), label("a0"));
        facts.edges.push((back, work(1, 0, 60)));
        let graph = CallGraph::whole(&facts).cut();
        assert_eq!((graph.nodes.len(), graph.others), (50, 0));
        assert_eq!(graph.edges.len(), DRAWN_EDGES);
        assert_eq!(graph.left_out, 50 * 49 / 2 + 1 - DRAWN_EDGES);
        assert_eq!(cycles(&graph), ["a0-a1", "a1-a0"]);
        let cost = |edge: &Edge| edge.work.totals.cost_nano_usd;
        let others = graph.edges.iter().filter(|edge| !edge.is_on_cycle);
        assert!(others.map(cost).min() > Some(30), "the expensive ones stay");
    }

    #[test]
    fn a_hot_edge_has_a_fifth_of_all_where_there_are_some() {
        let mut facts = facts(&[("a", "b"), ("a", "c"), ("a", "d"), ("a", "e")]);
        facts.edges[2].1 = work(1, 1000, 3);
        let graph = CallGraph::whole(&facts);
        let hot: Vec<_> = graph.edges.iter().map(|edge| edge.is_hot).collect();
        assert_eq!(hot, [false, false, true, false]);
    }

    proptest! {
        #[test]
        fn an_edge_is_on_a_cycle_if_its_end_reaches_its_beginning(
            edges in prop::collection::btree_set((0..12_usize, 0..12_usize), 0..40),
        ) {
            let shape = Shape { nodes: 12, edges: edges.into_iter().collect() };
            let found = components(&shape);
            let reaches = |from: usize, to: usize| {
                let mut seen = vec![from];
                let mut next = 0;
                while let Some(node) = seen.get(next).copied() {
                    next += 1;
                    for (a, b) in &shape.edges {
                        if *a == node && !seen.contains(b) { seen.push(*b); }
                    }
                }
                seen.contains(&to)
            };
            for (from, to) in &shape.edges {
                prop_assert_eq!(found[*from] == found[*to], reaches(*to, *from));
            }
        }
    }
}
