//! Runs while they go on: beginning one before its first call, and what was refused to it.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::Asked;
use super::budgets::Desk;
use super::order::BeginOrder;
use super::problem::Problem;
use super::view::{RefusalList, RunBegun};
use crate::core::id::Label;

pub(super) fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(refusals))
        .routes(routes!(begin))
}

/// What was refused to a run and to those it began, by reason, as long as it is in memory
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/refusals",
    params(("run" = Label, Path)),
    responses((status = 200, body = RefusalList))
)]
async fn refusals(
    State(desk): State<Desk>,
    run: Result<Path<Label>, PathRejection>,
) -> Result<Json<RefusalList>, Problem> {
    let Path(run) = run?;
    let refusals = desk.budgets.refusals(&run);
    Ok(Json(RefusalList {
        refusals: refusals.into_iter().map(Into::into).collect(),
        run,
    }))
}

/// Makes a run known before its first call: part of which it is, and what it may use at most
#[utoipa::path(
    post,
    path = "/api/v1/runs/{run}/begin",
    params(("run" = Label, Path)),
    request_body = BeginOrder,
    responses(
        (status = 200, body = RunBegun),
        (status = 400, body = Problem),
        (status = 415, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn begin(
    State(desk): State<Desk>,
    run: Result<Path<Label>, PathRejection>,
    order: Result<Asked<BeginOrder>, Problem>,
) -> Result<Json<RunBegun>, Problem> {
    let Path(run) = run?;
    let (parent, limits, who) = order?.0.read()?;
    let begun = desk.budgets.begin(&run, parent.as_ref(), &limits, &who);
    begun.await.map_err(|error| {
        tracing::error!(%error, "a run did not begin");
        Problem::unavailable(format!("the run {run} did not begin: {error}"))
    })?;
    Ok(Json(RunBegun { run }))
}
