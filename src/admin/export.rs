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
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::export::{Row, Table};
use crate::ledger::SpanFilter;

mod pages;

/// Calls, events, accounts or measurements of one page.
const PAGE: usize = 1000;

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new().routes(routes!(export))
}

/// Which rows of a table.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportParams {
    /// From this time on: when calls started, decisions and measurements were made, accounts were last
    /// used
    #[param(value_type = Option<String>, example = "1d")]
    pub since: Option<When>,
    /// Before this time, else up to now; accounts are told as they stand
    #[param(value_type = Option<String>)]
    pub until: Option<When>,
    /// Only of this run; of budgets the accounts whose key has it
    pub run: Option<Label>,
    /// Only of this agent
    pub agent: Option<Label>,
    /// Only for this user, of metrics those of calls; decisions know of none
    pub user: Option<Label>,
    /// Only what follows: `next` of the answer before
    pub before: Option<String>,
}

/// Some rows of a table, newest first; accounts by their id, measurements by their name before that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportPage {
    pub columns: Vec<String>,
    /// Values in the order of the columns. Times are microseconds since the epoch, money is nano-USD,
    /// lists and objects are JSON as text.
    #[schema(value_type = Vec<Vec<crate::export::Value>>)]
    pub rows: Vec<Row>,
    /// What to pass as `before` for the rows that follow; null when there are none. There may be some
    /// behind a page without rows.
    pub next: Option<String>,
    /// The span that this is of, times ago told as times: what to ask for with `before`.
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
    let goes_on = asked.before.is_some();
    let page = asked.page(table)?;
    let (rows, next) = if goes_on {
        records.go_on(page).await?
    } else {
        records.ask(page).await?
    };
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
        // What comes while pages are asked for is in none of them.
        let behind_now = Timestamp::from_micros(now.micros().saturating_add(1));
        Ok(Self {
            span: SpanFilter {
                since,
                until: match (table, until) {
                    (Table::Budgets, until) => until,
                    (_, until) => Some(until.map_or(behind_now, |until| until.min(behind_now))),
                },
                before: None,
                limit: PAGE,
            },
            run: params.run,
            agent: params.agent,
            user: params.user,
            before: params.before,
        })
    }
}
