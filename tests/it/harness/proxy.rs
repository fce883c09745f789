//! The real proxy in this process: any ports, a directory of its own, configured by TOML text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use open_aiops::app::{App, StartError};
use open_aiops::clock::Clock;
use open_aiops::config::Config;
use open_aiops::ledger;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::ask::Ask;
use super::client::{Client, Response};
use super::disk::TestDisk;
use super::h2::H2Client;
use super::records::Record;
use super::upstream::{Seen, Upstream};
use super::{records, within};

pub(crate) struct Proxy {
    pub(crate) app: App,
    pub(crate) dir: Arc<TempDir>,
    behind: Vec<Arc<Seen>>,
}

/// A configuration in the making. Lines go into the section they are given for.
pub(crate) struct Setup {
    pub(crate) dir: Arc<TempDir>,
    proxy: String,
    admin: String,
    ledger: String,
    upstreams: Vec<String>,
    rest: String,
    env: BTreeMap<String, String>,
    behind: Vec<Arc<Seen>>,
    disk: Option<TestDisk>,
    clock: Clock,
}

impl Proxy {
    /// A proxy in front of one upstream, everything else as by default.
    pub(crate) async fn to(upstream: &Upstream) -> Self {
        Self::with(upstream).start().await
    }

    pub(crate) fn with(upstream: &Upstream) -> Setup {
        Setup::new().upstream("main", upstream, "")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.app.proxy_address()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::through(self.address(), self.behind.clone()).await
    }

    pub(crate) async fn h2_client(&self) -> H2Client {
        let stream = TcpStream::connect(self.address())
            .await
            .expect("a listener");
        H2Client::over(stream, self.behind.clone()).await
    }

    pub(crate) fn behind(&self) -> Vec<Arc<Seen>> {
        self.behind.clone()
    }

    /// One call on a connection of its own.
    pub(crate) async fn call(&self, ask: &Ask) -> Response {
        self.client().await.call(ask).await
    }

    /// What is recorded of the call that was answered like this.
    pub(crate) async fn record(&self, response: &Response) -> Record {
        self.record_of(&response.call()).await
    }

    pub(crate) async fn record_of(&self, call: &str) -> Record {
        within("the end of all calls", self.app.settled()).await;
        records::settled(self.app.admin_address(), call).await
    }

    /// The record of the only call there was, also of one that nobody saw answered.
    pub(crate) async fn only_record(&self) -> Record {
        within("the end of all calls", self.app.settled()).await;
        records::only(self.app.admin_address()).await
    }

    /// How many calls are recorded.
    pub(crate) async fn calls(&self) -> usize {
        within("the end of all calls", self.app.settled()).await;
        records::ids(self.app.admin_address()).await.len()
    }
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self {
            dir: Arc::new(tempfile::tempdir().expect("a directory")),
            proxy: String::new(),
            admin: String::new(),
            ledger: String::new(),
            upstreams: Vec::new(),
            rest: String::new(),
            env: BTreeMap::new(),
            behind: Vec::new(),
            disk: None,
            clock: Clock::System,
        }
    }

    /// One more upstream. `lines` are more keys of it.
    pub(crate) fn upstream(self, name: &str, upstream: &Upstream, lines: &str) -> Self {
        let base = format!("http://{}/v1", upstream.address());
        let mut setup = self.endpoint(name, &base, lines);
        setup.behind.push(upstream.seen());
        setup
    }

    /// An upstream that is none of ours.
    pub(crate) fn endpoint(mut self, name: &str, base_url: &str, lines: &str) -> Self {
        self.upstreams.push(format!(
            "name = {name:?}\nbase_url = {base_url:?}\n{lines}\n"
        ));
        self
    }

    /// More keys of the upstream named last.
    pub(crate) fn upstream_lines(mut self, lines: &str) -> Self {
        let last = self.upstreams.last_mut().expect("an upstream");
        let _ = writeln!(last, "{lines}");
        self
    }

    pub(crate) fn proxy_lines(mut self, lines: &str) -> Self {
        let _ = writeln!(self.proxy, "{lines}");
        self
    }

    pub(crate) fn admin_lines(mut self, lines: &str) -> Self {
        let _ = writeln!(self.admin, "{lines}");
        self
    }

    pub(crate) fn ledger_lines(mut self, lines: &str) -> Self {
        let _ = writeln!(self.ledger, "{lines}");
        self
    }

    /// Whole sections.
    pub(crate) fn sections(mut self, text: &str) -> Self {
        let _ = writeln!(self.rest, "{text}");
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The directory of another setup, to start again on its data.
    pub(crate) fn on_data_of(mut self, other: &Arc<TempDir>) -> Self {
        self.dir = Arc::clone(other);
        self
    }

    /// The log is on a disk that the test has in its hand.
    pub(crate) fn on_disk(mut self, disk: &TestDisk) -> Self {
        self.disk = Some(disk.clone());
        self
    }

    /// Time is in the test's hand.
    pub(crate) fn on_clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "[proxy]\n{}{}\n[admin]\n{}{}\n[ledger]\ndir = {:?}\n{}\n{}\n",
            if self.proxy.contains("listen") {
                ""
            } else {
                "listen = \"127.0.0.1:0\"\n"
            },
            self.proxy,
            if self.admin.contains("listen") {
                ""
            } else {
                "listen = \"127.0.0.1:0\"\n"
            },
            self.admin,
            self.data(),
            self.ledger,
            self.rest,
        );
        for upstream in &self.upstreams {
            let _ = writeln!(text, "[[upstream]]\n{upstream}");
        }
        text
    }

    #[track_caller]
    pub(crate) fn config(&self) -> Config {
        let env = |name: &str| self.env.get(name).cloned();
        match Config::parse("config.toml", &self.text(), &env) {
            Ok(config) => config,
            Err(problems) => panic!("{problems}\n{}", self.text()),
        }
    }

    pub(crate) async fn try_start(self) -> Result<Proxy, StartError> {
        let (config, disk, clock) = (self.config(), self.disk, self.clock);
        let app = App::start_with(config, clock, move |config, clock, decode| match disk {
            None => ledger::open(config, clock, decode),
            Some(disk) => ledger::open_on(Arc::new(disk), config, clock, decode),
        });
        let app = app.await?;
        Ok(Proxy {
            app,
            dir: self.dir,
            behind: self.behind,
        })
    }

    pub(crate) async fn start(self) -> Proxy {
        match self.try_start().await {
            Ok(proxy) => proxy,
            Err(error) => panic!("{error}"),
        }
    }
}
