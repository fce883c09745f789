use super::*;
use crate::core::call::Operation;
use crate::wire::route::Dialect;

const MOST: usize = 64 << 10;

fn heard(body: &str, most: usize) -> Content {
    let transcript = Transcript::of(Operation::Chat, Dialect::Chat, body.as_bytes());
    let mut content = Content::default();
    content.hear(&transcript, body.as_bytes(), most);
    content
}

fn json_of(text: Option<&String>) -> Value {
    serde_json::from_str(text.unwrap()).unwrap()
}

const TALK: &str = r#"{"model":"m","messages":[
    {"role":"system","content":"Be brief."},
    {"role":"user","content":"Weather in Rome?"},
    {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
        "function":{"name":"weather","arguments":"{\"city\":\"Rome\"}"}}]},
    {"role":"tool","tool_call_id":"c1","content":"sunny"}],
    "tools":[{"type":"function","function":{"name":"weather","description":"d",
        "parameters":{"type":"object"}}}]}"#;

#[test]
fn messages_are_written_as_the_conventions_have_them() {
    let content = heard(TALK, MOST);
    let input = json_of(content.input.as_ref());
    assert_eq!(
        input,
        json!([
            {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
            {"role": "user", "parts": [{"type": "text", "content": "Weather in Rome?"}]},
            {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "weather",
                "arguments": {"city": "Rome"}}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "sunny"}]},
        ])
    );
    assert_eq!(
        json_of(content.tools.as_ref()),
        json!([{"type": "function", "name": "weather", "description": "d",
            "parameters": {"type": "object"}}])
    );
    assert_eq!(content.asked.as_deref(), Some("sunny"));
    assert_eq!(content.left_out, 0);
}

#[test]
fn instructions_that_stand_apart_are_told_apart() {
    let body = br#"{"model":"m","system":"Be brief.","messages":[{"role":"user","content":"Hi"}],
        "tools":[{"name":"look","input_schema":{"type":"object"}}]}"#;
    let transcript = Transcript::of(Operation::Messages, Dialect::Messages, body);
    let mut content = Content::default();
    content.hear(&transcript, body, MOST);
    let instructions = json_of(content.instructions.as_ref());
    assert_eq!(
        instructions,
        json!([{"type": "text", "content": "Be brief."}])
    );
    assert_eq!(json_of(content.input.as_ref())[0]["role"], "user");
    let tools = json_of(content.tools.as_ref());
    assert_eq!(tools[0]["name"], "look");
    assert_eq!(tools[0]["parameters"]["type"], "object");
}

#[test]
fn without_room_the_latest_messages_stay_and_the_rest_is_counted() {
    let messages: Vec<Value> = (0..50)
        .map(|n| json!({"role": "user", "content": format!("{n} {}", "x".repeat(100))}))
        .collect();
    let body = json!({"model": "m", "messages": messages}).to_string();
    let content = heard(&body, 1000);
    let input = json_of(content.input.as_ref());
    let kept = input.as_array().unwrap();
    assert!(content.input.as_ref().unwrap().len() < 2000);
    assert_eq!(kept.len() as u64 + content.left_out, 50);
    let last = kept.last().unwrap()["parts"][0]["content"].as_str();
    assert!(last.unwrap().starts_with("49 "));
}

#[test]
fn a_text_longer_than_its_room_says_that_it_was_cut() {
    let body = json!({"messages": [{"role": "user", "content": "x".repeat(5000)}]});
    let content = heard(&body.to_string(), 1000);
    let part = &json_of(content.input.as_ref())[0]["parts"][0];
    assert_eq!(part["cut"], true);
    assert_eq!(part["content"].as_str().unwrap().len(), 500);
}

#[test]
fn answers_say_why_they_ended() {
    let body = br#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Sunny."}}]}"#;
    let reasons = [Label::parse("length").unwrap()];
    let mut content = Content::default();
    content.hear_answer((body, Some("application/json")), (&reasons, "stop"), MOST);
    assert_eq!(content.said.as_deref(), Some("Sunny."));
    let parts = json!([{"type": "text", "content": "Sunny."}]);
    assert_eq!(
        json_of(content.output.as_ref()),
        json!([{"role": "assistant", "parts": parts, "finish_reason": "length"}])
    );
}

#[test]
fn nothing_said_is_nothing_told() {
    let content = heard("{}", MOST);
    assert_eq!(content.tools, None);
    let mut content = Content::default();
    content.hear_answer((b"", None), (&[], "stop"), MOST);
    assert_eq!(content, Content::default());
}
