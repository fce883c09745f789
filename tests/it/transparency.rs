//! What goes in comes out: the same call made directly and through the proxy, compared.
//!
//! The stated exceptions: header names are written in lower case, headers of one name stand
//! together, headers that belong to one connection are its own, `host` names the upstream, and
//! the client gets marks that start with `x-aiops-`.

use std::io::Write as _;

use http::Request;
use http_body_util::BodyExt;

use crate::harness::h2::whole;
use crate::harness::http::Head;
use crate::harness::upstream::Received;
use crate::harness::{
    Answer, Ask, CHAT, Client, Proxy, Response, Upstream, get, json, post, reply, within,
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
async fn trailers_of_an_http_2_request_pass_announced_or_not() {
    for path in ["/v1/chat/completions", "/v1/files"] {
        for announced in [true, false] {
            if path == "/v1/files" && !announced {
                // A body that is not waited for: too late to announce what follows it.
                continue;
            }
            let upstream = Upstream::answers(json("{}")).await;
            let proxy = Proxy::to(&upstream).await;
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-sum", "6".parse().unwrap());
            let body = http_body_util::Full::from(CHAT).with_trailers(async { Some(Ok(trailers)) });
            let mut request = Request::post(format!("http://{}{path}", proxy.address()))
                .header("content-type", "application/json");
            if announced {
                request = request.header("trailer", "x-sum");
            }
            let mut client = proxy.h2_client().await;
            let response = client.call(request.body(body.boxed()).unwrap()).await;
            assert_eq!(response.head.status(), 200);
            let received = upstream.request();
            assert_eq!(received.text(), CHAT);
            assert_eq!(received.header("trailer"), Some("x-sum"));
            let sum = ("x-sum".to_owned(), b"6".to_vec());
            assert_eq!(received.body.trailers, [sum]);
        }
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

#[tokio::test]
async fn what_belongs_to_one_connection_or_to_us_does_not_go_upstream() {
    let upstream = Upstream::answers(
        reply(200)
            .header("connection", "x-hop, keep-alive")
            .header("keep-alive", "timeout=5")
            .header("x-hop", "1")
            .header("proxy-authenticate", "Basic")
            .header("x-kept", "1")
            .body("{}"),
    )
    .await;
    let proxy = Proxy::to(&upstream).await;
    let ask = get("/v1/models")
        .header(
            "Connection",
            "close, X-Hop, Authorization, Host, X-Aiops-Agent",
        )
        .header("X-Hop", "1")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("Proxy-Authorization", "Basic xyz")
        .header("TE", "trailers, deflate")
        .header("X-Aiops-Agent", "planner")
        .header("X-Aiops-Tag-Team", "blue")
        .header("X-Aiops-Unheard-Of", "1")
        .header("Helicone-Auth", "Bearer h")
        .header("X-Portkey-Api-Key", "p")
        .header("X-Litellm-Api-Key", "l")
        .header("Authorization", "Bearer client-key")
        .header("X-Kept", "1");
    let response = proxy.call(&ask).await;
    let mut names: Vec<_> = upstream.request().head.names().into_iter().collect();
    names.retain(|name| name != "connection");
    assert_eq!(names, ["authorization", "host", "te", "x-kept"]);
    let request = upstream.request();
    assert_eq!(request.header("te"), Some("trailers"));
    assert_eq!(
        request.header("host"),
        Some(&*upstream.address().to_string())
    );
    for gone in ["keep-alive", "x-hop", "proxy-authenticate"] {
        assert_eq!(response.header(gone), None, "{gone}");
    }
    assert_eq!(response.header("x-kept"), Some("1"));
    assert_eq!(response.header("x-aiops-agent"), Some("planner"));
}

/// Names in the order they came.
fn order(head: &Head) -> Vec<&str> {
    head.headers.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn headers_that_pass_keep_their_order_whatever_is_taken_out_between_them() {
    let answer = reply(200)
        .header("connection", "x-hop")
        .header("x-1", "1")
        .header("x-hop", "1")
        .header("set-cookie", "a=1")
        .header("content-type", "application/json")
        .header("keep-alive", "timeout=5")
        .header("x-2", "1")
        .header("set-cookie", "b=2")
        .header("x-3", "1");
    let upstream = Upstream::answers(answer.body("{}")).await;
    let proxy = Proxy::with(&upstream)
        .upstream_lines("api_key_env = \"KEY\"")
        .env("KEY", "own-key")
        .start()
        .await;
    let ask = Ask::new("POST", "/v1/chat/completions")
        .header("Connection", "keep-alive, X-Hop")
        .header("X-1", "1")
        .header("X-Aiops-Agent", "a")
        .header("Authorization", "Bearer client-key")
        .header("X-Hop", "1")
        .header("X-2", "1")
        .header("Api-Key", "client-key")
        .header("TE", "trailers")
        .header("X-3", "1")
        .header("Content-Type", "application/json")
        .body(CHAT);
    let response = proxy.call(&ask).await;
    let request = upstream.request();
    assert_eq!(
        order(&request.head),
        [
            "host",
            "x-1",
            "authorization",
            "x-2",
            "te",
            "x-3",
            "content-type",
            "content-length"
        ]
    );
    assert_eq!(request.header("authorization"), Some("Bearer own-key"));
    assert_eq!(
        order(&response.head)[..7],
        [
            "x-1",
            "set-cookie",
            "set-cookie",
            "content-type",
            "x-2",
            "x-3",
            "content-length"
        ]
    );
}

#[tokio::test]
async fn nothing_is_added_to_an_answer_but_our_marks() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&get("/v1/models")).await;
    let names: Vec<_> = response.head.names().into_iter().collect();
    assert_eq!(
        names,
        [
            "content-length",
            "content-type",
            "x-aiops-agent",
            "x-aiops-call"
        ]
    );
    let sent: Vec<_> = upstream.request().head.names().into_iter().collect();
    assert_eq!(sent, ["host"]);
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

#[tokio::test]
async fn http_2_requests_pass_with_trailers_cookies_and_target() {
    let answer = reply(200)
        .header("content-type", "application/json")
        .header("trailer", "x-sum")
        .header("x-many", "1")
        .header("x-many", "2")
        .chunks_and_trailers(["{", "}"], "x-sum: 2\r\n");
    let upstream = Upstream::answers(answer).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.h2_client().await;
    let request = Request::post(format!(
        "http://{}/v1/chat/completions?a=b",
        proxy.address()
    ))
    .header("content-type", "application/json")
    .header("te", "trailers")
    .header("cookie", "a=b")
    .header("cookie", "c=d")
    .body(whole(CHAT))
    .unwrap();
    let response = client.call(request).await;
    assert_eq!(response.head.status(), 200);
    assert_eq!(&response.body[..], b"{}");
    assert_eq!(response.trailers.unwrap()["x-sum"], "2");
    assert_eq!(response.head.values("x-many"), [b"1", b"2"]);
    let received = upstream.request();
    assert_eq!(
        received.head.start,
        "POST /v1/chat/completions?a=b HTTP/1.1"
    );
    assert_eq!(received.header("cookie"), Some("a=b; c=d"));
    assert_eq!(
        received.header("host"),
        Some(&*upstream.address().to_string())
    );
    assert_eq!(received.text(), CHAT);
}

#[tokio::test]
async fn http_2_calls_run_side_by_side() {
    let (slow, driver) = reply(200).driven();
    let upstream = Upstream::with(move |_, request| {
        if request.target() == "/slow" {
            slow.clone()
        } else {
            json("{}")
        }
    })
    .await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.h2_client().await;
    let ask = |path: &str| {
        Request::get(format!("http://{}{path}", proxy.address()))
            .body(whole(""))
            .unwrap()
    };
    let (head, mut body) = client.begin(ask("/slow")).await;
    assert_eq!(head.status(), 200);
    assert_eq!(client.call(ask("/quick")).await.head.status(), 200);
    driver.chunk("late").await;
    let frame = within("a frame", body.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "late");
    driver.end().await;
    let rest = within("the end", body.collect()).await.unwrap();
    assert!(rest.to_bytes().is_empty());
}
