//! What the ledger says afterwards: usage and cost of every dialect, and as much of the bodies as
//! was asked to be kept.

use crate::harness::records::Record;
use crate::harness::{Ask, CHAT, Proxy, Response, Upstream, json, post, reply, sse};

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-mini-2024-07-18",
    "choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],
    "usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,
    "prompt_tokens_details":{"cached_tokens":400}},"service_tier":"default"}"#;

/// What a call of some dialect must come to.
struct Expected {
    operation: &'static str,
    model: &'static str,
    input: u64,
    output: u64,
    provenance: &'static str,
    /// Nano-USD; none where no price is known.
    cost: Option<u64>,
}

async fn check(ask: Ask, answer: crate::harness::Answer, expected: Expected) -> Record {
    let upstream = Upstream::answers(answer).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&ask).await;
    let record = proxy.record(&response).await;
    assert_eq!(record.text("/operation"), expected.operation);
    assert_eq!(record.outcome(), "completed");
    assert_eq!(record.text("/model"), expected.model);
    assert_eq!(record.provenance(), expected.provenance);
    assert_eq!(
        (record.input_tokens(), record.output_tokens()),
        (expected.input, expected.output)
    );
    assert_eq!(record.get("/cost_nano_usd").as_u64(), expected.cost, "cost");
    record
}

#[tokio::test]
async fn chat_json() {
    let record = check(
        post("/v1/chat/completions", CHAT),
        json(ANSWER),
        Expected {
            operation: "chat",
            model: "gpt-4o-mini-2024-07-18",
            input: 1000,
            output: 100,
            provenance: "reported",
            cost: Some(600 * 150 + 400 * 75 + 100 * 600),
        },
    )
    .await;
    assert_eq!(record.text("/cost_source"), "table");
    assert_eq!(record.number("/usage/cache_read_input_tokens"), 400);
    assert_eq!(record.text("/response_id"), "chatcmpl-1");
    assert_eq!(record.text("/response_model"), "gpt-4o-mini-2024-07-18");
    assert_eq!(record.text("/request_model"), "gpt-4o-mini");
    assert_eq!(record.get("/finish_reasons"), &serde_json::json!(["stop"]));
    assert_eq!(record.number("/status"), 200);
    assert_eq!(record.number("/request_bytes"), CHAT.len() as u64);
    assert_eq!(record.number("/response_bytes"), ANSWER.len() as u64);
    assert_eq!(record.text("/method"), "POST");
}

#[tokio::test]
async fn chat_without_usage_is_counted() {
    let answer = r#"{"model":"gpt-4o-mini","choices":[{"message":{"content":"Hello there!"}}]}"#;
    let record = check(
        post("/v1/chat/completions", CHAT),
        json(answer),
        Expected {
            operation: "chat",
            model: "gpt-4o-mini",
            input: 8,
            output: 3,
            provenance: "counted",
            cost: Some(8 * 150 + 3 * 600),
        },
    )
    .await;
    assert_eq!(record.text("/cost_source"), "table");
}

#[tokio::test]
async fn responses_json() {
    let answer = r#"{"id":"resp_1","object":"response","model":"gpt-4o-mini","status":"completed",
        "output":[],"usage":{"input_tokens":20,"input_tokens_details":{"cached_tokens":0},
        "output_tokens":10,"output_tokens_details":{"reasoning_tokens":4},"total_tokens":30}}"#;
    let record = check(
        post("/v1/responses", r#"{"model":"gpt-4o-mini","input":"hi"}"#),
        json(answer),
        Expected {
            operation: "responses",
            model: "gpt-4o-mini",
            input: 20,
            output: 10,
            provenance: "reported",
            cost: Some(20 * 150 + 10 * 600),
        },
    )
    .await;
    assert_eq!(record.number("/usage/reasoning_output_tokens"), 4);
}

