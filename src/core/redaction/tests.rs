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
    assert_eq!(rules.stream(b"data: {\"a\":\"tuna\"}\n\n"), None);
    assert_eq!(Redaction::default().stream(b"data: {}\n\n"), None);
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
    let kept = rules.stream(sse.as_bytes()).unwrap();
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
    let kept = rules.stream(lines.as_bytes()).unwrap();
    let found: Vec<Value> = text(&kept)
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(found, expected);
    let list = serde_json::to_vec(&said).unwrap();
    let kept: Vec<Value> = serde_json::from_slice(&rules.stream(&list).unwrap()).unwrap();
    assert_eq!(kept, expected);
}

#[test]
fn names_that_each_event_repeats_are_not_put_together() {
    let rules = redaction("c1c1");
    let event = r#"data: {"id":"c1","choices":[{"index":0,"delta":{"content":"x"}}]}"#;
    assert_eq!(
        rules.stream(format!("{event}\n\n{event}\n\n").as_bytes()),
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
    let kept = rules.front_of_stream(events.as_bytes());
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
fn what_was_cut_off_loses_its_end_and_no_more_where_there_are_rules() {
    let long = "x".repeat(1000);
    let whole = Redaction::default();
    assert_eq!(whole.front_of_text(&long), long);
    assert_eq!(whole.front_of_json(long.as_bytes()), long.as_bytes());
    let rules = redaction("y");
    assert_eq!(rules.front_of_text(&long), long[CUT..]);
    assert_eq!(
        rules.front_of_json(long.as_bytes()),
        &long.as_bytes()[CUT..]
    );
    assert_eq!(rules.front_of_text(&long[..10]), "");
}

#[test]
fn what_stands_for_a_match_does_not_count_for_the_end_that_goes() {
    let long = Redaction::new(vec![
        rule("[0-9]", "[a figure]"),
        rule("sk-[a-z]{40}", "[x]"),
    ]);
    let said = "x".repeat(300) + "sk-" + &"a".repeat(30) + &"7".repeat(40);
    assert!(!long.front_of_text(&said).contains("sk-"));
    let json = long.front_of_json(said.as_bytes());
    assert!(!text(&json).contains("sk-"));
    // Pieces of five: one begins with the secret.
    let stream = events_of(&said, 5);
    let kept = long.front_of_stream(stream.as_bytes());
    assert!(!text(&kept).contains("sk"), "{}", text(&kept));
}

#[test]
fn texts_lose_their_end_though_rules_match_what_is_no_text() {
    let rules = Redaction::new(vec![rule(r"\d{10}", "[n]"), rule("sk-[a-z]{40}", "[x]")]);
    let said = "x".repeat(300) + "sk-" + &"a".repeat(30);
    let pieces = said.as_bytes().chunks(5);
    let stream = pieces.fold(String::new(), |all, it| {
        let event = json!({"created": 1_764_500_000_u64, "delta": text(it)});
        format!("{all}data: {event}\n\n")
    });
    let kept = rules.front_of_stream(stream.as_bytes());
    assert!(!text(&kept).contains("sk-"), "{}", text(&kept));
    assert!(text(&kept).contains("xxxxx"));
    assert!(!text(&kept).contains("1764500000"));
}

#[test]
fn a_match_of_raw_json_is_not_cut_out_of_being_one() {
    let rules = redaction(r#""key":"[a-z]{300}""#);
    let stream = format!("data: {}\n\ndata: {{", json!({"key": "k".repeat(300)}));
    let kept = rules.front_of_stream(stream.as_bytes());
    assert!(!text(&kept).contains("kk"), "{}", text(&kept));
}

#[test]
fn texts_that_are_no_events_lose_their_end_too() {
    let rules = redaction("sk-[a-z]{40}");
    let event = "data: {\"delta\":\"y\"}\n\n";
    for before in ["", event] {
        let stream = format!("{before}data: {}sk-{}", "x".repeat(300), "a".repeat(30));
        let kept = rules.front_of_stream(stream.as_bytes());
        assert!(text(&kept).ends_with("xxx"), "{}", text(&kept));
    }
}

#[test]
fn replacements_far_from_the_end_take_nothing_from_it() {
    let rules = Redaction::new(vec![rule("q", "[a long word]")]);
    let said = "q".repeat(100) + &"x".repeat(300);
    let kept = rules.front_of_text(&said);
    assert_eq!(kept.len(), 100 * "[a long word]".len() + 300 - CUT);
}

/// A stream whose pieces are `piece` bytes long.
fn events_of(said: &str, piece: usize) -> String {
    said.as_bytes()
        .chunks(piece)
        .fold(String::new(), |all, piece| {
            format!("{all}data: {}\n\n", json!({"delta": text(piece)}))
        })
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
        let kept = stream::redacted(&rules, events.as_bytes());
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

    /// Wherever it broke off, within the secret or behind it, and whatever form it has.
    #[test]
    fn no_part_of_a_secret_stays_of_what_broke_off(
        before in 0_usize..300,
        behind in 0_usize..400,
        piece in 1_usize..400,
        lost in 0_usize..300,
    ) {
        let rules = redaction("sk-[a-z0-9]{40}");
        let said = "x".repeat(before) + "sk-" + &"a1".repeat(20) + &"y".repeat(behind);
        let sse = events_of(&said, piece);
        let said_in_list: Vec<Value> = said.as_bytes().chunks(piece).map(|it| json!({"delta": text(it)})).collect();
        let list = serde_json::to_string_pretty(&said_in_list).unwrap();
        let front = |whole: &str| whole[..whole.len().saturating_sub(lost)].to_owned();
        let stays = |kept: &[u8]| text(kept).bytes().filter(|byte| matches!(byte, b's' | b'k' | b'1')).count();
        for stream in [sse, list] {
            let kept = rules.front_of_stream(front(&stream).as_bytes());
            prop_assert_eq!(stays(&kept), 0, "{}", text(&kept));
        }
        prop_assert_eq!(stays(rules.front_of_text(&front(&said)).as_bytes()), 0);
        prop_assert_eq!(stays(&rules.front_of_json(front(&said).as_bytes())), 0);
        let json = json!({"text": said}).to_string();
        prop_assert_eq!(stays(&rules.front_of_json(front(&json).as_bytes())), 0);
    }
}
