use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;
use crate::core::id::CallId;
use crate::core::replay::{Deck, Departure, Difference};
use crate::replay::tape::{Call, Tape};

fn post(path: &str, body: &Value) -> Request {
    Request {
        method: Method::POST,
        path: path.to_owned(),
        agent: None,
        encoding: None,
        query: String::new(),
        body: body.to_string().into(),
    }
}

fn chat(messages: &Value) -> Request {
    post(
        "/v1/chat/completions",
        &json!({"model": "m", "messages": messages}),
    )
}

fn call(id: &str, city: &str, at: &str) -> Request {
    chat(&json!([
        {"role": "user", "content": format!("It is {at}. Weather?")},
        {"role": "assistant", "tool_calls": [{"id": id, "type": "function",
            "function": {"name": "weather", "arguments": format!("{{\"city\":\"{city}\"}}")}}]},
        {"role": "tool", "tool_call_id": id, "content": "rain, 7 degrees"},
    ]))
}

fn deck<'a>(recorded: impl IntoIterator<Item = &'a Request>) -> Deck {
    Deck::new(all(recorded), |_| None)
}

fn departs<'a>(recorded: impl IntoIterator<Item = &'a Request>, now: &Request) -> Departure {
    deck(recorded).take(&now.asked()).unwrap_err()
}

fn tape(requests: Vec<Request>) -> Tape {
    let calls = requests.into_iter().map(|request| Call {
        id: CallId::from_bytes([7; 16]),
        agent: Label::parse("planner").unwrap(),
        model: None,
        request,
        reply: Err("it is long".to_owned()),
    });
    Tape {
        run: Label::parse("nightly").unwrap(),
        calls: calls.collect(),
    }
}

/// What is told behind the words that say where.
fn told_of(recorded: Request, now: &Request) -> String {
    let departure = departs([&recorded], now);
    let told = told(&tape(vec![recorded]), &departure, now);
    let (place, what) = told
        .split_once("planner): ")
        .unwrap_or_else(|| panic!("{told}"));
    assert!(
        place.starts_with("the program departs from run nightly at call 1 of 1 ("),
        "{told}"
    );
    what.to_owned()
}

#[test]
fn ids_and_times_are_passed_over_and_numbers_are_not() {
    let recorded = call("call_1", "Rome", "2026-11-30T06:12:34Z");
    let again = call("call_2", "Rome", "2027-01-02T10:00:00Z");
    assert_ne!(recorded.asked(), again.asked());
    let mut deck = deck([&recorded]);
    assert_eq!(deck.take(&again.asked()), Ok(0));
    assert_eq!(deck.changed(), 1);
    let text = String::from_utf8(recorded.body.to_vec()).unwrap();
    let colder = Request {
        body: text.replace("7 degrees", "8 degrees").into(),
        ..recorded.clone()
    };
    assert_eq!(
        departs([&recorded], &colder).difference,
        Difference::Message(2)
    );
}

#[test]
fn tools_are_the_same_however_they_are_written() {
    let offers = |tools: &str| Request {
        body: format!("{{\"model\":\"m\",\"messages\":[\"hi\"],\"tools\":[{tools}]}}").into(),
        ..chat(&json!([]))
    };
    let recorded = offers("{\"name\":\"a\",\"strict\":true}");
    let spaced = offers("{ \"strict\": true, \"name\": \"a\" }");
    let other = offers("{\"name\":\"b\"}");
    assert_eq!(deck([&recorded]).take(&spaced.asked()), Ok(0));
    let told = told_of(recorded, &other);
    assert!(
        told.starts_with("other tools\n  - ") && told.contains("\"b\""),
        "{told}"
    );
}

#[test]
fn difference_is_shown_with_what_stands_before_it() {
    let recorded = call("call_1", "Rome", "2026-11-30T06:12:34Z");
    let now = call("call_1", "Oslo", "2026-11-30T06:12:34Z");
    assert_eq!(
        told_of(recorded, &now),
        "message 2 differs\n  - assistant: weather({\"city\":\"Rome\"})\n  \
         + assistant: weather({\"city\":\"Oslo\"})"
    );
}

