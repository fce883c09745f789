//! Steps and previews over HTTP.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::previews::{MAX_PREVIEWS, PreviewList, previews};
use super::{MAX_PREVIEW, Options, PREVIEW, StepView};
use crate::admin::problem::Problem;
use crate::admin::records::Records;
use crate::core::id::CallId;

pub(in crate::admin) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new()
        .routes(routes!(step))
        .routes(routes!(previewed))
}

/// What of a step is wanted.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StepParams {
    /// All messages of the request, not only those that were not sent before
    #[serde(default)]
    #[param(default = false)]
    pub full: bool,
    /// Bytes of each text, up to 262144; 4096 when not given
    #[param(maximum = 262_144)]
    pub preview: Option<u32>,
    /// Of the request only the message with this index
    pub message: Option<u64>,
}

impl StepParams {
    fn options(self) -> Options {
        let preview = self.preview.and_then(|it| usize::try_from(it).ok());
        Options {
            full: self.full,
            preview: preview.unwrap_or(PREVIEW).min(MAX_PREVIEW),
            message: self.message,
        }
    }
}

/// Which calls are wanted in a few words.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewParams {
    /// Ids of calls with commas between them, up to 200
    #[serde(default)]
    pub calls: String,
    /// Characters of each text, up to 1000; 120 when not given
    #[param(maximum = 1000)]
    pub chars: Option<u16>,
}

/// One call as a step of its conversation: what is new in it, and what it answered
#[utoipa::path(
    get,
    path = "/api/v1/calls/{id}/step",
    params(("id" = CallId, Path), StepParams),
    responses(
        (status = 200, body = StepView),
        (status = 400, body = Problem),
        (status = 404, body = Problem)
    )
)]
async fn step(
    State(records): State<Records>,
    id: Result<Path<CallId>, PathRejection>,
    params: Result<Query<StepParams>, QueryRejection>,
) -> Result<Json<StepView>, Problem> {
    let (Path(id), Query(params)) = (id?, params?);
    let found = records.ask(move |view| super::step(view, id, params.options()));
    let missing = || Problem::not_found(format!("no call {id} is recorded"));
    Ok(Json(found.await?.ok_or_else(missing)?))
}

/// What calls were sent and answered, in a few words each
#[utoipa::path(
    get,
    path = "/api/v1/previews",
    params(PreviewParams),
    responses((status = 200, body = PreviewList), (status = 400, body = Problem))
)]
async fn previewed(
    State(records): State<Records>,
    params: Result<Query<PreviewParams>, QueryRejection>,
) -> Result<Json<PreviewList>, Problem> {
    /// Characters of each text when nothing is said, and at most.
    const CHARS: (u16, u16) = (120, 1000);
    let Query(params) = params?;
    let ids = params
        .calls
        .split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty());
    let parsed: Result<Vec<CallId>, _> = ids.map(str::parse).collect();
    let ids = parsed.map_err(|_| {
        Problem::bad_request(format!(
            "calls: found `{}`, expected ids of calls with commas between them",
            params.calls
        ))
    })?;
    if ids.len() > MAX_PREVIEWS {
        return Err(Problem::bad_request(format!(
            "calls: found {} ids, expected up to {MAX_PREVIEWS}",
            ids.len()
        )));
    }
    let chars = params.chars.unwrap_or(CHARS.0).min(CHARS.1);
    let found = records.ask(move |view| previews(view, &ids, usize::from(chars)));
    Ok(Json(PreviewList {
        previews: found.await?,
    }))
}
