//! Redis goes away, instances die: nothing is counted twice, nothing is lost, and each goes on as was
//! configured.

use std::time::Duration;

use open_aiops::budgets::Refusal;
use open_aiops::clock::Clock;
use open_aiops::config::{OnAway, SharedConfig};
use open_aiops::core::budget::{Control, Limits};
use open_aiops::core::id::Label;

use crate::harness::fleet::{Instance, NOW, config};
use crate::harness::redis::Redis;
use crate::harness::within;

const NONE: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(1);
const PATIENT: Duration = Duration::from_secs(20);
const TOKENS: &str = "[[budget]]\nname = \"all\"\ntokens = 900\n";

async fn three(redis: &Redis, budgets: &str, on_failure: OnAway) -> Vec<Instance> {
    let shared = SharedConfig {
        on_failure,
        ..redis.config()
    };
    let mut instances = Vec::new();
    for _ in 0..3 {
        let clock = Clock::manual(NOW);
        instances.push(Instance::start(&config(budgets), Some(&shared), &clock).await);
    }
    instances
}

async fn spend(instance: &Instance, output: i64) {
    let granted = instance.hold("a", output, PATIENT).await.unwrap();
    assert_eq!(granted.hold.output_tokens(), output);
    instance.settle(granted, output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_lost_everything_is_filled_again_and_nothing_counts_twice() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let fleet = three(&redis, TOKENS, OnAway::LocalShare).await;
    for (instance, output) in fleet.iter().zip([90, 190, 40]) {
        spend(instance, output).await;
    }
    let held = fleet[2].hold("a", 50, NONE).await.unwrap();
    for instance in &fleet {
        instance.stands((350, 60, 1)).await;
    }
    redis.kill();
    for instance in &fleet {
        instance.away().await;
    }
    redis.begin();
    for instance in &fleet {
        instance.joined().await;
        instance.stands((350, 60, 1)).await;
    }
    fleet[2].settle(held, 20);
    for instance in &fleet {
        instance.stands((380, 0, 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_all_shares_together_pass_no_limit() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let fleet = three(&redis, TOKENS, OnAway::LocalShare).await;
    for (instance, output) in fleet.iter().zip([90, 190, 40]) {
        spend(instance, output).await;
    }
    for instance in &fleet {
        instance.stands((350, 0, 0)).await;
    }
    redis.kill();
    let mut used = 350;
    for instance in &fleet {
        instance.away().await;
        let before = used;
        while let Ok(granted) = instance.hold("a", 40, NONE).await {
            let output = granted.hold.output_tokens();
            used += 10 + output;
            instance.settle(granted, output);
        }
        assert!(used > before, "each has a share");
    }
    assert!(used <= 900, "{used} of 900");
    assert!(used > 700, "little is left unused: {used} of 900");
    redis.begin();
    for instance in &fleet {
        instance.joined().await;
        instance.stands((used, 0, 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_refused_while_redis_is_away_where_that_is_configured() {
    let Some(redis) = Redis::start() else { return };
    let fleet = three(&redis, TOKENS, OnAway::Refuse).await;
    spend(&fleet[0], 90).await;
    redis.freeze();
    let refused = fleet[0].hold("a", 40, PATIENT).await;
    assert!(
        matches!(refused, Err(Refusal::Away)),
        "an answer that does not come is none"
    );
    let at_once = within("a refusal", fleet[0].hold("a", 40, PATIENT)).await;
    assert!(matches!(at_once, Err(Refusal::Away)));
    redis.go_on();
    fleet[0].joined().await;
    spend(&fleet[0], 40).await;
    fleet[1].hold("a", 1, NONE).await.map(drop).unwrap();
    fleet[1].stands((150, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_by_what_is_known_where_they_are_allowed_to() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let fleet = three(&redis, TOKENS, OnAway::Allow).await;
    spend(&fleet[0], 290).await;
    redis.kill();
    fleet[0].away().await;
    spend(&fleet[0], 590).await;
    assert!(
        fleet[0].hold("a", 40, SOON).await.is_err(),
        "its own 900 are spent"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_instance_holds_counts_as_spent_and_its_calls_run_no_more() {
    let Some(redis) = Redis::start() else { return };
    let budgets = "[[budget]]\nname = \"all\"\ntokens = 900\nconcurrent = 2\n";
    let mut fleet = three(&redis, budgets, OnAway::LocalShare).await;
    spend(&fleet[0], 90).await;
    let lost = [
        fleet[0].hold("a", 90, NONE).await.unwrap(),
        fleet[0].hold("a", 90, NONE).await.unwrap(),
    ];
    let busy = fleet[1].hold("a", 40, Duration::from_millis(1)).await;
    assert!(matches!(busy, Err(Refusal::Busy(_))), "two run at most");
    fleet[1].stands((100, 200, 2)).await;
    fleet[0].die();
    let granted = fleet[1].hold("a", 40, PATIENT).await.unwrap();
    fleet[1].settle(granted, 40);
    fleet[1].stands((350, 0, 0)).await;
    // The process is gone with what it held; its ledger never had those calls.
    for hold in lost {
        std::mem::forget(hold.hold);
    }
    let dead = fleet.remove(0);
    let again = dead.again().await;
    again.hold("a", 1, NONE).await.map(drop).unwrap();
    again.stands((150, 0, 0)).await;
    fleet[0].stands((150, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deeds_of_operators_hold_on_all_instances_and_once() {
    let Some(redis) = Redis::start() else { return };
    let mut fleet = three(&redis, TOKENS, OnAway::LocalShare).await;
    for instance in &fleet {
        let step = std::sync::Arc::clone(&instance.budgets);
        instance.hear(step);
    }
    let (rule, key) = (Label::parse("all").unwrap(), Vec::new());
    for instance in &fleet {
        spend(instance, 290).await;
    }
    assert!(fleet[1].hold("a", 40, SOON).await.is_err());
    let more = Limits {
        tokens: Some(60),
        ..Limits::default()
    };
    fleet[0]
        .budgets
        .raise(&rule, &key, more, "ada")
        .await
        .unwrap();
    // It was told just now that all is spent, and is refused by that for a moment.
    let raised = async {
        loop {
            if let Ok(granted) = fleet[1].hold("a", 40, SOON).await {
                break fleet[1].settle(granted, 40);
            }
            tokio::task::yield_now().await;
        }
    };
    within("the raise", raised).await;
    assert!(
        fleet[2].hold("a", 40, SOON).await.is_err(),
        "raised once, by 60"
    );
    let again = fleet.remove(2).again().await;
    again.hear(std::sync::Arc::clone(&again.budgets));
    assert!(
        again.hold("a", 40, SOON).await.is_err(),
        "and not again by who hears of it twice"
    );
    again.budgets.reset(&rule, &key, "ada").await.unwrap();
    spend(&fleet[0], 290).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_that_is_stopped_or_paused_on_one_instance_is_so_on_all() {
    let Some(redis) = Redis::start() else { return };
    let fleet = three(&redis, TOKENS, OnAway::LocalShare).await;
    for instance in &fleet {
        instance.hear(std::sync::Arc::clone(&instance.budgets));
    }
    let run = Label::parse("run-1").unwrap();
    spend(&fleet[0], 40).await;
    fleet[0]
        .budgets
        .control(&run, Control::Stopped, "ada")
        .await
        .unwrap();
    let stopped = async {
        while !matches!(fleet[1].hold("a", 40, SOON).await, Err(Refusal::Stopped(_))) {
            tokio::task::yield_now().await;
        }
    };
    within("the stop", stopped).await;
    fleet[1]
        .budgets
        .control(&run, Control::Running, "ada")
        .await
        .unwrap();
    let going = async {
        while fleet[2].hold("a", 40, SOON).await.is_err()
            || fleet[0].hold("a", 40, SOON).await.is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    within("going on", going).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_copies_of_one_ledger_are_told_apart() {
    let Some(redis) = Redis::start() else { return };
    let clock = Clock::manual(NOW);
    let shared = redis.config();
    let older = open_aiops::shared::Shared::new(&shared, 7, clock.clone()).unwrap();
    clock.advance_micros(1);
    let newer = open_aiops::shared::Shared::new(&shared, 7, clock.clone()).unwrap();
    for one in [&older, &newer] {
        one.connect().await.unwrap();
        one.heartbeat(true).await.unwrap();
    }
    let error = older.heartbeat(true).await.unwrap_err();
    assert!(
        error.is_lasting() && error.to_string().contains("copies of one directory"),
        "{error}"
    );
    newer.leave().await.unwrap();
    older.heartbeat(true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_secret_is_told_and_shares_nothing() {
    let Some(redis) = Redis::start() else { return };
    let clock = Clock::manual(NOW);
    let one = open_aiops::shared::Shared::new(&redis.config(), 7, clock.clone()).unwrap();
    one.connect().await.unwrap();
    one.heartbeat(true).await.unwrap();
    let other = SharedConfig::of(&redis.url(), "quite another secret").unwrap();
    let other = open_aiops::shared::Shared::new(&other, 8, clock).unwrap();
    other.connect().await.unwrap();
    let error = other.heartbeat(true).await.unwrap_err();
    assert!(
        error.is_lasting() && error.to_string().contains("another secret"),
        "{error}"
    );
}
