//! Whatever was recorded, and whichever of it is deleted: nothing of it is left, what was spent is
//! what it was, and what stays reads the same - also when the process ends within the deletion.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::config::LedgerConfig;
use crate::core::budget::{
    AccountId, AccountName, Amounts, Charge, Deed, Dimension, StoredAccount,
};
use crate::core::call::{Admission, CostSource, LateUsage, Settlement};
use crate::core::digest::Digest;
use crate::core::id::CallId;
use crate::core::loops::finding;
use crate::core::loops::trip::{Evidence, Trip};
use crate::core::metric::{Measurement, Subject};
use crate::core::money::NanoUsd;
use crate::core::recorded::HeaderLines;
use crate::core::time::Timestamp;
use crate::core::usage::{Provenance, Usage};

use super::super::audit::{FindingKind, verify_on};
use super::super::erase::{EraseError, ErasedReport, Scope, Wish, erase_on, resume};
use super::super::fake::{IndexDisk, Loss};
use super::super::index::Place;
use super::super::storage::Storage as _;
use super::super::{Entry, Event, Ledger, View};
use super::budgets::act;
use super::erase::holds;
use super::harness::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Run, user, whether it names a smaller limit for its run.
    Admit(u8, u8, bool),
    /// Which of those that are open, whether it is settled late.
    Settle(u8, bool),
    Late(u8),
    /// A loop of this call and the one before it was stopped.
    Trip(u8),
    Measure(u8),
    Stop(u8),
    Restart(bool),
}

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

pub(super) fn hour(hours: i64) -> Timestamp {
    Timestamp::from_micros(START.micros() + hours * HOUR_US)
}

fn run_name(run: u8) -> String {
    format!("run-named-{run}")
}

fn user_name(user: u8) -> String {
    format!("user-named-{user}")
}

/// A call and what it alone said.
#[derive(Clone)]
struct Planted {
    admission: Admission,
    words: Vec<String>,
    tightens: bool,
}

impl Planted {
    fn run(&self) -> String {
        self.admission.attribution.run.clone().unwrap().to_string()
    }

    fn is_meant(&self, scope: &Scope) -> bool {
        let who = &self.admission.attribution;
        match scope {
            Scope::Run(run) => who.run.as_ref() == Some(run),
            Scope::User(user) => who.user.as_ref() == Some(user),
            Scope::Before(at) => self.admission.started_at < *at,
        }
    }
}

pub(super) struct World {
    pub(super) machine: Machine,
    ledger: Option<Ledger>,
    open: Vec<(usize, Entry)>,
    pending: Vec<(usize, Timestamp)>,
    calls: Vec<Planted>,
    stopped: BTreeSet<String>,
    opened: BTreeSet<u8>,
}

pub(super) fn account(number: u8) -> AccountId {
    AccountId(Digest::from_bytes([number; 16]))
}

fn charges(run: u8, user: u8, nano_usd: i64) -> Vec<Charge> {
    let charge = |number| Charge {
        account: account(number),
        bucket: START,
        amounts: Amounts {
            calls: i64::from(nano_usd > 0),
            nano_usd,
            ..Amounts::default()
        },
    };
    [run, 10 + user, 20].map(charge).into()
}

impl World {
    pub(super) fn new(keep_bytes: u64) -> Self {
        let machine = Machine::new(LedgerConfig {
            segment_bytes: 4000,
            keep_bytes: Some(keep_bytes),
            ..config()
        });
        let ledger = Some(machine.open().0);
        Self {
            machine,
            ledger,
            open: Vec::new(),
            pending: Vec::new(),
            calls: Vec::new(),
            stopped: BTreeSet::new(),
            opened: BTreeSet::new(),
        }
    }

    pub(super) fn ledger(&self) -> Ledger {
        self.ledger.clone().unwrap()
    }

