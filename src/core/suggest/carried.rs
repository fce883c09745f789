//! Long tool results that a conversation sends along, call after call, though nothing quotes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::facts::{CallFacts, Part, PartKind, Talk, price};
use super::net::Net;
use super::words::Words;
use super::{Draft, Rule};
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::text::grouped;

/// Shorter results are not worth a rule.
const MIN_TOKENS: u64 = 1000;
/// What stays in the place of a result: a line that says what it was.
const LEFT: u64 = 100;
/// In so many calls a result may still be worked on.
const FRESH: usize = 5;
/// Results of one conversation that are looked at.
const MAX_RESULTS: usize = 256;

/// Moments of one conversation that are tried.
const MAX_MOMENTS: usize = 32;

/// A call of a conversation that carries a result.
#[derive(Clone, Copy)]
struct Carrying {
    call: usize,
    tokens: u64,
    /// Tokens of the request behind the result.
    behind: u64,
}

#[derive(Default)]
struct Held {
    words: Option<Arc<Words>>,
    by: Vec<Carrying>,
    is_used: bool,
}

impl Held {
    /// The calls that carry it though it is old.
    fn stale(&self) -> &[Carrying] {
        let stale = self.by.get(FRESH..).unwrap_or_default();
        if self.is_used { &[] } else { stale }
    }
}

type Results = BTreeMap<Digest, Held>;

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let mut talks: BTreeMap<Talk<'_>, Results> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| call.is_done()) {
        let held = talks.entry(call.talk()).or_default();
        carry(held, at, call);
    }
    let mut found: BTreeMap<(&Label, Option<&Label>), (Draft, u64)> = BTreeMap::new();
    for results in talks.values() {
        let Some((net, count)) = best(results, calls) else {
            continue;
        };
        let claims = net.claims();
        let Some(first) = claims.first().and_then(|claim| calls.get(claim.call)) else {
            continue;
        };
        let (draft, all) = found
            .entry((&first.agent, first.model.as_ref()))
            .or_insert_with(|| (Draft::new(Rule::CarriedResults, first), 0));
        draft.claims.extend(claims);
        *all += count;
    }
    let found = found.into_values();
    found.map(|(draft, count)| words(draft, count)).collect()
}

fn carry(held: &mut Results, at: usize, call: &CallFacts) {
    let Some(sent) = &call.sent else { return };
    let mut front = 0;
    for part in &sent.parts {
        front += u64::from(part.bytes);
        let tokens = call.tokens_of(u64::from(part.bytes));
        if part.kind != PartKind::ToolResult || tokens < MIN_TOKENS {
            continue;
        }
        if held.len() >= MAX_RESULTS && !held.contains_key(&part.digest) {
            continue;
        }
        let behind = call.tokens_of(sent.bytes().saturating_sub(front));
        hold(
            held.entry(part.digest).or_default(),
            part,
            call,
            Carrying {
                call: at,
                tokens,
                behind,
            },
        );
    }
}

/// An answer that repeats a result, or that nobody can read, may need it.
fn hold(held: &mut Held, part: &Part, call: &CallFacts, carrying: Carrying) {
    held.by.push(carrying);
    if held.words.is_none() {
        held.words.clone_from(&part.words);
    }
    if held.by.len() > FRESH {
        held.is_used |= match (&held.words, &call.answered) {
            (Some(words), Some(answered)) => answered.words.may_share_a_row(words),
            _ => true,
        };
    }
}

/// The moment at which leaving out what is old pays most, and how many results that are.
fn best(results: &Results, calls: &[CallFacts]) -> Option<(Net, u64)> {
    let moments = results.values().filter_map(|held| held.stale().first());
    let moments: BTreeSet<usize> = moments.map(|it| it.call).collect();
    let step = moments.len().div_ceil(MAX_MOMENTS).max(1);
    let worth = |moment: usize| {
        let (spared, count) = spared(results, calls, moment);
        let net: i64 = spared.values().map(|(nano, _)| nano.unwrap_or(0)).sum();
        (net, moment, count)
    };
    let (_, moment, count) = moments.into_iter().step_by(step).map(worth).max()?;
    let mut net = Net::default();
    for (call, (nano, tokens)) in spared(results, calls, moment).0 {
        net.push(call, nano, tokens);
    }
    Some((net, count))
}

/// What leaving out all that is old at `moment`, and for good, spares each call from then on. The
/// first has to have cached anew what stands behind the first gap; that some of it is left out too
/// is not taken off.
fn spared(
    results: &Results,
    calls: &[CallFacts],
    moment: usize,
) -> (BTreeMap<usize, (Option<i64>, u64)>, u64) {
    let mut spared: BTreeMap<usize, (Option<i64>, u64)> = BTreeMap::new();
    let (mut behind, mut count) = (0, 0);
    for held in results.values() {
        let stale = held.stale();
        let Some(now) = stale.iter().find(|it| it.call == moment) else {
            continue;
        };
        behind = behind.max(now.behind);
        count += 1;
        for it in stale.iter().filter(|it| it.call >= moment) {
            let Some(call) = calls.get(it.call) else {
                continue;
            };
            let tokens = it.tokens - LEFT;
            let nano = price(tokens, call.least_rate());
            let (all, sum) = spared.entry(it.call).or_insert((Some(0), 0));
            *all = all.zip(nano).map(|(one, other)| one.saturating_add(other));
            *sum += tokens;
        }
    }
    if let (Some(call), Some((nano, _))) = (calls.get(moment), spared.get_mut(&moment)) {
        let again = behind.min(call.usage.cache_read_input_tokens);
        let more = call.rates.cache_write.zip(call.rates.cache_read);
        let more = more.map(|(write, read)| write.saturating_sub(read));
        let cost = if again == 0 {
            Some(0)
        } else {
            price(again, more)
        };
        *nano = nano.zip(cost).map(|(gain, cost)| gain - cost);
    }
    (spared, count)
}

fn words(mut draft: Draft, results: u64) -> Draft {
    let tokens: u64 = draft.claims.iter().map(|claim| claim.tokens).sum();
    let results = grouped(results);
    draft.sentence = format!(
        "{} sends {results} tool results of 1,000 tokens and more along that no later answer quotes: {} \
         tokens in {} calls.",
        draft.agent,
        grouped(tokens),
        grouped(draft.claims.len() as u64),
    );
    draft.evidence("tool results carried", &results);
    draft.assumption = "In each conversation, once, all results that five calls had carried are replaced by a \
                        line of 100 tokens, at the moment at which that pays most. The history behind them \
                        is then cached anew, which is taken off. Counted at the price of a cache read where \
                        the call read from the cache, else at that of input. Results of which a later \
                        answer repeats four words in a row are left; that an answer leaned on one without \
                        a word of it cannot be seen.";
    draft.fix(
        "Replace tool results that are more than five calls old by a line that says what they \
         were; do it once, for many at a time: each change breaks the prompt cache.",
    );
    draft
}
