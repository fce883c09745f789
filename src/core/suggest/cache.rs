//! A request whose front differs from the one before in what should not differ, so that the
//! provider cannot take the rest from its cache.

use std::collections::{BTreeMap, VecDeque};

use super::facts::{CallFacts, Part, PartKind, Sent, price};
use super::{Draft, Pair, Rule};
use crate::core::id::Label;
use crate::core::text::grouped;

/// Providers keep a cache for five minutes at least after it was used.
const LIFETIME_US: i64 = 300_000_000;
/// Shorter prompts are not cached.
const MIN_TOKENS: u64 = 1024;
/// Calls that a call is compared with.
const RECENT: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    Volatile,
    Reordered,
    Rewritten,
}

type Group<'a> = (&'a Label, Option<&'a Label>, &'a Label);

/// Where a request parts from the one before.
#[derive(Clone, Copy, Debug)]
struct Break {
    part: usize,
    kind: PartKind,
    how: How,
    /// Bytes in front of it, and bytes that would be cached if it stayed the same.
    kept: u64,
    could: u64,
}

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let mut recent: BTreeMap<Group<'_>, VecDeque<usize>> = BTreeMap::new();
    let mut found: BTreeMap<(Group<'_>, PartKind, usize, How), Draft> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let Some(sent) = call.sent.as_ref().filter(|_| call.is_done()) else {
            continue;
        };
        let group = (&call.agent, call.model.as_ref(), &call.upstream);
        let before = recent.entry(group).or_default();
        if let Some((other, broken, lost)) = lost(calls, before, call, sent) {
            let key = (group, broken.kind, broken.part, broken.how);
            let draft = found.entry(key).or_insert_with(|| Draft {
                pair: Some(Pair {
                    before: other.id,
                    after: call.id,
                    part: broken.part,
                }),
                ..Draft::new(Rule::CacheBroken, call)
            });
            let rate = call.rates.input.zip(call.rates.cache_read);
            let rate = rate.map(|(input, read)| input.saturating_sub(read));
            draft.claim(at, price(lost, rate), lost);
        }
        before.push_back(at);
        if before.len() > RECENT {
            before.pop_front();
        }
    }
    found
        .into_iter()
        .map(|((_, kind, part, how), draft)| words(draft, kind, part, how))
        .collect()
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
    if could < MIN_TOKENS {
        return None;
    }
    let read = call.usage.cache_read_input_tokens.max(call.tokens_of(kept));
    let lost = could.saturating_sub(read);
    (lost > 0).then_some((other, broken, lost))
}

/// None where nothing of what was sent before stands otherwise now.
fn part_from(before: &Sent, now: &Sent) -> Option<Break> {
    let pairs = || before.parts.iter().zip(&now.parts);
    let part = pairs().position(|(one, other)| one.digest != other.digest)?;
    let (was, is) = pairs().nth(part)?;
    let size = |part: &Part| u64::from(part.bytes);
    let kept: u64 = now.parts.iter().take(part).map(size).sum();
    let is_same = was.shape == is.shape && was.kind == is.kind;
    let follows = pairs().skip(part + 1);
    let follows = follows.take_while(|(one, other)| one.digest == other.digest);
    let follows: u64 = follows.map(|(_, part)| size(part)).sum();
    let how = match (is_same, is.kind) {
        (true, PartKind::Tools) => How::Reordered,
        (true, _) => How::Volatile,
        (false, _) => How::Rewritten,
    };
    // What is otherwise as a whole is no part of what could have been kept.
    let itself = if is_same { size(is) } else { 0 };
    let could = if is_same || follows > 0 {
        kept + itself + follows
    } else {
        kept
    };
    Some(Break {
        part,
        kind: is.kind,
        how,
        kept,
        could,
    })
}

fn words(mut draft: Draft, kind: PartKind, part: usize, how: How) -> Draft {
    let count = draft.claims.len() as u64;
    let tokens: u64 = draft.claims.iter().map(|claim| claim.tokens).sum();
    let what = match how {
        How::Volatile => "a time, an id or a number in it changes",
        How::Reordered => "the same tools come in another order",
        How::Rewritten => "its text changes while what follows stays",
    };
    draft.sentence = format!(
        "{} differs from call to call in {} (part {} of the request): {what}. In {} calls {} tokens \
         were billed in full that the provider's cache would have held.",
        draft.agent,
        kind.words(),
        part + 1,
        grouped(count),
        grouped(tokens),
    );
    draft.evidence(
        "first part that differs",
        &format!("{}, {}", part + 1, kind.words()),
    );
    draft.evidence("how", &what);
    draft.assumption = "Counted at the price of input less that of a cache read, for requests of 1,024 \
                        tokens or more within 5 minutes after one that ended, less what was read from \
                        the cache all the same; tokens of a part are its share of the input by bytes.";
    draft.fix(match how {
        How::Reordered => "Sort the tools by name before each request.",
        _ => "Put what changes (time, ids, counters, recalled facts) behind everything that stays: into \
              the last message instead of the instructions or the history.",
    });
    draft
}
