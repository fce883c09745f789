//! What only exports ask for: every measurement, and what was charged without a call.

use std::fmt;
use std::str::FromStr;

use redb::{ReadOnlyTable, ReadTransaction};

use crate::core::budget::{Act, Deed};
use crate::core::metric::Measurement;
use crate::core::time::Timestamp;

use super::super::index::batch::decode;
use super::super::index::{EVENTS, IndexError, MEASURED};
use super::super::rows::Page;
use super::{MAX_SCANNED, MetricFilter, SpanFilter, View, rows, table};

type Rows = ReadOnlyTable<(&'static str, &'static str, i64, u64), &'static [u8]>;

/// A place among all measurements, written as `score/1764500000000000-7f3a`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredCursor {
    name: String,
    at: i64,
    tie: u64,
}

impl fmt::Display for MeasuredCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{:x}", self.name, self.at, self.tie)
    }
}

impl FromStr for MeasuredCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, place) = text.rsplit_once('/').ok_or(())?;
        let (at, tie) = place.rsplit_once('-').ok_or(())?;
        Ok(Self {
            name: name.to_owned(),
            at: at.parse().map_err(|_| ())?,
            tie: u64::from_str_radix(tie, 16).map_err(|_| ())?,
        })
    }
}

impl View {
    /// Measurements of all names that match, by name, newest first within each. `before` and `name`
    /// of the filter do not count.
    pub fn all_measurements(
        &self,
        filter: &MetricFilter,
        after: Option<&MeasuredCursor>,
    ) -> Result<Page<Measurement, MeasuredCursor>, IndexError> {
        self.index.read(|txn| measurements(txn, filter, after))
    }

    /// What was charged while no record could be written, newest first. What was recorded in one
    /// moment is never parted by a page.
    pub fn owed_charges(&self, span: &SpanFilter) -> Result<Page<Act, Timestamp>, IndexError> {
        self.index.read(|txn| owed(txn, span))
    }
}

fn measurements(
    txn: &ReadTransaction,
    filter: &MetricFilter,
    after: Option<&MeasuredCursor>,
) -> Result<Page<Measurement, MeasuredCursor>, IndexError> {
    let mut page = Page {
        items: Vec::new(),
        next: None,
        partial: false,
    };
    let Some(measured) = table(txn, MEASURED)? else {
        return Ok(page);
    };
    let (limit, scope) = (rows(filter.limit), filter.scope.to_key());
    let since = filter.since.map_or(i64::MIN, Timestamp::micros);
    let until = filter.until.map_or(i64::MAX, Timestamp::micros).max(since);
    let (mut scanned, mut last) = (0, after.cloned());
    let mut end = after.map_or((until, 0), |it| (it.at, it.tie).min((until, 0)));
    let mut name = match after {
        Some(after) => Some(after.name.clone()),
        None => next_name(&measured, &scope, "")?,
    };
    while let Some(of) = name {
        let end_key = (scope.as_str(), of.as_str(), end.0.max(since), end.1);
        let range = (scope.as_str(), of.as_str(), since, 0)..end_key;
        for entry in measured.range(range)?.rev() {
            let is_full = page.items.len() == limit;
            if is_full || scanned == MAX_SCANNED {
                page.partial = !is_full;
                page.next = last;
                return Ok(page);
            }
            scanned += 1;
            let (key, row) = entry?;
            let (_, _, at, tie) = key.value();
            last = Some(MeasuredCursor {
                name: of.clone(),
                at,
                tie,
            });
            let it: Measurement = decode(row.value())?;
            if filter.agent.is_none() || filter.agent.as_ref() == it.agent() {
                page.items.push(it);
            }
        }
        end = (until, 0);
        name = next_name(&measured, &scope, &of)?;
    }
    Ok(page)
}

fn next_name(measured: &Rows, scope: &str, name: &str) -> Result<Option<String>, IndexError> {
    let behind = (scope, name, i64::MAX, u64::MAX);
    let Some(entry) = measured.range(behind..)?.next() else {
        return Ok(None);
    };
    let key = entry?.0;
    let (its, next, ..) = key.value();
    Ok((its == scope).then(|| next.to_owned()))
}

fn owed(txn: &ReadTransaction, span: &SpanFilter) -> Result<Page<Act, Timestamp>, IndexError> {
    let mut page = Page {
        items: Vec::new(),
        next: None,
        partial: false,
    };
    let from = span.since.map_or(i64::MIN, Timestamp::micros);
    let until = [span.until, span.before].into_iter().flatten().min();
    let until = until.map_or(i64::MAX, Timestamp::micros);
    let Some(events) = table(txn, EVENTS)?.filter(|_| from < until) else {
        return Ok(page);
    };
    let (mut scanned, mut last, limit) = (0, None, rows(span.limit));
    for entry in events.range((from, 0, 0)..(until, 0, 0))?.rev() {
        let (key, event) = entry?;
        let at = Timestamp::from_micros(key.value().0);
        let is_full = page.items.len() >= limit;
        if (is_full || scanned >= MAX_SCANNED) && last != Some(at) {
            page.partial = !is_full;
            page.next = last;
            break;
        }
        scanned += 1;
        last = Some(at);
        let act = minicbor::decode::<Act>(event.value()).ok();
        page.items
            .extend(act.filter(|act| matches!(act.deed, Deed::ChargesRecorded(_))));
    }
    Ok(page)
}
