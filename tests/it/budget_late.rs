//! Usage that becomes known after its call ended: background responses and batches settle when
//! their result is fetched, once.

use std::sync::Arc;

use open_aiops::core::budget::Measure;
use serde_json::{Value, json as object};

use crate::harness::accounts::{chat, check_idle, label, of, settled, standing, swept, used};
use crate::harness::{Answer, Ask, Proxy, Upstream, get, json, post, sse, within};

fn per_run(lines: &str) -> String {
    format!("[[budget]]\nname = \"each run\"\nper = [\"run\"]\n{lines}\n")
}

fn all(lines: &str) -> String {
    format!("[[budget]]\nname = \"all\"\n{lines}\n")
}

fn background(status: &str, usage: &Value) -> Answer {
    let body = object!({"id": "resp_1", "object": "response", "status": status,
        "background": true, "model": "gpt-4o-mini", "output": [], "usage": usage});
    json(body.to_string())
}

fn begin(output: u64) -> Ask {
    let body = object!({"model": "gpt-4o-mini", "background": true, "input": "hi",
        "max_output_tokens": output});
    post("/v1/responses", body.to_string()).header("x-aiops-run", "r1")
}

fn fetch() -> Ask {
    get("/v1/responses/resp_1").header("x-aiops-run", "other")
}

async fn tokens_used(proxy: &Proxy) -> i64 {
    let rows = settled(proxy).await;
    check_idle(&rows);
    standing(&rows[0], Measure::Tokens).0
}

#[tokio::test]
async fn background_response_settles_once_when_its_result_is_fetched() {
    let used = object!({"input_tokens": 1000, "output_tokens": 2000, "total_tokens": 3000});
    let upstream = Upstream::answers_each([
        background("queued", &Value::Null),
        background("in_progress", &Value::Null),
        background("completed", &used),
        background("completed", &used),
    ])
    .await;
    let setup = Proxy::with(&upstream).sections(&per_run("tokens = 100000"));
    let proxy = setup.start().await;
    let begun = proxy.call(&begin(5000)).await;
    let estimate = tokens_used(&proxy).await;
    assert!(
        estimate > 5000,
        "its hold counts until more is known: {estimate}"
    );
    let record = proxy.record(&begun).await;
    assert_eq!(
        record.input_tokens() + record.output_tokens(),
        u64::try_from(estimate).unwrap()
    );
    for _ in 0..3 {
        assert_eq!(proxy.call(&fetch()).await.status(), 200);
        within("the end", proxy.app.settled()).await;
    }
    let rows = settled(&proxy).await;
    assert_eq!(standing(&of(&rows, "r1"), Measure::Tokens), (3000, 0));
    assert_eq!(standing(&of(&rows, "other"), Measure::Tokens), (0, 0));
    let record = proxy.record(&begun).await;
    assert_eq!(
        (record.input_tokens(), record.output_tokens()),
        (1000, 2000)
    );
    assert_eq!(record.provenance(), "reported");
}

