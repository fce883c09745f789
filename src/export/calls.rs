//! Calls.

use super::table::Kind::{Flag, Integer, Json, Text, Time, Usd};
use super::table::{Field, field};
use super::value::Value;
use crate::ledger::CallRow;

/// Not the outcome of a call, but that it has none yet.
const OPEN: &str = "open";

/// Of an open call what is known at its end is null; so is what its admission says where that is not
/// kept any more.
#[rustfmt::skip]
pub const CALLS: &[Field<CallRow>] = &[
    field("call_id", Text, "id of the call, a UUID that begins with its time", |it| it.id.into()),
    field("started_at", Time, "when its head had arrived", |it| it.started_at.into()),
    field("run_id", Text, "the run it is part of", |it| it.run.as_ref().into()),
    field("parent_run_id", Text, "the run that began its run", |it| it.parent_run.as_ref().into()),
    field("agent_name", Text, "who made it", |it| (&it.agent).into()),
    field("caller_name", Text, "the agent that invoked that agent", |it| it.caller.as_ref().into()),
    field("path", Json, "chain of agents from the root, itself last", |it| admitted(it, Value::json(&it.path))),
    field("depth", Integer, "length of that chain", |it| Some(it.depth).filter(|it| *it > 0).into()),
    field("user", Text, "on whose behalf", |it| it.user.as_ref().into()),
    field("variant", Text, "arm of a comparison", |it| it.variant.as_ref().into()),
    field("conversation_id", Text, "as named by its client, else as recognised", |it| it.conversation.as_ref().into()),
    field("tags", Json, "object of its tags", |it| admitted(it, Value::json(&it.tags))),
    field("agent_source", Text, "how its agent is known", |it| Value::name_of(it.agent_source)),
    field("run_source", Text, "how its run is known", |it| Value::name_of(it.run_source)),
    field("upstream", Text, "endpoint it went to", |it| (&it.upstream).into()),
    field("operation", Text, "chat, responses, embeddings, ...", |it| Value::name(it.operation)),
    field("method", Text, "of HTTP", |it| admitted(it, (&it.method).into())),
    field("target", Text, "path and query, secrets removed", |it| admitted(it, (&it.target).into())),
    field("request_model", Text, "model asked for", |it| it.request_model.as_ref().into()),
    field("response_model", Text, "model that answered", |it| it.response_model.as_ref().into()),
    field("model", Text, "model it was priced by", |it| it.model.as_ref().into()),
    field("response_id", Text, "id the upstream gave its answer", |it| it.response_id.as_ref().into()),
    field("service_tier", Text, "as the upstream said", |it| it.service_tier.as_ref().into()),
    field("stream", Flag, "asked for a stream", |it| admitted(it, it.stream.into())),
    field("status", Integer, "HTTP status its client got", |it| it.status.into()),
    field("outcome", Text, "completed, upstream_error, ..., or open", outcome),
    field("finish_reasons", Json, "list of why the model ended", |it| ended(it, Value::json(&it.finish_reasons))),
    field("input_tokens", Integer, "all of the input", |it| ended(it, it.usage.input_tokens.into())),
    field("output_tokens", Integer, "all of the output", |it| ended(it, it.usage.output_tokens.into())),
    field("cache_read_input_tokens", Integer, "part of input_tokens", |it| ended(it, it.usage.cache_read_input_tokens.into())),
    field("cache_write_input_tokens", Integer, "part of input_tokens", |it| ended(it, it.usage.cache_write_input_tokens.into())),
    field("reasoning_output_tokens", Integer, "part of output_tokens", |it| ended(it, it.usage.reasoning_output_tokens.into())),
    field("usage", Json, "object of every count of its usage", |it| ended(it, Value::json(&it.usage))),
    field("provenance", Text, "usage is reported, counted or estimated", |it| Value::name_of(it.provenance)),
    field("cost_nano_usd", Integer, "whole billionths of a USD; null when no price is known", |it| it.cost_nano_usd.into()),
    field("cost_usd", Usd, "the same in USD, nine decimals", |it| it.cost_nano_usd.into()),
    field("cost_source", Text, "table, config, upstream or held", |it| Value::name_of(it.cost_source)),
    field("duration_us", Integer, "microseconds from its start to its end", |it| it.duration_us.into()),
    field("forwarded_us", Integer, "to the departure for the upstream", |it| it.forwarded_us.into()),
    field("head_us", Integer, "to the head of the response", |it| it.head_us.into()),
    field("first_chunk_us", Integer, "to the first bytes of its body", |it| it.first_chunk_us.into()),
    field("request_bytes", Integer, "on the wire", request_bytes),
    field("response_bytes", Integer, "on the wire", |it| ended(it, it.response_bytes.into())),
    field("client", Text, "what the client says it is", |it| it.client.as_ref().into()),
    field("retry", Integer, "0 for a first try", |it| admitted(it, it.retry.into())),
    field("is_pending", Flag, "its work goes on at the upstream", |it| ended(it, it.is_pending.into())),
    field("decision", Text, "what budgets and loops did to it; null where let through", |it| it.decision.as_ref().into()),
    field("error", Text, "what went wrong", |it| it.error.as_ref().into()),
];

/// What is known when a call has ended.
fn ended(call: &CallRow, value: Value) -> Value {
    if call.outcome.is_some() {
        value
    } else {
        Value::Null
    }
}

/// What its admission says.
fn admitted(call: &CallRow, value: Value) -> Value {
    if call.agent_source.is_some() {
        value
    } else {
        Value::Null
    }
}

/// Of an open call, those of the recorded body.
fn request_bytes(call: &CallRow) -> Value {
    let bytes = Some(call.request_bytes);
    bytes
        .filter(|bytes| *bytes > 0 || call.outcome.is_some())
        .into()
}

fn outcome(call: &CallRow) -> Value {
    Value::name(call.outcome.map_or(OPEN, Into::into))
}
