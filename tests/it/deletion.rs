//! Calls are deleted by the command a user types, and nothing of them is in any file after that.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::process::{self, Ended};
use crate::harness::{Proxy, Upstream, json, post, within};

const BUDGET: &str = "[[budget]]\nname = \"each run\"\nper = [\"run\"]\nusd = 5.0\n
    [[budget]]\nname = \"all\"\nusd = 50.0\n";

/// Calls of three runs, each by a user of its own, with words that only they said.
async fn recorded() -> Proxy {
    let upstream = Upstream::with(move |_, _| {
        json(
            r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-5",
            "choices":[{"index":0,"message":{"role":"assistant","content":"hello"},
            "finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,
            "total_tokens":12}}"#,
        )
    })
    .await;
    let setup = Proxy::with(&upstream).sections(BUDGET);
    fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    let proxy = setup.start().await;
    for nth in 1..=3 {
        let body = format!(
            r#"{{"model":"gpt-5","messages":[{{"role":"user","content":"said-in-{nth}"}}]}}"#
        );
        let ask = post("/v1/chat/completions", &body)
            .header("x-aiops-run", format!("night-{nth}"))
            .header("x-aiops-user", format!("person-{nth}"))
            .header("x-aiops-agent", "planner")
            .header("x-aiops-tag-team", format!("team-{nth}"));
        assert_eq!(proxy.call(&ask).await.status(), 200);
    }
    within("the end", proxy.app.settled()).await;
    proxy
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let within = |entry: fs::DirEntry| {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path())
        } else {
            vec![entry.path()]
        }
    };
    entries.flat_map(within).collect()
}

fn bytes(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
    files(dir).into_iter().map(read).collect()
}

#[track_caller]
fn says(dir: &Path, words: &[&str], expected: bool) {
    for word in words {
        let has = |bytes: &Vec<u8>| memchr::memmem::find(bytes, word.as_bytes()).is_some();
        let found: Vec<_> = bytes(dir).into_iter().filter(|(_, it)| has(it)).collect();
        let paths: Vec<_> = found.iter().map(|(path, _)| path).collect();
        assert_eq!(!found.is_empty(), expected, "{word} in {paths:?}");
    }
}

async fn delete(dir: &Path, arguments: &[&str]) -> Ended {
    process::run(dir, &[&["ledger", "delete"], arguments].concat()).await
}

async fn lines(dir: &Path, table: &str) -> Vec<Value> {
    let arguments = ["export", table, "--format", "jsonl", "--out", "-"];
    let ended = process::run(dir, &arguments).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let lines = ended.out.lines();
    lines.map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// What agents used, and what each account counts, whether or not it has a name.
async fn spent(dir: &Path) -> Vec<String> {
    let agents = process::run(dir, &["agents", "--json"]).await;
    let agents: Value = serde_json::from_str(&agents.out).unwrap();
    let agents = agents["agents"].as_array().unwrap().clone();
    let budgets = lines(dir, "budgets").await;
    assert_eq!((agents.len(), budgets.len()), (1, 4));
    let keys = [
        ["agent", "calls", "input_tokens", "cost_nano_usd"],
        ["account_id", "used_calls", "used_nano_usd", "last_at"],
    ];
    let mut spent: Vec<_> = [agents, budgets]
        .into_iter()
        .zip(keys)
        .flat_map(|(rows, keys)| {
            rows.into_iter()
                .map(move |row| keys.map(|key| row[key].clone()))
        })
        .map(|row| format!("{row:?}"))
        .collect();
    spent.sort();
    spent
}

async fn stopped() -> (Arc<TempDir>, PathBuf) {
    let proxy = recorded().await;
    let dir = Arc::clone(&proxy.dir);
    let busy = delete(dir.path(), &["--run", "night-1", "--yes"]).await;
    assert_eq!(busy.code, Some(2));
    assert!(busy.err.contains("stop it first"), "{}", busy.err);
    let busy = delete(dir.path(), &["--run", "night-1", "--dry-run"]).await;
    assert!(busy.err.contains("stop it first"), "{}", busy.err);
    proxy.app.stop().await;
    let log = files(dir.path())
        .into_iter()
        .find(|path| path.ends_with("log/00000000000000000001.seg"));
    let data = log.unwrap().ancestors().nth(2).unwrap().to_owned();
    (dir, data)
}

#[tokio::test(flavor = "multi_thread")]
async fn run_user_and_age_choose_calls_that_leave_every_file_while_spend_stays() {
    let (dir, data) = stopped().await;
    let dir = dir.path();
    let before = spent(dir).await;
    let anchor = process::run(dir, &["audit", "head"]).await.out;
    let meant: [(&[&str], &[&str]); 3] = [
        (
            &["--run", "night-1"],
            &["night-1", "person-1", "team-1", "said-in-1"],
        ),
        (
            &["--user", "person-2"],
            &["night-2", "person-2", "team-2", "said-in-2"],
        ),
        (
            &["--before", "2999-01-01"],
            &["night-3", "person-3", "team-3", "said-in-3"],
        ),
    ];
    for (scope, words) in meant {
        says(&data, words, true);
        let untouched = bytes(&data);
        let foreseen = delete(dir, &[scope, &["--dry-run", "--json"]].concat()).await;
        assert_eq!(foreseen.code, Some(0), "{}", foreseen.err);
        assert_eq!(bytes(&data), untouched, "it changed something");
        let done = delete(dir, &[scope, &["--yes", "--json"]].concat()).await;
        assert_eq!(done.code, Some(0), "{}", done.err);
        let [mut foreseen, mut done]: [Value; 2] =
            [foreseen, done].map(|it| serde_json::from_str(&it.out).unwrap());
        assert_eq!(done["calls"], 1);
        let fresh = done["anchor"].take();
        foreseen["anchor"].take();
        assert_eq!(foreseen, done);
        says(&data, words, false);
        assert_eq!(spent(dir).await, before);
        for anchor in [anchor.trim(), fresh.as_str().unwrap()] {
            let arguments = ["audit", "verify", "--against", anchor];
            let audit = process::run(dir, &arguments).await;
            assert!(audit.out.contains("deleted records"), "{}", audit.err);
        }
        assert_eq!(process::run(dir, &["audit", "verify"]).await.code, Some(0));
    }
    assert!(lines(dir, "calls").await.is_empty());
    let rebuilt = process::run(dir, &["ledger", "rebuild"]).await;
    assert_eq!(rebuilt.code, Some(0), "{}", rebuilt.err);
    assert_eq!(spent(dir).await, before);
}
