use crate::wire::message::ToolCall;
use crate::wire::response::ResponseReader;
use crate::wire::route::Dialect;

/// What a response says, fed in pieces of so many bytes.
fn heard(dialect: Dialect, body: &str, piece: usize) -> (String, Vec<ToolCall>) {
    let mut reader = ResponseReader::new(dialect, None, None, 200);
    for piece in body.as_bytes().chunks(piece) {
        reader.push(piece);
        // Asked in between, too: nothing is read twice.
        if body.starts_with("data") || body.starts_with("event") {
            reader.said();
        }
    }
    let said = reader.said();
    (said.text().to_owned(), said.calls().collect())
}

fn events(events: &[&str]) -> String {
    events
        .iter()
        .map(|event| ["data: ", event, "\n\n"].concat())
        .collect()
}

#[track_caller]
fn check(dialect: Dialect, body: &str, text: &str) {
    let expected = ToolCall {
        id: "c1".to_owned(),
        name: "find".to_owned(),
        arguments: r#"{"a":1,"b":2}"#.to_owned(),
    };
    for piece in [1, 7, 64, body.len()] {
        let (said, mut calls) = heard(dialect, body, piece);
        if dialect == Dialect::Gemini {
            for call in &mut calls {
                call.id = "c1".to_owned();
            }
        }
        assert_eq!(said, text, "in pieces of {piece}");
        assert_eq!(
            calls,
            std::slice::from_ref(&expected),
            "in pieces of {piece}"
        );
    }
}

#[test]
fn text_and_tool_calls_of_whole_answers_are_heard() {
    check(
        Dialect::Chat,
        r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"Well.",
            "reasoning_content":"Hm.","tool_calls":[{"id":"c1","type":"function",
            "function":{"name":"find","arguments":"{\"b\":2,\"a\":1}"}}]}},
            {"index":1,"message":{"content":"Other."}}]}"#,
        "Well.",
    );
    check(
        Dialect::Responses,
        r#"{"id":"r","object":"response","output":[{"type":"reasoning","summary":[]},
            {"type":"message","content":[{"type":"output_text","text":"Well."}]},
            {"type":"function_call","call_id":"c1","id":"fc","name":"find",
            "arguments":"{\"b\":2,\"a\":1}"}]}"#,
        "Well.",
    );
    check(
        Dialect::Messages,
        r#"{"id":"m","type":"message","role":"assistant","content":[
            {"type":"thinking","thinking":"Hm."},{"type":"text","text":"Well."},
            {"type":"tool_use","id":"c1","name":"find","input":{"b":2,"a":1}}]}"#,
        "Well.",
    );
    check(
        Dialect::Gemini,
        r#"{"candidates":[{"content":{"parts":[{"text":"Hm.","thought":true},{"text":"Well."},
            {"functionCall":{"name":"find","args":{"b":2,"a":1}}}]}}]}"#,
        "Well.",
    );
}

#[test]
fn text_and_tool_calls_are_put_together_from_their_deltas() {
    check(
        Dialect::Chat,
        &events(&[
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"We"}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"Other"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"ll."}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"find","arguments":""}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"b\":2,"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"a\":1}"}}]}}]}"#,
            "[DONE]",
        ]),
        "Well.",
    );
    check(
        Dialect::Responses,
        &events(&[
            r#"{"type":"response.created","response":{"id":"r"}}"#,
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[]}}"#,
            r#"{"type":"response.output_text.delta","output_index":0,"delta":"Well."}"#,
            r#"{"type":"response.output_text.done","output_index":0,"text":"Well."}"#,
            r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","call_id":"c1","name":"find","arguments":""}}"#,
            r#"{"type":"response.function_call_arguments.delta","output_index":1,"delta":"{\"b\":2,\"a\":1}"}"#,
            r#"{"type":"response.function_call_arguments.done","output_index":1,"arguments":"{\"b\":2,\"a\":1}"}"#,
            r#"{"type":"response.completed","response":{"id":"r","output":[{"type":"message","content":[{"type":"output_text","text":"Well."}]}]}}"#,
        ]),
        "Well.",
    );
    check(
        Dialect::Messages,
        &events(&[
            r#"{"type":"message_start","message":{"id":"m","content":[]}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Well."}}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"c1","name":"find","input":{}}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"b\":2,"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"a\":1}"}}"#,
            r#"{"type":"message_stop"}"#,
        ]),
        "Well.",
    );
}

#[test]
fn answer_of_ollama_and_of_completions_is_heard() {
    let lines = "{\"message\":{\"role\":\"assistant\",\"content\":\"We\"},\"done\":false}\n\
                 {\"message\":{\"content\":\"ll.\"},\"done\":true}\n";
    assert_eq!(heard(Dialect::Ollama, lines, 5).0, "Well.");
    let body = r#"{"choices":[{"index":0,"text":"Well."}]}"#;
    assert_eq!(heard(Dialect::Completions, body, 5).0, "Well.");
}
