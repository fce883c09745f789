//! Deletions that reach beyond the records of a call: into checkpoints, trips, acts, damage.

use std::fs;

use crate::clock::Clock;
use crate::config::LedgerConfig;
use crate::core::alert::{self, About, Signal};
use crate::core::budget::Deed;

use super::super::audit::verify_on;
use super::super::checkpoint;
use super::super::erase::{EraseError, Scope, Wish, erase, erase_on, preview};
use super::super::fake::IndexDisk;
use super::super::fake::Loss;
use super::super::index::Place;
use super::super::log::{LogReader, Step as Read, catalog};
use super::super::record::{Checkpoint, kind};
use super::super::removal::{Erased, Removal};
use super::super::summary::Key;
use super::super::{Event, SpanFilter, open};
use super::budgets::act;
use super::erase::holds;
use super::erase_any::{check, told, try_delete};
use super::erase_world::{Step, World, account, hour};
use super::harness::*;

fn run(number: u8) -> Scope {
    Scope::Run(label(&format!("run-named-{number}")))
}

fn user(number: u8) -> Scope {
    Scope::User(label(&format!("user-named-{number}")))
}

const SMALL: u64 = 12_000;

/// One call of run 0 and user 0, settled so long after its admission that this is gone.
fn across_the_front(is_pending: bool) -> World {
    let mut world = World::new(SMALL);
    world.play(&Step::Admit(0, 0, false));
    world.push_out_the_front();
    world.play(&Step::Settle(0, is_pending));
    world
}

#[track_caller]
fn deleted(world: &World, scope: &Scope) {
    let before = told(&world.machine);
    let done = world
        .machine
        .with_disk(world.machine.disk.after(Loss::Nothing));
    assert_eq!(try_delete(&done, scope).unwrap().calls, 1);
    check(world, scope, &before, &done);
}

#[test]
fn call_that_was_open_at_a_checkpoint_leaves_it_and_counts_once() {
    let mut world = across_the_front(false);
    world.end();
    assert!(holds(&world.machine.disk, "tag-of-call-0-only"));
    deleted(&world, &run(0));
}

#[test]
fn call_of_a_user_goes_although_its_admission_is_in_a_checkpoint_alone() {
    let mut world = across_the_front(false);
    world.end();
    assert!(holds(&world.machine.disk, "answer-of-call-0-only"));
    deleted(&world, &user(0));
}

#[test]
fn what_a_call_used_at_last_stays_counted_wherever_its_estimate_lies() {
    let mut world = across_the_front(true);
    world.play(&Step::Late(0));
    world.end();
    deleted(&world, &run(0));

    let mut world = World::new(SMALL);
    world.play(&Step::Admit(0, 0, false));
    world.play(&Step::Settle(0, true));
    world.push_out_the_front();
    world.play(&Step::Late(0));
    world.end();
    for scope in [run(0), user(0), Scope::Before(hour(2))] {
        deleted(&world, &scope);
    }
}

#[test]
fn pending_call_stays_until_what_it_used_is_known_or_cannot_be_any_more() {
    for is_awaited in [true, false] {
        let mut world = World::new(1 << 20);
        for is_pending in [true, false] {
            world.play(&Step::Admit(0, 0, false));
            world.play(&Step::Settle(0, is_pending));
        }
        world.play(&Step::Stop(0));
        world.end();
        if !is_awaited {
            world.machine.clock.advance_micros(31 * 24 * HOUR_US);
            let before = told(&world.machine);
            assert_eq!(try_delete(&world.machine, &run(0)).unwrap().calls, 2);
            check(&world, &run(0), &before, &world.machine);
            continue;
        }
        let before = told(&world.machine);
        let report = try_delete(&world.machine, &run(0)).unwrap();
        assert_eq!((report.calls, report.running_calls), (1, 1));
        check(&world, &run(0), &before, &world.machine);
        world.machine.index = IndexDisk::default();
        world.reopen();
        world.play(&Step::Late(0));
        world.close();
        let spent = told(&world.machine);
        assert_ne!(spent.rollups, before.rollups, "it counts what it used");
        assert_eq!(spent.controls.len(), 1, "its run is still stopped");
        assert_eq!(try_delete(&world.machine, &run(0)).unwrap().calls, 1);
        check(&world, &run(0), &spent, &world.machine);
        assert!(!holds(&world.machine.disk, "run-named-0"));
    }
}

/// What the last checkpoint says.
fn last_checkpoint(world: &World) -> Checkpoint {
    let segments = catalog(&world.machine.disk).unwrap().all();
    let mut reader = LogReader::from_start(&world.machine.disk, &segments);
    let mut last = None;
    while let Some(step) = reader.next().unwrap() {
        if let Read::Record { kind, payload, .. } = step
            && kind == kind::CHECKPOINT
        {
            last = checkpoint::parse(payload);
        }
    }
    last.unwrap()
}

