//! Tampering with the log, of each kind, and what the audit says of it.

use std::ops::Range;

use crate::config::LedgerConfig;

use super::super::audit::{Anchor, AuditReport, Begin, FindingKind, verify_on};
use super::super::fake::{FakeDisk, IndexDisk, Loss};
use super::super::index::Index;
use super::super::log::Cursor;
use super::super::record::{Frames, HEADER_LEN, Header, frame_len, parse_frame};
use super::harness::*;

/// A ledger of several segments, closed properly.
pub(super) fn filled() -> Machine {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 3000,
        ..config()
    });
    add(&machine, 24);
    assert!(machine.disk.segments().len() > 4);
    machine
}

/// A ledger whose oldest segments retention let go, begun with two calls.
pub(super) fn retired() -> (Machine, Anchor) {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 3000,
        keep_bytes: Some(24_000),
        ..config()
    });
    add(&machine, 2);
    let begun = head(&machine);
    for _ in 0..100 {
        add(&machine, 24);
        if machine.disk.segments()[0] > begun.segment {
            return (machine, begun);
        }
    }
    panic!("retention let nothing go");
}

pub(super) fn add(machine: &Machine, calls: usize) {
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

pub(super) fn audit(machine: &Machine) -> AuditReport {
    verify_on(&machine.disk, &[], None)
}

pub(super) fn head(machine: &Machine) -> Anchor {
    audit(machine).head.unwrap()
}

pub(super) fn kinds(report: &AuditReport) -> Vec<FindingKind> {
    report.unaccepted().map(|it| it.kind).collect()
}

/// Where the frames of a segment lie.
pub(super) fn frames(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = HEADER_LEN;
    while let Some(len) = frame_len(&bytes[at..]) {
        found.push(at..at + len);
        at += len;
    }
    found
}

/// Has the frames of a segment be others, in some order.
pub(super) fn rearrange(machine: &Machine, segment: u64, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    machine.disk.change(segment, |bytes| {
        let mut parts: Vec<_> = frames(bytes)
            .into_iter()
            .map(|it| bytes[it].to_vec())
            .collect();
        change(&mut parts);
        bytes.truncate(HEADER_LEN);
        bytes.extend(parts.concat());
    });
}

/// Makes the checksum of a frame fit its bytes, not its place in the chain.
pub(super) fn fix_checksum(frame: &mut [u8]) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[2..6]);
    hasher.update(&frame[10..]);
    frame[6..10].copy_from_slice(&hasher.finalize().to_le_bytes());
    assert!(parse_frame(frame).is_some());
}

/// What somebody makes who knows how the log is written: all records of `from` on anew, those that
/// `keep` says, each with checksum and chain.
pub(super) fn forge(disk: &FakeDisk, from: u64, keep: impl Fn(u64, usize, &mut Vec<u8>) -> bool) {
    let mut chain = None;
    for segment in disk.segments().into_iter().filter(|it| *it >= from) {
        disk.change(segment, |bytes| {
            let mut header = Header::parse(bytes).unwrap();
            header.continues = chain.unwrap_or(header.continues);
            let mut forged = Frames {
                chain: header.continues,
                ..Frames::default()
            };
            for (number, range) in frames(bytes).into_iter().enumerate() {
                let frame = parse_frame(&bytes[range]).unwrap();
                let mut payload = frame.payload.to_vec();
                if keep(segment, number, &mut payload) {
                    forged.push_encoded(frame.kind, &payload);
                }
            }
            *bytes = header.to_bytes();
            bytes.extend_from_slice(&forged.bytes);
            chain = Some(forged.chain);
        });
    }
}

fn seen(machine: &Machine) -> Option<Cursor> {
    let place = super::super::index::Place::Fake(machine.index.copy());
    Index::open(place, false).unwrap().seen()
}

