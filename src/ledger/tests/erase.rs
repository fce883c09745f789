//! Calls that were deleted: what is left, whatever ends the process meanwhile.

use std::collections::BTreeMap;

use crate::config::LedgerConfig;
use crate::core::budget::{AccountId, Amounts, Charge, Charged, Window};
use crate::core::call::Admission;
use crate::core::digest::Digest;
use crate::core::metric::{Measurement, Subject};
use crate::core::time::Timestamp;

use super::super::audit::{Begin, FindingKind, verify_on};
use super::super::body::unpack_content;
use super::super::checkpoint;
use super::super::erase::{EraseError, ErasedReport, Scope, Wish, erase_on, resume};
use super::super::fake::{FakeDisk, IndexDisk, Loss};
use super::super::index::Place;
use super::super::log::{LogReader, Step, catalog};
use super::super::record::{Frames, HEADER_LEN, kind, parse_frame};
use super::super::storage::Storage as _;
use super::super::{Event, Ledger, SpanFilter, View};
use super::harness::*;

const SECRET: &str = "what only the run r1 was ever told";
const SHARED: &str = "what the runs r1 and r2 were both told";

fn long(text: &str) -> String {
    format!("{{\"content\":\"{}\"}}", [text; 8].join(" "))
}

fn of_user(mut admission: Admission, user: &str) -> Admission {
    admission.attribution.user = Some(label(user));
    admission
}

/// Calls of the runs r0 to r2, each by a user of its own; closed properly.
fn filled() -> Machine {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 3000,
        ..config()
    });
    let (ledger, _) = machine.open();
    for number in 0..18 {
        machine.clock.advance_micros(1_000_000);
        let run = number % 3;
        let admission = machine.call(&format!("r{run}"), "researcher");
        let admission = of_user(admission, &format!("user{run}"));
        let mut messages = vec![long(&format!("call {number} of r{run}"))];
        messages.extend((run == 1).then(|| long(SECRET)));
        messages.extend((run > 0).then(|| long(SHARED)));
        let request = conversation(ledger.seed(), &messages);
        let entry = ledger.admit(admission.clone(), Some(request)).unwrap();
        entry.durable().block();
        let answer = plain(long(&format!("answer {number} to r{run}")).as_bytes());
        entry.settle(settlement(&admission), Some(answer));
    }
    for subject in [Subject::Run(label("r1")), Subject::Run(label("r2"))] {
        let note = Some(format!("judged {subject}"));
        ledger
            .measured(judged(&machine, subject, note))
            .unwrap()
            .block();
    }
    let told = Event::own(
        machine.clock.now(),
        "told",
        Some("of r1, not r11".to_owned()),
    );
    ledger.event(told).unwrap().block();
    block_on(ledger.close()).unwrap();
    machine
}

fn judged(machine: &Machine, subject: Subject, note: Option<String>) -> Measurement {
    Measurement {
        at: machine.clock.now(),
        name: "solved".to_owned(),
        value: "true".parse().unwrap(),
        subject,
        who: label("judge"),
        note,
        key: None,
        run: None,
        agent: None,
        charged: None,
        instance: None,
    }
}

fn charged(
    it: Measurement,
    at: Timestamp,
    micro: i64,
    replaced: Option<(Timestamp, i64)>,
) -> Measurement {
    let charge = |micro_metric| Charge {
        account: AccountId(Digest::from_bytes([9; 16])),
        bucket: START,
        amounts: Amounts {
            micro_metric,
            ..Amounts::default()
        },
    };
    let replaced = replaced.map(|(at, micro)| (at, vec![charge(micro)]));
    Measurement {
        charged: Some(Charged {
            at,
            charges: vec![charge(micro)],
            replaced,
        }),
        ..it
    }
}

fn record(ledger: &Ledger, all: &[Measurement]) {
    for it in all {
        ledger.measured(it.clone()).unwrap().block();
    }
}

fn spent_of_metric(view: &View) -> i64 {
    let mut accounts = all_accounts(view).into_values();
    let account = accounts.next().unwrap();
    assert_eq!(accounts.next(), None);
    account.used(&Window::Total, START).micro_metric
}

