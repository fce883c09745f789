//! Budgets through the whole proxy: what is refused and how, what is charged whatever ends a call,
//! and that no limit is passed however many calls come at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use open_aiops::config::Reload;
use open_aiops::core::budget::{Control, Measure};
use serde_json::{Value, json as object};

use crate::harness::accounts::{finish, label, of, running, settled, standing, used};
use crate::harness::{Ask, Proxy, Response, Upstream, json, post, reply, sse, within};

const CHAT: &str = "/v1/chat/completions";

fn body(more: &Value) -> String {
    let mut body = object!({
        "model": "gpt-4o-mini",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "hi"}],
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body.to_string()
}

fn chat(run: &str) -> Ask {
    post(CHAT, body(&object!({}))).header("x-aiops-run", run)
}

fn per_run(limits: &str) -> String {
    format!("[[budget]]\nname = \"each run\"\nper = [\"run\"]\n{limits}\n")
}

#[track_caller]
fn check_refused(response: &Response, kind: &str) -> String {
    assert_eq!(response.status(), 429, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("x-aiops-decision"), Some("refuse"));
    assert_eq!(response.header("x-aiops-reason"), Some(kind));
    assert_eq!(response.header("x-aiops-error"), Some(kind));
    let error = &response.json()["error"];
    assert_eq!(error["type"], "insufficient_quota");
    assert_eq!(error["param"], Value::Null);
    let message = error["message"].as_str().unwrap().to_owned();
    for trigger in ["429", "rate limit", "too many requests"] {
        assert!(!message.to_lowercase().contains(trigger), "{message}");
    }
    message
}

#[tokio::test]
async fn call_over_a_spent_budget_is_refused_in_the_form_that_stops_clients() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let setup = Proxy::with(&upstream).sections(&per_run("tokens = 100"));
    let proxy = setup.start().await;
    assert_eq!(proxy.call(&chat("r1")).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    let refused = proxy.call(&chat("r1")).await;
    let message = check_refused(&refused, "budget_spent");
    assert_eq!(refused.json()["error"]["code"], "circuit_break");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(refused.header("retry-after"), None);
    for part in [
        "\"each run\"",
        "run r1",
        "used 69 of 100 tokens",
        "this call needs about 58 tokens",
        "does not reset by itself",
        "open-aiops budgets raise 'each run' --key run=r1 --tokens",
    ] {
        assert!(message.contains(part), "{part} is missing in {message}");
    }
    assert_eq!(upstream.requests().len(), 1, "nothing went upstream");
    assert_eq!(proxy.calls().await, 1, "a refused call is no call");
    assert_eq!(proxy.call(&chat("r2")).await.status(), 200, "another run");
}

#[tokio::test]
async fn refusal_of_a_window_that_soon_has_room_says_when_to_come_back() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let setup = Proxy::with(&upstream).sections(&per_run("tokens = 100\nwindow = \"30s\""));
    let proxy = setup.start().await;
    proxy.call(&chat("r1")).await;
    within("the end", proxy.app.settled()).await;
    let refused = proxy.call(&chat("r1")).await;
    check_refused(&refused, "budget_spent");
    assert_eq!(refused.header("x-should-retry"), None);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=31).contains(&wait), "{wait}");
    assert!(refused.header("x-aiops-resets-at").is_some());
}

#[tokio::test]
async fn response_says_what_is_left_of_the_tightest_budget() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let all = "[[budget]]\nname = \"all\"\ncalls = 3\ntokens = 5000\n";
    let rules = format!("{all}{}", per_run("tokens = 1000\nusd = 0.01"));
    let setup = Proxy::with(&upstream).sections(&rules);
    let proxy = setup.start().await;
    proxy.call(&chat("r1")).await;
    within("the end", proxy.app.settled()).await;
    let second = proxy.call(&chat("r1")).await;
    assert_eq!(second.header("x-aiops-remaining-tokens"), Some("931"));
    // 9 tokens at 0.15 and 60 at 0.60 USD per million.
    assert_eq!(second.header("x-aiops-remaining-usd"), Some("0.00996265"));
    assert_eq!(second.header("x-aiops-decision"), None);
}

