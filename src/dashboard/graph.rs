//! Who calls whom: a drawing, the same as a table, and what is known of the node or edge that was
//! chosen.

mod ask;
mod draw;
mod model;
mod place;
mod side;

use std::sync::Arc;

use axum::Router;
use maud::{Markup, html};

use self::ask::{Asked, Scope, ask};
use self::model::{CallGraph, Facts, Work};
pub(super) use self::place::Layouts;
use super::desk::Desk;
use super::figure;
use super::here::Here;
use super::link;
use super::overview::cells;
use super::page::{Page, Place, empty, part};
use super::table::{Cell, Column, Row, Table, sort};
use super::text;
use super::{Answer, view};
use crate::admin::problem::Problem;
use crate::core::id::Label;
use crate::ledger::Totals;

/// Rows of the table on the page.
const ON_PAGE: usize = 100;

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/graph", view(page))
}

async fn page(desk: Desk, here: Here) -> Answer {
    let run: Option<Label> = here.read("run")?;
    let scope = run.map_or_else(|| Scope::of_range(&here), Scope::Run);
    let asked = ask(&desk, scope.clone()).await?;
    let asked = asked.ok_or_else(|| Problem::not_found(format!("there is no run {scope}")))?;
    let whole = CallGraph::whole(&asked.facts);
    let table = table(&whole, &asked.facts, &here)?;
    let graph = whole.cut();
    let (layouts, shape) = (Arc::clone(&desk.layouts), graph.shape());
    let placed = desk.state.records.read(move || Ok(layouts.get(&shape)));
    let placed = placed.await?;
    let side = side::panel(&desk, &here, &scope, &graph).await?;
    let main = html! {
        (part("scope", &scope_line(&scope, &asked, &here)))
        @if graph.nodes.is_empty() {
            (part("graph", &nothing(&scope, &here)))
        } @else {
            div.with-side[side.is_some()] {
                figure.graph {
                    (part("graph", &draw::draw(&graph, &placed, &here)))
                    figcaption {
                        @if graph.left_out > 0 {
                            p.note id="left-out" {
                                "The " (figure::count(graph.edges.len() as u64)) " edges that matter most are drawn; "
                                (figure::count(graph.left_out as u64)) " more " a href="#edges" { "are in the table" } "."
                            }
                        }
                        (draw::legend())
                    }
                }
                @if let Some(side) = &side { aside.side aria-label="Chosen" { (part("side", side)) } }
            }
            section id="edges" { (part("edges-part", &table.draw(&here))) }
        }
    };
    let title = "Call graph";
    let page = Page::live(title, Place::Graph, main).tables(vec![table]);
    Ok(match scope {
        Scope::Run(_) => page,
        Scope::Span(..) => page.ranged(),
    })
}

fn scope_line(scope: &Scope, asked: &Asked, here: &Here) -> Markup {
    html! {
        @if let Scope::Run(run) = scope {
            p {
                "Of the run " a href=(link::run(run)) { (text::name(run.as_str())) } ". "
                a href=(here.with(&[("run", None), ("agent", None), ("edge", None)])) { "Show all runs" }
            }
        }
        @if asked.is_cut {
            p.note { "There are more edges than are read at once: these are the ones that were active last. A shorter range shows all of its own." }
        }
    }
}

fn nothing(scope: &Scope, here: &Here) -> Markup {
    let advice = html! {
        p.prose { "An agent is named by the header " code { "x-aiops-agent" } ", who invoked it by " code { "x-aiops-caller" } "." }
        p.prose { "Or by the base URL: " code { "http://.../run/nightly-7/agent/researcher/v1" } "." }
        @if matches!(scope, Scope::Span(..)) {
            p { a href=(here.with(&[("range", Some("all")), ("since", None), ("until", None)])) { "Show all time" } }
        }
    };
    match scope {
        Scope::Run(_) => empty("No call of this run has ended or is on its way", &advice),
        Scope::Span(..) => empty(
            &format!("No agent made a call in {}", here.range.words),
            &advice,
        ),
    }
}

const COLUMNS: [Column; 8] = [
    Column::text("agent", "Agent").sorted(),
    Column::text("caller", "Caller").sorted(),
    Column::number("calls", "Calls").sorted(),
    Column::number("cost_usd", "Spend").sorted(),
    Column::number("tokens", "Tokens").sorted(),
    Column::number("p95_ms", "p95").sorted(),
    Column::number("failed", "Failed").sorted(),
    Column::text("marks", "Marks"),
];

/// One line of the table.
struct Entry {
    caller: Option<Label>,
    agent: Label,
    work: Work,
    marks: Vec<&'static str>,
}

/// The graph as a table: every edge, and what each agent did on nobody's behalf.
fn table(graph: &CallGraph, facts: &Facts, here: &Here) -> Result<Table, Problem> {
    let mut entries: Vec<Entry> = graph
        .edges
        .iter()
        .filter_map(|edge| of_edge(graph, edge))
        .collect();
    entries.extend(uncalled(facts));
    arrange(&mut entries, here)?;
    let all = entries.len();
    let shown = here.rows(ON_PAGE);
    let caption = if all > shown {
        format!("Who calls whom: {shown} of {}", figure::count(all as u64))
    } else {
        "Who calls whom".to_owned()
    };
    Ok(Table {
        name: "edges",
        caption,
        columns: &COLUMNS,
        rows: entries
            .iter()
            .take(shown)
            .map(|entry| row(entry, here))
            .collect(),
        more: None,
        empty: html! {},
    })
}

