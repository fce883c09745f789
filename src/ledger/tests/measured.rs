//! Custom metrics: what counts for what, what takes whose place, and what outlives what.

use crate::core::budget::{AccountId, Amounts, Charge, Charged, Window};
use crate::core::call::Admission;
use crate::core::digest::Digest;
use crate::core::metric::{Measurement, Subject, Value};
use crate::core::time::Timestamp;

use super::super::fake::IndexDisk;
use super::super::{Ledger, MetricCursor, MetricFilter, MetricScope, MetricSums, RunFilter};
use super::harness::*;

fn measurement(name: &str, value: &str, subject: Subject, at: i64) -> Measurement {
    Measurement {
        at: Timestamp::from_micros(START.micros() + at),
        name: name.to_owned(),
        value: value.parse().unwrap(),
        subject,
        who: label("judge"),
        note: None,
        key: None,
        run: None,
        agent: None,
        charged: None,
        instance: None,
    }
}

/// Of a call, as whoever records it knows it.
fn of_call(call: &Admission, name: &str, value: &str, at: i64) -> Measurement {
    Measurement {
        run: call.attribution.run.clone(),
        agent: Some(call.attribution.agent.clone()),
        ..measurement(name, value, Subject::Call(call.id), at)
    }
}

fn record(ledger: &Ledger, it: Measurement) {
    ledger.measured(it).unwrap().block();
}

/// What one metric comes to for something: how many, and the mean.
fn sum(ledger: &Ledger, scope: MetricScope, name: &str) -> Option<(u64, Option<f64>)> {
    let sums = ledger.view().metrics(&MetricFilter::of(scope)).unwrap();
    let sum = sums.by_name.get(name)?;
    Some((sum.count, sum.mean()))
}

fn settled(machine: &Machine, ledger: &Ledger, run: &str, agent: &str) -> Admission {
    let call = machine.call(run, agent);
    let entry = ledger.admit(call.clone(), None).unwrap();
    entry.settle(settlement(&call), None);
    call
}

#[test]
fn what_is_said_of_a_call_counts_for_its_run_and_its_agent() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let call = settled(&machine, &ledger, "nightly", "planner");
    record(&ledger, of_call(&call, "docs", "4", 1));
    record(
        &ledger,
        measurement("docs", "8", Subject::Run(label("nightly")), 2),
    );
    record(
        &ledger,
        measurement("docs", "1", Subject::Agent(label("planner")), 3),
    );
    let of = |scope| sum(&ledger, scope, "docs");
    assert_eq!(of(MetricScope::Call(call.id)), Some((1, Some(4.0))));
    assert_eq!(of(MetricScope::Run(label("nightly"))), Some((2, Some(6.0))));
    assert_eq!(
        of(MetricScope::Agent(label("planner"))),
        Some((2, Some(2.5)))
    );
    assert_eq!(of(MetricScope::All).unwrap().0, 3);
    assert_eq!(of(MetricScope::Run(label("other"))), None);
    // What came with the call by header counts as well.
    let score = sum(&ledger, MetricScope::Run(label("nightly")), "score");
    assert_eq!(score, Some((1, Some(0.5))));
    let run = ledger.view().run_metrics(&label("nightly")).unwrap();
    let agents: Vec<_> = run.by_agent.keys().cloned().collect();
    assert_eq!(agents, [None, Some(label("planner"))]);
    let calls = ledger.view().metrics_of_calls(&[call.id]).unwrap();
    assert_eq!(calls[0]["docs"], Value::Number(4.0));
}

