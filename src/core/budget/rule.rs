//! Rules: which calls, counted apart by what, how much, over which time.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};
use wildmatch::WildMatch;

use super::super::id::Label;
use super::super::metric::Value;
use super::amounts::{Limits, Measure, micro_text};
use super::window::Window;

/// One budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: Label,
    /// Calls that differ in one of these are counted apart; all together when there are none.
    pub per: Vec<Dimension>,
    /// What a call must be; each entry must match.
    pub matching: Vec<(Dimension, Vec<WildMatch>)>,
    pub limits: Limits,
    /// The custom metric whose sum is limited, where one is.
    pub metric: Option<String>,
    pub window: Window,
    pub slow: Option<Slow>,
    /// Warns from this part of a limit on, in thousandths.
    pub warn_at: Option<u32>,
    pub action: Action,
    pub on_unpriced: OnUnpriced,
}

/// Delays calls before the limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// From this part of a limit on, in thousandths.
    pub from: u32,
    /// The delay right before the limit.
    pub max_delay_us: u64,
}

/// What happens when a limit is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Action {
    /// Calls are refused.
    #[default]
    Break,
    /// Calls go on, and say that a limit is passed.
    Warn,
}

/// What a limit in USD means for a model whose price is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum OnUnpriced {
    /// Its calls are refused.
    Refuse,
    /// It costs what the configured fallback price says.
    #[default]
    FallbackPrice,
    /// It costs nothing here; its tokens and calls count.
    CountOnly,
}

/// What calls are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Dimension {
    /// A run counts for itself and for each of its ancestors.
    #[n(0)]
    Run,
    #[n(1)]
    Agent,
    #[n(2)]
    Caller,
    #[n(3)]
    User,
    /// The client's credential, as a keyed hash.
    #[n(4)]
    Key,
    /// The model asked for.
    #[n(5)]
    Model,
    #[n(6)]
    Upstream,
    #[n(7)]
    Operation,
    #[n(8)]
    Variant,
    #[n(9)]
    Tag(#[n(0)] Label),
}

impl Dimension {
    pub const PLAIN: [Self; 9] = [
        Self::Run,
        Self::Agent,
        Self::Caller,
        Self::User,
        Self::Key,
        Self::Model,
        Self::Upstream,
        Self::Operation,
        Self::Variant,
    ];

    const TAG_PREFIX: &str = "tag.";

    /// As it is configured, but for the name of a tag.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Agent => "agent",
            Self::Caller => "caller",
            Self::User => "user",
            Self::Key => "key",
            Self::Model => "model",
            Self::Upstream => "upstream",
            Self::Operation => "operation",
            Self::Variant => "variant",
            Self::Tag(_) => "tag",
        }
    }

    /// Appends what no other dimension has.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.push(0);
        to.extend_from_slice(self.name().as_bytes());
        if let Self::Tag(name) = self {
            to.push(b'.');
            to.extend_from_slice(name.as_str().as_bytes());
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(name) => write!(f, "{}{name}", Self::TAG_PREFIX),
            plain => f.write_str(plain.name()),
        }
    }
}

impl FromStr for Dimension {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(tag) = text.strip_prefix(Self::TAG_PREFIX) {
            return Label::parse(tag).map(Self::Tag).map_err(|_| ());
        }
        let mut plain = Self::PLAIN.into_iter();
        plain.find(|dimension| dimension.name() == text).ok_or(())
    }
}

impl Serialize for Dimension {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a rule looks at of a call: one value for each dimension.
pub trait Subject {
    /// The value of every dimension but [`Dimension::Run`]; none where the call does not say.
    fn value(&self, dimension: &Dimension) -> Option<&str>;
}

impl Rule {
    /// An amount of a measure as people read it, custom metrics by their names: `12.5 documents`.
    pub fn text(&self, measure: Measure, amount: i64) -> String {
        match (&self.metric, measure) {
            (Some(name), Measure::Metric) => format!("{} {name}", micro_text(amount)),
            _ => measure.text(amount),
        }
    }

    /// What a call that says `metrics` of itself adds to the sum, in millionths.
    pub fn micro_metric(&self, metrics: &BTreeMap<String, Value>) -> i64 {
        let value = self.metric.as_ref().and_then(|name| metrics.get(name));
        value.and_then(Value::as_micro).unwrap_or(0)
    }

    /// The dimensions it looks at.
    pub fn dimensions(&self) -> impl Iterator<Item = &Dimension> {
        let matched = self.matching.iter().map(|(dimension, _)| dimension);
        self.per.iter().chain(matched)
    }

    /// Whether a call as part of `run` is this rule's business.
    pub fn matches(&self, subject: &impl Subject, run: Option<&Label>) -> bool {
        self.matching.iter().all(|(dimension, globs)| {
            let value = match dimension {
                Dimension::Run => run.map(Label::as_str),
                other => subject.value(other),
            };
            value.is_some_and(|value| globs.iter().any(|glob| glob.matches(value)))
        })
    }

    /// Whether it makes a difference which run a call is part of.
    pub fn looks_at_run(&self) -> bool {
        self.dimensions().any(|of| *of == Dimension::Run)
    }
}
