//! Alerts: what a person should know of now. Pure: no I/O, no clock, no async.
//!
//! An alert is made of events, the live ones and the recorded ones alike: one event that is worth an
//! alert begins it, further ones of the same rule and scope within a while are counted, another
//! event or the time ends it. [`book::Book`] is that memory, [`throttle::Throttle`] bounds what is
//! sent, [`outcomes::Outcomes`] tells whether an upstream fails.

pub mod book;
pub mod last_told;
pub mod measured;
pub mod outcomes;
pub mod throttle;
pub mod words;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr, VariantNames};
use utoipa::ToSchema;

use super::budget::AccountId;
use super::id::Label;
use super::time::Timestamp;

const MINUTE_US: u64 = 60_000_000;
const DAY_US: u64 = 24 * 60 * MINUTE_US;

/// What an alert is about: the event that begins it, by its name.
#[derive(EnumString, IntoStaticStr, EnumIter, VariantNames, ToSchema)]
#[strum(serialize_all = "snake_case")]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// An account passed the `warn_at` of its budget.
    #[n(0)]
    BudgetWarning,
    /// Calls are delayed by a budget.
    #[n(1)]
    BudgetSlowed,
    /// A budget is spent: calls are refused.
    #[n(2)]
    BudgetSpent,
    #[n(3)]
    LoopWarning,
    /// Calls are delayed because they repeat without anything new.
    #[n(4)]
    LoopSlowed,
    /// A loop was stopped: its calls are refused.
    #[n(5)]
    LoopTripped,
    #[n(6)]
    UpstreamFailing,
    /// The log cannot be written.
    #[n(7)]
    LedgerFailed,
    /// The index does not follow.
    #[n(8)]
    IndexFailed,
    /// The disk of the ledger is almost full.
    #[n(9)]
    DiskLow,
    /// A changed configuration was not taken over.
    #[n(10)]
    ConfigRefused,
    #[n(11)]
    UnpricedModel,
    /// A webhook did not take an alert.
    #[n(12)]
    AlertFailed,
    /// Somebody asked for it, to see whether alerts arrive.
    #[n(13)]
    AlertTest,
    /// A custom metric is where a rule of the config says that it should not be.
    #[n(14)]
    MetricOff,
    /// A database cannot be reached or does not take what is recorded; it is tried again.
    #[n(15)]
    SinkFailing,
    /// Something that was recorded did not come to a database, and will not.
    #[n(16)]
    SinkIncomplete,
}

/// How much it matters.
#[derive(EnumString, IntoStaticStr, VariantNames, ToSchema)]
#[strum(serialize_all = "snake_case")]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    #[default]
    Info,
    Warning,
    /// Calls are refused or fail, or go unrecorded.
    Critical,
}

/// What kind of thing an alert is about.
#[derive(IntoStaticStr, ToSchema)]
#[strum(serialize_all = "snake_case")]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// `name` is the rule, `key` the account of it, as `run nightly-7`.
    #[n(0)]
    Budget,
    /// `name` is the run, `key` the agent.
    #[n(1)]
    Run,
    /// `name` is the id of the trip, `key` the run.
    #[n(2)]
    Loop,
    #[n(3)]
    Upstream,
    #[n(4)]
    Ledger,
    #[n(5)]
    Config,
    #[n(6)]
    Model,
    #[n(7)]
    Webhook,
    /// `name` is the rule, `key` the agent or run, as `agent planner`.
    #[n(8)]
    Metric,
    #[n(9)]
    Sink,
}

/// Which thing.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[cbor(map)]
pub struct Scope {
    #[n(0)]
    pub about: About,
    /// Empty where there is but one.
    #[n(1)]
    pub name: String,
    #[n(2)]
    pub key: Option<String>,
}

impl Scope {
    /// The run that it is about, or whose budget or metric.
    pub fn run(&self) -> Option<&str> {
        match self.about {
            About::Run => Some(&self.name),
            About::Loop => self.key.as_deref(),
            About::Budget | About::Metric => self.named("run"),
            _ => None,
        }
    }

    /// The agent, likewise.
    pub fn agent(&self) -> Option<&str> {
        match self.about {
            About::Run => self.key.as_deref(),
            About::Budget | About::Metric => self.named("agent"),
            _ => None,
        }
    }

    /// What the key of an account names by this dimension: `run nightly-42, agent planner`.
    fn named(&self, dimension: &str) -> Option<&str> {
        let mut parts = self.key.iter().flat_map(|key| key.split(", "));
        parts.find_map(|part| part.strip_prefix(dimension)?.strip_prefix(' '))
    }
}

