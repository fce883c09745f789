//! Usage that becomes known after its call was settled: charged on top of the estimate, or given
//! back from it.

use std::sync::Arc;

use super::Budgets;
use super::bank::{Cell, State};
use super::hold::Used;
use super::measured::NotCharged;
use crate::config::FallbackPrice;
use crate::core::budget::{Amounts, Charge, OnUnpriced};
use crate::core::call::{LateUsage, Settlement};
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::{Durable, Unavailable};

impl Budgets {
    /// What is done once for the response of this id.
    pub fn late(&self, response: &str) -> Digest {
        self.ledger
            .seed()
            .digest(format!("late {response}").as_bytes())
    }

    /// The result of a call that was made here was fetched through another instance: it is put right
    /// as if that had been here. None where there is nothing to put right. Waits for the disk.
    pub fn follow_late(
        &self,
        late: &LateUsage,
        price: &FallbackPrice,
    ) -> Result<Option<Durable>, NotCharged<Unavailable>> {
        let _turn = self.recent.turn();
        let call = self.ledger.view().call(late.id);
        let call = call.map_err(NotCharged::Unreadable)?;
        let own = call.filter(|it| it.row.is_pending && it.row.instance.is_none());
        let Some(settlement) = own.and_then(|it| it.settlement) else {
            return Ok(None);
        };
        let response = settlement.response_id.as_ref().map(Label::as_str);
        let done = self.late(response.unwrap_or_default());
        if self.recent.is_done(done) {
            return Ok(None);
        }
        let used = Used::of(&late.usage, late.cost, price, true);
        let now = self.now();
        let recorded = self.charge_late(&settlement, &used, now, |charges| {
            self.ledger.late(LateUsage {
                at: now,
                charges,
                charged_at: settlement.charged_at(),
                instance: None,
                is_found: false,
                ..late.clone()
            })
        });
        let durable = recorded.map_err(NotCharged::Unrecorded)?;
        self.recent.is_first(done);
        Ok(Some(durable))
    }

    /// Puts what was `used` in the place of what `settlement` charged. `record` puts that into the
    /// ledger before anybody else can see it; where it cannot, nothing changes. Waits for the disk.
    pub fn charge_late<T, E>(
        &self,
        settlement: &Settlement,
        used: &Used,
        now: Timestamp,
        record: impl FnOnce(Vec<Charge>) -> Result<T, E>,
    ) -> Result<T, E> {
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
        let recorded = record(charges.clone())?;
        let charged_at = settlement.charged_at();
        for ((charge, cell), state) in charges.iter().zip(&cells).zip(&mut states) {
            if let (Some(cell), Some(state)) = (cell, state) {
                state.charge_late(charge, charged_at, now);
                cell.changed(state);
            }
        }
        Ok(recorded)
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
