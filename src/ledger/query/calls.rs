//! Which calls a question is about, and how the index narrows them down.

use redb::ReadTransaction;

use crate::core::call::{Operation, Outcome};
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;

use super::super::index::batch::{decode, id_key};
use super::super::index::{BY_AGENT, BY_RUN, CALLS, IndexError, StoredCall};
use super::super::rows::CallRow;
use super::{stored_call, table};

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
            && self.model.as_ref().is_none_or(model)
            && self.outcome.is_none_or(outcome)
            && self.since.is_none_or(|since| row.started_at >= since)
            && self.until.is_none_or(|until| row.started_at < until)
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

/// Calls that may match, newest first, until `take` has enough.
pub(super) fn each_candidate(
    txn: &ReadTransaction,
    filter: &CallFilter,
    mut take: impl FnMut(StoredCall) -> bool,
) -> Result<(), IndexError> {
    let (from, until) = filter.ids();
    let named = match (&filter.run, &filter.agent) {
        (Some(run), _) => Some((BY_RUN, run)),
        (None, Some(agent)) => Some((BY_AGENT, agent)),
        (None, None) => None,
    };
    if from >= until {
        return Ok(());
    }
    let Some((definition, label)) = named else {
        let Some(calls) = table(txn, CALLS)? else {
            return Ok(());
        };
        for entry in calls.range(from..until)?.rev() {
            if !take(decode(entry?.1.value())?) {
                break;
            }
        }
        return Ok(());
    };
    let Some(ids) = table(txn, definition)? else {
        return Ok(());
    };
    for entry in ids
        .range((label.as_str(), from)..(label.as_str(), until))?
        .rev()
    {
        let id = entry?.0.value().1;
        if let Some(call) = stored_call(txn, id)?
            && !take(call)
        {
            break;
        }
    }
    Ok(())
}
