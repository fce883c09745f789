//! What the calls of a span come to: whole days, hours and minutes of it from their slices, and only
//! what is left at its two ends call by call.
//!
//! Where there are too many calls at an end, or the log no longer has them, the slice that is cut there
//! counts as a whole: the answer is then of a somewhat wider span, and says so.

use redb::ReadTransaction;

use crate::core::id::Label;
use crate::core::time::Timestamp;

use super::super::index::batch::decode;
use super::super::index::batch::slices::reach;
use super::super::index::{IndexError, SLICES};
use super::super::rows::{CallRow, RollupRow};
use super::super::slices::{Grain, Kind, Reach, Slice, SliceKey};
use super::super::totals::Totals;
use super::calls::{CallFilter, each_candidate};
use super::table;

/// Calls that are looked at for either end of a span.
const MAX_AT_AN_END: usize = 2000;

/// What a slice is of, while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfRef<'a> {
    Work {
        agent: &'a str,
        model: Option<&'a str>,
        upstream: &'a str,
    },
    Edge {
        caller: &'a str,
        agent: &'a str,
    },
    Joined {
        agent: &'a str,
    },
}

impl<'a> OfRef<'a> {
    /// Of the key of a slice, behind its prefix.
    fn parse(kind: Kind, bytes: &'a [u8]) -> Option<Self> {
        let mut texts = str::from_utf8(bytes).ok()?.split('\0');
        let mut next = || texts.next().filter(|text| !text.is_empty());
        Some(match kind {
            Kind::Work => {
                let (agent, model) = (next()?, next());
                let upstream = next()?;
                Self::Work {
                    agent,
                    model,
                    upstream,
                }
            }
            Kind::Edge => Self::Edge {
                caller: next()?,
                agent: next()?,
            },
            Kind::Joined => Self::Joined { agent: next()? },
        })
    }

    /// What a call counts into; none if it does not count into this kind.
    fn of_row(kind: Kind, row: &'a CallRow) -> Option<Self> {
        let agent = row.agent.as_str();
        match kind {
            Kind::Work => Some(Self::Work {
                agent,
                model: row.model.as_ref().map(Label::as_str),
                upstream: row.upstream.as_str(),
            }),
            Kind::Edge => Some(Self::Edge {
                caller: row.caller.as_ref()?.as_str(),
                agent,
            }),
            Kind::Joined => None,
        }
    }
}

impl OfRef<'_> {
    /// The row of a day; none if it is of something else.
    pub(super) fn rollup(self, day: i32, totals: Totals) -> Option<RollupRow> {
        let Self::Work {
            agent,
            model,
            upstream,
        } = self
        else {
            return None;
        };
        Some(RollupRow {
            day,
            agent: Label::parse(agent).ok()?,
            model: model.map(Label::parse).transpose().ok()?,
            upstream: Label::parse(upstream).ok()?,
            totals,
        })
    }
}

/// A span ready to be summed up.
pub(super) struct Span {
    /// What the sums are of; none is all time.
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    /// What is summed from slices.
    slices: Stretch,
    /// The slices that hold the span, its ends included.
    around: Stretch,
    /// The calls at its ends.
    ends: Vec<CallRow>,
}

/// From then until then; none is all time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stretch {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Stretch {
    fn is_empty(self) -> bool {
        self.from
            .zip(self.until)
            .is_some_and(|(from, until)| from >= until)
    }
}

impl Span {
    pub(super) fn new(
        txn: &ReadTransaction,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Self, IndexError> {
        let reach = reach(txn)?;
        let first = since.map(|since| End::first(since, reach));
        let lowest = first.map_or(Timestamp::from_micros(i64::MIN), |first| first.floor);
        let last = until.map(|until| End::last(until, lowest, reach));
        let mut span = Self {
            since,
            until,
            slices: Stretch {
                from: first.map(End::after),
                until: last.map(|last| last.floor),
            },
            around: Stretch {
                from: first.map(|first| first.floor),
                until: last.map(End::after),
            },
            ends: Vec::new(),
        };
        if let (Some(first), Some(last)) = (first, last)
            && first.after() > last.floor
        {
            // Both ends lie in one slice.
            span.around.until = span.around.until.max(Some(first.after()));
            if !span.look_at(txn, reach, (first.at, last.at))? {
                span.widen_start();
                span.widen_end();
            }
            return Ok(span);
        }
        if let Some(first) = first
            && !span.look_at(txn, reach, (first.at, first.after()))?
        {
            span.widen_start();
        }
        if let Some(last) = last
            && !span.look_at(txn, reach, (last.floor, last.at))?
        {
            span.widen_end();
        }
        Ok(span)
    }

    fn widen_start(&mut self) {
        self.slices.from = self.around.from;
        self.since = self.around.from;
    }

    fn widen_end(&mut self) {
        self.slices.until = self.around.until;
        self.until = self.around.until;
    }

    /// Takes in the calls that started from then to then; says whether that is all of them.
    fn look_at(
        &mut self,
        txn: &ReadTransaction,
        reach: Reach,
        (from, until): (Timestamp, Timestamp),
    ) -> Result<bool, IndexError> {
        if from >= until {
            return Ok(true);
        }
        if reach.floor.is_some_and(|floor| from < floor) {
            return Ok(false);
        }
        let filter = CallFilter {
            since: Some(from),
            until: Some(until),
            ..CallFilter::default()
        };
        let (mut looked, mut rows) = (0, Vec::new());
        each_candidate(txn, &filter, |call| {
            looked += 1;
            if filter.matches(&call.row) {
                rows.push(call.row);
            }
            looked < MAX_AT_AN_END
        })?;
        let all = looked < MAX_AT_AN_END;
        if all {
            self.ends.append(&mut rows);
        }
        Ok(all)
    }

    /// All calls of the span, summed up in slices of one kind. Agents that came into runs are known of
    /// whole slices only.
    pub(super) fn each(
        &self,
        txn: &ReadTransaction,
        kind: Kind,
        mut take: impl FnMut(OfRef<'_>, &Slice) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        for row in &self.ends {
            if let (Some(of), Some(slice)) = (OfRef::of_row(kind, row), Slice::of_row(row)) {
                take(of, &slice)?;
            }
        }
        let whole = if kind == Kind::Joined {
            self.around
        } else {
            self.slices
        };
        for (grain, stretch) in parts(whole) {
            each_slice(txn, (grain, kind), stretch, |_, of, slice| {
                take(of, &slice).map(|()| true)
            })?;
        }
        Ok(())
    }
}

/// One end of a span, and the slice that it cuts.
#[derive(Clone, Copy)]
struct End {
    at: Timestamp,
    grain: Grain,
    floor: Timestamp,
}

impl End {
    fn first(at: Timestamp, reach: Reach) -> Self {
        let kept = |grain: Grain| reach.keeps(grain, grain.floor(at));
        Self::with(at, kept)
    }

