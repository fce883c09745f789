//! A program launched by `open-aiops run -- ...`: its calls, its environment, its end, its receipt.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::harness::answer::Answer;
use crate::harness::launch::{Desk, ended, path};
use crate::harness::process::{Ended, Server};
use crate::harness::{Upstream, json};

const CALLS: &str = "for i in 1 2 3; do bash call.sh; done";

/// 1,000 tokens in, 100 out.
pub(crate) fn chat() -> Answer {
    json(
        r#"{"id":"c","object":"chat.completion","model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}"#,
    )
}

#[track_caller]
fn receipt(ended: &Ended) -> Value {
    let at = ended
        .err
        .find('{')
        .unwrap_or_else(|| panic!("{}", ended.err));
    serde_json::from_str(&ended.err[at..]).unwrap_or_else(|_| panic!("{}", ended.err))
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[tokio::test]
async fn launched_program_is_a_run_whose_receipt_follows_it() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let done = desk
        .run(&[
            "--name",
            "nightly",
            "--variant",
            "terse",
            "--",
            "bash",
            "call.sh",
        ])
        .await;
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), "200\n"),
        "{}",
        done.err
    );
    let seen = upstream.request();
    assert_eq!(seen.target(), "/v1/chat/completions");
    assert_eq!(seen.header("authorization"), Some("Bearer child-key"));
    assert_eq!(seen.header("x-aiops-agent"), None);
    let lines: Vec<&str> = done.err.lines().collect();
    has(
        lines[0],
        &[
            "open-aiops: run nightly-",
            "http://127.0.0.1:",
            "/runs/nightly-",
        ],
    );
    has(
        &done.err,
        &[
            "1 call\n",
            "1,000 in (0 cached), 100 out",
            "cost     $0.00021",
            "caller",
            "slowest",
        ],
    );
    let shown = lines
        .last()
        .unwrap()
        .trim()
        .strip_prefix("look at  open-aiops ")
        .unwrap();
    let words: Vec<&str> = shown.split(' ').collect();
    let listed = ended(desk.command(&words)).await;
    has(&listed.out, &["caller", "gpt-4o-mini", "completed"]);
    let calls = ended(desk.command(&["calls", "--json"])).await;
    let calls: Value = serde_json::from_str(&calls.out).unwrap();
    assert_eq!(calls["calls"][0]["variant"], "terse");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(desk.ledger()), 0o700);
    assert_eq!(mode(desk.ledger().join("lock")), 0o600);
}

#[tokio::test]
async fn environment_of_the_program_is_what_it_was_and_where_to_call() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let mut command = desk.command(&["run", "--quiet", "--budget-usd", "2", "--", "env"]);
    command
        .env("OPEN_AIOPS_TOKEN", "secret")
        .env("https_proxy", "http://proxy.test:3128")
        .env(
            "OPENAI_CUSTOM_HEADERS",
            "x-team: search\nx-aiops-run: old\nx-aiops-upstream: other",
        )
        .env("ANTHROPIC_BASE_URL", "");
    let done = ended(command).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    let url = done
        .out
        .lines()
        .find_map(|line| line.strip_prefix("OPEN_AIOPS_URL="));
    let url = url.unwrap().to_owned();
    let (origin, run) = url.split_once("/run/").unwrap();
    let run = run.strip_suffix("/budget-usd/2.00").unwrap();
    assert!(
        origin.starts_with("http://127.0.0.1:") && run.starts_with("env-"),
        "{url}"
    );
    let expected = [
        "ANTHROPIC_BASE_URL=".to_owned(),
        format!("BIN={}", env!("CARGO_BIN_EXE_open-aiops")),
        "NO_PROXY=127.0.0.1,localhost".to_owned(),
        format!("OPENAI_API_BASE={url}/upstream/main/v1"),
        format!("OPENAI_BASE_URL={url}/upstream/main/v1"),
        "OPENAI_CUSTOM_HEADERS=x-team: search".to_owned(),
        format!(
            "OPEN_AIOPS_LEDGER={}",
            fs::canonicalize(desk.ledger()).unwrap().display()
        ),
        format!("OPEN_AIOPS_RUN={run}"),
        format!("OPEN_AIOPS_URL={url}"),
        format!("PATH={}", path()),
        "https_proxy=http://proxy.test:3128".to_owned(),
        "no_proxy=127.0.0.1,localhost".to_owned(),
        "x-aiops-budget-usd: 2.00".to_owned(),
        format!("x-aiops-run: {run}"),
    ];
    let mut got: Vec<&str> = done.out.lines().collect();
    got.sort_unstable();
    assert_eq!(got, expected);
    has(&done.err, &["no call came through the proxy"]);
    assert!(
        done.err.starts_with("open-aiops: run env-"),
        "one receipt: {}",
        done.err
    );
    assert_eq!(done.err.matches("open-aiops: run").count(), 1);
}