    pub(super) fn play(&mut self, step: &Step) {
        self.machine.clock.advance_micros(HOUR_US);
        let ledger = self.ledger();
        match *step {
            Step::Admit(run, user, tightens) => self.admit((run, user), tightens),
            Step::Settle(at, is_pending) if !self.open.is_empty() => {
                let (call, entry) = self.open.remove(usize::from(at) % self.open.len());
                self.settle(call, entry, is_pending);
            }
            Step::Late(at) if !self.pending.is_empty() => {
                let (call, at) = self.pending.remove(usize::from(at) % self.pending.len());
                self.late(call, at);
            }
            Step::Trip(at) if !self.calls.is_empty() => {
                self.trip(usize::from(at) % self.calls.len());
            }
            Step::Measure(at) if !self.calls.is_empty() => {
                let call = usize::from(at) % self.calls.len();
                ledger.measured(self.measurement(call)).unwrap().block();
            }
            Step::Stop(run) => {
                let name = run_name(run);
                let stop = Deed::RunStopped(label(&name));
                ledger.act(act(&self.machine, stop)).unwrap().block();
                self.stopped.insert(name);
            }
            Step::Restart(keeps_index) if self.open.is_empty() => {
                self.close();
                drop(ledger);
                if !keeps_index {
                    self.machine.index = IndexDisk::default();
                }
                self.ledger = Some(self.machine.open().0);
            }
            _ => {}
        }
    }

    pub(super) fn admit(&mut self, (run, user): (u8, u8), tightens: bool) {
        let (ledger, nth) = (self.ledger(), self.calls.len());
        let mut admission = self.machine.call(&run_name(run), "researcher");
        let word = |what: &str| format!("{what}-of-call-{nth}-only");
        let who = &mut admission.attribution;
        who.user = Some(label(&user_name(user)));
        who.tags = BTreeMap::from([("team".to_owned(), label(&word("tag")))]);
        who.variant = Some(label(&word("variant")));
        admission.client = Some(label(&word("client")));
        let mut headers = HeaderLines::default();
        headers.show("x-said", &word("header"));
        admission.headers = Some(headers);
        admission.hold = charges(run, user, 7);
        if tightens {
            admission.tightened.nano_usd = Some(1000);
        }
        for (number, dimension, name) in [
            (run, Dimension::Run, run_name(run)),
            (10 + user, Dimension::User, user_name(user)),
        ] {
            let key = vec![(dimension, Some(label(&name)))];
            let rule = label("each");
            if self.opened.insert(number) {
                let name = AccountName { rule, key };
                assert!(ledger.open_account(account(number), &name));
            }
        }
        let texts = [word("text"), format!("shared by some {}", nth % 2)];
        let messages = texts.map(|text| format!("{{\"content\":\"{}\"}}", [&*text; 8].join(" ")));
        let request = conversation(ledger.seed(), &messages);
        let entry = ledger.admit(admission.clone(), Some(request)).unwrap();
        entry.durable().block();
        self.open.push((nth, entry));
        let words = ["tag", "variant", "client", "header", "text", "answer"];
        let more = ["note", "sample"];
        let words = words.iter().chain(&more).map(|what| word(what)).collect();
        self.calls.push(Planted {
            admission,
            words,
            tightens,
        });
    }

    fn numbers(&self, call: usize) -> (u8, u8) {
        let hold = &self.calls[call].admission.hold;
        let number = |charge: &Charge| charge.account.0.to_bytes()[0];
        (number(&hold[0]), number(&hold[1]) - 10)
    }

    fn settle(&mut self, call: usize, entry: Entry, is_pending: bool) {
        let (run, user) = self.numbers(call);
        let now = self.machine.clock.now();
        let (answer, settlement) = (
            format!("answer-of-call-{call}-only"),
            Settlement {
                charges: charges(run, user, 5),
                settled_at: Some(now),
                is_pending,
                provenance: if is_pending {
                    Provenance::Estimated
                } else {
                    Provenance::Reported
                },
                ..settlement(&self.calls[call].admission)
            },
        );
        entry.settle(settlement, Some(plain(answer.as_bytes())));
        if is_pending {
            self.pending.push((call, now));
        }
    }

    fn late(&self, call: usize, charged_at: Timestamp) {
        let (run, user) = self.numbers(call);
        let late = LateUsage {
            id: self.calls[call].admission.id,
            at: self.machine.clock.now(),
            usage: Usage {
                output_tokens: 700,
                ..Usage::default()
            },
            cost: Some(NanoUsd::new(20)),
            cost_source: Some(CostSource::Table),
            charges: charges(run, user, -3),
            charged_at,
            is_estimated: false,
        };
        assert!(self.ledger().late(late));
    }