    /// Before it come the hours of its day and the minutes of its hour, as far as they lie behind
    /// `lowest`: those must be kept too.
    fn last(at: Timestamp, lowest: Timestamp, reach: Reach) -> Self {
        let hours = reach.keeps(Grain::Hour, lowest.max(Grain::Day.floor(at)));
        let minutes = reach.keeps(Grain::Minute, lowest.max(Grain::Hour.floor(at)));
        Self::with(at, |grain| match grain {
            Grain::Minute => minutes && (hours || reach.keeps(Grain::Minute, lowest)),
            Grain::Hour => hours,
            Grain::Day => true,
        })
    }

    /// With the finest grain that `is_kept`.
    fn with(at: Timestamp, is_kept: impl Fn(Grain) -> bool) -> Self {
        let grain = Grain::ALL.into_iter().find(|grain| is_kept(*grain));
        let grain = grain.unwrap_or(Grain::Day);
        let floor = grain.floor(at);
        Self { at, grain, floor }
    }

    /// The first moment behind the slice it cuts; itself where it cuts none.
    fn after(self) -> Timestamp {
        self.grain.ceil(self.at)
    }
}

/// The few long and many short slices that a stretch is made of.
fn parts(whole: Stretch) -> Vec<(Grain, Stretch)> {
    let mut parts = Vec::with_capacity(5);
    split(whole, Grain::Day, &mut parts);
    parts
}

fn split(whole: Stretch, grain: Grain, parts: &mut Vec<(Grain, Stretch)>) {
    if whole.is_empty() {
        return;
    }
    let finer = match grain {
        Grain::Day => Grain::Hour,
        Grain::Hour => Grain::Minute,
        Grain::Minute => {
            parts.push((grain, whole));
            return;
        }
    };
    let inner = Stretch {
        from: whole.from.map(|from| grain.ceil(from)),
        until: whole.until.map(|until| grain.floor(until)),
    };
    if inner.is_empty() {
        split(whole, finer, parts);
        return;
    }
    if let Some(from) = whole.from {
        let before = Stretch {
            from: Some(from),
            until: inner.from,
        };
        split(before, finer, parts);
    }
    parts.push((grain, inner));
    if let Some(until) = whole.until {
        let behind = Stretch {
            from: inner.until,
            until: Some(until),
        };
        split(behind, finer, parts);
    }
}

/// The slices of a stretch, in the order of time, until `take` has enough.
fn each_slice(
    txn: &ReadTransaction,
    (grain, kind): (Grain, Kind),
    stretch: Stretch,
    mut take: impl FnMut(Timestamp, OfRef<'_>, Slice) -> Result<bool, IndexError>,
) -> Result<(), IndexError> {
    let Some(slices) = table(txn, SLICES)? else {
        return Ok(());
    };
    let at = |time: Option<Timestamp>, none: i64| {
        let time = time.unwrap_or(Timestamp::from_micros(none));
        SliceKey::prefix(grain, kind, time)
    };
    let (from, until) = (at(stretch.from, i64::MIN), at(stretch.until, i64::MAX));
    for entry in slices.range(from.as_slice()..until.as_slice())? {
        let (key, slice) = entry?;
        let (prefix, rest) = key
            .value()
            .split_first_chunk::<{ SliceKey::PREFIX }>()
            .ok_or(IndexError::Damaged)?;
        let start = SliceKey::start_of(*prefix);
        let of = OfRef::parse(kind, rest).ok_or(IndexError::Damaged)?;
        if !take(start, of, decode(slice.value())?)? {
            break;
        }
    }
    Ok(())
}

/// The slices of one grain from then to then, until `take` has enough.
pub(super) fn each_of_grain(
    txn: &ReadTransaction,
    grain: Grain,
    (from, until): (Timestamp, Timestamp),
    mut take: impl FnMut(Timestamp, OfRef<'_>, Slice) -> bool,
) -> Result<(), IndexError> {
    let stretch = Stretch {
        from: Some(from),
        until: Some(until),
    };
    let take = |at, of: OfRef<'_>, slice| Ok(take(at, of, slice));
    each_slice(txn, (grain, Kind::Work), stretch, take)
}
