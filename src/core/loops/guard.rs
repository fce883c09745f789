//! One run under watch: what is found becomes a decision. Observe, warn, slow, trip.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::super::id::{CallId, Label};
use super::super::time::Timestamp;
use super::finding::{Finding, Scope, Signal};
use super::limits::{Beyond, Pace, RunLimits};
use super::reading::Mixer;
use super::settings::{Mode, Settings};
use super::trip::{Closed, ClosedBy, Evidence, Trip};
use super::turn::{Answer, Ask, Kind};
use super::watch::Watch;

/// Calls that evidence can name.
const MAX_RECENT: usize = 32;
/// Trips of one run that are open at once.
const MAX_OPEN: usize = 16;
/// Warnings that are not told again while they go on.
const MAX_WARNED: usize = 32;
/// Callers whose fan-out is counted.
const MAX_CALLERS: usize = 64;
/// The first delay of a call in a loop; each further step doubles it.
const FIRST_DELAY_MS: u64 = 250;
/// Whoever begins anew within this time after a refusal is a program that tries again.
const AT_ONCE_US: u64 = 15_000_000;
/// A cool-down never grows beyond this.
const MAX_COOL_DOWN_US: u64 = 3_600_000_000;

/// The policy that a call is judged by.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    pub settings: Settings,
    pub limits: RunLimits,
    pub max_delay_ms: u64,
    /// After so long an open trip lets one call through to see.
    pub cool_down_us: u64,
}

/// The call that is judged.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub call: CallId,
    pub run: Option<&'a Label>,
    pub conversation: Option<&'a Label>,
    pub agent: &'a Label,
    pub caller: Option<&'a Label>,
    /// The run was named, not guessed: what its agents do together may stop all of them.
    pub is_run_certain: bool,
    pub now: Timestamp,
}

/// What becomes of a call.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The strongest of what was found, if it is not refused for it.
    pub warning: Option<Finding>,
    /// The evidence for `warning`, the first time it is said in a row.
    pub told: Option<Evidence>,
    pub delay_ms: u64,
    /// The evidence for `delay_ms`, the first time in a row that a call is delayed.
    pub slowed: Option<Evidence>,
    pub refusal: Option<No>,
    /// Trips that opened or closed with this call.
    pub changed: Vec<Trip>,
    /// It is let through to see whether the loop goes on.
    pub is_probe: bool,
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum No {
    Tripped(Box<Trip>),
    Beyond(Beyond),
}

/// All that is remembered of one run.
#[derive(Debug, Default)]
pub struct Guard {
    watch: Watch,
    open: Vec<Open>,
    allowed: Vec<(Reach, u32)>,
    recent: VecDeque<Mark>,
    /// The last warnings: one is told when it begins.
    warned: Vec<Warned>,
    pace: Pace,
    calls: u32,
    fan_out: FxHashMap<u64, u32>,
}

#[derive(Debug)]
struct Open {
    reach: Reach,
    trip: Trip,
    until: Timestamp,
    cool_down_us: u64,
    refused_at: Timestamp,
    probe: Option<Probe>,
}

/// A pattern that was told, in which conversation, and whether as one that delays calls.
type Warned = (u64, Signal, Scope, bool);

/// A call that was let through to see.
#[derive(Clone, Copy, Debug)]
struct Probe {
    conversation: u64,
    at: Timestamp,
}

/// What a trip covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Conversation(u64),
    /// One first request of a caller and agent.
    Request(u64),
    Run,
}

/// One of the last calls.
#[derive(Debug)]
struct Mark {
    call: CallId,
    at: Timestamp,
    agent: Label,
    conversation: u64,
    edge: u64,
    tokens: u64,
}

impl Reach {
    fn of(scope: Scope, ask: &Ask) -> Self {
        match scope {
            Scope::Conversation => Self::Conversation(ask.conversation),
            Scope::Edge => Self::Request(ask.first_request()),
            Scope::Run => Self::Run,
        }
    }

    fn covers(self, ask: &Ask) -> bool {
        match self {
            Self::Conversation(of) => of == ask.conversation,
            Self::Request(of) => ask.kind == Kind::Fresh && of == ask.first_request(),
            Self::Run => true,
        }
    }
}

fn edge(ask: &Ask) -> u64 {
    Mixer::of(&[ask.caller, ask.agent])
}

