//! The instances that share their budgets: who they are, and how things stand with Redis.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use crate::core::time::Timestamp;
use crate::shared::Shared;

pub(super) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(instances))
}

/// How this instance stands among those that share their budgets.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct InstanceList {
    /// `alone` where nothing is shared, `joined`, or `away` while Redis cannot be used
    pub standing: String,
    /// What calls with budgets go by while Redis is away
    pub on_failure: Option<String>,
    /// Instances that lived when they were last heard of
    pub living: usize,
    /// All that were heard of in the last day, by name
    pub instances: Vec<InstanceView>,
}

/// One instance.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct InstanceView {
    /// The same at each start on the same ledger
    pub id: String,
    pub name: String,
    pub is_self: bool,
    /// It was heard of within its lease
    pub lives: bool,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    /// Its version and where its dashboard is, by its own word
    pub about: String,
}

/// Instances that share their budgets, and how things stand with Redis
#[utoipa::path(
    get,
    path = "/api/v1/instances",
    responses((status = 200, body = InstanceList))
)]
async fn instances(State(state): State<AdminState>) -> Json<InstanceList> {
    Json(InstanceList::now(&state))
}

impl InstanceList {
    pub(crate) fn now(state: &AdminState) -> Self {
        let shared = state.budgets.shared();
        shared.map_or_else(Self::alone, |shared| Self::of(shared))
    }

    fn alone() -> Self {
        Self {
            standing: "alone".to_owned(),
            on_failure: None,
            living: 1,
            instances: Vec::new(),
        }
    }

    fn of(shared: &Shared) -> Self {
        let now = shared.now();
        let standing: &'static str = shared.standing().into();
        let on_failure: &'static str = shared.on_away().into();
        let view = |peer: &crate::shared::peers::Peer| InstanceView {
            id: peer.id.clone(),
            name: peer.title.clone(),
            is_self: peer.id == shared.naming().id(),
            lives: peer.lives(now),
            started_at: Timestamp::from_micros(i64::try_from(peer.incarnation).unwrap_or(0)),
            seen_at: peer.seen_at,
            about: peer.about.clone(),
        };
        Self {
            standing: standing.to_owned(),
            on_failure: Some(on_failure.to_owned()),
            living: shared.living(),
            instances: shared.peers().iter().map(view).collect(),
        }
    }
}
