//! How budgets stand, for people: each rule, each account of it.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::bank::State;
use super::shown::{counts_runs, of_run};
use super::{Budgets, Key, OperateError, Rules};
use crate::core::budget::decide::Seat;
use crate::core::budget::{
    AccountId, AccountName, Action, Amounts, Dimension, Limits, Measure, Rule, StoredAccount,
};
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::IndexError;

/// One rule and those of its accounts that are closest to their limits.
#[derive(Clone, Debug)]
pub struct RuleRow {
    pub rule: Arc<Rule>,
    pub accounts: Vec<AccountRow>,
    /// How many accounts there are in all.
    pub total: usize,
}

/// One account.
#[derive(Clone, Debug)]
pub struct AccountRow {
    pub name: AccountName,
    pub measures: Vec<MeasureRow>,
    /// Thousandths of the tightest limit that are used.
    pub used_permille: u32,
    /// Calls that run, wait, and were refused since the process started.
    pub running: i64,
    pub waiting: usize,
    pub refused: u64,
    /// When what is used now no longer counts.
    pub resets_at: Option<Timestamp>,
    pub last_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasureRow {
    pub measure: Measure,
    pub used: i64,
    pub held: i64,
    /// With what was put on top.
    pub limit: i64,
    /// What an operator put on top.
    pub raised: i64,
}

/// Which accounts are asked for.
#[derive(Clone, Debug, Default)]
pub struct AccountFilter {
    pub rule: Option<Label>,
    /// Only accounts with this value in their key.
    pub value: Option<Label>,
    /// Accounts of one rule, at most.
    pub limit: usize,
}

impl AccountFilter {
    fn takes(&self, name: &AccountName) -> bool {
        let has = |value: &Label| name.key.iter().any(|(_, of)| of.as_ref() == Some(value));
        self.rule.as_ref().is_none_or(|rule| *rule == name.rule)
            && self.value.as_ref().is_none_or(has)
    }
}

impl Budgets {
    /// The rules in force and their accounts. Waits for the disk.
    pub fn list(&self, filter: &AccountFilter) -> Result<Vec<RuleRow>, IndexError> {
        let rules = self.rules.load_full();
        let Some(rules) = rules else {
            return Ok(Vec::new());
        };
        let mut rows: Vec<RuleRow> = rules
            .all()
            .filter(|rule| filter.rule.as_ref().is_none_or(|name| *name == rule.name))
            .map(RuleRow::new)
            .collect();
        let now = self.now();
        match named(&rows, filter) {
            Some(names) => self.add_named(&rules, &mut rows, &names, now)?,
            None => self.add_all(&rules, &mut rows, filter, now)?,
        }
        for row in &mut rows {
            row.keep(filter.limit);
            self.complete(row, now)?;
        }
        Ok(rows)
    }

    /// What budgets that count each run by itself have of this one. Waits for the disk, and looks at
    /// nothing else.
    pub fn of_run(&self, run: &Label) -> Result<Vec<RuleRow>, IndexError> {
        let rules = self.rules.load_full();
        let Some(rules) = rules else {
            return Ok(Vec::new());
        };
        let of_runs = rules.all().filter(|rule| counts_runs(rule));
        let mut rows: Vec<RuleRow> = of_runs.map(RuleRow::new).collect();
        let names: Vec<AccountName> = rows.iter().map(|row| of_run(&row.rule, run)).collect();
        let now = self.now();
        self.add_named(&rules, &mut rows, &names, now)?;
        for row in &mut rows {
            self.complete(row, now)?;
        }
        rows.retain(|row| !row.accounts.is_empty());
        Ok(rows)
    }

    fn add_named(
        &self,
        rules: &Rules,
        rows: &mut [RuleRow],
        names: &[AccountName],
        now: Timestamp,
    ) -> Result<(), IndexError> {
        for (row, name) in rows.iter_mut().zip(names) {
            let id = name.id(self.ledger.seed());
            let limits = self.own_limits(rules, &row.rule, name);
            let cell = self.bank.get(id).filter(|cell| cell.is_loaded());
            if let Some(cell) = cell {
                let state = cell.lock();
                if let Some(account) = &state.account {
                    row.add(name, account, Some(&state), limits, (now, 0));
                }
            } else if let Some(stored) = self.ledger.peek().account(id)? {
                row.add(name, &stored, None, limits, (now, 0));
            }
        }
        Ok(())
    }

