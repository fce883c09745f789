//! Budgets while the proxy runs: how they stand, raising and resetting them, and pausing, resuming
//! and stopping runs. All that this listener can change is changed here.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::Asked;
use super::order::{Addressed, ControlOrder, RaiseOrder, ResetOrder};
use super::params::BudgetParams;
use super::problem::Problem;
use super::records::Records;
use super::view::{AccountAnswer, AccountView, BudgetList, Raised, RunControlled};
use crate::budgets::ask::BY_HEADER;
use crate::budgets::refusal::key_text;
use crate::budgets::{AccountFilter, AccountRow, Budgets, Key, OperateError, RuleRow};
use crate::core::budget::{Control, Limits, Rule};
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::{RunFilter, SpanFilter};

/// How many names of what there is are told to whoever asks for what is not there.
const EXAMPLES: usize = 5;

/// The engine, and the places of those who wait for the disk.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(super) budgets: Arc<Budgets>,
    records: Records,
}

pub(super) fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(budgets))
        .routes(routes!(raise))
        .routes(routes!(reset))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(stop))
}

/// Whether something is done at this path, so that it takes POST alone.
pub(super) fn is_deed(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    match path.strip_prefix("/api/v1/") {
        Some(rest) if rest.starts_with("budgets/") => true,
        Some(rest) => {
            rest.starts_with("runs/") && ["begin", "pause", "resume", "stop"].contains(&last)
        }
        None => false,
    }
}

/// Budgets in force and how they stand now
#[utoipa::path(
    get,
    path = "/api/v1/budgets",
    params(BudgetParams),
    responses(
        (status = 200, body = BudgetList),
        (status = 400, body = Problem),
        (status = 404, body = Problem)
    )
)]
async fn budgets(
    State(desk): State<Desk>,
    params: Result<Query<BudgetParams>, QueryRejection>,
) -> Result<Json<BudgetList>, Problem> {
    let Query(params) = params?;
    if let Some(rule) = &params.rule {
        desk.budgets.rule(rule).map_err(|error| problem(&error))?;
    }
    let rows = desk.list(params.filter()).await?;
    let shown = rows
        .into_iter()
        .filter(|row| row.rule.name.as_str() != BY_HEADER || row.total > 0);
    Ok(Json(BudgetList {
        budgets: shown.map(Into::into).collect(),
    }))
}

