//! The audit and deletions, as they are asked for at the command line.

use super::*;

/// A ledger with a call of `night/1`, that no server uses.
fn closed() -> tempfile::TempDir {
    let sample = Sample::new();
    sample.record(PLANNER);
    sample.record(RESEARCHER);
    sample.ledger.sync_index();
    let Sample { dir, ledger, .. } = sample;
    drop(ledger);
    dir
}

fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(dir.join("log")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Whether any file below says this.
fn says(dir: &Path, text: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return says(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap();
        memchr::memmem::find(&bytes, text).is_some()
    })
}

#[test]
fn audit_is_quiet_about_a_sound_log_and_names_what_was_edited() {
    let dir = closed();
    let path = dir.path().to_str().unwrap();
    let head = printed(dir.path(), &["audit", "head"]);
    let sound = ran(&["audit", "verify", "--against", head.trim(), "--dir", path]);
    check_code(&sound, 0);
    assert!(
        sound.out.contains("begins\twith the first record\n"),
        "{}",
        sound.out
    );
    assert!(sound.out.contains("anchors met\t1\n"), "{}", sound.out);

    let anchors = dir.path().join("anchors");
    std::fs::write(&anchors, format!("INFO written up to here anchor={head}")).unwrap();
    let against = anchors.to_str().unwrap();
    check_code(
        &ran(&["audit", "verify", "--against", against, "--dir", path]),
        0,
    );

    let segment = segments(dir.path()).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.len() - 9;
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let edited = ran(&["audit", "verify", "--dir", path]);
    check_code(&edited, 1);
    assert!(edited.out.contains("\nedited\t1\t"), "{}", edited.out);
    assert!(
        edited.errors.contains("not what was written"),
        "{}",
        edited.errors
    );
    let endless = ran(&["audit", "head", "--dir", path]);
    check_code(&endless, 1);
    assert_eq!(endless.out, "", "its end cannot be known");

    bytes[at] ^= 1;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let rotten = ran(&["audit", "head", "--dir", path]);
    check_code(&rotten, 1);
    assert_eq!(rotten.out, head, "it is printed all the same");
    let words = "not what was written";
    assert!(rotten.errors.contains(words), "{}", rotten.errors);
    let since = rotten.out.trim();
    let verified = ran(&["audit", "verify", "--against", since, "--dir", path]);
    assert!(
        verified.out.contains("anchors met\t1\n"),
        "{}",
        verified.out
    );
}

#[test]
fn damage_is_accepted_by_what_is_printed_of_it_until_it_changes() {
    let dir = closed();
    let path = dir.path().to_str().unwrap();
    let segment = segments(dir.path()).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let verify = ["audit", "verify", "--dir", path];
    let rotten = ran(&verify);
    check_code(&rotten, 1);
    let accept = rotten.out.lines().last().unwrap().rsplit('\t').next();
    let by_hand = accept.unwrap().to_owned();
    let file = dir.path().join("known");
    std::fs::write(&file, &rotten.out).unwrap();
    for accept in [by_hand.as_str(), file.to_str().unwrap()] {
        let accepting = [&verify[..], &["--accept", accept]].concat();
        let known = ran(&accepting);
        check_code(&known, 0);
        assert!(known.out.contains("\nedited\t1\t"), "{}", known.out);
        let told = format!("\taccepted as {by_hand}\n");
        assert!(known.out.ends_with(&told), "{}", known.out);
        let json = ran(&[&accepting[..], &["--json"]].concat());
        check_code(&json, 0);
        let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        let told = &report["findings"][0];
        assert_eq!(told["accept"], by_hand);
        assert_eq!(told["accepted"], true);
    }
    let head = ["audit", "head", "--dir", path];
    let unknown = ran(&head);
    check_code(&unknown, 1);
    let accepting = [&head[..], &["--accept", file.to_str().unwrap()]].concat();
    let known = ran(&accepting);
    check_code(&known, 0);
    assert_eq!((known.out, known.errors), (unknown.out, String::new()));
    bytes[middle] ^= 2;
    std::fs::write(&segment, &bytes).unwrap();
    check_code(&ran(&accepting), 1);
    let changed = ran(&[&verify[..], &["--accept", &by_hand]].concat());
    check_code(&changed, 1);
    assert!(
        changed
            .errors
            .contains("1 findings, the first in segment 1")
    );
}

