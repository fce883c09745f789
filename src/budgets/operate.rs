//! What operators do while calls run. Each deed is in the ledger before anybody can see it.

use std::sync::Arc;

use super::ask::BY_HEADER;
use super::bank::Cell;
use super::runs::Run;
use super::{Budgets, Unreadable, blocking};
use crate::core::budget::{
    AccountId, AccountName, Act, Control, Deed, Dimension, Limits, Measure, Raise, Rule,
};
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::{Durable, Unavailable};
use crate::shared::deeds::SharedDeed;

/// Why a deed cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    #[error("there is no budget \"{rule}\"; configured: {}", names(.known))]
    NoSuchRule { rule: Label, known: Vec<Label> },
    #[error("the budget \"{rule}\" counts apart {}", keys(.per))]
    WrongKey { rule: Label, per: Vec<Dimension> },
    #[error("no call was counted for {0} yet")]
    NoSuchAccount(String),
    #[error("the budget \"{rule}\" has no limit of {}", .measure.name())]
    NotLimited { rule: Label, measure: Measure },
    #[error(
        "say by how much: one of usd, tokens, input_tokens, output_tokens, calls, concurrent, metric"
    )]
    Nothing,
    #[error("no call of a run {0} was seen yet")]
    NoSuchRun(Label),
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
    #[error("{0}")]
    Unreadable(#[from] Unreadable),
}

fn names(known: &[Label]) -> String {
    if known.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}

fn keys(per: &[Dimension]) -> String {
    match per {
        [] => "nothing: all calls are one".to_owned(),
        per => {
            let parts: Vec<String> = per.iter().map(|of| format!("{of}=...")).collect();
            format!("by {}", parts.join(","))
        }
    }
}

/// The key of an account as an operator gives it.
pub type Key = Vec<(Dimension, Option<Label>)>;

impl Budgets {
    /// Puts `by` on top of the limits of one account: for good, or for as long as what was spent by
    /// now counts.
    pub async fn raise(
        &self,
        rule: &Label,
        key: &Key,
        by: Limits,
        who: &str,
    ) -> Result<Option<Timestamp>, OperateError> {
        let (rule, cell) = self.account(rule, key).await?;
        if by.is_empty() {
            return Err(OperateError::Nothing);
        }
        let own = self.limits_of(&rule, &cell.name).await?;
        let unlimited = |(measure, _): &(Measure, i64)| own.of(*measure).is_none();
        if let Some((measure, _)) = by.each().find(unlimited) {
            let rule = rule.name.clone();
            return Err(OperateError::NotLimited { rule, measure });
        }
        let now = self.now();
        let until = rule.window.resets_at(now);
        let raise = Raise { by, until };
        let sums: Vec<String> = by.each().map(|(of, sum)| rule.text(of, sum)).collect();
        let sums = sums.join(", ");
        let details = format!("\"{}\", {}: by {sums}", rule.name, cell.name);
        let told = details.clone();
        let durable = {
            let mut state = cell.lock();
            let deed = Deed::BudgetRaised(cell.id, raise);
            let durable = self.record(deed, who, details)?;
            if let Some(account) = &mut state.account {
                account.raise(raise, now);
            }
            state.touch(now);
            state.wake_first();
            durable
        };
        let deed = SharedDeed::Raised(cell.name.clone(), raise);
        self.tell_others(deed, who, told);
        durable.await;
        self.have_told().await;
        Ok(until)
    }

    /// Forgets what was spent of one account, and what was put on top of its limits.
    pub async fn reset(&self, rule: &Label, key: &Key, who: &str) -> Result<(), OperateError> {
        let (rule, cell) = self.account(rule, key).await?;
        let now = self.now();
        let details = format!("\"{}\", {}", rule.name, cell.name);
        let told = details.clone();
        let durable = {
            let mut state = cell.lock();
            let durable = self.record(Deed::BudgetReset(cell.id), who, details)?;
            if let Some(account) = &mut state.account {
                account.reset(now);
            }
            state.unrecorded.clear();
            cell.changed(&mut state);
            state.touch(now);
            state.wake_first();
            durable
        };
        let deed = SharedDeed::Reset(cell.name.clone());
        self.tell_others(deed, who, told);
        durable.await;
        self.have_told().await;
        self.forget_gone(&cell.name).await;
        Ok(())
    }