impl Guard {
    /// Judges a call. What an open trip bars leaves no trace in what is remembered.
    pub fn judge(&mut self, ask: &Ask, caller: &Caller<'_>, policy: &Policy) -> Verdict {
        let mut verdict = Verdict::default();
        if policy.settings.mode == Mode::Off {
            return verdict;
        }
        if let Some(beyond) = self.beyond(ask, caller.now, &policy.limits)
            && policy.settings.mode == Mode::Break
        {
            verdict.refusal = Some(No::Beyond(beyond));
            return verdict;
        }
        if let Some(trip) = self.barred(ask, (caller.now, policy), &mut verdict) {
            verdict.refusal = Some(No::Tripped(Box::new(trip)));
            return verdict;
        }
        let found = self.watch.ask(ask, &policy.settings);
        self.settle_probes(&found, ask, (caller, policy), &mut verdict);
        if verdict.refusal.is_none() {
            self.decide(&found, ask, (caller, policy), &mut verdict);
        }
        if verdict.refusal.is_none() {
            self.count(ask, caller);
        }
        verdict
    }

    /// Judges a call that a client's library repeats by itself: it is no new evidence, where the call
    /// that it repeats was any.
    pub fn judge_retry(&mut self, ask: &Ask, caller: &Caller<'_>, policy: &Policy) -> Verdict {
        if !self.watch.knows(ask) {
            return self.judge(ask, caller, policy);
        }
        let mut verdict = Verdict::default();
        if let Some(trip) = self.barred(ask, (caller.now, policy), &mut verdict) {
            verdict.refusal = Some(No::Tripped(Box::new(trip)));
        }
        verdict
    }

    /// The answer to a call that was let through.
    pub fn answer(&mut self, conversation: u64, answer: &Answer, idle_ms: Option<u64>) {
        self.watch.answer(conversation, answer, idle_ms);
    }

    /// A call that was let through got no answer.
    pub fn fail(&mut self, conversation: u64) {
        self.watch.fail(conversation);
    }

    /// What a call used, for the evidence.
    pub fn used(&mut self, call: CallId, tokens: u64) {
        let mark = self.recent.iter_mut().rev().find(|mark| mark.call == call);
        if let Some(mark) = mark {
            mark.tokens = tokens;
        }
    }

    pub fn open_trips(&self) -> impl Iterator<Item = &Trip> {
        self.open.iter().map(|open| &open.trip)
    }

    /// Whether a conversation was refused moments ago: who begins it anew at once does not heed that.
    pub fn was_just_refused(&self, conversation: u64, now: Timestamp) -> bool {
        self.open.iter().any(|open| {
            let covers =
                matches!(open.reach, Reach::Run) || open.reach == Reach::Conversation(conversation);
            covers && now.micros_since(open.refused_at) < AT_ONCE_US
        })
    }

    /// Closes a trip by its id: its pattern has to show again from nothing, or `allow` more calls
    /// of it pass whatever they repeat.
    pub fn reset(&mut self, id: CallId, allow: u32, now: Timestamp) -> Option<Trip> {
        let at = self.open.iter().position(|open| open.trip.id == id)?;
        let open = self.open.remove(at);
        self.watch.forgive();
        self.warned.clear();
        if allow > 0 {
            self.allowed.retain(|(reach, _)| *reach != open.reach);
            self.allowed.push((open.reach, allow));
        }
        Some(closed(open, now, ClosedBy::Operator))
    }

    /// The run is over or forgotten: so are its trips.
    pub fn end(&mut self, now: Timestamp) -> Vec<Trip> {
        let open = std::mem::take(&mut self.open);
        let ended = open.into_iter();
        ended.map(|open| closed(open, now, ClosedBy::End)).collect()
    }

    fn beyond(&mut self, ask: &Ask, now: Timestamp, limits: &RunLimits) -> Option<Beyond> {
        let over = |limit: Option<u32>, count: u32| limit.filter(|limit| count > *limit);
        if let Some(most) = over(limits.max_depth, ask.depth) {
            return Some(Beyond::Depth(most));
        }
        if let Some(most) = over(limits.max_calls, self.calls + 1) {
            return Some(Beyond::Calls(most));
        }
        let pace = self.pace.calls(now);
        if let Some(most) = over(limits.max_calls_per_minute, pace + 1) {
            let second = u64::try_from(now.micros()).unwrap_or(0) / 1_000_000 % 60;
            return Some(Beyond::CallsPerMinute(most, 60 - second));
        }
        let begun = self.fan_out.get(&ask.caller).copied().unwrap_or(0);
        let begins = ask.kind == Kind::Fresh && ask.caller != 0;
        over(limits.max_fan_out.filter(|_| begins), begun + 1).map(Beyond::FanOut)
    }