#[test]
fn what_a_call_used_at_last_is_counted_among_the_children_of_its_parent_run() {
    let mut world = World::new(SMALL);
    world.parent = Some("run-above".to_owned());
    world.play(&Step::Admit(0, 0, false));
    world.play(&Step::Settle(0, true));
    world.play(&Step::Admit(0, 1, false));
    world.play(&Step::Settle(0, false));
    world.parent = None;
    // So that the run is not over.
    world.play(&Step::Stop(0));
    world.push_out_the_front();
    world.play(&Step::Late(0));
    world.end();
    assert_eq!(try_delete(&world.machine, &user(0)).unwrap().calls, 1);
    let summaries = last_checkpoint(&world).summaries;
    let totals = |wanted: &Key| {
        let mut found = summaries.iter().filter(|(key, _)| key == wanted);
        found.next().unwrap().1.totals
    };
    let name = label("run-named-0");
    let of_run = totals(&Key::Run(name.clone()));
    assert_eq!(totals(&Key::Child(label("run-above"), name)), of_run);
    assert!(of_run.output_tokens >= 700);
}

#[test]
fn event_about_a_budget_of_several_dimensions_goes_with_the_run_that_it_names() {
    let mut world = World::new(1 << 20);
    world.play(&Step::Admit(0, 0, false));
    world.play(&Step::Settle(0, false));
    let mut event = Event::own(world.machine.clock.now(), "budget_spent", None);
    event.signal = Some(Box::new(Signal {
        scope: alert::Scope {
            about: About::Budget,
            name: "each".to_owned(),
            key: Some("agent researcher, run run-named-0, model m".to_owned()),
        },
        value: None,
        limit: None,
        until: None,
        account: None,
        delivery: None,
    }));
    world.ledger().event(event).unwrap().block();
    world.end();
    deleted(&world, &user(0));
}

#[test]
fn samples_of_a_loop_go_with_any_of_its_calls_whoever_they_were_of() {
    let mut world = World::new(1 << 20);
    for (number, settle) in [(0, 0), (1, 0)] {
        world.play(&Step::Admit(number, number, false));
        world.play(&Step::Settle(settle, false));
    }
    world.play(&Step::Trip(1));
    world.end();
    assert!(holds(&world.machine.disk, "sample-of-call-0-only"));
    for scope in [run(0), user(0), Scope::Before(hour(2))] {
        deleted(&world, &scope);
    }
}

#[test]
fn stopped_run_stays_stopped_and_limited_one_limited_when_its_calls_were_long_ago() {
    let mut world = World::new(SMALL);
    for run in 0..2 {
        world.play(&Step::Admit(run, 0, run == 1));
        world.play(&Step::Settle(0, false));
    }
    world.play(&Step::Stop(0));
    let after = world.machine.clock.now();
    for _ in 0..3 {
        world.push_out_the_front();
    }
    world.end();
    assert_eq!(
        world.machine.disk.records(kind::ACT),
        0,
        "it is in a checkpoint"
    );
    let before = told(&world.machine);
    assert_eq!(before.controls.len(), 2, "{:?}", before.controls);
    let age = Scope::Before(world.machine.clock.now());
    try_delete(&world.machine, &age).unwrap();
    let found = told(&world.machine);
    assert_eq!(found.controls, before.controls);
    assert!(!holds(&world.machine.disk, "tag-of-call-0-only"), "{after}");
}

#[test]
fn limit_that_a_deleted_call_named_stays_that_of_its_run() {
    let mut world = World::new(1 << 20);
    world.play(&Step::Admit(0, 0, true));
    world.play(&Step::Settle(0, false));
    world.play(&Step::Admit(0, 1, false));
    world.play(&Step::Settle(0, false));
    world.end();
    assert_eq!(told(&world.machine).controls.len(), 1);
    deleted(&world, &user(0));
}

#[test]
fn act_of_who_is_deleted_stays_without_the_name() {
    let mut world = World::new(1 << 20);
    world.play(&Step::Admit(0, 0, false));
    world.play(&Step::Settle(0, false));
    let mut reset = act(&world.machine, Deed::BudgetReset(account(20)));
    reset.who = "user-named-0".to_owned();
    world.ledger().act(reset).unwrap().block();
    world.end();
    let before = told(&world.machine);
    try_delete(&world.machine, &user(0)).unwrap();
    check(&world, &user(0), &before, &world.machine);
    assert_eq!(world.machine.disk.records(kind::ACT), 1);
}

#[test]
fn account_without_a_name_goes_when_nobody_used_it_for_long() {
    let mut world = World::new(1 << 20);
    world.play(&Step::Admit(0, 0, false));
    world.play(&Step::Settle(0, false));
    world.end();
    try_delete(&world.machine, &user(0)).unwrap();
    world.machine.index = IndexDisk::default();
    assert!(told(&world.machine).accounts.contains_key(&account(10)));
    world.machine.clock.advance_micros(31 * 24 * HOUR_US);
    world.machine.config.keep_bytes = Some(SMALL);
    world.reopen();
    for _ in 0..2 {
        world.push_out_the_front();
    }
    world.end();
    assert!(!told(&world.machine).accounts.contains_key(&account(10)));
}

