//! Which custom metrics are asked for.

use clap::Args;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::super::problem::Problem;
use super::{Limit, When, span};
use crate::core::id::{CallId, Label};
use crate::core::metric::parse_name;
use crate::core::time::Timestamp;
use crate::ledger::{MetricCursor, MetricFilter, MetricScope};

/// Which custom metrics: those that count for a call, a run or an agent; all when nothing is said.
#[derive(Args, Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MetricParams {
    /// Only those of this call
    #[arg(long, conflicts_with_all = ["run", "agent"])]
    pub call: Option<CallId>,
    /// Only those of this run and of its calls
    #[arg(long)]
    pub run: Option<Label>,
    /// Only those of this agent and of its calls
    #[arg(long)]
    pub agent: Option<Label>,
    /// From this time on: 1h, 7d (that long ago), 2026-11-01 or 2026-11-01T12:30:00Z
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>, example = "1d")]
    pub since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>)]
    pub until: Option<When>,
    /// Of one metric at most so many measurements, 1 to 1000; 100 when not given
    #[arg(long, value_name = "COUNT")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000)]
    pub limit: Option<Limit>,
    /// Only older measurements: `next` of the answer before
    #[arg(long, value_name = "PLACE")]
    #[param(value_type = Option<String>)]
    pub before: Option<MetricCursor>,
}

impl MetricParams {
    /// `name` is that of the one metric that is asked for.
    pub(in super::super) fn filter(
        self,
        name: Option<&str>,
        now: Timestamp,
    ) -> Result<MetricFilter, Problem> {
        let (since, until) = span(self.since.as_ref(), self.until.as_ref(), now)?;
        let (scope, agent) = match (self.call, self.run, self.agent) {
            (None, None, None) => (MetricScope::All, None),
            (Some(call), None, None) => (MetricScope::Call(call), None),
            (None, Some(run), agent) => (MetricScope::Run(run), agent),
            (None, None, Some(agent)) => (MetricScope::Agent(agent), None),
            (Some(_), _, _) => {
                let expected = "query parameters: call: expected without run and agent";
                return Err(Problem::bad_request(expected));
            }
        };
        let parse = |name: &str| {
            let wrong = || Problem::not_found(format!("no custom metric is named {name}"));
            parse_name(name).ok_or_else(wrong)
        };
        Ok(MetricFilter {
            scope,
            agent,
            name: name.map(parse).transpose()?,
            since,
            until,
            before: self.before,
            limit: self.limit.unwrap_or_default().get(),
        })
    }
}
