//! Budgets and what is not text: images, files, sound, tools that the upstream runs, tunnels. What
//! such calls use cannot be read off them, and they must not be free for that.

use open_aiops::core::budget::{Control, Measure};
use serde_json::{Value, json as object};

use crate::harness::accounts::{
    chat, check_idle, label, pending, running, settled, standing, used, waiting,
};
use crate::harness::http::{Body, Framing};
use crate::harness::{Answer, Ask, Proxy, Response, Upstream, get, json, post, reply, within};

fn budget(limits: &str) -> String {
    format!("[[budget]]\nname = \"all\"\n{limits}\n")
}

fn image(n: u32) -> Ask {
    let body = object!({"model": "gpt-image-1.5", "prompt": "a red kite", "n": n});
    post("/v1/images/generations", body.to_string())
}

fn made(output: u64) -> Answer {
    let usage = object!({"input_tokens": 20, "output_tokens": output, "total_tokens": 20 + output});
    json(object!({"created": 1, "data": [{"b64_json": "AA=="}], "usage": usage}).to_string())
}

#[track_caller]
fn check_refused(response: &Response) -> String {
    assert_eq!(response.status(), 429, "{}", response.text());
    let error = &response.json()["error"]["message"];
    error.as_str().unwrap().to_owned()
}

async fn used_of(proxy: &Proxy, measure: Measure) -> i64 {
    let rows = settled(proxy).await;
    check_idle(&rows);
    standing(&rows[0], measure).0
}

#[tokio::test]
async fn images_hold_what_they_may_take_and_are_charged_what_they_took() {
    let upstream = Upstream::answers(made(4_000)).await;
    let setup = Proxy::with(&upstream).sections(&budget("tokens = 30_000"));
    let proxy = setup.start().await;
    let message = check_refused(&proxy.call(&image(4)).await);
    assert!(message.contains("more than there is in all"), "{message}");
    for _ in 0..5 {
        assert_eq!(proxy.call(&image(1)).await.status(), 200);
        within("the end", proxy.app.settled()).await;
    }
    assert_eq!(used_of(&proxy, Measure::Tokens).await, 5 * 4_020);
    let seventh = proxy.call(&image(2)).await;
    assert!(check_refused(&seventh).contains("20100 of 30000 tokens"));
}

#[tokio::test]
async fn another_agent_does_not_find_a_spent_budget_open() {
    let upstream = Upstream::answers(made(4_000)).await;
    let setup = Proxy::with(&upstream).sections(&budget("usd = 0.40"));
    let proxy = setup.start().await;
    let mut statuses = Vec::new();
    for number in 0..6 {
        let painter = image(1).header("x-aiops-agent", format!("painter-{number}"));
        statuses.push(proxy.call(&painter).await.status());
        within("the end", proxy.app.settled()).await;
    }
    // 13 cents each, and the largest image would cost 26.
    assert_eq!(statuses, [200, 200, 429, 429, 429, 429]);
    assert_eq!(used_of(&proxy, Measure::Usd).await, 2 * 128_100_000);
}

#[tokio::test]
async fn speech_costs_what_its_text_does() {
    let upstream = Upstream::answers(reply(200).body("sound")).await;
    let setup = Proxy::with(&upstream).sections(&budget("usd = 0.001"));
    let proxy = setup.start().await;
    let speak = |text: &str| {
        let body = object!({"model": "tts-1", "voice": "alloy", "input": text});
        post("/v1/audio/speech", body.to_string())
    };
    let response = proxy
        .call(&speak("f\u{fc}nf W\u{f6}rter in einem Satz"))
        .await;
    let record = proxy.record(&response).await;
    // 25 characters, at 15 dollars a million.
    assert_eq!(record.number("/usage/input_characters"), 25);
    assert_eq!(record.number("/cost_nano_usd"), 25 * 15_000);
    assert_eq!(used_of(&proxy, Measure::Usd).await, 25 * 15_000);
    let refused = proxy.call(&speak(&"long ".repeat(20))).await;
    assert!(check_refused(&refused).contains("$0.000375 of $0.001"));
}

#[tokio::test]
async fn what_nobody_can_tell_afterwards_is_charged_as_it_was_held() {
    let upstream = Upstream::answers(json("{\"text\":\"hello\"}")).await;
    let setup = Proxy::with(&upstream).sections(&budget("usd = 0.20\ntokens = 10_000"));
    let proxy = setup.start().await;
    let upload = format!(
        "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n{}\r\n--b--\r\n",
        "x".repeat(400_000)
    );
    let upload = post("/v1/audio/transcriptions", upload)
        .header("content-type", "multipart/form-data; boundary=b");
    let response = proxy.call(&upload).await;
    assert_eq!(response.status(), 200, "{}", response.text());
    let tokens = used_of(&proxy, Measure::Tokens).await;
    assert_eq!(
        tokens,
        51 * 17 + 2_000,
        "51 seconds, and what is said in them"
    );
    let record = proxy.record(&response).await;
    assert_eq!(record.text("/provenance"), "estimated");
    assert_eq!(record.text("/cost_source"), "held");
    let cost = i64::try_from(record.number("/cost_nano_usd")).unwrap();
    assert_eq!(used_of(&proxy, Measure::Usd).await, cost);
    assert!(cost > 0);
    for status in [200, 200, 429] {
        assert_eq!(proxy.call(&upload).await.status(), status);
        within("the end", proxy.app.settled()).await;
    }
}

