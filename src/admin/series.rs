//! What calls used over time, and by model.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{SeriesParams, Span};
use super::problem::Problem;
use super::records::Records;
use super::view::{ModelList, SeriesView};

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new()
        .routes(routes!(series))
        .routes(routes!(models))
}

/// What calls used over time, bucket by bucket, as a whole, and in the span before
///
/// There are at most 120 buckets. They are as narrow as fits: minutes are kept for two days, hours for
/// sixty, days for ever. What is told of a whole span counts whole slices where more than 2,000 calls
/// would have to be read at one end of it, and then says of which span it is.
#[utoipa::path(
    get,
    path = "/api/v1/series",
    params(SeriesParams),
    responses((status = 200, body = SeriesView), (status = 400, body = Problem))
)]
async fn series(
    State(records): State<Records>,
    params: Result<Query<SeriesParams>, QueryRejection>,
) -> Result<Json<SeriesView>, Problem> {
    let Query(params) = params?;
    let filter = params.filter(records.clock.now())?;
    let series = records.ask(move |view| view.series(&filter)).await?;
    Ok(Json(series.into()))
}

/// Models and what their calls of the span used, last used first
#[utoipa::path(
    get,
    path = "/api/v1/models",
    params(super::params::SpanParams),
    responses((status = 200, body = ModelList), (status = 400, body = Problem))
)]
async fn models(State(records): State<Records>, params: Span) -> Result<Json<ModelList>, Problem> {
    let filter = params?.filter(records.clock.now())?;
    let found = records.ask(move |view| view.models(&filter)).await?;
    Ok(Json(found.into()))
}
