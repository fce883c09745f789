//! What was refused to a run: refused calls are no calls, so that nothing else counts them by run.

use super::Budgets;
use super::refusal::Refusal;
use crate::core::alert::{About, Scope, Signal};
use crate::core::budget::{Limits, MAX_ANCESTORS};
use crate::core::id::Label;
use crate::core::text::front;
use crate::core::time::Timestamp;
use crate::ledger::{Event, Unavailable};

/// Different reasons that are kept of one run; the last takes what comes after them.
const MAX_REASONS: usize = 8;
const MAX_MESSAGE_BYTES: usize = 2048;

/// Calls of one run that were refused, or ended, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// As headers and metrics call it.
    pub kind: &'static str,
    /// The budget that was in the way.
    pub rule: Option<Label>,
    /// A breaker: not a matter of waiting.
    pub is_break: bool,
    pub calls: u64,
    pub last_at: Timestamp,
    /// What the last of them was told: by whom, of what, and how to go on.
    pub message: String,
}

/// By reason.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<Refused>);

impl Refusals {
    /// Says whether it is the first for its reason.
    pub(super) fn add(&mut self, why: &Refusal, at: Timestamp) -> bool {
        let (kind, rule) = (why.kind(), why.rule());
        let known = self.0.iter();
        let known = known
            .enumerate()
            .find(|(_, of)| of.kind == kind && of.rule.as_ref() == rule);
        let place = known.map_or(self.0.len(), |(at, _)| at);
        let place = place.min(MAX_REASONS - 1);
        let calls = self.0.get(place).map_or(0, |of| of.calls);
        let refused = Refused {
            kind,
            rule: rule.cloned(),
            is_break: why.is_break(),
            calls: calls.saturating_add(1),
            last_at: at,
            message: front(&why.to_string(), MAX_MESSAGE_BYTES).to_owned(),
        };
        match self.0.get_mut(place) {
            Some(known) => {
                let is_break = known.is_break || refused.is_break;
                *known = Refused {
                    is_break,
                    ..refused
                };
            }
            None => self.0.push(refused),
        }
        calls == 0
    }

    pub(super) fn to_vec(&self) -> Vec<Refused> {
        self.0.clone()
    }
}

impl Budgets {
    /// A call of this run was refused, or ended for a reason of ours: that counts for its ancestors
    /// too. The first for a reason that waiting does not help with is recorded.
    pub fn note_refusal(&self, run: Option<&Label>, agent: &Label, why: &Refusal) {
        let now = self.now();
        let mut next = run.cloned();
        for generation in 0..=MAX_ANCESTORS {
            let Some(run) = next.take().and_then(|name| self.runs.get(&name)) else {
                return;
            };
            let (parent, is_first) = run.refused(why, now);
            if is_first && generation == 0 && why.is_final(now) {
                self.record_refusal(&run.name, agent, why);
            }
            next = parent;
        }
    }

    fn record_refusal(&self, run: &Label, agent: &Label, why: &Refusal) {
        let of = why
            .rule()
            .map_or_else(String::new, |rule| format!(", budget \"{rule}\""));
        let details = format!("{}{of}; agent {agent}, run {run}", why.kind());
        let scope = Scope::new(About::Run, run).with_key(agent);
        self.event(Event::RUN_REFUSED, details, Signal::of(scope));
    }

    /// What was refused to a run and those it began, since it is in memory.
    pub fn refusals(&self, run: &Label) -> Vec<Refused> {
        self.runs
            .get(run)
            .map_or_else(Vec::new, |run| run.refusals())
    }

    /// Makes a run known before its first call, so that its limits hold for all that it begins.
    pub async fn begin(
        &self,
        run: &Label,
        parent: Option<&Label>,
        limits: &Limits,
        who: &str,
    ) -> Result<(), BeginError> {
        let now = self.now();
        let own = self.known_run(run).await?;
        if let Some(parent) = own.claim(parent, limits, now) {
            let parent = self.known_run(&parent).await?;
            parent.claim(None, &Limits::default(), now);
        }
        let of = parent.map_or_else(String::new, |parent| format!(", part of {parent}"));
        let mut event = Event::own(now, "run_begun", Some(format!("run {run}{of}")));
        who.clone_into(&mut event.who);
        let durable = self.ledger.event(event)?;
        durable.await;
        Ok(())
    }
}

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    #[error(transparent)]
    Unreadable(#[from] super::Unreadable),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(run: usize) -> Refusal {
        Refusal::Stopped(Label::parse(&format!("r{run}")).unwrap())
    }

    #[test]
    fn refusals_are_counted_by_reason_and_the_last_message_stays() {
        let mut refusals = Refusals::default();
        for run in 0..3 {
            refusals.add(&stopped(run), Timestamp::from_micros(7));
        }
        let paused = Refusal::Paused(Label::parse("r").unwrap());
        refusals.add(&paused, Timestamp::from_micros(8));
        let all = refusals.to_vec();
        let counts: Vec<_> = all
            .iter()
            .map(|of| (of.kind, of.calls, of.is_break))
            .collect();
        assert_eq!(counts, [("run_stopped", 3, true), ("run_paused", 1, false)]);
        assert!(
            all[0].message.contains("run resume r2"),
            "{}",
            all[0].message
        );
    }
}
