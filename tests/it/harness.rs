//! What every test is made of: fake upstreams, the real proxy in this process, clients that see
//! exact bytes, and what the ledger says afterwards.
//!
//! Nothing sleeps and no port is fixed. Where a test waits it waits for an event; the limit in
//! [`within`] only keeps a hang from lasting for ever.

pub(crate) mod accounts;
pub(crate) mod answer;
pub(crate) mod ask;
pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod disk;
pub(crate) mod h2;
pub(crate) mod http;
pub(crate) mod launch;
pub(crate) mod load;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod records;
pub(crate) mod talk;
pub(crate) mod tls;
pub(crate) mod upstream;

use std::time::Duration;

pub(crate) use self::answer::{Answer, Driver, json, reply, sse};
pub(crate) use self::ask::{Ask, CHAT, get, post};
pub(crate) use self::client::{Client, Response};
pub(crate) use self::proxy::Proxy;
pub(crate) use self::upstream::Upstream;

/// Each lets everything that is ready in the test's one thread, sockets included, go on.
const QUIET_TURNS: usize = 1000;
const HANG: Duration = Duration::from_secs(30);

/// The result of what must happen soon.
#[track_caller]
pub(crate) fn within<F: Future>(what: &'static str, act: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        let Ok(output) = tokio::time::timeout(HANG, act).await else {
            panic!("{what}: did not happen ({caller})");
        };
        output
    }
}

/// Returns when all has happened that can happen without the test.
pub(crate) async fn quiet() {
    for _ in 0..QUIET_TURNS {
        tokio::task::yield_now().await;
    }
}
