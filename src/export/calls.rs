//! Calls, and the numbers that came with them.

use super::table::Kind::{Flag, Integer, Json, Number, Text, Time, Usd};
use super::table::{Field, field};
use super::value::Value;
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;
use crate::ledger::{CallDetail, CallRow};

/// Not the outcome of a call, but that it has none yet.
const OPEN: &str = "open";

/// Of an open call, what is known at its end is null, and counts are 0.
#[rustfmt::skip]
pub const CALLS: &[Field<CallRow>] = &[
    field("call_id", Text, "id of the call, a UUID that begins with its time", |it| it.id.into()),
    field("started_at", Time, "when its head had arrived", |it| it.started_at.into()),
    field("run_id", Text, "the run it is part of", |it| it.run.as_ref().into()),
    field("parent_run_id", Text, "the run that began its run", |it| it.parent_run.as_ref().into()),
    field("agent_name", Text, "who made it", |it| (&it.agent).into()),
    field("caller_name", Text, "the agent that invoked that agent", |it| it.caller.as_ref().into()),
    field("path", Json, "chain of agents from the root, itself last", |it| Value::json(&it.path)),
    field("depth", Integer, "length of that chain; 0 when unknown", |it| it.depth.into()),
    field("user", Text, "on whose behalf", |it| it.user.as_ref().into()),
    field("variant", Text, "arm of a comparison", |it| it.variant.as_ref().into()),
    field("conversation_id", Text, "as named by its client, else as recognised", |it| it.conversation.as_ref().into()),
    field("tags", Json, "object of its tags", |it| Value::json(&it.tags)),
    field("agent_source", Text, "how its agent is known", |it| it.agent_source.map(Value::name).into_value()),
    field("run_source", Text, "how its run is known", |it| it.run_source.map(Value::name).into_value()),
    field("upstream", Text, "endpoint it went to", |it| (&it.upstream).into()),
    field("operation", Text, "chat, responses, embeddings, ...", |it| Value::name(it.operation)),
    field("method", Text, "of HTTP", |it| (&it.method).into()),
    field("target", Text, "path and query, secrets removed", |it| (&it.target).into()),
    field("request_model", Text, "model asked for", |it| it.request_model.as_ref().into()),
    field("response_model", Text, "model that answered", |it| it.response_model.as_ref().into()),
    field("model", Text, "model it was priced by", |it| it.model.as_ref().into()),
    field("response_id", Text, "id the upstream gave its answer", |it| it.response_id.as_ref().into()),
    field("service_tier", Text, "as the upstream said", |it| it.service_tier.as_ref().into()),
    field("stream", Flag, "asked for a stream", |it| it.stream.into()),
    field("status", Integer, "HTTP status its client got", |it| it.status.into()),
    field("outcome", Text, "completed, upstream_error, ..., or open", outcome),
    field("finish_reasons", Json, "list of why the model ended", |it| Value::json(&it.finish_reasons)),
    field("input_tokens", Integer, "all of the input", |it| it.usage.input_tokens.into()),
    field("output_tokens", Integer, "all of the output", |it| it.usage.output_tokens.into()),
    field("cache_read_input_tokens", Integer, "part of input_tokens", |it| it.usage.cache_read_input_tokens.into()),
    field("cache_write_input_tokens", Integer, "part of input_tokens", |it| it.usage.cache_write_input_tokens.into()),
    field("reasoning_output_tokens", Integer, "part of output_tokens", |it| it.usage.reasoning_output_tokens.into()),
    field("usage", Json, "object of every count of its usage", |it| Value::json(&it.usage)),
    field("provenance", Text, "usage is reported, counted or estimated", |it| it.provenance.map(Value::name).into_value()),
    field("cost_nano_usd", Integer, "whole billionths of a USD; null when no price is known", |it| it.cost_nano_usd.into()),
    field("cost_usd", Usd, "the same in USD, nine decimals", |it| it.cost_nano_usd.into()),
    field("cost_source", Text, "table, config, upstream or held", |it| it.cost_source.map(Value::name).into_value()),
    field("duration_us", Integer, "microseconds from its start to its end", |it| it.duration_us.into()),
    field("forwarded_us", Integer, "to the departure for the upstream", |it| it.forwarded_us.into()),
    field("head_us", Integer, "to the head of the response", |it| it.head_us.into()),
    field("first_chunk_us", Integer, "to the first bytes of its body", |it| it.first_chunk_us.into()),
    field("request_bytes", Integer, "on the wire", |it| it.request_bytes.into()),
    field("response_bytes", Integer, "on the wire", |it| it.response_bytes.into()),
    field("client", Text, "what the client says it is", |it| it.client.as_ref().into()),
    field("retry", Integer, "0 for a first try", |it| it.retry.into()),
    field("is_pending", Flag, "its work goes on at the upstream", |it| it.is_pending.into()),
    field("decision", Text, "what budgets and loops did to it; null where let through", |it| it.decision.as_ref().into()),
    field("error", Text, "what went wrong", |it| it.error.as_ref().into()),
];

/// For columns of closed sets, whose names are values already.
trait IntoValue {
    fn into_value(self) -> Value;
}

impl IntoValue for Option<Value> {
    fn into_value(self) -> Value {
        self.unwrap_or(Value::Null)
    }
}

fn outcome(call: &CallRow) -> Value {
    Value::name(call.outcome.map_or(OPEN, Into::into))
}

/// A number of a call.
pub struct Measured {
    pub call: CallId,
    pub started_at: Timestamp,
    pub run: Option<Label>,
    pub agent: Label,
    pub variant: Option<Label>,
    pub source: &'static str,
    pub name: String,
    pub value: Option<f64>,
}

#[rustfmt::skip]
pub const METRICS: &[Field<Measured>] = &[
    field("call_id", Text, "the call it came with", |it| it.call.into()),
    field("started_at", Time, "when that call started", |it| it.started_at.into()),
    field("run_id", Text, "run of that call", |it| it.run.as_ref().into()),
    field("agent_name", Text, "agent of that call", |it| (&it.agent).into()),
    field("variant", Text, "variant of that call", |it| it.variant.as_ref().into()),
    field("source", Text, "where it came from: header", |it| Value::name(it.source)),
    field("name", Text, "what is measured", |it| (&it.name).into()),
    field("value", Number, "the number", |it| it.value.into()),
];

/// The numbers of a call: those that came as headers.
pub fn measured(call: &CallDetail) -> Vec<Measured> {
    let row = &call.row;
    let metrics = call.admission.iter().flat_map(|it| &it.attribution.metrics);
    metrics
        .map(|(name, value)| Measured {
            call: row.id,
            started_at: row.started_at,
            run: row.run.clone(),
            agent: row.agent.clone(),
            variant: row.variant.clone(),
            source: "header",
            name: name.clone(),
            value: value.as_number(),
        })
        .collect()
}
