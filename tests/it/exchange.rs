//! Calls of one instance, as another one shows them.

use open_aiops::budgets::OperateError;
use open_aiops::core::budget::{Control, Measure};
use open_aiops::core::call::Outcome;
use open_aiops::core::id::Label;
use open_aiops::core::metric::Value;
use open_aiops::ledger::{CallFilter, CallRow, MetricFilter, SpanFilter};
use serde_json::json as object;

use crate::harness::accounts::{chat, finish, label, pending, running, standing, used};
use crate::harness::fleet::listed;
use crate::harness::process;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::records::ask;
use crate::harness::redis::Redis;
use crate::harness::upstream::Upstream;
use crate::harness::{Client, get, json, post, within};

fn at(redis: &Redis, upstream: &Upstream, name: &str) -> Setup {
    let shared = format!(
        "[shared]\nurl = \"{}\"\nsecret_env = \"SHARED\"\ninstance = \"{name}\"\n",
        redis.url()
    );
    Proxy::with(upstream)
        .sections(&shared)
        .env("SHARED", "a secret of the tests")
}

fn rows_of(proxy: &Proxy, run: &str) -> Vec<CallRow> {
    let filter = CallFilter {
        run: Label::parse(run).ok(),
        ..CallFilter::default()
    };
    proxy.app.ledger().view().calls(&filter).unwrap().items
}

