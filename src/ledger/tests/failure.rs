//! A disk that takes nothing for a while.

use crate::config::{Durability, LedgerConfig, OnFailure};

use super::super::fake::Loss;
use super::super::record::kind;
use super::super::{Event, SpanFilter, Unavailable};
use super::harness::*;

/// Records one call on a disk that is full.
fn fail(machine: &Machine, ledger: &super::super::Ledger) -> crate::core::id::CallId {
    machine.disk.fail_now();
    let admission = machine.call("r", "a");
    let request = conversation(ledger.seed(), &[message(7)]);
    let entry = ledger.admit(admission.clone(), Some(request)).unwrap();
    entry.durable().block();
    while machine.config.durability == Durability::Strict && !ledger.status().failing {
        std::thread::yield_now();
    }
    entry.settle(settlement(&admission), None);
    admission.id
}

/// Waits until the ledger takes records again.
fn heal(machine: &Machine, ledger: &super::super::Ledger) {
    machine.disk.heal();
    while ledger.status().failing {
        std::thread::yield_now();
    }
}

#[test]
fn failing_ledger_serves_unrecorded_and_keeps_what_it_had() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let before = machine.call("r", "a");
    ledger
        .admit(before.clone(), None)
        .unwrap()
        .settle(settlement(&before), None);
    ledger.sync_index();
    let held = fail(&machine, &ledger);
    let entry = ledger.admit(machine.call("r", "lost"), None).unwrap();
    assert!(!entry.is_recorded() && entry.durable().is_done());
    entry.settle(settlement(&before), None);
    let status = ledger.status();
    assert!(status.failing && status.last_error.unwrap().contains("cannot be written"));
    assert_eq!(status.dropped_records, 1);
    ledger.sync_index();

    machine.clock.advance_micros(HOUR_US);
    heal(&machine, &ledger);
    let view = ledger.view();
    assert_eq!(all_calls(view).len(), 2);
    let events = view.events(&SpanFilter::default()).unwrap().items;
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.what.as_str(), event.details.as_deref().unwrap()))
        .collect();
    assert_eq!(told[0], ("ledger_resumed", "1 records were lost meanwhile"));
    assert_eq!(told[1].0, "ledger_failed");
    assert_eq!(
        events[0].at.micros_since(events[1].at),
        HOUR_US.cast_unsigned()
    );
    assert!(view.request_body(held).unwrap().unwrap().exact);
    assert_eq!(ledger.status().last_error, None);
    let expected = everything(view);
    drop(ledger);
    let machine = machine.with_disk(machine.disk.after(Loss::All));
    machine.index.clear();
    let (ledger, recovery) = machine.open();
    assert_eq!(recovery.damages, []);
    assert_eq!(everything(ledger.view()), expected);
}

#[test]
fn failure_is_told_though_nothing_comes_after_it() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    machine.disk.fail_once_at(0, false);
    let last = Event::own(machine.clock.now(), "last", None);
    ledger.event(last).unwrap().block();
    while machine.disk.records(kind::EVENT) < 3 {
        std::thread::yield_now();
    }
}

#[test]
fn log_that_works_again_does_not_hide_what_is_wrong_with_the_index() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let admission = machine.call("r", "a");
    let entry = ledger.admit(admission.clone(), None).unwrap();
    entry.settle(settlement(&admission), None);
    machine.index.fail(true);
    while !ledger.status().index_failing {
        ledger.sync_index();
    }
    let failing = |ledger: &super::super::Ledger| ledger.status().last_error.unwrap();
    assert!(failing(&ledger).contains("index failed"));
    fail(&machine, &ledger);
    assert!(failing(&ledger).contains("cannot be written"));
    heal(&machine, &ledger);
    assert!(failing(&ledger).contains("index failed"));
}

#[test]
fn failing_ledger_refuses_when_it_must_record() {
    let machine = Machine::new(LedgerConfig {
        on_failure: OnFailure::Refuse,
        ..config()
    });
    let (ledger, _) = machine.open();
    fail(&machine, &ledger);
    let refused = ledger.admit(machine.call("r", "a"), None).unwrap_err();
    assert_eq!(refused, Unavailable::Failing);
    heal(&machine, &ledger);
    assert!(ledger.admit(machine.call("r", "a"), None).is_ok());
}

#[test]
fn closing_a_failing_ledger_ends_and_says_what_is_lost() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        let machine = Machine::new(LedgerConfig {
            durability,
            ..config()
        });
        let (ledger, _) = machine.open();
        fail(&machine, &ledger);
        let lost = block_on(ledger.close()).unwrap_err();
        assert!(lost.records >= 2, "{lost}");
    }
}

#[test]
fn full_queue_does_not_block() {
    for (on_failure, served) in [(OnFailure::Serve, true), (OnFailure::Refuse, false)] {
        let machine = Machine::new(LedgerConfig {
            on_failure,
            max_queue_bytes: 10_000,
            ..config()
        });
        let (ledger, _) = machine.open();
        let mut entries = Vec::new();
        let refused = (0..10).find_map(|_| {
            match ledger.admit(machine.call("r", "a"), None) {
                Ok(entry) if entry.is_recorded() => entries.push(entry),
                other => return Some(other),
            }
            None
        });
        assert_eq!(refused.unwrap().is_ok(), served);
        assert!(!entries.is_empty());
    }
}

#[test]
fn failed_sync_between_two_segments_loses_nothing() {
    let machine = Machine::new(LedgerConfig {
        durability: Durability::Relaxed,
        segment_bytes: 1,
        ..config()
    });
    let (ledger, _) = machine.open();
    let before = machine.call("r", "a");
    let entry = ledger.admit(before.clone(), None).unwrap();
    entry.settle(settlement(&before), None);
    ledger.sync_index();
    let held = fail(&machine, &ledger);
    while !ledger.status().failing {
        std::thread::yield_now();
    }
    heal(&machine, &ledger);
    let view = ledger.view();
    assert_eq!(all_calls(view).len(), 2);
    assert!(view.request_body(held).unwrap().unwrap().exact);
    assert_eq!(ledger.status().dropped_records, 0);
}
