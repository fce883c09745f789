//! Runs that calls of several instances belong to: who spends for whom, and who has the last word on
//! whether they go on.

use std::sync::Arc;
use std::time::Duration;

use open_aiops::budgets::{Granted, Refusal};
use open_aiops::clock::Clock;
use open_aiops::config::SharedConfig;
use open_aiops::core::attribution::Attribution;
use open_aiops::core::budget::{Control, Limits};
use open_aiops::shared::{Away, Shared};

use crate::harness::accounts::label;
use crate::harness::fleet::{Instance, NOW, attribution, config};
use crate::harness::redis::Redis;
use crate::harness::within;

const NONE: Duration = Duration::ZERO;
const PATIENT: Duration = Duration::from_secs(20);
const EACH_RUN: &str = "[[budget]]\nname = \"each\"\nper = [\"run\"]\ntokens = 200\n";
const ALL: &str = "[[budget]]\nname = \"all\"\ntokens = 9000\n";

async fn start(shared: &SharedConfig, budgets: &str) -> Instance {
    Instance::start(&config(budgets), Some(shared), &Clock::manual(NOW)).await
}

/// Two that hear of each other's deeds.
async fn two(redis: &Redis, budgets: &str) -> [Instance; 2] {
    let shared = redis.config();
    let two = [start(&shared, budgets).await, start(&shared, budgets).await];
    for instance in &two {
        instance.hear(Arc::clone(&instance.budgets));
    }
    two
}

fn of_run(run: &str, parent: Option<&str>) -> Attribution {
    Attribution {
        run: Some(label(run)),
        parent_run: parent.map(label),
        ..attribution("a")
    }
}

async fn hold(instance: &Instance, of: &Attribution, most: i64) -> Result<Granted, Refusal> {
    instance
        .hold_as((of, Limits::default()), most, PATIENT)
        .await
}

async fn spend(instance: &Instance, of: &Attribution, output: i64) {
    let granted = hold(instance, of, output).await.unwrap();
    assert_eq!(granted.hold.output_tokens(), output);
    instance.settle(granted, output);
}

/// Resolves when a call is answered so by an instance that what was said elsewhere has come to.
async fn until(
    instance: &Instance,
    of: &Attribution,
    is_so: impl Fn(&Result<Granted, Refusal>) -> bool,
) {
    let so = async {
        while !is_so(&hold(instance, of, 150).await) {
            tokio::task::yield_now().await;
        }
    };
    within("what was said elsewhere", so).await;
}

