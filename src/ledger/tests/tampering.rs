//! What somebody writes who knows how deletion and retention write, and what the audit says of it.

use proptest::prelude::*;

use crate::config::LedgerConfig;
use crate::core::budget::{Act, Deed};
use crate::core::call::Settlement;
use crate::core::digest::DigestSeed;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;

use super::super::Event;
use super::super::audit::{AuditReport, Begin, FindingKind, Given, verify_given, verify_on};
use super::super::fake::{FakeDisk, IndexDisk, Loss};
use super::super::queue::commit;
use super::super::record::{Chain, FORMAT, Frames, HEADER_LEN, Header, kind, parse_frame};
use super::super::removal::{Erased, Removal, Removed, Residue, Tombstone};
use super::super::storage::Storage;
use super::audit::{add, audit, filled, forge, frames, head, kinds, rearrange, retired};
use super::harness::*;

/// Puts a tombstone in the place of the first record of a kind in a segment; says what a deletion
/// would say of it.
fn bury(
    disk: &Machine,
    segment: u64,
    wanted: u8,
    residue: impl Fn(&[u8]) -> Option<Residue>,
) -> Erased {
    let mut erased = Erased::of(segment);
    let mut before = Header::parse(&disk.disk.bytes(segment)).unwrap().continues;
    rearrange(disk, segment, |parts| {
        for part in parts {
            let frame = parse_frame(part).unwrap();
            let (chain, len) = (frame.chain, frame.payload.len());
            if frame.kind == wanted {
                let stone = Tombstone::of(wanted, len, before, residue(frame.payload));
                erased.add(chain, &stone);
                *part = tombstone(chain, &stone);
                return;
            }
            before = chain;
        }
        panic!("no such record in the segment");
    });
    erased
}

fn tombstone(chain: Chain, stone: &Tombstone) -> Vec<u8> {
    let mut frames = Frames::default();
    frames.push_tombstone(chain, &stone.to_bytes());
    frames.bytes
}

/// Appends a segment that goes on from a point with these records.
fn append(machine: &Machine, (after, continues): (u64, Chain), written: &Frames) {
    let last = Header::parse(&machine.disk.bytes(after)).unwrap();
    let header = Header {
        number: after + 1,
        created_at: machine.clock.now(),
        continues,
        ..last
    };
    let mut file = machine.disk.create(after + 1).unwrap();
    file.append(&[header.to_bytes(), written.bytes.clone()].concat())
        .unwrap();
    file.sync().unwrap();
}

fn after(chain: Chain) -> Frames {
    Frames {
        chain,
        ..Frames::default()
    }
}

/// Appends records that name what goes, in a segment of their own.
fn put_on_record(machine: &Machine, all: impl IntoIterator<Item = Erased>) {
    let end = audit(machine).head.unwrap();
    let mut written = after(end.chain);
    for erased in all {
        let removal = Removal {
            at: machine.clock.now(),
            who: "somebody".to_owned(),
            details: "nothing to see here".to_owned(),
            what: Removed::Records {
                segments: vec![erased],
            },
        };
        written.push(kind::REMOVAL, &removal);
    }
    append(machine, (end.segment, end.chain), &written);
}

fn left(kind: u8, record: &impl minicbor::Encode<()>) -> Option<Residue> {
    Residue::of(kind, record).into_iter().next()
}

fn sum(payload: &[u8]) -> Option<Residue> {
    let settlement: Settlement = minicbor::decode(payload).unwrap();
    left(kind::SUM, &settlement)
}

fn dearer(payload: &[u8]) -> Option<Residue> {
    let settlement: Settlement = minicbor::decode(payload).unwrap();
    let forged = Settlement {
        cost: Some(NanoUsd::new(1)),
        ..settlement
    };
    left(kind::SETTLEMENT, &forged)
}

