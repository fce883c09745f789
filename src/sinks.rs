//! Databases that get what the ledger records: finished calls, decisions and measurements, in the
//! columns of `export`.
//!
//! Each sink is a reader of the log on a task of its own; a call never meets one. How far it is
//! stands in the database beside the rows, so whatever fails in between is simply done again, and
//! rows replace themselves by their keys. The ledger stays the truth, and keeps nothing for a sink.

mod clickhouse;
mod gather;
mod postgres;
mod rows;
mod schema;
mod status;
mod store;
mod task;
mod texts;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::status::Reporter;
pub use self::status::{SinkState, SinkStatus};
use self::store::{Owner, Store};
use self::task::{MAX_NEWS, Task};
use crate::clock::Clock;
use crate::config::{SinkConfig, SinkKind};
use crate::core::id::Label;
use crate::ledger::{Feed, Ledger};
use crate::metrics::Metrics;

/// How long a sink may take for what is left when it ends.
const FLUSH: Duration = Duration::from_secs(5);

/// All sinks of the running process.
pub struct Sinks {
    all: Mutex<All>,
    ledger: Ledger,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// Why a sink cannot be used as it is configured. Never shows a URL.
#[derive(Debug, thiserror::Error)]
#[error("[[sink]] {name}: {cause}")]
pub struct SinkError {
    name: Label,
    cause: String,
}

/// Sinks that can be used, as [`Sinks::reload`] takes them.
pub struct Stores(Vec<(SinkConfig, Store)>);

#[derive(Default)]
struct All {
    running: Vec<Running>,
    /// Those that are not configured any more and write what is left.
    ending: Vec<(Label, JoinHandle<()>)>,
}

/// Dropping it ends its task at once.
struct Running {
    config: SinkConfig,
    reporter: Arc<Reporter>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Stores {
    /// Reaches no database: whether one is there shows when it is written to.
    pub fn new(configs: &[SinkConfig]) -> Result<Self, SinkError> {
        let store = |config: &SinkConfig| {
            let store = Store::new(config).map_err(|error| SinkError {
                name: config.name.clone(),
                cause: error.to_string(),
            })?;
            Ok((config.clone(), store))
        };
        configs
            .iter()
            .map(store)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Sinks {
    /// Needs to be called within a runtime.
    pub fn start(
        stores: Stores,
        (ledger, clock, metrics): (&Ledger, &Clock, &Arc<Metrics>),
    ) -> Arc<Self> {
        let sinks = Self {
            all: Mutex::default(),
            ledger: ledger.clone(),
            clock: clock.clone(),
            metrics: Arc::clone(metrics),
        };
        sinks.reload(stores);
        Arc::new(sinks)
    }

    /// For those who need some and have none.
    #[cfg(test)]
    pub(crate) fn none(ledger: &Ledger, clock: &Clock) -> Arc<Self> {
        Self::start(Stores(Vec::new()), (ledger, clock, &Arc::default()))
    }

    /// Goes by these from now on. What is as it was goes on; what is new or changed begins when what
    /// was in its place has ended.
    pub fn reload(&self, Stores(stores): Stores) {
        let mut all = self.lock();
        let All { running, ending } = &mut *all;
        ending.retain(|(_, ended)| !ended.is_finished());
        let mut before = std::mem::take(running);
        for (config, store) in stores {
            let same = before.iter().position(|it| it.config == config);
            if let Some(same) = same {
                running.push(before.swap_remove(same));
                continue;
            }
            let replaced = before.iter().position(|it| it.config.name == config.name);
            let replaced = replaced.map(|at| tokio::spawn(before.swap_remove(at).finish()));
            let ended = || {
                let same = ending.iter().position(|(name, _)| *name == config.name)?;
                Some(ending.swap_remove(same).1)
            };
            let replaced = replaced.or_else(ended);
            running.push(self.begin(config, store, replaced));
        }
        for gone in before {
            let name = gone.config.name.clone();
            let ended = tokio::spawn(async move {
                let reporter = Arc::clone(&gone.reporter);
                gone.finish().await;
                reporter.gone();
            });
            ending.push((name, ended));
        }
    }

    /// Begins when what was under its name before has ended.
    fn begin(&self, config: SinkConfig, store: Store, before: Option<JoinHandle<()>>) -> Running {
        let ledger = self.ledger.name();
        let named = config.instance.as_ref().map(ToString::to_string);
        let owner = Owner {
            instance: named.unwrap_or_else(|| ledger.clone()),
            ledger,
        };
        let known = (&self.ledger, &self.clock, &self.metrics);
        let reporter = Arc::new(Reporter::new(&config, &owner, known));
        let (stop, stopped) = watch::channel(false);
        let task = Task {
            config: config.clone(),
            store,
            owner,
            ledger: self.ledger.clone(),
            clock: self.clock.clone(),
            reporter: Arc::clone(&reporter),
            stop: stopped,
            start: Feed::from_end(&self.ledger).bookmark(),
            place: None,
            version: 0,
            failed: 0,
            refused: 0,
            most: MAX_NEWS,
            is_missed: false,
        };
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            task.run().await;
        });
        Running {
            config,
            reporter,
            stop,
            task,
        }
    }

    /// How each does, in the order of the configuration.
    pub fn list(&self) -> Vec<SinkStatus> {
        let all = self.lock();
        all.running.iter().map(|it| it.reporter.status()).collect()
    }

    /// Writes what is left, for a few seconds at most; the rest is written after the next start.
    pub async fn close(&self) {
        let All { running, ending } = std::mem::take(&mut *self.lock());
        join_all(running.into_iter().map(Running::finish)).await;
        join_all(ending.into_iter().map(|(_, ended)| ended)).await;
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    async fn finish(mut self) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(FLUSH, &mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What makes the tables of a sink where there are none yet.
pub fn statements(config: &SinkConfig) -> Vec<String> {
    let (schema, tables) = (&config.schema, &config.tables);
    match config.kind() {
        SinkKind::Postgres => schema::postgres(schema, tables, None),
        SinkKind::ClickHouse => {
            let create = format!("CREATE DATABASE IF NOT EXISTS `{schema}`");
            let nothing = schema::Found::new();
            let rest = schema::clickhouse(schema, tables, &nothing, schema::Times::Micros);
            std::iter::once(create).chain(rest).collect()
        }
    }
}