#[test]
fn the_same_name_by_the_same_person_takes_the_place_of_the_one_before() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let run = || Subject::Run(label("nightly"));
    let scope = || MetricScope::Run(label("nightly"));
    record(&ledger, measurement("solved", "true", run(), 1));
    record(&ledger, measurement("solved", "false", run(), 0));
    assert_eq!(sum(&ledger, scope(), "solved"), Some((1, Some(0.0))));
    let another = Measurement {
        who: label("ada"),
        ..measurement("solved", "true", run(), 2)
    };
    record(&ledger, another);
    let keyed = Measurement {
        key: Some(label("step 2")),
        ..measurement("solved", "true", run(), 2)
    };
    record(&ledger, keyed);
    assert_eq!(sum(&ledger, scope(), "solved").unwrap().0, 3);
    // An agent lasts: it has one at each moment.
    let agent = || Subject::Agent(label("planner"));
    for at in [1, 2, 2] {
        record(&ledger, measurement("solved", "true", agent(), at));
    }
    let of_agent = sum(&ledger, MetricScope::Agent(label("planner")), "solved");
    assert_eq!(of_agent.unwrap().0, 2);
}

#[test]
fn a_run_with_many_values_takes_nothing_from_another_but_what_that_leaves() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let values = [("large", 30), ("huge", 30), ("small", 2), ("fair", 4)];
    let mut at = 0;
    for (run, count) in values {
        for n in 0..count {
            at += 1;
            let it = measurement("score", &n.to_string(), Subject::Run(label(run)), at);
            let key = Some(label(&n.to_string()));
            record(&ledger, Measurement { key, ..it });
        }
    }
    let filters = values.map(|(run, _)| MetricFilter::of(MetricScope::Run(label(run))));
    let read = |most: usize| -> Vec<(u64, bool)> {
        let sums = ledger.view().metrics_of_at_most(&filters, most).unwrap();
        let last = sums[0].by_name["score"].last.as_ref();
        assert_eq!(last.unwrap().1, Value::Number(29.0), "the newest count");
        let count = |it: &MetricSums| it.by_name.get("score").map_or(0, |sum| sum.count);
        sums.iter().map(|it| (count(it), it.is_cut)).collect()
    };
    // Each has five; what is left of those of the small and the fair one is for the others.
    let shared = [(7, true), (7, true), (2, false), (4, false)];
    assert_eq!(read(20), shared);
    assert_eq!(read(4), [(1, true); 4], "none is without");
    let all = [(30, false), (30, false), (2, false), (4, false)];
    for most in [66, 400] {
        assert_eq!(read(most), all, "{most} are enough");
    }
}

fn account(number: u8) -> AccountId {
    AccountId(Digest::from_bytes([number; 16]))
}

fn charged(it: Measurement, at: i64, micro: i64, replaced: Option<(i64, i64)>) -> Measurement {
    let charge = |micro_metric| Charge {
        account: account(1),
        bucket: START,
        amounts: Amounts {
            micro_metric,
            ..Amounts::default()
        },
    };
    Measurement {
        charged: Some(Charged {
            at: Timestamp::from_micros(at),
            charges: vec![charge(micro)],
            replaced: replaced.map(|(at, micro)| (Timestamp::from_micros(at), vec![charge(micro)])),
        }),
        ..it
    }
}

fn spent_of_metric(ledger: &Ledger) -> i64 {
    let stored = ledger.view().account(account(1)).unwrap().unwrap();
    stored.used(&Window::Total, START).micro_metric
}

#[test]
fn what_a_measurement_is_charged_counts_once_however_often_it_is_written() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let run = || Subject::Run(label("nightly"));
    let first = charged(measurement("docs", "10", run(), 1), 1, 10, None);
    let second = charged(measurement("docs", "4", run(), 2), 2, 4, Some((1, 10)));
    // A batch that failed is written again, and nobody knows what of it is on disk already.
    let none = measurement("docs", "0", run(), 1);
    let all = [&none, &first, &second];
    for it in all.into_iter().chain(all).chain([&second]) {
        record(&ledger, it.clone());
    }
    assert_eq!(spent_of_metric(&ledger), 4);
    let before = ledger.view().measured_before(&[first]).unwrap();
    assert_eq!(before, [Some(second.clone())]);
    let other = measurement("docs", "1", Subject::Run(label("other")), 1);
    assert_eq!(ledger.view().measured_before(&[other]).unwrap(), [None]);
    drop(ledger);
    let anew = Machine {
        index: IndexDisk::default(),
        ..machine.clone()
    };
    let (ledger, _) = anew.open();
    assert_eq!(
        spent_of_metric(&ledger),
        4,
        "by an index that was made anew"
    );
}