#[test]
fn tombstone_that_says_what_a_call_did_is_forged_and_is_not_read() {
    let machine = filled();
    let before = machine.disk.records(kind::SETTLEMENT);
    let erased = bury(&machine, 2, kind::SETTLEMENT, dearer);
    put_on_record(&machine, [erased]);
    assert_eq!(kinds(&audit(&machine)), [FindingKind::ForgedTombstone]);
    assert_eq!(machine.disk.records(kind::SETTLEMENT), before - 1);
    let act = Act {
        at: machine.clock.now(),
        who: "somebody".to_owned(),
        deed: Deed::RunResumed(label("r1")),
        details: "in its own words".to_owned(),
    };
    let machine = filled();
    let erased = bury(&machine, 2, kind::ADMISSION, |_| left(kind::ACT, &act));
    put_on_record(&machine, [erased]);
    assert_eq!(kinds(&audit(&machine)), [FindingKind::ForgedTombstone]);
    assert_eq!(machine.disk.records(kind::ACT), 0);
}

#[test]
fn bytes_that_the_next_segment_passes_over_vouch_for_nothing() {
    let machine = filled();
    let anchor = audit(&machine).head.unwrap();
    let bytes = machine.disk.bytes(anchor.segment);
    let first = parse_frame(&bytes[HEADER_LEN..]).unwrap().chain;
    let mut other = after(first);
    other.push(kind::EVENT, &Event::own(machine.clock.now(), "told", None));
    append(&machine, (anchor.segment, first), &other);
    let alone = audit(&machine);
    assert!(alone.is_sound() && alone.given_up_bytes > 0, "{alone:?}");
    let against = verify_on(&machine.disk, &[anchor], None);
    assert_eq!(kinds(&against), [FindingKind::Rewritten]);
}

#[test]
fn records_behind_forged_ones_of_the_same_segment_vouch_for_nothing() {
    let machine = filled();
    let anchor = audit(&machine).head.unwrap();
    let segment = anchor.segment;
    let written = machine.disk.bytes(segment);
    let header = Header::parse(&written).unwrap();
    let told = Event::own(machine.clock.now(), "told", None);
    let mut forged = after(header.continues);
    forged.push_begun(header.created_at, header.seed);
    forged.push(kind::EVENT, &told);
    machine.disk.change(segment, |bytes| {
        let bytes_of = [&written[..HEADER_LEN], &forged.bytes, &[0]].concat();
        *bytes = [&bytes_of, &written[HEADER_LEN..]].concat();
    });
    let mut other = after(forged.chain);
    other.push(kind::EVENT, &told);
    append(&machine, (segment, forged.chain), &other);
    let against = verify_on(&machine.disk, &[anchor], None);
    assert!(kinds(&against).contains(&FindingKind::Rewritten));
    assert_eq!(against.anchors_met, 0);
}

#[test]
fn tombstone_that_leads_nowhere_is_found_although_it_is_on_record() {
    let machine = filled();
    let mut erased = Erased::of(2);
    rearrange(&machine, 2, |parts| {
        let chain = parse_frame(&parts[1]).unwrap().chain;
        let stone = Tombstone::of(kind::EVENT, 9, chain, None);
        erased.add(chain, &stone);
        parts.insert(2, tombstone(chain, &stone));
    });
    put_on_record(&machine, [erased]);
    assert!(!audit(&machine).is_sound());
}

#[test]
fn tombstones_that_lead_back_to_where_they_began_are_found() {
    for at in [0, 2] {
        let machine = filled();
        let mut erased = Erased::of(2);
        let continues = Header::parse(&machine.disk.bytes(2)).unwrap().continues;
        rearrange(&machine, 2, |parts| {
            let before = match at {
                0 => continues,
                at => parse_frame(&parts[at - 1]).unwrap().chain,
            };
            let between = Chain::of([7; 16]);
            let there = Tombstone::of(kind::SETTLEMENT, 9, before, None);
            let back = Tombstone::of(kind::SETTLEMENT, 9, between, None);
            erased.add(between, &there);
            erased.add(before, &back);
            parts.insert(at, tombstone(before, &back));
            parts.insert(at, tombstone(between, &there));
        });
        put_on_record(&machine, [erased]);
        assert_eq!(kinds(&audit(&machine)), [FindingKind::Inserted], "at {at}");
    }
}

fn given(machine: &Machine, given: Given<'_>) -> AuditReport {
    verify_given(&machine.disk, &given)
}

