//! Real files: locks, format fixtures, the functions for the command line.

use std::fs;
use std::path::Path;

use crate::clock::Clock;
use crate::config::LedgerConfig;
use crate::core::call::Outcome;
use crate::core::id::CallId;

use super::super::audit::{Anchor, FindingKind, Given, read, verify};
use super::super::check::{check, open_read_only, rebuild};
use super::super::lock::Lock;
use super::super::log::Segment;
use super::super::record::{HEADER_LEN, Header, frame_len};
use super::super::storage::{Storage, parents_of_new};
use super::super::{Doors, Event, Ledger, OpenError, Recovery, holder, open, running_server};
use super::harness::*;

fn open_at(dir: &Path) -> Result<(Ledger, Recovery), OpenError> {
    open(
        &LedgerConfig {
            dir: dir.to_owned(),
            ..config()
        },
        Clock::manual(START),
        undo,
    )
}

fn id(number: u8) -> CallId {
    CallId::from_bytes([
        1, 0x9b, 0x77, 0x4d, 0xf4, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, number,
    ])
}

/// The calls of the fixture.
fn fill(ledger: &Ledger) {
    let messages = [message(1), message(2)];
    for number in 1..=3 {
        let admission = admission(id(number), START, Some("run"), "researcher");
        let request = conversation(ledger.seed(), &messages[..usize::from(number.min(2))]);
        let entry = ledger.admit(admission.clone(), Some(request)).unwrap();
        entry.durable().block();
        entry.settle(settlement(&admission), Some(plain(message(9).as_bytes())));
    }
}

#[test]
fn second_process_is_told_who_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open_at(dir.path()).unwrap();
    assert_eq!(running_server(dir.path()), None, "not announced yet");
    let doors = Doors {
        admin: "127.0.0.1:8788".parse().unwrap(),
        proxy: "127.0.0.1:8787".parse().unwrap(),
        is_tls: true,
    };
    ledger.announce(doors).unwrap();
    assert_eq!(holder(dir.path()).unwrap().doors(), Some(doors));
    let error = open_at(dir.path()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }));
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    assert!(text.contains("127.0.0.1:8788"), "{text}");
    assert_eq!(
        running_server(dir.path()),
        Some("127.0.0.1:8788".parse().unwrap())
    );
    assert!(matches!(
        open_read_only(dir.path()),
        Err(OpenError::Locked { .. })
    ));
    drop(ledger);
    assert_eq!(running_server(dir.path()), None);
    assert!(open_at(dir.path()).unwrap().1.clean);
}

#[test]
fn every_new_directory_is_made_to_last() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, log] = ["one", "one/two", "one/two/log"].map(|name| dir.path().join(name));
    assert_eq!(parents_of_new(&log), [&*two, &*one, dir.path()]);
    fs::create_dir_all(&two).unwrap();
    assert_eq!(parents_of_new(&log), [two]);
    let relative = parents_of_new(Path::new("no-such-dir/log"));
    assert_eq!(relative, ["no-such-dir", "."].map(Path::new));
}

/// Whether whoever came last left it open, as this does.
fn left_open(dir: &Path) -> bool {
    Lock::acquire(dir).unwrap().left_open()
}

#[test]
fn command_line_can_look_check_and_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        open_read_only(dir.path()),
        Err(OpenError::Missing { .. })
    ));
    let (ledger, _) = open_at(dir.path()).unwrap();
    fill(&ledger);
    let expected = everything(ledger.view());
    let seed = ledger.seed();
    drop(ledger);
    assert_eq!(
        everything(open_read_only(dir.path()).unwrap().view()),
        expected
    );
    let report = check(dir.path()).unwrap();
    assert_eq!(
        (report.admissions, report.settlements, report.contents),
        (3, 3, 2)
    );
    assert_eq!((report.damages.len(), report.torn_bytes), (0, 0));
    fs::write(dir.path().join("index.redb"), b"not an index").unwrap();
    assert_eq!(rebuild(dir.path()).unwrap().records, 9);
    assert!(!left_open(dir.path()), "rebuilding leaves");
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    left_open(dir.path());
    assert_eq!(check(dir.path()).unwrap().index_damaged, None);
    assert!(!left_open(dir.path()), "there is no index to doubt");
    rebuild(dir.path()).unwrap();
    let (ledger, recovery) = open_at(dir.path()).unwrap();
    assert!(recovery.clean, "{recovery}");
    assert_eq!(everything(ledger.view()), expected);
    assert!(ledger.seed() == seed);
}

#[test]
fn log_of_a_newer_version_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open_at(dir.path()).unwrap().0);
    let path = dir.path().join("log/00000000000000000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    let sum = crc32fast::hash(&bytes[..52]).to_le_bytes();
    bytes[52..56].copy_from_slice(&sum);
    fs::write(&path, bytes).unwrap();
    let error = open_at(dir.path()).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("newer version") && error.contains("format 9"),
        "{error}"
    );
}

#[test]
fn directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = open_at(&file).map(drop).unwrap_err().to_string();
    assert!(error.contains("file cannot be used"), "{error}");
}