#[tokio::test]
async fn embeddings() {
    let answer = r#"{"object":"list","model":"text-embedding-3-small","data":[],
        "usage":{"prompt_tokens":50,"total_tokens":50}}"#;
    check(
        post(
            "/v1/embeddings",
            r#"{"model":"text-embedding-3-small","input":"hi"}"#,
        ),
        json(answer),
        Expected {
            operation: "embeddings",
            model: "text-embedding-3-small",
            input: 50,
            output: 0,
            provenance: "reported",
            cost: Some(50 * 20),
        },
    )
    .await;
}

#[tokio::test]
async fn anthropic_messages() {
    let ask = r#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let answer = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5",
        "content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","usage":{"input_tokens":10,
        "cache_read_input_tokens":100,"cache_creation_input_tokens":0,"output_tokens":5}}"#;
    let record = check(
        post("/v1/messages", ask).header("x-api-key", "k"),
        json(answer),
        Expected {
            operation: "messages",
            model: "claude-sonnet-4-5",
            input: 110,
            output: 5,
            provenance: "reported",
            cost: Some(10 * 3000 + 100 * 300 + 5 * 15000),
        },
    )
    .await;
    assert_eq!(record.number("/output_limit"), 9);
    let events = [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\
         \"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":\
         {\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\
         \"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ];
    check(
        post(
            "/v1/messages",
            ask.replace("\"max_tokens\"", "\"stream\":true,\"max_tokens\""),
        ),
        sse(events),
        Expected {
            operation: "messages",
            model: "claude-sonnet-4-5",
            input: 10,
            output: 5,
            provenance: "reported",
            cost: Some(10 * 3000 + 5 * 15000),
        },
    )
    .await;
}

#[tokio::test]
async fn gemini() {
    let answer = r#"{"candidates":[{"content":{"parts":[{"text":"Hello"}]},"finishReason":"STOP"}],
        "modelVersion":"gemini-2.5-flash","usageMetadata":{"promptTokenCount":10,
        "candidatesTokenCount":5,"thoughtsTokenCount":2,"totalTokenCount":17}}"#;
    let ask = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    let record = check(
        post(
            "/v1beta/models/gemini-2.5-flash:generateContent?key=sk-g",
            ask,
        ),
        json(answer),
        Expected {
            operation: "generate_content",
            model: "gemini-2.5-flash",
            input: 10,
            output: 7,
            provenance: "reported",
            cost: Some(10 * 300 + 7 * 2500),
        },
    )
    .await;
    assert_eq!(record.number("/usage/reasoning_output_tokens"), 2);
    assert!(!record.value.to_string().contains("sk-g"));
    assert!(record.text("/target").ends_with("generateContent?key=****"));
}

#[tokio::test]
async fn legacy_completions() {
    let answer = r#"{"id":"cmpl-1","object":"text_completion","model":"gpt-3.5-turbo-instruct",
        "choices":[{"text":" there"}],"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}"#;
    check(
        post(
            "/v1/completions",
            r#"{"model":"gpt-3.5-turbo-instruct","prompt":"hi"}"#,
        ),
        json(answer),
        Expected {
            operation: "text_completion",
            model: "gpt-3.5-turbo-instruct",
            input: 4,
            output: 2,
            provenance: "reported",
            cost: None,
        },
    )
    .await;
}

#[tokio::test]
async fn a_model_without_a_price_costs_nothing_known() {
    check(
        post(
            "/v1/chat/completions",
            CHAT.replace("gpt-4o-mini", "house-model-1"),
        ),
        json(ANSWER.replace("gpt-4o-mini-2024-07-18", "house-model-1")),
        Expected {
            operation: "chat",
            model: "house-model-1",
            input: 1000,
            output: 100,
            provenance: "reported",
            cost: None,
        },
    )
    .await;
}

