//! What agents and edges used and what happened within a span of time, and the pages of such lists.
//!
//! A call belongs to the span it started in. Days that lie whole in a span are summed from the
//! daily roll-ups, so that a long span costs little; only the days it cuts are summed call by call.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableTable};

use crate::core::id::Label;
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;

use super::super::index::{EVENTS, IndexError};
use super::super::record::Event;
use super::super::rows::{CallRow, Page};
use super::super::summary::{Key, Summary};
use super::super::totals::Totals;
use super::calls::{CallFilter, each_candidate};
use super::{OpenCalls, each_rollup, each_summary, table};

/// Which runs, agents or edges. A span without beginning and end is all time.
#[derive(Clone, Debug, Default)]
pub struct SpanFilter {
    /// The span's first moment.
    pub since: Option<Timestamp>,
    /// The first moment after the span.
    pub until: Option<Timestamp>,
    /// Only what was last active before: where the next page begins.
    pub before: Option<Timestamp>,
    /// 0 means [`MAX_ROWS`](super::MAX_ROWS).
    pub limit: usize,
}

impl SpanFilter {
    pub(super) fn is_all_time(&self) -> bool {
        self.since.is_none() && self.until.is_none()
    }

    /// Whether a call that started then is in the span.
    pub(super) fn holds(&self, started_at: Timestamp) -> bool {
        self.since.is_none_or(|since| started_at >= since)
            && self.until.is_none_or(|until| started_at < until)
    }

    /// Whether what was active from then to then was so within the span.
    pub(super) fn overlaps(&self, first_at: Timestamp, last_at: Timestamp) -> bool {
        self.since.is_none_or(|since| last_at >= since)
            && self.until.is_none_or(|until| first_at < until)
    }

    fn calls(&self) -> CallFilter {
        CallFilter {
            since: self.since,
            until: self.until,
            ..CallFilter::default()
        }
    }

    /// The first and the last of the days that lie whole in the span.
    fn days(&self) -> (i32, i32) {
        let first = self.since.map_or(i32::MIN, |since| {
            let day = since.day();
            day.saturating_add(i32::from(Timestamp::of_day(day) < since))
        });
        let last = self
            .until
            .map_or(i32::MAX, |until| until.day().saturating_sub(1));
        (first, last)
    }

    /// What is left of the span before and after its whole days.
    fn cut_days(&self) -> Vec<CallFilter> {
        let (first, last) = self.days();
        let all = self.calls();
        if first > last {
            return vec![all];
        }
        let (first, after) = (
            Timestamp::of_day(first),
            Timestamp::of_day(last.saturating_add(1)),
        );
        let before = CallFilter {
            until: Some(first),
            ..all.clone()
        };
        let rest = CallFilter {
            since: Some(after),
            ..all
        };
        let mut cut = Vec::new();
        cut.extend(self.since.map(|_| before));
        cut.extend(self.until.map(|_| rest));
        cut
    }
}

/// What an agent did within a span.
#[derive(Default)]
pub(super) struct Work {
    pub(super) summary: Summary,
    pub(super) models: BTreeSet<Label>,
}

/// Every agent with what it did within the span.
pub(super) fn agents(
    txn: &ReadTransaction,
    span: &SpanFilter,
    open: &OpenCalls,
) -> Result<BTreeMap<Label, Work>, IndexError> {
    if span.is_all_time() {
        return agents_of_all_time(txn);
    }
    let mut agents: BTreeMap<Label, Work> = BTreeMap::new();
    let (first, last) = span.days();
    each_rollup(txn, first, last, |rollup, summary| {
        let work = agents.entry(rollup.agent).or_default();
        work.models.extend(rollup.model);
        work.summary.merge(&summary);
    })?;
    for filter in span.cut_days() {
        each_settled(txn, &filter, |row, summary| {
            let work = agents.entry(row.agent).or_default();
            work.models.extend(row.model);
            work.summary.merge(&summary);
        })?;
    }
    for (agent, started_at) in open.starts() {
        let work = agents.entry(agent.clone()).or_default();
        work.summary.cover(started_at, started_at);
    }
    each_summary(txn, &Key::prefix_of(b'q', None), |key, summary| {
        if let Key::RunAgent(_, agent) = key
            && span.overlaps(summary.first_at, summary.last_at)
            && let Some(work) = agents.get_mut(&agent)
        {
            work.summary.runs += 1;
        }
    })?;
    Ok(agents)
}

fn agents_of_all_time(txn: &ReadTransaction) -> Result<BTreeMap<Label, Work>, IndexError> {
    let mut agents: BTreeMap<Label, Work> = BTreeMap::new();
    each_summary(txn, &Key::prefix_of(b'a', None), |key, summary| {
        if let Key::Agent(agent) = key {
            agents.entry(agent).or_default().summary = summary;
        }
    })?;
    each_summary(txn, &Key::prefix_of(b'm', None), |key, _| {
        if let Key::AgentModel(agent, model) = key {
            agents.entry(agent).or_default().models.insert(model);
        }
    })?;
    Ok(agents)
}

