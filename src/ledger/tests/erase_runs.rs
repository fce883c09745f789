//! Runs that stay while their parents go: they stay part of what these were part of.

use std::collections::BTreeMap;

use super::super::audit::verify_on;
use super::super::erase::Scope;
use super::super::fake::{IndexDisk, Loss};
use super::super::record::kind;
use super::erase::holds;
use super::erase_any::try_delete;
use super::erase_world::{Step, World, hour, run_name};
use super::harness::*;

fn run(number: u8) -> Scope {
    Scope::Run(label(&run_name(number)))
}

const USER: &str = "user-named-0";

fn user() -> Scope {
    Scope::User(label(USER))
}

/// One call of each run, whose user and parent are given.
fn called(keep_bytes: u64, calls: &[(u8, u8, Option<u8>)]) -> World {
    let mut world = World::new(keep_bytes);
    for (run, user, parent) in calls {
        world.parent = parent.map(run_name);
        world.play(&Step::Admit(*run, *user, false));
        world.play(&Step::Settle(0, false));
    }
    world.parent = None;
    world
}

/// Whose part each run is, as an index made anew tells, from above and from below.
#[track_caller]
fn parents(world: &World) -> BTreeMap<String, String> {
    let machine = Machine {
        index: IndexDisk::default(),
        disk: world.machine.disk.after(Loss::Nothing),
        ..world.machine.clone()
    };
    let (ledger, _) = machine.open();
    let mut parents = BTreeMap::new();
    let mut take = |run: crate::core::id::Label, state: crate::core::budget::RunState| {
        parents.extend(state.parent.map(|parent| (run, parent)));
    };
    ledger.view().each_run(&mut take).unwrap();
    for (child, parent) in &parents {
        let found = ledger.view().run(parent).unwrap().unwrap();
        let mut children = found.children.iter().map(|it| &it.run);
        assert!(children.any(|it| it == child), "{child} of {parent}");
    }
    for row in ledger
        .view()
        .runs(&super::super::RunFilter::default())
        .unwrap()
        .items
    {
        assert!(row.first_at >= START, "{row:?}");
    }
    assert!(verify_on(&world.machine.disk, &[], None).is_sound());
    let text =
        |(child, parent): (crate::core::id::Label, _)| (child.to_string(), format!("{parent}"));
    parents.into_iter().map(text).collect()
}

#[track_caller]
fn check(world: &World, expected: &[(u8, u8)]) {
    let expected = expected
        .iter()
        .map(|(run, parent)| (run_name(*run), run_name(*parent)));
    assert_eq!(parents(world), expected.collect());
}

#[test]
fn run_stays_part_of_what_its_deleted_parent_was_part_of() {
    let lines = [(2, 1, None), (0, 0, Some(2)), (1, 1, Some(0))];
    for scope in [user(), run(0)] {
        let mut world = called(1 << 20, &lines);
        world.end();
        check(&world, &[(0, 2), (1, 0)]);
        assert_eq!(try_delete(&world.machine, &scope).unwrap().calls, 1);
        check(&world, &[(0, 2), (1, 0)]);
        assert_eq!(world.machine.disk.records(kind::LINK), 1);
        assert!(scope != user() || !holds(&world.machine.disk, USER));
        // With whoever was part of it goes what was kept for that one.
        assert_eq!(try_delete(&world.machine, &run(1)).unwrap().calls, 1);
        check(&world, &[]);
        assert_eq!(world.machine.disk.records(kind::LINK), 0);
    }
}

#[test]
fn run_that_goes_on_by_calls_that_do_not_say_whose_part_it_is_stays_part_of_it() {
    let lines = [(2, 1, None), (1, 0, Some(2)), (1, 1, None)];
    for scope in [user(), Scope::Before(hour(4))] {
        let mut world = called(1 << 20, &lines);
        world.end();
        assert!(try_delete(&world.machine, &scope).unwrap().calls >= 1);
        let is_old = matches!(scope, Scope::Before(_));
        check(&world, if is_old { &[] } else { &[(1, 2)] });
        assert_eq!(holds(&world.machine.disk, &run_name(2)), !is_old);
    }
}

#[test]
fn run_becomes_part_of_the_next_above_that_is_still_told_of() {
    let above = [(3, 1, None), (2, 0, Some(3)), (0, 0, Some(2))];
    let mut world = called(1 << 20, &[&above[..], &[(1, 1, Some(0))]].concat());
    world.end();
    assert_eq!(try_delete(&world.machine, &user()).unwrap().calls, 2);
    check(&world, &[(0, 3), (1, 0)]);
    assert!(!holds(&world.machine.disk, &run_name(2)), "nobody has it");

    let mut alone = called(1 << 20, &[(2, 0, None), (0, 0, Some(2)), (1, 1, Some(0))]);
    alone.end();
    assert_eq!(try_delete(&alone.machine, &user()).unwrap().calls, 2);
    check(&alone, &[(1, 0)]);
    assert!(!holds(&alone.machine.disk, &run_name(2)));
}

#[test]
fn stopped_run_stays_part_of_another_although_its_calls_go() {
    let mut world = called(1 << 20, &[(2, 1, None), (0, 0, Some(2))]);
    world.play(&Step::Stop(0));
    world.end();
    assert_eq!(try_delete(&world.machine, &user()).unwrap().calls, 1);
    check(&world, &[(0, 2)]);
    try_delete(&world.machine, &run(1)).unwrap();
    check(&world, &[(0, 2)]);
}

#[test]
fn run_whose_calls_are_in_a_checkpoint_alone_moves_up_when_its_parent_goes() {
    let mut world = called(12_000, &[(4, 1, None), (0, 0, Some(4)), (1, 1, Some(0))]);
    for number in [4, 1] {
        world.play(&Step::Stop(number));
    }
    while world.machine.disk.segments()[0] < 3 {
        world.push_out_the_front();
    }
    // So that there is something of it to delete.
    world.play(&Step::Admit(0, 0, false));
    world.play(&Step::Settle(0, false));
    world.end();
    check(&world, &[(0, 4), (1, 0)]);
    assert_eq!(try_delete(&world.machine, &run(0)).unwrap().calls, 1);
    check(&world, &[(1, 4)]);
    assert!(!holds(&world.machine.disk, &run_name(0)));
}
