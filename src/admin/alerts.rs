//! Alerts: which there are, and whether they arrive.

use std::sync::Arc;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use clap::Args;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::Asked;
use super::order::TestOrder;
use super::problem::Problem;
use super::records::Records;
use crate::alerts::{self, Alert, Alerts, TestError, Tested};

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new().routes(routes!(list))
}

pub(super) fn deeds() -> OpenApiRouter<Arc<Alerts>> {
    OpenApiRouter::new().routes(routes!(test))
}

/// Whether something is done at this path, so that it takes POST alone.
pub(super) fn is_deed(path: &str) -> bool {
    path.strip_prefix("/api/v1/alerts/").is_some()
}

/// Which alerts.
#[derive(Args, Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlertParams {
    /// Only those that go on
    #[arg(long)]
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    pub open: bool,
}

/// Open ones first, then those that were seen last; at most a thousand.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct AlertList {
    pub alerts: Vec<Alert>,
}

/// What each webhook made of a test.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct TestedList {
    pub webhooks: Vec<Tested>,
}

/// What a person should know of: open ones first, then those that were seen last
///
/// What comes again is one alert that counts. Those of the last seven days outlive a restart.
#[utoipa::path(
    get,
    path = "/api/v1/alerts",
    params(AlertParams),
    responses((status = 200, body = AlertList), (status = 400, body = Problem))
)]
async fn list(
    State(records): State<Records>,
    params: Result<Query<AlertParams>, QueryRejection>,
) -> Result<Json<AlertList>, Problem> {
    let params = params?.0;
    let mut alerts = if let Some(alerts) = &records.alerts {
        alerts.list()
    } else {
        let now = records.clock.now();
        let list = move |view: &_| alerts::list_recorded(view, now);
        records.ask(list).await?
    };
    if params.open {
        alerts.retain(|alert| alert.is_open);
    }
    Ok(Json(AlertList { alerts }))
}

/// Sends a test to one webhook or to all, once each, and says what they made of it
#[utoipa::path(
    post,
    path = "/api/v1/alerts/test",
    request_body = TestOrder,
    responses(
        (status = 200, body = TestedList),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 415, body = Problem),
        (status = 429, body = Problem)
    )
)]
async fn test(
    State(alerts): State<Arc<Alerts>>,
    order: Result<Asked<TestOrder>, Problem>,
) -> Result<Json<TestedList>, Problem> {
    let (webhook, who) = order?.0.read()?;
    match alerts.test(webhook.as_ref(), &who).await {
        Ok(webhooks) => Ok(Json(TestedList { webhooks })),
        Err(error @ TestError::NoSuchWebhook { .. }) => Err(Problem::not_found(error.to_string())),
        Err(error @ TestError::TooMany) => Err(Problem::too_many(error.to_string())),
    }
}
