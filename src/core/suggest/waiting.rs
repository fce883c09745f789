//! Agents that ask the same of the same tool again and again, and are told the same until it changes.

use std::collections::BTreeMap;

use super::facts::{CallFacts, PartKind, Talk};
use super::{Draft, Rule, cost};
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::text::grouped;

/// Asking so often in a row is waiting.
const MIN_ROW: usize = 5;
/// Between an answer and the call that repeats it. Who waits leaves time for something to change; who
/// repeats at once is at work, as who presses a key.
const PAUSE_US: i64 = 1_000_000;

#[derive(Default)]
struct Row<'a> {
    asked: Option<(&'a str, u64)>,
    told: Option<Digest>,
    calls: Vec<usize>,
}

/// What waits of an agent come to, and how long its runs took in all.
#[derive(Default)]
struct Times {
    waited: i64,
    first: i64,
    last: i64,
}

type Found<'a> = BTreeMap<(&'a Label, Option<&'a Label>, &'a str), (Draft, i64)>;

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let mut rows: BTreeMap<Talk<'_>, Row<'_>> = BTreeMap::new();
    let mut times: BTreeMap<Talk<'_>, Times> = BTreeMap::new();
    let mut found = Found::new();
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| call.is_done()) {
        let time = times.entry(call.talk()).or_insert_with(|| Times {
            first: call.at.micros(),
            ..Times::default()
        });
        time.last = time.last.max(call.ended_at());
        let row = rows.entry(call.talk()).or_default();
        let (asked, told) = (asked(call), told(call));
        let goes_on = row.asked.is_some() && row.asked == asked && told.is_some();
        if !goes_on || (row.calls.len() > 1 && row.told != told) {
            let is_over = told.is_some() && told != row.told;
            let row = std::mem::take(row);
            if is_over && row.calls.len() >= MIN_ROW {
                time.waited += close(&row, calls, &mut found);
            }
        }
        let row = rows.entry(call.talk()).or_default();
        row.asked = asked;
        row.told = told;
        if asked.is_some() {
            row.calls.push(at);
        }
    }
    let found = found.into_iter();
    found
        .map(|((agent, _, tool), (draft, waited))| {
            let its = times
                .iter()
                .filter(|((its, ..), time)| *its == agent && time.waited > 0);
            let all: i64 = its.map(|(_, time)| time.last - time.first).sum();
            words(draft, tool, waited, all)
        })
        .collect()
}

/// The one tool that an answer calls, and a hash of the arguments.
fn asked(call: &CallFacts) -> Option<(&str, u64)> {
    match call.answered.as_ref()?.calls.as_slice() {
        [(name, arguments)] => Some((name.as_str(), *arguments)),
        _ => None,
    }
}

/// The result that a call hands in.
fn told(call: &CallFacts) -> Option<Digest> {
    let last = call.sent.as_ref()?.parts.last()?;
    Some(last.shape).filter(|_| last.kind == PartKind::ToolResult)
}

/// Claims a row that is a wait, and says how long it was.
fn close<'a>(row: &Row<'a>, calls: &'a [CallFacts], found: &mut Found<'a>) -> i64 {
    let its = || {
        row.calls
            .iter()
            .filter_map(|at| Some((*at, calls.get(*at)?)))
    };
    let Some((tool, _)) = row.asked else {
        return 0;
    };
    let Some((_, first)) = its().next() else {
        return 0;
    };
    // The first asks: it would be there anyhow.
    let repeats: Vec<(usize, i64)> = its()
        .zip(its().skip(1))
        .filter(|((_, before), (_, call))| call.at.micros() - before.ended_at() >= PAUSE_US)
        .map(|((_, before), (at, call))| (at, call.ended_at() - before.ended_at()))
        .collect();
    if repeats.len() + 1 < MIN_ROW {
        return 0;
    }
    let waited = repeats.iter().map(|(_, us)| us).sum();
    let (draft, all) = found
        .entry((&first.agent, first.model.as_ref(), tool))
        .or_insert_with(|| (Draft::new(Rule::Waiting, first), 0));
    *all += waited;
    for (at, _) in repeats {
        if let Some(call) = calls.get(at) {
            draft.claim(at, cost(call), call.tokens());
        }
    }
    waited
}

fn words(mut draft: Draft, tool: &str, waited: i64, all: i64) -> Draft {
    let count = grouped(draft.claims.len() as u64);
    draft.sentence = format!(
        "{} called {tool} with the same arguments and was told the same until it changed: {count} calls of the \
         model asked again, as who waits does.",
        draft.agent
    );
    draft.evidence("tool", &tool);
    draft.evidence("calls after the first of each wait", &count);
    let seconds = |us: i64| grouped(us.max(0).unsigned_abs() / 1_000_000);
    draft.evidence(
        "time spent so",
        &format!(
            "{} of the {} s that these runs took",
            seconds(waited),
            seconds(all)
        ),
    );
    draft.assumption = "A wait is five calls in a row or more of one conversation that answer with the same \
                        single tool call and are handed the same result each time, and then another; counted \
                        are those that began a second or more after the answer before had ended. They may be \
                        work all the same where the tool does something each time, as a key that is pressed: \
                        then ignore this.";
    draft.fix(&format!(
        "Let {tool} wait for the result itself, and return when it is there, so that the model is asked once."
    ));
    draft
}
