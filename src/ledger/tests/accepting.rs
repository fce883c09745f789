//! Damage that somebody looked into: it is told, and raises no alarm as long as it stays what it is.

use super::super::audit::{Anchor, AuditReport, Begin, FindingKind, Given, verify_given};
use super::super::fake::{FakeDisk, Loss};
use super::super::record::{Frames, HEADER_LEN, Header, parse_frame};
use super::super::storage::Storage as _;
use super::audit::{add, audit, filled, fix_checksum, frames, kinds, rearrange, retired};
use super::harness::*;

fn accepting(disk: &FakeDisk, accepted: &[Anchor]) -> AuditReport {
    let given = Given {
        accepted,
        retells: true,
        ..Given::default()
    };
    verify_given(disk, &given)
}

/// What accepts all that is found, as is printed with it.
#[track_caller]
fn offered(machine: &Machine) -> Vec<Anchor> {
    let report = audit(machine);
    assert!(!report.is_sound());
    let offered = report.findings.iter().map(|it| it.accept);
    offered
        .map(|it| it.unwrap_or_else(|| panic!("{report:?}")))
        .collect()
}

/// Which record is damaged: never the last one.
fn nth(count: usize) -> usize {
    (count - 2).min(3)
}

/// Damages one record of a segment, or its head.
fn damage(machine: &Machine, segment: u64, kind: FindingKind) {
    let frame = |bytes: &[u8]| {
        let all = frames(bytes);
        all[nth(all.len())].clone()
    };
    match kind {
        FindingKind::Edited => machine.disk.change(segment, |bytes| {
            let at = frame(bytes).end - 1;
            bytes[at] ^= 1;
        }),
        FindingKind::Unreadable => machine.disk.change(segment, |bytes| {
            let range = frame(bytes);
            bytes[range].fill(0);
        }),
        FindingKind::ChainBroken => rearrange(machine, segment, |parts| {
            let nth = nth(parts.len());
            let last = parts[nth].len() - 1;
            parts[nth][last] ^= 1;
            fix_checksum(&mut parts[nth]);
        }),
        _ => machine
            .disk
            .change(segment, |bytes| bytes[HEADER_LEN - 1] ^= 1),
    }
}

const KINDS: [FindingKind; 4] = [
    FindingKind::Edited,
    FindingKind::Unreadable,
    FindingKind::ChainBroken,
    FindingKind::Header,
];

#[test]
fn damage_of_any_kind_can_be_accepted_and_is_told_all_the_same() {
    let whole = filled();
    let segments = whole.disk.segments();
    for kind in KINDS {
        for segment in [segments[0], segments[2], *segments.last().unwrap()] {
            let machine = whole.with_disk(whole.disk.after(Loss::Nothing));
            damage(&machine, segment, kind);
            assert_eq!(kinds(&audit(&machine)), [kind], "of segment {segment}");
            let accepted = offered(&machine);
            let report = accepting(&machine.disk, &accepted);
            assert!(report.is_sound(), "{report:?}");
            let [told] = report.findings.as_slice() else {
                panic!("{report:?}");
            };
            assert!(told.accepted && told.kind == kind);
            assert_eq!(told.at.segment, segment);
            // Nothing else is.
            damage(&machine, segments[1], FindingKind::Edited);
            let found = kinds(&accepting(&machine.disk, &accepted));
            assert_eq!(found, [FindingKind::Edited]);
        }
    }
}

#[test]
fn what_is_accepted_of_one_kind_is_not_of_another_at_the_same_place() {
    let whole = filled();
    let segment = whole.disk.segments()[2];
    for kind in KINDS {
        let machine = whole.with_disk(whole.disk.after(Loss::Nothing));
        damage(&machine, segment, kind);
        let accepted = offered(&machine);
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            let machine = whole.with_disk(whole.disk.after(Loss::Nothing));
            damage(&machine, segment, other);
            assert_eq!(kinds(&accepting(&machine.disk, &accepted)), [other]);
        }
    }
}

#[test]
fn whatever_is_changed_where_the_chain_cannot_tell_is_found_beside_accepted_damage() {
    let whole = filled();
    let segment = whole.disk.segments()[2];
    damage(&whole, segment, FindingKind::Edited);
    let accepted = offered(&whole);
    let again = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let machine = whole.with_disk(whole.disk.after(Loss::Nothing));
        rearrange(&machine, segment, |parts| change(parts));
        kinds(&accepting(&machine.disk, &accepted))
    };
    assert_eq!(again(&|_| {}), []);
    let edited = [FindingKind::Edited];
    assert_eq!(again(&|parts| parts[3][30] ^= 1), edited, "its own bytes");
    assert_eq!(again(&|parts| drop(parts.remove(4))), edited, "one is gone");
    let forged = |parts: &mut Vec<Vec<u8>>| {
        let last = parts[4].len() - 1;
        parts[4][last] ^= 1;
        fix_checksum(&mut parts[4]);
    };
    assert_eq!(
        again(&forged),
        edited,
        "the next, which follows from nothing"
    );
    let put = |parts: &mut Vec<Vec<u8>>| parts.insert(4, parts[7].clone());
    assert!(!again(&put).is_empty());
    let moved = |parts: &mut Vec<Vec<u8>>| drop(parts.remove(2));
    assert!(!again(&moved).is_empty());
}

