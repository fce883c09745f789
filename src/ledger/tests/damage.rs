//! Bytes that changed on the disk, and an index that does not belong to the log.

use proptest::prelude::*;

use crate::config::LedgerConfig;

use super::super::fake::{IndexDisk, Loss};
use super::harness::*;

/// A ledger with some calls in several segments, closed properly.
fn filled(calls: usize) -> Machine {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 4000,
        ..config()
    });
    add(&machine, calls);
    machine
}

fn add(machine: &Machine, calls: usize) {
    let (ledger, _) = machine.open();
    for number in 0..calls {
        machine.clock.advance_micros(1_000_000);
        let admission = machine.call(&format!("r{}", number % 3), "researcher");
        let request = conversation(ledger.seed(), &[message(number)]);
        let entry = ledger.admit(admission.clone(), Some(request)).unwrap();
        entry.durable().block();
        entry.settle(settlement(&admission), None);
    }
    block_on(ledger.close()).unwrap();
}

#[test]
fn index_is_made_anew_when_it_is_missing_garbage_older_or_ahead() {
    let machine = filled(5);
    let older = machine.index.copy();
    let shorter = machine.disk.after(Loss::Nothing);
    add(&machine, 5);
    let (ledger, _) = machine.open();
    let expected = everything(ledger.view());
    drop(ledger);

    let garbage = machine.index.copy();
    garbage.change(|bytes| bytes.fill(0x5a));
    for (what, index, rebuilt) in [
        ("missing", IndexDisk::default(), true),
        ("garbage", garbage, true),
        ("older", older, false),
    ] {
        let machine = Machine {
            index,
            ..machine.clone()
        };
        let (ledger, recovery) = machine.open();
        assert_eq!(recovery.index_rebuilt, rebuilt, "{what}");
        assert!(recovery.caught_up_records > 0, "{what}");
        assert_eq!(everything(ledger.view()), expected, "{what}");
    }
    let ahead = Machine {
        disk: shorter,
        ..machine
    };
    let (ledger, recovery) = ahead.open();
    assert!(recovery.index_rebuilt && !recovery.clean);
    assert_eq!(all_calls(ledger.view()).len(), 5);
}

#[test]
fn damage_in_the_middle_costs_only_what_it_hit() {
    let machine = filled(12);
    let segments = machine.disk.segments();
    assert!(segments.len() > 3);
    machine.disk.change(segments[1], |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
    });
    let machine = Machine {
        index: IndexDisk::default(),
        ..machine
    };
    let (ledger, recovery) = machine.open();
    assert_eq!(recovery.damages.len(), 1, "{recovery:?}");
    assert_eq!(recovery.damages[0].at.segment, segments[1]);
    let calls = all_calls(ledger.view()).len();
    assert!((11..=12).contains(&calls), "{calls}");
}

#[test]
fn damaged_header_costs_no_record() {
    for segment in [1, 2] {
        let machine = filled(12);
        machine.disk.change(segment, |bytes| bytes[20] ^= 1);
        let machine = Machine {
            index: IndexDisk::default(),
            ..machine
        };
        let (ledger, _) = machine.open();
        assert_eq!(all_calls(ledger.view()).len(), 12);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_damage_to_the_last_segment_leaves_the_rest(
        cut in 0..4000_usize,
        flip in proptest::option::of(0..4000_usize),
        junk in proptest::collection::vec(any::<u8>(), 0..64),
        keep_index in any::<bool>(),
    ) {
        let machine = filled(6);
        let last = *machine.disk.segments().last().unwrap();
        let earlier = all_earlier(&machine, last);
        machine.disk.change(last, |bytes| {
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Some(byte) = flip.and_then(|flip| bytes.get_mut(flip)) {
                *byte ^= 0x10;
            }
            bytes.extend_from_slice(&junk);
        });
        let index = if keep_index { machine.index.copy() } else { IndexDisk::default() };
        let machine = Machine { index, ..machine };
        let (ledger, _) = machine.open();
        prop_assert!(all_calls(ledger.view()).len() >= earlier);
        let admission = machine.call("after", "a");
        ledger.admit(admission.clone(), None).unwrap().settle(settlement(&admission), None);
        prop_assert!(ledger.view().call(admission.id).unwrap().is_some());
        let expected = everything(ledger.view());
        drop(ledger);
        let machine = Machine { index: IndexDisk::default(), ..machine };
        let (ledger, _) = machine.open();
        prop_assert_eq!(everything(ledger.view()), expected);
    }
}

/// How many calls are settled before this segment.
fn all_earlier(machine: &Machine, last: u64) -> usize {
    let copy = machine.with_disk(machine.disk.after(Loss::Nothing));
    copy.disk.change(last, Vec::clear);
    let (ledger, _) = Machine {
        index: IndexDisk::default(),
        ..copy
    }
    .open();
    all_calls(ledger.view()).len()
}