    /// The open trip that bars a call. A user who says something new closes all there are; after
    /// the cool-down one call is let through.
    fn barred(
        &mut self,
        ask: &Ask,
        (now, policy): (Timestamp, &Policy),
        verdict: &mut Verdict,
    ) -> Option<Trip> {
        if policy.settings.mode != Mode::Break {
            return None;
        }
        let covering: Vec<usize> = (0..self.open.len())
            .filter(|at| {
                self.open
                    .get(*at)
                    .is_some_and(|open| open.reach.covers(ask))
            })
            .collect();
        if covering.is_empty() {
            return None;
        }
        if self.watch.hears_user(ask) {
            for at in covering.into_iter().rev() {
                let open = self.open.remove(at);
                verdict.changed.push(closed(open, now, ClosedBy::User));
            }
            self.watch.forgive();
            self.warned.clear();
            return None;
        }
        let bars = |at: &&usize| {
            let open = self.open.get(**at);
            open.is_some_and(|open| !self.passes(open, ask, now))
        };
        if let Some(at) = covering.iter().find(bars) {
            let open = self.open.get_mut(*at)?;
            open.trip.refused += 1;
            open.refused_at = now;
            return Some(open.trip.clone());
        }
        for at in covering {
            let settles = self
                .open
                .get(at)
                .is_some_and(|open| self.settles(open, ask));
            if let Some(open) = self.open.get_mut(at).filter(|_| !settles) {
                verdict.is_probe = true;
                let conversation = ask.conversation;
                open.probe = Some(Probe {
                    conversation,
                    at: now,
                });
            }
        }
        None
    }

    /// Whether a trip lets a call through: as a probe once it has cooled down, or as the call that
    /// tells what came of the last one.
    fn passes(&self, open: &Open, ask: &Ask, now: Timestamp) -> bool {
        match open.probe {
            None => now >= open.until,
            Some(probe) => {
                let is_late = now.micros_since(probe.at) >= open.cool_down_us;
                is_late || self.settles(open, ask)
            }
        }
    }

    /// A probe of this trip is over, and this call tells what came of it.
    fn settles(&self, open: &Open, ask: &Ask) -> bool {
        let Some(probe) = open.probe else {
            return false;
        };
        let is_own = probe.conversation == ask.conversation;
        let is_over = is_own && ask.said.is_some() || !self.watch.is_running(probe.conversation);
        let follows = is_own || ask.kind == Kind::Fresh || open.reach == Reach::Run;
        is_over && follows && tells(&open.trip, ask)
    }

