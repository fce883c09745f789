//! What the ledger knows of budgets: accounts, runs, pending calls.

use std::ops::{Bound, ControlFlow};

use redb::ReadableTable;

use crate::core::budget::{AccountId, RunState, StoredAccount};
use crate::core::call::{Admission, Settlement};
use crate::core::id::Label;

use super::super::index::batch::budgets::{account_id, account_key};
use super::super::index::batch::decode;
use super::super::index::{ACCOUNTS, IndexError, RESPONSES};
use super::super::summary::Key;
use super::{View, each_summary, stored_call, summary, table};

impl View {
    /// One account, if it was ever used.
    pub fn account(&self, id: AccountId) -> Result<Option<StoredAccount>, IndexError> {
        self.index.read(|txn| {
            let Some(accounts) = table(txn, ACCOUNTS)? else {
                return Ok(None);
            };
            let account = accounts.get(account_key(id))?;
            account.map(|bytes| decode(bytes.value())).transpose()
        })
    }

    /// Every account, until `take` has enough.
    pub fn each_account(
        &self,
        take: &mut dyn FnMut(AccountId, StoredAccount) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        self.index.read(|txn| {
            let Some(accounts) = table(txn, ACCOUNTS)? else {
                return Ok(());
            };
            for entry in accounts.iter()? {
                let (id, account) = entry?;
                if take(account_id(id.value()), decode(account.value())?).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Accounts in the order of their ids, behind `after`, no more than `limit`.
    pub fn accounts(
        &self,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, StoredAccount)>, IndexError> {
        self.index.read(|txn| {
            let Some(accounts) = table(txn, ACCOUNTS)? else {
                return Ok(Vec::new());
            };
            let behind = after.map_or(Bound::Unbounded, |id| Bound::Excluded(account_key(id)));
            let entries = accounts.range((behind, Bound::Unbounded))?;
            let read = |entry: Result<_, redb::StorageError>| {
                let (id, account): (redb::AccessGuard<'_, u128>, redb::AccessGuard<'_, &[u8]>) =
                    entry?;
                Ok((account_id(id.value()), decode(account.value())?))
            };
            entries.take(limit).map(read).collect()
        })
    }

    /// What of a run concerns its budgets; none for one nothing is known of.
    pub fn run_state(&self, run: &Label) -> Result<Option<RunState>, IndexError> {
        self.index.read(|txn| {
            let summary = summary(txn, &Key::Run(run.clone()))?;
            Ok(summary.map(super::Summary::run_state))
        })
    }

    /// Every run.
    pub fn each_run(&self, take: &mut dyn FnMut(Label, RunState)) -> Result<(), IndexError> {
        self.index.read(|txn| {
            each_summary(txn, &Key::prefix_of(b'r', None), |key, summary| {
                if let Key::Run(run) = key {
                    take(run, summary.run_state());
                }
            })
        })
    }

    /// The pending call that made the object of this id.
    pub fn pending(
        &self,
        response_id: &str,
    ) -> Result<Option<(Admission, Settlement)>, IndexError> {
        let call = self.index.read(|txn| {
            let Some(responses) = table(txn, RESPONSES)? else {
                return Ok(None);
            };
            let id = responses.get(response_id)?.map(|id| id.value());
            id.map_or(Ok(None), |id| stored_call(txn, id))
        })?;
        let Some(call) = call.filter(|call| call.row.is_pending) else {
            return Ok(None);
        };
        let admission = self.admission(&call)?;
        Ok(admission.zip(self.settlement(&call)?))
    }
}
