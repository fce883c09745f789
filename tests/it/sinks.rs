//! Sinks through the whole proxy, against a ClickHouse that says what a test wants: what is sent, again
//! after failures, around rows that are not taken, and from where the database says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use open_aiops::alerts::Rule;
use open_aiops::config::Reload;
use open_aiops::core::id::Label;
use open_aiops::core::metric::{self, Measurement, Subject};
use open_aiops::core::time::Timestamp;
use open_aiops::ledger::Adopted;
use serde_json::{Value, json as object};
use tempfile::TempDir;

use crate::harness::accounts::{chat, used};
use crate::harness::records::ask;
use crate::harness::upstream::Received;
use crate::harness::{Answer, Proxy, Upstream, get, json, post, reply, within};

const PASSWORD: &str = "s3cr3t";

/// A sink at `store` that does not wait, with more lines of its own.
fn sink(store: &Upstream, lines: &str) -> String {
    let url = format!("http://{}", store.address());
    format!(
        "[[sink]]\nname = \"clicks\"\nurl = {url:?}\nuser = \"me\"\npassword_env = \"PASSWORD\"\n\
         interval = \"20ms\"\n{lines}\n"
    )
}

fn fine(text: &str) -> Answer {
    reply(200).body(text)
}

/// What a server answers that has no tables and knows this place.
fn fresh(received: &Received, place: &str) -> Answer {
    let text = received.text();
    match text {
        _ if text.starts_with("SELECT version()") => fine("26.9.2.1\n"),
        _ if text.contains("system.databases") => fine("0\n"),
        _ if text.contains("argMax(`position`") => {
            let known = |table| format!("{table}\t{place}\t1\n");
            let lines = ["calls", "decisions", "metrics"].map(known).concat();
            fine(if place.is_empty() { "" } else { &lines })
        }
        _ => fine(""),
    }
}

/// The table that rows are for; none of other statements.
fn table(received: &Received) -> Option<&'static str> {
    let target = received.target();
    let names = ["calls", "decisions", "metrics"];
    let is_insert = target.contains("INSERT+INTO");
    let of = |name: &&str| target.contains(&format!("%60{name}%60"));
    names.into_iter().filter(|_| is_insert).find(of)
}

/// Lines of a table that were sent, again or for the first time.
fn lines(store: &[Received], wanted: &str) -> Vec<Vec<String>> {
    let of_table = store.iter().filter(|it| table(it) == Some(wanted));
    let lines = of_table.flat_map(|it| it.text().lines().map(str::to_owned));
    let fields = |line: String| line.split('\t').map(str::to_owned).collect();
    lines.map(fields).collect()
}

fn places(store: &[Received]) -> Vec<String> {
    let moves = store.iter().map(Received::text);
    let moves = moves.filter(|text| text.starts_with("INSERT INTO `open_aiops`.`position`"));
    moves.map(str::to_owned).collect()
}

async fn start(upstream: &Upstream, store: &Upstream, lines: &str) -> Proxy {
    let setup = Proxy::with(upstream).env("PASSWORD", PASSWORD);
    setup.sections(&sink(store, lines)).start().await
}

async fn until(store: &Upstream, wanted: impl Fn(&[Received]) -> bool) -> Vec<Received> {
    within("the sink", store.until(wanted)).await;
    store.requests()
}

async fn status(proxy: &Proxy) -> Value {
    let answer = ask(proxy.app.admin_address(), "/api/v1/sinks").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()["sinks"][0].clone()
}

