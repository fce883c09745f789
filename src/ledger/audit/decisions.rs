//! The decisions on record, each with its place in the log and the chain there: what was let through
//! under conditions, slowed, stopped, refused, told, changed and deleted, and by whom.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::core::budget::{Act, Deed};
use crate::core::call::{Admission, Outcome, Settlement};
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;

use super::super::OpenError;
use super::super::log::{LogReader, Segment, Step};
use super::super::record::{Event, Position, kind};
use super::super::recovery::open_catalog;
use super::super::removal::{Removal, Removed};
use super::super::storage::{Disk, Storage};
use super::report::TakenOut;
use super::{ATTEMPTS, Anchor};

/// Records wait before they are written: as long as this at most.
const WAIT_US: i64 = 24 * 3_600_000_000;

/// Which decisions are asked for.
#[derive(Clone, Debug, Default)]
pub struct DecisionFilter {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub run: Option<Label>,
    pub agent: Option<Label>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub at: Timestamp,
    /// Of the record that says so: its segment, and the byte of that file where it begins.
    pub segment: u64,
    pub offset: u64,
    /// The chain behind it, as an anchor: it stands for this decision and all that came before.
    pub anchor: Anchor,
    /// What it was, as events are called; of calls `call_decided`, `call_rejected` and `call_cut`.
    pub what: String,
    /// The program itself, or an operator.
    pub who: String,
    pub run: Option<String>,
    pub agent: Option<String>,
    /// The call it was about, or at which a loop was stopped.
    pub call: Option<CallId>,
    pub details: Option<String>,
}

/// Gives every decision that `filter` asks for to `take`, oldest first, until that says false. A
/// server may run on the ledger. Says how many parts of the log could not be read or do not belong
/// there.
pub fn each_decision(
    dir: &Path,
    filter: &DecisionFilter,
    take: &mut dyn FnMut(Decision) -> bool,
) -> Result<u64, OpenError> {
    let log = dir.join("log");
    if !log.is_dir() {
        return Err(OpenError::Missing {
            dir: dir.to_owned(),
        });
    }
    let storage = Disk::at(&log);
    let mut walk = Walk {
        filter,
        take,
        damages: 0,
        after: Position::default(),
    };
    let mut attempt = 0;
    loop {
        let segments = open_catalog(&storage)?.all();
        attempt += 1;
        match walk.read(&storage, &segments) {
            Ok(()) => return Ok(walk.damages),
            // Beside a server the oldest segments may go meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {}
            Err(source) => return Err(OpenError::Unreadable { path: log, source }),
        }
    }
}

struct Walk<'a> {
    filter: &'a DecisionFilter,
    take: &'a mut dyn FnMut(Decision) -> bool,
    damages: u64,
    /// Whatever lies before this was read already.
    after: Position,
}

impl Walk<'_> {
    fn read(&mut self, storage: &dyn Storage, segments: &[Segment]) -> io::Result<()> {
        let segments = self.within(segments);
        let mut reader = LogReader::from_start(storage, segments);
        loop {
            let (found, at) = match reader.next()? {
                None => return Ok(()),
                Some(Step::Record { at, kind, payload }) => (told(kind, payload), at),
                Some(Step::Damage(damage)) => {
                    self.damages += u64::from(damage.at >= self.after);
                    continue;
                }
                Some(Step::Entered(segment)) => {
                    let begun = segment.header.map(|header| header.created_at.micros());
                    let until = self.filter.until.map(|until| until.micros() + WAIT_US);
                    if begun.zip(until).is_some_and(|(begun, until)| begun > until) {
                        return Ok(());
                    }
                    continue;
                }
            };
            let here = reader.cursor();
            let is_new = at >= self.after;
            self.after = self.after.max(here.position);
            let wanted = found.filter(|told| is_new && self.filter.wants(told));
            if let Some(told) = wanted
                && !(self.take)(told.at(at, Anchor::of(here)))
            {
                return Ok(());
            }
        }
    }

    /// Segments that may hold something of the time that is asked for.
    fn within<'s>(&self, segments: &'s [Segment]) -> &'s [Segment] {
        let Some(since) = self.filter.since else {
            return segments;
        };
        // What a segment holds was written before the next one was begun.
        let is_over = |next: &Segment| next.header.is_some_and(|next| next.created_at < since);
        let next = segments.iter().skip(1);
        let skipped = next.take_while(|next| is_over(next)).count();
        segments.get(skipped..).unwrap_or_default()
    }
}

/// What a record tells.
struct Told {
    at: Timestamp,
    who: String,
    what: String,
    run: Option<String>,
    agent: Option<String>,
    call: Option<CallId>,
    details: Option<String>,
}

