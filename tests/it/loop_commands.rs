//! What a person does about loops at the command line, with a proxy that runs.

use std::fs;

use serde_json::{Value, json as object};

use crate::harness::process::{self, Ended};
use crate::harness::talk::{Talk, calling};
use crate::harness::{Proxy, Upstream, json, within};

const AT_ONCE: &str = "[loops]\nmax_delay = \"0s\"\n";

/// A proxy in front of an agent that greps in vain, and how often it was answered.
async fn stopped() -> (Proxy, usize) {
    let upstream = Upstream::with(|n, _| {
        let arguments = object!({"path": "src/parser.rs", "pattern": "fn parse_the_expression"});
        json(calling(&format!("call_{n}"), "grep", &arguments).to_string())
    })
    .await;
    let setup = Proxy::with(&upstream).sections(AT_ONCE);
    fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    let proxy = setup.start().await;
    let mut talk = Talk::new("You are the coder.", "Mend what is broken in the parser.");
    let mut answered = 0;
    loop {
        let response = proxy.call(&talk.ask()).await;
        if response.status() != 200 {
            within("the end", proxy.app.settled()).await;
            return (proxy, answered);
        }
        answered += 1;
        talk = talk.heard(&response).result("Error: no such file");
    }
}

async fn command(proxy: &Proxy, arguments: &[&str]) -> Ended {
    process::run(proxy.dir.path(), arguments).await
}

fn of_json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_are_listed_and_let_go_on() {
    let (proxy, _) = stopped().await;
    let listed = command(&proxy, &["loops"]).await;
    for part in ["open", "coder", "repeat in conversation", "src/parser.rs"] {
        assert!(
            listed.out.contains(part),
            "{part:?} is not in {}",
            listed.out
        );
    }
    let id = of_json(&command(&proxy, &["loops", "--json"]).await)["loops"][0]["id"].clone();
    let id = id.as_str().unwrap();
    let allowed = command(&proxy, &["loops", "allow", id, "--calls", "3"]).await;
    assert_eq!(
        allowed.out,
        format!("{id}: 3 calls pass whatever they repeat\n")
    );
    let again = command(&proxy, &["loops", "reset", id]).await;
    assert_eq!(again.code, Some(1));
    assert!(
        again.err.contains(&format!("no trip {id} is open")),
        "{}",
        again.err
    );
    let listed = command(&proxy, &["loops"]).await;
    assert!(listed.out.contains("closed by operator"), "{}", listed.out);
    for (wrong, says) in [
        (
            ["loops", "reset", "nightly"].as_slice(),
            "expected the id of a call",
        ),
        (&["loops", "allow", id], "--calls"),
        (
            &["loops", "--limit", "3", "reset", id],
            "choose what is listed",
        ),
        (&["backtest"], "required"),
        (
            &["backtest", "--since", "1d", "--preset", "brave"],
            "expected one of observe",
        ),
        (&["backtest", "missing.jsonl"], "missing.jsonl"),
    ] {
        let ended = command(&proxy, wrong).await;
        assert_eq!(ended.code, Some(2), "{wrong:?}");
        assert!(ended.err.contains(says), "{wrong:?}: {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_run_is_stopped_by_the_test_where_it_was_stopped_live() {
    let (proxy, answered) = stopped().await;
    let same = of_json(&command(&proxy, &["backtest", "--since", "1h", "--json"]).await);
    let run = &same["runs"][0];
    // The call that was refused is not recorded: the one before shows a repetition less.
    assert_eq!(
        (&run["calls"], &run["tripped_at"]),
        (&answered.into(), &Value::Null)
    );
    assert_eq!(run["warned_at"], 3);
    let strict = "[loops]\nrepeat = { warn = 2, trip = 4 }\n";
    let file = proxy.dir.path().join("strict.toml");
    let text = fs::read_to_string(proxy.dir.path().join("config.toml")).unwrap();
    fs::write(&file, text.replace(AT_ONCE, strict)).unwrap();
    let name = run["id"].as_str().unwrap();
    let arguments = [
        "backtest",
        "--run",
        name,
        "--config",
        "strict.toml",
        "--json",
    ];
    let strict = of_json(&command(&proxy, &arguments).await);
    let run = &strict["runs"][0];
    assert_eq!(run["tripped_at"], answered - 1);
    assert_eq!(
        (&run["saved_calls"], &run["saved_tokens"]),
        (&1.into(), &100.into())
    );
    let told = command(&proxy, &["backtest", "--run", name]).await.out;
    assert!(
        told.contains("0 of 1 runs would have been stopped, 1 warned about"),
        "{told}"
    );
}

#[tokio::test]
async fn runs_of_a_file_are_tested_and_their_verdicts_written() {
    let dir = tempfile::tempdir().unwrap();
    let call = |new: Value| {
        object!({"agent": "a", "caller": null, "new_messages": new,
            "response": {"role": "assistant", "content": "I will now go on with the next step of it."}})
    };
    let go_on = || call(object!([{"role": "user", "content": "Continue."}]));
    let mut calls = vec![call(
        object!([{"role": "user", "content": "Write a book."}]),
    )];
    calls.extend((0..9).map(|_| go_on()));
    let budget = "[[budget]]\nname = \"few\"\nper = [\"run\"]\ncalls = 4\n";
    fs::write(dir.path().join("config.toml"), budget).unwrap();
    let line = object!({"id": "book", "calls": calls});
    fs::write(dir.path().join("runs.jsonl"), format!("{line}\n\n")).unwrap();
    let arguments = ["backtest", "runs.jsonl", "--verdicts", "out.jsonl"];
    let ended = process::run(dir.path(), &arguments).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended.out.contains("budget \"few\", run book: refused"),
        "{}",
        ended.out
    );
    let verdicts = fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
    assert_eq!(verdicts, "{\"id\":\"book\",\"tripped_at\":6}\n");
    fs::write(dir.path().join("runs.jsonl"), "{\"id\": 1}").unwrap();
    let ended = process::run(dir.path(), &arguments).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("runs.jsonl: line 1: "), "{}", ended.err);
}
