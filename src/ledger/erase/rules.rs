//! Which records go, and what is left of each.

use std::collections::{HashMap, HashSet};
use std::io;

use crate::core::alert::About;
use crate::core::budget::{Act, Deed, Dimension};
use crate::core::call::{Admission, LateUsage, Settlement};
use crate::core::id::{CallId, Label};
use crate::core::metric::{Measurement, Subject};
use crate::core::time::Timestamp;
use crate::core::usage::Provenance;

use super::super::checkpoint;
use super::super::index::batch::measured::identity;
use super::super::record::{Content, DELETED, Event, Link, NewAccount, kind};
use super::super::removal::Residue;
use super::Scope;
use super::checkpoints;
use super::plan::Plan;

pub(super) enum Verdict {
    Stays,
    Goes(Option<Residue>),
}

/// Judges records in the order of the log.
pub(super) struct Judge<'p> {
    plan: &'p Plan,
    /// Calls that stay counted already: what is written again after a failure counts once.
    counted: HashSet<CallId>,
    /// What was charged for measurements that go, and when: likewise once.
    charged: HashSet<(u128, Timestamp)>,
    /// Of each measurement how many records are still to come that go because they are old.
    past: HashMap<u128, u64>,
    /// Runs of which it is told whose part they are.
    linked: HashSet<Label>,
}

impl<'p> Judge<'p> {
    pub(super) fn of(plan: &'p Plan) -> Self {
        Self {
            plan,
            counted: plan.counted.clone(),
            charged: HashSet::new(),
            past: plan.past.clone(),
            linked: HashSet::new(),
        }
    }

    pub(super) fn judge(&mut self, kind: u8, payload: &[u8]) -> io::Result<Verdict> {
        let plan = self.plan;
        let of_call = |id: CallId| plan.going.contains(&id);
        let goes = match kind {
            kind::CONTENT => {
                decode(payload).is_some_and(|it: Content<'_>| plan.unshared.contains(&it.digest))
            }
            kind::ADMISSION => return self.admission(payload),
            kind::LINK => return link(plan, payload),
            kind::LATE => decode(payload).is_some_and(|it: LateUsage| of_call(it.id)),
            kind::MEASUREMENT => return self.measurement(payload),
            kind::EVENT => decode(payload).is_some_and(|it: Event| plan.tells(&it)),
            kind::ACCOUNT => {
                decode(payload).is_some_and(|it: NewAccount| plan.names(&it.name.key, it.at))
            }
            kind::SETTLEMENT => return self.settlement(payload),
            kind::ACT => return act(plan, payload),
            kind::CHECKPOINT => {
                let left = checkpoint::parse(payload).map(|it| checkpoints::left_of(plan, it));
                let left = left.transpose()?.flatten();
                return Ok(left.map_or(Verdict::Stays, |left| Verdict::Goes(Some(left))));
            }
            _ => false,
        };
        Ok(if goes {
            Verdict::Goes(None)
        } else {
            Verdict::Stays
        })
    }

    /// A run that stays would be cut off from those it is part of, and from their budgets.
    fn admission(&mut self, payload: &[u8]) -> io::Result<Verdict> {
        let admission = decode::<Admission>(payload);
        let Some(it) = admission.filter(|it| self.plan.going.contains(&it.id)) else {
            return Ok(Verdict::Stays);
        };
        let run = it.attribution.run;
        let run = run.filter(|run| self.linked.insert(run.clone()));
        let link = run.and_then(|run| {
            Some(Link {
                at: it.started_at,
                parent: self.plan.parent_of(&run)?,
                run,
            })
        });
        let left = link.map(|link| Residue::of(kind::LINK, &link));
        left.transpose().map(Verdict::Goes)
    }

    /// What was spent stays counted, once.
    fn settlement(&mut self, payload: &[u8]) -> io::Result<Verdict> {
        let settlement = decode::<Settlement>(payload);
        let Some(settlement) = settlement.filter(|it| self.plan.going.contains(&it.id)) else {
            return Ok(Verdict::Stays);
        };
        if !self.counted.insert(settlement.id) {
            return Ok(Verdict::Goes(None));
        }
        let sum = sum(settlement, self.plan);
        Residue::of(kind::SUM, &sum).map(|sum| Verdict::Goes(Some(sum)))
    }

    /// What budgets were charged for it stays counted, once. What one that goes took the place of goes
    /// with it: else it would be the latest again, and what it was charged given back once more.
    fn measurement(&mut self, payload: &[u8]) -> io::Result<Verdict> {
        let Some(it) = decode::<Measurement>(payload) else {
            return Ok(Verdict::Stays);
        };
        let id = identity(&it);
        let mut goes = self.plan.means_measurement(&it);
        if let Some(to_come) = self.past.get_mut(&id).filter(|to_come| **to_come > 0) {
            *to_come -= u64::from(self.plan.is_past(&it));
            goes = true;
        }
        if !goes {
            return Ok(Verdict::Stays);
        }
        let charged = it.charged.filter(|it| !it.accounts().is_empty());
        let charged = charged.filter(|it| self.charged.insert((id, it.at)));
        let left = charged.map(|charged| Residue::of(kind::CHARGED, &charged));
        left.transpose().map(Verdict::Goes)
    }
}

/// What calls said that an earlier deletion took out: likewise told as long as its run is.
fn link(plan: &Plan, payload: &[u8]) -> io::Result<Verdict> {
    let Some(link) = decode::<Link>(payload) else {
        return Ok(Verdict::Stays);
    };
    let parent = plan.parent_of(&link.run);
    if parent.as_ref() == Some(&link.parent) {
        return Ok(Verdict::Stays);
    }
    let left = parent.map(|parent| Residue::of(kind::LINK, &Link { parent, ..link }));
    left.transpose().map(Verdict::Goes)
}

fn act(plan: &Plan, payload: &[u8]) -> io::Result<Verdict> {
    let Some(act) = decode::<Act>(payload) else {
        return Ok(Verdict::Stays);
    };
    if run_of(&act.deed).is_some_and(|run| plan.forgets(run, act.at)) {
        return Ok(Verdict::Goes(None));
    }
    let is_by = matches!(&plan.scope, Scope::User(user) if act.who == user.as_str());
    let is_old = matches!(plan.scope, Scope::Before(at) if act.at < at);
    let tells = plan.is_in(&act.details) || (is_old && run_of(&act.deed).is_none());
    let mut left = act.clone();
    if is_by {
        DELETED.clone_into(&mut left.who);
    }
    if is_by || tells {
        DELETED.clone_into(&mut left.details);
    }
    if left == act {
        return Ok(Verdict::Stays);
    }
    Residue::of(kind::ACT, &left).map(|left| Verdict::Goes(Some(left)))
}

/// The run that an act is about.
fn run_of(deed: &Deed) -> Option<&Label> {
    match deed {
        Deed::RunTightened(run, _) => Some(run),
        _ => deed.control().map(|(run, _)| run),
    }
}

/// What a call spent, at last, and nothing else of it.
fn sum(settlement: Settlement, plan: &Plan) -> Settlement {
    let late = plan.late.get(&settlement.id);
    let late = late.filter(|_| settlement.is_pending);
    let mut sum = Settlement {
        run: None,
        parent_run: None,
        status: None,
        response_model: None,
        response_id: None,
        service_tier: None,
        finish_reasons: Vec::new(),
        request_bytes: 0,
        response_bytes: 0,
        error: None,
        response: None,
        chunks: Vec::new(),
        is_pending: false,
        headers: None,
        ..settlement
    };
    if let Some(late) = late {
        (sum.usage, sum.cost, sum.cost_source) = (late.usage, late.cost, late.cost_source);
        sum.provenance = if late.is_estimated {
            Provenance::Estimated
        } else {
            Provenance::Reported
        };
        if !late.charges.is_empty() {
            sum.charges.extend(late.charges.iter().copied());
            sum.settled_at = Some(late.at);
        }
    }
    sum
}

impl Plan {
    /// Whether it goes since it is that old.
    pub(super) fn is_past(&self, it: &Measurement) -> bool {
        matches!(self.scope, Scope::Before(at) if it.at < at)
    }

