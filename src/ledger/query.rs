//! Questions to the ledger. Every answer comes from one consistent state of the index.
//!
//! These block on the disk: call them from a thread that may.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError};

use crate::core::call::{Admission, Settlement, StoredBody};
use crate::core::digest::Digest;
use crate::core::id::{CallId, Label};
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;

mod budgets;
mod calls;
mod neighbours;
mod picked;
mod spans;

use calls::each_candidate;
pub use calls::{CallFilter, OutcomeFilter};
pub use neighbours::{BodyReader, Neighbours};
use spans::Latest;
pub use spans::SpanFilter;

use super::body::unpack_content;
use super::index::batch::{decode, id_key, read_admission, read_settlement};
use super::index::{CALLS, CONTENTS, Index, IndexError, OPEN, RESPONSES, SUMMARIES, StoredCall};
use super::log::read_record;
use super::record::{Content, Event, Position, kind};
use super::rows::{
    AgentRow, Body, CallDetail, CallRow, EdgeRow, Page, RollupRow, RunAgentRow, RunDetail,
    RunEdgeRow, RunRow,
};
use super::storage::Storage;
use super::summary::{Key, Rollup, Summary};
use super::totals::Totals;

/// Rows of one page, at most.
pub const MAX_ROWS: usize = 1000;

fn rows(limit: usize) -> usize {
    if limit == 0 {
        MAX_ROWS
    } else {
        limit.min(MAX_ROWS)
    }
}

/// Answers questions; cheap to clone.
#[derive(Clone)]
pub struct View {
    pub(crate) index: Arc<Index>,
    pub(crate) storage: Arc<dyn Storage>,
}

impl View {
    /// Calls, newest first, open ones among them.
    pub fn calls(&self, filter: &CallFilter) -> Result<Page<CallRow>, IndexError> {
        let limit = rows(filter.limit);
        self.index.read(|txn| {
            let mut items = Vec::new();
            let mut more = false;
            each_candidate(txn, filter, |call| {
                if !filter.matches(&call.row) {
                    return true;
                }
                more = items.len() == limit;
                if !more {
                    items.push(call.row);
                }
                !more
            })?;
            let next = items.last().filter(|_| more).map(|row| row.id);
            Ok(Page { items, next })
        })
    }

    /// One call with its two records.
    pub fn call(&self, id: CallId) -> Result<Option<CallDetail>, IndexError> {
        let Some(call) = self.index.read(|txn| stored_call(txn, id_key(id)))? else {
            return Ok(None);
        };
        let admission = self.admission(&call)?;
        let settlement = self.settlement(&call)?;
        Ok(Some(CallDetail {
            row: call.row,
            admission,
            settlement,
        }))
    }

    /// The call whose response had this id.
    pub fn call_of_response(&self, response: &Label) -> Result<Option<CallId>, IndexError> {
        self.index.read(|txn| {
            let Some(responses) = table(txn, RESPONSES)? else {
                return Ok(None);
            };
            let id = responses.get(response.as_str())?;
            Ok(id.map(|id| CallId::from_bytes(id.value().to_be_bytes())))
        })
    }

    /// The body the client sent.
    pub fn request_body(&self, id: CallId) -> Result<Option<Body>, IndexError> {
        let call = self.index.read(|txn| stored_call(txn, id_key(id)))?;
        let Some(admission) = call
            .map(|call| self.admission(&call))
            .transpose()?
            .flatten()
        else {
            return Ok(None);
        };
        admission.request.map(|body| self.body(body)).transpose()
    }

    /// The body the client got.
    pub fn response_body(&self, id: CallId) -> Result<Option<Body>, IndexError> {
        let call = self.index.read(|txn| stored_call(txn, id_key(id)))?;
        let Some(settlement) = call
            .map(|call| self.settlement(&call))
            .transpose()?
            .flatten()
        else {
            return Ok(None);
        };
        settlement.response.map(|body| self.body(body)).transpose()
    }

