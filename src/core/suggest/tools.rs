//! Tools that are offered with every call and that nobody calls.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{CallFacts, price};
use super::{Draft, Rule};
use crate::core::id::Label;
use crate::core::text::grouped;

/// Fewer calls do not show that a tool is not needed, nor do fewer runs.
const MIN_CALLS: u64 = 20;
const MIN_RUNS: usize = 5;
/// Names in the sentence.
const NAMES: usize = 12;

/// How often a tool was offered, and in which runs.
#[derive(Default)]
struct Offered<'a> {
    calls: u64,
    runs: BTreeSet<Option<&'a Label>>,
    /// Calls that are of no run: each stands for itself.
    alone: usize,
}

#[derive(Default)]
struct Agent<'a> {
    offered: BTreeMap<&'a str, Offered<'a>>,
    called: BTreeSet<&'a str>,
    /// An answer that is not known may have called any of them.
    is_blind: bool,
}

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let unused = unused(calls);
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

/// Agents that offer tools and of which an answer is not known, so that nothing can be said of what
/// they use.
pub(super) fn blind(calls: &[CallFacts]) -> u64 {
    let agents = agents(calls);
    let blind = agents
        .values()
        .filter(|agent| agent.is_blind && !agent.offered.is_empty());
    blind.count() as u64
}

fn agents(calls: &[CallFacts]) -> BTreeMap<&Label, Agent<'_>> {
    let mut agents: BTreeMap<&Label, Agent<'_>> = BTreeMap::new();
    for call in calls {
        let agent = agents.entry(&call.agent).or_default();
        let sent = call.sent.as_ref();
        for tool in sent
            .and_then(|it| it.tools.as_ref())
            .into_iter()
            .flat_map(|it| it.iter())
        {
            let offered = agent.offered.entry(&tool.name).or_default();
            offered.calls += 1;
            let run = call.run.as_ref().or(call.conversation.as_ref());
            offered.alone += usize::from(run.is_none());
            offered.runs.extend(run.map(Some));
        }
        let history = sent.map_or(&[][..], |sent| &sent.parts);
        let before = history.iter().filter_map(|part| part.calls.as_ref());
        let before = before.flat_map(|names| names.iter().map(String::as_str));
        agent.called.extend(before);
        match &call.answered {
            Some(answered) => agent
                .called
                .extend(answered.calls.iter().map(|(name, _)| name.as_str())),
            None => agent.is_blind |= call.is_done(),
        }
    }
    agents
}

fn unused(calls: &[CallFacts]) -> BTreeMap<&Label, BTreeSet<&str>> {
    let agents = agents(calls).into_iter();
    agents
        .filter(|(_, agent)| !agent.is_blind)
        .map(|(name, agent)| (name, idle(agent)))
        .collect()
}

fn idle(agent: Agent<'_>) -> BTreeSet<&str> {
    let Agent {
        offered, called, ..
    } = agent;
    let idle = offered.into_iter().filter(|(name, offered)| {
        offered.calls >= MIN_CALLS
            && offered.runs.len() + offered.alone >= MIN_RUNS
            && !called.contains(name)
    });
    idle.map(|(name, _)| name).collect()
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
    draft.assumption = "A definition's tokens are its share of the text by bytes, counted at the price of \
                        a cache read where the call read from the cache, else at that of input. Each tool was \
                        offered in 20 calls of 5 runs at least, and no answer or history of the agent in the \
                        calls looked at called it. Tools that the provider runs are not judged.";
    draft.fix(
        "Leave these tools out, for a whole run at a time: another list of tools breaks the prompt cache. \
         What is kept for rare cases may be worth its price.",
    );
    draft
}
