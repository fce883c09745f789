//! Usage that becomes known after its call was settled: charged on top of the estimate, or given
//! back from it.

use std::sync::Arc;

use super::Budgets;
use super::bank::{Cell, State};
use crate::core::budget::{Amounts, Charge};
use crate::core::call::Settlement;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::usage::Usage;

impl Budgets {
    /// Charges the accounts of `settlement` with what `usage` is more than it charged. `record` puts
    /// that into the ledger before anybody else can see it. Waits for the disk.
    pub fn charge_late(
        &self,
        settlement: &Settlement,
        usage: &Usage,
        cost: NanoUsd,
        now: Timestamp,
        record: impl FnOnce(Vec<Charge>) -> bool,
    ) {
        let mut charges: Vec<Charge> = settlement
            .charges
            .iter()
            .map(|charge| Charge {
                amounts: missing(&charge.amounts, usage, cost),
                ..*charge
            })
            .collect();
        charges.sort_unstable_by_key(|charge| charge.account);
        let cells: Vec<Option<Arc<Cell>>> =
            charges.iter().map(|charge| self.resident(charge)).collect();
        let mut states: Vec<_> = cells
            .iter()
            .map(|cell| cell.as_ref().map(|cell| cell.lock()))
            .collect();
        let recorded = record(charges.clone());
        for (charge, state) in charges.iter().zip(&mut states) {
            if let Some(state) = state {
                state.charge_late(charge, now, recorded);
            }
        }
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
    fn charge_late(&mut self, charge: &Charge, now: Timestamp, recorded: bool) {
        if let Some(account) = &mut self.account {
            account.charge(charge, now);
        }
        self.is_unrecorded |= !recorded;
        self.touch(now);
        self.wake_first();
    }
}

fn missing(charged: &Amounts, usage: &Usage, cost: NanoUsd) -> Amounts {
    let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Amounts {
        nano_usd: cost.get().saturating_sub(charged.nano_usd),
        input_tokens: tokens(usage.input_tokens).saturating_sub(charged.input_tokens),
        output_tokens: tokens(usage.output_tokens).saturating_sub(charged.output_tokens),
        calls: 0,
    }
}