    /// Runs that were active in the span, last active first, each as a whole.
    pub fn runs(&self, filter: &SpanFilter) -> Result<Page<RunRow, Timestamp>, IndexError> {
        self.index.read(|txn| {
            let mut runs = Vec::new();
            each_summary(txn, &Key::prefix_of(b'r', None), |key, summary| {
                if let Key::Run(run) = key
                    && filter.overlaps(summary.first_at, summary.last_at)
                {
                    runs.push((run, summary));
                }
            })?;
            let open = OpenCalls::count(txn, &SpanFilter::default())?;
            Latest::of(runs, filter, |summary| summary)
                .page(|run, summary| run_row(txn, run, summary, &open))
        })
    }

    /// One run with what each agent did in it, and its child runs.
    pub fn run(&self, run: &Label) -> Result<Option<RunDetail>, IndexError> {
        self.index.read(|txn| {
            let Some(summary) = summary(txn, &Key::Run(run.clone()))? else {
                return Ok(None);
            };
            let open = OpenCalls::count(txn, &SpanFilter::default())?;
            let mut by_agent = Vec::new();
            let mut children = Vec::new();
            each_summary(txn, &Key::prefix_of(b'q', Some(run)), |key, summary| {
                if let Key::RunAgent(run, agent) = key {
                    let open_calls = open.of(Some(&run), Some(&agent));
                    let Summary {
                        first_at,
                        last_at,
                        totals,
                        ..
                    } = summary;
                    by_agent.push(RunAgentRow {
                        agent,
                        first_at,
                        last_at,
                        open_calls,
                        totals,
                    });
                }
            })?;
            let mut names = Vec::new();
            each_summary(txn, &Key::prefix_of(b'c', Some(run)), |key, _| {
                names.extend(key.run().cloned());
            })?;
            for child in names {
                if let Some(summary) = self::summary(txn, &Key::Run(child.clone()))? {
                    children.push(run_row(txn, child, summary, &open)?);
                }
            }
            let row = run_row(txn, run.clone(), summary, &open)?;
            Ok(Some(RunDetail {
                row,
                by_agent,
                edges: run_edges(txn, run)?,
                children,
            }))
        })
    }

    /// Agents and what they did in the span, last active first.
    pub fn agents(&self, filter: &SpanFilter) -> Result<Page<AgentRow, Timestamp>, IndexError> {
        self.index.read(|txn| {
            let open = OpenCalls::count(txn, filter)?;
            let agents = spans::agents(txn, filter, &open)?;
            Latest::of(agents, filter, |work| &work.summary).page(|agent, work| {
                let open_calls = open.of(None, Some(&agent));
                let Summary {
                    first_at,
                    last_at,
                    totals,
                    runs,
                    ..
                } = work.summary;
                Ok(AgentRow {
                    agent,
                    first_at,
                    last_at,
                    open_calls,
                    models: work.models.into_iter().collect(),
                    runs,
                    totals,
                })
            })
        })
    }

    /// Who called whom in the span, last active first.
    pub fn edges(&self, filter: &SpanFilter) -> Result<Page<EdgeRow, Timestamp>, IndexError> {
        self.index.read(|txn| {
            let edges = spans::edges(txn, filter)?;
            Latest::of(edges, filter, |summary| summary).page(|(caller, agent), summary| {
                let Summary {
                    first_at,
                    last_at,
                    totals,
                    ..
                } = summary;
                Ok(EdgeRow {
                    caller,
                    agent,
                    first_at,
                    last_at,
                    totals,
                })
            })
        })
    }

    /// What happened to the proxy in the span, newest first.
    pub fn events(&self, filter: &SpanFilter) -> Result<Page<Event, Timestamp>, IndexError> {
        self.index.read(|txn| spans::events(txn, filter))
    }

    /// Loops that were stopped or may go on again in the span, each as it was said last, newest
    /// first.
    pub fn trips(&self, filter: &SpanFilter) -> Result<Page<Trip, Timestamp>, IndexError> {
        self.index.read(|txn| spans::trips(txn, filter))
    }

    /// Whether the process that wrote last said that it stopped.
    pub(crate) fn was_stopped(&self) -> Result<bool, IndexError> {
        self.index.read(spans::was_stopped)
    }

