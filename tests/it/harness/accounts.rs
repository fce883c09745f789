//! How budgets stand, and calls that are made of so many tokens.

use std::sync::Arc;

use open_aiops::budgets::{AccountFilter, AccountRow, Budgets};
use open_aiops::core::budget::Measure;
use open_aiops::core::id::Label;
use serde_json::json as object;

use super::answer::{Answer, Driver, Reply, json, reply};
use super::ask::{Ask, post};
use super::proxy::Proxy;
use super::within;

pub(crate) fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn completion(input: u64, output: u64) -> String {
    object!({
        "id": "chatcmpl-1",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"},
            "finish_reason": "stop"}],
        "usage": {"prompt_tokens": input, "completion_tokens": output},
    })
    .to_string()
}

/// A chat completion that used so much.
pub(crate) fn used(input: u64, output: u64) -> Answer {
    json(completion(input, output))
}

fn slowly() -> Reply {
    reply(200).header("content-type", "application/json")
}

/// An answer that ends when the test says so.
pub(crate) fn pending() -> (Answer, Driver) {
    slowly().driven()
}

/// Lets such an answer end, having used so much.
pub(crate) async fn finish(driver: &Driver, input: u64, output: u64) {
    driver.chunk(completion(input, output)).await;
    driver.end().await;
}

/// A call of 9 tokens that asks for so many more.
pub(crate) fn chat(run: &str, output: u64) -> Ask {
    let body = object!({
        "model": "gpt-4o-mini",
        "max_tokens": output,
        "messages": [{"role": "user", "content": "hi"}],
    });
    post("/v1/chat/completions", body.to_string()).header("x-aiops-run", run)
}

/// All accounts there are, in memory or not. Whatever runs may still change them.
pub(crate) async fn running(budgets: &Arc<Budgets>) -> Vec<AccountRow> {
    let budgets = Arc::clone(budgets);
    let list = move || budgets.list(&AccountFilter::default()).unwrap();
    let rules = tokio::task::spawn_blocking(list).await.unwrap();
    rules.into_iter().flat_map(|rule| rule.accounts).collect()
}

/// The same once every call ended.
pub(crate) async fn settled(proxy: &Proxy) -> Vec<AccountRow> {
    within("the end of all calls", proxy.app.settled()).await;
    running(proxy.app.budgets()).await
}

/// What is used and held of one measure.
#[track_caller]
pub(crate) fn standing(row: &AccountRow, measure: Measure) -> (i64, i64) {
    let mut measures = row.measures.iter();
    let found = measures.find(|row| row.measure == measure).unwrap();
    (found.used, found.held)
}

/// Nothing runs, waits or is held.
#[track_caller]
pub(crate) fn check_idle(rows: &[AccountRow]) {
    for row in rows {
        let at = format!("{}: {}", row.name.rule, row.name);
        assert_eq!((row.running, row.waiting), (0, 0), "{at}");
        for measure in &row.measures {
            assert_eq!(measure.held, 0, "{at}: {measure:?}");
        }
    }
}

/// Waits until so many calls wait for the only account.
pub(crate) async fn waiting(proxy: &Proxy, calls: usize) {
    within("calls that wait", async {
        loop {
            let rows = running(proxy.app.budgets()).await;
            if rows.iter().map(|row| row.waiting).sum::<usize>() == calls {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The account with this in its key.
#[track_caller]
pub(crate) fn of(rows: &[AccountRow], value: &str) -> AccountRow {
    let has = |row: &&AccountRow| {
        let mut key = row.name.key.iter();
        key.any(|(_, of)| of.as_ref().map_or("", Label::as_str) == value)
    };
    rows.iter().find(has).expect("an account").clone()
}

/// Lets go of what is idle; how many accounts stay in memory.
pub(crate) async fn swept(proxy: &Proxy) -> usize {
    let budgets = Arc::clone(proxy.app.budgets());
    let sweep = move || {
        budgets.sweep();
        budgets.in_memory().0
    };
    within("a sweep", tokio::task::spawn_blocking(sweep))
        .await
        .unwrap()
}