#[tokio::test]
async fn exit_code_is_that_of_the_program_or_says_what_failed() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    for (arguments, code, says) in [
        (["--", "sh", "-c", "exit 3"].as_slice(), 3, "0 calls"),
        (&["--", "sh", "-c", "kill -TERM $$"], 143, "0 calls"),
        (&["--", "sh", "-c", "kill -KILL $$"], 137, "0 calls"),
        (
            &["--", "no-such-program"],
            127,
            "no-such-program: No such file",
        ),
        (
            &["--", "./config.toml"],
            126,
            "./config.toml: Permission denied",
        ),
        (
            &["--receipt", "no/such/dir", "--", "true"],
            125,
            "--receipt no/such/dir",
        ),
        (&["--budget-usd", "0", "--", "true"], 125, "--budget-usd"),
        (
            &["--config", "missing.toml", "--", "true"],
            125,
            "missing.toml",
        ),
        (&["--", "sh", "-c", "exit 0", "stop"], 0, "0 calls"),
    ] {
        let done = desk.run(arguments).await;
        assert_eq!(done.code, Some(code), "{arguments:?}: {}", done.err);
        has(&done.err, &[says]);
        assert_eq!(done.out, "", "{arguments:?}");
    }
    for (arguments, says) in [
        (["python", "crew.py"].as_slice(), "put -- before it"),
        (&[], "what to launch comes after --"),
        (&["--name", "a", "stop", "b"], "come with --"),
        (&["stop", "b"], "no server runs"),
    ] {
        let done = desk.run(arguments).await;
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.err);
        has(&done.err, &[says]);
    }
}

#[tokio::test]
async fn run_that_a_breaker_stopped_has_an_exit_code_of_its_own() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let limited = ["--budget-calls", "2", "--json", "--", "sh", "-c", CALLS];
    let done = desk.run(&limited).await;
    assert_eq!(done.code, Some(76), "{}", done.err);
    assert_eq!(done.out, "200\n200\n429\n");
    let receipt = receipt(&done);
    assert_eq!(receipt["is_tripped"], true);
    assert_eq!(
        (&receipt["ok"], &receipt["refused"]),
        (&2.into(), &1.into())
    );
    assert_eq!(receipt["exit_code"], 0);
    assert_eq!(receipt["agents"][0]["name"], "caller");
    let trip = &receipt["trips"][0];
    assert_eq!(trip["kind"], "budget_spent");
    has(
        trip["message"].as_str().unwrap(),
        &["2 of 2 calls", "open-aiops budgets raise"],
    );
    let kept = [
        &["--keep-exit-code", "--receipt", "receipt.txt"],
        &limited[..2],
        &limited[3..],
    ];
    let done = desk.run(&kept.concat()).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(
        done.err.lines().count(),
        1,
        "the receipt is in its file: {}",
        done.err
    );
    let written = fs::read_to_string(desk.path("receipt.txt")).unwrap();
    has(
        &written,
        &["2 calls, 1 refused", "tripped  1 call refused: the budget"],
    );
}

