//! Custom metrics that are recorded later than the call they are of, or of no call: what they add to
//! the sums that budgets limit.
//!
//! What came with a call by header is held and charged with that.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::slice;
use std::sync::Arc;

use super::Budgets;
use super::ask::Measured;
use super::bank::{Cell, Claimed};
use super::runs::Run;
use crate::core::budget::{AccountId, Amounts, Charge, Charged, MAX_ANCESTORS};
use crate::core::id::Label;
use crate::core::metric::Measurement;
use crate::core::time::Timestamp;
use crate::ledger::{Adopted, Durable, IndexError, Unavailable};

/// The account of a charge as it is in memory, and its id.
type Account = (AccountId, Option<Arc<Cell>>);

/// Why a measurement, or what a call used, was not charged or not recorded.
#[derive(Debug, thiserror::Error)]
pub enum NotCharged<E> {
    #[error("the ledger cannot be read: {0}")]
    Unreadable(IndexError),
    #[error("{0}")]
    Unrecorded(E),
}

impl Budgets {
    /// Whether a budget limits the sum of this metric.
    pub fn count_metric(&self, name: &str) -> bool {
        let rules = self.rules.load();
        let mut rules = rules.iter();
        rules.any(|rules| rules.count_metric(name))
    }

    /// Has every account in memory that one of these is charged to, or that what it takes the place
    /// of was. They stay there as long as what this gives does, so that none of many measurements
    /// has to look for its own ones: the ledger is caught up with once for all. Waits for the disk.
    pub fn load_measured<'m>(
        &self,
        all: impl Iterator<Item = (&'m Measurement, Option<&'m Measurement>, Measured<'m>)>,
    ) -> Result<Vec<Arc<Cell>>, IndexError> {
        let mut cells = BTreeMap::new();
        for (it, before, whose) in all {
            let claimed = self.claimed(it, &whose)?;
            cells.extend(claimed.into_iter().map(|it| (it.cell.id, Some(it.cell))));
            let replaced = before.and_then(|before| before.charged.as_ref());
            for id in replaced.into_iter().flat_map(Charged::accounts) {
                if let Entry::Vacant(place) = cells.entry(id) {
                    place.insert(self.named(id)?);
                }
            }
        }
        let cells: Vec<Arc<Cell>> = cells.into_values().flatten().collect();
        if cells.iter().any(|cell| !cell.is_loaded()) {
            let known = self.ledger.view();
            for cell in cells.iter().filter(|cell| !cell.is_loaded()) {
                cell.load(known.account(cell.id)?);
            }
        }
        Ok(cells)
    }

    /// Charges a measurement of `whose` to the budgets that limit its metric, in the place of
    /// `before`, which said the same of the same. `record` puts it into the ledger with what it is
    /// charged before anybody else can see that; where it cannot, nothing changes. Its accounts
    /// should be [loaded](Self::load_measured): for one that is not, this waits for the disk. Must be
    /// done for one measurement after the other.
    pub fn charge_measured<T, E>(
        &self,
        it: Measurement,
        before: Option<&Measurement>,
        whose: &Measured<'_>,
        record: impl FnOnce(Measurement) -> Result<T, E>,
    ) -> Result<T, NotCharged<E>> {
        let charged = self.charged(&it, before, (whose, self.now()));
        self.charge((it, charged.map_err(NotCharged::Unreadable)?), record)
    }

    /// Takes in what was said to `instance`, which charges it. What was charged here for what that
    /// takes the place of counts no longer. None where what is known was said later. Waits for the
    /// disk; must be done as charging is, for one after the other.
    pub fn follow_measured(
        &self,
        mut it: Measurement,
        instance: &Label,
    ) -> Result<Option<Durable>, NotCharged<Unavailable>> {
        let said = it.charged.take().map(|charged| charged.at);
        it.charged = said.map(Charged::nothing);
        let record = |it| self.ledger.adopt(Adopted::Measured(Box::new(it)), instance);
        let Some(at) = said.filter(|_| self.count_metric(&it.name)) else {
            return record(it).map(Some).map_err(NotCharged::Unrecorded);
        };
        let before = self.ledger.view().measured_before(slice::from_ref(&it));
        let mut before = before.map_err(NotCharged::Unreadable)?;
        let before = before.pop().flatten().and_then(|before| before.charged);
        if before.as_ref().is_some_and(|before| before.at >= at) {
            return Ok(None);
        }
        let charged = Charged {
            replaced: before.as_ref().and_then(replaced),
            ..Charged::nothing(at)
        };
        self.charge((it, charged), record).map(Some)
    }

