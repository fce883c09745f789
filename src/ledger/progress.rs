//! How far the log is written and how far the index has followed: what threads tell each other.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::log::Cursor;
use super::record::Position;

/// The index follows in large batches, since a page of it costs the same for one record as for
/// hundreds. It lags by at most this much, unless somebody asks.
const LAG_TIME: Duration = Duration::from_secs(1);
const LAG_BYTES: u64 = 8 << 20;

#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    written: Cursor,
    indexed: Position,
    /// Somebody waits for the index to come this far.
    wanted: Position,
    /// The index cannot follow at the moment: nobody should wait for it.
    index_stuck: bool,
    writer_done: bool,
    /// How often somebody waited for the index.
    #[cfg(test)]
    waits: u64,
}

impl State {
    fn is_urgent(&self) -> bool {
        let (written, indexed) = (self.written.position, self.indexed);
        let far = written.segment != indexed.segment
            || written.offset.saturating_sub(indexed.offset) >= LAG_BYTES;
        self.writer_done || (written > indexed && (far || self.wanted > indexed))
    }
}

/// What the index has to do next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Follow {
    /// Index up to here.
    To(Position),
    /// Nothing new came for a while.
    Idle,
    /// The writer is gone and everything is indexed.
    Finish,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Everything up to here may be read.
    pub(crate) fn set_written(&self, written: Cursor) {
        let mut state = self.lock();
        state.written = written;
        if state.is_urgent() {
            self.changed.notify_all();
        }
    }

    /// The end of what may be read.
    pub(crate) fn end(&self) -> Cursor {
        self.lock().written
    }

    /// How far the index has followed.
    pub(crate) fn indexed(&self) -> Position {
        self.lock().indexed
    }

    /// A number that is different for each position of the log that was written up to.
    pub(crate) fn written(&self) -> u64 {
        let Position { segment, offset } = self.lock().written.position;
        segment.rotate_right(24) ^ offset
    }

    pub(crate) fn set_writer_done(&self) {
        self.change(|state| state.writer_done = true);
    }

    pub(crate) fn set_indexed(&self, indexed: Position) {
        self.change(|state| {
            state.indexed = indexed;
            state.index_stuck = false;
        });
    }

    pub(crate) fn set_index_stuck(&self) {
        self.change(|state| state.index_stuck = true);
    }

    pub(crate) fn is_index_stuck(&self) -> bool {
        self.lock().index_stuck
    }

    /// Waits until the index has covered all that is written by now, or cannot.
    pub(crate) fn wait_indexed(&self) {
        let mut state = self.lock();
        #[cfg(test)]
        {
            state.waits += 1;
        }
        let target = state.written.position;
        state.wanted = state.wanted.max(target);
        self.changed.notify_all();
        while state.indexed < target && !state.index_stuck {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    #[cfg(test)]
    pub(crate) fn waits(&self) -> u64 {
        self.lock().waits
    }

    /// Waits until it is time to index.
    pub(crate) fn follow(&self) -> Follow {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), LAG_TIME, |state| !state.is_urgent())
            .unwrap_or_else(PoisonError::into_inner);
        if state.written.position > state.indexed {
            Follow::To(state.written.position)
        } else if state.writer_done {
            Follow::Finish
        } else {
            Follow::Idle
        }
    }

    /// Waits for `patience`; says whether the writer is gone meanwhile.
    pub(crate) fn pause(&self, patience: Duration) -> bool {
        let running = |state: &mut State| !state.writer_done;
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, running)
            .unwrap_or_else(PoisonError::into_inner);
        state.writer_done
    }
}
