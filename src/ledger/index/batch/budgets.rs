//! What budgets add to the fold: accounts and their charges, acts of operators, late usage.

use std::collections::btree_map::Entry;

use redb::ReadableTable;

use crate::core::budget::{AccountId, Act, Charge, Charged, Deed, Dimension, StoredAccount};
use crate::core::call::{Admission, LateUsage, Settlement};
use crate::core::digest::Digest;
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;

use super::super::super::record::{Checkpoint, NewAccount, Position};
use super::super::super::rows::CallRow;
use super::super::super::storage::Storage;
use super::super::super::summary::{Key, Summary, keys_of_row};
use super::super::super::totals::Totals;
use super::super::{IndexError, StoredCall};
use super::{Batch, Touched, decode, id_key, read_admission, read_settlement};

const DAY_US: i64 = 24 * 3_600_000_000;

/// An account of a run that was not charged for this long goes with the segments that charged it:
/// every run has accounts of its own, and checkpoints would grow with each run there ever was. So
/// does what its clients allow it.
pub(super) const RUN_ACCOUNT_US: i64 = 30 * DAY_US;

pub(crate) fn account_key(id: AccountId) -> u128 {
    u128::from_be_bytes(id.0.to_bytes())
}

pub(crate) fn account_id(key: u128) -> AccountId {
    AccountId(Digest::from_bytes(key.to_be_bytes()))
}

/// Whether an account outlives the segments before a border at `at`. One without a name is that of a
/// run, or of a user who was deleted; one that is in use gets its name again.
pub(in super::super) fn lasts(account: &StoredAccount, at: Timestamp) -> bool {
    let is_of_run = account
        .name
        .as_ref()
        .is_none_or(|name| name.key.iter().any(|(per, _)| *per == Dimension::Run));
    !is_of_run || account.last_at.micros() >= at.micros().saturating_sub(RUN_ACCOUNT_US)
}

