//! What waits for the disk: a queue bounded by bytes, whose room is reserved before it is used.
//!
//! Pushing never blocks and, with room reserved, cannot fail. Room is given back when the record
//! is on disk, so that queue and writer together hold no more than the bound.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::core::call::{Admission, Settlement};

use super::body::Capture;
use super::record::{Checkpoint, Note};

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Op {
    Admit(Box<Admission>, Option<Capture>, Receipt),
    /// Without a receipt when the ledger settles a call by itself.
    Settle(Box<Settlement>, Option<Capture>, Option<Receipt>),
    Note(Box<Note>, Receipt),
    Checkpoint(Box<Checkpoint>),
    /// No longer refer to contents in segments before this one; they are about to go.
    Forget(u64, Commit),
    /// Nothing: its commit says that all before it was written.
    Barrier(Commit),
}

/// What is given back once a record is on disk.
#[derive(Debug)]
pub(crate) struct Receipt {
    pub(crate) room: Room,
    pub(crate) commit: Option<Commit>,
}

/// The queue; shared by those who push and the one writer.
#[derive(Debug)]
pub(crate) struct Queue {
    ops: Mutex<VecDeque<Op>>,
    wake: Condvar,
    /// Of all room that is out: queued, being written, reserved.
    reserved: AtomicUsize,
    limit: usize,
    closed: AtomicBool,
    failing: AtomicBool,
    dropped: AtomicU64,
    dropped_bodies: AtomicU64,
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            ops: Mutex::default(),
            wake: Condvar::new(),
            reserved: AtomicUsize::new(0),
            limit,
            closed: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            dropped_bodies: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Op>> {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `bytes` of room for a record, if there is that much.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        self.take_room(bytes, self.limit).then(|| Room {
            queue: Arc::clone(self),
            bytes,
        })
    }

    fn take_room(&self, bytes: usize, limit: usize) -> bool {
        self.reserved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |reserved| {
                reserved.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .is_ok()
    }

    /// Hands an operation to the writer; dropped when the queue is closed.
    pub(crate) fn push(&self, mut op: Op) {
        let mut ops = self.lock();
        if self.closed.load(Ordering::Relaxed) {
            drop(ops);
            self.count_dropped(u64::from(op.is_record()));
            return;
        }
        if self.failing.load(Ordering::Relaxed) {
            op.release_waiter();
        }
        ops.push_back(op);
        if ops.len() == 1 {
            self.wake.notify_all();
        }
    }

    /// Waits until something is queued, the queue is closed or `timeout` is over, then takes the
    /// front of the queue: operations of up to about `bytes` of bodies.
    pub(crate) fn take(&self, timeout: Option<Duration>, bytes: usize) -> Taken {
        let mut ops = self.lock();
        let mut timed_out = false;
        while ops.is_empty() && !self.closed.load(Ordering::Relaxed) && !timed_out {
            (ops, timed_out) = self.wait(ops, timeout);
        }
        let mut size = 0;
        let within = |op: &&Op| {
            let fits = size < bytes;
            size += op.size();
            fits
        };
        let count = ops.iter().take_while(within).count();
        let closed = self.closed.load(Ordering::Relaxed) && count == ops.len();
        Taken {
            ops: ops.drain(..count).collect(),
            closed,
        }
    }

    fn wait<'a>(
        &self,
        ops: MutexGuard<'a, VecDeque<Op>>,
        timeout: Option<Duration>,
    ) -> (MutexGuard<'a, VecDeque<Op>>, bool) {
        match timeout {
            None => (
                self.wake.wait(ops).unwrap_or_else(PoisonError::into_inner),
                false,
            ),
            Some(timeout) => {
                let (ops, result) = self
                    .wake
                    .wait_timeout(ops, timeout)
                    .unwrap_or_else(PoisonError::into_inner);
                (ops, result.timed_out())
            }
        }
    }

    /// Waits for `timeout`, or until the queue is closed; says whether it is.
    pub(crate) fn pause(&self, timeout: Duration) -> bool {
        let ops = self.lock();
        let open = |_: &mut VecDeque<Op>| !self.closed.load(Ordering::Relaxed);
        drop(self.wake.wait_timeout_while(ops, timeout, open));
        self.is_closed()
    }

    /// Takes nothing more in; what is queued is still written.
    pub(crate) fn close(&self) {
        let ops = self.lock();
        self.closed.store(true, Ordering::Relaxed);
        drop(ops);
        self.wake.notify_all();
    }

    /// Closes the queue and throws away what waits, as the writer is gone.
    pub(crate) fn abandon(&self) {
        self.close();
        let ops = mem::take(&mut *self.lock());
        self.count_dropped(ops.iter().filter(|op| op.is_record()).count() as u64);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn reserved_bytes(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// While failing nothing new is admitted, and commits resolve at once.
    pub(crate) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
        if failing {
            for op in self.lock().iter_mut() {
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
    const fn is_record(&self) -> bool {
        matches!(self, Self::Admit(..) | Self::Settle(..) | Self::Note(..))
    }

    /// Lets go whoever waits for this to be on disk.
    fn release_waiter(&mut self) {
        match self {
            Self::Admit(_, _, receipt) | Self::Note(_, receipt) => receipt.commit = None,
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

/// Reserved room in the queue, given back on drop.
#[derive(Debug)]
pub(crate) struct Room {
    queue: Arc<Queue>,
    bytes: usize,
}

impl Room {
    /// Takes `more` bytes in addition for what may be left out, such as a body; false (and nothing
    /// taken) when there is not that much. A quarter of all room is for records alone, so that
    /// large bodies do not keep other calls from being recorded.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let limit = self.queue.limit - self.queue.limit / 4;
        if more > 0 && !self.queue.take_room(more, limit) {
            return false;
        }
        self.bytes += more;
        true
    }

    /// Gives back what is not needed once a record is encoded: bodies are gone by then.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        self.bytes -= spare;
        self.queue.reserved.fetch_sub(spare, Ordering::Relaxed);
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.queue.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One end of a promise that something is on disk. Dropping it keeps the promise as well as can
/// be: whoever waits goes on, so that nothing ever hangs on a ledger that died.
#[derive(Debug)]
pub(crate) struct Commit(Arc<CommitState>);

#[derive(Debug, Default)]
struct CommitState {
    done: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
    blocked: Condvar,
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
    pub(crate) fn resolve(&self) {
        let wakers = {
            let mut wakers = self.0.wakers();
            self.0.done.store(true, Ordering::Release);
            self.0.blocked.notify_all();
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

    /// Waits on this thread.
    pub(crate) fn block(&self) {
        let Some(state) = &self.0 else { return };
        let mut wakers = state.wakers();
        while !state.done.load(Ordering::Acquire) {
            wakers = state
                .blocked
                .wait(wakers)
                .unwrap_or_else(PoisonError::into_inner);
        }
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
