use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::core::digest::DigestSeed;
use crate::wire::route::Dialect;
use crate::wire::scan::scan;
use Operation::{Chat, Embeddings, GenerateContent, Messages, Responses, TextCompletion};

const SEED: DigestSeed = DigestSeed(1);

fn facts_of(operation: Operation, body: &Value) -> (String, RequestFacts) {
    let text = body.to_string();
    let facts = scan(operation, Dialect::Other, text.as_bytes(), SEED);
    (text, facts)
}

fn count_with(counter: &Counter, operation: Operation, model: &str, body: &Value) -> Counted {
    let (text, facts) = facts_of(operation, body);
    counter.count_prompt(operation, model, text.as_bytes(), &facts)
}

fn prompt(operation: Operation, model: &str, body: &Value) -> Counted {
    count_with(&Counter::new(100), operation, model, body)
}

fn o200k(texts: &[&str]) -> u64 {
    texts
        .iter()
        .map(|text| u64::from(count(Encoding::O200k, text)))
        .sum()
}

#[test]
fn chat_is_counted_by_message() {
    let body = json!({"messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [
            {"type": "text", "text": "Weather in \u{c5}bo?\n"}, {"type": "text", "text": "Now."}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function",
            "function": {"name": "get_weather", "arguments": "{\"city\":\"\u{c5}bo\"}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "4 degrees"}]});
    let texts = o200k(&[
        "system",
        "Be brief.",
        "user",
        "ann",
        "Weather in \u{c5}bo?\n",
        "Now.",
        "assistant",
        "get_weather",
        "{\"city\":\"\u{c5}bo\"}",
        "tool",
        "4 degrees",
    ]);
    // Four frames, one name, one call, the priming.
    let tokens = texts + 4 * 3 + 1 + 1 + 3;
    let counted = Counted {
        tokens,
        provenance: Provenance::Counted,
    };
    assert_eq!(prompt(Chat, "gpt-4o", &body), counted);
    let recent = Counted {
        tokens,
        provenance: Provenance::Estimated,
    };
    assert_eq!(prompt(Chat, "gpt-5.1", &body), recent);
}

#[test]
fn least_chat_costs_eight_tokens() {
    // One token each for role and text, three around them, three before the answer.
    let body = json!({"messages": [{"role": "user", "content": "hi"}]});
    for model in ["gpt-3.5-turbo", "gpt-4", "gpt-4o"] {
        assert_eq!(prompt(Chat, model, &body).tokens, 8);
    }
}

#[test]
fn tools_and_their_choice_are_counted() {
    let with = |more: Value| {
        let mut body = json!({"messages": [{"role": "system", "content": "x"}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        prompt(Chat, "gpt-4o", &body)
    };
    let tools = json!([{"type": "function", "function": {"name": "find"}}]);
    let declared =
        o200k(&["namespace functions {\n\ntype find = () => any;\n\n} // namespace functions"]);
    let bare = with(json!({}));
    assert_eq!(bare.provenance, Provenance::Counted);
    let auto = with(json!({ "tools": tools }));
    assert_eq!(auto.tokens, bare.tokens + declared + 9 - 4);
    assert_eq!(auto.provenance, Provenance::Estimated);
    let none = with(json!({"tools": tools, "tool_choice": "none"}));
    assert_eq!(none.tokens, auto.tokens + 1);
    let named = json!({"type": "function", "function": {"name": "find"}});
    let named = with(json!({"tools": tools, "tool_choice": named}));
    assert_eq!(named.tokens, auto.tokens + 7 + o200k(&["find"]));
    let schema = json!({"name": "s", "schema": {"type": "object"}});
    let format = json!({"type": "json_schema", "json_schema": schema});
    let formatted = with(json!({ "response_format": format }));
    assert_eq!(
        formatted.tokens,
        bare.tokens + 10 + o200k(&[&schema.to_string()])
    );
    assert_eq!(
        with(json!({"response_format": {"type": "json_object"}})),
        bare
    );
}

#[test]
fn the_schema_of_an_answer_costs_the_same_in_all_dialects() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let format = json!({"type": "json_schema", "name": "s", "schema": schema});
    let added = |operation, bare: Value, more: Value| {
        let mut body = bare.clone();
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let with = prompt(operation, "gpt-4o", &body);
        assert_eq!(with.provenance, Provenance::Estimated);
        with.tokens - prompt(operation, "gpt-4o", &bare).tokens
    };
    let expected = 10 + o200k(&[&schema.to_string()]);
    let messages = json!({"messages": [{"role": "user", "content": "x"}]});
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}]});
    for (operation, bare, more) in [
        (
            Responses,
            json!({"input": "x"}),
            json!({"text": {"format": format}}),
        ),
        (Messages, messages.clone(), json!({"output_format": format})),
        (
            Messages,
            messages,
            json!({"output_config": {"effort": "low", "format": format}}),
        ),
        (
            GenerateContent,
            contents.clone(),
            json!({"generationConfig": {"temperature": 0, "responseSchema": schema}}),
        ),
        (
            GenerateContent,
            contents.clone(),
            json!({"generation_config": {"response_json_schema": schema}}),
        ),
    ] {
        assert_eq!(added(operation, bare, more.clone()), expected, "{more}");
    }
    let none = json!({"generationConfig": {"responseSchema": null, "maxOutputTokens": 5}});
    assert_eq!(added(GenerateContent, contents, none), 0);
}

#[test]
fn legacy_prompts_and_embeddings_are_counted_bare() {
    let tokens = |operation, body| prompt(operation, "text-embedding-3-small", &body);
    let counted = |tokens| Counted {
        tokens,
        provenance: Provenance::Counted,
    };
    assert_eq!(
        tokens(Embeddings, json!({"input": "hello world"})),
        counted(2)
    );
    assert_eq!(
        tokens(Embeddings, json!({"input": ["hello world", "hi"]})),
        counted(3)
    );
    assert_eq!(
        tokens(TextCompletion, json!({"prompt": [1, 2, 3], "suffix": "hi"})),
        counted(4)
    );
    assert_eq!(
        tokens(TextCompletion, json!({"prompt": [[1, 2], [3]]})),
        counted(3)
    );
    assert_eq!(tokens(TextCompletion, json!({})), counted(0));
}

#[test]
fn responses_are_counted_by_item() {
    let body = json!({"instructions": "Be brief.", "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "go on"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "done"}]});
    let texts = o200k(&["system", "Be brief.", "user", "go on", "f", "{}", "done"]);
    let tokens = texts + 4 * 3 + 1 + 3;
    let estimated = Counted {
        tokens,
        provenance: Provenance::Estimated,
    };
    assert_eq!(prompt(Responses, "gpt-5.1", &body), estimated);
    let bare = prompt(Responses, "gpt-5.1", &json!({"input": "go on"}));
    let listed = json!({"input": [{"role": "user", "content": "go on"}]});
    assert_eq!(bare, prompt(Responses, "gpt-5.1", &listed));
}

#[test]
fn all_dialects_of_one_conversation_come_to_the_same() {
    let model = "some-model";
    let chat = json!({"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "go on"}]});
    let messages = json!({"system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "go on"}]}]});
    let gemini = json!({"system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "go on"}]}]});
    let responses = json!({"instructions": "Be brief.",
        "input": [{"type": "message", "role": "user", "content": "go on"}]});
    let expected = prompt(Chat, model, &chat);
    assert_eq!(expected.provenance, Provenance::Estimated);
    assert_eq!(prompt(Messages, model, &messages), expected);
    assert_eq!(prompt(GenerateContent, model, &gemini), expected);
    assert_eq!(prompt(Responses, model, &responses), expected);
}

#[test]
fn tokens_of_other_vocabularies_are_scaled() {
    let text = "word ".repeat(1000);
    let gpt = Counter::new(1).count_output("gpt-4o", &text);
    let claude = Counter::new(1).count_output("claude-opus-4-5", &text);
    assert_eq!(gpt.provenance, Provenance::Counted);
    assert_eq!(claude.provenance, Provenance::Estimated);
    assert_eq!(claude.tokens, (gpt.tokens * 12).div_ceil(10));
}

#[test]
fn images_sound_and_files_are_estimated() {
    let chat = |part: Value| {
        prompt(
            Chat,
            "gpt-4o",
            &json!({"messages": [{"role": "user", "content": [part]}]}),
        )
    };
    let frame = 3 + 3 + o200k(&["user"]);
    let gif = "data:image/gif;base64,R0lGODlhAAQABAAAAA==";
    let image =
        |detail| chat(json!({"type": "image_url", "image_url": {"url": gif, "detail": detail}}));
    assert_eq!(image("low").tokens, frame + 85);
    assert_eq!(image("high").tokens, frame + 85 + 4 * 170);
    assert_eq!(image("high").provenance, Provenance::Estimated);
    let remote = chat(json!({"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}));
    assert_eq!(remote.tokens, frame + 85 + 8 * 170);
    let data = "A".repeat(40_000);
    let file = chat(json!({"type": "file", "file": {"file_data": data}}));
    assert_eq!(file.tokens, frame + 30_000 / 40 + 1);
    let sound =
        chat(json!({"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}));
    assert_eq!(sound.tokens, frame + 30_000 / 1600 + 1);
    let anthropic = json!({"messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "data": "R0lGODlhAAQABAAAAA=="}},
        {"type": "tool_result", "content": [{"type": "text", "text": "go on"}]},
        {"type": "document", "source": {"type": "text", "data": "go on"}}]}]});
    let counted = prompt(Messages, "claude-opus-4-5", &anthropic);
    let text = (o200k(&["user", "go on", "go on"]) * 12).div_ceil(10);
    assert_eq!(counted.tokens, text + 6 + 37 * 37);
}

#[test]
fn payload_in_an_unknown_shape_is_not_counted_as_text() {
    let tokens = |item: Value| prompt(Responses, "gpt-4o", &json!({"input": [item]})).tokens;
    let data = "QUJDREVG".repeat(10_000);
    let url = format!("data:image/png;base64,{data}");
    let screenshot = json!({"type": "computer_screenshot", "image_url": url});
    let most = 85 + 8 * 170;
    let output = json!({"type": "computer_call_output", "call_id": "c", "output": screenshot});
    assert_eq!(tokens(output), 3 + 3 + most);
    let drawn = tokens(json!({"type": "image_generation_call", "result": data}));
    assert!((most..most + 30).contains(&drawn), "{drawn}");
    let words = "plain words ".repeat(1000);
    let plain = tokens(json!({"type": "some_new_call", "result": words}));
    assert!(plain > o200k(&[&words]), "{plain}");
}

#[test]
fn same_image_costs_each_model_its_own() {
    let counter = Counter::new(100);
    let body = json!({"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]}]});
    let tokens = |model| count_with(&counter, Chat, model, &body).tokens;
    assert_eq!(
        tokens("gpt-4o-mini") - tokens("gpt-4o"),
        2833 + 8 * 5667 - (85 + 8 * 170)
    );
}

#[test]
fn next_call_of_a_conversation_tokenises_its_new_messages_only() {
    let counter = Counter::new(1000);
    let message = |n: usize| json!({"role": "user", "content": format!("message {n} ").repeat(50)});
    let mut messages: Vec<Value> = (0..50).map(message).collect();
    let body = |messages: &[Value]| json!({"messages": messages, "tools": [{"name": "t"}]});
    let first = count_with(&counter, Chat, "gpt-4o", &body(&messages));
    let before = counter.tokenised_bytes();
    messages.push(json!({"role": "user", "content": "What now?"}));
    let second = count_with(&counter, Chat, "gpt-4o", &body(&messages));
    assert_eq!(
        counter.tokenised_bytes() - before,
        ("user".len() + "What now?".len()) as u64
    );
    assert_eq!(
        second.tokens - first.tokens,
        3 + o200k(&["user", "What now?"])
    );
    let fresh = prompt(Chat, "gpt-4o", &body(&messages));
    assert_eq!(second, fresh);
    // Another model of the same encoding and image scheme shares what is known.
    let before = counter.tokenised_bytes();
    count_with(&counter, Chat, "gpt-4.1", &body(&messages));
    assert_eq!(counter.tokenised_bytes(), before);
}

#[test]
fn quick_estimate_tokenises_nothing_and_is_on_the_safe_side() {
    let counter = Counter::new(1000);
    let prose = "The proxy estimates before it counts, and does not take long. ".repeat(40);
    let body = json!({"messages": [{"role": "user", "content": prose}]});
    let (text, facts) = facts_of(Chat, &body);
    let guess = counter.quick_estimate("gpt-4o", text.len(), &facts);
    assert_eq!(counter.tokenised_bytes(), 0);
    let known = counter
        .count_prompt(Chat, "gpt-4o", text.as_bytes(), &facts)
        .tokens;
    assert!(known <= guess && guess < known * 2, "{known} {guess}");
    // What was counted is known from then on.
    assert_eq!(counter.quick_estimate("gpt-4o", text.len(), &facts), known);
}

#[test]
fn quick_estimate_does_not_take_an_image_for_text() {
    let url = format!("data:image/png;base64,{}", "iVBORw0K".repeat(100_000));
    let body = json!({"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": url}}]}]});
    let (text, facts) = facts_of(Chat, &body);
    assert!(Counter::new(1).quick_estimate("gpt-4o", text.len(), &facts) < 2000);
}

#[test]
fn unreadable_body_is_estimated_by_its_length() {
    let counter = Counter::new(1);
    let facts = RequestFacts::default();
    let known = counter.count_prompt(Chat, "gpt-4o", &[b'x'; 3000], &facts);
    assert_eq!(
        known,
        Counted {
            tokens: 1000,
            provenance: Provenance::Estimated
        }
    );
    assert_eq!(counter.quick_estimate("gpt-4o", 3000, &facts), 1000);
}

#[test]
fn message_that_cannot_be_read_is_counted_as_the_text_it_is() {
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    for message in [deep.as_str(), r#"{"role":"user","content":"\ud800 lone"}"#] {
        let text = format!(r#"{{"messages":[{message}]}}"#);
        let facts = scan(Chat, Dialect::Chat, text.as_bytes(), SEED);
        let counter = Counter::new(1);
        let known = counter.count_prompt(Chat, "gpt-4o", text.as_bytes(), &facts);
        assert_eq!(known.provenance, Provenance::Estimated);
        assert_eq!(known.tokens, o200k(&[message]) + u64::from(PRIMING));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = proptest::sample::select(vec![
        "text",
        "image_url",
        "input_audio",
        "file",
        "tool_use",
        "tool_result",
        "function_call",
        "reasoning",
        "user",
        "json_schema",
        "object",
        "array",
        "data:;base64,xx",
    ]);
    let key = proptest::sample::select(vec![
        "type",
        "role",
        "content",
        "text",
        "parts",
        "image_url",
        "url",
        "source",
        "data",
        "file",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "parameters",
        "properties",
        "items",
        "enum",
        "anyOf",
        "input",
        "output",
        "format",
        "schema",
        "inlineData",
        "functionDeclarations",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<u8>().prop_map(Value::from),
        word.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..5).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_request_is_counted_without_panic(parts in proptest::collection::vec(any_json(), 5)) {
        let body = json!({"messages": parts[0], "input": parts[1], "contents": parts[0],
            "system": parts[2], "instructions": parts[2], "tools": parts[3], "functions": parts[3],
            "text": parts[4], "response_format": parts[4], "prompt": parts[1],
            "output_config": parts[4], "generationConfig": {"responseSchema": parts[4]}});
        let counter = Counter::new(64);
        for operation in [Chat, Embeddings, GenerateContent, Messages, Responses, TextCompletion] {
            for model in ["gpt-4o", "gpt-5.4", "claude-opus-4-8", "gpt-4"] {
                let first = count_with(&counter, operation, model, &body);
                prop_assert_eq!(count_with(&counter, operation, model, &body), first);
            }
        }
    }
}
