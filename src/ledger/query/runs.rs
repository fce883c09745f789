//! Runs: which there are, one as a whole, and its calls in the order they came.

use std::cmp::Reverse;

use redb::ReadTransaction;

use crate::core::budget::Control;
use crate::core::compare::MetricBound;
use crate::core::id::{CallId, Label};
use crate::core::metric;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;

use super::super::index::batch::id_key;
use super::super::index::{BY_RUN, IndexError, RUNS_BY_ACTIVITY, outcome_of};
use super::super::rows::{
    Mark, Page, RunAgentRow, RunCalls, RunDetail, RunEdgeRow, RunMarks, RunRow,
};
use super::super::summary::{Key, Summary};
use super::calls::contains;
use super::measured::{MAX_MEASURED, MetricFilter, MetricScope, sums};
use super::{MAX_SCANNED, SpanFilter, View, each_summary, stored_call, summary, table};

/// Calls of one run that [`View::run_marks`] tells of.
pub const MAX_MARKS: usize = 20_000;

/// Which runs; every field that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Active in this span.
    pub span: SpanFilter,
    pub standing: Option<Standing>,
    /// This agent worked in it.
    pub agent: Option<Label>,
    pub variant: Option<Label>,
    /// The name of a tag and its value.
    pub tag: Option<(String, Label)>,
    /// Part of its name, in any case.
    pub text: Option<String>,
    /// It cost so much or more.
    pub min_cost: Option<NanoUsd>,
    /// A call of it failed, or a loop of it was stopped.
    pub only_problems: bool,
    /// The mean of a custom metric in it stands so; a page reads 50,000 values.
    pub metric: Option<MetricBound>,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A call of it is open.
    Running,
    /// None is, and nothing keeps it from going on.
    Ended,
    Paused,
    Stopped,
    /// A loop of it was stopped at some time.
    Tripped,
}

impl RunFilter {
    fn matches(&self, run: &Label, summary: &Summary) -> bool {
        let standing = |wanted| match wanted {
            Standing::Running => summary.open_calls > 0,
            Standing::Ended => summary.open_calls == 0 && summary.control == Control::Running,
            Standing::Paused => summary.control == Control::Paused,
            Standing::Stopped => summary.control == Control::Stopped,
            Standing::Tripped => summary.trips > 0,
        };
        let tag = |(name, value): &(String, Label)| summary.tags.get(name) == Some(value);
        let cost = NanoUsd::new(summary.totals.cost_nano_usd);
        self.span.overlaps(summary.first_at, summary.last_at)
            && self.standing.is_none_or(standing)
            && (self.variant.is_none() || self.variant == summary.variant)
            && self.tag.as_ref().is_none_or(tag)
            && self
                .text
                .as_ref()
                .is_none_or(|text| contains(run.as_str(), text))
            && self.min_cost.is_none_or(|least| cost >= least)
            && (!self.only_problems || summary.totals.errors > 0 || summary.trips > 0)
    }

    /// When runs of this page can have been active last.
    fn activity(&self) -> std::ops::Range<(i64, &'static str)> {
        let from = self.span.since.map_or(i64::MIN, Timestamp::micros);
        let before = self.span.before.map_or(i64::MAX, Timestamp::micros);
        (from, "")..(before.max(from), "")
    }

    fn has_agent(&self, txn: &ReadTransaction, run: &Label) -> Result<bool, IndexError> {
        let Some(agent) = &self.agent else {
            return Ok(true);
        };
        let key = Key::RunAgent(run.clone(), agent.clone());
        Ok(summary(txn, &key)?.is_some())
    }