#[tokio::test]
async fn endpoint_that_is_set_is_reached_though_the_config_changes() {
    let (main, other) = (
        Upstream::answers(chat()).await,
        Upstream::answers(chat()).await,
    );
    let desk = Desk::with(&main, "");
    let script = "bash call.sh; touch first; while [ ! -e second ]; do sleep 0.05; done; bash call.sh; \
                  bash call.sh $OPEN_AIOPS_URL/upstream/unknown/v1; bash call.sh $OPEN_AIOPS_URL/upstream/";
    let mut command = desk.command(&["run", "--", "bash", "-c", script]);
    command.env("OPENAI_API_BASE", format!("http://{}/v1", other.address()));
    let launched = tokio::spawn(ended(command));
    other.asked().await;
    desk.configure(&main, "[[budget]]\nname = \"all\"\ncalls = 2\n");
    let events = || async { ended(desk.command(&["events", "--json"])).await.out };
    crate::harness::within("a reload", async {
        while !events().await.contains("config_reloaded") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    fs::write(desk.path("second"), "").unwrap();
    let done = launched.await.unwrap();
    assert_eq!(done.out, "200\n200\n400\n400\n", "{}", done.err);
    let targets = other.requests();
    let targets: Vec<&str> = targets
        .iter()
        .map(crate::harness::upstream::Received::target)
        .collect();
    assert_eq!(targets, ["/v1/chat/completions"; 2]);
    assert_eq!(main.requests().len(), 0, "no key came to another endpoint");
}

#[tokio::test]
async fn proxy_that_runs_is_used_if_it_has_what_is_set() {
    let (main, other) = (
        Upstream::answers(chat()).await,
        Upstream::answers(chat()).await,
    );
    let desk = Desk::with(&main, "");
    let server = Server::start(&desk.path("")).await;
    let done = desk.run(&["--", "bash", "call.sh"]).await;
    assert_eq!(done.out, "200\n", "{}", done.err);
    has(
        &done.err,
        &[&format!("page     http://{}/runs/call-", server.admin)],
    );
    let with_other = |arguments: &[&str]| {
        let mut command = desk.command(arguments);
        command.env("OPENAI_BASE_URL", format!("http://{}/v1", other.address()));
        ended(command)
    };
    let arguments = ["run", "--", "bash", "call.sh"];
    let refused = with_other(&arguments).await;
    assert_eq!(refused.code, Some(125));
    let base_url = format!("base_url = \"http://{}/v1\"", other.address());
    has(
        &refused.err,
        &[
            "OPENAI_BASE_URL is set to",
            "[[upstream]]",
            &base_url,
            "--dir",
        ],
    );
    assert_eq!(refused.out, "");
    let more = format!(
        "[[upstream]]\nname = \"main\"\nbase_url = \"http://{}/v1\"\n",
        main.address()
    );
    let text = fs::read_to_string(desk.path("config.toml")).unwrap();
    fs::write(
        desk.path("config.toml"),
        format!(
            "{text}\n{}\n",
            more.replace("main", "other")
                .replace(&main.address().to_string(), &other.address().to_string(),)
        ),
    )
    .unwrap();
    server.hang_up();
    let passed = crate::harness::within("a reload", async {
        loop {
            let done = with_other(&arguments).await;
            if done.code == Some(0) {
                return done;
            }
        }
    })
    .await;
    assert_eq!(passed.out, "200\n", "{}", passed.err);
    assert_eq!((main.requests().len(), other.requests().len()), (1, 1));
    // Its own address is no other endpoint.
    let mut command = desk.command(&arguments);
    command.env("OPENAI_BASE_URL", format!("http://{}/v1", server.proxy));
    assert_eq!(ended(command).await.out, "200\n");
    assert_eq!(main.requests().len(), 2);
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn launch_within_a_launch_counts_against_it() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    // From elsewhere, where another config file is: the proxy is the parent's all the same.
    let script = "mkdir -p sub; cp call.sh sub; cd sub; echo 'not a config' > config.toml; \
                  for i in 1 2 3; do $BIN run --quiet -- bash call.sh; echo \"code $?\"; done";
    let done = desk
        .run(&[
            "--name",
            "outer",
            "--budget-calls",
            "2",
            "--json",
            "--",
            "bash",
            "-c",
            script,
        ])
        .await;
    assert_eq!(
        done.out, "200\ncode 0\n200\ncode 0\n429\ncode 76\n",
        "{}",
        done.err
    );
    assert_eq!(done.code, Some(76));
    let json = done.err.find("{\n").unwrap();
    let receipt: Value = serde_json::from_str(&done.err[json..]).unwrap();
    assert_eq!(receipt["totals"]["calls"], 2);
    assert_eq!(receipt["runs"].as_array().unwrap().len(), 2);
    assert_eq!(receipt["refused"], 1);
    has(&done.err, &["outer-"]);
    let apart = "$BIN run --dir elsewhere -- true; echo $?";
    let done = desk.run(&["--", "bash", "-c", apart]).await;
    assert_eq!(done.out, "125\n");
    has(&done.err, &["whose proxy is used", "unset OPEN_AIOPS_RUN"]);
}

#[tokio::test]
async fn header_does_not_lead_out_of_the_run_of_the_base_url() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let out = "sed 's/x-aiops-agent: caller/x-aiops-run: other-'$RANDOM'/' call.sh > out.sh; \
               for i in 1 2 3; do bash out.sh; done";
    let done = desk
        .run(&["--budget-calls", "2", "--", "bash", "-c", out])
        .await;
    assert_eq!(done.out, "200\n200\n429\n", "{}", done.err);
    assert_eq!(done.code, Some(76));
}

#[tokio::test]
async fn launch_within_that_has_no_token_says_what_it_cannot_know() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "token_env = \"MINE\"");
    let script = "echo \"seen: $MINE\"; $BIN run -- bash call.sh";
    let mut command = desk.command(&["run", "--quiet", "--", "bash", "-c", script]);
    command.env("MINE", "k".repeat(32));
    let done = ended(command).await;
    assert_eq!(done.out, "seen: \n200\n", "{}", done.err);
    has(
        &done.err,
        &["asks for its admin token", "no receipt, nor an exit code"],
    );
}

#[tokio::test]
async fn key_of_an_upstream_is_not_seen_by_the_program_unless_clients_need_it() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let file = desk.path("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    for (name, seen) in [
        ("TEAM_KEY", "seen: \n200\n"),
        ("OPENAI_API_KEY", "seen: sk-own\n200\n"),
    ] {
        fs::write(&file, format!("{text}api_key_env = \"{name}\"\n")).unwrap();
        let script = format!("echo \"seen: ${name}\"; bash call.sh");
        let mut command = desk.command(&["run", "--", "bash", "-c", &script]);
        command.env(name, "sk-own");
        let done = ended(command).await;
        assert_eq!(done.out, seen, "{}", done.err);
        let told = done.err.contains("the program sees OPENAI_API_KEY");
        assert_eq!(told, name == "OPENAI_API_KEY", "{}", done.err);
        let key = upstream.requests().pop().unwrap();
        assert_eq!(key.header("authorization"), Some("Bearer sk-own"));
    }
}
