//! Room for bytes, shared and bounded: taken before something is kept, given back when it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much of a kind of memory is taken. Whoever takes some says how much there may be in all.
#[derive(Debug, Default)]
pub struct Space {
    taken: AtomicUsize,
}

/// A part of a [`Space`], given back on drop.
#[derive(Debug)]
pub struct Room {
    space: Arc<Space>,
    bytes: usize,
}

impl Space {
    /// A part that has nothing yet.
    pub fn room(self: &Arc<Self>) -> Room {
        Room {
            space: Arc::clone(self),
            bytes: 0,
        }
    }

    /// Takes `bytes`, unless more than `limit` would be taken in all.
    pub fn take(self: &Arc<Self>, bytes: usize, limit: usize) -> Option<Room> {
        let mut room = self.room();
        room.grow(bytes, limit).then_some(room)
    }

    /// Bytes taken now.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Room {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Another part of the same space, that has nothing yet.
    #[must_use]
    pub fn another(&self) -> Self {
        self.space.room()
    }

    /// Takes `more` bytes; false, and nothing taken, if more than `limit` would be taken in all.
    pub fn grow(&mut self, more: usize, limit: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(more).filter(|sum| *sum <= limit);
        let grown = more == 0
            || self
                .space
                .taken
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
                .is_ok();
        if grown {
            self.bytes += more;
        }
        grown
    }

    /// Has `bytes` taken, more than before or less; false, and no more taken, if that were more
    /// than `limit` in all.
    pub fn resize(&mut self, bytes: usize, limit: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        self.shrink_to(bytes);
        self.grow(more, limit)
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        if spare == 0 {
            return;
        }
        self.bytes -= spare;
        self.space.taken.fetch_sub(spare, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_all_is_given_back() {
        let space = Arc::new(Space::default());
        let mut first = space.take(60, 100).unwrap();
        assert!(space.take(41, 100).is_none());
        let second = space.take(40, 100).unwrap();
        assert!(!first.grow(1, 100) && first.grow(0, 100));
        assert!(first.grow(1, 101), "the limit may change");
        first.shrink_to(11);
        assert_eq!(space.taken(), 51);
        assert!(!first.resize(61, 100) && first.resize(60, 100) && first.resize(3, 0));
        assert_eq!((first.bytes(), space.taken()), (3, 43));
        drop((first, second));
        assert_eq!(space.taken(), 0);
        assert!(space.take(usize::MAX, usize::MAX).is_some());
    }
}
