//! What agents, edges and models used and what happened within a span of time, and the pages of such
//! lists. A call belongs to the span it started in.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redb::{ReadTransaction, ReadableTable};

use crate::core::id::{CallId, Label};
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;

use super::super::index::{EVENTS, IndexError};
use super::super::record::Event;
use super::super::rows::{AgentRow, ModelRow, Page, Spanned};
use super::super::slices::{Kind, Slice};
use super::super::summary::Key;
use super::sums::{OfRef, Span};
use super::{OpenCalls, each_summary, table};

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
}

/// Something summed up while a span is read.
pub(super) trait Dated {
    fn last_at(&self) -> Timestamp;
}

/// What an agent did within a span.
#[derive(Default)]
pub(super) struct AgentSum {
    pub(super) slice: Slice,
    pub(super) models: BTreeSet<Label>,
}

impl Dated for AgentSum {
    fn last_at(&self) -> Timestamp {
        self.slice.last_at
    }
}

impl Dated for Slice {
    fn last_at(&self) -> Timestamp {
        self.last_at
    }
}

/// What calls of one model came to within a span.
#[derive(Default)]
pub(super) struct ModelSum {
    pub(super) slice: Slice,
    pub(super) agents: BTreeSet<Label>,
    pub(super) upstreams: BTreeSet<Label>,
}

impl Dated for ModelSum {
    fn last_at(&self) -> Timestamp {
        self.slice.last_at
    }
}

pub(super) fn agent_row(agent: Label, sum: AgentSum, open: &OpenCalls) -> AgentRow {
    AgentRow {
        open_calls: open.of(&agent),
        agent,
        first_at: sum.slice.first_at,
        last_at: sum.slice.last_at,
        models: sum.models.into_iter().collect(),
        runs: sum.slice.runs,
        figures: sum.slice.figures(),
    }
}

pub(super) fn model_row((model, sum): (Option<Label>, ModelSum)) -> ModelRow {
    ModelRow {
        model,
        first_at: sum.slice.first_at,
        last_at: sum.slice.last_at,
        agents: sum.agents.into_iter().collect(),
        upstreams: sum.upstreams.into_iter().collect(),
        figures: sum.slice.figures(),
    }
}

fn label(text: &str) -> Result<Label, IndexError> {
    Label::parse(text).map_err(|_| IndexError::Damaged)
}

/// The value of a name, which is only made a label when it is new.
fn of_name<'m, V: Default>(
    map: &'m mut BTreeMap<Label, V>,
    name: &str,
) -> Result<&'m mut V, IndexError> {
    if !map.contains_key(name) {
        map.insert(label(name)?, V::default());
    }
    map.get_mut(name).ok_or(IndexError::Damaged)
}

fn add_name(names: &mut BTreeSet<Label>, name: &str) -> Result<(), IndexError> {
    if !names.contains(name) {
        names.insert(label(name)?);
    }
    Ok(())
}

/// Every agent with what it did within the span, and the span.
pub(super) fn agents(
    txn: &ReadTransaction,
    filter: &SpanFilter,
    open: &OpenCalls,
) -> Result<(Span, BTreeMap<Label, AgentSum>), IndexError> {
    let span = Span::new(txn, filter.since, filter.until)?;
    let mut agents: BTreeMap<Label, AgentSum> = BTreeMap::new();
    span.each(txn, Kind::Work, |of, slice| {
        let OfRef::Work { agent, model, .. } = of else {
            return Ok(());
        };
        let sum = of_name(&mut agents, agent)?;
        sum.slice.merge(slice);
        model.map_or(Ok(()), |model| add_name(&mut sum.models, model))
    })?;
    for (agent, started_at) in open.starts() {
        let sum = of_name(&mut agents, agent.as_str())?;
        sum.slice.cover(started_at, started_at);
    }
    span.each(txn, Kind::Joined, |of, slice| {
        if let OfRef::Joined { agent } = of
            && let Some(sum) = agents.get_mut(agent)
        {
            sum.slice.runs += slice.runs;
        }
        Ok(())
    })?;
    if filter.is_all_time() {
        of_all_time(txn, &mut agents)?;
    }
    Ok((span, agents))
}

