use serde_json::json;

use super::*;

fn message(value: &Value) -> Message {
    read(SegmentKind::Message, value.to_string().as_bytes()).unwrap()
}

fn call(id: &str, name: &str, arguments: &str) -> Piece {
    Piece::Call(ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    })
}

fn result(call: &str, text: &str, is_error: bool) -> Piece {
    Piece::Result {
        call: call.to_owned(),
        text: text.to_owned(),
        is_error,
    }
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

#[track_caller]
fn check(value: &Value, role: Role, pieces: &[Piece]) {
    let message = message(value);
    assert_eq!(
        (message.role, message.pieces),
        (role, pieces.to_vec()),
        "{value}"
    );
}

#[test]
fn messages_of_every_dialect_are_taken_apart_alike() {
    let arguments = r#"{"a":1,"b":2}"#;
    for (value, role, piece) in [
        (
            json!({"role": "user", "content": "hi"}),
            Role::User,
            text("hi"),
        ),
        (
            json!({"role": "user", "content": [{"type": "text", "text": "hi"}]}),
            Role::User,
            text("hi"),
        ),
        (
            json!({"role": "developer", "content": "be"}),
            Role::System,
            text("be"),
        ),
        (
            json!({"role": "user", "parts": [{"text": "hi"}]}),
            Role::User,
            text("hi"),
        ),
        (
            json!({"type": "message", "role": "assistant",
                "content": [{"type": "output_text", "text": "yes"}]}),
            Role::Assistant,
            text("yes"),
        ),
        (
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c1",
                "type": "function", "function": {"name": "f", "arguments": "{\"b\":2, \"a\":1}"}}]}),
            Role::Assistant,
            call("c1", "f", arguments),
        ),
        (
            json!({"type": "function_call", "call_id": "c1", "id": "fc_1", "name": "f",
                "arguments": "{\"b\":2,\"a\":1}"}),
            Role::Assistant,
            call("c1", "f", arguments),
        ),
        (
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f",
                "input": {"b": 2, "a": 1}}]}),
            Role::Assistant,
            call("c1", "f", arguments),
        ),
        (
            json!({"role": "model", "parts": [{"functionCall": {"name": "f",
                "args": {"b": 2, "a": 1}}}]}),
            Role::Assistant,
            call("", "f", arguments),
        ),
    ] {
        check(&value, role, &[piece]);
    }
}

#[test]
fn results_of_every_dialect_are_taken_apart_alike() {
    for (value, role, piece) in [
        (
            json!({"role": "tool", "tool_call_id": "c1", "content": "done"}),
            Role::Tool,
            result("c1", "done", false),
        ),
        (
            json!({"role": "tool", "parts": [{"functionResponse": {"name": "f", "id": "c1",
                "response": {"output": "done"}}}]}),
            Role::Tool,
            result("c1", "done", false),
        ),
        (
            json!({"type": "function_call_output", "call_id": "c1", "output": "done"}),
            Role::Tool,
            result("c1", "done", false),
        ),
        (
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1",
                "is_error": true, "content": [{"type": "text", "text": "done"}]}]}),
            Role::User,
            result("c1", "done", true),
        ),
    ] {
        check(&value, role, &[piece]);
    }
}

#[test]
fn reasoning_and_media_say_nothing() {
    for value in [
        json!({"type": "reasoning", "summary": [], "encrypted_content": "xyz"}),
        json!({"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}),
        json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
    ] {
        assert_eq!(message(&value).pieces, [], "{value}");
    }
}

#[test]
fn names_of_tools_are_found_in_every_dialect() {
    for tools in [
        json!([{"type": "function", "function": {"name": "g"}}, {"type": "function", "name": "f"}]),
        json!([{"name": "g", "input_schema": {}}, {"name": "f"}]),
        json!([{"functionDeclarations": [{"name": "g"}, {"name": "f"}]}]),
    ] {
        assert_eq!(
            tool_names(tools.to_string().as_bytes()),
            ["f", "g"],
            "{tools}"
        );
    }
    assert!(tool_names(b"{").is_empty());
}

#[test]
fn what_is_no_message_is_none() {
    assert_eq!(read(SegmentKind::Tools, b"[]"), None);
    assert_eq!(read(SegmentKind::Message, b"{\"role\":"), None);
    let prompt = read(SegmentKind::Input, b"\"hi\"").unwrap();
    assert_eq!((prompt.role, prompt.pieces), (Role::User, vec![text("hi")]));
}
