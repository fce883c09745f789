//! Who made a call and where it went: claims of every kind, marks on the answer, keys.

use crate::harness::proxy::Setup;
use crate::harness::records::Record;
use crate::harness::{Ask, CHAT, Proxy, Response, Upstream, get, json, post};

async fn recorded(ask: Ask) -> (Response, Record) {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&ask).await;
    assert_eq!(response.status(), 200, "no claim fails a call");
    let record = proxy.record(&response).await;
    (response, record)
}

#[tokio::test]
async fn own_headers_say_who_calls_for_whom() {
    let ask = post("/v1/chat/completions", CHAT)
        .header("x-aiops-agent", "researcher")
        .header("x-aiops-caller", "planner")
        .header("x-aiops-run", "run-7")
        .header("x-aiops-parent-run", "run-1")
        .header("x-aiops-path", "/boss/planner/researcher")
        .header("x-aiops-user", "ada")
        .header("x-aiops-variant", "b")
        .header("x-aiops-tag-team", "blue")
        .header("x-aiops-metric-score", "0.5")
        .header("User-Agent", "OpenAI/Python 3.54.0")
        .header("x-stainless-retry-count", "2");
    let (response, record) = recorded(ask).await;
    assert_eq!(response.header("x-aiops-agent"), Some("researcher"));
    assert_eq!(response.header("x-aiops-caller"), Some("planner"));
    assert_eq!(response.header("x-aiops-run"), Some("run-7"));
    let who = &record.value;
    assert_eq!(who["agent"], "researcher");
    assert_eq!(who["caller"], "planner");
    assert_eq!(who["run"], "run-7");
    assert_eq!(who["parent_run"], "run-1");
    assert_eq!(
        who["path"],
        serde_json::json!(["boss", "planner", "researcher"])
    );
    assert_eq!(who["depth"], 3);
    assert_eq!(who["user"], "ada");
    assert_eq!(who["variant"], "b");
    assert_eq!(who["tags"]["team"], "blue");
    assert_eq!(who["metrics"]["score"], 0.5);
    assert_eq!(who["agent_source"], "own");
    assert_eq!(record.number("/retry"), 2);
    assert_eq!(record.text("/client"), "OpenAI/Python 3.54.0");
}

#[tokio::test]
async fn headers_of_other_products_are_understood() {
    for (header, value, field, expected) in [
        ("X-Agent-Id", "crawler", "agent", "crawler"),
        ("Helicone-Session-Id", "s-1", "run", "s-1"),
        ("x-litellm-trace-id", "t-1", "run", "t-1"),
        ("x-portkey-trace-id", "p-1", "run", "p-1"),
        ("x-session-id", "x-1", "run", "x-1"),
        ("Helicone-User-Id", "bob", "user", "bob"),
    ] {
        let (_, record) = recorded(get("/v1/models").header(header, value)).await;
        assert_eq!(record.value[field], expected, "{header}");
    }
}

#[tokio::test]
async fn an_own_header_outranks_all_others() {
    let ask = get("/agent/from-url/v1/models")
        .header("X-Agent-Id", "alias")
        .header("x-aiops-agent", "own");
    let (response, record) = recorded(ask).await;
    assert_eq!(response.header("x-aiops-agent"), Some("own"));
    assert_eq!(record.agent(), "own");
}

#[tokio::test]
async fn the_base_url_can_carry_run_and_agent() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy
        .call(&post(
            "/run/r%201/agent/planner/v1/chat/completions?a=b",
            CHAT,
        ))
        .await;
    assert_eq!(upstream.request().target(), "/v1/chat/completions?a=b");
    assert_eq!(response.header("x-aiops-agent"), Some("planner"));
    assert_eq!(response.header("x-aiops-run"), Some("r 1"));
    let record = proxy.record(&response).await;
    assert_eq!(record.value["run"], "r 1");
    assert_eq!(record.text("/target"), "/v1/chat/completions?a=b");
    assert_eq!(record.text("/operation"), "chat");
}

#[tokio::test]
async fn a_call_without_a_name_is_named_after_its_client() {
    let (response, record) =
        recorded(get("/v1/models").header("User-Agent", "OpenAI/Python 3.54.0")).await;
    assert_eq!(
        response.header("x-aiops-agent"),
        Some("unknown:OpenAI/Python")
    );
    assert_eq!(record.agent(), "unknown:OpenAI/Python");
    assert_eq!(response.header("x-aiops-run"), None);
    let (response, _) = recorded(get("/v1/models").header("User-Agent", "curl/8.5.0")).await;
    assert_eq!(response.header("x-aiops-agent"), Some("unknown:curl"));
    let (response, _) = recorded(get("/v1/models")).await;
    assert_eq!(response.header("x-aiops-agent"), Some("unknown:client"));
}