#[test]
fn each_charge_of_deleted_measurements_stays_counted_once_and_is_no_event() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let now = machine.clock.now();
    let of = |run: &str| judged(&machine, Subject::Run(label(run)), None);
    // Alike in all that they were charged.
    let alike = ["secret-a", "secret-b"].map(|run| charged(of(run), now, 7, None));
    let later = Timestamp::from_micros(now.micros() + 1);
    let third = charged(of("secret-a"), later, 4, Some((now, 7)));
    let all = [&alike[..], &[third]].concat();
    // A batch that failed is written again, and nobody knows what of it is on disk already.
    record(&ledger, &[all.clone(), all].concat());
    let before = all_accounts(ledger.view());
    assert_eq!(spent_of_metric(ledger.view()), 11);
    block_on(ledger.close()).unwrap();
    drop(ledger);
    machine.clock.advance_micros(10);
    delete(&machine, &Scope::Before(machine.clock.now()));
    assert!(!holds(&machine.disk, "secret"));
    assert_eq!(machine.disk.records(kind::CHARGED), 3);
    for machine in [&machine, &anew(&machine, machine.disk.clone())] {
        let (ledger, _) = machine.open();
        assert_eq!(all_accounts(ledger.view()), before);
        let events = ledger.view().events(&SpanFilter::default()).unwrap().items;
        let mut events: Vec<_> = events.into_iter().map(|it| it.what).collect();
        events.retain(|what| !["started", "stopped", "recovered"].contains(&&**what));
        assert_eq!(events, ["calls_deleted"]);
        block_on(ledger.close()).unwrap();
    }
    assert!(verify_on(&machine.disk, &[], None).is_sound());
}

#[test]
fn measurement_goes_with_an_older_one_that_took_its_place_and_is_not_given_back_again() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let at = |hours: i64| Timestamp::from_micros(START.micros() + hours * HOUR_US);
    let of = |moment| Measurement {
        at: moment,
        ..judged(&machine, Subject::Run(label("kept")), None)
    };
    let first = charged(of(at(5)), at(5), 10, None);
    // Of a time before it.
    let second = charged(of(at(1)), at(6), 4, Some((at(5), 10)));
    let other = Measurement {
        who: label("ada"),
        ..of(at(5))
    };
    record(&ledger, &[first.clone(), other.clone(), second]);
    block_on(ledger.close()).unwrap();
    drop(ledger);
    delete(&machine, &Scope::Before(at(3)));
    let (ledger, _) = anew(&machine, machine.disk.clone()).open();
    assert_eq!(spent_of_metric(ledger.view()), 4);
    assert_eq!(all_measured(ledger.view()), [other]);
    let before = ledger.view().measured_before(&[first]).unwrap();
    assert_eq!(before, [None], "what comes next gives nothing back");
}

fn try_delete(machine: &Machine, scope: &Scope) -> Result<ErasedReport, EraseError> {
    let wish = Wish {
        scope: scope.clone(),
        despite_damage: false,
    };
    let place = Place::Fake(machine.index.clone());
    let at = machine.clock.now();
    erase_on(&machine.disk, &place, &wish, ("tests", at))
}

fn delete(machine: &Machine, scope: &Scope) -> ErasedReport {
    try_delete(machine, scope).unwrap()
}

fn run(name: &str) -> Scope {
    Scope::Run(label(name))
}

/// A machine that never saw an index.
fn anew(machine: &Machine, disk: FakeDisk) -> Machine {
    Machine {
        disk,
        index: IndexDisk::default(),
        ..machine.clone()
    }
}

/// All that is told of a run's calls, their bodies included.
fn calls_of(view: &View, run: &str) -> Vec<String> {
    let of_run =
        |row: &super::super::CallRow| row.run.as_ref().is_some_and(|it| it.as_str() == run);
    let rows = all_calls(view).into_iter().filter(of_run);
    rows.map(|row| {
        let request = view.request_body(row.id).unwrap().unwrap();
        let response = view.response_body(row.id).unwrap().unwrap();
        assert!(request.exact && response.exact);
        format!("{row:?} {:?} {:?}", request.bytes, response.bytes)
    })
    .collect()
}

