//! A Redis of the test's own, on a socket in a directory of its own: killed, stopped and started again
//! as the test wants.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use open_aiops::config::SharedConfig;
use open_aiops::shared::Shared;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::tls::Identity;
use super::within;

/// Ports that are tried: another program may take one first.
const PORTS: usize = 3;

/// A running server. Dropping it ends it.
pub(crate) struct Redis {
    dir: TempDir,
    child: Option<Child>,
    /// Where it speaks TLS.
    port: u16,
}

/// A way to the server that the test can cut, for whoever goes by it alone.
pub(crate) struct Line {
    dir: TempDir,
    server: PathBuf,
    passes: Option<JoinHandle<()>>,
}

/// The server's program, which `AIOPS_REDIS` may name; none where there is none, which is an error
/// where CI is set.
fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("AIOPS_REDIS") {
        return Some(PathBuf::from(named));
    }
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
        let mut redis = Self::new()?;
        redis.begin();
        Some(redis)
    }

    /// One that speaks TLS too; none where the server that is there cannot, which is an error where
    /// CI is set.
    pub(crate) fn with_tls(identity: &Identity) -> Option<Self> {
        let mut redis = Self::new()?;
        let (certificate, key) = identity.write(redis.dir.path());
        for _ in 0..PORTS {
            redis.port = free_port();
            if redis.launch(&tls(redis.port, &certificate, &key)) {
                return Some(redis);
            }
        }
        assert!(
            std::env::var_os("CI").is_none(),
            "the redis-server that is there does not speak TLS"
        );
        eprintln!("SKIPPED: the redis-server that is there does not speak TLS");
        None
    }

    fn new() -> Option<Self> {
        if program().is_none() {
            eprintln!("SKIPPED: no redis-server");
            return None;
        }
        Some(Self {
            dir: tempfile::tempdir().unwrap(),
            child: None,
            port: 0,
        })
    }

    /// Starts it again: what it wrote to its file is there, if it wrote anything.
    pub(crate) fn begin(&mut self) {
        assert!(self.launch(&[]), "the server ended at once");
    }

    /// Whether it runs with these settings, too.
    fn launch(&mut self, settings: &[String]) -> bool {
        let mut child = Command::new(program().unwrap())
            .args(["--port", "0", "--unixsocket", "redis.sock"])
            .args(["--save", "", "--daemonize", "no"])
            .args(settings)
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let socket = self.socket();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::yield_now();
        }
        self.child = Some(child);
        true
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

    pub(crate) fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }

    /// What instances at this server are configured with.
    pub(crate) fn config(&self) -> SharedConfig {
        config(&self.url())
    }

    /// The same over TLS, for those who trust what is in the file besides the system.
    pub(crate) fn tls_config(&self, trusted: Option<&Path>) -> SharedConfig {
        SharedConfig {
            extra_ca_file: trusted.map(Path::to_owned),
            ..config(&self.tls_url())
        }
    }

    pub(crate) fn line(&self) -> Line {
        let mut line = Line {
            dir: tempfile::tempdir().unwrap(),
            server: self.socket(),
            passes: None,
        };
        line.mend();
        line
    }

    /// Resolves when so many deeds of operators and of loops were told in all, and these instances
    /// heard of each.
    pub(crate) async fn told(&self, deeds: usize, instances: &[&Shared]) {
        let name = |what: &str| format!("{{{}}}:{what}", self.config().namespace);
        let heard = async {
            while self.ask::<usize>(&["XLEN", &name("deeds")]) != deeds {
                tokio::task::yield_now().await;
            }
            let last: String = self.ask(&["GET", &name("deed")]);
            while !instances.iter().all(|shared| shared.has_heard(&last)) {
                tokio::task::yield_now().await;
            }
        };
        within("deeds that all heard of", heard).await;
    }
}

impl Line {
    pub(crate) fn config(&self) -> SharedConfig {
        config(&format!("unix://{}", self.socket().display()))
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("line.sock")
    }

    /// Whoever goes by it hears no more of the server, and finds no way to it.
    pub(crate) async fn cut(&mut self) {
        if let Some(passes) = self.passes.take() {
            passes.abort();
            let _ = passes.await;
            std::fs::remove_file(self.socket()).unwrap();
        }
    }

    pub(crate) fn mend(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        self.passes = Some(tokio::spawn(pass(listener, self.server.clone())));
    }
}

/// Passes on what is said on both sides, until it is dropped.
async fn pass(listener: UnixListener, server: PathBuf) {
    let mut connections = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        let Ok(mut far) = UnixStream::connect(&server).await else {
            continue;
        };
        connections.spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
    }
}

fn config(url: &str) -> SharedConfig {
    let mut config = SharedConfig::of(url, "a secret of the tests").unwrap();
    config.lease = Duration::from_secs(2);
    config.timeout = Duration::from_millis(300);
    config
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn tls(port: u16, certificate: &Path, key: &Path) -> Vec<String> {
    let (certificate, key) = (certificate.display(), key.display());
    [
        ("--bind", "127.0.0.1".to_owned()),
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", certificate.to_string()),
        ("--tls-key-file", key.to_string()),
        ("--tls-auth-clients", "no".to_owned()),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .concat()
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
