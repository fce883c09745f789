//! What goes wrong upstream and at the client: whose fault it was, for the client and the ledger.

use tokio::net::TcpListener;

use crate::harness::http::{Body, Framing};
use crate::harness::proxy::Setup;
use crate::harness::{
    Answer, Ask, CHAT, Client, Driver, Proxy, Response, Upstream, get, json, post, reply,
};

fn chat() -> Ask {
    post("/v1/chat/completions", CHAT)
}

/// Checks an error of ours and returns its message.
#[track_caller]
fn fault(response: &Response, status: u16, code: &str) -> String {
    assert_eq!(response.status(), status, "{}", response.text());
    assert_eq!(response.header("x-aiops-error"), Some(code));
    assert_eq!(response.header("content-type"), Some("application/json"));
    let error = &response.json()["error"];
    assert_eq!(error["code"], code);
    assert!(
        error["type"].is_string() && error["param"].is_null(),
        "{error}"
    );
    let message = error["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("open-aiops: "), "{message}");
    message
}

/// An address at which nobody listens.
async fn closed_port() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/v1", socket.local_addr().unwrap())
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_named() {
    for base in [
        closed_port().await,
        "http://no-such-host.invalid:1/v1".to_owned(),
    ] {
        let proxy = Setup::new().endpoint("main", &base, "").start().await;
        let response = Client::connect(proxy.address()).await.call(&chat()).await;
        let message = fault(&response, 502, "upstream_unreachable");
        let authority = base.trim_start_matches("http://").trim_end_matches("/v1");
        assert!(
            message.contains("main") && message.contains(authority),
            "{message}"
        );
        assert_eq!(response.json()["error"]["type"], "upstream_error");
        let record = proxy.record(&response).await;
        assert_eq!(record.outcome(), "upstream_unavailable");
        assert_eq!(record.number("/status"), 502);
        assert_eq!(record.output_tokens() + record.input_tokens(), 0);
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_a_gateway_timeout() {
    let upstream = Upstream::answers(Answer::nothing().then_stalls()).await;
    let setup = Proxy::with(&upstream).upstream_lines("response_timeout = \"40ms\"");
    let proxy = setup.start().await;
    let response = proxy.call(&chat()).await;
    fault(&response, 504, "upstream_timeout");
    upstream.hung_up().await;
    let record = proxy.record(&response).await;
    assert_eq!(
        (record.outcome(), record.provenance()),
        ("upstream_unavailable", "estimated")
    );
    // It had the request and may well have worked on it.
    assert!(record.input_tokens() > 0);
}

#[tokio::test]
async fn an_upstream_that_breaks_off_before_its_answer_is_a_bad_gateway() {
    let garbage = "NOT HTTP AT ALL\r\n\r\n";
    for answer in [
        Answer::nothing().then_closes(),
        Answer::nothing().then_resets(),
        Answer::raw("HTTP/1.1 200 OK\r\ncontent-ty").then_closes(),
        Answer::raw(garbage).then_closes(),
        Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab")
            .then_closes(),
        Answer::raw("HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n").then_closes(),
    ] {
        let upstream = Upstream::answers(answer).await;
        let proxy = Proxy::to(&upstream).await;
        let response = proxy.call(&chat()).await;
        fault(&response, 502, "upstream_closed");
        assert_eq!(
            proxy.record(&response).await.outcome(),
            "upstream_unavailable"
        );
        assert_eq!(upstream.requests().len(), 1, "nothing is sent twice");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_does_not_fail_the_next_call() {
    let upstream = Upstream::with(|n, _| {
        let answer = json("{}");
        if n == 0 { answer.then_closes() } else { answer }
    })
    .await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    assert_eq!(client.call(&chat()).await.status(), 200);
    upstream.hung_up().await;
    assert_eq!(client.call(&chat()).await.status(), 200);
}

#[tokio::test]
async fn an_answer_shorter_than_it_said_is_a_cut() {
    let short =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"a\":";
    for answer in [
        Answer::raw(short).then_closes(),
        Answer::raw(short).then_resets(),
    ] {
        let upstream = Upstream::answers(answer).await;
        let proxy = Proxy::to(&upstream).await;
        let mut client = proxy.client().await;
        client.send(chat().bytes()).await;
        let response = client.response(false).await;
        assert_eq!((response.status(), response.cut), (200, true));
        assert_eq!(proxy.record(&response).await.outcome(), "upstream_cut");
    }
}

#[tokio::test]
async fn a_broken_chunk_is_a_cut() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (sent, text) in [("3\r\nabc\r\nzz\r\n", "abc"), ("zz\r\n", "")] {
        let broken = Answer::raw([head, sent].concat());
        let upstream = Upstream::answers(broken.then_closes()).await;
        let proxy = Proxy::to(&upstream).await;
        let response = proxy.call(&get("/v1/models")).await;
        assert_eq!((response.text(), response.cut), (text, true));
        assert_eq!(proxy.record(&response).await.outcome(), "upstream_cut");
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_its_body_reaches_no_upstream() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client
        .send(&chat().bytes()[..chat().bytes().len() - 1])
        .await;
    drop(client);
    assert_eq!(proxy.call(&get("/v1/models")).await.status(), 200);
    assert_eq!(upstream.request().target(), "/v1/models");
    assert_eq!(proxy.calls().await, 1);
}

#[tokio::test]
async fn a_client_that_leaves_within_an_upload_ends_it_upstream() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client
        .send("POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nsome")
        .await;
    upstream
        .until(|seen| seen.first().is_some_and(|r| r.body.data == b"some"))
        .await;
    drop(client);
    upstream.hung_up().await;
    assert!(!upstream.request().body.done);
    let record = proxy.only_record().await;
    assert_eq!(record.outcome(), "client_gone");
    assert_eq!(record.number("/request_bytes"), 4);
}

#[tokio::test]
async fn a_client_that_leaves_while_waiting_for_the_head_frees_the_upstream() {
    let upstream = Upstream::answers(Answer::nothing().then_stalls()).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(chat().bytes()).await;
    upstream.asked().await;
    drop(client);
    upstream.hung_up().await;
    let record = proxy.only_record().await;
    assert_eq!(record.outcome(), "client_gone");
    assert!(record.get("/status").is_null());
    assert!(
        record.input_tokens() > 0,
        "the upstream had the prompt and bills it"
    );
    assert_eq!(record.provenance(), "estimated");
}

#[tokio::test]
async fn a_client_that_closes_its_half_has_left() {
    // As for nginx: most clients hang up like this, and then nobody should pay for an answer.
    let upstream = Upstream::answers(Answer::nothing().then_stalls()).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(chat().bytes()).await;
    upstream.asked().await;
    client.close_half().await;
    upstream.hung_up().await;
    assert!(client.rest().await.is_empty());
    assert_eq!(proxy.only_record().await.outcome(), "client_gone");
}

#[tokio::test]
async fn a_client_that_leaves_within_a_stream_frees_the_upstream() {
    let (answer, driver) = reply(200)
        .header("content-type", "text/event-stream")
        .driven();
    let upstream = Upstream::answers(answer).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(chat().bytes()).await;
    let mut response = client.begin(false).await;
    let piece = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
    driver.chunk(piece).await;
    client.next(&mut response, piece.len()).await;
    drop(client);
    upstream.hung_up().await;
    let record = proxy.record(&response).await;
    assert_eq!(record.outcome(), "client_gone");
    assert_eq!(record.output_tokens(), 1);
    assert_eq!(record.number("/response_bytes"), piece.len() as u64);
}

#[tokio::test]
async fn an_http_2_client_that_resets_its_stream_frees_the_upstream() {
    let (answer, driver) = reply(200)
        .header("content-type", "text/event-stream")
        .driven();
    let upstream = Upstream::answers(answer).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.h2_client().await;
    let request = http::Request::post(format!("http://{}/v1/chat/completions", proxy.address()))
        .body(crate::harness::h2::whole(CHAT))
        .unwrap();
    let (head, body) = client.begin(request).await;
    driver.chunk(": one\n\n").await;
    drop(body);
    upstream.hung_up().await;
    let call = head.header("x-aiops-call").unwrap();
    assert_eq!(proxy.record_of(call).await.outcome(), "client_gone");
}

#[tokio::test]
async fn a_client_that_leaves_after_the_end_changes_nothing() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    let response = client.call(&chat()).await;
    drop(client);
    assert_eq!(proxy.record(&response).await.outcome(), "completed");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::with(&upstream)
        .proxy_lines("max_body = \"1 KiB\"")
        .start()
        .await;
    let long = vec![b' '; 1025];
    let response = proxy.call(&post("/v1/chat/completions", &long)).await;
    let message = fault(&response, 413, "body_too_large");
    assert!(
        message.contains("1024") && message.contains("max_body"),
        "{message}"
    );
    assert_eq!(upstream.requests().len(), 0);
    let response = proxy.call(&post("/v1/chat/completions", &long[1..])).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_body_of_unknown_length_over_the_limit_is_refused_when_it_gets_there() {
    for path in ["/v1/chat/completions", "/v1/files"] {
        let upstream = Upstream::answers(json("{}")).await;
        let proxy = Proxy::with(&upstream)
            .proxy_lines("max_body = \"1 KiB\"")
            .start()
            .await;
        let chunk = vec![b' '; 600];
        let ask = Ask::new("POST", path).chunks(&[&chunk, &chunk], "");
        fault(&proxy.call(&ask).await, 413, "body_too_large");
        assert!(upstream.requests().iter().all(|request| !request.body.done));
    }
}

#[tokio::test]
async fn json_longer_than_is_read_passes_through_unread() {
    let content = "x".repeat(5000);
    let body = CHAT.replace("hi", &content);
    for in_chunks in [false, true] {
        let upstream = Upstream::answers(json("{}")).await;
        let proxy = Proxy::with(&upstream)
            .proxy_lines("max_read = \"4 KiB\"")
            .start()
            .await;
        let ask = if in_chunks {
            let (first, second) = body.as_bytes().split_at(3000);
            Ask::new("POST", "/v1/chat/completions").chunks(&[first, second], "")
        } else {
            post("/v1/chat/completions", &body)
        };
        let response = proxy.call(&ask).await;
        assert_eq!(response.status(), 200);
        assert_eq!(upstream.request().text(), body);
        let record = proxy.record(&response).await;
        assert_eq!(record.number("/request_bytes"), body.len() as u64);
        assert_eq!(record.text("/operation"), "chat");
        assert!(record.get("/request_model").is_null());
    }
}

#[tokio::test]
async fn an_interim_answer_is_not_taken_for_the_answer() {
    let (answer, driver) = Driver::of_everything();
    let upstream = Upstream::answers(answer).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(chat().bytes()).await;
    driver
        .bytes("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        .await;
    driver
        .bytes("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        .await;
    let mut response = client.begin(false).await;
    while response.status() < 200 {
        response = client.begin(false).await;
    }
    client.finish(&mut response).await;
    assert_eq!((response.status(), response.text()), (200, "{}"));
}

#[tokio::test]
async fn an_answer_framed_twice_is_framed_once_for_the_client() {
    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n0\r\n\r\n";
    let upstream = Upstream::answers(Answer::raw(twice)).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&get("/v1/models")).await;
    if response.status() == 200 {
        assert_eq!(response.text(), "hello");
        assert_ne!(response.header("content-length"), Some("3"));
    } else {
        fault(&response, 502, "upstream_closed");
    }
}

#[tokio::test]
async fn an_upstream_that_switches_protocols_unasked_is_at_fault() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let upstream = Upstream::answers(Answer::raw(switched)).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&chat()).await;
    assert_eq!(response.status(), 502, "{}", response.head.start);
    proxy.record(&response).await;
}

#[tokio::test]
async fn many_calls_at_once_are_all_answered_and_recorded() {
    let upstream = Upstream::with(|_, request| json(request.text())).await;
    let proxy = Proxy::to(&upstream).await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..200 {
        let mut client = proxy.client().await;
        calls.spawn(async move {
            let body = CHAT.replace("hi", &format!("call {n}"));
            let response = client.call(&post("/v1/chat/completions", &body)).await;
            assert_eq!(response.text(), body);
            response.call()
        });
    }
    let ids = crate::harness::within("all calls", calls.join_all()).await;
    assert_eq!(proxy.calls().await, 200);
    for id in &ids[..5] {
        assert_eq!(proxy.record_of(id).await.outcome(), "completed");
    }
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_their_turn() {
    let (slow, driver) = reply(200).driven();
    let upstream = Upstream::answers_each([slow, json("{}")]).await;
    let proxy = Proxy::with(&upstream)
        .proxy_lines("max_connections = 1")
        .start()
        .await;
    let mut first = proxy.client().await;
    first.send(get("/v1/slow").bytes()).await;
    let mut response = first.begin(false).await;
    let mut second = proxy.client().await;
    second.send(get("/v1/quick").bytes()).await;
    driver.chunk("still here").await;
    assert_eq!(first.next(&mut response, 10).await, b"still here");
    assert_eq!(upstream.requests().len(), 1);
    driver.end().await;
    drop(first);
    assert_eq!(second.response(false).await.status(), 200);
}

#[tokio::test]
async fn a_connection_that_sends_nothing_gives_up_its_turn() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::with(&upstream)
        .proxy_lines("max_connections = 1\nhead_timeout = \"100ms\"")
        .start()
        .await;
    for first_bytes in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut silent = proxy.client().await;
        silent.send(first_bytes).await;
        let response = proxy.call(&get("/v1/models")).await;
        assert_eq!(response.status(), 200, "{first_bytes:?}");
        assert!(silent.rest().await.is_empty(), "{first_bytes:?}");
    }
}

#[tokio::test]
async fn a_tunnel_keeps_its_turn_until_it_closes() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\n\r\n";
    let tunnel = Answer::raw(switched).then_echoes();
    let upstream = Upstream::answers_each([tunnel, json("{}")]).await;
    let proxy = Proxy::with(&upstream)
        .proxy_lines("max_connections = 1")
        .start()
        .await;
    let mut first = proxy.client().await;
    let upgrade = get("/v1/realtime")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket");
    first.send(upgrade.bytes()).await;
    let mut response = first.begin(false).await;
    assert_eq!(response.status(), 101);
    response.body = Body::new(Framing::UntilClose);
    let mut second = proxy.client().await;
    second.send(get("/v1/quick").bytes()).await;
    // Time enough for the second to get in, if it could.
    for _ in 0..200 {
        first.send("still here").await;
        assert_eq!(first.next(&mut response, 10).await, b"still here");
    }
    assert_eq!(upstream.requests().len(), 1);
    drop(first);
    assert_eq!(second.response(false).await.status(), 200);
}

#[tokio::test]
async fn connect_and_targets_that_are_no_path_are_rejected() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client
        .send("CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n")
        .await;
    fault(&client.response(false).await, 405, "method_not_supported");
    let mut client = proxy.client().await;
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    fault(&client.response(false).await, 400, "bad_target");
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_head_that_takes_too_long_closes_the_connection() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::with(&upstream)
        .proxy_lines("head_timeout = \"40ms\"")
        .start()
        .await;
    let mut client = proxy.client().await;
    client
        .send("GET /v1/models HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        .await;
    let _ = client.rest().await;
    assert_eq!(upstream.requests().len(), 0);
}