async fn status_when(proxy: &Proxy, wanted: impl Fn(&Value) -> bool) -> Value {
    within("a status", async {
        loop {
            let status = status(proxy).await;
            if wanted(&status) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_call_is_sent_with_the_place_behind_it_and_the_password_in_a_header_alone() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let store = Upstream::with(|_, it| fresh(it, "")).await;
    let proxy = start(&upstream, &store, "instance = \"eu-1\"").await;
    proxy.call(&chat("nightly", 20)).await;
    let sent = until(&store, |seen| {
        !lines(seen, "calls").is_empty() && !places(seen).is_empty()
    })
    .await;
    let call = &lines(&sent, "calls")[0];
    assert_eq!(call[0], "eu-1");
    assert!(call.contains(&"nightly".to_owned()), "{call:?}");
    assert!(places(&sent).last().unwrap().contains("'eu-1'"));
    let created = sent.iter().any(|it| {
        it.text()
            .starts_with("CREATE TABLE IF NOT EXISTS `open_aiops`.`calls`")
    });
    assert!(created);
    for request in &sent {
        assert_eq!(request.header("x-clickhouse-key"), Some(PASSWORD));
        assert!(!request.target().contains(PASSWORD) && !request.text().contains(PASSWORD));
    }
    let status = status_when(&proxy, |it| it["state"] == "working").await;
    assert_eq!(
        (&status["kind"], &status["instance"]),
        (&"clickhouse".into(), &"eu-1".into())
    );
    assert!(!status.to_string().contains(PASSWORD));
    let page = ask(proxy.app.admin_address(), "/alerts").await;
    assert!(page.text().contains("Sinks") && page.text().contains("clicks"));
    let metrics = ask(proxy.app.admin_address(), "/metrics").await;
    assert!(
        metrics
            .text()
            .contains("open_aiops_sink_rows_total{sink=\"clicks\",table=\"calls\"}")
    );
}

#[tokio::test]
async fn only_the_tables_that_are_wanted_are_made_and_sent() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let store = Upstream::with(|_, it| fresh(it, "")).await;
    let proxy = start(&upstream, &store, "tables = [\"calls\"]").await;
    proxy.call(&chat("nightly", 20)).await;
    let sent = until(&store, |seen| !lines(seen, "calls").is_empty()).await;
    assert!(lines(&sent, "decisions").is_empty());
    assert!(!sent.iter().any(|it| it.text().contains("`decisions`")));
}

#[tokio::test]
async fn what_one_database_does_not_take_goes_to_another_that_a_reload_names() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let store = Upstream::with(|_, it| fresh(it, "")).await;
    let full = "Code: 241. DB::Exception: Memory limit exceeded";
    let broken = Upstream::with(move |_, it| match table(it) {
        Some("calls") => reply(503).body(full),
        _ => fresh(it, ""),
    })
    .await;
    let proxy = start(&upstream, &broken, "").await;
    proxy.call(&chat("nightly", 20)).await;
    let failing = status_when(&proxy, |it| it["state"] == "failing").await;
    let error = failing["error"].as_str().unwrap();
    assert!(
        error.contains("503") && error.contains("Memory limit exceeded"),
        "{error}"
    );
    assert!(failing["lag_bytes"].as_u64().unwrap() > 0);
    // Another address is taken over while it runs.
    let setup = Proxy::with(&upstream).env("PASSWORD", PASSWORD);
    let setup = setup.on_data_of(&proxy.dir).sections(&sink(&store, ""));
    let config = setup.config();
    proxy.app.reload(Reload::Valid(Box::new(config)));
    let sent = until(&store, |seen| !lines(seen, "calls").is_empty()).await;
    assert!(lines(&sent, "calls")[0].contains(&"nightly".to_owned()));
    status_when(&proxy, |it| it["state"] == "working").await;
}

#[tokio::test]
async fn a_row_that_is_not_taken_is_left_out_and_the_others_are_not() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let is_away = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&is_away);
    let store = Upstream::with(move |_, it| {
        let is_bad = table(it) == Some("calls") && it.text().contains("\tbad\t");
        if away.load(Ordering::SeqCst) && table(it) == Some("calls") {
            reply(503).body("away")
        } else if is_bad {
            reply(400).body("Code: 27. DB::Exception: Cannot parse input")
        } else {
            fresh(it, "")
        }
    })
    .await;
    let proxy = start(&upstream, &store, "").await;
    for run in ["one", "bad", "two", "three"] {
        proxy.call(&chat(run, 20)).await;
    }
    within("the end", proxy.app.settled()).await;
    status_when(&proxy, |it| it["failures"].as_u64() > Some(0)).await;
    proxy.app.ledger().sync_index();
    is_away.store(false, Ordering::SeqCst);
    let status = status_when(&proxy, |it| it["refused_rows"] == 1).await;
    assert_eq!(status["rows"]["calls"], 3, "{status}");
    let runs = ["one", "two", "three"];
    let taken = |seen: &[Received]| {
        let fine = seen.iter().filter(|it| !it.text().contains("\tbad\t"));
        let fine: Vec<_> = fine.cloned().collect();
        let all = lines(&fine, "calls");
        runs.iter()
            .all(|run| all.iter().any(|line| line.contains(&(*run).to_owned())))
    };
    until(&store, taken).await;
    let told = |rule| {
        proxy
            .app
            .alerts()
            .list()
            .into_iter()
            .any(|it| it.rule == rule)
    };
    within("an alert", async {
        while !told(Rule::SinkIncomplete) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_place_that_is_none_is_told_and_nothing_is_written() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let store = Upstream::with(|_, it| fresh(it, "somewhere")).await;
    let proxy = start(&upstream, &store, "").await;
    proxy.call(&chat("nightly", 20)).await;
    let status = status_when(&proxy, |it| it["state"] == "failing").await;
    let error = status["error"].as_str().unwrap();
    assert!(
        error.contains("the position there is `somewhere`: expected a place"),
        "{error}"
    );
    assert!(lines(&store.requests(), "calls").is_empty());
}

#[tokio::test]
async fn what_was_recorded_before_is_left_out_where_only_what_comes_is_wanted() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let store = Upstream::with(|_, it| fresh(it, "")).await;
    let before = Proxy::with(&upstream).start().await;
    before.call(&chat("before", 20)).await;
    let dir = Arc::clone(&before.dir);
    before.app.stop().await;
    let setup = Proxy::with(&upstream)
        .env("PASSWORD", PASSWORD)
        .on_data_of(&dir);
    let proxy = setup
        .sections(&sink(&store, "since = \"now\""))
        .start()
        .await;
    // At once, though there is nothing to write.
    until(&store, |seen| !places(seen).is_empty()).await;
    proxy.call(&chat("after", 20)).await;
    let sent = until(&store, |seen| !lines(seen, "calls").is_empty()).await;
    let all = lines(&sent, "calls");
    assert!(
        all.iter().all(|line| line.contains(&"after".to_owned())),
        "{all:?}"
    );
}