/// What is known of agents beside their calls, and of those that days knew nothing of.
fn of_all_time(
    txn: &ReadTransaction,
    agents: &mut BTreeMap<Label, AgentSum>,
) -> Result<(), IndexError> {
    each_summary(txn, &Key::prefix_of(b'a', None), |key, summary| {
        if let Key::Agent(agent) = key {
            let slice = &mut agents.entry(agent).or_default().slice;
            slice.totals = summary.totals;
            slice.runs = summary.runs;
            slice.cover(summary.first_at, summary.last_at);
        }
    })?;
    each_summary(txn, &Key::prefix_of(b'm', None), |key, _| {
        if let Key::AgentModel(agent, model) = key {
            agents.entry(agent).or_default().models.insert(model);
        }
    })
}

/// By caller and agent.
pub(super) type Edges = BTreeMap<(Label, Label), Slice>;

/// Every caller and agent with what their calls of the span used.
pub(super) fn edges(
    txn: &ReadTransaction,
    filter: &SpanFilter,
) -> Result<(Span, Edges), IndexError> {
    let span = Span::new(txn, filter.since, filter.until)?;
    let mut by_caller: BTreeMap<Label, BTreeMap<Label, Slice>> = BTreeMap::new();
    span.each(txn, Kind::Edge, |of, slice| {
        if let OfRef::Edge { caller, agent } = of {
            of_name(of_name(&mut by_caller, caller)?, agent)?.merge(slice);
        }
        Ok(())
    })?;
    let mut edges = Edges::new();
    for (caller, agents) in by_caller {
        let named = |(agent, slice)| ((caller.clone(), agent), slice);
        edges.extend(agents.into_iter().map(named));
    }
    if filter.is_all_time() {
        // Older versions kept no edges by day.
        each_summary(txn, &Key::prefix_of(b'e', None), |key, summary| {
            if let Key::Edge(caller, agent) = key {
                let slice = edges.entry((caller, agent)).or_default();
                slice.totals = summary.totals;
                slice.cover(summary.first_at, summary.last_at);
            }
        })?;
    }
    Ok((span, edges))
}

/// Every model with what its calls of the span used.
pub(super) fn models(
    txn: &ReadTransaction,
    filter: &SpanFilter,
) -> Result<(Span, BTreeMap<Option<Label>, ModelSum>), IndexError> {
    let span = Span::new(txn, filter.since, filter.until)?;
    let (mut named, mut unnamed) = (BTreeMap::<Label, ModelSum>::new(), None);
    span.each(txn, Kind::Work, |of, slice| {
        let OfRef::Work {
            agent,
            model,
            upstream,
        } = of
        else {
            return Ok(());
        };
        let sum = match model {
            Some(model) => of_name(&mut named, model)?,
            None => unnamed.get_or_insert_with(ModelSum::default),
        };
        sum.slice.merge(slice);
        add_name(&mut sum.agents, agent)?;
        add_name(&mut sum.upstreams, upstream)
    })?;
    let named = named.into_iter().map(|(model, sum)| (Some(model), sum));
    let unnamed = unnamed.map(|sum| (None, sum));
    Ok((span, named.chain(unnamed).collect()))
}

/// The events of the span, newest first. Those of one moment are never parted by a page.
pub(super) fn events(
    txn: &ReadTransaction,
    filter: &SpanFilter,
) -> Result<Page<Event, Timestamp>, IndexError> {
    let mut items: Vec<Event> = Vec::new();
    let limit = super::rows(filter.limit);
    let next = each_event(txn, filter, |_, event| {
        let last = items.last().map(|last| last.at);
        if items.len() >= limit && last != Some(event.at) {
            return last;
        }
        items.push(event);
        None
    })?;
    Ok(Page {
        items,
        next,
        partial: false,
    })
}

/// The newest events of the span that are `wanted`: no more than the limit, looked for among the
/// newest [`MAX_SOUGHT`].
pub(super) fn sought(
    txn: &ReadTransaction,
    filter: &SpanFilter,
    mut wanted: impl FnMut(&Event) -> bool,
) -> Result<Sought, IndexError> {
    let (mut items, mut seen) = (Vec::new(), 0);
    let limit = super::rows(filter.limit);
    let next = each_event(txn, filter, |_, event| {
        seen += 1;
        let at = event.at;
        if wanted(&event) {
            items.push(event);
        }
        (items.len() >= limit || seen >= MAX_SOUGHT).then_some(at)
    })?;
    Ok(Sought {
        is_all: next.is_none() || items.len() >= limit,
        items,
    })
}

/// What was found of events that are wanted, newest first.
#[derive(Clone, Debug, Default)]
pub struct Sought {
    pub items: Vec<Event>,
    /// Not so where older events were not looked at.
    pub is_all: bool,
}

/// Events that are looked at for those that are wanted.
const MAX_SOUGHT: usize = 200_000;

