//! Recorded runs gone through once more: where would loops have been stopped and budgets have been
//! spent, and what would that have saved?
//!
//! For call `i` nothing counts but requests up to `i` and answers before it, as it was live. A run is
//! not asked any more from the call at which it would have been stopped.

pub mod lines;
pub mod recorded;
mod spend;

use serde::Serialize;

use self::spend::Spending;
use crate::config::LoopsConfig;
use crate::core::attribution::Confidence;
use crate::core::budget::Rule;
use crate::core::id::{CallId, Label};
use crate::core::loops::guard::{Caller, Guard, No, Verdict};
use crate::core::loops::refusal;
use crate::core::loops::turn::{Answer, Ask};
use crate::core::time::Timestamp;

/// One run, its calls in order.
#[derive(Debug)]
pub struct Run {
    pub id: String,
    pub calls: Vec<Call>,
}

/// What was recorded of one call, as far as loops and budgets are concerned.
#[derive(Debug)]
pub struct Call {
    pub id: CallId,
    /// None where it has no messages to go by: then budgets alone are concerned.
    pub ask: Option<Ask>,
    /// None when it failed or nothing is known of it.
    pub answer: Option<Answer>,
    pub who: Who,
    pub at: Timestamp,
    pub ended_at: Timestamp,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub nano_usd: u64,
    /// The client's library made it again by itself.
    pub is_retry: bool,
}

/// What budgets tell calls apart by.
#[derive(Clone, Debug)]
pub struct Who {
    pub run: Option<Label>,
    pub agent: Label,
    pub caller: Option<Label>,
    pub user: Option<Label>,
    pub model: Option<Label>,
    pub upstream: Option<Label>,
    pub variant: Option<Label>,
    pub inferred: Confidence,
}

/// What would have become of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub id: String,
    pub calls: usize,
    pub tokens: u64,
    /// The first call that would have been warned about, from 0.
    pub warned_at: Option<usize>,
    pub warning: Option<String>,
    /// The first call that would have been refused as part of a loop.
    pub tripped_at: Option<usize>,
    pub why: Option<String>,
    /// What the calls from there on used.
    pub saved_calls: usize,
    pub saved_tokens: u64,
    pub saved_nano_usd: u64,
}

/// What would have become of all runs together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub runs: Vec<Outcome>,
    /// Calls whose bodies were not recorded, and so say nothing.
    pub unread_calls: usize,
    pub budgets: Vec<spend::Spent>,
}

/// Goes through the runs under these settings.
pub fn replay(runs: &[Run], loops: &LoopsConfig, rules: &[Rule]) -> Report {
    let mut spending = Spending::new(rules);
    let mut calls: Vec<&Call> = runs.iter().flat_map(|run| &run.calls).collect();
    calls.sort_by_key(|call| call.at);
    for call in calls {
        spending.charge(call);
    }
    Report {
        runs: runs.iter().map(|run| replay_run(run, loops)).collect(),
        unread_calls: 0,
        budgets: spending.finish(),
    }
}

fn replay_run(run: &Run, loops: &LoopsConfig) -> Outcome {
    let (mut guard, mut running) = (Guard::default(), Vec::new());
    let mut outcome = Outcome {
        id: run.id.clone(),
        calls: run.calls.len(),
        tokens: run.calls.iter().map(tokens).sum(),
        warned_at: None,
        warning: None,
        tripped_at: None,
        why: None,
        saved_calls: 0,
        saved_tokens: 0,
        saved_nano_usd: 0,
    };
    for (at, call) in run.calls.iter().enumerate() {
        let Some(ask) = &call.ask else { continue };
        let verdict = judge(&mut guard, (call, ask), loops);
        if let Some(finding) = &verdict.warning
            && outcome.warned_at.is_none()
        {
            outcome.warned_at = Some(at);
            outcome.warning = Some(refusal::describe(finding));
        }
        if let Some(no) = verdict.refusal {
            let rest = run.calls.get(at..).unwrap_or_default();
            outcome.tripped_at = Some(at);
            outcome.why = Some(why(no, call));
            outcome.saved_calls = rest.len();
            outcome.saved_tokens = rest.iter().map(tokens).sum();
            outcome.saved_nano_usd = rest.iter().map(|call| call.nano_usd).sum();
            break;
        }
        running.push(call);
        let next = run.calls.get(at + 1).map(|next| next.at);
        end_calls(&mut guard, &mut running, next);
    }
    outcome
}

/// Ends the calls that were over when the next one began.
fn end_calls(guard: &mut Guard, running: &mut Vec<&Call>, next: Option<Timestamp>) {
    running.sort_by_key(|call| call.ended_at);
    let is_over = |call: &&Call| next.is_none_or(|next| call.ended_at <= next);
    let over = running.iter().take_while(|call| is_over(call)).count();
    for call in running.drain(..over) {
        guard.used(call.id, tokens(call));
        let Some(ask) = &call.ask else { continue };
        match &call.answer {
            Some(answer) => guard.answer(ask.conversation, answer, ask.idle_ms),
            None => guard.fail(ask.conversation),
        }
    }
}

fn judge(guard: &mut Guard, (call, ask): (&Call, &Ask), loops: &LoopsConfig) -> Verdict {
    let policy = loops.policy_for(&call.who.agent);
    let caller = Caller {
        call: call.id,
        run: call.who.run.as_ref(),
        conversation: None,
        agent: &call.who.agent,
        caller: call.who.caller.as_ref(),
        is_run_certain: call.who.inferred.run.is_none(),
        now: call.at,
    };
    if call.is_retry {
        guard.judge_retry(ask, &caller, policy)
    } else {
        guard.judge(ask, &caller, policy)
    }
}

fn why(no: No, call: &Call) -> String {
    match no {
        No::Tripped(trip) => refusal::summary(&trip.evidence),
        No::Beyond(beyond) => {
            let run = call
                .who
                .run
                .clone()
                .unwrap_or_else(|| call.who.agent.clone());
            refusal::Refusal::Beyond(beyond, run).to_string()
        }
    }
}

fn tokens(call: &Call) -> u64 {
    call.input_tokens.saturating_add(call.output_tokens)
}

impl Report {
    /// What `verdicts` files hold: one line for each run.
    pub fn verdicts(&self) -> String {
        let line = |run: &Outcome| {
            let verdict = serde_json::json!({"id": run.id, "tripped_at": run.tripped_at});
            format!("{verdict}\n")
        };
        self.runs.iter().map(line).collect()
    }
}
