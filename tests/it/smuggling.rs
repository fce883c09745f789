//! Requests that two parsers could read in two ways: refused, and nothing of them goes upstream.

use crate::harness::{Proxy, Upstream, get, json, reply};

/// Sends raw bytes that must be refused, with a second request hidden or following.
async fn refused(cases: &[&str]) {
    for case in cases {
        let upstream = Upstream::answers(json("{}")).await;
        let proxy = Proxy::to(&upstream).await;
        let mut client = proxy.client().await;
        client.send(case).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        let shown = case.escape_debug().to_string();
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 431 "),
            "{shown} was answered {answer:?}"
        );
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{shown} was answered {answer:?}"
        );
        assert!(!answer.to_lowercase().contains("x-aiops-call"), "{shown}");
        assert_eq!(upstream.connections(), 0, "{shown} reached the upstream");
        assert_eq!(proxy.calls().await, 0, "{shown} was recorded");
    }
}

fn with_headers(headers: &str, body: &str) -> String {
    format!("POST /v1/x HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n{body}")
}

async fn refused_headers(headers: &[&str]) {
    let cases: Vec<String> = headers
        .iter()
        .map(|lines| with_headers(lines, "0\r\n\r\n"))
        .collect();
    refused(&cases.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_length_beside_a_transfer_coding_is_refused() {
    refused_headers(&[
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "content-length: 5\r\nX: y\r\nTRANSFER-ENCODING: CHUNKED",
    ])
    .await;
}

#[tokio::test]
async fn lengths_that_are_not_one_number_are_refused() {
    refused_headers(&[
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 5 5",
        "Content-Length: 0x5",
        "Content-Length: ",
        "Content-Length: 99999999999999999999",
    ])
    .await;
}

#[tokio::test]
async fn transfer_codings_other_than_chunked_are_refused() {
    refused_headers(&[
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding:",
    ])
    .await;
}

#[tokio::test]
async fn lines_that_end_oddly_are_refused() {
    refused_headers(&[
        "A: b\r\n folded",
        "A: b\r\n\tfolded",
        "Transfer-Encoding:\r\n chunked",
        "A: b\nContent-Length: 5",
        "A: b\rContent-Length: 5",
        "A: b\r\r",
        "A: b\0c",
        "A\0: b",
    ])
    .await;
    refused(&[
        "POST /v1/x HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
        "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\n\r\n",
        "GET /v1/x HTTP/1.1\r\nHost: a\r\n\nGET /v1/y HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /v1/x\rHTTP/1.1\r\nHost: a\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn names_that_are_no_tokens_are_refused() {
    refused_headers(&[
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        " Content-Length: 5",
        ": no name",
        "no colon",
        "Content\tLength: 5",
        "Caf\u{e9}: 1",
    ])
    .await;
}

#[tokio::test]
async fn transfer_codings_before_http_1_1_are_refused() {
    refused(&[
        "POST /v1/x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn request_lines_that_are_none_are_refused() {
    refused(&[
        "GET /v1/x HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /v1/x HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET  /v1/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /v1/ x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /v1/x\r\n\r\n",
        "G\x01T /v1/x HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn not_exactly_one_host_is_refused() {
    refused(&[
        "GET /v1/x HTTP/1.1\r\n\r\n",
        "GET /v1/x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET /v1/x HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: b\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn broken_chunks_let_nothing_through() {
    for (body, why) in [
        ("5\r\nhello!\r\n0\r\n\r\n", "longer than it said"),
        ("5 \r\nhello\r\n0\r\n\r\n", "a space after the size"),
        ("+5\r\nhello\r\n0\r\n\r\n", "a sign"),
        ("0x5\r\nhello\r\n0\r\n\r\n", "a prefix"),
        ("5\nhello\r\n0\r\n\r\n", "a bare LF"),
        ("5;a\nb\r\nhello\r\n0\r\n\r\n", "a bare LF in an extension"),
        (
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            "a size that wraps",
        ),
        ("\r\n5\r\nhello\r\n0\r\n\r\n", "no size"),
        ("5\r\nhello0\r\n\r\n", "no end of a chunk"),
        ("0\r\nBad Trailer: 1\r\n\r\n", "a trailer that is none"),
    ] {
        let upstream = Upstream::answers(json("{}")).await;
        let proxy = Proxy::to(&upstream).await;
        let mut client = proxy.client().await;
        let head =
            "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let hidden = "GET /v1/hidden HTTP/1.1\r\nHost: a\r\n\r\n";
        client.send(format!("{head}{body}{hidden}")).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{why}: {answer:?}"
        );
        assert_eq!(upstream.requests().len(), 0, "{why}: reached the upstream");
    }
}

#[tokio::test]
async fn a_hidden_request_after_a_refused_one_goes_nowhere() {
    let hidden = "GET /v1/hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let case = with_headers(
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ) + hidden;
    refused(&[&case]).await;
}

#[tokio::test]
async fn a_good_request_before_a_refused_one_is_answered() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    assert_eq!(client.call(&get("/v1/models")).await.status(), 200);
    client
        .send(with_headers("Content-Length: 1\r\nContent-Length: 1", "x"))
        .await;
    assert!(client.rest().await.starts_with(b"HTTP/1.1 400 "));
    assert_eq!(upstream.request().target(), "/v1/models");
}

#[tokio::test]
async fn a_stray_newline_after_a_body_leaves_the_body_as_it_was() {
    let body = r#"{"a":1}"#;
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    let headers = format!("Content-Length: {}\r\nExpect: 100-continue", body.len());
    client.send(with_headers(&headers, "")).await;
    assert_eq!(client.response(false).await.status(), 100);
    client.send(format!("{body}\n")).await;
    assert_eq!(client.response(false).await.status(), 200);
    assert!(client.rest().await.starts_with(b"HTTP/1.1 400 "));
    assert_eq!(upstream.request().text(), body);
}

#[tokio::test]
async fn an_empty_line_between_requests_is_passed_over() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client
        .send(with_headers("Content-Length: 2", "{}\r\n"))
        .await;
    assert_eq!(client.response(false).await.status(), 200);
    assert_eq!(client.call(&get("/v1/models")).await.status(), 200);
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn a_body_that_looks_like_a_request_is_a_body() {
    let inner = "GET /v1/hidden HTTP/1.1\r\nHost: a\nContent-Length: 5\r\n\r\n";
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let length = format!("Content-Length: {}", inner.len());
        client.send(with_headers(&length, inner)).await;
        assert_eq!(client.response(false).await.status(), 200);
    }
    let bodies: Vec<String> = upstream
        .requests()
        .iter()
        .map(|request| request.text().to_owned())
        .collect();
    assert_eq!(bodies, [inner, inner]);
}

#[tokio::test]
async fn a_head_too_large_or_with_too_many_headers_is_refused() {
    let long = "x".repeat(70_000);
    refused_headers(&[&format!("X-Long: {long}")]).await;
    refused(&[&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")]).await;
    let many: Vec<_> = (0..200).map(|n| format!("X-{n}: 1")).collect();
    refused_headers(&[&many.join("\r\n")]).await;
    let lines: Vec<_> = (0..100)
        .map(|n| format!("X-{n}: {}", "y".repeat(900)))
        .collect();
    refused_headers(&[&lines.join("\r\n")]).await;
}

#[tokio::test]
async fn an_answer_cannot_smuggle_a_second_answer() {
    let two = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nx-evil: 1\r\n\
               content-length: 4\r\n\r\nevil";
    let upstream = Upstream::with(move |n, _| {
        if n == 0 {
            crate::harness::Answer::raw(two)
        } else {
            reply(200).body("good")
        }
    })
    .await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    assert_eq!(client.call(&get("/v1/one")).await.text(), "{}");
    let second = client.call(&get("/v1/two")).await;
    assert_ne!(second.text(), "evil");
}
