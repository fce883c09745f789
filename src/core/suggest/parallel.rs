//! Calls one after the other of which none needed the one before.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{CallFacts, PartKind, Sent};
use super::{Draft, Rule};
use crate::core::id::Label;
use crate::core::text::grouped;

/// Between one call and the next of a sequence.
const GAP_US: i64 = 2_000_000;
const MIN_LENGTH: usize = 3;

/// A sequence that grows: its calls, what they answered.
#[derive(Default)]
struct Sequence {
    calls: Vec<usize>,
    said: BTreeSet<u64>,
}

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let mut growing: BTreeMap<(&Label, &Label), Sequence> = BTreeMap::new();
    let mut found: BTreeMap<&Label, Draft> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let Some(run) = &call.run else { continue };
        let sequence = growing.entry((run, &call.agent)).or_default();
        if !goes_on(sequence, call, calls) {
            close(std::mem::take(sequence), calls, &mut found);
        }
        if let (true, Some(answered)) = (is_first_turn(call), &call.answered) {
            sequence.calls.push(at);
            sequence.said.extend(&answered.lines);
        }
    }
    for sequence in growing.into_values() {
        close(sequence, calls, &mut found);
    }
    found.into_values().map(words).collect()
}

/// A question of its own: nothing was answered in it yet.
fn is_first_turn(call: &CallFacts) -> bool {
    let alone = |sent: &Sent| {
        let mut kinds = sent.parts.iter().map(|part| part.kind);
        kinds.all(|kind| !matches!(kind, PartKind::Assistant | PartKind::ToolResult))
    };
    call.is_done() && call.sent.as_ref().is_some_and(alone)
}

fn goes_on(sequence: &Sequence, call: &CallFacts, calls: &[CallFacts]) -> bool {
    let Some(last) = sequence.calls.last().and_then(|at| calls.get(*at)) else {
        return true;
    };
    let (Some(before), Some(sent)) = (&last.sent, &call.sent) else {
        return false;
    };
    let gap = call.at.micros().saturating_sub(last.ended_at());
    let front = |sent: &Sent| {
        let front = sent.parts.len().saturating_sub(1);
        sent.parts
            .iter()
            .take(front)
            .map(|part| part.digest)
            .collect::<Vec<_>>()
    };
    let shared = front(sent);
    (0..=GAP_US).contains(&gap)
        && is_first_turn(call)
        && last.model == call.model
        && !shared.is_empty()
        && front(before) == shared
        && before.body != sent.body
        && !sent.lines.iter().any(|line| sequence.said.contains(line))
}

fn close<'a>(sequence: Sequence, calls: &'a [CallFacts], found: &mut BTreeMap<&'a Label, Draft>) {
    let its = || sequence.calls.iter().filter_map(|at| calls.get(*at));
    let Some(first) = its().next().filter(|_| sequence.calls.len() >= MIN_LENGTH) else {
        return;
    };
    let all: u64 = its().map(|call| call.duration_us).sum();
    let longest = its().map(|call| call.duration_us).max().unwrap_or(0);
    let draft = found
        .entry(&first.agent)
        .or_insert_with(|| Draft::new(Rule::Parallel, first));
    draft.duration_us += all - longest;
    for at in sequence.calls {
        draft.claim(at, None, 0);
    }
}

fn words(mut draft: Draft) -> Draft {
    let seconds = grouped(draft.duration_us / 1_000_000);
    draft.sentence = format!(
        "{} makes {} calls one after the other that do not need each other: at once they would take {seconds} \
         s less.",
        draft.agent,
        grouped(draft.claims.len() as u64),
    );
    draft.evidence("seconds saved", &seconds);
    draft.assumption = "Calls of one run with the same instructions and another last message, each within 2 s \
                        after the one before, none of which repeats a line that an earlier one answered. At \
                        once they would take as long as the longest. No tokens are saved.";
    draft.fix("Make these calls concurrently.");
    draft
}
