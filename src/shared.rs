//! Several instances at one Redis or Valkey: each puts in what it has of every account itself, and
//! what all have together is the sum.
//!
//! What an instance has is one value, which it can put in again whenever it likes: nothing is ever
//! counted twice, and a Redis that lost everything is filled again by those who know. This room
//! speaks with Redis and knows of no budgets; `budgets::step` says what is put in and when.

pub mod deeds;
pub mod naming;
pub mod part;
pub mod peers;
pub mod reader;
pub mod records;
mod redis_error;
mod seal;
mod trust;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Script, TlsCertificates};
use tokio::sync::{Notify, watch};

use self::naming::Naming;
use self::part::{Answer, Part, Question};
use self::peers::{Beat, Peer};
pub use self::redis_error::{Away, SetupError};
use self::seal::Seal;
use crate::clock::Clock;
use crate::config::{OnAway, SharedConfig};
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
pub enum How {
    /// Puts the own parts in if all of it fits.
    Take,
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
    take: Script,
    push: Script,
    beat: Script,
    tell: Script,
    give: Script,
    seal: Seal,
    line: ArcSwapOption<MultiplexedConnection>,
    is_joined: AtomicBool,
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
    telling: tokio::sync::Mutex<()>,
    /// Told when there is something to tell others.
    pub(crate) untold: Notify,
    pub figures: Figures,
    clock: Clock,
}

/// What was done, for metrics.
#[derive(Debug, Default)]
pub struct Figures {
    pub takes: AtomicU64,
    pub take_us: AtomicU64,
    pub full: AtomicU64,
    pub failures: AtomicU64,
    pub pushed: AtomicU64,
    /// How often Redis was lost.
    pub losses: AtomicU64,
    /// Records told to other instances, and taken in from them.
    pub given: AtomicU64,
    pub taken: AtomicU64,
    /// How often records of others were gone before they were taken in.
    pub missed: AtomicU64,
    /// Records of others that this version does not understand.
    pub unread: AtomicU64,
}

impl Figures {
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// `seed` is that of the ledger, which makes the id of this instance.
    pub fn new(config: &SharedConfig, seed: u64, clock: Clock) -> Result<Self, SetupError> {
        let naming = Naming::new(config, seed, clock.now());
        let info = naming.title().to_owned();
        Ok(Self {
            client: client(config)?,
            take: Script::new(include_str!("shared/take.lua")),
            push: Script::new(include_str!("shared/push.lua")),
            beat: Script::new(include_str!("shared/beat.lua")),
            tell: Script::new(include_str!("shared/tell.lua")),
            give: Script::new(include_str!("shared/give.lua")),
            seal: Seal::new(&naming.seal_key()).ok_or(SetupError::Seal)?,
            naming,
            line: ArcSwapOption::empty(),
            is_joined: AtomicBool::new(false),
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
        self.is_joined.load(Ordering::Acquire)
    }

    pub fn on_away(&self) -> OnAway {
        self.config.on_failure
    }

    /// From now on calls go by what all instances have.
    pub fn join(&self) {
        self.is_joined.store(true, Ordering::Release);
        self.standing.send_replace(Standing::Joined);
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

    /// All instances that were heard of in the last week, this one too.
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
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = info;
    }

    /// Connects anew. Gives the id of the server's run: another one may have lost something.
    pub async fn connect(&self) -> Result<String, Away> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.config.timeout));
        let mut line = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let info: String = redis::cmd("INFO").query_async(&mut line).await?;
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
        self.line.store(Some(Arc::new(line)));
        Ok(run)
    }

    /// Redis cannot be used: calls go by what was configured for that until it was joined again.
    pub fn lose(&self, why: &Away) {
        self.line.store(None);
        let was_joined = self.is_joined.swap(false, Ordering::AcqRel);
        self.standing.send_replace(Standing::Away);
        if was_joined {
            self.figures.losses.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("Redis is lost: {why}");
        }
        self.lost.notify_one();
    }

    /// What all instances have of these accounts.
    pub async fn take(&self, asked: &[(Question, Part)], how: How) -> Result<Answer, Away> {
        let before = self.clock.now();
        let reply = match self.try_take(asked, how).await {
            // It may have been one slow answer; what is put in twice counts once.
            Err(away) if away.is_slow() => self.try_take(asked, how).await,
            other => other,
        };
        let figures = &self.figures;
        let waited = self.clock.now().micros_since(before);
        figures.takes.fetch_add(1, Ordering::Relaxed);
        figures.take_us.fetch_add(waited, Ordering::Relaxed);
        match reply {
            Ok(answer) => {
                let full = u64::from(!answer.fits);
                figures.full.fetch_add(full, Ordering::Relaxed);
                self.heard(answer.at);
                self.living.store(answer.living, Ordering::Relaxed);
                Ok(answer)
            }
            Err(away) => {
                figures.failures.fetch_add(1, Ordering::Relaxed);
                self.lose(&away);
                Err(away)
            }
        }
    }

    async fn try_take(&self, asked: &[(Question, Part)], how: How) -> Result<Answer, Away> {
        if !self.is_joined() {
            return Err(Away::Absent);
        }
        let mut line = self.line()?;
        let mut call = self.take.prepare_invoke();
        call.key(self.naming.key("live"))
            .key(self.naming.key("deed"));
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
    pub async fn push(&self, parts: &[Part]) -> Result<(), Away> {
        if parts.is_empty() {
            return Ok(());
        }
        let mut line = self.line()?;
        line.set_response_timeout(PUSH_TIMEOUT.max(self.config.timeout));
        let mut call = self.push.prepare_invoke();
        call.arg(self.naming.id()).arg(self.naming.incarnation());
        for part in parts {
            call.key(self.naming.account_key(&part.account));
            call.arg(part.version).arg(part.keep_ms());
            call.arg(part.text(self.naming.incarnation()));
        }
        let _: i64 = call.invoke_async(&mut line).await?;
        let pushed = u64::try_from(parts.len()).unwrap_or(0);
        self.figures.pushed.fetch_add(pushed, Ordering::Relaxed);
        Ok(())
    }

    /// Says that this instance lives, and whether Redis has all that it knows.
    pub async fn beat(&self, is_synced: bool) -> Result<Beat, Away> {
        self.say(self.config.lease, is_synced).await
    }

    /// Says that this instance leaves.
    pub async fn leave(&self) -> Result<(), Away> {
        self.say(Duration::ZERO, true).await.map(drop)
    }

    async fn say(&self, lease: Duration, is_synced: bool) -> Result<Beat, Away> {
        let mut line = self.line()?;
        line.set_response_timeout(PUSH_TIMEOUT.max(self.config.timeout));
        let info = self
            .info
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut call = self.beat.prepare_invoke();
        for key in ["live", "who", "deed", "secret"] {
            call.key(self.naming.key(key));
        }
        call.arg(self.naming.id()).arg(self.naming.incarnation());
        call.arg(lease.as_micros().to_string());
        call.arg(if is_synced { "1" } else { "0" });
        call.arg(info).arg(self.naming.mark());
        let before = self.clock.now();
        let reply: Vec<String> = call.invoke_async(&mut line).await?;
        let after = self.clock.now();
        let beat = Beat::parse(&reply)?;
        self.correct_clock((before, after), beat.at);
        self.heard(beat.at);
        let lives = |peer: &&Peer| peer.lives(beat.at);
        self.living
            .store(beat.peers.iter().filter(lives).count(), Ordering::Relaxed);
        self.peers.store(Arc::new(beat.peers.clone()));
        Ok(beat)
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

#[cfg(test)]
mod tests;