    fn charge<T, E>(
        &self,
        (mut it, charged): (Measurement, Charged),
        record: impl FnOnce(Measurement) -> Result<T, E>,
    ) -> Result<T, NotCharged<E>> {
        let now = self.now();
        let cells = self.cells(&charged).map_err(NotCharged::Unreadable)?;
        it.charged = Some(charged.clone());
        let mut states: Vec<_> = cells
            .iter()
            .map(|(id, cell)| (*id, cell.as_ref(), cell.as_ref().map(|cell| cell.lock())))
            .collect();
        for (_, cell, state) in &mut states {
            if let (Some(cell), Some(state)) = (cell, state) {
                state.open(cell, &self.ledger);
            }
        }
        let recorded = record(it).map_err(NotCharged::Unrecorded)?;
        for (id, cell, state) in &mut states {
            let Some(state) = state else { continue };
            if let Some(cell) = cell {
                cell.changed(state);
            }
            if let Some(account) = &mut state.account {
                charged.apply(*id, account);
            }
            state.touch(now);
            state.wake_first();
        }
        Ok(recorded)
    }

    /// What is charged where no budget counts it, nor what it takes the place of, is nothing.
    fn charged(
        &self,
        it: &Measurement,
        before: Option<&Measurement>,
        (whose, now): (&Measured<'_>, Timestamp),
    ) -> Result<Charged, IndexError> {
        let claimed = self.claimed(it, whose)?;
        let before = before.and_then(|before| before.charged.as_ref());
        let charge = |claimed: &Claimed| Charge {
            account: claimed.cell.id,
            bucket: claimed.rule.window.bucket(it.at),
            amounts: Amounts {
                micro_metric: claimed.micro_metric,
                ..Amounts::default()
            },
        };
        let least = before.map_or(now, |before| {
            Timestamp::from_micros(before.at.micros().saturating_add(1))
        });
        Ok(Charged {
            at: now.max(least),
            charges: claimed.iter().map(charge).collect(),
            replaced: before.and_then(replaced),
        })
    }

    /// The accounts that a measurement adds to.
    fn claimed(&self, it: &Measurement, whose: &Measured<'_>) -> Result<Vec<Claimed>, IndexError> {
        let (name, micro) = (it.name.as_str(), it.value.as_micro().unwrap_or(0));
        if micro == 0 || !self.count_metric(name) {
            return Ok(Vec::new());
        }
        let runs = match whose.run {
            Some(run) => self.known_chain(run)?,
            None => Vec::new(),
        };
        let rules = self.rules.load();
        let Some(rules) = rules.as_ref() else {
            return Ok(Vec::new());
        };
        let (bank, seed) = (&self.bank, self.ledger.seed());
        Ok(rules.accounts_of_metric(bank, seed, (name, micro), (whose, &runs)))
    }

    /// A run and its ancestors, as far as calls named them.
    fn known_chain(&self, run: &Label) -> Result<Vec<Arc<Run>>, IndexError> {
        let mut chain = Vec::new();
        let mut seen = BTreeSet::new();
        let mut next = Some(run.clone());
        while let Some(name) = next.filter(|_| chain.len() <= MAX_ANCESTORS) {
            if !seen.insert(name.clone()) {
                break;
            }
            let run = self.runs.run(&name);
            if !run.is_loaded() {
                run.load(self.ledger.peek().run_state(&name)?);
            }
            next = run.parent();
            chain.push(run);
        }
        Ok(chain)
    }

    /// All accounts that are changed, in the order they are locked.
    fn cells(&self, charged: &Charged) -> Result<Vec<Account>, IndexError> {
        let cell = |id: AccountId| {
            let cell = self.named(id)?;
            // Rules that changed meanwhile may count it elsewhere than where was looked before.
            if let Some(cell) = cell.as_ref().filter(|cell| !cell.is_loaded()) {
                cell.load(self.ledger.view().account(cell.id)?);
            }
            Ok((id, cell))
        };
        charged.accounts().into_iter().map(cell).collect()
    }

    /// An account in memory, whether loaded or not. None where the ledger does not know what it is
    /// called: then only the index counts it.
    fn named(&self, id: AccountId) -> Result<Option<Arc<Cell>>, IndexError> {
        if let Some(cell) = self.bank.get(id) {
            return Ok(Some(cell));
        }
        let name = self.ledger.peek().account(id)?.and_then(|it| it.name);
        Ok(name.map(|name| self.bank.cell(id, || name)))
    }
}

/// What was charged before and counts no longer.
fn replaced(before: &Charged) -> Option<(Timestamp, Vec<Charge>)> {
    let is_charged = !before.charges.is_empty();
    is_charged.then(|| (before.at, before.charges.clone()))
}
