//! Alerts: heard of from events, kept for whoever asks, and told at once: to pages, to the log and to
//! webhooks. What is one alert, and what has to be told, is decided in `core::alert`.
//!
//! Whoever makes an event - a budget, a loop, the ledger's own thread - hands it to a bounded queue
//! and goes on; one task takes them out, and each webhook has a task and a queue of its own.

mod hook;
mod look;
mod message;
mod post;
mod report;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use utoipa::ToSchema;

use self::hook::Hook;
use self::look::{Ground, Upstreams};
use self::message::Message;
use self::post::Post;
use self::report::Reporter;
use crate::clock::Clock;
use crate::config::{AlertsConfig, Config, WebhookConfig};
use crate::core::alert::Signal;
use crate::core::alert::book::{Book, Heard};
pub use crate::core::alert::book::{News, Told};
use crate::core::alert::last_told::RECOVERED;
use crate::core::alert::measured::{Turn, Watched};
use crate::core::alert::throttle::Throttle;
pub use crate::core::alert::{About, Alert, Delivery, Rule, Scope, Severity};
use crate::core::call::Settlement;
use crate::core::id::Label;
use crate::core::metric::{BY_HEADER, Measurement, short};
use crate::core::time::Timestamp;
use crate::ledger::{Event, IndexError, Ledger, View};
use crate::metrics::Metrics;

/// Changes that a slow listener may be behind; it is told how many it missed.
const LIVE: usize = 256;
/// Events that wait to be looked at.
const INBOX: usize = 1024;
/// Lines in the log in any minute; more are counted.
const LINES: usize = 60;
/// Tests in any minute.
const TESTS: usize = 6;
/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(500);
/// How often the disk and the index are looked at, in ticks.
const LOOK_EVERY: u32 = 10;
/// How long webhooks may take for what is left at the end.
const FLUSH: Duration = Duration::from_secs(5);
/// Events before this are no alerts of now.
const HISTORY_US: i64 = 7 * 86_400_000_000;
/// How often it is looked what was due while recorded events are taken in.
const DUE_EVERY_US: u64 = 60_000_000;

/// All alerts of the running process.
pub struct Alerts {
    book: Mutex<Book>,
    live: broadcast::Sender<Told>,
    hooks: Mutex<Vec<Hook>>,
    reporter: Arc<Reporter>,
    upstreams: Upstreams,
    watched: Mutex<Watched>,
    ground: Ground,
    lines: Mutex<Throttle>,
    unlogged: AtomicU64,
    tests: Mutex<Throttle>,
    inbox: mpsc::Sender<Item>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

enum Item {
    Event(Box<Event>),
    /// Everything before it was looked at.
    Flush(oneshot::Sender<()>),
}

/// Why webhooks cannot be used as they are configured. Never shows a URL.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("[[alerts.webhook]] {name}: {cause}")]
    Unusable { name: Label, cause: String },
    #[error(
        "[[alerts.webhook]] {0}: its URL is a listener of our own; it must lead to somewhere else"
    )]
    Own(Label),
}

/// Webhooks that can be used, as [`Alerts::reload`] takes them.
pub struct Hooks(Vec<Post>);

/// Why no test was sent.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    #[error("there is no webhook {asked}; there are: {}", list(.known))]
    NoSuchWebhook { asked: Label, known: Vec<Label> },
    #[error("no more than {TESTS} tests a minute are sent")]
    TooMany,
}

/// What a webhook made of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tested {
    pub webhook: Label,
    pub is_ok: bool,
    /// `200 OK`, `cannot be reached: ...`
    pub answer: String,
}

fn list(names: &[Label]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<&str> = names.iter().map(Label::as_str).collect();
    names.join(", ")
}

impl Hooks {
    /// `listeners` are our own, which no webhook may lead to.
    pub fn new(config: &AlertsConfig, listeners: &[SocketAddr]) -> Result<Self, HookError> {
        let post = |config: &WebhookConfig| {
            if config.is_own(listeners) {
                return Err(HookError::Own(config.name.clone()));
            }
            Post::new(config)
        };
        let posts = config.webhooks.iter().map(post);
        Ok(Self(posts.collect::<Result<_, _>>()?))
    }
}