    fn add_all(
        &self,
        rules: &Rules,
        rows: &mut [RuleRow],
        filter: &AccountFilter,
        now: Timestamp,
    ) -> Result<(), IndexError> {
        let mut in_memory = HashSet::new();
        for cell in self.bank.cells() {
            let state = cell.lock();
            let Some(account) = &state.account else {
                continue;
            };
            in_memory.insert(cell.id);
            if filter.takes(&cell.name)
                && let Some(row) = row_of(rows, &cell.name)
            {
                let limits = self.own_limits(rules, &row.rule, &cell.name);
                row.add(
                    &cell.name,
                    account,
                    Some(&state),
                    limits,
                    (now, filter.limit),
                );
            }
        }
        self.ledger
            .peek()
            .each_account(&mut |id: AccountId, stored| {
                if let Some(name) = &stored.name
                    && !in_memory.contains(&id)
                    && filter.takes(name)
                    && let Some(row) = row_of(rows, name)
                {
                    let limits = self.own_limits(rules, &row.rule, name);
                    row.add(name, &stored, None, limits, (now, filter.limit));
                }
                ControlFlow::Continue(())
            })?;
        Ok(())
    }

    /// Where clients set the limits, they are known with the run, which may not be in memory.
    fn complete(&self, row: &mut RuleRow, now: Timestamp) -> Result<(), IndexError> {
        let known = self.ledger.peek();
        for account in &mut row.accounts {
            let Some((Dimension::Run, Some(run))) = account.name.key.first() else {
                continue;
            };
            if !account.measures.is_empty() {
                continue;
            }
            let limits = known.run_state(run)?.unwrap_or_default().tightened;
            let (name, id) = (&account.name, account.name.id(self.ledger.seed()));
            let cell = self.bank.get(id).filter(|cell| cell.is_loaded());
            let state = cell.as_ref().map(|cell| cell.lock());
            let stored = match state.as_ref().and_then(|state| state.account.clone()) {
                Some(account) => Some(account),
                None => known.account(id)?,
            };
            if let Some(stored) = stored {
                let at = (limits, now);
                *account = AccountRow::new(&row.rule, name, &stored, state.as_deref(), at);
            }
        }
        Ok(())
    }

    /// Accounts in memory of which so many thousandths are used or more, the fullest first. Walks
    /// all accounts in memory and does not wait for the disk.
    pub fn fullest(&self, from_permille: u32) -> Vec<(Arc<Rule>, AccountRow)> {
        let Some(rules) = self.rules.load_full() else {
            return Vec::new();
        };
        let now = self.now();
        let mut full: Vec<(Arc<Rule>, AccountRow)> = Vec::new();
        for cell in self.bank.cells() {
            let Some(rule) = rules.all().find(|rule| rule.name == cell.name.rule) else {
                continue;
            };
            let limits = self.own_limits(&rules, rule, &cell.name);
            let state = cell.lock();
            let Some(account) = &state.account else {
                continue;
            };
            let row = AccountRow::new(rule, &cell.name, account, Some(&state), (limits, now));
            if row.used_permille >= from_permille && !row.measures.is_empty() {
                full.push((Arc::clone(rule), row));
            }
        }
        full.sort_by(|(_, one), (_, other)| {
            let most_first = other.used_permille.cmp(&one.used_permille);
            most_first.then(other.last_at.cmp(&one.last_at))
        });
        full
    }

    /// How one account stands, and its rule. It must have been used before.
    pub async fn account_row(
        &self,
        rule: &Label,
        key: &Key,
    ) -> Result<(Arc<Rule>, AccountRow), OperateError> {
        let (rule, cell) = self.account(rule, key).await?;
        let limits = self.limits_of(&rule, &cell.name).await?;
        self.look_at(vec![cell.name.clone()]).await;
        let now = self.now();
        let state = cell.lock();
        let fresh = StoredAccount::new(None);
        let account = state.account.as_ref().unwrap_or(&fresh);
        let row = AccountRow::new(&rule, &cell.name, account, Some(&state), (limits, now));
        drop(state);
        Ok((rule, row))
    }

