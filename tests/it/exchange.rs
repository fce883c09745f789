//! Calls of one instance, as another one shows them.

use open_aiops::core::call::Outcome;
use open_aiops::core::id::Label;
use open_aiops::ledger::{CallFilter, CallRow};

use crate::harness::accounts::{chat, used};
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::redis::Redis;
use crate::harness::upstream::Upstream;
use crate::harness::within;

fn at(redis: &Redis, upstream: &Upstream, name: &str) -> Setup {
    let shared = format!(
        "[shared]\nurl = \"{}\"\nsecret_env = \"SHARED\"\ninstance = \"{name}\"\n",
        redis.url()
    );
    Proxy::with(upstream)
        .sections(&shared)
        .env("SHARED", "a secret of the tests")
}

fn rows(proxy: &Proxy, run: &str) -> Vec<CallRow> {
    let filter = CallFilter {
        run: Label::parse(run).ok(),
        ..CallFilter::default()
    };
    proxy.app.ledger().view().calls(&filter).unwrap().items
}

/// The calls of a run, once there are so many.
async fn shown(proxy: &Proxy, run: &str, count: usize) -> Vec<CallRow> {
    within("calls of another instance", async {
        loop {
            let rows = rows(proxy, run);
            if rows.len() == count {
                return rows;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_through_one_instance_is_shown_by_all_with_what_it_cost_and_not_what_was_said() {
    let Some(redis) = Redis::start() else { return };
    let upstream = Upstream::answers(used(9, 60)).await;
    let east = at(&redis, &upstream, "east").start().await;
    let west = at(&redis, &upstream, "west").start().await;
    assert_eq!(east.call(&chat("r", 20)).await.status(), 200);
    let own = &shown(&east, "r", 1).await[0];
    let there = &shown(&west, "r", 1).await[0];
    assert_eq!(there.instance, Label::parse("east").ok());
    assert_eq!(there.outcome, Some(Outcome::Completed));
    let expected = CallRow {
        instance: there.instance.clone(),
        ..own.clone()
    };
    assert_eq!(*there, expected);
    let view = west.app.ledger().view();
    assert!(view.request_body(own.id).unwrap().is_none());
    let own_view = east.app.ledger().view();
    assert!(own_view.request_body(own.id).unwrap().is_some());
    assert_eq!(west.call(&chat("r", 20)).await.status(), 200);
    shown(&east, "r", 2).await;
    assert_eq!(rows(&west, "r").len(), 2, "nothing comes back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_that_was_stopped_is_told_what_it_missed() {
    let Some(redis) = Redis::start() else { return };
    let upstream = Upstream::answers(used(9, 60)).await;
    let east = at(&redis, &upstream, "east").start().await;
    let west = at(&redis, &upstream, "west").start().await;
    assert_eq!(east.call(&chat("r", 20)).await.status(), 200);
    shown(&west, "r", 1).await;
    let dir = west.dir.clone();
    west.app.stop().await;
    for _ in 0..3 {
        assert_eq!(east.call(&chat("r", 20)).await.status(), 200);
    }
    let west = at(&redis, &upstream, "west").on_data_of(&dir).start().await;
    let rows = shown(&west, "r", 4).await;
    let mut ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_made_while_redis_was_away_are_shown_when_it_is_back_though_it_lost_everything() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let upstream = Upstream::answers(used(9, 60)).await;
    let east = at(&redis, &upstream, "east").start().await;
    let west = at(&redis, &upstream, "west").start().await;
    assert_eq!(east.call(&chat("r", 20)).await.status(), 200);
    shown(&west, "r", 1).await;
    redis.kill();
    for _ in 0..3 {
        assert_eq!(east.call(&chat("r", 20)).await.status(), 200);
    }
    redis.begin();
    shown(&west, "r", 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_learns_no_names() {
    let Some(redis) = Redis::start() else { return };
    let upstream = Upstream::answers(used(9, 60)).await;
    let east = at(&redis, &upstream, "east").start().await;
    let west = at(&redis, &upstream, "west").start().await;
    let ask = chat("a-run-of-ours", 20).header("x-aiops-agent", "an-agent-of-ours");
    assert_eq!(east.call(&ask).await.status(), 200);
    shown(&west, "a-run-of-ours", 1).await;
    let mut line = redis::Client::open(redis.url())
        .unwrap()
        .get_connection()
        .unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut line).unwrap();
    assert!(keys.iter().any(|key| key.ends_with(":records")), "{keys:?}");
    for key in keys {
        let dump: Vec<u8> = redis::cmd("DUMP").arg(&key).query(&mut line).unwrap();
        for name in ["a-run-of-ours", "an-agent-of-ours", "gpt-4o"] {
            let is_in = |bytes: &[u8]| bytes.windows(name.len()).any(|it| it == name.as_bytes());
            assert!(!is_in(&dump) && !is_in(key.as_bytes()), "{name} in {key}");
        }
    }
}
