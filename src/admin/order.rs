//! What an operator orders, as it comes: read exactly or said to be wrong, with what is expected.
//!
//! Amounts never pass through floating point, whether they are written as text or as numbers.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::params::key_part;
use super::problem::Problem;
use crate::budgets;
use crate::core::budget::amounts::parse_micro;
use crate::core::budget::{Limits, Measure};
use crate::core::id::Label;
use crate::core::money::NanoUsd;

const MAX_WHO_BYTES: usize = 128;

/// Who is said to have ordered when nobody is.
const ANYBODY: &str = "api";

/// Puts something on top of the limits of one account: for good where the window of the budget is
/// `total`, else until what is used now counts no more. At least one amount has to be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RaiseOrder {
    #[schema(example = "each run")]
    rule: String,
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, Option<String>>, example = json!({"run": "nightly-42"}))]
    key: Key,
    /// A decimal, as text or number; read exactly.
    #[schema(value_type = Option<String>, example = "1.50")]
    usd: Option<Box<RawValue>>,
    #[schema(value_type = Option<i64>, minimum = 1)]
    tokens: Option<Box<RawValue>>,
    #[schema(value_type = Option<i64>, minimum = 1)]
    input_tokens: Option<Box<RawValue>>,
    #[schema(value_type = Option<i64>, minimum = 1)]
    output_tokens: Option<Box<RawValue>>,
    #[schema(value_type = Option<i64>, minimum = 1)]
    calls: Option<Box<RawValue>>,
    /// Calls at once.
    #[schema(value_type = Option<i64>, minimum = 1)]
    concurrent: Option<Box<RawValue>>,
    /// Of the custom metric that the budget limits: a decimal, as text or number; read exactly.
    #[schema(value_type = Option<String>, example = "500")]
    metric: Option<Box<RawValue>>,
    /// Who orders it, for the record; `api` when not given.
    who: Option<String>,
}

/// Forgets what was used of one account, and what was put on top of its limits.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetOrder {
    #[schema(example = "each run")]
    rule: String,
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, Option<String>>, example = json!({"run": "nightly-42"}))]
    key: Key,
    /// Who orders it, for the record; `api` when not given.
    who: Option<String>,
}

/// Pauses, resumes or stops a run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ControlOrder {
    /// Who orders it, for the record; `api` when not given.
    who: Option<String>,
}

/// Lets a loop that was stopped go on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoopOrder {
    /// So many calls pass whatever they repeat; 0 when not given.
    #[serde(default)]
    allow: u32,
    /// Who orders it, for the record; `api` when not given.
    who: Option<String>,
}

/// Sends a test alert.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestOrder {
    /// To this webhook; to all when not given.
    webhook: Option<String>,
    /// Who orders it, for the record; `api` when not given.
    who: Option<String>,
}

/// Which account, and who wants something of it.
pub(crate) struct Addressed {
    pub(crate) rule: Label,
    pub(crate) key: budgets::Key,
    pub(crate) who: String,
}

impl RaiseOrder {
    pub(super) fn read(self) -> Result<(Addressed, Limits), Problem> {
        let mut by = Limits::default();
        for (measure, amount) in [
            (Measure::Usd, &self.usd),
            (Measure::Tokens, &self.tokens),
            (Measure::InputTokens, &self.input_tokens),
            (Measure::OutputTokens, &self.output_tokens),
            (Measure::Calls, &self.calls),
            (Measure::Concurrent, &self.concurrent),
            (Measure::Metric, &self.metric),
        ] {
            if let Some(amount) = amount {
                by.set(measure, Some(read_amount(measure, amount.get())?));
            }
        }
        Ok((addressed(&self.rule, self.key, self.who)?, by))
    }
}

impl ResetOrder {
    pub(super) fn read(self) -> Result<Addressed, Problem> {
        addressed(&self.rule, self.key, self.who)
    }
}

impl ControlOrder {
    pub(super) fn who(self) -> Result<String, Problem> {
        read_who(self.who)
    }
}