/// Trips that something was said of in the span, each with the last that was said of it at all.
pub(super) fn trips(
    txn: &ReadTransaction,
    filter: &SpanFilter,
) -> Result<Page<Trip, Timestamp>, IndexError> {
    let later = later(txn, filter)?;
    let mut items: Vec<Trip> = Vec::new();
    let mut last = None;
    let limit = super::rows(filter.limit);
    let next = each_event(txn, filter, |_, event| {
        let trip = event.trip?;
        let was_told = later.get(&trip.id).is_some_and(|later| later.is_in_span);
        if was_told || items.iter().any(|known| known.id == trip.id) {
            return None;
        }
        if items.len() >= limit && last != Some(event.at) {
            return last;
        }
        last = Some(event.at);
        items.push(*trip);
        None
    })?;
    for trip in &mut items {
        if let Some(later) = later.get(&trip.id)
            && let Some(last) = event_at(txn, later.last)?.and_then(|event| event.trip)
        {
            *trip = *last;
        }
    }
    Ok(Page {
        items,
        next,
        partial: false,
    })
}

/// Where an event lies.
type EventKey = (i64, u64, u64);

/// What was said of a trip after a page of trips ends.
struct Later {
    last: EventKey,
    /// Some of it on a page before.
    is_in_span: bool,
}

/// What was said of trips after the page that `filter` is of, and where: nothing where nothing
/// is later.
fn later(txn: &ReadTransaction, filter: &SpanFilter) -> Result<HashMap<CallId, Later>, IndexError> {
    let mut found = HashMap::new();
    let Some(end) = [filter.until, filter.before].into_iter().flatten().min() else {
        return Ok(found);
    };
    let span = SpanFilter {
        since: filter.since.max(Some(end)),
        ..SpanFilter::default()
    };
    each_event(txn, &span, |key, event| {
        let trip = event.trip?;
        let is_in_span = filter.until.is_none_or(|until| event.at < until);
        let later = found.entry(trip.id).or_insert(Later {
            last: key,
            is_in_span,
        });
        later.is_in_span |= is_in_span;
        None
    })?;
    Ok(found)
}

fn event_at(txn: &ReadTransaction, key: EventKey) -> Result<Option<Event>, IndexError> {
    let Some(events) = table(txn, EVENTS)? else {
        return Ok(None);
    };
    let event = events.get(key)?;
    event
        .map(|event| Event::parse(event.value()).ok_or(IndexError::Damaged))
        .transpose()
}

/// Events of the span, newest first, until `take` says where to go on another time.
fn each_event(
    txn: &ReadTransaction,
    filter: &SpanFilter,
    mut take: impl FnMut(EventKey, Event) -> Option<Timestamp>,
) -> Result<Option<Timestamp>, IndexError> {
    let from = filter.since.map_or(i64::MIN, Timestamp::micros);
    let until = [filter.until, filter.before];
    let until = until.into_iter().flatten().min();
    let until = until.map_or(i64::MAX, Timestamp::micros);
    let Some(events) = table(txn, EVENTS)?.filter(|_| from < until) else {
        return Ok(None);
    };
    for entry in events.range((from, 0, 0)..(until, 0, 0))?.rev() {
        let (key, event) = entry?;
        let event = Event::parse(event.value()).ok_or(IndexError::Damaged)?;
        if let Some(next) = take(key.value(), event) {
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

/// A page of what a span was summed up to, last active first. What was active last at one moment is
/// never parted by a page.
pub(super) fn page<K: Ord, V: Dated, T>(
    (span, all): (Span, BTreeMap<K, V>),
    filter: &SpanFilter,
    row: impl FnMut((K, V)) -> T,
) -> Spanned<T> {
    let mut rows: Vec<_> = all
        .into_iter()
        .filter(|(_, sum)| filter.before.is_none_or(|before| sum.last_at() < before))
        .collect();
    rows.sort_by(|(a, x), (b, y)| y.last_at().cmp(&x.last_at()).then_with(|| a.cmp(b)));
    let mut limit = super::rows(filter.limit);
    let last_at = |at: usize| rows.get(at).map(|(_, sum)| sum.last_at());
    while limit < rows.len() && last_at(limit) == last_at(limit - 1) {
        limit += 1;
    }
    let next = last_at(limit - 1).filter(|_| limit < rows.len());
    rows.truncate(limit);
    Spanned {
        since: span.since,
        until: span.until,
        widened: (span.since, span.until) != (filter.since, filter.until),
        items: rows.into_iter().map(row).collect(),
        next,
    }
}