#[tokio::test]
async fn what_comes_from_now_on_comes_though_the_database_is_away_at_first() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let is_away = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&is_away);
    let store = Upstream::with(move |_, it| {
        if away.load(Ordering::SeqCst) {
            reply(503).body("away")
        } else {
            fresh(it, "")
        }
    })
    .await;
    let proxy = start(&upstream, &store, "since = \"now\"").await;
    proxy.call(&chat("early", 20)).await;
    within("the end", proxy.app.settled()).await;
    status_when(&proxy, |it| it["failures"].as_u64() > Some(0)).await;
    proxy.app.ledger().sync_index();
    is_away.store(false, Ordering::SeqCst);
    let early = |seen: &[Received]| {
        let calls = lines(seen, "calls");
        calls.iter().any(|line| line.contains(&"early".to_owned()))
    };
    until(&store, early).await;
    assert_eq!(status(&proxy).await["gaps"], 0);
}

/// A ledger with so many calls, and with what another instance was told of the last of them.
async fn recorded(upstream: &Upstream, calls: usize) -> Arc<TempDir> {
    let proxy = Proxy::with(upstream).start().await;
    let mut last = None;
    for _ in 0..calls {
        let call = chat("nightly", 20).header("x-aiops-metric-own", "1");
        last = Some(proxy.call(&call).await.call().parse().unwrap());
    }
    within("the end", proxy.app.settled()).await;
    let elsewhere = Measurement {
        at: Timestamp::from_micros(1),
        name: "others".to_owned(),
        value: metric::Value::Number(0.5),
        subject: Subject::Call(last.unwrap()),
        who: Label::parse("judge").unwrap(),
        note: None,
        key: None,
        run: None,
        agent: None,
        charged: None,
        instance: None,
    };
    let instance = Label::parse("east").unwrap();
    let adopted = Adopted::Measured(Box::new(elsewhere));
    proxy.app.ledger().adopt(adopted, &instance).unwrap().await;
    let dir = Arc::clone(&proxy.dir);
    proxy.app.stop().await;
    dir
}