/// Makes a run known before its first call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BeginOrder {
    /// The run that it is part of, and counts against.
    #[schema(value_type = Option<String>)]
    parent_run: Option<Label>,
    /// What it may cost at most: a decimal, as text or number; read exactly.
    #[schema(value_type = Option<String>, example = "1.50")]
    usd: Option<Box<RawValue>>,
    #[schema(value_type = Option<i64>, minimum = 1)]
    tokens: Option<Box<RawValue>>,
    #[schema(value_type = Option<i64>, minimum = 1)]
    calls: Option<Box<RawValue>>,
    /// Who orders it, for the record; `api` when not given.
    who: Option<String>,
}

impl BeginOrder {
    /// Its parent, its limits, and who says so.
    pub(super) fn read(self) -> Result<(Option<Label>, Limits, String), Problem> {
        let mut limits = Limits::default();
        for (measure, amount) in [
            (Measure::Usd, self.usd),
            (Measure::Tokens, self.tokens),
            (Measure::Calls, self.calls),
        ] {
            if let Some(amount) = amount {
                limits.set(measure, Some(read_amount(measure, amount.get())?));
            }
        }
        Ok((self.parent_run, limits, read_who(self.who)?))
    }
}

impl LoopOrder {
    /// How many calls are allowed, and who says so.
    pub(super) fn read(self) -> Result<(u32, String), Problem> {
        Ok((self.allow, read_who(self.who)?))
    }
}

impl TestOrder {
    /// Which webhook, and who wants to know.
    pub(super) fn read(self) -> Result<(Option<Label>, String), Problem> {
        let webhook = self.webhook.map(|name| {
            let wrong = |error| Problem::bad_request(format!("webhook: {error}"));
            Label::parse(&name).map_err(wrong)
        });
        Ok((webhook.transpose()?, read_who(self.who)?))
    }
}

fn addressed(rule: &str, key: Key, who: Option<String>) -> Result<Addressed, Problem> {
    let rule =
        Label::parse(rule).map_err(|error| Problem::bad_request(format!("rule: {error}")))?;
    let who = read_who(who)?;
    let key = key.0;
    Ok(Addressed { rule, key, who })
}

fn read_who(who: Option<String>) -> Result<String, Problem> {
    let who = who.unwrap_or_default();
    let who = who.trim();
    if who.len() > MAX_WHO_BYTES || who.chars().any(char::is_control) {
        return Err(Problem::bad_request(format!(
            "who: expected at most {MAX_WHO_BYTES} bytes without control characters"
        )));
    }
    let who = if who.is_empty() { ANYBODY } else { who };
    Ok(who.to_owned())
}

/// `json` is a value as it was written.
pub(crate) fn read_amount(measure: Measure, json: &str) -> Result<i64, Problem> {
    let amount = match measure {
        Measure::Usd => {
            let text = serde_json::from_str::<String>(json);
            let text = text.unwrap_or_else(|_| json.to_owned());
            NanoUsd::parse(text.trim()).map(NanoUsd::get)
        }
        Measure::Metric => {
            let text = serde_json::from_str::<String>(json);
            let text = text.unwrap_or_else(|_| json.to_owned());
            parse_micro(text.trim())
        }
        _ => json.parse().ok(),
    };
    let expected = match measure {
        Measure::Usd => "an amount in USD above 0 with at most nine decimals, such as \"1.50\"",
        Measure::Metric => "a number above 0, with up to 9 digits before and 6 after the point",
        _ => "a whole number above 0",
    };
    amount.filter(|amount| *amount > 0).ok_or_else(|| {
        let found: String = json.chars().take(64).collect();
        let name = measure.name();
        Problem::bad_request(format!("{name}: found `{found}`, expected {expected}"))
    })
}

/// A key as a JSON object, each dimension once.
#[derive(Debug, Default)]
struct Key(budgets::Key);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Parts)
    }
}

struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key such as {\"run\": \"nightly-42\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Key, A::Error> {
        let mut key = Key::default();
        while let Some((dimension, value)) = map.next_entry::<String, Option<String>>()? {
            let part = key_part(&dimension, value.as_deref());
            let part = part.map_err(|wrong| A::Error::custom(format!("key: {wrong}")))?;
            if key.0.iter().any(|(of, _)| *of == part.0) {
                return Err(A::Error::custom(format!("key: {dimension} is there twice")));
            }
            key.0.push(part);
        }
        Ok(key)
    }
}