#[test]
fn form_of_the_answer_counts() {
    let asks = |more: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        post("/v1/chat/completions", &body)
    };
    let schema = |name: &str| json!({"response_format": {"type": "json_schema", "json_schema": {"name": name}}});
    let plain = asks(json!({}));
    let forms = [
        plain.clone(),
        asks(json!({"stream": true})),
        asks(json!({"n": 3})),
        asks(schema("city")),
        asks(schema("country")),
    ];
    let mut both = deck(&forms);
    for (at, form) in forms.iter().enumerate().rev() {
        assert_eq!(both.take(&form.asked()), Ok(at));
    }
    for form in &forms[1..] {
        assert_eq!(departs([&plain], form).difference, Difference::Form);
    }
    // Where no call with it is left, other parameters do not count.
    let warm = asks(json!({"temperature": 1.5}));
    assert_eq!(deck([&plain, &warm]).take(&warm.asked()), Ok(1));
    assert_eq!(deck([&plain]).take(&warm.asked()), Ok(0));
    let told = told_of(plain, &forms[1]);
    assert_eq!(
        told,
        "another form of answer\n  - stream false\n  + stream true"
    );
}

#[test]
fn embeddings_of_other_sizes_and_endpoints_of_other_names_are_not_the_same() {
    let embed = |more: &str| Request {
        body: format!("{{\"model\":\"m\",\"input\":\"hi\"{more}}}").into(),
        ..post("/v1/embeddings", &json!(null))
    };
    let (whole, short) = (embed(""), embed(",\"dimensions\":8"));
    assert_eq!(departs([&whole], &short).difference, Difference::Form);
    let base64 = embed(",\"encoding_format\":\"base64\"");
    assert_eq!(departs([&whole], &base64).difference, Difference::Form);
    let gemini = |verb: &str| {
        let body = json!({"contents": [{"parts": [{"text": "hi"}]}]});
        post(&format!("/v1beta/models/gemini-2.5-pro:{verb}"), &body)
    };
    let (plain, stream) = (gemini("generateContent"), gemini("streamGenerateContent"));
    assert_eq!(departs([&plain], &stream).difference, Difference::Endpoint);
    let fetch = |id: &str| Request {
        method: Method::GET,
        ..post(&format!("/v1/responses/{id}"), &json!(null))
    };
    assert_eq!(
        departs([&fetch("a")], &fetch("b")).difference,
        Difference::Endpoint
    );
}

#[test]
fn stored_prompts_and_queries_are_part_of_what_is_asked() {
    let stored = |city: &str| {
        let prompt = json!({"id": "pmpt_1", "variables": {"city": city}});
        post(
            "/v1/responses",
            &json!({"model": "m", "prompt": prompt, "input": "Go"}),
        )
    };
    let (oslo, rome) = (stored("Oslo"), stored("Rome"));
    assert_eq!(departs([&oslo], &rome).difference, Difference::Form);
    let list = |text: &str| Request {
        method: Method::GET,
        query: query(Some(text)),
        ..post("/v1/responses/r/input_items", &json!(null))
    };
    let first = list("after=a&limit=9&key=one");
    assert_eq!(
        departs([&first], &list("after=b&limit=9")).difference,
        Difference::Form
    );
    let again = list("limit=9&key=other&after=a");
    assert_eq!(deck([&first]).take(&again.asked()), Ok(0));
}

#[test]
fn responses_are_told_apart_by_what_they_go_on_with() {
    let asks = |previous: &str| {
        let body = json!({"model": "m", "input": "continue", "previous_response_id": previous});
        post("/v1/responses", &body)
    };
    let (first, second) = (asks("resp_1"), asks("resp_2"));
    let mut both = deck([&first, &second]);
    assert_eq!(both.take(&second.asked()), Ok(1));
    assert_eq!(both.take(&first.asked()), Ok(0));
    let told = told_of(
        first,
        &post("/v1/responses", &json!({"model": "m", "input": "continue"})),
    );
    assert!(told.starts_with("it goes on with another answer"), "{told}");
}

