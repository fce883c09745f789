//! Calls of one template, one after the other, of which none repeats what another answered.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{CallFacts, PartKind, Sent};
use super::words::Words;
use super::{Draft, Rule};
use crate::core::id::Label;
use crate::core::text::grouped;

/// Between one call and the next of a sequence.
const GAP_US: i64 = 2_000_000;
const MIN_LENGTH: usize = 3;
/// Calls of one sequence that are held against each other.
const MAX_LENGTH: usize = 64;
/// One in so many new words of a question may be from an answer by chance.
const CHANCE: usize = 4;

/// A sequence that grows: its calls, by place.
type Sequence = Vec<usize>;

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let mut growing: BTreeMap<(&Label, &Label), Sequence> = BTreeMap::new();
    let mut found: BTreeMap<&Label, Draft> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let Some(run) = &call.run else { continue };
        let sequence = growing.entry((run, &call.agent)).or_default();
        if !goes_on(sequence, call, calls) {
            close(&std::mem::take(sequence), calls, &mut found);
        }
        if question(call).is_some() && call.answered.is_some() {
            sequence.push(at);
        }
    }
    for sequence in growing.into_values() {
        close(&sequence, calls, &mut found);
    }
    found.into_values().map(words).collect()
}

/// What a call asks that is a question of its own: nothing was answered in it yet.
fn question(call: &CallFacts) -> Option<(&Sent, &Words)> {
    let sent = call.sent.as_ref().filter(|_| call.is_done())?;
    let is_answered = |kind| matches!(kind, PartKind::Assistant | PartKind::ToolResult);
    let is_first = sent.earlier.is_none() && !sent.parts.iter().any(|part| is_answered(part.kind));
    Some((sent, sent.asked.as_deref()?)).filter(|_| is_first)
}

fn goes_on(sequence: &Sequence, call: &CallFacts, calls: &[CallFacts]) -> bool {
    let Some(last) = sequence.last().and_then(|at| calls.get(*at)) else {
        return true;
    };
    let (Some((before, _)), Some((sent, asked))) = (question(last), question(call)) else {
        return false;
    };
    let gap = call.at.micros().saturating_sub(last.ended_at());
    (0..=GAP_US).contains(&gap)
        && sequence.len() < MAX_LENGTH
        && last.model == call.model
        && has_the_same_front(before, sent)
        && before.body != sent.body
        && asked.is_known()
        && is_of_one_template(asked, sequence, calls)
        && !leans_on(asked, sequence, calls)
}

/// The same instructions, and only the last message is another.
fn has_the_same_front(before: &Sent, sent: &Sent) -> bool {
    let front = |sent: &Sent| {
        let front = sent.parts.len().saturating_sub(1);
        let front = sent.parts.iter().take(front);
        front.map(|part| part.digest).collect::<Vec<_>>()
    };
    let shared = front(sent);
    !shared.is_empty() && front(before) == shared
}

/// Whether most words are those of the first question. Steps of a program that need each other through
/// what it does in between rarely ask the same of another thing.
fn is_of_one_template(asked: &Words, sequence: &Sequence, calls: &[CallFacts]) -> bool {
    let first = sequence.first().and_then(|at| calls.get(*at));
    let first = first.and_then(question);
    first.is_some_and(|(_, first)| asked.is_mostly(first))
}

/// Whether what is asked may be taken from what was answered in the sequence. An answer that is too
/// short, or too long, to be known again may have been taken.
fn leans_on(asked: &Words, sequence: &Sequence, calls: &[CallFacts]) -> bool {
    let its = || sequence.iter().filter_map(|at| calls.get(*at));
    let questions: Vec<&Words> = its().filter_map(|call| Some(question(call)?.1)).collect();
    let answers: Vec<&Words> = its()
        .filter_map(|call| Some(&call.answered.as_ref()?.words))
        .collect();
    let is_quoted = |answer: &&Words| !answer.is_known() || asked.shares_a_row(answer);
    let Some(first) = questions.first() else {
        return true;
    };
    let new: BTreeSet<u32> = asked
        .beyond(first)
        .filter(|word| !questions.iter().any(|question| question.has(*word)))
        .collect();
    let taken = new
        .iter()
        .filter(|word| answers.iter().any(|answer| answer.has(**word)));
    answers.iter().any(is_quoted) || taken.count() * CHANCE >= new.len().max(1)
}

fn close<'a>(sequence: &[usize], calls: &'a [CallFacts], found: &mut BTreeMap<&'a Label, Draft>) {
    let its = || {
        sequence
            .iter()
            .filter_map(|at| Some((*at, calls.get(*at)?)))
    };
    let longest = its().max_by_key(|(_, call)| call.duration_us);
    let (Some((_, first)), Some((longest, _))) = (its().next(), longest) else {
        return;
    };
    if sequence.len() < MIN_LENGTH {
        return;
    }
    let draft = found
        .entry(&first.agent)
        .or_insert_with(|| Draft::new(Rule::Parallel, first));
    for (at, call) in its() {
        let us = if at == longest { 0 } else { call.duration_us };
        draft.claim_time(at, us);
    }
}

fn words(mut draft: Draft) -> Draft {
    let us: u64 = draft.claims.iter().map(|claim| claim.us).sum();
    let seconds = grouped(us / 1_000_000);
    draft.sentence = format!(
        "{} makes {} calls of one template one after the other, of which none repeats an answer of another: \
         at once they would take {seconds} s less.",
        draft.agent,
        grouped(draft.claims.len() as u64),
    );
    draft.evidence("seconds saved", &seconds);
    draft.assumption = "Calls of one run with the same instructions and another last message, of which most words \
                        are those of the first, each within 2 s after the one before. None repeats four words in a \
                        row of an earlier answer, nor takes a quarter of its new words from there; answers of less \
                        than four words end a sequence. What a tool or a program made of an answer in between is not \
                        seen: where a call needs the result of that, it has to wait. At once they would take as long \
                        as the longest. No tokens are saved.";
    draft.fix("Make these calls concurrently, if none needs what came of another.");
    draft
}
