//! Outputs that ended at their limit, and were asked for again or gone on with.

use std::collections::BTreeMap;

use super::facts::{CallFacts, PartKind, Sent, price};
use super::timeouts::{SOON_US, asked_again};
use super::{Draft, Rule, cost};
use crate::core::id::Label;
use crate::core::text::grouped;

/// `Go on where you stopped`, in bytes of a message; a longer one asks for something else.
const MAX_NUDGE: u32 = 160;

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let is_cut = |call: &CallFacts| call.is_cut && call.is_done();
    let is_whole = |call: &CallFacts| call.is_done() && !call.is_cut;
    let mut found = asked_again(calls, Rule::CutOutput, is_cut, is_whole);
    gone_on(calls, &mut found);
    found.into_values().map(words).collect()
}

type Found<'a> = BTreeMap<(&'a Label, Option<&'a Label>), Draft>;

/// Claims the input of calls that send a cut answer back to get the rest of it.
fn gone_on<'a>(calls: &'a [CallFacts], found: &mut Found<'a>) {
    let mut last: BTreeMap<_, usize> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let before = last.insert(call.talk(), at);
        let before = before.and_then(|before| calls.get(before));
        let Some(before) = before.filter(|before| before.is_cut && before.is_done()) else {
            continue;
        };
        let since = call.at.micros().saturating_sub(before.ended_at());
        let (Some(was), Some(sent)) = (&before.sent, &call.sent) else {
            continue;
        };
        if call.is_done() && (0..=SOON_US).contains(&since) && goes_on(was, sent) {
            let output = price(call.usage.output_tokens, call.rates.output);
            let input = cost(call).zip(output).map(|(all, output)| all - output);
            found
                .entry((&call.agent, call.model.as_ref()))
                .or_insert_with(|| Draft::new(Rule::CutOutput, call))
                .claim(at, input, call.usage.input_tokens);
        }
    }
}

/// The same as before, the answer as far as it came, and at most one word to go on.
fn goes_on(before: &Sent, now: &Sent) -> bool {
    let is_same =
        |(one, other): (&super::facts::Part, &super::facts::Part)| one.digest == other.digest;
    let is_front = before.parts.iter().zip(&now.parts).all(is_same);
    let rest = now.parts.get(before.parts.len()..).unwrap_or_default();
    let kinds: Vec<PartKind> = rest.iter().map(|part| part.kind).collect();
    let said = rest.first().and_then(|part| part.calls.as_ref());
    let nudge = rest.get(1).map_or(0, |part| part.bytes);
    is_front
        && said.is_none()
        && nudge <= MAX_NUDGE
        && matches!(
            kinds.as_slice(),
            [PartKind::Assistant] | [PartKind::Assistant, PartKind::User]
        )
}

fn words(mut draft: Draft) -> Draft {
    let count = grouped(draft.claims.len() as u64);
    draft.sentence = format!(
        "{} had outputs cut by their limit, and took {count} calls more to get them whole.",
        draft.agent
    );
    draft.evidence("calls that a higher limit would have spared", &count);
    draft.assumption = "With a limit high enough the first answer would have been whole. Where the same was \
                        asked again within 10 minutes and then answered whole, the cut call is counted; \
                        where the cut answer was sent back to be gone on with, the input of that call.";
    draft.fix("Raise the output limit of these calls, or ask for less at once.");
    draft
}
