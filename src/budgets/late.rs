//! Usage that becomes known after its call was settled: charged on top of the estimate, or given
//! back from it.

use std::sync::Arc;

use super::Budgets;
use super::bank::{Cell, State};
use super::hold::Used;
use crate::core::budget::{Amounts, Charge, OnUnpriced};
use crate::core::call::Settlement;
use crate::core::time::Timestamp;

impl Budgets {
    /// Puts what was `used` in the place of what `settlement` charged. `record` puts that into the
    /// ledger before anybody else can see it; where it cannot, nothing changes, and false is
    /// returned. Waits for the disk.
    pub fn charge_late(
        &self,
        settlement: &Settlement,
        used: &Used,
        now: Timestamp,
        record: impl FnOnce(Vec<Charge>) -> bool,
    ) -> bool {
        let mut charges = settlement.charges.clone();
        charges.sort_unstable_by_key(|charge| charge.account);
        let cells: Vec<Option<Arc<Cell>>> =
            charges.iter().map(|charge| self.resident(charge)).collect();
        for (charge, cell) in charges.iter_mut().zip(&cells) {
            // It was counted as a call when it was made.
            let calls = charge.amounts.calls;
            let used = used.amounts(self.on_unpriced(cell.as_deref()), calls);
            let used = Amounts {
                // That was known at once.
                micro_metric: charge.amounts.micro_metric,
                ..used
            };
            charge.amounts = used.minus(charge.amounts);
        }
        let mut states: Vec<_> = cells
            .iter()
            .map(|cell| cell.as_ref().map(|cell| cell.lock()))
            .collect();
        let recorded = record(charges.clone());
        let charged_at = settlement.charged_at();
        for ((charge, cell), state) in charges.iter().zip(&cells).zip(&mut states) {
            if let (true, Some(cell), Some(state)) = (recorded, cell, state) {
                state.charge_late(charge, charged_at, now);
                cell.changed(state);
            }
        }
        recorded
    }

    fn on_unpriced(&self, cell: Option<&Cell>) -> OnUnpriced {
        let rule = cell.and_then(|cell| self.rule(&cell.name.rule).ok());
        rule.map_or_else(OnUnpriced::default, |rule| rule.on_unpriced)
    }

    /// The account, in memory: whoever looks at it before the index knows of the charge would read
    /// it without that from the ledger. None where the ledger does not know what it is called.
    fn resident(&self, charge: &Charge) -> Option<Arc<Cell>> {
        let stored = || self.ledger.view().account(charge.account).ok();
        let cell = if let Some(cell) = self.bank.get(charge.account) {
            cell
        } else {
            let name = stored()??.name?;
            self.bank.cell(charge.account, || name)
        };
        if !cell.is_loaded() {
            // Not what was read before it was there: it may have come and gone since.
            cell.load(stored()?);
        }
        Some(cell)
    }
}

impl State {
    fn charge_late(&mut self, charge: &Charge, charged_at: Timestamp, now: Timestamp) {
        if let Some(account) = &mut self.account {
            account.correct(charge, charged_at, now);
        }
        self.touch(now);
        self.wake_first();
    }
}
