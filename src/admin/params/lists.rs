//! Which runs, and how they and calls are filtered.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strum::{EnumString, IntoStaticStr, VariantNames};
use utoipa::{IntoParams, ToSchema};

use super::super::problem::Problem;
use super::{Limit, When, from_text, span};
use crate::core::compare::MetricBound;
use crate::core::id::{Label, LabelError};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::ledger::{RunFilter, SpanFilter, Standing};

/// Which runs: those of a span of time that fit all that is said; all when nothing is.
#[derive(Args, Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunParams {
    /// Only runs that stand so
    #[arg(long, value_parser = state())]
    pub state: Option<State>,
    /// Only runs this agent worked in
    #[arg(long)]
    pub agent: Option<Label>,
    /// Only runs of this variant
    #[arg(long)]
    pub variant: Option<Label>,
    /// Only runs with this tag, as name=value
    #[arg(long, value_name = "NAME=VALUE")]
    #[param(value_type = Option<String>, example = "team=search")]
    pub tag: Option<Tag>,
    /// Only runs with this in their name, in any case
    #[arg(long)]
    pub text: Option<String>,
    /// Only runs that cost so much or more, in USD
    #[arg(long, value_name = "USD")]
    #[param(value_type = Option<String>, example = "0.50")]
    pub min_usd: Option<Usd>,
    /// Only runs in which the mean of a custom metric stands so
    #[arg(long, value_name = "BOUND")]
    #[param(value_type = Option<String>, example = "score<0.5")]
    pub metric: Option<MetricBound>,
    /// Only runs with calls that failed or with loops that were stopped
    #[arg(long)]
    #[serde(default, skip_serializing_if = "is_off")]
    #[param(value_type = Option<bool>)]
    pub only_problems: bool,
    /// From this time on: 1h, 7d (that long ago), 2026-11-01 or 2026-11-01T12:30:00Z
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>, example = "1d")]
    pub since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>)]
    pub until: Option<When>,
    /// At most so many, 1 to 1000; 100 when not given
    #[arg(long, value_name = "COUNT")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000)]
    pub limit: Option<Limit>,
    /// Only older ones: `next` of the answer before
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>)]
    pub before: Option<When>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
pub(super) fn is_off(flag: &bool) -> bool {
    !flag
}

impl RunParams {
    pub(in super::super) fn filter(self, now: Timestamp) -> Result<RunFilter, Problem> {
        let (since, until) = span(self.since.as_ref(), self.until.as_ref(), now)?;
        Ok(RunFilter {
            span: SpanFilter {
                since,
                until,
                before: self.before.as_ref().map(|when| when.before(now)),
                limit: self.limit.unwrap_or_default().get(),
            },
            standing: self.state.map(State::standing),
            agent: self.agent,
            variant: self.variant,
            tag: self.tag.map(Tag::into_parts),
            text: self.text,
            min_cost: self.min_usd.map(Usd::get),
            only_problems: self.only_problems,
            metric: self.metric,
        })
    }
}

/// How a run stands.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Deserialize,
    Serialize,
    EnumString,
    IntoStaticStr,
    ToSchema,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// A call of it is open.
    Running,
    /// None is, and nothing keeps it from going on.
    Ended,
    Paused,
    Stopped,
    /// A loop of it was stopped at some time.
    Tripped,
}

impl State {
    fn standing(self) -> Standing {
        match self {
            Self::Running => Standing::Running,
            Self::Ended => Standing::Ended,
            Self::Paused => Standing::Paused,
            Self::Stopped => Standing::Stopped,
            Self::Tripped => Standing::Tripped,
        }
    }
}

fn state() -> impl TypedValueParser<Value = State> {
    PossibleValuesParser::new(State::VARIANTS).try_map(|word| word.parse::<State>())
}

/// A tag and its value, as `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    name: String,
    value: Label,
}

/// A text that is no [`Tag`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    #[error("found `{0}`, expected name=value, such as team=search")]
    Shape(String),
    #[error("the value of the tag {0} {1}")]
    Value(String, LabelError),
}

impl Tag {
    pub fn into_parts(self) -> (String, Label) {
        (self.name, self.value)
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = parts.ok_or_else(|| TagError::Shape(text.to_owned()))?;
        // Their names are those of headers, which have no case.
        let name = name.to_ascii_lowercase();
        let value = Label::parse(value).map_err(|error| TagError::Value(name.clone(), error))?;
        Ok(Self { name, value })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// An amount of money as people write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usd {
    written: String,
    amount: NanoUsd,
}

/// A text that is no [`Usd`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{0}`, expected an amount in USD, such as 0.50")]
pub struct UsdError(String);

impl Usd {
    pub fn get(self) -> NanoUsd {
        self.amount
    }
}

impl FromStr for Usd {
    type Err = UsdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let amount = NanoUsd::parse(text).ok_or_else(|| UsdError(text.to_owned()))?;
        Ok(Self {
            written: text.to_owned(),
            amount,
        })
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_name_and_a_value() {
        let tag: Tag = "Team=a=b".parse().unwrap();
        assert_eq!(tag.to_string(), "team=a=b");
        for (text, expected) in [
            (
                "team",
                "found `team`, expected name=value, such as team=search",
            ),
            ("=x", "found `=x`, expected name=value, such as team=search"),
            ("team=", "the value of the tag team is empty"),
        ] {
            assert_eq!(text.parse::<Tag>().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn an_amount_says_what_was_expected() {
        assert_eq!(
            "0.5".parse::<Usd>().unwrap().get(),
            NanoUsd::new(500_000_000)
        );
        for text in ["", "-1", "1e3", "a lot", "1."] {
            let error = text.parse::<Usd>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("found `{text}`, expected an amount")));
        }
    }
}
