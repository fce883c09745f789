//! Durable before done, on a disk that can be held: what ends an answer for its client comes only
//! when the call is on disk, and nothing else waits.

use crate::harness::disk::TestDisk;
use crate::harness::proxy::Setup;
use crate::harness::{
    Answer, Ask, Client, Driver, Proxy, Response, Upstream, get, json, post, records, reply, within,
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn chat(stream: bool, more: &str) -> Ask {
    let body = format!(
        "{{\"model\":\"gpt-4o-mini\",\"stream\":{stream}{more},\"messages\":[{{\"role\":\"user\",\
         \"content\":\"hi\"}}]}}"
    );
    post("/v1/chat/completions", body)
}

/// A call whose admission waits for the disk, and who makes it.
struct Held {
    proxy: Proxy,
    client: Client,
    disk: TestDisk,
}

impl Held {
    async fn begin(setup: Setup, ask: &Ask) -> Self {
        let disk = TestDisk::at(&setup.data());
        let proxy = setup.on_disk(&disk).start().await;
        let mut client = proxy.client().await;
        disk.hold();
        client.send(ask.bytes()).await;
        disk.held().await;
        Self {
            proxy,
            client,
            disk,
        }
    }

    async fn outcome(&self, response: &Response) -> String {
        self.proxy.record(response).await.outcome().to_owned()
    }
}

#[tokio::test]
async fn the_last_byte_of_an_answer_waits_for_the_disk() {
    let (answer, driver) = Driver::of_everything();
    let upstream = Upstream::answers(answer).await;
    let mut held = Held::begin(Proxy::with(&upstream), &chat(false, "")).await;
    upstream.asked().await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n";
    driver.bytes([head, "{\"a\":"].concat()).await;
    let mut response = held.client.begin(false).await;
    assert_eq!(held.client.next(&mut response, 5).await, b"{\"a\":");
    driver.bytes(" 1}").await;
    held.client.gets_nothing().await;
    held.disk.release();
    held.client.finish(&mut response).await;
    assert_eq!((response.text(), response.cut), ("{\"a\": 1}", false));
    assert_eq!(held.outcome(&response).await, "completed");
}

#[tokio::test]
async fn the_end_of_an_answer_of_unknown_length_waits_for_the_disk() {
    let (upstream, driver) = Upstream::streams(reply(200)).await;
    let mut held = Held::begin(Proxy::with(&upstream), &chat(false, "")).await;
    let mut response = held.client.begin(false).await;
    driver.chunk("{}").await;
    assert_eq!(held.client.next(&mut response, 2).await, b"{}");
    driver.end().await;
    held.client.gets_nothing().await;
    held.disk.release();
    held.client.finish(&mut response).await;
    assert!(response.body.done && !response.cut);
}

#[tokio::test]
async fn an_answer_without_a_body_waits_as_a_whole() {
    let upstream = Upstream::answers(reply(204).bare()).await;
    let mut held = Held::begin(Proxy::with(&upstream), &get("/v1/models")).await;
    upstream.asked().await;
    held.client.gets_nothing().await;
    held.disk.release();
    assert_eq!(held.client.response(false).await.status(), 204);
}

#[tokio::test]
async fn the_terminal_event_of_a_stream_waits_for_the_disk_and_no_other_does() {
    for more in ["", ",\"stream_options\":{\"include_usage\":true}"] {
        let head = reply(200).header("content-type", "text/event-stream");
        let (upstream, driver) = Upstream::streams(head).await;
        let mut held = Held::begin(Proxy::with(&upstream), &chat(true, more)).await;
        let mut response = held.client.begin(false).await;
        for _ in 0..3 {
            driver.chunk(EVENT).await;
            let event = held.client.next(&mut response, EVENT.len()).await;
            assert_eq!(event, EVENT.as_bytes());
        }
        driver.chunk(DONE).await;
        held.client.gets_nothing().await;
        held.disk.release();
        // The upstream has not ended its answer: the event is all it took.
        let done = held.client.next(&mut response, DONE.len()).await;
        assert_eq!(done, DONE.as_bytes());
        driver.end().await;
        held.client.finish(&mut response).await;
        assert!(!response.cut);
        assert_eq!(held.outcome(&response).await, "completed");
    }
}

#[tokio::test]
async fn our_own_answers_wait_for_the_disk() {
    let silent = Upstream::answers(Answer::nothing().then_stalls()).await;
    let late = Proxy::with(&silent).upstream_lines("response_timeout = \"40ms\"");
    let closed = Upstream::answers(Answer::nothing().then_resets()).await;
    let nobody = {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/v1", socket.local_addr().unwrap())
    };
    let nobody = Setup::new().endpoint("main", &nobody, "");
    for (setup, upstream, status) in [
        (late, Some(&silent), 504),
        (Proxy::with(&closed), Some(&closed), 502),
        (nobody, None, 502),
    ] {
        let mut held = Held::begin(setup, &chat(false, "")).await;
        if let Some(upstream) = upstream {
            upstream.hung_up().await;
        }
        held.client.gets_nothing().await;
        held.disk.release();
        let response = held.client.response(false).await;
        assert_eq!(response.status(), status);
        assert_eq!(held.outcome(&response).await, "upstream_unavailable");
    }
}

#[tokio::test]
async fn nothing_waits_for_the_disk_when_relaxed() {
    let upstream = Upstream::answers(json("{}")).await;
    let setup = Proxy::with(&upstream).ledger_lines("durability = \"relaxed\"");
    let disk = TestDisk::at(&setup.data());
    let proxy = setup.on_disk(&disk).start().await;
    disk.hold();
    let first = proxy.call(&chat(false, "")).await;
    disk.held().await;
    for _ in 0..10 {
        assert_eq!(proxy.call(&chat(false, "")).await.text(), "{}");
    }
    disk.release();
    assert_eq!(proxy.record(&first).await.outcome(), "completed");
    assert_eq!(proxy.calls().await, 11);
}

#[tokio::test]
async fn no_answer_waits_for_its_settlement() {
    let (upstream, driver) = Upstream::streams(reply(200)).await;
    let setup = Proxy::with(&upstream);
    let disk = TestDisk::at(&setup.data());
    let proxy = setup.on_disk(&disk).start().await;
    let syncs = || proxy.app.ledger().status().syncs.count();
    proxy.app.ledger().sync_index();
    let before = syncs();
    let mut client = proxy.client().await;
    client.send(chat(false, "").bytes()).await;
    let mut response = client.begin(false).await;
    within("the admission on disk", async {
        while syncs() == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    disk.hold();
    driver.chunk("all of it").await;
    driver.end().await;
    client.finish(&mut response).await;
    assert_eq!((response.text(), response.cut), ("all of it", false));
    disk.held().await;
    disk.release();
    assert_eq!(proxy.record(&response).await.outcome(), "completed");
}

/// What the admin listener says of the ledger: ready or not, status, metrics.
async fn says_failing(proxy: &Proxy) -> [bool; 3] {
    let admin = proxy.app.admin_address();
    let ready = records::ask(admin, "/readyz").await.status();
    assert!([200, 503].contains(&ready));
    let status = records::ask(admin, "/api/v1/status").await.json();
    let metrics = records::ask(admin, "/metrics").await;
    [
        ready == 503,
        status["ledger"]["failing"].as_bool().unwrap(),
        metrics.text().contains("\nopen_aiops_ledger_failing 1\n"),
    ]
}

/// A call of which everything is on disk, as is all that came before it.
async fn recorded(proxy: &Proxy) -> Response {
    let response = proxy.call(&chat(false, "")).await;
    proxy.record(&response).await;
    response
}

async fn until_failing(proxy: &Proxy, failing: bool) {
    within("what the ledger says of itself", async {
        while says_failing(proxy).await != [failing; 3] {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn with_serve_a_disk_that_does_not_sync_holds_nothing_up_and_loses_nothing_it_took() {
    let upstream = Upstream::answers(json("{}")).await;
    let setup = Proxy::with(&upstream);
    let disk = TestDisk::at(&setup.data());
    let proxy = setup.on_disk(&disk).start().await;
    let before = recorded(&proxy).await;
    disk.fail();
    let pending = proxy.call(&chat(false, "")).await;
    assert_eq!((pending.status(), pending.text()), (200, "{}"));
    until_failing(&proxy, true).await;
    let unrecorded = proxy.call(&chat(false, "")).await;
    assert_eq!(unrecorded.status(), 200);
    disk.release();
    until_failing(&proxy, false).await;
    let after = proxy.call(&chat(false, "")).await;
    for response in [&before, &pending, &after] {
        let record = proxy.record(response).await;
        assert_eq!(record.outcome(), "completed");
        assert!(record.body("request").await.is_some());
    }
    assert_eq!(proxy.calls().await, 3);
}

#[tokio::test]
async fn with_refuse_a_disk_that_does_not_sync_lets_no_call_through() {
    let upstream = Upstream::answers(json("{}")).await;
    let setup = Proxy::with(&upstream).ledger_lines("on_failure = \"refuse\"");
    let disk = TestDisk::at(&setup.data());
    let proxy = setup.on_disk(&disk).start().await;
    recorded(&proxy).await;
    disk.fail();
    // Whether the disk fails is known once a call has been through.
    let pending = proxy.call(&chat(false, "")).await;
    until_failing(&proxy, true).await;
    let refused = proxy.call(&chat(false, "")).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.header("x-aiops-error"), Some("ledger_unavailable"));
    assert_eq!(upstream.requests().len(), 2);
    disk.release();
    until_failing(&proxy, false).await;
    assert_eq!(proxy.call(&chat(false, "")).await.status(), 200);
    assert_eq!(proxy.record(&pending).await.outcome(), "completed");
    assert_eq!(proxy.calls().await, 3);
}
