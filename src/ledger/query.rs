//! Questions to the ledger. Every answer comes from one consistent state of the index.
//!
//! These block on the disk: call them from a thread that may.

use std::collections::HashMap;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError};

use crate::core::call::{Admission, Settlement, StoredBody};
use crate::core::digest::Digest;
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;

mod calls;

use calls::each_candidate;
pub use calls::{CallFilter, OutcomeFilter};

use super::body::{rebuild, unpack_content};
use super::index::batch::{decode, id_key, read_admission};
use super::index::{CALLS, CONTENTS, Index, IndexError, OPEN, RESPONSES, SUMMARIES, StoredCall};
use super::log::read_record;
use super::record::{Content, Position, kind};
use super::rows::{
    AgentRow, Body, CallDetail, CallRow, EdgeRow, Page, RollupRow, RunAgentRow, RunDetail, RunRow,
};
use super::storage::Storage;
use super::summary::{Key, Summary};

/// Rows of one page, at most.
pub const MAX_ROWS: usize = 1000;

/// Which runs, agents or edges.
#[derive(Clone, Debug, Default)]
pub struct SpanFilter {
    /// Last active at or after.
    pub since: Option<Timestamp>,
    /// Last active before: also where the next page begins.
    pub before: Option<Timestamp>,
    /// 0 means [`MAX_ROWS`].
    pub limit: usize,
}

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

    /// Runs, last active first.
    pub fn runs(&self, filter: &SpanFilter) -> Result<Page<RunRow, Timestamp>, IndexError> {
        self.index.read(|txn| {
            let found = spans(txn, &Key::prefix_of(b'r', None), filter)?;
            let open = OpenCalls::count(txn)?;
            page(found, |key, summary| match key {
                Key::Run(run) => run_row(txn, run, summary, &open).map(Some),
                _ => Ok(None),
            })
        })
    }

    /// One run with what each agent did in it, and its child runs.
    pub fn run(&self, run: &Label) -> Result<Option<RunDetail>, IndexError> {
        self.index.read(|txn| {
            let Some(summary) = summary(txn, &Key::Run(run.clone()))? else {
                return Ok(None);
            };
            let open = OpenCalls::count(txn)?;
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
                children,
            }))
        })
    }

    /// Agents, last active first.
    pub fn agents(&self, filter: &SpanFilter) -> Result<Page<AgentRow, Timestamp>, IndexError> {
        self.index.read(|txn| {
            let found = spans(txn, &Key::prefix_of(b'a', None), filter)?;
            let open = OpenCalls::count(txn)?;
            page(found, |key, summary| {
                let Key::Agent(agent) = key else {
                    return Ok(None);
                };
                let mut models = Vec::new();
                each_summary(txn, &Key::prefix_of(b'm', Some(&agent)), |key, _| {
                    if let Key::AgentModel(_, model) = key {
                        models.push(model);
                    }
                })?;
                let open_calls = open.of(None, Some(&agent));
                let Summary {
                    first_at,
                    last_at,
                    totals,
                    runs,
                    ..
                } = summary;
                Ok(Some(AgentRow {
                    agent,
                    first_at,
                    last_at,
                    open_calls,
                    models,
                    runs,
                    totals,
                }))
            })
        })
    }

    /// Who called whom, last active first.
    pub fn edges(&self, filter: &SpanFilter) -> Result<Page<EdgeRow, Timestamp>, IndexError> {
        self.index.read(|txn| {
            page(
                spans(txn, &Key::prefix_of(b'e', None), filter)?,
                |key, summary| {
                    let Key::Edge(caller, agent) = key else {
                        return Ok(None);
                    };
                    let Summary {
                        first_at,
                        last_at,
                        totals,
                        ..
                    } = summary;
                    Ok(Some(EdgeRow {
                        caller,
                        agent,
                        first_at,
                        last_at,
                        totals,
                    }))
                },
            )
        })
    }

    /// Daily totals of the days from `since` to `until`, both included.
    pub fn rollups(&self, since: i32, until: i32) -> Result<Vec<RollupRow>, IndexError> {
        self.index.read(|txn| {
            let Some(summaries) = table(txn, SUMMARIES)? else {
                return Ok(Vec::new());
            };
            let from = Key::day_prefix(since);
            let mut rows = Vec::new();
            for entry in summaries.range(from.as_slice()..)? {
                let (key, summary) = entry?;
                let Some(Key::Rollup(rollup)) = Key::from_bytes(key.value()) else {
                    break;
                };
                if rollup.day > until {
                    break;
                }
                let totals = decode::<Summary>(summary.value())?.totals;
                let super::summary::Rollup {
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
                    totals,
                });
            }
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
        let record = read_record(&*self.storage, at)?;
        let record = record.filter(|record| record.kind == kind::SETTLEMENT);
        Ok(record.and_then(|record| minicbor::decode(&record.payload).ok()))
    }

    fn body(&self, stored: StoredBody) -> Result<Body, IndexError> {
        let rebuilt = rebuild(&stored.parts, &mut |digest| self.content(digest))?;
        Ok(Body {
            bytes: rebuilt.bytes,
            content_type: stored.content_type,
            content_encoding: stored.content_encoding,
            exact: !stored.changed && !stored.truncated && !rebuilt.incomplete,
            truncated: stored.truncated,
            wire_len: stored.len,
        })
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

/// Summaries that match, last active first, and whether there were more.
struct Found {
    spans: Vec<(Key, Summary)>,
    more: bool,
}

fn spans(txn: &ReadTransaction, prefix: &[u8], filter: &SpanFilter) -> Result<Found, IndexError> {
    let mut spans = Vec::new();
    each_summary(txn, prefix, |key, summary| {
        if filter.since.is_none_or(|since| summary.last_at >= since)
            && filter.before.is_none_or(|before| summary.last_at < before)
        {
            spans.push((key, summary));
        }
    })?;
    spans.sort_by(|(a, x), (b, y)| y.last_at.cmp(&x.last_at).then_with(|| a.cmp(b)));
    let more = spans.len() > rows(filter.limit);
    spans.truncate(rows(filter.limit));
    Ok(Found { spans, more })
}

fn page<T>(
    found: Found,
    mut row: impl FnMut(Key, Summary) -> Result<Option<T>, IndexError>,
) -> Result<Page<T, Timestamp>, IndexError> {
    let last = found.spans.last().map(|(_, summary)| summary.last_at);
    let mut items = Vec::with_capacity(found.spans.len());
    for (key, summary) in found.spans {
        items.extend(row(key, summary)?);
    }
    Ok(Page {
        items,
        next: last.filter(|_| found.more),
    })
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
        ..
    } = summary;
    Ok(RunRow {
        run,
        parent_run: parent,
        first_at,
        last_at,
        open_calls,
        agents,
        totals,
    })
}

/// How many calls are open, by run and agent.
struct OpenCalls(HashMap<(Option<Label>, Label), u64>);

impl OpenCalls {
    fn count(txn: &ReadTransaction) -> Result<Self, IndexError> {
        let mut counts: HashMap<_, u64> = HashMap::new();
        let Some(open) = table(txn, OPEN)? else {
            return Ok(Self(counts));
        };
        for entry in open.iter()? {
            if let Some(StoredCall { row, .. }) = stored_call(txn, entry?.0.value())? {
                *counts.entry((row.run, row.agent)).or_default() += 1;
            }
        }
        Ok(Self(counts))
    }

    fn of(&self, run: Option<&Label>, agent: Option<&Label>) -> u64 {
        let counted = self.0.iter().filter(|((its_run, its_agent), _)| {
            run.is_none_or(|run| its_run.as_ref() == Some(run))
                && agent.is_none_or(|agent| its_agent == agent)
        });
        counted.map(|(_, count)| count).sum()
    }
}
