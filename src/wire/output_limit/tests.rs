use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::core::digest::DigestSeed;
use crate::wire::route::route;
use crate::wire::scan::{Scanner, scan};

const SEED: DigestSeed = DigestSeed(7);
const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const GEMINI: &str = "/v1beta/models/gemini-3-pro:generateContent";
const OLLAMA: &str = "/api/chat";
const LLAMA_CPP: &str = "/completion";
const ALL: [&str; 7] = [
    CHAT,
    COMPLETIONS,
    RESPONSES,
    MESSAGES,
    GEMINI,
    OLLAMA,
    LLAMA_CPP,
];

fn lower(path: &str, body: &str, to: u64) -> Option<String> {
    lower_at(("http://localhost:11434", path), body, to)
}

fn lower_at((server, path): (&str, &str), body: &str, to: u64) -> Option<String> {
    let route = route(&Method::POST, path);
    let uri = format!("{server}{path}").parse().unwrap();
    let facts = scan(route.operation, route.dialect, body.as_bytes(), SEED);
    let lowered = super::lower((&route, &uri), body.as_bytes(), &facts, to)?;
    Some(String::from_utf8(lowered).unwrap())
}

#[track_caller]
fn check(path: &str, body: &str, expected: &str) {
    assert_eq!(lower(path, body, 20).as_deref(), Some(expected));
}

#[track_caller]
fn check_unchanged(path: &str, bodies: &[&str]) {
    for body in bodies {
        assert_eq!(lower(path, body, 20), None, "{body}");
    }
}

