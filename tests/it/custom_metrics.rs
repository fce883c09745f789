//! Custom metrics through the whole proxy: by header, by the API, at the command line; and shown.

use std::fs;

use open_aiops::alerts::Rule;
use open_aiops::clock::Clock;
use open_aiops::core::time::Timestamp;
use serde_json::{Value, json as object};

use crate::harness::accounts::{chat, used};
use crate::harness::process::{self, Ended};
use crate::harness::records::ask;
use crate::harness::{Client, Proxy, Response, Upstream, post, within};

async fn started(sections: &str) -> (Proxy, String) {
    let upstream = Upstream::answers(used(9, 60)).await;
    let setup = Proxy::with(&upstream).sections(sections);
    fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    let proxy = setup.start().await;
    let call = chat("nightly", 20)
        .header("x-aiops-agent", "planner")
        .header("x-aiops-metric-docs", "12")
        .header("x-aiops-metric-cached", "true")
        .header("x-aiops-metric-topic", "travel")
        .header("x-aiops-metric-broken", "nan");
    let answer = proxy.call(&call).await;
    assert_eq!(answer.status(), 200, "a bad value fails no call");
    within("the end", proxy.app.settled()).await;
    let id = answer.call();
    (proxy, id)
}

async fn measure(proxy: &Proxy, body: &Value) -> Response {
    let mut client = Client::connect(proxy.app.admin_address()).await;
    let bytes = String::from_utf8(post("/api/v1/metrics", body.to_string()).bytes()).unwrap();
    client.send(bytes.replace("proxy.test", "localhost")).await;
    client.response(false).await
}

async fn get(proxy: &Proxy, path: &str) -> Response {
    let answer = ask(proxy.app.admin_address(), path).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer
}

async fn command(proxy: &Proxy, arguments: &[&str]) -> Ended {
    process::run(proxy.dir.path(), arguments).await
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let all = list.as_array().unwrap();
    all.iter().find(|it| it["name"] == name).unwrap()
}

#[tokio::test]
async fn what_came_by_header_and_what_was_posted_stand_beside_each_other() {
    let (proxy, call) = started("").await;
    let posted = measure(
        &proxy,
        &object!([
            {"name": "score", "value": 0.5, "call": call, "who": "judge", "note": "one source"},
            {"name": "score", "value": 0.75, "call": call, "who": "judge"},
            {"name": "solved", "value": true, "run": "nightly"},
            {"name": "satisfaction", "value": "good", "agent": "planner"},
        ]),
    )
    .await;
    assert_eq!(posted.json(), object!({"recorded": 4}), "{}", posted.text());
    let shown = get(&proxy, &format!("/api/v1/calls/{call}")).await.json();
    let expected = object!({"cached": true, "docs": 12.0, "score": 0.75, "topic": "travel"});
    assert_eq!(shown["metrics"], expected);
    let calls = get(&proxy, "/api/v1/calls").await.json();
    assert_eq!(calls["calls"][0]["metrics"], expected);
    let run = get(&proxy, "/api/v1/runs/nightly").await.json();
    assert_eq!(named(&run["metrics"], "score")["mean"], 0.75);
    assert_eq!(named(&run["metrics"], "solved")["share_true"], 1.0);
    assert_eq!(run["metrics_by_agent"][0]["agent"], Value::Null);
    assert_eq!(run["metrics_by_agent"][1]["agent"], "planner");
    let agents = get(&proxy, "/api/v1/agents").await.json();
    let planner = &agents["agents"][0]["metrics"];
    assert_eq!(
        named(planner, "satisfaction")["categories"],
        object!({"good": 1})
    );
    let runs = get(&proxy, "/api/v1/runs").await.json();
    assert_eq!(named(&runs["runs"][0]["metrics"], "docs")["sum"], 12.0);
    let list = get(&proxy, "/api/v1/metrics/score?run=nightly")
        .await
        .json();
    assert_eq!(list["measurements"].as_array().unwrap().len(), 1);
    assert_eq!(list["measurements"][0]["who"], "judge");
    assert_eq!(list["measurements"][0]["call"], call);
}

