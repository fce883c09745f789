//! An index whose bits flip, whose rows make no sense, whose disk fails: it is derived, and no call
//! may notice.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use redb::ReadableTableMetadata;

use crate::core::call::Outcome;
use crate::core::id::CallId;

use super::super::Ledger;
use super::super::check::{check, rebuild};
use super::super::fake::{IndexDisk, Loss};
use super::super::index::batch::id_key;
use super::super::index::{CALLS, Index, IndexError, Place, is_sound};
use super::super::lock::Lock;
use super::harness::*;

fn record(machine: &Machine, ledger: &Ledger) -> CallId {
    machine.clock.advance_micros(1_000_000);
    let admission = machine.call("r", "a");
    let entry = ledger.admit(admission.clone(), None).unwrap();
    entry.durable().block();
    entry.settle(settlement(&admission), None);
    admission.id
}

fn filled(calls: usize) -> (Machine, Vec<CallId>) {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let ids = (0..calls).map(|_| record(&machine, &ledger)).collect();
    block_on(ledger.close()).unwrap();
    (machine, ids)
}

/// Flips a bit somewhere in the pages that are in use.
fn flip(bytes: &mut [u8], seed: u64) {
    const PAGE: usize = 4096;
    let is_used = |page: &&usize| bytes[**page..][..PAGE].iter().any(|byte| *byte != 0);
    let pages: Vec<usize> = (0..bytes.len()).step_by(PAGE).collect();
    let used: Vec<usize> = pages.iter().filter(is_used).copied().collect();
    let hash = blake3::hash(&seed.to_le_bytes());
    let [page, byte, bit] = [0, 8, 16].map(|at| {
        let number: [u8; 8] = hash.as_bytes()[at..at + 8].try_into().unwrap();
        usize::try_from(u64::from_le_bytes(number) >> 1).unwrap()
    });
    bytes[used[page % used.len()] + byte % PAGE] ^= 1 << (bit % 8);
}

#[test]
fn flipped_bit_is_found_and_the_index_made_anew() {
    let (machine, _) = filled(40);
    let (ledger, _) = machine.open();
    let expected = everything(ledger.view());
    drop(ledger);
    let mut rebuilt = 0;
    for seed in 0..300 {
        let (index, looked_at) = (machine.index.copy(), IndexDisk::default());
        index.change(|bytes| flip(bytes, seed));
        index.change(|bytes| looked_at.change(|copy| copy.clone_from(bytes)));
        let sound = is_sound(&Place::Fake(looked_at)).unwrap();
        let machine = Machine {
            disk: machine.disk.after(Loss::Nothing),
            index,
            ..machine.clone()
        };
        let (ledger, recovery) = machine.open();
        assert_eq!(recovery.index_rebuilt, !sound, "flip {seed}");
        assert_eq!(everything(ledger.view()), expected, "flip {seed}");
        let id = record(&machine, &ledger);
        assert!(ledger.view().call(id).unwrap().is_some(), "flip {seed}");
        assert!(!ledger.status().index_failing, "flip {seed}");
        rebuilt += usize::from(!sound);
    }
    assert!(rebuilt > 20, "only {rebuilt} flips hit anything");
}

/// Makes no sense of what the index has of a call.
fn scramble(index: &Index, id: CallId) {
    let scrambled = index.write(true, |txn| {
        txn.open_table(CALLS)?.insert(id_key(id), &b"\xff"[..])?;
        Ok(())
    });
    scrambled.unwrap();
}

/// Waits until nothing is said to be wrong any more.
fn until_it_works(ledger: &Ledger) {
    while ledger.status().index_failing || ledger.status().last_error.is_some() {
        std::thread::yield_now();
    }
}

#[test]
fn damage_that_a_question_meets_is_repaired_while_calls_go_on() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let first = record(&machine, &ledger);
    let second = record(&machine, &ledger);
    let expected = everything(ledger.view());
    scramble(&ledger.open.view.index, first);
    let met = ledger.view().call(first);
    assert!(matches!(met, Err(IndexError::Damaged)), "{met:?}");
    let third = record(&machine, &ledger);
    while ledger.view().call(first).is_err() {
        std::thread::yield_now();
    }
    assert_eq!(all_calls(ledger.view()).len(), 3);
    assert_ne!(everything(ledger.view()), expected);
    for id in [first, second, third] {
        let row = ledger.view().call(id).unwrap().unwrap().row;
        assert_eq!(row.outcome, Some(Outcome::Completed));
    }
    until_it_works(&ledger);
}

#[test]
fn row_that_makes_no_sense_does_not_keep_the_ledger_from_opening() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let open = machine.call("r", "a");
    std::mem::forget(ledger.admit(open.clone(), None).unwrap());
    ledger.sync_index();
    scramble(&ledger.open.view.index, open.id);
    block_on(ledger.close()).unwrap();
    drop(ledger);
    let (ledger, recovery) = machine.open();
    assert!(recovery.index_rebuilt);
    assert_eq!(recovery.recovered_calls, 1);
    let row = ledger.view().call(open.id).unwrap().unwrap().row;
    assert_eq!(row.outcome, Some(Outcome::Recovered));
}

