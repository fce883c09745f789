//! A launched program and its launcher as processes: signals, the terminal, and launches that use
//! one proxy.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::launch::{Desk, ended, lines};
use crate::harness::{Upstream, within};
use crate::launch::chat;

const UNTIL_END: &str = "echo ready >> log; until [ -e end ]; do sleep 0.05; done; exit 7";

fn spawn(mut command: Command) -> Child {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("a program")
}

fn send(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    kill_process(pid.and_then(Pid::from_raw).expect("a process"), signal).expect("a process");
}

async fn output(child: Child) -> (Option<i32>, String, String) {
    let output = within("the end of a launch", child.wait_with_output());
    let output = output.await.expect("a process");
    let text = |bytes| String::from_utf8(bytes).expect("a text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test]
async fn signals_of_the_launcher_are_handed_to_the_program() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let traps = "for s in HUP INT QUIT TERM USR1 USR2 WINCH; do trap \"echo $s >> log\" $s; done; ";
    let script = format!("{traps}{UNTIL_END}");
    // Without a terminal, so that nobody else sends them, and with none that who runs the tests ignores.
    let around = ["setsid", "env", "--default-signal"];
    let launched = desk.wrapped(&around, &["run", "--", "bash", "-c", &script]);
    let child = spawn(launched);
    let log = desk.path("log");
    lines(&log, 1).await;
    let sent = [
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::WINCH, "WINCH"),
        (Signal::TERM, "TERM"),
    ];
    for (n, (signal, name)) in sent.into_iter().enumerate() {
        send(&child, signal);
        assert_eq!(lines(&log, n + 2).await[n + 1], name);
    }
    std::fs::write(desk.path("end"), "").unwrap();
    let (code, _, err) = output(child).await;
    assert_eq!(
        code,
        Some(7),
        "the launcher lives as long as its program: {err}"
    );
    assert!(err.contains("0 calls"), "{err}");
}

#[tokio::test]
async fn signal_that_ends_the_program_shows_in_the_exit_code() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let child = spawn(desk.command(&["run", "--", "sh", "-c", UNTIL_END]));
    lines(&desk.path("log"), 1).await;
    send(&child, Signal::TERM);
    let (code, _, err) = output(child).await;
    assert_eq!(code, Some(143), "{err}");
}

#[tokio::test]
async fn what_is_ignored_stays_ignored() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let script = "kill -HUP $$ $PPID; echo alive";
    let done = ended(desk.wrapped(&["nohup"], &["run", "--", "sh", "-c", script])).await;
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), "alive\n"),
        "{}",
        done.err
    );
}

/// `script` of util-linux makes the terminal. Its shell makes way: some would die of the key.
#[tokio::test]
async fn ctrl_c_comes_to_the_program_once() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let script = format!("trap 'echo INT >> log' INT; {UNTIL_END}");
    std::fs::write(desk.path("program.sh"), script).unwrap();
    let mut command = Command::new("script");
    command
        .args([
            "-q",
            "-e",
            "-c",
            "exec $BIN run -- bash program.sh",
            "/dev/null",
        ])
        .current_dir(desk.path(""))
        .env("BIN", env!("CARGO_BIN_EXE_open-aiops"))
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    if Command::new("script")
        .arg("--version")
        .output()
        .await
        .is_err()
    {
        eprintln!("SKIPPED: there is no `script` to make a terminal with");
        return;
    }
    let mut child = spawn(command);
    let mut keys = child.stdin.take().unwrap();
    let log = desk.path("log");
    lines(&log, 1).await;
    keys.write_all(b"\x03").await.unwrap();
    assert_eq!(lines(&log, 2).await[1], "INT");
    std::fs::write(desk.path("end"), "").unwrap();
    let (code, out, _) = output(child).await;
    assert_eq!(code, Some(7), "{out}");
    assert_eq!(lines(&log, 2).await, ["ready", "INT"]);
    drop(keys);
}

/// Calls, says so, waits, calls again.
fn in_two_steps(name: &str) -> String {
    format!(
        "bash call.sh; echo called >> {name}; until [ -e go-{name} ]; do sleep 0.05; done; bash call.sh"
    )
}

