//! How budgets stand, for metrics: one account for each limit, however many there are.

use std::sync::Arc;

use super::bank::State;
use super::{Budgets, Rules};
use crate::core::budget::fill::{Fill, Fullest};
use crate::core::budget::{AccountName, Amounts, Limits, Measure, Rule};
use crate::core::time::Timestamp;
use crate::ledger::IndexError;

/// Of accounts that a budget counts apart those are told of that were used within this time: what a run
/// of last week used up says nothing of now.
const RECENT_US: u64 = 60 * 60 * 1_000_000;

impl Budgets {
    /// The configured budgets, each with the account that used the greatest part of a limit: of those
    /// used within the last hour, or of a budget that counts all calls together its only one. Waits
    /// for the disk.
    pub fn fullest_of_each(&self) -> Result<Vec<Fullest>, IndexError> {
        let Some(rules) = self.rules.load_full() else {
            return Ok(Vec::new());
        };
        let mut all: Vec<Fullest> = rules.configured.iter().map(untouched).collect();
        self.add_cells(&rules, &mut all);
        for (rule, fullest) in rules.configured.iter().zip(&mut all) {
            if rule.per.is_empty() && fullest.accounts == 0 {
                self.add_stored(rule, fullest)?;
            }
        }
        Ok(all)
    }

    fn add_cells(&self, rules: &Rules, all: &mut [Fullest]) {
        let now = self.now();
        for cell in self.bank.cells() {
            let mut places = rules.configured.iter().zip(all.iter_mut());
            let Some((rule, fullest)) = places.find(|(rule, _)| rule.name == cell.name.rule) else {
                continue;
            };
            let state = cell.lock();
            let Some(account) = &state.account else {
                continue;
            };
            fullest.accounts += 1;
            if rule.per.is_empty() || is_recent(&state, now) {
                let remote = state.remote.as_ref();
                let others = remote.map(|remote| remote.of_others(&rule.window, now));
                let (used, running) = others.unwrap_or_default();
                let used = account.used(&rule.window, now).plus(used);
                let running = state.running.saturating_add(running);
                let limits = account.limits(&rule.limits, now);
                add(fullest, limits, (used, running));
            }
        }
    }

    /// After a start no account is in memory before it is used.
    fn add_stored(&self, rule: &Rule, fullest: &mut Fullest) -> Result<(), IndexError> {
        let name = AccountName {
            rule: rule.name.clone(),
            key: Vec::new(),
        };
        let id = name.id(self.ledger.seed());
        if let Some(account) = self.ledger.peek().account(id)? {
            let now = self.now();
            let used = account.used(&rule.window, now);
            add(fullest, account.limits(&rule.limits, now), (used, 0));
        }
        Ok(())
    }
}

/// One whose accounts nobody used.
fn untouched(rule: &Arc<Rule>) -> Fullest {
    let fill = |(measure, limit)| Fill {
        measure,
        used: 0,
        limit,
    };
    Fullest {
        budget: rule.name.clone(),
        accounts: 0,
        fills: rule.limits.each().map(fill).collect(),
    }
}

fn add(fullest: &mut Fullest, limits: Limits, (used, running): (Amounts, i64)) {
    for (measure, limit) in limits.each() {
        let used = match measure {
            Measure::Concurrent => running,
            counted => used.of(counted),
        };
        fullest.add(Fill {
            measure,
            used,
            limit,
        });
    }
}

fn is_recent(state: &State, now: Timestamp) -> bool {
    state.running > 0 || now.micros_since(state.last_used) <= RECENT_US
}
