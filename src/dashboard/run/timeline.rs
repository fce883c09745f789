//! The timeline of a run: where time and money went, call by call.

use maud::{Markup, html};

use super::super::figure;
use super::super::link;
use super::super::page::empty;
use super::super::text;
use super::asked::Asked;
use super::head::{self, Head};
use super::lines::{Line, Numbered};
use super::map::{scale, stretch};
use super::read::Shown;
use super::scale::{BREAK, Scale, UNITS};
use super::steps;
use crate::core::call::Outcome;
use crate::core::id::{CallId, Label};
use crate::core::money::NanoUsd;
use crate::ledger::totals::is_error;
use crate::ledger::{CallRow, MAX_MARKS};

const COLUMNS: usize = 9;
/// What is drawn of a call at least.
const THINNEST: u64 = 3;

pub(super) struct Timeline<'a> {
    pub(super) shown: &'a Shown,
    pub(super) asked: &'a Asked,
    pub(super) head: &'a Head<'a>,
    /// The axis of the bars: that of the page.
    scale: Scale,
}

impl<'a> Timeline<'a> {
    pub(super) fn new(shown: &'a Shown, asked: &'a Asked, head: &'a Head<'a>) -> Self {
        let calls = shown.calls.get(shown.on_page.clone()).unwrap_or_default();
        Self {
            scale: scale(calls, asked.true_scale),
            shown,
            asked,
            head,
        }
    }

    pub(super) fn draw(&self) -> Markup {
        if self.shown.calls.is_empty() {
            return self.nothing();
        }
        let lines = self.shown.window.lines.clone();
        let lines = self.shown.lines.get(lines).unwrap_or_default();
        html! {
            (self.switches())
            div.scroll tabindex="0" role="region" aria-label="Timeline" {
                table.timeline {
                    (columns())
                    thead { tr { @for (class, name) in HEADS { th scope="col" class=(class) { (name) } } } }
                    tbody {
                        @let mut last = None;
                        @for line in lines {
                            (self.idle(&mut last, line))
                            (self.line(line))
                        }
                    }
                }
            }
            (pager(self.shown, self.head))
        }
    }

    fn nothing(&self) -> Markup {
        let here = self.head.here;
        match &self.asked.agent {
            Some(agent) => empty(
                "No call of this agent",
                &html! {
                    p { "Shown are only calls of the agent " (text::name(agent.as_str())) "." }
                    p { a href=(here.with(&[("agent", None), ("from", None), ("call", None)])) { "Show those of all agents" } }
                },
            ),
            None => empty(
                "The run is known, and none of its calls is recorded any more",
                &html! { p { "How long calls are kept is said by " code { "keep_for" } " and " code { "keep_size" } " of " code { "[ledger]" } "." } },
            ),
        }
    }

    fn switches(&self) -> Markup {
        let here = self.head.here;
        let (folds, is_true) = (self.asked.folds, self.asked.true_scale);
        let other = |now: bool, to: &'static str| if now { None } else { Some(to) };
        let idle = self.scale.idle.len();
        html! {
            p.switches {
                span.legend {
                    (sample("slow", "slowed by us")) (sample("wait", "waits for the first byte"))
                    (sample("stream", "answer comes in")) (sample("end", "failed")) (sample("open", "runs"))
                }
                a href=(here.with(&[("fold", other(!folds, "false"))])) {
                    @if folds { "Show every call" } @else { "Fold similar calls" }
                }
                " "
                @if idle > 0 || is_true {
                    a href=(here.with(&[("scale", other(is_true, "true"))])) {
                        @if is_true { "Fold idle time" } @else { "True scale" }
                    }
                }
            }
        }
    }

    /// Says that nothing ran for long between the line before and this one.
    fn idle(&self, last: &mut Option<usize>, line: &Line) -> Markup {
        let (first, end) = match line {
            Line::Call(at) => (*at, *at),
            Line::Fold(calls) => (calls.start, calls.end.saturating_sub(1)),
            Line::Note(_) => return html! {},
        };
        let before = last.replace(end);
        let starts = self.shown.calls.get(first).map(|call| call.mark.started_at);
        let since = before
            .and_then(|at| self.shown.calls.get(at))
            .map(|call| call.mark.started_at);
        let Some((since, starts)) = since.zip(starts) else {
            return html! {};
        };
        let gap = self
            .scale
            .idle
            .iter()
            .find(|gap| gap.from >= since && gap.to <= starts);
        html! {
            @if let Some(gap) = gap {
                tr.gap { td colspan=(COLUMNS) { (figure::duration(gap.micros())) " idle" } }
            }
        }
    }

