//! Custom metrics: what each comes to for a call, a run, an agent or all, and its measurements.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use redb::{ReadOnlyTable, ReadTransaction};
use serde::{Deserialize, Serialize};

use crate::core::id::{CallId, Label};
use crate::core::metric::{Measurement, Subject, Summary, Value};
use crate::core::time::Timestamp;

use super::super::index::batch::decode;
use super::super::index::batch::measured::{identity, tie};
use super::super::index::{IndexError, MEASURED, MEASURES};
use super::super::rows::Page;
use super::{SpanFilter, View, rows, table};

type Rows = ReadOnlyTable<(&'static str, &'static str, i64, u64), &'static [u8]>;

/// Names that one answer tells of.
const MAX_NAMES: usize = 100;
/// Measurements of a run itself that are told one by one.
const MAX_OWN: usize = 100;
/// Measurements that are read for one answer.
pub(super) const MAX_MEASURED: usize = 50_000;

/// What measurements are asked of: those that count for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetricScope {
    #[default]
    All,
    Call(CallId),
    Run(Label),
    Agent(Label),
}

impl MetricScope {
    pub(crate) fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Call(id) => Self::Call(*id),
            Subject::Run(run) => Self::Run(run.clone()),
            Subject::Agent(agent) => Self::Agent(agent.clone()),
        }
    }

    /// All that a measurement counts for.
    pub(crate) fn all_of(it: &Measurement) -> impl Iterator<Item = Self> {
        let call = match it.subject {
            Subject::Call(id) => Some(Self::Call(id)),
            Subject::Run(_) | Subject::Agent(_) => None,
        };
        let run = it.run().cloned().map(Self::Run);
        let agent = it.agent().cloned().map(Self::Agent);
        [Some(Self::All), call, run, agent].into_iter().flatten()
    }

    /// As the index has it.
    pub(crate) fn to_key(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Call(id) => format!("c{id}"),
            Self::Run(run) => format!("r{run}"),
            Self::Agent(agent) => format!("a{agent}"),
        }
    }
}

/// Which measurements; every field that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct MetricFilter {
    pub scope: MetricScope,
    /// Of these, only what this agent did: for those of a run.
    pub agent: Option<Label>,
    pub name: Option<String>,
    /// When they were made.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Where the next page of one name begins.
    pub before: Option<MetricCursor>,
    /// Of measurements; 0 means [`MAX_ROWS`](super::MAX_ROWS).
    pub limit: usize,
}

impl MetricFilter {
    /// All that counts for something.
    pub fn of(scope: MetricScope) -> Self {
        Self {
            scope,
            ..Self::default()
        }
    }

    /// The same for a span of time.
    #[must_use]
    pub fn within(self, span: &SpanFilter) -> Self {
        Self {
            since: span.since,
            until: span.until,
            ..self
        }
    }

    fn takes(&self, it: &Measurement) -> bool {
        self.agent.is_none() || self.agent.as_ref() == it.agent()
    }
}

/// What each name comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricSums {
    pub by_name: BTreeMap<String, Summary>,
    /// There were more names than are told, or more measurements than are read: the newest count.
    pub is_cut: bool,
}

/// What each name comes to for each agent of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunMetrics {
    pub all: MetricSums,
    /// What was said of the run itself is of none.
    pub by_agent: BTreeMap<Option<Label>, BTreeMap<String, Summary>>,
    /// What was said of the run itself, newest first within each name; the first 100.
    pub own: Vec<Measurement>,
}

/// The same for whatever takes each other's place.
pub fn measured_identity(it: &Measurement) -> u128 {
    identity(it)
}

/// A place among the measurements of one name, written as `1764500000000000-7f3a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricCursor {
    at: i64,
    tie: u64,
}

/// A text that is no [`MetricCursor`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{0}`, expected `next` of the answer before")]
pub struct MetricCursorError(String);

impl fmt::Display for MetricCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.at, self.tie)
    }
}

impl FromStr for MetricCursor {
    type Err = MetricCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (at, tie) = text.rsplit_once('-')?;
            Some(Self {
                at: at.parse().ok()?,
                tie: u64::from_str_radix(tie, 16).ok()?,
            })
        };
        parse().ok_or_else(|| MetricCursorError(text.chars().take(64).collect()))
    }
}

impl Serialize for MetricCursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MetricCursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What each name comes to of what matches, as far as `left` goes.
pub(super) fn sums(
    txn: &ReadTransaction,
    filter: &MetricFilter,
    left: &mut usize,
) -> Result<MetricSums, IndexError> {
    let mut sums = MetricSums::default();
    sums.is_cut = fold(txn, filter, left, |it| {
        let sum = sums.by_name.entry(it.name.clone()).or_default();
        sum.add(it.at, &it.value);
    })?;
    Ok(sums)
}