#[test]
fn calls_go_on_while_the_disk_of_the_index_fails_and_it_catches_up_later() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    record(&machine, &ledger);
    ledger.sync_index();
    machine.index.fail(true);
    let unindexed = record(&machine, &ledger);
    ledger.sync_index();
    while !ledger.status().index_failing {
        ledger.sync_index();
    }
    let status = ledger.status();
    assert!(!status.failing && status.dropped_records == 0);
    assert!(status.last_error.unwrap().contains("index failed"));
    let meanwhile = record(&machine, &ledger);
    machine.index.fail(false);
    until_it_works(&ledger);
    assert_eq!(all_calls(ledger.view()).len(), 3);
    for id in [unindexed, meanwhile] {
        assert!(ledger.view().call(id).unwrap().is_some());
    }
    drop(ledger);
    let (ledger, recovery) = machine.open();
    assert!(recovery.clean && !recovery.index_rebuilt, "{recovery}");
    assert_eq!(all_calls(ledger.view()).len(), 3);
}

#[test]
fn index_that_went_back_to_what_survives_a_crash_answers_nothing_until_it_caught_up() {
    let disk = IndexDisk::default();
    let index = Index::create(Place::Fake(disk.clone())).unwrap();
    for (key, durable) in [(1, true), (2, false)] {
        let written = index.write(durable, |txn| {
            txn.open_table(CALLS)?.insert(key, &b"x"[..])?;
            Ok(())
        });
        written.unwrap();
    }
    let count = || index.read(|txn| Ok(txn.open_table(CALLS)?.len()?));
    assert_eq!(count().unwrap(), 2);
    disk.fail(true);
    index.close();
    disk.fail(false);
    index.reopen().unwrap();
    assert!(matches!(count(), Err(IndexError::Partial)));
    index.set_whole();
    assert_eq!(count().unwrap(), 1, "the rest has to be taken in again");
}

/// A ledger in real files with a few calls.
fn closed_at(dir: &Path) -> Machine {
    let mut machine = Machine::new(config());
    machine.config.dir = dir.to_owned();
    let (ledger, _) = super::super::open(&machine.config, machine.clock.clone(), undo).unwrap();
    for _ in 0..40 {
        record(&machine, &ledger);
    }
    block_on(ledger.close()).unwrap();
    machine
}

#[test]
fn check_says_that_the_index_is_damaged_and_rebuild_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    closed_at(dir.path());
    let path = dir.path().join("index.redb");
    assert_eq!(check(dir.path()).unwrap().index_damaged, Some(false));
    let mut bytes = fs::read(&path).unwrap();
    (0..30).for_each(|seed| flip(&mut bytes, seed));
    fs::write(&path, bytes).unwrap();
    let report = check(dir.path()).unwrap();
    assert_eq!(report.index_damaged, Some(true));
    assert_eq!((report.settlements, report.damages.len()), (40, 0));
    rebuild(dir.path()).unwrap();
    assert_eq!(check(dir.path()).unwrap().index_damaged, Some(false));
    fs::remove_file(path).unwrap();
    assert_eq!(check(dir.path()).unwrap().index_damaged, None);
}

/// Flips a bit in the first value behind the middle.
fn change_a_value(file: &mut fs::File) -> io::Result<()> {
    let mut byte = [0];
    file.seek(SeekFrom::Start(file.metadata()?.len() / 2))?;
    while byte != [0x5a] {
        file.read_exact(&mut byte)?;
    }
    file.seek(SeekFrom::Current(-1))?;
    file.write_all(&[0x5b])
}

#[test]
fn large_index_is_verified_only_if_it_was_left_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let place = Place::File(path.clone());
    let index = Index::create(place.clone()).unwrap();
    let value = vec![0x5a_u8; 1 << 20];
    let written = index.write(true, |txn| {
        let mut calls = txn.open_table(CALLS)?;
        for key in 0..70 {
            calls.insert(key, value.as_slice())?;
        }
        Ok(())
    });
    written.unwrap();
    index.close();
    let file = fs::File::options().read(true).write(true).open(path);
    change_a_value(&mut file.unwrap()).unwrap();
    assert!(Index::open(place.clone(), false).is_ok());
    assert!(matches!(Index::open(place, true), Err(IndexError::Damaged)));
}

#[test]
fn lock_says_whether_the_ledger_was_left_open() {
    let dir = tempfile::tempdir().unwrap();
    let left_open = |leave: bool| {
        let lock = Lock::acquire(dir.path()).unwrap();
        if leave {
            lock.leave();
        }
        lock.left_open()
    };
    let left = [false, true, true, false].map(left_open);
    assert_eq!(left, [false, true, false, false]);
    closed_at(dir.path());
    assert!(!left_open(false), "closing leaves");
}
