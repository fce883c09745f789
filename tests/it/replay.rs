//! A recorded run that answers its program once more, with nothing behind it.

mod matching;

use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::answer::Answer;
use crate::harness::ask::{Ask, post};
use crate::harness::client::{Client, Response};
use crate::harness::launch::ended;
use crate::harness::process::Ended;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::{Upstream, json as json_answer, sse, within};

/// Of an upstream that is asked for usage, by the proxy alone.
const EVENTS: [&str; 5] = [
    "data: {\"id\":\"s\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"he\"}}]}\n\n",
    "data: {\"id\":\"s\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"llo\"}}]}\n\n",
    "data: {\"id\":\"s\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"id\":\"s\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":2,\"total_tokens\":12}}\n\n",
    "data: [DONE]\n\n",
];

pub(crate) fn plain(text: &str) -> Answer {
    json_answer(format!(
        "{{\"id\":\"{text}\", \"model\":\"m\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\
         \"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":10,\
         \"completion_tokens\":2,\"total_tokens\":12}}}}"
    ))
}

pub(crate) fn chat(texts: &[&str], stream: bool) -> Ask {
    let messages: Vec<Value> = texts
        .iter()
        .map(|text| json!({"role": "user", "content": text}))
        .collect();
    let body = json!({"model": "m", "stream": stream, "messages": messages});
    post("/v1/chat/completions", body.to_string())
        .header("x-aiops-run", "taped")
        .header("x-aiops-agent", "planner")
}

fn asks() -> [Ask; 3] {
    [
        chat(&["one"], false),
        chat(&["one", "two at 2026-11-30T06:12:34Z"], true),
        chat(&["one", "two at 2026-11-30T06:12:34Z", "three"], false),
    ]
}

/// A run of three calls; the answers as they were live, and where it is recorded.
pub(crate) async fn taped() -> (Vec<Response>, Setup, Upstream) {
    let upstream = Upstream::answers_each([plain("first"), sse(EVENTS), plain("third")]).await;
    let (answers, again) = recorded(Proxy::with(&upstream), &asks()).await;
    (answers, again, upstream)
}

/// What was answered, and where it is recorded.
pub(crate) async fn recorded(setup: Setup, asks: &[Ask]) -> (Vec<Response>, Setup) {
    let text = setup.text();
    std::fs::write(setup.dir.path().join("config.toml"), text).expect("a file");
    let again = Setup::new().on_data_of(&setup.dir);
    let proxy = setup.start().await;
    let mut answers = Vec::new();
    for ask in asks {
        let answer = proxy.call(ask).await;
        proxy.record(&answer).await;
        answers.push(answer);
    }
    proxy.app.stop().await;
    (answers, again)
}

pub(crate) fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_open-aiops"));
    command
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").expect("a path"))
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    command
}

/// `replay taped --serve`, listening.
pub(crate) struct Serving {
    child: Child,
    pub(crate) address: std::net::SocketAddr,
}

impl Serving {
    pub(crate) async fn start(setup: &Setup, arguments: &[&str]) -> Self {
        let arguments = [&["replay", "taped", "--serve"], arguments].concat();
        let mut command = command(setup.dir.path(), &arguments);
        command.stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("a program");
        let out = child.stdout.as_mut().expect("its output");
        let mut line = String::new();
        within("an address", BufReader::new(out).read_line(&mut line))
            .await
            .expect("a line");
        let address = line.trim().strip_prefix("OPENAI_BASE_URL=http://");
        let address = address.and_then(|it| it.strip_suffix("/v1"));
        let address = address.unwrap_or_else(|| panic!("{line:?}"));
        Self {
            child,
            address: address.parse().expect("an address"),
        }
    }

    pub(crate) async fn call(&self, ask: &Ask) -> Response {
        Client::connect(self.address).await.call(ask).await
    }

    pub(crate) async fn end(self) -> Ended {
        let pid = self.child.id().expect("a program").cast_signed();
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
        let output = within("its end", self.child.wait_with_output())
            .await
            .expect("an end");
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("a text"),
            err: String::from_utf8(output.stderr).expect("a text"),
        }
    }
}

