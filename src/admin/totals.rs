//! Sums over recorded calls: by run, agent, edge and day.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{DayParams, RunParams, Span, SpanParams, WindowParams};
use super::problem::Problem;
use super::records::Records;
use super::view::{AgentList, EdgeList, MarkList, RollupList, RunCallList, RunDetail, RunList};
use crate::core::id::Label;
use crate::ledger::View;

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new()
        .routes(routes!(runs))
        .routes(routes!(run))
        .routes(routes!(run_calls))
        .routes(routes!(run_marks))
        .routes(routes!(agents))
        .routes(routes!(edges))
        .routes(routes!(rollups))
}

/// Runs that were active in the span, last active first, each with all it used
#[utoipa::path(
    get,
    path = "/api/v1/runs",
    params(RunParams),
    responses((status = 200, body = RunList), (status = 400, body = Problem))
)]
async fn runs(
    State(records): State<Records>,
    params: Result<Query<RunParams>, QueryRejection>,
) -> Result<Json<RunList>, Problem> {
    let Query(params) = params?;
    let filter = params.filter(records.clock.now())?;
    let list = move |view: &View| {
        let page = view.runs(&filter)?;
        let list = RunList {
            runs: page.items.into_iter().map(Into::into).collect(),
            next: page.next,
            partial: page.partial,
        };
        list.measured(view)
    };
    Ok(Json(records.ask(list).await?))
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
    let found = records.ask(move |view| {
        let Some(detail) = view.run(&run)? else {
            return Ok(None);
        };
        let metrics = view.run_metrics(&run)?;
        Ok(Some(RunDetail::from(detail).measured(metrics)))
    });
    Ok(Json(found.await?.ok_or(missing)?))
}

/// Calls of a run in the order they came, numbered from 0
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/calls",
    params(("run" = Label, Path), WindowParams),
    responses((status = 200, body = RunCallList), (status = 400, body = Problem))
)]
async fn run_calls(
    State(records): State<Records>,
    run: Result<Path<Label>, PathRejection>,
    window: Result<Query<WindowParams>, QueryRejection>,
) -> Result<Json<RunCallList>, Problem> {
    let (Path(run), Query(window)) = (run?, window?);
    let count = window.limit.unwrap_or_default().get();
    let found = records.ask(move |view| view.run_calls(&run, window.from, count));
    Ok(Json(found.await?.into()))
}

/// All calls of a run in the order they came, with little of each
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/marks",
    params(("run" = Label, Path)),
    responses((status = 200, body = MarkList))
)]
async fn run_marks(
    State(records): State<Records>,
    run: Result<Path<Label>, PathRejection>,
) -> Result<Json<MarkList>, Problem> {
    let Path(run) = run?;
    let found = records.ask(move |view| view.run_marks(&run)).await?;
    Ok(Json(found.into()))
}

/// Agents and what their calls of the span used, last active first
///
/// Where a span cuts a minute, hour or day (UTC) that has too many calls to read, or calls that are no
/// longer kept, that counts as a whole: `since` and `until` of the answer say what it is of.
#[utoipa::path(
    get,
    path = "/api/v1/agents",
    params(SpanParams),
    responses((status = 200, body = AgentList), (status = 400, body = Problem))
)]
async fn agents(State(records): State<Records>, params: Span) -> Result<Json<AgentList>, Problem> {
    let filter = params?.filter(records.clock.now())?;
    let list = move |view: &View| {
        let page = view.agents(&filter)?;
        let list = AgentList {
            since: page.since,
            until: page.until,
            widened: page.widened,
            agents: page.items.into_iter().map(Into::into).collect(),
            next: page.next,
        };
        list.measured(view, &filter)
    };
    Ok(Json(records.ask(list).await?))
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
        since: page.since,
        until: page.until,
        widened: page.widened,
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
