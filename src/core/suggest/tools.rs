//! Tools that are offered with every call and that nobody calls.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{CallFacts, price};
use super::{Draft, Rule};
use crate::core::id::Label;
use crate::core::text::grouped;

/// Fewer calls do not show that a tool is not needed.
const MIN_CALLS: u64 = 20;
/// Names in the sentence.
const NAMES: usize = 12;

#[derive(Default)]
struct Offers<'a> {
    calls: u64,
    offered: BTreeMap<&'a str, u64>,
    called: BTreeSet<&'a str>,
    /// An answer that is not known may have called any of them.
    is_blind: bool,
}

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let mut agents: BTreeMap<&Label, Offers<'_>> = BTreeMap::new();
    for call in calls {
        let tools = call.sent.as_ref().and_then(|sent| sent.tools.as_ref());
        let Some(tools) = tools else { continue };
        let offers = agents.entry(&call.agent).or_default();
        offers.calls += 1;
        for tool in tools.iter() {
            *offers.offered.entry(&tool.name).or_default() += 1;
        }
        match &call.answered {
            Some(answered) => offers
                .called
                .extend(answered.calls.iter().map(|(name, _)| name.as_str())),
            None => offers.is_blind |= call.is_done(),
        }
    }
    agents.retain(|_, offers| !offers.is_blind);
    let unused: BTreeMap<&Label, BTreeSet<&str>> = agents
        .iter()
        .map(|(agent, offers)| {
            let idle = offers
                .offered
                .iter()
                .filter(|(name, times)| **times >= MIN_CALLS && !offers.called.contains(**name));
            (*agent, idle.map(|(name, _)| *name).collect())
        })
        .collect();
    let mut found: BTreeMap<(&Label, Option<&Label>), Draft> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let Some(names) = unused.get(&call.agent).filter(|names| !names.is_empty()) else {
            continue;
        };
        let tokens = call.tokens_of(idle_bytes(call, names));
        if tokens > 0 {
            found
                .entry((&call.agent, call.model.as_ref()))
                .or_insert_with(|| Draft::new(Rule::UnusedTools, call))
                .claim(at, price(tokens, call.least_rate()), tokens);
        }
    }
    found
        .into_values()
        .map(|draft| {
            let names = unused.get(&draft.agent).cloned().unwrap_or_default();
            words(draft, &names)
        })
        .collect()
}

fn idle_bytes(call: &CallFacts, names: &BTreeSet<&str>) -> u64 {
    let tools = call.sent.as_ref().and_then(|sent| sent.tools.as_ref());
    let idle = tools.into_iter().flat_map(|tools| tools.iter());
    let idle = idle.filter(|tool| names.contains(tool.name.as_str()));
    idle.map(|tool| u64::from(tool.bytes)).sum()
}

fn words(mut draft: Draft, names: &BTreeSet<&str>) -> Draft {
    let listed: Vec<&str> = names.iter().take(NAMES).copied().collect();
    let more = names.len().saturating_sub(NAMES);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    draft.sentence = format!(
        "{} was offered {} tools in {} calls and called none of them: {}{more}.",
        draft.agent,
        names.len(),
        grouped(draft.claims.len() as u64),
        listed.join(", "),
    );
    draft.evidence("tools that were never called", &names.len());
    draft.assumption = "A definition's tokens are its share of the input by bytes, counted at the price of \
                        a cache read where the call read from the cache, else at that of input. No answer \
                        of the agent in the span called these tools.";
    draft.fix("Offer these tools only in the steps that need them, or leave them out.");
    draft
}
