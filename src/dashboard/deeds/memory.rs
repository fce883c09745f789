//! Which forms were carried out, so that none is carried out twice, and what to tell of each.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::id::CallId;

/// Forms that are remembered; forms are told to be too old long before as many were sent.
const MOST: usize = 4096;

/// The last forms, by the numbers they carry.
#[derive(Debug, Default)]
pub(in crate::dashboard) struct Memory(Mutex<VecDeque<Carried>>);

#[derive(Debug)]
struct Carried {
    once: CallId,
    /// None while it is being done.
    words: Option<String>,
}

impl Memory {
    /// Whether it was not begun before.
    pub(super) fn begin(&self, once: CallId) -> bool {
        let mut carried = self.lock();
        if carried.iter().any(|it| it.once == once) {
            return false;
        }
        if carried.len() >= MOST {
            carried.pop_front();
        }
        carried.push_back(Carried { once, words: None });
        true
    }

    pub(super) fn end(&self, once: CallId, words: String) {
        if let Some(it) = self.lock().iter_mut().find(|it| it.once == once) {
            it.words = Some(words);
        }
    }

    /// It was not done after all.
    pub(super) fn forget(&self, once: CallId) {
        self.lock().retain(|it| it.once != once);
    }

    /// What was done.
    pub(super) fn words(&self, once: CallId) -> Option<String> {
        let carried = self.lock();
        let found = carried.iter().find(|it| it.once == once);
        found.and_then(|it| it.words.clone())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Carried>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> CallId {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&(n as u64).to_be_bytes());
        CallId::from_bytes(bytes)
    }

    #[test]
    fn a_form_begins_once_unless_it_came_to_nothing() {
        let memory = Memory::default();
        assert!(memory.begin(id(1)));
        assert!(!memory.begin(id(1)));
        assert_eq!(memory.words(id(1)), None);
        memory.end(id(1), "raised".to_owned());
        assert_eq!(memory.words(id(1)).as_deref(), Some("raised"));
        assert!(!memory.begin(id(1)));
        assert!(memory.begin(id(2)));
        memory.forget(id(2));
        assert!(memory.begin(id(2)));
    }

    #[test]
    fn memory_is_bounded() {
        let memory = Memory::default();
        for n in 0..MOST + 10 {
            assert!(memory.begin(id(n)));
        }
        assert_eq!(memory.lock().len(), MOST);
    }
}
