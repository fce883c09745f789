use proptest::prelude::*;

use super::*;

/// A piece in one line: what it is, whose, and what it says.
fn line(piece: &Piece) -> String {
    let words = [
        format!("{:?}", piece.kind),
        piece.name.clone().unwrap_or_default(),
        piece.id.clone().unwrap_or_default(),
        piece.media_type.clone().unwrap_or_default(),
        piece.said.text.clone(),
    ];
    let words: Vec<String> = words.into_iter().filter(|it| !it.is_empty()).collect();
    words.join(" ")
}

/// A message in one line.
fn told(message: &Message) -> String {
    let pieces: Vec<String> = message.pieces.iter().map(line).collect();
    let name = message.name.iter().map(|name| format!("({name})"));
    let speaker: String = name.collect();
    format!("{:?}{speaker}: {}", message.role, pieces.join(" | "))
}

/// All messages of a request.
fn request(operation: Operation, dialect: Dialect, body: &[u8], most: usize) -> Vec<Message> {
    let transcript = Transcript::of(operation, dialect, body);
    let entries = transcript.entries().iter();
    entries.map(|entry| entry.read(body, most)).collect()
}

#[track_caller]
fn check_request(operation: Operation, dialect: Dialect, body: &str, expected: &[&str]) {
    let messages = request(operation, dialect, body.as_bytes(), 4096);
    let told: Vec<String> = messages.iter().map(told).collect();
    assert_eq!(told, expected);
}

/// Checks what an answer says as a whole body or stream; and that of any front of it something is
/// shown.
#[track_caller]
fn check_answer(body: &str, expected: &[&str]) {
    let messages = answer(body.as_bytes(), None, 4096);
    let told: Vec<String> = messages.iter().map(told).collect();
    assert_eq!(told, expected, "{body}");
    for end in 1..body.len() {
        let front = body.as_bytes().get(..end).unwrap_or_default();
        let is_blank = front.trim_ascii().is_empty();
        assert_eq!(answer(front, None, 4096).is_empty(), is_blank, "{end}");
    }
}

fn events(events: &[&str]) -> String {
    let event = |event: &&str| format!("data: {event}\n\n");
    events.iter().map(event).collect()
}

// === requests ===

