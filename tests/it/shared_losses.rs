//! What Redis, a clock or a connection loses is made good again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use open_aiops::clock::Clock;
use open_aiops::config::{OnAway, SharedConfig};
use open_aiops::core::budget::{AccountName, Amounts, Limits, Measure, Raise};
use open_aiops::core::id::Label;
use open_aiops::core::time::Timestamp;
use open_aiops::shared::contribution::{Check, Contribution, Query};
use open_aiops::shared::deeds::{SharedDeed, Told};
use open_aiops::shared::reader::{Follow, Heard};
use open_aiops::shared::{Mode, Shared};

use crate::harness::fleet::{Instance, NOW, config};
use crate::harness::redis::Redis;
use crate::harness::within;

const PATIENT: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(1);
const TOKENS: &str = "[[budget]]\nname = \"all\"\ntokens = 900\n";

fn name() -> AccountName {
    AccountName {
        rule: Label::parse("all").unwrap(),
        key: Vec::new(),
    }
}

fn alone(redis: &Redis, seed: u64, at: Timestamp) -> Shared {
    Shared::new(&redis.config(), seed, Clock::manual(at)).unwrap()
}

fn told(deed: SharedDeed) -> Told {
    Told {
        at: NOW,
        who: "ada".to_owned(),
        deed,
        details: "\"all\": by 60 tokens".to_owned(),
        place: "east".to_owned(),
    }
}

fn raised() -> SharedDeed {
    let by = Limits {
        tokens: Some(60),
        ..Limits::default()
    };
    SharedDeed::Raised(name(), Raise { by, until: None })
}

async fn two(redis: &Redis) -> [Instance; 2] {
    let shared = SharedConfig {
        on_failure: OnAway::LocalShare,
        ..redis.config()
    };
    let config = config(TOKENS);
    let clocks = [Clock::manual(NOW), Clock::manual(NOW)];
    [
        Instance::start(&config, Some(&shared), &clocks[0]).await,
        Instance::start(&config, Some(&shared), &clocks[1]).await,
    ]
}