    /// `left` is how many values the page may still read.
    fn has_metric(
        &self,
        txn: &ReadTransaction,
        run: &Label,
        left: &mut usize,
    ) -> Result<bool, IndexError> {
        let Some(bound) = &self.metric else {
            return Ok(true);
        };
        let of_run = MetricFilter {
            name: Some(bound.name.clone()),
            ..MetricFilter::of(MetricScope::Run(run.clone()))
        };
        // Each run is judged by as much, so that it is found or not wherever a page ends.
        let mut own = MAX_MEASURED;
        let sums = sums(txn, &of_run, &mut own)?;
        *left = left.saturating_sub(MAX_MEASURED - own);
        let mean = sums
            .by_name
            .get(&bound.name)
            .and_then(metric::Summary::mean);
        Ok(mean.is_some_and(|mean| bound.holds(mean)))
    }
}

impl View {
    /// Runs that were active in the span, last active first, each as a whole. Those of one moment are
    /// never parted by a page.
    pub fn runs(&self, filter: &RunFilter) -> Result<Page<RunRow, Timestamp>, IndexError> {
        self.index.read(|txn| page_of_runs(txn, filter))
    }

    /// One run with what each agent did in it, and its child runs.
    pub fn run(&self, run: &Label) -> Result<Option<RunDetail>, IndexError> {
        self.index.read(|txn| {
            let Some(summary) = summary(txn, &Key::Run(run.clone()))? else {
                return Ok(None);
            };
            let mut names = Vec::new();
            each_summary(txn, &Key::prefix_of(b'c', Some(run)), |key, _| {
                names.extend(key.run().cloned());
            })?;
            let mut children = Vec::new();
            for child in names {
                if let Some(summary) = self::summary(txn, &Key::Run(child.clone()))? {
                    children.push(run_row(txn, child, summary)?);
                }
            }
            Ok(Some(RunDetail {
                row: run_row(txn, run.clone(), summary)?,
                by_agent: run_agents(txn, run)?,
                edges: run_edges(txn, run)?,
                children,
            }))
        })
    }

    /// Up to `count` calls of a run from the one of this number on, in the order they came.
    pub fn run_calls(&self, run: &Label, from: u64, count: usize) -> Result<RunCalls, IndexError> {
        let count = super::rows(count);
        self.index.read(|txn| {
            let mut found = RunCalls {
                from,
                total: 0,
                calls: Vec::new(),
            };
            let Some(calls) = table(txn, BY_RUN)? else {
                return Ok(found);
            };
            for entry in calls.range(all_of(run))? {
                let id = entry?.0.value().1;
                if found.total >= from && found.calls.len() < count {
                    found
                        .calls
                        .extend(stored_call(txn, id)?.map(|call| call.row));
                }
                found.total += 1;
            }
            Ok(found)
        })
    }

    /// The first [`MAX_MARKS`] calls of a run, in the order they came.
    pub fn run_marks(&self, run: &Label) -> Result<RunMarks, IndexError> {
        self.index.read(|txn| {
            let mut found = RunMarks {
                marks: Vec::new(),
                total: 0,
            };
            let Some(calls) = table(txn, BY_RUN)? else {
                return Ok(found);
            };
            for entry in calls.range(all_of(run))? {
                found.total += 1;
                if found.marks.len() < MAX_MARKS {
                    let (key, mark) = entry?;
                    let id = CallId::from_bytes(key.value().1.to_be_bytes());
                    found.marks.push(stored_mark(id, mark.value())?);
                }
            }
            Ok(found)
        })
    }

    /// The number that [`run_calls`](Self::run_calls) has of a call; none if the run has no such call.
    pub fn run_call_number(&self, run: &Label, id: CallId) -> Result<Option<u64>, IndexError> {
        let key = id_key(id);
        self.index.read(|txn| {
            let Some(calls) = table(txn, BY_RUN)? else {
                return Ok(None);
            };
            if calls.get((run.as_str(), key))?.is_none() {
                return Ok(None);
            }
            let before = calls.range((run.as_str(), 0)..(run.as_str(), key))?;
            Ok(Some(before.count() as u64))
        })
    }
}

/// The keys of all calls of a run.
fn all_of(run: &Label) -> std::ops::RangeInclusive<(&str, u128)> {
    (run.as_str(), 0)..=(run.as_str(), u128::MAX)
}

