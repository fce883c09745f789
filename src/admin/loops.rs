//! Loops that were stopped: which, on what evidence, and letting them go on.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::Asked;
use super::order::LoopOrder;
use super::params::{Span, SpanParams};
use super::problem::Problem;
use super::records::Records;
use super::view::{LoopList, LoopView};
use crate::core::id::CallId;
use crate::core::loops::trip::Trip;
use crate::loops::Loops;
use crate::loops::operate::OperateError;

/// How many open loops are told to whoever asks for one that is not open.
const EXAMPLES: usize = 5;

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new().routes(routes!(loops))
}

pub(super) fn deeds() -> OpenApiRouter<Arc<Loops>> {
    OpenApiRouter::new().routes(routes!(reset))
}

/// Whether something is done at this path, so that it takes POST alone.
pub(super) fn is_deed(path: &str) -> bool {
    path.strip_prefix("/api/v1/loops/").is_some()
}

/// Loops that were stopped, or may go on again; newest first
#[utoipa::path(
    get,
    path = "/api/v1/loops",
    params(SpanParams),
    responses((status = 200, body = LoopList), (status = 400, body = Problem))
)]
async fn loops(State(records): State<Records>, params: Span) -> Result<Json<LoopList>, Problem> {
    let filter = params?.filter(records.clock.now())?;
    let page = records.ask(move |view| view.trips(&filter)).await?;
    let open = records.loops.as_ref().map(|loops| loops.open_trips());
    let open = open.unwrap_or_default();
    // What is open is known better by who refuses its calls.
    let view = |recorded: Trip| {
        let now = open.iter().find(|trip| trip.id == recorded.id);
        let now = now.filter(|_| recorded.closed.is_none());
        LoopView::new(now.cloned().unwrap_or(recorded), now.is_some())
    };
    Ok(Json(LoopList {
        loops: page.items.into_iter().map(view).collect(),
        next: page.next,
    }))
}

/// Lets a loop that was stopped go on: its pattern has to show again from nothing
#[utoipa::path(
    post,
    path = "/api/v1/loops/{id}/reset",
    params(("id" = CallId, Path)),
    request_body = LoopOrder,
    responses(
        (status = 200, body = LoopView),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 415, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn reset(
    State(loops): State<Arc<Loops>>,
    id: Result<Path<CallId>, PathRejection>,
    order: Result<Asked<LoopOrder>, Problem>,
) -> Result<Json<LoopView>, Problem> {
    let (allow, who) = order?.0.read()?;
    let trip = let_go(&loops, id?.0, allow, &who).await?;
    Ok(Json(LoopView::new(trip, false)))
}

/// Closes a trip, or says which ones are open.
pub(crate) async fn let_go(
    loops: &Loops,
    id: CallId,
    allow: u32,
    who: &str,
) -> Result<Trip, Problem> {
    loops.reset(id, allow, who).await.map_err(|error| {
        if let OperateError::Unavailable(_) = error {
            return Problem::unavailable(format!(
                "nothing was done, it cannot be recorded: {error}"
            ));
        }
        let (_, open) = loops.latest_trips(EXAMPLES);
        let open: Vec<String> = open.iter().map(|trip| trip.id.to_string()).collect();
        Problem::not_found(if open.is_empty() {
            error.to_string()
        } else {
            format!("{error}; open are {}", open.join(", "))
        })
    })
}