    /// The limits of an account before anything was put on top.
    fn own_limits(&self, rules: &Rules, rule: &Rule, name: &AccountName) -> Limits {
        if !rules.is_by_header(rule) {
            return rule.limits;
        }
        let run = name.key.first().and_then(|(_, run)| run.as_ref());
        run.map_or_else(Limits::default, |run| self.runs.tightened(run))
    }
}

/// The only accounts that can be meant, where one value is asked for and each rule counts apart
/// by one dimension.
fn named(rows: &[RuleRow], filter: &AccountFilter) -> Option<Vec<AccountName>> {
    let value = filter.value.as_ref()?;
    let name = |row: &RuleRow| match row.rule.per.as_slice() {
        [dimension] => Some(AccountName {
            rule: row.rule.name.clone(),
            key: vec![(dimension.clone(), Some(value.clone()))],
        }),
        _ => None,
    };
    rows.iter().map(name).collect()
}

fn row_of<'r>(rows: &'r mut [RuleRow], name: &AccountName) -> Option<&'r mut RuleRow> {
    rows.iter_mut().find(|row| row.rule.name == name.rule)
}

impl RuleRow {
    fn new(rule: &Arc<Rule>) -> Self {
        Self {
            rule: Arc::clone(rule),
            accounts: Vec::new(),
            total: 0,
        }
    }

    fn add(
        &mut self,
        name: &AccountName,
        account: &StoredAccount,
        state: Option<&State>,
        limits: Limits,
        (now, limit): (Timestamp, usize),
    ) {
        self.total += 1;
        self.accounts.push(AccountRow::new(
            &self.rule,
            name,
            account,
            state,
            (limits, now),
        ));
        if limit > 0 && self.accounts.len() >= limit.saturating_mul(4).max(1024) {
            self.keep(limit);
        }
    }

    /// The ones closest to their limits.
    fn keep(&mut self, limit: usize) {
        self.accounts.sort_by(|one, other| {
            let most_first = other.used_permille.cmp(&one.used_permille);
            most_first.then(other.last_at.cmp(&one.last_at))
        });
        if limit > 0 {
            self.accounts.truncate(limit);
        }
    }
}

impl AccountRow {
    fn new(
        rule: &Rule,
        name: &AccountName,
        account: &StoredAccount,
        state: Option<&State>,
        (own, now): (Limits, Timestamp),
    ) -> Self {
        let limits = account.limits(&own, now);
        let seat = match state {
            // Who looks is told what there is to spend in all, whatever this instance may of it.
            Some(state) => Seat {
                limits,
                ..state.seat_of(rule, own, now)
            },
            None => Seat {
                rule,
                limits,
                used: account.used(&rule.window, now),
                held: Amounts::default(),
                running: 0,
                is_queued: false,
                micro_metric: 0,
            },
        };
        let (used, held, running) = (seat.used, seat.held, seat.running);
        let measure = |(measure, limit): (Measure, i64)| MeasureRow {
            measure,
            used: match measure {
                Measure::Concurrent => running,
                counted => used.of(counted),
            },
            held: held.of(measure),
            limit,
            raised: limit.saturating_sub(own.of(measure).unwrap_or(limit)),
        };
        Self {
            name: name.clone(),
            measures: limits.each().map(measure).collect(),
            used_permille: seat.used_permille(),
            running,
            waiting: state.map_or(0, State::waiting),
            refused: state.map_or(0, |state| state.refused),
            resets_at: account.resets_at(&rule.window, now),
            last_at: account.last_at,
        }
    }

    /// `open`, `warning` or `spent`.
    pub fn state(&self, rule: &Rule) -> &'static str {
        if self.used_permille >= 1000 {
            match rule.action {
                Action::Break => "spent",
                Action::Warn => "passed",
            }
        } else if rule.warn_at.is_some_and(|from| self.used_permille >= from) {
            "warning"
        } else {
            "open"
        }
    }
}
