//! What is told of calls, and under which names.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;

use super::content::Content;
use super::conventions::TABLE;
use super::facts::Facts;
use super::span::{leave_out_content, of_call};
use crate::admin::sample::{Call, PLANNER, RESEARCHER, admission, label, settlement};
use crate::config::{Config, Conventions, UpstreamConfig};
use crate::core::call::{Admission, CostSource, Operation, Outcome, Settlement, Timings};
use crate::core::digest::DigestSeed;
use crate::core::id::CallId;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::trace::TraceContext;
use crate::core::usage::Usage;
use crate::wire::parameters::Parameters;

mod runs;

const SEED: DigestSeed = DigestSeed(7);
const BOTH: [Conventions; 2] = [Conventions::Semconv141, Conventions::GenAi01];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

/// The two records of a call that began so many seconds in and took two.
fn records(seconds: i64, call: Call) -> (Admission, Settlement) {
    let number = u8::try_from(seconds % 256).unwrap();
    let admission = admission(CallId::from_bytes([number; 16]), at(seconds), call);
    let settlement = settlement(admission.clone(), call, call.outcome.unwrap());
    (admission, settlement)
}

fn openai() -> UpstreamConfig {
    Config::default().upstreams.remove(0)
}

fn of<'c>(records: &'c (Admission, Settlement), upstream: Option<&UpstreamConfig>) -> Facts<'c> {
    Facts::of_records((&records.0, &records.1), upstream, SEED)
}

/// Everything that may be known of a call.
fn rich() -> (Admission, Settlement) {
    let (mut admission, mut settlement) = records(1, RESEARCHER);
    admission.attribution.user = Some(label("ada"));
    admission.attribution.variant = Some(label("b"));
    admission.attribution.parent_run = Some(label("week"));
    admission.client = Some(label("OpenAI/Python"));
    admission.previous_response = Some(label("resp_1"));
    admission.decision = Some("output lowered".to_owned());
    admission.retry = 1;
    settlement.cost = Some(NanoUsd::new(2_500_000));
    settlement.cost_source = Some(CostSource::Table);
    settlement.response_id = Some(label("chatcmpl-1"));
    settlement.response_model = Some(label("gpt-5-2026"));
    settlement.service_tier = Some(label("flex"));
    settlement.is_pending = true;
    settlement.outcome = Outcome::UpstreamError;
    settlement.status = Some(429);
    settlement.error = Some("slow down".to_owned());
    settlement.usage = Usage {
        input_tokens: 1000,
        output_tokens: 50,
        cache_read_input_tokens: 600,
        cache_write_input_tokens: 100,
        reasoning_output_tokens: 20,
        audio_input_tokens: 1,
        audio_output_tokens: 2,
        image_input_tokens: 3,
        image_output_tokens: 4,
        ..Usage::default()
    };
    settlement.timings = Timings {
        forwarded_us: Some(100_000),
        head_us: Some(200_000),
        first_chunk_us: Some(350_000),
        total_us: 2_000_000,
    };
    (admission, settlement)
}

fn told(facts: &mut Facts<'_>) {
    facts.parameters = Parameters::of(
        br#"{"max_tokens":9,"n":2,"temperature":0.5,"top_p":1,"top_k":4,"frequency_penalty":1,
            "presence_penalty":1,"seed":7,"stop":["a"],"reasoning_effort":"low","dimensions":8,
            "encoding_format":"float","service_tier":"flex","response_format":{"type":"json_object"}}"#,
    );
    let text = || Some("[]".to_owned());
    facts.content = Some(Content {
        instructions: text(),
        input: text(),
        output: text(),
        tools: text(),
        asked: text(),
        said: text(),
        left_out: 1,
    });
}

fn value<'s>(span: &'s Span, key: &str) -> Option<&'s Value> {
    let mut found = span.attributes.iter().filter(|it| it.key == key);
    let (first, None) = (found.next(), found.next()) else {
        panic!("{key} is there twice");
    };
    first?.value.as_ref()?.value.as_ref()
}

#[track_caller]
fn text(span: &Span, key: &str) -> String {
    match value(span, key) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    }
}

