//! A program that is launched to be answered from a record: its exit code, and what is said of it.

use serde_json::Value;

use crate::harness::launch::ended;
use crate::harness::process::Ended;
use crate::harness::proxy::Setup;
use crate::replay::{command, taped};

/// A client that asks what was asked first, and prints the status.
const CALL: &str = r#"
rest=${OPENAI_BASE_URL#http://}; host=${rest%%/*}; path=/${rest#*/}
body='{"model":"m","messages":[{"role":"user","content":"'$1'"}]}'
exec 3<>"/dev/tcp/${host%:*}/${host#*:}"
printf 'POST %s/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' "$path" ${#body} "$body" >&3
read -r _ status _ <&3; cat <&3 >/dev/null; echo "$status $OPENAI_API_KEY"
"#;

#[tokio::test]
async fn launched_program_is_answered_from_the_record() {
    let (_, setup, upstream) = taped().await;
    drop(upstream);
    let run = |text: &'static str| {
        let launch = [
            "run", "--replay", "taped", "--", "bash", "-c", CALL, "x", text,
        ];
        ended(command(setup.dir.path(), &launch))
    };
    let same = run("one").await;
    assert_eq!(
        (same.code, same.out.as_str()),
        (Some(0), "200 replayed\n"),
        "{}",
        same.err
    );
    assert!(same.err.contains("1 of 3 calls played"), "{}", same.err);
    let other = run("other").await;
    assert_eq!(
        (other.code, other.out.as_str()),
        (Some(77), "409 replayed\n"),
        "{}",
        other.err
    );
    assert!(other.err.contains("+ user: other"), "{}", other.err);
}

/// Launches what follows `calls`, which asks for `text`.
async fn launched(setup: &Setup, options: &[&str], (text, then): (&str, &str)) -> Ended {
    let script = format!("{CALL}\n{then}");
    let program = ["--", "bash", "-c", &script, "x", text];
    let arguments = [&["run", "--replay", "taped"], options, &program].concat();
    ended(command(setup.dir.path(), &arguments)).await
}

#[tokio::test]
async fn exit_code_says_that_a_program_left_calls_out_where_that_is_asked_for() {
    let (_, setup, _upstream) = taped().await;
    let all = ["--all"].as_slice();
    for (options, then, code) in [
        ([].as_slice(), "", 0),
        (all, "", 77),
        (&["--all", "--keep-exit-code"], "", 0),
        // How it failed by itself is more than that.
        (all, "exit 3", 3),
    ] {
        let done = launched(&setup, options, ("one", then)).await;
        assert_eq!(done.code, Some(code), "{options:?}: {}", done.err);
        let says = "1 of 3 calls played, 2 the program did not ask for\n  not played: ";
        assert!(done.err.contains(says), "{}", done.err);
    }
}

#[tokio::test]
async fn signal_that_ended_a_program_is_told_though_it_departed() {
    let (_, setup, _upstream) = taped().await;
    let killed = launched(&setup, &[], ("other", "kill -TERM $$")).await;
    assert_eq!(killed.code, Some(143), "{}", killed.err);
    let failed = launched(&setup, &[], ("other", "exit 1")).await;
    assert_eq!(failed.code, Some(77), "{}", failed.err);
}

#[tokio::test]
async fn report_is_json_where_that_is_asked_for() {
    let (_, setup, _upstream) = taped().await;
    let done = launched(&setup, &["--quiet", "--json"], ("other", "")).await;
    let report: Value = serde_json::from_str(&done.err).expect(&done.err);
    assert_eq!(report["calls"], 3);
    assert_eq!(report["refused"], 1);
    assert_eq!(report["departure"]["call"], 1);
    assert_eq!(report["unplayed"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn recorded_call_is_played_once_unless_it_may_repeat() {
    let (_, setup, _upstream) = taped().await;
    let again = format!("{CALL} exit 0");
    let once = launched(&setup, &[], ("one", &again)).await;
    assert_eq!(once.out, "200 replayed\n409 replayed\n");
    assert_eq!(once.code, Some(77));
    let repeated = launched(&setup, &["--repeat"], ("one", &again)).await;
    assert_eq!(repeated.out, "200 replayed\n200 replayed\n");
    assert!(repeated.err.contains("1 played again"), "{}", repeated.err);
    assert_eq!(repeated.code, Some(0));
}
