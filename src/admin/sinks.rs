//! How the sinks do.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use crate::sinks::SinkStatus;

pub(super) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// In the order of the configuration.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct SinkList {
    pub sinks: Vec<SinkStatus>,
}

/// The databases that get what is recorded: how far each is, and what is wrong with it
#[utoipa::path(get, path = "/api/v1/sinks", responses((status = 200, body = SinkList)))]
async fn list(State(state): State<AdminState>) -> Json<SinkList> {
    Json(SinkList {
        sinks: state.sinks.list(),
    })
}
