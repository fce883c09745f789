//! Tables page by page, for whoever writes them to files.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::When;
use super::problem::Problem;
use super::records::Records;
use super::step;
use crate::core::budget::{AccountId, Dimension};
use crate::core::digest::Digest;
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;
use crate::export::{
    BUDGETS, CALLS, CHARGES, CONTENT, DECISIONS, MAX_TEXT, METRICS, Row, StoredBudget, Table,
    Value, charged, measured, row, said,
};
use crate::ledger::{BodyReader, CallDetail, CallFilter, CallRow, IndexError, SpanFilter, View};

/// Calls, events or accounts of one page.
const PAGE: usize = 1000;
/// A page of content ends behind the call that makes its texts longer than this.
const MAX_CONTENT: usize = 8 << 20;

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new().routes(routes!(export))
}

/// Which rows of a table.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportParams {
    /// From this time on: of calls their start, of accounts when they were last used
    #[param(value_type = Option<String>, example = "1d")]
    pub since: Option<When>,
    /// Before this time
    #[param(value_type = Option<String>)]
    pub until: Option<When>,
    /// Only of this run; of budgets the accounts whose key has it
    pub run: Option<Label>,
    /// Only of this agent
    pub agent: Option<Label>,
    /// Only for this user; decisions know of none
    pub user: Option<Label>,
    /// Only what follows: `next` of the answer before
    pub before: Option<String>,
}

/// Some rows of a table, newest first; accounts by their id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportPage {
    pub columns: Vec<String>,
    /// Values in the order of the columns. Times are microseconds since the epoch, money is nano-USD,
    /// lists and objects are JSON as text.
    pub rows: Vec<Row>,
    /// What to pass as `before` for the rows that follow; null when there are none. There may be some
    /// behind a page without rows.
    pub next: Option<String>,
    /// The span that was asked for, times ago told as times.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// When it was asked for.
    pub at: Timestamp,
}

/// What was asked for, read.
struct Asked {
    span: SpanFilter,
    run: Option<Label>,
    agent: Option<Label>,
    user: Option<Label>,
    before: Option<String>,
}

type Found = (Vec<Row>, Option<String>);

/// A table of recorded rows, page by page
#[utoipa::path(
    get,
    path = "/api/v1/export/{table}",
    params(("table" = Table, Path), ExportParams),
    responses((status = 200, body = ExportPage), (status = 400, body = Problem))
)]
async fn export(
    State(records): State<Records>,
    table: Result<Path<Table>, PathRejection>,
    params: Result<Query<ExportParams>, QueryRejection>,
) -> Result<Json<ExportPage>, Problem> {
    let Path(table) = table?;
    let Query(params) = params?;
    let at = records.clock.now();
    let asked = Asked::read(params, table, at)?;
    let (since, until) = (asked.span.since, asked.span.until);
    let page = asked.page(table)?;
    let (rows, next) = records.ask(page).await?;
    let columns = table.columns().into_iter();
    Ok(Json(ExportPage {
        columns: columns.map(|it| it.name.to_owned()).collect(),
        rows,
        next,
        since,
        until,
        at,
    }))
}

type Ask = Box<dyn FnOnce(&View) -> Result<Found, IndexError> + Send>;

