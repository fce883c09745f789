//! What is meant by a deletion, told from one record alone, and what is left of such a record: the
//! same whatever else of it is done already.

use std::collections::HashMap;
use std::io;

use crate::core::alert::About;
use crate::core::budget::{Act, Deed, Dimension};
use crate::core::call::{Admission, LateUsage, Settlement};
use crate::core::id::{CallId, Label};
use crate::core::metric::Measurement;

use super::super::checkpoint::{self, Calls, Packing};
use super::super::log::{LogReader, Segment, Step};
use super::super::record::{Checkpoint, Event, kind};
use super::super::removal::Residue;
use super::super::storage::Storage;
use super::Scope;

pub(super) struct Rules {
    scope: Scope,
    /// What calls really used, known later than they ended.
    late: HashMap<CallId, LateUsage>,
}

impl Rules {
    pub(super) fn read(
        storage: &dyn Storage,
        segments: &[Segment],
        scope: &Scope,
    ) -> io::Result<Self> {
        let mut rules = Self {
            scope: scope.clone(),
            late: HashMap::new(),
        };
        let mut reader = LogReader::from_start(storage, segments);
        while let Some(step) = reader.next()? {
            if let Step::Record { kind, payload, .. } = step
                && kind == kind::LATE
                && let Ok(late) = minicbor::decode::<LateUsage>(payload)
            {
                rules.late.entry(late.id).or_insert(late);
            }
        }
        Ok(rules)
    }

    pub(super) fn means_admission(&self, admission: &Admission) -> bool {
        let who = &admission.attribution;
        match &self.scope {
            Scope::Run(run) => who.run.as_ref() == Some(run),
            Scope::User(user) => who.user.as_ref() == Some(user),
            Scope::Before(at) => admission.started_at < *at,
        }
    }

    /// Of a call whose admission may be gone.
    pub(super) fn means_settlement(&self, settlement: &Settlement) -> bool {
        match &self.scope {
            Scope::Run(run) => settlement.run.as_ref() == Some(run),
            Scope::User(_) => false,
            Scope::Before(at) => settlement.started_at < *at,
        }
    }

    /// Of what was said of a run or an agent as a whole.
    pub(super) fn means_measurement(&self, measurement: &Measurement) -> bool {
        match &self.scope {
            Scope::Run(run) => measurement.run() == Some(run),
            Scope::User(user) => measurement.who == *user,
            Scope::Before(at) => measurement.at < *at,
        }
    }

    /// Whether the key of an account names what is meant.
    pub(super) fn names(&self, key: &[(Dimension, Option<Label>)]) -> bool {
        key.iter().any(|(dimension, value)| match &self.scope {
            Scope::Run(run) => *dimension == Dimension::Run && value.as_ref() == Some(run),
            Scope::User(user) => *dimension == Dimension::User && value.as_ref() == Some(user),
            Scope::Before(_) => false,
        })
    }

    /// Whether an event tells of what is meant.
    pub(super) fn tells(&self, event: &Event) -> bool {
        let trip = event.trip.as_ref();
        let name = match &self.scope {
            Scope::Before(at) => return trip.is_some() && event.at < *at,
            Scope::Run(name) | Scope::User(name) => name,
        };
        let is_run = matches!(self.scope, Scope::Run(_));
        let of_trip = is_run && trip.is_some_and(|trip| trip.run.as_ref() == Some(name));
        let of_signal = event.signal.as_ref().is_some_and(|signal| {
            let scope = &signal.scope;
            let of_run = is_run && scope.about == About::Run && scope.name == name.as_str();
            of_run || scope.key.as_deref().is_some_and(|key| self.is_in(key))
        });
        of_trip || of_signal || event.details.as_deref().is_some_and(|it| self.is_in(it))
    }

    /// The same of what an operator did.
    pub(super) fn tells_act(&self, act: &Act) -> bool {
        self.controls(act) || self.is_in(&act.details)
    }

    /// Whether an act is about the run itself.
    fn controls(&self, act: &Act) -> bool {
        let Scope::Run(meant) = &self.scope else {
            return false;
        };
        let controls = act.deed.control().is_some_and(|(run, _)| run == meant);
        controls || matches!(&act.deed, Deed::RunTightened(run, _) if run == meant)
    }