#[tokio::test]
async fn answer_is_limited_to_what_is_left_and_the_client_is_told() {
    let upstream = Upstream::answers(used(9, 5)).await;
    let setup = Proxy::with(&upstream).sections(&per_run("tokens = 1200"));
    let proxy = setup.start().await;
    let ask = post(CHAT, body(&object!({"max_tokens": 4000}))).header("x-aiops-run", "r1");
    let response = proxy.call(&ask).await;
    assert_eq!(response.header("x-aiops-decision"), Some("clamp"));
    let sent: Value = serde_json::from_str(upstream.request().text()).unwrap();
    let limit = sent["max_tokens"].as_i64().unwrap();
    assert!(
        (500..1200).contains(&limit),
        "a half of what there is: {limit}"
    );
    let record = proxy.record(&response).await;
    let recorded = record.body("request").await.unwrap();
    let recorded: Value = serde_json::from_slice(&recorded).unwrap();
    assert_eq!(
        recorded["max_tokens"], 4000,
        "the record has what the client sent"
    );
    let told = format!("clamp: the output limit is {limit} tokens");
    assert_eq!(record.text("/decision"), told);
    assert_eq!(
        standing(&settled(&proxy).await[0], Measure::Tokens),
        (14, 0)
    );
}

#[tokio::test]
async fn call_waits_for_a_running_one_and_goes_on_when_it_ends() {
    let head = reply(200).header("content-type", "application/json");
    let (slow, driver) = head.driven();
    let upstream = Upstream::answers_each([slow, used(9, 5)]).await;
    let setup = Proxy::with(&upstream).sections(&per_run("tokens = 80"));
    let proxy = setup.start().await;
    let ask = chat("r1");
    let (first, second) = tokio::join!(proxy.call(&ask), async {
        upstream.asked().await;
        let waiting = proxy.call(&ask);
        let release = async {
            until(|| async { running(proxy.app.budgets()).await[0].waiting == 1 }).await;
            assert_eq!(upstream.requests().len(), 1);
            finish(&driver, 9, 5).await;
        };
        tokio::join!(waiting, release).0
    });
    assert_eq!((first.status(), second.status()), (200, 200));
    assert!(second.header("x-aiops-decision").unwrap().contains("slow"));
    assert_eq!(
        standing(&settled(&proxy).await[0], Measure::Tokens),
        (28, 0)
    );
}

async fn until<F: Future<Output = bool>>(mut check: impl FnMut() -> F) {
    within("a condition", async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn thousand_calls_at_once_never_pass_the_limit_and_use_nearly_all_of_it() {
    const CALLS: usize = 1000;
    const LIMIT: i64 = 12_000;
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    // 10 in, 5 to 45 out: 35 on average, of 50 that are allowed.
    let upstream = Upstream::with(move |_, _| {
        let n = count.fetch_add(1, Ordering::SeqCst) as u64;
        used(10, 5 + (n * 7) % 41)
    })
    .await;
    // A thousand times the same is what loops do.
    let unwatched = "[loops]\nmode = \"off\"\n";
    let rules = per_run(&format!("tokens = {LIMIT}")) + unwatched;
    let setup = Proxy::with(&upstream).sections(&rules);
    let proxy = Arc::new(setup.start().await);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let proxy = Arc::clone(&proxy);
        calls.spawn(async move { proxy.call(&chat("all")).await.status() });
    }
    let statuses = calls.join_all().await;
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)));
    assert_eq!(admitted, served.load(Ordering::SeqCst));
    let account = &settled(&proxy).await[0];
    let (used, held) = standing(account, Measure::Tokens);
    assert!(used <= LIMIT, "{used} of {LIMIT} are used");
    assert_eq!((held, account.running, account.waiting), (0, 0, 0));
    // Who knows what each call will use lets calls through until the next one does not fit.
    let mut left = LIMIT;
    let uses = (0..).map(|n: i64| 15 + (n * 7) % 41);
    let oracle = uses.take_while(|used| {
        left -= used;
        left >= 0
    });
    let oracle = oracle.count();
    assert!(
        admitted * 100 >= oracle * 97,
        "{admitted} calls of {oracle} that would have fitted"
    );
}

