//! What waits for the disk: a queue bounded by bytes, whose room is reserved before it is used.
//!
//! Pushing never blocks and, with room reserved, cannot fail. Room is given back when the record
//! is on disk, so that queue and writer together hold no more than the bound. The writer is woken
//! at once for what somebody waits for; the rest gathers for a moment, since a thread woken for
//! every record costs more than the record.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::core::budget::Act;
use crate::core::call::{Admission, LateUsage, Settlement};
use crate::core::metric::Measurement;
use crate::core::space::{Room, Space};

use super::body::Capture;
use super::checkpoint::Packed;
use super::record::{Event, NewAccount};
use super::removal::Removal;

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Op {
    Admit(Box<Admission>, Option<Capture>, Receipt),
    /// Without a receipt when the ledger settles a call by itself.
    Settle(Box<Settlement>, Option<Capture>, Option<Receipt>),
    Event(Box<Event>, Receipt),
    Account(Box<NewAccount>, Receipt),
    Act(Box<Act>, Receipt),
    Late(Box<LateUsage>, Receipt),
    Measured(Box<Measurement>, Receipt),
    Removal(Box<Removal>, Receipt),
    Checkpoint(Box<Packed>),
    /// No longer refer to contents in segments before this one; they are about to go.
    Forget(u64, Commit),
    /// Nothing: its commit says that all before it was written.
    Barrier(Commit),
}

/// What nobody waits for is written this often at most.
const GATHER: Duration = Duration::from_millis(10);

/// What is given back once a record is on disk.
#[derive(Debug)]
pub(crate) struct Receipt {
    pub(crate) room: Room,
    pub(crate) commit: Option<Commit>,
}

/// The queue; shared by those who push and the one writer.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Queued, being written, or kept free for settlements.
    space: Arc<Space>,
    limit: usize,
    gather: Duration,
    closed: AtomicBool,
    failing: AtomicBool,
    dropped: AtomicU64,
    dropped_bodies: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    ops: VecDeque<Op>,
    /// Somebody waits for one of them, or they take much room.
    urgent: bool,
    /// When the writer came last.
    taken_at: Option<Instant>,
    writer: Writer,
}

/// What has to happen for the writer to look at the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writer {
    /// Nothing: it will look by itself.
    #[default]
    Awake,
    /// It looks soon, at once when told.
    Gathering,
    /// It has to be told.
    Asleep,
}

impl Waiting {
    /// Says whether the writer has to be told.
    fn push(&mut self, op: Op, urgent: bool) -> bool {
        let newly_urgent = urgent && !self.urgent;
        self.urgent |= urgent;
        self.ops.push_back(op);
        let tell = match self.writer {
            Writer::Awake => false,
            Writer::Gathering => newly_urgent,
            Writer::Asleep => true,
        };
        if tell {
            self.writer = Writer::Awake;
        }
        tell
    }
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            space: Arc::default(),
            limit,
            gather: GATHER,
            closed: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            dropped_bodies: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `bytes` of room for a record, if there is that much.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Room> {
        self.space.take(bytes, self.limit)
    }

    /// Takes `more` bytes in addition for what may be left out, such as a body; false (and nothing
    /// taken) when there is not that much. A quarter of all room is for records alone, so that
    /// large bodies do not keep other calls from being recorded.
    pub(crate) fn extend(&self, room: &mut Room, more: usize) -> bool {
        room.grow(more, self.limit - self.limit / 4)
    }

    /// Hands an operation to the writer; false (and dropped) when the queue is closed.
    pub(crate) fn push(&self, mut op: Op) -> bool {
        let mut waiting = self.lock();
        if self.closed.load(Ordering::Relaxed) {
            drop(waiting);
            self.count_dropped(u64::from(op.is_record()));
            return false;
        }
        if self.failing.load(Ordering::Relaxed) {
            op.release_waiter();
        }
        let urgent = op.is_awaited() || self.reserved_bytes() > self.limit / 2;
        if waiting.push(op, urgent) {
            drop(waiting);
            self.wake.notify_all();
        }
        true
    }

