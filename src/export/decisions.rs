//! What was decided and done: events, with the evidence of trips.

use super::table::Kind::{Integer, Json, Text, Time};
use super::table::{Field, field};
use super::value::Value;
use crate::core::alert::{About, Scope, Signal};
use crate::core::id::Label;
use crate::core::loops::trip::{Evidence, Trip};
use crate::ledger::Event;

#[rustfmt::skip]
pub const DECISIONS: &[Field<Event>] = &[
    field("at", Time, "when", |it| it.at.into()),
    field("who", Text, "open-aiops itself, or an operator", |it| (&it.who).into()),
    field("what", Text, "loop_tripped, budget_spent, budget_raised, run_stopped, ...", |it| (&it.what).into()),
    field("details", Text, "in words", |it| it.details.as_ref().into()),
    field("about", Text, "kind of thing: budget, run, loop, upstream, ...", |it| scope(it, |of| Value::name(of.about))),
    field("about_name", Text, "which: rule, run, id of the trip, ...", |it| scope(it, |of| (&of.name).into())),
    field("about_key", Text, "account of the rule, agent of the run, run of the trip", |it| scope(it, |of| of.key.as_ref().into())),
    field("value", Text, "how much it is, as people read it", |it| signal(it, |of| of.value.as_ref().into())),
    field("limit", Text, "how much it may be", |it| signal(it, |of| of.limit.as_ref().into())),
    field("until", Time, "when it is over by itself", |it| signal(it, |of| of.until.into())),
    field("run_id", Text, "the run it is about", |it| run(it).into()),
    field("agent_name", Text, "the agent of the call that tripped", |it| trip(it, |of| (&of.agent).into())),
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

fn signal(event: &Event, value: fn(&Signal) -> Value) -> Value {
    event.signal.as_deref().map_or(Value::Null, value)
}

fn scope(event: &Event, value: fn(&Scope) -> Value) -> Value {
    let signal = event.signal.as_deref();
    signal.map_or(Value::Null, |signal| value(&signal.scope))
}

fn trip(event: &Event, value: fn(&Trip) -> Value) -> Value {
    event.trip.as_deref().map_or(Value::Null, value)
}

fn evidence(event: &Event, value: fn(&Evidence) -> Value) -> Value {
    let trip = event.trip.as_deref();
    trip.map_or(Value::Null, |trip| value(&trip.evidence))
}

fn run(event: &Event) -> Option<String> {
    let of_trip = event.trip.as_ref().and_then(|trip| trip.run.as_ref());
    let of_signal = || {
        let scope = &event.signal.as_deref()?.scope;
        match scope.about {
            About::Run => Some(scope.name.clone()),
            About::Loop => scope.key.clone(),
            _ => None,
        }
    };
    of_trip
        .map(Label::as_str)
        .map(str::to_owned)
        .or_else(of_signal)
}