/// What each of these comes to: all have the same share of what may be read, and those that it is too
/// little for have what the others leave of theirs.
fn sums_of_each(
    txn: &ReadTransaction,
    filters: &[MetricFilter],
    most: usize,
) -> Result<Vec<MetricSums>, IndexError> {
    let share = most.checked_div(filters.len()).unwrap_or(0).max(1);
    let mut unread = most;
    let mut all = Vec::with_capacity(filters.len());
    for filter in filters {
        let mut left = share;
        all.push(sums(txn, filter, &mut left)?);
        unread = unread.saturating_sub(share - left);
    }
    let mut waiting = all.iter().filter(|it| it.is_cut).count();
    for (filter, its) in filters.iter().zip(&mut all) {
        if !its.is_cut {
            continue;
        }
        let more = unread.checked_div(waiting).unwrap_or(0);
        waiting -= 1;
        if more > 0 {
            // What was read of it is read again.
            let mut left = share + more;
            *its = sums(txn, filter, &mut left)?;
            unread -= more.saturating_sub(left);
        }
    }
    Ok(all)
}

/// The custom metrics of a run, or the one of this name, told apart by agent too, as far as `left`
/// goes.
pub(super) fn of_run(
    txn: &ReadTransaction,
    run: &Label,
    name: Option<&str>,
    left: &mut usize,
) -> Result<RunMetrics, IndexError> {
    let filter = MetricFilter {
        name: name.map(str::to_owned),
        ..MetricFilter::of(MetricScope::Run(run.clone()))
    };
    let mut metrics = RunMetrics::default();
    metrics.all.is_cut = fold(txn, &filter, left, |it| {
        let all = metrics.all.by_name.entry(it.name.clone()).or_default();
        all.add(it.at, &it.value);
        if metrics.own.len() < MAX_OWN && matches!(it.subject, Subject::Run(_)) {
            metrics.own.push(it.clone());
        }
        let agent = metrics.by_agent.entry(it.agent().cloned()).or_default();
        let sum = agent.entry(it.name.clone()).or_default();
        sum.add(it.at, &it.value);
    })?;
    Ok(metrics)
}

impl View {
    /// What each custom metric comes to.
    pub fn metrics(&self, filter: &MetricFilter) -> Result<MetricSums, IndexError> {
        let mut left = MAX_MEASURED;
        self.index.read(|txn| sums(txn, filter, &mut left))
    }

    /// The custom metrics of a run: of all of it, and of each agent in it.
    pub fn run_metrics(&self, run: &Label) -> Result<RunMetrics, IndexError> {
        let mut left = MAX_MEASURED;
        self.index.read(|txn| of_run(txn, run, None, &mut left))
    }

    /// What each of these comes to, from one state and with one bound for all of them together, of
    /// which each has its share.
    pub fn metrics_of(&self, filters: &[MetricFilter]) -> Result<Vec<MetricSums>, IndexError> {
        self.metrics_of_at_most(filters, MAX_MEASURED)
    }

    pub(crate) fn metrics_of_at_most(
        &self,
        filters: &[MetricFilter],
        most: usize,
    ) -> Result<Vec<MetricSums>, IndexError> {
        self.index.read(|txn| sums_of_each(txn, filters, most))
    }

    /// The newest value of each custom metric of each of these calls.
    pub fn metrics_of_calls(
        &self,
        calls: &[CallId],
    ) -> Result<Vec<BTreeMap<String, Value>>, IndexError> {
        let filters: Vec<MetricFilter> = calls
            .iter()
            .map(|id| MetricFilter::of(MetricScope::Call(*id)))
            .collect();
        let values = |sums: MetricSums| {
            let of = |(name, sum): (String, Summary)| Some((name, sum.last?.1));
            sums.by_name.into_iter().filter_map(of).collect()
        };
        let sums = self.metrics_of(&filters)?;
        Ok(sums.into_iter().map(values).collect())
    }

    /// All that was measured of each name since a moment, oldest first within each; the newest
    /// 50,000 of all together.
    pub fn measured_since(
        &self,
        names: &BTreeMap<String, Timestamp>,
    ) -> Result<Vec<Measurement>, IndexError> {
        self.index.read(|txn| {
            let mut all = Vec::new();
            // No name may take what others need.
            let share = MAX_MEASURED / names.len().max(1);
            for (name, since) in names {
                let filter = MetricFilter {
                    name: Some(name.clone()),
                    since: Some(*since),
                    ..MetricFilter::default()
                };
                let (mut left, from) = (share, all.len());
                fold(txn, &filter, &mut left, |it| all.push(it.clone()))?;
                all.get_mut(from..).unwrap_or_default().reverse();
            }
            Ok(all)
        })
    }

