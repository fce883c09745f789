//! Each fixture is a body as a server sends it, beside what it has to be read as. Facts that are
//! absent from the expectation are absent from the response.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/wire");
const EXPECTED: &str = ".expected.json";

struct Fixture {
    name: String,
    body: Vec<u8>,
    dialect: Dialect,
    content_type: String,
    status: u16,
    facts: Value,
}

fn fixtures() -> Vec<Fixture> {
    let entries = fs::read_dir(FIXTURES).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter_map(|name| name.strip_suffix(EXPECTED).map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() > 40);
    names.into_iter().map(fixture).collect()
}

fn fixture(name: String) -> Fixture {
    let path = Path::new(FIXTURES).join(&name);
    let expected = fs::read(Path::new(FIXTURES).join(format!("{name}{EXPECTED}"))).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let by_extension = match path.extension().and_then(|extension| extension.to_str()) {
        Some("sse") => "text/event-stream; charset=utf-8",
        Some("ndjson") => "application/x-ndjson",
        _ => "application/json",
    };
    Fixture {
        name,
        body: fs::read(path).unwrap(),
        dialect: dialect(expected["dialect"].as_str().unwrap()),
        content_type: expected["content_type"]
            .as_str()
            .unwrap_or(by_extension)
            .to_owned(),
        status: expected["status"]
            .as_u64()
            .map_or(200, |status| u16::try_from(status).unwrap()),
        facts: expected["facts"].clone(),
    }
}

fn dialect(name: &str) -> Dialect {
    match name {
        "chat" => Dialect::Chat,
        "completions" => Dialect::Completions,
        "responses" => Dialect::Responses,
        "embeddings" => Dialect::Embeddings,
        "messages" => Dialect::Messages,
        "gemini" => Dialect::Gemini,
        "images" => Dialect::Images,
        "speech" => Dialect::Speech,
        "transcription" => Dialect::Transcription,
        "moderation" => Dialect::Moderation,
        "batch" => Dialect::Batch,
        "ollama" => Dialect::Ollama,
        "llama_cpp" => Dialect::LlamaCpp,
        other => panic!("no dialect is called {other}"),
    }
}

/// The facts without everything that is empty, false or zero.
fn described(facts: ResponseFacts) -> Value {
    let usage = facts
        .usage
        .map(|usage| without_empty(&serde_json::to_value(usage).unwrap()));
    let facts = json!({
        "usage": usage,
        "cost": facts.cost,
        "response_id": facts.response_id,
        "model": facts.model,
        "service_tier": facts.service_tier,
        "finish_reasons": facts.finish_reasons,
        "status_word": facts.status_word,
        "error": facts.error,
        "ended": facts.ended,
        "unread": facts.unread,
        "text": facts.output_text.into_text(),
    });
    without_empty(&facts)
}

fn without_empty(object: &Value) -> Value {
    let empty = [Value::Null, json!(0), json!(false), json!(""), json!([])];
    let fields = object.as_object().unwrap().iter();
    let kept = fields.filter(|(_, value)| !empty.contains(value));
    Value::Object(
        kept.map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Map<_, _>>(),
    )
}

fn read<'a>(
    fixture: &Fixture,
    content_type: Option<&str>,
    encoding: Option<&str>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Value {
    let mut reader = ResponseReader::new(fixture.dialect, content_type, encoding, fixture.status);
    pieces.into_iter().for_each(|piece| reader.push(piece));
    described(reader.finish())
}

/// Whole, byte by byte, and with one cut at each byte.
fn check_every_split(encoding: Option<&str>, encode: impl Fn(&[u8]) -> Vec<u8>) {
    for fixture in fixtures() {
        let name = &fixture.name;
        let bytes = encode(&fixture.body);
        let content_type = Some(fixture.content_type.as_str());
        let facts = read(&fixture, content_type, encoding, [bytes.as_slice()]);
        assert_eq!(facts, fixture.facts, "{name}, whole");
        let facts = read(&fixture, content_type, encoding, bytes.chunks(1));
        assert_eq!(facts, fixture.facts, "{name}, byte by byte");
        for at in 0..bytes.len() {
            let (head, tail) = bytes.split_at(at);
            let facts = read(&fixture, content_type, encoding, [head, tail]);
            assert_eq!(facts, fixture.facts, "{name}, cut at {at}");
        }
    }
}

#[test]
fn every_dialect_is_read_at_every_split() {
    check_every_split(None, <[u8]>::to_vec);
}

#[test]
fn every_dialect_is_read_through_gzip() {
    check_every_split(Some("gzip"), |body| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    });
}

#[test]
fn every_dialect_is_read_through_deflate() {
    check_every_split(Some("deflate"), |body| {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    });
}

#[test]
fn every_dialect_is_read_through_brotli() {
    check_every_split(Some("br"), |body| {
        let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
        encoder.write_all(body).unwrap();
        encoder.into_inner()
    });
}

#[test]
fn every_dialect_is_read_through_zstd() {
    check_every_split(Some("zstd"), |body| zstd::encode_all(body, 3).unwrap());
}

#[test]
fn a_missing_content_type_is_made_up_for() {
    for fixture in fixtures() {
        let facts = read(&fixture, None, None, fixture.body.chunks(7));
        assert_eq!(facts, fixture.facts, "{}", fixture.name);
    }
}