#[test]
fn limits_that_are_larger_are_lowered_in_place() {
    check(
        CHAT,
        " {\"n\" : 2, \"max_tokens\" :\t900 ,\n\"messages\":[{\"max_tokens\":900}]}\n",
        " {\"n\" : 2, \"max_tokens\" :\t20 ,\n\"messages\":[{\"max_tokens\":900}]}\n",
    );
    check(
        CHAT,
        r#"{"max_completion_tokens":30,"max_tokens":21,"model":"m"}"#,
        r#"{"max_completion_tokens":20,"max_tokens":20,"model":"m"}"#,
    );
    check(
        CHAT,
        r#"{"max_completion_tokens":10,"max_tokens":21}"#,
        r#"{"max_completion_tokens":10,"max_tokens":20}"#,
    );
    check(COMPLETIONS, r#"{"max_tokens":21}"#, r#"{"max_tokens":20}"#);
    check(
        RESPONSES,
        r#"{"max_output_tokens":99}"#,
        r#"{"max_output_tokens":20}"#,
    );
    check(MESSAGES, r#"{"max_tokens":4096}"#, r#"{"max_tokens":20}"#);
}

#[test]
fn limits_are_added_where_there_are_none() {
    check(
        CHAT,
        r#"{"model":"llama-4" }"#,
        r#"{"model":"llama-4" ,"max_tokens":20}"#,
    );
    check(CHAT, "{ }\n", "{ \"max_tokens\":20}\n");
    check(
        CHAT,
        r#"{"messages":[{}]}"#,
        r#"{"messages":[{}],"max_tokens":20}"#,
    );
    for (path, name) in [
        (COMPLETIONS, "max_tokens"),
        (RESPONSES, "max_output_tokens"),
        (MESSAGES, "max_tokens"),
        (LLAMA_CPP, "n_predict"),
        ("/infill", "n_predict"),
    ] {
        let expected = format!(r#"{{"model":"m","{name}":20}}"#);
        check(path, r#"{"model":"m"}"#, &expected);
        let nulled = format!(r#"{{"{name}":null}}"#);
        check(path, &nulled, &format!(r#"{{"{name}":20}}"#));
    }
}

#[test]
fn limits_that_a_server_may_go_by_instead_are_lowered_too() {
    check(
        CHAT,
        r#"{"max_tokens":10,"n_predict":500}"#,
        r#"{"max_tokens":10,"n_predict":20}"#,
    );
    check(
        COMPLETIONS,
        r#"{"n_predict":10}"#,
        r#"{"n_predict":10,"max_tokens":20}"#,
    );
    check(
        LLAMA_CPP,
        r#"{"max_tokens":500}"#,
        r#"{"max_tokens":20,"n_predict":20}"#,
    );
}

#[test]
fn limits_of_another_dialect_are_left_alone() {
    check(
        OLLAMA,
        r#"{"max_tokens":99,"options":{"num_predict":99}}"#,
        r#"{"max_tokens":99,"options":{"num_predict":20}}"#,
    );
    check(
        RESPONSES,
        r#"{"max_tokens":99,"max_completion_tokens":99}"#,
        r#"{"max_tokens":99,"max_completion_tokens":99,"max_output_tokens":20}"#,
    );
}

#[test]
fn the_limit_of_ollama_is_among_its_options() {
    for path in [OLLAMA, "/api/generate"] {
        check(path, "{}", r#"{"options":{"num_predict":20}}"#);
        check(
            path,
            r#"{"model":"m","options":{ "seed":1 }}"#,
            r#"{"model":"m","options":{"num_predict":20, "seed":1 }}"#,
        );
        for unlimited in ["-1", "-2", "0", "null", "21", "4e3"] {
            let body = format!(r#"{{"options":{{"num_predict": {unlimited},"seed":1}}}}"#);
            let expected = r#"{"options":{"num_predict": 20,"seed":1}}"#;
            check(path, &body, expected);
        }
        check(
            path,
            r#"{"options":null}"#,
            r#"{"options":{"num_predict":20}}"#,
        );
        check_unchanged(
            path,
            &[
                r#"{"options":{"num_predict":20}}"#,
                r#"{"options":{"num_predict":"many"}}"#,
                r#"{"options":[]}"#,
            ],
        );
    }
}

#[test]
fn the_name_of_an_added_limit_is_one_the_model_takes() {
    for model in [
        "gpt-5.2",
        "openai/gpt-5",
        "gpt-4o",
        "o1",
        "o3-mini",
        "azure/o4-mini",
        "chatgpt-4o-latest",
        "chat-latest",
        "ft:o4-mini:org::id",
    ] {
        let body = format!(r#"{{"model":"{model}"}}"#);
        let expected = format!(r#"{{"model":"{model}","max_completion_tokens":20}}"#);
        check(CHAT, &body, &expected);
    }
    for model in [
        "gpt-oss-120b",
        "openai/gpt-oss:20b",
        "olmo-3",
        "claude-opus-5",
        "gpt2",
        "",
    ] {
        let body = format!(r#"{{"model":"{model}"}}"#);
        let expected = format!(r#"{{"model":"{model}","max_tokens":20}}"#);
        check(CHAT, &body, &expected);
    }
}

#[test]
fn the_name_of_an_added_limit_is_one_the_server_takes() {
    let name = |server: &str, path: &str, model: &str| {
        let body = format!(r#"{{"model":"{model}"}}"#);
        let lowered = lower_at((server, path), &body, 20).unwrap();
        let rest = lowered.strip_prefix(&body[..body.len() - 1]).unwrap();
        rest.split('"').nth(1).unwrap().to_owned()
    };
    let deployment = |version: &str| {
        format!("/openai/deployments/ours/chat/completions?a=b&api-version={version}")
    };
    let azure = "https://we.openai.azure.com";
    for (server, path) in [
        ("https://api.openai.com", CHAT),
        ("https://eu.api.openai.com", CHAT),
        (azure, "/openai/v1/chat/completions"),
        (azure, &deployment("2024-09-01-preview")),
        (azure, &deployment("preview")),
        ("https://gateway.example:8443", &deployment("2025-04-01")),
        (
            "https://we.services.ai.azure.com",
            "/openai/v1/chat/completions",
        ),
    ] {
        for model in ["ours", "gpt-4o", "gpt-3.5-turbo"] {
            let added = name(server, path, model);
            assert_eq!(added, "max_completion_tokens", "{server}{path}");
        }
    }
    for (server, path) in [
        (azure, deployment("2024-08-01-preview").as_str()),
        ("http://gateway", &deployment("2023-05-15")),
        (
            "https://we.services.ai.azure.com",
            "/models/chat/completions?api-version=2024-05-01-preview",
        ),
        ("https://api.openai.com.example", CHAT),
        ("https://api.mistral.ai", CHAT),
    ] {
        assert_eq!(name(server, path, "ours"), "max_tokens", "{server}{path}");
    }
    let old = deployment("2024-06-01");
    assert_eq!(name(azure, &old, "gpt-4o"), "max_tokens");
}

#[test]
fn a_legacy_completion_of_openai_gets_no_more_than_without_a_limit() {
    for server in ["https://api.openai.com", "https://we.openai.azure.com"] {
        let path = "/openai/v1/completions";
        let lowered = |to| lower_at((server, path), "{}", to).unwrap();
        assert_eq!(lowered(400), r#"{"max_tokens":16}"#);
        assert_eq!(lowered(9), r#"{"max_tokens":9}"#);
    }
    let elsewhere = lower(COMPLETIONS, "{}", 400).unwrap();
    assert_eq!(elsewhere, r#"{"max_tokens":400}"#);
}

#[test]
fn nulls_are_no_limit() {
    check(CHAT, r#"{"max_tokens": null }"#, r#"{"max_tokens": 20 }"#);
    check(
        CHAT,
        r#"{"max_tokens":null,"max_completion_tokens":21}"#,
        r#"{"max_tokens":null,"max_completion_tokens":20}"#,
    );
    check(
        CHAT,
        r#"{"max_tokens":null,"model":"gpt-5"}"#,
        r#"{"max_tokens":null,"model":"gpt-5","max_completion_tokens":20}"#,
    );
    check(
        GEMINI,
        r#"{"generationConfig":null}"#,
        r#"{"generationConfig":{"maxOutputTokens":20}}"#,
    );
}

#[test]
fn all_of_repeated_limits_are_lowered() {
    check(
        CHAT,
        r#"{"max_tokens":5,"max_tokens":50,"max\u005ftokens":60}"#,
        r#"{"max_tokens":5,"max_tokens":20,"max\u005ftokens":20}"#,
    );
    check(
        CHAT,
        r#"{"max_tokens":50,"max_tokens":null}"#,
        r#"{"max_tokens":20,"max_tokens":20}"#,
    );
    check(
        GEMINI,
        r#"{"generationConfig":{"max_output_tokens":50,"max_output_tokens":null},"generation_config":{}}"#,
        r#"{"generationConfig":{"maxOutputTokens":20,"max_output_tokens":20,"max_output_tokens":null},"generation_config":{"maxOutputTokens":20}}"#,
    );
}

#[test]
fn limits_of_other_types_are_lowered_when_they_are_numbers() {
    for value in [
        "-1",
        "20.5",
        "1e3",
        "1e30",
        "\"300\"",
        "99999999999999999999999",
    ] {
        let body = format!(r#"{{"max_tokens":{value}}}"#);
        check(CHAT, &body, r#"{"max_tokens":20}"#);
    }
    for value in [
        "0", "20", "20.0", "1e1", "\"20\"", "\"lots\"", "true", "[]", "{}", "\"nan\"",
    ] {
        check_unchanged(CHAT, &[&format!(r#"{{"max_tokens":{value}}}"#)]);
    }
}

#[test]
fn the_limit_of_gemini_is_among_its_settings() {
    check(
        GEMINI,
        "{}",
        r#"{"generationConfig":{"maxOutputTokens":20}}"#,
    );
    check(
        GEMINI,
        r#"{"contents":[],"generation_config":{ }}"#,
        r#"{"contents":[],"generation_config":{"maxOutputTokens":20 }}"#,
    );
    check(
        GEMINI,
        r#"{"generationConfig": {"topK":1}}"#,
        r#"{"generationConfig": {"maxOutputTokens":20,"topK":1}}"#,
    );
    check(
        GEMINI,
        r#"{"generationConfig":{"max_output_tokens": 30,"candidateCount":2}}"#,
        r#"{"generationConfig":{"max_output_tokens": 20,"candidateCount":2}}"#,
    );
    check(
        GEMINI,
        r#"{"generationConfig":{"responseSchema":{"maxOutputTokens":9},"maxOutputTokens":null}}"#,
        r#"{"generationConfig":{"responseSchema":{"maxOutputTokens":9},"maxOutputTokens":20}}"#,
    );
    check_unchanged(
        GEMINI,
        &[
            r#"{"generationConfig":{"maxOutputTokens":20}}"#,
            r#"{"generationConfig":7}"#,
        ],
    );
}

#[test]
fn thinking_keeps_room_below_the_limit() {
    let body = |budget: &str| {
        format!(r#"{{"thinking":{{"type":"enabled","budget_tokens":{budget}}},"max_tokens":4096}}"#)
    };
    assert!(lower(MESSAGES, &body("19"), 20).is_some());
    assert!(lower(MESSAGES, &body("null"), 20).is_some());
    check_unchanged(MESSAGES, &[&body("20"), &body("3000")]);
}

#[test]
fn nothing_is_changed_where_it_would_not_hold() {
    for path in ALL {
        check_unchanged(path, &["", "[]", "{\"max_tokens\":99", "{} x"]);
        assert_eq!(
            lower(path, r#"{"max_tokens":9,"max_output_tokens":9}"#, 0),
            None
        );
    }
    for path in [CHAT, COMPLETIONS, MESSAGES] {
        check_unchanged(path, &[r#"{"max_tokens":20}"#]);
    }
    assert_eq!(lower(RESPONSES, r#"{"max_output_tokens":99}"#, 15), None);
    assert!(lower(RESPONSES, r#"{"max_output_tokens":99}"#, 16).is_some());
    for path in [
        "/api/embed",
        "/v1/embeddings",
        "/v1/images/generations",
        "/v1/decisions",
        "/v1beta/models/g:embedContent",
        "/elsewhere",
    ] {
        let body = r#"{"max_tokens":99,"max_output_tokens":99,"options":{"num_predict":99}}"#;
        check_unchanged(path, &["{}", body]);
    }
}

/// Members of a request, in any order, repeated, with blanks.
fn bodies() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "n_predict",
        "options",
        "n",
        "model",
        "generationConfig",
        "messages",
        "tools",
        "stream_options",
        "max\\u005ftokens",
    ]);
    let value = prop_oneof![
        (0..60_u32).prop_map(|number| number.to_string()),
        Just("null".to_owned()),
        Just("-1".to_owned()),
        (0..60_u32).prop_map(|n| format!(r#"{{"maxOutputTokens" :{n},"a":{{"b":"}}"}}}}"#)),
        (0..60_u32).prop_map(|n| format!(r#"{{ "max_output_tokens":{n}}}"#)),
        (-2..60_i32).prop_map(|n| format!(r#"{{"num_predict": {n} }}"#)),
        Just("{ }".to_owned()),
        "[a-z\u{e9} ]{0,30}".prop_map(|text| format!(r#"[{{"content":"{text}"}}]"#)),
        Just("\"gpt-5\"".to_owned()),
    ];
    let blank = prop::sample::select(vec!["", " ", "\n\t"]);
    let member = (key, value, blank).prop_map(|(k, v, b)| format!("{b}\"{k}\"{b}:{b}{v}{b}"));
    prop::collection::vec(member, 0..9).prop_map(|members| format!("{{{}}}\n", members.join(",")))
}

/// The lowered body with every limit as it was before, and without one that was added.
fn undo(lowered: &str, after: &RequestFacts, body: &str, before: &RequestFacts) -> String {
    let (mut undone, mut at) = (String::new(), 0);
    for (index, field) in after.limit_fields.iter().enumerate() {
        undone.push_str(&lowered[at..field.value.start]);
        at = field.value.end;
        if let Some(old) = before.limit_fields.get(index) {
            let (old, new) = (&body[old.value.clone()], &lowered[field.value.clone()]);
            assert_eq!(without_settings(old), without_settings(new));
            undone.push_str(old);
        } else {
            let key = undone.strip_suffix("\":").unwrap().rfind('"').unwrap();
            let kept = &undone[..key];
            undone = kept.strip_suffix(',').unwrap_or(kept).to_owned();
        }
    }
    undone + &lowered[at..]
}

const LIMITS: [&str; 3] = ["maxOutputTokens", "max_output_tokens", "num_predict"];

/// What else a value says; nothing when it is a limit itself.
fn without_settings(value: &str) -> Value {
    let mut value: Value = serde_json::from_str(value).unwrap();
    if let Some(object) = value.as_object_mut() {
        object.retain(|key, _| !LIMITS.contains(&key.as_str()));
        return value;
    }
    json!({})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_lowered_is_the_limit_and_nothing_else(
        bodies in prop::collection::vec(bodies(), 1..4),
        path in prop::sample::select(ALL.to_vec()),
        block in 1..40_usize,
    ) {
        let (route, uri) = (route(&Method::POST, path), Uri::from_static("http://a/"));
        let scanner = Scanner::with_blocks(SEED, block);
        for body in &bodies {
            let facts = scan(route.operation, route.dialect, body.as_bytes(), SEED);
            let lowered = super::lower((&route, &uri), body.as_bytes(), &facts, 20);
            scanner.scan(route.operation, route.dialect, body.as_bytes());
            let remembered = scanner.scan(route.operation, route.dialect, body.as_bytes());
            prop_assert_eq!(&super::lower((&route, &uri), body.as_bytes(), &remembered, 20), &lowered);
            let Some(lowered) = lowered else { continue };
            let lowered = String::from_utf8(lowered).unwrap();
            let after = scanner.scan(route.operation, route.dialect, lowered.as_bytes());
            let most = 20 * facts.choices;
            let limit = facts.output_limit.map_or(most, |limit| limit.min(most));
            prop_assert_eq!(after.output_limit, Some(limit), "{} -> {}", body, lowered);
            prop_assert_eq!(&undo(&lowered, &after, body, &facts), body, "{}", lowered);
            prop_assert_eq!(super::lower((&route, &uri), lowered.as_bytes(), &after, 20), None);
        }
    }
}