#[tokio::test]
async fn second_launch_uses_the_proxy_of_the_first_which_waits_for_it() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let launch = |name: &str| {
        let script = format!("{}; exit 5", in_two_steps(name));
        spawn(desk.command(&["run", "--name", name, "--", "bash", "-c", &script]))
    };
    let mut first = launch("one");
    lines(&desk.path("one"), 1).await;
    let second = launch("two");
    lines(&desk.path("two"), 1).await;
    std::fs::write(desk.path("go-one"), "").unwrap();
    let mut told = BufReader::new(first.stderr.take().unwrap()).lines();
    let waits = within("word that the proxy stays", async {
        while let Some(line) = told.next_line().await.unwrap() {
            if line.contains("other launches use the proxy") {
                return line;
            }
        }
        panic!("it did not wait");
    });
    assert!(waits.await.contains("12 h at most"));
    std::fs::write(desk.path("go-two"), "").unwrap();
    let (code, out, err) = output(second).await;
    assert_eq!((code, out.as_str()), (Some(5), "200\n200\n"), "{err}");
    assert!(
        err.contains("run two-") && err.contains("2 calls\n"),
        "{err}"
    );
    assert!(!err.contains("run one-"), "{err}");
    let (code, out, _) = output(first).await;
    assert_eq!((code, out.as_str()), (Some(5), "200\n200\n"));
    let runs = ended(desk.command(&["runs"])).await;
    assert_eq!(
        runs.out.lines().count(),
        2,
        "one ledger has both: {}",
        runs.out
    );
}

#[tokio::test]
async fn launcher_that_is_told_to_end_waits_for_others_no_longer_than_seconds() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let first = spawn(desk.command(&["run", "--", "sh", "-c", UNTIL_END]));
    lines(&desk.path("log"), 1).await;
    let second = in_two_steps("two");
    let guest = spawn(desk.command(&["run", "--", "bash", "-c", &second]));
    lines(&desk.path("two"), 1).await;
    send(&first, Signal::TERM);
    let (code, _, err) = output(first).await;
    assert_eq!(code, Some(143), "{err}");
    assert!(err.contains("it waits 3 s for them"), "{err}");
    std::fs::write(desk.path("go-two"), "").unwrap();
    let (.., err) = output(guest).await;
    assert!(
        err.contains("the proxy ended before the program did"),
        "{err}"
    );
}

#[tokio::test]
async fn guest_is_told_when_its_proxy_was_killed() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let launch = |name: &str| {
        let script = in_two_steps(name);
        spawn(desk.command(&["run", "--name", name, "--", "bash", "-c", &script]))
    };
    let mut first = launch("one");
    lines(&desk.path("one"), 1).await;
    let second = launch("two");
    lines(&desk.path("two"), 1).await;
    within("the end of the first", first.kill()).await.unwrap();
    std::fs::write(desk.path("go-two"), "").unwrap();
    let (code, out, err) = output(second).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.starts_with("200\n") && out.matches("200").count() == 1,
        "{out}"
    );
    for part in [
        "the proxy ended before the program did",
        "1 call",
        "look at",
    ] {
        assert!(err.contains(part), "{part:?} is not in {err}");
    }
    // Its program was left as it was.
    std::fs::write(desk.path("go-one"), "").unwrap();
    let after = desk.run(&["--", "bash", "call.sh"]).await;
    assert_eq!(
        after.out, "200\n",
        "the ledger is free again: {}",
        after.err
    );
}

#[tokio::test]
async fn proxy_and_page_stay_until_ctrl_c_where_that_is_asked_for() {
    let upstream = Upstream::answers(chat()).await;
    let desk = Desk::with(&upstream, "");
    let mut child = spawn(desk.command(&["run", "--stay", "--", "sh", "-c", "exit 3"]));
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    within("word that the page stays", async {
        while let Some(line) = told.next_line().await.unwrap() {
            if line.contains("stays until ctrl-c") {
                return;
            }
        }
        panic!("it did not stay");
    })
    .await;
    let listed = ended(desk.command(&["budgets"])).await;
    assert_eq!(listed.code, Some(0), "a server runs: {}", listed.err);
    send(&child, Signal::TERM);
    let (code, ..) = output(child).await;
    assert_eq!(code, Some(3));
}