    fn line(&self, line: &Line) -> Markup {
        match line {
            Line::Call(at) => self.call_at(*at, true),
            Line::Fold(calls) => self.fold(calls),
            Line::Note(at) => html! {
                @if let Some(note) = self.head.facts.notes.get(*at) {
                    tr.happened { td colspan=(COLUMNS) {
                        (figure::clock(note.at(), &self.head.desk.zone)) " " (head::note(note, self.head))
                    } }
                }
            },
        }
    }

    fn call_at(&self, at: usize, is_line: bool) -> Markup {
        let call = self.shown.calls.get(at);
        let row = call.and_then(|call| self.shown.rows.get(&call.mark.id));
        html! { @if let Some((call, row)) = call.zip(row) { (self.call(call, row, is_line)) } }
    }

    /// A call, and below it the step that it is if that is open.
    fn call(&self, call: &Numbered, row: &CallRow, is_line: bool) -> Markup {
        let id = row.id.to_string();
        let is_open = self.asked.call == Some(row.id);
        let class = if is_open {
            "at"
        } else if row.outcome.is_some_and(is_error) {
            "bad"
        } else {
            ""
        };
        let agent = row.agent.as_str();
        let plain = text::plain(agent);
        let model = row.model.as_ref().map(Label::as_str);
        html! {
            tr id=(format!("call-{id}")) data-key=[is_line.then_some(&id)] data-agent=(plain)
                class=[(!class.is_empty()).then_some(class)] data-at=[is_open.then_some("")] {
                th.no scope="row" { (self.opens(call.number, row.id, is_open)) }
                td class=(format!("who deep-{}", row.depth.saturating_sub(1).min(8))) title=(plain) { (text::name(agent)) }
                td.model title=[model.map(text::plain)] { @match model { Some(model) => (text::name(model)), None => span.none { "-" } } }
                td.bar { (self.bar(row)) }
                td.n { (self.took(row)) }
                td.n { (used(row, row.usage.input_tokens)) }
                td.n { (used(row, row.usage.output_tokens)) }
                td.n { @if row.outcome.is_some() { (figure::cost(row.cost_nano_usd.map(NanoUsd::new))) } }
                td.flags { (flags(row)) }
            }
            @if is_open && let Some(step) = &self.shown.step {
                tr.opened { td colspan=(COLUMNS) { (steps::card(step, Some(row), call.number, self.head)) } }
            }
        }
    }

    fn opens(&self, number: usize, id: CallId, is_open: bool) -> Markup {
        let text = id.to_string();
        let to = self.head.here.with(&[
            ("call", Some(text.as_str()).filter(|_| !is_open)),
            ("from", Some(&text)),
        ]);
        html! { a href=(format!("{to}#call-{text}")) aria-expanded=(is_open) { (figure::count(number as u64)) } }
    }

    fn took(&self, row: &CallRow) -> Markup {
        html! {
            @match row.duration_us {
                Some(took) => (figure::duration(took)),
                None => span.state.run title=(row.started_at.to_string()) { "since " (figure::clock(row.started_at, &self.head.desk.zone)) },
            }
        }
    }

    /// From when to when it ran, and what it waited for.
    fn bar(&self, row: &CallRow) -> Markup {
        let start = self.scale.at(row.started_at);
        let at = |us: u64| self.scale.at(row.started_at.plus_micros(us));
        let end = row
            .duration_us
            .map_or(UNITS, at)
            .max(start + THINNEST)
            .min(UNITS);
        let start = start.min(end.saturating_sub(THINNEST));
        let slowed = slowed_us(row).map_or(start, at).clamp(start, end);
        let first = row.first_chunk_us.or(row.head_us).or(row.duration_us);
        let first = first.map_or(end, at).clamp(slowed, end);
        let is_failed = row.outcome.is_some_and(is_error);
        let words = in_words(row);
        html! {
            svg.bars viewBox=(format!("0 0 {UNITS} 10")) preserveAspectRatio="none" role="img" {
                title { (words) }
                (self.breaks())
                @if slowed > start { rect.slow x=(start) y="1" width=(slowed - start) height="8" fill="url(#slowed)" {} }
                @if first > slowed {
                    rect class=(if row.outcome.is_none() { "open" } else { "wait" }) x=(slowed) y="1" width=(first - slowed) height="8" {}
                }
                @if end > first { rect.stream x=(first) y="1" width=(end - first) height="8" {} }
                @if is_failed { rect.end x=(end.saturating_sub(6)) y="0" width="6" height="10" {} }
            }
        }
    }

