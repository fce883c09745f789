//! The same request, byte for byte, answered more than once.

use std::collections::BTreeMap;

use super::facts::CallFacts;
use super::{Draft, Rule, cost};
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::text::grouped;

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let mut seen: BTreeMap<(&Label, &Label, Digest), u64> = BTreeMap::new();
    let mut found: BTreeMap<(&Label, Option<&Label>), Draft> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let done = call.is_done() && !call.is_cut;
        let Some(sent) = call.sent.as_ref().filter(|_| done) else {
            continue;
        };
        let times = seen
            .entry((&call.agent, &call.upstream, sent.body))
            .or_default();
        *times += 1;
        if *times > 1 {
            found
                .entry((&call.agent, call.model.as_ref()))
                .or_insert_with(|| Draft::new(Rule::RepeatedRequest, call))
                .claim(at, cost(call), call.tokens());
        }
    }
    let requests = |agent: &Label| {
        let its = seen
            .iter()
            .filter(|((its, ..), times)| *its == agent && **times > 1);
        its.count() as u64
    };
    found
        .into_values()
        .map(|draft| words(draft, requests))
        .collect()
}

fn words(mut draft: Draft, requests: impl Fn(&Label) -> u64) -> Draft {
    let count = grouped(draft.claims.len() as u64);
    draft.sentence = format!(
        "{} sent requests that had been answered before, byte for byte, {count} times more.",
        draft.agent
    );
    draft.evidence("requests that came again", &grouped(requests(&draft.agent)));
    draft.evidence("calls after the first of each", &count);
    draft.assumption = "The first answer to each request would have done: not where several samples of \
                        one request are wanted.";
    draft.fix("Keep the answer under a hash of the request, and look there first.");
    draft
}
