//! Several instances at one Redis or Valkey: each puts in what it has of every account itself, and
//! what all have together is the sum.
//!
//! What an instance has is one value, which it can put in again whenever it likes: nothing is ever
//! counted twice, and a Redis that lost everything is filled again by those who know. This room
//! speaks with Redis and knows of no budgets; `budgets::sync` says what is put in and when.

pub mod contribution;
mod controls;
pub mod deeds;
pub mod naming;
pub mod peers;
pub mod reader;
pub mod records;
mod redis_error;
mod seal;
mod trust;

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Script, TlsCertificates};
use tokio::sync::{Notify, watch};

use self::contribution::{Answer, Contribution, Query};
use self::naming::Naming;
use self::peers::{Heartbeat, Peer, Reply};
pub use self::redis_error::{Away, SetupError};
use self::seal::Seal;
use crate::clock::Clock;
use crate::config::{OnAway, SharedConfig};
use crate::core::budget::AccountName;
use crate::core::latencies::Latencies;
use crate::core::time::Timestamp;

/// Connecting may take longer than a call can wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer to one of many parts may take longer, too.
const PUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How things stand between this instance and the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Standing {
    /// Redis cannot be reached, or was just reached and does not have all there is to know.
    Away,
    /// What budgets count is what all instances have.
    Joined,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Mode {
    /// Puts the own parts in if all of it fits.
    Reserve,
    /// Puts them in whatever there is.
    Look,
    /// Changes nothing.
    Peek,
}

/// This instance among the others.
pub struct Shared {
    config: SharedConfig,
    naming: Naming,
    client: Client,
    reserve: Script,
    push: Script,
    heartbeat: Script,
    tell: Script,
    give: Script,
    forget: Script,
    seal: Seal,
    line: ArcSwapOption<MultiplexedConnection>,
    /// Goes up with each change between joined, when it is odd, and away.
    turns: AtomicU64,
    /// The memory of Redis that this connection is about, until it loses that.
    memory: Mutex<Option<String>>,
    standing: watch::Sender<Standing>,
    /// The server's clock minus ours, in microseconds.
    offset_us: AtomicI64,
    /// Of the last good answer, by the server's clock.
    heard_us: AtomicI64,
    /// Instances that live, this one too.
    living: AtomicUsize,
    peers: ArcSwap<Vec<Peer>>,
    versions: AtomicU64,
    info: Mutex<String>,
    /// Told when Redis was lost.
    pub(crate) lost: Notify,
    pub(crate) deeds: reader::Applied,
    backlog: deeds::Backlog,
    controls: controls::Controls,
    telling: tokio::sync::Mutex<()>,
    /// Told when there is something to tell others.
    pub(crate) untold: Notify,
    pub figures: Figures,
    clock: Clock,
}

/// What was done, for metrics.
#[derive(Debug, Default)]
pub struct Figures {
    requests: Mutex<Latencies>,
    pub denied: AtomicU64,
    pub failures: AtomicU64,
    pub pushed: AtomicU64,
    /// How often Redis was lost.
    pub disconnects: AtomicU64,
    /// Records told to other instances, and taken in from them.
    pub given: AtomicU64,
    pub taken: AtomicU64,
    /// How often records of others were gone before they were taken in.
    pub missed: AtomicU64,
    /// Records of others that this version does not understand.
    pub unread: AtomicU64,
}

impl Figures {
    /// How long calls waited for Redis, each time.
    pub fn requests(&self) -> Latencies {
        *lock(&self.requests)
    }

    pub fn disconnects(&self) -> u64 {
        self.disconnects.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// `seed` is that of the ledger, which makes the id of this instance.
    pub fn new(config: &SharedConfig, seed: u64, clock: Clock) -> Result<Self, SetupError> {
        let naming = Naming::new(config, seed, clock.now());
        let info = naming.title().to_owned();
        Ok(Self {
            client: client(config)?,
            reserve: Script::new(include_str!("shared/reserve.lua")),
            push: Script::new(include_str!("shared/push.lua")),
            heartbeat: Script::new(include_str!("shared/heartbeat.lua")),
            tell: Script::new(include_str!("shared/tell_deed.lua")),
            give: Script::new(include_str!("shared/give_records.lua")),
            forget: Script::new(include_str!("shared/forget_gone.lua")),
            seal: Seal::new(&naming.seal_key()).ok_or(SetupError::Seal)?,
            naming,
            line: ArcSwapOption::empty(),
            turns: AtomicU64::new(0),
            memory: Mutex::default(),
            standing: watch::Sender::new(Standing::Away),
            offset_us: AtomicI64::new(0),
            heard_us: AtomicI64::new(0),
            living: AtomicUsize::new(1),
            peers: ArcSwap::default(),
            versions: AtomicU64::new(1),
            info: Mutex::new(info),
            lost: Notify::new(),
            deeds: reader::Applied::default(),
            backlog: deeds::Backlog::default(),
            controls: controls::Controls::default(),
            telling: tokio::sync::Mutex::default(),
            untold: Notify::new(),
            figures: Figures::default(),
            config: config.clone(),
            clock,
        })
    }

    pub fn config(&self) -> &SharedConfig {
        &self.config
    }

    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    pub fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Resolves when things stand so.
    pub async fn until(&self, standing: Standing) {
        let mut changes = self.standing.subscribe();
        // The sender lives as long as this does.
        let _ = changes.wait_for(|now| *now == standing).await;
    }

    pub fn is_joined(&self) -> bool {
        self.turns() % 2 == 1
    }

    /// Equal where nothing changed between joined and away, odd where this instance is joined.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    pub fn on_away(&self) -> OnAway {
        self.config.on_failure
    }

    /// From now on calls go by what all instances have.
    pub fn join(&self) {
        self.turn(true);
        self.standing.send_replace(Standing::Joined);
    }

    /// Says whether that changed anything.
    fn turn(&self, is_joined: bool) -> bool {
        let next = |turns: u64| ((turns % 2 == 1) != is_joined).then_some(turns + 1);
        let order = (Ordering::AcqRel, Ordering::Acquire);
        self.turns.fetch_update(order.0, order.1, next).is_ok()
    }

    /// The time by the server's clock, as far as it is known: windows turn at once everywhere.
    pub fn now(&self) -> Timestamp {
        self.corrected(self.clock.now())
    }

    /// A moment of our clock by the server's.
    pub fn corrected(&self, at: Timestamp) -> Timestamp {
        let offset = self.offset_us.load(Ordering::Relaxed);
        Timestamp::from_micros(at.micros().saturating_add(offset))
    }

    /// When Redis was heard of last, by its own clock.
    pub fn heard_at(&self) -> Timestamp {
        Timestamp::from_micros(self.heard_us.load(Ordering::Relaxed))
    }

    /// Instances that lived when they were last heard of, this one too; at least one.
    pub fn living(&self) -> usize {
        self.living.load(Ordering::Relaxed).max(1)
    }

    /// All instances that were heard of in the last day, this one too.
    pub fn peers(&self) -> Arc<Vec<Peer>> {
        self.peers.load_full()
    }

    /// A version for a part: later ones are higher.
    pub fn version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed)
    }

    /// What people are told of this instance.
    pub fn describe(&self, about: &str) {
        let info = format!("{}\n{about}", self.naming.title());
        *lock(&self.info) = info;
    }

    /// Connects anew. Gives the id of the server's run: another one may have lost something.
    pub async fn connect(&self) -> Result<String, Away> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(PUSH_TIMEOUT.max(self.config.timeout)));
        let mut line = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let info: String = redis::cmd("INFO").query_async(&mut line).await?;
        line.set_response_timeout(self.config.timeout);
        let field = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        if let Some(policy) = field("maxmemory_policy")
            && policy.trim() != "noeviction"
            && field("maxmemory").is_some_and(|most| most.trim() != "0")
        {
            tracing::warn!(
                "Redis may drop accounts when it is full (maxmemory-policy {policy}): use noeviction"
            );
        }
        let run = field("run_id").unwrap_or_default().trim().to_owned();
        *lock(&self.memory) = None;
        self.line.store(Some(Arc::new(line)));
        Ok(run)
    }

    /// Redis cannot be used: calls go by what was configured for that until it was joined again.
    pub fn lose(&self, why: &Away) {
        self.line.store(None);
        let was_joined = self.turn(false);
        self.standing.send_replace(Standing::Away);
        if was_joined {
            self.figures.disconnects.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("Redis is lost: {why}");
        }
        self.lost.notify_one();
    }

    /// The same, unless it was another connection that failed.
    fn lose_line(&self, line: Option<&Arc<MultiplexedConnection>>, why: &Away) {
        let now = self.line.load();
        if let (Some(line), Some(now)) = (line, now.as_ref())
            && Arc::ptr_eq(line, now)
        {
            self.lose(why);
        }
    }

    /// What all instances have of these accounts.
    pub async fn reserve(
        &self,
        asked: &[(Query, Contribution)],
        how: Mode,
    ) -> Result<Answer, Away> {
        let before = self.clock.now();
        let line = self.line.load_full();
        let reply = match self.try_reserve(line.as_deref(), asked, how).await {
            // It may have been one slow answer; what is put in twice counts once.
            Err(away) if away.is_slow() => self.try_reserve(line.as_deref(), asked, how).await,
            other => other,
        };
        let figures = &self.figures;
        let waited = self.clock.now().micros_since(before);
        lock(&figures.requests).add(waited);
        match reply {
            Ok(answer) => {
                let denied = u64::from(!answer.fits);
                figures.denied.fetch_add(denied, Ordering::Relaxed);
                self.heard(answer.at);
                self.living.store(answer.living, Ordering::Relaxed);
                Ok(answer)
            }
            Err(away) => {
                figures.failures.fetch_add(1, Ordering::Relaxed);
                self.lose_line(line.as_ref(), &away);
                Err(away)
            }
        }
    }

    /// The same for people, who can wait: nothing changes, and Redis is not lost where it does not
    /// answer.
    pub async fn peek(&self, asked: &[(Query, Contribution)]) -> Result<Answer, Away> {
        let mut line = self.line()?;
        line.set_response_timeout(PUSH_TIMEOUT.max(self.config.timeout));
        self.try_reserve(Some(&line), asked, Mode::Peek).await
    }

    async fn try_reserve(
        &self,
        line: Option<&MultiplexedConnection>,
        asked: &[(Query, Contribution)],
        how: Mode,
    ) -> Result<Answer, Away> {
        let line = line.filter(|_| self.is_joined());
        let mut line = line.cloned().ok_or(Away::Absent)?;
        let mut call = self.reserve.prepare_invoke();
        call.key(self.naming.key("live"))
            .key(self.naming.key("deed"))
            .key(self.naming.key("who"));
        call.arg(self.naming.id()).arg(self.naming.incarnation());
        call.arg(<&str>::from(how));
        for (question, part) in asked {
            call.key(self.naming.account_key(&part.account));
            call.arg(question.text())
                .arg(part.text(self.naming.incarnation()));
        }
        let reply: Vec<String> = call.invoke_async(&mut line).await?;
        Answer::parse(&reply, asked.len())
    }

    /// Puts parts in, whatever others have.
    pub async fn push(&self, parts: &[Contribution]) -> Result<(), Away> {
        if parts.is_empty() {
            return Ok(());
        }
        let mut line = self.line()?;
        line.set_response_timeout(PUSH_TIMEOUT.max(self.config.timeout));
        let mut call = self.push.prepare_invoke();
        call.key(self.naming.key("live"));
        call.arg(self.naming.id()).arg(self.naming.incarnation());
        for part in parts {
            call.key(self.naming.account_key(&part.account));
            call.arg(part.version).arg(part.keep_ms());
            call.arg(part.text(self.naming.incarnation()));
        }
        let is_own: bool = call.invoke_async(&mut line).await?;
        if !is_own {
            return Err(Away::Unknown);
        }
        let pushed = u64::try_from(parts.len()).unwrap_or(0);
        self.figures.pushed.fetch_add(pushed, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets what instances that are gone had of an account. One that comes back has it in its ledger.
    pub async fn forget_gone(&self, name: &AccountName) -> Result<(), Away> {
        let mut line = self.line()?;
        line.set_response_timeout(PUSH_TIMEOUT.max(self.config.timeout));
        let mut call = self.forget.prepare_invoke();
        call.key(self.naming.key("live"));
        call.key(self.naming.account_key(&self.naming.account(name)));
        let _: i64 = call.invoke_async(&mut line).await?;
        Ok(())
    }

    /// Says that this instance lives, and whether Redis has all that it knows.
    pub async fn heartbeat(&self, is_synced: bool) -> Result<Heartbeat, Away> {
        self.say(self.config.lease, is_synced).await
    }

    /// Says that this instance leaves.
    pub async fn leave(&self) -> Result<(), Away> {
        self.say(Duration::ZERO, true).await.map(drop)
    }

    async fn say(&self, lease: Duration, is_synced: bool) -> Result<Heartbeat, Away> {
        let mut line = self.line()?;
        line.set_response_timeout(PUSH_TIMEOUT.max(self.config.timeout));
        let info = lock(&self.info).clone();
        let memory = lock(&self.memory).clone().filter(|_| is_synced);
        let mut call = self.heartbeat.prepare_invoke();
        for key in ["live", "who", "deed", "secret", "memory"] {
            call.key(self.naming.key(key));
        }
        call.arg(self.naming.id()).arg(self.naming.incarnation());
        call.arg(lease.as_micros().to_string());
        call.arg(memory.unwrap_or_default());
        call.arg(info).arg(self.naming.mark());
        let before = self.clock.now();
        let reply: Reply = call.invoke_async(&mut line).await?;
        let after = self.clock.now();
        let beat = Heartbeat::parse(reply)?;
        self.check_memory(&beat)?;
        self.correct_clock((before, after), beat.at);
        // Its clock may have been put back: what it says now is what counts.
        self.heard_us.store(beat.at.micros(), Ordering::Relaxed);
        let lives = |peer: &&Peer| peer.lives(beat.at);
        self.living
            .store(beat.peers.iter().filter(lives).count(), Ordering::Relaxed);
        self.peers.store(Arc::new(beat.peers.clone()));
        Ok(beat)
    }

    /// Redis may lose all it knows while the connection stays: then all has to be put in again.
    fn check_memory(&self, beat: &Heartbeat) -> Result<(), Away> {
        let mut memory = lock(&self.memory);
        if *memory.get_or_insert_with(|| beat.memory.clone()) == beat.memory {
            Ok(())
        } else {
            Err(Away::Unknown)
        }
    }

    /// Clocks that tests set stay as they are.
    fn correct_clock(&self, (before, after): (Timestamp, Timestamp), server: Timestamp) {
        if let Clock::System = self.clock {
            let middle = i64::midpoint(before.micros(), after.micros());
            let offset = server.micros().saturating_sub(middle);
            self.offset_us.store(offset, Ordering::Relaxed);
        }
    }

    fn heard(&self, at: Timestamp) {
        self.heard_us.fetch_max(at.micros(), Ordering::Relaxed);
    }

    fn line(&self) -> Result<MultiplexedConnection, Away> {
        let line = self.line.load();
        line.as_ref()
            .map(|line| MultiplexedConnection::clone(line))
            .ok_or(Away::Absent)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn client(config: &SharedConfig) -> Result<Client, SetupError> {
    let url = config.url.expose();
    let Some(file) = &config.extra_ca_file else {
        return Ok(Client::open(url)?);
    };
    let root = trust::roots(file).map_err(|error| SetupError::Certificates(file.clone(), error))?;
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(root),
    };
    Ok(Client::build_with_tls(
        url.into_connection_info()?,
        certificates,
    )?)
}