fn stored_mark(
    id: CallId,
    (started_at, duration_us, cost_nano_usd, outcome, agent): (
        i64,
        Option<u64>,
        Option<i64>,
        Option<u8>,
        &str,
    ),
) -> Result<Mark, IndexError> {
    Ok(Mark {
        id,
        started_at: Timestamp::from_micros(started_at),
        duration_us,
        outcome: outcome
            .map(|number| outcome_of(number).ok_or(IndexError::Damaged))
            .transpose()?,
        cost_nano_usd,
        agent: Label::parse(agent).map_err(|_| IndexError::Damaged)?,
    })
}

fn page_of_runs(
    txn: &ReadTransaction,
    filter: &RunFilter,
) -> Result<Page<RunRow, Timestamp>, IndexError> {
    let limit = super::rows(filter.span.limit);
    let mut page = Page {
        items: Vec::new(),
        next: None,
        partial: false,
    };
    let Some(by_activity) = table(txn, RUNS_BY_ACTIVITY)? else {
        return Ok(page);
    };
    let (mut last, mut left) = (None, MAX_MEASURED);
    for (scanned, entry) in by_activity.range(filter.activity())?.rev().enumerate() {
        let entry = entry?;
        let (at, run) = entry.0.value();
        let at = Timestamp::from_micros(at);
        page.partial = scanned >= MAX_SCANNED || left == 0;
        if (page.items.len() >= limit || page.partial) && last != Some(at) {
            page.next = last;
            break;
        }
        last = Some(at);
        let run = Label::parse(run).map_err(|_| IndexError::Damaged)?;
        let summary = summary(txn, &Key::Run(run.clone()))?.ok_or(IndexError::Damaged)?;
        if filter.matches(&run, &summary)
            && filter.has_agent(txn, &run)?
            && filter.has_metric(txn, &run, &mut left)?
        {
            page.items.push(run_row(txn, run, summary)?);
        }
    }
    page.partial &= page.next.is_some() && page.items.len() < limit;
    let order = |row: &RunRow| (Reverse(row.last_at), row.run.clone());
    page.items.sort_by_cached_key(order);
    Ok(page)
}

fn run_row(txn: &ReadTransaction, run: Label, summary: Summary) -> Result<RunRow, IndexError> {
    let mut agents = Vec::new();
    each_summary(txn, &Key::prefix_of(b'q', Some(&run)), |key, _| {
        if let Key::RunAgent(_, agent) = key {
            agents.push(agent);
        }
    })?;
    let Summary {
        first_at,
        last_at,
        totals,
        parent,
        control,
        open_calls,
        depth,
        variant,
        tags,
        trips,
        ..
    } = summary;
    Ok(RunRow {
        run,
        parent_run: parent,
        control,
        first_at,
        last_at,
        open_calls,
        agents,
        depth,
        variant,
        tags,
        trips,
        totals,
    })
}

fn run_agents(txn: &ReadTransaction, run: &Label) -> Result<Vec<RunAgentRow>, IndexError> {
    let mut rows = Vec::new();
    each_summary(txn, &Key::prefix_of(b'q', Some(run)), |key, summary| {
        if let Key::RunAgent(_, agent) = key {
            rows.push(RunAgentRow {
                agent,
                first_at: summary.first_at,
                last_at: summary.last_at,
                open_calls: summary.open_calls,
                totals: summary.totals,
            });
        }
    })?;
    Ok(rows)
}

/// Who invoked whom in a run.
fn run_edges(txn: &ReadTransaction, run: &Label) -> Result<Vec<RunEdgeRow>, IndexError> {
    let mut rows = Vec::new();
    each_summary(txn, &Key::prefix_of(b'g', Some(run)), |key, summary| {
        if let Key::RunEdge(_, caller, agent) = key {
            rows.push(RunEdgeRow {
                caller,
                agent,
                first_at: summary.first_at,
                last_at: summary.last_at,
                open_calls: summary.open_calls,
                totals: summary.totals,
            });
        }
    })?;
    Ok(rows)
}
