//! Who goes: told from the whole log, before any record is judged.
//!
//! Two passes. The first finds the calls that are meant and what they refer to; the second takes out
//! of that what calls that stay refer to as well.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use crate::core::budget::{Act, Control, Deed, Limits, MAX_ANCESTORS};
use crate::core::call::{Admission, LateUsage, Part, Settlement, StoredBody};
use crate::core::digest::Digest;
use crate::core::id::{CallId, Label};
use crate::core::metric::Measurement;
use crate::core::time::Timestamp;

use super::super::body::unpack_content;
use super::super::checkpoint;
use super::super::index::batch::measured::identity;
use super::super::log::{Cursor, LogReader, Segment, Step};
use super::super::record::{Chain, Checkpoint, Content, Link, kind};
use super::super::storage::Storage;
use super::super::summary::Key;
use super::Scope;

/// A tag of a run and its value; its variant has the empty name.
pub(super) type Said = (String, Label);

pub(super) struct Plan {
    pub(super) scope: Scope,
    /// Calls that go.
    pub(super) going: HashSet<CallId>,
    /// How many are meant but did not end, or whose work goes on at the upstream: they stay.
    pub(super) running: u64,
    /// Calls that go and that other instances served.
    pub(super) adopted: u64,
    /// Contents of calls that go and of no call that stays.
    pub(super) unshared: HashSet<Digest>,
    /// What calls really used, known later than they ended.
    pub(super) late: HashMap<CallId, LateUsage>,
    /// Limits that calls that go named for their runs.
    pub(super) tightened: BTreeMap<Label, Limits>,
    /// What calls that go said of their runs, and none that stays.
    pub(super) said: HashMap<Label, HashSet<Said>>,
    /// Calls whose settlement the front of the log counts already.
    pub(super) counted: HashSet<CallId>,
    /// Of each measurement how many of its records go because they are old.
    pub(super) past: HashMap<u128, u64>,
    /// Whose part each run is, as its first call said that named one.
    parents: HashMap<Label, Label>,
    /// Where the log ends.
    pub(super) end: Cursor,
    /// Runs of calls that go.
    named: HashSet<Label>,
    /// Runs of calls that stay, and those that began them.
    live: HashSet<Label>,
    /// Runs that were stopped, paused or tightened: were that forgotten, they would go on.
    held: HashSet<Label>,
}

impl Plan {
    pub(super) fn read(
        storage: &dyn Storage,
        segments: &[Segment],
        (scope, at): (&Scope, Timestamp),
    ) -> io::Result<Self> {
        let mut reading = Reading::of(scope, segments.first(), at);
        let mut reader = LogReader::from_start(storage, segments);
        while let Some(step) = reader.next()? {
            if let Step::Record { kind, payload, .. } = step {
                reading.find(kind, payload);
            }
        }
        let end = reader.cursor();
        let (mut plan, groups) = reading.finish(end);
        let mut reader = LogReader::from_start(storage, segments);
        while let Some(step) = reader.next()? {
            if let Step::Record { kind, payload, .. } = step {
                plan.spare(kind, payload, &groups);
            }
        }
        Ok(plan)
    }

    fn means_admission(&self, admission: &Admission) -> bool {
        let who = &admission.attribution;
        match &self.scope {
            Scope::Run(run) => who.run.as_ref() == Some(run),
            Scope::User(user) => who.user.as_ref() == Some(user),
            Scope::Before(at) => admission.started_at < *at,
        }
    }

    /// Of a call whose admission may be gone.
    fn means_settlement(&self, settlement: &Settlement) -> bool {
        match &self.scope {
            Scope::Run(run) => settlement.run.as_ref() == Some(run),
            Scope::User(_) => false,
            Scope::Before(at) => settlement.started_at < *at,
        }
    }

    /// Whether nothing is left of a run but its calls that go; `last` is when what is asked about was.
    pub(super) fn forgets(&self, run: &Label, last: Timestamp) -> bool {
        let is_over = || !self.live.contains(run) && !self.holds(run);
        match &self.scope {
            // What a call that stays will have used is put right in what is kept of its run.
            Scope::Run(meant) => run == meant && self.running == 0,
            Scope::User(_) => self.named.contains(run) && is_over(),
            // A call that began before may have been charged later.
            Scope::Before(at) => (last < *at || self.named.contains(run)) && is_over(),
        }
    }

