//! Calls that came to nothing in time, and were made again.

use std::collections::{BTreeMap, VecDeque};

use super::facts::CallFacts;
use super::{Draft, Rule, cost};
use crate::core::call::Outcome;
use crate::core::id::Label;
use crate::core::text::grouped;

/// What is asked again is asked soon.
pub(super) const SOON_US: i64 = 600_000_000;
/// Calls that wait to be asked again, of one agent.
const OPEN: usize = 64;
/// A connection that is refused sooner has not timed out.
const REFUSED_US: u64 = 5_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client went before the answer was whole.
    GaveUp,
    /// The upstream, or what is in front of it, said that it took too long.
    TooLong,
    /// The answer broke off.
    BrokeOff,
}

fn end(call: &CallFacts) -> Option<End> {
    match call.outcome {
        Outcome::ClientGone => Some(End::GaveUp),
        Outcome::UpstreamCut => Some(End::BrokeOff),
        Outcome::UpstreamUnavailable => {
            Some(End::TooLong).filter(|_| call.duration_us >= REFUSED_US)
        }
        Outcome::UpstreamError => {
            Some(End::TooLong).filter(|_| matches!(call.status, Some(408 | 504)))
        }
        _ => None,
    }
}

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let is_late = |call: &CallFacts| end(call).is_some();
    let found = asked_again(calls, Rule::TimeoutRetries, is_late, |_| true);
    let drafts = found.into_values();
    drafts.map(|draft| words(draft, calls)).collect()
}

/// Claims what calls took that `came_to_nothing` and were followed by the same request, of which
/// the answer `is_better`; by agent and model.
pub(super) fn asked_again(
    calls: &[CallFacts],
    rule: Rule,
    came_to_nothing: impl Fn(&CallFacts) -> bool,
    is_better: impl Fn(&CallFacts) -> bool,
) -> BTreeMap<(&Label, Option<&Label>), Draft> {
    let mut open: BTreeMap<&Label, VecDeque<usize>> = BTreeMap::new();
    let mut found: BTreeMap<(&Label, Option<&Label>), Draft> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let waiting = open.entry(&call.agent).or_default();
        let again = |before: &usize| {
            let before = calls.get(*before);
            before.is_some_and(|before| is_again(before, call))
        };
        while is_better(call)
            && let Some(index) = waiting.iter().position(again)
            && let Some(index) = waiting.remove(index)
            && let Some(before) = calls.get(index)
        {
            found
                .entry((&before.agent, before.model.as_ref()))
                .or_insert_with(|| Draft::new(rule, before))
                .claim(index, cost(before), before.tokens());
        }
        if came_to_nothing(call) && call.sent.is_some() {
            waiting.push_back(at);
            if waiting.len() > OPEN {
                waiting.pop_front();
            }
        }
    }
    found
}

fn is_again(before: &CallFacts, call: &CallFacts) -> bool {
    let since = call.at.micros().saturating_sub(before.ended_at());
    let asked = before.sent.as_ref().zip(call.sent.as_ref());
    before.run == call.run
        && before.model == call.model
        && (0..=SOON_US).contains(&since)
        && asked.is_some_and(|(one, other)| one.asks_the_same(other))
}

fn words(mut draft: Draft, calls: &[CallFacts]) -> Draft {
    let mut ends = [0_u64; 3];
    let mut waited = 0;
    for claim in &mut draft.claims {
        let Some(call) = calls.get(claim.call) else {
            continue;
        };
        claim.us = call.duration_us;
        waited += call.duration_us;
        if let Some(count) = end(call).and_then(|end| ends.get_mut(end as usize)) {
            *count += 1;
        }
    }
    let [gave_up, too_long, broke_off] = ends;
    let count = grouped(draft.claims.len() as u64);
    let seconds = grouped(waited / 1_000_000);
    draft.sentence = format!(
        "{} made {count} calls again that had come to nothing, after {seconds} s of waiting.",
        draft.agent,
    );
    draft.evidence("calls made again", &count);
    for (what, count) in [
        ("left by the client before the answer was whole", gave_up),
        (
            "given up by the upstream as too long, or not reached for 5 s",
            too_long,
        ),
        ("broken off by the upstream", broke_off),
    ] {
        if count > 0 {
            draft.evidence(what, &grouped(count));
        }
    }
    draft.evidence("seconds until they came to nothing", &seconds);
    draft.assumption = "Counted is what the calls that came to nothing cost and how long they took, where the \
                        same was asked again within 10 minutes: what was generated before a client left is \
                        billed, and who had waited on would have had the answer no later.";
    if gave_up > 0 {
        draft.fix("Give the client a longer timeout, or stream, so that a long answer is not taken for none.");
    }
    if too_long + broke_off > 0 {
        let lead = if gave_up > 0 { " " } else { "" };
        draft.fix(lead);
        draft.fix(
            "Ask for shorter outputs, or stream: what is in front of the model ends long calls.",
        );
    }
    draft
}
