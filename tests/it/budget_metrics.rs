//! Budgets that limit the sum of a custom metric: what comes with calls, what is posted later, and
//! what takes the place of another.

use std::fs;
use std::sync::Arc;

use open_aiops::core::budget::Measure;
use serde_json::{Value, json as object};

use crate::harness::accounts::{chat, check_idle, of, settled, standing, used};
use crate::harness::process;
use crate::harness::proxy::Setup;
use crate::harness::records::ask;
use crate::harness::{Client, Proxy, Response, Upstream, post, within};

const BUDGETS: &str = "[[budget]]\nname = \"read\"\nper = [\"run\"]\nmetric = { documents = 10 }\n";

fn setup(upstream: &Upstream, sections: &str) -> Setup {
    Proxy::with(upstream).sections(sections)
}

async fn started(sections: &str) -> (Proxy, Upstream) {
    let upstream = Upstream::answers(used(9, 5)).await;
    let setup = setup(&upstream, sections);
    fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    (setup.start().await, upstream)
}

async fn call(proxy: &Proxy, run: &str, documents: Option<&str>) -> Response {
    let mut call = chat(run, 20).header("x-aiops-agent", "planner");
    if let Some(documents) = documents {
        call = call.header("x-aiops-metric-documents", documents);
    }
    let answer = proxy.call(&call).await;
    within("the end", proxy.app.settled()).await;
    answer
}

async fn send(proxy: &Proxy, path: &str, body: &Value) -> Response {
    let mut client = Client::connect(proxy.app.admin_address()).await;
    let bytes = String::from_utf8(post(path, body.to_string()).bytes()).unwrap();
    client.send(bytes.replace("proxy.test", "localhost")).await;
    client.response(false).await
}