fn of_edge(graph: &CallGraph, edge: &model::Edge) -> Option<Entry> {
    let (caller, agent) = graph.ends(edge)?;
    let marks = [
        (edge.is_on_cycle, "cycle"),
        (edge.is_tripped, "TRIPPED"),
        (edge.is_hot, "hot"),
        (edge.is_inferred, "inferred"),
    ];
    Some(Entry {
        caller: Some(caller.clone()),
        agent: agent.clone(),
        work: edge.work,
        marks: marks
            .iter()
            .filter_map(|(is, word)| is.then_some(*word))
            .collect(),
    })
}

/// What agents did beside what they did for others.
fn uncalled(facts: &Facts) -> impl Iterator<Item = Entry> {
    facts.agents.iter().filter_map(|(agent, work)| {
        let mut rest = *work;
        let mut is_called = false;
        for ((_, called), edge) in &facts.edges {
            if called == agent {
                is_called = true;
                rest.totals = without(&rest.totals, &edge.totals);
            }
        }
        if is_called {
            rest.p95_us = None;
        }
        let is_there = rest.totals.calls > 0 || (!is_called && rest.open > 0);
        is_there.then(|| Entry {
            caller: None,
            agent: agent.clone(),
            work: rest,
            marks: Vec::new(),
        })
    })
}

fn without(all: &Totals, part: &Totals) -> Totals {
    Totals {
        calls: all.calls.saturating_sub(part.calls),
        errors: all.errors.saturating_sub(part.errors),
        input_tokens: all.input_tokens.saturating_sub(part.input_tokens),
        output_tokens: all.output_tokens.saturating_sub(part.output_tokens),
        cost_nano_usd: all.cost_nano_usd.saturating_sub(part.cost_nano_usd),
        unpriced_calls: all.unpriced_calls.saturating_sub(part.unpriced_calls),
        ..Totals::default()
    }
}

/// By `?sort=`; else the most expensive first.
fn arrange(entries: &mut [Entry], here: &Here) -> Result<(), Problem> {
    let (key, upward) = sort(here).unwrap_or(("cost_usd", false));
    if !COLUMNS.iter().any(|column| column.sort == Some(key)) {
        let keys: Vec<_> = COLUMNS.iter().filter_map(|column| column.sort).collect();
        return Err(Problem::bad_request(format!(
            "sort: found `{key}`, expected one of {}, or -<one of them>",
            keys.join(", ")
        )));
    }
    entries.sort_by(|a, b| a.caller.cmp(&b.caller).then_with(|| a.agent.cmp(&b.agent)));
    let number = |entry: &Entry| {
        let totals = &entry.work.totals;
        match key {
            "calls" => totals.calls,
            "tokens" => totals.input_tokens.saturating_add(totals.output_tokens),
            "p95_ms" => entry.work.p95_us.unwrap_or(0),
            "failed" => totals.errors,
            _ => u64::try_from(totals.cost_nano_usd).unwrap_or(0),
        }
    };
    match key {
        // Texts from a to z first.
        "agent" => entries.sort_by(|a, b| a.agent.cmp(&b.agent)),
        "caller" => {}
        _ => entries.sort_by_key(|entry| std::cmp::Reverse(number(entry))),
    }
    if upward {
        entries.reverse();
    }
    Ok(())
}

fn row(entry: &Entry, here: &Here) -> Row {
    let (agent, totals) = (entry.agent.as_str(), &entry.work.totals);
    let caller = entry.caller.as_ref().map(Label::as_str);
    let named = caller.map(|caller| draw::edge_name(caller, agent));
    let href = match &named {
        Some(named) => here.with(&[("edge", Some(named)), ("agent", None)]),
        None => here.with(&[("agent", Some(agent)), ("edge", None)]),
    };
    let is_bad = entry.marks.contains(&"TRIPPED");
    Row {
        key: link::encode(&draw::edge_name(caller.unwrap_or(""), agent)),
        class: if is_bad { "bad" } else { "" },
        cells: vec![
            Cell::new(
                agent,
                html! { a.cut href=(href) title=(agent) { (text::name(agent)) } },
            ),
            match caller {
                Some(caller) => Cell::new(
                    caller,
                    html! { span.cut title=(caller) { (text::name(caller)) } },
                ),
                None => Cell::new(
                    serde_json::Value::Null,
                    html! { span.muted { "nobody named" } },
                ),
            },
            cells::count(totals.calls),
            cells::spent(totals),
            cells::count(cells::all_tokens(totals)),
            cells::time(entry.work.p95_us),
            cells::failed(totals),
            marks(&entry.marks),
        ],
    }
}

fn marks(marks: &[&'static str]) -> Cell {
    let shown = html! {
        @for mark in marks {
            @let kind = match *mark { "TRIPPED" | "cycle" => "bad", "hot" => "warn", _ => "off" };
            (figure::state(kind, mark)) " "
        }
    };
    Cell::new(marks.join(" "), shown)
}