impl Asked {
    fn read(params: ExportParams, table: Table, now: Timestamp) -> Result<Self, Problem> {
        if table == Table::Decisions && params.user.is_some() {
            let words = "query parameters: user: decisions do not say for whom they are; \
                         choose them by run or agent";
            return Err(Problem::bad_request(words.to_owned()));
        }
        let at = |when: Option<&When>| when.map(|when| when.before(now));
        let (since, until) = (at(params.since.as_ref()), at(params.until.as_ref()));
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(Problem::bad_request(format!(
                "query parameters: since: {since} is not before until: {until}"
            )));
        }
        Ok(Self {
            span: SpanFilter {
                since,
                until,
                before: None,
                limit: PAGE,
            },
            run: params.run,
            agent: params.agent,
            user: params.user,
            before: params.before,
        })
    }

    fn page(self, table: Table) -> Result<Ask, Problem> {
        Ok(match table {
            Table::Decisions => {
                let before: Option<When> = self.cursor("a time")?;
                let before = before.map(|it| it.before(Timestamp::default()));
                Box::new(move |view| self.decisions(view, before))
            }
            Table::Budgets => {
                let before = self.before.as_deref().map(account).transpose()?;
                Box::new(move |view| self.budgets(view, before))
            }
            _ => {
                let before = self.cursor("the id of a call")?;
                let filter = self.calls(before);
                Box::new(move |view| of_calls(view, table, &filter))
            }
        })
    }

    fn cursor<T: std::str::FromStr>(&self, expected: &str) -> Result<Option<T>, Problem> {
        let parse = |text: &String| text.parse().map_err(|_| bad_cursor(text, expected));
        self.before.as_ref().map(parse).transpose()
    }

    fn calls(self, before: Option<CallId>) -> CallFilter {
        CallFilter {
            run: self.run,
            agent: self.agent,
            user: self.user,
            since: self.span.since,
            until: self.span.until,
            limit: PAGE,
            before,
            ..CallFilter::default()
        }
    }

    fn decisions(self, view: &View, before: Option<Timestamp>) -> Result<Found, IndexError> {
        let page = view.events(&SpanFilter {
            before,
            ..self.span
        })?;
        let names = |name: &str| DECISIONS.iter().position(|it| it.column.name == name);
        let wanted = [
            (names("run_id"), self.run.as_ref()),
            (names("agent_name"), self.agent.as_ref()),
        ];
        let is_wanted = |row: &Row| {
            wanted.iter().all(|(at, label)| {
                let value = at.and_then(|at| row.get(at));
                label.is_none_or(|label| value == Some(&Value::from(label)))
            })
        };
        let rows = page.items.iter().map(|event| row(DECISIONS, event));
        let rows = rows.filter(is_wanted).collect();
        Ok((rows, page.next.map(|next| next.to_string())))
    }

    fn budgets(self, view: &View, after: Option<AccountId>) -> Result<Found, IndexError> {
        let accounts = view.accounts(after, PAGE)?;
        let last = accounts.last().filter(|_| accounts.len() == PAGE);
        let next = last.map(|(id, _)| id.0.to_string());
        let accounts = accounts.iter().filter(|account| self.wants(account));
        let rows = accounts.map(|account| row(BUDGETS, account)).collect();
        Ok((rows, next))
    }

    fn wants(&self, (_, account): &StoredBudget) -> bool {
        let key = account.name.as_ref().map(|name| name.key.as_slice());
        let has = |of: &Dimension, wanted: Option<&Label>| {
            let its = |(dimension, value): &(Dimension, Option<Label>)| {
                dimension == of && value.as_ref() == wanted
            };
            wanted.is_none() || key.unwrap_or_default().iter().any(its)
        };
        let span = &self.span;
        has(&Dimension::Run, self.run.as_ref())
            && has(&Dimension::Agent, self.agent.as_ref())
            && has(&Dimension::User, self.user.as_ref())
            && span.since.is_none_or(|since| account.last_at >= since)
            && span.until.is_none_or(|until| account.last_at < until)
    }
}

fn bad_cursor(found: &str, expected: &str) -> Problem {
    Problem::bad_request(format!(
        "query parameters: before: found `{found}`, expected {expected}"
    ))
}

fn account(text: &str) -> Result<AccountId, Problem> {
    let number = u128::from_str_radix(text, 16).map_err(|_| bad_cursor(text, "an account_id"))?;
    Ok(AccountId(Digest::from_bytes(number.to_be_bytes())))
}

/// Tables whose rows are of calls.
fn of_calls(view: &View, table: Table, filter: &CallFilter) -> Result<Found, IndexError> {
    let page = view.calls(filter)?;
    let next = page.next.map(|next| next.to_string());
    let rows = match table {
        Table::Content => return content(view, page.items, next),
        Table::Metrics => details(view, &page.items, |call| {
            measured(call).iter().map(|it| row(METRICS, it)).collect()
        })?,
        Table::Charges => details(view, &page.items, |call| {
            charged(call).iter().map(|it| row(CHARGES, it)).collect()
        })?,
        _ => page.items.iter().map(|call| row(CALLS, call)).collect(),
    };
    Ok((rows, next))
}

fn details(
    view: &View,
    calls: &[CallRow],
    rows: fn(&CallDetail) -> Vec<Row>,
) -> Result<Vec<Row>, IndexError> {
    let mut found = Vec::new();
    for call in calls {
        found.extend(view.call(call.id)?.iter().flat_map(rows));
    }
    Ok(found)
}

fn content(view: &View, calls: Vec<CallRow>, next: Option<String>) -> Result<Found, IndexError> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let mut bodies = BodyReader::new(view);
    let count = calls.len();
    for (number, call) in (1..).zip(calls) {
        let Some(detail) = view.call(call.id)? else {
            continue;
        };
        let (sent, answered) = step::messages(&detail, &mut bodies, MAX_TEXT)?;
        let pieces = said(&call, "request", sent);
        for piece in pieces.iter().chain(&said(&call, "response", answered)) {
            let row = row(CONTENT, piece);
            let texts = row.iter().map(|value| match value {
                Value::Text(text) => text.len(),
                _ => 8,
            });
            bytes += texts.sum::<usize>();
            rows.push(row);
        }
        if bytes > MAX_CONTENT && number < count {
            return Ok((rows, Some(call.id.to_string())));
        }
    }
    Ok((rows, next))
}