fn ask_with(model: &str, part: &Value, tools: &Value) -> Ask {
    let text = object!({"type": "text", "text": "what is this?"});
    let body = object!({
        "model": model,
        "max_tokens": 500,
        "messages": [{"role": "user", "content": [text, part]}],
        "tools": tools,
    });
    post("/v1/chat/completions", body.to_string())
}

#[tokio::test]
async fn images_and_files_of_a_prompt_are_held_before_they_are_looked_at() {
    let upstream = Upstream::answers(used(40_000, 100)).await;
    let setup = Proxy::with(&upstream).sections(&budget("tokens = 60_000"));
    let proxy = setup.start().await;
    let url = object!({"type": "image_url", "image_url": {"url": "https://example.com/kite.png"}});
    let look = ask_with("gpt-4o-mini", &url, &object!([]));
    assert_eq!(proxy.call(&look).await.status(), 200);
    assert_eq!(used_of(&proxy, Measure::Tokens).await, 40_100);
    let message = check_refused(&proxy.call(&look).await);
    assert!(message.contains("this call needs about"), "{message}");
}

#[tokio::test]
async fn tools_that_the_upstream_runs_are_held_with_what_they_bring_in() {
    let upstream = Upstream::answers(used(12_000, 100)).await;
    let setup = Proxy::with(&upstream).sections(&budget("tokens = 20_000"));
    let proxy = setup.start().await;
    let text = object!({"type": "text", "text": "?"});
    let search = ask_with(
        "gpt-4o-mini",
        &text,
        &object!([{"type": "web_search_preview"}]),
    );
    let own = object!([{"type": "function", "function": {"name": "web_search"}}]);
    let own = ask_with("gpt-4o-mini", &text, &own);
    assert_eq!(proxy.call(&search).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    check_refused(&proxy.call(&search).await);
    assert_eq!(proxy.call(&own).await.status(), 200, "a tool of the client");
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\n\r\n";

fn tunnel() -> Ask {
    get("/v1/realtime?model=gpt-realtime")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Version", "13")
        .header("x-aiops-run", "r1")
}

#[tokio::test]
async fn tunnel_is_ended_when_its_run_is_stopped_and_is_not_free() {
    let upstream = Upstream::answers(Answer::raw(SWITCHED).then_echoes()).await;
    let setup = Proxy::with(&upstream).sections(&budget("tokens = 10_000\nusd = 1"));
    let proxy = setup.start().await;
    let mut client = proxy.client().await;
    client.send(tunnel().bytes()).await;
    let mut response = client.begin(false).await;
    assert_eq!(response.status(), 101);
    response.body = Body::new(Framing::UntilClose);
    client.send(b"hello").await;
    assert_eq!(client.next(&mut response, 5).await, b"hello");
    let impatient = tunnel().header("x-stainless-timeout", "0.02");
    check_refused(&proxy.call(&impatient).await);
    let budgets = proxy.app.budgets();
    let stopped = budgets.control(&label("r1"), Control::Stopped, "me").await;
    assert_eq!(stopped.unwrap(), 1);
    upstream.hung_up().await;
    let record = proxy.record(&response).await;
    assert_eq!(record.outcome(), "cut");
    assert!(record.text("/error").contains("was stopped"));
    assert_eq!(used_of(&proxy, Measure::Tokens).await, 2 * 4_096);
    assert!(used_of(&proxy, Measure::Usd).await > 0);
}

#[tokio::test]
async fn tunnel_is_refused_where_what_has_no_price_is() {
    let upstream = Upstream::answers(Answer::raw(SWITCHED).then_echoes()).await;
    let rules = budget("usd = 1\non_unpriced = \"refuse\"");
    let proxy = Proxy::with(&upstream).sections(&rules).start().await;
    let message = check_refused(&proxy.call(&tunnel()).await);
    assert!(message.contains("WebSocket"), "{message}");
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn image_waits_for_another_one_and_not_for_ever() {
    let (slow, driver) = pending();
    let upstream = Upstream::answers_each([slow, made(100)]).await;
    let setup = Proxy::with(&upstream).sections(&budget("tokens = 12_000"));
    let proxy = std::sync::Arc::new(setup.start().await);
    let begin = |ask: Ask| {
        let proxy = std::sync::Arc::clone(&proxy);
        tokio::spawn(async move { proxy.call(&ask).await.status() })
    };
    let first = begin(image(1));
    upstream.asked().await;
    let second = begin(image(1));
    waiting(&proxy, 1).await;
    assert_eq!(running(proxy.app.budgets()).await[0].running, 1);
    let body = object!({"data": [], "usage": {"input_tokens": 5, "output_tokens": 6}});
    driver.chunk(body.to_string()).await;
    driver.end().await;
    for call in [first, second] {
        assert_eq!(within("an answer", call).await.unwrap(), 200);
    }
    assert_eq!(used_of(&proxy, Measure::Tokens).await, 11 + 120);
    assert_eq!(proxy.call(&chat("r1", 50)).await.status(), 200);
}
