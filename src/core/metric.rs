//! Custom metrics: what clients, judges and people say of a call, a run or an agent.
//!
//! Not to be mixed up with what the proxy counts of itself. A value comes with a call by header
//! (`x-aiops-metric-<name>`), or later through the API.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use minicbor::data::Type;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::attribution::Attribution;
use super::budget::Charged;
use super::call::Admission;
use super::id::{CallId, Label};
use super::time::Timestamp;

/// Bytes of a category and of a name, at most.
pub const MAX_BYTES: usize = 64;

/// Who is said to have measured what came with a call.
pub const BY_HEADER: &str = "header";

/// What was measured: a finite number, yes or no, or one of a few words.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Value {
    /// Always finite: made by [`Value::number`].
    Number(f64),
    Boolean(bool),
    /// Up to [`MAX_BYTES`] bytes.
    Category(Label),
}

/// A text that is no [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a finite number, true or false, or a category of 1 to 64 bytes")]
pub struct ValueError;

/// Beyond this budgets count no further, in either direction: sums must not saturate.
const MOST_COUNTED: f64 = 1e9;

impl Value {
    pub fn number(number: f64) -> Result<Self, ValueError> {
        let finite = number.is_finite().then_some(Self::Number(number));
        finite.ok_or(ValueError)
    }

    pub fn category(text: &str) -> Result<Self, ValueError> {
        let label = Label::parse(text).map_err(|_| ValueError)?;
        if label.as_str().len() > MAX_BYTES {
            return Err(ValueError);
        }
        Ok(Self::Category(label))
    }

    /// What can be averaged: a number; yes is 1 and no is 0.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Boolean(yes) => Some(f64::from(u8::from(*yes))),
            Self::Category(_) => None,
        }
    }

    /// The same in millionths, as budgets count it; no more than a billion.
    pub fn as_micro(&self) -> Option<i64> {
        let number = self.as_number()?.clamp(-MOST_COUNTED, MOST_COUNTED);
        #[expect(clippy::cast_possible_truncation, reason = "it is within 1e15")]
        Some((number * 1e6).round() as i64)
    }
}

/// As headers and the command line have it: what reads as a number is one.
impl FromStr for Value {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Self::number(number);
        }
        if text.eq_ignore_ascii_case("true") {
            return Ok(Self::Boolean(true));
        }
        if text.eq_ignore_ascii_case("false") {
            return Ok(Self::Boolean(false));
        }
        Self::category(text)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Boolean(yes) => yes.fmt(f),
            Self::Category(word) => word.fmt(f),
        }
    }
}

/// As JSON has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Json {
    Boolean(bool),
    Number(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer);
        let value = json.map_err(|_| ValueError).and_then(|json| match json {
            Json::Boolean(yes) => Ok(Self::Boolean(yes)),
            Json::Number(number) => Self::number(number),
            Json::Text(text) => Self::category(&text),
        });
        value.map_err(serde::de::Error::custom)
    }
}

/// A number is encoded as nothing but its 64 bits of float, as it was when there were only numbers.
impl<C> Encode<C> for Value {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        match self {
            Self::Number(number) => e.f64(*number)?.ok(),
            Self::Boolean(yes) => e.bool(*yes)?.ok(),
            Self::Category(word) => e.str(word.as_str())?.ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for Value {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let value = match d.datatype()? {
            Type::Bool => return Ok(Self::Boolean(d.bool()?)),
            Type::String => Self::category(d.str()?),
            _ => Self::number(d.f64()?),
        };
        value.map_err(decode::Error::message)
    }
}

/// The name of a custom metric as the API takes it: lower-case, since headers have no case.
pub fn parse_name(text: &str) -> Option<String> {
    let name = text.trim().to_ascii_lowercase();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let is_name = (1..=MAX_BYTES).contains(&name.len()) && name.bytes().all(fits);
    is_name.then_some(name)
}

/// What a measurement is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Counts for its run and its agent too.
    #[n(0)]
    Call(#[n(0)] CallId),
    #[n(1)]
    Run(#[n(0)] Label),
    #[n(2)]
    Agent(#[n(0)] Label),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(id) => write!(f, "call {id}"),
            Self::Run(run) => write!(f, "run {run}"),
            Self::Agent(agent) => write!(f, "agent {agent}"),
        }
    }
}

/// One value that somebody measured.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Measurement {
    #[n(0)]
    pub at: Timestamp,
    #[n(1)]
    pub name: String,
    #[n(2)]
    pub value: Value,
    #[n(3)]
    pub subject: Subject,
    /// A judge, a person, a program; [`BY_HEADER`] for what came with the call.
    #[n(4)]
    pub who: Label,
    #[n(5)]
    pub note: Option<String>,
    /// Tells it apart from others of this name that the same says of the same.
    #[n(6)]
    pub key: Option<Label>,
    /// The run of the call, so that this can be told without the call.
    #[n(7)]
    pub run: Option<Label>,
    /// The agent of the call.
    #[n(8)]
    pub agent: Option<Label>,
    /// When it was said, and what budgets were charged for it; what came with a call is charged with
    /// that.
    #[n(9)]
    pub charged: Option<Charged>,
    /// The instance that it was told to, where that is another one than the one that has this record.
    #[n(12)]
    pub instance: Option<Label>,
}

