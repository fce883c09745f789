//! Conversations that send the same front again and again to a provider that caches only what it is
//! asked to, and never ask.

use std::collections::BTreeMap;

use super::align::part_from;
use super::cache::LIFETIME_US;
use super::facts::{Caching, CallFacts, Talk, price};
use super::least::cached_from;
use super::net::Net;
use super::{Draft, Rule};
use crate::core::id::Label;
use crate::core::text::grouped;

#[derive(Default)]
struct Dialogue {
    net: Net,
    last: Option<usize>,
    /// The same calls would be held by the cache, by tokens.
    repeated: u64,
}

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    type Key<'a> = (Talk<'a>, Option<&'a Label>, &'a Label);
    let mut dialogues: BTreeMap<Key<'_>, Dialogue> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let Some(sent) = call.sent.as_ref().filter(|_| call.is_done()) else {
            continue;
        };
        let is_cached =
            call.usage.cache_read_input_tokens + call.usage.cache_write_input_tokens > 0;
        if sent.caching != Caching::NotAsked || !sent.is_countable() || is_cached {
            continue;
        }
        let key = (call.talk(), call.model.as_ref(), &call.upstream);
        let dialogue = dialogues.entry(key).or_default();
        let before = dialogue.last.and_then(|before| calls.get(before));
        let held = before.map_or(0, |before| held(before, call));
        dialogue.repeated += held;
        dialogue.net.push(at, gain(call, held), held);
        dialogue.last = Some(at);
    }
    let mut found: BTreeMap<(&Label, Option<&Label>), Draft> = BTreeMap::new();
    for ((talk, model, _), dialogue) in dialogues {
        let claims = dialogue.net.claims();
        let Some(first) = claims.first().and_then(|claim| calls.get(claim.call)) else {
            continue;
        };
        let draft = found
            .entry((talk.0, model))
            .or_insert_with(|| Draft::new(Rule::CacheBroken, first));
        draft.claims.extend(claims);
    }
    found.into_values().map(words).collect()
}

/// Tokens of a call that a cache would hold after the one before.
fn held(before: &CallFacts, call: &CallFacts) -> u64 {
    let since = call.at.micros().saturating_sub(before.ended_at());
    let (Some(was), Some(is)) = (&before.sent, &call.sent) else {
        return 0;
    };
    if !(0..=LIFETIME_US).contains(&since) {
        return 0;
    }
    let kept = match part_from(was, is) {
        Some(broken) => broken.kept,
        None => was.bytes().min(is.bytes()),
    };
    let tokens = call.tokens_of(kept);
    let least = cached_from(call.model.as_ref());
    if tokens < least { 0 } else { tokens }
}

/// What reading `held` tokens spares, less what writing the others costs.
fn gain(call: &CallFacts, held: u64) -> Option<i64> {
    let rates = call.rates;
    let (input, read, write) = (rates.input?, rates.cache_read?, rates.cache_write?);
    let spared = price(held, Some(input.saturating_sub(read)))?;
    let new = call.usage.input_tokens.saturating_sub(held);
    let written = price(new, Some(write.saturating_sub(input)))?;
    Some(spared - written)
}

fn words(mut draft: Draft) -> Draft {
    let count = grouped(draft.claims.len() as u64);
    let tokens: u64 = draft.claims.iter().map(|claim| claim.tokens).sum();
    draft.sentence = format!(
        "{} sends the same front again and again and never asks for it to be cached: in {count} calls {} \
         tokens were billed in full that a cache would have held.",
        draft.agent,
        grouped(tokens),
    );
    draft.evidence("tokens that came again", &grouped(tokens));
    draft.assumption = "This provider caches only what the client marks, and no call of these conversations \
                        had marks. Counted is what a mark at the end of each request would have spared: \
                        reads in place of input for what the call before within 5 minutes had sent, less \
                        what writing the rest to the cache costs more than input. A prompt is taken to be \
                        cached from 1,024 tokens on, or from 2,048 or 4,096 where the provider is known to \
                        say so of the model.";
    draft.fix(
        "Set `cache_control` at the end of the instructions and of the last message of each request.",
    );
    draft
}
