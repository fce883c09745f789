//! What other instances have of accounts, for people who look at them.

use std::time::Duration;

use super::bank::{self, Claimed};
use super::confirm::{asked, learn};
use super::{Budgets, RuleRow};
use crate::core::budget::{AccountName, Dimension, Rule};
use crate::core::id::Label;

/// Accounts that are asked about at once, and in all: calls wait for Redis meanwhile.
const AT_ONCE: usize = 8;
const MOST: usize = 4096;
/// Nobody sees more often than this that others spent something.
const FRESH: Duration = Duration::from_millis(250);

impl Budgets {
    /// Asks what others have of these accounts, so that what is listed next is what all have. Changes
    /// nothing where nothing is shared or Redis does not answer.
    pub async fn look_at(&self, names: Vec<AccountName>) {
        let Some(fleet) = &self.fleet else { return };
        let mut claimed = Vec::new();
        for name in names.into_iter().take(MOST) {
            if !fleet.shared.is_joined() {
                return;
            }
            claimed.extend(self.to_look_at(name).await);
        }
        bank::in_order(&mut claimed);
        for accounts in claimed.chunks(AT_ONCE) {
            let asked = asked(accounts, None, self.now());
            let Ok(answer) = fleet.shared.peek(&asked).await else {
                return;
            };
            learn(accounts, asked, answer.others);
        }
    }

    /// None where others were asked just now, or no rule is about it any more.
    async fn to_look_at(&self, name: AccountName) -> Option<Claimed> {
        let rule = self.rule(&name.rule).ok()?;
        let cell = self.named_cell(name).await.ok()?;
        let age = cell.lock().remote.as_ref().and_then(|it| it.age());
        age.is_none_or(|age| age >= FRESH).then(|| Claimed {
            limits: rule.limits,
            rule,
            cell,
            micro_metric: 0,
        })
    }

    /// The accounts of budgets that count each run by itself.
    pub fn accounts_of_run(&self, run: &Label) -> Vec<AccountName> {
        let rules = self.rules.load();
        let all = rules.iter().flat_map(|rules| rules.all());
        all.filter(|rule| counts_runs(rule))
            .map(|rule| of_run(rule, run))
            .collect()
    }
}

pub(super) fn counts_runs(rule: &Rule) -> bool {
    rule.per == [Dimension::Run]
}

pub(super) fn of_run(rule: &Rule, run: &Label) -> AccountName {
    AccountName {
        rule: rule.name.clone(),
        key: vec![(Dimension::Run, Some(run.clone()))],
    }
}

impl RuleRow {
    /// The accounts that are listed.
    pub fn names(rows: &[Self]) -> Vec<AccountName> {
        let accounts = rows.iter().flat_map(|row| &row.accounts);
        accounts.map(|account| account.name.clone()).collect()
    }
}