fn is_less(granted: &Result<Granted, Refusal>) -> bool {
    granted
        .as_ref()
        .is_ok_and(|granted| granted.hold.output_tokens() < 150)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_spends_for_the_run_that_began_it_though_its_parent_was_named_elsewhere() {
    let Some(redis) = Redis::start() else { return };
    let [east, west] = two(&redis, EACH_RUN).await;
    let (root, child) = (of_run("root", None), of_run("child", None));
    spend(&east, &root, 80).await;
    // The client says once, to one of them, whose child it is.
    spend(&east, &of_run("child", Some("root")), 10).await;
    east.run_stands("root", (110, 0, 0)).await;
    until(&west, &child, is_less).await;
    spend(&west, &child, 75).await;
    for instance in [&east, &west] {
        instance.run_stands("child", (105, 0, 0)).await;
        instance.run_stands("root", (195, 0, 0)).await;
    }
    let of_root = hold(&east, &root, 40).await;
    assert!(matches!(of_root, Err(Refusal::Spent(_))), "5 are left");
    let of_child = hold(&west, &child, 40).await;
    assert!(matches!(of_child, Err(Refusal::Spent(_))), "for it too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_stops_with_the_run_that_began_it_though_its_parent_was_named_elsewhere() {
    let Some(redis) = Redis::start() else { return };
    let [east, west] = two(&redis, EACH_RUN).await;
    spend(&east, &of_run("child", Some("root")), 10).await;
    let budgets = &east.budgets;
    budgets
        .control(&label("root"), Control::Stopped, "ada")
        .await
        .unwrap();
    let is_stopped = |answer: &Result<Granted, Refusal>| matches!(answer, Err(Refusal::Stopped(run)) if *run == label("root"));
    until(&west, &of_run("child", None), is_stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_that_a_client_sets_for_its_run_hold_for_its_calls_through_all() {
    let Some(redis) = Redis::start() else { return };
    let [east, west] = two(&redis, EACH_RUN).await;
    let run = of_run("r", None);
    let tightened = Limits {
        tokens: Some(100),
        ..Limits::default()
    };
    let first = east.hold_as((&run, tightened), 1, PATIENT).await.unwrap();
    east.settle(first, 1);
    until(&west, &run, is_less).await;
    spend(&west, &run, 75).await;
    let spent = hold(&east, &run, 40).await;
    assert!(
        matches!(spent, Err(Refusal::Spent(_))),
        "11 and 85 of its 100"
    );
}

/// How a call of the run fares.
async fn is(instance: &Instance, wanted: Control) {
    let answer = instance.hold("a", 10, NONE).await;
    let is_so = match wanted {
        Control::Running => answer.is_ok(),
        Control::Paused => matches!(answer, Err(Refusal::Paused(_))),
        Control::Stopped => matches!(answer, Err(Refusal::Stopped(_))),
    };
    assert!(is_so, "it is not {wanted:?}");
}

fn shared(instance: &Instance) -> &Shared {
    instance.shared.as_ref().unwrap()
}

async fn control(instance: &Instance, control: Control) {
    let run = label("run-1");
    let budgets = &instance.budgets;
    budgets.control(&run, control, "ada").await.unwrap();
}

/// Both know the run.
async fn know_the_run(fleet: [&Instance; 2]) {
    for instance in fleet {
        spend(instance, &attribution("a"), 10).await;
    }
}

const ORDERS: [[Control; 2]; 2] = [
    [Control::Paused, Control::Running],
    [Control::Running, Control::Paused],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_and_tells_later_has_the_last_word_on_a_run() {
    for [there, cut_off] in ORDERS {
        let Some(redis) = Redis::start() else { return };
        let mut line = redis.line();
        let east = start(&redis.config(), ALL).await;
        let west = start(&line.config(), ALL).await;
        know_the_run([&east, &west]).await;
        for instance in [&east, &west] {
            instance.hear(Arc::clone(&instance.budgets));
        }
        line.cut().await;
        west.away().await;
        control(&west, cut_off).await;
        control(&east, there).await;
        redis.told(1, &[shared(&east)]).await;
        is(&east, there).await;
        is(&west, cut_off).await;
        line.mend();
        west.joined().await;
        redis.told(2, &[shared(&east), shared(&west)]).await;
        is(&east, cut_off).await;
        is(&west, cut_off).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_did_not_hear_of_each_other_who_told_later_has_the_last_word_on_a_run() {
    for [first, later] in ORDERS {
        let Some(redis) = Redis::start() else { return };
        let settings = redis.config();
        let fleet = [start(&settings, ALL).await, start(&settings, ALL).await];
        let [east, west] = &fleet;
        know_the_run([east, west]).await;
        control(east, first).await;
        control(west, later).await;
        for instance in &fleet {
            instance.hear(Arc::clone(&instance.budgets));
        }
        redis.told(2, &[shared(east), shared(west)]).await;
        is(east, later).await;
        is(west, later).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_told_yet_comes_after_all_that_is_heard_of_meanwhile() {
    for [there, untold] in ORDERS {
        let Some(redis) = Redis::start() else { return };
        let [east, west] = two(&redis, ALL).await;
        know_the_run([&east, &west]).await;
        // It hears, and cannot tell.
        west.die();
        shared(&west).lose(&Away::Absent);
        control(&west, untold).await;
        control(&east, there).await;
        redis.told(1, &[shared(&east), shared(&west)]).await;
        is(&east, there).await;
        is(&west, untold).await;
        shared(&west).connect().await.unwrap();
        shared(&west).tell_backlog().await.unwrap();
        redis.told(2, &[shared(&east), shared(&west)]).await;
        is(&east, untold).await;
        is(&west, untold).await;
    }
}
