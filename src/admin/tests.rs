use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::sample::{Call, FAILED, PLANNER, REQUEST, RESEARCHER, RESPONSE, Sample};
use super::*;
use crate::core::budget::Rule;
use crate::core::id::CallId;

mod access;
mod budgets;
mod export;
mod instances;
mod measured;

/// A listener over an own ledger at a fixed time.
struct Listener {
    state: AdminState,
    sample: Sample,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Listener {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(rules: &[Rule]) -> Self {
        let sample = Sample::new();
        let state = sample.state(rules);
        Self { state, sample }
    }

    fn router(&self) -> Router {
        router(self.state.clone(), Router::new())
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).header("host", "localhost:8788");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// The detail of the problem that `path` is answered with.
    async fn problem(&self, path: &str, status: u16) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        serde_json::from_slice::<Problem>(&answer.body)
            .unwrap()
            .detail
    }
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

// === health and status ===

#[tokio::test]
async fn a_draining_process_is_alive_but_not_ready() {
    let listener = Listener::new();
    assert_eq!(listener.get("/readyz").await.status, 200);
    listener.state.draining.store(true, Ordering::Relaxed);
    assert_eq!(listener.get("/healthz").await.status, 200);
    assert!(listener.problem("/readyz", 503).await.contains("ending"));
}

#[tokio::test]
async fn status_names_listeners_upstreams_and_uptime() {
    let listener = Listener::new();
    listener.state.clock.advance_micros(5_000_000);
    let status = listener.json("/api/v1/status").await;
    assert_eq!(status["uptime_us"], 5_000_000);
    assert_eq!(status["listeners"]["proxy"], "127.0.0.1:8787");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["commit"], crate::core::build::COMMIT);
    assert_eq!(status["ledger"]["failing"], false);
    let upstream = listener.state.config.load().upstreams[0].name.to_string();
    assert_eq!(status["upstreams"][0]["name"], upstream.as_str());
}

