//! Questions to the ledger. Every answer comes from one consistent state of the index.
//!
//! These block on the disk: call them from a thread that may.

use std::collections::BTreeSet;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError};

use crate::core::call::{Admission, Settlement, StoredBody};
use crate::core::digest::Digest;
use crate::core::id::{CallId, Label};
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;

mod budgets;
mod calls;
mod compare;
mod exported;
mod measured;
mod neighbours;
mod parting;
mod picked;
mod runs;
mod series;
mod spans;
mod sums;
mod told;
mod tops;

pub use calls::{CallFilter, OutcomeFilter};
pub use compare::{CompareFilter, Gathered, MAX_COMPARED_RUNS};
pub use exported::MeasuredCursor;
pub use measured::{
    MetricCursor, MetricCursorError, MetricFilter, MetricScope, MetricSums, RunMetrics,
    measured_identity,
};
pub use neighbours::{BodyReader, Neighbours};
pub use runs::{MAX_MARKS, RunFilter, Standing};
pub use series::{By, MAX_BUCKETS, SeriesFilter};
pub use spans::{Sought, SpanFilter};
pub use told::RunEvents;

use super::body::unpack_content;
use super::index::batch::slices::reach;
use super::index::batch::{decode, id_key, read_admission, read_late, read_settlement};
use super::index::{CALLS, CONTENTS, Index, IndexError, OPEN, RESPONSES, SUMMARIES, StoredCall};
use super::log::read_record;
use super::record::{Content, Event, Position, kind};
use super::rows::{
    AgentRow, Body, CallDetail, CallRow, EdgeRow, ModelRow, Page, RollupRow, Spanned,
};
use super::slices::{Grain, Slice};
use super::storage::Storage;
use super::summary::{Key, Summary};

/// Rows of one page, at most.
pub const MAX_ROWS: usize = 1000;

