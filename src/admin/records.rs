//! Answers from the ledger. Its queries read files, so they run beside the async threads, few at a
//! time: whoever asks more waits, and the proxy keeps the cores.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Semaphore};

use super::problem::Problem;
use super::suggestions::Suggested;
use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::id::Label;
use crate::ledger::check::ReadOnly;
use crate::ledger::{IndexError, Ledger, View};
use crate::loops::Loops;

/// Queries that may read the disk at once.
const CONCURRENT_QUERIES: usize = 4;

/// A ledger to ask.
#[derive(Clone)]
pub enum Source {
    /// The one this process writes.
    Live(Ledger),
    /// The files of one that no process writes.
    Files(Arc<ReadOnly>),
}

impl Source {
    /// Blocks until all that was recorded by now can be seen.
    fn view(&self) -> &View {
        match self {
            Self::Live(ledger) => ledger.view(),
            Self::Files(files) => files.view(),
        }
    }

    /// The same without a wait.
    fn peek(&self) -> &View {
        match self {
            Self::Live(ledger) => ledger.peek(),
            Self::Files(files) => files.view(),
        }
    }
}

/// The ledger and the bound on those who ask it.
#[derive(Clone)]
pub struct Records {
    source: Source,
    pub(super) clock: Clock,
    /// Of the running proxy; none where only files are read.
    pub(super) loops: Option<Arc<Loops>>,
    pub(super) alerts: Option<Arc<Alerts>>,
    /// None where there is none but the defaults.
    pub(crate) config: Option<Arc<ArcSwap<Config>>>,
    /// What other instances call this one, where there are others.
    pub(super) title: Option<Label>,
    slots: Arc<Semaphore>,
    pub(super) suggested: Arc<Mutex<Option<Suggested>>>,
}

impl Records {
    pub fn new(
        source: Source,
        clock: Clock,
        (loops, alerts): (Option<Arc<Loops>>, Option<Arc<Alerts>>),
    ) -> Self {
        Self {
            source,
            clock,
            loops,
            alerts,
            config: None,
            title: None,
            slots: Arc::new(Semaphore::new(CONCURRENT_QUERIES)),
            suggested: Arc::default(),
        }
    }

    /// The same, by a configuration that may change.
    #[must_use]
    pub fn configured(self, config: Arc<ArcSwap<Config>>) -> Self {
        Self {
            config: Some(config),
            ..self
        }
    }

    /// The same of one of several instances.
    #[must_use]
    pub fn titled(self, title: Option<&str>) -> Self {
        Self {
            title: title.and_then(|title| Label::parse(title).ok()),
            ..self
        }
    }

    /// Changes whenever something was written; files that no process writes stay as they are.
    pub(super) fn position(&self) -> u64 {
        match &self.source {
            Source::Live(ledger) => ledger.written(),
            Source::Files(_) => 0,
        }
    }

    /// Asks on a thread that may wait for the disk.
    pub async fn ask<T, Q>(&self, query: Q) -> Result<T, Problem>
    where
        T: Send + 'static,
        Q: FnOnce(&View) -> Result<T, IndexError> + Send + 'static,
    {
        let source = self.source.clone();
        self.read(move || query(source.view())).await
    }

    /// Asks what can be seen by now, for those who go on with what they were told before: nobody waits
    /// until what was recorded since is on disk.
    pub async fn go_on<T, Q>(&self, query: Q) -> Result<T, Problem>
    where
        T: Send + 'static,
        Q: FnOnce(&View) -> Result<T, IndexError> + Send + 'static,
    {
        let source = self.source.clone();
        self.read(move || query(source.peek())).await
    }

    /// Runs what may wait for the disk, when there is a place for it.
    pub async fn read<T, Q>(&self, query: Q) -> Result<T, Problem>
    where
        T: Send + 'static,
        Q: FnOnce() -> Result<T, IndexError> + Send + 'static,
    {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|error| Problem::internal("the query was not started", &error))?;
        let answer = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            query()
        });
        match answer.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(Problem::internal("the ledger cannot be read", &error)),
            Err(error) => Err(Problem::internal("the query ended early", &error)),
        }
    }
}
