//! The power goes out: whatever a client saw answered is in the ledger of the next start.
//!
//! The program is killed under load, again and again on the same data. `IT_CRASH_ROUNDS` asks for
//! more rounds than the few that every run makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::harness::process::Server;
use crate::harness::{Answer, Client, Proxy, Upstream, json, post, records, sse};

const CLIENTS: usize = 8;

const ANSWER: &str = r#"{"id":"chatcmpl-1","model":"gpt-4o-mini","choices":[{"index":0,
    "message":{"role":"assistant","content":"Hello"}}],
    "usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}"#;

fn rounds() -> usize {
    #[expect(clippy::disallowed_methods, reason = "a knob of this test alone")]
    let asked = std::env::var("IT_CRASH_ROUNDS");
    asked
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(8)
}

fn stream() -> Answer {
    sse([
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}\n\n",
        "data: [DONE]\n\n",
    ])
}

/// Numbers that look random and are the same in every run.
fn scattered(round: usize) -> usize {
    round.wrapping_mul(0x9e37_79b9) >> 7
}

/// Calls without an end, until the server is gone; the ids of those answered to their end.
async fn load(
    address: std::net::SocketAddr,
    client: usize,
    answered: Arc<AtomicUsize>,
    enough: Arc<Notify>,
    wanted: usize,
) -> Vec<String> {
    let mut ids = Vec::new();
    for turn in 0_usize.. {
        let streamed = (client + turn).is_multiple_of(2);
        let body = format!(
            "{{\"model\":\"gpt-4o-mini\",\"stream\":{streamed},\"messages\":[{{\"role\":\"user\",\
             \"content\":\"client {client} turn {turn}\"}}]}}"
        );
        let Some(id) = attempt(address, &body).await else {
            return ids;
        };
        ids.push(id);
        if answered.fetch_add(1, Ordering::SeqCst) + 1 == wanted {
            enough.notify_one();
        }
    }
    ids
}

/// The id of a call that was answered completely.
async fn attempt(address: std::net::SocketAddr, body: &str) -> Option<String> {
    let mut client = Client::try_connect(address).await?;
    let response = client.try_call(&post("/v1/chat/completions", body)).await?;
    (response.body.done && !response.cut && response.status() == 200).then(|| response.call())
}

#[tokio::test]
async fn every_answered_call_survives_kill_9() {
    let upstream = Upstream::with(|_, request| {
        if request.text().contains("\"stream\":true") {
            stream()
        } else {
            json(ANSWER)
        }
    })
    .await;
    let setup = Proxy::with(&upstream);
    std::fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    let mut promised = Vec::new();
    for round in 0..rounds() {
        let server = Server::start(setup.dir.path()).await;
        let (answered, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let wanted = 1 + scattered(round) % 120;
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (answered, enough) = (Arc::clone(&answered), Arc::clone(&enough));
            clients.spawn(load(server.proxy, client, answered, enough, wanted));
        }
        crate::harness::within("the load", enough.notified()).await;
        server.kill().await;
        let ids = crate::harness::within("the clients", clients.join_all()).await;
        let new: Vec<String> = ids.into_iter().flatten().collect();
        check(setup.dir.path(), &new).await;
        promised.extend(new);
    }
    let events = check(setup.dir.path(), &promised).await;
    assert!(events.contains("\"recovered\""), "{events}");
    assert!(promised.len() >= rounds());
}

/// Starts again and looks for every call; an answered one is settled, by what it used or, where
/// the end came in between, by its estimate. What happened until then is returned.
async fn check(dir: &std::path::Path, promised: &[String]) -> String {
    let server = Server::start(dir).await;
    for id in promised {
        let record = records::settled(server.admin, id).await;
        match record.outcome() {
            "completed" => {
                assert_eq!(
                    (record.input_tokens(), record.output_tokens()),
                    (11, 7),
                    "{id}"
                );
            }
            outcome => assert_eq!(outcome, "recovered", "{id}"),
        }
        assert_eq!(record.text("/id"), id);
    }
    let events = records::ask(server.admin, "/api/v1/events")
        .await
        .text()
        .to_owned();
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    events
}