#[tokio::test]
async fn client_that_leaves_pays_for_what_was_generated_and_holds_nothing() {
    let head = reply(200).header("content-type", "text/event-stream");
    let (upstream, driver) = Upstream::streams(head).await;
    let setup = Proxy::with(&upstream).sections(&per_run("tokens = 10000"));
    let proxy = setup.start().await;
    let mut client = proxy.client().await;
    let ask = post(CHAT, body(&object!({"stream": true}))).header("x-aiops-run", "r1");
    client.send(ask.bytes()).await;
    let mut response = client.begin(false).await;
    let piece = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one two three\"}}]}\n\n";
    driver.chunk(piece).await;
    client.next(&mut response, piece.len()).await;
    drop(client);
    upstream.hung_up().await;
    let account = &settled(&proxy).await[0];
    let (used, held) = standing(account, Measure::Tokens);
    assert!((8..60).contains(&used), "8 in and 3 out, about: {used}");
    assert_eq!((held, account.running), (0, 0));
}

#[tokio::test]
async fn failed_calls_cost_nothing_and_their_repetition_is_the_same_call() {
    let failing = || reply(500).body("{\"error\":{\"message\":\"boom\"}}");
    let answers = [failing(), failing(), used(9, 5), used(9, 5)];
    let upstream = Upstream::answers_each(answers).await;
    let setup = Proxy::with(&upstream).sections(&per_run("calls = 2\ntokens = 1000"));
    let proxy = setup.start().await;
    for (retry, status) in [("0", 500), ("1", 500), ("2", 200)] {
        let ask = chat("r1").header("x-stainless-retry-count", retry);
        assert_eq!(proxy.call(&ask).await.status(), status);
        within("the end", proxy.app.settled()).await;
    }
    let account = &settled(&proxy).await[0];
    assert_eq!(standing(account, Measure::Calls), (1, 0));
    assert_eq!(standing(account, Measure::Tokens), (14, 0));
    let claimed = chat("r1").header("x-stainless-retry-count", "1");
    assert_eq!(proxy.call(&claimed).await.status(), 200);
    let account = &settled(&proxy).await[0];
    assert_eq!(
        standing(account, Measure::Calls),
        (2, 0),
        "it repeats no failure"
    );
    check_refused(&proxy.call(&chat("r1")).await, "budget_spent");
}

