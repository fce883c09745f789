//! Budgets in the ledger: what was spent is the fold of what the log says, whatever befalls it.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use crate::config::{Durability, LedgerConfig};
use crate::core::budget::{
    AccountId, AccountName, Act, Amounts, Charge, Deed, Dimension, Limits, Raise, StoredAccount,
};
use crate::core::call::{Admission, CostSource, LateUsage, Outcome, Settlement};
use crate::core::digest::Digest;
use crate::core::id::CallId;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::usage::{Provenance, Usage};

use super::super::fake::{FakeDisk, IndexDisk, Loss};
use super::super::log::{LogReader, Step as Read, catalog};
use super::super::record::kind;
use super::super::{Entry, Ledger, RunFilter, SpanFilter, View};
use super::harness::*;

fn account(number: u8) -> AccountId {
    AccountId(Digest::from_bytes([number; 16]))
}

fn name(rule: &str, run: Option<&str>) -> AccountName {
    AccountName {
        rule: label(rule),
        key: run
            .map(|run| (Dimension::Run, Some(label(run))))
            .into_iter()
            .collect(),
    }
}

pub(super) fn charge(number: u8, calls: i64) -> Charge {
    Charge {
        account: account(number),
        bucket: START,
        amounts: Amounts {
            calls,
            nano_usd: calls * 100,
            ..Amounts::default()
        },
    }
}

fn calls_of(view: &View, number: u8) -> i64 {
    let account = view.account(account(number)).unwrap().unwrap();
    let spent = account.spent;
    let ends = [i64::MIN, i64::MAX].map(Timestamp::from_micros);
    spent.between(ends[0], ends[1]).calls
}

pub(super) fn act(machine: &Machine, deed: Deed) -> Act {
    Act {
        at: machine.clock.now(),
        who: "ann".to_owned(),
        deed,
        details: "as asked".to_owned(),
    }
}

fn raise(number: u8, calls: i64) -> Deed {
    let by = Limits {
        calls: Some(calls),
        ..Limits::default()
    };
    Deed::BudgetRaised(account(number), Raise { by, until: None })
}

fn late(machine: &Machine, id: CallId, charges: Vec<Charge>) -> LateUsage {
    LateUsage {
        id,
        at: machine.clock.now(),
        usage: Usage {
            input_tokens: 3,
            output_tokens: 700,
            ..Usage::default()
        },
        cost: Some(NanoUsd::new(20)),
        cost_source: Some(CostSource::Table),
        charges,
        charged_at: START,
        is_estimated: false,
        instance: None,
        is_found: false,
    }
}

fn pending(admission: &Admission, charges: Vec<Charge>) -> Settlement {
    Settlement {
        provenance: Provenance::Estimated,
        is_pending: true,
        charges,
        settled_at: Some(admission.started_at),
        ..settlement(admission)
    }
}

pub(super) fn admit_holding(
    machine: &Machine,
    ledger: &Ledger,
    hold: Vec<Charge>,
) -> (Admission, Entry) {
    let admission = Admission {
        hold,
        ..machine.call("r", "a")
    };
    let entry = ledger.admit(admission.clone(), None).unwrap();
    (admission, entry)
}