#[tokio::test]
async fn claude_within_a_geography_of_bedrock_costs_what_it_does_there() {
    check(
        post(
            "/v1/chat/completions",
            CHAT.replace("gpt-4o-mini", "us.anthropic.claude-opus-4-8"),
        ),
        json(ANSWER.replace("gpt-4o-mini-2024-07-18", "claude-opus-4-8")),
        Expected {
            operation: "chat",
            model: "claude-opus-4-8",
            input: 1000,
            output: 100,
            provenance: "reported",
            cost: Some(600 * 5500 + 400 * 550 + 100 * 27_500),
        },
    )
    .await;
}

#[tokio::test]
async fn a_price_of_the_config_comes_first() {
    let upstream = Upstream::answers(json(ANSWER)).await;
    let prices = "[[price]]\nmodel = \"gpt-4o-mini*\"\ninput = 1.0\noutput = 2.0";
    let proxy = Proxy::with(&upstream).sections(prices).start().await;
    let record = proxy
        .record(&proxy.call(&post("/v1/chat/completions", CHAT)).await)
        .await;
    assert_eq!(record.text("/cost_source"), "config");
    assert_eq!(record.number("/cost_nano_usd"), 1000 * 1000 + 100 * 2000);
}

#[tokio::test]
async fn a_cost_the_upstream_names_is_taken() {
    let answer = ANSWER.replace(
        "\"total_tokens\":1100",
        "\"total_tokens\":1100,\"cost\":0.0125",
    );
    let upstream = Upstream::answers(json(answer)).await;
    let proxy = Proxy::to(&upstream).await;
    let record = proxy
        .record(&proxy.call(&post("/v1/chat/completions", CHAT)).await)
        .await;
    assert_eq!(record.text("/cost_source"), "upstream");
    assert_eq!(record.number("/cost_nano_usd"), 12_500_000);
}

#[tokio::test]
async fn an_error_of_the_upstream_costs_nothing() {
    let error =
        r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
    let answer = reply(429)
        .header("content-type", "application/json")
        .body(error);
    let upstream = Upstream::answers(answer).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&post("/v1/chat/completions", CHAT)).await;
    assert_eq!(response.text(), error);
    let record = proxy.record(&response).await;
    assert_eq!(record.outcome(), "upstream_error");
    assert_eq!(record.number("/cost_nano_usd"), 0);
    assert_eq!(record.input_tokens() + record.output_tokens(), 0);
    assert!(record.text("/error").contains("slow down"));
}