#[test]
fn a_chat_request_is_read_message_by_message() {
    let body = r#"{"model":"m","messages":[
        {"role":"developer","content":"Be brief."},
        {"role":"user","name":"ann","content":[{"type":"text","text":"What is \"this\"?"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAA"}},
            {"type":"image_url","image_url":{"url":"https://host/cat.png"}},
            {"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}},
            {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,AAAA"}}]},
        {"role":"assistant","content":null,"reasoning_content":"Hm.","tool_calls":[
            {"id":"c1","type":"function","function":{"name":"look","arguments":"{\"at\": 1}"}}]},
        {"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"a"},{"type":"text","text":"cat"}]},
        {"role":"assistant","content":[{"type":"refusal","refusal":"No."}]}]}"#;
    let expected = [
        "System: Text Be brief.",
        "User(ann): Text What is \"this\"? | Media image/png | Media https://host/cat.png image_url | \
         Media wav | Media a.pdf application/pdf",
        "Assistant: Reasoning Hm. | ToolCall look c1 {\"at\": 1}",
        "Tool: ToolResult c1 a\ncat",
        "Assistant: Refusal No.",
    ];
    check_request(Operation::Chat, Dialect::Chat, body, &expected);
    let messages = request(Operation::Chat, Dialect::Chat, body.as_bytes(), 5);
    let call = &messages[2].pieces[1].said;
    assert_eq!((call.text.as_str(), call.is_cut), ("{\"at\"", true));
    assert_eq!(messages[1].pieces[1].said.len, 6);
    let place = messages[3].place.unwrap();
    let bytes = usize::try_from(place.from).unwrap()..usize::try_from(place.to).unwrap();
    let raw = &body[bytes];
    assert!(raw.starts_with(r#"{"role":"tool""#) && raw.ends_with("]}"));
    assert_eq!(messages[3].bytes, raw.len() as u64);
}

#[test]
fn a_responses_request_is_read_item_by_item() {
    let body = r#"{"model":"m","instructions":"Be brief.","input":[
        {"role":"user","content":[{"type":"input_text","text":"Go."},
            {"type":"input_image","image_url":"data:image/jpeg;base64,AAAA"},
            {"type":"input_file","file_id":"file-1"}]},
        {"type":"reasoning","summary":[{"type":"summary_text","text":"Hm."}]},
        {"type":"reasoning","summary":[],"encrypted_content":"0123456789"},
        {"type":"message","role":"assistant","content":[{"type":"output_text","text":"On it."}]},
        {"type":"function_call","call_id":"c1","id":"fc","name":"look","arguments":"{}"},
        {"type":"function_call_output","call_id":"c1","output":"a cat"},
        {"type":"custom_tool_call","call_id":"c2","name":"patch","input":"*** Begin"},
        {"type":"custom_tool_call_output","call_id":"c2","output":"done"},
        {"type":"web_search_call","id":"ws","status":"completed","action":{"type":"search","query":"x"}},
        {"type":"mcp_call","id":"m1","name":"roll","arguments":"{\"n\":6}","output":"4"},
        {"type":"item_reference","id":"msg_1"},
        {"type":"unheard_of","x":1}]}"#;
    let expected = [
        "System: Text Be brief.",
        "User: Text Go. | Media image/jpeg | Media file-1 input_file",
        "Assistant: Reasoning Hm.",
        "Assistant: Reasoning encrypted",
        "Assistant: Text On it.",
        "Assistant: ToolCall look c1 {}",
        "Tool: ToolResult c1 a cat",
        "Assistant: ToolCall patch c2 *** Begin",
        "Tool: ToolResult c2 done",
        "Assistant: ToolCall web_search ws {\"type\":\"search\",\"query\":\"x\"}",
        "Assistant: ToolCall roll m1 {\"n\":6} | ToolResult roll m1 4",
        "Assistant: Other item_reference {\"type\":\"item_reference\",\"id\":\"msg_1\"}",
        "Assistant: Other unheard_of {\"type\":\"unheard_of\",\"x\":1}",
    ];
    check_request(Operation::Responses, Dialect::Responses, body, &expected);
    let text = r#"{"input":"Go."}"#;
    check_request(
        Operation::Responses,
        Dialect::Responses,
        text,
        &["User: Text Go."],
    );
}

#[test]
fn a_messages_request_is_read_block_by_block() {
    let body = r#"{"model":"m","messages":[
        {"role":"user","content":"Go."},
        {"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":"s"},
            {"type":"redacted_thinking","data":"0123"},
            {"type":"text","text":"On it."},{"type":"tool_use","id":"t1","name":"look","input":{"at":1}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":[
            {"type":"text","text":"no cat"},
            {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]},
            {"type":"document","title":"Notes","source":{"type":"text","media_type":"text/plain","data":"n"}}]}],
        "system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}]}"#;
    let expected = [
        "System: Text Be brief.",
        "User: Text Go.",
        "Assistant: Reasoning Hm. | Reasoning encrypted | Text On it. | ToolCall look t1 {\"at\":1}",
        "User: ToolResult t1 no cat | Media image/png | Text n",
    ];
    check_request(Operation::Messages, Dialect::Messages, body, &expected);
    let messages = request(Operation::Messages, Dialect::Messages, body.as_bytes(), 99);
    assert!(messages[3].pieces[0].is_error);
}

#[test]
fn a_gemini_request_is_read_part_by_part() {
    let body = r#"{"systemInstruction":{"parts":[{"text":"Be brief."}]},"contents":[
        {"role":"user","parts":[{"text":"Go."},{"inlineData":{"mimeType":"image/png","data":"AAAA"}},
            {"fileData":{"mimeType":"video/mp4","fileUri":"gs://b/v.mp4"}}]},
        {"role":"model","parts":[{"text":"Hm.","thought":true},
            {"functionCall":{"name":"look","args":{"at":1}}}]},
        {"role":"user","parts":[{"functionResponse":{"name":"look","response":{"saw":"a cat"}}}]}]}"#;
    let expected = [
        "System: Text Be brief.",
        "User: Text Go. | Media image/png | Media gs://b/v.mp4 video/mp4",
        "Assistant: Reasoning Hm. | ToolCall look {\"at\":1}",
        "User: ToolResult look {\"saw\":\"a cat\"}",
    ];
    check_request(Operation::GenerateContent, Dialect::Gemini, body, &expected);
}

#[test]
fn prompts_and_texts_to_embed_are_read() {
    let prompt = r#"{"prompt":["Once","Twice"],"model":"m"}"#;
    let expected = ["User: Text Once | Text Twice"];
    check_request(
        Operation::TextCompletion,
        Dialect::Completions,
        prompt,
        &expected,
    );
    let input = r#"{"input":"Once","model":"m"}"#;
    check_request(
        Operation::Embeddings,
        Dialect::Embeddings,
        input,
        &["User: Text Once"],
    );
}

