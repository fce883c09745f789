//! What is remembered of calls that ended, for those that follow them. Bounded, and not for ever.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::digest::Digest;
use crate::core::memo::Memo;
use crate::core::time::Timestamp;

const CALLS: usize = 20_000;
/// SDKs try again within seconds, and not after minutes.
const REPEATED_WITHIN_US: u64 = 10 * 60 * 1_000_000;

#[derive(Debug)]
pub struct Recent {
    /// When calls failed whose client may try again.
    failed: Memo<Digest, Timestamp>,
    /// Taken while one of them is taken: of repetitions at once only one is.
    taking: Mutex<()>,
    /// Tokens that an upstream remembers under the id of a response or conversation.
    contexts: Memo<Digest, u64>,
    /// What was done or said once.
    done: Memo<Digest, ()>,
    /// Held while it is found out whether something is to be done, and while it is done.
    doing: Mutex<()>,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            failed: Memo::new(CALLS),
            taking: Mutex::default(),
            contexts: Memo::new(CALLS),
            done: Memo::new(CALLS),
            doing: Mutex::default(),
        }
    }
}

impl Recent {
    /// A call failed and counted as one.
    pub fn failed(&self, identity: Digest, at: Timestamp) {
        self.failed.insert(spread(identity), identity, at);
    }

    /// When the call failed that this one repeats, and so was counted already; each failure is good
    /// for one repetition.
    pub fn take_failed(&self, identity: Digest, now: Timestamp) -> Option<Timestamp> {
        let forgotten = Timestamp::default();
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.failed.get(spread(identity), &identity)?;
        if at == forgotten {
            return None;
        }
        self.failed.insert(spread(identity), identity, forgotten);
        (now.micros_since(at) < REPEATED_WITHIN_US).then_some(at)
    }

    /// Whether `what` is done for the first time.
    pub fn is_first(&self, what: Digest) -> bool {
        let first = self.done.get(spread(what), &what).is_none();
        self.done.insert(spread(what), what, ());
        first
    }

    /// Of several threads that may do the same only one does, as long as it has this.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_done(&self, what: Digest) -> bool {
        self.done.get(spread(what), &what).is_some()
    }

    pub fn remember_context(&self, id: Digest, tokens: u64) {
        self.contexts.insert(spread(id), id, tokens);
    }

    pub fn context(&self, id: Digest) -> Option<u64> {
        self.contexts.get(spread(id), &id)
    }
}

fn spread(digest: Digest) -> u8 {
    let [first, ..] = digest.to_bytes();
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_good_for_one_repetition_soon_after() {
        let recent = Recent::default();
        let (call, other) = (Digest::from_bytes([1; 16]), Digest::from_bytes([2; 16]));
        let at = Timestamp::from_micros(1_000_000);
        assert!(recent.take_failed(call, at).is_none(), "it did not fail");
        recent.failed(call, at);
        assert!(recent.take_failed(other, at).is_none());
        assert_eq!(recent.take_failed(call, at), Some(at));
        assert!(recent.take_failed(call, at).is_none(), "it was used up");
        recent.failed(call, at);
        assert!(
            recent
                .take_failed(call, Timestamp::from_micros(700_000_000))
                .is_none(),
            "too late"
        );
    }
}