    /// Waits until something is queued, the queue is closed or `timeout` is over, then takes the
    /// front of the queue: operations of up to about `bytes` of bodies.
    pub(crate) fn take(&self, timeout: Option<Duration>, bytes: usize) -> Taken {
        let empty = |waiting: &Waiting| waiting.ops.is_empty();
        let mut waiting = self.sleep(self.lock(), Writer::Asleep, timeout, empty);
        if !waiting.ops.is_empty() {
            let gathering = |waiting: &Waiting| !waiting.urgent;
            let since_last = waiting.taken_at.map_or(self.gather, |at| at.elapsed());
            let rest = self.gather.saturating_sub(since_last);
            waiting = self.sleep(waiting, Writer::Gathering, Some(rest), gathering);
        }
        waiting.taken_at = Some(Instant::now());
        let mut size = 0;
        let within = |op: &&Op| {
            let fits = size < bytes;
            size += op.size();
            fits
        };
        let count = waiting.ops.iter().take_while(within).count();
        let all = count == waiting.ops.len();
        waiting.urgent &= !all;
        Taken {
            ops: waiting.ops.drain(..count).collect(),
            closed: self.is_closed() && all,
        }
    }

    /// Waits while `idle` says so, but no longer than `timeout` or until the queue is closed.
    fn sleep<'a>(
        &self,
        mut waiting: MutexGuard<'a, Waiting>,
        how: Writer,
        timeout: Option<Duration>,
        idle: impl Fn(&Waiting) -> bool,
    ) -> MutexGuard<'a, Waiting> {
        let mut sleeps = |waiting: &mut Waiting| {
            let sleeps = idle(waiting) && !self.is_closed();
            waiting.writer = if sleeps { how } else { Writer::Awake };
            sleeps
        };
        waiting = match timeout {
            None => self
                .wake
                .wait_while(waiting, sleeps)
                .unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                self.wake
                    .wait_timeout_while(waiting, timeout, &mut sleeps)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        waiting.writer = Writer::Awake;
        waiting
    }

    /// Waits for `timeout`, or until the queue is closed; says whether it is.
    pub(crate) fn pause(&self, timeout: Duration) -> bool {
        let open = |_: &mut Waiting| !self.is_closed();
        drop(self.wake.wait_timeout_while(self.lock(), timeout, open));
        self.is_closed()
    }

    /// Takes nothing more in; what is queued is still written.
    pub(crate) fn close(&self) {
        let waiting = self.lock();
        self.closed.store(true, Ordering::Relaxed);
        drop(waiting);
        self.wake.notify_all();
    }

    /// Closes the queue and throws away what waits, as the writer is gone.
    pub(crate) fn abandon(&self) {
        self.close();
        let ops = mem::take(&mut self.lock().ops);
        self.count_dropped(ops.iter().filter(|op| op.is_record()).count() as u64);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().ops.len()
    }

    pub(crate) fn reserved_bytes(&self) -> usize {
        self.space.taken()
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// While failing nothing new is admitted, and commits resolve at once.
    pub(crate) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
        if failing {
            for op in &mut self.lock().ops {
                op.release_waiter();
            }
        }
    }

    pub(crate) fn count_dropped(&self, records: u64) {
        self.dropped.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn count_dropped_body(&self) {
        self.dropped_bodies.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped_bodies(&self) -> u64 {
        self.dropped_bodies.load(Ordering::Relaxed)
    }
}

impl Op {
    fn size(&self) -> usize {
        match self {
            Self::Admit(_, body, _) => body.as_ref().map_or(0, Capture::size),
            Self::Settle(settlement, body, _) => {
                size_of_val(settlement.chunks.as_slice()) + body.as_ref().map_or(0, Capture::size)
            }
            _ => 0,
        }
    }

    /// Whether it would become part of the log's truth.
    pub(crate) const fn is_record(&self) -> bool {
        match self {
            Self::Admit(..)
            | Self::Settle(..)
            | Self::Event(..)
            | Self::Account(..)
            | Self::Act(..)
            | Self::Late(..)
            | Self::Measured(..) => true,
            // Where that is not written, nothing goes.
            Self::Removal(..) | Self::Checkpoint(_) | Self::Forget(..) | Self::Barrier(_) => false,
        }
    }

    /// Whether somebody waits for this.
    fn is_awaited(&self) -> bool {
        match self {
            Self::Admit(_, _, receipt)
            | Self::Event(_, receipt)
            | Self::Account(_, receipt)
            | Self::Act(_, receipt)
            | Self::Late(_, receipt)
            | Self::Measured(_, receipt)
            | Self::Removal(_, receipt) => receipt.commit.is_some(),
            Self::Barrier(_) => true,
            Self::Settle(..) | Self::Forget(..) | Self::Checkpoint(_) => false,
        }
    }

    /// Lets go whoever waits for this to be on disk.
    fn release_waiter(&mut self) {
        match self {
            Self::Admit(_, _, receipt)
            | Self::Event(_, receipt)
            | Self::Account(_, receipt)
            | Self::Act(_, receipt)
            | Self::Late(_, receipt)
            | Self::Measured(_, receipt)
            | Self::Removal(_, receipt) => receipt.commit = None,
            Self::Barrier(commit) => commit.resolve(),
            Self::Settle(..) | Self::Forget(..) | Self::Checkpoint(_) => {}
        }
    }
}

/// What the writer got.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) ops: Vec<Op>,
    /// Nothing will come after these.
    pub(crate) closed: bool,
}

