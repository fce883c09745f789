//! Whatever was recorded, and whichever of it is deleted: nothing of it is left, what was spent is
//! what it was, and what stays reads the same - also when the process ends within the deletion.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::core::budget::{AccountId, StoredAccount};
use crate::core::id::CallId;

use super::super::View;
use super::super::audit::{FindingKind, verify_on};
use super::super::erase::{EraseError, ErasedReport, Scope, Wish, erase_on, resume};
use super::super::fake::{IndexDisk, Loss};
use super::super::index::Place;
use super::super::storage::Storage as _;
use super::erase::holds;
use super::erase_world::{Planted, Step, World, hour, run_name, user_name};
use super::harness::*;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3u8, 0..3u8, prop::bool::weighted(0.1)).prop_map(|(r, u, t)| Step::Admit(r, u, t)),
        5 => (any::<u8>(), prop::bool::weighted(0.4)).prop_map(|(at, late)| Step::Settle(at, late)),
        2 => any::<u8>().prop_map(Step::Late),
        1 => any::<u8>().prop_map(Step::Trip),
        1 => any::<u8>().prop_map(Step::Measure),
        1 => (0..3u8).prop_map(Step::Stop),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        (0..3u8).prop_map(|run| Scope::Run(label(&run_name(run)))),
        (0..3u8).prop_map(|user| Scope::User(label(&user_name(user)))),
        (0..60i64).prop_map(|hours| Scope::Before(hour(hours))),
    ]
}

/// What of a ledger must not change; told of an index made anew.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    pub(super) rollups: String,
    agents: String,
    pub(super) accounts: BTreeMap<AccountId, StoredAccount>,
    pub(super) calls: BTreeMap<CallId, String>,
    pub(super) controls: BTreeMap<String, String>,
}

pub(super) fn told(machine: &Machine) -> Told {
    let anew = Machine {
        index: IndexDisk::default(),
        disk: machine.disk.after(Loss::Nothing),
        ..machine.clone()
    };
    let (ledger, _) = anew.open();
    let told = told_by(ledger.view());
    drop(ledger);
    told
}

fn told_by(view: &View) -> Told {
    let body = |body: Option<super::super::Body>| body.map(|body| body.bytes);
    let calls = all_calls(view).into_iter().map(|row| {
        let request = body(view.request_body(row.id).unwrap());
        let response = body(view.response_body(row.id).unwrap());
        (row.id, format!("{row:?} {request:?} {response:?}"))
    });
    let agents = view.agents(&super::super::SpanFilter::default()).unwrap();
    let agents = agents.items.into_iter();
    let agents: BTreeMap<_, _> = agents.map(|row| (row.agent, row.figures.totals)).collect();
    let mut accounts = all_accounts(view);
    for account in accounts.values_mut() {
        account.name = None;
    }
    let mut controls = BTreeMap::new();
    let mut take = |run: crate::core::id::Label, state: crate::core::budget::RunState| {
        let held = (state.control, state.tightened);
        if held != Default::default() {
            controls.insert(run.to_string(), format!("{held:?}"));
        }
    };
    view.each_run(&mut take).unwrap();
    Told {
        rollups: format!("{:?}", all_rollups(view)),
        agents: format!("{agents:?}"),
        accounts,
        calls: calls.collect(),
        controls,
    }
}

pub(super) fn try_delete(machine: &Machine, scope: &Scope) -> Result<ErasedReport, EraseError> {
    let wish = Wish {
        scope: scope.clone(),
        despite_damage: false,
    };
    let place = Place::Fake(machine.index.clone());
    erase_on(&machine.disk, &place, &wish, ("tests", machine.clock.now()))
}

