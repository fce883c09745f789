use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::core::call::Operation;
use crate::core::digest::DigestSeed;
use crate::wire::route::Dialect;
use crate::wire::scan::scan;

fn inject(body: &[u8]) -> Option<Vec<u8>> {
    super::inject(
        body,
        &scan(Operation::Chat, Dialect::Chat, body, DigestSeed(7)),
    )
}

#[track_caller]
fn check_inject(body: &str, expected: &str) {
    let injected = inject(body.as_bytes()).map(|body| String::from_utf8(body).unwrap());
    assert_eq!(injected.as_deref(), Some(expected));
}

#[test]
fn options_are_added_where_there_are_none() {
    check_inject(
        r#"{"stream":true}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
    );
    check_inject(
        " {\n \"messages\": [{\"content\": \"{\\\"stream_options\\\": 1}\"}],\n \"stream\" : true\n}\n",
        " {\n \"messages\": [{\"content\": \"{\\\"stream_options\\\": 1}\"}],\n \"stream\" : true\n,\"stream_options\":{\"include_usage\":true}}\n",
    );
    check_inject(
        r#"{"metadata":{"stream_options":{"include_usage":true}},"stream":true}"#,
        r#"{"metadata":{"stream_options":{"include_usage":true}},"stream":true,"stream_options":{"include_usage":true}}"#,
    );
}

