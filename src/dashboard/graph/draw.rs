//! The drawing of a call graph, and what its marks mean.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::super::figure;
use super::super::here::Here;
use super::super::text;
use super::model::{CallGraph, Edge, Node};
use super::place::{At, HEIGHT, LABEL_HEIGHT, LABEL_WIDTH, Placed, Route, WIDTH};
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::ledger::Totals;

/// Characters of a name that fit, and beside the word TRIPPED.
const NAME: usize = 18;
const NAME_BESIDE: usize = 11;

/// Where a click on an edge leads: `caller..agent`.
pub(super) fn edge_name(caller: &str, agent: &str) -> String {
    format!("{caller}..{agent}")
}

pub(super) fn draw(graph: &CallGraph, placed: &Placed, here: &Here) -> Markup {
    let view = format!("0 0 {} {}", placed.width, placed.height);
    html! {
        div.scroll tabindex="0" role="region" aria-label="Call graph" {
            // A group and no image: its parts are links.
            svg.graph viewBox=(view) width=(placed.width) height=(placed.height) role="group" aria-labelledby="graph-title" {
                title id="graph-title" { (finding(graph)) }
                defs { (arrow("arrow")) (arrow("arrow-bad")) (arrow("arrow-muted")) }
                @for (edge, route) in graph.edges.iter().zip(&placed.edges) { (self::edge(graph, edge, route, here)) }
                @let all = spent(graph);
                @for (node, at) in graph.nodes.iter().zip(&placed.nodes) { (self::node(node, *at, (all, graph.others), here)) }
            }
        }
    }
}

fn arrow(id: &str) -> Markup {
    html! {
        marker id=(id) class=(id) viewBox="0 0 10 10" refX="9" refY="5" markerWidth="12" markerHeight="12" markerUnits="userSpaceOnUse" orient="auto" {
            path d="M0 1L10 5L0 9z" {}
        }
    }
}

/// What all nodes spent, or how often they called where nothing is priced.
fn spent(graph: &CallGraph) -> u64 {
    let all = graph
        .nodes
        .iter()
        .map(|node| u64::try_from(node.work.totals.cost_nano_usd).unwrap_or(0));
    all.fold(0, u64::saturating_add)
}

/// What is to be seen, in a sentence.
fn finding(graph: &CallGraph) -> String {
    let agents = graph.nodes.len() + graph.others.saturating_sub(1);
    let on_cycle = graph.edges.iter().filter(|edge| edge.is_on_cycle).count();
    let tripped = graph.nodes.iter().filter(|node| node.is_tripped).count();
    let of = |count: usize, one: &str| figure::many(count as u64, one);
    let mut text = format!(
        "{}, {} between them",
        of(agents, "agent"),
        of(graph.edges.len() + graph.left_out, "edge")
    );
    if graph.left_out > 0 {
        _ = write!(text, ", {} drawn", graph.edges.len());
    }
    if on_cycle > 0 {
        _ = write!(text, ", {on_cycle} of them on a cycle");
    }
    if tripped > 0 {
        _ = write!(text, ", {} tripped", of(tripped, "agent"));
    }
    text
}

fn figures(totals: &Totals) -> String {
    let known = NanoUsd::new(totals.cost_nano_usd);
    let spent = if totals.unpriced_calls > 0 && known.get() == 0 {
        "unpriced".to_owned()
    } else {
        figure::money(known)
    };
    let calls = if totals.calls == 1 { "call" } else { "calls" };
    format!("{} {calls}, {spent}", figure::short(totals.calls))
}

fn edge(graph: &CallGraph, edge: &Edge, route: &Route, here: &Here) -> Markup {
    let name = |node: usize| graph.agent(node).map_or("others", Label::as_str);
    let (caller, agent) = (name(edge.from), name(edge.to));
    let mut title = format!(
        "{} calls {}: {}",
        text::plain(caller),
        text::plain(agent),
        figures(&edge.work.totals)
    );
    for (is, word) in [
        (edge.is_on_cycle, ", on a cycle"),
        (edge.is_tripped, ", TRIPPED"),
        (edge.is_hot, ", hot"),
        (edge.is_inferred, ", inferred"),
        (edge.work.open > 0, ", calls on their way"),
    ] {
        if is {
            title.push_str(word);
        }
    }
    let named = edge_name(caller, agent);
    let href = match graph.ends(edge) {
        Some(_) => here.with(&[("edge", Some(&named)), ("agent", None)]),
        None => "#table-edges".to_owned(),
    };
    let is_chosen = here.get("edge") == Some(&named);
    let path = if edge.from == edge.to {
        way_round(&route.points)
    } else {
        way(&route.points)
    };
    html! {
        a.edge.cycle[edge.is_on_cycle].tripped[edge.is_tripped].hot[edge.is_hot].inferred[edge.is_inferred]
            .pulse[edge.work.open > 0].chosen[is_chosen] href=(href) {
            title { (title) }
            path.hit d=(path) {}
            path.line d=(path) stroke-width=(width(edge.work.totals.calls)) marker-end=(marker(edge)) {}
            (label(edge, route.label))
        }
    }
}

fn marker(edge: &Edge) -> &'static str {
    if edge.is_on_cycle || edge.is_tripped {
        "url(#arrow-bad)"
    } else if edge.is_inferred {
        "url(#arrow-muted)"
    } else {
        "url(#arrow)"
    }
}