#[tokio::test]
async fn child_runs_count_against_all_their_ancestors() {
    let upstream = Upstream::answers(used(9, 21)).await;
    let setup = Proxy::with(&upstream).sections(&per_run("tokens = 85"));
    let proxy = setup.start().await;
    let child = |run: &str, parent: &str| chat(run).header("x-aiops-parent-run", parent);
    assert_eq!(proxy.call(&chat("root")).await.status(), 200);
    assert_eq!(proxy.call(&child("child", "root")).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    // The child is known by now: nobody has to say so again.
    let refused = proxy.call(&child("grandchild", "child")).await;
    let message = check_refused(&refused, "budget_spent");
    assert!(
        message.contains("run root used 60 of 85 tokens"),
        "{message}"
    );
    let other = child("child", "elsewhere");
    check_refused(&proxy.call(&other).await, "budget_spent");
    let rows = settled(&proxy).await;
    assert_eq!(standing(&of(&rows, "root"), Measure::Tokens), (60, 0));
    assert_eq!(standing(&of(&rows, "child"), Measure::Tokens), (30, 0));
}

#[tokio::test]
async fn client_may_tighten_its_run_and_never_loosen_it() {
    let upstream = Upstream::answers(used(9, 21)).await;
    let proxy = Proxy::to(&upstream).await;
    let call = |limit: &str| chat("r1").header("x-aiops-budget-tokens", limit);
    assert_eq!(proxy.call(&call("85")).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    assert_eq!(proxy.call(&call("5000")).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    let refused = proxy.call(&call("5000")).await;
    let message = check_refused(&refused, "budget_spent");
    assert!(message.contains("60 of 85 tokens"), "{message}");
    check_refused(&proxy.call(&chat("r1")).await, "budget_spent");
    let bad = chat("r2").header("x-aiops-budget-usd", "lots");
    let response = proxy.call(&bad).await;
    assert_eq!(response.status(), 200, "a bad header fails no call");
    assert_eq!(response.header("x-aiops-decision"), Some("warn"));
}

#[tokio::test]
async fn model_without_a_price_is_counted_as_configured() {
    for (on_unpriced, status, used) in [
        ("fallback_price", 200, 9 * 5_000 + 5 * 25_000),
        ("count_only", 200, 0),
        ("refuse", 429, 0),
    ] {
        let plain = object!({"id": "c", "model": "nobody-knows", "choices": [],
            "usage": {"prompt_tokens": 9, "completion_tokens": 5}});
        let upstream = Upstream::answers(json(plain.to_string())).await;
        let rule = per_run(&format!("usd = 1\non_unpriced = \"{on_unpriced}\""));
        let proxy = Proxy::with(&upstream).sections(&rule).start().await;
        let ask = post(CHAT, body(&object!({"model": "nobody-knows"}))).header("x-aiops-run", "r");
        let response = proxy.call(&ask).await;
        assert_eq!(response.status(), status, "{on_unpriced}");
        if status == 429 {
            check_refused(&response, "unpriced_model");
            assert_eq!(response.json()["error"]["code"], "unpriced_model");
            continue;
        }
        assert_eq!(response.header("x-aiops-decision"), Some("warn"));
        let account = &settled(&proxy).await[0];
        assert_eq!(standing(account, Measure::Usd), (used, 0), "{on_unpriced}");
    }
}

#[tokio::test]
async fn calls_are_delayed_between_the_mark_and_the_limit() {
    let upstream = Upstream::answers(used(9, 41)).await;
    let rule = per_run("tokens = 200\nslow_at = 0.2\nmax_delay = \"100ms\"");
    let proxy = Proxy::with(&upstream).sections(&rule).start().await;
    let first = proxy.call(&chat("r1")).await;
    assert_eq!(first.header("x-aiops-decision"), None);
    within("the end", proxy.app.settled()).await;
    let second = proxy.call(&chat("r1")).await;
    assert_eq!(second.header("x-aiops-decision"), Some("slow"));
    let reason = second.header("x-aiops-reason").unwrap();
    assert!(reason.contains("made to wait"), "{reason}");
}

#[tokio::test]
async fn rule_that_warns_lets_calls_through_and_says_so() {
    let upstream = Upstream::answers(used(9, 41)).await;
    let rule = per_run("tokens = 60\naction = \"warn\"");
    let proxy = Proxy::with(&upstream).sections(&rule).start().await;
    for _ in 0..3 {
        assert_eq!(proxy.call(&chat("r1")).await.status(), 200);
        within("the end", proxy.app.settled()).await;
    }
    let last = proxy.call(&chat("r1")).await;
    assert_eq!(
        (last.status(), last.header("x-aiops-decision")),
        (200, Some("warn"))
    );
    let admin = proxy.app.admin_address();
    let events = crate::harness::records::ask(admin, "/api/v1/events").await;
    let said = events.text().matches("budget_warning").count();
    assert_eq!(said, 1, "once: {}", events.text());
}

#[tokio::test]
async fn totals_survive_a_restart_and_a_changed_limit_keeps_what_is_spent() {
    let upstream = Upstream::answers(used(9, 51)).await;
    let setup = |limit: &str| Proxy::with(&upstream).sections(&per_run(limit));
    let proxy = setup("tokens = 1000\nusd = 1").start().await;
    for _ in 0..3 {
        proxy.call(&chat("r1")).await;
    }
    let before = settled(&proxy).await;
    let dir = Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    let proxy = setup("tokens = 200\nusd = 1")
        .on_data_of(&dir)
        .start()
        .await;
    let after = settled(&proxy).await;
    for measure in [Measure::Tokens, Measure::Usd] {
        assert_eq!(standing(&after[0], measure), standing(&before[0], measure));
    }
    assert_eq!(standing(&after[0], Measure::Tokens), (180, 0));
    check_refused(&proxy.call(&chat("r1")).await, "budget_spent");
}

#[tokio::test]
async fn waiting_call_goes_on_when_its_limit_is_raised_in_the_config() {
    let head = reply(200).header("content-type", "application/json");
    let (slow, driver) = head.driven();
    let upstream = Upstream::answers_each([slow, used(9, 5)]).await;
    let setup = |limit: &str| Proxy::with(&upstream).sections(&per_run(limit));
    let proxy = setup("tokens = 80").start().await;
    let ask = chat("r1");
    tokio::join!(proxy.call(&ask), async {
        upstream.asked().await;
        let waiting = proxy.call(&ask);
        let raise = async {
            until(|| async { running(proxy.app.budgets()).await[0].waiting == 1 }).await;
            let raised = setup("tokens = 200").on_data_of(&proxy.dir).config();
            proxy.app.reload(Reload::Valid(Box::new(raised)));
        };
        let (second, ()) = tokio::join!(waiting, raise);
        assert_eq!(second.status(), 200, "while the first still runs");
        finish(&driver, 9, 5).await;
    });
    assert_eq!(
        standing(&settled(&proxy).await[0], Measure::Tokens),
        (28, 0)
    );
}

#[tokio::test]
async fn limit_that_came_with_a_refused_call_holds_after_a_restart() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let proxy = Proxy::to(&upstream).await;
    let call = |limit: &str| chat("r1").header("x-aiops-budget-tokens", limit);
    assert_eq!(proxy.call(&call("1000")).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    check_refused(&proxy.call(&call("90")).await, "budget_spent");
    let dir = Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    let proxy = Proxy::with(&upstream).on_data_of(&dir).start().await;
    let message = check_refused(&proxy.call(&chat("r1")).await, "budget_spent");
    assert!(message.contains("69 of 90 tokens"), "{message}");
}

#[tokio::test]
async fn idle_accounts_leave_memory_and_come_back_with_their_totals() {
    let upstream = Upstream::answers(used(9, 5)).await;
    let rules = format!(
        "[accounting]\nmax_accounts = 20\n{}",
        per_run("tokens = 1000")
    );
    let proxy = Proxy::with(&upstream).sections(&rules).start().await;
    for _ in 0..2 {
        for run in 0..200 {
            let status = proxy.call(&chat(&format!("run-{run}"))).await.status();
            assert_eq!(status, 200);
        }
        within("the end", proxy.app.settled()).await;
        let budgets = Arc::clone(proxy.app.budgets());
        let sweep = move || {
            budgets.sweep();
            budgets.in_memory()
        };
        let (accounts, runs) = tokio::task::spawn_blocking(sweep).await.unwrap();
        assert!(
            accounts <= 20 && runs <= 20,
            "{accounts} accounts, {runs} runs"
        );
    }
    let rows = settled(&proxy).await;
    assert_eq!(rows.len(), 200);
    for row in rows {
        assert_eq!(standing(&row, Measure::Tokens), (28, 0), "{}", row.name);
    }
}

#[tokio::test]
async fn paused_run_waits_and_goes_on_when_resumed() {
    let upstream = Upstream::answers(used(9, 5)).await;
    let proxy = Proxy::to(&upstream).await;
    proxy.call(&chat("r1")).await;
    let budgets = proxy.app.budgets();
    budgets
        .control(&label("r1"), Control::Paused, "me")
        .await
        .unwrap();
    let child = chat("child").header("x-aiops-parent-run", "r1");
    let (response, ()) = tokio::join!(proxy.call(&child), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(upstream.requests().len(), 1);
        budgets
            .control(&label("r1"), Control::Running, "me")
            .await
            .unwrap();
    });
    assert_eq!(response.status(), 200);
    budgets
        .control(&label("r1"), Control::Paused, "me")
        .await
        .unwrap();
    let impatient = chat("r1").header("x-stainless-read-timeout", "0.1");
    let refused = proxy.call(&impatient).await;
    let message = check_refused(&refused, "run_paused");
    assert!(message.contains("open-aiops run resume r1"), "{message}");
    assert!(refused.header("retry-after").is_some());
    let unknown = budgets.control(&label("r9"), Control::Paused, "me").await;
    assert!(unknown.is_err(), "no call of it was seen");
}

#[tokio::test]
async fn stopped_run_ends_its_streams_cleanly_and_refuses_new_calls() {
    let head = || reply(200).header("content-type", "text/event-stream");
    let (upstream, driver) = Upstream::streams(head()).await;
    let setup = Proxy::with(&upstream).sections(&per_run("tokens = 10000"));
    let proxy = setup.start().await;
    let mut client = proxy.client().await;
    let ask = post(CHAT, body(&object!({"stream": true}))).header("x-aiops-run", "r1");
    client.send(ask.bytes()).await;
    let mut response = client.begin(false).await;
    let piece = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n";
    driver.chunk(piece).await;
    client.next(&mut response, piece.len()).await;
    let budgets = proxy.app.budgets();
    let ended = budgets
        .control(&label("r1"), Control::Stopped, "me")
        .await
        .unwrap();
    assert_eq!(ended, 1);
    client.finish(&mut response).await;
    let rest = response.text().to_owned();
    let rest = rest.strip_prefix(piece).unwrap_or(&rest);
    let error = rest.strip_prefix("data: ").unwrap();
    let (error, done) = error.split_once("\n\n").unwrap();
    let error: Value = serde_json::from_str(error).unwrap();
    assert_eq!(error["error"]["code"], "circuit_break");
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("was stopped")
    );
    assert_eq!(done, "data: [DONE]\n\n");
    upstream.hung_up().await;
    let record = proxy.record(&response).await;
    assert_eq!(record.outcome(), "cut");
    let refused = proxy.call(&chat("r1")).await;
    check_refused(&refused, "run_stopped");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(standing(&settled(&proxy).await[0], Measure::Tokens).1, 0);
}

#[tokio::test]
async fn stream_that_ignores_its_limit_is_ended_when_nothing_is_left() {
    let piece = |n: u32| {
        format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word{n} \"}}}}]}}\n\n"
        )
    };
    let pieces: Vec<String> = (0..2000).map(piece).collect();
    let upstream = Upstream::answers(sse(pieces)).await;
    let setup = Proxy::with(&upstream).sections(&per_run("tokens = 400"));
    let proxy = setup.start().await;
    let ask = post(CHAT, body(&object!({"stream": true, "max_tokens": 100})));
    let response = proxy.call(&ask.header("x-aiops-run", "r1")).await;
    let text = response.text();
    assert!(
        text.ends_with("data: [DONE]\n\n"),
        "{}",
        &text[text.len() - 200..]
    );
    assert!(text.contains("beyond its output limit"));
    let record = proxy.record(&response).await;
    assert_eq!(record.outcome(), "cut");
    let (used, held) = standing(&settled(&proxy).await[0], Measure::Tokens);
    assert!(used < 600, "{used} tokens of 400");
    assert_eq!(held, 0);
}