/// Accounts by what the log says, told once more and in the plainest way.
fn fold_of_log(disk: &FakeDisk) -> BTreeMap<AccountId, StoredAccount> {
    let mut fold: BTreeMap<AccountId, StoredAccount> = BTreeMap::new();
    let (mut settled, mut late_ones) = (HashMap::new(), HashSet::new());
    let mut acts: Vec<Act> = Vec::new();
    let segments = catalog(disk).unwrap().all();
    let mut reader = LogReader::from_start(disk, &segments);
    while let Some(step) = reader.next().unwrap() {
        let Read::Record { kind, payload, .. } = step else {
            continue;
        };
        let mut of = |id, change: &mut dyn FnMut(&mut StoredAccount)| {
            change(fold.entry(id).or_insert_with(|| StoredAccount::new(None)));
        };
        match kind {
            kind::SETTLEMENT => {
                let it: Settlement = minicbor::decode(payload).unwrap();
                if settled.insert(it.id, it.is_pending).is_none() {
                    for charge in &it.charges {
                        of(charge.account, &mut |account| {
                            account.charge(charge, it.settled_at.unwrap());
                        });
                    }
                }
            }
            kind::LATE => {
                let it: LateUsage = minicbor::decode(payload).unwrap();
                if settled.get(&it.id) == Some(&true) && late_ones.insert(it.id) {
                    for charge in &it.charges {
                        of(charge.account, &mut |account| {
                            if account.reset_at.is_none_or(|reset| reset < it.charged_at) {
                                account.charge(charge, it.at);
                            }
                        });
                    }
                }
            }
            kind::ACT => {
                let it: Act = minicbor::decode(payload).unwrap();
                if !acts.contains(&it) {
                    match it.deed.clone() {
                        Deed::BudgetRaised(id, by) => of(id, &mut |it_| it_.raise(by, it.at)),
                        Deed::BudgetReset(id) => of(id, &mut |it_| it_.reset(it.at)),
                        _ => {}
                    }
                    acts.push(it);
                }
            }
            _ => {}
        }
    }
    fold
}

/// One step of a random schedule.
#[derive(Clone, Debug)]
enum Step {
    Admit(u8, i64),
    /// What is open and as far down the list; whether it stays pending.
    Settle(u8, i64, bool),
    Late(u8, i64),
    /// Twice at one moment, for two accounts: two acts.
    Raise(u8, i64),
    Reset(u8),
    /// One operation of the disk fails soon.
    Fail(u8, bool),
    Crash(u8, bool),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let (account, calls) = (0..4_u8, 1..50_i64);
    prop_oneof![
        4 => (account.clone(), calls.clone()).prop_map(|(id, n)| Step::Admit(id, n)),
        4 => (any::<u8>(), calls.clone(), any::<bool>()).prop_map(|(n, c, p)| Step::Settle(n, c, p)),
        3 => (any::<u8>(), -50..50_i64).prop_map(|(n, calls)| Step::Late(n, calls)),
        1 => (account.clone(), calls).prop_map(|(id, n)| Step::Raise(id, n)),
        1 => account.prop_map(Step::Reset),
        1 => (0..6_u8, any::<bool>()).prop_map(|(at, tears)| Step::Fail(at, tears)),
        1 => (0..4_u8, any::<bool>()).prop_map(|(loss, kept)| Step::Crash(loss, kept)),
        2 => Just(Step::Sync),
    ]
}

/// Does the steps one after the other on one machine.
struct Player {
    machine: Machine,
    ledger: Option<Ledger>,
    open: Vec<(Admission, Entry)>,
    /// And when they were settled.
    pending: Vec<(CallId, Timestamp)>,
}

impl Player {
    fn new(config: LedgerConfig) -> Self {
        let machine = Machine::new(config);
        let ledger = Some(machine.open().0);
        Self {
            machine,
            ledger,
            open: Vec::new(),
            pending: Vec::new(),
        }
    }

    fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().unwrap()
    }

    fn play(&mut self, step: &Step) {
        self.machine.clock.advance_micros(1_000_000);
        let ledger = self.ledger().clone();
        match *step {
            Step::Admit(id, calls) => {
                let hold = vec![charge(id, calls), charge(9, calls)];
                self.open.push(admit_holding(&self.machine, &ledger, hold));
            }
            Step::Settle(at, calls, is_pending) if !self.open.is_empty() => {
                let (admission, entry) = self.open.remove(usize::from(at) % self.open.len());
                let charges = vec![charge(at % 4, calls), charge(9, calls)];
                let settlement = Settlement {
                    is_pending,
                    ..pending(&admission, charges)
                };
                entry.settle(settlement, None);
                self.pending.push((admission.id, self.machine.clock.now()));
            }
            Step::Late(at, calls) if !self.pending.is_empty() => {
                // Not taken out: it may come again.
                let (id, charged_at) = self.pending[usize::from(at) % self.pending.len()];
                drop(ledger.late(LateUsage {
                    charged_at,
                    ..late(&self.machine, id, vec![charge(at % 4, calls)])
                }));
            }
            Step::Raise(id, calls) => {
                for id in [id, id + 1] {
                    drop(ledger.act(act(&self.machine, raise(id, calls))));
                }
            }
            Step::Reset(id) => {
                drop(ledger.act(act(&self.machine, Deed::BudgetReset(account(id)))));
            }
            Step::Fail(later, tears) => {
                let disk = &self.machine.disk;
                disk.fail_once_at(disk.operations() + u64::from(later), tears);
            }
            Step::Crash(loss, keeps_index) => self.crash(loss, keeps_index),
            Step::Sync => drop(ledger.sync_index()),
            Step::Settle(..) | Step::Late(..) => {}
        }
    }

    fn crash(&mut self, loss: u8, keeps_index: bool) {
        let left = self.machine.disk.after(Loss::EACH[usize::from(loss)]);
        let mut next = self.machine.with_disk(left);
        if !keeps_index {
            next.index = IndexDisk::default();
        }
        self.open.clear();
        self.ledger = None;
        self.machine = next;
        self.ledger = Some(self.machine.open().0);
    }

    /// What accounts there are, when the ledger works.
    fn accounts(&self) -> BTreeMap<AccountId, StoredAccount> {
        self.machine.disk.heal();
        self.ledger().sync_index();
        while self.ledger().status().failing {
            std::thread::yield_now();
        }
        all_accounts(self.ledger().view())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn accounts_are_the_fold_of_the_log_whatever_fails(
        steps in prop::collection::vec(step(), 1..60), strict in any::<bool>(),
    ) {
        let mut player = Player::new(LedgerConfig {
            segment_bytes: 2500,
            durability: if strict { Durability::Strict } else { Durability::Relaxed },
            ..config()
        });
        for step in &steps {
            player.play(step);
        }
        let accounts = player.accounts();
        prop_assert_eq!(&accounts, &fold_of_log(&player.machine.disk));
        let Player { mut machine, ledger, open, .. } = player;
        for (_, entry) in open {
            std::mem::forget(entry);
        }
        drop(ledger);
        let kept = everything(machine.open().0.view());
        machine.index = IndexDisk::default();
        let (ledger, recovery) = machine.open();
        prop_assert!(recovery.index_rebuilt || machine.disk.segments().is_empty());
        prop_assert_eq!(everything(ledger.view()), kept);
    }

    #[test]
    fn dropped_segments_and_their_checkpoint_say_what_was_spent(
        steps in prop::collection::vec(step(), 20..80)
    ) {
        let whole = LedgerConfig { segment_bytes: 1500, ..config() };
        let short = LedgerConfig { keep_bytes: Some(5000), ..whole.clone() };
        let [mut whole, mut short] = [whole, short].map(Player::new);
        for step in steps.iter().filter(|step| !matches!(step, Step::Fail(..) | Step::Crash(..))) {
            whole.play(step);
            short.play(step);
        }
        let expected = whole.accounts();
        while short.ledger().status().segments > 2 && short.ledger().status().log_bytes > 5000 {
            short.ledger().sync_index();
        }
        prop_assert_eq!(short.accounts(), expected.clone());
        let rollups = all_rollups(short.ledger().view());
        prop_assert_eq!(&rollups, &all_rollups(whole.ledger().view()));
        short.crash(0, false);
        short.machine.clock.advance_micros(1);
        let settled: Vec<_> = whole.open.drain(..).map(|(admission, _)| admission).collect();
        let recovered = short.accounts();
        let held = settled.iter().flat_map(|admission| &admission.hold);
        let mut sums = expected;
        for charge in held {
            let new = sums.entry(charge.account).or_insert_with(|| StoredAccount::new(None));
            new.charge(charge, Timestamp::default());
        }
        let spent = |accounts: BTreeMap<AccountId, StoredAccount>| -> Vec<_> {
            accounts.into_iter().map(|(id, account)| (id, account.spent, account.raises)).collect()
        };
        prop_assert_eq!(spent(recovered), spent(sums));
    }
}