    fn means_measurement(&self, it: &Measurement) -> bool {
        let of_run = it.run().is_some_and(|run| self.forgets(run, it.at));
        let of_call = matches!(&it.subject, Subject::Call(id) if self.going.contains(id));
        let is_own = match &self.scope {
            Scope::Run(_) => false,
            Scope::User(user) => it.who == *user,
            Scope::Before(_) => self.is_past(it),
        };
        of_run || of_call || is_own
    }

    /// Whether the key of an account names what is meant; `last` is when it was used last.
    pub(super) fn names(&self, key: &[(Dimension, Option<Label>)], last: Timestamp) -> bool {
        key.iter().any(|(dimension, value)| {
            let (Some(value), dimension) = (value, dimension) else {
                return false;
            };
            match (dimension, &self.scope) {
                (Dimension::Run, _) => self.forgets(value, last),
                (Dimension::User, Scope::User(user)) => value == user,
                _ => false,
            }
        })
    }

    /// Whether an event tells of what is meant.
    fn tells(&self, event: &Event) -> bool {
        let forgets = |run: &Label| self.forgets(run, event.at);
        let of_trip = event.trip.as_ref().is_some_and(|trip| {
            let mut calls = trip.evidence.calls.iter().chain([&trip.id]);
            let of_run = trip.run.as_ref().is_some_and(forgets);
            of_run || calls.any(|id| self.going.contains(id))
        });
        let scope = event.signal.as_ref().map(|signal| &signal.scope);
        let of_signal = scope.is_some_and(|scope| {
            let key = scope.key.as_deref();
            let run = scope.run().and_then(|run| Label::parse(run).ok());
            run.as_ref().is_some_and(forgets) || key.is_some_and(|key| self.is_in(key))
        });
        let of_calls = scope.is_some_and(|scope| {
            let about = scope.about;
            matches!(
                about,
                About::Budget | About::Run | About::Loop | About::Metric
            )
        });
        let is_own = match &self.scope {
            Scope::Run(_) => false,
            Scope::User(user) => event.who == user.as_str(),
            Scope::Before(at) => event.at < *at && (event.trip.is_some() || of_calls),
        };
        let words = event.details.as_deref();
        of_trip || of_signal || is_own || words.is_some_and(|words| self.is_in(words))
    }

    /// Whether a text holds the name that is meant, and not as a part of a longer one.
    fn is_in(&self, text: &str) -> bool {
        let name = match &self.scope {
            Scope::Run(run) if self.running == 0 => run.as_str(),
            Scope::User(user) => user.as_str(),
            _ => return false,
        };
        let part =
            |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || "-_".contains(it));
        text.match_indices(name).any(|(at, _)| {
            let before = text.get(..at).and_then(|it| it.chars().next_back());
            let after = text.get(at + name.len()..);
            !part(before) && !part(after.and_then(|it| it.chars().next()))
        })
    }
}

fn decode<'b, T: minicbor::Decode<'b, ()>>(payload: &'b [u8]) -> Option<T> {
    minicbor::decode(payload).ok()
}