#[track_caller]
fn number(span: &Span, key: &str) -> i64 {
    match value(span, key) {
        Some(Value::IntValue(number)) => *number,
        other => panic!("{key}: {other:?}"),
    }
}

#[track_caller]
fn float(span: &Span, key: &str) -> f64 {
    match value(span, key) {
        Some(Value::DoubleValue(number)) => *number,
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn a_call_is_a_client_span_with_its_own_times() {
    let records = records(10, PLANNER);
    let facts = of(&records, None);
    let span = of_call(&facts, Conventions::Semconv141);
    assert_eq!(span.name, "chat gpt-5");
    assert_eq!(span.kind, i32::from(SpanKind::Client));
    assert_eq!(span.start_time_unix_nano, 10_000_000_000);
    assert_eq!(span.end_time_unix_nano, 12_000_000_000);
    assert_eq!(span.status, None);
    assert_eq!(span.flags & 0xff, 1);
    assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
    assert_eq!(
        span,
        of_call(&facts, Conventions::Semconv141),
        "the same again"
    );
    assert_eq!(number(&span, "gen_ai.usage.input_tokens"), 1000);
    assert_eq!(text(&span, "gen_ai.agent.name"), "planner");
    assert_eq!(text(&span, "session.id"), "night/1");
    assert_eq!(text(&span, "aiops.path"), "/planner");
    assert_eq!(value(&span, "gen_ai.input.messages"), None);
    assert_eq!(value(&span, "error.type"), None);
}

#[test]
fn the_server_is_the_upstream_and_the_provider_follows_from_its_host() {
    let records = records(1, PLANNER);
    let upstream = openai();
    let span = of_call(&of(&records, Some(&upstream)), Conventions::GenAi01);
    assert_eq!(text(&span, "server.address"), "api.openai.com");
    assert_eq!(number(&span, "server.port"), 443);
    assert_eq!(text(&span, "gen_ai.provider.name"), "openai");
    let mut local = openai();
    local.base_url = "http://127.0.0.1:8000/v1".parse().unwrap();
    local.name = label("vllm");
    let mut records = records.clone();
    records.0.upstream = label("vllm");
    let span = of_call(&of(&records, Some(&local)), Conventions::GenAi01);
    assert_eq!(text(&span, "gen_ai.provider.name"), "vllm");
    assert_eq!(number(&span, "server.port"), 8000);
}

#[test]
fn what_failed_says_so_in_one_word_and_in_its_own() {
    let records = rich();
    let span = of_call(&of(&records, None), Conventions::Semconv141);
    let status = span.status.clone().unwrap();
    assert_eq!(status.code, i32::from(StatusCode::Error));
    assert_eq!(status.message, "slow down");
    assert_eq!(text(&span, "error.type"), "429");
    assert_eq!(text(&span, "langfuse.observation.level"), "ERROR");
    for (outcome, status, word) in [
        (
            Outcome::UpstreamUnavailable,
            Some(502),
            "upstream_unavailable",
        ),
        (Outcome::UpstreamUnavailable, Some(504), "timeout"),
        (Outcome::ClientGone, None, "client_gone"),
        (Outcome::Recovered, None, "recovered"),
    ] {
        let mut records = rich();
        (records.1.outcome, records.1.status) = (outcome, status);
        let span = of_call(&of(&records, None), Conventions::Semconv141);
        assert_eq!(text(&span, "error.type"), word);
    }
}

#[test]
fn both_generations_tell_the_same_by_names_of_their_own() {
    let records = rich();
    let mut facts = of(&records, None);
    told(&mut facts);
    let [old, new] = BOTH.map(|it| of_call(&facts, it));
    assert_eq!(
        number(&old, "gen_ai.usage.cache_creation.input_tokens"),
        100
    );
    assert_eq!(value(&old, "gen_ai.usage.cache_write.input_tokens"), None);
    assert_eq!(number(&new, "gen_ai.usage.cache_write.input_tokens"), 100);
    assert_eq!(
        value(&new, "gen_ai.usage.cache_creation.input_tokens"),
        None
    );
    assert!((float(&old, "gen_ai.request.top_k") - 4.0).abs() < f64::EPSILON);
    assert_eq!(number(&new, "gen_ai.request.top_k"), 4);
    assert_eq!(value(&old, "gen_ai.request.reasoning.level"), None);
    assert_eq!(text(&new, "gen_ai.request.reasoning.level"), "low");
    assert_eq!(text(&new, "gen_ai.request.previous_response.id"), "resp_1");
}

#[test]
fn what_backends_show_is_told_in_their_words() {
    let records = rich();
    let mut facts = of(&records, None);
    told(&mut facts);
    let span = of_call(&facts, Conventions::Semconv141);
    assert!((float(&span, "llm.cost.total") - 0.0025).abs() < f64::EPSILON);
    assert_eq!(number(&span, "aiops.cost.nano_usd"), 2_500_000);
    assert_eq!(number(&span, "llm.token_count.total"), 1050);
    assert!((float(&span, "gen_ai.response.time_to_first_chunk") - 0.25).abs() < f64::EPSILON);
    assert_eq!(text(&span, "user.id"), "ada");
    let json =
        |key: &str| -> serde_json::Value { serde_json::from_str(&text(&span, key)).unwrap() };
    assert_eq!(
        json("langfuse.observation.usage_details"),
        json!({"input": 300, "cache_read_input_tokens": 600, "cache_creation_input_tokens": 100,
            "output": 30, "output_reasoning_tokens": 20, "total": 1050})
    );
    assert_eq!(
        json("langfuse.observation.cost_details"),
        json!({"total": 0.0025})
    );
    assert_eq!(json("llm.invocation_parameters")["temperature"], 0.5);
    assert_eq!(json("metadata")["tag.team"], "search");
    assert_eq!(
        text(&span, "langfuse.trace.name"),
        "planner",
        "who began the run"
    );
    assert_eq!(
        text(&span, "langfuse.observation.completion_start_time"),
        "1970-01-01T00:00:01.350000Z"
    );
}

#[test]
fn every_row_of_the_table_is_told_of_some_call_and_documented() {
    let documented = std::fs::read_to_string("docs/opentelemetry.md").unwrap();
    for conventions in BOTH {
        let mut seen = BTreeSet::new();
        for operation in [
            Operation::Chat,
            Operation::Embeddings,
            Operation::Other,
            Operation::Image,
        ] {
            let mut records = rich();
            records.0.operation = operation;
            let upstream = openai();
            let mut facts = of(&records, Some(&upstream));
            told(&mut facts);
            let span = of_call(&facts, conventions);
            seen.extend(span.attributes.into_iter().map(|it| it.key));
        }
        for row in TABLE.into_iter().flatten() {
            let Some(name) = row.name(conventions) else {
                continue;
            };
            assert!(seen.contains(name), "{name} is never told");
            let mut said = name.match_indices('.').map(|(dot, _)| &name[dot..]);
            let front = name.split_once('.').map_or(name, |(front, _)| front);
            let is_there = documented.contains(&format!("`{name}`"))
                || documented.contains(front)
                    && said.any(|end| documented.contains(&format!("`{end}`")))
                || documented.contains(&format!("`{}.*`", name.rsplit_once('.').unwrap().0))
                || name.starts_with("llm.token_count.")
                || name.starts_with("gen_ai.usage.audio.")
                || name.starts_with("gen_ai.usage.image.")
                || name.ends_with(".mime_type");
            assert!(is_there, "{name} is not in docs/opentelemetry.md");
        }
    }
}

#[test]
fn a_response_that_is_fetched_used_nothing_itself_and_is_not_cancelled() {
    let mut records = records(1, PLANNER);
    records.0.operation = Operation::Responses;
    records.0.method = "GET".to_owned();
    records.0.target = "/v1/responses/resp_1".to_owned();
    let facts = of(&records, None);
    let [old, new] = BOTH.map(|it| of_call(&facts, it));
    assert_eq!(text(&new, "gen_ai.operation.name"), "fetch_response");
    assert_eq!(text(&old, "gen_ai.operation.name"), "chat");
    for span in [&old, &new] {
        let name = text(span, "gen_ai.operation.name");
        assert_eq!(span.name, format!("{name} gpt-5"), "one name for one thing");
    }
    for span in [old, new] {
        assert_eq!(value(&span, "gen_ai.usage.input_tokens"), None);
        assert_eq!(value(&span, "llm.token_count.total"), None);
        assert_eq!(text(&span, "openinference.span.kind"), "CHAIN");
        assert_eq!(text(&span, "langfuse.observation.type"), "span");
        counts_nothing(&span);
    }
    let mut cancelled = records.clone();
    cancelled.0.method = "POST".to_owned();
    cancelled.0.target = "/v1/responses/resp_1/cancel".to_owned();
    let span = of_call(&of(&cancelled, None), Conventions::GenAi01);
    assert_eq!(text(&span, "gen_ai.operation.name"), "chat");
    assert_eq!(text(&span, "langfuse.observation.type"), "span");
    counts_nothing(&span);
}

/// Backends count by themselves where nobody says what was used.
#[track_caller]
fn counts_nothing(span: &Span) {
    let used = text(span, "langfuse.observation.usage_details");
    assert_eq!(used, r#"{"total":0}"#);
}

#[test]
fn backends_do_not_count_what_failed_or_used_nothing() {
    let mut failed = rich();
    failed.1.usage = Usage::default();
    let mut empty = records(1, PLANNER);
    empty.1.usage = Usage::default();
    for records in [failed, empty] {
        let span = of_call(&of(&records, None), Conventions::Semconv141);
        assert_eq!(text(&span, "langfuse.observation.type"), "generation");
        counts_nothing(&span);
    }
}

#[test]
fn a_tier_of_service_is_told_where_one_is_chosen() {
    let records = rich();
    let mut facts = of(&records, None);
    let mut tier = |body: &[u8]| {
        facts.parameters = Parameters::of(body);
        let span = of_call(&facts, Conventions::Semconv141);
        value(&span, "openai.request.service_tier").cloned()
    };
    let flex = Some(Value::StringValue("flex".to_owned()));
    assert_eq!(tier(br#"{"service_tier":"flex"}"#), flex);
    assert_eq!(tier(br#"{"service_tier":"auto"}"#), None);
}

#[test]
fn a_span_without_what_was_said_is_the_one_that_never_had_it() {
    let records = rich();
    let mut facts = of(&records, None);
    told(&mut facts);
    let mut span = of_call(&facts, Conventions::Semconv141);
    assert!(leave_out_content(&mut span));
    assert!(!leave_out_content(&mut span), "there is no more");
    facts.content = None;
    let plain = of_call(&facts, Conventions::Semconv141);
    let names = |span: &Span| {
        let names = span.attributes.iter().map(|it| it.key.clone());
        names
            .filter(|it| it != "aiops.content.left_out")
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&span), names(&plain));
}

#[test]
fn what_is_no_operation_of_the_conventions_is_named_by_its_method() {
    let mut records = records(1, PLANNER);
    records.0.operation = Operation::Other;
    records.0.method = "GET".to_owned();
    records.0.target = "/v1/models?limit=2".to_owned();
    let span = of_call(&of(&records, None), Conventions::GenAi01);
    assert_eq!(span.name, "GET");
    assert_eq!(text(&span, "url.path"), "/v1/models");
    assert_eq!(value(&span, "gen_ai.operation.name"), None);
}

#[test]
fn a_call_of_a_traced_client_stays_in_its_trace() {
    let mut records = records(1, PLANNER);
    let parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    records.0.trace = TraceContext::parse([&parent[..]], [&b"b=2,a=1"[..]]);
    let facts = of(&records, None);
    let span = of_call(&facts, Conventions::Semconv141);
    assert_eq!(span.trace_id[..2], [0x0a, 0xf7]);
    assert_eq!(span.parent_span_id[..2], [0xb7, 0xad]);
    assert_eq!(span.trace_state, "b=2,a=1");
    assert_eq!(span.flags, 0x301, "the parent is elsewhere");
    assert_eq!(value(&span, "langfuse.trace.name"), None);
    let mut tree = runs::none(Conventions::Semconv141);
    assert!(tree.hear(&facts, runs::heard("0")).is_empty());
    assert!(tree.rest().is_empty(), "its client traces agents itself");
}
