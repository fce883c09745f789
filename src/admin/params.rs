//! What can be asked of the records: one definition for query strings, command-line flags and
//! their documentation.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::SpanRelativeTo;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strum::VariantNames;
use utoipa::IntoParams;

use super::problem::Problem;
use super::view::OPEN;
use crate::budgets::AccountFilter;
use crate::core::budget::Dimension;
use crate::core::call::{Operation, Outcome};
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;
use crate::ledger::{CallFilter, OutcomeFilter, SpanFilter};

mod lists;
mod measured;
mod series;

pub use self::lists::{RunParams, State, Tag, TagError, Usd, UsdError};
pub use self::measured::MetricParams;
pub use self::series::{SeriesBy, SeriesParams, Step, StepError};

/// Which calls.
#[derive(Args, Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CallParams {
    /// Only calls of this run
    #[arg(long)]
    pub run: Option<Label>,
    /// Only calls this agent made
    #[arg(long)]
    pub agent: Option<Label>,
    /// Only calls of agents this agent invoked
    #[arg(long)]
    pub caller: Option<Label>,
    /// Only calls that asked for this model or were answered by it
    #[arg(long)]
    pub model: Option<Label>,
    /// Only calls to this upstream
    #[arg(long)]
    pub upstream: Option<Label>,
    /// Only calls that ended so, or are still `open`
    #[arg(long)]
    #[param(value_type = Option<String>, example = "completed")]
    pub outcome: Option<End>,
    /// Only calls that ask for this
    #[arg(long, value_parser = operation())]
    pub operation: Option<Operation>,
    /// Only calls for this user
    #[arg(long)]
    pub user: Option<Label>,
    /// Only calls of this variant
    #[arg(long)]
    pub variant: Option<Label>,
    /// Only calls that this instance served
    #[arg(long)]
    pub instance: Option<Label>,
    /// Only calls with this tag, as name=value
    #[arg(long, value_name = "NAME=VALUE")]
    #[param(value_type = Option<String>, example = "team=search")]
    pub tag: Option<Tag>,
    /// Only calls with this in their agent, caller, run, models, ids or error, in any case
    #[arg(long)]
    pub text: Option<String>,
    /// Only calls that cost so much or more, in USD
    #[arg(long, value_name = "USD")]
    #[param(value_type = Option<String>, example = "0.50")]
    pub min_usd: Option<Usd>,
    /// Only calls that failed
    #[arg(long)]
    #[serde(default, skip_serializing_if = "lists::is_off")]
    #[param(value_type = Option<bool>)]
    pub failed: bool,
    /// From this time on: 1h, 7d (that long ago), 2026-11-01 or 2026-11-01T12:30:00Z
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>, example = "1h")]
    pub since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>)]
    pub until: Option<When>,
    /// At most so many, 1 to 1000; 100 when not given
    #[arg(long, value_name = "COUNT")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000)]
    pub limit: Option<Limit>,
    /// Only calls before this one: `next` of the answer before
    #[arg(long, value_name = "CALL")]
    pub before: Option<CallId>,
}

impl CallParams {
    pub(super) fn filter(self, now: Timestamp) -> Result<CallFilter, Problem> {
        let (since, until) = span(self.since.as_ref(), self.until.as_ref(), now)?;
        Ok(CallFilter {
            run: self.run,
            agent: self.agent,
            caller: self.caller,
            model: self.model,
            upstream: self.upstream,
            outcome: self.outcome.map(End::filter),
            operation: self.operation,
            user: self.user,
            variant: self.variant,
            instance: self.instance,
            own: None,
            tag: self.tag.map(Tag::into_parts),
            text: self.text,
            min_cost: self.min_usd.map(Usd::get),
            failed: self.failed,
            since,
            until,
            before: self.before,
            limit: self.limit.unwrap_or_default().get(),
        })
    }
}

/// Which agents, edges, models or events: those of a span of time; all time when not given.
#[derive(Args, Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SpanParams {
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

