//! What could be spared, found in recorded calls.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use clap::Args;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{SpanParams, When};
use super::problem::Problem;
use super::records::Records;
use crate::config::Config;
use crate::core::id::Label;
use crate::core::suggest::{Report, Rule};
use crate::suggest::{Question, suggest};

/// What is looked at when nothing is said.
const WEEK: &str = "7d";

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new().routes(routes!(suggestions))
}

/// Which calls to look at, and for what.
#[derive(Args, Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SuggestParams {
    /// Calls from this time on: 1h, 7d (that long ago), 2026-11-01; 7d when not given
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>, example = "7d")]
    pub since: Option<When>,
    /// Calls before this time
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>)]
    pub until: Option<When>,
    /// Calls of this agent alone
    #[arg(long)]
    #[param(value_type = Option<String>)]
    pub agent: Option<Label>,
    /// Findings of this rule alone, such as `cache_broken`
    #[arg(long)]
    pub rule: Option<Rule>,
}

impl SuggestParams {
    /// The span of the question.
    fn question(&self, records: &Records) -> Result<Question, Problem> {
        let since = self.since.clone().or_else(|| WEEK.parse().ok());
        let span = SpanParams {
            since,
            until: self.until.clone(),
            ..SpanParams::default()
        };
        let span = span.filter(records.clock.now())?;
        Ok(Question {
            since: span.since,
            until: span.until.unwrap_or_else(|| records.clock.now()),
            agent: self.agent.clone(),
        })
    }
}

/// What wastes tokens, money or time in the newest 20,000 calls of the span, the dearest first
#[utoipa::path(
    get,
    path = "/api/v1/suggestions",
    params(SuggestParams),
    responses((status = 200, body = Report), (status = 400, body = Problem))
)]
async fn suggestions(
    State(records): State<Records>,
    params: Result<Query<SuggestParams>, QueryRejection>,
) -> Result<Json<Report>, Problem> {
    let Query(params) = params?;
    let question = params.question(&records)?;
    report(&records, question, params.rule).await.map(Json)
}

/// Looks at calls on a thread that may wait.
pub(crate) async fn report(
    records: &Records,
    question: Question,
    rule: Option<Rule>,
) -> Result<Report, Problem> {
    let mut config = records
        .config
        .as_ref()
        .map_or_else(Config::default, |config| config.load().as_ref().clone());
    if let Some(rule) = rule {
        config.suggestions.only(rule);
    }
    records
        .ask(move |view| suggest(view, &question, &config))
        .await
}