/// Has the first records of a segment be made anew, each with checksum and chain, the third of them
/// another of the same length if that is wanted.
fn remake(machine: &Machine, segment: u64, count: usize, is_other: bool) {
    machine.disk.change(segment, |bytes| {
        let mut forged = Frames {
            chain: Header::parse(bytes).unwrap().continues,
            ..Frames::default()
        };
        for (number, range) in frames(bytes).into_iter().take(count).enumerate() {
            let frame = parse_frame(&bytes[range]).unwrap();
            let mut payload = frame.payload.to_vec();
            if is_other && number == 2 {
                *payload.last_mut().unwrap() ^= 1;
            }
            forged.push_encoded(frame.kind, &payload);
        }
        let end = HEADER_LEN + forged.bytes.len();
        bytes.splice(HEADER_LEN..end, forged.bytes);
    });
}

#[test]
fn records_that_were_made_anew_up_to_accepted_damage_are_found() {
    let whole = filled();
    let segments = whole.disk.segments();
    for kind in KINDS {
        let machine = whole.with_disk(whole.disk.after(Loss::Nothing));
        damage(&machine, segments[2], kind);
        let accepted = offered(&machine);
        // Up to the damage: a head has the whole segment before it.
        let (segment, count) = match kind {
            FindingKind::Header => (segments[1], usize::MAX),
            _ => (segments[2], 3),
        };
        for (is_other, found) in [(false, &[][..]), (true, &[kind][..])] {
            remake(&machine, segment, count, is_other);
            let report = accepting(&machine.disk, &accepted);
            assert_eq!(kinds(&report), found, "{kind:?}: {report:?}");
        }
    }
}

type Rot<'r> = &'r dyn Fn(&mut Vec<u8>);

#[test]
fn segments_that_are_gone_beside_accepted_damage_are_found() {
    let whole = filled();
    let segments = whole.disk.segments();
    let rot_end = |bytes: &mut Vec<u8>| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    };
    let rot_head = |bytes: &mut Vec<u8>| bytes[HEADER_LEN - 1] ^= 1;
    let only_head = |bytes: &mut Vec<u8>| {
        bytes.truncate(HEADER_LEN);
        bytes[HEADER_LEN - 1] ^= 1;
    };
    let cases: [(FindingKind, Rot<'_>, usize); 4] = [
        (FindingKind::Edited, &rot_end, 3),
        (FindingKind::Header, &rot_head, 1),
        (FindingKind::Header, &only_head, 1),
        (FindingKind::Header, &only_head, 3),
    ];
    for (kind, rot, gone) in cases {
        let machine = whole.with_disk(whole.disk.after(Loss::Nothing));
        machine.disk.change(segments[2], rot);
        let accepted = offered(&machine);
        let report = accepting(&machine.disk, &accepted);
        assert!(report.is_sound(), "{report:?}");
        machine.disk.remove(segments[gone]).unwrap();
        let report = accepting(&machine.disk, &accepted);
        assert_eq!(kinds(&report), [kind], "{gone}: {report:?}");
    }
}

#[test]
fn first_head_that_cannot_be_read_does_not_hide_that_retention_let_the_front_go() {
    let (machine, _) = retired();
    let segment = machine.disk.segments()[0];
    damage(&machine, segment, FindingKind::Header);
    let accepted = offered(&machine);
    let report = accepting(&machine.disk, &accepted);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.begins, Begin::AfterRetention { segment });
    machine.disk.remove(segment).unwrap();
    let found = kinds(&accepting(&machine.disk, &accepted));
    assert_eq!(found, [FindingKind::Missing], "by hand");
}

#[test]
fn log_that_goes_on_and_was_found_shorter_stays_accepted() {
    let machine = filled();
    let segments = machine.disk.segments();
    damage(&machine, segments[1], FindingKind::Edited);
    damage(&machine, segments[2], FindingKind::Header);
    let last = *segments.last().unwrap();
    machine.disk.change(last, |bytes| {
        let at = frames(bytes).last().unwrap().start;
        bytes.truncate(at);
    });
    add(&machine, 1);
    let accepted = offered(&machine);
    let told = [
        FindingKind::Edited,
        FindingKind::Header,
        FindingKind::Shortened,
    ];
    add(&machine, 9);
    let report = accepting(&machine.disk, &accepted);
    assert!(report.is_sound(), "{report:?}");
    let found: Vec<_> = report.findings.iter().map(|it| it.kind).collect();
    assert_eq!(found, told);
    let but_one = accepting(&machine.disk, &accepted[1..]);
    assert_eq!(kinds(&but_one), [FindingKind::Edited]);
}

#[test]
fn damage_beyond_what_is_told_is_never_taken_for_accepted() {
    let machine = filled();
    let segment = machine.disk.segments()[1];
    rearrange(&machine, segment, |parts| {
        let (mut bad, good) = (parts[3].clone(), parts[4].clone());
        let last = bad.len() - 1;
        bad[last] ^= 1;
        // Each is followed by a record that reads on.
        let pairs = (0..1200).flat_map(|_| [bad.clone(), good.clone()]);
        parts.splice(3..3, pairs.collect::<Vec<_>>());
    });
    let told = audit(&machine).findings;
    assert_eq!(told.len(), 1000);
    let accepted: Vec<_> = told.iter().filter_map(|it| it.accept).collect();
    let report = accepting(&machine.disk, &accepted);
    assert_eq!(kinds(&report), [], "of those that are told");
    assert!(report.more_findings >= 200 && !report.is_sound());
}
