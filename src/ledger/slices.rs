//! What is kept per minute, hour and day: what each agent used of each model at each upstream, and
//! what each agent did for each caller, with how long it took.
//!
//! A call counts into the slices of the time it started in, all of them UTC. Minutes are kept for two
//! days, hours for sixty, both only as far back as the log reaches; days outlive it in checkpoints.

use minicbor::{Decode, Encode};

use crate::core::call::{Outcome, Settlement};
use crate::core::id::Label;
use crate::core::time::Timestamp;

use super::rows::{CallRow, Figures};
use super::sketch::{Sketch, says_how_fast};
use super::summary::{END, Rollup, labels};
use super::totals::Totals;

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;

/// How long a slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Grain {
    Minute,
    Hour,
    Day,
}

impl Grain {
    pub(crate) const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    pub(crate) const fn micros(self) -> i64 {
        match self {
            Self::Minute => MINUTE_US,
            Self::Hour => HOUR_US,
            Self::Day => DAY_US,
        }
    }

    /// How long slices of it are kept; none for ever.
    const fn kept_us(self) -> Option<i64> {
        match self {
            Self::Minute => Some(2 * DAY_US),
            Self::Hour => Some(60 * DAY_US),
            Self::Day => None,
        }
    }

    /// The beginning of the slice that holds `at`.
    pub(crate) fn floor(self, at: Timestamp) -> Timestamp {
        let number = at.micros().div_euclid(self.micros());
        Timestamp::from_micros(number.saturating_mul(self.micros()))
    }

    /// The beginning of the first slice that begins at `at` or later.
    pub(crate) fn ceil(self, at: Timestamp) -> Timestamp {
        let floor = self.floor(at);
        if floor == at { at } else { self.after(floor) }
    }

    /// The end of the slice that begins at `start`.
    pub(crate) fn after(self, start: Timestamp) -> Timestamp {
        Timestamp::from_micros(start.micros().saturating_add(self.micros()))
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Minute => b'm',
            Self::Hour => b'h',
            Self::Day => b'd',
        }
    }

    fn of_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|grain| grain.tag() == tag)
    }
}

/// What slices are told apart by within one stretch of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub(crate) enum Of {
    #[n(0)]
    Work(#[n(0)] Work),
    /// Caller, agent.
    #[n(1)]
    Edge(#[n(0)] Label, #[n(1)] Label),
    /// Runs in which this agent was seen for the first time.
    #[n(2)]
    Joined(#[n(0)] Label),
}

/// Whose calls, answered by what, where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub(crate) struct Work {
    #[n(0)]
    pub(crate) agent: Label,
    #[n(1)]
    pub(crate) model: Option<Label>,
    #[n(2)]
    pub(crate) upstream: Label,
}

/// The kinds of [`Of`]: slices of one kind lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Work,
    Edge,
    Joined,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Work, Self::Edge, Self::Joined];

    const fn tag(self) -> u8 {
        match self {
            Self::Work => b'w',
            Self::Edge => b'e',
            Self::Joined => b'j',
        }
    }
}

impl Of {
    pub(crate) fn work(row: &CallRow) -> Self {
        Self::Work(Work {
            agent: row.agent.clone(),
            model: row.model.clone(),
            upstream: row.upstream.clone(),
        })
    }

    /// What a call that ended counts into.
    pub(crate) fn of_settlement(settlement: &Settlement) -> impl Iterator<Item = Self> {
        let agent = &settlement.agent;
        let work = Self::Work(Work {
            agent: agent.clone(),
            model: settlement.model.clone(),
            upstream: settlement.upstream.clone(),
        });
        let caller = settlement.caller.clone();
        let edge = caller.map(|caller| Self::Edge(caller, agent.clone()));
        [work].into_iter().chain(edge)
    }

    /// None of a call that nobody is known to have invoked.
    pub(crate) fn edge(row: &CallRow) -> Option<Self> {
        let caller = row.caller.clone()?;
        Some(Self::Edge(caller, row.agent.clone()))
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Work(_) => Kind::Work,
            Self::Edge(..) => Kind::Edge,
            Self::Joined(_) => Kind::Joined,
        }
    }
}

/// One slice's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SliceKey {
    pub(crate) grain: Grain,
    /// When it begins.
    pub(crate) start: Timestamp,
    pub(crate) of: Of,
}

/// Flipped so that times before the epoch sort before those after it.
const SIGN: u64 = 1 << 63;

impl SliceKey {
    pub(crate) const PREFIX: usize = 10;

    /// What sorts before all slices of a grain.
    pub(crate) fn first_of(grain: Grain) -> [u8; 1] {
        [grain.tag()]
    }

    /// What the keys of slices of one kind begin with that begin at `start`.
    pub(crate) fn prefix(grain: Grain, kind: Kind, start: Timestamp) -> [u8; Self::PREFIX] {
        let mut key = [0; Self::PREFIX];
        let [its_grain, its_kind, its_start @ ..] = &mut key;
        (*its_grain, *its_kind) = (grain.tag(), kind.tag());
        *its_start = (start.micros().cast_unsigned() ^ SIGN).to_be_bytes();
        key
    }

