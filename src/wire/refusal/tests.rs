use super::*;
use crate::wire::edge::EventEdge;
use crate::wire::response::ResponseReader;

const REFUSAL: RefusalText<'_> = RefusalText {
    message: "spent \"2.00\"\nof 2.00",
    code: "circuit_break",
};
const DIALECTS: [Dialect; 7] = [
    Dialect::Chat,
    Dialect::Completions,
    Dialect::Responses,
    Dialect::Messages,
    Dialect::Gemini,
    Dialect::Ollama,
    Dialect::LlamaCpp,
];
const OBJECT: &str = r#"{"message":"spent \"2.00\"\nof 2.00","type":"insufficient_quota","param":null,"code":"circuit_break"}"#;
const GOOGLE: &str = r#"{"error":{"code":429,"message":"spent \"2.00\"\nof 2.00","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"CIRCUIT_BREAK","domain":"open-aiops"}]}}"#;

#[track_caller]
fn check_body(dialect: Dialect, expected: &str) {
    let body = String::from_utf8(body(dialect, REFUSAL)).unwrap();
    assert_eq!(body, expected);
}

#[track_caller]
fn check_end(dialect: Dialect, expected: &str) {
    let end = stream_end(dialect, REFUSAL, 41).unwrap();
    assert_eq!(str::from_utf8(&end).unwrap(), expected);
}

#[test]
fn bodies_are_those_of_the_dialect() {
    let openai = format!(r#"{{"error":{OBJECT}}}"#);
    for dialect in [
        Dialect::Chat,
        Dialect::Responses,
        Dialect::Embeddings,
        Dialect::LlamaCpp,
        Dialect::Other,
    ] {
        check_body(dialect, &openai);
    }
    let anthropic = format!(r#"{{"type":"error","error":{OBJECT}}}"#);
    check_body(Dialect::Messages, &anthropic);
    check_body(Dialect::Gemini, GOOGLE);
    check_body(Dialect::Ollama, r#"{"error":"spent \"2.00\"\nof 2.00"}"#);
}

#[test]
fn streams_end_as_their_clients_understand() {
    let done = format!("data: {{\"error\":{OBJECT}}}\n\ndata: [DONE]\n\n");
    check_end(Dialect::Chat, &done);
    check_end(Dialect::Completions, &done);
    check_end(
        Dialect::Responses,
        &format!(
            "event: error\ndata: {{\"type\":\"error\",\"sequence_number\":41,\"code\":\"circuit_break\",\"message\":\"spent \\\"2.00\\\"\\nof 2.00\",\"param\":null,\"error\":{OBJECT}}}\n\n"
        ),
    );
    check_end(
        Dialect::Messages,
        &format!("event: error\ndata: {{\"type\":\"error\",\"error\":{OBJECT}}}\n\n"),
    );
    check_end(Dialect::Gemini, &format!("data: {GOOGLE}\n\n"));
    check_end(
        Dialect::LlamaCpp,
        &format!("data: {{\"error\":{OBJECT}}}\n\n"),
    );
    check_end(
        Dialect::Ollama,
        "{\"error\":\"spent \\\"2.00\\\"\\nof 2.00\"}\n",
    );
    for dialect in [
        Dialect::Speech,
        Dialect::Images,
        Dialect::Batch,
        Dialect::Other,
    ] {
        assert_eq!(stream_end(dialect, REFUSAL, 0), None);
    }
}

#[test]
fn an_end_is_whole_and_read_as_an_error() {
    for dialect in DIALECTS {
        let end = stream_end(dialect, REFUSAL, 0).unwrap();
        let mut edge = EventEdge::new(dialect);
        edge.push(&end);
        assert!(edge.is_at_edge(), "{dialect:?}");

        let media_type = match dialect {
            Dialect::Ollama => "application/x-ndjson",
            _ => "text/event-stream",
        };
        let mut reader = ResponseReader::new(dialect, Some(media_type), None, 200);
        reader.push(&end);
        let error = reader.finish().error;
        assert!(
            error.is_some_and(|error| error.starts_with("spent")),
            "{dialect:?}"
        );
    }
}
