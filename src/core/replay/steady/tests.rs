use super::*;

#[test]
fn patterns_are_understood_and_have_one_group_each() {
    for (_, pattern) in PATTERNS {
        let one = Regex::new(&format!("(?x-u){}", whole(pattern)));
        assert_eq!(one.unwrap().captures_len(), 2, "{pattern}");
    }
    assert!(VOLATILE.is_some());
}

/// Pairs of texts that say the same, but for what changes by itself.
const SAME: &[(&str, &str)] = &[
    // Times.
    (
        "It is 2026-11-30T06:12:34Z.",
        "It is 2027-01-02T10:00:00.125+01:00.",
    ),
    ("date: 2026-11-30", "date: 2027-01-02"),
    ("on 2026/11/30 06:12", "on 2027/01/02 10:00"),
    (
        "Today is Monday, November 30, 2026",
        "Today is Saturday, January 2, 2027",
    ),
    ("Today is Mon 30 Nov 2026.", "Today is Sat 2 Jan 2027."),
    (
        "Mon, 30 Nov 2026 06:12:34 GMT",
        "Sat, 02 Jan 2027 10:00:00 GMT",
    ),
    (
        "Mon Nov 30 06:12:34 UTC 2026",
        "Sat Jan  2 10:00:00 UTC 2027",
    ),
    (
        "now November 30th, 2026 at 6:12 AM",
        "now January 2nd, 2027 at 11:45 PM",
    ),
    ("2026-11-30 (Monday)", "2027-01-02 (Saturday)"),
    ("backup-20261130T061234Z.tar", "backup-20270102T100000Z.tar"),
    ("log_20261130_061234.txt", "log_20270102_100000.txt"),
    ("run 20261130061234", "run 20270102100000"),
    (
        "shot_2026-11-30_06-12-34.png",
        "shot_2027-01-02_10-00-00.png",
    ),
    ("[06:12:34.567] ready", "[10:00:00.001] ready"),
    ("It is 06:12", "It is 10:00"),
    ("Current time: 06:12", "Current time: 10:00"),
    ("The time is 06:12 AM.", "The time is 10:00 PM."),
    ("at 1764483154.123", "at 1798884000.9"),
    ("t=1764483154123", "t=1798884000000"),
    ("1764483154123456789 ns", "1798884000000000001 ns"),
    (
        r#"{"created_at": 1764483154}"#,
        r#"{"created_at": 1798884000}"#,
    ),
    (
        r#"{\"timestamp\":1764483154}"#,
        r#"{\"timestamp\":1798884000}"#,
    ),
    // Durations.
    ("3 passed in 0.12s", "3 passed in 1.05s"),
    ("--- PASS: TestAll (0.00s)", "--- PASS: TestAll (0.31s)"),
    ("took 12 ms", "took 9 ms"),
    ("done in 2.5 seconds", "done in 3.1 seconds"),
    (r#""elapsed_ms": 12, "n": 1"#, r#""elapsed_ms": 31, "n": 1"#),
    // Places.
    ("http://127.0.0.1:54321/v1", "http://127.0.0.1:40001/v1"),
    ("http://localhost:54321", "http://localhost:40001"),
    (
        "/tmp/pytest-of-u/pytest-12/test_a0",
        "/tmp/pytest-of-u/pytest-13/test_a0",
    ),
    ("/tmp/tmpab12xy_9/a.txt", "/tmp/tmpq8zk0r3w/a.txt"),
    ("/tmp/tmpab12xy", "/tmp/tmpqw34zz"),
    ("/tmp/tmp.Ab3dE5gH1j", "/tmp/tmp.zZ9yX8wV7u"),
    // Names.
    (
        "user 01a22a2d-2eef-712a-a49d-f3fc61d7db29",
        "user 9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
    ),
    (
        "/tmp/01a22a2d-2eef-712a-a49d-f3fc61d7db29.png",
        "/tmp/9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d.png",
    ),
    (
        "run--01a22a2d-2eef-712a-a49d-f3fc61d7db29",
        "run--9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
    ),
    (
        "thread_01a22a2d-2eef-712a-a49d-f3fc61d7db29",
        "thread_9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
    ),
    (
        "call_Xq7bN2mVtR4kLs9wYzA1cE3g",
        "call_pL0sKe8fJh2dWq5rTy6uIo1z",
    ),
    (
        "toolu_01A09q90qw90lq917835lq9",
        "toolu_01XFDUDYJgAACzvnptvVoYEL",
    ),
    (
        "thread_abc1Def2Ghi3Jkl4Mno5Pqr6",
        "thread_zyx9Wvu8Tsr7Qpo6Nml5Kji4",
    ),
    (
        "chatcmpl-AbCdEfGh1jKlMnOpQrStUvWx",
        "chatcmpl-zYxWvUtSrQpOnMl2JiHgFeDc",
    ),
    ("container 3f2a91c0b7de", "container 90aa14bcd3e7"),
    (
        "trace 4bf92f3577b34da6a3ce929d0e0e4736",
        "trace 0af7651916cd43dd8448eb211c80319c",
    ),
    ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "01BX5ZZKBKACTAV9WEVGEMMVRZ"),
    (
        "<Agent object at 0x7f8a1c0d2e50>",
        "<Agent object at 0x7fb2440019d0>",
    ),
    ("request_id: req-17", "request_id: req-18"),
    (r#"{"trace":"a-17"}"#, r#"{"trace":"b-18"}"#),
];

/// Pairs that do not.
const OTHER: &[(&str, &str)] = &[
    // Beside a time.
    ("2026-01-01/users/alice.csv", "2026-01-01/users/bob.csv"),
    ("2026-11-30-report", "2026-11-30-budget"),
    ("06:12:34-alice", "06:12:34-bob"),
    (
        "at 2026-11-30T06:12:34Z: ok",
        "at 2026-11-30T06:12:34Z: failed",
    ),
    (
        "/tmp/01a22a2d-2eef-712a-a49d-f3fc61d7db29.png",
        "/tmp/01a22a2d-2eef-712a-a49d-f3fc61d7db29.csv",
    ),
    (
        "/tmp/pytest-of-u/pytest-12/test_a0",
        "/tmp/pytest-of-u/pytest-12/test_b0",
    ),
    // Times that somebody chose.
    ("book a table at 19:30", "book a table at 20:30"),
    ("see you on Monday", "see you on Friday"),
    ("in 30 minutes", "in 40 minutes"),
    ("wait 2.5 seconds", "wait 9.5 seconds"),
    ("May 5 people", "May 6 people"),
    // Numbers.
    ("transfer 1000000000", "transfer 1500000000"),
    ("transfer 1700000000", "transfer 1800000000"),
    ("rain, 7 degrees", "rain, 8 degrees"),
    ("trace 3 steps", "trace 7 steps"),
    ("0.51", "0.52"),
    ("version 1.2.3", "version 1.2.4"),
    ("127.0.0.1:8080", "127.0.0.1:9090"),
    ("account 123456789012", "account 210987654321"),
    ("ratio 16:09", "ratio 21:09"),
    // Words and short names.
    ("refund order A123456", "refund order B654321"),
    ("review commit 3f2a91c", "review commit 90aa14b"),
    (
        "commit 3f2a91c0b7de3f2a91c0b7de3f2a91c0b7de3f2a",
        "commit 90aa14bcd3e790aa14bcd3e790aa14bcd3e790aa",
    ),
    ("call_1", "call_2"),
    ("internationalization2026", "internationalization2027"),
    ("getUserByIdAndNameV2", "getUserByIdAndNameV3"),
    ("file-quarterlyreport2026", "file-quarterlyreport2027"),
    ("0xdeadbeef", "0xcafebabe"),
    ("gpt-4o-mini", "gpt-4o"),
    ("*", "2026-11-30"),
];

#[test]
fn what_changes_by_itself_is_passed_over_and_nothing_else() {
    let is_same = |(one, other): &(&str, &str)| steady(one).text == steady(other).text;
    let missed: Vec<_> = SAME.iter().filter(|pair| !is_same(pair)).collect();
    assert!(
        missed.is_empty(),
        "these are held to be other texts: {missed:#?}"
    );
    let taken: Vec<_> = OTHER.iter().filter(|pair| is_same(pair)).collect();
    assert!(
        taken.is_empty(),
        "these are held to be the same: {taken:#?}"
    );
}

#[test]
fn names_are_handed_out_and_moments_are_not() {
    let id = "01a22a2d-2eef-712a-a49d-f3fc61d7db29";
    let text = format!("at 2026-11-30T06:12:34Z job {id}, then {id} on 127.0.0.1:54321");
    assert_eq!(steady(&text).names, [id, id]);
    assert_eq!(
        steady("job req_0123456789abcdef").names,
        ["0123456789abcdef"]
    );
}

#[test]
fn text_without_anything_of_that_kind_stays_as_it_is() {
    for text in ["", "plain words", "1, 2 and 3", "\u{fc}ber 5 \u{20ac}"] {
        assert_eq!(steady(text).text, text);
    }
}