#[test]
fn options_that_are_there_are_completed() {
    check_inject(
        r#"{"stream_options":null,"stream":true}"#,
        r#"{"stream_options":{"include_usage":true},"stream":true}"#,
    );
    check_inject(
        r#"{"stream":true,"stream_options": { } }"#,
        r#"{"stream":true,"stream_options": {"include_usage":true } }"#,
    );
    check_inject(
        r#"{"stream":true,"stream_options":{"include_obfuscation":false}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
    );
    for refused in ["false", "null", "0"] {
        check_inject(
            &format!(r#"{{"stream":true,"stream_options":{{"include_usage": {refused} }}}}"#),
            r#"{"stream":true,"stream_options":{"include_usage": true }}"#,
        );
    }
}

#[test]
fn the_last_of_equal_keys_counts() {
    check_inject(
        r#"{"stream":false,"stream_options":{"include_usage":true},"stream":true,"stream_options":null}"#,
        r#"{"stream":false,"stream_options":{"include_usage":true},"stream":true,"stream_options":{"include_usage":true}}"#,
    );
    check_inject(
        r#"{"stream":true,"stream_\u006fptions":null}"#,
        r#"{"stream":true,"stream_\u006fptions":{"include_usage":true}}"#,
    );
}

#[test]
fn nothing_is_changed_without_need() {
    for body in [
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"stream":false}"#,
        r#"{"stream":"true"}"#,
        r#"{"stream":true,"stream":false}"#,
        r#"{"model":"m"}"#,
        r#"{"stream":true,"stream_options":"yes"}"#,
        r#"{"nested":{"stream":true}}"#,
        r#"[{"stream":true}]"#,
        r#"{"stream":true"#,
        r#"{"stream":true} x"#,
        "",
    ] {
        assert_eq!(inject(body.as_bytes()), None, "{body}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(|n| json!(n)),
        "[\"\\\\{}a\n]{0,6}".prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop_oneof![
            Just("stream".to_owned()),
            Just("stream_options".to_owned()),
            Just("include_usage".to_owned()),
            "[\"{}a]{0,3}",
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_injected_is_the_option_and_nothing_else(body in any_json(), pretty: bool) {
        let text = if pretty {
            serde_json::to_string_pretty(&body).unwrap()
        } else {
            body.to_string()
        };
        if let Some(injected) = inject(text.as_bytes()) {
            let mut expected = body;
            if !expected["stream_options"].is_object() {
                expected["stream_options"] = json!({});
            }
            expected["stream_options"]["include_usage"] = json!(true);
            let injected: Value = serde_json::from_slice(&injected).unwrap();
            prop_assert_eq!(injected, expected);
        }
    }
}

#[test]
fn refusals_of_the_option_are_known() {
    let body = br#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"]}]}"#;
    assert!(rejects_stream_options(422, body));
    assert!(rejects_stream_options(
        400,
        b"Unrecognized request argument: stream_options"
    ));
    assert!(!rejects_stream_options(500, body));
    assert!(!rejects_stream_options(
        400,
        br#"{"error":{"message":"bad model"}}"#
    ));
}

const DELTA: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"usage\"}}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"id\":\"c\",\"choices\": [ ],\"usage\":{\"prompt_tokens\":1}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn filter<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut filter = UsageFilter::default();
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(&filter.push(&Bytes::copy_from_slice(piece)));
        assert!(filter.held.len() <= HELD_LIMIT);
    }
    out.extend_from_slice(&filter.finish());
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check_filter(stream: &str, expected: &str) {
    let bytes = stream.as_bytes();
    assert_eq!(filter([bytes]), expected, "whole");
    assert_eq!(filter(bytes.chunks(1)), expected, "byte by byte");
    for at in 0..bytes.len() {
        let (head, tail) = bytes.split_at(at);
        assert_eq!(filter([head, tail]), expected, "cut at {at}");
    }
}

#[test]
fn the_usage_event_is_removed_however_lines_end() {
    for end in ["\n", "\r", "\r\n"] {
        let stream = [DELTA, DELTA, USAGE, DONE].concat().replace('\n', end);
        let expected = [DELTA, DELTA, DONE].concat().replace('\n', end);
        check_filter(&stream, &expected);
    }
}

#[test]
fn a_usage_event_at_the_end_is_removed_too() {
    check_filter(&[DELTA, USAGE.trim_end()].concat(), DELTA);
    check_filter(&[DELTA, USAGE].concat(), DELTA);
}

#[test]
fn everything_else_passes_unchanged() {
    for stream in [
        ": OPENROUTER PROCESSING\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0}]}\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[{}],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":[],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: not json \"usage\"\n\nevent: x\nid: 4\ndata: [DONE]\n\nrest",
        "\r\n\r\n\r\ndata: x\r\r\n",
    ] {
        check_filter(stream, stream);
    }
}

#[test]
fn whole_events_pass_at_once_and_uncopied() {
    let mut filter = UsageFilter::default();
    let chunk = Bytes::from([DELTA, DELTA].concat());
    let out = filter.push(&chunk);
    assert_eq!(out, chunk);
    assert_eq!(out.as_ptr(), chunk.as_ptr());
    assert_eq!(
        filter.push(&Bytes::from_static(USAGE.as_bytes())),
        Bytes::new()
    );
    assert_eq!(filter.push(&Bytes::from_static(b"data: par")), Bytes::new());
    assert_eq!(
        filter.push(&Bytes::from_static(b"tial\n\n")),
        "data: partial\n\n"
    );
}

#[test]
fn an_event_over_the_limit_is_not_held() {
    let long = format!(
        "data: {{\"usage\":{{}},\"choices\":[],\"x\":\"{}\"}}\n\n",
        "x".repeat(HELD_LIMIT)
    );
    let stream = [DELTA, &long, USAGE, DONE].concat();
    let expected = [DELTA, &long, DONE].concat();
    for size in [4096, 1 << 19, stream.len()] {
        assert_eq!(filter(stream.as_bytes().chunks(size)), expected);
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_output(
        events in proptest::collection::vec(0..6_usize, 0..12),
        end in prop_oneof![Just("\n"), Just("\r"), Just("\r\n")],
        cuts in proptest::collection::vec(1..60_usize, 0..40),
    ) {
        let kinds = [DELTA, USAGE, DONE, ": ping\n\n", "\n", "event: a\ndata: b\n\n"];
        let all: String = events.iter().map(|kind| kinds[*kind]).collect();
        let expected: String =
            events.iter().filter(|kind| **kind != 1).map(|kind| kinds[*kind]).collect();
        let stream = all.replace('\n', end);
        let mut pieces = Vec::new();
        let mut rest = stream.as_bytes();
        for cut in cuts {
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            pieces.push(head);
            rest = tail;
        }
        pieces.push(rest);
        prop_assert_eq!(filter(pieces), expected.replace('\n', end));
    }
}