impl Measurement {
    /// What its client said of a call when it made it.
    pub fn of_call(
        id: CallId,
        at: Timestamp,
        attribution: &Attribution,
    ) -> impl Iterator<Item = Self> {
        let who = Label::parse(BY_HEADER).ok();
        attribution.metrics.iter().filter_map(move |(name, value)| {
            Some(Self {
                at,
                name: name.clone(),
                value: value.clone(),
                subject: Subject::Call(id),
                who: who.clone()?,
                note: None,
                key: None,
                run: attribution.run.clone(),
                agent: Some(attribution.agent.clone()),
                charged: None,
                instance: None,
            })
        })
    }

    /// The same of an admitted call.
    pub fn of_headers(admission: &Admission) -> impl Iterator<Item = Self> {
        Self::of_call(admission.id, admission.started_at, &admission.attribution)
    }

    /// The run it counts for.
    pub fn run(&self) -> Option<&Label> {
        match &self.subject {
            Subject::Run(run) => Some(run),
            Subject::Call(_) => self.run.as_ref(),
            Subject::Agent(_) => None,
        }
    }

    /// The agent it counts for.
    pub fn agent(&self) -> Option<&Label> {
        match &self.subject {
            Subject::Agent(agent) => Some(agent),
            Subject::Call(_) => self.agent.as_ref(),
            Subject::Run(_) => None,
        }
    }
}

/// What measurements of one name come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub count: u64,
    /// Numbers, and yes and no as 1 and 0.
    pub numbers: u64,
    pub sum: f64,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub yes: u64,
    pub no: u64,
    /// How often each was said; the first [`MAX_CATEGORIES`].
    pub categories: BTreeMap<Label, u64>,
    /// How often others were.
    pub other_categories: u64,
    /// The newest.
    pub last: Option<(Timestamp, Value)>,
}

/// Categories that are told apart.
pub const MAX_CATEGORIES: usize = 32;

impl Summary {
    pub fn add(&mut self, at: Timestamp, value: &Value) {
        self.count += 1;
        if self.last.as_ref().is_none_or(|(last, _)| *last < at) {
            self.last = Some((at, value.clone()));
        }
        if let Some(number) = value.as_number() {
            self.numbers += 1;
            self.sum += number;
            self.min = Some(self.min.map_or(number, |min| min.min(number)));
            self.max = Some(self.max.map_or(number, |max| max.max(number)));
        }
        match value {
            Value::Number(_) => {}
            Value::Boolean(true) => self.yes += 1,
            Value::Boolean(false) => self.no += 1,
            Value::Category(word) => {
                let known = self.categories.contains_key(word);
                if known || self.categories.len() < MAX_CATEGORIES {
                    *self.categories.entry(word.clone()).or_default() += 1;
                } else {
                    self.other_categories += 1;
                }
            }
        }
    }

    /// None where no number was measured.
    pub fn mean(&self) -> Option<f64> {
        let count = u32::try_from(self.numbers).unwrap_or(u32::MAX);
        let mean = self.sum / f64::from(count);
        (count > 0 && mean.is_finite()).then_some(mean)
    }

    /// How many of those that say yes or no say yes, 0 to 1.
    pub fn share_true(&self) -> Option<f64> {
        let all = u32::try_from(self.yes + self.no).unwrap_or(u32::MAX);
        let yes = u32::try_from(self.yes).unwrap_or(u32::MAX);
        (all > 0).then(|| f64::from(yes) / f64::from(all))
    }
}

/// In a few characters: `0.82`, `75 % true`, `good 3, bad 1`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(share) = self
            .share_true()
            .filter(|_| self.numbers == self.yes + self.no)
        {
            return write!(f, "{:.0} % true", share * 100.0);
        }
        if let Some(mean) = self.mean() {
            return f.write_str(&short(mean));
        }
        let mut words: Vec<(&Label, &u64)> = self.categories.iter().collect();
        words.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (n, (word, count)) in words.iter().take(3).enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{word} {count}")?;
        }
        Ok(())
    }
}

/// A number with no more digits than anybody reads.
pub fn short(number: f64) -> String {
    let text = format!("{number:.3}");
    if number.abs() >= 1e15 || (number != 0.0 && number.abs() < 0.001) {
        return format!("{number:.2e}");
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
