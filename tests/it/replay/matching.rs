//! Which recorded call a request is taken for, and where a program that changed departs.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// A run of these calls, with lines of its own in `[ledger]`; the answers as they were live.
async fn record(
    asks: &[Ask],
    answers: Vec<Answer>,
    lines: &str,
) -> (Vec<Response>, Setup, Upstream) {
    let upstream = Upstream::answers_each(answers).await;
    let setup = Proxy::with(&upstream).ledger_lines(lines);
    let (live, again) = recorded(setup, asks).await;
    (live, again, upstream)
}

/// An agent with a prompt asks, which says its name or leaves it to be found out.
fn agent(prompt: &str, texts: &[&str]) -> Ask {
    let mut messages = vec![json!({"role": "system", "content": prompt})];
    messages.extend(
        texts
            .iter()
            .map(|text| json!({"role": "user", "content": text})),
    );
    let body = json!({"model": "m", "messages": messages});
    post("/v1/chat/completions", body.to_string()).header("x-aiops-run", "taped")
}

const PLANNER: &str = "You plan releases. Answer with a list of steps.";
const WRITER: &str = "You write release notes. Answer in plain words.";

#[tokio::test]
async fn changed_prompt_of_one_of_two_agents_is_found_at_its_own_call() {
    let asks = [
        agent(PLANNER, &["version four"]),
        agent(WRITER, &["version four"]),
        agent(PLANNER, &["version four", "steps", "go on"]),
        agent(WRITER, &["version four", "notes", "go on"]),
    ];
    let answers = ["plan", "note", "plan more", "note more"]
        .map(plain)
        .to_vec();
    let (live, setup, _upstream) = record(&asks, answers, "").await;
    let serving = Serving::start(&setup, &["--speed", "max"]).await;
    // The changed one asks before the other, who gets its own answers all the same.
    let changed = agent(
        "You write release notes. Answer in rhymes.",
        &["version four"],
    );
    assert_eq!(serving.call(&changed).await.head.status(), 409);
    for at in [0, 2] {
        assert_eq!(serving.call(&asks[at]).await.body.data, live[at].body.data);
    }
    let done = serving.end().await;
    assert_eq!(done.code, Some(77), "{}", done.err);
    for says in [
        "at call 2 of 4",
        "message 1 differs",
        "Answer in plain words.",
        "Answer in rhymes.",
    ] {
        assert!(done.err.contains(says), "{says}: {}", done.err);
    }
    assert!(done.out.contains("2 of 4 calls played"), "{}", done.out);
}

#[tokio::test]
async fn parallel_conversations_with_new_times_each_get_their_own_answer() {
    let says = |time: &str, order: &str| agent(&format!("Today is {time}."), &["where is", order]);
    let asks = [
        says("2026-11-30", "order A1"),
        says("2026-11-30", "order B2"),
    ];
    let answers = vec![plain("A1 is here"), plain("B2 is there")];
    let (live, setup, _upstream) = record(&asks, answers, "").await;
    let serving = Serving::start(&setup, &["--speed", "max"]).await;
    for (order, live) in [("order B2", &live[1]), ("order A1", &live[0])] {
        let answer = serving.call(&says("2027-01-02", order)).await;
        assert_eq!(answer.body.data, live.body.data);
    }
    let done = serving.end().await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    let says = "2 of them were asked for with other times or ids";
    assert!(done.out.contains(says), "{}", done.out);
}

#[tokio::test]
async fn strict_replay_plays_the_same_bodies_alone() {
    let (live, setup, _upstream) = taped().await;
    let serving = Serving::start(&setup, &["--speed", "max", "--strict"]).await;
    let [first, second, _] = asks();
    assert_eq!(serving.call(&first).await.body.data, live[0].body.data);
    let later = chat(&["one", "two at 2027-01-01T00:00:00Z"], true);
    assert_eq!(serving.call(&later).await.head.status(), 409);
    assert_eq!(serving.call(&second).await.body.data, live[1].body.data);
    let done = serving.end().await;
    assert_eq!(done.code, Some(77), "{}", done.err);
    assert!(done.err.contains("at call 2 of 3"), "{}", done.err);
    assert!(
        done.err.contains("+ user: two at 2027-01-01"),
        "{}",
        done.err
    );
    assert!(!done.out.contains("other times"), "{}", done.out);
    let run = ["run", "--strict", "--", "true"];
    let alone = ended(command(setup.dir.path(), &run)).await;
    assert!(alone.err.contains("--strict"), "{}", alone.err);
}

#[tokio::test]
async fn compressed_request_is_taken_for_the_one_that_says_the_same() {
    let zipped = |text: &str, level| {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": text}]});
        let mut zip = GzEncoder::new(Vec::new(), level);
        zip.write_all(body.to_string().as_bytes()).expect("a zip");
        post("/v1/chat/completions", zip.finish().expect("a zip"))
            .header("content-encoding", "gzip")
            .header("x-aiops-run", "taped")
    };
    let asks = [zipped("hello", Compression::best())];
    let (live, setup, _upstream) = record(&asks, vec![plain("first")], "").await;
    let serving = Serving::start(&setup, &["--speed", "max"]).await;
    let other = serving.call(&zipped("bye", Compression::best())).await;
    assert_eq!(other.head.status(), 409);
    let again = serving.call(&zipped("hello", Compression::none())).await;
    assert_eq!(again.body.data, live[0].body.data);
    let done = serving.end().await;
    assert!(done.err.contains("- user: hello"), "{}", done.err);
    assert!(done.err.contains("+ user: bye"), "{}", done.err);
}

#[tokio::test]
async fn call_that_cannot_be_played_is_named_and_the_program_is_not_blamed() {
    let long = "long ".repeat(1000);
    let asks = [
        chat(&["one"], false),
        chat(&["one", &long], false),
        chat(&["two"], false),
    ];
    let answers = ["first", "second", "third"].map(plain).to_vec();
    let (live, setup, _upstream) = record(&asks, answers, "max_body = \"2KiB\"").await;
    let serving = Serving::start(&setup, &["--speed", "max"]).await;
    assert_eq!(serving.call(&asks[1]).await.head.status(), 409);
    assert_eq!(serving.call(&asks[2]).await.body.data, live[2].body.data);
    let done = serving.end().await;
    assert!(done.err.contains("call 2 of 3 ("), "{}", done.err);
    let why = "is on record, but cannot be played: a body of it is longer than max_body";
    assert!(done.err.contains(why), "{}", done.err);
    assert!(!done.err.contains("departs"), "{}", done.err);
}
