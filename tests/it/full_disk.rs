//! The disk is full: the configured choice between going on unrecorded and taking no calls.

use crate::harness::process::Server;
use crate::harness::proxy::Setup;
use crate::harness::{Client, Proxy, Response, Upstream, json, post, within};

/// A server whose files may not grow beyond 16 MiB, as if the disk ended there.
async fn on_a_small_disk(on_failure: &str) -> (Server, Upstream, Setup) {
    let upstream = Upstream::answers(json("{}")).await;
    let setup = Proxy::with(&upstream).ledger_lines(&format!(
        "on_failure = {on_failure:?}\nsegment_size = \"1 GiB\""
    ));
    std::fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    let server = Server::start_limited(setup.dir.path(), 16 << 10).await;
    (server, upstream, setup)
}

/// A call whose body is new to the ledger and does not compress.
async fn call(server: &Server, n: u64) -> Response {
    let mut noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let text: String = (0..1 << 20)
        .map(|_| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            char::from(b'a' + u8::try_from(noise % 26).unwrap())
        })
        .collect();
    let body =
        format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}");
    Client::connect(server.proxy)
        .await
        .call(&post("/v1/chat/completions", body))
        .await
}

#[tokio::test]
async fn with_refuse_calls_are_turned_away_until_they_can_be_recorded() {
    let (server, _upstream, _setup) = on_a_small_disk("refuse").await;
    let refused = within("a refusal", async {
        for n in 0_u64.. {
            let response = call(&server, n).await;
            if response.status() != 200 {
                return response;
            }
        }
        unreachable!("the disk has an end")
    })
    .await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.header("x-aiops-error"), Some("ledger_unavailable"));
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn with_serve_calls_go_on() {
    let (server, _upstream, _setup) = on_a_small_disk("serve").await;
    for n in 0..40 {
        assert_eq!(call(&server, n).await.status(), 200, "call {n}");
    }
}
