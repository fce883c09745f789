//! The top of a run: how it stands, what it used, what it belongs to, what was done about it.

use maud::{Markup, html};

use super::super::deeds;
use super::super::desk::Desk;
use super::super::figure;
use super::super::here::Here;
use super::super::link;
use super::super::text;
use super::costs;
use super::read::{Branch, Facts, Note};
use crate::budgets::{MeasureRow, RuleRow};
use crate::core::budget::{Action, Control, Measure};
use crate::core::id::Label;
use crate::core::loops::refusal::summary;
use crate::core::loops::trip::{Closed, Trip};
use crate::core::money::NanoUsd;
use crate::ledger::{Event, RunRow, Totals};

/// How a run stands: the kind of it, for its shape, and a word.
pub(in super::super) fn standing(row: &RunRow, is_tripped: bool) -> (&'static str, &'static str) {
    match row.control {
        Control::Stopped => ("bad", "stopped"),
        Control::Paused => ("warn", "paused"),
        Control::Running if is_tripped => ("bad", "tripped"),
        Control::Running if row.open_calls > 0 => ("run", "running"),
        Control::Running => ("ok", "ended"),
    }
}

pub(super) struct Head<'a> {
    pub(super) facts: &'a Facts,
    pub(super) budgets: &'a [RuleRow],
    /// Loops of it that are stopped now.
    pub(super) open: &'a [Trip],
    pub(super) desk: &'a Desk,
    pub(super) here: &'a Here,
}