/// A [`SpanParams`] as it comes, good or bad.
pub(super) type Span = Result<Query<SpanParams>, QueryRejection>;

impl SpanParams {
    pub(super) fn filter(&self, now: Timestamp) -> Result<SpanFilter, Problem> {
        let (since, until) = span(self.since.as_ref(), self.until.as_ref(), now)?;
        Ok(SpanFilter {
            since,
            until,
            before: self.before.as_ref().map(|when| when.before(now)),
            limit: self.limit.unwrap_or_default().get(),
        })
    }
}

/// Which calls of a run.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams, PartialEq)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WindowParams {
    /// From the call of this number on; the first is 0
    #[serde(default)]
    #[param(value_type = Option<u64>)]
    pub from: u64,
    /// At most so many, 1 to 1000; 100 when not given
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000)]
    pub limit: Option<Limit>,
}

/// Which budgets, and which of their accounts.
#[derive(Args, Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BudgetParams {
    /// Only the budget of this name
    #[arg(long)]
    pub rule: Option<Label>,
    /// Only accounts with this value in their key: a run, an agent, a user, ...
    #[arg(long)]
    pub value: Option<Label>,
    /// Of each budget the accounts closest to their limits, at most so many; 100 when not given
    #[arg(long, value_name = "COUNT")]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000)]
    pub limit: Option<Limit>,
}

impl BudgetParams {
    pub(super) fn filter(self) -> AccountFilter {
        AccountFilter {
            rule: self.rule,
            value: self.value,
            limit: self.limit.unwrap_or_default().get(),
        }
    }
}

/// Reads one dimension of a key; no or an empty value stands for the calls that do not say.
pub fn key_part(
    dimension: &str,
    value: Option<&str>,
) -> Result<(Dimension, Option<Label>), String> {
    let known = || {
        let plain: Vec<String> = Dimension::PLAIN.iter().map(ToString::to_string).collect();
        plain.join(", ")
    };
    let of: Dimension = dimension
        .parse()
        .map_err(|()| format!("found `{dimension}`, expected {} or tag.<name>", known()))?;
    let value = value.filter(|value| !value.is_empty()).map(Label::parse);
    let value = value
        .transpose()
        .map_err(|error| format!("{dimension}: {error}"))?;
    Ok((of, value))
}

/// The first moment of a span and the first one after it. One that ends before it begins would hold
/// nothing, which nobody asks for.
pub(super) fn span(
    since: Option<&When>,
    until: Option<&When>,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Option<Timestamp>), Problem> {
    let at = |when: Option<&When>| when.map(|when| when.before(now));
    match (at(since), at(until)) {
        (Some(since), Some(until)) if since >= until => Err(Problem::bad_request(format!(
            "query parameters: since: {since} is not before until: {until}"
        ))),
        span => Ok(span),
    }
}

/// Which days.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, PartialEq)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DayParams {
    /// From the day of this time on; 30d when not given
    #[param(value_type = Option<String>, example = "7d")]
    pub since: Option<When>,
    /// To the day of this time; now when not given
    #[param(value_type = Option<String>)]
    pub until: Option<When>,
}

impl DayParams {
    const DEFAULT_DAYS: i32 = 30;

    /// The first and the last day.
    pub(super) fn days(&self, now: Timestamp) -> Result<(i32, i32), Problem> {
        let (since, until) = span(self.since.as_ref(), self.until.as_ref(), now)?;
        let until = until.unwrap_or(now).day();
        let first = || until.saturating_sub(Self::DEFAULT_DAYS);
        Ok((since.map_or_else(first, Timestamp::day), until))
    }
}

/// How a call stands: an outcome, or none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Open,
    Outcome(Outcome),
}

/// A text that is no [`End`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{0}`, expected open, {outcomes}", outcomes = Outcome::VARIANTS.join(", "))]
pub struct EndError(String);

impl End {
    fn filter(self) -> OutcomeFilter {
        match self {
            Self::Open => OutcomeFilter::Open,
            Self::Outcome(outcome) => OutcomeFilter::Settled(outcome),
        }
    }
}

