//! What was decided and done: events, with the evidence of trips.

use super::table::Kind::{Integer, Json, Text, Time};
use super::table::{Field, field};
use super::value::Value;
use crate::core::alert::{About, Scope, Signal};
use crate::core::budget::{AccountName, Dimension};
use crate::core::id::Label;
use crate::core::loops::trip::{Evidence, Trip};
use crate::ledger::Event;

/// An event, and what the account is called that it is about.
pub struct Decided {
    pub event: Event,
    pub account: Option<AccountName>,
}

#[rustfmt::skip]
pub const DECISIONS: &[Field<Decided>] = &[
    field("at", Time, "when", |it| it.event.at.into()),
    field("who", Text, "open-aiops itself, or an operator", |it| (&it.event.who).into()),
    field("what", Text, "loop_tripped, budget_spent, budget_raised, run_stopped, ...", |it| (&it.event.what).into()),
    field("details", Text, "in words", |it| it.event.details.as_ref().into()),
    field("about", Text, "kind of thing: budget, run, loop, upstream, ...", |it| scope(it, |of| Value::name(of.about))),
    field("about_name", Text, "which: rule, run, id of the trip, ...", name),
    field("about_key", Text, "account of the rule, agent of the run, run of the trip", key),
    field("account_id", Text, "the account, as in budgets", |it| signal(it, |of| of.account.map(|it| it.0.to_string()).into())),
    field("value", Text, "how much it is, as people read it", |it| signal(it, |of| of.value.as_ref().into())),
    field("limit", Text, "how much it may be", |it| signal(it, |of| of.limit.as_ref().into())),
    field("until", Time, "when it is over by itself", |it| signal(it, |of| of.until.into())),
    field("run_id", Text, "the run it is about", |it| it.run().into()),
    field("agent_name", Text, "the agent it is about; of a trip, that of the call", |it| it.agent().into()),
    field("caller_name", Text, "the agent that invoked it", |it| trip(it, |of| of.caller.as_ref().into())),
    field("conversation_id", Text, "of the trip", |it| trip(it, |of| of.conversation.as_ref().into())),
    field("trip_id", Text, "the call at which it tripped", |it| trip(it, |of| of.id.into())),
    field("loop_signal", Text, "repeat, period, stale, ...", |it| evidence(it, |of| Value::name(of.signal))),
    field("loop_scope", Text, "conversation, edge or run", |it| evidence(it, |of| Value::name(of.scope))),
    field("loop_period", Integer, "calls of one round", |it| evidence(it, |of| of.period.into())),
    field("loop_count", Integer, "rounds, or what else the signal counts", |it| evidence(it, |of| of.count.into())),
    field("loop_since", Time, "when the first of its calls began", |it| evidence(it, |of| of.since.into())),
    field("loop_tokens", Integer, "what these calls used", |it| evidence(it, |of| of.tokens.into())),
    field("loop_agents", Json, "list of its agents", |it| evidence(it, |of| Value::json(&of.agents))),
    field("loop_calls", Json, "list of the last of its calls, oldest first", |it| evidence(it, |of| Value::json(&of.calls))),
    field("loop_sample", Json, "list of what is repeated; empty where bodies are not recorded", |it| evidence(it, |of| Value::json(&of.sample))),
    field("refused", Integer, "calls refused so far", |it| trip(it, |of| of.refused.into())),
    field("closed_at", Time, "when it closed", |it| trip(it, |of| of.closed.as_ref().map(|it| it.at).into())),
    field("closed_by", Text, "operator, user, probe or end", |it| trip(it, |of| of.closed.as_ref().map_or(Value::Null, |it| Value::name(it.by)))),
];

impl Decided {
    /// The run it is about.
    pub fn run(&self) -> Option<&str> {
        let of_trip = || self.event.trip.as_deref()?.run.as_ref();
        let of_signal = || {
            let scope = self.scope()?;
            match scope.about {
                About::Run => Some(scope.name.as_str()),
                About::Loop => scope.key.as_deref(),
                About::Metric => scope.key.as_deref()?.strip_prefix("run "),
                _ => None,
            }
        };
        let run = of_trip().or_else(|| self.of_account(&Dimension::Run));
        run.map(Label::as_str).or_else(of_signal)
    }

    /// The agent it is about.
    pub fn agent(&self) -> Option<&str> {
        let of_trip = self.event.trip.as_deref().map(|trip| &trip.agent);
        let of_signal = || {
            let scope = self.scope()?;
            match scope.about {
                About::Run => scope.key.as_deref(),
                About::Metric => scope.key.as_deref()?.strip_prefix("agent "),
                _ => None,
            }
        };
        let agent = of_trip.or_else(|| self.of_account(&Dimension::Agent));
        agent.map(Label::as_str).or_else(of_signal)
    }

    fn scope(&self) -> Option<&Scope> {
        self.event.signal.as_deref().map(|signal| &signal.scope)
    }

    fn of_account(&self, wanted: &Dimension) -> Option<&Label> {
        let mut key = self.account.as_ref()?.key.iter();
        key.find(|(of, _)| of == wanted)?.1.as_ref()
    }
}

fn signal(decided: &Decided, value: fn(&Signal) -> Value) -> Value {
    let signal = decided.event.signal.as_deref();
    signal.map_or(Value::Null, value)
}

fn scope(decided: &Decided, value: fn(&Scope) -> Value) -> Value {
    decided.scope().map_or(Value::Null, value)
}

/// What an operator does to an account names it by its id alone.
fn name(decided: &Decided) -> Value {
    let said = decided.scope().map(|scope| scope.name.clone());
    let rule = decided.account.as_ref().map(|name| name.rule.to_string());
    said.filter(|name| !name.is_empty()).or(rule).into()
}

fn key(decided: &Decided) -> Value {
    let said = decided.scope().and_then(|scope| scope.key.clone());
    said.or_else(|| decided.account.as_ref().map(ToString::to_string))
        .into()
}

fn trip(decided: &Decided, value: fn(&Trip) -> Value) -> Value {
    let trip = decided.event.trip.as_deref();
    trip.map_or(Value::Null, value)
}

fn evidence(decided: &Decided, value: fn(&Evidence) -> Value) -> Value {
    let trip = decided.event.trip.as_deref();
    trip.map_or(Value::Null, |trip| value(&trip.evidence))
}
