//! A bounded memory of what was worked out: what was read once is not read again.
//!
//! Each shard keeps two generations. New and used entries live in the young one; when it is full
//! it becomes the old one, and what was old and unused is forgotten.

use std::hash::Hash;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keys are digests, which nobody outside can choose: the hash need not defend itself.
use rustc_hash::FxHashMap;

const SHARDS: usize = 16;

/// At most the given number of entries, shared between threads.
#[derive(Debug)]
pub struct Memo<K, V> {
    shards: [Mutex<Generations<K, V>>; SHARDS],
    per_generation: usize,
}

#[derive(Debug)]
struct Generations<K, V> {
    young: FxHashMap<K, V>,
    old: FxHashMap<K, V>,
}

impl<K: Copy + Eq + Hash, V: Clone> Memo<K, V> {
    /// A memo of at most `entries`, but room for at least two in each of its shards.
    pub fn new(entries: usize) -> Self {
        let empty = || {
            Mutex::new(Generations {
                young: FxHashMap::default(),
                old: FxHashMap::default(),
            })
        };
        Self {
            shards: std::array::from_fn(|_| empty()),
            per_generation: (entries / SHARDS / 2).max(1),
        }
    }

    /// The value of `key`. `spread` is any well distributed byte of the key: it picks the shard.
    pub fn get(&self, spread: u8, key: &K) -> Option<V> {
        let mut shard = self.shard(spread)?;
        if let Some(value) = shard.young.get(key) {
            return Some(value.clone());
        }
        let value = shard.old.remove(key)?;
        self.add(&mut shard, *key, value.clone());
        Some(value)
    }

    pub fn insert(&self, spread: u8, key: K, value: V) {
        if let Some(mut shard) = self.shard(spread) {
            self.add(&mut shard, key, value);
        }
    }

    pub fn len(&self) -> usize {
        let lengths = (0u8..).take(SHARDS).filter_map(|index| self.shard(index));
        lengths
            .map(|shard| shard.young.len() + shard.old.len())
            .sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(&self, shard: &mut Generations<K, V>, key: K, value: V) {
        if shard.young.len() >= self.per_generation {
            shard.old = mem::take(&mut shard.young);
        }
        shard.young.insert(key, value);
    }

    /// A thread that panicked left the maps whole: each change is one call of theirs.
    fn shard(&self, spread: u8) -> Option<MutexGuard<'_, Generations<K, V>>> {
        let shard = self.shards.get(usize::from(spread) % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memo_never_holds_more_than_its_bound() {
        let memo = Memo::new(320);
        for key in 0u64..10_000 {
            memo.insert(key.to_le_bytes()[0], key, key);
            assert!(memo.len() <= 320);
        }
        assert!(memo.len() > 160);
        assert_eq!(memo.get(9_999u64.to_le_bytes()[0], &9_999), Some(9_999));
        assert_eq!(memo.get(0, &0), None);
    }

    #[test]
    fn entry_in_use_outlives_many_others() {
        let memo = Memo::new(64);
        memo.insert(3, 0u64, 7);
        for key in 1u64..1_000 {
            memo.insert(3, key, 0);
            assert_eq!(memo.get(3, &0), Some(7));
        }
    }

    #[test]
    fn memo_of_no_entries_still_works() {
        let memo = Memo::new(0);
        memo.insert(1, 'a', 1);
        assert_eq!(memo.get(1, &'a'), Some(1));
    }
}