    /// When the slice begins whose key begins so.
    pub(crate) fn start_of([_, _, start @ ..]: [u8; Self::PREFIX]) -> Timestamp {
        Timestamp::from_micros((u64::from_be_bytes(start) ^ SIGN).cast_signed())
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        key.extend_from_slice(&Self::prefix(self.grain, self.of.kind(), self.start));
        let mut put = |label: &str| {
            key.extend_from_slice(label.as_bytes());
            key.push(END);
        };
        match &self.of {
            Of::Work(work) => {
                put(work.agent.as_str());
                put(work.model.as_ref().map_or("", Label::as_str));
                put(work.upstream.as_str());
            }
            Of::Edge(caller, agent) => {
                put(caller.as_str());
                put(agent.as_str());
            }
            Of::Joined(agent) => put(agent.as_str()),
        }
        key
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (prefix, rest) = bytes.split_first_chunk::<{ Self::PREFIX }>()?;
        let [grain, kind, ..] = *prefix;
        let mut labels = labels(rest);
        let of = match kind {
            b'w' => Of::Work(Work {
                agent: labels.next()??,
                model: labels.next()?,
                upstream: labels.next()??,
            }),
            b'e' => Of::Edge(labels.next()??, labels.next()??),
            b'j' => Of::Joined(labels.next()??),
            _ => return None,
        };
        Some(Self {
            grain: Grain::of_tag(grain)?,
            start: Self::start_of(*prefix),
            of,
        })
    }

    /// The day that a checkpoint of an older version has.
    pub(crate) fn of_rollup(rollup: Rollup) -> Self {
        Self {
            grain: Grain::Day,
            start: Timestamp::of_day(rollup.day),
            of: Of::Work(Work {
                agent: rollup.agent,
                model: rollup.model,
                upstream: rollup.upstream,
            }),
        }
    }
}

/// What calls of one slice used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Slice {
    /// When the first of them started.
    #[n(0)]
    pub(crate) first_at: Timestamp,
    /// When the last of them ended, of those that started in it.
    #[n(1)]
    pub(crate) last_at: Timestamp,
    #[n(2)]
    pub(crate) totals: Totals,
    #[n(3)]
    duration: Sketch,
    #[n(4)]
    first_chunk: Sketch,
    /// Of [`Of::Joined`]: how many runs.
    #[n(5)]
    pub(crate) runs: u64,
}

impl Slice {
    pub(crate) fn of_totals(first_at: Timestamp, last_at: Timestamp, totals: Totals) -> Self {
        Self {
            first_at,
            last_at,
            totals,
            ..Self::default()
        }
    }

    /// Of one call; none while it is open.
    pub(crate) fn of_row(row: &CallRow) -> Option<Self> {
        let mut slice = Self::of_totals(row.started_at, row.last_at(), Totals::of_row(row)?);
        slice.time(row.outcome?, row.duration_us?, row.first_chunk_us);
        Some(slice)
    }

    /// Takes in how long a call took.
    fn time(&mut self, outcome: Outcome, total_us: u64, first_chunk_us: Option<u64>) {
        if says_how_fast(outcome) {
            self.duration.add(total_us);
            if let Some(micros) = first_chunk_us {
                self.first_chunk.add(micros);
            }
        }
    }

    /// Of an agent that came into a run.
    pub(crate) fn joined(at: Timestamp) -> Self {
        Self {
            runs: 1,
            ..Self::of_totals(at, at, Totals::default())
        }
    }

    /// Widens the time this is of; a new one covers just `from` to `to`.
    pub(crate) fn cover(&mut self, from: Timestamp, to: Timestamp) {
        // No call ran at the epoch.
        if (self.first_at, self.last_at) == Default::default() {
            (self.first_at, self.last_at) = (from, to);
        } else {
            self.first_at = self.first_at.min(from);
            self.last_at = self.last_at.max(to);
        }
    }

    /// Counts a call that ended.
    pub(crate) fn add(&mut self, settlement: &Settlement, ended: Timestamp, totals: &Totals) {
        self.cover(settlement.started_at, ended);
        self.totals.add(totals);
        let timings = &settlement.timings;
        self.time(settlement.outcome, timings.total_us, timings.first_chunk_us);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.cover(other.first_at, other.last_at);
        self.totals.add(&other.totals);
        self.duration.merge(&other.duration);
        self.first_chunk.merge(&other.first_chunk);
        self.runs += other.runs;
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            totals: self.totals,
            duration: self.duration.latency(),
            first_chunk: self.first_chunk.latency(),
        }
    }
}