#[tokio::test]
async fn claims_that_cannot_be_used_are_ignored() {
    let ask = get("/v1/models")
        .header("x-aiops-agent", "x".repeat(300))
        .header("x-aiops-run", b"\xff\xfe")
        .header("x-aiops-depth", "deep")
        .header("x-aiops-record", "everything")
        .header("x-aiops-metric-score", "NaN")
        .header("x-aiops-tag-", "nameless")
        .header("x-aiops-nonsense", "1")
        .header("traceparent", "garbage")
        .header("User-Agent", "curl/8");
    let (response, record) = recorded(ask).await;
    assert_eq!(response.header("x-aiops-agent"), Some("unknown:curl"));
    let who = &record.value;
    assert!(who["run"].is_null(), "{who}");
    assert_eq!(who["depth"], 1);
}

#[tokio::test]
async fn names_in_any_script_come_back_as_they_were() {
    let (response, record) =
        recorded(get("/v1/models").header("x-aiops-agent", "h\u{e9}l\u{e8}ne \u{4e16}")).await;
    assert_eq!(
        response.header("x-aiops-agent"),
        Some("h\u{e9}l\u{e8}ne \u{4e16}")
    );
    assert_eq!(record.agent(), "h\u{e9}l\u{e8}ne \u{4e16}");
}

#[tokio::test]
async fn marks_an_upstream_sets_do_not_pass_for_ours() {
    let upstream = Upstream::answers(
        crate::harness::reply(200)
            .header("x-aiops-call", "forged")
            .header("x-aiops-agent", "forged")
            .body("{}"),
    )
    .await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&get("/v1/models")).await;
    assert_eq!(response.header("x-aiops-agent"), Some("unknown:client"));
    assert_eq!(proxy.record(&response).await.outcome(), "completed");
}

#[tokio::test]
async fn what_a_proxy_behind_this_one_decided_is_passed_on() {
    let refused = crate::harness::reply(429)
        .header("x-aiops-decision", "refuse")
        .header("x-should-retry", "false")
        .body("{}");
    let upstream = Upstream::answers(refused).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&get("/v1/models")).await;
    assert_eq!(response.header("x-aiops-decision"), Some("refuse"));
    assert_eq!(response.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn an_error_of_ours_carries_the_marks_too() {
    let upstream = Upstream::answers(crate::harness::Answer::nothing().then_closes()).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy
        .call(&get("/v1/models").header("x-aiops-agent", "planner"))
        .await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.header("x-aiops-agent"), Some("planner"));
    assert_eq!(proxy.record(&response).await.agent(), "planner");
}

/// Two upstreams: the first is the default, the second has the models `claude-*`.
struct Two {
    main: Upstream,
    other: Upstream,
    proxy: Proxy,
}

impl Two {
    async fn with(lines: &str) -> Self {
        let main = Upstream::answers(json("{}")).await;
        let other = Upstream::answers(json("{}")).await;
        let proxy = Proxy::with(&main)
            .upstream(
                "other",
                &other,
                &format!("models = [\"claude-*\"]\n{lines}"),
            )
            .env("OTHER_KEY", "sk-own")
            .start()
            .await;
        Self { main, other, proxy }
    }

    async fn call(&self, ask: Ask) -> Response {
        self.proxy
            .call(&ask.header("Authorization", "Bearer sk-client"))
            .await
    }
}

fn claude() -> Ask {
    post(
        "/v1/chat/completions",
        CHAT.replace("gpt-4o-mini", "claude-x"),
    )
}

#[tokio::test]
async fn a_model_goes_to_the_upstream_that_lists_it() {
    let two = Two::with("").await;
    let response = two.call(claude()).await;
    two.call(post("/v1/chat/completions", CHAT)).await;
    assert_eq!(two.other.requests().len(), 1);
    assert!(two.main.request().text().contains("gpt-4o-mini"));
    assert_eq!(two.proxy.record(&response).await.text("/upstream"), "other");
}

#[tokio::test]
async fn a_clients_key_is_not_sent_where_a_model_name_led() {
    let two = Two::with("").await;
    let ask = claude()
        .header("x-api-key", "sk-client")
        .header("api-key", "sk-client");
    two.call(ask).await;
    let names = two.other.request().head.names();
    for secret in ["authorization", "x-api-key", "api-key"] {
        assert!(!names.contains(secret), "{secret} was sent on");
    }
    two.call(post("/v1/chat/completions", CHAT)).await;
    assert_eq!(
        two.main.request().header("authorization"),
        Some("Bearer sk-client")
    );
}

