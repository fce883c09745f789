//! What is kept at Redis stays small, and what is told there is told once.

use std::time::Duration;

use open_aiops::clock::Clock;
use open_aiops::core::budget::{AccountName, Amounts, Control, Limits};
use open_aiops::core::id::Label;
use open_aiops::core::time::Timestamp;
use open_aiops::shared::contribution::{Contribution, Query};
use open_aiops::shared::deeds::{SharedDeed, Told};
use open_aiops::shared::{Mode, Shared};

use crate::harness::fleet::{Instance, NOW, config};
use crate::harness::redis::Redis;

const KEEP: Duration = Duration::from_secs(600);

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

async fn joined(redis: &Redis, seed: u64) -> Shared {
    let one = Shared::new(&redis.config(), seed, Clock::manual(NOW)).unwrap();
    one.connect().await.unwrap();
    one.heartbeat(true).await.unwrap();
    one.join();
    one
}

/// What `one` spent at `at`, and a question about the time from `from` on.
fn spent(one: &Shared, at: Timestamp, from: Timestamp) -> (Query, Contribution) {
    let name = AccountName {
        rule: label("all"),
        key: Vec::new(),
    };
    let amounts = Amounts {
        calls: 1,
        ..Amounts::default()
    };
    let part = Contribution {
        account: one.naming().account(&name),
        version: one.version(),
        running: 0,
        held: Amounts::default(),
        bucket: at,
        spent: vec![(at, amounts)],
        keep: KEEP,
    };
    let query = Query {
        from,
        to: Timestamp::from_micros(i64::MAX),
        keep: KEEP,
        checks: Vec::new(),
    };
    (query, part)
}

fn told(deed: SharedDeed) -> Told {
    Told {
        at: NOW,
        who: "ada".to_owned(),
        deed,
        details: "run r".to_owned(),
        place: "east".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn account_forgets_an_instance_that_is_gone_once_nothing_of_it_counts() {
    let Some(redis) = Redis::start() else { return };
    let (one, gone) = (joined(&redis, 7).await, joined(&redis, 8).await);
    let account = |it: &Shared| it.naming().account_key(&spent(it, NOW, NOW).1.account);
    let instances = || redis.ask::<usize>(&["HLEN", &account(&one)]);
    let look = async |from| {
        let asked = [spent(&one, one.heard_at(), from)];
        one.reserve(&asked, Mode::Look).await.unwrap();
    };
    gone.push(&[spent(&gone, NOW, NOW).1]).await.unwrap();
    look(NOW.plus_micros(1)).await;
    assert_eq!(instances(), 2, "it lives");
    gone.leave().await.unwrap();
    look(NOW).await;
    assert_eq!(instances(), 2, "what it spent counts");
    look(NOW.plus_micros(1)).await;
    assert_eq!(instances(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_say_of_many_runs_keeps_nothing_else_waiting() {
    let Some(redis) = Redis::start() else { return };
    let one = joined(&redis, 7).await;
    for n in 0..300 {
        let run = label(&format!("run-{n}"));
        one.tell_soon(&told(SharedDeed::RunClaimed(run, None, Limits::default())));
    }
    one.tell_soon(&told(SharedDeed::Controlled(label("r"), Control::Stopped)));
    let length = |of: &str| redis.ask::<usize>(&["XLEN", &one.naming().key(of)]);
    one.tell_backlog().await.unwrap();
    assert_eq!(length("deeds"), 1);
    let first = length("claims");
    assert!((1..300).contains(&first), "{first} in one message");
    while length("claims") < 300 {
        let before = length("claims");
        one.tell_backlog().await.unwrap();
        assert!(length("claims") > before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deed_whose_answer_was_not_heard_is_told_once() {
    let Some(redis) = Redis::start() else { return };
    let one = joined(&redis, 7).await;
    redis.freeze();
    one.tell_soon(&told(SharedDeed::Controlled(label("r"), Control::Stopped)));
    one.tell_backlog().await.unwrap_err();
    redis.go_on();
    one.tell_backlog().await.unwrap();
    assert_eq!(one.untold_deeds(), 0);
    let length = || redis.ask::<usize>(&["XLEN", &one.naming().key("deeds")]);
    assert_eq!(length(), 1);
    one.tell_soon(&told(SharedDeed::Controlled(label("r"), Control::Running)));
    one.tell_backlog().await.unwrap();
    assert_eq!(length(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_how_full_a_budget_is_by_what_all_instances_spent() {
    let Some(redis) = Redis::start() else { return };
    let config = config("[[budget]]\nname = \"all\"\ntokens = 900\n");
    let shared = redis.config();
    let clocks = [Clock::manual(NOW), Clock::manual(NOW)];
    let one = Instance::start(&config, Some(&shared), &clocks[0]).await;
    let other = Instance::start(&config, Some(&shared), &clocks[1]).await;
    for instance in [&one, &other] {
        let granted = instance.hold("a", 40, KEEP).await.unwrap();
        instance.settle(granted, 40);
    }
    one.stands((100, 0, 0)).await;
    let fullest = one.budgets.fullest_of_each().unwrap();
    assert_eq!(fullest[0].fills[0].used, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_spent_of_an_account_is_shown_though_this_instance_has_it_on_disk_alone() {
    let Some(redis) = Redis::start() else { return };
    let config = config("[[budget]]\nname = \"all\"\ntokens = 900\n");
    let shared = redis.config();
    let clocks = [Clock::manual(NOW), Clock::manual(NOW)];
    let one = Instance::start(&config, Some(&shared), &clocks[0]).await;
    let other = Instance::start(&config, Some(&shared), &clocks[1]).await;
    for instance in [&one, &other] {
        let granted = instance.hold("a", 40, KEEP).await.unwrap();
        instance.settle(granted, 40);
    }
    one.stands((100, 0, 0)).await;
    other.stands((100, 0, 0)).await;
    let again = one.again().await;
    again.stands((100, 0, 0)).await;
}
