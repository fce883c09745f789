//! Sums over recorded calls: by run, agent, edge and day.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{DayParams, Span, SpanParams};
use super::problem::Problem;
use super::records::Records;
use super::view::{AgentList, EdgeList, RollupList, RunDetail, RunList};
use crate::core::id::Label;

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new()
        .routes(routes!(runs))
        .routes(routes!(run))
        .routes(routes!(agents))
        .routes(routes!(edges))
        .routes(routes!(rollups))
}

/// Runs that were active in the span, last active first, each with all it used
#[utoipa::path(
    get,
    path = "/api/v1/runs",
    params(SpanParams),
    responses((status = 200, body = RunList), (status = 400, body = Problem))
)]
async fn runs(State(records): State<Records>, params: Span) -> Result<Json<RunList>, Problem> {
    let filter = params?.filter(records.clock.now())?;
    let page = records.ask(move |view| view.runs(&filter)).await?;
    Ok(Json(RunList {
        runs: page.items.into_iter().map(Into::into).collect(),
        next: page.next,
    }))
}

/// One run, the agents at work in it, who invoked whom, and the runs it began
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}",
    params(("run" = Label, Path)),
    responses((status = 200, body = RunDetail), (status = 404, body = Problem))
)]
async fn run(
    State(records): State<Records>,
    run: Result<Path<Label>, PathRejection>,
) -> Result<Json<RunDetail>, Problem> {
    let Path(run) = run?;
    let missing = Problem::not_found(format!("no run {run} is recorded"));
    let found = records.ask(move |view| view.run(&run)).await?;
    Ok(Json(found.ok_or(missing)?.into()))
}

/// Agents and what their calls of the span used, last active first
///
/// Of days (UTC) that lie whole in the span all calls count, of days that it cuts only those whose
/// records are still kept.
#[utoipa::path(
    get,
    path = "/api/v1/agents",
    params(SpanParams),
    responses((status = 200, body = AgentList), (status = 400, body = Problem))
)]
async fn agents(State(records): State<Records>, params: Span) -> Result<Json<AgentList>, Problem> {
    let filter = params?.filter(records.clock.now())?;
    let page = records.ask(move |view| view.agents(&filter)).await?;
    Ok(Json(AgentList {
        agents: page.items.into_iter().map(Into::into).collect(),
        next: page.next,
    }))
}

/// Who invoked whom in the span and what that used, last active first
#[utoipa::path(
    get,
    path = "/api/v1/edges",
    params(SpanParams),
    responses((status = 200, body = EdgeList), (status = 400, body = Problem))
)]
async fn edges(State(records): State<Records>, params: Span) -> Result<Json<EdgeList>, Problem> {
    let filter = params?.filter(records.clock.now())?;
    let page = records.ask(move |view| view.edges(&filter)).await?;
    Ok(Json(EdgeList {
        edges: page.items.into_iter().map(Into::into).collect(),
        next: page.next,
    }))
}

/// What each agent used of each model at each upstream per day
#[utoipa::path(
    get,
    path = "/api/v1/rollups",
    params(DayParams),
    responses((status = 200, body = RollupList), (status = 400, body = Problem))
)]
async fn rollups(
    State(records): State<Records>,
    params: Result<Query<DayParams>, QueryRejection>,
) -> Result<Json<RollupList>, Problem> {
    let (since, until) = params?.days(records.clock.now())?;
    let rows = records.ask(move |view| view.rollups(since, until)).await?;
    Ok(Json(RollupList {
        rollups: rows.into_iter().map(Into::into).collect(),
    }))
}
