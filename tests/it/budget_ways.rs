//! Ways around a budget, and none of them works: another run id, a header that comes and goes, a
//! result that is fetched twice, an answer that is given up.

use std::sync::Arc;

use open_aiops::core::budget::{Control, Dimension, Measure};
use serde_json::json as object;

use crate::harness::accounts::{
    chat, check_idle, label, pending, running, settled, standing, used, waiting,
};
use crate::harness::records::ask;
use crate::harness::{Ask, Proxy, Response, Upstream, post, quiet, within};

fn per_run(lines: &str) -> String {
    format!("[[budget]]\nname = \"each run\"\nper = [\"run\"]\n{lines}\n")
}

fn all(lines: &str) -> String {
    format!("[[budget]]\nname = \"all\"\n{lines}\n")
}

fn without_run(output: u64) -> Ask {
    let body = object!({
        "model": "gpt-4o-mini",
        "max_tokens": output,
        "messages": [{"role": "user", "content": "hi"}],
    });
    post("/v1/chat/completions", body.to_string())
}

#[track_caller]
fn check_refused(response: &Response, kind: &str) -> String {
    assert_eq!(
        response.header("x-aiops-reason"),
        Some(kind),
        "{}",
        response.text()
    );
    let error = &response.json()["error"]["message"];
    error.as_str().unwrap().to_owned()
}

async fn tokens_used(proxy: &Proxy) -> i64 {
    let rows = settled(proxy).await;
    check_idle(&rows);
    standing(&rows[0], Measure::Tokens).0
}

#[tokio::test]
async fn call_that_names_only_its_parent_counts_against_that_one() {
    let upstream = Upstream::answers(used(9, 41)).await;
    let rules = per_run("tokens = 120") + "[attribution]\ninfer = false\n";
    let proxy = Proxy::with(&upstream).sections(&rules).start().await;
    let orphan = without_run(41).header("x-aiops-parent-run", "parent");
    for status in [200, 200, 429] {
        assert_eq!(proxy.call(&orphan).await.status(), status);
        within("the end", proxy.app.settled()).await;
    }
    let rows = settled(&proxy).await;
    assert_eq!(
        (rows.len(), rows[0].name.to_string()),
        (1, "run parent".to_owned())
    );
    let budgets = proxy.app.budgets();
    let parent = label("parent");
    let stopped = budgets.control(&parent, Control::Stopped, "me").await;
    assert!(stopped.is_ok());
    check_refused(&proxy.call(&orphan).await, "run_stopped");
}

#[tokio::test]
async fn deep_family_counts_against_its_root() {
    const DEPTH: i64 = 100;
    let upstream = Upstream::answers(used(9, 41)).await;
    let rules = "[[budget]]\nname = \"root\"\nmatch = { run = \"run-0\" }\ntokens = 5090\n";
    let proxy = Proxy::with(&upstream).sections(rules).start().await;
    for run in 0..=DEPTH {
        let call = chat(&format!("run-{run}"), 41);
        let parent = format!("run-{}", (run - 1).max(0));
        let status = proxy
            .call(&call.header("x-aiops-parent-run", &parent))
            .await;
        assert_eq!(status.status(), 200, "{run}");
    }
    assert_eq!(tokens_used(&proxy).await, 50 * (DEPTH + 1));
    let last = chat(&format!("run-{DEPTH}"), 41);
    check_refused(&proxy.call(&last).await, "budget_spent");
}