/// Everything that lies on the disk, unpacked where it is packed.
pub(super) fn holds(disk: &FakeDisk, text: &str) -> bool {
    let plain = |bytes: &[u8]| memchr::memmem::find(bytes, text.as_bytes()).is_some();
    let segments = catalog(disk).unwrap().all();
    let mut found = disk.segments().into_iter().any(|it| plain(&disk.bytes(it)));
    let mut reader = LogReader::from_start(disk, &segments);
    while let Some(step) = reader.next().unwrap() {
        match step {
            Step::Record {
                kind: kind::CONTENT,
                payload,
                ..
            } => {
                let content = minicbor::decode(payload).unwrap();
                found |= plain(&unpack_content(&content).unwrap());
            }
            Step::Record {
                kind: kind::CHECKPOINT,
                payload,
                ..
            } => {
                let checkpoint = format!("{:?}", checkpoint::parse(payload).unwrap());
                found |= plain(checkpoint.as_bytes());
            }
            _ => {}
        }
    }
    found
}

/// What was spent, by agent and model.
fn sums(view: &View) -> String {
    let spent: BTreeMap<_, _> = all_rollups(view)
        .into_iter()
        .map(|row| (format!("{:?}{:?}", row.agent, row.model), row.totals))
        .collect();
    format!("{spent:?}")
}

#[test]
fn deleted_run_is_gone_from_the_disk_and_all_else_is_as_it_was() {
    let machine = filled();
    let (ledger, _) = machine.open();
    let before = ["r0", "r2"].map(|run| calls_of(ledger.view(), run));
    let spent = sums(ledger.view());
    drop(ledger);
    assert!(holds(&machine.disk, SECRET) && holds(&machine.disk, "to r1"));
    let size = machine.disk.total_bytes();

    let report = delete(&machine, &run("r1"));
    assert_eq!((report.calls, report.running_calls), (6, 0));
    for gone in [SECRET, "to r1", "of r1", "run r1", "user1"] {
        assert!(!holds(&machine.disk, gone), "{gone} is still there");
    }
    assert!(holds(&machine.disk, SHARED), "r2 has it too");
    assert!(holds(&machine.disk, "judged run r2"));
    assert!(machine.disk.total_bytes() < size);

    let audit = verify_on(&machine.disk, &[], None);
    assert!(audit.is_sound(), "{audit:?}");
    assert_eq!(
        (audit.begins, audit.deleted),
        (Begin::Start, report.records)
    );
    assert_eq!(audit.on_record[0].who, "tests");
    assert!(!audit.on_record[0].words.contains("r1"));

    let (ledger, _) = anew(&machine, machine.disk.clone()).open();
    assert_eq!(["r0", "r2"].map(|run| calls_of(ledger.view(), run)), before);
    assert_eq!(calls_of(ledger.view(), "r1"), Vec::<String>::new());
    assert_eq!(sums(ledger.view()), spent, "what was spent stays counted");
    assert!(!everything(ledger.view()).contains("\"r1\""));
}

#[test]
fn anchors_from_before_a_deletion_are_met_after_it() {
    let machine = filled();
    let anchor = verify_on(&machine.disk, &[], None).head.unwrap();
    delete(&machine, &run("r1"));
    let report = verify_on(&machine.disk, &[anchor], None);
    let found: Vec<_> = report.findings.iter().map(|it| it.kind).collect();
    assert_eq!(
        (found, report.anchors_met),
        (vec![FindingKind::TakenOut], 1)
    );
}

#[test]
fn user_and_age_choose_calls_as_well_and_deletions_follow_each_other() {
    let machine = filled();
    let user = Scope::User(label("user2"));
    assert_eq!(delete(&machine, &user).calls, 6);
    assert!(!holds(&machine.disk, "user2") && holds(&machine.disk, SHARED));
    assert_eq!(delete(&machine, &run("r1")).calls, 6);
    assert!(!holds(&machine.disk, SHARED), "nobody has it any more");
    assert_eq!(delete(&machine, &run("r1")).records, 0, "it is gone");
    let all = Scope::Before(machine.clock.now());
    assert_eq!(delete(&machine, &all).calls, 6);
    assert!(verify_on(&machine.disk, &[], None).is_sound());
    let (ledger, _) = anew(&machine, machine.disk.clone()).open();
    assert!(all_calls(ledger.view()).is_empty());
}

#[test]
fn running_call_stays_and_is_told_of() {
    let machine = filled();
    let (ledger, _) = machine.open();
    let entry = ledger
        .admit(machine.call("r1", "researcher"), None)
        .unwrap();
    entry.durable().block();
    let disk = machine.disk.after(Loss::Nothing);
    let report = delete(&anew(&machine, disk), &run("r1"));
    assert_eq!((report.calls, report.running_calls), (6, 1));
}

