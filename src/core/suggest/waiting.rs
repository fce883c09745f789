//! Agents that ask the same of the same tool again and again, while something else goes on.

use std::collections::BTreeMap;

use super::facts::CallFacts;
use super::{Draft, Rule, cost};
use crate::core::id::Label;
use crate::core::text::grouped;

/// Asking so often in a row is waiting.
const MIN_ROW: usize = 5;

#[derive(Default)]
struct Row<'a> {
    asked: Option<(&'a str, u64)>,
    calls: Vec<usize>,
}

type Talk<'a> = (&'a Label, Option<&'a Label>, Option<&'a Label>);

pub(super) fn find(calls: &[CallFacts]) -> Vec<Draft> {
    let mut rows: BTreeMap<Talk<'_>, Row<'_>> = BTreeMap::new();
    let mut found: BTreeMap<(&Label, Option<&Label>, &str), Draft> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| call.is_done()) {
        let talk = (&call.agent, call.run.as_ref(), call.conversation.as_ref());
        let asked = call
            .answered
            .as_ref()
            .and_then(|answered| match answered.calls.as_slice() {
                [(name, arguments)] => Some((name.as_str(), *arguments)),
                _ => None,
            });
        let row = rows.entry(talk).or_default();
        if row.asked != asked {
            close(&std::mem::take(row), calls, &mut found);
            row.asked = asked;
        }
        if asked.is_some() {
            row.calls.push(at);
        }
    }
    for row in rows.into_values() {
        close(&row, calls, &mut found);
    }
    found
        .into_iter()
        .map(|((.., tool), draft)| words(draft, tool))
        .collect()
}

fn close<'a>(
    row: &Row<'a>,
    calls: &'a [CallFacts],
    found: &mut BTreeMap<(&'a Label, Option<&'a Label>, &'a str), Draft>,
) {
    let Some((tool, _)) = row.asked.filter(|_| row.calls.len() >= MIN_ROW) else {
        return;
    };
    // The first asks, the last is told: both would be there anyhow.
    let between = row.calls.iter().skip(1).take(row.calls.len() - 2);
    for at in between {
        let Some(call) = calls.get(*at) else { continue };
        found
            .entry((&call.agent, call.model.as_ref(), tool))
            .or_insert_with(|| Draft::new(Rule::Waiting, call))
            .claim(*at, cost(call), call.tokens());
    }
}

fn words(mut draft: Draft, tool: &str) -> Draft {
    let count = grouped(draft.claims.len() as u64);
    draft.sentence = format!(
        "{} waits by calling {tool} with the same arguments: {count} calls of the model did nothing but ask \
         again.",
        draft.agent
    );
    draft.evidence("tool", &tool);
    draft.evidence("calls between the first and the last of each wait", &count);
    draft.assumption = "Five calls in a row of one conversation that answer with the same single tool call are \
                        a wait; its first and last call are not counted.";
    draft.fix(&format!(
        "Let {tool} wait for the result itself, and return when it is there, so that the model is asked once."
    ));
    draft
}