#[tokio::test]
async fn replay_gives_the_bytes_of_the_record_with_the_upstream_gone() {
    let (live, setup, upstream) = taped().await;
    drop(upstream);
    let serving = Serving::start(&setup, &["--speed", "max"]).await;
    let streamed = String::from_utf8_lossy(&live[1].body.data);
    assert!(
        streamed.contains("[DONE]") && !streamed.contains("usage"),
        "{streamed}"
    );
    for (ask, live) in asks().iter().zip(&live) {
        let replayed = serving.call(ask).await;
        assert_eq!(replayed.head.status(), live.head.status());
        assert_eq!(replayed.body.data, live.body.data);
        for name in ["content-type", "content-length", "transfer-encoding"] {
            assert_eq!(replayed.head.header(name), live.head.header(name), "{name}");
        }
    }
    let done = serving.end().await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("3 of 3 calls played"), "{}", done.out);
}

#[tokio::test]
async fn times_may_differ_and_a_changed_prompt_is_found_at_its_call() {
    let (_, setup, _upstream) = taped().await;
    let serving = Serving::start(&setup, &["--speed", "max"]).await;
    assert_eq!(
        serving.call(&chat(&["one"], false)).await.head.status(),
        200
    );
    let later = chat(&["one", "two at 2027-01-01T00:00:00Z"], true);
    assert_eq!(serving.call(&later).await.head.status(), 200);
    let other = chat(&["one", "two at 2027-01-01T00:00:00Z", "four"], false);
    let refused = serving.call(&other).await;
    assert_eq!(refused.head.status(), 409);
    assert_eq!(refused.head.header("x-should-retry"), Some("false"));
    let error: Value = serde_json::from_slice(&refused.body.data).unwrap();
    assert_eq!(error["error"]["code"], "replay_departed");
    let done = serving.end().await;
    assert_eq!(done.code, Some(77), "{}", done.err);
    for text in [&done.err, &done.out] {
        assert!(text.contains("at call 3 of 3"), "{text}");
        assert!(text.contains("message 3 differs"), "{text}");
        assert!(
            text.contains("- user: three") && text.contains("+ user: four"),
            "{text}"
        );
    }
    assert!(done.out.contains("not played: "), "{}", done.out);
}

#[tokio::test]
async fn what_is_not_recorded_gets_the_nearest_answer_if_that_is_wanted() {
    let (live, setup, _upstream) = taped().await;
    let serving = Serving::start(&setup, &["--on-divergence", "nearest"]).await;
    let nearest = serving.call(&chat(&["other"], false)).await;
    assert_eq!(nearest.body.data, live[0].body.data);
    let done = serving.end().await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    let says = "1 of 3 calls played, 2 the program did not ask for";
    assert!(done.out.contains(says), "{}", done.out);
}

#[tokio::test]
async fn what_is_not_recorded_goes_live_as_a_new_run_if_that_is_wanted() {
    let (_, setup, upstream) = taped().await;
    let serving = Serving::start(&setup, &["--on-divergence", "forward"]).await;
    assert_eq!(
        serving.call(&chat(&["one"], false)).await.head.status(),
        200
    );
    assert_eq!(upstream.requests().len(), 3);
    let answer = serving.call(&chat(&["other"], false)).await;
    assert_eq!(answer.head.status(), 200);
    assert_eq!(upstream.requests().len(), 4);
    assert!(
        answer
            .head
            .header("x-aiops-run")
            .unwrap()
            .starts_with("taped-")
    );
    let done = serving.end().await;
    assert!(
        done.out.contains("1 went live, as run taped-"),
        "{}",
        done.out
    );
    let runs = ended(command(
        setup.dir.path(),
        &["runs", "--config", "config.toml"],
    ))
    .await;
    assert!(runs.out.contains("taped-"), "{}{}", runs.out, runs.err);
}

