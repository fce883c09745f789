//! Alerts through the whole proxy: on the page at once, to webhooks in their form, tried again, kept
//! apart, and never with a secret in them.

use std::fs;

use open_aiops::alerts::{Alert, News, Rule, Told};
use open_aiops::clock::Clock;
use open_aiops::config::Reload;
use open_aiops::core::time::Timestamp;
use serde_json::{Value, json as object};
use tokio::sync::broadcast::Receiver;

use crate::harness::accounts::{chat, used};
use crate::harness::disk::TestDisk;
use crate::harness::process;
use crate::harness::records::ask;
use crate::harness::talk::{Talk, calling};
use crate::harness::tls::Identity;
use crate::harness::upstream::Received;
use crate::harness::{Answer, Client, Proxy, Response, Upstream, json, post, reply, within};

const SECRET: &str = "/services/T000/B000/s3cr3t";

/// A webhook at `hook`, with more lines of its own.
fn webhook(name: &str, hook: &Upstream, lines: &str) -> String {
    let url = format!("http://{}{SECRET}", hook.address());
    format!("[[alerts.webhook]]\nname = {name:?}\nurl = {url:?}\n{lines}\n")
}

async fn taking() -> Upstream {
    Upstream::answers(reply(200).body("ok")).await
}

/// What a webhook was sent, once there are so many.
async fn messages(hook: &Upstream, count: usize) -> Vec<Value> {
    let read = |it: &Received| serde_json::from_str(it.text()).ok();
    let whole = |seen: &[Received]| seen.iter().filter_map(read).collect::<Vec<Value>>();
    within("messages", hook.until(|seen| whole(seen).len() >= count)).await;
    whole(&hook.requests())
}

/// Waits for an alert of this rule to begin or end.
async fn told(watch: &mut Receiver<Told>, rule: Rule, news: News) -> Alert {
    within("an alert", async {
        loop {
            let told = watch.recv().await.unwrap();
            if told.alert.rule == rule && told.news == news {
                return told.alert;
            }
        }
    })
    .await
}

