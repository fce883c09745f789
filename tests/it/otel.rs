//! What an OpenTelemetry collector is told, however it behaves.

use std::fs;
use std::net::SocketAddr;

use open_aiops::clock::Clock;
use open_aiops::core::time::Timestamp;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::accounts::{chat, used};
use crate::harness::collector::{Collector, Reply, attribute, measured};
use crate::harness::process::Server;
use crate::harness::proxy::Setup;
use crate::harness::records::ask;
use crate::harness::tls::Identity;
use crate::harness::{Ask, Proxy, Upstream, json, post, reply, sse, within};
use crate::otel_traces::{hex, otel};

pub(crate) async fn services() -> (Upstream, Collector) {
    (
        Upstream::answers(used(900, 50)).await,
        Collector::start().await,
    )
}

pub(crate) fn telling(upstream: &Upstream, collector: &Collector, lines: &str) -> Setup {
    Proxy::with(upstream).sections(&otel(collector, lines))
}

pub(crate) async fn called(proxy: &Proxy, asks: &[Ask]) {
    for ask in asks {
        proxy.call(ask).await;
    }
    within("the end", proxy.app.settled()).await;
}

/// Waits until the proxy counts this.
pub(crate) async fn counts(proxy: &Proxy, line: &str) {
    within("a count", async {
        loop {
            let page = ask(proxy.app.admin_address(), "/metrics").await;
            if page.text().lines().any(|it| it == line) {
                return;
            }
        }
    })
    .await;
}

pub(crate) fn of_planner() -> Ask {
    chat("trip", 20).header("x-aiops-path", "/planner")
}

async fn a_run_is_told(lines: &str) {
    let (upstream, collector) = services().await;
    let setup = telling(&upstream, &collector, lines).env("OTLP_KEY", "key-0123456789");
    let proxy = setup.start().await;
    let researcher = chat("trip", 20).header("x-aiops-path", "/planner/researcher");
    called(&proxy, &[of_planner(), researcher]).await;
    let calls = collector.took(2).await;
    proxy.app.stop().await;
    let spans = collector.spans();
    let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "chat gpt-4o-mini",
            "chat gpt-4o-mini",
            "invoke_agent planner",
            "invoke_agent researcher",
            "invoke_workflow"
        ]
    );
    let sent = upstream.requests();
    for (span, sent) in calls.iter().zip(sent) {
        let parent = sent.header("traceparent").unwrap();
        assert!(parent.contains(&hex(&span.span_id)), "{parent}");
        let of = spans.iter().find(|it| it.span_id == span.parent_span_id);
        assert!(of.unwrap().name.starts_with("invoke_agent "));
    }
    let resource = collector.requests()[0].resource_spans[0]
        .resource
        .clone()
        .unwrap();
    let of = |key| attribute(&resource.attributes, key);
    assert_eq!(of("service.name").as_deref(), Some("agents"));
    assert_eq!(of("deployment.environment.name").as_deref(), Some("test"));
    let cost = attribute(&calls[0].attributes, "aiops.cost.nano_usd");
    assert_eq!(cost.as_deref(), Some("165000"));
    for (_, headers) in collector.heads() {
        assert_eq!(headers["x-key"], "key-0123456789");
    }
}

const NAMED: &str = "metrics = false\nservice_name = \"agents\"\n\
    resource = { \"deployment.environment.name\" = \"test\" }\n\
    headers_env = { x-key = \"OTLP_KEY\" }";

#[tokio::test]
async fn a_run_is_told_by_http_with_its_agents_when_it_is_over() {
    a_run_is_told(NAMED).await;
}

#[tokio::test]
async fn a_run_is_told_by_grpc_with_its_agents_when_it_is_over() {
    a_run_is_told(&format!("protocol = \"grpc\"\n{NAMED}")).await;
}