#[tokio::test]
async fn fork_goes_on_live_with_another_model() {
    let (live, setup, upstream) = taped().await;
    let fork = ["--fork-at", "2", "--model", "other-model"];
    let serving = Serving::start(&setup, &fork).await;
    let [first, _, third] = asks();
    assert_eq!(serving.call(&first).await.body.data, live[0].body.data);
    assert_eq!(upstream.requests().len(), 3);
    assert_eq!(serving.call(&third).await.head.status(), 200);
    let forked = upstream.requests().pop().unwrap();
    let body: Value = serde_json::from_str(forked.text()).unwrap();
    assert_eq!(body["model"], "other-model");
    assert_eq!(body["messages"][2]["content"], "three");
    serving.end().await;
}

#[tokio::test]
async fn key_of_a_live_call_goes_nowhere_that_it_did_not_go_before() {
    let (main, local) = (
        Upstream::answers(plain("main")).await,
        Upstream::answers(plain("local")).await,
    );
    let both = Proxy::with(&main).upstream("local", &local, "models = [\"m\"]");
    let ask = chat(&["one"], false).header("authorization", "Bearer sk-of-the-client");
    let (_, setup) = recorded(both, std::slice::from_ref(&ask)).await;
    let serving = Serving::start(&setup, &["--fork-at", "1"]).await;
    assert_eq!(serving.call(&ask).await.head.status(), 200);
    serving.end().await;
    assert_eq!((main.requests().len(), local.requests().len()), (0, 2));
    for request in local.requests() {
        assert_eq!(request.header("authorization"), None);
    }
}

#[tokio::test]
async fn what_cannot_be_replayed_is_said_with_the_reason() {
    let (_, setup, _upstream) = taped().await;
    for (arguments, code, says) in [
        (
            ["replay", "nobody"].as_slice(),
            1,
            "no call of a run nobody",
        ),
        (
            &["replay", "taped", "--serve", "--fork-at", "9"],
            2,
            "a number from 1 to 3",
        ),
        (
            &["replay", "taped", "--serve", "--model", "m"],
            2,
            "--fork-at",
        ),
        (&["replay", "taped", "--serve", "--speed", "0"], 2, "or max"),
        (&["run", "--speed", "1", "--", "true"], 125, "--replay RUN"),
        (
            &["run", "--replay", "taped", "--stay", "--", "true"],
            125,
            "leave them out",
        ),
        (
            &["run", "--replay", "taped", "--name", "x", "--", "true"],
            125,
            "--name and --variant come with",
        ),
        (
            &[
                "replay",
                "taped",
                "--serve",
                "--listen",
                "0.0.0.0:0",
                "--fork-at",
                "2",
            ],
            2,
            "an address of this machine alone",
        ),
        (
            &["run", "--replay", "nobody", "--", "true"],
            125,
            "no call of a run nobody",
        ),
    ] {
        let done = ended(command(setup.dir.path(), arguments)).await;
        assert_eq!(done.code, Some(code), "{arguments:?}: {}", done.err);
        assert!(done.err.contains(says), "{arguments:?}: {}", done.err);
    }
    let listed = ended(command(setup.dir.path(), &["replay", "taped"])).await;
    assert!(
        listed
            .out
            .contains("3 of 3 calls of run taped can be played"),
        "{}",
        listed.out
    );
}

#[tokio::test]
async fn run_without_recorded_bodies_names_the_setting() {
    let upstream = Upstream::answers(plain("first")).await;
    let setup = Proxy::with(&upstream).ledger_lines("record = \"meta\"");
    let (answers, setup) = recorded(setup, &asks()).await;
    let last = answers[2].head.header("x-aiops-call").expect("an id");
    // Neither can a fork do without: it would go live from the first call on.
    for fork in [[].as_slice(), &["--fork-at", "2"], &["--fork-at", last]] {
        let arguments = [&["replay", "taped", "--serve"], fork].concat();
        let done = ended(command(setup.dir.path(), &arguments)).await;
        assert_eq!(done.code, Some(2), "{}", done.err);
        assert!(
            done.err.contains("record = \"meta\" in [ledger]"),
            "{}",
            done.err
        );
    }
}