#[test]
fn untouched_log_is_sound_and_meets_every_anchor_taken_of_it() {
    let machine = filled();
    let early = head(&machine);
    add(&machine, 9);
    let late = head(&machine);
    let report = verify_on(&machine.disk, &[early, late], seen(&machine));
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.begins, Begin::Start);
    assert_eq!((report.anchors_met, report.unfinished_bytes), (2, 0));
    assert_eq!(early.to_string().parse(), Ok(early));
    let bad = "3:xyz".parse::<Anchor>().unwrap_err().to_string();
    assert!(bad.starts_with("found `3:xyz`, expected"), "{bad}");
}

#[test]
fn any_single_changed_byte_is_found() {
    let machine = filled();
    for segment in machine.disk.segments().into_iter().take(2) {
        let len = machine.disk.bytes(segment).len();
        for at in (0..len).step_by(7) {
            let copy = machine.with_disk(machine.disk.after(Loss::Nothing));
            copy.disk.change(segment, |bytes| bytes[at] ^= 0x10);
            let report = audit(&copy);
            assert!(!report.is_sound(), "byte {at} of segment {segment}");
            let first = &report.findings[0];
            assert!((segment..=segment + 1).contains(&first.at.segment));
        }
    }
}

#[test]
fn edited_record_is_named_with_the_times_around_it() {
    let machine = filled();
    let segment = machine.disk.segments()[2];
    machine.disk.change(segment, |bytes| {
        let frame = frames(bytes)[3].clone();
        bytes[frame.end - 1] ^= 1;
    });
    let report = audit(&machine);
    assert_eq!(kinds(&report), [FindingKind::Edited]);
    let found = &report.findings[0];
    assert_eq!((found.at.segment, found.record), (segment, 3));
    assert!(found.after.is_some() && found.after <= found.before);
}

#[test]
fn edit_whose_checksum_was_made_to_fit_is_found_by_the_chain() {
    let machine = filled();
    let segment = machine.disk.segments()[2];
    rearrange(&machine, segment, |parts| {
        let last = parts[3].len() - 1;
        parts[3][last] ^= 1;
        fix_checksum(&mut parts[3]);
    });
    let report = audit(&machine);
    assert_eq!(kinds(&report), [FindingKind::ChainBroken]);
    assert_eq!(report.findings[0].record, 3);
}

#[test]
fn dropped_record_is_found_wherever_it_was() {
    let machine = filled();
    let segments = machine.disk.segments();
    let segment = segments[1];
    let count = frames(&machine.disk.bytes(segment)).len();
    for number in 0..count {
        let copy = machine.with_disk(machine.disk.after(Loss::Nothing));
        rearrange(&copy, segment, |parts| drop(parts.remove(number)));
        let report = audit(&copy);
        let kind = if number == count - 1 {
            FindingKind::Missing
        } else {
            FindingKind::ChainBroken
        };
        assert_eq!(kinds(&report), [kind], "record {number} of {count}");
    }
}

#[test]
fn dropped_segments_are_found_at_the_front_and_in_the_middle() {
    let machine = filled();
    let segments = machine.disk.segments();
    for at in [0, 1, segments.len() - 2] {
        let copy = machine.with_disk(machine.disk.after(Loss::Nothing));
        super::super::storage::Storage::remove(&copy.disk, segments[at]).unwrap();
        let report = audit(&copy);
        assert_eq!(kinds(&report), [FindingKind::Missing], "segment {at}");
        assert_eq!(report.findings[0].at.segment, segments[at + 1]);
    }
}

#[test]
fn end_that_was_cut_off_is_found_by_the_index_and_by_an_anchor() {
    let machine = filled();
    let (anchor, seen) = (head(&machine), seen(&machine));
    let last = *machine.disk.segments().last().unwrap();
    let whole = machine.disk.after(Loss::Nothing);
    super::super::storage::Storage::remove(&whole, last).unwrap();
    let short = machine.disk.after(Loss::Nothing);
    short.change(last, |bytes| {
        let cut = frames(bytes).last().unwrap().start;
        bytes.truncate(cut);
    });
    for disk in [whole, short] {
        assert!(
            verify_on(&disk, &[], None).is_sound(),
            "the chain alone cannot know"
        );
        for report in [
            verify_on(&disk, &[anchor], None),
            verify_on(&disk, &[], seen),
        ] {
            assert_eq!(kinds(&report), [FindingKind::Rewritten]);
        }
    }
}

