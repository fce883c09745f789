//! The program itself, as a user starts it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::within;

/// A running `open-aiops serve`.
pub(crate) struct Server {
    child: Child,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// The lines it printed at its start.
    pub(crate) lines: [String; 2],
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The program with its configuration, not started.
pub(crate) fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_open-aiops"));
    command
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub(crate) async fn run(dir: &Path, arguments: &[&str]) -> Ended {
    let output = within("a command", command(dir, arguments).output())
        .await
        .expect("a program");
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("a text"),
        err: String::from_utf8(output.stderr).expect("a text"),
    }
}

impl Server {
    /// Starts with the `config.toml` in `dir`.
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::run(command(dir, &["serve"])).await
    }

    /// Starts where no file may become longer than this many KiB: writing then fails as on a
    /// full disk.
    pub(crate) async fn start_limited(dir: &Path, kib: u64) -> Self {
        let script = format!("ulimit -f {kib}; trap '' XFSZ; exec \"$0\" serve");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_open-aiops")]);
        shell
            .current_dir(dir)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Self::run(shell).await
    }

    async fn run(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a program");
        let mut out = BufReader::new(child.stdout.take().expect("an output"));
        let (proxy, admin) = (line(&mut out).await, line(&mut out).await);
        if admin.is_empty() {
            let mut errors = String::new();
            let mut err = child.stderr.take().expect("an output");
            err.read_to_string(&mut errors).await.expect("a text");
            panic!("the server did not start: {errors}");
        }
        drain(&mut child);
        Self {
            child,
            proxy: address(&proxy, "proxy listening on http://"),
            admin: address(&admin, "admin listening on http://"),
            lines: [proxy, admin],
        }
    }

    /// Ends it as the kernel ends what uses too much memory.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("a process");
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// As ctrl-c does.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Tells it to look at its configuration.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let id = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        kill_process(id.expect("a process"), signal).expect("a process");
    }

    pub(crate) async fn exit_code(mut self) -> Option<i32> {
        within("the end of the server", self.child.wait())
            .await
            .expect("a process")
            .code()
    }
}

/// Takes what the server logs, so that it never waits for a reader.
fn drain(child: &mut Child) {
    let mut err = child.stderr.take().expect("an output");
    tokio::spawn(async move { tokio::io::copy(&mut err, &mut tokio::io::sink()).await });
}

async fn line(out: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    within("a line of output", out.read_line(&mut line))
        .await
        .expect("a text");
    line.trim_end().to_owned()
}

#[track_caller]
fn address(line: &str, before: &str) -> SocketAddr {
    let address = line
        .strip_prefix(before)
        .unwrap_or_else(|| panic!("{line:?}"));
    address.parse().expect("an address")
}
