//! What is known of the agent or the edge that was chosen: its figures, its neighbours, its last
//! calls.

use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::ask::Scope;
use super::draw::edge_name;
use super::model::{CallGraph, Work};
use crate::admin::problem::Problem;
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::dashboard::desk::Desk;
use crate::dashboard::figure;
use crate::dashboard::here::Here;
use crate::dashboard::link;
use crate::dashboard::text;
use crate::ledger::{CallFilter, CallRow};

/// Calls that are listed.
const CALLS: usize = 8;

/// What was chosen.
enum Chosen {
    Agent(Label, Work),
    /// Caller, agent.
    Edge(Label, Label, Work),
    /// It is not in this graph.
    Absent(String),
}

/// None where nothing was chosen.
pub(super) async fn panel(
    desk: &Desk,
    here: &Here,
    scope: &Scope,
    graph: &CallGraph,
) -> Result<Option<Markup>, Problem> {
    let Some(chosen) = chosen(here, graph) else {
        return Ok(None);
    };
    let filter = match &chosen {
        Chosen::Absent(_) => return Ok(Some(html! { (absent(&chosen)) (close(here)) })),
        Chosen::Agent(agent, _) => CallFilter {
            agent: Some(agent.clone()),
            ..scope.calls()
        },
        Chosen::Edge(caller, agent, _) => CallFilter {
            caller: Some(caller.clone()),
            agent: Some(agent.clone()),
            ..scope.calls()
        },
    };
    let filter = CallFilter {
        limit: CALLS,
        ..filter
    };
    let calls = desk.ask(move |view| view.calls(&filter)).await?.items;
    Ok(Some(html! {
        (head(&chosen, here))
        (neighbours(&chosen, graph, here))
        (last_calls(&calls, &desk.zone))
        (close(here))
    }))
}

fn chosen(here: &Here, graph: &CallGraph) -> Option<Chosen> {
    if let Some(name) = here.get("edge") {
        let edge = graph.edges.iter().find_map(|edge| {
            let (caller, agent) = graph.ends(edge)?;
            let is_it = edge_name(caller.as_str(), agent.as_str()) == name;
            is_it.then(|| Chosen::Edge(caller.clone(), agent.clone(), edge.work))
        });
        return Some(edge.unwrap_or_else(|| Chosen::Absent(name.to_owned())));
    }
    let name = here.get("agent")?;
    let node = graph.nodes.iter().find_map(|node| {
        let agent = node.agent.as_ref().filter(|agent| agent.as_str() == name)?;
        Some(Chosen::Agent(agent.clone(), node.work))
    });
    Some(node.unwrap_or_else(|| Chosen::Absent(name.to_owned())))
}

fn absent(chosen: &Chosen) -> Markup {
    let name = match chosen {
        Chosen::Absent(name) => name.as_str(),
        Chosen::Agent(agent, _) | Chosen::Edge(_, agent, _) => agent.as_str(),
    };
    html! {
        h2 { (text::name(name)) }
        p.muted { "It is not drawn: it made no call here, or it is one of the others, which the table below has." }
    }
}

fn close(here: &Here) -> Markup {
    html! { p { a href=(here.with(&[("agent", None), ("edge", None)])) { "Close" } } }
}

fn head(chosen: &Chosen, here: &Here) -> Markup {
    let (title, work, agent) = match chosen {
        Chosen::Agent(agent, work) => (html! { (text::name(agent.as_str())) }, work, agent),
        Chosen::Edge(caller, agent, work) => (
            html! { (text::name(caller.as_str())) " \u{2192} " (text::name(agent.as_str())) },
            work,
            agent,
        ),
        Chosen::Absent(_) => return html! {},
    };
    let totals = &work.totals;
    let cached = totals.cache_read_input_tokens;
    html! {
        h2 { (title) }
        dl.facts {
            dt { "Calls" } dd { (figure::count(totals.calls)) @if work.open > 0 { ", " (figure::count(work.open)) " on their way" } }
            dt { "Spend" } dd { (figure::spent(NanoUsd::new(totals.cost_nano_usd), totals.unpriced_calls, totals.calls)) }
            dt { "Tokens" } dd {
                (figure::count(totals.input_tokens.saturating_sub(cached))) " new, " (figure::count(cached)) " cached, "
                (figure::count(totals.output_tokens)) " out"
            }
            dt { "Failed" } dd { (figure::count(totals.errors)) @if totals.calls > 0 { ", " (figure::percent(totals.errors, totals.calls)) } }
            @if let Some(p95) = work.p95_us { dt { "p95" } dd { (figure::duration(p95)) } }
        }
        p { a href=(here.at("/runs", [("agent", agent.as_str())])) { "Runs of " (text::name(agent.as_str())) } }
    }
}

/// Who calls an agent and whom it calls.
fn neighbours(chosen: &Chosen, graph: &CallGraph, here: &Here) -> Markup {
    let Chosen::Agent(agent, _) = chosen else {
        return html! {};
    };
    let ends = graph
        .edges
        .iter()
        .filter_map(|edge| Some((edge, graph.ends(edge)?)));
    let callers = ends.clone().filter(|(_, (_, to))| *to == agent);
    let called = ends.filter(|(_, (from, _))| *from == agent);
    let item = |caller: &Label, to: &Label, shown: &Label, calls: u64| {
        let named = edge_name(caller.as_str(), to.as_str());
        html! {
            li { a href=(here.with(&[("edge", Some(&named)), ("agent", None)])) { (text::name(shown.as_str())) } span.muted { " " (figure::count(calls)) } }
        }
    };
    html! {
        h3 { "Called by" }
        ul.plain {
            @for (edge, (from, to)) in callers { (item(from, to, from, edge.work.totals.calls)) }
        }
        h3 { "Calls" }
        ul.plain {
            @for (edge, (from, to)) in called { (item(from, to, to, edge.work.totals.calls)) }
        }
    }
}

fn last_calls(calls: &[CallRow], zone: &TimeZone) -> Markup {
    html! {
        h3 { "Last calls" }
        @if calls.is_empty() { p.muted { "None that is still recorded." } }
        ul.list {
            @for call in calls {
                li {
                    div.list-line {
                        a href=(link::call(call.id)) { (figure::time(call.started_at, zone)) }
                        (figure::cost(call.cost_nano_usd.map(NanoUsd::new)))
                    }
                    div.list-line.muted {
                        (state(call))
                        @if let Some(took) = call.duration_us { span { (figure::duration(took)) } }
                    }
                }
            }
        }
    }
}

fn state(call: &CallRow) -> Markup {
    use crate::ledger::totals::is_error;
    match call.outcome {
        None => figure::state("run", "on its way"),
        Some(outcome) => {
            let word = <&str>::from(outcome).replace('_', " ");
            figure::state(if is_error(outcome) { "bad" } else { "ok" }, &word)
        }
    }
}
