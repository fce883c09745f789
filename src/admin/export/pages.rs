//! One page of each table.

use std::collections::HashMap;

use super::super::body::fidelity;
use super::super::params::When;
use super::super::problem::Problem;
use super::super::step::{self, Missing, Reason, Told};
use super::{Asked, PAGE};
use crate::core::budget::{AccountId, AccountName, Deed, Dimension};
use crate::core::call::{Part, StoredBody};
use crate::core::digest::Digest;
use crate::core::id::{CallId, Label};
use crate::core::metric::{Measurement, Subject};
use crate::core::time::Timestamp;
use crate::export::{
    BODIES, BUDGETS, CALLS, CHARGES, CONTENT, DECISIONS, Decided, Field, Lack, MAX_TEXT, METRICS,
    Measured, Recorded, Row, Table, Value, charged, row, said, unrecorded,
};
use crate::ledger::{
    BodyReader, CallDetail, CallFilter, CallRow, Event, IndexError, MeasuredCursor, MetricFilter,
    MetricScope, SpanFilter, View,
};

/// A page ends behind the call for which more bytes than this were read or told: bodies may have any
/// length, and whoever asks does not wait for ever.
const MAX_BYTES: usize = 16 << 20;
/// Begins the cursor among charges without a call, which come behind those of calls: a time follows, but
/// not for the first of them.
const UNRECORDED: &str = "unrecorded/";

pub(super) type Found = (Vec<Row>, Option<String>);
pub(super) type Ask = Box<dyn FnOnce(&View) -> Result<Found, IndexError> + Send>;

impl Asked {
    pub(super) fn page(self, table: Table) -> Result<Ask, Problem> {
        Ok(match table {
            Table::Decisions => {
                let before = self.before.as_deref().map(time).transpose()?;
                Box::new(move |view| self.decisions(view, before))
            }
            Table::Budgets => {
                let after = self.before.as_deref().map(account).transpose()?;
                Box::new(move |view| self.budgets(view, after))
            }
            Table::Metrics => {
                let after = self.cursor("a name and a place")?;
                Box::new(move |view| self.metrics(view, after.as_ref()))
            }
            Table::Charges => {
                let before = self.before.as_deref();
                let Some(before) = before.and_then(|it| it.strip_prefix(UNRECORDED)) else {
                    return self.of_calls(table);
                };
                let before = Some(before).filter(|it| !it.is_empty());
                let before = before.map(time).transpose()?;
                Box::new(move |view| self.unrecorded(view, before))
            }
            Table::Calls | Table::Content | Table::Bodies => self.of_calls(table)?,
        })
    }

    fn cursor<T: std::str::FromStr>(&self, expected: &str) -> Result<Option<T>, Problem> {
        let parse = |text: &String| text.parse().map_err(|_| bad_cursor(text, expected));
        self.before.as_ref().map(parse).transpose()
    }

    /// Tables whose rows are of calls.
    fn of_calls(self, table: Table) -> Result<Ask, Problem> {
        let before: Option<CallId> = self.cursor("the id of a call")?;
        let is_for_all = self.run.is_none() && self.agent.is_none() && self.user.is_none();
        let filter = CallFilter {
            run: self.run,
            agent: self.agent,
            user: self.user,
            since: self.span.since,
            until: self.span.until,
            limit: PAGE,
            before,
            ..CallFilter::default()
        };
        Ok(Box::new(move |view| match table {
            Table::Charges => {
                let (rows, next) = details(view, &filter, |call, rows| {
                    tell(CHARGES, &charged(call), rows);
                    Ok(in_place(call))
                })?;
                let behind = is_for_all.then(|| UNRECORDED.to_owned());
                Ok((rows, next.or(behind)))
            }
            Table::Content => {
                let mut bodies = BodyReader::new(view);
                details(view, &filter, |call, rows| content(call, &mut bodies, rows))
            }
            Table::Bodies => {
                let mut bodies = BodyReader::new(view);
                details(view, &filter, |call, rows| {
                    recorded(call, &mut bodies, rows)
                })
            }
            _ => {
                let page = view.calls(&filter)?;
                let rows = page.items.iter().map(|call| row(CALLS, call)).collect();
                Ok((rows, page.next.map(|next| next.to_string())))
            }
        }))
    }