#[test]
fn the_tools_offered_are_told_by_name() {
    let body =
        br#"{"messages":[],"tools":[{"type":"function","function":{"name":"b"}},{"name":"a"}]}"#;
    let transcript = Transcript::of(Operation::Chat, Dialect::Chat, body);
    let tools = transcript.tools(body);
    assert_eq!(
        (tools.names, tools.count),
        (vec!["a".to_owned(), "b".to_owned()], 2)
    );
    assert!(tools.digest.is_some());
}

#[test]
fn a_request_that_is_not_understood_is_shown_as_it_is() {
    for body in ["not JSON", "[1,2]", "{}", "{\"messages\":"] {
        let expected = format!("User: Other {body}");
        check_request(Operation::Chat, Dialect::Chat, body, &[&expected]);
    }
    check_request(Operation::Chat, Dialect::Chat, "", &[]);
}

#[test]
fn of_a_request_that_was_cut_the_whole_messages_are_shown() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"One"},{"role":"us"#;
    check_request(Operation::Chat, Dialect::Chat, body, &["User: Text One"]);
}

#[test]
fn a_mark_of_a_cache_that_moved_changes_no_digest() {
    let marked = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]}"#;
    let plain = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}"#;
    let digest = |body: &str| {
        let transcript = Transcript::of(Operation::Messages, Dialect::Messages, body.as_bytes());
        transcript.entries()[0].digest
    };
    assert_eq!(digest(marked), digest(plain));
    assert_ne!(digest(plain), digest(&plain.replace("\"a\"", "\"b\"")));
}

// === answers ===

#[test]
fn chat_answers_are_put_together_choice_by_choice() {
    let whole = r#"{"id":"x","choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant",
        "content":"Well.","reasoning_content":"Hm.","tool_calls":[{"id":"c1","type":"function",
        "function":{"name":"find","arguments":"{\"a\": 1}"}}]}},
        {"index":1,"message":{"content":null,"refusal":"No."}}]}"#;
    let expected = [
        "Assistant: Reasoning Hm. | Text Well. | ToolCall find c1 {\"a\": 1}",
        "Assistant: Refusal No.",
    ];
    check_answer(whole, &expected);
    let stream = events(&[
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"H"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning":"m."}}]}"#,
        r#"{"choices":[{"index":1,"delta":{"refusal":"No"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"We"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"ll."}}]}"#,
        r#"{"choices":[{"index":1,"delta":{"refusal":"."}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function",
            "function":{"name":"find","arguments":""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":" 1}"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
        "[DONE]",
    ]);
    check_answer(&stream.replace("\n            ", ""), &expected);
}

#[test]
fn answers_of_responses_are_put_together_item_by_item() {
    let items = r#"[{"type":"reasoning","summary":[{"type":"summary_text","text":"Hm."}]},
        {"type":"message","content":[{"type":"output_text","text":"Well."}]},
        {"type":"function_call","call_id":"c1","id":"fc","name":"find","arguments":"{\"a\": 1}"}]"#
        .replace('\n', " ");
    let expected = ["Assistant: Reasoning Hm. | Text Well. | ToolCall find c1 {\"a\": 1}"];
    let whole = format!(r#"{{"id":"r","object":"response","output":{items}}}"#);
    check_answer(&whole, &expected);
    let deltas = [
        r#"{"type":"response.created","response":{"id":"r","output":[]}}"#,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","summary":[]}}"#,
        r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"Hm"}"#,
        r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"."}"#,
        r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"message","content":[]}}"#,
        r#"{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"Well"}"#,
        r#"{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"."}"#,
        r#"{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","call_id":"c1","id":"fc","name":"find","arguments":""}}"#,
        r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":"{\"a\":"}"#,
        r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":" 1}"}"#,
    ];
    check_answer(&events(&deltas), &expected);
    let done = r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"message","content":[{"type":"output_text","text":"Well."}]}}"#;
    let end = format!(r#"{{"type":"response.completed","response":{{"output":{items}}}}}"#);
    let all = [&deltas[..], &[done, end.as_str()]].concat();
    check_answer(&events(&all), &expected);
}

