//! Loops through the whole proxy: stopped with their evidence, and what is none goes on.

use open_aiops::core::loops::trip::Trip;
use serde_json::{Value, json as object};

use crate::harness::proxy::Setup;
use crate::harness::records::ask;
use crate::harness::talk::{Talk, calling, saying};
use crate::harness::{Proxy, Response, Upstream, json, post, reply, sse};

/// Loops are not slowed, so that tests need not wait.
const AT_ONCE: &str = "[loops]\nmax_delay = \"0s\"\n";
const ARGUMENTS: &str = "src/application/main.rs";

/// An agent that greps for the same file whatever it is told.
async fn stubborn() -> Upstream {
    Upstream::with(|n, _| {
        let arguments = object!({"path": ARGUMENTS, "pattern": "fn parse_expression"});
        json(calling(&format!("call_{n}"), "grep", &arguments).to_string())
    })
    .await
}

fn setup(upstream: &Upstream) -> Setup {
    Proxy::with(upstream).sections(AT_ONCE)
}

fn agent() -> Talk {
    Talk::new("You are the coder.", "Mend what is broken in the parser.")
}

/// Goes on with the same failure until it is refused: how often it was answered, and the refusal.
async fn until_refused(proxy: &Proxy, talk: &mut Talk) -> (usize, Response) {
    for answered in 0..60 {
        let response = proxy.call(&talk.ask()).await;
        if response.status() != 200 {
            return (answered, response);
        }
        *talk = talk.clone().heard(&response).result("Error: no such file");
    }
    panic!("never refused");
}

#[track_caller]
fn message(response: &Response) -> String {
    assert_eq!(response.status(), 429, "{}", response.text());
    assert_eq!(response.header("x-should-retry"), Some("false"));
    assert_eq!(response.header("x-aiops-decision"), Some("refuse"));
    assert_eq!(response.json()["error"]["code"], "circuit_break");
    let message = response.json()["error"]["message"].clone();
    message.as_str().unwrap().to_owned()
}

#[track_caller]
fn only_trip(proxy: &Proxy) -> Trip {
    let mut open = proxy.app.loops().open_trips();
    assert_eq!(open.len(), 1, "open trips");
    open.remove(0)
}

/// The names of events, the latest first.
async fn events(proxy: &Proxy) -> Vec<(String, String)> {
    let answer = ask(proxy.app.admin_address(), "/api/v1/events").await;
    let events = answer.json()["events"].as_array().unwrap().clone();
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let named = events
        .iter()
        .map(|it| (text(it, "what"), text(it, "details")));
    named.filter(|(what, _)| what.starts_with("loop")).collect()
}