#[tokio::test]
async fn a_collector_behind_tls_is_trusted_by_its_certificate_alone() {
    for protocol in ["http", "grpc"] {
        let identity = Identity::new();
        let upstream = Upstream::answers(used(900, 50)).await;
        let collector = Collector::secure(&identity).await;
        let lines = format!("metrics = false\nprotocol = {protocol:?}");
        let stranger = telling(&upstream, &collector, &lines).start().await;
        called(&stranger, &[of_planner()]).await;
        let failed = "open_aiops_otel_failures_total{signal=\"traces\"} 1";
        counts(&stranger, failed).await;
        assert!(collector.heads().is_empty());
        let setup = Proxy::with(&upstream);
        let (certificate, _) = identity.write(setup.dir.path());
        let lines = format!("{lines}\nextra_ca_file = {certificate:?}");
        let setup = setup.sections(&otel(&collector, &lines));
        let proxy = setup.start().await;
        called(&proxy, &[of_planner()]).await;
        let spans = collector.took(1).await;
        assert_eq!(spans[0].name, "chat gpt-4o-mini", "{protocol}");
    }
}

#[tokio::test]
async fn what_was_said_is_told_only_where_that_is_switched_on() {
    for (lines, expected) in [("content = true", Some("hello")), ("", None)] {
        let (upstream, collector) = services().await;
        let proxy = telling(&upstream, &collector, lines).start().await;
        called(&proxy, &[of_planner()]).await;
        let spans = collector.took(1).await;
        let of = |key| attribute(&spans[0].attributes, key);
        assert_eq!(of("output.value").as_deref(), expected);
        assert_eq!(of("gen_ai.input.messages").is_some(), expected.is_some());
        assert_eq!(of("gen_ai.request.max_tokens").as_deref(), Some("20"));
    }
}

#[tokio::test]
async fn what_a_collector_does_not_take_is_told_by_the_next_process() {
    let (upstream, collector) = services().await;
    let setup = || telling(&upstream, &collector, "metrics = false");
    collector.says(Reply::Status(503));
    let first = setup().start().await;
    called(&first, &[of_planner()]).await;
    let failed = "open_aiops_otel_failures_total{signal=\"traces\"} 1";
    counts(&first, failed).await;
    let dir = first.dir.clone();
    first.app.stop().await;
    assert!(collector.spans().is_empty());
    collector.says(Reply::Takes);
    let second = setup().on_data_of(&dir).start().await;
    let spans = collector.took(1).await;
    assert_eq!(spans[0].name, "chat gpt-4o-mini");
    second.app.stop().await;
    let count = collector.spans().len();
    let third = setup().on_data_of(&dir).start().await;
    called(&third, &[chat("next", 20)]).await;
    let spans = collector.took(count + 1).await;
    assert_eq!(
        attribute(&spans[count].attributes, "aiops.run").as_deref(),
        Some("next")
    );
}

#[tokio::test]
async fn what_waited_too_long_for_the_collector_is_dropped_and_counted() {
    let (upstream, collector) = services().await;
    collector.says(Reply::Status(503));
    let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
    let setup = telling(
        &upstream,
        &collector,
        "metrics = false\ngive_up_after = \"10m\"",
    );
    let proxy = setup.on_clock(&clock).start().await;
    called(&proxy, &[of_planner(), of_planner()]).await;
    counts(
        &proxy,
        "open_aiops_otel_failures_total{signal=\"traces\"} 1",
    )
    .await;
    clock.advance_micros(601 * 1_000_000);
    let dropped = "open_aiops_otel_dropped_total{signal=\"traces\",reason=\"late\"} 2";
    counts(&proxy, dropped).await;
    collector.says(Reply::Takes);
    called(&proxy, &[chat("later", 20)]).await;
    let spans = collector.until("a later call", || {
        let spans = collector.spans();
        let of = |run: &str| {
            let runs = spans
                .iter()
                .map(|it| attribute(&it.attributes, "aiops.run"));
            runs.filter(|it| it.as_deref() == Some(run)).count()
        };
        (of("later") > 0).then(|| of("trip"))
    });
    spans.await;
    let calls = collector.spans().into_iter();
    assert_eq!(calls.filter(|it| it.name.starts_with("chat")).count(), 1);
}