    /// Whether a text holds the name, and not as a part of a longer one.
    fn is_in(&self, text: &str) -> bool {
        let (Scope::Run(name) | Scope::User(name)) = &self.scope else {
            return false;
        };
        let name = name.as_str();
        let part =
            |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || "-_".contains(it));
        text.match_indices(name).any(|(at, _)| {
            let before = text.get(..at).and_then(|it| it.chars().next_back());
            let after = text.get(at + name.len()..);
            !part(before) && !part(after.and_then(|it| it.chars().next()))
        })
    }

    /// What is left of a record that goes; none when nothing is.
    pub(super) fn residue(&self, kind: u8, payload: &[u8]) -> Option<Residue> {
        match kind {
            kind::SETTLEMENT => self.sum(minicbor::decode(payload).ok()?),
            kind::MEASUREMENT => {
                let it: Measurement = minicbor::decode(payload).ok()?;
                let charged = it.charged?;
                let act = Act {
                    at: charged.at,
                    who: "open-aiops".to_owned(),
                    deed: Deed::MetricCharged(charged),
                    details: "deleted".to_owned(),
                };
                Residue::of(kind::ACT, &act)
            }
            kind::ACT => {
                let act: Act = minicbor::decode(payload).ok()?;
                if self.controls(&act) {
                    return None;
                }
                let details = "deleted".to_owned();
                Residue::of(kind::ACT, &Act { details, ..act })
            }
            kind::CHECKPOINT => {
                let mut checkpoint = checkpoint::parse(payload)?;
                self.strip(&mut checkpoint);
                pack(checkpoint).ok().flatten()
            }
            _ => None,
        }
    }

    /// What was spent stays counted.
    fn sum(&self, settlement: Settlement) -> Option<Residue> {
        let mut sum = Settlement {
            run: None,
            parent_run: None,
            response_id: None,
            error: None,
            response: None,
            chunks: Vec::new(),
            is_pending: false,
            headers: None,
            ..settlement
        };
        if let Some(late) = self.late.get(&sum.id).filter(|_| settlement.is_pending) {
            (sum.usage, sum.cost, sum.cost_source) = (late.usage, late.cost, late.cost_source);
            sum.charges.extend(late.charges.iter().copied());
        }
        Residue::of(kind::SUM, &sum)
    }

    /// Takes out of a checkpoint what is meant; says whether there was any.
    pub(super) fn strip(&self, checkpoint: &mut Checkpoint) -> bool {
        let count = |it: &Checkpoint| it.summaries.len() + it.pending.len();
        let before = count(checkpoint);
        let mut changed = false;
        checkpoint
            .summaries
            .retain(|(key, summary)| match &self.scope {
                Scope::Run(run) => key.run() != Some(run),
                Scope::User(_) => true,
                Scope::Before(at) => key.run().is_none() || summary.last_at >= *at,
            });
        checkpoint
            .pending
            .retain(|(admission, _)| !self.means_admission(admission));
        for (_, summary) in &mut checkpoint.summaries {
            if let Scope::Run(run) = &self.scope
                && summary.parent.as_ref() == Some(run)
            {
                summary.parent = None;
                changed = true;
            }
        }
        for (_, account) in &mut checkpoint.accounts {
            if account.name.as_ref().is_some_and(|it| self.names(&it.key)) {
                account.name = None;
                changed = true;
            }
        }
        changed || before != count(checkpoint)
    }
}

fn encoded(value: &impl minicbor::Encode<()>) -> io::Result<Vec<u8>> {
    minicbor::to_vec(value).map_err(io::Error::other)
}

fn pack(checkpoint: Checkpoint) -> io::Result<Option<Residue>> {
    let mut packing = Packing::begin(Calls {
        before: checkpoint.before,
        at: checkpoint.at,
        open: checkpoint.open,
        pending: checkpoint.pending,
    })?;
    for (key, summary) in &checkpoint.summaries {
        packing.summary(key, &encoded(summary)?)?;
    }
    packing.end_of_summaries()?;
    for (start, of, slice) in &checkpoint.days {
        packing.slice(*start, of, &encoded(slice)?)?;
    }
    packing.end_of_slices()?;
    for (id, account) in &checkpoint.accounts {
        packing.account(*id, &encoded(account)?)?;
    }
    let packed = packing.finish()?;
    Ok(packed.and_then(|packed| Residue::of(kind::CHECKPOINT, &packed)))
}
