//! Upgraded connections: bytes pass both ways as they are, and one call is recorded.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::http::{Body, Framing};
use crate::harness::proxy::Setup;
use crate::harness::{Answer, Client, Driver, Proxy, Response, Upstream, get, json, post, within};

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn upgrade() -> crate::harness::Ask {
    get("/v1/realtime?model=gpt-realtime")
        .header("Connection", "keep-alive, Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Version", "13")
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways_and_is_one_call() {
    let upstream = Upstream::answers(
        Answer::raw(SWITCHED)
            .then_writes(b"\x81\x02hi")
            .then_echoes(),
    )
    .await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(upgrade().bytes()).await;
    let mut response = client.begin(false).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert!(
        response
            .header("connection")
            .unwrap()
            .eq_ignore_ascii_case("upgrade")
    );
    response.body = Body::new(Framing::UntilClose);
    assert_eq!(client.next(&mut response, 4).await, b"\x81\x02hi");
    for message in [
        &b"\x81\x85\0\0\0\0hello"[..],
        b"GET / HTTP/1.1\n\r\0 no HTTP any more",
        b"\xff",
    ] {
        client.send(message).await;
        assert_eq!(client.next(&mut response, message.len()).await, message);
    }
    drop(client);
    upstream.hung_up().await;
    let record = proxy.record(&response).await;
    assert_eq!(record.text("/operation"), "web_socket");
    assert_eq!(record.outcome(), "completed");
    assert_eq!(record.number("/status"), 101);
    assert!(
        upstream
            .request()
            .header("connection")
            .unwrap()
            .to_ascii_lowercase()
            .contains("upgrade")
    );
    assert_eq!(proxy.calls().await, 1);
}

#[tokio::test]
async fn an_upstream_that_ends_a_tunnel_ends_it_for_the_client() {
    let answer = Answer::raw(SWITCHED).then_writes(b"\x88\x00").then_closes();
    let upstream = Upstream::answers(answer).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(upgrade().bytes()).await;
    let response = client.begin(false).await;
    assert_eq!(client.rest().await, b"\x88\x00");
    drop(client);
    assert_eq!(proxy.record(&response).await.number("/response_bytes"), 2);
}

#[tokio::test]
async fn an_upstream_that_does_not_switch_answers_as_ever() {
    let upstream = Upstream::answers(json(r#"{"error":"no"}"#)).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&upgrade()).await;
    assert_eq!(
        (response.status(), response.text()),
        (200, r#"{"error":"no"}"#)
    );
    assert_eq!(proxy.record(&response).await.outcome(), "completed");
}

#[tokio::test]
async fn an_offer_of_another_protocol_is_no_way_around_the_count() {
    let answer = r#"{"id":"chatcmpl-1","model":"gpt-4o-mini","choices":[],
        "usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}"#;
    let upstream = Upstream::answers(json(answer)).await;
    let proxy = Proxy::to(&upstream).await;
    let body = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#;
    let ask = post("/v1/chat/completions", body)
        .header("Connection", "Upgrade, HTTP2-Settings")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQAAP__");
    let response = proxy.call(&ask).await;
    let record = proxy.record(&response).await;
    assert_eq!(
        (record.text("/operation"), record.input_tokens()),
        ("chat", 11)
    );
    assert_eq!(upstream.request().header("upgrade"), None);
}

/// A tunnel through which the upstream's first bytes came.
async fn tunnelled(driver: &Driver, mut client: Client) -> (Client, Response) {
    client.send(upgrade().bytes()).await;
    driver.bytes(SWITCHED).await;
    let mut response = client.begin(false).await;
    assert_eq!(response.status(), 101);
    response.body = Body::new(Framing::UntilClose);
    driver.bytes("hi").await;
    assert_eq!(client.next(&mut response, 2).await, b"hi");
    (client, response)
}

#[tokio::test]
async fn who_breaks_a_tunnel_is_recorded() {
    for by_client in [true, false] {
        let (answer, driver) = Driver::of_everything();
        let upstream = Upstream::answers(answer).await;
        let proxy = Proxy::to(&upstream).await;
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.set_zero_linger().unwrap();
        let client = Client::over(stream, proxy.behind());
        let (client, response) = tunnelled(&driver, client).await;
        let outcome = if by_client {
            drop(client);
            "client_gone"
        } else {
            driver.reset().await;
            "upstream_cut"
        };
        let record = proxy.record(&response).await;
        assert_eq!(record.outcome(), outcome);
        assert_eq!(record.number("/response_bytes"), 2);
        upstream.hung_up().await;
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_its_own_switch_is_at_fault() {
    let (answer, driver) = Driver::of_everything();
    let upstream = Upstream::answers(answer).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    // It switches before it has the whole request, and never reads the rest.
    client
        .send(upgrade().header("Content-Length", "5").bytes())
        .await;
    upstream.asked().await;
    driver.bytes(SWITCHED).await;
    let response = client.begin(false).await;
    assert_eq!(response.status(), 101);
    driver.reset().await;
    assert_eq!(proxy.record(&response).await.outcome(), "upstream_cut");
}

#[tokio::test]
async fn an_upstream_may_end_its_half_of_a_tunnel_and_read_on() {
    let answer = Answer::raw(SWITCHED).then_writes("bye").then_closes();
    let upstream = Upstream::answers(answer).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(upgrade().bytes()).await;
    let response = client.begin(false).await;
    assert_eq!(client.rest().await, b"bye");
    client.send("one more").await;
    upstream
        .until(|seen| seen[0].body.data == b"one more")
        .await;
    drop(client);
    assert_eq!(proxy.record(&response).await.outcome(), "completed");
}

#[tokio::test]
async fn a_client_may_end_its_half_of_a_tunnel_and_read_on() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", socket.local_addr().unwrap());
    let proxy = Setup::new().endpoint("main", &base, "").start().await;
    let upstream = async {
        let (mut stream, _) = socket.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut head).await.unwrap();
        }
        stream.write_all(SWITCHED.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        stream.write_all(b"heard: ").await.unwrap();
        stream.write_all(&heard).await.unwrap();
    };
    let client = async {
        let mut client = Client::connect(proxy.address()).await;
        client.send(upgrade().bytes()).await;
        let response = client.begin(false).await;
        client.send("all I had to say").await;
        client.close_half().await;
        assert_eq!(client.rest().await, b"heard: all I had to say");
        response
    };
    let (response, ()) = within("both ends", async { tokio::join!(client, upstream) }).await;
    let record = proxy.record(&response).await;
    assert_eq!(record.outcome(), "completed");
    assert_eq!(record.number("/response_bytes"), 23);
}

/// An echo through a tunnel.
async fn echoes(client: &mut Client, response: &mut Response, words: &[u8]) {
    client.send(words).await;
    assert_eq!(client.next(response, words.len()).await, words);
}

async fn echoing(proxy_lines: &str) -> (Upstream, Proxy, Client, Response) {
    let upstream = Upstream::answers(Answer::raw(SWITCHED).then_echoes()).await;
    let proxy = Proxy::with(&upstream)
        .proxy_lines(proxy_lines)
        .start()
        .await;
    let mut client = proxy.client().await;
    client.send(upgrade().bytes()).await;
    let mut response = client.begin(false).await;
    response.body = Body::new(Framing::UntilClose);
    echoes(&mut client, &mut response, b"before").await;
    (upstream, proxy, client, response)
}

#[tokio::test]
async fn a_tunnel_goes_on_while_the_proxy_is_told_to_stop() {
    let (upstream, proxy, mut client, mut response) = echoing("").await;
    let (address, dir) = (proxy.address(), std::sync::Arc::clone(&proxy.dir));
    let stopping = tokio::spawn(proxy.app.stop());
    within("the listener's end", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..50 {
        echoes(&mut client, &mut response, b"after").await;
    }
    assert!(!stopping.is_finished());
    drop(client);
    within("the stop", stopping).await.unwrap();
    let again = Proxy::with(&upstream).on_data_of(&dir).start().await;
    assert_eq!(again.record(&response).await.outcome(), "completed");
}

#[tokio::test]
async fn a_tunnel_that_outlives_the_drain_timeout_is_cut_and_recorded_as_cut() {
    let (upstream, proxy, mut client, response) = echoing("drain_timeout = \"50ms\"").await;
    let dir = std::sync::Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    assert!(client.rest().await.is_empty());
    upstream.hung_up().await;
    let again = Proxy::with(&upstream).on_data_of(&dir).start().await;
    let record = again.record(&response).await;
    assert_eq!(record.outcome(), "cut");
    assert_eq!(record.number("/response_bytes"), 6);
}