    /// Pauses a run, lets it go on, or stops it. Says how many running calls that ends.
    pub async fn control(
        &self,
        run: &Label,
        control: Control,
        who: &str,
    ) -> Result<usize, OperateError> {
        let run = self.known_run(run).await?;
        if !run.is_known() {
            // Calls of other instances come to the ledger past what memory knows of runs.
            let (ledger, name) = (self.ledger.clone(), run.name.clone());
            run.load(blocking(move || ledger.view().run_state(&name)).await?);
        }
        if !run.is_known() {
            return Err(OperateError::NoSuchRun(run.name.clone()));
        }
        let mut durable = None;
        let ended = run.set_control(control, || {
            durable = Some(self.record(deed(&run, control), who, format!("run {}", run.name))?);
            if let Some(shared) = self.shared() {
                shared.begin_control(&run.name);
            }
            Ok::<(), OperateError>(())
        })?;
        let deed = SharedDeed::Controlled(run.name.clone(), control);
        self.tell_others(deed, who, format!("run {}", run.name));
        if let Some(durable) = durable {
            durable.await;
        }
        self.have_told().await;
        Ok(ended)
    }

    /// The limits of an account before anything was put on top: where clients set them, they are
    /// known with the run.
    pub(super) async fn limits_of(
        &self,
        rule: &Rule,
        name: &AccountName,
    ) -> Result<Limits, Unreadable> {
        let run = name.key.first().and_then(|(_, run)| run.as_ref());
        match run.filter(|_| rule.name.as_str() == BY_HEADER) {
            Some(run) => Ok(self.known_run(run).await?.tightened()),
            None => Ok(rule.limits),
        }
    }

    fn record(&self, deed: Deed, who: &str, details: String) -> Result<Durable, Unavailable> {
        let what: &'static str = (&deed).into();
        tracing::warn!(who, "{what}: {details}");
        self.ledger.act(Act {
            at: self.now(),
            who: who.to_owned(),
            deed,
            details,
        })
    }

    /// The account of a rule in force with this key, which must have been used before.
    pub(super) async fn account(
        &self,
        rule: &Label,
        key: &Key,
    ) -> Result<(Arc<Rule>, Arc<Cell>), OperateError> {
        let rule = self.rule(rule)?;
        let wrong = || OperateError::WrongKey {
            rule: rule.name.clone(),
            per: rule.per.clone(),
        };
        let mut parts = Vec::with_capacity(rule.per.len());
        for of in &rule.per {
            let part = key.iter().find(|(dimension, _)| dimension == of);
            parts.push(part.cloned().ok_or_else(wrong)?);
        }
        if key.len() != parts.len() {
            return Err(wrong());
        }
        let name = AccountName {
            rule: rule.name.clone(),
            key: parts,
        };
        let id = name.id(self.ledger.seed());
        let in_memory = self.bank.get(id).filter(|cell| cell.is_loaded());
        let cell = match in_memory {
            Some(cell) => cell,
            None => self.stored_account(id, name).await?,
        };
        Ok((rule, cell))
    }

    /// The account as the ledger knows it.
    async fn stored_account(
        &self,
        id: AccountId,
        name: AccountName,
    ) -> Result<Arc<Cell>, OperateError> {
        let text = format!("\"{}\", {name}", name.rule);
        // In the bank first, so that what is read cannot be older than what it says then.
        let cell = self.bank.cell(id, || name);
        let ledger = self.ledger.clone();
        let stored = blocking(move || ledger.peek().account(id)).await?;
        if stored.is_none() && !cell.is_loaded() {
            // Asked for by mistake: it must not stay, as one that is not loaded is never idle.
            cell.load(None);
            drop(cell);
            self.bank.forget(id, 0);
            return Err(OperateError::NoSuchAccount(text));
        }
        cell.load(stored);
        Ok(cell)
    }

    /// The rule in force of this name.
    pub fn rule(&self, name: &Label) -> Result<Arc<Rule>, OperateError> {
        let rules = self.rules.load();
        let all = || rules.iter().flat_map(|rules| rules.all());
        all()
            .find(|rule| rule.name == *name)
            .cloned()
            .ok_or_else(|| OperateError::NoSuchRule {
                rule: name.clone(),
                known: all()
                    .filter(|rule| rule.name.as_str() != BY_HEADER)
                    .map(|rule| rule.name.clone())
                    .collect(),
            })
    }
}

fn deed(run: &Run, control: Control) -> Deed {
    let run = run.name.clone();
    match control {
        Control::Running => Deed::RunResumed(run),
        Control::Paused => Deed::RunPaused(run),
        Control::Stopped => Deed::RunStopped(run),
    }
}
