//! Charges that were made while the ledger could not be written. They count at once, in memory, and
//! go into the ledger when it takes records again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Budgets;
use super::bank::{Cell, State};
use crate::core::budget::{Act, Charge, Deed};

/// Accounts in one record.
const AT_ONCE: usize = 256;

impl Budgets {
    /// Hands over what the ledger could not take before. Looks at every account, but only when one
    /// of them owes something.
    pub(super) fn hand_over(&self) {
        if self.ledger.status().failing || !self.owing.swap(false, Ordering::AcqRel) {
            return;
        }
        let owes = |cell: &Arc<Cell>| !cell.lock().unrecorded.is_empty();
        let mut cells: Vec<_> = self.bank.cells().into_iter().filter(owes).collect();
        // The order in which they are locked.
        cells.sort_unstable_by_key(|cell| cell.id);
        if !cells.chunks(AT_ONCE).all(|cells| self.hand_over_of(cells)) {
            self.owing.store(true, Ordering::Release);
        }
    }

    /// Says whether the ledger took it.
    fn hand_over_of(&self, cells: &[Arc<Cell>]) -> bool {
        let mut states: Vec<_> = cells.iter().map(|cell| cell.lock()).collect();
        for (cell, state) in cells.iter().zip(&mut states) {
            state.open(cell, &self.ledger);
        }
        let owed = states.iter().flat_map(|state| &state.unrecorded);
        let charges: Vec<Charge> = owed.copied().collect();
        let count = cells.len();
        let details = format!("of {count} accounts, made while the ledger could not be written");
        let taken = self.ledger.act(Act {
            at: self.now(),
            who: "open-aiops".to_owned(),
            deed: Deed::ChargesRecorded(charges),
            details,
        });
        if taken.is_ok() {
            for state in &mut states {
                state.unrecorded.clear();
            }
        }
        taken.is_ok()
    }
}

impl State {
    /// A charge that counts here and that the ledger does not have.
    pub(super) fn owe(&mut self, charge: Charge) {
        let mut owed = self.unrecorded.iter_mut();
        match owed.find(|owed| owed.bucket == charge.bucket) {
            Some(owed) => owed.amounts = owed.amounts.plus(charge.amounts),
            None => self.unrecorded.push(charge),
        }
    }
}
