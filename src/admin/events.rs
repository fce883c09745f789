//! What happened to the proxy itself: why there may be no calls at some time.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{Span, SpanParams};
use super::problem::Problem;
use super::records::Records;
use super::view::EventList;

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Starts, stops, recoveries, changes of the configuration, failures of the ledger; newest first
#[utoipa::path(
    get,
    path = "/api/v1/events",
    params(SpanParams),
    responses((status = 200, body = EventList), (status = 400, body = Problem))
)]
async fn events(State(records): State<Records>, params: Span) -> Result<Json<EventList>, Problem> {
    let filter = params?.filter(records.clock.now())?;
    let page = records.ask(move |view| view.events(&filter)).await?;
    Ok(Json(EventList {
        events: page.items.into_iter().map(Into::into).collect(),
        next: page.next,
    }))
}
