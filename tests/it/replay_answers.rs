//! Answers of all kinds, given once more: streams of other APIs, those that broke off, those that the
//! proxy gave itself, and those of which something is hidden.

use serde_json::{Value, json};

use crate::harness::answer::reply;
use crate::harness::ask::{Ask, post};
use crate::harness::launch::ended;
use crate::harness::proxy::Proxy;
use crate::harness::{Upstream, sse};
use crate::replay::{Serving, chat, command, plain, recorded, taped};

fn of_run(ask: Ask) -> Ask {
    ask.header("x-aiops-run", "taped")
}

const MESSAGES: [&str; 4] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"c\",\"content\":[],\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];
const RESPONSES: [&str; 3] = [
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r1\",\"status\":\"in_progress\"}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r1\",\"status\":\"completed\",\"usage\":{\"input_tokens\":9,\"output_tokens\":2,\"total_tokens\":11}}}\n\n",
];

#[tokio::test]
async fn streams_of_other_apis_come_again_byte_for_byte() {
    let messages = json!({"model": "c", "max_tokens": 9, "stream": true,
        "messages": [{"role": "user", "content": "hi"}]});
    let responses = json!({"model": "m", "stream": true, "input": "hi"});
    let asks = [
        of_run(post("/v1/messages", messages.to_string())),
        of_run(post("/v1/responses", responses.to_string())),
    ];
    let upstream = Upstream::answers_each([sse(MESSAGES), sse(RESPONSES)]).await;
    let (live, setup) = recorded(Proxy::with(&upstream), &asks).await;
    drop(upstream);
    assert_eq!(live[0].body.data, MESSAGES.concat().as_bytes());
    let serving = Serving::start(&setup, &["--speed", "10"]).await;
    for (ask, live) in asks.iter().zip(&live) {
        let again = serving.call(ask).await;
        assert_eq!(again.body.data, live.body.data);
        assert_eq!(again.head.header("content-type"), Some("text/event-stream"));
        assert!(!again.cut);
    }
    assert_eq!(serving.end().await.code, Some(0));
}

#[tokio::test]
async fn answer_that_broke_off_breaks_off_after_the_same_bytes() {
    let broken = reply(200)
        .header("content-type", "text/event-stream")
        .header("transfer-encoding", "chunked")
        .bare()
        .then_writes("20\r\ndata: {\"choices\":[{\"index\":0}]}\n\r\n")
        .then_writes("6\r\n\ndata:\r\n")
        .then_closes();
    let upstream = Upstream::answers(broken).await;
    // A stream of an API that is passed on as it comes, so that what is held back is no matter.
    let ask = of_run(post(
        "/v1/responses",
        r#"{"model":"m","stream":true,"input":"hi"}"#,
    ));
    let asks = [ask];
    let (live, setup) = recorded(Proxy::with(&upstream), &asks).await;
    assert!(live[0].cut && !live[0].body.data.is_empty());
    for speed in ["max", "1"] {
        let serving = Serving::start(&setup, &["--speed", speed]).await;
        let again = serving.call(&asks[0]).await;
        assert!(again.cut, "{speed}");
        assert_eq!(again.head.status(), 200);
        assert_eq!(again.body.data, live[0].body.data, "{speed}");
        serving.end().await;
    }
}

#[tokio::test]
async fn answer_that_broke_off_before_its_body_is_played_once() {
    let nothing = reply(200)
        .header("content-length", "5")
        .bare()
        .then_closes();
    let upstream = Upstream::answers_each([nothing, plain("second")]).await;
    let asks = [chat(&["one"], false), chat(&["one"], false)];
    let (live, setup) = recorded(Proxy::with(&upstream), &asks).await;
    assert!(live[0].cut && live[0].body.data.is_empty());
    drop(upstream);
    let serving = Serving::start(&setup, &[]).await;
    assert!(serving.call(&asks[0]).await.cut);
    assert_eq!(serving.call(&asks[1]).await.text(), live[1].text());
    serving.end().await;
}

#[tokio::test]
async fn answer_of_the_proxy_itself_is_not_played_as_one_of_the_upstream() {
    let upstream = Upstream::answers(plain("first")).await;
    let setup = Proxy::with(&upstream);
    drop(upstream);
    let (live, setup) = recorded(setup, &[chat(&["one"], false)]).await;
    assert_eq!(live[0].head.status(), 502);
    let listed = ended(command(setup.dir.path(), &["replay", "taped"])).await;
    assert!(
        listed.out.contains("no: no upstream answered it: "),
        "{}",
        listed.out
    );
    let served = ended(command(setup.dir.path(), &["replay", "taped", "--serve"])).await;
    assert_eq!(served.code, Some(2), "{}", served.err);
}

#[tokio::test]
async fn what_redaction_hid_makes_no_difference_and_is_not_told() {
    let answers = [plain("the secret is S-1234 indeed"), plain("second")];
    let upstream = Upstream::answers_each(answers).await;
    let rule = "[[ledger.redact]]\npattern = \"S-[0-9]+\"\nreplace = \"[hidden]\"";
    let setup = Proxy::with(&upstream).sections(rule);
    let asks = [chat(&["my secret is S-99"], false), chat(&["bye"], false)];
    let (_, setup) = recorded(setup, &asks).await;
    let serving = Serving::start(&setup, &["--speed", "max"]).await;
    let again = serving.call(&chat(&["my secret is S-99"], false)).await;
    let told = String::from_utf8_lossy(&again.body.data).into_owned();
    assert!(told.contains("the secret is [hidden] indeed"), "{told}");
    let other = serving
        .call(&chat(&["another secret is S-98"], false))
        .await;
    assert_eq!(other.head.status(), 409);
    let done = serving.end().await;
    let refused = String::from_utf8_lossy(&other.body.data).into_owned();
    for text in [&refused, &done.err, &done.out] {
        assert!(text.contains("[hidden]") && !text.contains("S-9"), "{text}");
    }
}

#[tokio::test]
async fn what_a_model_said_does_not_steer_the_terminal() {
    let (_, setup, _upstream) = taped().await;
    let serving = Serving::start(&setup, &["--speed", "max"]).await;
    serving.call(&chat(&["one \u{1b}[2J"], false)).await;
    let done = serving.end().await;
    assert_eq!(done.code, Some(77));
    for text in [&done.err, &done.out] {
        assert!(text.contains("[2J") && !text.contains('\u{1b}'), "{text:?}");
    }
}

#[tokio::test]
async fn program_may_run_again_while_a_replay_is_served() {
    let (live, setup, _upstream) = taped().await;
    let serving = Serving::start(&setup, &["--speed", "max"]).await;
    for _ in 0..2 {
        let again = serving.call(&chat(&["one"], false)).await;
        assert_eq!(again.body.data, live[0].body.data);
    }
    let done = serving.end().await;
    assert_eq!(done.code, Some(0));
    assert!(done.out.contains("1 played again"), "{}", done.out);
}

#[tokio::test]
async fn refusal_is_an_error_of_the_api_that_was_asked() {
    let (_, setup, _upstream) = taped().await;
    let serving = Serving::start(&setup, &[]).await;
    let body =
        json!({"model": "c", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    let refused = serving.call(&post("/v1/messages", body.to_string())).await;
    assert_eq!(refused.head.status(), 409);
    let error: Value = serde_json::from_slice(&refused.body.data).unwrap();
    assert_eq!(error["type"], "error");
    serving.end().await;
}
