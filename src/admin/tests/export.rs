//! Tables page by page, over the router.

use std::collections::HashSet;

use serde_json::{Map, json};

use super::*;
use crate::admin::sample::{Sample, admission, label, settlement};
use crate::core::alert::{About, Scope, Signal};
use crate::core::budget::{AccountName, Act, Amounts, Charge, Deed, Dimension, Limits};
use crate::core::call::{Admission, LateUsage, Outcome, Settlement};
use crate::core::metric::{Measurement, Subject, Value as Metric};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::usage::Usage;
use crate::ledger::Event;

impl Listener {
    /// All rows of a table as objects, and how many pages they took.
    async fn exported(&self, query: &str) -> (Vec<Map<String, Value>>, usize) {
        let (mut rows, mut pages, mut before) = (Vec::new(), 0, String::new());
        loop {
            let page = self.json(&format!("/api/v1/export/{query}{before}")).await;
            let columns: Vec<_> = page["columns"].as_array().unwrap().clone();
            for row in page["rows"].as_array().unwrap() {
                let values = columns.iter().zip(row.as_array().unwrap());
                let pair = |(name, value): (&Value, &Value)| {
                    (name.as_str().unwrap().to_owned(), value.clone())
                };
                rows.push(values.map(pair).collect());
            }
            pages += 1;
            let Some(next) = page["next"].as_str() else {
                return (rows, pages);
            };
            let joint = if query.contains('?') { '&' } else { '?' };
            before = format!("{joint}before={next}");
        }
    }

    async fn rows(&self, query: &str) -> Vec<Map<String, Value>> {
        self.exported(query).await.0
    }

    fn tell(&self, what: &'static str, signal: Signal) {
        let event = Event::own(self.sample.clock.now(), what, None).saying(signal);
        assert!(self.sample.ledger.event(event).is_ok());
    }

    fn act(&self, deed: Deed) {
        self.sample.clock.advance_micros(1);
        let done = self.sample.ledger.act(Act {
            at: self.sample.clock.now(),
            who: "ann".to_owned(),
            deed,
            details: "as asked".to_owned(),
        });
        assert!(done.is_ok());
    }

    /// A call whose work goes on, charged to `account`.
    fn background(&self, charge: Charge) -> Admission {
        let (id, at) = (self.sample.clock.call_id(), self.sample.clock.now());
        let made = admission(id, at, PLANNER);
        let entry = self.sample.ledger.admit(made.clone(), None).unwrap();
        entry.settle(
            Settlement {
                is_pending: true,
                charges: vec![charge],
                settled_at: Some(at),
                ..settlement(made.clone(), PLANNER, Outcome::Completed)
            },
            None,
        );
        made
    }
}

fn column<'a>(rows: &'a [Map<String, Value>], name: &str) -> Vec<&'a Value> {
    rows.iter().map(|row| &row[name]).collect()
}

fn account(sample: &Sample, run: &str) -> AccountName {
    let name = AccountName {
        rule: label("each run"),
        key: vec![(Dimension::Run, Some(label(run)))],
    };
    assert!(
        sample
            .ledger
            .open_account(name.id(sample.ledger.seed()), &name)
    );
    name
}

fn charge(sample: &Sample, name: &AccountName, nano_usd: i64) -> Charge {
    Charge {
        account: name.id(sample.ledger.seed()),
        bucket: Timestamp::default(),
        amounts: Amounts {
            nano_usd,
            ..Amounts::default()
        },
    }
}

#[tokio::test]
async fn decisions_of_a_run_are_all_that_was_done_to_it() {
    let listener = Listener::new();
    let night = account(&listener.sample, "night/1");
    let other = account(&listener.sample, "night/2");
    for name in [&night, &other] {
        listener.tell(
            "budget_spent",
            Signal {
                account: Some(name.id(listener.sample.ledger.seed())),
                ..Signal::of(Scope::new(About::Budget, "each run").with_key(name))
            },
        );
    }
    for run in ["night/1", "night/2"] {
        let of_run = Signal::of(Scope::new(About::Run, run).with_key("planner"));
        listener.tell("loop_warning", of_run);
        let off = Scope::new(About::Metric, "bad").with_key(&format!("run {run}"));
        listener.tell("metric_off", Signal::of(off));
        for deed in [Deed::RunPaused, Deed::RunResumed, Deed::RunStopped] {
            listener.act(deed(label(run)));
        }
        listener.act(Deed::RunTightened(label(run), Limits::default()));
    }
    listener.act(Deed::BudgetReset(night.id(listener.sample.ledger.seed())));
    let rows = listener.rows("decisions?run=night%2F1").await;
    let mut done = column(&rows, "what");
    done.sort_by_key(|what| what.as_str());
    assert_eq!(
        done,
        [
            "budget_reset",
            "budget_spent",
            "loop_warning",
            "metric_off",
            "run_paused",
            "run_resumed",
            "run_stopped",
            "run_tightened"
        ]
    );
    assert!(rows.iter().all(|row| row["run_id"] == "night/1"));
    let reset = rows.iter().find(|row| row["what"] == "budget_reset");
    let reset = reset.unwrap();
    assert_eq!(reset["about_name"], "each run");
    assert_eq!(reset["about_key"], "run night/1");
    let spent = rows.iter().find(|row| row["what"] == "budget_spent");
    assert_eq!(spent.unwrap()["account_id"], reset["account_id"]);
    let of_agent = listener.rows("decisions?agent=planner").await;
    assert_eq!(column(&of_agent, "what"), ["loop_warning", "loop_warning"]);
}