async fn measure(proxy: &Proxy, body: &Value) {
    let answer = send(proxy, "/api/v1/metrics", body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

async fn documents(proxy: &Proxy, key: &str) -> i64 {
    let rows = settled(proxy).await;
    check_idle(&rows);
    standing(&of(&rows, key), Measure::Metric).0
}

#[tokio::test]
async fn what_calls_say_of_themselves_is_counted_and_refuses_what_goes_beyond() {
    let (proxy, _upstream) = started(BUDGETS).await;
    assert_eq!(call(&proxy, "r1", Some("7")).await.status(), 200);
    assert_eq!(documents(&proxy, "r1").await, 7_000_000);
    let refused = call(&proxy, "r1", Some("3.5")).await;
    assert_eq!(refused.status(), 429);
    let said = refused.text();
    let reason = "has too little left for this call: run r1 used 7 of 10 documents, this call \
                  needs about 3.5 documents";
    assert!(said.contains(reason), "{said}");
    assert!(said.contains("--metric 100"), "{said}");
    assert_eq!(
        call(&proxy, "r1", Some("3")).await.status(),
        200,
        "it fits exactly"
    );
    let refused = call(&proxy, "r1", None).await;
    assert_eq!(refused.status(), 429, "all is used");
    let said = refused.text();
    assert!(
        said.contains("is spent: run r1 used 10 of 10 documents"),
        "{said}"
    );
    // Other runs have accounts of their own, and words are no numbers.
    assert_eq!(call(&proxy, "r2", Some("many")).await.status(), 200);
    assert_eq!(documents(&proxy, "r2").await, 0);
    assert_eq!(
        documents(&proxy, "r1").await,
        10_000_000,
        "what was refused does not count"
    );
}

#[tokio::test]
async fn what_is_posted_counts_once_by_its_last_value_and_over_a_restart() {
    let upstream = Upstream::answers(used(9, 5)).await;
    let sections = format!(
        "{BUDGETS}[[budget]]\nname = \"all\"\nmetric = {{ documents = 1000 }}\n\
         [[budget]]\nname = \"of users\"\nper = [\"user\"]\nmetric = {{ documents = 1000 }}\n"
    );
    let proxy = setup(&upstream, &sections).start().await;
    let id = call(&proxy, "r1", Some("1")).await.call();
    let of_call =
        |value: i64| object!({"name": "documents", "value": value, "call": id, "who": "judge"});
    measure(&proxy, &object!([of_call(5), of_call(6)])).await;
    measure(&proxy, &of_call(6)).await;
    assert_eq!(
        documents(&proxy, "r1").await,
        7_000_000,
        "6 took the place of 5, beside 1"
    );
    measure(
        &proxy,
        &object!({"name": "documents", "value": true, "run": "r1"}),
    )
    .await;
    measure(
        &proxy,
        &object!({"name": "documents", "value": 4, "agent": "planner"}),
    )
    .await;
    let rows = settled(&proxy).await;
    let used = |rule: &str| {
        let of_rule = rows.iter().filter(|row| row.name.rule.as_str() == rule);
        of_rule
            .map(|row| standing(row, Measure::Metric).0)
            .collect::<Vec<_>>()
    };
    assert_eq!(used("read"), [8_000_000], "an agent is of no run");
    assert_eq!(used("all"), [12_000_000]);
    assert_eq!(
        used("of users"),
        [7_000_000],
        "of a call it is known whose it is"
    );
    let dir = Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    let proxy = setup(&upstream, &sections).on_data_of(&dir).start().await;
    assert_eq!(documents(&proxy, "r1").await, 8_000_000);
    measure(&proxy, &of_call(2)).await;
    assert_eq!(
        documents(&proxy, "r1").await,
        4_000_000,
        "the difference to before the restart"
    );
    measure(&proxy, &of_call(9)).await;
    let refused = call(&proxy, "r1", None).await;
    assert_eq!(refused.status(), 429, "{}", refused.text());
    assert!(
        refused.text().contains("used 11 of 10 documents"),
        "{}",
        refused.text()
    );
}

#[tokio::test]
async fn what_is_measured_of_a_run_counts_for_those_that_began_it() {
    let (proxy, _upstream) = started(BUDGETS).await;
    let child = chat("child", 20).header("x-aiops-parent-run", "root");
    assert_eq!(proxy.call(&child).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    measure(
        &proxy,
        &object!({"name": "documents", "value": 10, "run": "child"}),
    )
    .await;
    assert_eq!(documents(&proxy, "root").await, 10_000_000);
    assert_eq!(call(&proxy, "root", None).await.status(), 429);
}

#[tokio::test]
async fn budgets_of_a_metric_are_shown_raised_and_reset_like_others() {
    let (proxy, _upstream) = started(BUDGETS).await;
    call(&proxy, "r1", Some("9.5")).await;
    let answer = ask(proxy.app.admin_address(), "/api/v1/budgets")
        .await
        .json();
    let budget = &answer["budgets"][0];
    assert_eq!(budget["metric"], "documents");
    let account = &budget["accounts"][0];
    assert_eq!(account["state"], "warning");
    let expected = object!({"measure": "metric", "used_micro_metric": 9_500_000,
        "held_micro_metric": 0, "limit_micro_metric": 10_000_000, "raised_micro_metric": 0});
    assert_eq!(account["measures"][0], expected);
    let list = process::run(proxy.dir.path(), &["budgets"]).await;
    assert!(list.out.contains("9.5 / 0 / 10 documents"), "{}", list.out);
    let page = ask(proxy.app.admin_address(), "/budgets").await;
    let page = page.text();
    assert!(page.contains("9.5 documents"), "{page}");
    let raise = [
        "budgets", "raise", "read", "--key", "run=r1", "--metric", "2.5",
    ];
    let raised = process::run(proxy.dir.path(), &raise).await;
    assert!(
        raised
            .out
            .contains("raised by 2.5 documents, now 9.5 used of 12.5 documents"),
        "{} {}",
        raised.out,
        raised.err
    );
    assert_eq!(call(&proxy, "r1", Some("3")).await.status(), 200);
    let reset = object!({"rule": "read", "key": {"run": "r1"}});
    assert_eq!(
        send(&proxy, "/api/v1/budgets/reset", &reset).await.status(),
        200
    );
    assert_eq!(documents(&proxy, "r1").await, 0);
    let wrong = object!({"rule": "read", "key": {"run": "r1"}, "metric": "0"});
    let wrong = send(&proxy, "/api/v1/budgets/raise", &wrong).await;
    assert_eq!(wrong.status(), 400);
    assert!(
        wrong.text().contains("a number above 0"),
        "{}",
        wrong.text()
    );
}
