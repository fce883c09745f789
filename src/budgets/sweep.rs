//! Keeping memory and ledger in step, every so often. Accounts and runs that nobody used for longest
//! leave memory, which stays bounded however many there are; they come back when they are used.

use std::sync::atomic::Ordering;

use super::Budgets;
use crate::core::budget::AccountId;
use crate::core::time::Timestamp;

/// More than the excess is let go, so that there is not one to let go every time: 1/8 of all.
const SPARE: usize = 8;

impl Budgets {
    /// Learns what the ledger knows, hands over what it could not take before, and forgets what is
    /// idle beyond the bound. Waits for the disk: not for async threads.
    pub fn sweep(&self) {
        if let Err(error) = self.stored.learn(&self.ledger) {
            tracing::debug!(%error, "every new run is looked for in the ledger, until it can be read");
        }
        self.hand_over();
        let most = self.max_idle.load(Ordering::Relaxed);
        let accounts = excess(self.bank.len(), most);
        let runs = excess(self.runs.len(), most);
        if accounts == 0 && runs == 0 {
            return;
        }
        let mut idle_accounts = if accounts > 0 {
            self.idle_accounts()
        } else {
            Vec::new()
        };
        let mut idle_runs = if runs > 0 {
            self.runs.idle()
        } else {
            Vec::new()
        };
        idle_accounts.sort_unstable();
        idle_runs.sort_unstable();
        // What is let go must be found again: the index has to know all of it.
        if !self.ledger.sync_index() {
            return;
        }
        for (_, id, uses) in idle_accounts.into_iter().take(accounts) {
            self.stored.add_account(id);
            self.bank.forget(id, uses);
        }
        for (_, name, uses) in idle_runs.into_iter().take(runs) {
            self.stored.add_run(&name);
            self.runs.forget(&name, uses);
        }
    }

    /// How many accounts and runs are in memory.
    pub fn in_memory(&self) -> (usize, usize) {
        (self.bank.len(), self.runs.len())
    }

    fn idle_accounts(&self) -> Vec<(Timestamp, AccountId, u64)> {
        let cells = self.bank.cells();
        let idle = cells.iter().filter_map(|cell| {
            let state = cell.lock();
            state
                .is_idle()
                .then_some((state.last_used, cell.id, state.uses))
        });
        idle.collect()
    }
}

fn excess(count: usize, most: usize) -> usize {
    if count <= most {
        0
    } else {
        count - most + most / SPARE
    }
}