/// What an event says to those who watch, beside its words.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Signal {
    #[n(0)]
    pub scope: Scope,
    /// How much it is, as people read it: `$1.60`.
    #[n(1)]
    pub value: Option<String>,
    #[n(2)]
    pub limit: Option<String>,
    /// When it is over by itself.
    #[n(3)]
    pub until: Option<Timestamp>,
    /// The account that it is about.
    #[n(4)]
    #[serde(skip)]
    pub account: Option<AccountId>,
    /// The event tells of an alert on its way, and not of what the alert is about.
    #[n(5)]
    pub delivery: Option<Sent>,
}

/// Which alert went to which webhook.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Sent {
    #[n(0)]
    pub rule: Rule,
    #[n(1)]
    pub webhook: Label,
    #[n(2)]
    pub answer: String,
}

/// One alert and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Stays the same over a restart.
    pub id: String,
    pub rule: Rule,
    pub severity: Severity,
    pub scope: Scope,
    /// What happened and what can be done about it; one line, safe to show anywhere.
    pub text: String,
    /// How much it is, as people read it: `$1.60`.
    pub value: Option<String>,
    pub limit: Option<String>,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// How often it was seen since `first_at`.
    pub count: u64,
    /// It goes on, as far as is known.
    pub is_open: bool,
    /// When it ended, once it did.
    pub over_at: Option<Timestamp>,
    /// What became of it at each webhook, the last time it went there.
    pub sent: Vec<Delivery>,
}

/// What a webhook made of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    pub webhook: Label,
    pub at: Timestamp,
    pub is_ok: bool,
    /// `200 after 2 attempts`, `cannot be reached`, ...
    pub answer: String,
}

impl Rule {
    pub fn name(self) -> &'static str {
        self.into()
    }

    pub fn severity(self) -> Severity {
        match self {
            Self::UnpricedModel | Self::AlertTest => Severity::Info,
            Self::BudgetWarning
            | Self::BudgetSlowed
            | Self::LoopWarning
            | Self::LoopSlowed
            | Self::IndexFailed
            | Self::ConfigRefused
            | Self::MetricOff
            | Self::AlertFailed
            | Self::SinkFailing
            | Self::SinkIncomplete => Severity::Warning,
            Self::BudgetSpent
            | Self::LoopTripped
            | Self::UpstreamFailing
            | Self::LedgerFailed
            | Self::DiskLow => Severity::Critical,
        }
    }

    /// The rules whose alerts an event of this name ends.
    pub fn ended_by(what: &str) -> &'static [Self] {
        match what {
            "budget_raised" | "budget_reset" => {
                &[Self::BudgetWarning, Self::BudgetSlowed, Self::BudgetSpent]
            }
            "loop_closed" => &[Self::LoopTripped],
            "upstream_recovered" => &[Self::UpstreamFailing],
            "ledger_resumed" => &[Self::LedgerFailed],
            "index_resumed" => &[Self::IndexFailed],
            "disk_freed" => &[Self::DiskLow],
            "config_reloaded" => &[Self::ConfigRefused],
            "alert_sent" => &[Self::AlertFailed],
            "sink_recovered" => &[Self::SinkFailing],
            last_told::RECOVERED => &[Self::MetricOff],
            // What the process before knew is not known to be so any more.
            "started" => &[
                Self::LoopTripped,
                Self::LoopWarning,
                Self::LoopSlowed,
                Self::UpstreamFailing,
                Self::LedgerFailed,
                Self::IndexFailed,
                Self::DiskLow,
                Self::ConfigRefused,
                Self::AlertFailed,
                Self::SinkFailing,
            ],
            _ => &[],
        }
    }

    /// After how long without news it is taken to be over; none where something says so.
    fn lasts_us(self) -> Option<u64> {
        match self {
            Self::LoopWarning | Self::LoopSlowed => Some(15 * MINUTE_US),
            Self::AlertTest => Some(MINUTE_US),
            Self::BudgetWarning
            | Self::BudgetSlowed
            | Self::BudgetSpent
            | Self::UnpricedModel
            | Self::MetricOff
            | Self::AlertFailed
            | Self::SinkIncomplete => Some(DAY_US),
            _ => None,
        }
    }
}

impl Severity {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Scope {
    pub fn new(about: About, name: &(impl ToString + ?Sized)) -> Self {
        Self {
            about,
            name: name.to_string(),
            key: None,
        }
    }

    #[must_use]
    pub fn with_key(self, key: &(impl ToString + ?Sized)) -> Self {
        let key = Some(key.to_string());
        Self { key, ..self }
    }
}

impl Signal {
    pub fn of(scope: Scope) -> Self {
        Self {
            scope,
            value: None,
            limit: None,
            until: None,
            account: None,
            delivery: None,
        }
    }
}
