//! What was seen lately, and how much of a text was not.

use std::hash::Hash;

use rustc_hash::FxHashSet;

/// The last things that were seen: at least `half` of them, at most twice as many.
#[derive(Clone, Debug)]
pub struct Window<T> {
    young: FxHashSet<T>,
    old: FxHashSet<T>,
    half: usize,
}

/// What part of a text is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub new: usize,
    pub all: usize,
}

/// A text is news when so many percent of its groups of words are new.
const NEWS_PERCENT: usize = 20;

impl<T: Copy + Eq + Hash> Window<T> {
    pub fn new(half: usize) -> Self {
        Self {
            young: FxHashSet::default(),
            old: FxHashSet::default(),
            half,
        }
    }

    /// Whether it was not seen lately.
    pub fn insert(&mut self, item: T) -> bool {
        if self.young.contains(&item) {
            return false;
        }
        let is_new = !self.old.contains(&item);
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(item);
        is_new
    }

    /// Takes a text in; what comes twice in it is new once.
    pub fn take(&mut self, items: &[T]) -> Share {
        let new = items.iter().filter(|item| self.insert(**item)).count();
        Share {
            new,
            all: items.len(),
        }
    }

    /// What would be new of a text.
    pub fn look(&self, items: &[T]) -> Share {
        let is_new = |item: &&T| !self.young.contains(item) && !self.old.contains(item);
        Share {
            new: items.iter().filter(is_new).count(),
            all: items.len(),
        }
    }
}

impl Share {
    pub fn is_news(self) -> bool {
        self.all > 0 && self.new * 100 >= self.all * NEWS_PERCENT
    }
}
