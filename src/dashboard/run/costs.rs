//! What each agent of a run cost: by its own calls, and with those of the agents it set off.

use std::collections::{BTreeMap, BTreeSet};

use maud::html;

use super::super::figure;
use super::super::here::Here;
use super::super::table::{Cell, Column, Row, Table};
use super::super::text;
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::ledger::{RunAgentRow, RunDetail, RunEdgeRow, Totals};

const COLUMNS: [Column; 8] = [
    Column::text("agent", "Agent"),
    Column::number("calls", "Calls"),
    Column::number("failed", "Failed"),
    Column::number("input_tokens", "Tokens in"),
    Column::number("output_tokens", "Tokens out"),
    Column::number("own_usd", "Own $"),
    Column::number("with_callees_usd", "With callees $"),
    Column::number("share", "Share"),
];

/// An agent with everything that it set off.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cost<'a> {
    pub(super) row: &'a RunAgentRow,
    pub(super) with_callees: Totals,
}

/// Every agent of a run, the most expensive first.
///
/// What is set off is found by who called whom, each call counted once. Where an agent is called by
/// several, what it set off itself counts with each of them: which of them it was for is not recorded.
pub(super) fn costs(detail: &RunDetail) -> Vec<Cost<'_>> {
    let mut called: BTreeMap<&Label, Vec<&RunEdgeRow>> = BTreeMap::new();
    for edge in &detail.edges {
        if let Some(caller) = &edge.caller {
            called.entry(caller).or_default().push(edge);
        }
    }
    let mut costs: Vec<Cost<'_>> = detail
        .by_agent
        .iter()
        .map(|row| Cost {
            row,
            with_callees: with_callees(row, &called),
        })
        .collect();
    costs.sort_by(|a, b| {
        let size = |cost: &Cost<'_>| (cost.with_callees.cost_nano_usd, cost.row.totals.calls);
        size(b)
            .cmp(&size(a))
            .then_with(|| a.row.agent.cmp(&b.row.agent))
    });
    costs
}

fn with_callees(row: &RunAgentRow, called: &BTreeMap<&Label, Vec<&RunEdgeRow>>) -> Totals {
    let mut sum = row.totals;
    let mut seen = BTreeSet::from([&row.agent]);
    let mut waiting = vec![&row.agent];
    while let Some(caller) = waiting.pop() {
        for edge in called.get(caller).into_iter().flatten() {
            // Its own calls are all in the sum, whoever they were for.
            if edge.agent != row.agent {
                sum.add(&edge.totals);
            }
            if seen.insert(&edge.agent) {
                waiting.push(&edge.agent);
            }
        }
    }
    sum
}

/// An agent that several call, so that what it sets off counts more than once.
pub(super) fn is_shared(detail: &RunDetail) -> bool {
    let sets_off = |agent: &Label| {
        detail
            .edges
            .iter()
            .any(|edge| edge.caller.as_ref() == Some(agent))
    };
    let callers = |agent: &Label| {
        let to_it = detail
            .edges
            .iter()
            .filter(|edge| edge.agent == *agent && edge.caller.as_ref() != Some(agent));
        to_it.count()
    };
    detail
        .by_agent
        .iter()
        .any(|row| callers(&row.agent) > 1 && sets_off(&row.agent))
}

pub(super) fn table(detail: &RunDetail, here: &Here) -> Table {
    let costs = costs(detail);
    Table {
        name: "agents",
        caption: "Cost by agent".to_owned(),
        columns: &COLUMNS,
        rows: costs
            .iter()
            .map(|cost| row(cost, &detail.row.totals, here))
            .collect(),
        more: None,
        empty: html! { p.muted { "No call of it has ended yet." } },
    }
}

fn row(cost: &Cost<'_>, whole: &Totals, here: &Here) -> Row {
    let (agent, totals) = (&cost.row.agent, &cost.row.totals);
    let only = here.with(&[
        ("agent", Some(agent.as_str())),
        ("from", None),
        ("call", None),
    ]);
    let part = u64::try_from(totals.cost_nano_usd).unwrap_or(0);
    let all = u64::try_from(whole.cost_nano_usd).unwrap_or(0);
    Row {
        key: blake3::hash(agent.as_str().as_bytes())
            .to_hex()
            .chars()
            .take(16)
            .collect(),
        class: "",
        cells: vec![
            Cell::new(
                agent.as_str(),
                html! { a href=(only) { (text::name(agent.as_str())) } },
            ),
            count(totals.calls),
            count(totals.errors),
            count(totals.input_tokens),
            count(totals.output_tokens),
            money(totals),
            money(&cost.with_callees),
            Cell::new(
                part.saturating_mul(1000).checked_div(all).map(per_mille),
                html! { (figure::percent(part, all)) },
            ),
        ],
    }
}

/// `0.421`
fn per_mille(part: u64) -> String {
    format!("{}.{:03}", part / 1000, part % 1000)
}

