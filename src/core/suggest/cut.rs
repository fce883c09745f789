//! Outputs that ended at their limit, and were asked for again or gone on with.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{CallFacts, PartKind, Talk, price};
use super::timeouts::{SOON_US, asked_again};
use super::{Draft, Rule, cost};
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::text::grouped;

/// `Go on where you stopped`, in bytes of a message; a longer one asks for something else.
const MAX_NUDGE: u32 = 160;
/// What a person happens to say next does not come again in another conversation.
const MIN_TALKS: usize = 2;

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let is_cut = |call: &CallFacts| call.is_cut && call.is_done();
    let is_whole = |call: &CallFacts| call.is_done() && !call.is_cut;
    let mut found = asked_again(calls, Rule::CutOutput, is_cut, is_whole);
    gone_on(calls, &mut found);
    found.into_values().map(words).collect()
}

type Found<'a> = BTreeMap<(&'a Label, Option<&'a Label>), Draft>;

/// What follows a cut answer that is sent back.
#[derive(Clone, Copy)]
enum Then {
    /// Nothing, or a word to go on.
    Rest,
    /// A short message, which may ask for the rest or be the next turn of a person.
    Short(Digest),
}

/// A message of an agent and the conversations in which it asks for the rest of a cut answer.
type Asking<'a> = BTreeMap<(&'a Label, Digest), BTreeSet<Talk<'a>>>;

/// Claims the input of calls that send a cut answer back to get the rest of it.
fn gone_on<'a>(calls: &'a [CallFacts], found: &mut Found<'a>) {
    let mut last: BTreeMap<_, usize> = BTreeMap::new();
    let mut followed = Vec::new();
    let mut asking = Asking::new();
    let mut otherwise = BTreeSet::new();
    for (at, call) in calls.iter().enumerate() {
        let before = last.insert(call.talk(), at);
        let before = before.and_then(|before| calls.get(before));
        match before.and_then(|before| then(before, call)) {
            Some(then) => {
                if let Then::Short(text) = then {
                    let talks = asking.entry((&call.agent, text)).or_default();
                    talks.insert(call.talk());
                }
                followed.push((at, call, then));
            }
            None => otherwise.extend(short(call).map(|text| (&call.agent, text))),
        }
    }
    for (at, call, then) in followed {
        let is_for_the_rest = match then {
            Then::Rest => true,
            Then::Short(text) => {
                let key = (&call.agent, text);
                let talks = asking.get(&key).map_or(0, BTreeSet::len);
                talks >= MIN_TALKS && !otherwise.contains(&key)
            }
        };
        if is_for_the_rest {
            let output = price(call.usage.output_tokens, call.rates.output);
            let input = cost(call).zip(output).map(|(all, output)| all - output);
            found
                .entry((&call.agent, call.model.as_ref()))
                .or_insert_with(|| Draft::new(Rule::CutOutput, call))
                .claim(at, input, call.usage.input_tokens);
        }
    }
}

/// The short message at the end of a request.
fn short(call: &CallFacts) -> Option<Digest> {
    let last = call.sent.as_ref()?.parts.last()?;
    let is_short = last.kind == PartKind::User && last.bytes <= MAX_NUDGE;
    is_short.then_some(last.digest)
}

/// What follows where a call sends the same as one before that was cut, and its answer as far as it came.
fn then(before: &CallFacts, call: &CallFacts) -> Option<Then> {
    let since = call.at.micros().saturating_sub(before.ended_at());
    let is_soon = call.is_done() && (0..=SOON_US).contains(&since);
    let (was, now) = (before.sent.as_ref()?, call.sent.as_ref()?);
    let mut pairs = was.parts.iter().zip(&now.parts);
    let is_front = pairs.all(|(one, other)| one.digest == other.digest);
    if !(before.is_cut && before.is_done() && is_soon && is_front) {
        return None;
    }
    let (said, rest) = now.parts.get(was.parts.len()..)?.split_first()?;
    if said.kind != PartKind::Assistant || said.calls.is_some() {
        return None;
    }
    match rest {
        [] => Some(Then::Rest),
        [next] if next.kind != PartKind::User => None,
        [next] if next.is_nudge => Some(Then::Rest),
        [_] => short(call).map(Then::Short),
        _ => None,
    }
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
                        where the cut answer was sent back to be gone on with, the input of that call. It was \
                        so where nothing followed it, or no more than a word to go on, or a short message that \
                        follows cut answers alone, in two conversations of the agent or more.";
    draft.fix("Raise the output limit of these calls, or ask for less at once.");
    draft
}
