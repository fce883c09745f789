//! The one table of what is told of a call under which name. What `docs/opentelemetry.md` lists is
//! read off it.

use serde_json::{Map, json};

use super::facts::Facts;
use super::value::{Value, count, label, text, texts, usd};
use crate::config::Conventions;
use crate::core::call::Operation;
use crate::core::id::Label;
use crate::core::trace::chain;
use crate::core::usage::Usage;

/// The tag that names the workflow a run is of.
pub(super) const RUN_NAME: &str = "run_name";
/// Tags that are another value each time: nobody filters by them.
const IDS: [&str; 5] = [
    "request_id",
    "span_id",
    "parent_span_id",
    "turn_id",
    "task_id",
];

/// One attribute.
pub(super) struct Row {
    /// By [`Conventions`]; none where these have no such thing.
    names: [Option<&'static str>; 2],
    value: fn(&Facts<'_>) -> Option<Value>,
}

impl Row {
    pub(super) fn name(&self, conventions: Conventions) -> Option<&'static str> {
        let [semconv, genai] = self.names;
        match conventions {
            Conventions::Semconv141 => semconv,
            Conventions::GenAi01 => genai,
        }
    }

    pub(super) fn value(&self, facts: &Facts<'_>) -> Option<Value> {
        (self.value)(facts)
    }
}

type Read = fn(&Facts<'_>) -> Option<Value>;

const fn same(name: &'static str, value: Read) -> Row {
    renamed(name, name, value)
}

const fn renamed(semconv: &'static str, genai: &'static str, value: Read) -> Row {
    Row {
        names: [Some(semconv), Some(genai)],
        value,
    }
}

const fn only_semconv(name: &'static str, value: Read) -> Row {
    Row {
        names: [Some(name), None],
        value,
    }
}

const fn only_genai(name: &'static str, value: Read) -> Row {
    Row {
        names: [None, Some(name)],
        value,
    }
}

/// The conventions of `OpenTelemetry`.
#[rustfmt::skip]
pub(super) const GENAI: &[Row] = &[
    only_semconv("gen_ai.operation.name", |it| it.operation_name(Conventions::Semconv141).map(text)),
    only_genai("gen_ai.operation.name", |it| it.operation_name(Conventions::GenAi01).map(text)),
    same("gen_ai.provider.name", |it| Some(text(&*it.provider))),
    same("gen_ai.request.model", |it| label(it.admission.request_model.as_ref())),
    same("gen_ai.request.stream", |it| it.admission.stream.then_some(Value::BoolValue(true))),
    same("gen_ai.request.max_tokens", |it| it.parameters.max_tokens.map(Value::IntValue)),
    same("gen_ai.request.choice.count", |it| it.parameters.choices.filter(|n| *n != 1).map(Value::IntValue)),
    same("gen_ai.request.temperature", |it| it.parameters.temperature.map(Value::DoubleValue)),
    same("gen_ai.request.top_p", |it| it.parameters.top_p.map(Value::DoubleValue)),
    only_semconv("gen_ai.request.top_k", |it| it.parameters.top_k.and_then(|k| i32::try_from(k).ok()).map(|k| Value::DoubleValue(k.into()))),
    only_genai("gen_ai.request.top_k", |it| it.parameters.top_k.map(Value::IntValue)),
    same("gen_ai.request.frequency_penalty", |it| it.parameters.frequency_penalty.map(Value::DoubleValue)),
    same("gen_ai.request.presence_penalty", |it| it.parameters.presence_penalty.map(Value::DoubleValue)),
    same("gen_ai.request.seed", |it| it.parameters.seed.map(Value::IntValue)),
    same("gen_ai.request.stop_sequences", |it| texts(&it.parameters.stop)),
    same("gen_ai.request.encoding_formats", |it| texts(&it.parameters.encoding)),
    only_genai("gen_ai.request.reasoning.level", |it| it.parameters.reasoning.as_ref().map(text)),
    only_genai("gen_ai.request.previous_response.id", |it| label(it.admission.previous_response.as_ref())),
    same("gen_ai.embeddings.dimension.count", |it| it.parameters.dimensions.map(Value::IntValue)),
    same("gen_ai.output.type", |it| it.parameters.output.map(text).or_else(|| output(it))),
    same("gen_ai.conversation.id", |it| label(it.conversation)),
    same("gen_ai.agent.name", |it| Some(text(it.admission.attribution.agent.as_str()))),
    same("gen_ai.response.id", |it| label(it.settlement.response_id.as_ref())),
    same("gen_ai.response.model", |it| label(it.settlement.response_model.as_ref())),
    same("gen_ai.response.finish_reasons", |it| texts(it.settlement.finish_reasons.iter().map(Label::as_str))),
    same("gen_ai.response.time_to_first_chunk", |it| it.first_chunk().map(Value::DoubleValue)),
    same("gen_ai.usage.input_tokens", |it| used(it, |of| of.input_tokens)),
    same("gen_ai.usage.output_tokens", |it| used(it, |of| of.output_tokens)),
    same("gen_ai.usage.cache_read.input_tokens", |it| part(it, |of| of.cache_read_input_tokens)),
    renamed("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens", |it| part(it, |of| of.cache_write_input_tokens)),
    same("gen_ai.usage.reasoning.output_tokens", |it| part(it, |of| of.reasoning_output_tokens)),
    same("gen_ai.usage.audio.input_tokens", |it| part(it, |of| of.audio_input_tokens)),
    same("gen_ai.usage.audio.output_tokens", |it| part(it, |of| of.audio_output_tokens)),
    same("gen_ai.usage.image.input_tokens", |it| part(it, |of| of.image_input_tokens)),
    same("gen_ai.usage.image.output_tokens", |it| part(it, |of| of.image_output_tokens)),
    same("openai.request.service_tier", |it| it.parameters.service_tier.as_ref().filter(|tier| *tier != "auto").map(text)),
    same("openai.response.service_tier", |it| label(it.settlement.service_tier.as_ref())),
    same("server.address", |it| it.server.as_ref().map(|of| text(&*of.address))),
    same("server.port", |it| it.server.as_ref().map(|of| Value::IntValue(of.port.into()))),
    same("http.request.method", |it| it.operation().is_none().then(|| text(&*it.admission.method))),
    same("url.path", |it| it.operation().is_none().then(|| text(path(it)))),
    same("http.response.status_code", |it| it.settlement.status.map(|status| Value::IntValue(status.into()))),
    same("error.type", |it| it.error_type().map(text)),
    same("gen_ai.system_instructions", |it| it.content.as_ref()?.instructions.as_ref().map(text)),
    same("gen_ai.input.messages", |it| it.content.as_ref()?.input.as_ref().map(text)),
    same("gen_ai.output.messages", |it| it.content.as_ref()?.output.as_ref().map(text)),
    same("gen_ai.tool.definitions", |it| it.content.as_ref()?.tools.as_ref().map(text)),
];

/// What no convention has a name for.
#[rustfmt::skip]
pub(super) const OWN: &[Row] = &[
    same("aiops.call.id", |it| Some(text(it.admission.id.to_string()))),
    same("aiops.run", |it| label(it.admission.attribution.run.as_ref())),
    same("aiops.parent_run", |it| label(it.admission.attribution.parent_run.as_ref())),
    same("aiops.caller", |it| label(it.admission.attribution.caller.as_ref())),
    same("aiops.path", |it| Some(text(written(&chain(&it.admission.attribution))))),
    same("aiops.depth", |it| Some(Value::IntValue(it.admission.attribution.depth.into()))),
    same("aiops.agent.source", |it| Some(text(<&'static str>::from(it.admission.attribution.agent_source)))),
    same("aiops.variant", |it| label(it.admission.attribution.variant.as_ref())),
    same("aiops.upstream", |it| Some(text(it.admission.upstream.as_str()))),
    same("aiops.client", |it| label(it.admission.client.as_ref())),
    same("aiops.retry", |it| some(it.admission.retry.into())),
    same("aiops.outcome", |it| Some(text(<&'static str>::from(it.settlement.outcome)))),
    same("aiops.decision", |it| it.decision.map(text)),
    same("aiops.usage.provenance", |it| it.has_usage().then(|| text(<&'static str>::from(it.settlement.provenance)))),
    same("aiops.cost.usd", |it| it.settlement.cost.map(|cost| Value::DoubleValue(usd(cost)))),
    same("aiops.cost.nano_usd", |it| it.settlement.cost.map(|cost| Value::IntValue(cost.get()))),
    same("aiops.cost.source", |it| it.settlement.cost_source.map(|source| text(<&'static str>::from(source)))),
    same("aiops.pending", |it| it.settlement.is_pending.then_some(Value::BoolValue(true))),
    same("aiops.content.left_out", |it| it.content.as_ref().and_then(|of| some(of.left_out))),
];

/// What Phoenix and others that speak `OpenInference` show.
#[rustfmt::skip]
pub(super) const OPENINFERENCE: &[Row] = &[
    same("openinference.span.kind", |it| Some(text(kind(it)))),
    same("llm.model_name", |it| if is_embedding(it) { None } else { label(it.settlement.model.as_ref()) }),
    same("embedding.model_name", |it| if is_embedding(it) { label(it.settlement.model.as_ref()) } else { None }),
    same("llm.provider", |it| it.operation().map(|_| text(provider(&it.provider)))),
    same("llm.invocation_parameters", |it| parameters(it).map(text)),
    same("llm.token_count.prompt", |it| used(it, |of| of.input_tokens)),
    same("llm.token_count.completion", |it| used(it, |of| of.output_tokens)),
    same("llm.token_count.total", |it| used(it, |of| of.input_tokens.saturating_add(of.output_tokens))),
    same("llm.token_count.prompt_details.cache_read", |it| part(it, |of| of.cache_read_input_tokens)),
    same("llm.token_count.prompt_details.cache_write", |it| part(it, |of| of.cache_write_input_tokens)),
    same("llm.token_count.prompt_details.audio", |it| part(it, |of| of.audio_input_tokens)),
    same("llm.token_count.completion_details.reasoning", |it| part(it, |of| of.reasoning_output_tokens)),
    same("llm.token_count.completion_details.audio", |it| part(it, |of| of.audio_output_tokens)),
    same("llm.cost.total", |it| it.settlement.cost.map(|cost| Value::DoubleValue(usd(cost)))),
    same("session.id", |it| label(it.admission.attribution.run.as_ref().or(it.conversation))),
    same("user.id", |it| label(it.admission.attribution.user.as_ref())),
    same("metadata", |it| Some(text(metadata(it)))),
    same("tag.tags", |it| texts(tags(it))),
    same("input.value", |it| it.content.as_ref()?.asked.as_ref().map(text)),
    same("input.mime_type", |it| it.content.as_ref()?.asked.as_ref().map(|_| text("text/plain"))),
    same("output.value", |it| it.content.as_ref()?.said.as_ref().map(text)),
    same("output.mime_type", |it| it.content.as_ref()?.said.as_ref().map(|_| text("text/plain"))),
];

/// What Langfuse shows.
#[rustfmt::skip]
pub(super) const LANGFUSE: &[Row] = &[
    same("langfuse.observation.type", |it| Some(text(observation(it)))),
    same("langfuse.observation.model.name", |it| label(it.settlement.model.as_ref())),
    same("langfuse.observation.model.parameters", |it| parameters(it).map(text)),
    same("langfuse.observation.usage_details", |it| it.operation().map(|_| text(usage(it)))),
    same("langfuse.observation.cost_details", |it| it.settlement.cost.map(|cost| text(json!({"total": usd(cost)}).to_string()))),
    same("langfuse.observation.level", |it| Some(text(level(it)))),
    same("langfuse.observation.status_message", |it| it.settlement.error.as_ref().map(text)),
    same("langfuse.observation.completion_start_time", first_chunk_at),
    same("langfuse.observation.metadata", |it| Some(text(metadata(it)))),
    same("langfuse.observation.input", |it| it.content.as_ref()?.input.as_ref().map(text)),
    same("langfuse.observation.output", |it| it.content.as_ref()?.output.as_ref().map(text)),
    same("langfuse.trace.name", |it| (!it.place.is_clients).then(|| text(trace_name(it)))),
    same("langfuse.trace.tags", |it| if it.place.is_clients { None } else { texts(tags(it)) }),
];

/// All of them, as they stand on a span.
pub(super) const TABLE: [&[Row]; 4] = [GENAI, OWN, OPENINFERENCE, LANGFUSE];

/// Those that hold what was said, which a span can do without.
pub(super) const SAID: [&str; 10] = [
    "gen_ai.system_instructions",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.tool.definitions",
    "input.value",
    "input.mime_type",
    "output.value",
    "output.mime_type",
    "langfuse.observation.input",
    "langfuse.observation.output",
];

type Tokens = fn(&Usage) -> u64;

/// What it used, where that is its own.
fn used(facts: &Facts<'_>, of: Tokens) -> Option<Value> {
    let usage = &facts.settlement.usage;
    facts.has_usage().then(|| count(of(usage)))
}

/// A part of what it used, where there is any.
fn part(facts: &Facts<'_>, of: Tokens) -> Option<Value> {
    used(facts, of).filter(|_| of(&facts.settlement.usage) > 0)
}

fn some(of: u64) -> Option<Value> {
    (of > 0).then(|| count(of))
}

fn output(facts: &Facts<'_>) -> Option<Value> {
    match facts.admission.operation {
        Operation::Image => Some(text("image")),
        Operation::Speech => Some(text("speech")),
        _ => None,
    }
}

fn path<'f>(facts: &'f Facts<'_>) -> &'f str {
    let target = facts.admission.target.as_str();
    target.split('?').next().unwrap_or(target)
}

pub(super) fn written(path: &[Label]) -> String {
    let agents = path.iter().flat_map(|agent| ["/", agent.as_str()]);
    agents.collect()
}

fn is_embedding(facts: &Facts<'_>) -> bool {
    facts.admission.operation == Operation::Embeddings
}

fn kind(facts: &Facts<'_>) -> &'static str {
    match facts.operation() {
        None => "UNKNOWN",
        Some(_) if facts.is_fetch => "CHAIN",
        Some(_) if is_embedding(facts) => "EMBEDDING",
        Some(_) => "LLM",
    }
}

fn observation(facts: &Facts<'_>) -> &'static str {
    match facts.operation() {
        None => "span",
        // What it brings was made by another one.
        Some(_) if facts.is_fetch => "span",
        Some(_) if is_embedding(facts) => "embedding",
        Some(_) => "generation",
    }
}

/// `OpenInference` has names of its own.
fn provider(name: &str) -> &str {
    match name {
        "gcp.gemini" | "gcp.vertex_ai" => "google",
        "azure.ai.openai" | "azure.ai.inference" => "azure",
        "aws.bedrock" => "aws",
        "mistral_ai" => "mistralai",
        "x_ai" => "xai",
        "moonshot_ai" => "moonshot",
        other => other,
    }
}

fn level(facts: &Facts<'_>) -> &'static str {
    if facts.error_type().is_some() {
        "ERROR"
    } else if facts.decision.is_some() {
        "WARNING"
    } else {
        "DEFAULT"
    }
}

fn trace_name<'f>(facts: &'f Facts<'_>) -> &'f str {
    let attribution = &facts.admission.attribution;
    let named = attribution.tags.get(RUN_NAME);
    let first = attribution.path.first().or(attribution.caller.as_ref());
    named.or(first).unwrap_or(&attribution.agent).as_str()
}

fn first_chunk_at(facts: &Facts<'_>) -> Option<Value> {
    let first = facts.settlement.timings.first_chunk_us;
    let first = first.filter(|_| facts.admission.stream)?;
    let at = facts.admission.started_at.plus_micros(first);
    Some(text(at.to_string()))
}

/// Without what others keep apart: Langfuse adds them up. Nothing is said, too, for else it counts by
/// itself.
fn usage(facts: &Facts<'_>) -> String {
    let none = Usage::default();
    let of = if facts.has_usage() {
        &facts.settlement.usage
    } else {
        &none
    };
    let cached = of
        .cache_read_input_tokens
        .saturating_add(of.cache_write_input_tokens);
    let parts = [
        ("input", of.input_tokens.saturating_sub(cached)),
        ("cache_read_input_tokens", of.cache_read_input_tokens),
        ("cache_creation_input_tokens", of.cache_write_input_tokens),
        (
            "output",
            of.output_tokens.saturating_sub(of.reasoning_output_tokens),
        ),
        ("output_reasoning_tokens", of.reasoning_output_tokens),
        ("total", of.input_tokens.saturating_add(of.output_tokens)),
    ];
    let told = parts
        .into_iter()
        .filter(|(name, tokens)| *tokens > 0 || *name == "total");
    let told: Map<_, _> = told
        .map(|(name, tokens)| (name.to_owned(), tokens.into()))
        .collect();
    serde_json::Value::from(told).to_string()
}

fn parameters(facts: &Facts<'_>) -> Option<String> {
    let of = &facts.parameters;
    let mut told = json!({
        "max_tokens": of.max_tokens,
        "n": of.choices,
        "temperature": of.temperature,
        "top_p": of.top_p,
        "top_k": of.top_k,
        "frequency_penalty": of.frequency_penalty,
        "presence_penalty": of.presence_penalty,
        "seed": of.seed,
        "stop": Some(&of.stop).filter(|stop| !stop.is_empty()),
        "reasoning_effort": of.reasoning,
        "service_tier": of.service_tier,
        "dimensions": of.dimensions,
        "stream": facts.admission.stream.then_some(true),
    });
    let object = told.as_object_mut()?;
    object.retain(|_, value| !value.is_null());
    (!object.is_empty()).then(|| told.to_string())
}

/// What the client and we know of it and nobody has an attribute for, as one JSON object.
fn metadata(facts: &Facts<'_>) -> String {
    let of = &facts.admission.attribution;
    let name = |label: Option<&Label>| label.map(|it| it.as_str().to_owned());
    let mut told = json!({
        "agent": of.agent.as_str(),
        "caller": name(of.caller.as_ref()),
        "run": name(of.run.as_ref()),
        "parent_run": name(of.parent_run.as_ref()),
        "path": written(&chain(of)),
        "variant": name(of.variant.as_ref()),
        "upstream": facts.admission.upstream.as_str(),
        "call": facts.admission.id.to_string(),
        "decision": facts.decision,
    });
    if let Some(object) = told.as_object_mut() {
        object.retain(|_, value| !value.is_null());
        for (tag, value) in &of.tags {
            object.insert(format!("tag.{tag}"), value.as_str().into());
        }
        for (metric, value) in &of.metrics {
            object.insert(format!("metric.{metric}"), json!(value));
        }
    }
    told.to_string()
}

fn tags(facts: &Facts<'_>) -> Vec<String> {
    let of = &facts.admission.attribution;
    let variant = of.variant.iter().map(|it| format!("variant:{it}"));
    let tags = of
        .tags
        .iter()
        .filter(|(name, _)| !IDS.contains(&name.as_str()));
    let tags = tags.map(|(name, value)| format!("{name}:{value}"));
    variant.chain(tags).collect()
}
