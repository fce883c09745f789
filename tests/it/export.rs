//! Recorded rows as files, from a running proxy and from the files of one that ended.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::harness::process::{self, Ended};
use crate::harness::{Proxy, Upstream, json, post, within};

const SECRET: &str = "swordfish-7731";
const BUDGET: &str = "[[budget]]\nname = \"each run\"\nper = [\"run\"]\nusd = 5.0\n";

async fn recorded() -> Proxy {
    let answer = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-5",
        "choices":[{"index":0,"message":{"role":"assistant","content":"=HELLO, \"you\""},
        "finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#;
    let upstream = Upstream::with(move |_, _| json(answer)).await;
    let redact = format!("[[ledger.redact]]\npattern = \"{SECRET}\"\nreplace = \"[word]\"\n");
    let setup = Proxy::with(&upstream).sections(&(redact + BUDGET));
    fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    let proxy = setup.start().await;
    for run in ["night-1", "night-2"] {
        let body = format!(
            r#"{{"model":"gpt-5","messages":[{{"role":"user","content":"my word is {SECRET}"}}]}}"#
        );
        let ask = post("/v1/chat/completions", &body)
            .header("x-aiops-run", run)
            .header("x-aiops-agent", "planner")
            .header("x-aiops-metric-score", "0.75");
        assert_eq!(proxy.call(&ask).await.status(), 200);
    }
    within("the end", proxy.app.settled()).await;
    proxy
}

async fn export(proxy: &Proxy, arguments: &[&str]) -> Ended {
    let arguments: Vec<_> = ["export"].iter().chain(arguments).copied().collect();
    process::run(proxy.dir.path(), &arguments).await
}

async fn lines(proxy: &Proxy, table: &str, more: &[&str]) -> Vec<Value> {
    let mut arguments = vec![table, "--format", "jsonl", "--out", "-"];
    arguments.extend(more);
    let ended = export(proxy, &arguments).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let rows = ended.out.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_running_proxy_are_exported() {
    let proxy = recorded().await;
    let calls = lines(&proxy, "calls", &[]).await;
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0]["run_id"], "night-2");
    assert_eq!(calls[0]["input_tokens"], 9);
    assert_eq!(calls[0]["finish_reasons"][0], "stop");
    let only = lines(&proxy, "calls", &["--run", "night-1"]).await;
    assert_eq!(only.len(), 1);
    let metrics = lines(&proxy, "metrics", &[]).await;
    assert_eq!(metrics.len(), 2);
    assert_eq!(
        (&metrics[0]["name"], &metrics[0]["value"]),
        (&"score".into(), &0.75.into())
    );
    assert_eq!(metrics[0]["who"], "header");
    let accounts = lines(&proxy, "budgets", &["--run", "night-1"]).await;
    assert_eq!(accounts.len(), 1);
    assert_eq!(accounts[0]["key"]["run"], "night-1");
    let charges = lines(&proxy, "charges", &["--run", "night-1"]).await;
    assert_eq!(charges[0]["account_id"], accounts[0]["account_id"]);
    assert_eq!(charges[0]["nano_usd"], only[0]["cost_nano_usd"]);
    let decisions = lines(&proxy, "decisions", &[]).await;
    assert!(decisions.iter().any(|row| row["what"] == "started"));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_what_was_recorded_after_redaction() {
    let proxy = recorded().await;
    let content = lines(&proxy, "content", &["--run", "night-1"]).await;
    assert_eq!(content.len(), 2, "{content:?}");
    assert_eq!(content[1]["text"], "=HELLO, \"you\"");
    assert_eq!(content[0]["role"], "user");
    let said = content[0]["text"].as_str().unwrap();
    assert!(
        said.starts_with("my word is") && !said.contains(SECRET),
        "{said}"
    );
    assert_eq!(content[0]["missing"], "changed");
    let bodies = lines(&proxy, "bodies", &["--run", "night-1"]).await;
    assert_eq!(bodies.len(), 2);
    let request = bodies[0]["text"].as_str().unwrap();
    assert!(request.starts_with("{\"model\"") && !request.contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_whole_and_not_over_others() {
    let proxy = recorded().await;
    let dir = proxy.dir.path();
    let all = ["calls", "charges", "--format", "parquet", "--out", "export"];
    let ended = export(&proxy, &all).await;
    assert!(
        ended.out.contains("calls: 2 rows in export/calls.parquet"),
        "{}",
        ended.err
    );
    for name in ["calls", "charges"] {
        let bytes = fs::read(dir.join(format!("export/{name}.parquet"))).unwrap();
        assert!(
            bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"),
            "{name}"
        );
    }
    let again = export(&proxy, &all).await;
    assert_eq!(again.code, Some(2));
    assert!(
        again.err.contains("is there: --force replaces it"),
        "{}",
        again.err
    );
    let forced = [all.as_slice(), &["--force"]].concat();
    assert_eq!(export(&proxy, &forced).await.code, Some(0));
    for (wrong, says) in [
        (
            ["spend", "--format", "csv", "--out", "x"].as_slice(),
            "calls, decisions, budgets",
        ),
        (
            &["calls", "--format", "xls", "--out", "x"],
            "parquet, jsonl, csv",
        ),
        (
            &["calls", "--format", "parquet", "--out", "-"],
            "written to a file",
        ),
        (
            &["decisions", "--user", "me", "--format", "csv", "--out", "x"],
            "decisions do not say",
        ),
        (
            &["calls", "--format", "csv", "--out", "config.toml/x"],
            "cannot write config.toml/x",
        ),
    ] {
        let ended = export(&proxy, wrong).await;
        assert_eq!(ended.code, Some(2), "{wrong:?}");
        assert!(ended.err.contains(says), "{wrong:?}: {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_proxy_that_ended_say_the_same() {
    let proxy = recorded().await;
    let live = lines(&proxy, "calls", &[]).await;
    let dir = std::sync::Arc::clone(&proxy.dir);
    proxy.app.stop().await;
    let arguments = ["export", "calls", "--format", "jsonl", "--out", "-"];
    let ended = process::run(dir.path(), &arguments).await;
    let rows = ended.out.lines().map(serde_json::from_str);
    let rows: Vec<Value> = rows.collect::<Result<_, _>>().unwrap();
    assert_eq!(rows, live);
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_fails_leaves_what_was_there() {
    let proxy = recorded().await;
    let out = proxy.dir.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("calls.csv"), "old").unwrap();
    // Decisions cannot be chosen by user: the second of two tables fails.
    let arguments = ["calls", "decisions", "--user", "me", "--format", "csv"];
    let arguments = [&arguments[..], &["--force", "--out", "out"]].concat();
    let ended = export(&proxy, &arguments).await;
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert_eq!(names(&out), ["calls.csv"]);
    assert_eq!(fs::read(out.join("calls.csv")).unwrap(), b"old");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_written_is_told_before_the_work() {
    let proxy = recorded().await;
    let dir = proxy.dir.path();
    fs::create_dir_all(dir.join("out/charges.csv")).unwrap();
    let both = ["calls", "charges", "--format", "csv", "--force"];
    let ended = export(&proxy, &[&both[..], &["--out", "out"]].concat()).await;
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.err.contains("cannot write out/charges.csv"),
        "{}",
        ended.err
    );
    assert_eq!(names(&dir.join("out")), ["charges.csv"]);
    let new = ["calls", "--format", "csv", "--out", "new/"];
    let ended = export(&proxy, &new).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(names(&dir.join("new")), ["calls.csv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_keeps_its_mode_and_the_link_to_it() {
    let proxy = recorded().await;
    let dir = proxy.dir.path();
    fs::create_dir(dir.join("shared")).unwrap();
    let file = dir.join("shared/all.csv");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("shared/all.csv", dir.join("link.csv")).unwrap();
    let arguments = ["calls", "--format", "csv", "--force", "--out", "link.csv"];
    let ended = export(&proxy, &arguments).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        fs::symlink_metadata(dir.join("link.csv"))
            .unwrap()
            .is_symlink()
    );
    assert!(fs::read_to_string(&file).unwrap().starts_with("call_id,"));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert_eq!(names(&dir.join("shared")), ["all.csv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_export_leaves_nothing() {
    // A server that takes questions and never answers.
    let home = tempfile::tempdir().unwrap();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    fs::create_dir_all(home.path().join("data/log")).unwrap();
    let mut lock = fs::File::create(home.path().join("data/lock")).unwrap();
    lock.lock().unwrap();
    let admin = server.local_addr().unwrap();
    write!(lock, "pid = 1\nadmin = {admin}\nproxy = http://{admin}\n").unwrap();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let arguments = "export calls charges --format csv --out out --dir data";
        let arguments: Vec<_> = arguments.split(' ').collect();
        let mut command = process::command(home.path(), &arguments);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let asked = within("a question", server.accept()).await.unwrap();
        assert_eq!(names(&home.path().join("out")).len(), 2, "files begun");
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(id.unwrap(), signal).unwrap();
        let ended = within("the end", child.wait_with_output()).await.unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert!(names(&home.path().join("out")).is_empty(), "{signal:?}");
        drop(asked);
    }
}
