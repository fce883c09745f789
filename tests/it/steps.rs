//! Calls as steps of their conversation: what is new in each, what it answered, which stand around it;
//! and their headers, in which no secret is ever stored.

use serde_json::{Value, json};

use crate::harness::proxy::Setup;
use crate::harness::records::{self, Record};
use crate::harness::{Answer, Ask, Proxy, Upstream, get, json as answer, post, reply, sse};

/// Texts long enough to be nobody else's by chance.
fn text(about: &str) -> String {
    format!(
        "{about}: {}",
        "the quick brown fox jumps over the lazy dog and then some ".repeat(3)
    )
}

fn message(role: &str, about: &str) -> Value {
    json!({"role": role, "content": text(about)})
}

fn chat(messages: &[Value]) -> Ask {
    chat_in(None, messages)
}

/// A call of a conversation that its client gives a name.
fn chat_in(conversation: Option<&str>, messages: &[Value]) -> Ask {
    let body = json!({"conversation": conversation, "model": "gpt-4o-mini", "messages": messages, "tools": [
        {"type": "function", "function": {"name": "look", "parameters": {}}}]});
    post("/v1/chat/completions", body.to_string())
        .header("X-Aiops-Run", "night-1")
        .header("X-Aiops-Agent", "planner")
}

fn said(content: &str) -> Answer {
    let message = json!({"role": "assistant", "content": content});
    answer(
        json!({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
            .to_string(),
    )
}

async fn step(proxy: &Proxy, call: &str, query: &str) -> Value {
    let target = format!("/api/v1/calls/{call}/step{query}");
    let response = records::ask(proxy.app.admin_address(), &target).await;
    assert_eq!(response.status(), 200, "{}", response.text());
    response.json()
}

/// A proxy that was called with each of these histories in turn, and the ids of the calls.
async fn called(
    conversation: Option<&str>,
    histories: &[Vec<Value>],
) -> (Proxy, Upstream, Vec<String>) {
    let upstream = Upstream::answers(said("Well.")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut ids = Vec::new();
    for history in histories {
        let response = proxy.call(&chat_in(conversation, history)).await;
        ids.push(proxy.record(&response).await.text("/id").to_owned());
    }
    (proxy, upstream, ids)
}

fn pieces(message: &Value) -> &Vec<Value> {
    message["pieces"].as_array().expect("pieces")
}

/// An agent that looks with a tool in one call, and says in the next what it saw.
async fn looked() -> (Proxy, Upstream, String, String) {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":1}"}});
    let asked = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let first = answer(json!({"id": "a", "choices": [{"index": 0, "message": asked, "finish_reason": "tool_calls"}]}).to_string());
    let second = sse([
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"A \"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"cat.\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n",
    ]);
    let upstream = Upstream::answers_each([first, second]).await;
    let proxy = Proxy::to(&upstream).await;
    let mut history = vec![message("system", "rules"), message("user", "task")];
    let one = proxy.call(&chat(&history)).await.call();
    proxy.record_of(&one).await;
    history.push(asked);
    history.push(json!({"role": "tool", "tool_call_id": "c1", "content": "a cat"}));
    let two = proxy.call(&chat(&history)).await.call();
    proxy.record_of(&two).await;
    (proxy, upstream, one, two)
}