fn zipped(request: &Request, level: Compression) -> Request {
    let mut zip = GzEncoder::new(Vec::new(), level);
    zip.write_all(&request.body).unwrap();
    Request {
        encoding: Some("gzip".to_owned()),
        body: zip.finish().unwrap().into(),
        ..request.clone()
    }
}

#[test]
fn compressed_requests_are_compared_by_what_they_say() {
    let rome = call("call_1", "Rome", "2026-11-30T06:12:34Z");
    let recorded = zipped(&rome, Compression::best());
    let other_way = zipped(&rome, Compression::none());
    for now in [&recorded, &other_way, &rome] {
        assert_eq!(deck([&recorded]).take(&now.asked()), Ok(0));
    }
    let oslo = zipped(
        &call("call_1", "Oslo", "2026-11-30T06:12:34Z"),
        Compression::fast(),
    );
    let told = told_of(recorded, &oslo);
    assert!(
        told.contains("+ assistant: weather({\"city\":\"Oslo\"})"),
        "{told}"
    );
}

#[test]
fn boundary_of_a_form_does_not_count_and_its_parts_do() {
    let upload = |boundary: &str, words: &str| Request {
        body: format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n{words}\r\n\
             --{boundary}--\r\n"
        )
        .into(),
        ..post("/v1/audio/transcriptions", &json!(null))
    };
    let recorded = upload("1a2b3c", "sound");
    assert_eq!(
        deck([&recorded]).take(&upload("ffff", "sound").asked()),
        Ok(0)
    );
    assert!(
        deck([&recorded])
            .take(&upload("ffff", "noise").asked())
            .is_err()
    );
}

#[test]
fn what_has_no_counterpart_is_told_with_what_it_asks() {
    let says = |texts: &[&str]| {
        let messages = texts
            .iter()
            .map(|text| json!({"role": "user", "content": text}));
        chat(&messages.collect())
    };
    let recorded = says(&["one"]);
    let tape = tape(vec![recorded.clone()]);
    let mut deck = deck([&recorded]);
    deck.take(&recorded.asked()).unwrap();
    for (now, says, shows) in [
        (
            recorded.clone(),
            "planner) was played already",
            "+ POST /v1/chat/completions, model m\n    user: one",
        ),
        (says(&["one", "two"]), "after call 1 of 1 (", "user: two"),
        (
            says(&["other"]),
            "at its end: no call is left",
            "user: other",
        ),
    ] {
        let departure = deck.take(&now.asked()).unwrap_err();
        let told = told(&tape, &departure, &now);
        assert!(told.contains(says) && told.contains(shows), "{told}");
    }
}

#[test]
fn call_that_cannot_be_played_is_told_with_its_reason() {
    let recorded = chat(&json!(["hi"]));
    let tape = tape(vec![recorded.clone()]);
    let why_not = |at: usize| tape.calls[at].reply.clone().err();
    let mut deck = Deck::new(all([&recorded]), why_not);
    let departure = deck.take(&recorded.asked()).unwrap_err();
    let told = told(&tape, &departure, &recorded);
    assert!(told.starts_with("call 1 of 1 ("), "{told}");
    assert!(
        told.ends_with("of run nightly is on record, but cannot be played: it is long"),
        "{told}"
    );
}

#[test]
fn other_id_is_shown_where_every_byte_has_to_be_the_same() {
    let recorded = call("call_1", "Rome", "2026-11-30T06:12:34Z");
    let now = call("call_2", "Rome", "2026-11-30T06:12:34Z");
    let mut strict = deck([&recorded]).strict(true);
    let departure = strict.take(&now.asked()).unwrap_err();
    assert_eq!(departure.difference, Difference::Message(1));
    let told = told(&tape(vec![recorded]), &departure, &now);
    assert!(told.contains("call_1") && told.contains("call_2"), "{told}");
}
