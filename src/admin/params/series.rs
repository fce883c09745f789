//! Which series.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::problem::Problem;
use super::{When, ago, from_text, span};
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::{By, SeriesFilter};

/// What calls used over time, of which calls, and told apart by what.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, PartialEq)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeriesParams {
    /// From this time on: 1h, 7d (that long ago), 2026-11-01; 24h when not given
    #[param(value_type = Option<String>, example = "24h")]
    pub since: Option<When>,
    /// Before this time; now when not given
    #[param(value_type = Option<String>)]
    pub until: Option<When>,
    /// What to draw lines of: the five most expensive ones, then all others together
    #[serde(default)]
    #[param(value_type = Option<SeriesBy>)]
    pub by: SeriesBy,
    /// Only calls of this agent
    pub agent: Option<Label>,
    /// Only calls of this model
    pub model: Option<Label>,
    /// Buckets at least so wide: 5m, 1h, 1d; as narrow as is useful when not given
    #[param(value_type = Option<String>, example = "1h")]
    pub step: Option<Step>,
}

/// What a series is told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeriesBy {
    #[default]
    None,
    Agent,
    Model,
    Upstream,
}

impl From<SeriesBy> for By {
    fn from(by: SeriesBy) -> Self {
        match by {
            SeriesBy::None => Self::None,
            SeriesBy::Agent => Self::Agent,
            SeriesBy::Model => Self::Model,
            SeriesBy::Upstream => Self::Upstream,
        }
    }
}

impl SeriesParams {
    const DEFAULT_US: u64 = 24 * 3_600_000_000;

    pub(in super::super) fn filter(self, now: Timestamp) -> Result<SeriesFilter, Problem> {
        let (since, until) = span(self.since.as_ref(), self.until.as_ref(), now)?;
        let until = until.unwrap_or(now);
        let default = || until.micros().saturating_sub_unsigned(Self::DEFAULT_US);
        let since = since.unwrap_or_else(|| Timestamp::from_micros(default()));
        if since >= until {
            return Err(Problem::bad_request(format!(
                "query parameters: since: {since} is not before {until}"
            )));
        }
        Ok(SeriesFilter {
            since,
            until,
            by: self.by.into(),
            agent: self.agent,
            model: self.model,
            step_us: self.step.map(|step| step.0),
        })
    }
}

/// How wide a bucket is, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step(u64);

/// A text that is no [`Step`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{0}`, expected how long, such as 5m, 1h or 1d")]
pub struct StepError(String);

impl std::str::FromStr for Step {
    type Err = StepError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let micros = ago(text).and_then(|micros| u64::try_from(micros).ok());
        micros.map(Self).ok_or_else(|| StepError(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}