#[tokio::test]
async fn answer_that_only_seems_too_long_to_a_foreign_tokenizer_is_not_ended() {
    let head = reply(200).header("content-type", "text/event-stream");
    let (upstream, driver) = Upstream::streams(head).await;
    let chanting = "[loops]\nchant = { trip = 0 }\n";
    let rules = per_run("output_tokens = 200") + chanting;
    let setup = Proxy::with(&upstream).sections(&rules);
    let proxy = setup.start().await;
    let model = object!({"stream": true, "max_tokens": 200, "model": "claude-sonnet-4-5",
        "stream_options": {"include_usage": true}});
    let ask = post(CHAT, body(&model)).header("x-aiops-run", "r1");
    let mut client = proxy.client().await;
    client.send(ask.bytes()).await;
    let mut response = client.begin(false).await;
    let delta = object!({"id": "chatcmpl-0123456789", "object": "chat.completion.chunk",
        "created": 1_700_000_000, "model": "claude-sonnet-4-5", "system_fingerprint": "fp_0123",
        "choices": [{"index": 0, "delta": {"content": " tide"}, "finish_reason": null}]});
    let usage = object!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 200}});
    // 200 tokens, which an estimate for this model makes 240.
    let pieces = format!("data: {delta}\n\n").repeat(200);
    driver.chunk(pieces.clone()).await;
    client.next(&mut response, pieces.len()).await;
    driver.chunk(format!("data: {usage}\n\n")).await;
    driver.chunk("data: [DONE]\n\n").await;
    driver.end().await;
    client.finish(&mut response).await;
    assert!(!response.text().contains("beyond its output limit"));
    assert_eq!(proxy.record(&response).await.outcome(), "completed");
    let row = &settled(&proxy).await[0];
    assert_eq!(standing(row, Measure::OutputTokens), (200, 0));
}