/// Every caller and agent with what their calls of the span used: of all time as it was summed up,
/// else of the calls that are still recorded.
pub(super) fn edges(
    txn: &ReadTransaction,
    span: &SpanFilter,
) -> Result<BTreeMap<(Label, Label), Summary>, IndexError> {
    let mut edges: BTreeMap<_, Summary> = BTreeMap::new();
    if span.is_all_time() {
        each_summary(txn, &Key::prefix_of(b'e', None), |key, summary| {
            if let Key::Edge(caller, agent) = key {
                edges.insert((caller, agent), summary);
            }
        })?;
    } else {
        each_settled(txn, &span.calls(), |row, summary| {
            if let Some(caller) = row.caller {
                let edge = edges.entry((caller, row.agent)).or_default();
                edge.merge(&summary);
            }
        })?;
    }
    Ok(edges)
}

/// The events of the span, newest first. Those of one moment are never parted by a page.
pub(super) fn events(
    txn: &ReadTransaction,
    filter: &SpanFilter,
) -> Result<Page<Event, Timestamp>, IndexError> {
    let mut items: Vec<Event> = Vec::new();
    let limit = super::rows(filter.limit);
    let next = each_event(txn, filter, |event| {
        let last = items.last().map(|last| last.at);
        if items.len() >= limit && last != Some(event.at) {
            return last;
        }
        items.push(event);
        None
    })?;
    Ok(Page { items, next })
}

/// Of each trip the last that was said of it.
pub(super) fn trips(
    txn: &ReadTransaction,
    filter: &SpanFilter,
) -> Result<Page<Trip, Timestamp>, IndexError> {
    let mut items: Vec<Trip> = Vec::new();
    let mut last = None;
    let limit = super::rows(filter.limit);
    let next = each_event(txn, filter, |event| {
        let trip = event.trip?;
        if items.iter().any(|known| known.id == trip.id) {
            return None;
        }
        if items.len() >= limit && last != Some(event.at) {
            return last;
        }
        last = Some(event.at);
        items.push(*trip);
        None
    })?;
    Ok(Page { items, next })
}

/// Events of the span, newest first, until `take` says where to go on another time.
fn each_event(
    txn: &ReadTransaction,
    filter: &SpanFilter,
    mut take: impl FnMut(Event) -> Option<Timestamp>,
) -> Result<Option<Timestamp>, IndexError> {
    let from = filter.since.map_or(i64::MIN, Timestamp::micros);
    let until = [filter.until, filter.before];
    let until = until.into_iter().flatten().min();
    let until = until.map_or(i64::MAX, Timestamp::micros);
    let Some(events) = table(txn, EVENTS)?.filter(|_| from < until) else {
        return Ok(None);
    };
    for entry in events.range((from, 0, 0)..(until, 0, 0))?.rev() {
        let event = Event::parse(entry?.1.value()).ok_or(IndexError::Damaged)?;
        if let Some(next) = take(event) {
            return Ok(Some(next));
        }
    }
    Ok(None)
}

/// Whether the last that a process said of its life is that it stopped. Last in the log, whatever
/// its time: clocks are set back.
pub(super) fn was_stopped(txn: &ReadTransaction) -> Result<bool, IndexError> {
    let Some(events) = table(txn, EVENTS)? else {
        return Ok(false);
    };
    let mut last = ((0, 0), false);
    for entry in events.iter()? {
        let (key, event) = entry?;
        let (_, segment, offset) = key.value();
        let event = Event::parse(event.value()).ok_or(IndexError::Damaged)?;
        let stopped = match event.what.as_str() {
            Event::STOPPED => true,
            Event::STARTED | Event::RECOVERED => false,
            _ => continue,
        };
        last = last.max(((segment, offset), stopped));
    }
    Ok(last.1)
}

/// Every call of `filter` that ended, and its summary.
fn each_settled(
    txn: &ReadTransaction,
    filter: &CallFilter,
    mut take: impl FnMut(CallRow, Summary),
) -> Result<(), IndexError> {
    each_candidate(txn, filter, |call| {
        if filter.matches(&call.row)
            && let Some(totals) = Totals::of_row(&call.row)
        {
            let summary = Summary {
                first_at: call.row.started_at,
                last_at: call.row.last_at(),
                totals,
                ..Summary::default()
            };
            take(call.row, summary);
        }
        true
    })
}

/// Some of a list by last activity, and whether there is more.
pub(super) struct Latest<K, V> {
    rows: Vec<(K, V)>,
    next: Option<Timestamp>,
}

impl<K: Ord, V> Latest<K, V> {
    /// What of `all` the page of `filter` shows, last active first.
    pub(super) fn of(
        all: impl IntoIterator<Item = (K, V)>,
        filter: &SpanFilter,
        summary: impl Fn(&V) -> &Summary,
    ) -> Self {
        let last_at = |value: &V| summary(value).last_at;
        let mut rows: Vec<_> = all
            .into_iter()
            .filter(|(_, value)| filter.before.is_none_or(|before| last_at(value) < before))
            .collect();
        rows.sort_by(|(a, x), (b, y)| last_at(y).cmp(&last_at(x)).then_with(|| a.cmp(b)));
        let limit = super::rows(filter.limit);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().map(|(_, value)| last_at(value));
        Self {
            rows,
            next: last.filter(|_| more),
        }
    }

    pub(super) fn page<T>(
        self,
        mut row: impl FnMut(K, V) -> Result<T, IndexError>,
    ) -> Result<Page<T, Timestamp>, IndexError> {
        let rows = self.rows.into_iter();
        let items = rows
            .map(|(key, value)| row(key, value))
            .collect::<Result<_, _>>()?;
        Ok(Page {
            items,
            next: self.next,
        })
    }
}
