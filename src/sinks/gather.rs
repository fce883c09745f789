//! From the log to rows: what was recorded since, as the exports would tell it. Blocks on the disk.

use std::collections::{HashMap, HashSet};

use super::rows::{Entry, Lot};
use super::schema::is_told;
use crate::config::SinkTable;
use crate::core::budget::AccountName;
use crate::core::id::CallId;
use crate::core::metric::{Measurement, Subject};
use crate::export::{CALLS, DECISIONS, Decided, Field, METRICS, Measured, Row, Value};
use crate::ledger::{
    Bookmark, CallRow, Event, Feed, IndexError, Ledger, MetricFilter, MetricScope, News, View,
    measured_identity,
};

/// Reads on from a place in the ledger.
pub(super) struct Gatherer {
    ledger: Ledger,
    tables: Vec<SinkTable>,
    feed: Feed,
}

/// What came since the last look.
pub(super) struct Gathered {
    pub(super) lots: Vec<Lot>,
    /// Records that it is made of.
    pub(super) news: usize,
    /// Behind all of it.
    pub(super) place: Bookmark,
    /// There is more by now.
    pub(super) is_full: bool,
    /// All is read that was recorded when it was looked for.
    pub(super) has_all: bool,
    /// Retention was faster: something is not among it that should be.
    pub(super) is_missed: bool,
    /// How far the place is behind the end of the log.
    pub(super) lag_bytes: u64,
}

impl Gathered {
    pub(super) fn is_empty(&self) -> bool {
        self.lots.iter().all(|lot| lot.rows.is_empty())
    }
}

impl Gatherer {
    pub(super) fn new(ledger: &Ledger, tables: &[SinkTable], feed: Feed) -> Self {
        Self {
            ledger: ledger.clone(),
            tables: tables.to_vec(),
            feed,
        }
    }

    /// Where it stands.
    pub(super) fn place(&self) -> Bookmark {
        self.feed.bookmark()
    }

    /// What is recorded and indexed by now, of up to `most` records.
    pub(super) fn next(&mut self, most: usize) -> Result<Gathered, IndexError> {
        let end = Feed::from_end(&self.ledger).bookmark();
        let batch = self.feed.next(most)?;
        let news = batch.news.len();
        let view = self.ledger.peek();
        let (mut calls, mut told, mut measured) = (Vec::new(), Vec::new(), Vec::new());
        for (_, news) in batch.news {
            match news {
                News::Settled(id) | News::Late(id) => calls.push(id),
                News::Told(event) => told.push(*event),
                News::Measured(it) => measured.push(*it),
                News::Found(_) => {}
            }
        }
        let mut lots = Vec::new();
        let mut is_missed = batch.missed;
        for table in &self.tables {
            let rows = match table {
                SinkTable::Calls => {
                    let (rows, are_all) = of_calls(view, &calls)?;
                    is_missed |= !are_all;
                    rows
                }
                SinkTable::Decisions => told
                    .drain(..)
                    .map(|event| decision(view, event))
                    .collect::<Result<_, _>>()?,
                SinkTable::Metrics => metrics(view, &calls, &mut measured)?,
            };
            lots.push(Lot::new(*table, rows));
        }
        Ok(Gathered {
            lots,
            news,
            place: batch.behind,
            is_full: batch.is_full,
            has_all: !self.feed.is_behind(end),
            is_missed,
            lag_bytes: self.feed.lag(),
        })
    }
}

/// The row of a record, without what was said.
fn row<T>(fields: &[Field<T>], record: &T) -> Row {
    let told = fields.iter().filter(|field| is_told(&field.column));
    told.map(|field| (field.value)(record)).collect()
}

/// Rows of calls as they stand; says whether all were there.
fn of_calls(view: &View, ids: &[CallId]) -> Result<(Vec<Entry>, bool), IndexError> {
    let ids = once(ids);
    let found = view.rows_of(&ids)?;
    let are_all = found.iter().all(Option::is_some);
    let entry = |call: CallRow| Entry {
        id: call.id.to_string(),
        row: row(CALLS, &call),
    };
    Ok((found.into_iter().flatten().map(entry).collect(), are_all))
}

