//! Custom metrics over the router: what many of them at once cost.

use serde_json::json;

use super::*;
use crate::admin::sample::{label, rules};
use crate::core::budget::{Dimension, Limits, Measure, Window};
use crate::core::id::Label;

/// Each run for itself, and all together.
fn limits() -> Vec<Rule> {
    let first = rules().remove(0);
    let rule = |name: &str, per: Vec<Dimension>| Rule {
        name: label(name),
        per,
        matching: Vec::new(),
        limits: Limits {
            micro_metric: Some(1_000_000_000),
            ..Limits::default()
        },
        metric: Some("documents".to_owned()),
        window: Window::Total,
        ..first.clone()
    };
    vec![rule("each", vec![Dimension::Run]), rule("all", Vec::new())]
}

impl Listener {
    /// Says of so many runs how many documents each read; gives how often the ledger had to be caught
    /// up with for that.
    async fn measure(&self, runs: usize, documents: i64) -> u64 {
        let of =
            |run| json!({"name": "documents", "value": documents, "run": format!("run-{run}")});
        let all: Vec<Value> = (0..runs).map(of).collect();
        let before = self.state.ledger.syncs();
        let request = Request::post("/api/v1/metrics")
            .header("host", "localhost:8788")
            .header("content-type", "application/json");
        let body = Body::from(Value::from(all).to_string());
        let answer = self.send(request.body(body).unwrap()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.state.ledger.syncs() - before
    }

    /// What an account has of its metric, in millionths.
    async fn documents(&self, rule: &str, key: &Vec<(Dimension, Option<Label>)>) -> i64 {
        let row = self.state.budgets.account_row(&label(rule), key).await;
        let measures = row.unwrap().1.measures;
        let metric = measures.iter().find(|it| it.measure == Measure::Metric);
        metric.unwrap().used
    }
}

#[tokio::test]
async fn many_measurements_catch_up_with_the_ledger_as_often_as_one_does() {
    let (one, many) = (Listener::with(&limits()), Listener::with(&limits()));
    let first = one.measure(1, 3).await;
    assert_eq!(many.measure(300, 3).await, first);

    // Accounts that no longer are in memory, and what takes the place of what they were charged.
    let again = |listener: Listener, rules: &[Rule]| {
        assert!(listener.sample.ledger.sync_index());
        Listener {
            state: listener.sample.state(rules),
            sample: listener.sample,
        }
    };
    let (one, many) = (again(one, &limits()), again(many, &limits()));
    let second = one.measure(1, 5).await;
    assert_eq!(many.measure(300, 5).await, second);
    assert!(first.max(second) <= 2, "{first}, {second}");
    let run = vec![(Dimension::Run, Some(label("run-299")))];
    assert_eq!(many.documents("each", &run).await, 5_000_000);
    assert_eq!(many.documents("all", &Vec::new()).await, 1_500_000_000);

    // No budget counts it any more, but what it takes the place of was charged.
    let (one, many) = (again(one, &[]), again(many, &[]));
    let third = one.measure(1, 7).await;
    assert_eq!(many.measure(300, 7).await, third);
    let many = again(many, &limits());
    assert_eq!(many.documents("each", &run).await, 0);
    assert_eq!(many.documents("all", &Vec::new()).await, 0);
}
