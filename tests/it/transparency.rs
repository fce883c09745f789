//! What goes in comes out: the same call made directly and through the proxy, compared.
//!
//! The stated exceptions: header names are written in lower case, headers of one name stand
//! together, headers that belong to one connection are its own, `host` names the upstream, and
//! the client gets marks that start with `x-aiops-`.

use std::io::Write as _;

use http::Request;

use crate::harness::h2::whole;
use crate::harness::http::Head;
use crate::harness::upstream::Received;
use crate::harness::{
    Answer, Ask, CHAT, Client, Proxy, Response, Upstream, get, json, post, reply,
};

struct Seen {
    received: Received,
    response: Response,
}

async fn direct(ask: &Ask, answer: &Answer) -> Seen {
    let upstream = Upstream::answers(answer.clone()).await;
    let response = Client::connect(upstream.address()).await.call(ask).await;
    Seen {
        received: upstream.request(),
        response,
    }
}

async fn proxied(ask: &Ask, answer: &Answer) -> Seen {
    let upstream = Upstream::answers(answer.clone()).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(ask).await;
    Seen {
        received: upstream.request(),
        response,
    }
}

/// Headers with those of one name together, without those that may differ.
fn fields(head: &Head) -> Vec<(String, Vec<Vec<u8>>)> {
    const OF_ONE_CONNECTION: [&str; 6] = [
        "host",
        "connection",
        "transfer-encoding",
        "content-length",
        "keep-alive",
        "te",
    ];
    let mut fields: Vec<(String, Vec<Vec<u8>>)> = Vec::new();
    for (name, value) in &head.headers {
        if OF_ONE_CONNECTION.contains(&name.as_str()) || name.starts_with("x-aiops-") {
            continue;
        }
        match fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value.clone()),
            None => fields.push((name.clone(), vec![value.clone()])),
        }
    }
    fields
}

/// Fails where the proxy can be told from no proxy.
async fn check(ask: Ask, answer: Answer) {
    let (direct, proxied) = (direct(&ask, &answer).await, proxied(&ask, &answer).await);
    let (there, through) = (&direct.received, &proxied.received);
    assert_eq!(through.method(), there.method());
    assert_eq!(through.target(), there.target());
    assert_eq!(
        fields(&through.head),
        fields(&there.head),
        "request headers"
    );
    assert_eq!(through.body.data, there.body.data, "request body");
    let (back, through) = (&direct.response, &proxied.response);
    assert_eq!(through.status(), back.status());
    assert_eq!(
        fields(&through.head),
        fields(&back.head),
        "response headers"
    );
    if let Some(length) = back.header("content-length") {
        assert_eq!(through.header("content-length"), Some(length));
    }
    assert_eq!(through.body.data, back.body.data, "response body");
    assert_eq!(through.body.trailers, back.body.trailers, "trailers");
    assert_eq!((through.cut, back.cut), (false, false));
}

#[tokio::test]
async fn every_method_passes() {
    for method in ["GET", "DELETE", "OPTIONS", "PURGE"] {
        check(Ask::new(method, "/v1/files/file-1"), json("{}")).await;
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        check(
            Ask::new(method, "/v1/files/file-1").body("some bytes"),
            json("{}"),
        )
        .await;
    }
}

