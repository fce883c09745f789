//! Secrets whole, escaped and in pieces.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn rule(pattern: &str, replacement: &str) -> Rule {
    Rule {
        pattern: Regex::new(pattern).unwrap(),
        replacement: replacement.to_owned(),
    }
}

fn redaction(pattern: &str) -> Redaction {
    Redaction::new(vec![rule(pattern, "[x]")])
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn what_no_rule_matches_stays_as_it_is() {
    let rules = redaction("swordfish");
    assert_eq!(rules.bytes(b"tuna"), None);
    assert_eq!(rules.json(br#"{"a":"tu\u006ea"}"#), None);
    assert_eq!(rules.stream(b"data: {\"a\":\"tuna\"}\n\n", false), None);
    assert_eq!(Redaction::default().stream(b"data: {}\n\n", false), None);
}

#[test]
fn escapes_hide_nothing_and_only_such_strings_are_written_anew() {
    let rules = redaction(r#"pass "\d+""#);
    let body = br#"{"n":1.50,"a":"pass \"7731\"","b":"\u0041","c":"\\"}"#;
    let kept = rules.json(body).unwrap();
    assert_eq!(text(&kept), r#"{"n":1.50,"a":"[x]","b":"\u0041","c":"\\"}"#);
    let kept = redaction("swordfish")
        .json(br#"["sword\u0066ish"]"#)
        .unwrap();
    assert_eq!(text(&kept), r#"["[x]"]"#);
    let kept = redaction(r#""key":"[^"]*""#).json(br#"{"key":"a","b":"c"}"#);
    assert_eq!(text(&kept.unwrap()), r#"{[x],"b":"c"}"#, "as it stands");
}

#[test]
fn half_a_string_and_what_is_no_json_do_no_harm() {
    let rules = redaction("swordfish");
    for (body, kept) in [
        (r#"{"a":"\u0041 swordfish"#, r#"{"a":"A [x]""#),
        (r"swordfish \", r"[x] \"),
        (r#""\"#, r#""\"#),
    ] {
        let found = rules.json(body.as_bytes());
        assert_eq!(text(found.as_deref().unwrap_or(body.as_bytes())), kept);
    }
}

#[test]
fn a_secret_in_pieces_is_found_in_each_form_of_stream() {
    let rules = redaction(r"swordfish-\d{4}");
    let chat = |text: &str, index: usize| json!({"id": "c", "choices": [{"delta": {"content": text}, "index": index}]});
    let said = [
        chat("my sword", 0),
        chat("is sword", 1),
        chat("fish-77", 0),
        chat("fight", 1),
        chat("31 it is", 0),
    ];
    let sse: String = said.iter().fold(String::new(), |all, it| {
        format!("{all}event: x\ndata: {it}\n\n")
    });
    let kept = rules.stream(sse.as_bytes(), false).unwrap();
    let expected: Vec<Value> = [
        ("my [x]", 0),
        ("is sword", 1),
        ("", 0),
        ("fight", 1),
        (" it is", 0),
    ]
    .map(|(text, index)| chat(text, index))
    .to_vec();
    let found = |lines: &str| -> Vec<Value> {
        let data = lines.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|it| serde_json::from_str(it).unwrap()).collect()
    };
    assert_eq!(found(text(&kept)), expected);
    let lines: String = said
        .iter()
        .fold(String::new(), |all, it| format!("{all}{it}\n"));
    let kept = rules.stream(lines.as_bytes(), false).unwrap();
    let found: Vec<Value> = text(&kept)
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(found, expected);
    let list = serde_json::to_vec(&said).unwrap();
    let kept: Vec<Value> = serde_json::from_slice(&rules.stream(&list, false).unwrap()).unwrap();
    assert_eq!(kept, expected);
}

#[test]
fn names_that_each_event_repeats_are_not_put_together() {
    let rules = redaction("c1c1");
    let event = r#"data: {"id":"c1","choices":[{"index":0,"delta":{"content":"x"}}]}"#;
    assert_eq!(
        rules.stream(format!("{event}\n\n{event}\n\n").as_bytes(), false),
        None
    );
}

#[test]
fn each_text_of_a_stream_that_broke_off_loses_its_end() {
    let rules = redaction("sk-[a-z0-9]{20,}");
    let said = "x".repeat(300) + "sk-" + &"a1".repeat(9);
    let events = said.as_bytes().chunks(7).fold(String::new(), |all, piece| {
        format!("{all}data: {}\n\n", json!({"delta": text(piece)}))
    });
    let kept = rules.stream(events.as_bytes(), true).unwrap();
    let joined: String = text(&kept)
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| {
            let event: Value = serde_json::from_str(data).unwrap();
            event["delta"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(joined, said[..said.len() - CUT]);
}

#[test]
fn what_was_cut_off_loses_a_little_more() {
    assert_eq!(Redaction::default().keeps_of_cut(1000), 1000);
    assert_eq!(redaction("x").keeps_of_cut(1000), 1000 - CUT);
    assert_eq!(redaction("x").keeps_of_cut(10), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// However a text is cut into events and whatever stands around the secret.
    #[test]
    fn joined_pieces_are_what_rules_make_of_the_whole(
        texts in prop::collection::vec("[ab0-9\\\\\"\u{e9} ]{0,12}", 1..8),
        replacement in "[ab]{0,3}",
    ) {
        let rules = vec![rule("[0-9]{3,}", &replacement), rule("ab+a", "-")];
        let events = texts.iter().fold(String::new(), |all, text| {
            format!("{all}data: {}\n\n", json!({"delta": text}))
        });
        let kept = stream::redacted(&rules, events.as_bytes(), 0);
        let kept = kept.unwrap_or_else(|| events.into_bytes());
        let joined: String = text(&kept)
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str::<Value>(data).unwrap()["delta"].as_str().unwrap().to_owned())
            .collect();
        let whole = texts.concat();
        let expected = Redaction::new(rules).text(&whole).unwrap_or(whole);
        prop_assert_eq!(joined, expected);
    }
}
