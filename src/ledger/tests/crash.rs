//! Whatever point the process dies or the power fails at, nothing acknowledged is lost.

use std::collections::HashSet;

use crate::config::{Durability, LedgerConfig};
use crate::core::call::Outcome;
use crate::core::id::CallId;

use super::super::fake::{IndexDisk, Loss};
use super::super::{Durable, Event, Ledger, SpanFilter};
use super::harness::*;

/// Records a few calls across several segments; returns those acknowledged before anything failed.
fn work(machine: &Machine) -> Vec<CallId> {
    let Ok((ledger, _)) = machine.try_open() else {
        return Vec::new();
    };
    let calls = record_calls(machine, &ledger);
    calls
        .into_iter()
        .filter_map(Recorded::acknowledged)
        .collect()
}

/// A call that was taken in.
struct Recorded {
    id: CallId,
    /// Nothing had failed when it was said to be on disk.
    before_failure: bool,
}

impl Recorded {
    fn acknowledged(self) -> Option<CallId> {
        self.before_failure.then_some(self.id)
    }
}

fn record_calls(machine: &Machine, ledger: &Ledger) -> Vec<Recorded> {
    let mut recorded = Vec::new();
    let mut messages = Vec::new();
    for number in 0..6 {
        machine.clock.advance_micros(1_000_000);
        messages.push(message(number));
        let admission = machine.call("r", "researcher");
        let request = conversation(ledger.seed(), &messages);
        let Ok(entry) = ledger.admit(admission.clone(), Some(request)) else {
            continue;
        };
        entry.durable().block();
        if entry.is_recorded() {
            recorded.push(Recorded {
                id: admission.id,
                before_failure: !machine.disk.has_failed(),
            });
        }
        if number % 3 == 2 {
            std::mem::forget(entry);
        } else {
            entry.settle(
                settlement(&admission),
                Some(plain(message(number + 100).as_bytes())),
            );
            // A batch of its own, so that there is a point to crash at between the two.
            ledger.sync_index();
        }
    }
    recorded
}

fn segmented() -> LedgerConfig {
    LedgerConfig {
        segment_bytes: 1500,
        ..config()
    }
}

/// Opens what is left; all that was acknowledged must be there, once, and settled.
#[track_caller]
fn check(machine: &Machine, acknowledged: &[CallId], what: &str) {
    let (ledger, recovery) = machine.open();
    let calls = all_calls(ledger.view());
    let ids: HashSet<CallId> = calls.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), calls.len(), "{what}: a call is there twice");
    for id in acknowledged {
        assert!(ids.contains(id), "{what}: lost {id} ({recovery})");
        let body = ledger.view().request_body(*id).unwrap();
        let exact = body.is_some_and(|body| body.exact);
        assert!(exact, "{what}: the body of {id} is incomplete");
    }
    for row in &calls {
        assert!(row.outcome.is_some(), "{what}: {} is still open", row.id);
    }
    let total: u64 = all_rollups(ledger.view())
        .iter()
        .map(|row| row.totals.calls)
        .sum();
    assert_eq!(
        total,
        calls.len() as u64,
        "{what}: totals differ from the calls"
    );
    block_on(ledger.close()).unwrap();
    drop(ledger);
    let (ledger, recovery) = machine.open();
    assert!(recovery.clean, "{what}: {recovery}");
    assert_eq!(
        all_calls(ledger.view()).len(),
        calls.len(),
        "{what}: another start changed it"
    );
}

#[test]
fn acknowledged_calls_survive_a_crash_at_every_operation() {
    let machine = Machine::new(segmented());
    work(&machine);
    let operations = machine.disk.operations();
    assert!(machine.disk.segments().len() >= 3 && operations > 20);
    for at in 0..operations {
        for tears in [false, true] {
            let machine = Machine::new(segmented());
            machine.disk.fail_at(at, tears);
            let acknowledged = work(&machine);
            for loss in Loss::EACH {
                let what = format!("operation {at}, tears: {tears}, loss: {loss:?}");
                let next = machine.with_disk(machine.disk.after(loss));
                check(&next, &acknowledged, &what);
                let no_index = Machine {
                    index: IndexDisk::default(),
                    ..next
                };
                let next = Machine {
                    disk: machine.disk.after(loss),
                    ..no_index
                };
                check(&next, &acknowledged, &format!("{what}, without index"));
            }
        }
    }
}

#[test]
fn acknowledged_calls_survive_a_crash_while_recovering() {
    let machine = Machine::new(segmented());
    let acknowledged = work(&machine);
    machine
        .disk
        .change(*machine.disk.segments().last().unwrap(), |bytes| {
            bytes.extend_from_slice(b"\xa7\x1ean unfinished record");
        });
    let left = machine.disk.after(Loss::Nothing);
    for at in 0..6 {
        let next = machine.with_disk(left.after(Loss::Nothing));
        next.disk.fail_at(at, true);
        drop(next.try_open());
        for loss in Loss::EACH {
            let again = next.with_disk(next.disk.after(loss));
            check(
                &again,
                &acknowledged,
                &format!("operation {at} of recovery, {loss:?}"),
            );
        }
    }
}

/// Records an event, and another when that can be.
fn tell(machine: &Machine, ledger: &Ledger) {
    for what in ["one", "two"] {
        let event = Event::own(machine.clock.now(), what, None);
        ledger.event(event).map(Durable::block).unwrap();
        while ledger.status().failing {
            std::thread::yield_now();
        }
    }
}