impl Head<'_> {
    pub(super) fn draw(&self) -> Markup {
        let row = &self.facts.detail.row;
        let (kind, word) = standing(row, !self.open.is_empty());
        html! {
            div.run-line {
                (figure::state(kind, word))
                @if row.open_calls > 0 { span { (figure::many(row.open_calls, "call")) " running" } }
                (self.actions(row))
                (Self::ways(row))
            }
            dl.facts {
                dt { "Time" } dd { (self.time(row)) }
                dt { "Spend" } dd { (self.spend(&row.totals)) }
                @for rule in self.budgets { (self.budget(rule)) }
                dt { "Tokens" } dd { (tokens(&row.totals)) }
                dt { "Calls" } dd { (self.calls(row)) }
                (self.belongs(row))
            }
        }
    }

    fn time(&self, row: &RunRow) -> Markup {
        let zone = &self.desk.zone;
        html! {
            (figure::time(row.first_at, zone))
            @if row.open_calls > 0 {
                ", it runs"
            } @else {
                " to " (figure::clock(row.last_at, zone)) ", "
                (figure::duration(row.last_at.micros_since(row.first_at)))
            }
        }
    }

    fn spend(&self, totals: &Totals) -> Markup {
        let below = self.facts.tree.iter().map(|branch| &branch.row.totals);
        let mut whole = *totals;
        below.for_each(|its| whole.add(its));
        html! {
            (figure::spent(NanoUsd::new(totals.cost_nano_usd), totals.unpriced_calls, totals.calls))
            @if totals.estimated_calls > 0 {
                span.muted { ", " (figure::many(totals.estimated_calls, "call")) " estimated" }
            }
            @if !self.facts.tree.is_empty() {
                ", with the runs below it "
                @if self.facts.tree_is_cut { "at least " }
                (figure::spent(NanoUsd::new(whole.cost_nano_usd), whole.unpriced_calls, whole.calls))
            }
        }
    }

    fn budget(&self, row: &RuleRow) -> Markup {
        let to = self.here.at("/budgets", [("rule", row.rule.name.as_str())]);
        html! {
            dt { "Budget " a href=(to) { (text::name(row.rule.name.as_str())) } }
            dd {
                @for account in &row.accounts {
                    @for measure in &account.measures { (limit(row, measure)) }
                    @if account.refused > 0 {
                        div { (figure::state("bad", &format!("{} refused", figure::count(account.refused)))) " since the proxy started" }
                    }
                }
            }
        }
    }

    fn calls(&self, row: &RunRow) -> Markup {
        let Totals { calls, errors, .. } = row.totals;
        let refused: u64 = self
            .facts
            .trips()
            .map(|trip| u64::from(self.latest(trip).refused))
            .sum();
        html! {
            (figure::count(calls.saturating_sub(errors))) " ok, "
            @if errors > 0 { (figure::state("bad", &format!("{} failed", figure::count(errors)))) } @else { "0 failed" }
            ", "
            @if refused > 0 { (figure::state("bad", &format!("{} refused", figure::count(refused)))) } @else { "0 refused" }
            " because of loops"
        }
    }

    /// What is known of a trip now: while it is open, more than its record says.
    fn latest<'t>(&'t self, trip: &'t Trip) -> &'t Trip {
        self.open
            .iter()
            .find(|open| open.id == trip.id)
            .unwrap_or(trip)
    }

    fn belongs(&self, row: &RunRow) -> Markup {
        let called = self.facts.parent.as_ref();
        html! {
            @if let Some(parent) = &row.parent_run {
                dt { "Part of" }
                dd {
                    a href=(link::run(parent)) { (text::name(parent.as_str())) }
                    @if let Some(parent) = called {
                        ", " (figure::spent(NanoUsd::new(parent.totals.cost_nano_usd), parent.totals.unpriced_calls, parent.totals.calls)) " by its own calls"
                    } @else {
                        span.muted { ", of which nothing is recorded" }
                    }
                }
            }
            @if !self.facts.tree.is_empty() {
                dt { "Runs below it" }
                dd { (self.tree()) }
            }
        }
    }

    fn tree(&self) -> Markup {
        let count = self.facts.tree.len();
        let item = |branch: &Branch| {
            let row = &branch.row;
            let (kind, word) = standing(row, false);
            html! {
                li class=(format!("deep-{}", branch.depth.min(8))) {
                    a href=(link::run(&row.run)) { (text::name(row.run.as_str())) } " "
                    (figure::state(kind, word)) " "
                    (figure::many(row.totals.calls, "call")) ", "
                    (figure::spent(NanoUsd::new(row.totals.cost_nano_usd), row.totals.unpriced_calls, row.totals.calls))
                }
            }
        };
        html! {
            details id="run-tree" open[count <= 5] {
                summary { (figure::count(count as u64)) @if self.facts.tree_is_cut { " and more" } }
                ul.tree { @for branch in &self.facts.tree { (item(branch)) } }
            }
        }
    }

    fn actions(&self, row: &RunRow) -> Markup {
        let to = |control: Control| deeds::of_run(self.here, control, &row.run);
        html! {
            span.actions {
                @if row.control == Control::Running { a.button href=(to(Control::Paused)) { "Pause" } }
                @else { a.button href=(to(Control::Running)) { "Resume" } }
                " "
                @if row.control != Control::Stopped { a.button href=(to(Control::Stopped)) { "Stop" } }
            }
        }
    }

    fn ways(row: &RunRow) -> Markup {
        let run = row.run.as_str();
        let file = |name: &str| format!("{}/export.{name}", link::run(&row.run));
        html! {
            span.exports {
                a href=(link::to("/graph", [("run", run)])) { "Graph" } " "
                a href=(link::to("/compare", [("a", run)])) { "Compare" } " "
                "Export " a href=(file("html")) { "HTML" } " "
                a href=(format!("{}?texts=true", file("html"))) { "HTML with texts" } " "
                a href=(file("json")) { "JSON" }
            }
        }
    }

    /// The loops of it that were stopped, each with its evidence.
    pub(super) fn trips(&self) -> Markup {
        /// Cards on the page; the page of loops has all.
        const MOST: usize = 8;
        let recorded: Vec<&Trip> = self.facts.trips().map(|trip| self.latest(trip)).collect();
        let older = recorded.len().saturating_sub(MOST);
        html! {
            @if older > 0 { p { (figure::many(older as u64, "older loop")) " stopped: " a href=(self.here.at("/loops", [])) { "Loops" } } }
            @for trip in recorded.iter().skip(older) { (self.trip(trip)) }
        }
    }

    fn trip(&self, trip: &Trip) -> Markup {
        let is_open = self.open.iter().any(|open| open.id == trip.id);
        let zone = &self.desk.zone;
        html! {
            div class=(if is_open { "note bad" } else { "note" }) {
                p {
                    @if is_open { (figure::state("bad", "tripped")) } @else { (figure::state("off", "over")) }
                    " " strong { (text::shown(&summary(&trip.evidence))) }
                    ", at " (figure::clock(trip.at, zone))
                    ", " (figure::count(trip.evidence.tokens)) " tokens, "
                    (figure::many(u64::from(trip.refused), "call")) " refused. "
                    @if let Some(closed) = &trip.closed { (ended(closed, self.desk)) }
                    " " a href=(self.here.at(&format!("/loops/{}", trip.id), [])) { "The loop" }
                }
                details id=(format!("trip-{}", trip.id)) {
                    summary { "Evidence: " (figure::many(trip.evidence.calls.len() as u64, "call")) }
                    @for sample in &trip.evidence.sample { pre.text { (text::shown(sample)) } }
                    p { @for call in &trip.evidence.calls { (self.evidence(*call)) " " } }
                }
            }
        }
    }

    fn evidence(&self, call: crate::core::id::CallId) -> Markup {
        let known = super::lines::position(&self.facts.calls, call);
        html! {
            @match known.and_then(|at| self.facts.calls.get(at)) {
                Some(known) => {
                    @let id = call.to_string();
                    a href=(self.here.with(&[("call", Some(&id)), ("from", None), ("agent", None)])) { "call " (known.number) }
                }
                None => a href=(link::call(call)) { "a call" },
            }
        }
    }

    /// A chip for each agent: what it did, and a way to see only that.
    pub(super) fn chips(&self, chosen: Option<&Label>) -> Markup {
        const MOST: usize = 24;
        let costs = costs::costs(&self.facts.detail);
        let to = |agent: Option<&str>| {
            self.here
                .with(&[("agent", agent), ("from", None), ("call", None)])
        };
        html! {
            nav.chips aria-label="Agents of this run" {
                a.chip href=(to(None)) aria-current=[chosen.is_none().then_some("true")] {
                    "all " span.muted { (figure::count(self.facts.detail.row.totals.calls + self.facts.detail.row.open_calls)) }
                }
                @for cost in costs.iter().take(MOST) {
                    @let agent = &cost.row.agent;
                    @let its = &cost.row.totals;
                    a.chip href=(to(Some(agent.as_str()))) aria-current=[(chosen == Some(agent)).then_some("true")] {
                        (text::name(agent.as_str())) " "
                        span.muted {
                            (figure::count(its.calls + cost.row.open_calls)) ", "
                            (figure::spent(NanoUsd::new(its.cost_nano_usd), its.unpriced_calls, its.calls))
                        }
                    }
                }
                @if costs.len() > MOST { span.muted { "and " (costs.len() - MOST) " more in the table" } }
            }
        }
    }
}

