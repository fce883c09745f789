//! The steps of a run: what each call was newly sent, and what it answered.

use maud::{Markup, html};

use super::super::figure;
use super::super::link;
use super::super::text;
use super::asked::Asked;
use super::head::Head;
use super::read::Shown;
use super::said::{Room, message};
use super::timeline::{ending, pager};
use crate::admin::step::{Answered, History, Missing, Sent, SentMessage, StepView};
use crate::core::id::CallId;
use crate::ledger::CallRow;

/// HTML of texts on a page of steps, and in a step of the timeline.
const PAGE: usize = 240_000;
const ALONE: usize = 96_000;

pub(super) fn draw(shown: &Shown, asked: &Asked, head: &Head<'_>) -> Markup {
    let calls = shown.calls.get(shown.on_page.clone()).unwrap_or_default();
    let most = PAGE / shown.steps.len().max(1);
    let cards = calls.iter().filter_map(|call| {
        let step = shown
            .steps
            .iter()
            .find(|step| step.call.id == call.mark.id)?;
        let row = shown.rows.get(&call.mark.id);
        Some(framed(step, row, call.number, head, most))
    });
    let cards: Vec<Markup> = cards.collect();
    html! {
        (pager(shown, head))
        @if cards.is_empty() {
            p.empty {
                @if let Some(agent) = &asked.agent { "No call of " (text::name(agent.as_str())) " is recorded in this run." }
                @else { "No call of this run is recorded." }
            }
        }
        @for card in &cards { (card) }
        (pager(shown, head))
    }
}

/// The step as it opens below its row.
pub(super) fn card(
    step: &StepView,
    row: Option<&CallRow>,
    number: usize,
    head: &Head<'_>,
) -> Markup {
    html! { div.step { (inside(step, row, number, head, ALONE)) } }
}

fn framed(
    step: &StepView,
    row: Option<&CallRow>,
    number: usize,
    head: &Head<'_>,
    most: usize,
) -> Markup {
    let id = step.call.id.to_string();
    let is_bad = row
        .and_then(|row| row.outcome)
        .is_some_and(crate::ledger::totals::is_error);
    let class = if is_bad { "card step bad" } else { "card step" };
    html! {
        article id=(format!("call-{id}")) class=(class) data-key=(id) data-agent=(text::plain(step.call.agent.as_str())) aria-label=(format!("call {number}")) {
            (inside(step, row, number, head, most))
        }
    }
}

fn inside(
    step: &StepView,
    row: Option<&CallRow>,
    number: usize,
    head: &Head<'_>,
    most: usize,
) -> Markup {
    let id = step.call.id;
    // The answer has a share of its own.
    let mut room = Room(most / 3 * 2);
    html! {
        (title(step, row, number, head))
        (history(&step.sent, id))
        h4 { "Newly sent" }
        (sent(&step.sent, id, &mut room))
        @let mut room = Room(most / 3);
        h4 { "Answered" }
        (answered(&step.answered, id, &mut room))
    }
}

fn title(step: &StepView, row: Option<&CallRow>, number: usize, head: &Head<'_>) -> Markup {
    let call = &step.call;
    html! {
        div.step-head {
            h3 {
                a href=(link::call(call.id)) { "call " (figure::count(number as u64)) }
                " "
                @if let Some(caller) = &call.caller { (text::name(caller.as_str())) " \u{2192} " }
                (text::name(call.agent.as_str()))
            }
            span.muted {
                (figure::clock(call.started_at, &head.desk.zone))
                @if let Some(model) = &call.model { ", " (text::name(model.as_str())) }
                @match call.duration_us {
                    Some(took) => { ", " (figure::duration(took)) }
                    None => ", runs",
                }
                ", " (figure::count(call.usage.input_tokens)) " in + " (figure::count(call.usage.output_tokens)) " out, "
                @if call.duration_us.is_some() { (figure::cost(call.cost_nano_usd)) }
            }
            @if let Some(row) = row { span { (ending(row)) } }
        }
        @if let Some(why) = row.and_then(|row| row.decision.as_deref()) {
            p.decided { (figure::state("warn", "decision")) " " (text::shown(why)) }
        }
        @if let Some(error) = &call.error { p.note.bad { (text::shown(error)) } }
    }
}

