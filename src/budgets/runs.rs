//! Runs: who is whose child, which are paused or stopped, and which calls to end when one stops.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::refusal::Refusal;
use super::refused::{Refusals, Refused};
use crate::core::budget::{Control, Limits, RunState};
use crate::core::id::Label;
use crate::core::time::Timestamp;

const SHARDS: usize = 16;

/// All runs in memory.
#[derive(Default)]
pub struct Runs {
    shards: [Mutex<HashMap<Label, Arc<Run>>>; SHARDS],
    calls: AtomicU64,
}

/// One run in memory.
pub struct Run {
    pub name: Label,
    state: Mutex<Inner>,
    /// It went on, or was stopped.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    /// None until it was looked up in the ledger.
    known: Option<RunState>,
    /// The limits that records say.
    recorded: Limits,
    /// What other instances were told of it.
    told: (Option<Label>, Limits),
    /// A call of it was seen, or an operator named it.
    is_known: bool,
    running: HashMap<u64, Arc<Switch>>,
    refusals: Refusals,
    last_used: Timestamp,
    uses: u64,
}

/// Ends one running call from outside.
#[derive(Default)]
pub struct Switch {
    why: OnceLock<Arc<Refusal>>,
    waker: Mutex<Option<Waker>>,
}

/// A running call in the lists of its run and of that run's ancestors.
pub struct Enlisted {
    number: u64,
    runs: Vec<Arc<Run>>,
    switch: Arc<Switch>,
}

impl Runs {
    /// The run of this name, made if it is not in memory.
    pub fn run(&self, name: &Label) -> Arc<Run> {
        let mut shard = lock(self.shard(name));
        if let Some(run) = shard.get(name) {
            return Arc::clone(run);
        }
        let run = Arc::new(Run {
            name: name.clone(),
            state: Mutex::default(),
            changed: Notify::new(),
        });
        shard.insert(name.clone(), Arc::clone(&run));
        run
    }

    pub fn get(&self, name: &Label) -> Option<Arc<Run>> {
        lock(self.shard(name)).get(name).map(Arc::clone)
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the clients of a run allow it by header, as far as it is in memory.
    pub fn tightened(&self, name: &Label) -> Limits {
        let shard = lock(self.shard(name));
        shard
            .get(name)
            .map_or_else(Limits::default, |run| run.tightened())
    }

    /// Enlists a running call with its run and all ancestors.
    pub fn enlist(&self, runs: Vec<Arc<Run>>) -> Enlisted {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let switch = Arc::<Switch>::default();
        for run in &runs {
            run.lock().running.insert(number, Arc::clone(&switch));
        }
        Enlisted {
            number,
            runs,
            switch,
        }
    }

    /// Runs that nobody uses, the ones that were not used for longest first.
    pub(super) fn idle(&self) -> Vec<(Timestamp, Label, u64)> {
        let mut idle = Vec::new();
        for shard in &self.shards {
            for run in lock(shard).values() {
                let inner = run.lock();
                if inner.is_idle() && Arc::strong_count(run) == 1 {
                    idle.push((inner.last_used, run.name.clone(), inner.uses));
                }
            }
        }
        idle
    }

    /// Lets go of a run that was not used since `uses`, if nobody has it.
    pub(super) fn forget(&self, name: &Label, uses: u64) -> bool {
        let mut shard = lock(self.shard(name));
        let idle = shard.get(name).is_some_and(|run| {
            let inner = run.lock();
            Arc::strong_count(run) == 1 && inner.uses == uses && inner.is_idle()
        });
        idle && shard.remove(name).is_some()
    }

    fn shard(&self, name: &Label) -> &Mutex<HashMap<Label, Arc<Run>>> {
        let sum = name.as_str().bytes().fold(0usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        self.shards.get(sum % SHARDS).unwrap_or(&self.shards[0])
    }
}

impl Inner {
    /// Nothing of it runs, and the ledger knows all there is to know.
    fn is_idle(&self) -> bool {
        let known = self.known.as_ref();
        self.running.is_empty() && known.is_none_or(|known| known.tightened == self.recorded)
    }
}

impl Run {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.state)
    }

    pub fn is_loaded(&self) -> bool {
        self.lock().known.is_some()
    }

    /// Takes over what the ledger knows, unless somebody else did.
    pub fn load(&self, stored: Option<RunState>) {
        let mut inner = self.lock();
        inner.is_known |= stored.is_some();
        if inner.known.is_none() {
            let stored = stored.unwrap_or_default();
            inner.recorded = stored.tightened;
            inner.known = Some(stored);
        }
    }

    pub fn is_known(&self) -> bool {
        self.lock().is_known
    }

