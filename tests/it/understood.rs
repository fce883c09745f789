//! A request is understood in whatever form it comes, and goes on as it came.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json as object};

use crate::harness::{Ask, CHAT, Proxy, Upstream, json, post, records, reply, within};

const PATH: &str = "/v1/chat/completions";

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn brotli(text: &str) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.into_inner()
}

fn zstd(text: &str) -> Vec<u8> {
    zstd::encode_all(text.as_bytes(), 3).unwrap()
}

fn encoded(encoding: &str, body: &[u8]) -> Ask {
    post(PATH, body).header("content-encoding", encoding)
}

fn long_chat(len: usize) -> String {
    CHAT.replace("hi", &"word ".repeat(len / 5))
}

async fn small_proxy(upstream: &Upstream) -> Proxy {
    Proxy::with(upstream)
        .proxy_lines("max_read = \"64 KiB\"\nmax_memory = \"128 KiB\"")
        .start()
        .await
}

#[tokio::test]
async fn compressed_request_is_read_from_a_copy_and_goes_on_as_it_came() {
    let answer = r#"{"id":"c-1","choices":[{"message":{"content":"hello"}}]}"#;
    let upstream = Upstream::answers(json(answer)).await;
    let proxy = Proxy::with(&upstream).start().await;
    let chat = CHAT.replacen('{', r#"{"user":"ann","metadata":{"run_id":"r7"},"#, 1);
    let plain = proxy.call(&post(PATH, &chat)).await;
    let plain = proxy.record(&plain).await;
    let bodies = [
        ("gzip", gzip(&chat)),
        ("deflate", deflate(&chat)),
        ("br", brotli(&chat)),
        ("zstd", zstd(&chat)),
        ("GZIP, identity", gzip(&chat)),
        ("identity", chat.clone().into_bytes()),
        (
            "gzip",
            [gzip(&chat), b"and something after its end".to_vec()].concat(),
        ),
        // Many servers pass over what is said of the body.
        ("gzip", chat.clone().into_bytes()),
    ];
    for (encoding, body) in bodies {
        let response = proxy.call(&encoded(encoding, &body)).await;
        assert_eq!(response.status(), 200);
        let sent = upstream.requests().pop().unwrap();
        assert_eq!(sent.body.data, body, "{encoding}");
        assert_eq!(sent.header("content-encoding"), Some(encoding));
        let record = proxy.record(&response).await;
        assert_eq!(record.text("/request_model"), "gpt-4o-mini");
        assert_eq!(record.text("/user"), "ann", "{encoding}");
        assert_eq!(record.text("/provenance"), "counted", "{encoding}");
        assert_eq!(record.input_tokens(), plain.input_tokens(), "{encoding}");
        assert_eq!(record.number("/request_bytes"), body.len() as u64);
        assert_eq!(record.body("request").await.unwrap(), body, "{encoding}");
    }
}

#[tokio::test]
async fn budgets_see_through_compression() {
    let usage = r#"{"id":"c-1","usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let upstream = Upstream::answers(json(usage)).await;
    let rules = "[[budget]]\nname = \"mini\"\nmatch = { model = \"*-mini\" }\ntokens = 300\n";
    let proxy = Proxy::with(&upstream).sections(rules).start().await;
    let chat = CHAT.replacen('{', r#"{"max_tokens":50,"#, 1);
    let response = proxy.call(&encoded("gzip", &gzip(&chat))).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("x-aiops-remaining-tokens"), Some("300"));

    let long = chat.replace("hi", &"some more words ".repeat(200));
    let body = gzip(&long);
    assert!(body.len() < 200, "it is short as it comes");
    let refused = proxy.call(&encoded("gzip", &body)).await;
    assert_eq!(refused.status(), 429);
    let greedy = chat.replace("50", "500");
    let refused = proxy.call(&encoded("gzip", &gzip(&greedy))).await;
    assert_eq!(refused.status(), 429, "it cannot be changed");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn copy_of_a_compressed_body_takes_of_the_memory() {
    let (slow, driver) = reply(200).driven();
    let (slower, _driver) = reply(200).driven();
    let upstream = Upstream::answers_each([slow, slower, json("{}")]).await;
    let proxy = small_proxy(&upstream).await;
    let text = long_chat(60 << 10);
    let body = gzip(&text);
    let ask = encoded("gzip", &body);
    let (mut first, mut second) = (proxy.client().await, proxy.client().await);
    for (client, so_far) in [(&mut first, 1), (&mut second, 2)] {
        client.send(ask.bytes()).await;
        upstream.until(|requests| requests.len() == so_far).await;
    }
    let held = 2 * (body.len() + text.len());
    let held = format!("open_aiops_calls_body_bytes {held}\n");
    let metrics = records::ask(proxy.app.admin_address(), "/metrics").await;
    assert!(metrics.text().contains(&held), "{}", metrics.text());

    let refused = proxy.call(&ask).await;
    assert_eq!(refused.header("x-aiops-error"), Some("memory_full"));
    driver.end().await;
    assert!(first.response(false).await.body.done);
    within("the memory", async {
        while proxy.call(&ask).await.status() != 200 {}
    })
    .await;
}

#[tokio::test]
async fn bomb_goes_on_unread() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = small_proxy(&upstream).await;
    let text = long_chat(20 << 20);
    for (encoding, body) in [
        ("gzip", gzip(&text)),
        ("br", brotli(&text)),
        ("zstd", zstd(&text)),
    ] {
        let response = proxy.call(&encoded(encoding, &body)).await;
        assert_eq!(response.status(), 200, "{encoding}");
        assert_eq!(upstream.requests().pop().unwrap().body.data, body);
        let record = proxy.record(&response).await;
        assert_eq!(record.get("/request_model"), &Value::Null, "{encoding}");
        assert_eq!(record.number("/request_bytes"), body.len() as u64);
    }
}

#[tokio::test]
async fn path_that_a_server_decodes_is_metered_and_goes_on_as_it_came() {
    let usage = r#"{"id":"c-1","usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let upstream = Upstream::answers(json(usage)).await;
    let rules = "[[budget]]\nname = \"all\"\ntokens = 300\n";
    let proxy = Proxy::with(&upstream).sections(rules).start().await;
    for path in [
        "/v1/chat/%63ompletions?a=%20b",
        "/v1//chat/./completions/",
        "/v1/chat%2Fcompletions",
        "/v1/Chat/Completions",
    ] {
        let response = proxy.call(&post(path, CHAT)).await;
        assert_eq!(upstream.requests().pop().unwrap().target(), path);
        let record = proxy.record(&response).await;
        assert_eq!(record.text("/operation"), "chat", "{path}");
        assert_eq!(record.output_tokens(), 4, "{path}");
    }
    let greedy = CHAT.replacen('{', r#"{"n":500,"max_tokens":50,"#, 1);
    let refused = proxy.call(&post("/v1/chat/%63ompletions", greedy)).await;
    assert_eq!(refused.status(), 429);
}

#[tokio::test]
async fn small_budget_limits_the_output_in_the_words_of_each_api() {
    let upstream = Upstream::answers(json("{}")).await;
    let rules = "[[budget]]\nname = \"each run\"\nper = [\"run\"]\nusd = 0.05\n";
    let proxy = Proxy::with(&upstream).sections(rules).start().await;
    let prompt = object!({"model": "gpt-4o", "prompt": "hi"});
    let chat = object!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]});
    let cases = [
        ("/api/chat", &chat, "/options/num_predict"),
        ("/api/generate", &prompt, "/options/num_predict"),
        ("/completion", &prompt, "/n_predict"),
        ("/v1/completions", &prompt, "/max_tokens"),
        ("/v1/messages", &chat, "/max_tokens"),
        ("/v1/responses", &prompt, "/max_output_tokens"),
        (PATH, &chat, "/max_completion_tokens"),
    ];
    for (path, body, limit) in cases {
        let ask = post(path, body.to_string()).header("x-aiops-run", path);
        let response = proxy.call(&ask).await;
        assert_eq!(response.status(), 200, "{path}: {}", response.text());
        assert_eq!(response.header("x-aiops-decision"), Some("clamp"), "{path}");
        let sent = upstream.requests().pop().unwrap();
        let sent: Value = serde_json::from_str(sent.text()).unwrap();
        let limit = sent.pointer(limit).and_then(Value::as_u64);
        assert!(limit.is_some_and(|limit| limit < 5000), "{path}: {sent}");
    }
}