async fn spend(instance: &Instance, output: i64) {
    let granted = instance.hold("a", output, PATIENT).await.unwrap();
    assert_eq!(granted.hold.output_tokens(), output);
    instance.settle(granted, output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_of_redis_that_is_wiped_while_it_runs_is_filled_again_by_all() {
    let Some(redis) = Redis::start() else { return };
    let fleet = two(&redis).await;
    for (instance, output) in fleet.iter().zip([90, 190]) {
        spend(instance, output).await;
    }
    fleet[0].stands((300, 0, 0)).await;
    fleet[1].stands((300, 0, 0)).await;
    let () = redis.ask(&["FLUSHALL"]);
    // Neither loses the connection.
    fleet[0].stands((300, 0, 0)).await;
    fleet[1].stands((300, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deed_that_arrives_twice_is_done_once() {
    let Some(redis) = Redis::start() else { return };
    let fleet = two(&redis).await;
    fleet[1].hear(std::sync::Arc::clone(&fleet[1].budgets));
    spend(&fleet[1], 890).await;
    let shared = fleet[0].shared.as_ref().unwrap();
    shared.tell_soon(&told(raised()));
    shared.tell_soon(&told(raised()));
    shared.tell_backlog().await.unwrap();
    let raised = async {
        loop {
            if let Ok(granted) = fleet[1].hold("a", 50, SOON).await {
                break fleet[1].settle(granted, 50);
            }
            tokio::task::yield_now().await;
        }
    };
    within("the raise", raised).await;
    assert!(
        fleet[1].hold("a", 40, SOON).await.is_err(),
        "raised once, by 60"
    );
}

/// Keeps what it hears.
#[derive(Default)]
struct Kept(Mutex<Vec<Heard>>);

impl Follow for Kept {
    async fn follow(&self, heard: Heard) {
        self.0.lock().unwrap().push(heard);
    }
}

impl Kept {
    async fn until(&self, shared: &Shared, count: usize) {
        let heard = async {
            while self.0.lock().unwrap().len() < count {
                tokio::task::yield_now().await;
            }
        };
        let all = async {
            tokio::select! {
                () = shared.hear(self) => {}
                () = heard => {}
            }
        };
        within("deeds", all).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_say_of_runs_takes_no_place_of_what_operators_do() {
    let Some(redis) = Redis::start() else { return };
    let one = alone(&redis, 7, NOW);
    one.tell_soon(&told(raised()));
    for n in 0..1100 {
        let run = Label::parse(&format!("run-{n}")).unwrap();
        one.tell_soon(&told(SharedDeed::RunClaimed(run, None, Limits::default())));
    }
    one.connect().await.unwrap();
    for _ in 0..1024 / 128 {
        one.tell_backlog().await.unwrap();
    }
    let other = alone(&redis, 8, NOW);
    let kept = Kept::default();
    kept.until(&other, 1025).await;
    let heard = kept.0.into_inner().unwrap();
    let of_operators = heard.iter().filter(|it| it.told.deed == raised()).count();
    assert_eq!(of_operators, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn next_process_is_told_which_deeds_the_one_before_followed() {
    let Some(redis) = Redis::start() else { return };
    let one = alone(&redis, 7, NOW);
    one.connect().await.unwrap();
    one.tell_soon(&told(raised()));
    one.tell_backlog().await.unwrap();
    let other = alone(&redis, 8, NOW);
    let heard = async {
        loop {
            let known: BTreeMap<String, String> = redis.ask(&[
                "HGETALL",
                &format!("{{{}}}:heard", redis.config().namespace),
            ]);
            if known.contains_key(other.naming().id()) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let kept = Kept::default();
    let first = async {
        tokio::select! {
            () = other.hear(&kept) => {}
            () = heard => {}
        }
    };
    within("the first process", first).await;
    let again = alone(&redis, 8, NOW);
    let kept_again = Kept::default();
    kept_again.until(&again, 1).await;
    let is_old = |kept: &Kept| kept.0.lock().unwrap()[0].is_old;
    assert!(!is_old(&kept), "it was new to the first process");
    assert!(is_old(&kept_again), "and not to the next");
    let fresh = Kept::default();
    fresh.until(&alone(&redis, 9, NOW), 1).await;
    assert!(!is_old(&fresh), "another ledger knows nothing of it");
}

fn part(shared: &Shared, input_tokens: i64) -> (Query, Contribution) {
    let spent = Amounts {
        input_tokens,
        ..Amounts::default()
    };
    let part = Contribution {
        account: shared.naming().account(&name()),
        version: shared.version(),
        running: 0,
        held: Amounts::default(),
        bucket: NOW,
        spent: vec![(NOW, spent)],
        keep: Duration::from_secs(600),
    };
    let question = Query {
        from: NOW,
        to: NOW.plus_micros(1),
        keep: part.keep,
        checks: Vec::new(),
    };
    (question, part)
}

async fn seen_by(other: &Shared) -> i64 {
    let answer = other.reserve(&[part(other, 0)], Mode::Peek).await.unwrap();
    let spent = &answer.others[0].spent;
    spent.between(NOW, NOW.plus_micros(1)).input_tokens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_whose_clock_was_put_back_is_counted_as_the_one_before() {
    let Some(redis) = Redis::start() else { return };
    let (other, before) = (joined(&redis, 8, NOW).await, joined(&redis, 7, NOW).await);
    for _ in 0..10 {
        before.push(&[part(&before, 5).1]).await.unwrap();
    }
    assert_eq!(seen_by(&other).await, 5);
    before.leave().await.unwrap();
    let after = alone(&redis, 7, Timestamp::from_micros(NOW.micros() - 1_000_000));
    after.connect().await.unwrap();
    after.heartbeat(true).await.unwrap();
    after.push(&[part(&after, 6).1]).await.unwrap();
    assert_eq!(seen_by(&other).await, 6);
    let late = before.push(&[part(&before, 7).1]).await;
    assert!(late.is_err(), "one that left puts nothing in");
    assert_eq!(seen_by(&other).await, 6);
    after.leave().await.unwrap();
    other.forget_gone(&name()).await.unwrap();
    assert_eq!(seen_by(&other).await, 0);
}

/// An instance that was heard of, of a ledger of its own.
async fn joined(redis: &Redis, seed: u64, at: Timestamp) -> Shared {
    let one = alone(redis, seed, at);
    one.connect().await.unwrap();
    one.heartbeat(true).await.unwrap();
    one.join();
    one
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn part_that_comes_after_a_later_one_changes_nothing() {
    let Some(redis) = Redis::start() else { return };
    let (one, other) = (joined(&redis, 7, NOW).await, joined(&redis, 8, NOW).await);
    let [first, second, third] = [5, 9, 2].map(|tokens| part(&one, tokens));
    one.push(std::slice::from_ref(&second.1)).await.unwrap();
    one.push(std::slice::from_ref(&first.1)).await.unwrap();
    assert_eq!(seen_by(&other).await, 9, "pushed late");
    one.reserve(std::slice::from_ref(&first), Mode::Look)
        .await
        .unwrap();
    assert_eq!(seen_by(&other).await, 9, "looked late");
    let eight = |(mut question, part): (Query, Contribution)| {
        question.checks = vec![Check {
            measure: Measure::InputTokens,
            limit: 8,
            wanted: 1,
        }];
        (question, part)
    };
    let late = one.reserve(&[eight(first)], Mode::Reserve).await.unwrap();
    assert!(!late.fits, "the later 9 are what counts");
    let latest = one.reserve(&[eight(third)], Mode::Reserve).await.unwrap();
    assert!(latest.fits, "2 are the latest");
    assert_eq!(seen_by(&other).await, 2);
    one.reserve(&[second], Mode::Reserve).await.unwrap();
    assert_eq!(seen_by(&other).await, 2, "reserved late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_part_of_the_next_process_counts_whatever_number_the_last_one_had() {
    let Some(redis) = Redis::start() else { return };
    let other = joined(&redis, 8, NOW).await;
    let before = joined(&redis, 7, NOW).await;
    for _ in 0..10 {
        before.push(&[part(&before, 5).1]).await.unwrap();
    }
    let pushes = joined(&redis, 7, NOW.plus_micros(1)).await;
    pushes.push(&[part(&pushes, 6).1]).await.unwrap();
    assert_eq!(seen_by(&other).await, 6, "as it is pushed");
    for _ in 0..10 {
        pushes.push(&[part(&pushes, 7).1]).await.unwrap();
    }
    let reserves = joined(&redis, 7, NOW.plus_micros(2)).await;
    let asked = part(&reserves, 8);
    reserves.reserve(&[asked], Mode::Reserve).await.unwrap();
    assert_eq!(seen_by(&other).await, 8, "as it is reserved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secret_may_be_another_one_when_nobody_lives() {
    let Some(redis) = Redis::start() else { return };
    let one = alone(&redis, 7, NOW);
    one.connect().await.unwrap();
    one.heartbeat(true).await.unwrap();
    let settings = SharedConfig::of(&redis.url(), "quite another secret").unwrap();
    let other = Shared::new(&settings, 8, Clock::manual(NOW)).unwrap();
    other.connect().await.unwrap();
    other.heartbeat(true).await.unwrap_err();
    one.leave().await.unwrap();
    other.heartbeat(true).await.unwrap();
    one.heartbeat(true).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn list_of_instances_may_be_long() {
    let Some(redis) = Redis::start() else { return };
    let one = alone(&redis, 7, NOW);
    one.connect().await.unwrap();
    let at = one.heartbeat(true).await.unwrap().at.micros().to_string();
    let key = format!("{{{}}}:who", redis.config().namespace);
    let known: Vec<(String, String)> = (0..9000)
        .map(|n| (format!("n{n}"), format!("{n} 0 0 {at} x")))
        .collect();
    let mut words = vec!["HSET", key.as_str()];
    for (id, about) in &known {
        words.extend([id.as_str(), about.as_str()]);
    }
    let _: i64 = redis.ask(&words);
    assert_eq!(one.heartbeat(true).await.unwrap().peers.len(), 9001);
}