#[test]
fn recovered_call_is_charged_once_whenever_recovery_dies() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let (admission, entry) = admit_holding(&machine, &ledger, vec![charge(1, 7)]);
    entry.durable().block();
    let left = machine.disk.after(Loss::Nothing);
    let crashed = machine.with_disk(left);
    std::mem::forget(entry);
    let whole = crashed.with_disk(crashed.disk.after(Loss::Nothing));
    whole.clock.advance_micros(HOUR_US);
    drop(whole.open());
    let operations = whole.disk.operations();
    assert!(operations >= 2);
    for at in 0..=operations {
        let next = crashed.with_disk(crashed.disk.after(Loss::Nothing));
        next.disk.fail_at(at, true);
        drop(next.try_open());
        for loss in Loss::EACH {
            let again = next.with_disk(next.disk.after(loss));
            for machine in [
                again.clone(),
                Machine {
                    index: IndexDisk::default(),
                    ..again
                },
            ] {
                let what = format!("operation {at}, {loss:?}");
                let (ledger, _) = machine.open();
                assert_eq!(calls_of(ledger.view(), 1), 7, "{what}");
                let stored = ledger.view().account(account(1)).unwrap().unwrap();
                assert_eq!(stored.last_at, machine.clock.now(), "{what}");
                let row = ledger.view().call(admission.id).unwrap().unwrap().row;
                assert_eq!(row.outcome, Some(Outcome::Recovered), "{what}");
            }
        }
    }
}

#[test]
fn call_that_is_dropped_is_charged_its_hold_now() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let (_, entry) = admit_holding(&machine, &ledger, vec![charge(1, 7)]);
    machine.clock.advance_micros(HOUR_US);
    drop(entry);
    let stored = ledger.view().account(account(1)).unwrap().unwrap();
    assert_eq!(stored.last_at, machine.clock.now());
    assert_eq!(calls_of(ledger.view(), 1), 7);
}

#[test]
fn call_that_came_to_hold_more_is_charged_that_when_it_is_dropped() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let (_, mut entry) = admit_holding(&machine, &ledger, vec![charge(1, 7)]);
    entry.now_holds(vec![charge(1, 9)]);
    drop(entry);
    assert_eq!(calls_of(ledger.view(), 1), 9);
}

#[test]
fn account_keeps_its_name_and_what_was_spent() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    assert_eq!(ledger.view().account(account(1)).unwrap(), None);
    drop(admit_holding(&machine, &ledger, vec![charge(1, 7)]).1);
    for _ in 0..2 {
        assert!(ledger.open_account(account(1), &name("day", None)));
    }
    let stored = ledger.view().account(account(1)).unwrap().unwrap();
    assert_eq!(stored.name, Some(name("day", None)));
    assert_eq!(calls_of(ledger.view(), 1), 7);
    block_on(ledger.close()).unwrap();
    let before = ledger.status().dropped_records;
    assert!(!ledger.open_account(account(2), &name("day", None)));
    let late = late(&machine, machine.clock.call_id(), Vec::new());
    assert!(ledger.late(late).is_err());
    assert!(ledger.act(act(&machine, raise(1, 1))).is_err());
    assert_eq!(ledger.status().dropped_records, before + 3);
}

#[test]
fn accounts_of_idle_runs_go_with_segments_and_all_others_stay() {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 1500,
        keep_bytes: Some(5000),
        ..config()
    });
    let (ledger, _) = machine.open();
    for (number, run) in [(1, Some("old")), (2, None), (3, Some("new"))] {
        ledger.open_account(account(number), &name("rule", run));
        drop(admit_holding(&machine, &ledger, vec![charge(number, 1)]).1);
    }
    ledger.sync_index();
    for day in 0..80 {
        machine.clock.advance_micros(24 * HOUR_US);
        let number = if day == 60 { 3 } else { 4 };
        drop(admit_holding(&machine, &ledger, vec![charge(number, 1)]).1);
        ledger.sync_index();
    }
    while ledger.view().account(account(1)).unwrap().is_some() {
        ledger.sync_index();
    }
    let kept = all_accounts(ledger.view());
    assert_eq!(
        kept.keys().copied().collect::<Vec<_>>(),
        [2, 3, 4].map(account)
    );
    drop(ledger);
    let rebuilt = Machine {
        index: IndexDisk::default(),
        ..machine
    };
    assert_eq!(all_accounts(rebuilt.open().0.view()), kept);
}