    /// Daily totals of the days from `since` to `until`, both included.
    pub fn rollups(&self, since: i32, until: i32) -> Result<Vec<RollupRow>, IndexError> {
        self.index.read(|txn| {
            let mut rows = Vec::new();
            each_rollup(txn, since, until, |rollup, summary| {
                let Rollup {
                    day,
                    agent,
                    model,
                    upstream,
                } = rollup;
                rows.push(RollupRow {
                    day,
                    agent,
                    model,
                    upstream,
                    totals: summary.totals,
                });
            })?;
            Ok(rows)
        })
    }

    /// Calls that are admitted and not settled.
    pub(crate) fn open_calls(&self) -> Result<Vec<(CallRow, Option<Admission>)>, IndexError> {
        let calls = self.index.read(|txn| {
            let Some(open) = table(txn, OPEN)? else {
                return Ok(Vec::new());
            };
            let mut calls = Vec::new();
            for entry in open.iter()? {
                calls.extend(stored_call(txn, entry?.0.value())?);
            }
            Ok(calls)
        })?;
        let with_admission = |call: StoredCall| {
            let admission = self.admission(&call)?;
            Ok((call.row, admission))
        };
        calls.into_iter().map(with_admission).collect()
    }

    /// Stored contents and the segments they lie in, up to `limit`.
    pub(crate) fn contents(&self, limit: usize) -> Result<Vec<(Digest, u64, bool)>, IndexError> {
        self.index.read(|txn| {
            let Some(contents) = table(txn, CONTENTS)? else {
                return Ok(Vec::new());
            };
            let mut found = Vec::new();
            for entry in contents.iter()?.take(limit) {
                let (digest, at) = entry?;
                let (segment, _, redacted) = at.value();
                found.push((
                    Digest::from_bytes(digest.value().to_be_bytes()),
                    segment,
                    redacted,
                ));
            }
            Ok(found)
        })
    }

    fn admission(&self, call: &StoredCall) -> Result<Option<Admission>, IndexError> {
        let Some(at) = call.admission else {
            return Ok(None);
        };
        read_admission(&*self.storage, at, call.row.id)
    }

    fn settlement(&self, call: &StoredCall) -> Result<Option<Settlement>, IndexError> {
        let Some(at) = call.settlement else {
            return Ok(None);
        };
        read_settlement(&*self.storage, at, call.row.id)
    }

    fn body(&self, stored: StoredBody) -> Result<Body, IndexError> {
        BodyReader::new(self).read(stored)
    }

    /// The bytes of a stored message.
    pub fn content(&self, digest: Digest) -> Result<Option<Vec<u8>>, IndexError> {
        let at = self.index.read(|txn| {
            let Some(contents) = table(txn, CONTENTS)? else {
                return Ok(None);
            };
            let at = contents.get(u128::from_be_bytes(digest.to_bytes()))?;
            Ok(at.map(|at| Position {
                segment: at.value().0,
                offset: at.value().1,
            }))
        })?;
        let Some(at) = at else { return Ok(None) };
        let record = read_record(&*self.storage, at)?;
        Ok(record
            .filter(|record| record.kind == kind::CONTENT)
            .and_then(|record| {
                let content: Content<'_> = minicbor::decode(&record.payload).ok()?;
                if content.digest == digest {
                    unpack_content(&content)
                } else {
                    None
                }
            }))
    }
}

/// A table, if the index has it yet.
fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
    txn: &ReadTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<Option<redb::ReadOnlyTable<K, V>>, IndexError> {
    match txn.open_table(definition) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(Some(table?)),
    }
}

fn stored_call(txn: &ReadTransaction, id: u128) -> Result<Option<StoredCall>, IndexError> {
    let Some(calls) = table(txn, CALLS)? else {
        return Ok(None);
    };
    calls
        .get(id)?
        .map(|bytes| decode(bytes.value()))
        .transpose()
}

fn each_summary(
    txn: &ReadTransaction,
    prefix: &[u8],
    mut take: impl FnMut(Key, Summary),
) -> Result<(), IndexError> {
    let Some(summaries) = table(txn, SUMMARIES)? else {
        return Ok(());
    };
    for entry in summaries.range(prefix..)? {
        let (key, summary) = entry?;
        if !key.value().starts_with(prefix) {
            break;
        }
        let key = Key::from_bytes(key.value()).ok_or(IndexError::Damaged)?;
        take(key, decode(summary.value())?);
    }
    Ok(())
}

