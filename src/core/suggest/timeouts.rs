//! Calls that came to nothing in time, and were made again.

use std::collections::{BTreeMap, VecDeque};

use super::facts::CallFacts;
use super::{Draft, Rule, cost};
use crate::core::call::Outcome;
use crate::core::id::Label;
use crate::core::text::grouped;

/// What is asked again is asked soon.
const SOON_US: i64 = 600_000_000;
/// Calls that wait to be asked again, of one agent.
const OPEN: usize = 64;

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let is_late = |call: &CallFacts| match call.outcome {
        Outcome::ClientGone | Outcome::UpstreamUnavailable | Outcome::UpstreamCut => true,
        Outcome::UpstreamError => matches!(call.status, Some(408 | 504)),
        _ => false,
    };
    let drafts = asked_again(calls, Rule::TimeoutRetries, is_late, cost);
    drafts
        .into_iter()
        .map(|draft| words(draft, calls))
        .collect()
}

/// Claims what calls took that `came_to_nothing` and were followed by the same request.
pub(super) fn asked_again(
    calls: &[CallFacts],
    rule: Rule,
    came_to_nothing: impl Fn(&CallFacts) -> bool,
    claim: impl Fn(&CallFacts) -> Option<i64>,
) -> Vec<Draft> {
    let mut open: BTreeMap<&Label, VecDeque<usize>> = BTreeMap::new();
    let mut found: BTreeMap<(&Label, Option<&Label>), Draft> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let Some(sent) = &call.sent else { continue };
        let waiting = open.entry(&call.agent).or_default();
        let again = waiting.iter().position(|before| {
            calls.get(*before).is_some_and(|before| {
                let since = call.at.micros().saturating_sub(before.ended_at());
                let same = before
                    .sent
                    .as_ref()
                    .is_some_and(|it| it.asks_the_same(sent));
                same && before.run == call.run && (0..=SOON_US).contains(&since)
            })
        });
        if let Some(index) = again.and_then(|place| waiting.remove(place))
            && let Some(before) = calls.get(index)
        {
            let draft = found
                .entry((&before.agent, before.model.as_ref()))
                .or_insert_with(|| Draft::new(rule, before));
            draft.claim(index, claim(before), before.tokens());
        }
        if came_to_nothing(call) {
            waiting.push_back(at);
            if waiting.len() > OPEN {
                waiting.pop_front();
            }
        }
    }
    found.into_values().collect()
}

fn words(mut draft: Draft, calls: &[CallFacts]) -> Draft {
    let its = draft
        .claims
        .iter()
        .filter_map(|claim| calls.get(claim.call));
    let waited: u64 = its.map(|call| call.duration_us).sum();
    let count = grouped(draft.claims.len() as u64);
    draft.sentence = format!(
        "{} made {count} calls again that had timed out or broken off, after {} s of waiting.",
        draft.agent,
        grouped(waited / 1_000_000),
    );
    draft.evidence("calls made again", &count);
    draft.evidence(
        "seconds until they were given up",
        &grouped(waited / 1_000_000),
    );
    draft.duration_us = waited;
    draft.assumption = "Counted is what the calls that came to nothing cost: what was generated before a \
                        client left is billed.";
    draft.fix(
        "Give the client a longer timeout, or stream, so that a long answer is not taken for none; \
                 ask for shorter outputs.",
    );
    draft
}
