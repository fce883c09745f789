//! A request whose front differs from the one before in what should not differ, so that the
//! provider cannot take the rest from its cache.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::align::{Break, How, part_from};
use super::facts::{Caching, CallFacts, PartKind, Sent, price};
use super::least::cached_from;
use super::{Draft, Pair, Rule};
use crate::core::id::Label;
use crate::core::text::grouped;

/// Providers keep a cache for five minutes at least after it was used.
pub(super) const LIFETIME_US: i64 = 300_000_000;
/// Caches are kept in steps of about so many tokens: less is no loss.
const STEP: u64 = 256;
/// Calls that a call is compared with: others may go on at the same time.
const RECENT: usize = 16;

type Group<'a> = (&'a Label, Option<&'a Label>, &'a Label);

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let caching = caching(calls);
    let mut recent: BTreeMap<Group<'_>, VecDeque<usize>> = BTreeMap::new();
    let mut found: BTreeMap<(Group<'_>, PartKind, How), Draft> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let Some(sent) = call.sent.as_ref().filter(|_| call.is_done()) else {
            continue;
        };
        // Without a price for it, a model may know no cache at all.
        let is_cached = call.rates.cache_read.is_some()
            || caching.contains(&(&call.upstream, call.model.as_ref()));
        if sent.caching == Caching::NotAsked || !sent.is_countable() || !is_cached {
            continue;
        }
        let group = (&call.agent, call.model.as_ref(), &call.upstream);
        let before = recent.entry(group).or_default();
        if let Some((other, broken, lost)) = lost(calls, before, call, sent) {
            let key = (group, broken.kind, broken.how);
            let draft = found
                .entry(key)
                .or_insert_with(|| first(other, call, &broken));
            let rate = rate(call, lost);
            draft.claim(at, price(lost, rate), lost);
        }
        before.push_back(at);
        if before.len() > RECENT {
            before.pop_front();
        }
    }
    let mut drafts: Vec<Draft> = found
        .into_iter()
        .map(|((_, kind, how), draft)| words(draft, kind, how))
        .collect();
    drafts.extend(super::uncached::find(calls));
    drafts
}

/// The models that were seen to read from a cache.
fn caching(calls: &[CallFacts]) -> BTreeSet<(&Label, Option<&Label>)> {
    let read = |call: &&CallFacts| call.usage.cache_read_input_tokens > 0;
    let its = calls.iter().filter(read);
    its.map(|call| (&call.upstream, call.model.as_ref()))
        .collect()
}

fn first(other: &CallFacts, call: &CallFacts, broken: &Break) -> Draft {
    let mut draft = Draft {
        pair: Some(Pair {
            before: other.id,
            after: call.id,
            part: broken.part,
        }),
        ..Draft::new(Rule::CacheBroken, call)
    };
    let place = format!("{}, {}", broken.part + 1, broken.kind.words());
    draft.evidence("first part that differs", &place);
    draft
}

/// What a lost token cost more than a cache read.
fn rate(call: &CallFacts, lost: u64) -> Option<u64> {
    let was_written = call.usage.cache_write_input_tokens >= lost;
    let paid = call.rates.cache_write.filter(|_| was_written);
    let (paid, read) = paid.or(call.rates.input).zip(call.rates.cache_read)?;
    Some(paid.saturating_sub(read))
}

/// The tokens of a call that would have come from the cache, and what they are lost by.
fn lost<'a>(
    calls: &'a [CallFacts],
    before: &VecDeque<usize>,
    call: &CallFacts,
    sent: &Sent,
) -> Option<(&'a CallFacts, Break, u64)> {
    let warm = |other: &&CallFacts| {
        let since = call.at.micros().saturating_sub(other.ended_at());
        (0..=LIFETIME_US).contains(&since)
    };
    let others = before.iter().filter_map(|at| calls.get(*at)).filter(warm);
    let mut kept = 0;
    let mut best: Option<(&CallFacts, Break)> = None;
    for other in others {
        let before = other.sent.as_ref()?;
        let Some(broken) = part_from(before, sent) else {
            // It goes on from that one as it should.
            return None;
        };
        kept = kept.max(broken.kept);
        if best.is_none_or(|(_, best)| broken.could > best.could) {
            best = Some((other, broken));
        }
    }
    let (other, broken) = best?;
    let could = call.tokens_of(broken.could);
    let read = call.usage.cache_read_input_tokens.max(call.tokens_of(kept));
    let lost = could.saturating_sub(read);
    (could >= cached_from(call.model.as_ref()) && lost >= STEP).then_some((other, broken, lost))
}

fn words(mut draft: Draft, kind: PartKind, how: How) -> Draft {
    let count = draft.claims.len() as u64;
    let tokens: u64 = draft.claims.iter().map(|claim| claim.tokens).sum();
    let what = match how {
        How::Volatile => "a time, an id or a number in it changes",
        How::Reordered => "the same tools come in another order",
        How::Rewritten => "its text changes while what follows stays",
        How::Inserted => "something is put in front of it that was not there before",
        How::Dropped => "what stood in its place is dropped while what follows stays",
    };
    draft.sentence = format!(
        "{} differs from call to call in {}: {what}. In {} calls {} tokens were billed in full that the \
         provider's cache would have held.",
        draft.agent,
        kind.words(),
        grouped(count),
        grouped(tokens),
    );
    draft.evidence("how", &what);
    draft.assumption = "Counted at the price of input (of a cache write, where it was written anew) less that \
                        of a cache read, for requests within 5 minutes after one that ended, less what was \
                        read from the cache all the same. A prompt is taken to be cached from 1,024 tokens on, \
                        or from 2,048 or 4,096 where the provider is known to say so of the model; a model \
                        without a price only where it was seen to read from a cache. Tokens of a part are its \
                        share of the text by bytes. Of a part that changes itself only the words without \
                        digits count.";
    draft.fix(match how {
        How::Reordered => "Sort the tools by name before each request.",
        How::Dropped => {
            "Drop old messages seldom and many at once, not a few before each request: each time the cache is \
             lost."
        }
        _ => {
            "Put what changes (time, ids, counters, recalled facts) behind everything that stays: into the \
             last message instead of the instructions or the history."
        }
    });
    draft
}
