//! What runs add to the fold: how many of their calls are open, what calls say of them, and where
//! they and their calls are found.

use crate::core::call::Admission;
use crate::core::id::Label;
use crate::core::time::Timestamp;

use super::super::super::record::{Checkpoint, Event, Link};
use super::super::super::rows::CallRow;
use super::super::super::slices::SliceKey;
use super::super::super::summary::{Key, Summary, keys_of_admission};
use super::super::{IndexError, outcome_number};
use super::{Batch, id_key};

impl Batch<'_> {
    /// Counts a call that begins into one of its keys.
    pub(super) fn begin_call(&mut self, key: Key, admission: &Admission) -> Result<(), IndexError> {
        let at = admission.started_at;
        let of_run = key.run().is_some();
        let describes = matches!(key, Key::Run(_));
        let joins = matches!(key, Key::RunAgent(..));
        let summary = self.summary(key)?;
        // A call was counted into it before, or it is new.
        let is_new = (summary.first_at, summary.last_at) == Default::default();
        summary.cover(at, at);
        summary.open_calls += u64::from(of_run);
        if describes {
            summary.describe(&admission.attribution);
        }
        if joins && is_new {
            let agent = admission.attribution.agent.clone();
            self.sliced.join(agent.clone(), at);
            self.summary(Key::Agent(agent))?.runs += 1;
        }
        Ok(())
    }

    /// Keeps what calls that are gone said of whose part their run is.
    pub(super) fn link(&mut self, link: Link) -> Result<(), IndexError> {
        self.acted_on(&link.run, link.at)?;
        if let Some(parent) = self.parent(Some(&link.run), Some(&link.parent))? {
            let child = self.summary(Key::Child(parent, link.run))?;
            child.cover(link.at, link.at);
        }
        Ok(())
    }

    /// Counts what a breaker did into its run, and into the agent that it befell.
    pub(super) fn stopped(&mut self, event: &Event) -> Result<(), IndexError> {
        if let Some(trip) = event.trip.as_ref().filter(|trip| trip.closed.is_none()) {
            if let Some(run) = &trip.run {
                self.acted_on(run, event.at)?.trips += 1;
                let key = Key::RunAgent(run.clone(), trip.agent.clone());
                self.known(&key, |summary| summary.trips += 1)?;
            }
        } else if let Some((run, agent)) = event.refuses() {
            let key = agent.map(|agent| Key::RunAgent(run.clone(), agent));
            for key in [Some(Key::Run(run)), key].into_iter().flatten() {
                self.known(&key, |summary| summary.refused += 1)?;
            }
        }
        Ok(())
    }

    /// Changes a summary that there is: what never had a call is not made up.
    fn known(&mut self, key: &Key, change: impl FnOnce(&mut Summary)) -> Result<(), IndexError> {
        let summary = self.summary(key.clone())?;
        if summary.last_at == Timestamp::default() {
            self.changed.remove(key);
        } else {
            change(summary);
        }
        Ok(())
    }

    /// Takes over what a checkpoint sums up.
    pub(super) fn load_summaries(&mut self, base: &Checkpoint) {
        for (key, summary) in base.summaries.iter().cloned() {
            if let Key::Rollup(rollup) = key {
                self.sliced
                    .load_rollup(SliceKey::of_rollup(rollup), &summary);
            } else {
                self.changed.insert(key, summary);
            }
        }
        // Older versions did not count what is open.
        for summary in self.changed.values_mut() {
            summary.open_calls = 0;
        }
        for admission in &base.open {
            for key in keys_of_admission(admission, None) {
                if key.run().is_some()
                    && let Some(summary) = self.changed.get_mut(&key)
                {
                    summary.open_calls += 1;
                }
            }
        }
        self.sliced.load(base);
    }

    /// Makes a call findable by its run, its agent, and by being open.
    pub(super) fn name(&mut self, row: &CallRow, stored: bool) -> Result<(), IndexError> {
        let id = id_key(row.id);
        let (started, agent) = (row.started_at.micros(), row.agent.as_str());
        let run = row.run.as_ref().map(Label::as_str);
        if let Some(run) = run {
            let outcome = row.outcome.and_then(outcome_number);
            let mark = (started, row.duration_us, row.cost_nano_usd, outcome, agent);
            self.by_run.insert((run, id), mark)?;
        }
        if !stored {
            self.by_agent.insert((agent, id), ())?;
        }
        match (row.outcome, stored) {
            (None, _) => drop(self.open.insert(id, (started, run, agent))?),
            (Some(_), true) => drop(self.open.remove(id)?),
            (Some(_), false) => {}
        }
        Ok(())
    }

    /// Makes a run findable by when it was last active.
    pub(super) fn activate(&mut self, key: &Key, last_at: Timestamp) -> Result<(), IndexError> {
        let Key::Run(run) = key else { return Ok(()) };
        match self.active_before.remove(run) {
            Some(before) if before == last_at => return Ok(()),
            Some(before) => drop(self.by_activity.remove((before.micros(), run.as_str()))?),
            None => {}
        }
        self.by_activity
            .insert((last_at.micros(), run.as_str()), ())?;
        Ok(())
    }
}