    /// Where idle time is folded.
    fn breaks(&self) -> Markup {
        html! {
            @for gap in &self.scale.idle {
                rect.idle x=(self.scale.at(gap.from)) width=(BREAK) height="10" {}
            }
        }
    }

    /// Similar calls in one line, with each of them behind it.
    fn fold(&self, range: &std::ops::Range<usize>) -> Markup {
        let calls = self.shown.calls.get(range.clone()).unwrap_or_default();
        let (Some(first), Some(last)) = (calls.first(), calls.last()) else {
            return html! {};
        };
        let id = first.mark.id.to_string();
        let agent = first.mark.agent.as_str();
        let holds = calls
            .iter()
            .any(|call| self.asked.call == Some(call.mark.id));
        let flat =
            self.head
                .here
                .with(&[("fold", Some("false")), ("from", Some(&id)), ("call", None)]);
        html! {
            tr.fold id=(format!("fold-{id}")) data-key=(format!("fold-{id}")) data-agent=(text::plain(agent)) {
                td colspan=(COLUMNS) {
                    @if Line::unfolds(range) {
                        details id=(format!("calls-{id}")) open[holds] {
                            summary { (self.sum(calls, last, None)) }
                            table.timeline {
                                (columns())
                                tbody { @for at in range.clone() { (self.call_at(at, false)) } }
                            }
                        }
                    } @else {
                        div id=(format!("call-{id}")) { (self.sum(calls, last, Some(&flat))) }
                    }
                }
            }
        }
    }

    fn sum(&self, calls: &[Numbered], last: &Numbered, flat: Option<&str>) -> Markup {
        let priced = calls.iter().filter_map(|call| call.mark.cost_nano_usd);
        let cost = priced.clone().fold(NanoUsd::ZERO, |sum, cost| {
            sum.saturating_add(NanoUsd::new(cost))
        });
        let unpriced = calls.len() - priced.count();
        let (Some(first), count) = (calls.first(), calls.len() as u64) else {
            return html! {};
        };
        let agent = first.mark.agent.as_str();
        let ends = calls
            .iter()
            .map(|call| stretch(call).to)
            .max()
            .unwrap_or_default();
        let start = self.scale.at(first.mark.started_at);
        let wide = self.scale.at(ends).saturating_sub(start).max(THINNEST);
        html! {
            span.f-no { (figure::count(first.number as u64)) "\u{2013}" (figure::count(last.number as u64)) }
            span.f-who { strong { (text::name(agent)) } " \u{d7}" (figure::count(count)) }
            span.f-bar {
                svg.bars viewBox=(format!("0 0 {UNITS} 10")) preserveAspectRatio="none" role="img" {
                    title { (figure::count(count)) " calls of " (text::plain(agent)) }
                    (self.breaks())
                    rect.many x=(start.min(UNITS - THINNEST)) y="3" width=(wide) height="4" {}
                }
            }
            span.f-n { (figure::duration(ends.micros_since(first.mark.started_at))) }
            span.f-cost { (figure::spent(cost, unpriced as u64, count)) }
            @if let Some(flat) = flat { span.f-flags { a href=(flat) { "show each" } } }
        }
    }
}

const HEADS: [(&str, &str); COLUMNS] = [
    ("no", "Call"),
    ("who", "Agent"),
    ("model", "Model"),
    ("bar", "Time"),
    ("n", "Took"),
    ("n", "In"),
    ("n", "Out"),
    ("n", "Own $"),
    ("flags", "Flags"),
];

/// So that the calls of a fold stand in the same columns.
fn columns() -> Markup {
    html! {
        colgroup {
            col.c-no; col.c-who; col.c-model; col.c-bar; col.c-took; col.c-n; col.c-n; col.c-n; col.c-flags;
        }
    }
}

fn sample(class: &'static str, words: &'static str) -> Markup {
    html! {
        span.key {
            svg.bars viewBox="0 0 20 10" width="20" height="10" aria-hidden="true" {
                rect class=(class) y="1" width="20" height="8" fill=[(class == "slow").then_some("url(#slowed)")] {}
            }
            (words)
        }
    }
}