impl Told {
    fn at(self, Position { segment, offset }: Position, anchor: Anchor) -> Decision {
        Decision {
            at: self.at,
            segment,
            offset,
            anchor,
            what: self.what,
            who: self.who,
            run: self.run,
            agent: self.agent,
            call: self.call,
            details: self.details,
        }
    }
}

impl DecisionFilter {
    fn wants(&self, told: &Told) -> bool {
        let is = |wanted: Option<&Label>, told: Option<&String>| {
            wanted.is_none_or(|wanted| told.is_some_and(|told| told == wanted.as_str()))
        };
        self.since.is_none_or(|since| told.at >= since)
            && self.until.is_none_or(|until| told.at < until)
            && is(self.run.as_ref(), told.run.as_ref())
            && is(self.agent.as_ref(), told.agent.as_ref())
    }
}

/// What was decided, if a record tells of that.
fn told(kind: u8, payload: &[u8]) -> Option<Told> {
    match kind {
        kind::EVENT => minicbor::decode(payload).ok().map(of_event),
        kind::ACT => minicbor::decode(payload).ok().map(of_act),
        kind::REMOVAL => Removal::parse(payload).map(of_removal),
        kind::ADMISSION => of_admission(minicbor::decode(payload).ok()?),
        kind::SETTLEMENT => of_settlement(minicbor::decode(payload).ok()?),
        _ => None,
    }
}

fn of_event(event: Event) -> Told {
    let scope = event.signal.as_ref().map(|signal| &signal.scope);
    let run = scope.and_then(|scope| scope.run());
    let run = run.or_else(|| event.details.as_deref().and_then(run_in));
    let (run, agent) = (
        run.map(str::to_owned),
        scope.and_then(|scope| scope.agent()).map(str::to_owned),
    );
    let trip = event.trip;
    let name = |label: &Label| label.as_str().to_owned();
    Told {
        at: event.at,
        who: event.who,
        what: event.what,
        run: trip
            .as_ref()
            .map_or(run, |trip| trip.run.as_ref().map(name)),
        agent: trip.as_ref().map_or(agent, |trip| Some(name(&trip.agent))),
        call: trip.map(|trip| trip.id),
        details: event.details,
    }
}

/// The run in the words that tell what was done to it as a whole.
fn run_in(details: &str) -> Option<&str> {
    let run = details.strip_prefix("run ")?;
    Some(run.split_once(", part of ").map_or(run, |(run, _)| run))
}

fn of_act(act: Act) -> Told {
    let what: &str = (&act.deed).into();
    let run = match &act.deed {
        Deed::RunTightened(run, _) => Some(run),
        deed => deed.control().map(|(run, _)| run),
    };
    Told {
        at: act.at,
        who: act.who,
        what: what.to_owned(),
        run: run.map(|run| run.as_str().to_owned()),
        agent: None,
        call: None,
        details: Some(act.details),
    }
}

fn of_removal(removal: Removal) -> Told {
    let taken = match &removal.what {
        Removed::Front { before, .. } => TakenOut::Segments {
            before: *before,
            rounds: 1,
        },
        Removed::Records { segments } => {
            let numbers = || segments.iter().map(|erased| erased.number);
            TakenOut::Records {
                records: segments.iter().map(|it| it.iter().count() as u64).sum(),
                first: numbers().min().unwrap_or_default(),
                last: numbers().max().unwrap_or_default(),
            }
        }
    };
    let details = Some(taken.words());
    let event = Event::from(removal);
    Told {
        details,
        ..of_event(event)
    }
}

/// What its budgets did to a call that was let through.
fn of_admission(admission: Admission) -> Option<Told> {
    let details = Some(admission.decision?);
    let who = admission.attribution;
    Some(Told {
        at: admission.started_at,
        who: OWN.to_owned(),
        what: "call_decided".to_owned(),
        run: who.run.map(|run| run.as_str().to_owned()),
        agent: Some(who.agent.as_str().to_owned()),
        call: Some(admission.id),
        details,
    })
}

const OWN: &str = "open-aiops";

/// A call that was ended here.
fn of_settlement(settlement: Settlement) -> Option<Told> {
    let what = match settlement.outcome {
        Outcome::Rejected => "call_rejected",
        Outcome::Cut => "call_cut",
        _ => return None,
    };
    Some(Told {
        at: settlement.charged_at(),
        who: OWN.to_owned(),
        what: what.to_owned(),
        run: settlement.run.map(|run| run.as_str().to_owned()),
        agent: Some(settlement.agent.as_str().to_owned()),
        call: Some(settlement.id),
        details: settlement.error,
    })
}