#[tokio::test]
async fn batch_is_charged_once_when_it_is_done() {
    let batch = |status: &str, usage: Value| {
        let body = object!({"id": "batch_1", "object": "batch", "status": status,
            "model": "gpt-4o-mini-2024-07-18", "endpoint": "/v1/chat/completions", "usage": usage});
        json(body.to_string())
    };
    let used = object!({"input_tokens": 1_000_000, "output_tokens": 1_000_000,
        "total_tokens": 2_000_000});
    let upstream = Upstream::answers_each([
        batch("validating", Value::Null),
        batch("in_progress", Value::Null),
        batch("completed", used.clone()),
        batch("completed", used),
    ])
    .await;
    let rules = per_run("usd = 5\ntokens = 3_000_000");
    let proxy = Proxy::with(&upstream).sections(&rules).start().await;
    let ask = object!({"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let ask = post("/v1/batches", ask.to_string()).header("x-aiops-run", "r1");
    let begun = proxy.call(&ask).await;
    assert_eq!(begun.status(), 200);
    assert_eq!(standing(&settled(&proxy).await[0], Measure::Tokens), (0, 0));
    for _ in 0..3 {
        let fetch = get("/v1/batches/batch_1").header("x-aiops-run", "r1");
        assert_eq!(proxy.call(&fetch).await.status(), 200);
        within("the end", proxy.app.settled()).await;
    }
    let row = &settled(&proxy).await[0];
    assert_eq!(standing(row, Measure::Tokens), (2_000_000, 0));
    // 0.075 in and 0.30 out per million in a batch.
    assert_eq!(standing(row, Measure::Usd), (375_000_000, 0));
    let record = proxy.record(&begun).await;
    assert_eq!(record.number("/cost_nano_usd"), 375_000_000);
}

#[tokio::test]
async fn late_charge_reaches_an_account_that_comes_back_before_the_index_knows_of_it() {
    let usage = object!({"input_tokens": 1000, "output_tokens": 2000});
    let mut answers = vec![background("queued", &Value::Null)];
    answers.extend((0..30).map(|_| used(9, 5)));
    answers.push(background("completed", &usage));
    answers.push(used(9, 5));
    let upstream = Upstream::answers_each(answers).await;
    let rules = per_run("tokens = 100000");
    let setup =
        Proxy::with(&upstream).sections(&format!("[accounting]\nmax_accounts = 10\n{rules}"));
    let proxy = setup.start().await;
    assert_eq!(proxy.call(&begin(5000)).await.status(), 200);
    for run in 0..30 {
        proxy.call(&chat(&format!("run-{run}"), 50)).await;
    }
    within("the end", proxy.app.settled()).await;
    assert!(swept(&proxy).await <= 10);
    assert_eq!(proxy.call(&fetch()).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    assert_eq!(proxy.call(&chat("r1", 50)).await.status(), 200);
    let rows = settled(&proxy).await;
    let of_run = rows.iter().find(|row| row.name.to_string() == "run r1");
    assert_eq!(standing(of_run.unwrap(), Measure::Tokens), (3014, 0));
}

#[tokio::test]
async fn stream_that_was_paid_for_before_is_not_ended_for_want_of_budget() {
    let delta = |n: u32| {
        format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"delta\":\"word{n} \"}}\n\n"
        )
    };
    let done = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":\
                {\"id\":\"resp_1\",\"usage\":{\"input_tokens\":8,\"output_tokens\":4000}}}\n\n";
    let events: Vec<String> = (0..1500).map(delta).chain([done.to_owned()]).collect();
    let upstream = Upstream::answers_each([background("queued", &Value::Null), sse(events)]).await;
    let setup = Proxy::with(&upstream).sections(&per_run("tokens = 5500"));
    let proxy = setup.start().await;
    assert_eq!(proxy.call(&begin(5000)).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    let fetch = get("/v1/responses/resp_1?stream=true").header("x-aiops-run", "r1");
    let fetched = proxy.call(&fetch).await;
    assert!(fetched.text().ends_with(done), "it was ended");
    assert_eq!(proxy.record(&fetched).await.outcome(), "completed");
}

#[tokio::test]
async fn result_fetched_after_a_reset_gives_nothing_back() {
    let usage = object!({"input_tokens": 2, "output_tokens": 3});
    let answers = [
        background("queued", &Value::Null),
        background("completed", &usage),
    ];
    let upstream = Upstream::answers_each(answers).await;
    let proxy = Proxy::with(&upstream)
        .sections(&all("tokens = 100"))
        .start()
        .await;
    assert_eq!(proxy.call(&begin(50)).await.status(), 200);
    assert!(tokens_used(&proxy).await > 50);
    proxy
        .app
        .budgets()
        .reset(&label("all"), &Vec::new(), "me")
        .await
        .unwrap();
    assert_eq!(proxy.call(&fetch()).await.status(), 200);
    assert_eq!(tokens_used(&proxy).await, 0);
    let dir = Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    let again = Proxy::with(&upstream)
        .on_data_of(&dir)
        .sections(&all("tokens = 100"));
    assert_eq!(tokens_used(&again.start().await).await, 0);
}

#[tokio::test]
async fn work_that_came_to_nothing_does_not_stay_charged_at_its_worst() {
    for word in ["failed", "cancelled"] {
        let answers = [
            background("queued", &Value::Null),
            background(word, &Value::Null),
        ];
        let upstream = Upstream::answers_each(answers).await;
        let proxy = Proxy::with(&upstream)
            .sections(&all("tokens = 100"))
            .start()
            .await;
        let begun = proxy.call(&begin(50)).await;
        assert!(tokens_used(&proxy).await > 50);
        for _ in 0..2 {
            assert_eq!(proxy.call(&fetch()).await.status(), 200);
            let left = tokens_used(&proxy).await;
            assert!((1..20).contains(&left), "{word}: {left}");
        }
        let record = proxy.record(&begun).await;
        assert_eq!(record.text("/provenance"), "estimated");
        assert_eq!(record.number("/usage/output_tokens"), 0);
    }
}
