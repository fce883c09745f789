//! Budgets when something fails beside them: the disk, the memory for bodies, the index that lags.

use std::sync::Arc;

use open_aiops::core::budget::{Control, Dimension, Measure};
use open_aiops::core::id::Label;
use serde_json::json as object;

use crate::harness::accounts::{
    chat, check_idle, finish, label, pending, running, settled, standing, swept, used,
};
use crate::harness::disk::TestDisk;
use crate::harness::records::ask;
use crate::harness::{Proxy, Upstream, post, quiet, reply, within};

fn per_run(lines: &str) -> String {
    format!("[[budget]]\nname = \"each run\"\nper = [\"run\"]\n{lines}\n")
}

async fn until_failing(proxy: &Proxy, failing: bool) {
    within("what the ledger says of itself", async {
        while proxy.app.ledger().status().failing != failing {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn charges_that_wait_for_a_failing_disk_are_not_forgotten() {
    const RUNS: usize = 30;
    let upstream = Upstream::answers(used(9, 5)).await;
    let rules = per_run("tokens = 100");
    let setup = Proxy::with(&upstream)
        .sections(&format!("[accounting]\nmax_accounts = 10\n{rules}"))
        .ledger_lines("durability = \"relaxed\"");
    let disk = TestDisk::at(&setup.data());
    let proxy = setup.on_disk(&disk).start().await;
    disk.hold();
    proxy.call(&chat("first", 50)).await;
    disk.held().await;
    for run in 0..RUNS {
        let status = proxy.call(&chat(&format!("run-{run}"), 50)).await.status();
        assert_eq!(status, 200);
    }
    within("the end", proxy.app.settled()).await;
    disk.fail();
    until_failing(&proxy, true).await;
    assert_eq!(swept(&proxy).await, RUNS + 1, "none can be found again");
    disk.release();
    until_failing(&proxy, false).await;
    assert!(swept(&proxy).await <= 10);
    let rows = settled(&proxy).await;
    assert_eq!(rows.len(), RUNS + 1);
    for row in &rows {
        assert_eq!(standing(row, Measure::Tokens), (14, 0), "{}", row.name);
    }
}

#[tokio::test]
async fn with_serve_no_limit_is_passed_and_nothing_forgotten_while_the_disk_fails() {
    let upstream = Upstream::answers(used(9, 41)).await;
    let rules = per_run("tokens = 120");
    let setup =
        Proxy::with(&upstream).sections(&format!("[accounting]\nmax_accounts = 10\n{rules}"));
    let disk = TestDisk::at(&setup.data());
    let proxy = setup.on_disk(&disk).start().await;
    disk.fail();
    proxy.call(&chat("first", 41)).await;
    until_failing(&proxy, true).await;
    for run in 0..30 {
        for status in [200, 200, 429] {
            let response = proxy.call(&chat(&format!("run-{run}"), 41)).await;
            assert_eq!(response.status(), status, "{}", response.text());
        }
    }
    check_idle(&settled(&proxy).await);
    assert!(swept(&proxy).await >= 30, "only memory knows of these");
    disk.release();
    until_failing(&proxy, false).await;
    assert!(swept(&proxy).await <= 10, "now the ledger knows of all");
    let checked = async |proxy: &Proxy| {
        let rows = settled(proxy).await;
        assert_eq!(rows.len(), 31);
        for row in rows {
            let first = row.name.to_string() == "run first";
            let tokens = if first { 50 } else { 100 };
            assert_eq!(standing(&row, Measure::Tokens).0, tokens, "{}", row.name);
        }
        let refused = proxy.call(&chat("run-0", 41)).await;
        assert_eq!(refused.header("x-aiops-reason"), Some("budget_spent"));
    };
    checked(&proxy).await;
    let events = ask(proxy.app.admin_address(), "/api/v1/events").await;
    assert!(
        events.text().contains("charges_recorded"),
        "{}",
        events.text()
    );
    let dir = Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    let again = Proxy::with(&upstream).sections(&rules).on_data_of(&dir);
    checked(&again.start().await).await;
}

#[tokio::test]
async fn with_refuse_calls_that_cannot_be_recorded_hold_and_cost_nothing() {
    let upstream = Upstream::answers(used(9, 41)).await;
    let setup = Proxy::with(&upstream)
        .sections(&per_run("tokens = 170\ncalls = 3"))
        .ledger_lines("on_failure = \"refuse\"");
    let disk = TestDisk::at(&setup.data());
    let proxy = setup.on_disk(&disk).start().await;
    let first = proxy.call(&chat("r1", 41)).await;
    proxy.record(&first).await;
    disk.fail();
    // Whether the disk fails is known once a call has been through.
    assert_eq!(proxy.call(&chat("r1", 41)).await.status(), 200);
    until_failing(&proxy, true).await;
    for _ in 0..10 {
        let refused = proxy.call(&chat("r1", 41)).await;
        assert_eq!(refused.header("x-aiops-error"), Some("ledger_unavailable"));
    }
    let rows = settled(&proxy).await;
    check_idle(&rows);
    assert_eq!(standing(&rows[0], Measure::Tokens), (100, 0));
    disk.release();
    until_failing(&proxy, false).await;
    assert_eq!(proxy.call(&chat("r1", 41)).await.status(), 200);
    let rows = settled(&proxy).await;
    assert_eq!(standing(&rows[0], Measure::Tokens), (150, 0));
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn call_for_whose_changed_body_there_is_no_memory_costs_nothing() {
    let (slow, driver) = pending();
    let upstream = Upstream::answers_each([slow, used(9, 41)]).await;
    let setup = Proxy::with(&upstream)
        .sections(&per_run("tokens = 50000"))
        .proxy_lines("max_read = \"64 KiB\"\nmax_memory = \"128 KiB\"");
    let proxy = setup.start().await;
    let long = |run: &str, output: u64| {
        let body = object!({"model": "gpt-4o-mini", "max_tokens": output,
            "messages": [{"role": "user", "content": "hello ".repeat(9000)}]});
        post("/v1/chat/completions", body.to_string()).header("x-aiops-run", run)
    };
    let mut busy = proxy.client().await;
    busy.send(long("busy", 10).bytes()).await;
    upstream.asked().await;
    let refused = proxy.call(&long("r1", 100_000)).await;
    assert_eq!(refused.header("x-aiops-error"), Some("memory_full"));
    finish(&driver, 9, 41).await;
    assert_eq!(busy.response(false).await.status(), 200);
    let rows = settled(&proxy).await;
    check_idle(&rows);
    let charged = rows.iter().map(|row| standing(row, Measure::Tokens).0);
    assert_eq!(charged.sum::<i64>(), 50, "by the call that ran");
    assert_eq!((upstream.requests().len(), proxy.calls().await), (1, 1));
}

#[tokio::test]
async fn accounts_that_were_only_asked_for_leave_memory() {
    let upstream = Upstream::answers(used(9, 5)).await;
    let rules = per_run("tokens = 100");
    let setup =
        Proxy::with(&upstream).sections(&format!("[accounting]\nmax_accounts = 10\n{rules}"));
    let proxy = setup.start().await;
    for run in 0..50 {
        let run: Option<Label> = Some(label(&format!("nobody-{run}")));
        let key = vec![(Dimension::Run, run)];
        let budgets = proxy.app.budgets();
        assert!(budgets.reset(&label("each run"), &key, "me").await.is_err());
    }
    assert!(swept(&proxy).await <= 10);
}

#[tokio::test]
async fn call_of_a_paused_run_is_refused_at_once_when_its_parent_is_stopped() {
    let upstream = Upstream::answers(used(9, 5)).await;
    let proxy = Arc::new(Proxy::to(&upstream).await);
    let child = chat("child", 50).header("x-aiops-parent-run", "parent");
    for ask in [&chat("parent", 50), &child] {
        assert_eq!(proxy.call(ask).await.status(), 200);
    }
    let control = async |run: &str, control| {
        let budgets = proxy.app.budgets();
        budgets.control(&label(run), control, "me").await.unwrap();
    };
    control("child", Control::Paused).await;
    let call = {
        let proxy = Arc::clone(&proxy);
        let patient = child.header("x-stainless-read-timeout", "600");
        tokio::spawn(async move { proxy.call(&patient).await })
    };
    quiet().await;
    control("parent", Control::Stopped).await;
    let refused = within("the refusal", call).await.unwrap();
    assert_eq!(refused.header("x-aiops-reason"), Some("run_stopped"));
    assert!(running(proxy.app.budgets()).await.is_empty());
}

#[tokio::test]
async fn repetition_that_got_nowhere_leaves_the_next_one_the_same_call() {
    let failing = reply(500).body("{\"error\":{\"message\":\"boom\"}}");
    let (slow, driver) = pending();
    let upstream = Upstream::answers_each([failing, slow, used(9, 5)]).await;
    let setup = Proxy::with(&upstream).sections(&per_run("calls = 2\nconcurrent = 1"));
    let proxy = setup.start().await;
    assert_eq!(proxy.call(&chat("r1", 50)).await.status(), 500);
    within("the end", proxy.app.settled()).await;
    let mut busy = proxy.client().await;
    busy.send(chat("r1", 51).bytes()).await;
    upstream.until(|requests| requests.len() == 2).await;
    let again = |retry: &str| chat("r1", 50).header("x-stainless-retry-count", retry);
    let impatient = again("1").header("x-stainless-read-timeout", "0.02");
    let refused = proxy.call(&impatient).await;
    assert_eq!(refused.header("x-aiops-reason"), Some("budget_held"));
    finish(&driver, 9, 5).await;
    assert_eq!(busy.response(false).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    assert_eq!(proxy.call(&again("2")).await.status(), 200);
    let rows = settled(&proxy).await;
    assert_eq!(standing(&rows[0], Measure::Calls), (2, 0));
}