#[test]
fn anchors_are_found_in_logs_of_any_form() {
    let dir = closed();
    let path = dir.path().to_str().unwrap();
    let head = printed(dir.path(), &["audit", "head"]);
    let head = head.trim();
    let file = dir.path().join("anchors");
    let against = file.to_str().unwrap();
    let lines = [
        format!("{{\"at\":\"12:30:00\",\"fields\":{{\"anchor\":\"{head}\"}},\"n\":7}}"),
        format!(
            "\u{1b}[2m12:30:00\u{1b}[0m \u{1b}[3manchor\u{1b}[0m\u{1b}[2m=\u{1b}[0m{head}\u{1b}[0m"
        ),
        format!("{head} 2026-11-30, by hand"),
        format!("a line of another kind\n\n  {head}  "),
    ];
    for line in lines {
        std::fs::write(&file, &line).unwrap();
        let met = ran(&["audit", "verify", "--against", against, "--dir", path]);
        check_code(&met, 0);
        assert!(met.out.contains("anchors met\t1\n"), "{line}: {}", met.out);
    }
    for none in ["", "a line of another kind", &format!("{head}0")] {
        std::fs::write(&file, none).unwrap();
        let met = ran(&["audit", "verify", "--against", against, "--dir", path]);
        check_code(&met, 2);
        let words = "has an anchor, which `audit head` prints";
        assert!(met.errors.contains(words), "{}", met.errors);
    }
}

#[test]
fn file_without_anything_to_accept_is_explained_by_what_prints_that() {
    let dir = closed();
    let path = dir.path().to_str().unwrap();
    let file = dir.path().join("known");
    std::fs::write(&file, "a line of another kind\n").unwrap();
    let accept = file.to_str().unwrap();
    for command in ["verify", "head"] {
        let none = ran(&["audit", command, "--accept", accept, "--dir", path]);
        check_code(&none, 2);
        assert_eq!(none.out, "");
        let words = "has what accepts a finding, which `audit verify` prints under TO ACCEPT";
        assert!(none.errors.contains(words), "{}", none.errors);
    }
}

#[test]
fn wrong_anchors_are_explained_and_exit_with_2() {
    let dir = closed();
    let path = dir.path().to_str().unwrap();
    let wrong = ran(&["audit", "verify", "--against", "7", "--dir", path]);
    check_code(&wrong, 2);
    assert!(
        wrong.errors.contains("found `7`, expected what"),
        "{}",
        wrong.errors
    );
    let other = format!("1:{}", "0123456789abcdef".repeat(2));
    let unmet = ran(&["audit", "verify", "--against", &other, "--dir", path]);
    check_code(&unmet, 1);
    assert!(unmet.out.contains("rewritten"), "{}", unmet.out);
}

#[test]
fn run_is_deleted_when_that_is_said_and_leaves_no_name_in_any_file() {
    let dir = closed();
    let path = dir.path().to_str().unwrap();
    let meant = ["ledger", "delete", "--run", "night/1", "--dir", path];
    assert!(says(dir.path(), b"night/1"));
    let preview = ran(&[&meant[..], &["--dry-run"]].concat());
    check_code(&preview, 0);
    assert!(preview.out.contains("calls\t2\n"), "{}", preview.out);
    let unsaid = ran(&meant);
    check_code(&unsaid, 1);
    assert!(unsaid.errors.contains("--yes"), "{}", unsaid.errors);
    assert!(says(dir.path(), b"night/1"));

    check_code(&ran(&[&meant[..], &["--yes"]].concat()), 0);
    assert!(!says(dir.path(), b"night/1"));
    let audit = ran(&["audit", "verify", "--dir", path]);
    check_code(&audit, 0);
    assert!(
        audit
            .out
            .contains(" records of segments 1 to 1, by a deletion"),
        "{}",
        audit.out
    );
    assert!(!printed(dir.path(), &["runs"]).contains("night"));
    assert!(printed(dir.path(), &["events"]).contains("calls_deleted"));
    let again = ran(&[&meant[..], &["--yes"]].concat());
    check_code(&again, 1);
    assert!(again.errors.contains("no such call"), "{}", again.errors);
}

#[test]
fn nothing_is_deleted_under_a_server_or_without_saying_what() {
    let Sample { dir, ledger, .. } = Sample::new();
    let path = dir.path().to_str().unwrap();
    let busy = ran(&[
        "ledger", "delete", "--before", "30d", "--yes", "--dir", path,
    ]);
    check_code(&busy, 2);
    assert!(busy.errors.contains("stop it first"), "{}", busy.errors);
    check_code(&ran(&["audit", "verify", "--dir", path]), 0);
    drop(ledger);
    check_code(&ran(&["ledger", "delete", "--yes", "--dir", path]), 2);
    let both = [
        "ledger", "delete", "--run", "a", "--user", "b", "--dir", path,
    ];
    check_code(&ran(&both), 2);
}