#[tokio::test]
async fn what_was_measured_at_another_instance_is_left_to_it() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let store = Upstream::with(|_, it| fresh(it, "")).await;
    let dir = recorded(&upstream, 1).await;
    let setup = Proxy::with(&upstream).env("PASSWORD", PASSWORD);
    let setup = setup.on_data_of(&dir).sections(&sink(&store, ""));
    let _proxy = setup.start().await;
    let sent = until(&store, |seen| !lines(seen, "metrics").is_empty()).await;
    let measured = lines(&sent, "metrics");
    let has = |name: &str| measured.iter().any(|line| line.contains(&name.to_owned()));
    assert!(has("own") && !has("others"), "{measured:?}");
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_what_stands_in_between_is_written_in_parts() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let store = Upstream::with(|_, it| match table(it) {
        Some("calls") if it.text().lines().count() > 10 => {
            reply(413).body("<html>too large</html>")
        }
        _ => fresh(it, ""),
    })
    .await;
    let dir = recorded(&upstream, 15).await;
    let setup = Proxy::with(&upstream).env("PASSWORD", PASSWORD);
    let setup = setup.on_data_of(&dir).sections(&sink(&store, ""));
    let proxy = setup.start().await;
    let status = status_when(&proxy, |it| it["rows"]["calls"] == 15).await;
    assert!(status["failures"].as_u64() > Some(0), "{status}");
    assert_eq!(status["refused_rows"], 0, "{status}");
}

#[tokio::test]
async fn what_retention_removed_is_told_once_however_often_the_write_behind_it_fails() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let is_full = Arc::new(AtomicBool::new(true));
    let full = Arc::clone(&is_full);
    let place = format!("9-0-{}", "1".repeat(32));
    let store = Upstream::with(move |_, it| {
        let is_insert = table(it).is_some() || it.text().starts_with("INSERT INTO");
        if is_insert && full.load(Ordering::SeqCst) {
            reply(503).body("the disk is full")
        } else {
            fresh(it, &place)
        }
    })
    .await;
    let proxy = start(&upstream, &store, "").await;
    let failing = status_when(&proxy, |it| it["failures"].as_u64() > Some(1)).await;
    assert_eq!(failing["gaps"], 0, "{failing}");
    is_full.store(false, Ordering::SeqCst);
    let working = status_when(&proxy, |it| it["state"] == "working").await;
    assert_eq!(working["gaps"], 1, "{working}");
}

#[tokio::test]
async fn what_is_counted_of_a_sink_is_there_before_anything_happened() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let store = Upstream::deaf().await;
    let proxy = start(&upstream, &store, "").await;
    let answer = ask(proxy.app.admin_address(), "/metrics").await;
    let page = answer.text();
    for counter in ["failures", "gaps", "refused_rows"] {
        let line = format!("open_aiops_sink_{counter}_total{{sink=\"clicks\"}} 0");
        assert!(page.contains(&line), "{line}");
    }
    for table in ["calls", "decisions", "metrics"] {
        let line = format!("open_aiops_sink_rows_total{{sink=\"clicks\",table=\"{table}\"}} 0");
        assert!(page.contains(&line), "{line}");
    }
}

#[tokio::test]
async fn what_is_recorded_at_the_end_is_written_before_the_process_ends() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let store = Upstream::with(|_, it| fresh(it, "")).await;
    let proxy = start(&upstream, &store, "").await;
    proxy.call(&chat("last", 20)).await;
    proxy.app.stop().await;
    let all = lines(&store.requests(), "calls");
    assert!(
        all.iter().any(|line| line.contains(&"last".to_owned())),
        "{all:?}"
    );
}