/// What was told, in order, without what the ledger says of itself.
fn told(machine: &Machine) -> Vec<String> {
    let (ledger, _) = machine.open();
    let events = ledger.view().events(&SpanFilter::default()).unwrap();
    let what = events.items.into_iter().rev().map(|event| event.what);
    what.filter(|what| !what.starts_with("ledger_")).collect()
}

#[test]
fn one_failure_at_any_operation_leaves_each_event_once() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        let config = LedgerConfig {
            durability,
            ..config()
        };
        for at in 0..5 {
            let machine = Machine::new(config.clone());
            machine.disk.fail_once_at(at, false);
            let (ledger, _) = machine.open();
            tell(&machine, &ledger);
            block_on(ledger.close()).unwrap();
            drop(ledger);
            for loss in Loss::EACH {
                let what = format!("{durability:?}, operation {at}, {loss:?}");
                let next = machine.with_disk(machine.disk.after(loss));
                assert_eq!(told(&next), ["one", "two"], "{what}");
                let next = Machine {
                    disk: machine.disk.after(loss),
                    index: IndexDisk::default(),
                    ..machine.clone()
                };
                assert_eq!(told(&next), ["one", "two"], "{what}, without index");
            }
        }
    }
}

#[test]
fn one_failure_at_any_operation_loses_nothing_that_was_taken_in() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        let config = LedgerConfig {
            durability,
            ..segmented()
        };
        let machine = Machine::new(config.clone());
        drop(record_calls(&machine, &machine.open().0));
        for (at, tears) in (0..machine.disk.operations()).flat_map(|at| [(at, false), (at, true)]) {
            let machine = Machine::new(config.clone());
            machine.disk.fail_once_at(at, tears);
            let (ledger, _) = machine.open();
            let recorded = record_calls(&machine, &ledger);
            block_on(ledger.close()).unwrap();
            let ids: Vec<CallId> = recorded.into_iter().map(|call| call.id).collect();
            drop(ledger);
            for loss in Loss::EACH {
                let what = format!("{durability:?}, operation {at}, tears: {tears}, {loss:?}");
                let next = machine.with_disk(machine.disk.after(loss));
                check(&next, &ids, &what);
                let next = Machine {
                    disk: machine.disk.after(loss),
                    index: IndexDisk::default(),
                    ..machine.clone()
                };
                check(&next, &ids, &format!("{what}, without index"));
            }
        }
    }
}

#[test]
fn totals_survive_a_crash_at_every_operation_of_retention() {
    let short = LedgerConfig {
        keep_bytes: Some(4000),
        ..segmented()
    };
    let totals = |ledger: &Ledger| -> u64 {
        let rows = all_rollups(ledger.view());
        rows.iter().map(|row| row.totals.calls).sum()
    };
    let retained = |machine: &Machine| {
        let Ok((ledger, _)) = machine.try_open() else {
            return;
        };
        while ledger.status().log_bytes > 4000 && !machine.disk.has_failed() {
            ledger.sync_index();
        }
    };
    // Little enough that segments can go at each of their borders, too much for any to go.
    let full = Machine::new(LedgerConfig {
        keep_bytes: Some(32_000),
        ..segmented()
    });
    work(&full);
    let calls = totals(&full.open().0);
    let filled = Machine {
        config: short,
        disk: full.disk.after(Loss::Nothing),
        ..full
    };
    let whole = filled.with_disk(filled.disk.after(Loss::Nothing));
    retained(&whole);
    let segments = [&filled, &whole].map(|machine| machine.disk.segments().len());
    assert!(segments[0] > segments[1] + 1, "{segments:?}");
    // Side by side, since retention takes its time.
    std::thread::scope(|scope| {
        for at in 0..whole.disk.operations() {
            let machine = filled.with_disk(filled.disk.after(Loss::Nothing));
            scope.spawn(move || {
                machine.disk.fail_at(at, false);
                retained(&machine);
                for loss in Loss::EACH {
                    let next = machine.with_disk(machine.disk.after(loss));
                    let no_index = Machine {
                        disk: machine.disk.after(loss),
                        index: IndexDisk::default(),
                        ..machine.clone()
                    };
                    let found = [next, no_index].map(|machine| totals(&machine.open().0));
                    assert_eq!(found, [calls; 2], "operation {at}, {loss:?}");
                }
            });
        }
    });
}

#[test]
fn relaxed_ledger_opens_consistent_whatever_was_lost() {
    let relaxed = LedgerConfig {
        durability: Durability::Relaxed,
        ..segmented()
    };
    let machine = Machine::new(relaxed);
    work(&machine);
    for at in 0..=machine.disk.operations() {
        let machine = Machine::new(machine.config.clone());
        machine.disk.fail_at(at, true);
        work(&machine);
        for loss in Loss::EACH {
            // The index may have covered what the log lost.
            let next = machine.with_disk(machine.disk.after(loss));
            check(&next, &[], &format!("operation {at}, loss: {loss:?}"));
        }
    }
}

#[test]
fn calls_found_open_are_settled_at_their_estimate() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let admission = machine.call("r", "a");
    let entry = ledger.admit(admission.clone(), None).unwrap();
    entry.durable().block();
    std::mem::forget(entry);
    drop(ledger);
    let (ledger, recovery) = machine.open();
    assert_eq!((recovery.recovered_calls, recovery.clean), (1, false));
    assert!(
        recovery.to_string().contains("1 open calls settled"),
        "{recovery}"
    );
    let row = all_calls(ledger.view()).remove(0);
    assert_eq!(row.outcome, Some(Outcome::Recovered));
    assert_eq!(row.usage.input_tokens, admission.estimated_input_tokens);
    drop(ledger);
    assert!(machine.open().1.clean, "recovered once");
}