impl FromStr for End {
    type Err = EndError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(outcome) => Ok(Self::Outcome(outcome)),
            Err(_) if text == OPEN => Ok(Self::Open),
            Err(_) => Err(EndError(text.to_owned())),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => OPEN,
            Self::Outcome(outcome) => outcome.into(),
        })
    }
}

impl Serialize for End {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for End {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

fn operation() -> impl TypedValueParser<Value = Operation> {
    PossibleValuesParser::new(Operation::VARIANTS).try_map(|word| word.parse::<Operation>())
}

/// A point in time as people write it: absolute, or so long ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    written: String,
    meaning: Meaning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    At(Timestamp),
    /// Microseconds before now.
    Ago(i64),
}

/// A text that is no [`When`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found `{0}`, expected a time such as 2026-11-01 or 2026-11-01T12:30:00Z (UTC unless it says \
     otherwise), or how long ago, such as 90s, 15m, 24h or 7d"
)]
pub struct WhenError(String);

impl When {
    /// In words: `1h ago`, or the time as it was written.
    pub fn spoken(&self) -> String {
        match self.meaning {
            Meaning::At(_) => self.written.clone(),
            Meaning::Ago(_) => format!("{} ago", self.written),
        }
    }

    pub fn before(&self, now: Timestamp) -> Timestamp {
        match self.meaning {
            Meaning::At(time) => time,
            Meaning::Ago(micros) => Timestamp::from_micros(now.micros().saturating_sub(micros)),
        }
    }
}

impl FromStr for When {
    type Err = WhenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let meaning = absolute(text)
            .map(|time| Meaning::At(Timestamp::from_micros(time.as_microsecond())))
            .or_else(|| ago(text).map(Meaning::Ago))
            .ok_or_else(|| WhenError(text.to_owned()))?;
        Ok(Self {
            written: text.to_owned(),
            meaning,
        })
    }
}

fn absolute(text: &str) -> Option<jiff::Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let date: Date = text.parse().ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn ago(text: &str) -> Option<i64> {
    let span: jiff::Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    i64::try_from(duration.as_micros())
        .ok()
        .filter(|micros| *micros >= 0)
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// How many rows to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(u16);

/// A text that is no [`Limit`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{0}`, expected a number from 1 to 1000")]
pub struct LimitError(String);

impl Limit {
    pub const MAX: Self = Self(1000);

    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(100)
    }
}

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(count @ 1..=1000) => Ok(Self(count)),
            _ => Err(LimitError(text.to_owned())),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.0)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    let text = <Cow<'de, str>>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_793_536_205_000_000);

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let when: When = text.parse().unwrap();
        assert_eq!(when.before(NOW).to_string(), expected);
        assert_eq!(when.to_string(), text);
    }

    #[test]
    fn a_time_is_absolute_or_so_long_ago() {
        check("2026-10-31", "2026-10-31T00:00:00.000000Z");
        check("2026-10-31T08:00:00+02:00", "2026-10-31T06:00:00.000000Z");
        check("2026-10-31T08:00:00Z", "2026-10-31T08:00:00.000000Z");
        check("5s", "2026-11-01T12:30:00.000000Z");
        check("24h", "2026-10-31T12:30:05.000000Z");
        check("7d", "2026-10-25T12:30:05.000000Z");
        check("1h30m", "2026-11-01T11:00:05.000000Z");
    }

    #[test]
    fn a_time_that_means_nothing_names_what_was_found_and_expected() {
        for text in ["", "yesterday", "1 month", "-3h", "2026-13-01", "10"] {
            let error = text.parse::<When>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("found `{text}`, expected a time")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_limit_is_from_1_to_1000() {
        assert_eq!("1000".parse::<Limit>().unwrap().get(), 1000);
        for text in ["0", "1001", "-1", "many", ""] {
            let error = text.parse::<Limit>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("found `{text}`, expected a number from 1 to 1000")
            );
        }
    }
}