impl Alerts {
    /// Hears of all events of `ledger` from now on, and knows what it recorded of the last days.
    pub async fn start(
        config: &Config,
        hooks: Hooks,
        ledger: &Ledger,
        (clock, metrics): (&Clock, &Arc<Metrics>),
    ) -> Arc<Self> {
        let (inbox, waiting) = mpsc::channel(INBOX);
        let reporter = Arc::new(Reporter {
            ledger: ledger.clone(),
            metrics: Arc::clone(metrics),
            clock: clock.clone(),
        });
        let book = recorded(ledger, repeat_us(&config.alerts), clock.now()).await;
        let alerts = Arc::new(Self::with(config, book, reporter, inbox.clone()));
        alerts.take_hooks(hooks);
        let metrics = Arc::clone(metrics);
        ledger.listen(Box::new(move |event| {
            if is_heard(event)
                && inbox
                    .try_send(Item::Event(Box::new(event.clone())))
                    .is_err()
            {
                metrics.alert_event_missed();
            }
        }));
        let hearing = tokio::spawn(Arc::clone(&alerts).hear(waiting));
        // What turned while nobody watched is told like what turns now.
        alerts.recall(ledger).await;
        let looking = tokio::spawn(Arc::clone(&alerts).look());
        lock(&alerts.tasks).extend([hearing, looking]);
        alerts
    }

    fn with(
        config: &Config,
        book: Book,
        reporter: Arc<Reporter>,
        inbox: mpsc::Sender<Item>,
    ) -> Self {
        let mut watched = Watched::default();
        watched.set_rules(&config.alerts.metrics);
        Self {
            book: Mutex::new(book),
            live: broadcast::Sender::new(LIVE),
            hooks: Mutex::default(),
            reporter,
            upstreams: Upstreams::default(),
            watched: Mutex::new(watched),
            ground: Ground::new(config.ledger.dir.clone(), config.alerts.min_free_bytes),
            lines: Mutex::new(Throttle::new(LINES)),
            unlogged: AtomicU64::new(0),
            tests: Mutex::new(Throttle::new(TESTS)),
            inbox,
            tasks: Mutex::default(),
        }
    }