#[tokio::test]
async fn what_a_collector_rejects_is_counted_and_not_tried_again() {
    for protocol in ["http", "grpc"] {
        let (upstream, collector) = services().await;
        let lines = format!("metrics = false\nprotocol = {protocol:?}");
        let proxy = telling(&upstream, &collector, &lines).start().await;
        collector.says(Reply::Rejects(1));
        called(&proxy, &[of_planner()]).await;
        let name = "open_aiops_otel_dropped_total{signal=\"traces\",reason=\"rejected\"}";
        counts(&proxy, &format!("{name} 1")).await;
        collector.says(Reply::Status(400));
        called(&proxy, &[of_planner()]).await;
        counts(&proxy, &format!("{name} 2")).await;
        collector.says(Reply::Takes);
        called(&proxy, &[of_planner()]).await;
        counts(
            &proxy,
            "open_aiops_otel_exported_total{signal=\"traces\"} 1",
        )
        .await;
        assert_eq!(collector.requests().len(), 3, "{protocol}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_told_in_parts() {
    for protocol in ["http", "grpc"] {
        let (upstream, collector) = services().await;
        collector.says(Reply::Status(503));
        let lines = format!("metrics = false\nprotocol = {protocol:?}");
        let setup = || telling(&upstream, &collector, &lines);
        let first = setup().start().await;
        called(&first, &vec![of_planner(); 7]).await;
        let dir = first.dir.clone();
        first.app.stop().await;
        collector.says(Reply::AtMost(2));
        let _second = setup().on_data_of(&dir).start().await;
        let spans = collector.took(7).await;
        let ids: std::collections::BTreeSet<_> = spans.iter().map(|it| &it.span_id).collect();
        assert_eq!(ids.len(), 7, "{protocol}: each once");
    }
}

#[tokio::test]
async fn a_span_that_is_too_large_is_told_without_what_was_said() {
    let (upstream, collector) = services().await;
    let lines = "metrics = false\ncontent = true";
    let proxy = telling(&upstream, &collector, lines).start().await;
    collector.says(Reply::AtMostBytes(8 << 10));
    let text = "word ".repeat(4 << 10);
    let body = serde_json::json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]});
    called(&proxy, &[post("/v1/chat/completions", body.to_string())]).await;
    let spans = collector.took(1).await;
    let of = |key| attribute(&spans[0].attributes, key);
    assert_eq!(of("gen_ai.input.messages"), None);
    assert_eq!(of("gen_ai.response.model").as_deref(), Some("gpt-4o-mini"));
}

#[tokio::test]
async fn what_can_be_lost_is_counted_from_the_start_as_nothing() {
    let (upstream, collector) = services().await;
    let proxy = telling(&upstream, &collector, "").start().await;
    for signal in ["traces", "metrics"] {
        let of = |name: &str| format!("open_aiops_otel_{name}_total{{signal=\"{signal}\"}} 0");
        counts(&proxy, &of("exported")).await;
        counts(&proxy, &of("failures")).await;
        for reason in ["late", "rejected", "gone", "full"] {
            let name = "open_aiops_otel_dropped_total";
            let labels = format!("signal=\"{signal}\",reason=\"{reason}\"");
            counts(&proxy, &format!("{name}{{{labels}}} 0")).await;
        }
    }
    let page = ask(proxy.app.admin_address(), "/metrics").await;
    assert!(!page.text().contains("signal=\"logs\""), "they are off");
}

#[tokio::test]
async fn what_was_said_before_a_failure_did_not_end_by_itself() {
    let said = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Sun"}}]}"#;
    for (status, reason) in [(200, "stop"), (500, "error")] {
        let answer = reply(status).header("content-type", "application/json");
        let upstream = Upstream::answers(answer.body(said)).await;
        let collector = Collector::start().await;
        let proxy = telling(&upstream, &collector, "content = true");
        let proxy = proxy.start().await;
        called(&proxy, &[of_planner()]).await;
        let spans = collector.took(1).await;
        let output = attribute(&spans[0].attributes, "gen_ai.output.messages").unwrap();
        let output: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert_eq!(output[0]["finish_reason"], reason, "{output}");
    }
}