#[test]
fn reordered_records_are_found_and_told_from_edited_ones() {
    let machine = filled();
    let segment = machine.disk.segments()[1];
    for (one, other) in [(1, 2), (1, 4), (0, 5)] {
        let copy = machine.with_disk(machine.disk.after(Loss::Nothing));
        rearrange(&copy, segment, |parts| parts.swap(one, other));
        let found = kinds(&audit(&copy));
        assert!(!found.is_empty());
        assert!(
            found.iter().all(|it| *it == FindingKind::Reordered),
            "{found:?}"
        );
    }
}

#[test]
fn segments_whose_files_were_exchanged_are_found() {
    let machine = filled();
    let segments = machine.disk.segments();
    let (one, other) = (
        machine.disk.bytes(segments[1]),
        machine.disk.bytes(segments[2]),
    );
    machine.disk.change(segments[1], |bytes| *bytes = other);
    machine.disk.change(segments[2], |bytes| *bytes = one);
    let found = kinds(&audit(&machine));
    assert!(found.contains(&FindingKind::Header) && found.contains(&FindingKind::Missing));
}

#[test]
fn copy_of_a_record_is_found_where_it_was_put() {
    let machine = filled();
    let segment = machine.disk.segments()[1];
    let count = frames(&machine.disk.bytes(segment)).len();
    for to in [2, 5, count] {
        let copy = machine.with_disk(machine.disk.after(Loss::Nothing));
        rearrange(&copy, segment, |parts| parts.insert(to, parts[1].clone()));
        let report = audit(&copy);
        assert_eq!(kinds(&report), [FindingKind::Inserted], "at {to}");
    }
}

#[test]
fn log_made_anew_from_an_edit_on_is_found_by_an_anchor_alone() {
    let machine = filled();
    let segment = machine.disk.segments()[2];
    let early = Anchor {
        segment,
        chain: Header::parse(&machine.disk.bytes(segment))
            .unwrap()
            .continues,
    };
    let (anchor, seen) = (head(&machine), seen(&machine));
    let edit = |at: u64, number: usize, payload: &mut Vec<u8>| {
        if (at, number) == (segment, 2) {
            let last = payload.len() - 1;
            payload[last] ^= 1;
        }
        true
    };
    let dropping = |at: u64, number: usize, _: &mut Vec<u8>| (at, number) != (segment, 2);
    let edited = machine.disk.after(Loss::Nothing);
    forge(&edited, segment, edit);
    let dropped = machine.disk.after(Loss::Nothing);
    forge(&dropped, segment, dropping);
    for disk in [edited, dropped] {
        assert!(
            verify_on(&disk, &[], None).is_sound(),
            "it is a log like any other"
        );
        let report = verify_on(&disk, &[early, anchor], None);
        assert_eq!(kinds(&report), [FindingKind::Rewritten]);
        assert_eq!(
            report.anchors_met, 1,
            "what lies before the edit is as it was"
        );
        assert_eq!(
            kinds(&verify_on(&disk, &[], seen)),
            [FindingKind::Rewritten]
        );
    }
}

#[test]
fn unfinished_record_at_the_end_is_no_tampering() {
    let machine = filled();
    let last = *machine.disk.segments().last().unwrap();
    machine.disk.change(last, |bytes| {
        let frame = frames(bytes)[0].clone();
        let torn = bytes[frame][..20].to_vec();
        bytes.extend(torn);
    });
    let report = audit(&machine);
    assert!(report.is_sound());
    assert_eq!(report.unfinished_bytes, 20);
}

