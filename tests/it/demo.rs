//! The demo is what it says: two scenes go through, two are stopped, and who calls was inferred.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use open_aiops::cli::{self, Output};
use open_aiops::demo::{Options, Scene, play};
use serde_json::Value;

/// Plays it once over a ledger in `dir`; what it told.
async fn played(dir: &Path, scenes: &[Scene]) -> String {
    let options = Options {
        scenes: scenes.to_vec(),
        fast: true,
        repeat: false,
        once: true,
        dir: Some(dir.to_owned()),
        seed: Some(7),
    };
    let mut told = Vec::new();
    play(&options, &mut told).await.unwrap();
    String::from_utf8(told).unwrap()
}

/// What a command answers about the ledger in `dir`.
fn asked(dir: &Path, command: &[&str]) -> Value {
    let mut arguments: Vec<OsString> = ["open-aiops", "--json", "--dir"].map(Into::into).into();
    arguments.push(dir.into());
    arguments.extend(command.iter().map(Into::into));
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let mut output = Output {
        writer: &mut out,
        terminal: false,
    };
    let _ = cli::run(arguments, &mut output, &mut errors);
    assert!(errors.is_empty(), "{}", String::from_utf8_lossy(&errors));
    serde_json::from_slice(&out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_scenes_go_through_and_two_are_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let told = played(dir.path(), &Scene::ALL).await;
    assert_eq!(told.matches("     ok: ").count(), 4, "{told}");
    assert_eq!(told.matches("nobody was stopped").count(), 2, "{told}");
    assert!(told.contains("a loop was stopped"), "{told}");
    assert!(told.contains("the budget \"summaries\""), "{told}");
    let list = tokio::task::spawn_blocking(move || {
        let calls = asked(dir.path(), &["calls", "--limit", "1000"]);
        let loops = asked(dir.path(), &["loops"]);
        (calls, loops)
    });
    let (calls, loops) = list.await.unwrap();
    let calls = calls["calls"].as_array().unwrap();
    let mut agents: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for call in calls {
        let run = call["run"].as_str().unwrap();
        agents
            .entry(run)
            .or_default()
            .insert(call["agent"].as_str().unwrap());
        assert!(call["cost_nano_usd"].as_i64().unwrap() > 0, "{call}");
    }
    let of = |run: &str| agents[run].iter().copied().collect::<Vec<_>>();
    assert_eq!(of("crew-7"), ["planner", "researcher", "writer"]);
    assert_eq!(of("pingpong-7"), ["critic", "editor"]);
    assert_eq!(of("overrun-7"), ["summarizer"]);
    assert_eq!(of("poll-7"), ["deployer"]);
    let from_planner = calls.iter().filter(|call| call["caller"] == "planner");
    assert_eq!(
        from_planner.count(),
        10,
        "three tasks of three calls, and the report"
    );
    let loops = loops["loops"].as_array().unwrap();
    assert_eq!(loops.len(), 1, "{loops:?}");
    assert_eq!(loops[0]["run"], "pingpong-7");
}
