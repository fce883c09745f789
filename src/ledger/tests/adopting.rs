//! What other instances recorded, in a ledger beside its own.

use std::time::Duration;

use crate::config::LedgerConfig;
use crate::core::budget::Charged;
use crate::core::call::{LateUsage, Outcome};
use crate::core::digest::Digest;
use crate::core::metric::{Measurement, Subject, Value};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::usage::Usage;

use super::super::{Adopted, Feed, Ledger, MetricFilter, MetricScope, News};
use super::budgets::charge;
use super::harness::*;

/// One call of an instance with a ledger of its own, as that recorded it.
fn made_elsewhere() -> (Machine, Adopted) {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    machine.clock.advance_micros(1_000_000);
    let mut admission = machine.call("r", "writer");
    admission.hold = vec![charge(1, 900)];
    admission.key = Some(Digest::from_bytes([7; 16]));
    let mut settlement = settlement(&admission);
    settlement.charges = vec![charge(1, 30)];
    let id = admission.id;
    let entry = ledger.admit(admission, Some(plain(b"asked"))).unwrap();
    entry.settle(settlement, Some(plain(b"answered")));
    let call = ledger.view().call(id).unwrap().unwrap();
    let records = (call.admission.unwrap(), call.settlement.unwrap());
    (machine, Adopted::Call(Box::new(records)))
}

fn adopt(ledger: &Ledger, adopted: &Adopted) {
    let durable = ledger.adopt(adopted.clone(), &label("east")).unwrap();
    durable.block();
}

#[test]
fn call_of_another_instance_is_shown_and_counted_once_and_charges_no_budget() {
    let (_, call) = made_elsewhere();
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let mut feed = Feed::from_start(&ledger);
    for _ in 0..3 {
        adopt(&ledger, &call);
    }
    let rows = all_calls(ledger.view());
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].instance, Some(label("east")));
    assert_eq!(rows[0].outcome, Some(Outcome::Completed));
    assert_eq!(rows[0].cost_nano_usd, Some(1500));
    let run = ledger.view().run(&label("r")).unwrap().unwrap();
    assert_eq!(run.row.totals.calls, 1);
    assert!(all_accounts(ledger.view()).is_empty());
    let detail = ledger.view().call(rows[0].id).unwrap().unwrap();
    let admission = detail.admission.unwrap();
    assert_eq!(admission.request, None);
    assert!(
        admission.key.is_some(),
        "all know clients' keys by one hash"
    );
    assert_eq!(detail.settlement.unwrap().response, None);
    let news = feed.next(100).unwrap().news;
    assert!(news.is_empty(), "it is told by its own instance: {news:?}");
}

#[test]
fn call_of_another_instance_that_was_let_go_of_is_not_taken_in_again() {
    let (_, call) = made_elsewhere();
    let Adopted::Call(records) = &call else {
        unreachable!()
    };
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 2000,
        keep_for: Some(Duration::from_secs(3600)),
        ..config()
    });
    let (ledger, _) = machine.open();
    let is_lacking = || ledger.view().lacks(&records.1).unwrap();
    assert!(is_lacking());
    adopt(&ledger, &call);
    assert!(!is_lacking(), "it is there");
    for _ in 0..40 {
        machine.clock.advance_micros(3600 * 1_000_000);
        let own = machine.call("own", "a");
        let entry = ledger.admit(own.clone(), None).unwrap();
        entry.settle(settlement(&own), None);
        ledger.sync_index();
    }
    assert!(ledger.view().call(records.0.id).unwrap().is_none());
    assert!(!is_lacking(), "sums have it");
}

/// A call of another instance whose result is not fetched yet, in a ledger that took it in.
fn pending_elsewhere() -> (Machine, Ledger, LateUsage) {
    let (elsewhere, call) = made_elsewhere();
    let Adopted::Call(mut records) = call else {
        unreachable!()
    };
    records.1.is_pending = true;
    let id = records.0.id;
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    adopt(&ledger, &Adopted::Call(records));
    let late = LateUsage {
        id,
        at: elsewhere.clock.now(),
        usage: Usage {
            output_tokens: 77,
            ..Usage::default()
        },
        cost: Some(NanoUsd::new(99)),
        cost_source: None,
        charges: vec![charge(1, 70)],
        charged_at: elsewhere.clock.now(),
        is_estimated: false,
        instance: None,
        is_found: false,
    };
    (machine, ledger, late)
}

#[test]
fn late_usage_of_another_instance_takes_the_place_of_its_estimate() {
    let (_machine, ledger, late) = pending_elsewhere();
    let mut feed = Feed::from_end(&ledger);
    let is_found = true;
    adopt(
        &ledger,
        &Adopted::Late(Box::new(LateUsage { is_found, ..late })),
    );
    let row = all_calls(ledger.view()).remove(0);
    assert_eq!((row.usage.output_tokens, row.is_pending), (77, false));
    assert!(all_accounts(ledger.view()).is_empty());
    assert!(feed.next(100).unwrap().news.is_empty());
}

#[test]
fn late_usage_that_is_found_here_is_told_to_the_instance_of_its_call_and_is_no_news_else() {
    let (_machine, ledger, late) = pending_elsewhere();
    let mut feed = Feed::from_end(&ledger);
    let found = LateUsage {
        charges: Vec::new(),
        instance: Some(label("east")),
        is_found: true,
        ..late
    };
    let id = found.id;
    ledger.late(found).unwrap().block();
    let row = all_calls(ledger.view()).remove(0);
    assert_eq!((row.usage.output_tokens, row.is_pending), (77, false));
    let news = feed.next(100).unwrap().news;
    let news: Vec<_> = news.into_iter().map(|(_, news)| news).collect();
    assert_eq!(news, [News::Found(id)]);
}

#[test]
fn of_what_is_said_to_several_instances_the_last_stays_in_whatever_order_it_comes() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    for (value, said) in [(1.0, 20), (2.0, 30), (1.0, 20), (3.0, 10)] {
        let it = Measurement {
            at: START,
            name: "score".to_owned(),
            value: Value::number(value).unwrap(),
            subject: Subject::Run(label("r")),
            who: label("judge"),
            note: None,
            key: None,
            run: None,
            agent: None,
            charged: Some(Charged::nothing(Timestamp::from_micros(said))),
            instance: None,
        };
        adopt(&ledger, &Adopted::Measured(Box::new(it)));
    }
    let filter = MetricFilter::of(MetricScope::All);
    let known = ledger.view().measurements(&filter).unwrap().items;
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].value, Value::number(2.0).unwrap());
}

#[test]
fn call_of_another_instance_of_which_the_end_is_missing_is_left_to_that_one() {
    let (_, call) = made_elsewhere();
    let Adopted::Call(records) = &call else {
        unreachable!()
    };
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let mut admission = records.0.clone();
    admission.instance = Some(label("east"));
    admission.request = None;
    let entry = ledger.admit(admission, None).unwrap();
    entry.durable().block();
    assert!(ledger.sync_index());
    // The process ends here.
    std::mem::forget(entry);
    let machine = machine.with_disk(machine.disk.clone());
    let (ledger, recovery) = machine.open();
    assert_eq!(recovery.recovered_calls, 0);
    assert_eq!(all_calls(ledger.view())[0].outcome, None);
    adopt(&ledger, &call);
    let row = all_calls(ledger.view()).remove(0);
    assert_eq!(row.outcome, Some(Outcome::Completed));
}