    /// Takes in what was measured of late before this process, and what was told of it.
    async fn recall(&self, ledger: &Ledger) {
        let now = self.reporter.now();
        let (wanted, mut told) = {
            let watched = lock(&self.watched);
            (watched.wanted(now), watched.told())
        };
        if wanted.is_empty() {
            return;
        }
        let ledger = ledger.clone();
        let read = move || {
            // One that is off may have been so for longer than alerts are kept.
            ledger.view().each_event_back(|event| {
                let signal = event.signal.as_deref();
                told.hear(&event.what, signal.map(|it| &it.scope))
            })?;
            Ok((ledger.view().measured_since(&wanted)?, told))
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok((all, told))) => {
                let turns = lock(&self.watched).recall(&all, now, &told);
                for turn in turns {
                    self.turned(turn);
                    // There may be more of them than the inbox holds.
                    tokio::task::yield_now().await;
                }
            }
            Ok(Err::<_, IndexError>(error)) => {
                tracing::warn!(%error, "alerts of metrics begin with nothing: what was measured cannot be read");
            }
            Err(error) => tracing::warn!(%error, "alerts of metrics begin with nothing"),
        }
    }

    /// Hears of nothing and sends nothing, but for tests.
    #[cfg(test)]
    pub(crate) fn resting(ledger: &Ledger, clock: &Clock) -> Arc<Self> {
        let reporter = Arc::new(Reporter {
            ledger: ledger.clone(),
            metrics: Arc::default(),
            clock: clock.clone(),
        });
        let (inbox, _) = mpsc::channel(1);
        Arc::new(Self::with(
            &Config::default(),
            Book::new(0),
            reporter,
            inbox,
        ))
    }

    /// At most a thousand: open ones first, then those that were seen last.
    pub fn list(&self) -> Vec<Alert> {
        lock(&self.book).list(self.reporter.now())
    }

    /// How many are open, by rule.
    pub fn open(&self) -> Vec<(Rule, usize)> {
        let mut open = BTreeMap::new();
        for alert in self.list().iter().filter(|alert| alert.is_open) {
            *open.entry(alert.rule).or_default() += 1;
        }
        open.into_iter().collect()
    }

    /// Bytes that are free on the disk of the ledger. Blocks on the disk.
    pub fn free_bytes(&self) -> Option<u64> {
        self.ground.free()
    }

    /// Alerts as they begin and end, from now on.
    pub fn watch(&self) -> broadcast::Receiver<Told> {
        self.live.subscribe()
    }

    /// Takes over a changed configuration: webhooks that are the same go on, the queues of others end.
    pub fn reload(&self, config: &Config, hooks: Hooks) {
        lock(&self.book).set_repeat(repeat_us(&config.alerts));
        self.ground.set_min_free(config.alerts.min_free_bytes);
        lock(&self.watched).set_rules(&config.alerts.metrics);
        let names: Vec<Label> = config.upstreams.iter().map(|it| it.name.clone()).collect();
        self.upstreams.keep(&names, &self.reporter);
        self.take_hooks(hooks);
    }

    /// Takes in how a call ended.
    pub fn settled(&self, settlement: &Settlement) {
        self.upstreams.note(settlement, &self.reporter);
    }

    /// Takes in what somebody measured, in the place of what the same said of the same before.
    pub fn measured(&self, measurement: &Measurement, before: Option<&Measurement>) {
        let now = self.reporter.now();
        let at = if measurement.who.as_str() == BY_HEADER {
            // A call may take longer than the time that counts.
            now
        } else {
            measurement.at.min(now)
        };
        let turns = lock(&self.watched).note(measurement, before, (at, now));
        for turn in turns {
            self.turned(turn);
        }
    }

    fn turned(&self, turn: Turn) {
        let Turn { rule, metric, .. } = &turn;
        let of = turn
            .key
            .as_ref()
            .map_or_else(String::new, |key| format!(" of {key}"));
        let mean = short(turn.mean);
        let details = format!(
            "{rule}: {metric}{of} is {mean} on average of {}",
            turn.count
        );
        let mut scope = Scope::new(About::Metric, rule);
        scope.key.clone_from(&turn.key);
        let signal = Signal {
            value: Some(mean),
            limit: Some(turn.limit),
            ..Signal::of(scope)
        };
        let what = if turn.begins {
            Rule::MetricOff.name()
        } else {
            RECOVERED
        };
        self.reporter.tell(what, details, signal);
    }

    /// Sends a test to one webhook or to all, once each, and says what came of it.
    pub async fn test(&self, webhook: Option<&Label>, who: &str) -> Result<Vec<Tested>, TestError> {
        let posts = self.posts(webhook)?;
        if !lock(&self.tests).passes(self.reporter.now()) {
            return Err(TestError::TooMany);
        }
        let scope = Scope::new(About::Webhook, "");
        let mut event = Event::own(self.reporter.now(), Rule::AlertTest.name(), None);
        who.clone_into(&mut event.who);
        event.details = Some(format!("asked for by {who}"));
        let event = event.saying(Signal::of(scope));
        let told = Book::new(0).take(&heard(&event));
        self.reporter.record(event);
        let tested = told.into_iter().flat_map(|told| {
            let message = Message::Alert(Box::new(told));
            posts.iter().map(move |post| {
                let message = message.clone();
                async move { self.test_one(post, &message).await }
            })
        });
        Ok(join_all(tested).await)
    }

    /// Has webhooks take what is left, for as long as that takes little time.
    pub async fn close(&self) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if self.inbox.send(Item::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
            let hooks = std::mem::take(&mut *lock(&self.hooks));
            join_all(hooks.into_iter().map(Hook::finish)).await;
        };
        if tokio::time::timeout(FLUSH, flush).await.is_err() {
            tracing::warn!("some alerts did not reach their webhooks before the end");
        }
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }

    fn posts(&self, webhook: Option<&Label>) -> Result<Vec<Arc<Post>>, TestError> {
        let hooks = lock(&self.hooks);
        let names = || hooks.iter().map(|hook| hook.config().name.clone());
        if let Some(asked) = webhook.filter(|asked| names().all(|name| name != **asked)) {
            return Err(TestError::NoSuchWebhook {
                asked: asked.clone(),
                known: names().collect(),
            });
        }
        let is_asked = |hook: &&Hook| webhook.is_none_or(|asked| hook.config().name == *asked);
        let asked = hooks.iter().filter(is_asked);
        Ok(asked.map(|hook| Arc::clone(&hook.post)).collect())
    }

    async fn test_one(&self, post: &Post, message: &Message) -> Tested {
        let config = post.config();
        let answer = post.attempt(&message.body(config.format)).await;
        self.reporter.report(&config.name, message.alert(), &answer);
        Tested {
            webhook: config.name.clone(),
            is_ok: answer.is_ok,
            answer: answer.text,
        }
    }

    fn take_hooks(&self, hooks: Hooks) {
        let mut running = lock(&self.hooks);
        let mut before = std::mem::take(&mut *running);
        for post in hooks.0 {
            let same = before
                .iter()
                .position(|hook| hook.config() == post.config());
            running.push(match same {
                Some(at) => before.swap_remove(at),
                None => Hook::start(post, Arc::clone(&self.reporter)),
            });
        }
    }

    async fn hear(self: Arc<Self>, mut waiting: mpsc::Receiver<Item>) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            let told = tokio::select! {
                item = waiting.recv() => match item {
                    Some(Item::Event(event)) => lock(&self.book).take(&heard(&event)),
                    Some(Item::Flush(done)) => {
                        let _ = done.send(());
                        continue;
                    }
                    None => return,
                },
                _ = tick.tick() => {
                    self.log_unlogged();
                    lock(&self.book).due(self.reporter.now())
                }
            };
            for told in told {
                self.tell(told);
            }
        }
    }

    async fn look(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK * LOOK_EVERY);
        loop {
            tick.tick().await;
            let alerts = Arc::clone(&self);
            let look = tokio::task::spawn_blocking(move || alerts.ground.look(&alerts.reporter));
            if look.await.is_err() {
                tracing::error!("looking after the disk and the index failed; it is tried again");
            }
        }
    }

    fn tell(&self, told: Told) {
        if told.news == News::Begins {
            self.reporter.metrics.alert(told.alert.rule);
        }
        self.log(&told);
        if told.alert.rule != Rule::AlertTest {
            for hook in &*lock(&self.hooks) {
                hook.offer(&told);
            }
        }
        // Nobody may be watching.
        let _ = self.live.send(told);
    }

    fn log(&self, told: &Told) {
        let alert = &told.alert;
        // Where these come from they are logged, with more to them.
        if matches!(
            alert.rule,
            Rule::ConfigRefused | Rule::LedgerFailed | Rule::IndexFailed
        ) {
            return;
        }
        if !lock(&self.lines).passes(self.reporter.now()) {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (rule, text) = (alert.rule.name(), &alert.text);
        match (told.news, alert.severity) {
            (News::Over, _) => tracing::info!("{rule} is over: {text}"),
            (_, Severity::Info) => tracing::info!("{rule}: {text}"),
            (_, Severity::Warning) => tracing::warn!("{rule}: {text}"),
            (_, Severity::Critical) => tracing::error!("{rule}: {text}"),
        }
    }

    fn log_unlogged(&self) {
        let is_any = self.unlogged.load(Ordering::Relaxed) > 0;
        if is_any && lock(&self.lines).passes(self.reporter.now()) {
            let count = self.unlogged.swap(0, Ordering::Relaxed);
            tracing::warn!("{count} more alerts are not in the log: see open-aiops alerts");
        }
    }
}

