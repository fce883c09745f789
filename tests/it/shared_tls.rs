//! Redis over TLS: who is trusted, and who is not spoken to.

use std::path::Path;

use open_aiops::clock::Clock;
use open_aiops::config::SharedConfig;
use open_aiops::shared::Shared;
use serde_json::Value;

use crate::harness::accounts::{chat, used};
use crate::harness::fleet::{Instance, NOW, config};
use crate::harness::records::ask;
use crate::harness::redis::Redis;
use crate::harness::tls::Identity;
use crate::harness::{Proxy, Upstream, within};

const BUDGET: &str = "[[budget]]\nname = \"all\"\ntokens = 900\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_with_a_certificate_that_a_file_says_is_trusted_is_used_over_tls() {
    let (identity, dir) = (Identity::new(), tempfile::tempdir().unwrap());
    let Some(redis) = Redis::with_tls(&identity) else {
        return;
    };
    let (certificate, _) = identity.write(dir.path());
    let (settings, budgets) = (redis.tls_config(Some(&certificate)), config(BUDGET));
    let mut fleet = Vec::new();
    for _ in 0..2 {
        let clock = Clock::manual(NOW);
        fleet.push(Instance::start(&budgets, Some(&settings), &clock).await);
    }
    let granted = fleet[0].hold("a", 40, std::time::Duration::ZERO).await;
    fleet[0].settle(granted.unwrap(), 40);
    let one = fleet[1].hold("a", 1, std::time::Duration::ZERO).await;
    drop(one.unwrap());
    fleet[1].stands((50, 0, 0)).await;
    let clients: String = redis.ask(&["CLIENT", "LIST"]);
    let by_socket = clients.lines().filter(|it| it.contains("redis.sock"));
    assert_eq!(by_socket.count(), 1, "all but the test itself speak TLS");
}

async fn refusal(settings: &SharedConfig) -> String {
    let shared = Shared::new(settings, 7, Clock::manual(NOW)).unwrap();
    let connected = within("an end", shared.connect()).await;
    connected.unwrap_err().to_string()
}

fn keys(redis: &Redis) -> usize {
    redis.ask(&["DBSIZE"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_with_a_certificate_that_nobody_trusts_is_told_nothing() {
    let (identity, dir) = (Identity::new(), tempfile::tempdir().unwrap());
    let Some(redis) = Redis::with_tls(&identity) else {
        return;
    };
    let (of_another, _) = Identity::new().write(dir.path());
    for trusted in [None, Some(of_another.as_path())] {
        let said = refusal(&redis.tls_config(trusted)).await;
        assert!(said.contains("certificate"), "{said}");
    }
    // One that speaks to the same port in clear gets nowhere either.
    let in_clear = redis.tls_url().replace("rediss:", "redis:");
    refusal(&SharedConfig::of(&in_clear, "a secret of the tests").unwrap()).await;
    assert_eq!(keys(&redis), 0);
    let (its_own, _) = identity.write(dir.path());
    let shared = Shared::new(&redis.tls_config(Some(&its_own)), 7, Clock::System).unwrap();
    shared.connect().await.unwrap();
}

async fn told(proxy: &Proxy, what: &str) -> String {
    let told = async {
        loop {
            let answer = ask(proxy.app.admin_address(), "/api/v1/events").await;
            let events = answer.json()["events"].as_array().unwrap().clone();
            let mut events = events.iter();
            if let Some(event) = events.find(|event| event["what"] == what) {
                let details: &Value = &event["details"];
                return details.as_str().unwrap_or_default().to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    within("an event", told).await
}

fn section(redis: &Redis, trusted: &Path) -> String {
    format!(
        "[shared]\nurl = \"{}\"\nsecret_env = \"SHARED\"\nextra_ca_file = {trusted:?}\n\
         on_failure = \"refuse\"\n{BUDGET}",
        redis.tls_url()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_told_that_a_certificate_is_what_keeps_redis_away() {
    let (identity, dir) = (Identity::new(), tempfile::tempdir().unwrap());
    let Some(redis) = Redis::with_tls(&identity) else {
        return;
    };
    let (of_another, _) = Identity::new().write(dir.path());
    let upstream = Upstream::answers(used(9, 60)).await;
    let proxy = Proxy::with(&upstream)
        .sections(&section(&redis, &of_another))
        .env("SHARED", "a secret of the tests")
        .start()
        .await;
    let details = told(&proxy, "shared_away").await;
    assert!(details.contains("certificate"), "{details}");
    let refused = proxy.call(&chat("r", 20)).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.json()["error"]["code"], "shared_away");
    assert_eq!(keys(&redis), 0);
}