/// One end of a promise that something is on disk. Dropping it keeps the promise as well as can
/// be: whoever waits goes on, so that nothing ever hangs on a ledger that died.
#[derive(Debug)]
pub(crate) struct Commit(Arc<CommitState>);

#[derive(Debug, Default)]
struct CommitState {
    done: AtomicBool,
    kept: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl CommitState {
    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit to keep and a future that resolves when it is kept.
pub(crate) fn commit() -> (Commit, Durable) {
    let state = Arc::new(CommitState::default());
    (Commit(Arc::clone(&state)), Durable(Some(state)))
}

impl Commit {
    /// It is on disk.
    pub(crate) fn keep(&self) {
        self.0.kept.store(true, Ordering::Release);
        self.resolve();
    }

    /// Has whoever waits go on, on disk or not.
    pub(crate) fn resolve(&self) {
        let wakers = {
            let mut wakers = self.0.wakers();
            self.0.done.store(true, Ordering::Release);
            mem::take(&mut *wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        self.resolve();
    }
}

/// Resolves when a record is on disk, when it will never be, or at once if nobody waits for that.
#[derive(Clone, Debug)]
#[must_use = "a future does nothing unless awaited"]
pub struct Durable(Option<Arc<CommitState>>);

impl Durable {
    /// Resolved already.
    pub(crate) const READY: Self = Self(None);

    /// Whether it has resolved.
    pub(crate) fn is_done(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|state| state.done.load(Ordering::Acquire))
    }

    /// Whether it has resolved because the record is on disk.
    pub(crate) fn is_kept(&self) -> bool {
        let kept = |state: &Arc<CommitState>| state.kept.load(Ordering::Acquire);
        self.0.as_ref().is_some_and(kept)
    }

    /// Waits on this thread.
    pub(crate) fn block(mut self) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        while Pin::new(&mut self).poll(&mut context).is_pending() {
            thread::park();
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Future for Durable {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(state) = &self.0 else {
            return Poll::Ready(());
        };
        if state.done.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut wakers = state.wakers();
        if state.done.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