/// The alerts that the events of a ledger make, as of now. Blocks.
pub fn list_recorded(view: &View, now: Timestamp) -> Result<Vec<Alert>, IndexError> {
    let repeat_us = repeat_us(&AlertsConfig::default());
    Ok(fold(view, repeat_us, now)?.list(now))
}

async fn recorded(ledger: &Ledger, repeat_us: u64, now: Timestamp) -> Book {
    let ledger = ledger.clone();
    let fold = tokio::task::spawn_blocking(move || fold(ledger.view(), repeat_us, now));
    match fold.await {
        Ok(Ok(book)) => book,
        Ok(Err(error)) => {
            tracing::warn!(%error, "alerts from before this start are not known");
            Book::new(repeat_us)
        }
        Err(_) => Book::new(repeat_us),
    }
}

fn fold(view: &View, repeat_us: u64, now: Timestamp) -> Result<Book, IndexError> {
    let since = Timestamp::from_micros(now.micros().saturating_sub(HISTORY_US));
    let (mut book, mut looked_at) = (Book::new(repeat_us), since);
    view.each_event(since, |event| {
        if !is_heard(event) {
            return;
        }
        // What was due before was told then, so that it is not told now.
        if event.at.micros_since(looked_at) >= DUE_EVERY_US {
            looked_at = event.at;
            book.due(event.at);
        }
        book.take(&heard(event));
    })?;
    Ok(book)
}

/// Whether an event begins or ends an alert, or tells of one.
fn is_heard(event: &Event) -> bool {
    event.what.parse::<Rule>().is_ok() || !Rule::ended_by(&event.what).is_empty()
}

fn heard(event: &Event) -> Heard<'_> {
    Heard {
        at: event.at,
        what: &event.what,
        details: event.details.as_deref().unwrap_or_default(),
        signal: event.signal.as_deref(),
        trip: event.trip.as_deref(),
    }
}

fn repeat_us(config: &AlertsConfig) -> u64 {
    u64::try_from(config.repeat_after.as_micros()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