#[test]
fn late_usage_takes_the_place_of_the_estimate_everywhere_and_once() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let (admission, entry) = admit_holding(&machine, &ledger, vec![charge(1, 7)]);
    entry.settle(pending(&admission, vec![charge(1, 10)]), None);
    let response = format!("resp-{}", admission.id);
    // Asks how far it has come.
    let poll = machine.call("r", "b");
    let entry = ledger.admit(poll.clone(), None).unwrap();
    let own = settlement(&poll);
    let poll_settlement = Settlement {
        response_id: Some(label(&response)),
        ..own
    };
    entry.settle(poll_settlement.clone(), None);
    let found = ledger.view().pending(&response).unwrap().unwrap();
    assert_eq!((found.0.id, found.1.is_pending), (admission.id, true));
    assert_eq!(ledger.view().pending("resp-other").unwrap(), None);

    let late = late(&machine, admission.id, vec![charge(1, -4)]);
    let nothing = LateUsage {
        usage: Usage::default(),
        ..late.clone()
    };
    let of_the_poll = LateUsage {
        id: poll.id,
        ..late.clone()
    };
    for told in [late.clone(), late.clone(), nothing, of_the_poll] {
        assert!(ledger.late(told).is_ok());
    }
    let view = ledger.view();
    assert_eq!(calls_of(view, 1), 6);
    assert_eq!(view.pending(&response).unwrap(), None);
    let row = view.call(admission.id).unwrap().unwrap().row;
    assert_eq!(row.usage, late.usage);
    assert_eq!(row.provenance, Some(Provenance::Reported));
    assert!(!row.is_pending);
    let all = SpanFilter::default();
    let run = view.run(&label("r")).unwrap().unwrap().row.totals;
    assert_eq!(
        (run.calls, run.input_tokens, run.output_tokens),
        (2, 13, 705)
    );
    assert_eq!((run.cost_nano_usd, run.estimated_calls), (1520, 0));
    let rollups = all_rollups(view);
    let agent = view.agents(&all).unwrap().items;
    let edge = view.edges(&all).unwrap().items;
    for totals in [
        agent
            .iter()
            .find(|row| row.agent.as_str() == "a")
            .unwrap()
            .figures
            .totals,
        edge.iter()
            .find(|row| row.agent.as_str() == "a")
            .unwrap()
            .figures
            .totals,
        rollups
            .iter()
            .find(|row| row.agent.as_str() == "a")
            .unwrap()
            .totals,
    ] {
        assert_eq!((totals.input_tokens, totals.output_tokens), (3, 700));
        assert_eq!((totals.cost_nano_usd, totals.estimated_calls), (20, 0));
    }
}

#[test]
fn pending_call_can_be_settled_late_after_its_segment_went() {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 1500,
        keep_bytes: Some(5000),
        ..config()
    });
    let (ledger, _) = machine.open();
    let (admission, entry) = admit_holding(&machine, &ledger, vec![charge(1, 7)]);
    entry.settle(pending(&admission, vec![charge(1, 10)]), None);
    for _ in 0..40 {
        machine.clock.advance_micros(HOUR_US);
        drop(admit_holding(&machine, &ledger, vec![charge(2, 1)]).1);
        ledger.sync_index();
    }
    while machine.disk.segments().contains(&1) {
        ledger.sync_index();
    }
    let response = format!("resp-{}", admission.id);
    assert!(ledger.view().pending(&response).unwrap().is_some());
    drop(ledger);
    let mut found = Vec::new();
    for index in [machine.index.copy(), IndexDisk::default()] {
        let machine = Machine {
            disk: machine.disk.after(Loss::Nothing),
            index,
            config: config(),
            ..machine.clone()
        };
        let (ledger, _) = machine.open();
        found.push(everything_lasting(ledger.view()));
        let (call, settled) = ledger.view().pending(&response).unwrap().unwrap();
        assert_eq!((call.id, settled.id), (admission.id, admission.id));
        drop(ledger.late(late(&machine, admission.id, vec![charge(1, -4)])));
        assert_eq!(calls_of(ledger.view(), 1), 6);
        assert_eq!(ledger.view().pending(&response).unwrap(), None);
    }
    assert_eq!(found[0], found[1]);
}

