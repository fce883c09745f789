//! Bodies that are passed on as they arrive: who may take how long, and whose fault it is.

use crate::harness::{Answer, Client, Proxy, Upstream, get, json, post, reply};

const PART: &[u8] = b"some of it";

/// A client that said it sends ten parts and sent one.
async fn begun(proxy: &Proxy, upstream: &Upstream) -> Client {
    let mut client = proxy.client().await;
    let length = 10 * PART.len();
    client
        .send(format!(
            "POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
    client.send(PART).await;
    upstream
        .until(|seen| seen.first().is_some_and(|r| r.body.data == PART))
        .await;
    client
}

#[tokio::test]
async fn the_time_to_answer_begins_when_the_whole_request_was_sent() {
    let upstream = Upstream::with(|_, request| match request.target() {
        "/v1/files" => json("{}"),
        _ => Answer::nothing().then_stalls(),
    })
    .await;
    let proxy = Proxy::with(&upstream)
        .upstream_lines("response_timeout = \"250ms\"")
        .start()
        .await;
    let mut client = begun(&proxy, &upstream).await;
    for _ in 0..3 {
        client.send(PART).await;
        // As long as an upstream may take.
        assert_eq!(proxy.call(&get("/v1/models")).await.status(), 504);
    }
    client.send(PART.repeat(6)).await;
    let response = client.response(false).await;
    assert_eq!(response.status(), 200, "{}", response.text());
    let record = proxy.record(&response).await;
    assert_eq!(record.number("/request_bytes"), 10 * PART.len() as u64);
}

#[tokio::test]
async fn an_upstream_that_has_the_whole_upload_must_answer_in_time() {
    let upstream = Upstream::answers(Answer::nothing().then_stalls()).await;
    let proxy = Proxy::with(&upstream)
        .upstream_lines("response_timeout = \"250ms\"")
        .start()
        .await;
    let mut client = begun(&proxy, &upstream).await;
    client.send(PART.repeat(9)).await;
    let response = client.response(false).await;
    assert_eq!(response.status(), 504, "{}", response.text());
    let record = proxy.record(&response).await;
    assert_eq!(record.outcome(), "upstream_unavailable");
}

#[tokio::test]
async fn a_client_that_falls_silent_within_an_upload_is_at_fault() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::with(&upstream)
        .proxy_lines("head_timeout = \"200ms\"")
        .start()
        .await;
    let mut client = begun(&proxy, &upstream).await;
    let response = client.response(false).await;
    assert_eq!(response.status(), 408);
    assert_eq!(response.header("x-aiops-error"), Some("body_stalled"));
    assert!(response.text().contains("stalled"), "{}", response.text());
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.rest().await.is_empty());
    upstream.hung_up().await;
    let record = proxy.record(&response).await;
    assert_eq!(
        (record.outcome(), record.number("/status")),
        ("rejected", 408)
    );
    assert_eq!(record.number("/request_bytes"), PART.len() as u64);
}

#[tokio::test]
async fn a_client_that_falls_silent_within_a_body_that_is_read_is_told_so() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::with(&upstream)
        .proxy_lines("head_timeout = \"200ms\"")
        .start()
        .await;
    let mut client = proxy.client().await;
    let ask = post("/v1/chat/completions", "{\"model\":\"gpt-4o-mini\"}");
    client.send(&ask.bytes()[..ask.bytes().len() - 1]).await;
    let response = client.response(false).await;
    assert_eq!(response.status(), 408);
    assert_eq!(response.header("x-aiops-error"), Some("body_stalled"));
    assert!(client.rest().await.is_empty());
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_client_that_falls_silent_after_an_early_answer_began_is_at_fault_too() {
    let (answer, driver) = crate::harness::reply(200).driven();
    let upstream = Upstream::answers_at_head(answer).await;
    let proxy = Proxy::with(&upstream)
        .proxy_lines("head_timeout = \"200ms\"")
        .start()
        .await;
    let mut client = begun(&proxy, &upstream).await;
    let mut response = client.begin(false).await;
    driver.chunk("early").await;
    client.finish(&mut response).await;
    assert_eq!((response.text(), response.cut), ("early", true));
    assert_eq!(proxy.record(&response).await.outcome(), "rejected");
}

#[tokio::test]
async fn an_upstream_that_does_not_take_an_upload_is_at_fault() {
    let upstream = Upstream::deaf().await;
    let proxy = Proxy::with(&upstream)
        .upstream_lines("response_timeout = \"500ms\"")
        .proxy_lines("max_body = \"100 GiB\"\nhead_timeout = \"200ms\"")
        .start()
        .await;
    let mut client = proxy.client().await;
    client
        .send("POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000000\r\n\r\n")
        .await;
    client.send_until_answered(&vec![b'x'; 1 << 20]).await;
    let response = client.response(false).await;
    assert_eq!(response.status(), 504, "{}", response.text());
    assert_eq!(response.header("x-aiops-error"), Some("upstream_timeout"));
    let record = proxy.record(&response).await;
    assert_eq!(record.outcome(), "upstream_unavailable");
}

#[tokio::test]
async fn a_client_that_sends_on_after_an_early_answer_is_not_reset() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::with(&upstream)
        .proxy_lines("max_body = \"1 KiB\"")
        .start()
        .await;
    let long = "Content-Length: 100000000\r\n\r\n";
    for (begun, status) in [
        (format!("POST /v1/files HTTP/1.1\r\nHost: a\r\n{long}"), 413),
        (format!("POST /v1/files HTTP/1.1\nHost: a\r\n{long}"), 400),
        (
            format!("POST /v1/files HTTP/1.1\r\nHost: a\nA: b\r\n{long}"),
            400,
        ),
    ] {
        let mut client = proxy.client().await;
        client.send(begun).await;
        assert_eq!(client.response(false).await.status(), status);
        assert!(client.rest().await.is_empty());
        for _ in 0..64 {
            client.send(vec![b'x'; 64 << 10]).await;
        }
    }
}

#[tokio::test]
async fn an_upload_streams_through_while_it_is_sent() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    let part = vec![b'x'; 1 << 20];
    let length = 6 * part.len();
    client
        .send(format!(
            "POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; \
             boundary=b\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
    for sent in 1..=6 {
        client.send(&part).await;
        upstream
            .until(|seen| {
                seen.first()
                    .is_some_and(|r| r.body.data.len() == sent * part.len())
            })
            .await;
    }
    let response = client.response(false).await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        upstream.request().header("content-length"),
        Some(&*length.to_string())
    );
    let record = proxy.record(&response).await;
    assert_eq!(record.number("/request_bytes"), length as u64);
}

#[tokio::test]
async fn an_answer_while_uploading_reaches_the_client() {
    let answer = reply(413)
        .header("content-type", "application/json")
        .body(r#"{"error":"big"}"#);
    let upstream = Upstream::answers_at_head(answer).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client
        .send("POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nfirst bytes")
        .await;
    let response = client.response(false).await;
    assert_eq!(
        (response.status(), response.text()),
        (413, r#"{"error":"big"}"#)
    );
    drop(client);
    assert_eq!(proxy.record(&response).await.outcome(), "upstream_error");
    upstream.hung_up().await;
}