pub(super) fn count(count: u64) -> Cell {
    Cell::new(count, html! { (figure::count(count)) })
}

/// What calls cost; nothing in exports where no price is known.
pub(super) fn money(totals: &Totals) -> Cell {
    let known = NanoUsd::new(totals.cost_nano_usd);
    let shown = figure::spent(known, totals.unpriced_calls, totals.calls);
    let is_known = totals.unpriced_calls < totals.calls.max(1) || known != NanoUsd::ZERO;
    Cell::new(is_known.then(|| usd(known)), shown)
}

/// `1.204000000`: exact, without a sign of the currency.
pub(in super::super) fn usd(amount: NanoUsd) -> String {
    let (nano, unit) = (amount.get().unsigned_abs(), 1_000_000_000);
    let sign = if amount.get() < 0 { "-" } else { "" };
    format!("{sign}{}.{:09}", nano / unit, nano % unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::budget::Control;
    use crate::core::time::Timestamp;
    use crate::ledger::RunRow;

    fn label(n: usize) -> Label {
        Label::parse(&format!("a{n}")).unwrap()
    }

    fn totals(cost: i64) -> Totals {
        Totals {
            calls: 1,
            cost_nano_usd: cost,
            ..Totals::default()
        }
    }

    /// A run of these calls: caller, agent, cost.
    fn run(calls: &[(Option<usize>, usize, i64)]) -> RunDetail {
        let at = Timestamp::default();
        let mut edges: BTreeMap<(Option<usize>, usize), Totals> = BTreeMap::new();
        let mut agents: BTreeMap<usize, Totals> = BTreeMap::new();
        let mut whole = Totals::default();
        for (caller, agent, cost) in calls {
            edges
                .entry((*caller, *agent))
                .or_default()
                .add(&totals(*cost));
            agents.entry(*agent).or_default().add(&totals(*cost));
            whole.add(&totals(*cost));
        }
        let row = RunRow {
            run: label(99),
            parent_run: None,
            control: Control::Running,
            first_at: at,
            last_at: at,
            open_calls: 0,
            agents: Vec::new(),
            depth: 0,
            variant: None,
            tags: BTreeMap::new(),
            trips: 0,
            totals: whole,
        };
        RunDetail {
            row,
            by_agent: agents
                .into_iter()
                .map(|(agent, totals)| RunAgentRow {
                    agent: label(agent),
                    first_at: at,
                    last_at: at,
                    open_calls: 0,
                    totals,
                })
                .collect(),
            edges: edges
                .into_iter()
                .map(|((caller, agent), totals)| RunEdgeRow {
                    caller: caller.map(label),
                    agent: label(agent),
                    first_at: at,
                    last_at: at,
                    open_calls: 0,
                    totals,
                })
                .collect(),
            children: Vec::new(),
        }
    }

    fn of(detail: &RunDetail, agent: usize) -> (i64, i64) {
        let costs = costs(detail);
        let found = costs
            .iter()
            .find(|cost| cost.row.agent == label(agent))
            .unwrap();
        (
            found.row.totals.cost_nano_usd,
            found.with_callees.cost_nano_usd,
        )
    }

    #[test]
    fn an_agent_costs_its_own_calls_and_with_callees_those_below_it() {
        let detail = run(&[
            (None, 0, 10),
            (Some(0), 1, 20),
            (Some(1), 2, 30),
            (Some(0), 1, 5),
        ]);
        assert_eq!(of(&detail, 0), (10, 65));
        assert_eq!(of(&detail, 1), (25, 55));
        assert_eq!(of(&detail, 2), (30, 30));
        assert!(!is_shared(&detail));
        assert_eq!(costs(&detail)[0].row.agent, label(0));
    }

    #[test]
    fn agents_that_call_each_other_count_no_call_twice() {
        let detail = run(&[
            (None, 0, 1),
            (Some(0), 1, 2),
            (Some(1), 0, 4),
            (Some(1), 1, 8),
        ]);
        assert_eq!(of(&detail, 0), (5, 15));
        assert_eq!(of(&detail, 1), (10, 14));
    }

    proptest! {
        #[test]
        fn own_costs_add_up_and_no_agent_costs_more_than_the_run(
            calls in proptest::collection::vec((proptest::option::of(0..5_usize), 0..5_usize, 0..1000_i64), 1..40)
        ) {
            let detail = run(&calls);
            let whole: i64 = calls.iter().map(|(.., cost)| cost).sum();
            let costs = costs(&detail);
            prop_assert_eq!(costs.iter().map(|cost| cost.row.totals.cost_nano_usd).sum::<i64>(), whole);
            for cost in costs {
                prop_assert!(cost.with_callees.cost_nano_usd <= whole);
                prop_assert!(cost.with_callees.cost_nano_usd >= cost.row.totals.cost_nano_usd);
            }
        }
    }
}