/// From when on there are slices, as far as the index has seen. Whatever order records come in, the
/// slices that are kept are those that begin at or after that, each with all of its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Reach {
    /// The start of the latest call that ended, of those that are believed.
    #[n(0)]
    pub(crate) newest: Timestamp,
    /// Calls that were settled from then on are in the log; none when all ever were.
    #[n(1)]
    pub(crate) floor: Option<Timestamp>,
    /// The earliest start of the calls that came last, where all of them are too far ahead to be
    /// believed.
    #[n(2)]
    pub(crate) ahead: Option<Timestamp>,
}

/// A start this far ahead of all before is believed once calls went on for as long after it: until
/// then a clock may have been wrong. What is old goes that much later then.
const LEAP_US: i64 = DAY_US;

impl Reach {
    /// Takes in the start of a call, in the order of the log.
    pub(crate) fn see(&mut self, at: Timestamp) {
        let is_leap = |from: Timestamp| at.micros().saturating_sub(from.micros()) > LEAP_US;
        if !is_leap(self.newest) {
            self.newest = self.newest.max(at);
            self.ahead = None;
            return;
        }
        match self.ahead {
            Some(first) if is_leap(first) => {
                self.newest = at;
                self.ahead = None;
            }
            first => self.ahead = Some(first.map_or(at, |first| first.min(at))),
        }
    }

    /// The beginning of the first slice of this grain that is kept; none when all are.
    pub(crate) fn from(&self, grain: Grain) -> Option<Timestamp> {
        let kept = grain.kept_us()?;
        // Rounded, so that they go in heaps and not one by one.
        let coarser = if grain == Grain::Minute {
            Grain::Hour
        } else {
            Grain::Day
        };
        let oldest = self.newest.micros().saturating_sub(kept);
        let oldest = coarser.floor(Timestamp::from_micros(oldest));
        let floor = self.floor.map(|floor| grain.ceil(floor));
        Some(floor.map_or(oldest, |floor| floor.max(oldest)))
    }

    /// The log holds only what was settled from `at` on.
    pub(crate) fn raise(&mut self, at: Timestamp) {
        self.newest = self.newest.max(at);
        self.floor = self.floor.max(Some(at));
    }

    pub(crate) fn keeps(&self, grain: Grain, start: Timestamp) -> bool {
        self.from(grain).is_none_or(|from| start >= from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> Label {
        Label::parse(text).unwrap()
    }

    #[test]
    fn keys_are_read_as_they_were_written_and_sort_by_time() {
        let work = |model: Option<&str>| {
            Of::Work(Work {
                agent: label("planner"),
                model: model.map(label),
                upstream: label("openai"),
            })
        };
        let edge = Of::Edge(label("planner"), label("critic"));
        let mut last = Vec::new();
        for start in [-1, 0, 1, 1_767_225_600_000_000] {
            let start = Grain::Minute.floor(Timestamp::from_micros(start));
            let joined = Of::Joined(label("x"));
            for of in [work(None), work(Some("m")), edge.clone(), joined] {
                let grain = Grain::Minute;
                let key = SliceKey { grain, start, of };
                assert_eq!(SliceKey::from_bytes(&key.to_bytes()), Some(key));
            }
            let key = SliceKey::prefix(Grain::Minute, Kind::Work, start).to_vec();
            assert!(last <= key);
            last = key;
        }
    }

    #[test]
    fn slices_are_kept_for_so_long_and_no_further_than_the_log_reaches() {
        let newest = Timestamp::from_micros(100 * DAY_US + 90 * MINUTE_US);
        let reach = Reach {
            newest,
            floor: None,
            ahead: None,
        };
        let from = |reach: Reach, grain| reach.from(grain).map(Timestamp::micros);
        assert_eq!(
            from(reach, Grain::Minute),
            Some(98 * DAY_US + HOUR_US),
            "whole hours go"
        );
        assert_eq!(from(reach, Grain::Hour), Some(40 * DAY_US));
        assert_eq!(from(reach, Grain::Day), None);
        let floor = Some(Timestamp::from_micros(99 * DAY_US + 1));
        let reach = Reach { floor, ..reach };
        assert_eq!(from(reach, Grain::Minute), Some(99 * DAY_US + MINUTE_US));
        assert_eq!(from(reach, Grain::Hour), Some(99 * DAY_US + HOUR_US));
    }

    #[test]
    fn a_clock_that_is_wrong_for_less_than_a_day_lets_nothing_go() {
        let at = |hour: i64| Timestamp::from_micros(hour * HOUR_US);
        let mut reach = Reach::default();
        for hour in 2400..2450 {
            reach.see(at(hour));
        }
        assert_eq!(reach.newest, at(2449));
        for minute in 0..500 {
            let wrong = at(12_000).micros() + minute * MINUTE_US;
            reach.see(Timestamp::from_micros(wrong));
            assert_eq!(reach.newest, at(2449));
        }
        reach.see(at(2450));
        assert_eq!((reach.newest, reach.ahead), (at(2450), None));
        // What goes on for longer is so.
        for hour in 12_000..12_030 {
            reach.see(at(hour));
        }
        assert_eq!(reach.newest, at(12_029));
    }
}