#[tokio::test]
async fn what_a_call_used_as_is_known_late_is_written_over_its_row() {
    let response = |status: &str, usage: Value| {
        let body = object!({"id": "resp_1", "object": "response", "status": status,
            "background": true, "model": "gpt-4o-mini", "output": [], "usage": usage});
        json(body.to_string())
    };
    let used = object!({"input_tokens": 1234, "output_tokens": 5678, "total_tokens": 6912});
    let answers = [response("queued", Value::Null), response("completed", used)];
    let upstream = Upstream::answers_each(answers).await;
    let store = Upstream::with(|_, it| fresh(it, "")).await;
    let proxy = start(&upstream, &store, "tables = [\"calls\"]").await;
    let ask = object!({"model": "gpt-4o-mini", "background": true, "input": "hi"});
    let ask = post("/v1/responses", ask.to_string()).header("x-aiops-run", "slow");
    let begun = proxy.call(&ask).await.call();
    let of_it = |seen: &[Received]| -> Vec<Vec<String>> {
        let all = lines(seen, "calls").into_iter();
        all.filter(|line| line.contains(&begun)).collect()
    };
    until(&store, |seen| !of_it(seen).is_empty()).await;
    let fetched = proxy.call(&get("/v1/responses/resp_1")).await;
    assert_eq!(fetched.status(), 200);
    let sent = until(&store, |seen| of_it(seen).len() > 1).await;
    let rows = of_it(&sent);
    let (first, last) = (&rows[0], &rows[rows.len() - 1]);
    assert!(!first.contains(&"5678".to_owned()) && last.contains(&"5678".to_owned()));
    assert_eq!(
        first[..3],
        last[..3],
        "instance, call and time, which are its key, stay"
    );
    let version = |row: &[String]| row[row.len() - 1].parse::<u64>().unwrap();
    assert!(version(last) > version(first));
}

#[tokio::test]
async fn a_table_that_is_added_gets_what_was_recorded_before() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let first = Upstream::with(|_, it| fresh(it, "")).await;
    let before = start(&upstream, &first, "tables = [\"calls\"]").await;
    before.call(&chat("early", 20)).await;
    let dir = Arc::clone(&before.dir);
    before.app.stop().await;
    let place = places(&first.requests()).pop().unwrap();
    let place = place.split('\'').nth(7).unwrap().to_owned();
    let second = Upstream::with(move |_, it| match it.text() {
        text if text.contains("argMax(`position`") => fine(&format!("calls\t{place}\t1\n")),
        _ => fresh(it, ""),
    })
    .await;
    let setup = Proxy::with(&upstream).env("PASSWORD", PASSWORD);
    let setup = setup.on_data_of(&dir).sections(&sink(&second, ""));
    let _proxy = setup.start().await;
    let early = |seen: &[Received]| {
        let calls = lines(seen, "calls");
        calls.iter().any(|line| line.contains(&"early".to_owned()))
    };
    until(&second, early).await;
}

#[tokio::test]
async fn how_far_a_sink_is_that_had_nothing_to_write_is_written_at_the_end() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let store = Upstream::with(|_, it| fresh(it, "")).await;
    let proxy = start(&upstream, &store, "tables = [\"metrics\"]").await;
    status_when(&proxy, |it| it["state"] == "working").await;
    let before = places(&store.requests());
    proxy.call(&chat("nightly", 20)).await;
    within("the end", proxy.app.settled()).await;
    proxy.app.stop().await;
    let sent = store.requests();
    assert!(lines(&sent, "metrics").is_empty());
    let after = places(&sent);
    assert_eq!(after.len(), before.len() + 1, "once, at the end");
    assert_ne!(after.last(), before.last());
}

#[tokio::test]
async fn a_version_is_greater_than_those_the_database_has_whatever_the_clock_says() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let ahead = u64::MAX / 2;
    let store = Upstream::with(move |_, it| match it.text() {
        text if text.contains("argMax(`position`") => {
            let known = |table| format!("{table}\t0-0-{}\t{ahead}\n", "0".repeat(32));
            fine(&["calls", "decisions", "metrics"].map(known).concat())
        }
        _ => fresh(it, ""),
    })
    .await;
    let proxy = start(&upstream, &store, "").await;
    proxy.call(&chat("nightly", 20)).await;
    let sent = until(&store, |seen| !lines(seen, "calls").is_empty()).await;
    let call = lines(&sent, "calls").remove(0);
    assert!(call.last().unwrap().parse::<u64>().unwrap() > ahead);
}