#[tokio::test]
async fn charges_come_to_what_their_account_says() {
    let listener = Listener::new();
    let sample = &listener.sample;
    let name = account(sample, "night/1");
    for corrected in [-300, 2_000] {
        let made = listener.background(charge(sample, &name, 1_000));
        sample.ledger.sync_index();
        assert!(
            sample
                .ledger
                .late(LateUsage {
                    id: made.id,
                    at: sample.clock.now(),
                    usage: Usage::default(),
                    cost: Some(NanoUsd::new(1_000 + corrected)),
                    cost_source: None,
                    charges: vec![charge(sample, &name, corrected)],
                    charged_at: made.started_at,
                    is_estimated: false,
                    instance: None,
                    is_found: false,
                })
                .is_ok()
        );
        sample.clock.advance_micros(1_000_000);
    }
    listener.act(Deed::ChargesRecorded(vec![charge(sample, &name, 77)]));
    let rows = listener.rows("charges").await;
    let sum: i64 = column(&rows, "nano_usd")
        .iter()
        .filter_map(|it| it.as_i64())
        .sum();
    let accounts = listener.rows("budgets?run=night%2F1").await;
    assert_eq!(accounts[0]["used_nano_usd"], sum);
    assert_eq!(sum, 2_000 - 300 + 2_000 + 77);
    let states: HashSet<_> = column(&rows, "state").into_iter().collect();
    let expected = ["charged", "corrected", "unrecorded"].map(Value::from);
    assert_eq!(states, expected.iter().collect());
    let calls = listener.rows("calls").await;
    let of_calls = rows.iter().filter(|row| row["call_id"] != Value::Null);
    let of_calls: i64 = of_calls.filter_map(|row| row["nano_usd"].as_i64()).sum();
    let costs: i64 = column(&calls, "cost_nano_usd")
        .iter()
        .filter_map(|it| it.as_i64())
        .sum();
    assert_eq!(of_calls, costs);
    let of_run = listener.rows("charges?run=night%2F1").await;
    assert_eq!(of_run.len(), 4);
}

#[tokio::test]
async fn what_is_not_known_of_an_open_call_is_null() {
    let listener = Listener::new();
    let open = Call {
        outcome: None,
        ..PLANNER
    };
    listener.sample.record(open);
    let rows = listener.rows("calls").await;
    for name in [
        "input_tokens",
        "output_tokens",
        "reasoning_output_tokens",
        "usage",
        "response_bytes",
        "is_pending",
        "finish_reasons",
        "duration_us",
    ] {
        assert_eq!(rows[0][name], Value::Null, "{name}");
    }
    assert_eq!(rows[0]["outcome"], "open");
    assert_eq!(rows[0]["request_bytes"], REQUEST.len());
    assert_eq!(rows[0]["depth"], 1);
}

#[tokio::test]
async fn more_rows_than_a_page_has_are_all_told_once() {
    let listener = Listener::new();
    for _ in 0..2_005 {
        listener.sample.record_saying(PLANNER, b"", b"");
    }
    for (query, column_of) in [
        ("calls", "call_id"),
        ("metrics", "call_id"),
        ("metrics?run=night%2F1&agent=planner", "call_id"),
        ("metrics?agent=planner", "call_id"),
    ] {
        let (rows, pages) = listener.exported(query).await;
        let ids: HashSet<_> = column(&rows, column_of).into_iter().collect();
        assert_eq!((rows.len(), ids.len(), pages), (2_005, 2_005, 3), "{query}");
        let none = "metrics?run=night%2F1&agent=researcher";
        assert!(listener.rows(none).await.is_empty());
    }
}

