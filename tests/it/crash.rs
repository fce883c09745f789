//! The process dies: whatever a client saw answered is in the ledger of the next start.
//!
//! The program is killed under load, again and again on the same data. `IT_CRASH_ROUNDS` asks for
//! more rounds than the few that every run makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::harness::load::{self, Answered, keep_calling, scattered};
use crate::harness::process::Server;
use crate::harness::{Proxy, records, within};

const CLIENTS: usize = 8;

fn rounds() -> usize {
    #[expect(clippy::disallowed_methods, reason = "a knob of this test alone")]
    let asked = std::env::var("IT_CRASH_ROUNDS");
    asked
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(8)
}

#[tokio::test]
async fn every_answered_call_survives_kill_9() {
    let upstream = load::upstream().await;
    let setup = Proxy::with(&upstream);
    std::fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    let mut promised = Vec::new();
    for round in 0..rounds() {
        let new = killed_under_load(setup.dir.path(), 1 + scattered(round) % 120).await;
        check(setup.dir.path(), &new).await;
        promised.extend(new);
    }
    let events = check(setup.dir.path(), &promised).await;
    assert!(events.contains("\"recovered\""), "{events}");
    for streamed in [false, true] {
        let of_this_kind = promised.iter().filter(|call| call.streamed == streamed);
        assert!(of_this_kind.count() >= rounds(), "streamed: {streamed}");
    }
}

/// The calls that were answered before the end, which comes once `wanted` were.
async fn killed_under_load(dir: &std::path::Path, wanted: usize) -> Vec<Answered> {
    let server = Server::start(dir).await;
    let (answered, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (answered, enough) = (Arc::clone(&answered), Arc::clone(&enough));
        let address = server.proxy;
        clients.spawn(async move {
            let mut calls = Vec::new();
            keep_calling(address, client, |call| {
                calls.push(call);
                if answered.fetch_add(1, Ordering::SeqCst) + 1 == wanted {
                    enough.notify_one();
                }
            })
            .await;
            calls
        });
    }
    within("the load", enough.notified()).await;
    server.kill().await;
    let calls = within("the clients", clients.join_all()).await;
    calls.into_iter().flatten().collect()
}

/// Starts again and looks for every call. What happened until then is returned.
async fn check(dir: &std::path::Path, promised: &[Answered]) -> String {
    let server = Server::start(dir).await;
    load::check(server.admin, promised).await;
    let events = records::ask(server.admin, "/api/v1/events")
        .await
        .text()
        .to_owned();
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    events
}