/// What hatches the time that a call was slowed.
pub(super) fn patterns() -> Markup {
    html! {
        svg width="0" height="0" aria-hidden="true" {
            defs {
                pattern id="slowed" width="6" height="6" patternUnits="userSpaceOnUse" {
                    rect.hatch-ground width="6" height="6" {}
                    path.hatch d="M0 6L6 0" {}
                }
            }
        }
    }
}

/// How long it was kept here on purpose.
fn slowed_us(row: &CallRow) -> Option<u64> {
    let words = row.decision.as_deref()?.split(':').next()?;
    let is_slowed = words.split(", ").any(|word| word == "slow");
    row.forwarded_us.filter(|_| is_slowed)
}

fn in_words(row: &CallRow) -> String {
    let mut parts = Vec::new();
    if let Some(slowed) = slowed_us(row) {
        parts.push(format!("slowed for {}", figure::duration(slowed)));
    }
    if let Some(first) = row.first_chunk_us.or(row.head_us) {
        parts.push(format!("first byte after {}", figure::duration(first)));
    }
    match (row.outcome, row.duration_us) {
        (Some(outcome), Some(took)) => {
            parts.push(format!(
                "{} after {}",
                outcome_words(outcome),
                figure::duration(took)
            ));
        }
        _ => parts.push("runs".to_owned()),
    }
    parts.join(", ")
}

pub(in super::super) fn outcome_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::UpstreamError => "upstream error",
        Outcome::UpstreamUnavailable => "upstream unavailable",
        Outcome::UpstreamCut => "cut by the upstream",
        Outcome::ClientGone => "client gone",
        Outcome::Recovered => "recovered after a crash",
        Outcome::Cut => "cut at shutdown",
        Outcome::Rejected => "rejected",
    }
}

/// Tokens of a call, marked where they are an estimate.
fn used(row: &CallRow, tokens: u64) -> Markup {
    use crate::core::usage::Provenance;
    let is_guess = row.provenance == Some(Provenance::Estimated);
    html! {
        @if row.outcome.is_none() { span.none { "-" } }
        @else { @if is_guess { "~" } (figure::count(tokens)) }
    }
}

fn flags(row: &CallRow) -> Markup {
    let words = row
        .decision
        .as_deref()
        .and_then(|text| text.split_once(": "));
    html! {
        (ending(row))
        @if let Some((words, why)) = words {
            span title=(text::plain(why)) { @for word in words.split(", ") { (figure::state("warn", word)) " " } }
        }
    }
}

/// What is to be said of how a call ended.
pub(super) fn ending(row: &CallRow) -> Markup {
    let outcome = row.outcome.filter(|outcome| *outcome != Outcome::Completed);
    html! {
        @if let Some(outcome) = outcome {
            (figure::state(if is_error(outcome) { "bad" } else { "off" }, outcome_words(outcome)))
            @if let Some(status) = row.status.filter(|status| *status >= 400) { " " (status) }
            " "
        }
        @if row.retry > 0 { span.muted { "retry " (row.retry) } " " }
        @if row.is_pending { span.muted { "result pending" } }
    }
}

/// Ways to the pages before and after.
pub(super) fn pager(shown: &Shown, head: &Head<'_>) -> Markup {
    let to = |at: Option<usize>| {
        let call = shown.calls.get(at?)?;
        let id = call.mark.id.to_string();
        Some(head.here.with(&[("from", Some(&id)), ("call", None)]))
    };
    let of = shown.calls.get(shown.on_page.clone()).unwrap_or_default();
    let ends = of.first().zip(of.last());
    let whole = shown.facts.total;
    html! {
        nav.pager aria-label="Calls" {
            @if let Some(to) = to(shown.window.earlier) { a href=(to) rel="prev" { "Earlier" } }
            @if let Some((first, last)) = ends {
                span.muted { "calls " (figure::count(first.number as u64)) " to " (figure::count(last.number as u64)) " of " (figure::count(whole as u64)) }
            }
            @if let Some(to) = to(shown.window.later) { a href=(to) rel="next" { "Later" } }
            @if let Some(to) = to(shown.window.last) { a href=(to) { "Last" } }
            @if whole > shown.facts.calls.len() {
                span.muted { "Only the first " (figure::count(MAX_MARKS as u64)) " are shown here; " a href=(link::to("/api/v1/calls", [("run", shown.facts.detail.row.run.as_str())])) { "the API" } " has all." }
            }
        }
    }
}