    /// Whether a run stays in what it may, although its calls go.
    pub(super) fn holds(&self, run: &Label) -> bool {
        !matches!(self.scope, Scope::Run(_)) && self.held.contains(run)
    }

    /// The run that one stays a part of although calls go that said so.
    pub(super) fn parent_of(&self, run: &Label) -> Option<Label> {
        let is_meant = matches!(&self.scope, Scope::Run(meant) if meant == run);
        let lasts = self.live.contains(run) || (self.held.contains(run) && !is_meant);
        let is_told = |parent: &Label| {
            let stays = match &self.scope {
                Scope::Run(meant) => parent != meant,
                Scope::User(_) => !self.named.contains(parent),
                Scope::Before(_) => false,
            };
            stays || self.live.contains(parent) || self.holds(parent)
        };
        lasts.then(|| self.above(run, is_told)).flatten()
    }

    /// The first of a run's ancestors that is still told of.
    pub(super) fn above(&self, run: &Label, is_told: impl Fn(&Label) -> bool) -> Option<Label> {
        let mut next = self.parents.get(run);
        for _ in 0..MAX_ANCESTORS {
            let parent = next?;
            if is_told(parent) && parent != run {
                return Some(parent.clone());
            }
            next = self.parents.get(parent);
        }
        None
    }

    /// The first that is named counts.
    fn name_parent(&mut self, run: Option<&Label>, parent: Option<&Label>) {
        if let (Some(run), Some(parent)) = (run, parent)
            && run != parent
            && !self.parents.contains_key(run)
        {
            self.parents.insert(run.clone(), parent.clone());
        }
    }

    /// Takes out what a record that stays has a part in.
    fn spare(&mut self, kind: u8, payload: &[u8], groups: &Groups) {
        match kind {
            kind::ADMISSION => {
                let admission = minicbor::decode::<Admission>(payload).ok();
                if let Some(it) = admission.filter(|it| !self.going.contains(&it.id)) {
                    self.spare_body(it.request.as_ref(), groups);
                    self.spare_run(&it);
                }
            }
            kind::SETTLEMENT => {
                let settlement = minicbor::decode::<Settlement>(payload).ok();
                if let Some(it) = settlement.filter(|it| !self.going.contains(&it.id)) {
                    self.spare_body(it.response.as_ref(), groups);
                    self.live.extend(it.run);
                    self.live.extend(it.parent_run);
                }
            }
            kind::CHECKPOINT => {
                let Some(calls) = checkpoint::calls(payload) else {
                    return;
                };
                let pending = calls.pending.iter().map(|(admission, _)| admission);
                for admission in calls.open.iter().chain(pending) {
                    if !self.going.contains(&admission.id) {
                        self.spare_run(admission);
                    }
                }
            }
            _ => {}
        }
    }

    fn spare_body(&mut self, body: Option<&StoredBody>, groups: &Groups) {
        if !self.unshared.is_empty() {
            groups.each(body, |digest| {
                self.unshared.remove(&digest);
            });
        }
    }

    fn spare_run(&mut self, admission: &Admission) {
        let who = &admission.attribution;
        self.live.extend(who.parent_run.clone());
        let Some(run) = &who.run else { return };
        self.live.insert(run.clone());
        if let Some(gone) = self.said.get_mut(run) {
            for said in said_of(admission) {
                gone.remove(&said);
            }
        }
    }
}

/// What a call says of its run.
fn said_of(admission: &Admission) -> impl Iterator<Item = Said> {
    let who = &admission.attribution;
    let tags = who
        .tags
        .iter()
        .map(|(name, tag)| (name.clone(), tag.clone()));
    let variant = who.variant.clone().map(|it| (String::new(), it));
    tags.chain(variant)
}

/// The first pass.
struct Reading {
    plan: Plan,
    groups: Groups,
    /// Calls that are meant, whether or not they ended.
    meant: HashSet<CallId>,
    /// Calls that did not end so far.
    open: HashSet<CallId>,
    /// Calls that had not ended where the base begins.
    open_at_base: HashSet<CallId>,
    /// Calls that were settled by an estimate, and when they began.
    pending: HashMap<CallId, Timestamp>,
    /// Settlements whose admission is in a checkpoint at most: what they refer to.
    orphans: HashMap<CallId, Vec<Digest>>,
    controls: HashMap<Label, Control>,
    /// Where the log's front is gone: the first segment, and the border of the checkpoint that stands
    /// for what was before it.
    base: Option<(u64, u64)>,
    /// The time of the deletion.
    at: Timestamp,
}