/// Puts something on top of the limits of one account
#[utoipa::path(
    post,
    path = "/api/v1/budgets/raise",
    request_body = RaiseOrder,
    responses(
        (status = 200, body = Raised),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 415, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn raise(
    State(desk): State<Desk>,
    order: Result<Asked<RaiseOrder>, Problem>,
) -> Result<Json<Raised>, Problem> {
    let (to, by) = order?.0.read()?;
    let until = desk.raise(&to, by).await?;
    let of = desk.account(&to.rule, &to.key).await?;
    Ok(Json(Raised { of, until }))
}

/// Forgets what was used of one account
#[utoipa::path(
    post,
    path = "/api/v1/budgets/reset",
    request_body = ResetOrder,
    responses(
        (status = 200, body = AccountAnswer),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 415, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn reset(
    State(desk): State<Desk>,
    order: Result<Asked<ResetOrder>, Problem>,
) -> Result<Json<AccountAnswer>, Problem> {
    let to = order?.0.read()?;
    desk.reset(&to).await?;
    Ok(Json(desk.account(&to.rule, &to.key).await?))
}

/// Lets no new call of a run through until it is resumed: they wait
#[utoipa::path(
    post,
    path = "/api/v1/runs/{run}/pause",
    params(("run" = Label, Path)),
    request_body = ControlOrder,
    responses(
        (status = 200, body = RunControlled),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 415, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn pause(
    State(desk): State<Desk>,
    run: Result<Path<Label>, PathRejection>,
    order: Result<Asked<ControlOrder>, Problem>,
) -> Result<Json<RunControlled>, Problem> {
    let (run, who) = (run?.0, order?.0.who()?);
    Ok(Json(desk.control(run, Control::Paused, &who).await?))
}

/// Lets a run that was paused or stopped go on
#[utoipa::path(
    post,
    path = "/api/v1/runs/{run}/resume",
    params(("run" = Label, Path)),
    request_body = ControlOrder,
    responses(
        (status = 200, body = RunControlled),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 415, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn resume(
    State(desk): State<Desk>,
    run: Result<Path<Label>, PathRejection>,
    order: Result<Asked<ControlOrder>, Problem>,
) -> Result<Json<RunControlled>, Problem> {
    let (run, who) = (run?.0, order?.0.who()?);
    Ok(Json(desk.control(run, Control::Running, &who).await?))
}

/// Ends the running calls of a run and refuses new ones until it is resumed
#[utoipa::path(
    post,
    path = "/api/v1/runs/{run}/stop",
    params(("run" = Label, Path)),
    request_body = ControlOrder,
    responses(
        (status = 200, body = RunControlled),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 415, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn stop(
    State(desk): State<Desk>,
    run: Result<Path<Label>, PathRejection>,
    order: Result<Asked<ControlOrder>, Problem>,
) -> Result<Json<RunControlled>, Problem> {
    let (run, who) = (run?.0, order?.0.who()?);
    Ok(Json(desk.control(run, Control::Stopped, &who).await?))
}

impl Desk {
    pub(crate) fn new(budgets: Arc<Budgets>, records: Records) -> Self {
        Self { budgets, records }
    }

    /// Puts `by` on top of the limits of an account; says until when.
    pub(crate) async fn raise(
        &self,
        to: &Addressed,
        by: Limits,
    ) -> Result<Option<Timestamp>, Problem> {
        let raised = self.budgets.raise(&to.rule, &to.key, by, &to.who).await;
        self.known(raised, &to.rule).await
    }

    /// Forgets what was used of an account.
    pub(crate) async fn reset(&self, to: &Addressed) -> Result<(), Problem> {
        let done = self.budgets.reset(&to.rule, &to.key, &to.who).await;
        self.known(done, &to.rule).await
    }

    /// How an account stands, and its rule.
    pub(crate) async fn standing(
        &self,
        to: &Addressed,
    ) -> Result<(Arc<Rule>, AccountRow), Problem> {
        let row = self.budgets.account_row(&to.rule, &to.key).await;
        self.known(row, &to.rule).await
    }

    pub(crate) async fn list(&self, filter: AccountFilter) -> Result<Vec<RuleRow>, Problem> {
        let here = self.known_here(filter.clone()).await?;
        if self.budgets.shared().is_none() {
            return Ok(here);
        }
        self.budgets.look_at(RuleRow::names(&here)).await;
        self.known_here(filter).await
    }

    async fn known_here(&self, filter: AccountFilter) -> Result<Vec<RuleRow>, Problem> {
        let budgets = Arc::clone(&self.budgets);
        self.records.read(move || budgets.list(&filter)).await
    }

    async fn account(&self, rule: &Label, key: &Key) -> Result<AccountAnswer, Problem> {
        let row = self.budgets.account_row(rule, key).await;
        let (rule, row) = row.map_err(|error| problem(&error))?;
        Ok(AccountAnswer {
            rule: rule.name.clone(),
            account: AccountView::new(&rule, row),
        })
    }

    pub(crate) async fn control(
        &self,
        run: Label,
        control: Control,
        who: &str,
    ) -> Result<RunControlled, Problem> {
        let ended = match self.budgets.control(&run, control, who).await {
            Ok(ended) => ended,
            Err(error @ OperateError::NoSuchRun(_)) => return Err(self.no_such_run(&error).await),
            Err(error) => return Err(problem(&error)),
        };
        Ok(RunControlled {
            run,
            control,
            ended_calls: u64::try_from(ended).unwrap_or(u64::MAX),
        })
    }

    /// `done`, or why not; of an account that is not there, with some that are.
    async fn known<T>(&self, done: Result<T, OperateError>, rule: &Label) -> Result<T, Problem> {
        let error = match done {
            Err(error @ OperateError::NoSuchAccount(_)) => error,
            done => return done.map_err(|error| problem(&error)),
        };
        let filter = AccountFilter {
            rule: Some(rule.clone()),
            value: None,
            limit: EXAMPLES,
        };
        let rows = self.list(filter).await?;
        let accounts = rows.iter().flat_map(|row| &row.accounts);
        let names: Vec<String> = accounts.map(|it| key_text(&it.name.key)).collect();
        let total: usize = rows.iter().map(|row| row.total).sum();
        let of = if total > names.len() {
            format!("some of its {total} accounts")
        } else {
            "its accounts".to_owned()
        };
        Err(Problem::not_found(with_examples(&error, &of, &names)))
    }

    async fn no_such_run(&self, error: &OperateError) -> Problem {
        let span = SpanFilter {
            limit: EXAMPLES,
            ..SpanFilter::default()
        };
        let filter = RunFilter {
            span,
            ..RunFilter::default()
        };
        let latest = self.records.ask(move |view| view.runs(&filter)).await;
        let names = latest.map(|page| page.items.into_iter().map(|row| row.run.to_string()));
        let names: Vec<String> = names.map_or_else(|_| Vec::new(), Iterator::collect);
        Problem::not_found(with_examples(error, "the latest runs", &names))
    }
}

fn with_examples(error: &OperateError, of: &str, names: &[String]) -> String {
    let mut text = error.to_string();
    if !names.is_empty() {
        // Writing into a text does not fail.
        let _ = write!(text, "; {of}: {}", names.join(", "));
    }
    text
}

fn problem(error: &OperateError) -> Problem {
    let detail = error.to_string();
    match error {
        OperateError::NoSuchRule { .. }
        | OperateError::NoSuchAccount(_)
        | OperateError::NoSuchRun(_) => Problem::not_found(detail),
        OperateError::WrongKey { .. } | OperateError::NotLimited { .. } | OperateError::Nothing => {
            Problem::bad_request(detail)
        }
        OperateError::Unavailable(_) | OperateError::Unreadable(_) => {
            tracing::error!(%error, "an order was not carried out");
            Problem::unavailable(format!("nothing was changed: {detail}"))
        }
    }
}
