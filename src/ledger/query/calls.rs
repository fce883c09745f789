//! Which calls a question is about, and how the index narrows them down.

use redb::{AccessGuard, ReadTransaction, TableDefinition};

use crate::core::call::{Operation, Outcome};
use crate::core::id::{CallId, Label};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;

use super::super::index::batch::{decode, id_key};
use super::super::index::{BY_AGENT, BY_RUN, CALLS, IndexError, StoredCall};
use super::super::rows::{CallRow, Page};
use super::super::totals::is_error;
use super::{MAX_SCANNED, table};

/// Which calls; every field that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    pub run: Option<Label>,
    pub agent: Option<Label>,
    pub caller: Option<Label>,
    /// Asked for, or answered by.
    pub model: Option<Label>,
    pub upstream: Option<Label>,
    pub outcome: Option<OutcomeFilter>,
    pub operation: Option<Operation>,
    pub user: Option<Label>,
    pub variant: Option<Label>,
    /// The instance that served it.
    pub instance: Option<Label>,
    /// What this instance is called: calls of no other are its own.
    pub own: Option<Label>,
    /// The name of a tag and its value.
    pub tag: Option<(String, Label)>,
    /// Part of its agent, caller, run, model, ids or error, in any case.
    pub text: Option<String>,
    /// It cost so much or more.
    pub min_cost: Option<NanoUsd>,
    /// It failed, whoever's fault it was.
    pub failed: bool,
    /// Started at or after.
    pub since: Option<Timestamp>,
    /// Started before.
    pub until: Option<Timestamp>,
    /// 0 means [`MAX_ROWS`](super::MAX_ROWS).
    pub limit: usize,
    /// Only calls older than this one.
    pub before: Option<CallId>,
}

/// How a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeFilter {
    Open,
    Settled(Outcome),
}

impl CallFilter {
    pub(super) fn matches(&self, row: &CallRow) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, actual: Option<&T>) -> bool {
            wanted.is_none() || wanted == actual
        }
        let outcome = |wanted| match wanted {
            OutcomeFilter::Open => row.outcome.is_none(),
            OutcomeFilter::Settled(outcome) => row.outcome == Some(outcome),
        };
        let model = |model: &Label| {
            [&row.request_model, &row.response_model]
                .into_iter()
                .flatten()
                .any(|its| its == model)
        };
        is(self.run.as_ref(), row.run.as_ref())
            && is(self.agent.as_ref(), Some(&row.agent))
            && is(self.caller.as_ref(), row.caller.as_ref())
            && is(self.upstream.as_ref(), Some(&row.upstream))
            && is(self.operation.as_ref(), Some(&row.operation))
            && is(self.user.as_ref(), row.user.as_ref())
            && is(
                self.instance.as_ref(),
                row.instance.as_ref().or(self.own.as_ref()),
            )
            && is(self.variant.as_ref(), row.variant.as_ref())
            && self.model.as_ref().is_none_or(model)
            && self.outcome.is_none_or(outcome)
            && self.since.is_none_or(|since| row.started_at >= since)
            && self.until.is_none_or(|until| row.started_at < until)
            && (!self.failed || row.outcome.is_some_and(is_error))
            && self.matches_more(row)
    }

    fn matches_more(&self, row: &CallRow) -> bool {
        let tag = |(name, value): &(String, Label)| row.tags.get(name) == Some(value);
        let cost = row.cost_nano_usd.map(NanoUsd::new);
        self.tag.as_ref().is_none_or(tag)
            && self.min_cost.is_none_or(|least| cost >= Some(least))
            && self.text.as_ref().is_none_or(|text| says(row, text))
    }

    /// The range of ids that may match: an id begins with its time in milliseconds.
    fn ids(&self) -> (u128, u128) {
        /// Ids are made around, not exactly at, the time a call starts.
        const SLACK_MS: i64 = 60_000;
        let id = |at: Timestamp, slack: i64| {
            let ms = (at.micros() / 1000).saturating_add(slack);
            u128::from(u64::try_from(ms).unwrap_or(0) & ((1 << 48) - 1)) << 80
        };
        let from = self.since.map_or(0, |since| id(since, -SLACK_MS));
        let until = self.until.map_or(u128::MAX, |until| id(until, SLACK_MS));
        (
            from,
            self.before
                .map_or(until, |before| until.min(id_key(before))),
        )
    }
}

