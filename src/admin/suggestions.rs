//! What could be spared, found in recorded calls.

use std::sync::{Arc, LazyLock};

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
use crate::core::time::Timestamp;
use crate::suggest::{Question, suggest};

/// What is looked at when nothing is said.
const WEEK: &str = "7d";
const MINUTE_US: i64 = 60_000_000;

/// Where there is no configuration.
static DEFAULTS: LazyLock<Arc<Config>> = LazyLock::new(Arc::default);

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

/// The last report that was made, and what of.
pub(crate) struct Suggested {
    question: Question,
    rule: Option<Rule>,
    position: u64,
    config: Arc<Config>,
    report: Report,
}

impl Suggested {
    /// Whether it answers another question too: of the same minutes, with nothing written since.
    fn answers(&self, question: &Question, rule: Option<Rule>, config: &Arc<Config>) -> bool {
        let minutes = |it: &Question| {
            let minute = |at: Timestamp| at.micros().div_euclid(MINUTE_US);
            (it.since.map(minute), minute(it.until))
        };
        self.rule == rule
            && self.question.agent == question.agent
            && minutes(&self.question) == minutes(question)
            && Arc::ptr_eq(&self.config, config)
    }
}

/// Looks at calls on a thread that may wait: one at a time, since it reads much. Others wait for it,
/// and share its answer where they asked the same.
pub(crate) async fn report(
    records: &Records,
    question: Question,
    rule: Option<Rule>,
) -> Result<Report, Problem> {
    let config = records
        .config
        .as_ref()
        .map_or_else(|| Arc::clone(&DEFAULTS), |config| config.load_full());
    let mut last = Arc::clone(&records.suggested).lock_owned().await;
    let same = last
        .as_ref()
        .filter(|it| it.position == records.position() && it.answers(&question, rule, &config));
    if let Some(same) = same {
        return Ok(same.report.clone());
    }
    let mut chosen = config.as_ref().clone();
    if let Some(rule) = rule {
        chosen.suggestions.only(rule);
    }
    let written = records.clone();
    // The thread holds the place until it is done, whether or not somebody still waits.
    records
        .ask(move |view| {
            let position = written.position();
            let report = suggest(view, &question, &chosen)?;
            *last = Some(Suggested {
                question,
                rule,
                position,
                config,
                report: report.clone(),
            });
            Ok(report)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::sample::{PLANNER, Sample};

    #[tokio::test]
    async fn a_report_is_kept_until_something_is_written_or_asked_otherwise() {
        let sample = Sample::new();
        let records = sample.state(&[]).records;
        let question = |minutes: i64| Question {
            until: Timestamp::from_micros(records.clock.now().micros() + minutes * MINUTE_US),
            ..Question::default()
        };
        let kept = || async {
            let last = records.suggested.lock().await;
            last.as_ref().map(|it| (it.position, it.question.until))
        };
        sample.record(PLANNER);
        let first = report(&records, question(60), None).await.unwrap();
        let made = kept().await;
        assert_eq!(first.calls, 1);
        let same = report(&records, question(60), None).await.unwrap();
        assert_eq!((same, kept().await), (first, made));
        report(&records, question(60), Some(Rule::Waiting))
            .await
            .unwrap();
        report(&records, question(90), None).await.unwrap();
        assert_ne!(kept().await, made);
        sample.record(PLANNER);
        // Until it is on the disk nothing was written.
        sample.ledger.view();
        let more = report(&records, question(90), None).await.unwrap();
        assert_eq!(more.calls, 2);
    }
}