    /// What each of these takes the place of: the same said by the same of the same.
    pub fn measured_before(
        &self,
        all: &[Measurement],
    ) -> Result<Vec<Option<Measurement>>, IndexError> {
        self.index.read(|txn| {
            let known = table(txn, MEASURES)?;
            let rows = table(txn, MEASURED)?;
            let (Some(known), Some(rows)) = (known, rows) else {
                return Ok(vec![None; all.len()]);
            };
            let scope = MetricScope::All.to_key();
            let before = |it: &Measurement| {
                let id = identity(it);
                let Some(at) = known.get(id)?.map(|known| known.value().0) else {
                    return Ok(None);
                };
                let row = rows.get((&*scope, it.name.as_str(), at, tie(id)))?;
                row.map(|row| decode(row.value())).transpose()
            };
            all.iter().map(before).collect()
        })
    }

    /// The measurements of one name, or of all where none is given, newest first within each.
    pub fn measurements(
        &self,
        filter: &MetricFilter,
    ) -> Result<Page<Measurement, MetricCursor>, IndexError> {
        self.index.read(|txn| {
            let mut page = Page {
                items: Vec::new(),
                next: None,
                partial: false,
            };
            let limit = rows(filter.limit);
            let Some(measured) = table(txn, MEASURED)? else {
                return Ok(page);
            };
            let scope = filter.scope.to_key();
            let (mut scanned, mut last) = (0, None);
            for name in names(&measured, &scope, filter)?.0 {
                for entry in measured.range(range(&scope, &name, filter))?.rev() {
                    let (key, row) = entry?;
                    let is_full = page.items.len() == limit;
                    if is_full || scanned == super::MAX_SCANNED {
                        page.partial = !is_full;
                        page.next = last.filter(|_| filter.name.is_some());
                        return Ok(page);
                    }
                    scanned += 1;
                    let (_, _, at, tie) = key.value();
                    last = Some(MetricCursor { at, tie });
                    let it: Measurement = decode(row.value())?;
                    if filter.takes(&it) {
                        page.items.push(it);
                    }
                }
            }
            Ok(page)
        })
    }
}

/// Hands over all measurements that match, newest first within each name, as far as `left` goes;
/// says whether there are more.
fn fold(
    txn: &ReadTransaction,
    filter: &MetricFilter,
    left: &mut usize,
    mut take: impl FnMut(&Measurement),
) -> Result<bool, IndexError> {
    let Some(measured) = table(txn, MEASURED)? else {
        return Ok(false);
    };
    let scope = filter.scope.to_key();
    let (names, mut is_cut) = names(&measured, &scope, filter)?;
    // No name may take what others need.
    let share = left.checked_div(names.len()).unwrap_or(0).max(1);
    for name in names {
        for (read, entry) in measured
            .range(range(&scope, &name, filter))?
            .rev()
            .enumerate()
        {
            if read == share || *left == 0 {
                is_cut = true;
                break;
            }
            *left -= 1;
            let it: Measurement = decode(entry?.1.value())?;
            if filter.takes(&it) {
                take(&it);
            }
        }
    }
    Ok(is_cut)
}

/// The names that there are, and whether there are more than may be told.
fn names(
    measured: &Rows,
    scope: &str,
    filter: &MetricFilter,
) -> Result<(Vec<String>, bool), IndexError> {
    if let Some(name) = &filter.name {
        return Ok((vec![name.clone()], false));
    }
    let mut names: Vec<String> = Vec::new();
    loop {
        let from = names.last().map(String::as_str).unwrap_or_default();
        // Nothing of a name comes behind this.
        let behind = (scope, from, i64::MAX, u64::MAX);
        let Some(entry) = measured.range(behind..)?.next() else {
            return Ok((names, false));
        };
        let key = entry?.0;
        let (its, name, ..) = key.value();
        if its != scope {
            return Ok((names, false));
        }
        if names.len() == MAX_NAMES {
            return Ok((names, true));
        }
        names.push(name.to_owned());
    }
}

fn range<'k>(
    scope: &'k str,
    name: &'k str,
    filter: &MetricFilter,
) -> std::ops::Range<(&'k str, &'k str, i64, u64)> {
    let from = filter.since.map_or(i64::MIN, Timestamp::micros);
    let until = filter
        .until
        .map_or((i64::MAX, u64::MAX), |at| (at.micros(), 0));
    let until = match filter.before {
        Some(MetricCursor { at, tie }) => until.min((at, tie)),
        None => until,
    };
    let until = until.max((from, 0));
    (scope, name, from, 0)..(scope, name, until.0, until.1)
}