#[tokio::test]
async fn a_page_ends_where_bodies_are_long_and_the_next_goes_on() {
    let listener = Listener::new();
    let long = "long ".repeat(2 << 20);
    for _ in 0..4 {
        listener
            .sample
            .record_saying(PLANNER, REQUEST, long.as_bytes());
        listener.sample.ledger.sync_index();
    }
    for table in ["content", "charges", "bodies"] {
        let (rows, pages) = listener.exported(table).await;
        let ids: HashSet<_> = rows.iter().map(|row| row["call_id"].clone()).collect();
        match table {
            "charges" => assert!(rows.is_empty()),
            _ => assert_eq!((ids.len(), pages >= 2), (4, true), "{table}: {pages} pages"),
        }
    }
    let bodies = listener.rows("bodies").await;
    let answers: Vec<_> = bodies
        .iter()
        .filter(|row| row["side"] == "response")
        .collect();
    assert_eq!(answers.len(), 4);
    assert!(
        answers
            .iter()
            .all(|row| row["text"] == long && row["stored"] == "exact")
    );
}

#[tokio::test]
async fn every_measurement_is_told_with_what_it_is_of() {
    let listener = Listener::new();
    let call = listener.sample.record(PLANNER);
    let said = [
        (
            "solved",
            Metric::Boolean(true),
            Subject::Run(label("night/1")),
        ),
        (
            "mood",
            Metric::Category(label("good")),
            Subject::Agent(label("planner")),
        ),
        ("score", Metric::Number(0.1 + 0.2), Subject::Call(call)),
    ];
    listener.sample.clock.advance_micros(1);
    for (name, value, subject) in said {
        let measured = Measurement {
            at: listener.sample.clock.now(),
            name: name.to_owned(),
            value,
            subject,
            who: label("judge"),
            note: Some("why".to_owned()),
            key: None,
            run: Some(label("night/1")),
            agent: Some(label("planner")),
            charged: None,
            instance: None,
        };
        assert!(listener.sample.ledger.measured(measured).is_ok());
    }
    let rows = listener.rows("metrics").await;
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            json!([
                row["name"],
                row["subject"],
                row["kind"],
                row["value"],
                row["category"],
                row["who"]
            ])
        })
        .collect();
    assert_eq!(
        Value::from(told),
        json!([
            ["mood", "agent", "category", null, "good", "judge"],
            ["score", "call", "number", 0.1 + 0.2, null, "judge"],
            ["score", "call", "number", 0.5, null, "header"],
            ["solved", "run", "boolean", 1.0, null, "judge"],
        ])
    );
    assert_eq!(rows[1]["call_id"], call.to_string());
    assert_eq!(rows[3]["run_id"], "night/1");
    let of_run = listener.rows("metrics?run=night%2F1").await;
    assert_eq!(column(&of_run, "name"), ["score", "score", "solved"]);
}

#[tokio::test]
async fn what_begins_later_than_the_first_page_is_in_none() {
    let listener = Listener::new();
    listener.sample.record(PLANNER);
    let page = listener.json("/api/v1/export/calls").await;
    let until = page["until"].as_str().expect("an end").to_owned();
    listener.sample.record(PLANNER);
    for table in ["calls", "metrics", "content"] {
        let rows = listener.rows(&format!("{table}?until={until}")).await;
        let ids: HashSet<_> = rows.iter().map(|row| row["call_id"].clone()).collect();
        assert_eq!(ids.len(), 1, "{table}");
    }
    let accounts = listener.json("/api/v1/export/budgets").await;
    assert_eq!(accounts["until"], Value::Null);
}

#[tokio::test]
async fn an_account_used_after_the_end_of_the_span_is_told_as_it_stands() {
    let listener = Listener::new();
    account(&listener.sample, "night/1");
    let accounts = listener.rows("budgets?until=2026-01-01").await;
    assert_eq!(accounts.len(), 1);
    let accounts = listener.rows("budgets?since=2027-01-01").await;
    assert!(accounts.is_empty());
}

#[tokio::test]
async fn what_is_missing_of_a_call_is_a_row() {
    let listener = Listener::new();
    let open = Call {
        outcome: None,
        ..PLANNER
    };
    let said = br#"{"model":"gpt-5","messages":[{"role":"user","content":"hi"}]}"#;
    listener.sample.record_saying(open, said, b"");
    let rows = listener.rows("content").await;
    let told: Vec<_> = rows
        .iter()
        .map(|row| json!([row["side"], row["kind"], row["text"], row["missing"]]))
        .collect();
    assert_eq!(
        Value::from(told),
        json!([
            ["request", "text", "hi", null],
            ["response", "missing", null, "open"]
        ])
    );
    let cursors = ["calls", "metrics", "charges", "budgets", "decisions"];
    for table in cursors {
        let path = format!("/api/v1/export/{table}?before=nowhere");
        let problem = listener.problem(&path, 400).await;
        assert!(problem.contains("expected"), "{table}: {problem}");
    }
}