impl Reading {
    fn of(scope: &Scope, first: Option<&Segment>, at: Timestamp) -> Self {
        let is_retired = |it: &&Segment| it.continues().is_some_and(|it| it != Chain::GENESIS);
        Self {
            plan: Plan {
                scope: scope.clone(),
                going: HashSet::new(),
                running: 0,
                adopted: 0,
                unshared: HashSet::new(),
                late: HashMap::new(),
                tightened: BTreeMap::new(),
                said: HashMap::new(),
                counted: HashSet::new(),
                past: HashMap::new(),
                parents: HashMap::new(),
                end: Cursor::default(),
                named: HashSet::new(),
                live: HashSet::new(),
                held: HashSet::new(),
            },
            groups: Groups::default(),
            meant: HashSet::new(),
            open: HashSet::new(),
            open_at_base: HashSet::new(),
            pending: HashMap::new(),
            orphans: HashMap::new(),
            controls: HashMap::new(),
            base: first.filter(is_retired).map(|it| (it.number, u64::MAX)),
            at,
        }
    }

    fn find(&mut self, kind: u8, payload: &[u8]) {
        match kind {
            kind::CONTENT => {
                if let Ok(content) = minicbor::decode(payload) {
                    self.groups.see(&content);
                }
            }
            kind::ADMISSION => {
                if let Ok(admission) = minicbor::decode::<Admission>(payload) {
                    self.open.insert(admission.id);
                    self.admission(&admission);
                }
            }
            kind::SETTLEMENT => {
                if let Ok(settlement) = minicbor::decode(payload) {
                    self.settlement(settlement);
                }
            }
            kind::LATE => {
                if let Ok(late) = minicbor::decode::<LateUsage>(payload) {
                    self.plan.late.entry(late.id).or_insert(late);
                }
            }
            kind::ACT => {
                if let Ok(act) = minicbor::decode::<Act>(payload) {
                    self.act(&act);
                }
            }
            kind::LINK => {
                if let Ok(link) = minicbor::decode::<Link>(payload) {
                    self.plan.name_parent(Some(&link.run), Some(&link.parent));
                }
            }
            kind::MEASUREMENT => {
                let measurement = minicbor::decode::<Measurement>(payload).ok();
                if let Some(it) = measurement.filter(|it| self.plan.is_past(it)) {
                    *self.plan.past.entry(identity(&it)).or_default() += 1;
                }
            }
            kind::CHECKPOINT => {
                if let Some(checkpoint) = checkpoint::parse(payload) {
                    self.checkpoint(checkpoint);
                }
            }
            _ => {}
        }
    }

    fn admission(&mut self, admission: &Admission) {
        let plan = &mut self.plan;
        let who = &admission.attribution;
        plan.name_parent(who.run.as_ref(), who.parent_run.as_ref());
        if !plan.means_admission(admission) {
            return;
        }
        self.meant.insert(admission.id);
        let unshared = &mut plan.unshared;
        self.groups.each(admission.request.as_ref(), |digest| {
            unshared.insert(digest);
        });
        let Some(run) = &admission.attribution.run else {
            return;
        };
        plan.named.insert(run.clone());
        let said = plan.said.entry(run.clone()).or_default();
        said.extend(said_of(admission));
        if !admission.tightened.is_empty() {
            plan.held.insert(run.clone());
            let tightened = plan.tightened.entry(run.clone()).or_default();
            *tightened = tightened.tightened(&admission.tightened);
        }
    }