#[test]
fn records_of_a_deletion_are_bounded_and_tell_of_one_event() {
    let mut world = World::new(1 << 20);
    for _ in 0..12 {
        world.play(&Step::Admit(0, 0, false));
        world.play(&Step::Settle(0, false));
    }
    world.end();
    let report = try_delete(&world.machine, &run(0)).unwrap();
    let mut listed = Vec::new();
    let segments = catalog(&world.machine.disk).unwrap().all();
    let mut reader = LogReader::from_start(&world.machine.disk, &segments);
    while let Some(step) = reader.next().unwrap() {
        if let Read::Record {
            kind: kind::REMOVAL,
            payload,
            ..
        } = step
        {
            let removal = Removal::parse(payload).unwrap();
            assert_eq!(removal.erased().len(), 1);
            listed.push(removal.erased()[0].iter().count());
        }
    }
    assert!(listed.len() > 3 && listed.iter().all(|it| *it <= Erased::MOST));
    assert_eq!(listed.iter().sum::<usize>() as u64, report.records);
    let (ledger, _) = world.machine.open();
    let events = ledger.view().events(&SpanFilter::default()).unwrap().items;
    let told = events.iter().filter(|event| event.what == "calls_deleted");
    assert_eq!(told.count(), 1);
}

#[test]
fn damage_forbids_a_deletion_only_where_some_of_it_is() {
    let mut world = World::new(1 << 20);
    for number in 0..2 {
        for _ in 0..8 {
            world.play(&Step::Admit(number, number, false));
            world.play(&Step::Settle(0, false));
        }
    }
    world.end();
    let disk = &world.machine.disk;
    let first = disk.segments()[0];
    let middle = disk.bytes(first).len() / 2;
    disk.change(first, |bytes| bytes[middle] ^= 1);
    let report = try_delete(&world.machine, &run(1)).unwrap();
    assert_eq!(report.calls, 8);
    assert!(report.unreadable_bytes > 0);
    assert!(!holds(disk, "run-named-1"));
    let refused = try_delete(&world.machine, &run(0)).unwrap_err();
    assert!(matches!(refused, EraseError::Damaged(segment) if segment == first));
    let findings = verify_on(disk, &[], None).findings.len();

    let wish = Wish {
        scope: run(0),
        despite_damage: true,
    };
    let place = Place::Fake(IndexDisk::default());
    let at = world.machine.clock.now();
    assert!(
        erase_on(disk, &place, &wish, ("tests", at))
            .unwrap()
            .records
            > 0
    );
    assert!(!holds(disk, "text-of-call-7-only"));
    assert_eq!(verify_on(disk, &[], None).findings.len(), findings);
}

#[test]
fn torn_end_does_not_keep_anybody_from_seeing_what_would_go() {
    let mut world = World::new(1 << 20);
    world.play(&Step::Admit(0, 0, false));
    world.play(&Step::Settle(0, false));
    world.end();
    let last = *world.machine.disk.segments().last().unwrap();
    world.machine.disk.change(last, |bytes| {
        let torn = bytes[bytes.len() - 40..].to_vec();
        bytes.extend(&torn[..20]);
    });
    deleted(&world, &run(0));
}

#[test]
fn preview_changes_no_byte_and_keeps_what_a_crash_left_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let config = LedgerConfig {
        dir: dir.path().to_owned(),
        ..config()
    };
    let clock = Clock::manual(START);
    let (ledger, _) = open(&config, clock.clone(), undo).unwrap();
    let admission = admission(clock.call_id(), clock.now(), Some("r"), "a");
    let entry = ledger.admit(admission.clone(), None).unwrap();
    entry.settle(settlement(&admission), None);
    block_on(ledger.close()).unwrap();
    drop(ledger);
    let wish = Wish {
        scope: Scope::Run(label("r")),
        despite_damage: false,
    };
    let lock = dir.path().join("lock");
    assert_eq!(preview(dir.path(), &wish, clock.now()).unwrap().calls, 1);
    assert_eq!(fs::read(&lock).unwrap(), b"");
    fs::write(&lock, "pid = 1\n").unwrap();
    assert_eq!(preview(dir.path(), &wish, clock.now()).unwrap().calls, 1);
    assert_ne!(
        fs::read(&lock).unwrap(),
        b"",
        "the next start takes no look"
    );

    let done = erase(dir.path(), &wish, "tests", clock.now()).unwrap();
    assert!(done.calls == 1 && done.anchor.is_some());
    let (ledger, _) = open(&config, clock, undo).unwrap();
    assert!(all_calls(ledger.view()).is_empty());
}