#[test]
fn any_end_of_line_will_do() {
    for fixture in fixtures()
        .into_iter()
        .filter(|fixture| fixture.content_type.starts_with("text/event-stream"))
    {
        let text = String::from_utf8(fixture.body.clone())
            .unwrap()
            .replace("\r\n", "\n");
        for end in ["\n", "\r", "\r\n"] {
            let body = text.replace('\n', end);
            let facts = read(&fixture, None, None, body.as_bytes().chunks(11));
            assert_eq!(facts, fixture.facts, "{}", fixture.name);
        }
    }
}

fn finish(dialect: Dialect, encoding: Option<&str>, status: u16, body: &[u8]) -> ResponseFacts {
    let mut reader = ResponseReader::new(dialect, None, encoding, status);
    reader.push(body);
    reader.finish()
}

#[test]
fn what_cannot_be_decoded_is_marked_unread() {
    let body = br#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    for encoding in ["exotic", "gzip"] {
        let facts = finish(Dialect::Chat, Some(encoding), 200, body);
        assert!(facts.unread, "{encoding}");
        assert_eq!(facts.usage, None);
        assert!(!facts.ended);
    }
}

#[test]
fn a_plain_text_error_is_its_first_line() {
    let facts = finish(Dialect::Chat, None, 502, b"error code: 1015\nmore");
    assert_eq!(facts.error.as_deref(), Some("error code: 1015"));
    let facts = finish(Dialect::Chat, None, 502, b"<html>error</html>");
    assert_eq!(facts.error, None);
}

#[test]
fn long_errors_are_cut_between_characters() {
    let body = json!({"error": {"message": "\u{e9}".repeat(1000)}}).to_string();
    let facts = finish(Dialect::Chat, None, 500, body.as_bytes());
    assert_eq!(facts.error, Some("\u{e9}".repeat(300)));
}

#[test]
fn media_is_not_looked_at() {
    let mut reader = ResponseReader::new(Dialect::Speech, Some("audio/mpeg"), None, 200);
    reader.push(br#"{"usage":{"input_tokens":1}}"#);
    let facts = reader.finish();
    assert_eq!(facts.usage, None);
    assert!(facts.output_text.is_empty());
}

#[test]
fn what_is_not_metered_is_read_for_its_error_only() {
    let facts = finish(
        Dialect::Other,
        None,
        200,
        br#"{"id":"run_1","usage":{"total_tokens":5}}"#,
    );
    assert_eq!((facts.usage, facts.response_id), (None, None));
    let facts = finish(
        Dialect::Other,
        None,
        404,
        br#"{"error":{"message":"No such run."}}"#,
    );
    assert_eq!(facts.error.as_deref(), Some("No such run."));
}

#[test]
fn a_json_body_that_was_cut_counts_by_what_there_is() {
    let facts = finish(
        Dialect::Chat,
        None,
        200,
        br#"{"id":"c-1","choices":[{"message":{"con"#,
    );
    assert!(!facts.ended);
    assert_eq!(facts.response_id.as_deref(), Some("c-1"));
    assert!(facts.output_text.into_text().contains("choices"));
}

#[test]
fn an_event_over_the_limit_is_marked_unread() {
    let long = format!("data: {{\"x\":\"{}\"}}\n\n", "x".repeat(5 << 20));
    let usage =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
    let facts = finish(
        Dialect::Chat,
        None,
        200,
        [long.as_str(), usage].concat().as_bytes(),
    );
    assert!(facts.unread);
    assert_eq!(facts.usage.unwrap().output_tokens, 2);
}

#[test]
fn depth_and_white_space_do_no_harm() {
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":1}"#;
    let deep = |open: &str, close: &str| open.repeat(100_000) + "1" + &close.repeat(100_000);
    for value in [
        deep("[", "]"),
        deep("{\"content\":", "}"),
        format!("[{{\"message\":{}}}]", deep("{\"content\":[", "]}")),
        format!(
            "[{{\"message\":{{\"tool_calls\":[{}]}}}}]",
            deep("{\"arguments\":", "}")
        ),
        " ".repeat(1 << 20) + "[]",
    ] {
        let body = format!("{{\"choices\":{value},{usage}}}");
        let facts = finish(Dialect::Chat, None, 200, body.as_bytes());
        assert_eq!(facts.usage.map(|usage| usage.input_tokens), Some(3));
        facts.output_text.into_text();
    }
}

proptest! {
    #[test]
    fn no_bytes_can_make_the_reader_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        status in prop_oneof![Just(200_u16), Just(400)],
        encoding in prop_oneof![Just(None), Just(Some("gzip")), Just(Some("br")), Just(Some("zstd"))],
    ) {
        for dialect in [Dialect::Chat, Dialect::Ollama, Dialect::Gemini, Dialect::Responses] {
            finish(dialect, encoding, status, &bytes).output_text.into_text();
        }
    }

    #[test]
    fn no_damage_to_a_body_can_make_the_reader_panic(
        pick in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let fixtures = fixtures();
        let fixture = &fixtures[pick.index(fixtures.len())];
        let mut body = fixture.body.clone();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        body.truncate(cut.index(body.len()) + 1);
        let whole = read(fixture, None, None, [body.as_slice()]);
        prop_assert_eq!(read(fixture, None, None, body.chunks(3)), whole);
    }
}