/// The calls of a run, once so many ended.
async fn shown(proxy: &Proxy, run: &str, count: usize) -> Vec<CallRow> {
    within("calls of another instance", async {
        loop {
            let rows = rows_of(proxy, run);
            if rows.len() == count && rows.iter().all(|row| row.outcome.is_some()) {
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
    // The other one hears of it once it ended.
    let there = &shown(&west, "r", 1).await[0];
    let own = &shown(&east, "r", 1).await[0];
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
    assert_eq!(rows_of(&west, "r").len(), 2, "nothing comes back");
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
async fn calls_made_while_redis_was_away_are_shown_though_their_instance_began_anew_meanwhile() {
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
    let dir = east.dir.clone();
    east.app.stop().await;
    let _east = at(&redis, &upstream, "east").on_data_of(&dir).start().await;
    redis.begin();
    shown(&west, "r", 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_lacks_since_it_went_back_to_an_older_state_is_given_again() {
    let Some(redis) = Redis::start() else { return };
    let upstream = Upstream::answers(used(9, 60)).await;
    let east = at(&redis, &upstream, "east").start().await;
    let west = at(&redis, &upstream, "west").start().await;
    assert_eq!(east.call(&chat("r", 20)).await.status(), 200);
    shown(&west, "r", 1).await;
    let keys: Vec<String> = redis.ask(&["KEYS", "*:given"]);
    let older: Vec<String> = redis.ask(&["HGETALL", &keys[0]]);
    assert_eq!(east.call(&chat("r", 20)).await.status(), 200);
    shown(&west, "r", 2).await;
    let script = "redis.call('FLUSHALL') \
                  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 'OK'";
    let (id, place) = (&older[0], &older[1]);
    let _: String = redis.ask(&["EVAL", script, "1", &keys[0], id, place]);
    let north = at(&redis, &upstream, "north").start().await;
    let rows = shown(&north, "r", 1).await;
    assert_eq!(rows[0].id, rows_of(&east, "r")[0].id, "the newest first");
    assert_eq!(rows_of(&west, "r").len(), 2);
}

/// Whether it is said that something was missed.
fn has_missed(proxy: &Proxy) -> bool {
    let view = proxy.app.ledger().view();
    let events = view.events(&SpanFilter::default()).unwrap().items;
    events.iter().any(|event| event.what == "records_missed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_that_was_away_while_redis_lost_everything_says_that_it_may_have_missed_calls() {
    let Some(redis) = Redis::start() else { return };
    let upstream = Upstream::answers(used(9, 60)).await;
    let east = at(&redis, &upstream, "east").start().await;
    let west = at(&redis, &upstream, "west").start().await;
    assert_eq!(east.call(&chat("r", 20)).await.status(), 200);
    shown(&west, "r", 1).await;
    let dir = west.dir.clone();
    west.app.stop().await;
    let _: String = redis.ask(&["FLUSHALL"]);
    assert_eq!(east.call(&chat("r", 20)).await.status(), 200);
    let west = at(&redis, &upstream, "west").on_data_of(&dir).start().await;
    shown(&west, "r", 2).await;
    assert!(has_missed(&west));
    let north = at(&redis, &upstream, "north").start().await;
    shown(&north, "r", 1).await;
    assert!(!has_missed(&north), "it is new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_that_ends_while_its_instance_stops_is_shown_by_the_others() {
    let Some(redis) = Redis::start() else { return };
    let (answer, driver) = pending();
    let upstream = Upstream::answers(answer).await;
    let east = at(&redis, &upstream, "east").start().await;
    let west = at(&redis, &upstream, "west").start().await;
    let mut client = east.client().await;
    let call = tokio::spawn(async move { client.call(&chat("r", 20)).await });
    upstream.asked().await;
    tokio::join!(east.app.stop(), finish(&driver, 9, 60));
    assert_eq!(call.await.unwrap().status(), 200);
    shown(&west, "r", 1).await;
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

/// Until all accounts of this instance, with what others have of them, come to this.
async fn comes_to(proxy: &Proxy, measure: Measure, wanted: (i64, i64)) {
    within("what all instances have", async {
        loop {
            let budgets = proxy.app.budgets();
            drop(listed(budgets).await);
            let rows = running(budgets).await;
            if rows.len() == 1 && standing(&rows[0], measure) == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn result_fetched_through_another_instance_is_charged_where_the_call_was_made() {
    let Some(redis) = Redis::start() else { return };
    let answer = |status: &str, usage| {
        let answer = object!({"id": "resp_1", "object": "response", "status": status,
            "background": true, "model": "gpt-4o-mini", "output": [], "usage": usage});
        json(answer.to_string())
    };
    let used = object!({"input_tokens": 1000, "output_tokens": 2000, "total_tokens": 3000});
    let answers = [
        answer("queued", serde_json::Value::Null),
        answer("completed", used),
    ];
    let upstream = Upstream::answers_each(answers).await;
    let budget = "[[budget]]\nname = \"all\"\ntokens = 100000\n";
    let east = at(&redis, &upstream, "east").sections(budget).start().await;
    let west = at(&redis, &upstream, "west").sections(budget).start().await;
    let ask = object!({"model": "gpt-4o-mini", "background": true, "input": "hi",
        "max_output_tokens": 9000});
    let ask = post("/v1/responses", ask.to_string()).header("x-aiops-run", "r");
    assert_eq!(east.call(&ask).await.status(), 200);
    assert!(shown(&west, "r", 1).await[0].is_pending);
    let fetch = get("/v1/responses/resp_1").header("x-aiops-run", "fetches");
    assert_eq!(west.call(&fetch).await.status(), 200);
    for proxy in [&east, &west] {
        comes_to(proxy, Measure::Tokens, (3000, 0)).await;
        let row = &shown(proxy, "r", 1).await[0];
        assert!(!row.is_pending);
        assert_eq!(
            (row.usage.input_tokens, row.usage.output_tokens),
            (1000, 2000)
        );
    }
    let id = rows_of(&east, "r")[0].id;
    let kept = east.app.ledger().view().call(id).unwrap().unwrap();
    let late = kept.late.unwrap();
    assert_eq!((late.instance, late.charges.len()), (None, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_is_stopped_by_an_instance_that_had_no_call_of_it() {
    let Some(redis) = Redis::start() else { return };
    let upstream = Upstream::answers(used(9, 60)).await;
    let east = at(&redis, &upstream, "east").start().await;
    let west = at(&redis, &upstream, "west").start().await;
    let stop = async || {
        let budgets = west.app.budgets();
        budgets.control(&label("r"), Control::Stopped, "ada").await
    };
    assert!(matches!(stop().await, Err(OperateError::NoSuchRun(_))));
    assert_eq!(east.call(&chat("r", 20)).await.status(), 200);
    shown(&west, "r", 1).await;
    stop().await.unwrap();
    within("the stop", async {
        while east.call(&chat("r", 20)).await.status() == 200 {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_one_instance_are_the_same_whichever_is_asked() {
    let Some(redis) = Redis::start() else { return };
    let upstream = Upstream::answers(used(9, 60)).await;
    let east = at(&redis, &upstream, "east").start().await;
    let west = at(&redis, &upstream, "west").start().await;
    for proxy in [&east, &west] {
        assert_eq!(proxy.call(&chat("r", 20)).await.status(), 200);
    }
    for proxy in [&east, &west] {
        shown(proxy, "r", 2).await;
        let path = "/api/v1/calls?instance=east";
        let calls = ask(proxy.app.admin_address(), path).await.json();
        let calls = calls["calls"].as_array().unwrap();
        let ids: Vec<_> = calls.iter().map(|call| call["id"].clone()).collect();
        let own = rows_of(&east, "r").into_iter();
        let mut own = own.filter(|row| row.instance.is_none());
        assert_eq!(ids, [own.next().unwrap().id.to_string()]);
    }
}

async fn measure(proxy: &Proxy, call: &str, value: f64) {
    let said = object!({"name": "score", "value": value, "call": call, "who": "judge"});
    let ask = post("/api/v1/metrics", said.to_string()).bytes();
    let mut client = Client::connect(proxy.app.admin_address()).await;
    let ask = String::from_utf8(ask).unwrap();
    client.send(ask.replace("proxy.test", "localhost")).await;
    let answer = client.response(false).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

/// Until this is what is known of the score.
async fn scored(proxy: &Proxy, value: f64) {
    let value = Value::number(value).unwrap();
    within("the score", async {
        loop {
            let view = proxy.app.ledger().view();
            let known = view.measurements(&MetricFilter::default()).unwrap().items;
            if known.iter().map(|it| &it.value).eq([&value]) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_to_several_instances_is_charged_once_to_the_key_of_the_call() {
    let Some(redis) = Redis::start() else { return };
    let upstream = Upstream::answers(used(9, 60)).await;
    let budget = "[[budget]]\nname = \"of keys\"\nper = [\"key\"]\nmetric = { score = 100 }\n";
    let east = at(&redis, &upstream, "east").sections(budget).start().await;
    let west = at(&redis, &upstream, "west").sections(budget).start().await;
    let ask = chat("r", 20).header("authorization", "Bearer key-of-a-client");
    let answer = east.call(&ask).await;
    assert_eq!(answer.status(), 200);
    let call = answer.call();
    shown(&west, "r", 1).await;
    for (to, value) in [(&east, 5.0), (&west, 5.0), (&west, 7.0), (&east, 6.0)] {
        measure(to, &call, value).await;
        for proxy in [&east, &west] {
            scored(proxy, value).await;
        }
    }
    for proxy in [&east, &west] {
        comes_to(proxy, Measure::Metric, (6_000_000, 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_says_that_other_instances_have_these_calls_too() {
    let Some(redis) = Redis::start() else { return };
    let upstream = Upstream::answers(used(9, 60)).await;
    let east = at(&redis, &upstream, "east").start().await;
    let west = at(&redis, &upstream, "west").start().await;
    for proxy in [&east, &east, &west] {
        assert_eq!(proxy.call(&chat("r", 20)).await.status(), 200);
    }
    shown(&west, "r", 3).await;
    let dir = west.dir.clone();
    west.app.stop().await;
    let alone = Proxy::with(&upstream).on_data_of(&dir).text();
    std::fs::write(dir.path().join("config.toml"), alone).unwrap();
    let delete = ["ledger", "delete", "--run", "r", "--yes"];
    let deleted = process::run(dir.path(), &delete).await;
    assert_eq!(deleted.code, Some(0), "{}", deleted.err);
    for told in ["calls\t3\n", "calls of other instances among them\t2\n"] {
        assert!(deleted.out.contains(told), "{}", deleted.out);
    }
    let advice = "Stop all of them, delete on each";
    assert!(deleted.out.contains(advice), "{}", deleted.out);
}
