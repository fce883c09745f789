//! Recorded calls: lists, one call, its bodies.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{self, Side};
use super::params::CallParams;
use super::problem::Problem;
use super::records::Records;
use super::view::{CallDetail, CallList, ChunkView};
use crate::core::id::CallId;
use crate::ledger::{CallFilter, View};

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new()
        .routes(routes!(calls))
        .routes(routes!(call))
        .routes(routes!(request_body))
        .routes(routes!(response_body))
        .routes(routes!(response_chunks))
}

/// Recorded calls, newest first
#[utoipa::path(
    get,
    path = "/api/v1/calls",
    params(CallParams),
    responses((status = 200, body = CallList), (status = 400, body = Problem))
)]
async fn calls(
    State(records): State<Records>,
    params: Result<Query<CallParams>, QueryRejection>,
) -> Result<Json<CallList>, Problem> {
    let Query(params) = params?;
    let filter = CallFilter {
        own: records.title.clone(),
        ..params.filter(records.clock.now())?
    };
    let list = move |view: &View| CallList::from(view.calls(&filter)?).measured(view);
    Ok(Json(records.ask(list).await?))
}

/// One call: how it was let through and how it ended
#[utoipa::path(
    get,
    path = "/api/v1/calls/{id}",
    params(("id" = CallId, Path)),
    responses((status = 200, body = CallDetail), (status = 404, body = Problem))
)]
async fn call(
    State(records): State<Records>,
    id: Result<Path<CallId>, PathRejection>,
) -> Result<Json<CallDetail>, Problem> {
    let Path(id) = id?;
    let found = records.ask(move |view| {
        let Some(detail) = view.call(id)? else {
            return Ok(None);
        };
        let mut detail = CallDetail::from(detail);
        detail.call.measured(view)?;
        Ok(Some(detail))
    });
    Ok(Json(found.await?.ok_or_else(|| no_such_call(id))?))
}

/// The recorded request body, as an attachment
#[utoipa::path(
    get,
    path = "/api/v1/calls/{id}/request",
    params(("id" = CallId, Path)),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 404, body = Problem)
    )
)]
async fn request_body(
    State(records): State<Records>,
    id: Result<Path<CallId>, PathRejection>,
) -> Result<Response, Problem> {
    send_body(records, id?.0, Side::Request).await
}

/// The recorded response body, as an attachment
#[utoipa::path(
    get,
    path = "/api/v1/calls/{id}/response",
    params(("id" = CallId, Path)),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 404, body = Problem)
    )
)]
async fn response_body(
    State(records): State<Records>,
    id: Result<Path<CallId>, PathRejection>,
) -> Result<Response, Problem> {
    send_body(records, id?.0, Side::Response).await
}

/// The pieces that the recorded response body came in
#[utoipa::path(
    get,
    path = "/api/v1/calls/{id}/chunks",
    params(("id" = CallId, Path)),
    responses((status = 200, body = Vec<ChunkView>), (status = 404, body = Problem))
)]
async fn response_chunks(
    State(records): State<Records>,
    id: Result<Path<CallId>, PathRejection>,
) -> Result<Json<Vec<ChunkView>>, Problem> {
    let Path(id) = id?;
    let found = records.ask(move |view| view.call(id)).await?;
    let settlement = found.ok_or_else(|| no_such_call(id))?.settlement;
    let chunks = settlement.map(|it| it.chunks).unwrap_or_default();
    let chunks = chunks.into_iter().map(|mark| ChunkView {
        gap_us: mark.gap_us,
        len: mark.len,
    });
    Ok(Json(chunks.collect()))
}

async fn send_body(records: Records, id: CallId, side: Side) -> Result<Response, Problem> {
    let found = records.ask(move |view| match side {
        Side::Request => view.request_body(id),
        Side::Response => view.response_body(id),
    });
    let missing =
        || Problem::not_found(format!("no {} body of call {id} is recorded", side.name()));
    Ok(body::response(id, side, found.await?.ok_or_else(missing)?))
}

fn no_such_call(id: CallId) -> Problem {
    Problem::not_found(format!("no call {id} is recorded"))
}