#[test]
fn deletion_after_an_anchor_is_found_until_somebody_accepts_it() {
    let machine = filled();
    let anchors = [head(&machine)];
    let first = bury(&machine, 2, kind::SETTLEMENT, sum);
    let second = bury(&machine, 3, kind::SETTLEMENT, sum);
    put_on_record(&machine, [first, second]);
    let report = audit(&machine);
    assert!(
        report.is_sound(),
        "it is a deletion like any other: {report:?}"
    );
    let [row] = report.on_record.as_slice() else {
        panic!("one deletion, whatever the number of its records: {report:?}");
    };
    assert_eq!(row.words, "2 records of segments 2 to 3, by a deletion");
    let against = Given {
        anchors: &anchors,
        ..Given::default()
    };
    let report = given(&machine, against);
    assert_eq!(kinds(&report), [FindingKind::TakenOut]);
    assert_eq!(report.anchors_met, 1);
    assert_eq!(report.findings[0].accept, Some(row.accept));
    let words = &report.findings[0].words;
    assert!(words.contains("taken out or replaced"), "{words}");
    let accepting = |accepted: &[_]| {
        let with = Given {
            accepted,
            ..against
        };
        kinds(&given(&machine, with))
    };
    assert_eq!(accepting(&[row.accept]), []);
    assert_eq!(accepting(&anchors), [FindingKind::TakenOut]);
    let fresh = head(&machine);
    let since = Given {
        anchors: &[fresh],
        ..Given::default()
    };
    assert!(
        given(&machine, since).is_sound(),
        "what came before is known"
    );
}

#[test]
fn more_deletions_than_are_told_are_counted() {
    let machine = filled();
    for _ in 0..3 {
        machine.clock.advance_micros(1);
        put_on_record(&machine, (0..400).map(|_| Erased::of(2)));
        add(&machine, 1);
    }
    let report = audit(&machine);
    assert_eq!((report.on_record.len(), report.more_on_record), (3, 0));
    let at = |number: usize| machine.clock.now().micros() + i64::try_from(number).unwrap();
    let end = audit(&machine).head.unwrap();
    let mut written = Frames {
        chain: end.chain,
        ..Frames::default()
    };
    for number in 0..1100 {
        let removal = Removal {
            at: Timestamp::from_micros(at(number)),
            who: "somebody".to_owned(),
            details: String::new(),
            what: Removed::Records { segments: vec![] },
        };
        written.push(kind::REMOVAL, &removal);
    }
    machine
        .disk
        .change(end.segment, |bytes| bytes.extend(&written.bytes));
    let report = audit(&machine);
    assert_eq!((report.on_record.len(), report.more_on_record), (1000, 103));
}

/// Changes the head of a segment and makes its checksum fit.
fn behead(disk: &FakeDisk, segment: u64, change: impl FnOnce(&mut Header)) {
    disk.change(segment, |bytes| {
        let mut header = Header::parse(bytes).unwrap();
        change(&mut header);
        bytes.splice(..HEADER_LEN, header.to_bytes());
    });
}

/// As an older version wrote it: heads of format 1, of which nothing is on record.
fn downgrade(disk: &FakeDisk, keep: impl Fn(u8) -> bool) {
    let kinds: Vec<Vec<u8>> = disk
        .segments()
        .iter()
        .map(|segment| {
            let bytes = disk.bytes(*segment);
            let kinds = frames(&bytes).into_iter();
            kinds
                .map(|it| parse_frame(&bytes[it]).unwrap().kind)
                .collect()
        })
        .collect();
    let first = disk.segments()[0];
    forge(disk, first, |segment, number, _| {
        let at = usize::try_from(segment - first).unwrap();
        let kind = kinds[at][number];
        kind != kind::BEGUN && keep(kind)
    });
    for segment in disk.segments() {
        disk.change(segment, |bytes| {
            bytes[8..10].copy_from_slice(&1_u16.to_le_bytes());
            let sum = crc32fast::hash(&bytes[..52]).to_le_bytes();
            bytes[52..56].copy_from_slice(&sum);
        });
    }
}