#[test]
fn answers_of_messages_are_put_together_block_by_block() {
    let expected = ["Assistant: Reasoning Hm. | Text Well. | ToolCall find t1 {\"a\": 1}"];
    check_answer(
        r#"{"id":"m","type":"message","role":"assistant","content":[{"type":"thinking","thinking":"Hm."},
            {"type":"text","text":"Well."},{"type":"tool_use","id":"t1","name":"find","input":{"a": 1}}]}"#,
        &expected,
    );
    let stream = [
        r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[]}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Well"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"."}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t1","name":"find","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":": 1}"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":1}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    check_answer(&events(&stream), &expected);
}

#[test]
fn answers_of_gemini_ollama_and_completions_are_put_together() {
    let first = r#"{"candidates":[{"index":0,"content":{"role":"model","parts":[{"text":"Hm.","thought":true},{"text":"We"}]}}]}"#;
    let second = r#"{"candidates":[{"index":0,"content":{"parts":[{"text":"ll."},{"functionCall":{"name":"find","args":{"a":1}}}]},"finishReason":"STOP"}]}"#;
    let expected = ["Assistant: Reasoning Hm. | Text Well. | ToolCall find {\"a\":1}"];
    check_answer(&events(&[first, second]), &expected);
    check_answer(&format!("[{first},\n{second}]"), &expected);
    let lines = concat!(
        r#"{"model":"l","message":{"role":"assistant","content":"We"},"done":false}"#,
        "\n",
        r#"{"model":"l","message":{"role":"assistant","content":"ll."},"done":true}"#,
        "\n"
    );
    check_answer(lines, &["Assistant: Text Well."]);
    check_answer(
        "{\"response\":\"Well.\",\"done\":true}",
        &["Assistant: Text Well."],
    );
    let texts = [
        r#"{"choices":[{"index":0,"text":"We"}]}"#,
        r#"{"choices":[{"index":0,"text":"ll."}]}"#,
    ];
    check_answer(&events(&texts), &["Assistant: Text Well."]);
}