#[tokio::test]
async fn a_clients_key_is_sent_where_the_config_or_the_client_says_so() {
    let two = Two::with("accept_client_key = true").await;
    two.call(claude()).await;
    assert_eq!(
        two.other.request().header("authorization"),
        Some("Bearer sk-client")
    );
    for ask in [
        post("/v1/chat/completions", CHAT).header("x-aiops-upstream", "other"),
        post("/upstream/other/v1/chat/completions", CHAT),
    ] {
        let two = Two::with("").await;
        two.call(ask).await;
        let request = two.other.request();
        assert_eq!(request.header("authorization"), Some("Bearer sk-client"));
        assert_eq!(request.target(), "/v1/chat/completions");
    }
}

#[tokio::test]
async fn an_own_key_takes_the_place_of_the_clients() {
    let two = Two::with("api_key_env = \"OTHER_KEY\"").await;
    let ask = claude()
        .header("x-api-key", "sk-client")
        .header("x-goog-api-key", "sk-client");
    let response = two.call(ask).await;
    let request = two.other.request();
    assert_eq!(request.header("authorization"), Some("Bearer sk-own"));
    assert!(!request.head.names().contains("x-api-key"));
    let shown = two.proxy.record(&response).await.value.to_string();
    assert!(
        !shown.contains("sk-own") && !shown.contains("sk-client"),
        "{shown}"
    );
}

#[tokio::test]
async fn an_upstream_nobody_configured_is_an_error_of_the_client() {
    let two = Two::with("").await;
    let response = two
        .call(claude().header("x-aiops-upstream", "nonsense"))
        .await;
    assert_eq!(response.status(), 400);
    let message = response.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains("nonsense") && message.contains("main, other"),
        "{message}"
    );
    assert_eq!(two.main.requests().len() + two.other.requests().len(), 0);
}

#[tokio::test]
async fn path_that_names_an_unknown_upstream_goes_nowhere() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    for path in [
        "/upstream/nonsense/v1/models",
        "/upstream/nonsense/anything",
        "/upstream/nonsense",
        "/upstream/%ff/v1/models",
        "/upstream//v1/models",
        "/run/7/upstream/nonsense/v1/models",
    ] {
        let response = proxy.call(&get(path)).await;
        assert_eq!(response.status(), 400, "{path}");
        assert_eq!(response.header("x-aiops-error"), Some("unknown_upstream"));
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn upstream_of_the_path_binds_and_a_key_goes_nowhere_else() {
    let two = Two::with("").await;
    let path = "/upstream/other/v1/chat/completions";
    for (path, header, error) in [
        (path, "main", "two_upstreams"),
        ("/agent//upstream/other/v1/x", "", "broken_tags"),
        ("/run/a/run/b/upstream/other/v1/x", "", "broken_tags"),
        ("//upstream/other/v1/x", "other", "broken_tags"),
    ] {
        let ask = post(path, CHAT);
        let ask = match header {
            "" => ask,
            name => ask.header("x-aiops-upstream", name),
        };
        let response = two.call(ask).await;
        assert_eq!(response.status(), 400, "{path}");
        assert_eq!(response.header("x-aiops-error"), Some(error), "{path}");
    }
    assert_eq!(two.main.requests().len() + two.other.requests().len(), 0);
    let both = post(path, CHAT).header("x-aiops-upstream", "other");
    assert_eq!(two.call(both).await.status(), 200);
    assert_eq!(two.other.requests().len(), 1);
}

#[tokio::test]
async fn the_same_key_is_recorded_as_the_same_hash_however_it_comes() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut hashes = Vec::new();
    for ask in [
        get("/v1/models").header("Authorization", "Bearer sk-1"),
        get("/v1/models").header("x-api-key", "sk-1"),
        get("/v1/models?key=sk-1"),
        get("/v1/models").header("Authorization", "Bearer sk-2"),
    ] {
        let record = proxy.record(&proxy.call(&ask).await).await;
        assert!(
            !record.value.to_string().contains("sk-"),
            "{}",
            record.value
        );
        hashes.push(record.text("/key").to_owned());
    }
    assert!(hashes[0] == hashes[1] && hashes[1] == hashes[2] && hashes[2] != hashes[3]);
}

#[test]
fn without_upstreams_the_default_is_openai() {
    let config = Setup::new().config();
    assert_eq!(config.upstreams[0].base_url, "https://api.openai.com/v1");
}