/// How what was sent stands to what was sent before.
fn history(sent: &Sent, id: CallId) -> Markup {
    let at = sent.changed_at.map_or(0, |at| at + 1);
    let whole = format!("{}?show=all", link::call(id));
    html! {
        @match sent.history {
            History::First | History::Grown | History::Continued => {}
            History::Repeated => p.note.warn { "The same request again: a retry, or another sample." },
            History::Cut => p.note.warn {
                strong { "The history was cut at message " (at) } ": "
                "left out is " (figure::many(sent.dropped_count, "message")) " that was sent before."
            },
            History::Rewritten => p.note.warn {
                strong { "The history changed at message " (at) } ": "
                "gone is " (figure::many(sent.dropped_count, "message")) " that was sent before."
            },
            History::Unknown => p.muted { "What was sent before is not recorded, so that all of it is shown as new." },
        }
        @if sent.tools_changed { p.note { "Other tools are offered than before: " (figure::count(sent.tools.count)) "." } }
        @if sent.unchanged.messages > 0 {
            p.unchanged {
                (figure::many(sent.unchanged.messages, "earlier message")) ", unchanged, "
                @match sent.unchanged.tokens {
                    Some(tokens) => { "~" (figure::count(tokens)) " tokens" }
                    None => (figure::bytes(sent.unchanged.bytes)),
                }
                " \u{b7} " a href=(whole) { "the whole history" }
            }
        }
        @if !sent.dropped.is_empty() {
            details id=(format!("gone-{id}")) {
                summary { "Not sent any more" }
                @for gone in &sent.dropped { (message(gone, None, &whole, &mut Room(8_000))) }
            }
        }
    }
}

fn sent(sent: &Sent, id: CallId, room: &mut Room) -> Markup {
    let whole = |index: u64| format!("{}?message={index}", link::call(id));
    let mark = |its: &SentMessage| its.is_echo.then_some("its own answer, sent back");
    let all = link::call(id);
    html! {
        @if sent.left_out > 0 {
            p.muted { (figure::many(sent.left_out, "more message")) " before these: " a href=(all) { "all of them" } }
        }
        @let drawn = until_full(&sent.messages, room, |its, room| message(&its.message, mark(its), &whole(its.index), room));
        @for drawn in &drawn { (drawn) }
        @if drawn.len() < sent.messages.len() {
            p.muted { (figure::many((sent.messages.len() - drawn.len()) as u64, "more message")) ": " a href=(all) { "all of them" } }
        }
        @if sent.messages.is_empty() && sent.missing.is_none() { p.muted { "Nothing that was not sent before." } }
        (lacks(sent.missing.as_ref()))
    }
}

fn answered(answered: &Answered, id: CallId, room: &mut Room) -> Markup {
    let whole = link::call(id);
    html! {
        @let drawn = until_full(&answered.messages, room, |its, room| message(its, None, &whole, room));
        @for drawn in &drawn { (drawn) }
        @if drawn.len() < answered.messages.len() {
            p.muted { "There is no room for it on this page: " a href=(whole) { "the call" } }
        }
        (lacks(answered.missing.as_ref()))
        @if !answered.finish_reasons.is_empty() {
            p.muted { "finish reason: " @for reason in &answered.finish_reasons { (text::name(reason.as_str())) " " } }
        }
    }
}

fn until_full<T>(
    all: &[T],
    room: &mut Room,
    mut draw: impl FnMut(&T, &mut Room) -> Markup,
) -> Vec<Markup> {
    let mut drawn = Vec::new();
    for one in all {
        if room.0 == 0 {
            break;
        }
        drawn.push(draw(one, room));
    }
    drawn
}

fn lacks(missing: Option<&Missing>) -> Markup {
    html! { @if let Some(missing) = missing { p.muted { (missing.detail) } } }
}