#[tokio::test]
async fn what_is_wrong_is_not_recorded_and_said_with_its_place() {
    let (proxy, _) = started("").await;
    let wrong = measure(
        &proxy,
        &object!([
            {"name": "fine", "value": 1, "run": "nightly"},
            {"name": "a b", "value": [], "run": "nightly"},
        ]),
    )
    .await;
    assert_eq!(wrong.status(), 400);
    let said = wrong.text();
    assert!(
        said.contains("[1].name: ") && said.contains("[1].value: "),
        "{said}"
    );
    let unknown = "01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e";
    let missing = measure(
        &proxy,
        &object!({"name": "score", "value": 1, "call": unknown}),
    )
    .await;
    assert_eq!(missing.status(), 404);
    assert!(
        missing
            .text()
            .contains(&format!("no call {unknown} is recorded"))
    );
    let list = get(&proxy, "/api/v1/metrics").await.json();
    let names: Vec<_> = list["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["cached", "docs", "topic"]);
}

#[tokio::test]
async fn pages_show_custom_metrics() {
    let (proxy, call) = started("").await;
    let score = object!({"name": "score", "value": 0.25, "call": call, "note": "<b>thin</b>"});
    assert_eq!(measure(&proxy, &score).await.status(), 200);
    for (path, parts) in [
        (
            "/runs/nightly".to_owned(),
            ["Custom metrics", "0.25", "travel 1"],
        ),
        (
            format!("/calls/{call}"),
            ["Custom metrics", "&lt;b&gt;thin", "travel"],
        ),
        (
            "/runs?columns=score".to_owned(),
            ["Metrics", "<bdi>score</bdi> <bdi>0.25</bdi>", "score"],
        ),
        ("/".to_owned(), ["Custom metrics", "100 % true", "docs"]),
        (
            "/runs?export=runs.json".to_owned(),
            ["\"score\": 0.25", "\"docs\": 12.0", "metrics"],
        ),
        (
            "/runs/nightly?export=calls.csv".to_owned(),
            [",metrics", "\"\"score\"\":0.25", "\"\"docs\"\":12.0"],
        ),
    ] {
        let answer = get(&proxy, &path).await;
        let page = answer.text();
        for part in parts {
            assert!(page.contains(part), "{part} is not in {path}: {page}");
        }
    }
}

#[tokio::test]
async fn prometheus_is_told_of_the_names_that_the_config_lists() {
    let (proxy, _) = started("[metrics]\nexport = [\"docs\"]\n").await;
    let answer = get(&proxy, "/metrics").await;
    let page = answer.text();
    for part in [
        "open_aiops_custom_metric_summed{metric=\"docs\",agent=\"planner\"} 12.0",
        "open_aiops_custom_metric_values_total{metric=\"docs\",agent=\"planner\",kind=\"number\"} 1",
        "open_aiops_custom_metric_dropped_total 2",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(!page.contains("travel") && !page.contains("metric=\"cached\""));
}

#[tokio::test]
async fn a_low_score_is_an_alert() {
    let rule = "[[alerts.metric]]\nname = \"low score\"\nmetric = \"score\"\nper = [\"agent\"]\n\
                below = 0.5\nat_least = 3\n";
    let (proxy, _) = started(rule).await;
    let mut watch = proxy.app.alerts().watch();
    let score = |n: u32| object!({"name": "score", "value": 0.25, "agent": "planner", "key": format!("step {n}")});
    // Long ago, and one that is said again and again: neither makes three of late.
    let old =
        object!({"name": "score", "value": 0.1, "agent": "planner", "at": "2026-01-01T00:00:00Z"});
    let scores = Value::Array(vec![old, score(0), score(1), score(1), score(1), score(1)]);
    assert_eq!(measure(&proxy, &scores).await.status(), 200);
    assert_eq!(measure(&proxy, &score(1)).await.status(), 200);
    assert!(
        !proxy
            .app
            .alerts()
            .list()
            .iter()
            .any(|it| it.rule == Rule::MetricOff)
    );
    assert_eq!(measure(&proxy, &score(2)).await.status(), 200);
    let alert = within("an alert", async {
        loop {
            let told = watch.recv().await.unwrap();
            if told.alert.rule == Rule::MetricOff {
                return told.alert;
            }
        }
    })
    .await;
    assert_eq!(alert.scope.name, "low score");
    assert_eq!(alert.scope.key.as_deref(), Some("agent planner"));
    assert_eq!(alert.value.as_deref(), Some("0.25"));
    assert_eq!(alert.limit.as_deref(), Some("below 0.5"));
}

#[tokio::test]
async fn alerts_know_after_a_start_what_was_measured_before() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let rule =
        "[[alerts.metric]]\nname = \"low score\"\nmetric = \"score\"\nbelow = 0.5\nat_least = 3\n";
    let proxy = Proxy::with(&upstream).sections(rule).start().await;
    let score = |run: &str| object!({"name": "score", "value": 0.25, "run": run});
    let two = Value::Array(vec![score("one"), score("two")]);
    assert_eq!(measure(&proxy, &two).await.status(), 200);
    let dir = std::sync::Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    let setup = Proxy::with(&upstream).sections(rule).on_data_of(&dir);
    let proxy = setup.start().await;
    let mut watch = proxy.app.alerts().watch();
    assert_eq!(measure(&proxy, &score("three")).await.status(), 200);
    let alert = within("an alert", async {
        loop {
            let told = watch.recv().await.unwrap();
            if told.alert.rule == Rule::MetricOff {
                return told.alert;
            }
        }
    })
    .await;
    assert!(
        alert.text.contains("0.25 on average of 3"),
        "{}",
        alert.text
    );
}

/// What was told of metrics, newest first.
async fn told_of_metrics(proxy: &Proxy) -> Vec<String> {
    let answer = get(proxy, "/api/v1/events").await.json();
    let events = answer["events"].as_array().unwrap().iter();
    let what = events.map(|it| it["what"].as_str().unwrap().to_owned());
    what.filter(|what| what.starts_with("metric_")).collect()
}

#[tokio::test]
async fn what_is_off_for_long_is_told_once_however_often_the_program_starts() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let clock = Clock::manual(Timestamp::from_micros(1_793_536_205_000_000));
    let rule = "[[alerts.metric]]\nname = \"low score\"\nmetric = \"score\"\nbelow = 0.5\nover = \"20d\"\n";
    let setup = Proxy::with(&upstream).sections(rule).on_clock(&clock);
    let proxy = setup.start().await;
    let score = |value: f64| object!({"name": "score", "value": value, "run": "one"});
    assert_eq!(measure(&proxy, &score(0.25)).await.status(), 200);
    let dir = std::sync::Arc::clone(&proxy.dir);
    let mut running = proxy;
    for days in [0, 0, 2, 8] {
        within("the stop", running.app.stop()).await;
        clock.advance_micros(days * 86_400_000_000);
        let setup = Proxy::with(&upstream).sections(rule).on_clock(&clock);
        running = setup.on_data_of(&dir).start().await;
        assert_eq!(told_of_metrics(&running).await, ["metric_off"], "{days}");
        let alerts = running.app.alerts().list();
        let is_open = alerts
            .iter()
            .any(|it| it.rule == Rule::MetricOff && it.is_open);
        assert_eq!(is_open, days == 0, "for a day");
    }
    let key = object!({"name": "score", "value": 9, "run": "one", "key": "again"});
    assert_eq!(measure(&running, &key).await.status(), 200);
    within("the stop", running.app.stop()).await;
    let setup = Proxy::with(&upstream).sections(rule).on_clock(&clock);
    let last = setup.on_data_of(&dir).start().await;
    let told = told_of_metrics(&last).await;
    assert_eq!(told, ["metric_recovered", "metric_off"]);
}

