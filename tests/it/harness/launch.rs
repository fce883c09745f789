//! `open-aiops run -- ...` as a user types it, in an environment that the test knows whole.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;

use super::process::Ended;
use super::upstream::Upstream;
use super::within;

/// A small client: `bash call.sh [BASE_URL]` makes one chat call and prints its status.
const CALL: &str = r#"
url=${1:-$OPENAI_BASE_URL}; rest=${url#http://}; host=${rest%%/*}; path=/${rest#*/}
body='{"model":"gpt-4o-mini","max_tokens":100,"messages":[{"role":"user","content":"hi '$RANDOM$RANDOM'"}]}'
exec 3<>"/dev/tcp/${host%:*}/${host#*:}" || { echo unreachable; exit 0; }
printf 'POST %s/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nAuthorization: Bearer child-key\r\nx-aiops-agent: caller\r\nContent-Length: %d\r\n\r\n%s' "$path" ${#body} "$body" >&3
read -r _ status _ <&3; cat <&3 >/dev/null; echo "$status"
"#;

/// A directory with a config file, from which programs are launched.
pub(crate) struct Desk {
    dir: TempDir,
}

impl Desk {
    /// In front of `upstream`, which is the default one.
    pub(crate) fn with(upstream: &Upstream, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("call.sh"), CALL).expect("a file");
        let desk = Self { dir };
        desk.configure(upstream, more);
        desk
    }

    /// Writes the config file anew.
    pub(crate) fn configure(&self, upstream: &Upstream, more: &str) {
        let base = format!("http://{}/v1", upstream.address());
        let text = format!(
            "[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{more}\n\
             [[upstream]]\nname = \"main\"\nbase_url = {base:?}\n"
        );
        std::fs::write(self.path("config.toml"), text).expect("a file");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.path("open-aiops-data")
    }

    /// The program with these arguments, in an environment of two variables.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.wrapped(&[], arguments)
    }

    /// The same, started by another program.
    pub(crate) fn wrapped(&self, by: &[&str], arguments: &[&str]) -> Command {
        let binary = env!("CARGO_BIN_EXE_open-aiops");
        let mut words = by.iter().copied().chain([binary]);
        let mut command = Command::new(words.next().expect("a program"));
        command
            .args(words)
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", path())
            .env("BIN", binary)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Launches to the end: `arguments` follow `run`.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        let arguments = [&["run"], arguments].concat();
        ended(self.command(&arguments)).await
    }
}

pub(crate) fn path() -> String {
    let path = std::env::var_os("PATH").expect("a path");
    path.into_string().expect("text")
}

/// Runs a command to its end.
pub(crate) async fn ended(mut command: Command) -> Ended {
    let output = within("a launch", command.output())
        .await
        .expect("a program");
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("a text"),
        err: String::from_utf8(output.stderr).expect("a text"),
    }
}

/// Waits until a file has as many lines.
pub(crate) async fn lines(file: &Path, count: usize) -> Vec<String> {
    within("lines in a file", async {
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let whole: Vec<String> = text.lines().map(str::to_owned).collect();
            if text.ends_with('\n') && whole.len() >= count {
                return whole;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}