/// How a trip came to its end.
fn ended(closed: &Closed, desk: &Desk) -> Markup {
    use crate::core::loops::trip::ClosedBy;
    let how = match closed.by {
        ClosedBy::Operator => "an operator let it go on",
        ClosedBy::User => "a user said something new",
        ClosedBy::Probe => "a call brought something new",
        ClosedBy::End => "the run was over",
    };
    html! { "Over at " (figure::clock(closed.at, &desk.zone)) ": " (how) "." }
}

/// What was done to a run, in words.
pub(super) fn deed(event: &Event) -> Markup {
    let what = match event.what.as_str() {
        "run_paused" => "paused",
        "run_resumed" => "resumed",
        "run_stopped" => "stopped",
        other => other,
    };
    html! { (what) " by " (text::name(&event.who)) }
}

pub(super) fn note(note: &Note, head: &Head<'_>) -> Markup {
    match note {
        Note::Deed(event) => html! { (figure::state("off", "operator")) " " (deed(event)) },
        Note::Trip(trip) => {
            let trip = head.latest(trip);
            html! {
                (figure::state("bad", "tripped")) " " (text::shown(&summary(&trip.evidence)))
                ", " (figure::many(u64::from(trip.refused), "call")) " refused"
            }
        }
    }
}

/// One line that adds up.
pub(super) fn tokens(totals: &Totals) -> Markup {
    let read = totals.cache_read_input_tokens;
    let written = totals.cache_write_input_tokens;
    let new = totals
        .input_tokens
        .saturating_sub(read)
        .saturating_sub(written);
    let whole = [new, read, written, totals.output_tokens]
        .into_iter()
        .fold(0, u64::saturating_add);
    html! {
        span.sum {
            (figure::count(new)) " new input + "
            (figure::count(read)) " cache read + "
            (figure::count(written)) " cache write + "
            (figure::count(totals.output_tokens)) " output"
            @if totals.reasoning_output_tokens > 0 {
                " (" (figure::count(totals.reasoning_output_tokens)) " of it reasoning)"
            }
            " = " strong { (figure::count(whole)) }
        }
    }
}

fn limit(row: &RuleRow, measure: &MeasureRow) -> Markup {
    let part = |of: i64| {
        let part = i128::from(of.max(0)) * 1000 / i128::from(measure.limit.max(1));
        u64::try_from(part).unwrap_or(1000).min(1000)
    };
    let figure = |sum| match measure.measure {
        of @ Measure::Metric => row.rule.text(of, sum),
        of => amount(of, sum),
    };
    let words = format!("{} of {}", figure(measure.used), figure(measure.limit));
    let mark = row.rule.slow.map(|slow| u64::from(slow.from));
    html! {
        div.limit {
            (figure::meter(part(measure.used), part(measure.held), mark, &words))
            span { (words) @if row.rule.action == Action::Warn { span.muted { ", warns only" } } }
        }
    }
}

pub(in super::super) fn amount(measure: Measure, amount: i64) -> String {
    if measure == Measure::Usd {
        return figure::money(NanoUsd::new(amount));
    }
    if measure == Measure::Metric {
        return measure.text(amount);
    }
    let count = figure::count(u64::try_from(amount).unwrap_or(0));
    let what = measure.text(amount);
    let unit = what.split_once(' ').map_or("", |(_, unit)| unit);
    format!("{count} {unit}")
}