    /// What a call of this run says of it: the first parent it names is its parent, and limits only
    /// ever become smaller. Gives the parent.
    pub fn claim(
        &self,
        parent: Option<&Label>,
        tightened: &Limits,
        now: Timestamp,
    ) -> Option<Label> {
        let mut inner = self.lock();
        inner.last_used = inner.last_used.max(now);
        inner.uses += 1;
        inner.is_known = true;
        let inner = &mut *inner;
        let known = inner.known.get_or_insert_default();
        if known.parent.is_none() {
            known.parent = parent.filter(|parent| **parent != self.name).cloned();
        }
        known.tightened = known.tightened.tightened(tightened);
        known.parent.clone()
    }

    /// The run that it is part of, as far as that is known.
    pub(super) fn parent(&self) -> Option<Label> {
        self.lock().known.as_ref()?.parent.clone()
    }

    /// What clients said of it that other instances were not told. They are told of it now.
    pub(super) fn news(&self) -> Option<(Option<Label>, Limits)> {
        let mut inner = self.lock();
        let known = inner.known.as_ref()?;
        let news = (known.parent.clone(), known.tightened);
        let is_news = news != inner.told;
        is_news.then(|| {
            inner.told.clone_from(&news);
            news
        })
    }

    /// Other instances said this of it: they need not be told.
    pub(super) fn heard(&self, parent: Option<Label>, limits: &Limits) {
        let mut inner = self.lock();
        if inner.known.as_ref().is_some_and(|it| it.parent == parent) {
            inner.told.0 = parent;
        }
        inner.told.1 = inner.told.1.tightened(limits);
    }

    /// The limits of it, if no record says them yet.
    pub fn new_limits(&self) -> Option<Limits> {
        let inner = self.lock();
        let known = inner.known.as_ref()?;
        (known.tightened != inner.recorded).then_some(known.tightened)
    }

    /// A record says these limits.
    pub fn recorded(&self, limits: &Limits) {
        let mut inner = self.lock();
        inner.recorded = inner.recorded.tightened(limits);
    }

    /// A call of it, or of a run that it began, was refused. Gives its parent, and whether it is the
    /// first for its reason.
    pub(super) fn refused(&self, why: &Refusal, at: Timestamp) -> (Option<Label>, bool) {
        let mut inner = self.lock();
        let is_first = inner.refusals.add(why, at);
        let known = inner.known.as_ref();
        (known.and_then(|known| known.parent.clone()), is_first)
    }

    pub(super) fn refusals(&self) -> Vec<Refused> {
        self.lock().refusals.to_vec()
    }

    /// What its clients allow it by header.
    pub fn tightened(&self) -> Limits {
        self.lock()
            .known
            .as_ref()
            .map_or_else(Limits::default, |known| known.tightened)
    }

    pub fn control(&self) -> Control {
        let inner = self.lock();
        inner
            .known
            .as_ref()
            .map_or(Control::Running, |known| known.control)
    }

    pub fn running(&self) -> usize {
        self.lock().running.len()
    }

    /// Pauses it, lets it go on, or stops it; `record` is called before anybody can see it. A stop
    /// ends the calls that run. Says how many.
    pub fn set_control<E>(
        &self,
        control: Control,
        record: impl FnOnce() -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut inner = self.lock();
        record()?;
        inner.uses += 1;
        inner.known.get_or_insert_default().control = control;
        let switches: Vec<_> = match control {
            Control::Stopped => inner.running.values().cloned().collect(),
            Control::Running | Control::Paused => Vec::new(),
        };
        drop(inner);
        let why = Arc::new(Refusal::Stopped(self.name.clone()));
        for switch in &switches {
            switch.cut(&why);
        }
        self.changed.notify_waiters();
        Ok(switches.len())
    }

    /// Resolves once it may have become something else than paused.
    pub async fn until_resumed(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.control() != Control::Paused {
                return;
            }
            changed.await;
        }
    }
}

impl Switch {
    pub fn cut(&self, why: &Arc<Refusal>) {
        if self.why.set(Arc::clone(why)).is_ok()
            && let Some(waker) = lock(&self.waker).take()
        {
            waker.wake();
        }
    }

    pub fn why(&self) -> Option<&Arc<Refusal>> {
        self.why.get()
    }

    /// Resolves when the call has to end.
    pub fn poll_cut(&self, context: &Context<'_>) -> Poll<Arc<Refusal>> {
        if let Some(why) = self.why.get() {
            return Poll::Ready(Arc::clone(why));
        }
        let mut waker = lock(&self.waker);
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        drop(waker);
        match self.why.get() {
            Some(why) => Poll::Ready(Arc::clone(why)),
            None => Poll::Pending,
        }
    }
}

impl Enlisted {
    pub fn switch(&self) -> &Arc<Switch> {
        &self.switch
    }

    /// Resolves when the call has to end.
    pub fn stopped(&self) -> impl Future<Output = Arc<Refusal>> + use<> {
        let switch = Arc::clone(&self.switch);
        poll_fn(move |context| switch.poll_cut(context))
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        for run in &self.runs {
            run.lock().running.remove(&self.number);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