#[test]
fn process_that_ends_within_a_deletion_leaves_all_or_nothing_once_it_is_resumed() {
    let machine = filled();
    let done = anew(&machine, machine.disk.after(Loss::Nothing));
    delete(&done, &run("r1"));
    let state = |disk: FakeDisk| {
        let (ledger, _) = anew(&machine, disk).open();
        let calls: Vec<_> = ["r0", "r1", "r2"]
            .map(|run| calls_of(ledger.view(), run))
            .into();
        (calls, sums(ledger.view()))
    };
    let ends = [
        state(machine.disk.after(Loss::Nothing)),
        state(done.disk.clone()),
    ];
    let operations = done.disk.operations();
    assert!(operations > 8);
    let mut seen = [false; 2];
    for operation in 0..operations {
        for (tears, loss) in [false, true]
            .into_iter()
            .flat_map(|it| Loss::EACH.map(|loss| (it, loss)))
        {
            let broken = anew(&machine, machine.disk.after(Loss::Nothing));
            broken.disk.fail_at(operation, tears);
            assert!(try_delete(&broken, &run("r1")).is_err());
            let disk = broken.disk.after(loss);
            resume(&disk, &Place::Fake(IndexDisk::default())).unwrap();
            assert_eq!(disk.list_staged().unwrap(), Vec::<u64>::new());
            let is_done = !holds(&disk, SECRET);
            let found = state(disk.clone());
            assert_eq!(
                found,
                ends[usize::from(is_done)],
                "{operation} {tears} {loss:?}"
            );
            let audit = verify_on(&disk, &[], None);
            assert!(audit.is_sound(), "{operation} {tears} {loss:?}: {audit:?}");
            seen[usize::from(is_done)] = true;
        }
    }
    assert_eq!(seen, [true; 2]);
}

/// The segment with the first tombstone.
fn first_grave(disk: &FakeDisk) -> u64 {
    let has_grave = |number: &u64| {
        let bytes = disk.bytes(*number);
        let mut rest = &bytes[HEADER_LEN..];
        let mut found = false;
        while let Some(frame) = parse_frame(rest) {
            found |= frame.kind == kind::TOMBSTONE;
            rest = &rest[frame.len()..];
        }
        found
    };
    disk.segments().into_iter().find(has_grave).unwrap()
}

#[test]
fn tombstones_that_no_later_record_accounts_for_are_found() {
    let machine = filled();
    let before = machine.disk.after(Loss::Nothing);
    delete(&machine, &run("r1"));
    let grave = first_grave(&machine.disk);

    let forged = before.after(Loss::Nothing);
    forged.change(grave, |bytes| *bytes = machine.disk.bytes(grave));
    let found = verify_on(&forged, &[], None).findings;
    assert!(!found.is_empty());
    assert!(
        found
            .iter()
            .all(|it| it.kind == FindingKind::ForgedTombstone)
    );

    let put_back = machine.disk.after(Loss::Nothing);
    put_back.change(grave, |bytes| *bytes = before.bytes(grave));
    let found = verify_on(&put_back, &[], None).findings;
    assert!(!found.is_empty());
    assert!(found.iter().all(|it| it.kind == FindingKind::Undeleted));
}

#[test]
fn what_a_tombstone_still_says_cannot_be_changed() {
    let machine = filled();
    delete(&machine, &run("r1"));
    let grave = first_grave(&machine.disk);
    machine.disk.change(grave, |bytes| {
        let mut at = HEADER_LEN;
        while parse_frame(&bytes[at..]).unwrap().kind != kind::TOMBSTONE {
            at += parse_frame(&bytes[at..]).unwrap().len();
        }
        let frame = parse_frame(&bytes[at..]).unwrap();
        let (chain, len) = (frame.chain, frame.len());
        let mut payload = frame.payload.to_vec();
        // How long the record was.
        payload[5] ^= 1;
        let mut forged = Frames::default();
        forged.push_tombstone(chain, &payload);
        bytes.splice(at..at + len, forged.bytes);
    });
    let found = verify_on(&machine.disk, &[], None).findings;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].kind, FindingKind::ForgedTombstone);
}