    /// What the call after a probe shows decides whether the trip stays.
    fn settle_probes(
        &mut self,
        found: &[Finding],
        ask: &Ask,
        (caller, policy): (&Caller<'_>, &Policy),
        verdict: &mut Verdict,
    ) {
        if verdict.is_probe || policy.settings.mode != Mode::Break {
            return;
        }
        let is_probed = |open: &Open| open.probe.is_some() && open.reach.covers(ask);
        let (probed, others): (Vec<Open>, Vec<Open>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(is_probed);
        self.open = others;
        let goes_on = found.iter().any(Finding::trips);
        for mut open in probed {
            if !goes_on {
                let trip = closed(open, caller.now, ClosedBy::Probe);
                verdict.changed.push(trip);
                continue;
            }
            open.probe = None;
            open.cool_down_us =
                (open.cool_down_us * 2).clamp(policy.cool_down_us, MAX_COOL_DOWN_US);
            open.until = caller.now.plus_micros(open.cool_down_us);
            open.trip.refused += 1;
            open.refused_at = caller.now;
            verdict.refusal = Some(No::Tripped(Box::new(open.trip.clone())));
            self.open.push(open);
        }
    }

    fn decide(
        &mut self,
        found: &[Finding],
        ask: &Ask,
        (caller, policy): (&Caller<'_>, &Policy),
        verdict: &mut Verdict,
    ) {
        let mode = policy.settings.mode;
        let may_trip = |finding: &&Finding| {
            finding.trips() && (finding.scope != Scope::Run || caller.is_run_certain)
        };
        let trips = found
            .iter()
            .filter(may_trip)
            .min_by_key(|finding| finding.scope);
        if let Some(finding) = trips.filter(|_| mode == Mode::Break && !verdict.is_probe)
            && !self.is_allowed(ask)
        {
            let trip = self.trip(finding, ask, (caller, policy), verdict);
            verdict.changed.push(trip.clone());
            verdict.refusal = Some(No::Tripped(Box::new(trip)));
            return;
        }
        let strength = |finding: &&Finding| (finding.trips(), finding.slow_steps(), finding.count);
        let Some(strongest) = found.iter().max_by_key(strength) else {
            self.warned.retain(|(of, ..)| *of != ask.conversation);
            return;
        };
        if self.is_first(strongest, ask, false) {
            verdict.told = Some(self.evidence(strongest, ask, caller.now));
        }
        verdict.warning = Some(*strongest);
        let steps = strongest.slow_steps();
        if mode >= Mode::Slow && steps > 0 {
            let delay = FIRST_DELAY_MS << (steps - 1).min(16);
            verdict.delay_ms = delay.min(policy.max_delay_ms);
            if verdict.delay_ms > 0 && self.is_first(strongest, ask, true) {
                verdict.slowed = Some(self.evidence(strongest, ask, caller.now));
            }
        }
    }

    /// Whether this was not told while it went on.
    fn is_first(&mut self, found: &Finding, ask: &Ask, slows: bool) -> bool {
        let kind = (ask.conversation, found.signal, found.scope, slows);
        if self.warned.contains(&kind) {
            return false;
        }
        if self.warned.len() >= MAX_WARNED {
            self.warned.remove(0);
        }
        self.warned.push(kind);
        true
    }

    /// Whether an operator lets the pattern go on for a while.
    fn is_allowed(&mut self, ask: &Ask) -> bool {
        let covers = |(reach, _): &&mut (Reach, u32)| reach.covers(ask);
        let Some((_, left)) = self.allowed.iter_mut().find(covers) else {
            return false;
        };
        *left = left.saturating_sub(1);
        self.allowed.retain(|(_, left)| *left > 0);
        true
    }

    fn trip(
        &mut self,
        finding: &Finding,
        ask: &Ask,
        (caller, policy): (&Caller<'_>, &Policy),
        verdict: &mut Verdict,
    ) -> Trip {
        let trip = Trip {
            id: caller.call,
            at: caller.now,
            run: caller.run.cloned(),
            conversation: caller.conversation.cloned(),
            agent: caller.agent.clone(),
            caller: caller.caller.cloned(),
            evidence: self.evidence(finding, ask, caller.now),
            refused: 1,
            closed: None,
        };
        if self.open.len() >= MAX_OPEN {
            let oldest = self
                .open
                .iter()
                .enumerate()
                .min_by_key(|(_, open)| open.trip.at);
            let oldest = self.open.remove(oldest.map_or(0, |(at, _)| at));
            let closed = closed(oldest, caller.now, ClosedBy::End);
            verdict.changed.push(closed);
        }
        self.open.push(Open {
            reach: Reach::of(finding.scope, ask),
            trip: trip.clone(),
            until: caller.now.plus_micros(policy.cool_down_us),
            cool_down_us: policy.cool_down_us,
            refused_at: caller.now,
            probe: None,
        });
        trip
    }

    fn evidence(&self, finding: &Finding, ask: &Ask, now: Timestamp) -> Evidence {
        let (reach, edge) = (Reach::of(finding.scope, ask), edge(ask));
        let belongs = |mark: &&Mark| match reach {
            Reach::Conversation(of) => mark.conversation == of,
            Reach::Request(_) => mark.edge == edge,
            Reach::Run => true,
        };
        let last = self.recent.iter().rev().filter(belongs);
        let mut marks: Vec<&Mark> = last.take(finding.calls.max(1) as usize).collect();
        marks.reverse();
        let mut agents: Vec<Label> = Vec::new();
        for mark in &marks {
            if !agents.contains(&mark.agent) {
                agents.push(mark.agent.clone());
            }
        }
        Evidence {
            signal: finding.signal,
            scope: finding.scope,
            period: finding.period,
            count: finding.count,
            agents,
            calls: marks.iter().map(|mark| mark.call).collect(),
            since: marks.first().map_or(now, |mark| mark.at),
            tokens: marks.iter().map(|mark| mark.tokens).sum(),
            sample: self.watch.sample(ask.conversation),
        }
    }

    fn count(&mut self, ask: &Ask, caller: &Caller<'_>) {
        self.calls = self.calls.saturating_add(1);
        self.pace.count();
        if ask.kind == Kind::Fresh && ask.caller != 0 {
            if self.fan_out.len() >= MAX_CALLERS && !self.fan_out.contains_key(&ask.caller) {
                self.fan_out.clear();
            }
            *self.fan_out.entry(ask.caller).or_default() += 1;
        }
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Mark {
            call: caller.call,
            at: caller.now,
            agent: caller.agent.clone(),
            conversation: ask.conversation,
            edge: edge(ask),
            tokens: 0,
        });
    }
}

/// Whether a call tells what came of a probe: patterns go on with calls that go on, and one that is
/// sent again tells nothing but of requests sent again.
fn tells(trip: &Trip, ask: &Ask) -> bool {
    match (trip.evidence.signal, ask.kind) {
        (Signal::SameRequest, _) => true,
        (Signal::Repeat | Signal::Period, kind) => kind == Kind::Next,
        (_, kind) => kind != Kind::Again,
    }
}

fn closed(open: Open, at: Timestamp, by: ClosedBy) -> Trip {
    Trip {
        closed: Some(Closed { at, by }),
        ..open.trip
    }
}
