//! What the process says of itself: whether it lives and is ready, its metrics, status and config.

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::view::{LedgerView, Listeners, Status, UpstreamView};
use super::{AdminState, scrape};
use crate::core::build;
use crate::ledger::LedgerStatus;
use crate::metrics::{Exposition, LedgerFigures};

/// The document does not change while the process lives.
static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| super::document().to_pretty_json().unwrap_or_default());

pub(super) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(prometheus))
        .routes(routes!(status))
        .routes(routes!(config))
        .routes(routes!(openapi))
}

/// Whether the process is alive
#[utoipa::path(
    get,
    path = "/healthz",
    security(()),
    responses((status = 200, content_type = "text/plain"))
)]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether calls should be sent here: not while the process ends or cannot record
#[utoipa::path(
    get,
    path = "/readyz",
    security(()),
    responses((status = 200, content_type = "text/plain"), (status = 503, body = Problem))
)]
async fn readyz(State(state): State<AdminState>) -> Result<&'static str, Problem> {
    if state.draining.load(Ordering::Relaxed) {
        return Err(Problem::unavailable(
            "the process is ending: running calls are finished",
        ));
    }
    if state.ledger.status().failing {
        return Err(Problem::unavailable("the ledger cannot write records"));
    }
    if state.budgets.refuses_all() {
        return Err(Problem::unavailable(
            "Redis cannot be reached, and [shared] on_failure is \"refuse\"",
        ));
    }
    Ok("ready\n")
}

/// Metrics in the text format of Prometheus
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain")))]
async fn prometheus(State(state): State<AdminState>, headers: HeaderMap) -> impl IntoResponse {
    let metrics = Arc::clone(&state.metrics);
    // It walks accounts and asks the disk.
    if let Err(error) = tokio::task::spawn_blocking(move || scrape::look(&state)).await {
        tracing::error!(%error, "what metrics tell of the state is old");
    }
    let accept = headers.get(header::ACCEPT);
    let format = Exposition::accepted(accept.and_then(|accept| accept.to_str().ok()));
    (
        [(header::CONTENT_TYPE, format.content_type())],
        metrics.render(format),
    )
}

/// The configuration in force: defaults filled in, secrets masked
#[utoipa::path(get, path = "/api/v1/config", responses((status = 200, content_type = "application/toml")))]
async fn config(State(state): State<AdminState>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/toml")],
        state.config.load().to_string(),
    )
}

/// This description
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, content_type = "application/json")))]
async fn openapi() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        DOCUMENT.as_str(),
    )
}

/// What runs here
#[utoipa::path(get, path = "/api/v1/status", responses((status = 200, body = Status)))]
async fn status(State(state): State<AdminState>) -> Json<Status> {
    let config = state.config.load();
    let ledger = state.ledger.status();
    Json(Status {
        version: build::VERSION.to_owned(),
        commit: build::COMMIT.to_owned(),
        started_at: state.started_at,
        uptime_us: state.clock.now().micros_since(state.started_at),
        draining: state.draining.load(Ordering::Relaxed),
        listeners: Listeners {
            proxy: config.proxy.listen,
            admin: config.admin.listen,
        },
        ledger: LedgerView {
            figures: figures(&ledger),
            last_error: ledger.last_error,
        },
        upstreams: config
            .upstreams
            .iter()
            .map(|upstream| UpstreamView {
                name: upstream.name.clone(),
                base_url: upstream.base_url.to_string(),
                takes_any_key: upstream.takes_any_key(),
            })
            .collect(),
    })
}

pub(super) fn figures(status: &LedgerStatus) -> LedgerFigures {
    let count = |count| u64::try_from(count).unwrap_or(u64::MAX);
    LedgerFigures {
        failing: status.failing,
        index_failing: status.index_failing,
        queued_records: count(status.queued_records),
        reserved_bytes: count(status.reserved_bytes),
        segments: count(status.segments),
        log_bytes: status.log_bytes,
        dropped_records: status.dropped_records,
        dropped_bodies: status.dropped_bodies,
        syncs: status.syncs.count(),
        sync_us: status.syncs.total_us,
    }
}