#[test]
fn what_is_no_text_is_told_by_what_it_is() {
    let vectors =
        r#"{"object":"list","data":[{"embedding":[0.1,0.2]},{"embedding":[0.3,0.4]}],"model":"e"}"#;
    check_answer(vectors, &["Assistant: Other embedding [0.1,0.2]"]);
    assert_eq!(answer(vectors.as_bytes(), None, 99)[0].left_out, 1);
    check_answer(
        r#"{"data":[{"b64_json":"AAAA"},{"url":"https://h/i.png"}]}"#,
        &["Assistant: Media image | Media https://h/i.png image"],
    );
    let sound = answer(&[0, 1, 2], Some("audio/mpeg"), 99);
    assert_eq!(told(&sound[0]), "Assistant: Media audio/mpeg");
    assert_eq!(sound[0].pieces[0].said.len, 3);
    check_answer(r#"{"text":"Heard."}"#, &["Assistant: Text Heard."]);
}

#[test]
fn errors_are_shown_as_such() {
    let body = r#"{"error":{"message":"Too fast","type":"rate_limit_error","code":"slow"}}"#;
    check_answer(body, &["Assistant: Error rate_limit_error Too fast"]);
    check_answer(r#"{"error":"broken"}"#, &["Assistant: Error broken"]);
    let within = events(&[
        r#"{"choices":[{"index":0,"delta":{"content":"We"}}]}"#,
        r#"{"error":{"message":"overloaded"}}"#,
    ]);
    check_answer(&within, &["Assistant: Text We | Error overloaded"]);
    let html = "<html>502</html>";
    check_answer(html, &["Assistant: Other <html>502</html>"]);
    check_answer(
        "{\"detail\":\"gone\"}",
        &["Assistant: Other {\"detail\":\"gone\"}"],
    );
}

// === whatever comes ===

/// What nests in itself `levels` deep.
fn nested(open: &str, within: &str, close: &str, levels: usize) -> String {
    [&*open.repeat(levels), within, &*close.repeat(levels)].concat()
}

/// Enough to overflow the stack of a thread if each took a little of it.
const LEVELS: usize = 20_000;
const RESULTS: (&str, &str) = (r#"[{"type":"tool_result","content":"#, "}]");
const RESPONSES: (&str, &str) = (r#"[{"functionResponse":{"response":"#, "}}]");

#[test]
fn results_within_results_are_read_a_few_levels_deep_and_then_shown_as_json() {
    let said = |levels| {
        let content = nested(
            RESULTS.0,
            r#"[{"type":"text","text":"Hm."}]"#,
            RESULTS.1,
            levels,
        );
        let body = format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#);
        let messages = request(Operation::Messages, Dialect::Messages, body.as_bytes(), 99);
        let pieces = messages.into_iter().flat_map(|message| message.pieces);
        pieces.map(|piece| piece.said.text).collect::<Vec<_>>()
    };
    assert_eq!(said(4), ["Hm."]);
    assert_eq!(said(5), [r#"[{"type":"text","text":"Hm."}]"#]);
}

#[test]
fn a_body_that_nests_without_end_takes_no_more_stack_than_another() {
    for (open, close) in [RESULTS, RESPONSES] {
        let content = nested(open, "[]", close, LEVELS);
        let chat = format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#);
        let gemini = format!(r#"{{"contents":[{{"role":"user","parts":{content}}}]}}"#);
        for (operation, dialect, body) in [
            (Operation::Messages, Dialect::Messages, &chat),
            (Operation::GenerateContent, Dialect::Gemini, &gemini),
        ] {
            let messages = request(operation, dialect, body.as_bytes(), 64);
            let pieces = &messages[0].pieces;
            assert_eq!((pieces.len(), pieces[0].kind), (1, Kind::ToolResult));
            assert!(pieces[0].said.text.len() <= 64 && pieces[0].said.is_cut);
        }
        let answered = format!(r#"{{"content":{content}}}"#);
        assert_eq!(answer(answered.as_bytes(), None, 64)[0].pieces.len(), 1);
        let item = format!(r#"{{"output":[{{"type":"x_call_output","output":{content}}}]}}"#);
        assert_eq!(answer(item.as_bytes(), None, 64)[0].pieces.len(), 1);
    }
    for (open, close) in [("[", "]"), (r#"{"content":"#, "}"), (r#"{"parts":"#, "}")] {
        let deep = nested(open, "[]", close, LEVELS);
        answer(deep.as_bytes(), None, 64);
        let body = format!(r#"{{"messages":[{deep}],"tools":[{deep}],"system":{deep}}}"#);
        request(Operation::Messages, Dialect::Messages, body.as_bytes(), 64);
        Transcript::of(Operation::Messages, Dialect::Messages, body.as_bytes())
            .tools(body.as_bytes());
    }
}

#[test]
fn what_a_part_says_to_be_is_cut_like_every_name() {
    let kind = "x".repeat(1000);
    let body = format!(r#"{{"messages":[{{"role":"user","content":[{{"type":"{kind}"}}]}}]}}"#);
    let messages = request(Operation::Chat, Dialect::Chat, body.as_bytes(), 9);
    assert_eq!(messages[0].pieces[0].name.as_ref().unwrap().len(), 256);
}

/// Bodies of any kind, and such that begin as real ones do and go wrong.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"messages\":[",
        "\"content\":",
        "\"input\":",
        "\"type\":",
        "\"tool_use\"",
        "\"tool_result\"",
        "\"function_call\"",
        "\"role\":\"tool\"",
        "\"parts\":[",
        "\"text\":",
        "\"choices\":[{\"delta\":",
        "\"output\":[",
        "data: ",
        "\n\n",
        "event: x\n",
        "\"tool_calls\":[",
        "\"image_url\":",
        "\"data:image/png;base64,AA\"",
        "\"a\u{e9}\\ud83d\"",
        "null",
        "12",
        "\"error\":",
        "\"response.output_item.done\"",
        "\"item\":",
        "\"index\":9",
        "\"output_index\":3",
        "\"embedding\":[1]",
    ]);
    let text = prop::collection::vec(word, 0..60).prop_map(|words| words.concat().into_bytes());
    prop_oneof![3 => text, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn nothing_fails_whatever_comes_and_texts_have_a_bound(body in bodies(), most in 0..40_usize) {
        for (operation, dialect) in [
            (Operation::Chat, Dialect::Chat),
            (Operation::Responses, Dialect::Responses),
            (Operation::Messages, Dialect::Messages),
            (Operation::GenerateContent, Dialect::Gemini),
            (Operation::Embeddings, Dialect::Embeddings),
            (Operation::Other, Dialect::Other),
        ] {
            Transcript::of(operation, dialect, &body).tools(&body);
            let answered = answer(&body, None, most);
            let sent = request(operation, dialect, &body, most);
            prop_assert_eq!(sent.is_empty(), body.is_empty());
            for piece in sent.iter().chain(&answered).flat_map(|message| &message.pieces) {
                prop_assert!(piece.said.text.len() <= most);
                let is_whole = piece.said.text.len() as u64 == piece.said.len;
                let is_lossy = piece.said.text.contains('\u{fffd}');
                prop_assert!(piece.said.is_cut != is_whole || is_lossy, "{:?}", piece);
            }
        }
    }
}