/// What must be found nowhere.
fn gone(world: &World, scope: &Scope, before: &Told) -> Vec<String> {
    let seen = |call: &&Planted| before.calls.contains_key(&call.admission.id);
    let going = || {
        let seen = world.calls.iter().filter(seen);
        seen.filter(|call| world.goes(call, scope))
    };
    // A summary may tell of calls that are gone.
    let is_old = matches!(scope, Scope::Before(_));
    let staying = |run: &str| {
        let mut calls = world.calls.iter().filter(|call| call.run() == run);
        calls.any(|call| !world.goes(call, scope) && (is_old || seen(&call)))
    };
    let is_awaited = |name: &str| {
        let mut calls = world.calls.iter().filter(|call| world.is_awaited(call));
        calls.any(|call| {
            let user = call.admission.attribution.user.as_ref();
            call.run() == name || user.is_some_and(|user| user.as_str() == name)
        })
    };
    let mut words: Vec<_> = going().flat_map(|call| call.words.clone()).collect();
    for call in going() {
        let run = call.run();
        let stays = staying(&run)
            || world.stopped.contains(&run)
            || world.calls.iter().any(|it| it.tightens && it.run() == run);
        if matches!(scope, Scope::Run(_)) || !stays {
            words.push(run);
        }
        if let Scope::User(user) = scope {
            words.push(user.to_string());
        }
    }
    words.retain(|word| !is_awaited(word));
    words.sort();
    words.dedup();
    words
}

pub(super) fn check(world: &World, scope: &Scope, before: &Told, machine: &Machine) {
    let goes = |id: &CallId| {
        let mut calls = world.calls.iter();
        calls.any(|call| call.admission.id == *id && world.goes(call, scope))
    };
    for word in gone(world, scope, before) {
        assert!(!holds(&machine.disk, &word), "{word} is left, {scope:?}");
    }
    let after = told(machine);
    let mut calls = before.calls.clone();
    calls.retain(|id, _| !goes(id));
    let mut controls = before.controls.clone();
    let stays = |call: &Planted| call.is_meant(scope) && world.is_awaited(call);
    if let Scope::Run(run) = scope
        && !world.calls.iter().any(stays)
    {
        controls.remove(run.as_str());
    }
    let expected = Told {
        rollups: before.rollups.clone(),
        agents: before.agents.clone(),
        accounts: before.accounts.clone(),
        calls,
        controls,
    };
    assert_eq!(after, expected, "{scope:?}");
    let audit = verify_on(&machine.disk, &[], None);
    assert!(audit.is_sound(), "{audit:?}");
}

/// The index that the next process makes holds none of it either.
fn check_index(world: &World, scope: &Scope, before: &Told, machine: &Machine) {
    let (ledger, _) = machine.open();
    ledger.sync_index();
    block_on(ledger.close()).unwrap();
    drop(ledger);
    for word in gone(world, scope, before) {
        machine.index.change(|bytes| {
            let found = memchr::memmem::find(bytes, word.as_bytes());
            assert!(found.is_none(), "the index holds {word}");
        });
        assert!(!holds(&machine.disk, &word), "{word} came back");
    }
}