#[tokio::test]
async fn known_and_unknown_paths_pass() {
    let chat = json(r#"{"object":"chat.completion","choices":[]}"#);
    check(post("/v1/chat/completions", CHAT), chat).await;
    for path in [
        "/v1/models",
        "/",
        "/v1",
        "/v2/anything/at/all",
        "/healthz",
        "/metrics",
        "/api/v1/calls",
    ] {
        check(get(path), json(r#"{"data":[]}"#)).await;
    }
}

#[tokio::test]
async fn odd_targets_pass_as_they_are() {
    for target in [
        "/v1/models?a=1&a=2&b",
        "/v1/models?",
        "/v1/models?q=%E2%82%AC&x=%2F%2f+%00&y=a%20b",
        "/v1/files/a%2Fb/../c//d/./e",
        "/v1/models/meta-llama%2FLlama-3?x=[1]&y={z}|'",
        "/v1//models;v=1,2@:!$&'()*+",
    ] {
        check(get(target), json("{}")).await;
    }
}

#[tokio::test]
async fn duplicates_order_and_odd_bytes_of_headers_stay() {
    let ask = get("/v1/models")
        .header("Z-Last", "1")
        .header("A-First", "2")
        .header("X-Many", "one")
        .header("Accept", "*/*")
        .header("X-Many", "two, three")
        .header("X-MANY", "")
        .header("X-Latin", b"caf\xe9 \x80\xff")
        .header("X-Quoted", "\"a;b\"\t, 'c'")
        .header("User-Agent", "Test/1.0 (odd; agent)")
        .header("Accept-Encoding", "gzip, br;q=0.5")
        .header("Cookie", "a=b; c=d")
        .header("Cookie", "e=f")
        .header(
            "Traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
    let answer = reply(200)
        .header("Set-Cookie", "a=1; Path=/")
        .header("X-Zed", "z")
        .header("Set-Cookie", "b=2")
        .header("X-Latin", b"\xfcber")
        .header("Content-Type", "application/json")
        .header("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
        .header("Server", "theirs")
        .header("Via", "1.1 theirs")
        .header("X-RateLimit-Remaining-Tokens", "149984")
        .header("openai-processing-ms", "12")
        .body("{}");
    check(ask, answer).await;
}

#[tokio::test]
async fn large_heads_pass() {
    let long = "x".repeat(60_000);
    check(get("/v1/models").header("X-Long", &long), json("{}")).await;
    let many = (0..100).fold(get("/v1/models"), |ask, n| {
        ask.header(&format!("X-{n}"), "1")
    });
    let answer = (0..100).fold(reply(200), |reply, n| {
        reply.header(&format!("X-{n}"), &long[..400])
    });
    check(many, answer.body("{}")).await;
}

#[tokio::test]
async fn every_status_passes() {
    for status in [
        200, 201, 202, 206, 400, 401, 404, 409, 418, 429, 500, 502, 503, 529, 599,
    ] {
        let answer = reply(status)
            .header("content-type", "application/json")
            .header("retry-after", "7")
            .header("x-should-retry", "true")
            .body(r#"{"error":{"message":"no","code":null}}"#);
        check(post("/v1/chat/completions", CHAT), answer).await;
    }
    for status in [204, 304] {
        check(
            get("/v1/models"),
            reply(status).header("etag", "\"1\"").bare(),
        )
        .await;
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in [301, 302, 307, 308] {
        let moved = reply(status)
            .header("location", "http://127.0.0.1:1/elsewhere")
            .body("moved");
        check(get("/v1/models"), moved).await;
    }
}

#[tokio::test]
async fn head_keeps_the_length_of_what_it_did_not_get() {
    let answer = reply(200)
        .header("content-type", "application/json")
        .header("content-length", "1234")
        .bare();
    check(Ask::new("HEAD", "/v1/models"), answer).await;
}

#[tokio::test]
async fn an_answer_that_has_no_body_keeps_the_length_it_speaks_of() {
    let unchanged = reply(304).header("content-length", "1234").bare();
    check(get("/v1/models"), unchanged.clone()).await;
    let upstream = Upstream::answers(unchanged).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let response = client.call(&get("/v1/models")).await;
        assert_eq!(response.header("content-length"), Some("1234"));
        assert_eq!(proxy.record(&response).await.outcome(), "completed");
    }
    let request = Request::get(format!("http://{}/v1/models", proxy.address()));
    let mut client = proxy.h2_client().await;
    let response = client.call(request.body(whole("")).unwrap()).await;
    assert_eq!(response.head.header("content-length"), Some("1234"));
    assert!(response.body.is_empty());
}

#[tokio::test]
async fn an_answer_of_204_speaks_of_no_length() {
    let upstream = Upstream::answers(reply(204).header("content-length", "12").bare()).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let response = client.call(&get("/v1/models")).await;
        assert_eq!(response.status(), 204);
        assert_eq!(response.header("content-length"), None);
    }
}

#[tokio::test]
async fn empty_bodies_stay_empty() {
    check(post("/v1/chat/completions", ""), json("")).await;
    check(Ask::new("POST", "/v1/files"), json("")).await;
    check(
        Ask::new("POST", "/v1/files").chunks(&[], ""),
        reply(200).chunks::<&str>([]),
    )
    .await;
}

#[tokio::test]
async fn bodies_in_chunks_arrive_whole() {
    let halves: [&[u8]; 2] = [&CHAT.as_bytes()[..10], &CHAT.as_bytes()[10..]];
    let chat = Ask::new("POST", "/v1/chat/completions").header("content-type", "application/json");
    check(chat.chunks(&halves, ""), json("{}")).await;
    let pieces: Vec<Vec<u8>> = (0..50_u8)
        .map(|n| vec![n; 1 + usize::from(n) * 7])
        .collect();
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let answer = reply(200)
        .header("content-type", "application/octet-stream")
        .chunks(&pieces);
    check(Ask::new("PUT", "/v1/uploads/1").chunks(&pieces, ""), answer).await;
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_arrives_whole() {
    let answer =
        Answer::raw("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nall of it").then_closes();
    check(get("/v1/models"), answer).await;
}

#[tokio::test]
async fn big_binary_bodies_pass_both_ways() {
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let ask = Ask::new("POST", "/v1/files")
        .header("content-type", "application/octet-stream")
        .body(&bytes);
    check(
        ask,
        reply(200).header("content-type", "audio/mpeg").body(&bytes),
    )
    .await;
}

#[tokio::test]
async fn json_that_is_none_passes_as_it_is() {
    for body in [
        "{",
        "null",
        "[1,2",
        "{\"model\":7}",
        "\u{feff}{}",
        "{\"a\":1}{\"a\":2}",
        " \n\t",
    ] {
        check(post("/v1/chat/completions", body), json("{oops")).await;
    }
    check(
        post("/v1/chat/completions", b"{\"model\":\"\xff\xfe\"}"),
        json(b"\xc3\x28"),
    )
    .await;
}

#[tokio::test]
async fn compressed_bodies_stay_compressed() {
    let text = br#"{"object":"chat.completion","model":"gpt-4o-mini","choices":[]}"#;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    let gzipped = encoder.finish().unwrap();
    let mut brotlied = Vec::new();
    brotli::BrotliCompress(
        &mut &text[..],
        &mut brotlied,
        &brotli::enc::BrotliEncoderParams::default(),
    )
    .unwrap();
    for (encoding, body) in [
        ("gzip", &gzipped),
        ("br", &brotlied),
        ("unheard-of", &gzipped),
    ] {
        let ask = post("/v1/chat/completions", body)
            .header("Content-Encoding", encoding)
            .header("Accept-Encoding", encoding);
        let answer = reply(200)
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(body);
        check(ask, answer).await;
    }
}

#[tokio::test]
async fn trailers_of_a_request_and_of_an_answer_pass() {
    let ask = Ask::new("PUT", "/v1/uploads/1")
        .header("TE", "trailers")
        .header("Trailer", "X-Sum")
        .chunks(&[b"abc", b"def"], "X-Sum: 6\r\n");
    let answer = reply(200)
        .header("trailer", "x-sum")
        .chunks_and_trailers(["one", "two"], "x-sum: 2\r\n");
    let seen = proxied(&ask, &answer).await;
    assert_eq!(
        seen.received.body.trailers,
        [("x-sum".to_owned(), b"6".to_vec())]
    );
    check(ask, answer).await;
}

#[tokio::test]
async fn trailers_of_a_request_that_is_read_pass_too() {
    let sums = [("x-sum".to_owned(), b"6".to_vec())];
    let streamed = CHAT.replace('{', "{\"stream\":true,");
    for body in [CHAT, &streamed, ""] {
        let chunks: Vec<&[u8]> = Some(body.as_bytes())
            .filter(|b| !b.is_empty())
            .into_iter()
            .collect();
        let ask = Ask::new("POST", "/v1/chat/completions")
            .header("Content-Type", "application/json")
            .header("Trailer", "X-Sum")
            .header("X-Last", "1")
            .chunks(&chunks, "X-Sum: 6\r\n");
        let seen = proxied(&ask, &json("{}")).await;
        assert_eq!(seen.received.text(), body, "as it was summed");
        assert_eq!(seen.received.body.trailers, sums);
        check(ask, json("{}")).await;
    }
}

#[tokio::test]
async fn an_http_1_0_client_gets_an_answer_without_chunks() {
    let upstream = Upstream::answers(reply(200).chunks(["one ", "two"])).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send("GET /v1/models HTTP/1.0\r\n\r\n").await;
    let response = client.response(false).await;
    assert_eq!(response.header("transfer-encoding"), None);
    assert_eq!(response.text(), "one two");
    assert!(upstream.request().head.start.ends_with("HTTP/1.1"));
}

#[tokio::test]
async fn a_client_that_expects_100_is_told_to_go_on() {
    for path in ["/v1/chat/completions", "/v1/files"] {
        let upstream = Upstream::answers(json("{}")).await;
        let proxy = Proxy::to(&upstream).await;
        let mut client = proxy.client().await;
        let ask = post(path, CHAT).header("Expect", "100-continue");
        client.send(ask.head_bytes()).await;
        assert_eq!(client.begin(false).await.status(), 100);
        client.send(CHAT).await;
        assert_eq!(client.response(false).await.status(), 200);
        assert_eq!(upstream.request().text(), CHAT);
        assert_eq!(upstream.request().header("expect"), None);
    }
}

#[tokio::test]
async fn a_connection_is_closed_when_the_client_says_so_and_not_when_the_upstream_does() {
    let upstream = Upstream::answers(reply(200).header("connection", "close").body("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        assert_eq!(
            client.call(&get("/v1/models")).await.header("connection"),
            None
        );
    }
    let last = client
        .call(&get("/v1/models").header("Connection", "close"))
        .await;
    assert_eq!(last.header("connection"), Some("close"));
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::with(|_, request| json(format!("{:?}", request.target()))).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    let asks = [
        get("/v1/a"),
        post("/v1/chat/completions", CHAT),
        get("/v1/c"),
    ];
    client
        .send(asks.iter().flat_map(Ask::bytes).collect::<Vec<_>>())
        .await;
    for expected in [r#""/v1/a""#, r#""/v1/chat/completions""#, r#""/v1/c""#] {
        assert_eq!(client.response(false).await.text(), expected);
    }
}

#[tokio::test]
async fn connections_are_reused_on_both_sides() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    for _ in 0..5 {
        assert_eq!(client.call(&get("/v1/models")).await.status(), 200);
    }
    assert_eq!(upstream.requests().len(), 5);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_absolute_target_goes_to_the_upstream_as_a_path() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy
        .call(&get("http://elsewhere.test:1/v1/models?a=b"))
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(upstream.request().target(), "/v1/models?a=b");
    assert_eq!(
        upstream.request().header("host"),
        Some(&*upstream.address().to_string())
    );
}

#[tokio::test]
async fn the_base_path_of_an_upstream_takes_the_place_of_v1() {
    let upstream = Upstream::answers(json("{}")).await;
    let base = format!("http://{}/api/openai/v9/", upstream.address());
    let setup = crate::harness::proxy::Setup::new().endpoint("main", &base, "");
    let proxy = setup.start().await;
    for (asked, sent) in [
        ("/v1/models?x=/v1", "/api/openai/v9/models?x=/v1"),
        ("/v1", "/api/openai/v9"),
        ("/v1beta/models", "/v1beta/models"),
        ("/v10/x", "/v10/x"),
        ("/other", "/other"),
    ] {
        let mut client = Client::connect(proxy.address()).await;
        assert_eq!(client.call(&get(asked)).await.status(), 200);
        assert_eq!(upstream.requests().last().unwrap().target(), sent);
    }
}
