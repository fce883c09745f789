//! Two models that do the same kind of call as well as each other, at different prices.

use std::collections::BTreeMap;

use super::facts::{CallFacts, PartKind, Rates, price};
use super::{Draft, Rule, cost};
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::text::grouped;

/// Fewer calls of a model do not show what it can do.
const MIN_CALLS: u64 = 20;
/// Percent that may fail more often with the cheaper one.
const TOLERANCE: u64 = 2;

#[derive(Default)]
struct Record {
    calls: Vec<usize>,
    good: u64,
    output: u64,
    rates: Rates,
}

/// An agent and its instructions, times and numbers aside.
type Kind<'a> = (&'a Label, Digest);

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let mut kinds: BTreeMap<Kind<'_>, BTreeMap<&Label, Record>> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let sent = call.sent.as_ref();
        let system = sent.and_then(|sent| sent.parts.iter().find(|it| it.kind == PartKind::System));
        let (Some(system), Some(model)) = (system, &call.model) else {
            continue;
        };
        let models = kinds.entry((&call.agent, system.shape)).or_default();
        let record = models.entry(model).or_default();
        record.calls.push(at);
        record.good += u64::from(call.is_done() && !call.is_cut);
        record.output += call.usage.output_tokens;
        record.rates = call.rates;
    }
    kinds
        .values()
        .flat_map(|models| of_kind(models, calls))
        .collect()
}

fn of_kind(models: &BTreeMap<&Label, Record>, calls: &[CallFacts]) -> Vec<Draft> {
    let enough = || {
        models
            .iter()
            .filter(|(_, it)| it.calls.len() as u64 >= MIN_CALLS)
    };
    let mut drafts = Vec::new();
    for (name, dear) in enough() {
        let cheaper = enough().filter(|(other, record)| other != &name && is_as_good(record, dear));
        let savings = cheaper.map(|(other, record)| (*other, record, claims(dear, record, calls)));
        let best =
            savings.max_by_key(|(.., claims)| claims.iter().map(|(_, nano)| nano).sum::<i64>());
        if let Some((other, record, claims)) = best.filter(|(.., claims)| !claims.is_empty()) {
            let first = claims.first().and_then(|(at, _)| calls.get(*at));
            let draft = first.map(|call| Draft::new(Rule::SmallerModel, call));
            drafts.extend(draft.map(|draft| words(draft, (name, dear), (other, record), &claims)));
        }
    }
    drafts
}

fn is_as_good(one: &Record, other: &Record) -> bool {
    let percent = |record: &Record| record.good * 100 / (record.calls.len() as u64).max(1);
    percent(one) + TOLERANCE >= percent(other)
}

/// What each call of the dearer one would have cost less.
fn claims(dear: &Record, cheap: &Record, calls: &[CallFacts]) -> Vec<(usize, i64)> {
    let per_call = |record: &Record| record.output / (record.calls.len() as u64).max(1);
    let (more, less) = (per_call(cheap).max(1), per_call(dear).max(1));
    let claim = |at: &usize| {
        let call = calls.get(*at)?;
        // Who says more at a lower price is not as much cheaper as it looks.
        let output = u128::from(call.usage.output_tokens) * u128::from(more.max(less));
        let output = u64::try_from(output.div_ceil(u128::from(less))).ok()?;
        let input = price(call.usage.input_tokens, cheap.rates.input)?;
        let instead = input.checked_add(price(output, cheap.rates.output)?)?;
        let less = cost(call)?.checked_sub(instead)?;
        (less > 0).then_some((*at, less))
    };
    dear.calls.iter().filter_map(claim).collect()
}

fn words(
    mut draft: Draft,
    (name, dear): (&Label, &Record),
    (other, cheap): (&Label, &Record),
    claims: &[(usize, i64)],
) -> Draft {
    for (at, nano) in claims {
        draft.claim(*at, Some(*nano), 0);
    }
    let counts = (dear.calls.len() as u64, cheap.calls.len() as u64);
    draft.sentence = format!(
        "{} makes the same kind of call with {name} ({} of {} ended well) and with {other} ({} of {}), \
         which is cheaper.",
        draft.agent,
        grouped(dear.good),
        grouped(counts.0),
        grouped(cheap.good),
        grouped(counts.1),
    );
    draft.evidence("cheaper model", &other);
    draft.evidence(
        "its calls that ended well",
        &format!("{} of {}", cheap.good, counts.1),
    );
    draft.assumption = "Calls with the same instructions, times and numbers aside, are of one kind; ended well \
                        means answered whole and not cut, which says nothing of how good an answer is. The \
                        other model is counted without any cache, with more output where it says more.";
    draft.fix(&format!(
        "Compare answers of both as variants, then use {other} for these calls."
    ));
    draft
}
