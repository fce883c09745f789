//! The composition root: builds everything from a [`Config`], owns the tasks, drains at the end.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::admin::{self, AdminState, Records, Source};
use crate::alerts::{Alerts, HookError, Hooks};
use crate::budgets::Budgets;
use crate::clock::Clock;
use crate::config::{Config, LedgerConfig, Reload, Watcher, hold_back, keep_token};
use crate::core::build;
use crate::core::space::Space;
use crate::dashboard;
use crate::exchange::Exchange;
use crate::ledger::{self, Decode, Doors, Event, Ledger, OpenError, Recovery};
use crate::listener::{self, CertificateError, Listener};
use crate::loops::Loops;
use crate::metrics::Metrics;
use crate::otel::{Otel, OtelError, logs::LogQueue};
use crate::proxy::{Live, Proxy};
use crate::shared::deeds::SharedDeed;
use crate::shared::reader::{Follow, Heard};
use crate::shared::{self, Shared};
use crate::sinks::{SinkError, Sinks, Stores};
use crate::upstream::{self, Upstream, UpstreamError};
use crate::wire::decode::decode_all;

/// How often a changed config file is looked for.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How often idle accounts and runs beyond their bound leave memory.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// What is left to settle after the drain deadline takes no longer than this.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// Why the program cannot start. Each is one line that names what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address} ([{section}] listen): {cause}")]
    Listen {
        section: &'static str,
        address: SocketAddr,
        cause: io::Error,
    },
    #[error("{0}")]
    Ledger(#[from] OpenError),
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    #[error("[proxy.tls] {0}")]
    Certificate(#[from] CertificateError),
    #[error("[[price]] {0}")]
    Price(#[from] serde::de::value::Error),
    #[error("{0}")]
    Webhook(#[from] HookError),
    #[error("{0}")]
    Otel(#[from] OtelError),
    #[error("{0}")]
    Sink(#[from] SinkError),
    #[error("{0}")]
    Shared(#[from] shared::SetupError),
    #[error("cannot watch for signals: {0}")]
    Signal(io::Error),
}

pub type OpenedLedger = Result<(Ledger, Recovery), OpenError>;

/// Everything running.
pub struct App {
    proxy_address: SocketAddr,
    admin_address: SocketAddr,
    proxy: Arc<Proxy>,
    budgets: Arc<Budgets>,
    loops: Arc<Loops>,
    alerts: Arc<Alerts>,
    sinks: Arc<Sinks>,
    ledger: Ledger,
    clock: Clock,
    started_with: Config,
    config: Arc<ArcSwap<Config>>,
    metrics: Arc<Metrics>,
    draining: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    listener: JoinHandle<()>,
    admin: JoinHandle<()>,
    admin_stop: oneshot::Sender<()>,
    otel: Option<Otel>,
    /// Sweeps, and keeps in step with other instances.
    tasks: Vec<JoinHandle<()>>,
    exchange: Option<Arc<Exchange>>,
}

/// Runs until SIGTERM or SIGINT, then drains.
///
/// `lines` are what is logged, where a collector is to be told of it.
pub async fn serve(
    config: Config,
    mut watcher: Watcher,
    lines: Option<LogQueue>,
) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signal)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(StartError::Signal)?;
    let mut app = App::start(config, Clock::System).await?;
    if let (Some(otel), Some(lines)) = (&mut app.otel, lines) {
        otel.carry(lines);
    }
    app.announce();
    supervised(&[NotifyState::Ready]);
    let mut tick = tokio::time::interval(RELOAD_INTERVAL);
    loop {
        let asked = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => true,
            _ = tick.tick() => false,
        };
        app.reload(if asked {
            watcher.look()
        } else {
            watcher.poll()
        });
    }
    supervised(&[NotifyState::Stopping]);
    tracing::info!("draining: no new calls, running ones may end; once more to cut them");
    let proxy = Arc::clone(&app.proxy);
    let again = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        proxy.cut_running_calls();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = app.stop() => {}
        () = again => {}
    }
    Ok(())
}

impl App {
    /// Binds, opens, builds and starts everything. With port 0 the system picks ports.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        Self::start_with(config, clock, ledger::open).await
    }

    /// Like [`start`](Self::start), with a ledger opened by `open`: by [`ledger::open_on`] on other
    /// storage.
    pub async fn start_with(
        config: Config,
        clock: Clock,
        open: impl FnOnce(&LedgerConfig, Clock, Decode) -> OpenedLedger + Send + 'static,
    ) -> Result<Self, StartError> {
        upstream::set_cryptography();
        let (proxy_socket, proxy_address) = bind("proxy", config.proxy.listen).await?;
        let (admin_socket, admin_address) = bind("admin", config.admin.listen).await?;
        let tls = acceptor(&config)?;
        let (live, hooks, stores) = usable(&config, [proxy_address, admin_address])?;
        let metrics = Arc::new(Metrics::exporting(config.metrics.export.as_deref()));
        let ledger = open_ledger(&config, &clock, open).await?;
        let alerts = Alerts::start(&config, hooks, &ledger, (&clock, &metrics)).await;
        let doors = (proxy_address, admin_address, tls.is_some());
        announce((&ledger, &clock), doors);
        let (stop, draining) = (watch::Sender::new(false), Arc::<AtomicBool>::default());
        let sinks = Sinks::start(stores, (&ledger, &clock, &metrics));
        let memory = Arc::<Space>::default();
        let (budgets, loops) = engines(&config, &ledger, &clock, admin_address)?;
        let proxy = Proxy::new(
            live,
            ledger.clone(),
            clock.clone(),
            Arc::clone(&metrics),
            Arc::clone(&memory),
            (budgets.clone(), loops.clone(), alerts.clone()),
        );
        let shared = Arc::new(ArcSwap::from_pointee(config.clone()));
        let otel = Otel::start(&shared, &ledger, (&clock, &metrics)).await?;
        let state = AdminState {
            ledger: ledger.clone(),
            metrics: Arc::clone(&metrics),
            config: Arc::clone(&shared),
            memory,
            budgets: Arc::clone(&budgets),
            loops: Arc::clone(&loops),
            records: records((&shared, &ledger, &clock), (&loops, &alerts))
                .titled(budgets.shared().map(|it| it.naming().title())),
            access: Arc::default(),
            alerts: Arc::clone(&alerts),
            sinks: Arc::clone(&sinks),
            draining: Arc::clone(&draining),
            started_at: clock.now(),
            clock: clock.clone(),
        };
        let exchange = Exchange::new(&budgets, &shared, &clock).map(Arc::new);
        let tasks = tasks(&budgets, &loops, exchange.clone());
        let (admin_stop, admin_stopped) = oneshot::channel();
        let listener = listen((proxy_socket, tls), &config, (&proxy, &metrics));
        let listener = tokio::spawn(listener.run(stop.subscribe()));
        let (site, stopped) = (dashboard::site(&state), async { drop(admin_stopped.await) });
        Ok(Self {
            started_with: config,
            config: shared,
            proxy_address,
            admin_address,
            proxy,
            budgets,
            loops,
            alerts,
            sinks,
            ledger,
            clock,
            metrics,
            draining,
            stop,
            listener,
            admin: tokio::spawn(admin::serve(admin_socket, site, stopped)),
            admin_stop,
            otel,
            tasks,
            exchange,
        })
    }

    pub fn proxy_address(&self) -> SocketAddr {
        self.proxy_address
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    pub fn budgets(&self) -> &Arc<Budgets> {
        &self.budgets
    }

    pub fn loops(&self) -> &Arc<Loops> {
        &self.loops
    }

    pub fn alerts(&self) -> &Arc<Alerts> {
        &self.alerts
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Waits until every call that ended is in the ledger; blocks while calls are open.
    pub async fn settled(&self) {
        self.proxy.settled().await;
    }

    /// Takes over a changed configuration, or says why not and keeps the old one.
    pub fn reload(&self, reload: Reload) {
        let mut config = match reload {
            Reload::Unchanged => return,
            Reload::Invalid(problems) => return self.refuse_config(&problems),
            Reload::Valid(config) => config,
        };
        let mut waiting = hold_back(&self.started_with, &mut config);
        waiting.extend(keep_token(&self.config.load(), &mut config));
        match usable(&config, [self.proxy_address, self.admin_address]) {
            Err(error) => self.refuse_config(&error),
            Ok((live, hooks, stores)) => {
                self.proxy.reload(live);
                self.alerts.reload(&config, hooks);
                self.sinks.reload(stores);
                self.metrics.export(config.metrics.export.as_deref());
                self.config.store(Arc::from(config));
                self.metrics.config_reload(true);
                tracing::info!("configuration reloaded");
                let waiting = (!waiting.is_empty())
                    .then(|| format!("takes effect after a restart only: {}", waiting.join(", ")));
                if let Some(waiting) = &waiting {
                    tracing::warn!("{waiting}");
                }
                self.tell("config_reloaded", waiting);
            }
        }
    }

    fn refuse_config(&self, why: &dyn Display) {
        self.metrics.config_reload(false);
        tracing::error!("the changed configuration is refused, the old one stays:\n{why}");
        self.tell("config_refused", Some(why.to_string()));
    }

    fn tell(&self, what: &'static str, details: Option<String>) {
        tell(&self.ledger, &self.clock, what, details);
    }

    /// Lets running calls end within the drain timeout, cuts the rest, flushes the ledger.
    pub async fn stop(self) {
        self.draining.store(true, Ordering::Relaxed);
        self.tell("stopping", None);
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + self.proxy.drain_timeout();
        let _ = self.listener.await;
        if tokio::time::timeout_at(deadline, self.proxy.settled())
            .await
            .is_err()
        {
            self.proxy.cut_running_calls();
            if tokio::time::timeout(SETTLE_LIMIT, self.proxy.settled())
                .await
                .is_err()
            {
                tracing::error!("some calls did not end: the next start recovers them");
            }
        }
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        if let Some(exchange) = self.exchange {
            let _ = tokio::time::timeout(SETTLE_LIMIT, exchange.finish()).await;
        }
        self.budgets.leave_others().await;
        self.alerts.close().await;
        if let Some(otel) = self.otel {
            otel.stop().await;
        }
        self.sinks.close().await;
        tell(&self.ledger, &self.clock, Event::STOPPED, None);
        if let Err(error) = self.ledger.close().await {
            tracing::error!("{error}");
        }
        let _ = self.admin_stop.send(());
        let _ = tokio::time::timeout(SETTLE_LIMIT, self.admin).await;
    }

    fn announce(&self) {
        let mut out = io::stdout().lock();
        let scheme = if self.config.load().proxy.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let _ = writeln!(out, "proxy listening on {scheme}://{}", self.proxy_address);
        let _ = writeln!(out, "admin listening on http://{}", self.admin_address);
        let _ = out.flush();
    }
}

/// Tells systemd, where that started the process as `Type=notify`; elsewhere nobody.
fn supervised(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be told how the server is");
    }
}

/// Lets go of idle accounts and runs, as long as the process lives.
async fn sweep(budgets: Arc<Budgets>, loops: Arc<Loops>) {
    let mut tick = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tick.tick().await;
        let (budgets, loops) = (Arc::clone(&budgets), Arc::clone(&loops));
        let swept = tokio::task::spawn_blocking(move || {
            budgets.sweep();
            loops.sweep();
        });
        if swept.await.is_err() {
            tracing::error!("letting go of idle accounts and runs failed; it is tried again");
        }
    }
}

fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, CertificateError> {
    let tls = config.proxy.tls.as_ref();
    tls.map(listener::acceptor).transpose()
}

/// What goes on beside the way of calls.
fn tasks(
    budgets: &Arc<Budgets>,
    loops: &Arc<Loops>,
    exchange: Option<Arc<Exchange>>,
) -> Vec<JoinHandle<()>> {
    let mut tasks = vec![
        tokio::spawn(sweep(Arc::clone(budgets), Arc::clone(loops))),
        tokio::spawn(in_step(Arc::clone(budgets), Arc::clone(loops))),
    ];
    tasks.extend(exchange.map(|exchange| tokio::spawn(exchange.run())));
    tasks
}

/// Keeps in step with other instances and hears of what is done there; at once over where there are
/// none.
async fn in_step(budgets: Arc<Budgets>, loops: Arc<Loops>) {
    let Some(shared) = budgets.shared().cloned() else {
        return;
    };
    let follower = Follower {
        budgets: Arc::clone(&budgets),
        loops,
    };
    tokio::join!(budgets.keep_in_step(), shared.hear(&follower));
}

/// Does here what was done on another instance.
struct Follower {
    budgets: Arc<Budgets>,
    loops: Arc<Loops>,
}

impl Follow for Follower {
    async fn follow(&self, heard: Heard) {
        match heard.told.deed {
            SharedDeed::Tripped(tenant, trip) => self.loops.follow(tenant, *trip),
            SharedDeed::Closed(id) => self.loops.unfollow(id),
            _ => self.budgets.follow(heard).await,
        }
    }
}

/// A listener and the address it has; the system picks a port in place of 0.
async fn bind(
    section: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let socket = TcpListener::bind(address).await;
    let socket = socket.map_err(|cause| StartError::Listen {
        section,
        address,
        cause,
    })?;
    let bound = socket.local_addr().unwrap_or(address);
    Ok((socket, bound))
}

/// What agents talk to.
fn listen(
    (socket, tls): (TcpListener, Option<TlsAcceptor>),
    config: &Config,
    (proxy, metrics): (&Arc<Proxy>, &Arc<Metrics>),
) -> Listener {
    Listener {
        socket,
        tls,
        config: config.proxy.clone(),
        proxy: Arc::clone(proxy),
        metrics: Arc::clone(metrics),
    }
}

async fn open_ledger(
    config: &Config,
    clock: &Clock,
    open: impl FnOnce(&LedgerConfig, Clock, Decode) -> OpenedLedger + Send + 'static,
) -> Result<Ledger, StartError> {
    let (settings, own_clock) = (config.ledger.clone(), clock.clone());
    let decode = |encoding: &str, body: &[u8], limit| decode_all(encoding, body, limit).ok();
    let opened = tokio::task::spawn_blocking(move || open(&settings, own_clock, decode));
    let (ledger, recovery) = match opened.await {
        Ok(opened) => opened?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    tracing::info!("{recovery}");
    if !recovery.clean {
        tell(&ledger, clock, Event::RECOVERED, Some(recovery.to_string()));
    } else if !recovery.stopped {
        // Who looked at the ledger meanwhile may have left it clean.
        let told = "The process before this one did not say that it stopped; there was nothing to \
                    repair.";
        tell(&ledger, clock, Event::RECOVERED, Some(told.to_owned()));
    }
    Ok(ledger)
}

/// What decides on calls.
fn engines(
    config: &Config,
    ledger: &Ledger,
    clock: &Clock,
    admin: SocketAddr,
) -> Result<(Arc<Budgets>, Arc<Loops>), shared::SetupError> {
    let budgets = budgets(config, ledger, clock, admin)?;
    let loops = loops(config, ledger, clock);
    if let Some(shared) = budgets.shared() {
        loops.share(Arc::clone(shared));
    }
    Ok((budgets, loops))
}

fn budgets(
    config: &Config,
    ledger: &Ledger,
    clock: &Clock,
    admin: SocketAddr,
) -> Result<Arc<Budgets>, shared::SetupError> {
    let max_idle = config.accounting.max_accounts;
    let budgets = Budgets::new(&config.budgets, max_idle, ledger.clone(), clock.clone());
    let Some(settings) = &config.shared else {
        return Ok(Arc::new(budgets));
    };
    let shared = Shared::new(settings, ledger.seed().0, clock.clone())?;
    shared.describe(&format!("{} at {admin}", build::DESCRIPTION));
    Ok(Arc::new(budgets.sharing(Arc::new(shared))))
}

fn loops(config: &Config, ledger: &Ledger, clock: &Clock) -> Arc<Loops> {
    let keeper = Box::new(ledger.clone());
    Arc::new(Loops::new(config, clock.clone(), keeper))
}

/// What the ledger is asked through by the API and the pages together.
fn records(
    (config, ledger, clock): (&Arc<ArcSwap<Config>>, &Ledger, &Clock),
    (loops, alerts): (&Arc<Loops>, &Arc<Alerts>),
) -> Records {
    let source = Source::Live(ledger.clone());
    let watchers = (Some(Arc::clone(loops)), Some(Arc::clone(alerts)));
    Records::new(source, clock.clone(), watchers).configured(Arc::clone(config))
}

/// Lets commands find this process, and records that it starts.
fn announce(
    (ledger, clock): (&Ledger, &Clock),
    (proxy, admin, is_tls): (SocketAddr, SocketAddr, bool),
) {
    let doors = Doors {
        admin,
        proxy,
        is_tls,
    };
    if let Err(error) = ledger.announce(doors) {
        tracing::warn!(%error, "commands will not find this server");
    }
    let program = build::DESCRIPTION;
    let told = format!("{program}, proxy on {proxy}, admin on {admin}");
    tell(ledger, clock, Event::STARTED, Some(told));
}

/// Records an event, or warns where `ledger` cannot take it at the moment.
fn tell(ledger: &Ledger, clock: &Clock, what: &'static str, details: Option<String>) {
    if let Err(error) = ledger.event(Event::own(clock.now(), what, details)) {
        tracing::warn!(%error, "the event {what} is not recorded");
    }
}

type Usable = (Live, Hooks, Stores);

/// What calls, alerts and sinks go by, if all of it can be used beside these listeners.
fn usable(config: &Config, listeners: [SocketAddr; 2]) -> Result<Usable, StartError> {
    let hooks = Hooks::new(&config.alerts, &listeners)?;
    let stores = Stores::new(&config.sinks)?;
    Ok((live(config.clone())?, hooks, stores))
}

/// What a configuration makes of upstreams and prices.
fn live(config: Config) -> Result<Live, StartError> {
    let upstreams = config
        .upstreams
        .iter()
        .map(|upstream| Upstream::new(upstream).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let prices = config.price_table()?;
    Ok(Live {
        config,
        upstreams,
        prices,
    })
}