/// Waits until an alert of the list is as wanted.
async fn listed(proxy: &Proxy, wanted: impl Fn(&Alert) -> bool) -> Alert {
    within("an alert in the list", async {
        loop {
            if let Some(alert) = proxy.app.alerts().list().into_iter().find(|it| wanted(it)) {
                return alert;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn api(proxy: &Proxy) -> Vec<Value> {
    let answer = ask(proxy.app.admin_address(), "/api/v1/alerts").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()["alerts"].as_array().unwrap().clone()
}

async fn order(proxy: &Proxy, path: &str, body: &str) -> Response {
    let mut client = Client::connect(proxy.app.admin_address()).await;
    let bytes = String::from_utf8(post(path, body).bytes()).unwrap();
    client.send(bytes.replace("proxy.test", "localhost")).await;
    client.response(false).await
}

async fn test_all(proxy: &Proxy, body: &str) -> Response {
    order(proxy, "/api/v1/alerts/test", body).await
}

const EACH_RUN: &str =
    "[[budget]]\nname = \"each run\"\nper = [\"run\"]\ntokens = 100\nwarn_at = 0.5\n";

#[tokio::test]
async fn budget_that_is_almost_used_and_then_spent_is_told_at_once_and_once() {
    let (upstream, hook) = (Upstream::answers(used(9, 60)).await, taking().await);
    let sections = EACH_RUN.to_owned() + &webhook("ops", &hook, "");
    let proxy = Proxy::with(&upstream).sections(&sections).start().await;
    let mut watch = proxy.app.alerts().watch();
    for _ in 0..6 {
        proxy.call(&chat("nightly", 20)).await;
        within("the end", proxy.app.settled()).await;
    }
    let warning = told(&mut watch, Rule::BudgetWarning, News::Begins).await;
    assert_eq!(warning.value.as_deref(), Some("69 tokens"));
    assert_eq!(warning.limit.as_deref(), Some("100 tokens"));
    assert_eq!(warning.scope.name, "each run");
    assert_eq!(warning.scope.key.as_deref(), Some("run nightly"));
    let spent = told(&mut watch, Rule::BudgetSpent, News::Begins).await;
    assert!(
        spent.text.contains("open-aiops budgets raise"),
        "{}",
        spent.text
    );
    let sent = messages(&hook, 2).await;
    let rules: Vec<_> = sent.iter().map(|it| it["alert"]["rule"].clone()).collect();
    assert_eq!(rules, ["budget_warning", "budget_spent"]);
    assert_eq!(sent[1]["alert"]["severity"], "critical");
    let delivered = |it: &Alert| it.rule == Rule::BudgetSpent && !it.sent.is_empty();
    let alert = listed(&proxy, delivered).await;
    assert!(alert.is_open && alert.sent[0].is_ok);
    let list = api(&proxy).await;
    let ours = list.iter().find(|it| it["rule"] == "budget_spent").unwrap();
    assert_eq!(ours["sent"][0]["webhook"], "ops");
    assert_eq!(ours["sent"][0]["answer"], "200 OK");
    assert_eq!(hook.requests().len(), 2, "each is sent once");
}

#[tokio::test]
async fn raise_ends_the_alert_of_its_account() {
    let (upstream, hook) = (Upstream::answers(used(9, 91)).await, taking().await);
    let sections = EACH_RUN.to_owned() + &webhook("ops", &hook, "rules = [\"budget_spent\"]");
    let proxy = Proxy::with(&upstream).sections(&sections).start().await;
    for run in ["one", "two"] {
        for _ in 0..2 {
            proxy.call(&chat(run, 20)).await;
            within("the end", proxy.app.settled()).await;
        }
    }
    messages(&hook, 2).await;
    let order = object!({"rule": "each run", "key": {"run": "one"}}).to_string();
    let done = self::order(&proxy, "/api/v1/budgets/reset", &order).await;
    assert_eq!(done.status(), 200, "{}", done.text());
    let sent = messages(&hook, 3).await;
    assert_eq!(sent[2]["event"], "over");
    assert_eq!(sent[2]["alert"]["scope"]["key"], "run one");
    let open: Vec<Alert> = proxy.app.alerts().list();
    let open = open
        .iter()
        .filter(|it| it.is_open && it.rule == Rule::BudgetSpent);
    assert_eq!(open.count(), 1);
}

#[tokio::test]
async fn loop_that_is_stopped_reaches_slack_without_what_was_said_in_it() {
    let said = "src/secret/plans.rs";
    let upstream = Upstream::with(move |n, _| {
        let arguments = object!({"path": said, "pattern": "fn parse"});
        json(calling(&format!("call_{n}"), "grep", &arguments).to_string())
    })
    .await;
    let hook = taking().await;
    let lines = "format = \"slack\"\nrules = [\"loop_*\"]";
    let sections = "[loops]\nmax_delay = \"1ms\"\n".to_owned() + &webhook("team", &hook, lines);
    let proxy = Proxy::with(&upstream).sections(&sections).start().await;
    let mut talk = Talk::new("You are the coder.", "Mend <!channel> & the parser.")
        .header("x-aiops-agent", "<!here> \u{202e}coder");
    loop {
        let response = proxy.call(&talk.ask()).await;
        if response.status() != 200 {
            break;
        }
        talk = talk.heard(&response).result("Error: no such file");
    }
    let sent = messages(&hook, 3).await;
    let texts: Vec<&str> = sent.iter().map(|it| it["text"].as_str().unwrap()).collect();
    assert!(
        texts[0].starts_with("open-aiops warning: calls repeat"),
        "{texts:?}"
    );
    assert!(texts[1].contains("calls are delayed"), "{texts:?}");
    assert!(
        texts[2].starts_with("open-aiops critical: a loop was stopped"),
        "{texts:?}"
    );
    assert!(texts[2].contains("open-aiops loops reset"), "{texts:?}");
    for text in texts {
        assert!(!text.contains(said), "{text}");
        assert!(!text.contains(['<', '>', '\u{202e}']), "{text}");
        assert!(text.contains("&lt;!here&gt;"), "{text}");
    }
}

#[tokio::test]
async fn upstream_that_fails_is_told_and_so_is_that_it_answers_again() {
    let upstream = Upstream::with(|n, _| {
        if n < 6 {
            reply(503).body("{}")
        } else {
            used(1, 1)
        }
    })
    .await;
    let hook = taking().await;
    let proxy = Proxy::with(&upstream)
        .sections(&webhook("ops", &hook, "rules = [\"upstream_*\"]"))
        .start()
        .await;
    for _ in 0..9 {
        proxy.call(&chat("r", 5)).await;
        within("the end", proxy.app.settled()).await;
    }
    let sent = messages(&hook, 2).await;
    let of = |n: usize| (sent[n]["event"].clone(), sent[n]["alert"]["rule"].clone());
    assert_eq!(of(0), ("begins".into(), "upstream_failing".into()));
    assert_eq!(of(1), ("over".into(), "upstream_failing".into()));
    assert_eq!(sent[0]["alert"]["value"], "5 of 5 calls");
    assert_eq!(sent[0]["alert"]["scope"]["name"], "main");
    assert_eq!(sent[1]["alert"]["is_open"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_that_cannot_be_written_is_told_while_it_cannot() {
    let (upstream, hook) = (Upstream::answers(used(1, 1)).await, taking().await);
    let setup = Proxy::with(&upstream).sections(&webhook("ops", &hook, "rules = [\"ledger_*\"]"));
    std::fs::create_dir_all(setup.data()).unwrap();
    let disk = TestDisk::at(&setup.data());
    let proxy = setup.on_disk(&disk).start().await;
    disk.fail();
    proxy.call(&chat("r", 5)).await;
    let sent = messages(&hook, 1).await;
    assert_eq!(sent[0]["alert"]["rule"], "ledger_failed");
    assert!(
        listed(&proxy, |it| it.rule == Rule::LedgerFailed)
            .await
            .is_open
    );
    disk.release();
    let sent = messages(&hook, 2).await;
    assert_eq!(sent[1]["event"], "over");
    let answer = ask(proxy.app.admin_address(), "/api/v1/events").await;
    let events = answer.json()["events"].as_array().unwrap().clone();
    let failed = events.iter().filter(|it| it["what"] == "ledger_failed");
    assert_eq!(failed.count(), 1, "one event for one fact");
}

#[tokio::test]
async fn webhook_that_fails_for_a_moment_is_tried_again_and_one_that_says_no_is_not() {
    let flaky = Upstream::answers_each([
        reply(500).body(""),
        reply(429).header("retry-after", "1").body(""),
        Answer::nothing().then_closes(),
        reply(204).bare(),
    ])
    .await;
    let gone = Upstream::answers(reply(410).body("")).await;
    let moved = reply(307)
        .header("location", "http://127.0.0.1:1/")
        .body("");
    let moved = Upstream::answers(moved).await;
    let hooks = [("flaky", &flaky), ("gone", &gone), ("moved", &moved)];
    let hooks = hooks.map(|(name, hook)| webhook(name, hook, "rules = [\"budget_warning\"]"));
    let upstream = Upstream::answers(used(9, 60)).await;
    let sections = EACH_RUN.to_owned() + &hooks.concat();
    let proxy = Proxy::with(&upstream).sections(&sections).start().await;
    for _ in 0..2 {
        proxy.call(&chat("r", 5)).await;
        within("the end", proxy.app.settled()).await;
    }
    messages(&flaky, 4).await;
    let all = |it: &Alert| it.rule == Rule::BudgetWarning && it.sent.len() == 3;
    let mut sent = listed(&proxy, all).await.sent;
    sent.sort_by(|one, other| one.webhook.cmp(&other.webhook));
    let became: Vec<_> = sent
        .iter()
        .map(|it| (it.webhook.as_str(), it.is_ok, it.answer.as_str()))
        .collect();
    assert_eq!(
        became,
        [
            ("flaky", true, "204 No Content after 4 attempts"),
            ("gone", false, "410 Gone"),
            ("moved", false, "307 Temporary Redirect"),
        ]
    );
    assert_eq!((gone.requests().len(), moved.requests().len()), (1, 1));
    let failing = listed(&proxy, |it| {
        it.rule == Rule::AlertFailed && it.scope.name == "gone"
    });
    let failing = failing.await;
    let shown = format!(
        "{failing:?} {}",
        ask(proxy.app.admin_address(), "/api/v1/events")
            .await
            .text()
    );
    assert!(!shown.contains("s3cr3t"), "{shown}");
    let config = ask(proxy.app.admin_address(), "/api/v1/config").await;
    assert!(!config.text().contains("s3cr3t"), "{}", config.text());
}

#[tokio::test]
async fn webhook_that_hangs_delays_no_other_and_what_it_missed_is_summed_up() {
    let (deaf, quick) = (Upstream::deaf().await, taking().await);
    let hooks = webhook("deaf", &deaf, "timeout = \"60s\"")
        + &webhook(
            "quick",
            &quick,
            "rules = [\"budget_*\"]\nmax_per_minute = 2",
        );
    let upstream = Upstream::answers(used(9, 60)).await;
    let sections = EACH_RUN.to_owned() + &hooks;
    let clock = Clock::manual(Timestamp::from_micros(1_793_536_205_000_000));
    let setup = Proxy::with(&upstream).sections(&sections);
    let proxy = setup.on_clock(&clock).start().await;
    for run in ["a", "b", "c"] {
        for _ in 0..2 {
            proxy.call(&chat(run, 5)).await;
            within("the end", proxy.app.settled()).await;
        }
    }
    let sent = messages(&quick, 2).await;
    assert!(sent.iter().all(|it| it["event"] == "begins"));
    let seen = |it: &Alert| it.scope.key.as_deref() == Some("run c");
    listed(&proxy, seen).await;
    let metrics = "open_aiops_alert_messages_total{result=\"held_back\"} 1";
    within("what is held back", async {
        let admin = proxy.app.admin_address();
        while !ask(admin, "/metrics").await.text().contains(metrics) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(quick.requests().len(), 2);
    clock.advance_micros(60_000_000);
    let sent = messages(&quick, 3).await;
    assert_eq!(sent[2]["event"], "summary");
    assert_eq!(sent[2]["held_back"], object!({"budget_warning": 1}));
}

#[tokio::test]
async fn test_says_what_each_webhook_answers_and_is_bounded() {
    let upstream = Upstream::answers(used(1, 1)).await;
    let hook = taking().await;
    let gone = Upstream::answers(reply(404).body("no_service")).await;
    let closed = "[[alerts.webhook]]\nname = \"closed\"\nurl = \"http://127.0.0.1:1/s3cr3t\"\n";
    let sections = webhook(
        "ops",
        &hook,
        "rules = [\"budget_*\"]\nbearer_env = \"TOKEN\"\nheaders_env = { x-team = \"TEAM\" }",
    ) + &webhook("gone", &gone, "")
        + closed;
    let setup = Proxy::with(&upstream).sections(&sections);
    let proxy = setup
        .env("TOKEN", "t0ken")
        .env("TEAM", "blue")
        .start()
        .await;
    let answer = test_all(&proxy, "{\"who\": \"mara\"}").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let tested = answer.json()["webhooks"].as_array().unwrap().clone();
    let became: Vec<_> = tested.iter().map(|it| it["is_ok"].clone()).collect();
    assert_eq!(became, [true, false, false]);
    assert_eq!(tested[1]["answer"], "404 Not Found");
    let unreached = tested[2]["answer"].as_str().unwrap();
    assert!(unreached.starts_with("cannot be reached: "), "{unreached}");
    assert!(!answer.text().contains("s3cr3t"));
    let seen = hook.request();
    assert_eq!(seen.target(), SECRET);
    assert_eq!(seen.header("authorization"), Some("Bearer t0ken"));
    assert_eq!(seen.header("x-team"), Some("blue"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    let message: Value = serde_json::from_str(seen.text()).unwrap();
    assert_eq!(message["event"], "test");
    let one = test_all(&proxy, "{\"webhook\": \"gone\"}").await;
    assert_eq!(one.json()["webhooks"].as_array().unwrap().len(), 1);
    let none = test_all(&proxy, "{\"webhook\": \"oops\"}").await;
    assert_eq!(none.status(), 404);
    assert!(
        none.text().contains("there are: ops, gone, closed"),
        "{}",
        none.text()
    );
    let mut last = one;
    for _ in 0..6 {
        last = test_all(&proxy, "{\"webhook\": \"gone\"}").await;
    }
    assert_eq!(last.status(), 429, "{}", last.text());
    let failing = |it: &Alert| it.rule == Rule::AlertFailed && it.scope.name == "gone";
    listed(&proxy, failing).await;
    assert_eq!(
        hook.requests().len(),
        1,
        "a test of another is not its business"
    );
}

#[tokio::test]
async fn reload_brings_webhooks_and_takes_them_away_and_refuses_our_own_listeners() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let (before, after) = (taking().await, taking().await);
    let setup = |sections: &str| Proxy::with(&upstream).sections(&(EACH_RUN.to_owned() + sections));
    let first = setup(&webhook(
        "ops",
        &before,
        "rules = [\"budget_*\", \"config_*\"]",
    ));
    let dir = first.dir.clone();
    let proxy = first.start().await;
    let next = setup(&webhook("ops", &after, "")).on_data_of(&dir);
    proxy.app.reload(Reload::Valid(Box::new(next.config())));
    let own = format!("http://{}/x", proxy.app.admin_address());
    let own = format!("[[alerts.webhook]]\nname = \"own\"\nurl = {own:?}\n");
    let own = setup(&own).on_data_of(&dir);
    proxy.app.reload(Reload::Valid(Box::new(own.config())));
    let sent = messages(&after, 1).await;
    assert_eq!(sent[0]["alert"]["rule"], "config_refused");
    assert_eq!(before.requests().len(), 0);
    proxy.app.reload(Reload::Valid(Box::new(next.config())));
    assert_eq!(messages(&after, 2).await[1]["event"], "over");
}

#[tokio::test]
async fn alerts_outlive_a_restart_and_are_not_sent_again() {
    let (upstream, hook) = (Upstream::answers(used(9, 91)).await, taking().await);
    let sections = EACH_RUN.to_owned() + &webhook("ops", &hook, "");
    let setup = Proxy::with(&upstream).sections(&sections);
    let proxy = setup.start().await;
    for _ in 0..2 {
        proxy.call(&chat("nightly", 20)).await;
        within("the end", proxy.app.settled()).await;
    }
    messages(&hook, 1).await;
    let delivered = |it: &Alert| it.rule == Rule::BudgetSpent && !it.sent.is_empty();
    let was = listed(&proxy, delivered).await;
    let Proxy { app, dir, .. } = proxy;
    app.stop().await;
    let again = Proxy::with(&upstream)
        .sections(&sections)
        .on_data_of(&dir)
        .start()
        .await;
    let is = listed(&again, delivered).await;
    assert_eq!(is, was);
    again.app.stop().await;
    assert_eq!(hook.requests().len(), 1);
}

#[tokio::test]
async fn a_start_tells_that_what_only_the_process_before_knew_is_over() {
    let (upstream, hook) = (
        Upstream::answers(reply(503).body("{}")).await,
        taking().await,
    );
    let sections = webhook("ops", &hook, "rules = [\"upstream_*\"]");
    let setup = Proxy::with(&upstream).sections(&sections);
    let proxy = setup.start().await;
    for _ in 0..6 {
        proxy.call(&chat("r", 5)).await;
        within("the end", proxy.app.settled()).await;
    }
    messages(&hook, 1).await;
    let Proxy { app, dir, .. } = proxy;
    app.stop().await;
    let again = Proxy::with(&upstream)
        .sections(&sections)
        .on_data_of(&dir)
        .start()
        .await;
    let sent = messages(&hook, 2).await;
    assert_eq!(sent[1]["event"], "over");
    assert_eq!(sent[1]["alert"]["id"], sent[0]["alert"]["id"]);
    again.app.stop().await;
}

#[tokio::test]
async fn what_is_left_at_the_end_still_reaches_its_webhook() {
    let (upstream, hook) = (Upstream::answers(used(9, 91)).await, taking().await);
    let sections = EACH_RUN.to_owned() + &webhook("ops", &hook, "");
    let proxy = Proxy::with(&upstream).sections(&sections).start().await;
    for _ in 0..2 {
        proxy.call(&chat("nightly", 20)).await;
        within("the end", proxy.app.settled()).await;
    }
    proxy.app.stop().await;
    assert_eq!(hook.requests().len(), 1);
}

#[tokio::test]
async fn webhook_whose_certificate_nobody_vouches_for_gets_nothing() {
    let upstream = Upstream::answers(used(1, 1)).await;
    let identity = Identity::new();
    let hook = Upstream::secure(&identity, reply(200).body("ok")).await;
    let url = webhook("ops", &hook, "").replace("http://", "https://");
    let proxy = Proxy::with(&upstream).sections(&url).start().await;
    let tested = test_all(&proxy, "{}").await;
    let answer = tested.json()["webhooks"][0]["answer"].clone();
    assert!(answer.as_str().unwrap().contains("certificate"), "{answer}");
    assert_eq!(hook.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_is_told_at_the_start_and_commands_list_and_test() {
    let (upstream, hook) = (Upstream::answers(used(1, 1)).await, taking().await);
    let sections = "[alerts]\nmin_free_disk = \"9000 TiB\"\n".to_owned()
        + &webhook("ops", &hook, "rules = [\"disk_*\"]");
    let setup = Proxy::with(&upstream).sections(&sections);
    fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    let proxy = setup.start().await;
    assert_eq!(messages(&hook, 1).await[0]["alert"]["rule"], "disk_low");
    let delivered = |it: &Alert| it.rule == Rule::DiskLow && !it.sent.is_empty();
    listed(&proxy, delivered).await;
    let dir = std::sync::Arc::clone(&proxy.dir);
    let command = async |arguments: &[&str]| process::run(dir.path(), arguments).await;
    let list = command(&["alerts", "--open"]).await;
    for part in [
        "open",
        "critical",
        "disk_low",
        "9437184000 MiB",
        "ops ok",
        "keep_for",
    ] {
        assert!(list.out.contains(part), "{part:?} is not in {}", list.out);
    }
    let tested = command(&["alerts", "test"]).await;
    assert_eq!(
        (tested.code, tested.out.as_str()),
        (Some(0), "ops: 200 OK\n")
    );
    let wrong = command(&["alerts", "test", "--webhook", "oops"]).await;
    assert_eq!(wrong.code, Some(1));
    assert!(
        wrong
            .err
            .contains("there is no webhook oops; there are: ops"),
        "{}",
        wrong.err
    );
    let mixed = command(&["alerts", "--open", "test"]).await;
    assert_eq!(mixed.code, Some(2));
    proxy.app.stop().await;
    let list = command(&["alerts"]).await;
    assert!(
        list.out.contains("disk_low"),
        "the files know it too: {} {}",
        list.out,
        list.err
    );
    let tested = command(&["alerts", "test"]).await;
    assert_eq!(tested.code, Some(2));
    assert!(tested.err.contains("no server runs"), "{}", tested.err);
}
