//! Streams: each chunk as it comes, usage asked for without a trace, and every way to end.

use std::io::Write as _;

use crate::harness::{Answer, Proxy, Response, Upstream, get, json, post, reply, sse};

const ASK: &str =
    r#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const DONE: &str = "data: [DONE]\n\n";
const USAGE: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\
    \"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\
    \"completion_tokens\":3,\"total_tokens\":11}}\n\n";

fn piece(index: u32, text: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"model\":\
         \"gpt-4o-mini-2024-07-18\",\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\
         \"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

fn stop(index: u32) -> String {
    piece(index, "").replace("null", "\"stop\"")
}

fn chat() -> Vec<String> {
    ["Hello", " there", "!"]
        .iter()
        .map(|text| piece(0, text))
        .chain([stop(0)])
        .collect()
}

fn event_stream() -> crate::harness::answer::Reply {
    reply(200).header("content-type", "text/event-stream; charset=utf-8")
}

async fn call(proxy: &Proxy) -> Response {
    proxy.call(&post("/v1/chat/completions", ASK)).await
}

#[tokio::test]
async fn each_chunk_reaches_the_client_before_the_next_is_sent() {
    let (upstream, driver) = Upstream::streams(event_stream()).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(post("/v1/chat/completions", ASK).bytes()).await;
    let mut response = client.begin(false).await;
    for event in chat() {
        driver.chunk(&event).await;
        assert_eq!(
            client.next(&mut response, event.len()).await,
            event.as_bytes()
        );
    }
    driver.chunk(USAGE).await;
    driver.chunk(DONE).await;
    assert_eq!(
        client.next(&mut response, DONE.len()).await,
        DONE.as_bytes()
    );
    driver.end().await;
    client.finish(&mut response).await;
    assert!(!response.cut);
    assert_eq!(response.text(), chat().concat() + DONE);
    let record = proxy.record(&response).await;
    assert_eq!(
        (record.outcome(), record.provenance()),
        ("completed", "reported")
    );
    assert_eq!((record.input_tokens(), record.output_tokens()), (8, 3));
}

#[tokio::test]
async fn the_head_of_a_stream_does_not_wait_for_its_first_chunk() {
    let (upstream, driver) = Upstream::streams(event_stream()).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(post("/v1/chat/completions", ASK).bytes()).await;
    let mut response = client.begin(false).await;
    assert_eq!(response.status(), 200);
    driver.chunk(": keep-alive\n\n").await;
    assert_eq!(client.next(&mut response, 14).await, b": keep-alive\n\n");
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_upstream_from_writing() {
    const PIECE: usize = 1 << 20;
    /// More than the sockets on both sides take in.
    const FAR_TOO_MUCH: usize = 64;
    let (slow, driver) = reply(200).driven();
    let upstream = Upstream::with(move |n, _| if n == 0 { slow.clone() } else { json("{}") }).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(get("/v1/files/1/content").bytes()).await;
    let mut response = client.begin(false).await;
    let begun = std::cell::Cell::new(0);
    let write = async {
        loop {
            begun.set(begun.get() + 1);
            assert!(begun.get() < FAR_TOO_MUCH, "what nobody reads is piled up");
            driver.chunk(vec![b'x'; PIECE]).await;
        }
    };
    let until_it_stands_still = async {
        let mut before = None;
        while before.replace(begun.get()) != Some(begun.get()) {
            // Time enough for one more piece, if it could be written.
            for _ in 0..50 {
                assert_eq!(proxy.call(&get("/v1/models")).await.status(), 200);
            }
        }
    };
    tokio::select! {
        () = until_it_stands_still => {}
        () = write => {}
    }
    tokio::join!(driver.end(), client.finish(&mut response));
    assert!(!response.cut);
    assert_eq!(response.body.data.len(), begun.get() * PIECE);
}

#[tokio::test]
async fn streams_that_are_not_events_pass_chunk_by_chunk_too() {
    let (upstream, driver) =
        Upstream::streams(reply(200).header("content-type", "application/x-ndjson")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(post("/api/chat", ASK).bytes()).await;
    let mut response = client.begin(false).await;
    for piece in ["{\"message\":{}}", "\n{\"do", "ne\":true}\n"] {
        driver.chunk(piece).await;
        assert_eq!(
            client.next(&mut response, piece.len()).await,
            piece.as_bytes()
        );
    }
    driver.end().await;
    client.finish(&mut response).await;
    assert!(!response.cut);
}

#[tokio::test]
async fn usage_is_asked_for_and_its_chunk_taken_out() {
    let events = [chat(), vec![USAGE.to_owned(), DONE.to_owned()]].concat();
    let upstream = Upstream::answers(sse(events)).await;
    let proxy = Proxy::to(&upstream).await;
    let response = call(&proxy).await;
    assert_eq!(response.text(), chat().concat() + DONE);
    let sent: serde_json::Value = serde_json::from_str(upstream.request().text()).unwrap();
    assert_eq!(sent["stream_options"]["include_usage"], true);
    let length = upstream.request().text().len().to_string();
    assert_eq!(upstream.request().header("content-length"), Some(&*length));
    let record = proxy.record(&response).await;
    assert_eq!(record.provenance(), "reported");
    assert_eq!((record.input_tokens(), record.output_tokens()), (8, 3));
    assert_eq!(record.body("request").await.unwrap(), ASK.as_bytes());
}

#[tokio::test]
async fn the_usage_chunk_is_found_wherever_the_stream_is_split() {
    let whole = [chat(), vec![USAGE.to_owned(), DONE.to_owned()]]
        .concat()
        .concat();
    let upstream = Upstream::with(move |n, _| {
        let cut = 1 + n * 17 % (whole.len() - 1);
        let (first, second) = whole.split_at(cut);
        sse([first, second])
    })
    .await;
    let proxy = Proxy::to(&upstream).await;
    for _ in 0..60 {
        assert_eq!(call(&proxy).await.text(), chat().concat() + DONE);
    }
}

#[tokio::test]
async fn the_usage_chunk_is_taken_out_of_a_compressed_stream() {
    let whole = [chat(), vec![USAGE.to_owned(), DONE.to_owned()]]
        .concat()
        .concat();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(whole.as_bytes()).unwrap();
    let gzipped = encoder.finish().unwrap();
    for cut in (1..gzipped.len()).step_by(19) {
        let head = event_stream().header("content-encoding", "gzip");
        let upstream = Upstream::answers(head.chunks([&gzipped[..cut], &gzipped[cut..]])).await;
        let proxy = Proxy::to(&upstream).await;
        let ask = post("/v1/chat/completions", ASK).header("Accept-Encoding", "gzip");
        let response = proxy.call(&ask).await;
        assert_eq!(response.header("content-encoding"), None);
        assert_eq!(response.text(), chat().concat() + DONE, "cut at {cut}");
        assert_eq!(proxy.record(&response).await.output_tokens(), 3);
    }
}

#[tokio::test]
async fn a_compressed_stream_that_ends_too_early_is_a_cut_for_who_gets_it_decoded() {
    let events = [chat(), vec![USAGE.to_owned(), DONE.to_owned()]].concat();
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.flush().unwrap();
        encoder.get_ref().clone()
    };
    let begun = events[..2].concat();
    let ask = post("/v1/chat/completions", ASK).header("Accept-Encoding", "gzip");
    for (sent, trailers, got, cut) in [
        (begun.clone(), "", begun.clone(), true),
        (begun.clone(), "x-sum: 1\r\n", begun, true),
        // Careless, but nothing is missing.
        (events.concat(), "", chat().concat() + DONE, false),
    ] {
        let head = event_stream().header("content-encoding", "gzip");
        let answer = head.chunks_and_trailers([gzip(&sent)], trailers);
        let upstream = Upstream::answers(answer).await;
        let proxy = Proxy::to(&upstream).await;
        let response = proxy.call(&ask).await;
        assert_eq!((response.text(), response.cut), (&*got, cut));
        let outcome = if cut { "upstream_cut" } else { "completed" };
        assert_eq!(proxy.record(&response).await.outcome(), outcome);
    }
}

#[tokio::test]
async fn the_usage_chunk_is_taken_out_of_a_stream_of_known_length() {
    let whole = [chat(), vec![USAGE.to_owned(), DONE.to_owned()]]
        .concat()
        .concat();
    let upstream = Upstream::answers(event_stream().body(whole)).await;
    let proxy = Proxy::to(&upstream).await;
    let response = call(&proxy).await;
    assert!(!response.cut);
    assert_eq!(response.text(), chat().concat() + DONE);
}

#[tokio::test]
async fn what_comes_behind_the_end_of_a_compressed_stream_takes_nothing_from_it() {
    let events = [chat(), vec![USAGE.to_owned(), DONE.to_owned()]].concat();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(events.concat().as_bytes()).unwrap();
    let mut padded = encoder.finish().unwrap();
    padded.extend_from_slice(&[0; 64]);
    let head = event_stream().header("content-encoding", "gzip");
    let upstream = Upstream::answers(head.chunks([&padded])).await;
    let proxy = Proxy::to(&upstream).await;
    let ask = post("/v1/chat/completions", ASK).header("Accept-Encoding", "gzip");
    let response = proxy.call(&ask).await;
    assert_eq!(
        response.text(),
        [chat(), vec![DONE.to_owned()]].concat().concat()
    );
    assert!(!response.cut);
}

#[tokio::test]
async fn a_compressed_stream_whose_client_asked_itself_stays_compressed() {
    let whole = [chat(), vec![USAGE.to_owned(), DONE.to_owned()]]
        .concat()
        .concat();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(whole.as_bytes()).unwrap();
    let gzipped = encoder.finish().unwrap();
    let head = event_stream().header("content-encoding", "gzip");
    let upstream = Upstream::answers(head.chunks([&gzipped])).await;
    let proxy = Proxy::to(&upstream).await;
    let asking = ASK.replace("true", r#"true,"stream_options":{"include_usage":true}"#);
    let response = proxy.call(&post("/v1/chat/completions", &asking)).await;
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert_eq!(response.body.data, gzipped);
    let record = proxy.record(&response).await;
    assert_eq!(
        (record.provenance(), record.output_tokens()),
        ("reported", 3)
    );
}

#[tokio::test]
async fn a_client_that_asked_for_usage_gets_it() {
    let events = [chat(), vec![USAGE.to_owned(), DONE.to_owned()]].concat();
    let upstream = Upstream::answers(sse(&events)).await;
    let proxy = Proxy::to(&upstream).await;
    let asking = ASK.replace("true", r#"true,"stream_options":{"include_usage":true}"#);
    let response = proxy.call(&post("/v1/chat/completions", &asking)).await;
    assert_eq!(response.text(), events.concat());
    assert_eq!(upstream.request().text(), asking);
}

#[tokio::test]
async fn usage_is_not_asked_for_where_that_is_switched_off() {
    for setup in ["global", "upstream"] {
        let upstream = Upstream::answers(sse([chat(), vec![DONE.to_owned()]].concat())).await;
        let proxy = Proxy::with(&upstream);
        let proxy = match setup {
            "global" => proxy.sections("[accounting]\nask_for_usage = false"),
            _ => proxy.upstream_lines("ask_for_usage = false"),
        };
        let proxy = proxy.start().await;
        let response = call(&proxy).await;
        assert_eq!(upstream.request().text(), ASK);
        assert_eq!(proxy.record(&response).await.provenance(), "counted");
    }
}

#[tokio::test]
async fn an_upstream_that_rejects_the_option_is_asked_without_it_from_then_on() {
    let rejected = reply(400)
        .header("content-type", "application/json")
        .body(r#"{"error":{"message":"Unrecognized request argument: stream_options"}}"#);
    let good = sse([chat(), vec![DONE.to_owned()]].concat());
    let upstream = Upstream::answers_each([rejected, good]).await;
    let proxy = Proxy::to(&upstream).await;
    for _ in 0..2 {
        let response = call(&proxy).await;
        assert_eq!(
            (response.status(), response.text()),
            (200, &*(chat().concat() + DONE))
        );
        let record = proxy.record(&response).await;
        assert_eq!(
            (record.outcome(), record.provenance()),
            ("completed", "counted")
        );
        assert_eq!(record.output_tokens(), 3);
    }
    let asked: Vec<bool> = upstream
        .requests()
        .iter()
        .map(|r| r.text().contains("stream_options"))
        .collect();
    assert_eq!(asked, [true, false, false]);
    assert_eq!(upstream.requests()[1].text(), ASK);
}

#[tokio::test]
async fn an_error_that_only_repeats_the_request_does_not_end_the_asking() {
    let echo = || {
        reply(400)
            .header("content-type", "application/json")
            .body(r#"{"error":{"message":"bad input: {\"stream_options\":{}}"}}"#)
    };
    let good = sse([chat(), vec![USAGE.to_owned(), DONE.to_owned()]].concat());
    let upstream = Upstream::answers_each([echo(), echo(), good]).await;
    let proxy = Proxy::to(&upstream).await;
    assert_eq!(call(&proxy).await.status(), 400);
    let response = call(&proxy).await;
    assert_eq!(proxy.record(&response).await.provenance(), "reported");
    let asked: Vec<bool> = upstream
        .requests()
        .iter()
        .map(|request| request.text().contains("include_usage"))
        .collect();
    assert_eq!(asked, [true, false, true]);
}

#[tokio::test]
async fn an_error_body_that_breaks_off_stays_a_cut() {
    let broken = "HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n";
    let upstream = Upstream::answers(Answer::raw(broken).then_closes()).await;
    let proxy = Proxy::to(&upstream).await;
    let response = call(&proxy).await;
    assert_eq!((response.text(), response.cut), ("abc", true));
    assert_eq!(proxy.record(&response).await.outcome(), "upstream_cut");
}

#[tokio::test]
async fn another_rejection_is_passed_on_and_changes_nothing() {
    let body = r#"{"error":{"message":"messages: too few"}}"#;
    let rejected = reply(400)
        .header("content-type", "application/json")
        .body(body);
    let upstream = Upstream::answers(rejected).await;
    let proxy = Proxy::to(&upstream).await;
    for asked in 1..=2 {
        let response = call(&proxy).await;
        assert_eq!((response.status(), response.text()), (400, body));
        assert_eq!(upstream.requests().len(), asked);
        assert!(
            upstream.requests()[asked - 1]
                .text()
                .contains("include_usage")
        );
        let record = proxy.record(&response).await;
        assert_eq!(
            (record.outcome(), record.number("/status")),
            ("upstream_error", 400)
        );
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_at_the_terminal_event_has_all_it_wanted() {
    let (upstream, driver) = Upstream::streams(event_stream()).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.client().await;
    client.send(post("/v1/chat/completions", ASK).bytes()).await;
    let mut response = client.begin(false).await;
    let text = chat().concat() + DONE;
    driver.chunk(chat().concat()).await;
    driver.chunk(USAGE).await;
    driver.chunk(DONE).await;
    assert_eq!(
        client.next(&mut response, text.len()).await,
        text.as_bytes()
    );
    drop(client);
    upstream.hung_up().await;
    let record = proxy.record(&response).await;
    assert_eq!(
        (record.outcome(), record.provenance()),
        ("completed", "reported")
    );
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_seen_as_broken_off() {
    for reset in [false, true] {
        let (upstream, driver) = Upstream::streams(event_stream()).await;
        let proxy = Proxy::to(&upstream).await;
        let mut client = proxy.client().await;
        client.send(post("/v1/chat/completions", ASK).bytes()).await;
        let mut response = client.begin(false).await;
        let begun = chat()[..2].concat();
        driver.chunk(&begun).await;
        assert_eq!(
            client.next(&mut response, begun.len()).await,
            begun.as_bytes()
        );
        if reset {
            driver.reset().await;
        } else {
            driver.cut().await;
        }
        client.finish(&mut response).await;
        assert!(response.cut, "the client must not take it for the end");
        let record = proxy.record(&response).await;
        assert_eq!(record.outcome(), "upstream_cut");
        assert_eq!(record.output_tokens(), 2);
        assert_eq!(record.provenance(), "estimated");
        assert!(record.text("/error").contains("broke off"), "{record:?}");
        assert_eq!(record.body("response").await.unwrap(), begun.as_bytes());
    }
}

#[tokio::test]
async fn a_broken_stream_is_seen_as_broken_by_http_2_too() {
    use http_body_util::BodyExt as _;
    let (upstream, driver) = Upstream::streams(event_stream()).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.h2_client().await;
    let request = http::Request::post(format!("http://{}/v1/chat/completions", proxy.address()))
        .body(crate::harness::h2::whole(ASK))
        .unwrap();
    let (head, body) = client.begin(request).await;
    driver.chunk(piece(0, "Hello")).await;
    driver.cut().await;
    assert!(
        crate::harness::within("the end", body.collect())
            .await
            .is_err()
    );
    let call = head.header("x-aiops-call").unwrap();
    assert_eq!(proxy.record_of(call).await.outcome(), "upstream_cut");
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_ended() {
    let (upstream, driver) = Upstream::streams(event_stream()).await;
    let proxy = Proxy::with(&upstream)
        .upstream_lines("idle_timeout = \"40ms\"")
        .start()
        .await;
    let mut client = proxy.client().await;
    client.send(post("/v1/chat/completions", ASK).bytes()).await;
    let mut response = client.begin(false).await;
    driver.chunk(piece(0, "Hello")).await;
    client.finish(&mut response).await;
    assert!(response.cut);
    upstream.hung_up().await;
    let record = proxy.record(&response).await;
    assert_eq!(record.outcome(), "upstream_cut");
    assert!(record.text("/error").contains("sent nothing"));
}

#[tokio::test]
async fn two_choices_are_both_counted() {
    let events = [
        piece(0, "one"),
        piece(1, "two"),
        piece(0, " more"),
        stop(0),
        stop(1),
    ];
    let upstream = Upstream::answers(sse(events.iter().map(String::as_str).chain([DONE]))).await;
    let proxy = Proxy::to(&upstream).await;
    let response = call(&proxy).await;
    let record = proxy.record(&response).await;
    assert_eq!(record.provenance(), "counted");
    assert_eq!(record.output_tokens(), 3);
    assert_eq!(
        record.get("/finish_reasons"),
        &serde_json::json!(["stop", "stop"])
    );
}

#[tokio::test]
async fn a_stream_of_the_responses_api_is_untouched_and_read() {
    let ask = r#"{"model":"gpt-4o-mini","stream":true,"input":"hi"}"#;
    let events = [
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\
         \"resp_1\",\"model\":\"gpt-4o-mini-2024-07-18\",\"status\":\"in_progress\",\"usage\":null}}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\
         \"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"Hi\"}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\
         \"resp_1\",\"model\":\"gpt-4o-mini-2024-07-18\",\"status\":\"completed\",\"usage\":\
         {\"input_tokens\":8,\"input_tokens_details\":{\"cached_tokens\":2},\"output_tokens\":1,\
         \"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":9}}}\n\n",
    ];
    let upstream = Upstream::answers(sse(events)).await;
    let proxy = Proxy::to(&upstream).await;
    let response = proxy.call(&post("/v1/responses", ask)).await;
    assert_eq!(response.text(), events.concat());
    assert_eq!(upstream.request().text(), ask);
    let record = proxy.record(&response).await;
    assert_eq!(
        (record.outcome(), record.provenance()),
        ("completed", "reported")
    );
    assert_eq!((record.input_tokens(), record.output_tokens()), (8, 1));
    assert_eq!(record.number("/usage/cache_read_input_tokens"), 2);
    assert_eq!(record.text("/response_id"), "resp_1");
}

#[tokio::test]
async fn an_answer_that_is_no_stream_though_one_was_asked_for_is_untouched() {
    let body = format!("{{\"object\":\"chat.completion\",\"note\":{USAGE:?}}}");
    let upstream = Upstream::answers(json(&body)).await;
    let proxy = Proxy::to(&upstream).await;
    let response = call(&proxy).await;
    assert_eq!(response.text(), body);
    assert_eq!(
        response.header("content-length"),
        Some(&*body.len().to_string())
    );
}

#[tokio::test]
async fn a_stream_without_a_terminal_event_that_ends_well_is_complete() {
    let upstream = Upstream::answers(sse(chat())).await;
    let proxy = Proxy::to(&upstream).await;
    let response = call(&proxy).await;
    assert!(!response.cut);
    let record = proxy.record(&response).await;
    assert_eq!(
        (record.outcome(), record.provenance()),
        ("completed", "counted")
    );
}

#[tokio::test]
async fn an_unfinished_event_at_the_end_is_not_swallowed() {
    let upstream = Upstream::answers(sse([piece(0, "Hello"), "data: {\"trunc".to_owned()])).await;
    let proxy = Proxy::to(&upstream).await;
    assert_eq!(
        call(&proxy).await.text(),
        piece(0, "Hello") + "data: {\"trunc"
    );
    let raw =
        Answer::raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: [DONE]\n\n");
    let upstream = Upstream::answers(raw.then_closes()).await;
    let proxy = Proxy::to(&upstream).await;
    assert_eq!(call(&proxy).await.text(), DONE);
}