/// A ledger whose last record is on disk in its whole length, and not with all of its bytes: what was
/// known before it and behind it, and how long it is.
fn half_written() -> (Machine, [(Anchor, Option<Cursor>); 2], u64) {
    let machine = filled();
    let known = |machine: &Machine| (head(machine), seen(machine));
    let behind = known(&machine);
    let whole = machine.disk.after(Loss::Nothing);
    let last = *machine.disk.segments().last().unwrap();
    let mut len = 0;
    machine.disk.change(last, |bytes| {
        let frame = frames(bytes).pop().unwrap();
        len = frame.len();
        bytes.truncate(frame.start);
    });
    let before = (head(&machine), None);
    machine.disk.become_copy_of(&whole);
    machine.disk.change(last, |bytes| {
        let end = bytes.len();
        bytes[end - 8..].fill(0);
    });
    (machine, [before, behind], u64::try_from(len).unwrap())
}

#[test]
fn record_at_the_end_that_nobody_saw_whole_was_never_finished() {
    let (machine, [(before, _), _], len) = half_written();
    let unmet = Anchor {
        segment: before.segment - 1,
        ..before
    };
    for (anchors, found) in [
        (&[][..], &[][..]),
        (&[before][..], &[][..]),
        (&[before, unmet][..], &[FindingKind::Rewritten][..]),
    ] {
        let report = verify_on(&machine.disk, anchors, None);
        assert_eq!(kinds(&report), found, "{report:?}");
        assert_eq!(report.unfinished_bytes, len);
        assert_eq!(report.head, Some(before), "from there on it goes on");
    }
    let next = Machine {
        index: IndexDisk::default(),
        ..machine
    };
    add(&next, 1);
    let report = verify_on(&next.disk, &[before], None);
    assert!(report.is_sound() && report.unfinished_bytes == 0);
}

#[test]
fn record_at_the_end_that_an_anchor_or_the_index_saw_whole_was_edited() {
    let (machine, [_, (anchor, seen)], _) = half_written();
    let last = anchor.segment;
    for (anchors, seen) in [(&[anchor][..], None), (&[][..], seen)] {
        let report = verify_on(&machine.disk, anchors, seen);
        let expected = [FindingKind::Edited, FindingKind::Rewritten];
        assert_eq!(
            (kinds(&report), report.unfinished_bytes),
            (expected.into(), 0)
        );
    }
    machine.disk.change(last, |bytes| {
        let end = bytes.len();
        bytes.truncate(end - 8);
    });
    for (anchors, seen) in [(&[anchor][..], None), (&[][..], seen)] {
        let report = verify_on(&machine.disk, anchors, seen);
        assert_eq!(kinds(&report), [FindingKind::Rewritten], "it is cut");
    }
}

#[test]
fn log_is_sound_whatever_failed_while_it_was_written() {
    for operation in 0..60 {
        for tears in [false, true] {
            let machine = Machine::new(LedgerConfig {
                segment_bytes: 3000,
                ..config()
            });
            machine.disk.fail_once_at(operation, tears);
            if machine.try_open().is_err() {
                continue;
            }
            add(&machine, 12);
            let report = audit(&machine);
            assert!(report.is_sound(), "operation {operation}: {report:?}");
        }
    }
}

#[test]
fn front_that_retention_let_go_is_accounted_for_and_no_other() {
    let (machine, _) = retired();
    let segments = machine.disk.segments();
    let report = audit(&machine);
    assert!(report.is_sound(), "{report:?}");
    let segment = segments[0];
    assert_eq!(report.begins, Begin::AfterRetention { segment });

    super::super::storage::Storage::remove(&machine.disk, segment).unwrap();
    let report = audit(&machine);
    assert_eq!(kinds(&report), [FindingKind::Missing]);
}

#[test]
fn anchors_that_retention_overtook_raise_no_alarm_beside_one_that_it_did_not() {
    let (machine, old) = retired();
    let new = head(&machine);
    let report = verify_on(&machine.disk, &[old, new], None);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(
        (report.anchors_met, report.anchors_before_retention),
        (1, 1)
    );
    let alone = verify_on(&machine.disk, &[old], None);
    assert_eq!(kinds(&alone), [FindingKind::Rewritten]);
    let words = &alone.findings[0].words;
    assert!(
        words.contains("nothing vouches for what is kept"),
        "{words}"
    );
}