#[tokio::test]
async fn agent_that_fails_the_same_way_is_stopped_and_told_why() {
    let upstream = stubborn().await;
    let proxy = setup(&upstream).start().await;
    let mut talk = agent();
    let (answered, refused) = until_refused(&proxy, &mut talk).await;
    assert_eq!(
        answered, 5,
        "the sixth would fail in the same way for the fifth time"
    );
    assert_eq!(upstream.requests().len(), 5);
    let message = message(&refused);
    assert_eq!(refused.header("x-aiops-reason"), Some("loop"));
    for part in [
        "the same action with the same result, 5 times in a row",
        "in one conversation, by coder",
        ARGUMENTS,
        "Error: no such file",
        " tokens since ",
        "open-aiops loops reset ",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    let trip = only_trip(&proxy);
    assert_eq!(trip.evidence.calls.len(), 5);
    assert_eq!(trip.evidence.sample.len(), 2);
    let (names, details): (Vec<_>, Vec<_>) = events(&proxy).await.into_iter().unzip();
    assert_eq!(names, ["loop_tripped", "loop_warning"]);
    assert!(details[0].contains("agent coder"), "{}", details[0]);
    assert_eq!(proxy.calls().await, 5, "what is refused is no record");
}

#[tokio::test]
async fn loop_is_warned_about_and_slowed_before_it_is_stopped() {
    let upstream = stubborn().await;
    let slowly = "[loops]\nmax_delay = \"20ms\"\n";
    let proxy = Proxy::with(&upstream).sections(slowly).start().await;
    let mut talk = agent();
    let mut decisions = Vec::new();
    for _ in 0..5 {
        let response = proxy.call(&talk.ask()).await;
        let decision = response.header("x-aiops-decision").unwrap_or("-");
        decisions.push(decision.to_owned());
        talk = talk.heard(&response).result("Error: no such file");
    }
    assert_eq!(decisions, ["-", "-", "-", "warn", "warn, slow"]);
}

#[tokio::test]
async fn refusals_are_cheap_and_no_evidence_and_an_operator_ends_them() {
    let upstream = stubborn().await;
    let proxy = setup(&upstream).start().await;
    let mut talk = agent();
    until_refused(&proxy, &mut talk).await;
    for _ in 0..20 {
        message(&proxy.call(&talk.ask()).await);
    }
    let trip = only_trip(&proxy);
    assert_eq!((trip.evidence.count, trip.refused), (5, 21));
    let loops = proxy.app.loops();
    loops.reset(trip.id, 0, "me").await.unwrap();
    assert!(loops.open_trips().is_empty());
    let (answered, _) = until_refused(&proxy, &mut talk).await;
    assert_eq!(answered, 5, "its pattern has to show again");
    let (names, details): (Vec<_>, Vec<_>) = events(&proxy).await.into_iter().unzip();
    assert_eq!(names[..3], ["loop_tripped", "loop_warning", "loop_closed"]);
    assert!(details[2].starts_with("by me: "), "{}", details[2]);
    let shown = ask(proxy.app.admin_address(), "/api/v1/loops").await.json();
    let shown = shown["loops"].as_array().unwrap();
    let of = |n: usize, key: &str| shown[n][key].clone();
    assert_eq!(
        (of(0, "is_open"), of(1, "is_open")),
        (true.into(), false.into())
    );
    assert_eq!(
        (of(1, "closed_by"), of(1, "refused")),
        ("operator".into(), 21.into())
    );
}

#[tokio::test]
async fn user_who_says_something_new_ends_a_loop() {
    let upstream = stubborn().await;
    let proxy = setup(&upstream).start().await;
    let mut talk = agent();
    until_refused(&proxy, &mut talk).await;
    let same = talk.clone().user("Mend what is broken in the parser.");
    message(&proxy.call(&same.ask()).await);
    let told = talk.user("That file moved: read the one below the library folder now.");
    assert_eq!(proxy.call(&told.ask()).await.status(), 200);
    assert!(proxy.app.loops().open_trips().is_empty());
}

#[tokio::test]
async fn program_that_begins_anew_at_once_stays_stopped() {
    let upstream = stubborn().await;
    let proxy = setup(&upstream).start().await;
    until_refused(&proxy, &mut agent()).await;
    message(&proxy.call(&agent().ask()).await);
    assert_eq!(upstream.requests().len(), 5);
}

#[tokio::test]
async fn loop_of_one_client_stops_no_other() {
    let upstream = stubborn().await;
    let proxy = setup(&upstream).start().await;
    let of = |key: &str| agent().header("authorization", &format!("Bearer {key}"));
    until_refused(&proxy, &mut of("sk-one")).await;
    let mut other = of("sk-two");
    let (answered, _) = until_refused(&proxy, &mut other).await;
    assert_eq!(answered, 5);
    assert_eq!(proxy.app.loops().open_trips().len(), 2);
}

#[tokio::test]
async fn tool_whose_answers_change_is_asked_as_often_as_it_takes() {
    let upstream = stubborn().await;
    let proxy = setup(&upstream).start().await;
    let mut talk = agent();
    for page in 0..30 {
        let response = proxy.call(&talk.ask()).await;
        let text = format!(
            "{page} files are read, {} lines of them are good",
            page * 37
        );
        talk = talk.heard(&response).result(&text);
    }
}

#[tokio::test]
async fn what_fails_upstream_or_is_repeated_by_an_sdk_is_no_loop() {
    let upstream = Upstream::answers(reply(503).body("busy")).await;
    let proxy = setup(&upstream).start().await;
    for call in 0..6 {
        let question = format!("What is there to be said of number {call}, and of its kin?");
        let talk = Talk::new("You are the coder.", &question);
        assert_eq!(proxy.call(&talk.ask()).await.status(), 503);
        for retry in 1..5 {
            let again = talk
                .ask()
                .header("x-stainless-retry-count", retry.to_string());
            assert_eq!(proxy.call(&again).await.status(), 503);
        }
    }
}

#[tokio::test]
async fn request_that_is_sent_again_and_again_in_vain_is_stopped() {
    let upstream = Upstream::answers(reply(500).body("broken")).await;
    let proxy = setup(&upstream).start().await;
    let talk = agent();
    let mut sent = 0;
    while proxy.call(&talk.ask()).await.status() == 500 {
        sent += 1;
    }
    assert_eq!(sent, 10);
}

#[tokio::test]
async fn same_question_asked_by_many_is_no_loop() {
    let upstream = Upstream::answers(json(saying("four").to_string())).await;
    let proxy = setup(&upstream).start().await;
    for _ in 0..60 {
        let talk = Talk::new("You are the judge.", "How much is two and two, all in all?");
        assert_eq!(proxy.call(&talk.ask()).await.status(), 200);
    }
}

#[tokio::test]
async fn stream_that_chants_is_ended_and_says_so() {
    let delta = |text: &str| {
        let event = object!({"choices": [{"index": 0, "delta": {"content": text}}]});
        format!("data: {event}\n\n")
    };
    let events: Vec<String> = vec![delta("and so it goes on and on, my friend. "); 400];
    let upstream = Upstream::answers(sse(events)).await;
    let proxy = setup(&upstream).start().await;
    let body = object!({"model": "gpt-4o-mini", "stream": true,
        "messages": [{"role": "user", "content": "Sing."}]});
    let response = proxy
        .call(&post("/v1/chat/completions", body.to_string()))
        .await;
    assert_eq!(response.status(), 200);
    assert!(response.text().contains("said one piece over and over"));
    let record = proxy.record(&response).await;
    assert_eq!(record.outcome(), "cut");
    assert!(record.output_tokens() < 3000, "{}", record.output_tokens());
}

#[tokio::test]
async fn observing_only_tells() {
    let upstream = stubborn().await;
    let observing = "[loops]\npreset = \"observe\"\n";
    let proxy = Proxy::with(&upstream).sections(observing).start().await;
    let mut talk = agent();
    for _ in 0..15 {
        let response = proxy.call(&talk.ask()).await;
        talk = talk.heard(&response).result("Error: no such file");
    }
    let last = proxy.call(&talk.ask()).await;
    assert_eq!(last.header("x-aiops-decision"), Some("warn"));
    assert_eq!(last.status(), 200);
}

#[tokio::test]
async fn settings_can_differ_by_agent_and_tool_and_change_live() {
    let upstream = stubborn().await;
    let lenient = "[loops]\nmax_delay = \"0s\"\n[[loops.tool]]\nmatch = \"gr*\"\nrepeats = 10\n\
                   [[loops.agent]]\nmatch = \"watch*\"\nmode = \"observe\"\n";
    let proxy = Proxy::with(&upstream).sections(lenient).start().await;
    let (answered, _) = until_refused(&proxy, &mut agent()).await;
    assert_eq!(answered, 8, "the same error is not the tool's to allow");
    let mut watcher = Talk::new("You are the watchdog.", "Watch over the parser for me.");
    for _ in 0..20 {
        let response = proxy.call(&watcher.ask()).await;
        watcher = watcher.heard(&response).result("Error: no such file");
    }
}

#[tokio::test]
async fn run_may_make_so_many_calls_and_be_so_deep() {
    let upstream = Upstream::answers(json(saying("done").to_string())).await;
    let limits = "[loops]\nmax_calls_per_run = 3\nmax_depth = 4\n";
    let proxy = Proxy::with(&upstream).sections(limits).start().await;
    let call = |n: usize| {
        let talk = Talk::new("You are the coder.", &format!("Do the work of day {n}."));
        talk.header("x-aiops-run", "r1")
    };
    let deep = call(0).header("x-aiops-depth", "5");
    let refused = proxy.call(&deep.ask()).await;
    assert_eq!(refused.header("x-aiops-reason"), Some("too_deep"));
    assert!(message(&refused).contains("raise [loops] max_depth"));
    for n in 0..3 {
        assert_eq!(proxy.call(&call(n).ask()).await.status(), 200);
    }
    let refused = proxy.call(&call(4).ask()).await;
    assert_eq!(
        refused.header("x-aiops-reason"),
        Some("too_many_calls_of_run")
    );
}

#[tokio::test]
async fn what_may_not_be_kept_is_in_no_evidence() {
    for (lines, shown) in [
        ("record = \"meta\"", None),
        (
            "redact = [{ pattern = 'main', replace = \"[x]\" }]",
            Some("src/application/[x].rs"),
        ),
    ] {
        let upstream = stubborn().await;
        let proxy = setup(&upstream).ledger_lines(lines).start().await;
        let (_, refused) = until_refused(&proxy, &mut agent()).await;
        assert!(!message(&refused).contains(ARGUMENTS));
        let sample = only_trip(&proxy).evidence.sample.join(" ");
        assert!(!sample.contains(ARGUMENTS), "{sample}");
        assert_eq!(sample.is_empty(), shown.is_none(), "{sample}");
        assert!(sample.contains(shown.unwrap_or_default()), "{sample}");
    }
}
