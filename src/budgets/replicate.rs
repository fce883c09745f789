//! What is done on one instance is done on all: telling others, and following what they tell.

use std::sync::Arc;
use std::time::Duration;

use super::bank::Cell;
use super::operate::OperateError;
use super::runs::Run;
use super::{Budgets, Unreadable, blocking};
use crate::core::budget::{AccountName, Act, Control, Deed, Limits};
use crate::core::id::Label;
use crate::ledger::{Durable, Event, SpanFilter};
use crate::shared::deeds::{SharedDeed, Told};
use crate::shared::reader::{DeedId, Heard};

/// What the ledger could not take is tried again so much later.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Budgets {
    /// Tells other instances what was done here, whether anybody waits for that or not.
    pub(super) fn tell_others(&self, deed: SharedDeed, who: &str, details: String) {
        let Some(shared) = self.shared() else { return };
        shared.tell_soon(&self.told(deed, (who, details), shared.naming().title()));
    }

    /// Resolves when Redis has what was told, or cannot take it now.
    pub(super) async fn have_told(&self) {
        let Some(shared) = self.shared() else { return };
        if let Err(away) = shared.tell_backlog().await {
            tracing::warn!("other instances are told later: {away}");
        }
    }

    /// Tells other instances what a client said of a run, beside the way of its call.
    pub(super) fn tell_of_run(&self, run: &Label, parent: Option<Label>, limits: Limits) {
        let Some(shared) = self.shared() else { return };
        let deed = SharedDeed::RunClaimed(run.clone(), parent, limits);
        let details = format!("run {run}");
        shared.tell_soon(&self.told(deed, ("client", details), shared.naming().title()));
    }

    /// Nobody who is gone can follow a reset.
    pub(super) async fn forget_gone(&self, name: &AccountName) {
        let Some(shared) = self.shared() else { return };
        if let Err(away) = shared.forget_gone(name).await {
            tracing::warn!("what instances had that are gone still counts: {away}");
        }
    }

    fn told(&self, deed: SharedDeed, (who, details): (&str, String), place: &str) -> Told {
        Told {
            at: self.now(),
            who: who.to_owned(),
            deed,
            details,
            place: place.to_owned(),
        }
    }

    /// Does here what was done on another instance. Where the ledger cannot be used this waits until
    /// it can: no deed is passed over.
    pub async fn follow(&self, heard: Heard) {
        let mut is_told = false;
        while let Err(error) = self.try_follow(heard.clone()).await {
            if !is_told {
                let details = &heard.told.details;
                tracing::error!(
                    "a deed of another instance is not followed yet: {details}: {error}"
                );
                is_told = true;
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    async fn try_follow(&self, Heard { told, id, is_old }: Heard) -> Result<(), OperateError> {
        let Told {
            at,
            who,
            deed,
            details,
            place,
        } = told;
        let act = |deed| Act {
            at,
            who: format!("{who} on {place}"),
            deed,
            details: details.clone(),
        };
        match deed {
            SharedDeed::Raised(name, raise) => {
                let cell = self.named_cell(name).await?;
                let act = act(Deed::BudgetRaised(cell.id, raise));
                if is_old || self.has_done(&act).await? {
                    return Ok(());
                }
                let durable = self.change(&cell, act, |account| account.raise(raise, at))?;
                durable.await;
            }
            SharedDeed::Reset(name) => {
                let cell = self.named_cell(name).await?;
                let act = act(Deed::BudgetReset(cell.id));
                if is_old || self.has_done(&act).await? {
                    return Ok(());
                }
                let durable = self.change(&cell, act, |account| account.reset(at))?;
                durable.await;
            }
            SharedDeed::Controlled(run, control) => {
                let act = act(match control {
                    Control::Running => Deed::RunResumed(run.clone()),
                    Control::Paused => Deed::RunPaused(run.clone()),
                    Control::Stopped => Deed::RunStopped(run.clone()),
                });
                if is_old || self.has_done(&act).await? {
                    return Ok(());
                }
                let run = self.known_run(&run).await?;
                run.claim(None, &Limits::default(), self.now());
                self.follow_control(&run, (control, id), act).await?;
            }
            SharedDeed::RunClaimed(run, parent, limits) => {
                let run = self.known_run(&run).await?;
                run.claim(parent.as_ref(), &limits, self.now());
                run.heard(parent, &limits);
                self.keep_limits(&run);
            }
            SharedDeed::Tripped(..) | SharedDeed::Closed(_) => {}
        }
        Ok(())
    }

    async fn follow_control(
        &self,
        run: &Run,
        (control, id): (Control, DeedId),
        act: Act,
    ) -> Result<(), OperateError> {
        let mut durable = None;
        let text = format!("{}: {}", <&str>::from(&act.deed), act.details);
        let who = act.who.clone();
        let is_overridden = || {
            let shared = self.shared();
            shared.is_some_and(|shared| shared.overrides(&run.name, id))
        };
        let outcome = run.set_control(control, || {
            if is_overridden() {
                return Err(None);
            }
            durable = Some(self.ledger.act(act).map_err(|error| Some(error.into()))?);
            Ok(())
        });
        match outcome {
            Ok(_) => tracing::warn!(who, "{text}"),
            Err(None) => tracing::info!(who, "{text}: not followed, what was done here came later"),
            Err(Some(error)) => return Err(error),
        }
        if let Some(durable) = durable {
            durable.await;
        }
        Ok(())
    }

    fn change(
        &self,
        cell: &Arc<Cell>,
        act: Act,
        change: impl FnOnce(&mut crate::core::budget::StoredAccount),
    ) -> Result<Durable, OperateError> {
        let reset_at = matches!(act.deed, Deed::BudgetReset(_)).then_some(act.at);
        tracing::warn!(
            who = act.who,
            "{}: {}",
            <&str>::from(&act.deed),
            act.details
        );
        let mut state = cell.lock();
        state.open(cell, &self.ledger);
        let durable = self.ledger.act(act)?;
        if let Some(account) = &mut state.account {
            change(account);
        }
        if let Some(at) = reset_at {
            state.unrecorded.retain(|charge| charge.bucket > at);
        }
        cell.changed(&mut state);
        state.touch(self.now());
        state.wake_first();
        Ok(durable)
    }

    /// The account of this name, whether a call was counted for it here or not.
    pub(super) async fn named_cell(&self, name: AccountName) -> Result<Arc<Cell>, Unreadable> {
        let id = name.id(self.ledger.seed());
        let cell = self.bank.cell(id, || name);
        if !cell.is_loaded() {
            let ledger = self.ledger.clone();
            cell.load(blocking(move || ledger.peek().account(id)).await?);
        }
        Ok(cell)
    }

    /// Whether the ledger says that this was followed before.
    async fn has_done(&self, act: &Act) -> Result<bool, Unreadable> {
        let (ledger, act) = (self.ledger.clone(), act.clone());
        blocking(move || {
            let micros = act.at.micros();
            let filter = SpanFilter {
                since: Some(act.at),
                until: Some(crate::core::time::Timestamp::from_micros(
                    micros.saturating_add(1),
                )),
                limit: 100,
                ..SpanFilter::default()
            };
            let known = ledger.view().events(&filter)?;
            let wanted = Event::from(act);
            let is_same = |event: &Event| {
                event.at == wanted.at
                    && event.what == wanted.what
                    && event.who == wanted.who
                    && event.details == wanted.details
            };
            Ok(known.items.iter().any(is_same))
        })
        .await
    }
}
