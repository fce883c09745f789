//! The same request, byte for byte, answered more than once within an hour.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::CallFacts;
use super::{Draft, Rule, cost};
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::text::grouped;

/// What is asked again later may have another answer by then.
const RECENT_US: i64 = 3_600_000_000;

type Asked<'a> = (&'a Label, Option<&'a Label>, &'a Label, Digest);
type Key<'a> = (&'a Label, Option<&'a Label>);

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    // Of each request the answer that would have been kept.
    let mut kept: BTreeMap<Asked<'_>, &CallFacts> = BTreeMap::new();
    let mut found: BTreeMap<Key<'_>, (Draft, BTreeSet<Digest>)> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let is_whole = call.is_done() && !call.is_cut;
        // What the provider adds of earlier turns may be other than before.
        let sent = call.sent.as_ref().filter(|sent| sent.earlier.is_none());
        let Some(sent) = sent.filter(|_| is_whole) else {
            continue;
        };
        let key = (&call.agent, call.model.as_ref());
        let first = *kept
            .entry((key.0, key.1, &call.upstream, sent.body))
            .or_insert(call);
        if first.id == call.id {
            continue;
        }
        let since = call.at.micros().saturating_sub(first.ended_at());
        if since > RECENT_US {
            kept.insert((key.0, key.1, &call.upstream, sent.body), call);
        } else if since >= 0 {
            let (draft, bodies) = found
                .entry(key)
                .or_insert_with(|| (Draft::new(Rule::RepeatedRequest, call), BTreeSet::new()));
            draft.claim(at, cost(call), call.tokens());
            bodies.insert(sent.body);
        }
    }
    let found = found.into_values();
    found
        .map(|(draft, bodies)| words(draft, bodies.len() as u64))
        .collect()
}

fn words(mut draft: Draft, requests: u64) -> Draft {
    let count = grouped(draft.claims.len() as u64);
    draft.sentence = format!(
        "{} sent requests that had been answered within the hour before, byte for byte, {count} times more.",
        draft.agent
    );
    draft.evidence("requests that came again", &grouped(requests));
    draft.evidence("calls after the first of each", &count);
    draft.assumption = "An answer would have done for an hour. Requests at one time are not counted, since \
                        several samples may be wanted; where they are wanted one after the other, ignore \
                        this.";
    draft.fix("Keep the answer under a hash of the request for an hour, and look there first.");
    draft
}
