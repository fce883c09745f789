//! What is compared, and what each run adds to it.

#![expect(
    clippy::cast_precision_loss,
    reason = "statistics of counts far below 2^52"
)]

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bootstrap::Value;
use super::{AgentFigures, RunFigures, Success};

/// What the figures of a measure are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 1e-9 USD.
    NanoUsd,
    /// Microseconds.
    Us,
    Count,
    /// From 0 to 1.
    Share,
    /// Whatever a client says its numbers are.
    Number,
}

/// Something that runs are compared by.
#[derive(Clone, Debug, PartialEq)]
pub enum Measure {
    Success(Success),
    Metric(String),
    Cost,
    Calls,
    InputTokens,
    OutputTokens,
    CachedShare,
    Duration,
    FirstChunk,
    ErrorRate,
    TripRate,
}

impl Measure {
    /// All that is always looked at, and the custom metrics that were asked for.
    pub fn all(success: &Success, metrics: &[String]) -> Vec<Self> {
        let mut all = vec![Self::Success(success.clone())];
        all.extend(metrics.iter().cloned().map(Self::Metric));
        all.extend([
            Self::Cost,
            Self::Calls,
            Self::InputTokens,
            Self::OutputTokens,
            Self::CachedShare,
            Self::Duration,
            Self::FirstChunk,
            Self::ErrorRate,
            Self::TripRate,
        ]);
        all
    }

    /// Its name in the API, with the unit.
    pub fn key(&self) -> String {
        let key = match self {
            Self::Success(_) => "success_rate",
            Self::Metric(name) => return format!("metric.{name}"),
            Self::Cost => "cost_nano_usd",
            Self::Calls => "calls",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::CachedShare => "cached_share",
            Self::Duration => "duration_us",
            Self::FirstChunk => "first_chunk_us",
            Self::ErrorRate => "error_rate",
            Self::TripRate => "trip_rate",
        };
        key.to_owned()
    }

    /// As people read it.
    pub fn title(&self) -> String {
        let title = match self {
            Self::Success(_) => "success",
            Self::Metric(name) => return name.clone(),
            Self::Cost => "cost",
            Self::Calls => "calls",
            Self::InputTokens => "input tokens",
            Self::OutputTokens => "output tokens",
            Self::CachedShare => "share of cached input",
            Self::Duration => "duration",
            Self::FirstChunk => "time to first chunk",
            Self::ErrorRate => "share of calls that failed",
            Self::TripRate => "share of runs a breaker stopped",
        };
        title.to_owned()
    }

    pub fn unit(&self) -> Unit {
        match self {
            Self::Metric(_) => Unit::Number,
            Self::Cost => Unit::NanoUsd,
            Self::Calls | Self::InputTokens | Self::OutputTokens => Unit::Count,
            Self::Duration | Self::FirstChunk => Unit::Us,
            Self::Success(_) | Self::CachedShare | Self::ErrorRate | Self::TripRate => Unit::Share,
        }
    }

    /// Of each run it says yes or no. A custom metric may.
    pub(super) fn may_be_share_of_runs(&self) -> bool {
        matches!(self, Self::Success(_) | Self::TripRate | Self::Metric(_))
    }

    /// What a run adds; none where it has nothing to say.
    pub fn of(&self, run: &RunFigures) -> Option<Value> {
        let count = |count: u64| Some(Value::new(count as f64));
        let flag = |is: bool| Value::new(f64::from(u8::from(is)));
        let share = |top: u64, of: u64| {
            (of > 0).then_some(Value {
                top: top as f64,
                of: of as f64,
            })
        };
        match self {
            Self::Success(rule) => rule.of(run).map(flag),
            Self::Metric(name) => run.metrics.get(name).copied().map(Value::new),
            Self::Cost => run.cost.map(|cost| Value::new(cost.get() as f64)),
            Self::Calls => count(run.calls),
            Self::InputTokens => count(run.input_tokens),
            Self::OutputTokens => count(run.output_tokens),
            Self::CachedShare => share(run.cache_read_input_tokens, run.input_tokens),
            Self::Duration => count(run.duration_us),
            Self::FirstChunk => run.first_chunk_us.map(Value::new),
            Self::ErrorRate => share(run.errors, run.calls),
            Self::TripRate => Some(flag(run.is_stopped)),
        }
    }

    /// What is told of each agent.
    pub(super) const OF_AGENTS: [Self; 3] = [Self::Cost, Self::Calls, Self::ErrorRate];

    /// What an agent adds of a run, in which it may have done nothing.
    pub(super) fn of_agent(&self, agent: AgentFigures) -> Option<Value> {
        match self {
            Self::Cost if agent.unpriced_calls > 0 => None,
            Self::Cost => Some(Value::new(agent.cost.get() as f64)),
            Self::Calls => Some(Value::new(agent.calls as f64)),
            Self::ErrorRate => (agent.calls > 0).then_some(Value {
                top: agent.errors as f64,
                of: agent.calls as f64,
            }),
            _ => None,
        }
    }
}