#[test]
fn head_of_a_segment_cannot_say_another_time_or_secret_than_was_recorded() {
    let early = |header: &mut Header| {
        header.created_at = START;
    };
    let late = |header: &mut Header| {
        header.created_at = Timestamp::from_micros(START.micros() + 10 * HOUR_US);
    };
    let other = |header: &mut Header| header.seed = DigestSeed(7);
    let changes: [fn(&mut Header); 3] = [early, late, other];
    for change in changes {
        for older in [false, true] {
            let machine = filled();
            // So that it is far from where it was.
            machine.clock.advance_micros(5 * HOUR_US);
            add(&machine, 24);
            if older {
                downgrade(&machine.disk, |_| true);
                assert!(audit(&machine).is_sound(), "{:?}", audit(&machine));
            }
            let segments = machine.disk.segments();
            let segment = segments[segments.len() - 3];
            behead(&machine.disk, segment, change);
            let report = audit(&machine);
            assert_eq!(kinds(&report), [FindingKind::Header], "older: {older}");
            assert_eq!(report.findings[0].at.segment, segment);
        }
    }
}

#[test]
fn front_that_an_older_version_let_go_is_put_on_record_once() {
    let (machine, _) = retired();
    downgrade(&machine.disk, |kind| kind != kind::REMOVAL);
    assert_eq!(kinds(&audit(&machine)), [FindingKind::Missing]);
    let upgraded = Machine {
        index: IndexDisk::default(),
        config: LedgerConfig {
            keep_bytes: None,
            ..machine.config.clone()
        },
        ..machine
    };
    for _ in 0..3 {
        add(&upgraded, 1);
        let report = audit(&upgraded);
        assert!(report.is_sound(), "{report:?}");
        let segment = upgraded.disk.segments()[0];
        assert_eq!(report.begins, Begin::AfterRetention { segment });
        assert_eq!(upgraded.disk.records(kind::REMOVAL), 1);
    }
    let last = *upgraded.disk.segments().last().unwrap();
    let format = Header::format(&upgraded.disk.bytes(last));
    assert_eq!(format, Some(FORMAT), "what is new is not taken for old");
    upgraded.disk.remove(upgraded.disk.segments()[0]).unwrap();
    add(&upgraded, 1);
    let found = kinds(&audit(&upgraded));
    assert!(found.contains(&FindingKind::Missing), "by hand: {found:?}");
}

#[test]
fn end_that_was_cut_off_is_told_by_the_next_start_for_good() {
    for damage in [false, true] {
        let machine = filled();
        let last = *machine.disk.segments().last().unwrap();
        machine.disk.change(last, |bytes| {
            let at = frames(bytes).last().unwrap().start;
            if damage {
                bytes[at] ^= 1;
            } else {
                bytes.truncate(at);
            }
        });
        add(&machine, 1);
        add(&machine, 1);
        let report = audit(&machine);
        assert_eq!(kinds(&report), [FindingKind::Shortened]);
        assert!(
            report.findings[0]
                .words
                .contains("the index saw the log up to")
        );
    }
}

#[test]
fn record_is_known_to_be_on_disk_only_where_it_is() {
    let (released, waits) = commit();
    drop(released);
    assert!(waits.is_done() && !waits.is_kept());
    let (kept, waits) = commit();
    kept.keep();
    assert!(waits.is_done() && waits.is_kept());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_change_of_a_byte_of_a_closed_segment_is_found(
        calls in 6_usize..14,
        segment_bytes in 1200_u64..3000,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1_u8..), 12),
    ) {
        let machine = Machine::new(LedgerConfig { segment_bytes, ..config() });
        add(&machine, calls);
        let segments = machine.disk.segments();
        let closed = &segments[..segments.len() - 1];
        prop_assume!(!closed.is_empty());
        for (segment, at, change) in places {
            let segment = closed[segment.index(closed.len())];
            let disk = machine.disk.after(Loss::Nothing);
            let len = disk.bytes(segment).len();
            let at = at.index(len);
            disk.change(segment, |bytes| bytes[at] ^= change);
            let report = verify_on(&disk, &[], None);
            prop_assert!(!report.is_sound(), "byte {} of segment {}", at, segment);
            let found = report.findings[0].at.segment;
            prop_assert!((segment..=segment + 1).contains(&found));
        }
    }
}