fn ends_at(world: &World, scope: &Scope, before: &Told, at: (u64, bool, Loss)) -> bool {
    let (operation, tears, loss) = at;
    let machine = world
        .machine
        .with_disk(world.machine.disk.after(Loss::Nothing));
    machine.disk.fail_at(operation, tears);
    assert!(try_delete(&machine, scope).is_err());
    let next = machine.with_disk(machine.disk.after(loss));
    resume(&next.disk, &Place::Fake(next.index.clone())).unwrap();
    assert_eq!(next.disk.list_staged().unwrap(), Vec::<u64>::new());
    let is_done = next.disk.records(super::super::record::kind::REMOVAL)
        > world
            .machine
            .disk
            .records(super::super::record::kind::REMOVAL);
    if is_done {
        check(world, scope, before, &next);
    } else {
        assert_eq!(told(&next), *before, "{at:?}");
        assert!(verify_on(&next.disk, &[], None).is_sound());
    }
    is_done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_deleted_is_gone_and_what_was_spent_and_stays_is_as_it_was(
        steps in prop::collection::vec(step(), 1..60),
        keep_bytes in prop_oneof![Just(12_000u64), Just(1 << 20)],
        scopes in prop::collection::vec(scope(), 1..3),
        ends in prop::collection::vec((any::<u64>(), any::<bool>(), 0..4usize), 2),
        is_later in prop::bool::weighted(0.3),
    ) {
        let world = World::played(keep_bytes, &steps);
        if is_later {
            world.machine.clock.advance_micros(31 * 24 * HOUR_US);
        }
        let (ledger, _) = world.machine.open();
        let live = told_by(ledger.view());
        drop(ledger);
        let anchor = verify_on(&world.machine.disk, &[], None).head;
        for scope in &scopes {
            let before = told(&world.machine);
            let untouched = world.machine.disk.after(Loss::Nothing);
            let done = world.machine.with_disk(untouched.clone());
            let report = try_delete(&done, scope).unwrap();
            let seen = |call: &&Planted| before.calls.contains_key(&call.admission.id);
            let seen = || world.calls.iter().filter(seen);
            let going = seen().filter(|call| world.goes(call, scope)).count();
            prop_assert!(report.calls >= going as u64);
            let meant = seen().filter(|call| call.is_meant(scope)).count();
            prop_assert_eq!(report.running_calls, (meant - going) as u64);
            if report.records == 0 {
                continue;
            }
            check(&world, scope, &before, &done);
            prop_assert_eq!(&before.rollups, &live.rollups);
            for (operation, tears, loss) in &ends {
                let at = operation % done.disk.operations();
                ends_at(&world, scope, &before, (at, *tears, Loss::EACH[*loss]));
            }
            check_index(&world, scope, &before, &done);
            let met = verify_on(&done.disk, anchor.as_slice(), None);
            let is_told = met.findings.iter().all(|it| it.kind == FindingKind::TakenOut);
            prop_assert!(is_told && anchor.is_some() && met.anchors_met == 1, "{:?}", met);
            // The next one finds what this one left.
            world.machine.disk.become_copy_of(&done.disk);
        }
    }
}

/// A front that is gone, calls open and pending across it, a stopped run.
fn rich() -> World {
    let mut world = World::new(12_000);
    let first = [Step::Admit(0, 1, false), Step::Admit(1, 1, false)];
    let more = [Step::Admit(2, 2, false), Step::Settle(0, true)];
    for step in first.iter().chain(&more) {
        world.play(step);
    }
    world.push_out_the_front();
    for nth in 0..4 {
        world.play(&Step::Admit(nth % 3, nth % 2, nth == 3));
        world.play(&Step::Settle(2, nth % 2 == 0));
    }
    let last = [Step::Stop(2), Step::Late(0), Step::Settle(0, false)];
    for step in last.iter().chain(&[Step::Trip(10), Step::Measure(12)]) {
        world.play(step);
    }
    world.end();
    world
}

#[test]
fn process_may_end_at_every_step_of_a_deletion() {
    let world = rich();
    let before = told(&world.machine);
    assert!(world.machine.disk.segments()[0] > 1, "the front is there");
    for scope in [
        Scope::Run(label("run-named-1")),
        Scope::User(label("user-named-1")),
        Scope::Before(hour(20)),
    ] {
        let machine = &world.machine;
        let done = machine.with_disk(machine.disk.after(Loss::Nothing));
        assert!(try_delete(&done, &scope).unwrap().calls > 1);
        let mut seen = [false; 2];
        for operation in 0..done.disk.operations() {
            for (tears, loss) in [false, true]
                .into_iter()
                .flat_map(|it| Loss::EACH.map(|loss| (it, loss)))
            {
                let is_done = ends_at(&world, &scope, &before, (operation, tears, loss));
                seen[usize::from(is_done)] = true;
            }
        }
        assert_eq!(seen, [true; 2]);
    }
}