/// A way to a collector whose first connection goes nowhere: what is sent over it is never answered.
async fn dead_at_first(collector: &Collector) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let far = collector.url().replace("http://", "");
    tokio::spawn(async move {
        let _dead = socket.accept().await.unwrap();
        loop {
            let (mut near, _) = socket.accept().await.unwrap();
            let mut far = TcpStream::connect(&far).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    address
}

#[tokio::test]
async fn a_connection_that_is_dead_is_left_for_another_one() {
    for protocol in ["http", "grpc"] {
        let (upstream, collector) = services().await;
        let address = dead_at_first(&collector).await;
        let section = format!(
            "[otel]\nendpoint = \"http://{address}\"\nprotocol = {protocol:?}\n\
             metrics = false\ntimeout = \"1s\""
        );
        let proxy = Proxy::with(&upstream).sections(&section).start().await;
        called(&proxy, &[of_planner()]).await;
        let spans = collector.took(1).await;
        assert_eq!(spans[0].name, "chat gpt-4o-mini", "{protocol}");
    }
}

#[tokio::test]
async fn a_bookmark_that_is_none_is_counted_and_spans_go_on_from_there() {
    let (upstream, collector) = services().await;
    let setup = || telling(&upstream, &collector, "metrics = false");
    let first = setup().start().await;
    let dir = first.dir.clone();
    first.app.stop().await;
    let file = dir.path().join("data/otel-bookmark");
    assert!(file.exists());
    fs::write(file, "12-").unwrap();
    let second = setup().on_data_of(&dir).start().await;
    let gone = "open_aiops_otel_dropped_total{signal=\"traces\",reason=\"gone\"} 1";
    counts(&second, gone).await;
    called(&second, &[of_planner()]).await;
    assert_eq!(collector.took(1).await[0].name, "chat gpt-4o-mini");
}

#[tokio::test]
async fn how_far_spans_are_behind_grows_while_the_collector_is_away() {
    let (upstream, collector) = services().await;
    collector.says(Reply::Status(503));
    let proxy = telling(&upstream, &collector, "metrics = false")
        .start()
        .await;
    called(&proxy, &[of_planner()]).await;
    let lag = async || {
        let page = ask(proxy.app.admin_address(), "/metrics").await;
        let text = page.text();
        let line = text
            .lines()
            .find_map(|it| it.strip_prefix("open_aiops_otel_lag_bytes "));
        line.unwrap().parse::<u64>().unwrap()
    };
    within("a first lag", async { while lag().await == 0 {} }).await;
    let before = lag().await;
    called(&proxy, &[of_planner()]).await;
    within("a greater one", async { while lag().await <= before {} }).await;
    collector.says(Reply::Takes);
    within("none", async { while lag().await > 0 {} }).await;
}

/// Calls of three kinds, and what was measured of them.
async fn measured_calls(conventions: &str) -> (Collector, u16) {
    let stream = sse([
        "data: {\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":5}}\n\n",
        "data: [DONE]\n\n",
    ]);
    let answers = [used(900, 50), stream, reply(500).body("{}")];
    let (upstream, collector) = (
        Upstream::answers_each(answers).await,
        Collector::start().await,
    );
    let lines = format!("traces = false\nconventions = {conventions:?}");
    let proxy = telling(&upstream, &collector, &lines).start().await;
    let body =
        r#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let streamed = crate::harness::post("/v1/chat/completions", body);
    called(&proxy, &[chat("r", 20), streamed, chat("r", 20)]).await;
    assert_eq!(
        upstream.requests()[0].header("traceparent"),
        None,
        "traces are off"
    );
    proxy.app.stop().await;
    (collector, upstream.address().port())
}