    fn decisions(self, view: &View, before: Option<Timestamp>) -> Result<Found, IndexError> {
        let page = view.events(&SpanFilter {
            before,
            ..self.span
        })?;
        let is = |wanted: Option<&Label>, its: Option<&str>| {
            wanted.is_none_or(|wanted| Some(wanted.as_str()) == its)
        };
        let mut rows = Vec::new();
        for event in page.items {
            let account = account_of(view, &event)?;
            let decided = Decided { event, account };
            if is(self.run.as_ref(), decided.run()) && is(self.agent.as_ref(), decided.agent()) {
                rows.push(row(DECISIONS, &decided));
            }
        }
        Ok((rows, page.next.map(|next| next.to_string())))
    }

    fn budgets(self, view: &View, after: Option<AccountId>) -> Result<Found, IndexError> {
        let accounts = view.accounts(after, PAGE)?;
        let last = accounts.last().filter(|_| accounts.len() == PAGE);
        let next = last.map(|(id, _)| id.0.to_string());
        let wanted = accounts.iter().filter(|(_, account)| {
            let key = account.name.as_ref().map(|name| name.key.as_slice());
            let since = self.span.since;
            self.wants(key.unwrap_or_default())
                && since.is_none_or(|since| account.last_at >= since)
        });
        let rows = wanted.map(|account| row(BUDGETS, account)).collect();
        Ok((rows, next))
    }

    fn wants(&self, key: &[(Dimension, Option<Label>)]) -> bool {
        let has = |of: &Dimension, wanted: Option<&Label>| {
            let mut its = key.iter();
            wanted.is_none()
                || its.any(|(dimension, value)| dimension == of && value.as_ref() == wanted)
        };
        has(&Dimension::Run, self.run.as_ref())
            && has(&Dimension::Agent, self.agent.as_ref())
            && has(&Dimension::User, self.user.as_ref())
    }

    fn unrecorded(self, view: &View, before: Option<Timestamp>) -> Result<Found, IndexError> {
        let page = view.owed_charges(&SpanFilter {
            before,
            ..self.span
        })?;
        let mut rows = Vec::new();
        for act in page.items {
            if let Deed::ChargesRecorded(charges) = act.deed {
                let charges = charges.into_iter().map(|it| unrecorded(act.at, it));
                rows.extend(charges.map(|it| row(CHARGES, &it)));
            }
        }
        Ok((rows, page.next.map(|next| format!("{UNRECORDED}{next}"))))
    }

    fn metrics(self, view: &View, after: Option<&MeasuredCursor>) -> Result<Found, IndexError> {
        let (scope, agent) = match (self.run, self.agent) {
            (Some(run), agent) => (MetricScope::Run(run), agent),
            (None, Some(agent)) => (MetricScope::Agent(agent), None),
            (None, None) => (MetricScope::All, None),
        };
        let filter = MetricFilter {
            agent,
            limit: PAGE,
            ..MetricFilter::of(scope).within(&self.span)
        };
        let page = view.all_measurements(&filter, after)?;
        let calls = calls_of(view, &page.items)?;
        let measured = page.items.into_iter().map(|it| {
            let call = call_of(&it).and_then(|id| calls.get(&id));
            Measured {
                user: call.and_then(|call| call.user.clone()),
                variant: call.and_then(|call| call.variant.clone()),
                it,
            }
        });
        let wanted = measured.filter(|it| self.user.is_none() || self.user == it.user);
        let rows = wanted.map(|it| row(METRICS, &it)).collect();
        Ok((rows, page.next.map(|next| next.to_string())))
    }
}

fn bad_cursor(found: &str, expected: &str) -> Problem {
    Problem::bad_request(format!(
        "query parameters: before: found `{found}`, expected {expected}"
    ))
}

fn time(text: &str) -> Result<Timestamp, Problem> {
    let when: When = text.parse().map_err(|_| bad_cursor(text, "a time"))?;
    Ok(when.before(Timestamp::default()))
}

fn account(text: &str) -> Result<AccountId, Problem> {
    let number = u128::from_str_radix(text, 16).map_err(|_| bad_cursor(text, "an account_id"))?;
    Ok(AccountId(Digest::from_bytes(number.to_be_bytes())))
}

/// What the account is called that an event is about.
fn account_of(view: &View, event: &Event) -> Result<Option<AccountName>, IndexError> {
    let id = event.signal.as_deref().and_then(|signal| signal.account);
    let account = id.map(|id| view.account(id)).transpose()?.flatten();
    Ok(account.and_then(|account| account.name))
}

