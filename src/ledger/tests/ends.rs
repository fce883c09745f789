//! What is known of how the process before ended.

use super::super::fake::Loss;
use super::super::index::EVENTS;
use super::super::record::kind;
use super::super::{Event, Ledger, SpanFilter};
use super::harness::*;

fn say(machine: &Machine, ledger: &Ledger, what: &'static str) {
    let event = Event::own(machine.clock.now(), what, None);
    ledger.event(event).unwrap().block();
}

/// A process that says all this and then is gone; what the next one finds.
#[track_caller]
fn after(machine: &Machine, words: &[(&'static str, i64)]) -> bool {
    let (ledger, _) = machine.open();
    for (what, later) in words {
        machine.clock.advance_micros(*later);
        say(machine, &ledger, what);
    }
    drop(ledger);
    let (ledger, recovery) = machine.open();
    assert!(recovery.clean, "{recovery}");
    drop(ledger);
    recovery.stopped
}

const STARTED: (&str, i64) = (Event::STARTED, 1);
const STOPPED: (&str, i64) = (Event::STOPPED, 1);

#[test]
fn process_that_said_nothing_of_a_stop_did_not_stop() {
    let new = || Machine::new(config());
    assert!(new().open().1.stopped, "there was none");
    assert!(after(&new(), &[STARTED, STOPPED]));
    assert!(!after(&new(), &[STARTED]));
    assert!(!after(&new(), &[STARTED, STOPPED, STARTED]));
    assert!(!after(&new(), &[STARTED, STOPPED, (Event::RECOVERED, 1)]));
    assert!(!after(&new(), &[("config_reloaded", 1)]), "dropped by now");
    assert!(after(&new(), &[STARTED, STOPPED, ("ledger_resumed", 1)]));
}

#[test]
fn clock_that_was_set_back_does_not_matter() {
    let stopped = (Event::STOPPED, -HOUR_US);
    assert!(after(&Machine::new(config()), &[STARTED, stopped]));
    let started = (Event::STARTED, -HOUR_US);
    let words = [STARTED, STOPPED, started];
    assert!(!after(&Machine::new(config()), &words));
}

#[test]
fn failure_while_the_last_word_is_written_does_not_take_it_back() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    say(&machine, &ledger, Event::STARTED);
    machine.disk.fail_once_at(machine.disk.operations(), true);
    machine.clock.advance_micros(1);
    let event = Event::own(machine.clock.now(), Event::STOPPED, None);
    drop(ledger.event(event));
    machine.clock.advance_micros(1);
    block_on(ledger.close()).unwrap();
    drop(ledger);
    let next = machine.with_disk(machine.disk.after(Loss::All));
    let (ledger, recovery) = next.open();
    assert!(recovery.stopped);
    let newest = &ledger.view().events(&SpanFilter::default()).unwrap().items[0];
    assert_eq!(newest.what, "ledger_resumed");
}

#[test]
fn event_that_makes_no_sense_does_not_keep_the_ledger_from_opening() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    say(&machine, &ledger, Event::STARTED);
    say(&machine, &ledger, Event::STOPPED);
    ledger.sync_index();
    let scrambled = ledger.open.view.index.write(true, |txn| {
        txn.open_table(EVENTS)?.insert((0, 0, 0), &b"\xff"[..])?;
        Ok(())
    });
    scrambled.unwrap();
    drop(ledger);
    let (ledger, recovery) = machine.open();
    assert!(recovery.index_rebuilt && recovery.stopped);
    let events = ledger.view().events(&SpanFilter::default()).unwrap();
    assert_eq!(events.items.len(), machine.disk.records(kind::EVENT));
}
