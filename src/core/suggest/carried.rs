//! Long tool results that a conversation sends along, call after call.

use std::collections::BTreeMap;

use super::facts::{CallFacts, PartKind, price};
use super::{Draft, Rule};
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::text::grouped;

/// Shorter results are not worth a rule.
const MIN_TOKENS: u64 = 1000;
/// What stays in the place of a result: a line that says what it was.
const LEFT: u64 = 100;
/// In so many calls a result may still be worked on.
const FRESH: u32 = 5;

type Held<'a> = (&'a Label, Option<&'a Label>, Option<&'a Label>, Digest);

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let mut times: BTreeMap<Held<'_>, u32> = BTreeMap::new();
    let mut found: BTreeMap<(&Label, Option<&Label>), Draft> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let Some(sent) = &call.sent else { continue };
        let mut idle = 0;
        for part in sent
            .parts
            .iter()
            .filter(|part| part.kind == PartKind::ToolResult)
        {
            let tokens = call.tokens_of(u64::from(part.bytes));
            if tokens < MIN_TOKENS {
                continue;
            }
            let held = (
                &call.agent,
                call.run.as_ref(),
                call.conversation.as_ref(),
                part.digest,
            );
            let times = times.entry(held).or_default();
            *times += 1;
            if *times > FRESH {
                idle += tokens - LEFT;
            }
        }
        if idle > 0 {
            found
                .entry((&call.agent, call.model.as_ref()))
                .or_insert_with(|| Draft::new(Rule::CarriedResults, call))
                .claim(at, price(idle, call.least_rate()), idle);
        }
    }
    let results = |agent: &Label| {
        let its = times
            .iter()
            .filter(|((its, ..), times)| *its == agent && **times > FRESH);
        its.count() as u64
    };
    found
        .into_values()
        .map(|draft| words(draft, results))
        .collect()
}

fn words(mut draft: Draft, results: impl Fn(&Label) -> u64) -> Draft {
    let tokens: u64 = draft.claims.iter().map(|claim| claim.tokens).sum();
    let results = grouped(results(&draft.agent));
    draft.sentence = format!(
        "{} sends {results} tool results of 1,000 tokens and more along for more than {FRESH} calls: \
         {} tokens in {} calls.",
        draft.agent,
        grouped(tokens),
        grouped(draft.claims.len() as u64),
    );
    draft.evidence("tool results carried", &results);
    draft.assumption = "From the sixth call on a line of 100 tokens would do in the place of each result. \
                        Counted at the price of a cache read where the call read from the cache, else at \
                        that of input. Whether a later answer leaned on a result cannot be seen.";
    draft.fix(
        "Replace tool results that are more than five calls old by a line that says what they \
                 were; do it in large steps, since each change breaks the prompt cache once.",
    );
    draft
}