fn says(row: &CallRow, text: &str) -> bool {
    let labels = [
        Some(&row.agent),
        row.caller.as_ref(),
        row.run.as_ref(),
        row.request_model.as_ref(),
        row.response_model.as_ref(),
        row.response_id.as_ref(),
    ];
    labels
        .into_iter()
        .flatten()
        .map(Label::as_str)
        .chain(row.error.as_deref())
        .any(|part| contains(part, text))
        || contains(&row.id.to_string(), text)
}

/// Whether `text` has that part, in any case.
pub(super) fn contains(text: &str, part: &str) -> bool {
    if part.is_ascii() {
        let (text, part) = (text.as_bytes(), part.as_bytes());
        return part.is_empty()
            || text
                .windows(part.len())
                .any(|window| window.eq_ignore_ascii_case(part));
    }
    text.to_lowercase().contains(&part.to_lowercase())
}

/// A page of calls, newest first.
pub(super) fn page(
    txn: &ReadTransaction,
    filter: &CallFilter,
) -> Result<Page<CallRow>, IndexError> {
    let limit = super::rows(filter.limit);
    let mut page = Page {
        items: Vec::new(),
        next: None,
        partial: false,
    };
    let (mut scanned, mut last) = (0, None);
    each_candidate(txn, filter, |call| {
        let is_full = page.items.len() == limit;
        if is_full || scanned == MAX_SCANNED {
            page.partial = !is_full;
            page.next = last;
            return false;
        }
        scanned += 1;
        last = Some(call.row.id);
        if filter.matches(&call.row) {
            page.items.push(call.row);
        }
        true
    })?;
    Ok(page)
}

/// Calls that may match, newest first, until `take` has enough.
pub(super) fn each_candidate(
    txn: &ReadTransaction,
    filter: &CallFilter,
    mut take: impl FnMut(StoredCall) -> bool,
) -> Result<(), IndexError> {
    let (from, until) = filter.ids();
    if from >= until {
        return Ok(());
    }
    let Some(calls) = table(txn, CALLS)? else {
        return Ok(());
    };
    match (&filter.run, &filter.agent) {
        (Some(run), _) => each_named(txn, BY_RUN, (run, from, until), |id| {
            take_call(calls.get(id)?, &mut take)
        }),
        (None, Some(agent)) => each_named(txn, BY_AGENT, (agent, from, until), |id| {
            take_call(calls.get(id)?, &mut take)
        }),
        (None, None) => {
            for entry in calls.range(from..until)?.rev() {
                if !take(decode(entry?.1.value())?) {
                    break;
                }
            }
            Ok(())
        }
    }
}

fn take_call(
    stored: Option<AccessGuard<'_, &'static [u8]>>,
    take: &mut impl FnMut(StoredCall) -> bool,
) -> Result<bool, IndexError> {
    stored.map_or(Ok(true), |call| Ok(take(decode(call.value())?)))
}

/// The ids that a table has under a name, newest first, until `take` has enough.
fn each_named<V: redb::Value + 'static>(
    txn: &ReadTransaction,
    definition: TableDefinition<'_, (&'static str, u128), V>,
    (name, from, until): (&Label, u128, u128),
    mut take: impl FnMut(u128) -> Result<bool, IndexError>,
) -> Result<(), IndexError> {
    let Some(ids) = table(txn, definition)? else {
        return Ok(());
    };
    let name = name.as_str();
    for entry in ids.range((name, from)..(name, until))?.rev() {
        if !take(entry?.0.value().1)? {
            break;
        }
    }
    Ok(())
}
