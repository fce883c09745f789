//! Which headers pass, which do not, and in what order.

use crate::harness::http::Head;
use crate::harness::{Ask, CHAT, Proxy, Upstream, get, json, reply};

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