#[tokio::test]
async fn calls_that_generate_nothing_are_recorded_too() {
    let upstream = Upstream::answers(json(r#"{"data":[]}"#)).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&crate::harness::get("/v1/models?a=b")).await;
    let record = proxy.record(&response).await;
    assert_eq!(record.text("/operation"), "other");
    assert_eq!(record.text("/target"), "/v1/models?a=b");
    assert!(record.get("/cost_nano_usd").is_null());
    assert!(record.body("request").await.is_none());
    assert_eq!(record.body("response").await.unwrap(), br#"{"data":[]}"#);
}

/// One call at some record level; the proxy lives on for its bodies.
async fn kept(setup: &str, header: Option<&str>) -> (Proxy, Response, Record) {
    let upstream = Upstream::answers(json(ANSWER)).await;
    let proxy = Proxy::with(&upstream)
        .ledger_lines(&format!("record = {setup:?}"))
        .start()
        .await;
    let mut ask = post("/v1/chat/completions?secret=s3cret&user=ada", CHAT);
    if let Some(level) = header {
        ask = ask.header("x-aiops-record", level);
    }
    let response = proxy.call(&ask).await;
    let record = proxy.record(&response).await;
    (proxy, response, record)
}

#[tokio::test]
async fn full_keeps_bodies_byte_for_byte() {
    let (_proxy, response, record) = kept("full", None).await;
    assert_eq!(record.body("request").await.unwrap(), CHAT.as_bytes());
    assert_eq!(record.body("response").await.unwrap(), response.body.data);
    let about = record.get("/request_body");
    assert_eq!(about["len"], CHAT.len());
    assert_eq!(about["content_type"], "application/json");
    assert_eq!(
        (&about["changed"], &about["truncated"]),
        (&false.into(), &false.into())
    );
    assert_eq!(
        record.text("/target"),
        "/v1/chat/completions?secret=****&user=ada"
    );
}

#[tokio::test]
async fn meta_keeps_all_but_bodies() {
    for (config, header) in [
        ("meta", None),
        ("full", Some("meta")),
        ("meta", Some("full")),
    ] {
        let (_proxy, _, record) = kept(config, header).await;
        assert!(record.body("request").await.is_none());
        assert!(record.body("response").await.is_none());
        assert_eq!(
            record.text("/target"),
            "/v1/chat/completions?secret=****&user=ada"
        );
        assert_eq!(record.input_tokens(), 1000);
    }
}

#[tokio::test]
async fn none_keeps_figures_only() {
    for (config, header) in [
        ("none", None),
        ("full", Some("none")),
        ("none", Some("full")),
    ] {
        let (_proxy, _, record) = kept(config, header).await;
        assert!(record.body("request").await.is_none());
        assert_eq!(record.text("/target"), "/v1/chat/completions");
        assert_eq!((record.input_tokens(), record.output_tokens()), (1000, 100));
    }
}

#[tokio::test]
async fn a_history_is_rebuilt_byte_for_byte_from_messages_stored_once() {
    let upstream = Upstream::answers(json(ANSWER)).await;
    let proxy = Proxy::to(&upstream).await;
    let mut messages =
        vec![r#"{"role":"system","content":"Be brief. \ud83d\ude00 \u00e9"}"#.to_owned()];
    for turn in 0..12 {
        messages.push(format!(
            "{{ \"role\" : \"user\",\n\t\"content\": \"turn {turn} {}\"}}",
            "x".repeat(300)
        ));
        messages.push(format!(
            "{{\"role\":\"assistant\",\"content\":\"answer {turn}\"}}"
        ));
        let body = format!(
            "{{\"messages\": [{}] , \"model\":\"gpt-4o-mini\"}}\n",
            messages.join(" , ")
        );
        let response = proxy.call(&post("/v1/chat/completions", &body)).await;
        let record = proxy.record(&response).await;
        assert_eq!(
            String::from_utf8(record.body("request").await.unwrap()).unwrap(),
            body
        );
    }
}

#[tokio::test]
async fn redaction_replaces_secrets_in_what_is_kept_and_nowhere_else() {
    let upstream =
        Upstream::answers(json(ANSWER.replace("Hello", "your sk-abcdef0123456789 is"))).await;
    let rule = "[[ledger.redact]]\npattern = 'sk-[a-z0-9]{10,}'\nreplace = \"[key]\"";
    let proxy = Proxy::with(&upstream).sections(rule).start().await;
    let body = CHAT.replace("hi", "my key is sk-0123456789abcdef, ok?");
    let response = proxy.call(&post("/v1/chat/completions", &body)).await;
    assert_eq!(upstream.request().text(), body);
    assert!(response.text().contains("sk-abcdef0123456789"));
    let record = proxy.record(&response).await;
    let request = String::from_utf8(record.body("request").await.unwrap()).unwrap();
    assert_eq!(request, CHAT.replace("hi", "my key is [key], ok?"));
    let answer = String::from_utf8(record.body("response").await.unwrap()).unwrap();
    assert!(
        answer.contains("your [key] is") && !answer.contains("sk-"),
        "{answer}"
    );
    assert_eq!(record.get("/request_body")["changed"], true);
}

#[tokio::test]
async fn what_redaction_takes_out_is_in_no_file_of_the_ledger() {
    let upstream = Upstream::answers(json(ANSWER.replace("Hello", "it is swordfish-4"))).await;
    let rule = "[[ledger.redact]]\npattern = 'swordfish-[0-9]'\nreplace = \"[word]\"";
    let proxy = Proxy::with(&upstream).sections(rule).start().await;
    let ask = post(
        "/v1/chat/completions?q=swordfish-1",
        CHAT.replace("hi", "swordfish-2"),
    )
    .header("user-agent", "client (swordfish-3)");
    let response = proxy.call(&ask).await;
    let record = proxy.record(&response).await;
    assert_eq!(record.get("/target"), "/v1/chat/completions?q=[word]");
    let dir = std::sync::Arc::clone(&proxy.dir);
    proxy.app.stop().await;
    let mut dirs = vec![dir.path().to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
            assert!(!has(b"swordfish-"), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn front_of_a_secret_at_which_an_answer_breaks_off_is_not_kept() {
    let event = |text: &str| {
        let data = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
        );
        format!("{:x}\r\n{data}\r\n", data.len())
    };
    let words = event("words ").repeat(60);
    let secret: String = ["swor", "dfish", "-73"].map(event).concat();
    let broken = reply(200)
        .header("content-type", "text/event-stream")
        .header("transfer-encoding", "chunked")
        .bare()
        .then_writes(format!("{words}{secret}"))
        .then_closes();
    let upstream = Upstream::answers(broken).await;
    let rule = "[[ledger.redact]]\npattern = 'swordfish-[0-9]{4}'\nreplace = \"[word]\"";
    let proxy = Proxy::with(&upstream).sections(rule).start().await;
    let response = proxy.call(&post("/v1/chat/completions", CHAT)).await;
    assert!(response.cut && response.text().contains("dfish"));
    let record = proxy.record(&response).await;
    assert_eq!(record.get("/response_body")["truncated"], true);
    let kept = String::from_utf8(record.body("response").await.unwrap()).unwrap();
    assert!(kept.contains("words") && !kept.contains("dfish"), "{kept}");
    assert!(!kept.contains("swor") && !kept.contains("-73"), "{kept}");
}

#[tokio::test]
async fn a_body_over_the_kept_size_is_cut_and_says_so() {
    let long = ANSWER.replace("Hello", &"long ".repeat(2000));
    let upstream = Upstream::answers(json(&long)).await;
    let proxy = Proxy::with(&upstream)
        .ledger_lines("max_body = \"1 KiB\"")
        .start()
        .await;
    let response = proxy.call(&post("/v1/chat/completions", CHAT)).await;
    assert_eq!(response.text(), long);
    let record = proxy.record(&response).await;
    let about = record.get("/response_body");
    assert_eq!(
        (&about["len"], &about["truncated"]),
        (&long.len().into(), &true.into())
    );
    let kept = record.body("response").await.unwrap();
    assert!(!kept.is_empty() && long.as_bytes().starts_with(&kept));
    assert_eq!(record.output_tokens(), 100);
}

#[tokio::test]
async fn records_outlive_a_restart() {
    let upstream = Upstream::answers(json(ANSWER)).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&post("/v1/chat/completions", CHAT)).await;
    let before = proxy.record(&response).await.value;
    let dir = std::sync::Arc::clone(&proxy.dir);
    proxy.app.stop().await;
    let again = Proxy::with(&upstream).on_data_of(&dir).start().await;
    let after = again.record(&response).await;
    assert_eq!(after.value, before);
    assert_eq!(after.body("request").await.unwrap(), CHAT.as_bytes());
    assert_eq!(again.calls().await, 1);
}

#[tokio::test]
async fn a_fetched_response_is_not_paid_for_twice() {
    let answer = r#"{"id":"resp_1","object":"response","model":"gpt-4o-mini","status":"completed",
        "output":[],"usage":{"input_tokens":20,"output_tokens":10,"total_tokens":30}}"#;
    let upstream = Upstream::answers(json(answer)).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy
        .call(&crate::harness::get("/v1/responses/resp_1"))
        .await;
    let record = proxy.record(&response).await;
    assert_eq!(record.input_tokens() + record.output_tokens(), 0);
    assert_eq!(record.get("/cost_nano_usd").as_u64().unwrap_or(0), 0);
}
