//! Custom metrics as the API has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AgentList, CallList, CallView, RunDetail, RunList};
use crate::core::id::{CallId, Label};
use crate::core::metric::{Measurement, Subject, Summary, Value};
use crate::core::time::Timestamp;
use crate::ledger::{
    IndexError, MetricCursor, MetricFilter, MetricScope, MetricSums, RunMetrics, SpanFilter, View,
};

/// What the custom metrics come to, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricList {
    pub metrics: Vec<MetricView>,
    /// There are more than 100 names, or more than 50,000 measurements: the newest of each are told.
    pub is_cut: bool,
}

/// What the measurements of one name come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricView {
    pub name: String,
    pub count: u64,
    /// Of numbers, and of yes and no as 1 and 0, as are the next three; null where there are none.
    pub mean: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub sum: Option<f64>,
    /// How many of those that say yes or no say yes, 0 to 1.
    pub share_true: Option<f64>,
    /// How often each category was said; the first 32.
    pub categories: BTreeMap<Label, u64>,
    /// How often others were.
    pub other_categories: u64,
    pub last: Option<Value>,
    pub last_at: Option<Timestamp>,
    /// All of it in a few characters: `0.82`, `75 % true`, `good 3, bad 1`.
    pub text: String,
}

/// Measurements of one custom metric, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeasurementList {
    pub measurements: Vec<MeasurementView>,
    /// What to pass as `before` for those that follow; null when there are none.
    #[schema(value_type = Option<String>)]
    pub next: Option<MetricCursor>,
    /// 10,000 were looked at and too few matched: there may be more behind `next`.
    pub partial: bool,
}

/// One value that somebody measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeasurementView {
    pub at: Timestamp,
    pub name: String,
    pub value: Value,
    /// The call it was said of; null where it was said of a run or an agent as a whole.
    pub call: Option<CallId>,
    pub run: Option<Label>,
    pub agent: Option<Label>,
    /// `header` for what came with the call.
    pub who: Label,
    pub note: Option<String>,
    pub key: Option<Label>,
}

/// How many measurements are on disk now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recorded {
    pub recorded: u64,
}

/// The custom metrics of a run by agent; those of the run itself are of no agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunMetricsView {
    pub agent: Option<Label>,
    pub metrics: Vec<MetricView>,
}

impl MetricView {
    pub(crate) fn new(name: String, sum: &Summary) -> Self {
        let has_numbers = sum.numbers > 0;
        Self {
            name,
            count: sum.count,
            mean: sum.mean(),
            min: sum.min,
            max: sum.max,
            sum: has_numbers.then_some(sum.sum).filter(|sum| sum.is_finite()),
            share_true: sum.share_true(),
            categories: sum.categories.clone(),
            other_categories: sum.other_categories,
            last: sum.last.as_ref().map(|(_, value)| value.clone()),
            last_at: sum.last.as_ref().map(|(at, _)| *at),
            text: sum.to_string(),
        }
    }
}

/// By name.
pub(crate) fn views(by_name: BTreeMap<String, Summary>) -> Vec<MetricView> {
    let sums = by_name.into_iter();
    sums.map(|(name, sum)| MetricView::new(name, &sum))
        .collect()
}

impl From<MetricSums> for MetricList {
    fn from(sums: MetricSums) -> Self {
        Self {
            metrics: views(sums.by_name),
            is_cut: sums.is_cut,
        }
    }
}

impl From<Measurement> for MeasurementView {
    fn from(it: Measurement) -> Self {
        let call = match it.subject {
            Subject::Call(id) => Some(id),
            Subject::Run(_) | Subject::Agent(_) => None,
        };
        Self {
            at: it.at,
            run: it.run().cloned(),
            agent: it.agent().cloned(),
            call,
            name: it.name,
            value: it.value,
            who: it.who,
            note: it.note,
            key: it.key,
        }
    }
}

impl CallList {
    /// Puts the custom metrics of each call to it. Blocks.
    pub(crate) fn measured(mut self, view: &View) -> Result<Self, IndexError> {
        let ids: Vec<CallId> = self.calls.iter().map(|call| call.id).collect();
        let metrics = view.metrics_of_calls(&ids)?;
        for (call, metrics) in self.calls.iter_mut().zip(metrics) {
            call.metrics = metrics;
        }
        Ok(self)
    }
}

impl CallView {
    /// Puts its custom metrics to it. Blocks.
    pub(crate) fn measured(&mut self, view: &View) -> Result<(), IndexError> {
        let metrics = view.metrics_of_calls(&[self.id])?;
        self.metrics.extend(metrics.into_iter().flatten());
        Ok(())
    }
}

impl RunList {
    /// Puts the custom metrics of each run to it. Blocks.
    pub(crate) fn measured(mut self, view: &View) -> Result<Self, IndexError> {
        let of = |run: &Label| MetricFilter::of(MetricScope::Run(run.clone()));
        let filters: Vec<_> = self.runs.iter().map(|it| of(&it.run)).collect();
        for (run, sums) in self.runs.iter_mut().zip(view.metrics_of(&filters)?) {
            run.metrics = views(sums.by_name);
        }
        Ok(self)
    }
}

impl RunDetail {
    /// Puts the custom metrics of the run and of each agent in it to them.
    pub(crate) fn measured(mut self, metrics: RunMetrics) -> Self {
        let of = |(agent, by_name)| RunMetricsView {
            agent,
            metrics: views(by_name),
        };
        self.run.metrics = views(metrics.all.by_name);
        self.metrics_by_agent = metrics.by_agent.into_iter().map(of).collect();
        self
    }
}

impl AgentList {
    /// Puts the custom metrics that each agent has of the span to it. Blocks.
    pub(crate) fn measured(mut self, view: &View, span: &SpanFilter) -> Result<Self, IndexError> {
        let of = |agent: &Label| MetricFilter::of(MetricScope::Agent(agent.clone())).within(span);
        let filters: Vec<_> = self.agents.iter().map(|it| of(&it.agent)).collect();
        for (agent, sums) in self.agents.iter_mut().zip(view.metrics_of(&filters)?) {
            agent.metrics = views(sums.by_name);
        }
        Ok(self)
    }
}