    fn settlement(&mut self, settlement: Settlement) {
        let id = settlement.id;
        let was_open = self.open.remove(&id);
        if settlement.is_pending {
            self.pending.insert(id, settlement.started_at);
        }
        let response = settlement.response.as_ref();
        if self.meant.contains(&id) || self.plan.means_settlement(&settlement) {
            self.meant.insert(id);
            let is_new = self.plan.going.insert(id);
            let is_adopted = is_new && settlement.instance.is_some();
            self.plan.adopted += u64::from(is_adopted);
            let unshared = &mut self.plan.unshared;
            self.groups.each(response, |digest| {
                unshared.insert(digest);
            });
            self.plan.named.extend(settlement.run);
        } else if !was_open {
            let mut digests = Vec::new();
            self.groups.each(response, |it| digests.push(it));
            self.orphans.insert(id, digests);
        }
    }

    fn act(&mut self, act: &Act) {
        match act.deed.control() {
            Some((run, Control::Running)) => drop(self.controls.remove(run)),
            Some((run, control)) => drop(self.controls.insert(run.clone(), control)),
            None => {}
        }
        if let Deed::RunTightened(run, _) = &act.deed {
            self.plan.held.insert(run.clone());
        }
    }

    /// Calls whose admission went with the front of the log are found here.
    fn checkpoint(&mut self, checkpoint: Checkpoint) {
        if let Some((first, base)) = &mut self.base
            && (*first..*base).contains(&checkpoint.before)
        {
            *base = checkpoint.before;
            let pending = checkpoint.pending.iter();
            self.plan.counted = pending.map(|(admission, _)| admission.id).collect();
            self.open_at_base = checkpoint.open.iter().map(|it| it.id).collect();
        }
        for admission in &checkpoint.open {
            self.admission(admission);
        }
        // An older one may tell of a call whose late usage went with the front.
        let first = self.base.map_or(0, |(first, _)| first);
        for (admission, _) in &checkpoint.pending {
            self.admission(admission);
            if checkpoint.before >= first {
                self.pending.insert(admission.id, admission.started_at);
            }
            if self.plan.means_admission(admission) {
                self.plan.going.insert(admission.id);
            }
        }
        for (key, summary) in checkpoint.summaries {
            let Key::Run(run) = key else { continue };
            self.plan.name_parent(Some(&run), summary.parent.as_ref());
            if !summary.tightened.is_empty() {
                self.plan.held.insert(run.clone());
            }
            if summary.control != Control::Running {
                self.controls.insert(run, summary.control);
            }
        }
    }

    fn finish(self, end: Cursor) -> (Plan, Groups) {
        let mut plan = self.plan;
        for (id, digests) in self.orphans {
            if self.meant.contains(&id) && plan.going.insert(id) {
                plan.unshared.extend(digests);
            }
        }
        // An older checkpoint may tell of calls whose end went with the front.
        let may_run = |id: &&CallId| self.open.contains(id) || self.open_at_base.contains(id);
        plan.going
            .extend(self.meant.iter().filter(|id| !may_run(id)));
        // Its estimate would stand for good.
        let goes_on = |id: &CallId| {
            let began = self.pending.get(id).filter(|_| !plan.late.contains_key(id));
            began.is_some_and(|began| LateUsage::may_come(*began, self.at))
        };
        plan.going.retain(|id| !goes_on(id));
        plan.running = self.meant.difference(&plan.going).count() as u64;
        plan.held.extend(self.controls.into_keys());
        plan.end = end;
        (plan, self.groups)
    }
}

/// Contents that stand for many others, and which.
#[derive(Default)]
struct Groups(HashMap<Digest, Box<[Digest]>>);

impl Groups {
    fn see(&mut self, content: &Content<'_>) {
        let parts = unpack_content(content);
        let parts = parts.and_then(|bytes| minicbor::decode::<Vec<Part>>(&bytes).ok());
        if let Some(parts) = parts {
            let digests = parts.iter().filter_map(|part| match part {
                Part::Content(digest) => Some(*digest),
                _ => None,
            });
            self.0.insert(content.digest, digests.collect());
        }
    }

    /// Each content that a body is made of.
    fn each(&self, body: Option<&StoredBody>, mut take: impl FnMut(Digest)) {
        for part in body.iter().flat_map(|body| &body.parts) {
            match part {
                Part::Content(digest) => take(*digest),
                Part::Group(digest) => {
                    take(*digest);
                    let within = self.0.get(digest).into_iter().flatten();
                    within.copied().for_each(&mut take);
                }
                Part::Literal(_) | Part::Compressed(..) => {}
            }
        }
    }
}