#[test]
fn pages_of_measurements_miss_none_of_one_moment() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    for n in 0..10 {
        let run = Subject::Run(label(&format!("run {n}")));
        record(&ledger, measurement("docs", &n.to_string(), run, n / 4));
    }
    let mut before: Option<MetricCursor> = None;
    let mut seen = Vec::new();
    loop {
        let filter = MetricFilter {
            name: Some("docs".to_owned()),
            limit: 3,
            before,
            ..MetricFilter::default()
        };
        let page = ledger.view().measurements(&filter).unwrap();
        assert!(page.items.len() <= 3);
        seen.extend(page.items);
        let Some(next) = page.next else { break };
        assert_eq!(next.to_string().parse(), Ok(next));
        before = Some(next);
    }
    assert_eq!(seen.len(), 10);
    assert!(seen.is_sorted_by(|a, b| a.at >= b.at));
    let mut values: Vec<_> = seen.iter().filter_map(|it| it.value.as_number()).collect();
    values.sort_by(f64::total_cmp);
    assert_eq!(values, (0..10).map(f64::from).collect::<Vec<_>>());
}

#[test]
fn a_span_counts_what_was_measured_in_it() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    for n in 0..10 {
        let agent = Subject::Agent(label("planner"));
        record(&ledger, measurement("docs", "1", agent, n));
    }
    let at = |micros| Some(Timestamp::from_micros(START.micros() + micros));
    let filter = MetricFilter {
        since: at(2),
        until: at(5),
        ..MetricFilter::default()
    };
    let sums = ledger.view().metrics(&filter).unwrap();
    assert_eq!((sums.by_name["docs"].count, sums.is_cut), (3, false));
    let nothing = MetricFilter {
        since: at(5),
        until: at(2),
        ..MetricFilter::default()
    };
    assert!(ledger.view().metrics(&nothing).unwrap().by_name.is_empty());
}

#[test]
fn custom_metrics_are_the_same_from_an_index_made_anew() {
    let mut machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let call = settled(&machine, &ledger, "nightly", "planner");
    record(&ledger, of_call(&call, "docs", "4", 1));
    record(&ledger, of_call(&call, "docs", "5", 2));
    let expected = everything(ledger.view());
    drop(ledger);
    machine.index = IndexDisk::default();
    let (ledger, recovery) = machine.open();
    assert!(recovery.index_rebuilt);
    assert_eq!(everything(ledger.view()), expected);
    let docs = sum(&ledger, MetricScope::Call(call.id), "docs");
    assert_eq!(docs, Some((1, Some(5.0))));
}

#[test]
fn runs_are_found_by_the_mean_of_a_metric_in_them() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    for (run, scores) in [("low", "0.2 0.4"), ("high", "0.2 0.9"), ("none", "")] {
        let call = settled(&machine, &ledger, run, "planner");
        for (n, score) in scores.split_whitespace().enumerate() {
            let keyed = Measurement {
                key: Some(label(&format!("step {n}"))),
                ..of_call(&call, "quality", score, 1)
            };
            record(&ledger, keyed);
        }
    }
    let found = |bound: &str| -> Vec<String> {
        let filter = RunFilter {
            metric: Some(bound.parse().unwrap()),
            ..RunFilter::default()
        };
        let page = ledger.view().runs(&filter).unwrap();
        assert!(!page.partial);
        let mut runs: Vec<_> = page.items.iter().map(|row| row.run.to_string()).collect();
        runs.sort();
        runs
    };
    assert_eq!(found("quality<0.5"), ["low"]);
    assert_eq!(found("quality>0.5"), ["high"]);
    assert_eq!(found("quality>=0"), ["high", "low"]);
    assert_eq!(found("other<1"), [] as [String; 0]);
}