fn once(ids: &[CallId]) -> Vec<CallId> {
    let mut seen = HashSet::new();
    let ids = ids.iter().copied();
    ids.filter(|id| seen.insert(*id)).collect()
}

fn decision(view: &View, event: Event) -> Result<Entry, IndexError> {
    let id = decision_id(&event);
    let account = account_of(view, &event)?;
    let mut row = row(DECISIONS, &Decided { event, account });
    row.insert(0, Value::Text(id.clone()));
    Ok(Entry { id, row })
}

fn account_of(view: &View, event: &Event) -> Result<Option<AccountName>, IndexError> {
    let id = event.signal.as_deref().and_then(|signal| signal.account);
    let account = id.map(|id| view.account(id)).transpose()?.flatten();
    Ok(account.and_then(|account| account.name))
}

/// Made of what an event says, since it has no id. Events that say the same of the same moment are one.
fn decision_id(event: &Event) -> String {
    let trip = event.trip.as_ref().map(|trip| trip.id.to_string());
    let scope = event.signal.as_ref().map(|signal| {
        let account = signal.account.map(|it| it.0.to_string());
        let scope = &signal.scope;
        let about: &str = scope.about.into();
        let parts = [Some(about), Some(&scope.name), scope.key.as_deref()];
        (parts.map(|it| it.map(str::to_owned)), account)
    });
    let (parts, account) = scope.unwrap_or_default();
    let mut hash = blake3::Hasher::new();
    hash.update(&event.at.micros().to_le_bytes());
    let said = [
        Some(event.who.clone()),
        Some(event.what.clone()),
        event.details.clone(),
    ];
    for part in said.into_iter().chain([trip, account]).chain(parts) {
        let length = part.as_ref().map_or(u64::MAX, |it| it.len() as u64);
        hash.update(&length.to_le_bytes());
        hash.update(part.unwrap_or_default().as_bytes());
    }
    let hash = hash.finalize().to_hex();
    hash.chars().take(32).collect()
}

/// What came with calls or was said of them before, then what was said of anything. What another
/// instance was told is its own to write.
fn metrics(
    view: &View,
    calls: &[CallId],
    said: &mut Vec<Measurement>,
) -> Result<Vec<Entry>, IndexError> {
    let mut all = Vec::new();
    for id in once(calls) {
        let filter = MetricFilter::of(MetricScope::Call(id));
        let known = view.measurements(&filter)?.items;
        all.extend(known.into_iter().filter(|it| it.instance.is_none()));
    }
    all.append(said);
    let ids: Vec<CallId> = all.iter().filter_map(call_of).collect();
    let known = view.rows_of(&once(&ids))?.into_iter().flatten();
    let known: HashMap<CallId, CallRow> = known.map(|call| (call.id, call)).collect();
    let entry = |it: Measurement| {
        let call = call_of(&it).and_then(|id| known.get(&id));
        let id = format!("{:032x}", measured_identity(&it));
        let measured = Measured {
            user: call.and_then(|call| call.user.clone()),
            variant: call.and_then(|call| call.variant.clone()),
            it,
        };
        let mut row = row(METRICS, &measured);
        row.insert(0, Value::Text(id.clone()));
        Entry { id, row }
    };
    Ok(all.into_iter().map(entry).collect())
}

fn call_of(it: &Measurement) -> Option<CallId> {
    match it.subject {
        Subject::Call(id) => Some(id),
        Subject::Run(_) | Subject::Agent(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Timestamp;
    use crate::sinks::schema::Shape;

    #[test]
    fn a_row_has_a_value_for_each_column_that_the_database_has() {
        let event = Event::own(Timestamp::from_micros(1), "loop_tripped", None);
        let account = None;
        let row = row(DECISIONS, &Decided { event, account });
        let shape = Shape::of(SinkTable::Decisions);
        assert_eq!(
            row.len() + 2,
            shape.columns.len(),
            "instance and id beside it"
        );
        assert_eq!(row.len() + 1, DECISIONS.len(), "what was said is not told");
    }
}