/// Set `REGENERATE_LEDGER_FIXTURE` to write the fixture; never for a format that was released.
#[test]
fn data_directory_of_each_format_opens_with_and_without_its_index() {
    let fixtures = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/ledger"
    ));
    let fixture = &fixtures.join("v2");
    if std::env::var_os("REGENERATE_LEDGER_FIXTURE").is_some() {
        drop(fs::remove_dir_all(fixture));
        let (ledger, _) = open_at(fixture).unwrap();
        fill(&ledger);
        block_on(ledger.close()).unwrap();
        drop(ledger);
        for rest in ["lock", "index.redb"] {
            fs::remove_file(fixture.join(rest)).unwrap();
        }
    }
    for (version, with_index) in [("v1", true), ("v1", false), ("v2", false)] {
        let fixture = fixtures.join(version);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let segment = "log/00000000000000000001.seg";
        fs::copy(fixture.join(segment), dir.path().join(segment)).unwrap();
        if with_index {
            fs::copy(fixture.join("index.redb"), dir.path().join("index.redb")).unwrap();
        }
        let (ledger, recovery) = open_at(dir.path()).unwrap();
        // That of the first fixture has another version.
        assert!(recovery.index_rebuilt);
        let view = ledger.view();
        let calls = all_calls(view);
        assert_eq!(
            calls.iter().map(|row| row.id).collect::<Vec<_>>(),
            [id(3), id(2), id(1)]
        );
        assert!(
            calls
                .iter()
                .all(|row| row.outcome == Some(Outcome::Completed))
        );
        assert_eq!(calls[0].started_at, START);
        assert_eq!(calls[0].usage.output_tokens, 5);
        let expected = conversation(ledger.seed(), &[message(1), message(2)]);
        let body = view.request_body(id(3)).unwrap().unwrap();
        assert!(body.exact && body.bytes == wire(&expected));
        let body = view.response_body(id(1)).unwrap().unwrap();
        assert_eq!(body.bytes, message(9).as_bytes());
        assert_eq!(all_rollups(view)[0].totals.cost_nano_usd, 4500);
        ledger
            .event(Event::own(START, "told", None))
            .unwrap()
            .block();
        let formats = fs::read_dir(dir.path().join("log")).unwrap();
        let formats = formats.map(|file| {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            Header::format(&bytes).unwrap()
        });
        let mut formats: Vec<u16> = formats.collect();
        formats.sort_unstable();
        let expected: &[u16] = if version == "v1" { &[1, 2] } else { &[2] };
        assert_eq!(
            formats, expected,
            "an older version refuses what it does not know"
        );
    }
}

#[test]
fn audit_of_a_ledger_that_was_left_open_leaves_the_doubt_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open_at(dir.path()).unwrap().0);
    assert!(verify(dir.path(), &[], &[]).unwrap().is_sound());
    assert!(!left_open(dir.path()), "it was closed and stays so");
    fs::write(dir.path().join("index.redb"), b"not an index").unwrap();
    left_open(dir.path());
    assert!(verify(dir.path(), &[], &[]).unwrap().is_sound());
    assert!(left_open(dir.path()), "nobody saw that the index is whole");
    rebuild(dir.path()).unwrap();
    left_open(dir.path());
    assert!(verify(dir.path(), &[], &[]).unwrap().is_sound());
    assert!(!left_open(dir.path()), "its every page was verified");
}

#[test]
fn what_the_index_saw_outlives_those_who_only_look() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open_at(dir.path()).unwrap().0);
    let path = dir.path().join("log/00000000000000000001.seg");
    let bytes = fs::read(&path).unwrap();
    let last = (HEADER_LEN..).scan(HEADER_LEN, |at, _| {
        let here = *at;
        *at += frame_len(bytes.get(here..)?)?;
        Some(here)
    });
    let last = last.last().unwrap();
    fs::write(&path, &bytes[..last]).unwrap();
    let kinds = |accepted: &[Anchor]| {
        let report = verify(dir.path(), &[], accepted).unwrap();
        let kinds = report.unaccepted().map(|it| it.kind);
        kinds.collect::<Vec<_>>()
    };
    for _ in 0..2 {
        drop(open_read_only(dir.path()).unwrap());
    }
    assert_eq!(kinds(&[]), [FindingKind::Rewritten]);
    drop(open_at(dir.path()).unwrap());
    assert_eq!(
        kinds(&[]),
        [FindingKind::Shortened],
        "the next start says so"
    );
    let report = verify(dir.path(), &[], &[]).unwrap();
    drop(open_at(dir.path()).unwrap());
    assert_eq!(kinds(&[]), [FindingKind::Shortened], "once, and for good");
    let accepted = report.findings[0].accept.unwrap();
    assert_eq!(kinds(&[accepted]), []);
}

#[test]
fn segment_that_retention_lets_go_meanwhile_makes_reading_begin_again() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open_at(dir.path()).unwrap().0);
    let path = dir.path().join("log/00000000000000000001.seg");
    let mut readings = 0;
    let lets_go = |_: &dyn Storage, segments: &[Segment]| {
        readings += 1;
        assert_eq!(segments.len(), usize::from(readings == 1));
        fs::remove_file(&path).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
    };
    let report = read(dir.path(), &Given::default(), lets_go).unwrap();
    assert_eq!((report.segments, readings), (0, 2));
}