impl Batch<'_> {
    /// An account, ready to be changed.
    fn account(&mut self, id: AccountId) -> Result<&mut StoredAccount, IndexError> {
        match self.used.entry(account_key(id)) {
            Entry::Occupied(used) => Ok(used.into_mut()),
            Entry::Vacant(vacant) => {
                let stored = self.accounts.get(vacant.key())?;
                let stored = stored.map(|bytes| decode(bytes.value())).transpose()?;
                Ok(vacant.insert(stored.unwrap_or_else(|| StoredAccount::new(None))))
            }
        }
    }

    pub(super) fn open_account(&mut self, new: NewAccount) -> Result<(), IndexError> {
        let account = self.account(new.id)?;
        account.name = Some(new.name);
        account.last_at = account.last_at.max(new.at);
        Ok(())
    }

    pub(super) fn charge(&mut self, charges: &[Charge], at: Timestamp) -> Result<(), IndexError> {
        for charge in charges {
            self.account(charge.account)?.charge(charge, at);
        }
        Ok(())
    }

    pub(super) fn charge_measured(&mut self, charged: &Charged) -> Result<(), IndexError> {
        for id in charged.accounts() {
            charged.apply(id, self.account(id)?);
        }
        Ok(())
    }

    pub(super) fn act(&mut self, act: &Act) -> Result<(), IndexError> {
        match &act.deed {
            Deed::BudgetRaised(id, raise) => self.account(*id)?.raise(*raise, act.at),
            Deed::BudgetReset(id) => self.account(*id)?.reset(act.at),
            Deed::ChargesRecorded(charges) => self.charge(charges, act.at)?,
            Deed::RunTightened(run, limits) => {
                let summary = self.acted_on(run, act.at)?;
                summary.tightened = summary.tightened.tightened(limits);
            }
            Deed::RunPaused(_) | Deed::RunResumed(_) | Deed::RunStopped(_) => {}
        }
        if let Some((run, control)) = act.deed.control() {
            self.acted_on(run, act.at)?.control = control;
        }
        Ok(())
    }

    pub(super) fn acted_on(
        &mut self,
        run: &Label,
        at: Timestamp,
    ) -> Result<&mut Summary, IndexError> {
        let summary = self.summary(Key::Run(run.clone()))?;
        if summary.last_at == Timestamp::default() {
            // No call of it was seen yet.
            summary.cover(at, at);
        }
        Ok(summary)
    }

    /// Keeps the limits a client names for a run.
    pub(super) fn tighten(&mut self, admission: &Admission) -> Result<(), IndexError> {
        if let Some(run) = &admission.attribution.run
            && !admission.tightened.is_empty()
        {
            let summary = self.summary(Key::Run(run.clone()))?;
            summary.tightened = summary.tightened.tightened(&admission.tightened);
        }
        Ok(())
    }

    /// What a pending call really used takes the place of its estimate in everything that counted
    /// it. Once: whatever comes after that, or for no such call, changes nothing.
    pub(super) fn settle_late(&mut self, late: &LateUsage, at: Position) -> Result<(), IndexError> {
        let Some(Touched { call, .. }) = self.touch(id_key(late.id))? else {
            return Ok(());
        };
        let estimate = Totals::of_row(&call.row);
        let (true, Some(estimate)) = (call.row.is_pending, estimate) else {
            return Ok(());
        };
        call.row.settle_late(late);
        call.late = Some(at);
        let row = call.row.clone();
        let used = Totals::of_row(&row).unwrap_or_default();
        let parent = self.parent(row.run.as_ref(), None)?;
        for key in keys_of_row(&row, parent.as_ref()) {
            self.summary(key)?.totals.exchange(&estimate, &used);
        }
        self.sliced.correct(row, estimate, used);
        for charge in &late.charges {
            let account = self.account(charge.account)?;
            account.correct(charge, late.charged_at, late.at);
        }
        Ok(())
    }

    /// Makes a call findable by its response. Calls that ask how far a pending one has come carry
    /// its id too, which stays its own.
    pub(super) fn name_response(&mut self, response: &Label, id: u128) -> Result<(), IndexError> {
        let first = self.responses.get(response.as_str())?;
        let first = first.map(|id| id.value()).filter(|first| *first != id);
        if let Some(first) = first
            && let Some(Touched { call, .. }) = self.touch(first)?
            && call.row.is_pending
        {
            return Ok(());
        }
        self.responses.insert(response.as_str(), id)?;
        Ok(())
    }

    /// Takes accounts and pending calls over from a checkpoint.
    pub(super) fn load_budgets(
        &mut self,
        at: Position,
        base: &Checkpoint,
    ) -> Result<(), IndexError> {
        for (id, account) in &base.accounts {
            self.used.insert(account_key(*id), account.clone());
        }
        for (admission, settlement) in &base.pending {
            let mut row = CallRow::admitted(admission.clone());
            row.settle(settlement);
            self.add(StoredCall {
                row,
                admission: Some(at),
                settlement: Some(at),
                late: None,
            });
            if let Some(response) = &settlement.response_id {
                self.name_response(response, id_key(settlement.id))?;
            }
        }
        Ok(())
    }

    /// The calls that can still be settled late after `at`.
    pub(super) fn pending_calls(&self, at: Timestamp) -> Result<Vec<StoredCall>, IndexError> {
        let mut calls = Vec::new();
        for entry in self.pending.iter()? {
            let id = CallId::from_bytes(entry?.0.value().to_be_bytes());
            let call = self.call(id)?;
            calls.extend(call.filter(|call| LateUsage::may_come(call.row.started_at, at)));
        }
        Ok(calls)
    }

    /// Their two records, without bodies.
    pub(super) fn lasting_pending(
        &self,
        storage: &dyn Storage,
        at: Timestamp,
    ) -> Result<Vec<(Admission, Settlement)>, IndexError> {
        let mut lasting = Vec::new();
        for StoredCall {
            row,
            admission,
            settlement,
            ..
        } in self.pending_calls(at)?
        {
            let (Some(admission), Some(settlement)) = (admission, settlement) else {
                continue;
            };
            if let Some(admission) = read_admission(storage, admission, row.id)?
                && let Some(settlement) = read_settlement(storage, settlement, row.id)?
            {
                let admission = Admission {
                    request: None,
                    headers: None,
                    ..admission
                };
                let settlement = Settlement {
                    response: None,
                    chunks: Vec::new(),
                    headers: None,
                    ..settlement
                };
                lasting.push((admission, settlement));
            }
        }
        Ok(lasting)
    }
}
