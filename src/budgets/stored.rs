//! Which accounts and runs the ledger may know. One that is new need not be looked for on the disk,
//! and with each run there come new ones.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use fastbloom::AtomicBloomFilter;

use crate::core::budget::AccountId;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::id::Label;
use crate::ledger::{IndexError, Ledger};

/// 2 MiB. With a million accounts and as many runs 1 new one in 30 is looked for in vain.
const BITS: usize = 1 << 24;
const EXPECTED: usize = 2_000_000;

/// Says of nothing that the ledger knows, and memory does not, that it is new; but for runs that only
/// other instances had calls of.
pub(super) struct Stored {
    seed: DigestSeed,
    ids: AtomicBloomFilter,
    /// All that was there before this process is in it; until then the ledger may know anything.
    is_whole: AtomicBool,
}

impl Stored {
    pub(super) fn new(seed: DigestSeed) -> Self {
        Self {
            seed,
            ids: AtomicBloomFilter::with_num_bits(BITS).expected_items(EXPECTED),
            is_whole: AtomicBool::new(false),
        }
    }

    /// Learns what the ledger knows, once. Reads all of it. What comes to be known meanwhile is in
    /// memory, and is added when it leaves that.
    pub(super) fn learn(&self, ledger: &Ledger) -> Result<(), IndexError> {
        if self.is_whole.load(Ordering::Acquire) {
            return Ok(());
        }
        ledger.peek().each_run(&mut |run, _| self.add_run(&run))?;
        ledger.peek().each_account(&mut |id, _| {
            self.add_account(id);
            ControlFlow::Continue(())
        })?;
        self.is_whole.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn may_have_account(&self, id: AccountId) -> bool {
        self.may_have(id.0)
    }

    pub(super) fn may_have_run(&self, name: &Label) -> bool {
        self.may_have(id_of_run(self.seed, name))
    }

    /// It leaves memory: from now on only the ledger knows it.
    pub(super) fn add_account(&self, id: AccountId) {
        self.ids.insert(&id.0.to_bytes());
    }

    pub(super) fn add_run(&self, name: &Label) {
        self.ids.insert(&id_of_run(self.seed, name).to_bytes());
    }

    fn may_have(&self, id: Digest) -> bool {
        !self.is_whole.load(Ordering::Acquire) || self.ids.contains(&id.to_bytes())
    }
}

/// Unlike that of any account: those begin with the name of a rule.
fn id_of_run(seed: DigestSeed, name: &Label) -> Digest {
    seed.digest(format!("\0run {name}").as_bytes())
}