#[tokio::test]
async fn metrics_of_the_earlier_conventions_are_told_at_the_end_at_last() {
    let (collector, port) = measured_calls("semconv-1.41").await;
    let metrics = collector.metrics();
    let of = |name, with: &[(&str, &str)]| measured(&metrics, name, with);
    let tokens = "gen_ai.client.token.usage";
    let port = port.to_string();
    let model = ("gen_ai.request.model", "gpt-4o-mini");
    let input = [
        ("gen_ai.token.type", "input"),
        model,
        ("server.port", &*port),
    ];
    assert_eq!(of(tokens, &input), Some(1000.0));
    assert_eq!(of(tokens, &[("gen_ai.token.type", "output")]), Some(55.0));
    let duration = "gen_ai.client.operation.duration";
    assert!(of(duration, &[("error.type", "500")]).is_some());
    assert!(of("gen_ai.client.operation.time_to_first_chunk", &[]).is_some());
    assert!(metrics.iter().all(|it| !it.name.contains("inference")));
}

#[tokio::test]
async fn metrics_that_are_too_large_together_are_told_in_parts() {
    for protocol in ["http", "grpc"] {
        let (upstream, collector) = services().await;
        let lines = format!("traces = false\nprotocol = {protocol:?}");
        let proxy = telling(&upstream, &collector, &lines).start().await;
        called(&proxy, &[of_planner(), of_planner()]).await;
        collector.says(Reply::AtMostBytes(1200));
        proxy.app.stop().await;
        let parts = collector.metrics_of_each();
        assert!(parts.len() > 1, "{protocol}");
        for (kind, sum) in [("input", 1800.0), ("output", 100.0)] {
            let with = [("gen_ai.token.type", kind)];
            let of = |part: &Vec<_>| measured(part, "gen_ai.client.token.usage", &with);
            let found: Vec<f64> = parts.iter().filter_map(of).collect();
            assert_eq!(found, [sum], "{protocol}: {kind}");
        }
    }
}

#[tokio::test]
async fn metrics_of_the_later_conventions_have_names_of_their_own() {
    let (collector, _) = measured_calls("genai-0.1").await;
    let metrics = collector.metrics();
    let of = |name, with: &[(&str, &str)]| measured(&metrics, name, with);
    let spent = "gen_ai.client.inference.usage.input_tokens";
    assert_eq!(
        of(spent, &[("gen_ai.token.modality", "unknown")]),
        Some(1000.0)
    );
    assert_eq!(
        of("gen_ai.client.inference.operation.output_tokens", &[]),
        Some(55.0)
    );
    assert!(of("gen_ai.client.inference.duration", &[("error.type", "500")]).is_some());
    assert!(
        metrics
            .iter()
            .all(|it| it.name != "gen_ai.client.token.usage")
    );
}

#[tokio::test]
async fn the_log_of_the_program_is_told_without_what_telling_it_logs() {
    let (upstream, collector) = (
        Upstream::answers(json("{}")).await,
        Collector::start().await,
    );
    let setup = telling(&upstream, &collector, "logs = true\nmetrics = false");
    let dir = setup.dir.clone();
    fs::write(dir.path().join("config.toml"), setup.text()).unwrap();
    let server = Server::start(dir.path()).await;
    let lines = || {
        let scopes = collector.logs().into_iter().flat_map(|it| it.resource_logs);
        let scopes = scopes.flat_map(|it| it.scope_logs);
        let lines = scopes.flat_map(|it| it.log_records);
        lines.map(|it| format!("{:?}", it.body)).collect::<Vec<_>>()
    };
    let opened = |line: &String| line.contains("ledger");
    collector
        .until("a line", || lines().iter().any(opened).then_some(()))
        .await;
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    let told = lines();
    assert!(told.iter().any(|it| it.contains("draining")), "{told:?}");
    assert!(
        told.iter().all(|it| !it.contains("OpenTelemetry")),
        "{told:?}"
    );
}