fn label(edge: &Edge, (x, y): At) -> Markup {
    let calls = figure::short(edge.work.totals.calls);
    let words = match (edge.is_tripped, edge.is_on_cycle) {
        (true, _) => format!("\u{21bb} TRIPPED {calls}"),
        (_, true) => format!("\u{21bb} cycle {calls}"),
        _ => calls,
    };
    // As wide as its text, about, so that it hides no more of the line than it must.
    let width = i32::try_from(words.chars().count() * 7 + 8)
        .unwrap_or(LABEL_WIDTH)
        .min(LABEL_WIDTH);
    html! {
        rect.under x=(x - width / 2) y=(y - LABEL_HEIGHT / 2) width=(width) height=(LABEL_HEIGHT) rx="4" {}
        text x=(x) y=(y + 4) text-anchor="middle" { (words) }
    }
}

/// Thicker with each doubling of calls.
fn width(calls: u64) -> String {
    let tenths = 12 + 3 * calls.max(1).ilog2().min(12);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A smooth line through points from column to column: level at each of them.
fn way(points: &[At]) -> String {
    let mut path = String::new();
    for (number, (x, y)) in points.iter().enumerate() {
        match number.checked_sub(1).and_then(|before| points.get(before)) {
            None => _ = write!(path, "M{x} {y}"),
            Some((from_x, from_y)) => {
                let middle = i32::midpoint(*from_x, *x);
                _ = write!(path, "C{middle} {from_y} {middle} {y} {x} {y}");
            }
        }
    }
    path
}

/// A line from an agent to itself, by four points: down, across, up.
fn way_round(points: &[At]) -> String {
    let [(x, y), (a, low), (b, _), (end_x, end_y)] = points else {
        return way(points);
    };
    let middle = i32::midpoint(*a, *b);
    format!("M{x} {y}Q{a} {low} {middle} {low}Q{b} {low} {end_x} {end_y}")
}

fn node(node: &Node, (x, y): At, (all, others): (u64, usize), here: &Here) -> Markup {
    let (left, top) = (x - WIDTH / 2, y - HEIGHT / 2);
    let totals = &node.work.totals;
    let whole = node.agent.as_ref().map_or_else(
        || format!("others ({others})"),
        |agent| text::plain(agent.as_str()),
    );
    let fits = if node.is_tripped { NAME_BESIDE } else { NAME };
    let share = permille(u64::try_from(totals.cost_nano_usd).unwrap_or(0), all);
    let mut title = format!(
        "{whole}: {}, {} of all that was spent",
        figures(totals),
        figure::percent(share, 1000)
    );
    if node.is_tripped {
        title.push_str(", TRIPPED");
    }
    if node.work.open > 0 {
        _ = write!(
            title,
            ", {} on the way",
            figure::many(node.work.open, "call")
        );
    }
    let name = node.agent.as_ref().map(Label::as_str);
    let href = name.map_or_else(
        || "#table-edges".to_owned(),
        |name| here.with(&[("agent", Some(name)), ("edge", None)]),
    );
    let is_chosen = name.is_some() && here.get("agent") == name;
    let track = WIDTH - 16;
    html! {
        a.node.tripped[node.is_tripped].pulse[node.work.open > 0].others[node.agent.is_none()].chosen[is_chosen] href=(href) {
            title { (title) }
            rect.box x=(left) y=(top) width=(WIDTH) height=(HEIGHT) rx="4" {}
            text.name x=(left + 8) y=(top + 20) { (text::cut(&whole, fits)) }
            @if node.is_tripped {
                text.word x=(left + WIDTH - 8) y=(top + 20) text-anchor="end" { "TRIPPED" }
            } @else if node.work.open > 0 {
                circle.open cx=(left + WIDTH - 12) cy=(top + 15) r="4" {}
            }
            text.muted x=(left + 8) y=(top + 37) { (figures(totals)) }
            rect.track x=(left + 8) y=(top + HEIGHT - 11) width=(track) height="4" rx="2" {}
            rect.share x=(left + 8) y=(top + HEIGHT - 11) width=(part_of(track, share)) height="4" rx="2" {}
        }
    }
}

fn permille(part: u64, whole: u64) -> u64 {
    let permille = u128::from(part) * 1000 / u128::from(whole.max(1));
    u64::try_from(permille).unwrap_or(1000).min(1000)
}

fn part_of(width: i32, permille: u64) -> i32 {
    width * i32::try_from(permille).unwrap_or(1000) / 1000
}

/// What the marks mean.
pub(super) fn legend() -> Markup {
    let line = |class: &str| {
        html! { svg.graph.sample viewBox="0 0 36 12" width="36" height="12" aria-hidden="true" { g class=(class) { path.line d="M1 6L35 6" stroke-width="2.5" {} } } }
    };
    html! {
        ul.legend {
            li { (line("edge")) "calls: thicker is more, the figure is their number" }
            li { (line("edge hot")) "hot: a fifth of all or more" }
            li { (line("edge cycle")) "\u{21bb} cycle: it leads back to where it came from" }
            li { (line("edge tripped")) "\u{21bb} TRIPPED: stopped as a loop" }
            li { (line("edge inferred")) "inferred: nobody said so" }
            li { "bar of a node: its share of what was spent; ring: calls on their way" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_goes_through_all_its_points() {
        let through = way(&[(0, 0), (8, 4), (16, 2)]);
        assert_eq!(through, "M0 0C4 0 4 4 8 4C12 4 12 2 16 2");
        let round = way_round(&[(9, 5), (12, 20), (-12, 20), (-9, 5)]);
        assert_eq!(round, "M9 5Q12 20 0 20Q-12 20 -9 5");
    }

    #[test]
    fn edges_grow_with_doublings_up_to_a_bound() {
        assert_eq!(
            [width(0), width(1), width(1024), width(u64::MAX)],
            ["1.2", "1.2", "4.2", "4.8"]
        );
    }
}