fn call_of(it: &Measurement) -> Option<CallId> {
    match it.subject {
        Subject::Call(id) => Some(id),
        Subject::Run(_) | Subject::Agent(_) => None,
    }
}

/// The calls that are measured, as far as they are recorded.
fn calls_of(view: &View, items: &[Measurement]) -> Result<HashMap<CallId, CallRow>, IndexError> {
    let ids: Vec<CallId> = items.iter().filter_map(call_of).collect();
    let calls = view.rows_of(&ids)?.into_iter().flatten();
    Ok(calls.map(|call| (call.id, call)).collect())
}

fn tell<T>(fields: &[Field<T>], records: &[T], rows: &mut Vec<Row>) -> usize {
    let before = rows.len();
    rows.extend(records.iter().map(|it| row(fields, it)));
    let told = rows.iter().skip(before).flatten();
    told.map(|value| match value {
        Value::Text(text) => text.len(),
        _ => 8,
    })
    .sum()
}

/// Rows of calls whose records have to be read. `rows` adds those of one call, and says how many bytes
/// that took.
fn details(
    view: &View,
    filter: &CallFilter,
    mut rows: impl FnMut(&CallDetail, &mut Vec<Row>) -> Result<usize, IndexError>,
) -> Result<Found, IndexError> {
    let page = view.calls(filter)?;
    let (mut found, mut bytes, count) = (Vec::new(), 0, page.items.len());
    for (number, call) in (1..).zip(page.items) {
        if let Some(detail) = view.call(call.id)? {
            bytes += rows(&detail, &mut found)?;
        }
        if bytes > MAX_BYTES && number < count {
            return Ok((found, Some(call.id.to_string())));
        }
    }
    Ok((found, page.next.map(|next| next.to_string())))
}

fn bodies_of(call: &CallDetail) -> [Option<&StoredBody>; 2] {
    let request = call.admission.as_ref().and_then(|it| it.request.as_ref());
    let response = call.settlement.as_ref().and_then(|it| it.response.as_ref());
    [request, response]
}

/// Bytes of the bodies of a call.
fn length(call: &CallDetail) -> usize {
    let bodies = bodies_of(call).into_iter().flatten();
    let bytes = bodies.map(|body| usize::try_from(body.len).unwrap_or(usize::MAX));
    bytes.fold(0, usize::saturating_add)
}

/// Those of them that lie in the records of the call.
fn in_place(call: &CallDetail) -> usize {
    let bodies = bodies_of(call).into_iter().flatten();
    let parts = bodies.flat_map(|body| &body.parts);
    parts
        .map(|part| match part {
            Part::Literal(bytes) | Part::Compressed(_, bytes) => bytes.len(),
            Part::Content(_) | Part::Group(_) => 0,
        })
        .sum()
}

fn content(
    call: &CallDetail,
    bodies: &mut BodyReader<'_>,
    rows: &mut Vec<Row>,
) -> Result<usize, IndexError> {
    let (sent, answered) = step::messages(call, bodies, MAX_TEXT)?;
    let mut bytes = length(call);
    for (side, Told { messages, missing }) in [("request", sent), ("response", answered)] {
        let lack = missing.as_ref().and_then(lack);
        bytes += tell(CONTENT, &said(&call.row, side, messages, lack), rows);
    }
    Ok(bytes)
}

/// Where there was nothing, nothing is missing.
fn lack(missing: &Missing) -> Option<Lack> {
    (missing.reason != Reason::Empty).then(|| Lack {
        reason: missing.reason.into(),
        is_cut: missing.reason == Reason::Truncated,
    })
}

fn recorded(
    call: &CallDetail,
    bodies: &mut BodyReader<'_>,
    rows: &mut Vec<Row>,
) -> Result<usize, IndexError> {
    let mut bytes = length(call);
    for (side, stored) in ["request", "response"].into_iter().zip(bodies_of(call)) {
        let Some(stored) = stored else { continue };
        let body = bodies.read(stored.clone())?;
        let recorded = Recorded {
            call: call.row.clone(),
            side,
            stored: fidelity(&body),
            body,
        };
        bytes += tell(BODIES, &[recorded], rows);
    }
    Ok(bytes)
}
