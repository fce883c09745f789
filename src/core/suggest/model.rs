//! Two models that do the same kind of call as well as each other, at different prices.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{CallFacts, PartKind, Tariff};
use super::{Draft, Rule, cost};
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::text::grouped;
use crate::core::usage::Usage;

/// Fewer calls of a model do not show what it can do.
const MIN_CALLS: u64 = 20;
/// Percent that may fail more often with the cheaper one.
const TOLERANCE: u64 = 2;
/// Agents that the sentence names.
const NAMES: usize = 3;

/// The calls of a kind that one model of an upstream got.
#[derive(Default)]
struct Record<'a> {
    calls: Vec<usize>,
    /// Who made them: agents, and their variants.
    by: BTreeSet<By<'a>>,
    runs: BTreeSet<&'a Label>,
    good: u64,
    output: u64,
}

type By<'a> = (&'a Label, Option<&'a Label>);
type Model<'a> = (&'a Label, &'a Label);
/// The shape of the instructions, that of the tools, and the size of the input as a power of two.
type Kind = (Digest, Option<Digest>, u32);

pub(super) fn find(calls: &[CallFacts], tariff: &dyn Tariff) -> Vec<Draft> {
    let mut kinds: BTreeMap<Kind, BTreeMap<Model<'_>, Record<'_>>> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let (Some(kind), Some(model)) = (kind(call), &call.model) else {
            continue;
        };
        let models = kinds.entry(kind).or_default();
        let record = models.entry((&call.upstream, model)).or_default();
        record.calls.push(at);
        record.by.insert((&call.agent, call.variant.as_ref()));
        record.runs.extend(&call.run);
        record.good += u64::from(call.is_done() && !call.is_cut);
        record.output += call.usage.output_tokens;
    }
    kinds
        .values()
        .flat_map(|models| of_kind(models, calls, tariff))
        .collect()
}

fn kind(call: &CallFacts) -> Option<Kind> {
    let parts = &call.sent.as_ref()?.parts;
    let of = |kind| parts.iter().find(|part| part.kind == kind);
    let system = of(PartKind::System)?.shape;
    let tools = of(PartKind::Tools).map(|part| part.shape);
    Some((system, tools, call.usage.input_tokens.checked_ilog2()?))
}

fn of_kind(
    models: &BTreeMap<Model<'_>, Record<'_>>,
    calls: &[CallFacts],
    tariff: &dyn Tariff,
) -> Vec<Draft> {
    let enough = || {
        models
            .iter()
            .filter(|(_, it)| it.calls.len() as u64 >= MIN_CALLS)
    };
    let mut drafts = Vec::new();
    for (name, dear) in enough() {
        let others = enough().filter(|(other, record)| {
            other != &name && is_as_good(record, dear) && is_apart(record, dear)
        });
        let savings = others.map(|(other, record)| {
            (
                *other,
                record,
                claims(dear, (*other, record), calls, tariff),
            )
        });
        let best =
            savings.max_by_key(|(.., claims)| claims.iter().map(|(_, nano)| nano).sum::<i64>());
        if let Some((other, record, claims)) = best.filter(|(.., claims)| !claims.is_empty()) {
            let first = claims.first().and_then(|(at, _)| calls.get(*at));
            let draft = first.map(|call| Draft::new(Rule::SmallerModel, call));
            drafts.extend(
                draft.map(|draft| words(draft, (name.1, dear), (other.1, record), &claims)),
            );
        }
    }
    drafts
}

fn is_as_good(one: &Record<'_>, other: &Record<'_>) -> bool {
    let percent = |record: &Record<'_>| record.good * 100 / (record.calls.len() as u64).max(1);
    percent(one) + TOLERANCE >= percent(other)
}

/// Who uses both, or has both in one run, chooses by something that cannot be seen here, such as how
/// hard a question is. Only where others make the same calls can the models be compared.
fn is_apart(one: &Record<'_>, other: &Record<'_>) -> bool {
    one.by.is_disjoint(&other.by) && one.runs.is_disjoint(&other.runs)
}

/// What each call of the dearer one would have cost less.
fn claims(
    dear: &Record<'_>,
    ((upstream, model), cheap): (Model<'_>, &Record<'_>),
    calls: &[CallFacts],
    tariff: &dyn Tariff,
) -> Vec<(usize, i64)> {
    let per_call = |record: &Record<'_>| record.output / (record.calls.len() as u64).max(1);
    let (more, less) = (per_call(cheap).max(1), per_call(dear).max(1));
    let claim = |at: &usize| {
        let call = calls.get(*at)?;
        // Who says more at a lower price is not as much cheaper as it looks.
        let output = u128::from(call.usage.output_tokens) * u128::from(more.max(less));
        let usage = Usage {
            input_tokens: call.usage.input_tokens,
            output_tokens: u64::try_from(output.div_ceil(u128::from(less))).ok()?,
            ..Usage::default()
        };
        let instead = tariff.quote(upstream, model, &usage)?.get();
        let less = cost(call)?.checked_sub(instead)?;
        (less > 0).then_some((*at, less))
    };
    dear.calls.iter().filter_map(claim).collect()
}

fn words(
    mut draft: Draft,
    (name, dear): (&Label, &Record<'_>),
    (other, cheap): (&Label, &Record<'_>),
    claims: &[(usize, i64)],
) -> Draft {
    for (at, nano) in claims {
        draft.claim(*at, Some(*nano), 0);
    }
    let names = |record: &Record<'_>| {
        let names = record.by.iter().map(|(agent, variant)| match variant {
            Some(variant) => format!("{agent} ({variant})"),
            None => agent.to_string(),
        });
        names.take(NAMES).collect::<Vec<_>>().join(", ")
    };
    let counts = (dear.calls.len() as u64, cheap.calls.len() as u64);
    draft.sentence = format!(
        "{} makes with {name} ({} of {} ended well) the same kind of call that {} makes with {other} ({} of \
         {}), which is cheaper.",
        names(dear),
        grouped(dear.good),
        grouped(counts.0),
        names(cheap),
        grouped(cheap.good),
        grouped(counts.1),
    );
    draft.evidence("cheaper model", &other);
    draft.evidence(
        "its calls that ended well",
        &format!("{} of {}", cheap.good, counts.1),
    );
    draft.assumption = "Calls with the same instructions and tools, times and numbers aside, and about as much \
                        input are of one kind, where no agent or variant and no run has both models. Ended \
                        well means answered whole and not cut, which says nothing of how good an answer is. \
                        The other model is priced call by call at its base tier, without any cache, with more \
                        output where it says more, and as if it cut text into as many tokens.";
    draft.fix(&format!(
        "Compare answers of both as variants, then use {other} for these calls."
    ));
    draft
}