fn summary(txn: &ReadTransaction, key: &Key) -> Result<Option<Summary>, IndexError> {
    let Some(summaries) = table(txn, SUMMARIES)? else {
        return Ok(None);
    };
    summaries
        .get(key.to_bytes().as_slice())?
        .map(|bytes| decode(bytes.value()))
        .transpose()
}

/// The roll-ups of the days from `since` to `until`, both included.
fn each_rollup(
    txn: &ReadTransaction,
    since: i32,
    until: i32,
    mut take: impl FnMut(Rollup, Summary),
) -> Result<(), IndexError> {
    let Some(summaries) = table(txn, SUMMARIES)? else {
        return Ok(());
    };
    let from = Key::day_prefix(since);
    for entry in summaries.range(from.as_slice()..)? {
        let (key, summary) = entry?;
        match Key::from_bytes(key.value()) {
            Some(Key::Rollup(rollup)) if rollup.day <= until => {
                take(rollup, decode(summary.value())?);
            }
            _ => break,
        }
    }
    Ok(())
}

/// Who invoked whom in a run, as far as its calls are still recorded.
fn run_edges(txn: &ReadTransaction, run: &Label) -> Result<Vec<RunEdgeRow>, IndexError> {
    let filter = CallFilter {
        run: Some(run.clone()),
        ..CallFilter::default()
    };
    let mut edges: BTreeMap<_, (Summary, u64)> = BTreeMap::new();
    each_candidate(txn, &filter, |StoredCall { row, .. }| {
        let (started_at, last_at) = (row.started_at, row.last_at());
        let totals = Totals::of_row(&row);
        let (summary, open_calls) = edges.entry((row.caller, row.agent)).or_default();
        summary.cover(started_at, last_at);
        match totals {
            Some(totals) => summary.totals.add(&totals),
            None => *open_calls += 1,
        }
        true
    })?;
    let row = |((caller, agent), (summary, open_calls)): ((_, _), (Summary, _))| RunEdgeRow {
        caller,
        agent,
        first_at: summary.first_at,
        last_at: summary.last_at,
        open_calls,
        totals: summary.totals,
    };
    Ok(edges.into_iter().map(row).collect())
}

fn run_row(
    txn: &ReadTransaction,
    run: Label,
    summary: Summary,
    open: &OpenCalls,
) -> Result<RunRow, IndexError> {
    let mut agents = Vec::new();
    each_summary(txn, &Key::prefix_of(b'q', Some(&run)), |key, _| {
        if let Key::RunAgent(_, agent) = key {
            agents.push(agent);
        }
    })?;
    let open_calls = open.of(Some(&run), None);
    let Summary {
        first_at,
        last_at,
        totals,
        parent,
        control,
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
        totals,
    })
}

/// The calls that are open: run, agent and start of each.
struct OpenCalls(Vec<(Option<Label>, Label, Timestamp)>);

impl OpenCalls {
    /// Those that started in the span.
    fn count(txn: &ReadTransaction, span: &SpanFilter) -> Result<Self, IndexError> {
        let mut calls = Vec::new();
        let Some(open) = table(txn, OPEN)? else {
            return Ok(Self(calls));
        };
        for entry in open.iter()? {
            if let Some(StoredCall { row, .. }) = stored_call(txn, entry?.0.value())?
                && span.holds(row.started_at)
            {
                calls.push((row.run, row.agent, row.started_at));
            }
        }
        Ok(Self(calls))
    }

    fn starts(&self) -> impl Iterator<Item = (&Label, Timestamp)> {
        self.0.iter().map(|(_, agent, at)| (agent, *at))
    }

    fn of(&self, run: Option<&Label>, agent: Option<&Label>) -> u64 {
        let counted = self.0.iter().filter(|(its_run, its_agent, _)| {
            run.is_none_or(|run| its_run.as_ref() == Some(run))
                && agent.is_none_or(|agent| its_agent == agent)
        });
        counted.count() as u64
    }
}