#[tokio::test]
async fn a_measurement_that_is_sent_again_counts_once_for_prometheus() {
    let (proxy, _) = started("").await;
    let score =
        |value: f64| object!({"name": "score", "value": value, "run": "nightly", "who": "judge"});
    for value in [0.5, 0.5, 0.75] {
        assert_eq!(measure(&proxy, &score(value)).await.status(), 200);
    }
    let both = Value::Array(vec![score(0.75), score(0.25)]);
    assert_eq!(measure(&proxy, &both).await.status(), 200);
    let page = get(&proxy, "/metrics").await;
    let page = page.text();
    for part in [
        "open_aiops_custom_metric_summed{metric=\"score\",agent=\"\"} 0.25",
        "open_aiops_custom_metric_last{metric=\"score\",agent=\"\"} 0.25",
        "open_aiops_custom_metric_values_total{metric=\"score\",agent=\"\",kind=\"number\"} 1",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let mine = object!({"name": "docs", "value": 1, "run": "nightly", "who": "header"});
    let wrong = measure(&proxy, &mine).await;
    assert_eq!(wrong.status(), 400);
    assert!(
        wrong.text().contains("another than `header`"),
        "{}",
        wrong.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_records_and_lists_them() {
    let (proxy, _) = started("").await;
    let set = [
        "metric", "set", "score", "-0.5", "--run", "nightly", "--who", "ada", "--note", "thin",
    ];
    let set = command(&proxy, &set).await;
    assert_eq!(set.out, "score of run nightly is -0.5\n", "{}", set.err);
    let listed = command(&proxy, &["metric", "list", "--run", "nightly"])
        .await
        .out;
    for part in ["cached", "docs", "100 % true", "docs", "score", "-0.5"] {
        assert!(listed.contains(part), "{part} is not in {listed}");
    }
    let one = command(&proxy, &["metric", "list", "--name", "score"])
        .await
        .out;
    assert!(one.contains("ada") && one.contains("thin"), "{one}");
    let json = command(&proxy, &["metric", "list", "--json"]).await.out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(named(&json["metrics"], "docs")["count"], 1);
    for (wrong, says) in [
        (
            ["metric", "set", "a b", "1", "--run", "x"].as_slice(),
            "expected letters, digits",
        ),
        (
            &["metric", "set", "a", "nan", "--run", "x"],
            "expected a finite number",
        ),
        (&["metric", "set", "a", "1"], "required"),
        (
            &["metric", "set", "a", "1", "--run", "x", "--agent", "y"],
            "cannot be used with",
        ),
    ] {
        let ended = command(&proxy, wrong).await;
        assert_eq!(ended.code, Some(2), "{wrong:?}");
        assert!(ended.err.contains(says), "{wrong:?}: {}", ended.err);
    }
}

#[tokio::test]
async fn recording_needs_a_running_server() {
    let dir = tempfile::tempdir().unwrap();
    let ended = process::run(dir.path(), &["metric", "set", "a", "1", "--run", "x"]).await;
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.err.contains("no server runs on the ledger"),
        "{}",
        ended.err
    );
}
