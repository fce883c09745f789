use super::*;

/// What is said of a message in a line a piece: kind, name, id, text.
fn told(messages: &[Message]) -> Vec<String> {
    let piece = |piece: &Piece| {
        let words = [
            format!("{:?}", piece.kind),
            piece.name.clone().unwrap_or_default(),
            piece.id.clone().unwrap_or_default(),
            piece.media_type.clone().unwrap_or_default(),
            piece.said.text.clone(),
        ];
        let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        words.join(" ")
    };
    let message = |message: &Message| {
        let pieces: Vec<String> = message.pieces.iter().map(piece).collect();
        format!("{:?}: {}", message.role, pieces.join(" | "))
    };
    messages.iter().map(message).collect()
}

#[track_caller]
fn check_request(operation: Operation, dialect: Dialect, body: &str, expected: &[&str]) {
    let messages = request(operation, dialect, body.as_bytes(), 4096);
    assert_eq!(told(&messages), expected);
}

#[test]
fn a_chat_request_is_read_message_by_message() {
    let body = r#"{"model":"m","messages":[
        {"role":"system","content":"Be brief."},
        {"role":"user","name":"ann","content":[{"type":"text","text":"What is \"this\"?"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAA"}}]},
        {"role":"assistant","content":null,"tool_calls":[
            {"id":"c1","type":"function","function":{"name":"look","arguments":"{\"at\": 1}"}}]},
        {"role":"tool","tool_call_id":"c1","content":"a cat"}]}"#;
    let expected = [
        "System: Text Be brief.",
        "User: Text What is \"this\"? | Media image/png",
        "Assistant: ToolCall look c1 {\"at\": 1}",
        "Tool: ToolResult look c1 a cat",
    ];
    check_request(Operation::Chat, Dialect::Chat, body, &expected);
    let messages = request(Operation::Chat, Dialect::Chat, body.as_bytes(), 5);
    let asked = messages[3].pieces[0].asked.as_ref().unwrap();
    assert_eq!((asked.text.as_str(), asked.is_cut), ("{\"at\"", true));
    assert_eq!(messages[1].pieces[1].said.len, 6);
    let place = messages[3].place.unwrap();
    let raw = &body[place.from as usize..place.to as usize];
    assert!(raw.starts_with(r#"{"role":"tool""#) && raw.ends_with('}'));
}