#[tokio::test]
async fn limit_that_came_with_a_call_whose_client_left_holds_after_a_restart() {
    let (slow, _driver) = pending();
    let upstream = Upstream::answers_each([slow, used(9, 41)]).await;
    let rules = all("concurrent = 1");
    let proxy = Proxy::with(&upstream).sections(&rules).start().await;
    let mut busy = proxy.client().await;
    busy.send(chat("r0", 50).bytes()).await;
    upstream.asked().await;
    let mut gone = proxy.client().await;
    gone.send(chat("r1", 50).header("x-aiops-budget-tokens", "60").bytes())
        .await;
    waiting(&proxy, 1).await;
    drop(gone);
    waiting(&proxy, 0).await;
    drop(busy);
    let dir = Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    let proxy = Proxy::with(&upstream).on_data_of(&dir).start().await;
    assert_eq!(proxy.call(&chat("r1", 41)).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    let message = check_refused(&proxy.call(&chat("r1", 41)).await, "budget_spent");
    assert!(message.contains("50 of 60 tokens"), "{message}");
}

#[tokio::test]
async fn limits_of_several_calls_of_a_run_are_recorded_together() {
    let upstream = Upstream::answers(used(9, 41)).await;
    let proxy = Proxy::to(&upstream).await;
    let limited = |name: &str, most: &str| chat("r1", 41).header(name, most);
    for (name, most) in [
        ("x-aiops-budget-tokens", "170"),
        ("x-aiops-budget-calls", "3"),
    ] {
        assert_eq!(proxy.call(&limited(name, most)).await.status(), 200);
    }
    let dir = Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    let proxy = Proxy::with(&upstream).on_data_of(&dir).start().await;
    assert_eq!(proxy.call(&chat("r1", 41)).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    check_refused(&proxy.call(&chat("r1", 41)).await, "budget_spent");
    let budgets = proxy.app.budgets();
    let key = vec![(Dimension::Run, Some(label("r1")))];
    let by = |measure, more| {
        let mut by = open_aiops::core::budget::Limits::default();
        by.set(measure, Some(more));
        by
    };
    let rule = label("x-aiops-budget");
    let raised = budgets.raise(&rule, &key, by(Measure::Usd, 1), "me").await;
    assert!(raised.is_err(), "its clients set no limit of usd");
    for measure in [Measure::Calls, Measure::Tokens] {
        budgets
            .raise(&rule, &key, by(measure, 100), "me")
            .await
            .unwrap();
    }
    assert_eq!(proxy.call(&chat("r1", 41)).await.status(), 200);
}

#[tokio::test]
async fn call_that_its_client_gave_up_is_charged_and_its_repetition_is_no_new_call() {
    let (slow, _driver) = pending();
    let upstream = Upstream::answers_each([used(9, 30), slow, used(9, 5)]).await;
    let rules = all("calls = 2\ntokens = 1000");
    let proxy = Proxy::with(&upstream).sections(&rules).start().await;
    assert_eq!(proxy.call(&chat("r1", 50)).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    let mut client = proxy.client().await;
    client.send(chat("r1", 50).bytes()).await;
    upstream.until(|requests| requests.len() == 2).await;
    drop(client);
    upstream.hung_up().await;
    let rows = settled(&proxy).await;
    // 8 tokens of prompt as they are counted, and an answer as long as the one before.
    assert_eq!(standing(&rows[0], Measure::Tokens).0, 39 + 8 + 30);
    let again = chat("r1", 50).header("x-stainless-retry-count", "1");
    assert_eq!(proxy.call(&again).await.status(), 200);
    let rows = settled(&proxy).await;
    assert_eq!(standing(&rows[0], Measure::Calls).0, 2);
    check_refused(&proxy.call(&chat("r1", 50)).await, "budget_spent");
}

#[tokio::test]
async fn call_that_was_paused_meets_a_budget_that_came_meanwhile() {
    let upstream = Upstream::answers(used(9, 41)).await;
    let proxy = Arc::new(Proxy::to(&upstream).await);
    assert_eq!(proxy.call(&chat("r1", 41)).await.status(), 200);
    let budgets = Arc::clone(proxy.app.budgets());
    let control = async |control| budgets.control(&label("r1"), control, "me").await.unwrap();
    control(Control::Paused).await;
    let paused = {
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move { proxy.call(&chat("r1", 41)).await })
    };
    quiet().await;
    let setup = Proxy::with(&upstream).on_data_of(&proxy.dir);
    let config = setup.sections(&all("tokens = 10")).config();
    proxy
        .app
        .reload(open_aiops::config::Reload::Valid(Box::new(config)));
    control(Control::Running).await;
    let refused = within("an answer", paused).await.unwrap();
    check_refused(&refused, "budget_spent");
}

#[tokio::test]
async fn who_waited_in_vain_is_told_what_for() {
    let (slow, driver) = pending();
    let upstream = Upstream::answers(slow).await;
    let rules = all("usd = 50\nconcurrent = 1");
    let proxy = Proxy::with(&upstream).sections(&rules).start().await;
    let mut busy = proxy.client().await;
    busy.send(chat("r0", 50).bytes()).await;
    upstream.asked().await;
    for name in ["x-stainless-read-timeout", "x-stainless-timeout"] {
        let impatient = chat("r1", 50).header(name, "0.02");
        let message = check_refused(&proxy.call(&impatient).await, "budget_held");
        assert!(message.contains("1 of 1 calls at once"), "{message}");
        assert!(message.ends_with("--concurrent 1"), "{message}");
    }
    driver.end().await;
}

#[tokio::test]
async fn burst_of_calls_is_told_when_its_window_has_room() {
    let (slow, driver) = pending();
    let upstream = Upstream::answers(slow).await;
    let rules = all("calls = 1\nwindow = \"30s\"");
    let proxy = Proxy::with(&upstream).sections(&rules).start().await;
    let mut busy = proxy.client().await;
    busy.send(chat("r0", 50).bytes()).await;
    upstream.asked().await;
    let refused = proxy.call(&chat("r1", 50)).await;
    let message = check_refused(&refused, "budget_spent");
    assert!(message.contains("There will be room at"), "{message}");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=31).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-should-retry"), None);
    driver.end().await;
}

#[tokio::test]
async fn spent_budget_is_said_once_though_smaller_calls_still_pass() {
    let upstream = Upstream::answers(used(9, 5)).await;
    let proxy = Proxy::with(&upstream)
        .sections(&all("tokens = 100"))
        .start()
        .await;
    for _ in 0..4 {
        check_refused(
            &proxy
                .call(&chat("r1", 50).header("x-aiops-budget-tokens", "9"))
                .await,
            "budget_spent",
        );
        assert_eq!(proxy.call(&chat("r2", 5)).await.status(), 200);
        within("the end", proxy.app.settled()).await;
    }
    let events = ask(proxy.app.admin_address(), "/api/v1/events").await;
    let said = events.text().matches("\"budget_spent\"").count();
    assert_eq!(said, 1, "{}", events.text());
    assert_eq!(running(proxy.app.budgets()).await.len(), 2);
}