/// Rows that are looked at for one page of those that match a filter.
pub const MAX_SCANNED: usize = 10_000;

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
        self.index.read(|txn| calls::page(txn, filter))
    }

    /// One call with its two records.
    pub fn call(&self, id: CallId) -> Result<Option<CallDetail>, IndexError> {
        let Some(call) = self.index.read(|txn| stored_call(txn, id_key(id)))? else {
            return Ok(None);
        };
        let admission = self.admission(&call)?;
        let settlement = self.settlement(&call)?;
        let late = call.late.map(|at| read_late(&*self.storage, at, id));
        Ok(Some(CallDetail {
            row: call.row,
            admission,
            settlement,
            late: late.transpose()?.flatten(),
        }))
    }

    /// What the index has of each of these calls.
    pub fn rows_of(&self, ids: &[CallId]) -> Result<Vec<Option<CallRow>>, IndexError> {
        self.index.read(|txn| {
            let row = |id: &CallId| Ok(stored_call(txn, id_key(*id))?.map(|call| call.row));
            ids.iter().map(row).collect()
        })
    }

    /// Whether a call of another instance is to be taken in: how it ended is not known here, and the
    /// log reaches back to then. What was let go of is in the sums that outlive it.
    pub fn lacks(&self, settlement: &Settlement) -> Result<bool, IndexError> {
        let took = settlement.timings.total_us;
        let ended = settlement.started_at.plus_micros(took);
        self.index.read(|txn| {
            let call = stored_call(txn, id_key(settlement.id))?;
            let is_known = call.is_some_and(|call| call.row.outcome.is_some());
            let floor = reach(txn)?.floor;
            Ok(!is_known && floor.is_none_or(|floor| ended >= floor))
        })
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

    /// Agents and what they did in the span, last active first.
    pub fn agents(&self, filter: &SpanFilter) -> Result<Spanned<AgentRow>, IndexError> {
        self.index.read(|txn| {
            let open = OpenCalls::count(txn, filter)?;
            let agents = spans::agents(txn, filter, &open)?;
            Ok(spans::page(agents, filter, |(agent, sum)| {
                spans::agent_row(agent, sum, &open)
            }))
        })
    }

    /// Who called whom in the span, last active first.
    pub fn edges(&self, filter: &SpanFilter) -> Result<Spanned<EdgeRow>, IndexError> {
        self.index.read(|txn| {
            let edges = spans::edges(txn, filter)?;
            let row = |((caller, agent), slice): ((Label, Label), Slice)| EdgeRow {
                caller,
                agent,
                first_at: slice.first_at,
                last_at: slice.last_at,
                figures: slice.figures(),
            };
            Ok(spans::page(edges, filter, row))
        })
    }

    /// Models and what their calls of the span used, last used first.
    pub fn models(&self, filter: &SpanFilter) -> Result<Spanned<ModelRow>, IndexError> {
        self.index.read(|txn| {
            let models = spans::models(txn, filter)?;
            Ok(spans::page(models, filter, spans::model_row))
        })
    }

    /// What happened to the proxy in the span, newest first.
    pub fn events(&self, filter: &SpanFilter) -> Result<Page<Event, Timestamp>, IndexError> {
        self.index.read(|txn| spans::events(txn, filter))
    }

    /// The newest events of the span that are `wanted`, no more than the limit of the filter.
    pub fn events_that(
        &self,
        filter: &SpanFilter,
        wanted: impl FnMut(&Event) -> bool,
    ) -> Result<Sought, IndexError> {
        self.index.read(|txn| spans::sought(txn, filter, wanted))
    }

    /// Loops that were stopped or may go on again in the span, newest first. Each is told once, on
    /// whatever page, as it stood last by now.
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
            let days = (Timestamp::of_day(since), Timestamp::of_day(until));
            let days = (days.0, Grain::Day.after(days.1));
            let mut unreadable = false;
            sums::each_of_grain(txn, Grain::Day, days, |start, of, slice| {
                let row = of.rollup(start.day(), slice.totals);
                unreadable |= row.is_none();
                rows.extend(row);
                true
            })?;
            if unreadable {
                return Err(IndexError::Damaged);
            }
            Ok(rows)
        })
    }

    /// Calls that are admitted and not settled.
    pub(crate) fn open_calls(&self) -> Result<Vec<(CallRow, Option<Admission>)>, IndexError> {
        let calls = self.index.read(open_calls)?;
        let with_admission = |call: StoredCall| {
            let admission = self.admission(&call)?;
            Ok((call.row, admission))
        };
        calls.into_iter().map(with_admission).collect()
    }

    /// Runs that a call of is open here. What is open elsewhere is not known.
    pub fn open_runs(&self) -> Result<BTreeSet<Label>, IndexError> {
        let calls = self.index.read(open_calls)?.into_iter();
        let own = calls.filter(|call| call.row.instance.is_none());
        Ok(own.filter_map(|call| call.row.run).collect())
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

fn open_calls(txn: &ReadTransaction) -> Result<Vec<StoredCall>, IndexError> {
    let Some(open) = table(txn, OPEN)? else {
        return Ok(Vec::new());
    };
    let mut calls = Vec::new();
    for entry in open.iter()? {
        calls.extend(stored_call(txn, entry?.0.value())?);
    }
    Ok(calls)
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

/// The calls that are open: agent and start of each.
struct OpenCalls(Vec<(Label, Timestamp)>);

impl OpenCalls {
    /// Those that started in the span.
    fn count(txn: &ReadTransaction, span: &SpanFilter) -> Result<Self, IndexError> {
        let mut calls = Vec::new();
        let Some(open) = table(txn, OPEN)? else {
            return Ok(Self(calls));
        };
        for entry in open.iter()? {
            let mark = entry?.1;
            let (started_at, _, agent) = mark.value();
            let started_at = Timestamp::from_micros(started_at);
            if span.holds(started_at) {
                let agent = Label::parse(agent).map_err(|_| IndexError::Damaged)?;
                calls.push((agent, started_at));
            }
        }
        Ok(Self(calls))
    }

    fn starts(&self) -> impl Iterator<Item = (&Label, Timestamp)> {
        self.0.iter().map(|(agent, at)| (agent, *at))
    }

    fn of(&self, agent: &Label) -> u64 {
        self.0.iter().filter(|(its, _)| its == agent).count() as u64
    }
}
