//! Recorded rows as files, from a running proxy and from the files of one that ended.

use std::fs;

use serde_json::Value;

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