fn everything_lasting(view: &View) -> String {
    format!(
        "{:#?}{:#?}{:#?}",
        all_accounts(view),
        all_calls(view),
        all_rollups(view)
    )
}

#[test]
fn acts_are_events_and_one_that_is_written_twice_counts_once() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    drop(admit_holding(&machine, &ledger, vec![charge(1, 7)]).1);
    let deed = act(&machine, raise(1, 5));
    for _ in 0..2 {
        ledger.act(deed.clone()).unwrap().block();
    }
    ledger.act(act(&machine, raise(2, 5))).unwrap().block();
    let view = ledger.view();
    let stored = view.account(account(1)).unwrap().unwrap();
    assert_eq!(stored.raises[0].by.calls, Some(5));
    let events = view.events(&SpanFilter::default()).unwrap().items;
    assert_eq!(events.len(), 2, "one for each account");
    assert_eq!(
        (events[0].what.as_str(), events[0].who.as_str()),
        ("budget_raised", "ann")
    );
    assert_eq!(events[0].details.as_deref(), Some("as asked"));
    machine.clock.advance_micros(1);
    let reset = act(&machine, Deed::BudgetReset(account(1)));
    ledger.act(reset).unwrap().block();
    let stored = ledger.view().account(account(1)).unwrap().unwrap();
    assert!(stored.spent.is_empty() && stored.raises.is_empty());
}

#[test]
fn call_that_is_found_open_is_shown_at_what_its_budgets_are_charged() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let held = |account: u8, nano_usd| Charge {
        amounts: Amounts {
            nano_usd,
            input_tokens: 30,
            output_tokens: 400,
            calls: 1,
            micro_metric: 0,
        },
        ..charge(account, 1)
    };
    let (free, _) = admit_holding(&machine, &ledger, Vec::new());
    // One of its rules counts no money for this model.
    let (admission, entry) = admit_holding(&machine, &ledger, vec![held(1, 0), held(2, 77)]);
    std::mem::forget(entry);
    ledger.sync_index();
    drop(ledger);
    let (ledger, recovery) = machine.open();
    assert_eq!(recovery.recovered_calls, 1);
    let row = |id| ledger.view().call(id).unwrap().unwrap().row;
    let recovered = row(admission.id);
    let tokens = (recovered.usage.input_tokens, recovered.usage.output_tokens);
    assert_eq!((tokens, recovered.cost_nano_usd), ((30, 400), Some(77)));
    assert_eq!(recovered.cost_source, Some(CostSource::Held));
    assert_eq!(recovered.provenance, Some(Provenance::Estimated));
    let free = row(free.id);
    assert_eq!((free.usage.output_tokens, free.cost_nano_usd), (0, None));
    let runs = ledger.view().runs(&RunFilter::default()).unwrap().items;
    assert_eq!(runs[0].totals.cost_nano_usd, 77);
}

#[test]
fn hundreds_of_charges_have_room() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let many: Vec<_> = (0..200)
        .map(|number| charge(number, i64::MAX / 200))
        .collect();
    let (admission, entry) = admit_holding(&machine, &ledger, many.clone());
    ledger.sync_index();
    let reserved = ledger.status().reserved_bytes;
    let encoded = minicbor::to_vec(&many).unwrap().len();
    assert!(reserved > encoded, "{reserved} of {encoded}");
    let charges = [many.clone(), many].concat();
    entry.settle(pending(&admission, charges), None);
    ledger.sync_index();
    assert_eq!(ledger.status().dropped_records, 0);
    assert_eq!(all_accounts(ledger.view()).len(), 200);
}
