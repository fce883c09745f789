//! One loop in short: the pattern, what is repeated, what was not new, what it took.

use maud::{Markup, html};

use super::super::desk::Desk;
use super::super::here::Here;
use super::super::{deeds, figure, link, text};
use super::{Stopped, headline, page_of, state};
use crate::core::loops::finding::Signal;
use crate::core::money::NanoUsd;

/// Calls that are named in a card.
const NAMED: usize = 12;

pub(super) fn card(desk: &Desk, here: &Here, stopped: &Stopped<'_>) -> Markup {
    let trip = stopped.trip;
    let (kind, word) = state(stopped);
    let class = if stopped.is_open { "card bad" } else { "card" };
    html! {
        article id=(format!("loop-{}", trip.id)) class=(class) data-key=(trip.id) {
            div.table-head {
                h3 { a href=(page_of(here, trip)) { (text::shown(&headline(trip))) } }
                span { (figure::state(kind, word)) }
            }
            p {
                (text::name(trip.agent.as_str()))
                @if let Some(caller) = &trip.caller { span.muted { " for " (text::name(caller.as_str())) } }
                @if let Some(run) = &trip.run {
                    span.muted { " in the run " } a href=(here.at(&link::run(run), [])) { (text::name(run.as_str())) }
                }
                span.muted { ", stopped " } (figure::time(trip.at, &desk.zone))
                @if let Some(closed) = &trip.closed { span.muted { ", closed " } (figure::time(closed.at, &desk.zone)) }
            }
            p { strong { "Not new: " } (not_new(trip.evidence.signal)) }
            (sample(stopped))
            p { strong { "It took: " } (took(stopped)) }
            (calls(here, stopped))
            @if stopped.is_open {
                p {
                    a.button href=(deeds::of_loop(here, trip.id)) { "Let it go on" }
                    span.muted { " It also goes on when a user says something new." }
                }
            }
        }
    }
}

/// What the detector missed, in words.
fn not_new(signal: Signal) -> &'static str {
    match signal {
        Signal::Repeat => "the agent did the same with the same result, again and again.",
        Signal::Period => "the same actions with the same results came round in the same order.",
        Signal::Stale => "nothing was said or learned that was not known before.",
        Signal::SameError => "a tool failed in the same way whatever it was given.",
        Signal::SameRequest => "the same request was sent again, and got no other answer.",
        Signal::SameAnswer => "the same first request got the same answer.",
        Signal::Delegation => "agents handed the same task on without doing any of it.",
        Signal::Chant => "the answer was one piece, said over and over.",
    }
}

/// What is repeated, side by side.
fn sample(stopped: &Stopped<'_>) -> Markup {
    let sample = &stopped.trip.evidence.sample;
    html! {
        @if sample.is_empty() {
            p.muted { "What was said is not kept: bodies are not recorded, or it was not asked for." }
        } @else {
            div.repeats {
                @for piece in sample { pre.text dir="auto" { (text::shown(piece)) } }
            }
        }
    }
}

fn took(stopped: &Stopped<'_>) -> Markup {
    let evidence = &stopped.trip.evidence;
    let known = evidence.calls.iter().filter_map(|id| stopped.calls.get(id));
    let (mut cost, mut unpriced, mut found) = (NanoUsd::ZERO, 0, 0);
    for call in known {
        found += 1;
        match call.cost_nano_usd {
            Some(nano) => cost = cost.saturating_add(NanoUsd::new(nano)),
            None => unpriced += 1,
        }
    }
    let calls = evidence.calls.len() as u64;
    let missing = calls.saturating_sub(found);
    html! {
        (figure::count(calls)) " calls, " (figure::count(evidence.tokens)) " tokens, "
        @if found == 0 { span.none { "of unknown cost" } } @else {
            @if missing > 0 { "at least " }
            (figure::spent(cost, unpriced, found))
            @if missing > 0 { span.none { " (" (figure::many(missing, "call")) " not looked up or not kept)" } }
        }
        "; " strong { (figure::count(u64::from(stopped.trip.refused))) }
        @if stopped.trip.refused == 1 { " call refused" } @else { " calls refused" }
    }
}

fn calls(here: &Here, stopped: &Stopped<'_>) -> Markup {
    let calls = &stopped.trip.evidence.calls;
    let more = calls.len().saturating_sub(NAMED);
    html! {
        p.muted {
            "Its last calls: "
            @for (index, id) in calls.iter().skip(more).enumerate() {
                @if index > 0 { " " }
                a href=(here.at(&link::call(*id), [])) title=(id) {
                    @match stopped.calls.get(id) {
                        Some(call) => { (index + 1) " " (text::name(call.agent.as_str())) },
                        None => (index + 1),
                    }
                }
            }
        }
    }
}
