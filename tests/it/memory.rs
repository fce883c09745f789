//! What bodies of running calls may take of the memory, all together.

use crate::harness::{Ask, CHAT, Proxy, Upstream, json, post, records, reply, within};

/// There is memory for two of them, and for little else.
fn long_body() -> String {
    CHAT.replace("hi", &"x".repeat(63 << 10))
}

fn long_ask() -> Ask {
    post("/v1/chat/completions", long_body())
}

async fn small_proxy(upstream: &Upstream) -> Proxy {
    Proxy::with(upstream)
        .proxy_lines("max_read = \"64 KiB\"\nmax_memory = \"128 KiB\"")
        .start()
        .await
}

#[tokio::test]
async fn a_body_for_which_there_is_no_memory_is_refused_until_there_is() {
    let (slow, driver) = reply(200).driven();
    let (slower, _driver) = reply(200).driven();
    let upstream = Upstream::answers_each([slow, slower, json("{}")]).await;
    let proxy = small_proxy(&upstream).await;
    let (mut first, mut second) = (proxy.client().await, proxy.client().await);
    for (client, so_far) in [(&mut first, 1), (&mut second, 2)] {
        client.send(long_ask().bytes()).await;
        upstream.until(|requests| requests.len() == so_far).await;
    }

    let held = format!("open_aiops_calls_body_bytes {}\n", 2 * long_body().len());
    let metrics = records::ask(proxy.app.admin_address(), "/metrics").await;
    assert!(metrics.text().contains(&held), "{}", metrics.text());

    let refused = proxy.call(&long_ask()).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.header("x-aiops-error"), Some("memory_full"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.text().contains("max_memory"), "{}", refused.text());
    let small = post("/v1/embeddings", r#"{"model":"m","input":"a"}"#);
    assert_eq!(proxy.call(&small).await.status(), 200);

    driver.end().await;
    assert!(first.response(false).await.body.done);
    within("the memory", async {
        while proxy.call(&long_ask()).await.status() != 200 {}
    })
    .await;
}

#[tokio::test]
async fn what_was_read_of_a_body_in_vain_is_given_back_once_it_is_sent() {
    let (slow, driver) = reply(200).driven();
    let upstream = Upstream::answers_each([slow, json("{}")]).await;
    let proxy = small_proxy(&upstream).await;
    let body = CHAT.replace("hi", &"x".repeat(80 << 10));
    let mut first = proxy.client().await;
    let chunks = body.as_bytes().chunks(1 << 10).collect::<Vec<_>>();
    let unsized_ask = Ask::new("POST", "/v1/chat/completions").chunks(&chunks, "");
    first.send(unsized_ask.bytes()).await;
    upstream.asked().await;

    assert_eq!(proxy.call(&long_ask()).await.status(), 200);
    driver.end().await;
    let answered = first.response(false).await;
    let record = proxy.record(&answered).await;
    assert_eq!(record.number("/request_bytes"), body.len() as u64);
}

#[tokio::test]
async fn an_answer_for_which_there_is_no_memory_passes_whole_and_is_kept_in_part() {
    let text = "y".repeat(300 << 10);
    let answer = format!(
        r#"{{"id":"c-1","choices":[{{"message":{{"content":"{text}"}}}}],"usage":{{"prompt_tokens":3,"completion_tokens":4}}}}"#
    );
    let upstream = Upstream::answers(json(&answer)).await;
    let proxy = small_proxy(&upstream).await;
    let response = proxy.call(&post("/v1/chat/completions", CHAT)).await;
    assert_eq!(response.text(), answer);
    let record = proxy.record(&response).await;
    assert_eq!((record.input_tokens(), record.output_tokens()), (3, 4));
    assert_eq!(record.number("/response_bytes"), answer.len() as u64);
    let kept = record.body("response").await.unwrap();
    assert!(kept.len() < answer.len() && answer.as_bytes().starts_with(&kept));
}
