//! A Redis of the test's own, on a socket in a directory of its own: killed, stopped and started again
//! as the test wants.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use open_aiops::config::SharedConfig;
use tempfile::TempDir;

/// A running server. Dropping it ends it.
pub(crate) struct Redis {
    dir: TempDir,
    child: Option<Child>,
}

/// The server's program; none where there is none, which is an error where CI is set.
fn program() -> Option<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|path| {
        let places = std::env::split_paths(&path);
        let mut programs =
            places.flat_map(|dir| ["redis-server", "valkey-server"].map(|it| dir.join(it)));
        programs.find(|program| program.is_file())
    });
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "no redis-server, which tests of several instances need"
    );
    found
}

impl Redis {
    /// None where there is no server to start.
    pub(crate) fn start() -> Option<Self> {
        let mut redis = Self {
            dir: tempfile::tempdir().unwrap(),
            child: None,
        };
        if program().is_none() {
            eprintln!("SKIPPED: no redis-server");
            return None;
        }
        redis.begin();
        Some(redis)
    }

    /// Starts it again: what it wrote to its file is there, if it wrote anything.
    pub(crate) fn begin(&mut self) {
        let child = Command::new(program().unwrap())
            .args([
                "--port",
                "0",
                "--unixsocket",
                "redis.sock",
                "--save",
                "",
                "--daemonize",
                "no",
            ])
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let socket = self.socket();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            std::thread::yield_now();
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Neither answers nor hangs up, until it goes on.
    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().unwrap();
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// What the server answers to one command.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).unwrap();
        let mut line = client.get_connection().unwrap();
        let (word, arguments) = words.split_first().unwrap();
        redis::cmd(word).arg(arguments).query(&mut line).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What instances at this server are configured with.
    pub(crate) fn config(&self) -> SharedConfig {
        let mut config = SharedConfig::of(&self.url(), "a secret of the tests").unwrap();
        config.lease = Duration::from_secs(2);
        config.timeout = Duration::from_millis(300);
        config
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