    /// Nobody says of which run, as where the attribution of calls differs.
    fn trip(&self, call: usize) {
        let (at, ledger) = (self.machine.clock.now(), self.ledger());
        let calls = [call.saturating_sub(1), call];
        let evidence = Evidence {
            signal: finding::Signal::SameAnswer,
            scope: finding::Scope::Run,
            period: 1,
            count: 2,
            agents: vec![label("researcher")],
            calls: calls.map(|call| self.calls[call].admission.id).into(),
            since: at,
            tokens: 1,
            sample: calls
                .map(|call| format!("sample-of-call-{call}-only"))
                .into(),
        };
        let mut event = Event::own(at, "loop_tripped", None);
        event.trip = Some(Box::new(Trip {
            id: self.calls[call].admission.id,
            at,
            run: None,
            conversation: None,
            agent: label("researcher"),
            caller: None,
            evidence,
            refused: 1,
            closed: None,
        }));
        ledger.event(event).unwrap().block();
    }

    fn measurement(&self, call: usize) -> Measurement {
        let admission = &self.calls[call].admission;
        Measurement {
            at: self.machine.clock.now(),
            name: "solved".to_owned(),
            value: "true".parse().unwrap(),
            subject: Subject::Call(admission.id),
            who: label("judge"),
            note: Some(format!("note-of-call-{call}-only")),
            key: None,
            run: admission.attribution.run.clone(),
            agent: Some(admission.attribution.agent.clone()),
            charged: None,
        }
    }

    pub(super) fn close(&mut self) {
        let ledger = self.ledger.take().unwrap();
        ledger.sync_index();
        block_on(ledger.close()).unwrap();
    }

    /// Calls of another run and user until the first segments are gone.
    pub(super) fn push_out_the_front(&mut self) {
        let first = self.machine.disk.segments()[0];
        while self.machine.disk.segments()[0] == first {
            let open = self.open.len();
            self.play(&Step::Admit(2, 2, false));
            let (call, entry) = self.open.remove(open);
            self.settle(call, entry, false);
            self.ledger().sync_index();
        }
    }

    /// Plays all of it; the last calls that are open end with the process, and are settled by the next.
    pub(super) fn played(keep_bytes: u64, steps: &[Step]) -> Self {
        let mut world = Self::new(keep_bytes);
        for step in steps {
            world.play(step);
        }
        world.end();
        world
    }

    pub(super) fn reopen(&mut self) {
        self.ledger = Some(self.machine.open().0);
    }

    pub(super) fn end(&mut self) {
        for (_, entry) in self.open.drain(..) {
            std::mem::forget(entry);
        }
        self.close();
        self.machine.config.keep_bytes = None;
        self.reopen();
        self.close();
    }
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
        seen.filter(|call| call.is_meant(scope))
    };
    // A summary may tell of calls that are gone.
    let is_old = matches!(scope, Scope::Before(_));
    let staying = |run: &str| {
        let mut calls = world.calls.iter().filter(|call| call.run() == run);
        calls.any(|call| !call.is_meant(scope) && (is_old || seen(&call)))
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
    words.sort();
    words.dedup();
    words
}

pub(super) fn check(world: &World, scope: &Scope, before: &Told, machine: &Machine) {
    let is_meant = |id: &CallId| {
        let mut calls = world.calls.iter();
        calls.any(|call| call.admission.id == *id && call.is_meant(scope))
    };
    for word in gone(world, scope, before) {
        assert!(!holds(&machine.disk, &word), "{word} is left, {scope:?}");
    }
    let after = told(machine);
    let mut calls = before.calls.clone();
    calls.retain(|id, _| !is_meant(id));
    let mut controls = before.controls.clone();
    if let Scope::Run(run) = scope {
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
    ) {
        let world = World::played(keep_bytes, &steps);
        let (ledger, _) = world.machine.open();
        let live = told_by(ledger.view());
        drop(ledger);
        let anchor = verify_on(&world.machine.disk, &[], None).head;
        for scope in &scopes {
            let before = told(&world.machine);
            let untouched = world.machine.disk.after(Loss::Nothing);
            let done = world.machine.with_disk(untouched.clone());
            let report = try_delete(&done, scope).unwrap();
            let meant = world.calls.iter().filter(|call| call.is_meant(scope));
            let seen = meant.filter(|call| before.calls.contains_key(&call.admission.id));
            prop_assert!(report.calls >= seen.count() as u64);
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