#[tokio::test]
async fn metrics_are_plain_text_for_who_asks_for_nothing_else() {
    let listener = Listener::new();
    listener.records(&[PLANNER]);
    listener.state.ledger.sync_index();
    let answer = listener.get("/metrics").await;
    assert_eq!(
        answer.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let page = answer.text();
    assert!(!page.contains("# EOF"));
    let syncs = listener.state.ledger.status().syncs.count();
    assert!(syncs > 0);
    let all = format!("open_aiops_ledger_sync_seconds_bucket{{le=\"+Inf\"}} {syncs}\n");
    assert!(page.contains(&all), "{page}");
}

#[tokio::test]
async fn the_configuration_reads_back() {
    let answer = Listener::new().get("/api/v1/config").await;
    let read = Config::parse("config", &answer.text(), &|_| None).unwrap();
    assert_eq!(read.to_string(), answer.text());
}

// === the guard ===

#[tokio::test]
async fn every_answer_is_hardened_refusals_too() {
    let listener = Listener::new();
    let foreign = Request::get("/")
        .header("host", "evil.example")
        .body(Body::empty())
        .unwrap();
    for answer in [
        listener.get("/").await,
        listener.get("/nowhere").await,
        listener.get("/api/v1/calls?limit=x").await,
        listener.send(foreign).await,
    ] {
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["referrer-policy"], "same-origin");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn requests_of_other_sites_get_nothing() {
    let listener = Listener::new();
    for (name, value) in [
        ("host", "evil.example"),
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let mut request = Request::get("/api/v1/config").header(name, value);
        if name != "host" {
            request = request.header("host", "127.0.0.1:8788");
        }
        let answer = listener.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 403, "{name}: {value}");
        assert!(!answer.text().contains("listen ="));
    }
}

#[tokio::test]
async fn a_body_is_bounded() {
    let listener = Listener::new();
    let post = Request::post("/api/v1/calls").header("host", "localhost");
    let answer = listener.send(post.body(vec![0; 100_000].into()).unwrap());
    assert_eq!(answer.await.status, 413);
}

#[tokio::test]
async fn a_name_added_to_the_configuration_is_accepted_at_once() {
    let listener = Listener::new();
    let request = || {
        Request::get("/healthz")
            .header("host", "aiops.example")
            .body(Body::empty())
    };
    assert_eq!(listener.send(request().unwrap()).await.status, 403);
    let mut config = Config::default();
    config.admin.allowed_hosts.push("aiops.example".to_owned());
    listener.state.config.store(Arc::new(config));
    assert_eq!(listener.send(request().unwrap()).await.status, 200);
}

// === records ===

impl Listener {
    async fn ids(&self, query: &str) -> Vec<String> {
        let list = self.json(&format!("/api/v1/calls?{query}")).await;
        let calls = list["calls"].as_array().unwrap();
        calls
            .iter()
            .map(|call| call["id"].as_str().unwrap().to_owned())
            .collect()
    }

    #[track_caller]
    fn records(&self, calls: &[Call]) -> Vec<CallId> {
        calls.iter().map(|call| self.sample.record(*call)).collect()
    }
}

#[tokio::test]
async fn calls_are_found_by_each_filter_newest_first() {
    let listener = Listener::new();
    let open = Call {
        outcome: None,
        run: "other",
        ..PLANNER
    };
    let ids = listener.records(&[PLANNER, RESEARCHER, FAILED, open]);
    for (query, expected) in [
        ("", &[3, 2, 1, 0][..]),
        ("run=night%2F1", &[2, 1, 0]),
        ("agent=planner", &[3, 0]),
        ("caller=planner", &[2, 1]),
        ("model=local-llama", &[2, 1]),
        ("upstream=nobody", &[]),
        ("operation=chat&limit=1", &[3]),
        ("outcome=upstream_cut", &[2]),
        ("outcome=open", &[3]),
        ("since=1s", &[3, 2]),
        ("until=2026-11-01T12:30:07Z", &[0]),
        ("agent=researcher&outcome=completed", &[1]),
    ] {
        let expected: Vec<_> = expected
            .iter()
            .map(|i: &usize| ids[*i].to_string())
            .collect();
        assert_eq!(listener.ids(query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn pages_of_calls_follow_each_other_to_the_end() {
    let listener = Listener::new();
    let ids = listener.records(&[PLANNER; 5]);
    let mut seen = Vec::new();
    let mut query = "limit=2".to_owned();
    loop {
        seen.extend(listener.ids(&query).await);
        let page = listener.json(&format!("/api/v1/calls?{query}")).await;
        match page["next"].as_str() {
            Some(next) => query = format!("limit=2&before={next}"),
            None => break,
        }
    }
    let expected: Vec<_> = ids.iter().rev().map(ToString::to_string).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_call_shows_both_its_records() {
    let listener = Listener::new();
    let id = listener.sample.record(RESEARCHER);
    let call = listener.json(&format!("/api/v1/calls/{id}")).await;
    assert_eq!(call["agent"], "researcher");
    assert_eq!(call["conversation"], "thread-7");
    assert_eq!(call["metrics"]["score"], 0.5);
    assert_eq!(call["outcome"], "completed");
    assert_eq!(call["usage"]["input_tokens"], 1000);
    assert_eq!(call["cost_nano_usd"], Value::Null);
    assert_eq!(call["forwarded_us"], 100);
    assert_eq!(call["request_body"]["len"], REQUEST.len());
    assert_eq!(call["response_body"]["truncated"], false);
}

#[tokio::test]
async fn recorded_bodies_come_back_exactly_and_can_never_run_as_a_page() {
    let listener = Listener::new();
    let id = listener.sample.record(PLANNER);
    for (side, bytes) in [("request", REQUEST), ("response", RESPONSE)] {
        let answer = listener.get(&format!("/api/v1/calls/{id}/{side}")).await;
        assert_eq!(answer.body, bytes);
        for (name, value) in [
            ("content-type", "application/octet-stream".to_owned()),
            (
                "content-disposition",
                format!("attachment; filename=\"{id}.{side}\""),
            ),
            ("x-content-type-options", "nosniff".to_owned()),
            ("x-aiops-stored", "exact".to_owned()),
            ("x-aiops-length", bytes.len().to_string()),
            ("x-aiops-content-type", "text/html".to_owned()),
        ] {
            assert_eq!(answer.headers[name], value);
        }
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("sandbox"), "{policy}");
    }
}

#[tokio::test]
async fn runs_agents_edges_and_days_are_summed_up() {
    let listener = Listener::new();
    listener.records(&[PLANNER, RESEARCHER, FAILED]);
    let runs = listener.json("/api/v1/runs").await;
    assert_eq!(runs["runs"][0]["run"], "night/1");
    assert_eq!(runs["runs"][0]["calls"], 3);
    assert_eq!(runs["runs"][0]["errors"], 1);
    assert_eq!(runs["runs"][0]["cost_nano_usd"], 2_000_000);
    assert_eq!(runs["runs"][0]["unpriced_calls"], 2);
    let run = listener.json("/api/v1/runs/night%2F1").await;
    assert_eq!(run["by_agent"][1]["agent"], "researcher");
    assert_eq!(run["by_agent"][1]["input_tokens"], 2000);
    let agents = listener.json("/api/v1/agents?limit=1").await;
    assert_eq!(agents["agents"][0]["agent"], "researcher");
    assert_eq!(agents["agents"][0]["models"][0], "local-llama");
    let older = agents["next"].as_str().unwrap();
    let agents = listener
        .json(&format!("/api/v1/agents?before={older}"))
        .await;
    assert_eq!(agents["agents"][0]["agent"], "planner");
    let edges = listener.json("/api/v1/edges").await;
    assert_eq!(edges["edges"][0]["caller"], "planner");
    assert_eq!(edges["edges"][0]["calls"], 2);
    let days = listener.json("/api/v1/rollups").await;
    assert_eq!(days["rollups"][0]["day"], "2026-11-01");
    let days = listener.json("/api/v1/rollups?until=2026-10-31").await;
    assert_eq!(days["rollups"], Value::Array(Vec::new()));
    assert!(
        listener
            .problem("/api/v1/runs/nobody", 404)
            .await
            .contains("nobody")
    );
}

#[tokio::test]
async fn a_span_is_of_calls_for_agents_and_edges_and_of_whole_runs() {
    let listener = Listener::new();
    listener.records(&[PLANNER, RESEARCHER]);
    listener.state.clock.advance_micros(3 * 86_400_000_000);
    listener.records(&[PLANNER, FAILED]);
    for (query, calls, whole) in [
        ("", 2, 4),
        ("since=1h", 1, 4),
        ("since=2026-11-01", 2, 4),
        ("since=2026-11-01T12:30:07Z&until=2d", 1, 4),
        ("since=2026-11-02&until=1d", 0, 4),
    ] {
        let agents = listener.json(&format!("/api/v1/agents?{query}")).await;
        let researcher = agents["agents"].as_array().unwrap().iter();
        let researcher = researcher
            .clone()
            .find(|agent| agent["agent"] == "researcher");
        let of = |found: Option<&Value>| found.map_or(0, |row| row["calls"].as_u64().unwrap());
        assert_eq!(of(researcher), calls, "{query}");
        let edges = listener.json(&format!("/api/v1/edges?{query}")).await;
        assert_eq!(of(edges["edges"].get(0)), calls, "{query}");
        let runs = listener.json(&format!("/api/v1/runs?{query}")).await;
        assert_eq!(runs["runs"][0]["calls"], whole, "{query}");
    }
    let late = listener.json("/api/v1/runs?until=2026-10-01").await;
    assert_eq!(late["runs"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_run_has_its_whole_call_tree() {
    let listener = Listener::new();
    let open = Call {
        outcome: None,
        ..RESEARCHER
    };
    listener.records(&[PLANNER, RESEARCHER, FAILED, open]);
    let run = listener.json("/api/v1/runs/night%2F1").await;
    let edges = run["edges"].as_array().unwrap();
    let shown: Vec<_> = edges
        .iter()
        .map(|edge| {
            (
                edge["caller"].as_str(),
                edge["agent"].as_str().unwrap(),
                edge["calls"].as_u64().unwrap(),
                edge["open_calls"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (None, "planner", 1, 0),
            (Some("planner"), "researcher", 2, 1)
        ]
    );
}

// === routes and parameters ===

#[tokio::test]
async fn what_is_not_there_is_a_problem_document() {
    let listener = Listener::new();
    assert!(listener.problem("/nowhere", 404).await.contains("/nowhere"));
    let id = "01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e";
    for path in ["", "/request", "/response"] {
        let detail = listener
            .problem(&format!("/api/v1/calls/{id}{path}"), 404)
            .await;
        assert!(detail.contains(id), "{detail}");
    }
    assert!(
        listener
            .problem("/api/v1/calls/7", 400)
            .await
            .starts_with("path: ")
    );
    let post = Request::post("/api/v1/calls")
        .header("host", "localhost")
        .body(Body::empty());
    let answer = listener.send(post.unwrap()).await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.headers["allow"], "GET,HEAD");
    assert!(answer.text().contains("can only be read"));
}

#[tokio::test]
async fn a_span_that_ends_before_it_begins_is_said_to() {
    let listener = Listener::new();
    for path in ["calls", "runs", "agents", "edges", "events", "rollups"] {
        let detail = listener
            .problem(&format!("/api/v1/{path}?since=1d&until=2d"), 400)
            .await;
        assert_eq!(
            detail,
            "query parameters: since: 2026-10-31T12:30:05.000000Z is not before until: \
             2026-10-30T12:30:05.000000Z"
        );
    }
}

#[tokio::test]
async fn a_bad_parameter_is_named_with_what_was_found_and_expected() {
    let listener = Listener::new();
    for (query, expected) in [
        (
            "limit=0",
            "limit: found `0`, expected a number from 1 to 1000",
        ),
        (
            "since=yesterday",
            "since: found `yesterday`, expected a time",
        ),
        (
            "outcome=bad",
            "outcome: found `bad`, expected open, completed",
        ),
        (
            "operation=x",
            "operation: unknown variant `x`, expected one of `chat`",
        ),
        ("before=7", "before: found `7`, expected the id of a call"),
        ("agent=", "agent: is empty"),
        (
            "colour=red",
            "unknown field `colour`, expected one of `run`",
        ),
        ("run=a&run=b", "duplicate field `run`"),
    ] {
        let detail = listener
            .problem(&format!("/api/v1/calls?{query}"), 400)
            .await;
        assert!(detail.starts_with("query parameters: "), "{detail}");
        assert!(detail.contains(expected), "{query}: {detail}");
    }
}

/// Set `UPDATE_DOCS=1` to write the document anew.
#[test]
fn the_written_api_description_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let current = document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == current,
        "docs/openapi.json is not current: run with UPDATE_DOCS=1"
    );
}

#[tokio::test]
async fn every_described_path_is_answered() {
    let listener = Listener::new();
    let described = document().paths.paths;
    let plain = described.iter().filter(|(path, _)| !path.contains('{'));
    for (path, _) in plain.filter(|(_, item)| item.get.is_some()) {
        assert_eq!(listener.get(path).await.status, 200, "{path}");
    }
}