#[tokio::test]
async fn a_step_shows_what_is_new_and_pairs_results_with_the_calls_that_asked() {
    let (proxy, _upstream, one, two) = looked().await;
    let step_one = step(&proxy, &one, "").await;
    assert_eq!(step_one["sent"]["history"], "first");
    assert_eq!(step_one["sent"]["messages"].as_array().unwrap().len(), 2);
    assert_eq!(step_one["around"]["before"], Value::Null);
    assert_eq!(step_one["around"]["after"], two.as_str());
    assert_eq!(step_one["sent"]["tools"]["names"], json!(["look"]));
    let call = &pieces(&step_one["answered"]["messages"][0])[0];
    assert_eq!(
        (&call["kind"], &call["name"]),
        (&json!("tool_call"), &json!("look"))
    );
    assert_eq!(
        step_one["answered"]["finish_reasons"],
        json!(["tool_calls"])
    );

    let step_two = step(&proxy, &two, "").await;
    let sent = &step_two["sent"];
    assert_eq!(sent["history"], "grown");
    assert_eq!(
        (&sent["count"], &sent["unchanged"]["messages"]),
        (&json!(4), &json!(2))
    );
    assert!(sent["unchanged"]["bytes"].as_u64().unwrap() > 300);
    assert_eq!(sent["tools_changed"], false);
    let new = sent["messages"].as_array().unwrap();
    assert_eq!(new.len(), 2);
    assert_eq!(
        (&new[0]["is_echo"], &new[0]["index"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(
        (&new[1]["is_echo"], &new[1]["role"]),
        (&json!(false), &json!("tool"))
    );
    let result = &pieces(&new[1])[0];
    assert_eq!(result["text"], "a cat");
    assert_eq!(
        (&result["name"], &result["asked"]["text"]),
        (&json!("look"), &json!("{\"at\":1}"))
    );
    assert_eq!(step_two["around"]["before"], one.as_str());
    assert_eq!(step_two["around"]["before_in_run"], one.as_str());
    assert_eq!(
        pieces(&step_two["answered"]["messages"][0])[0]["text"],
        "A cat."
    );
}

#[tokio::test]
async fn a_step_shows_the_whole_history_or_one_message_when_asked_to() {
    let (proxy, _upstream, _, two) = looked().await;
    let full = step(&proxy, &two, "?full=true&preview=10").await;
    let all = full["sent"]["messages"].as_array().unwrap();
    let new: Vec<_> = all
        .iter()
        .map(|it| it["is_new"].as_bool().unwrap())
        .collect();
    assert_eq!(new, [false, false, true, true]);
    let rules = &pieces(&all[0])[0];
    assert_eq!(
        (&rules["text"], &rules["is_cut"]),
        (&json!("rules: the"), &json!(true))
    );
    assert_eq!(rules["len"].as_u64().unwrap(), text("rules").len() as u64);
    let only = step(&proxy, &two, "?message=1&preview=100000").await;
    assert_eq!(only["sent"]["messages"].as_array().unwrap().len(), 1);
    assert_eq!(
        pieces(&only["sent"]["messages"][0])[0]["text"],
        text("task").as_str()
    );
}

#[tokio::test]
async fn a_cut_and_a_rewritten_history_are_said_to_be_so() {
    let [rules, other_rules] = ["rules", "other rules"].map(|about| message("system", about));
    let [one, two, three, four] =
        ["one", "two", "three", "four"].map(|about| message("user", about));
    let answered = json!({"role": "assistant", "content": "Well."});
    let histories = [
        vec![rules.clone(), one.clone(), answered.clone(), two.clone()],
        vec![rules.clone(), two.clone(), answered.clone(), three.clone()],
        vec![other_rules, two, answered.clone(), three, answered, four],
    ];
    let (proxy, _upstream, ids) = called(Some("thread-1"), &histories).await;
    let cut = step(&proxy, &ids[1], "").await;
    let sent = &cut["sent"];
    assert_eq!(cut["around"]["before"], ids[0].as_str());
    assert_eq!(sent["history"], "rewritten", "the answer stands elsewhere");
    let rewritten = step(&proxy, &ids[2], "").await;
    let sent = &rewritten["sent"];
    assert_eq!(rewritten["around"]["before"], ids[1].as_str());
    assert_eq!(
        (&sent["history"], &sent["changed_at"]),
        (&json!("rewritten"), &json!(0))
    );
    assert_eq!(sent["dropped_count"], 1);
    assert_eq!(
        pieces(&sent["dropped"][0])[0]["text"],
        text("rules").as_str()
    );
    let new: Vec<_> = sent["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["index"].as_u64().unwrap())
        .collect();
    assert_eq!(new, [0, 4, 5]);
}

#[tokio::test]
async fn a_cut_history_goes_on_from_its_own_conversation_though_another_is_repeated_whole() {
    let begin = [message("system", "rules"), message("user", "task")];
    let turns: Vec<_> = (0..8)
        .map(|n| message(["assistant", "user"][n % 2], &format!("turn {n}")))
        .collect();
    let before = [&begin[..], &turns[..6]].concat();
    let cut = [&begin[..], &turns[2..]].concat();
    let upstream = Upstream::answers(said("Well.")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut ids = Vec::new();
    for (conversation, history) in [
        ("thread-1", &before[..]),
        ("thread-2", &begin[..]),
        ("thread-1", &cut[..]),
    ] {
        let response = proxy.call(&chat_in(Some(conversation), history)).await;
        ids.push(proxy.record(&response).await.text("/id").to_owned());
    }
    let step = step(&proxy, &ids[2], "").await;
    assert_eq!(step["around"]["before"], ids[0].as_str());
    assert_eq!(step["sent"]["history"], "cut");
    assert_eq!(step["sent"]["unchanged"]["messages"], 6);
}

#[tokio::test]
async fn what_was_left_out_of_a_history_is_counted() {
    let rules = message("system", "rules");
    let said: Vec<_> = (0..8)
        .map(|n| message(["user", "assistant"][n % 2], &format!("turn {n}")))
        .collect();
    let before = [std::slice::from_ref(&rules), &said[..7]].concat();
    let now = [std::slice::from_ref(&rules), &said[4..8]].concat();
    let (proxy, _upstream, ids) = called(Some("thread-1"), &[before, now]).await;
    let sent = &step(&proxy, &ids[1], "").await["sent"];
    assert_eq!(
        (&sent["history"], &sent["changed_at"]),
        (&json!("cut"), &json!(1))
    );
    assert_eq!(
        (&sent["dropped_count"], &sent["unchanged"]["messages"]),
        (&json!(4), &json!(4))
    );
    assert_eq!(sent["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn parallel_calls_of_one_conversation_go_on_from_the_same_call() {
    let base = vec![message("system", "rules"), message("user", "task")];
    let with = |about| {
        let mut history = base.clone();
        history.push(json!({"role": "assistant", "content": "Well."}));
        history.push(message("user", about));
        history
    };
    let (left, right) = (with("left"), with("right"));
    let (proxy, _upstream, ids) = called(None, &[base, left.clone(), right, left]).await;
    for id in &ids[1..3] {
        let step = step(&proxy, id, "").await;
        assert_eq!(step["around"]["before"], ids[0].as_str());
        assert_eq!(step["sent"]["history"], "grown");
    }
    let again = step(&proxy, &ids[3], "").await;
    assert_eq!(again["around"]["before"], ids[1].as_str());
    assert_eq!(again["sent"]["history"], "repeated");
    assert_eq!(again["sent"]["messages"], json!([]));
}

#[tokio::test]
async fn a_response_that_goes_on_from_another_is_paired_with_it() {
    let call = json!({"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"});
    let first = answer(
        json!({"id": "resp_1", "object": "response", "status": "completed", "output": [call]})
            .to_string(),
    );
    let second = answer(r#"{"id":"resp_2","object":"response","status":"completed","output":[]}"#);
    let upstream = Upstream::answers_each([first, second]).await;
    let proxy = Proxy::to(&upstream).await;
    let ask = |body: Value| post("/v1/responses", body.to_string());
    let one = proxy
        .call(&ask(json!({"model": "gpt-5", "input": text("task")})))
        .await
        .call();
    proxy.record_of(&one).await;
    let input = json!([{"type": "function_call_output", "call_id": "c1", "output": "a cat"}]);
    let two = json!({"model": "gpt-5", "previous_response_id": "resp_1", "input": input});
    let two = proxy.call(&ask(two)).await.call();
    proxy.record_of(&two).await;
    let step = step(&proxy, &two, "").await;
    assert_eq!(step["sent"]["history"], "continued");
    assert_eq!(step["around"]["before"], one.as_str());
    let result = &pieces(&step["sent"]["messages"][0])[0];
    assert_eq!(
        (&result["text"], &result["name"]),
        (&json!("a cat"), &json!("look"))
    );
}

#[tokio::test]
async fn where_nothing_is_recorded_it_is_said_why() {
    let upstream = Upstream::answers(said("Well.")).await;
    let history = [message("user", "task")];
    let missing = async |setup: Setup, ask: Ask| {
        let proxy = setup.start().await;
        let call = proxy.call(&ask).await.call();
        proxy.record_of(&call).await;
        let step = step(&proxy, &call, "").await;
        let reason = |side: &str| {
            step[side]["missing"]["reason"]
                .as_str()
                .unwrap_or("none")
                .to_owned()
        };
        assert_eq!(step["sent"]["messages"].as_array().unwrap().len(), 0);
        (
            reason("sent"),
            reason("answered"),
            step["sent"]["missing"]["detail"].to_string(),
        )
    };
    let (sent, answered, why) = missing(
        Proxy::with(&upstream).ledger_lines("record = \"meta\""),
        chat(&history),
    )
    .await;
    assert_eq!((sent.as_str(), answered.as_str()), ("config", "config"));
    assert!(why.contains("record") && why.contains("meta"), "{why}");
    let ask = chat(&history).header("X-Aiops-Record", "none");
    let (sent, answered, why) = missing(Proxy::with(&upstream), ask).await;
    assert_eq!((sent.as_str(), answered.as_str()), ("client", "client"));
    assert!(why.contains("x-aiops-record: none"), "{why}");
    let (sent, answered, _) = missing(Proxy::with(&upstream), get("/v1/models")).await;
    assert_eq!((sent.as_str(), answered.as_str()), ("empty", "none"));
}

#[tokio::test]
async fn a_body_that_was_cut_short_shows_its_front_and_says_so() {
    let upstream = Upstream::answers(said("Well.")).await;
    let proxy = Proxy::with(&upstream)
        .ledger_lines("max_body = 400")
        .start()
        .await;
    let history: Vec<_> = (0..5)
        .map(|n| message("user", &format!("turn {n}")))
        .collect();
    let body = json!({"messages": history, "model": "gpt-4o-mini"});
    let call = proxy
        .call(&post("/v1/chat/completions", body.to_string()))
        .await
        .call();
    proxy.record_of(&call).await;
    let sent = &step(&proxy, &call, "").await["sent"];
    assert_eq!(sent["missing"]["reason"], "truncated");
    assert_eq!(sent["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn many_calls_are_previewed_in_a_few_words() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":  1}"}});
    let asked = json!({"role": "assistant", "content": "Let me\n see.", "tool_calls": [call]});
    let upstream = Upstream::answers(answer(
        json!({"choices": [{"index": 0, "message": asked}]}).to_string(),
    ))
    .await;
    let proxy = Proxy::to(&upstream).await;
    let history = [
        message("system", "rules"),
        json!({"role": "user", "content": "Find  the\tpaper"}),
    ];
    let call = proxy.call(&chat(&history)).await.call();
    proxy.record_of(&call).await;
    let target =
        format!("/api/v1/previews?calls={call},00000000-0000-7000-8000-000000000000&chars=10");
    let response = records::ask(proxy.app.admin_address(), &target).await;
    let previews = &response.json()["previews"];
    assert_eq!(previews.as_array().unwrap().len(), 1);
    assert_eq!(previews[0]["sent"]["text"], "Find the p");
    assert_eq!(previews[0]["sent"]["is_cut"], true);
    assert_eq!(previews[0]["answered"]["text"], "Let me see");
    assert_eq!(previews[0]["calls"], json!(["look({\"at\": 1})"]));
    let bad = records::ask(proxy.app.admin_address(), "/api/v1/previews?calls=one").await;
    assert_eq!(bad.status(), 400);
}

// === headers ===

/// Names under which secrets travel, some of which only we thought of.
const SECRET_NAMES: [&str; 30] = [
    "Authorization",
    "Cookie",
    "X-Api-Key",
    "Api-Key",
    "X-Goog-Api-Key",
    "Helicone-Auth",
    "X-Portkey-Api-Key",
    "X-Bf-Vk",
    "X-Litellm-Api-Key",
    "X-Auth-Token",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Client-Secret",
    "X-Password",
    "X-Session-Token",
    "X-Csrf-Token",
    "X-Vault-Token",
    "Ocp-Apim-Subscription-Key",
    "X-My-Secret",
    "X-My-Key-Id",
    "X-Jwt-Assertion",
    "X-Credential",
    "X-Access-Code",
    "X-Pin",
    "X-Internal",
    "Cf-Access-Jwt",
    "X-Forwarded-Client-Cert",
    "X-Hub-Signature",
    "X-Shibboleth",
    "X-Odd-One",
];

fn secret(n: usize) -> String {
    format!("s3cr3t-{n:02}-0123456789abcdef")
}

/// Every byte of every file below a directory.
fn everything(dir: &std::path::Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        bytes.extend(if path.is_dir() {
            everything(&path)
        } else {
            std::fs::read(&path).unwrap()
        });
    }
    bytes
}

fn header<'r>(record: &'r Record, side: &str, name: &str) -> &'r Value {
    let headers = record.get(&format!("/{side}_headers/headers"));
    let headers = headers
        .as_array()
        .unwrap_or_else(|| panic!("no {side} headers: {}", record.value));
    let found = headers.iter().find(|header| header["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {headers:?}"))
}

#[tokio::test]
async fn no_secret_of_a_header_reaches_a_file_of_the_ledger() {
    let mut head = reply(200)
        .header("set-cookie", secret(90))
        .header("x-new-token", secret(91));
    head = head.header("x-odd-answer", secret(92));
    let upstream =
        Upstream::answers(head.header("content-type", "application/json").body("{}")).await;
    let proxy = Proxy::with(&upstream)
        .ledger_lines("show_headers = [\"x-my-*\"]")
        .start()
        .await;
    let mut ask = chat(&[message("user", "task")]).header("X-My-Team", "blue");
    for (n, name) in SECRET_NAMES.iter().enumerate() {
        let scheme = if *name == "Authorization" {
            "Bearer "
        } else {
            ""
        };
        ask = ask.header(name, format!("{scheme}{}", secret(n)));
    }
    ask = ask.header(
        "Referer",
        format!("https://ann:{}@host/page?code={}", secret(93), secret(94)),
    );
    let response = proxy.call(&ask).await;
    let record = proxy.record(&response).await;
    assert_eq!(header(&record, "request", "x-my-team")["value"], "blue");
    assert_eq!(
        header(&record, "request", "referer")["value"],
        "https://host/page"
    );
    assert_eq!(
        header(&record, "response", "content-type")["value"],
        "application/json"
    );
    let hidden = header(&record, "request", "x-odd-one");
    assert_eq!(
        (&hidden["value"], &hidden["len"]),
        (&Value::Null, &json!(26))
    );
    assert_eq!(hidden["fingerprint"].as_str().unwrap().len(), 4);
    assert_eq!(
        header(&record, "response", "set-cookie")["value"],
        Value::Null
    );
    proxy.app.ledger().sync_index();
    let files = everything(proxy.dir.path());
    let is_there = |text: &str| {
        files
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(
        is_there("x-odd-one") && is_there("blue"),
        "the headers are recorded"
    );
    assert!(!is_there("s3cr3t"), "no secret is");
}

#[tokio::test]
async fn headers_are_recorded_as_far_as_the_call_is() {
    let upstream = Upstream::answers(said("Well.")).await;
    let proxy = Proxy::to(&upstream).await;
    let ask = chat(&[message("user", "task")]);
    let meta = proxy
        .call(&ask.clone().header("X-Aiops-Record", "meta"))
        .await;
    let meta = proxy.record(&meta).await;
    assert_eq!(header(&meta, "request", "x-aiops-record")["value"], "meta");
    assert_eq!(
        meta.get("/kept"),
        &json!({"level": "meta", "by_client": true})
    );
    let none = proxy.call(&ask.header("X-Aiops-Record", "none")).await;
    let none = proxy.record(&none).await;
    assert_eq!(none.get("/request_headers"), &Value::Null);
    assert_eq!(none.get("/response_headers"), &Value::Null);
}
