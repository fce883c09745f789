//! Budgets, their accounts, and what was done to them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::budgets::refusal::key_text;
use crate::budgets::{AccountRow, MeasureRow, RuleRow};
use crate::core::budget::{AccountName, Control, Dimension, Limits, Measure, Rule, Window};
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;

/// Budgets in force, in the order in which they are configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetList {
    pub budgets: Vec<BudgetView>,
}

/// One budget: what it says, and how its accounts stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetView {
    /// `x-aiops-budget` is the one behind the headers by which clients limit their own runs.
    pub name: Label,
    /// Calls that differ in one of these have accounts of their own; empty: all calls share one.
    #[schema(example = json!(["run"]))]
    pub per: Vec<String>,
    /// Which calls it is about, as `agent=research*|plan*, user=ada`; empty: all calls.
    #[serde(rename = "match")]
    pub matching: String,
    /// `total`, a rolling one such as `15m`, or `hour`, `day`, `week`, `month`.
    pub window: String,
    /// Where the days of a calendar window begin; null for other windows.
    pub timezone: Option<String>,
    /// Of one account, before anything is put on top; null where it sets none.
    pub limits: Limits,
    /// The custom metric whose sum it limits; null where it limits none.
    pub metric: Option<String>,
    /// From this part of a limit on calls are delayed, in thousandths.
    pub slow_at_permille: Option<u32>,
    /// The delay right before the limit.
    pub max_delay_us: Option<u64>,
    /// From this part of a limit on it warns, in thousandths.
    pub warn_at_permille: Option<u32>,
    /// At the limit: `break` refuses calls, `warn` lets them go on.
    pub action: String,
    /// What a limit in USD means for a model without a price: `refuse`, `fallback_price` or
    /// `count_only`.
    pub on_unpriced: String,
    /// Those closest to their limits, these first.
    pub accounts: Vec<AccountView>,
    /// How many of the accounts asked for there are.
    pub accounts_total: u64,
}

/// What one budget counts for one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    pub key: Vec<KeyPart>,
    /// The key in one text, as `run=nightly-42,agent=`.
    pub key_text: String,
    /// One for each limit.
    pub measures: Vec<MeasureView>,
    /// The custom metric that `metric` among them is of; null where there is none.
    pub metric: Option<String>,
    /// How much of the tightest limit is used, in thousandths.
    pub used_permille: u32,
    /// `open`, `warning`, `spent` (calls are refused) or `passed` (they only warn).
    pub state: String,
    /// Calls that run now.
    pub running: u64,
    /// Calls that wait for running ones to end.
    pub waiting: u64,
    /// Calls refused because of it since the process started.
    pub refused: u64,
    /// When nothing of what is used now will count any more; null when that is never, or nothing
    /// is used.
    pub resets_at: Option<Timestamp>,
    /// When it was last charged, raised or reset; null when it never was.
    pub last_at: Option<Timestamp>,
}

/// One dimension of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyPart {
    /// `run`, `agent`, `caller`, `user`, `key`, `model`, `upstream`, `operation`, `variant` or
    /// `tag.<name>`.
    pub dimension: String,
    /// Null stands for the calls that do not say.
    pub value: Option<Label>,
}

/// How much of one limit is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum MeasureView {
    Usd(UsdMeasure),
    Metric(MetricMeasure),
    Counted(CountedMeasure),
}

/// How much of a limit in USD is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsdMeasure {
    /// `usd`
    pub measure: Measure,
    pub used_nano_usd: NanoUsd,
    /// What running calls have reserved.
    pub held_nano_usd: NanoUsd,
    /// With what was put on top.
    pub limit_nano_usd: NanoUsd,
    /// What operators put on top.
    pub raised_nano_usd: NanoUsd,
}

/// How much of a limit of a custom metric is used, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MetricMeasure {
    /// `metric`
    pub measure: Measure,
    pub used_micro_metric: i64,
    /// What running calls have said of themselves.
    pub held_micro_metric: i64,
    /// With what was put on top.
    pub limit_micro_metric: i64,
    /// What operators put on top.
    pub raised_micro_metric: i64,
}

/// How much of any other limit is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CountedMeasure {
    pub measure: Measure,
    /// Of calls at once: how many run.
    pub used: i64,
    /// What running calls have reserved.
    pub held: i64,
    /// With what was put on top.
    pub limit: i64,
    /// What operators put on top.
    pub raised: i64,
}

/// An account and the budget it is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AccountAnswer {
    pub rule: Label,
    #[serde(flatten)]
    pub account: AccountView,
}

/// An account whose limits were raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Raised {
    #[serde(flatten)]
    pub of: AccountAnswer,
    /// When what was put on top ends; null when it is for good.
    pub until: Option<Timestamp>,
}

/// A run that was paused, resumed or stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunControlled {
    pub run: Label,
    pub control: Control,
    /// Running calls that this ended.
    pub ended_calls: u64,
}

impl From<RuleRow> for BudgetView {
    fn from(row: RuleRow) -> Self {
        let rule = &row.rule;
        let account = |account| AccountView::new(rule, account);
        Self {
            name: rule.name.clone(),
            per: rule.per.iter().map(ToString::to_string).collect(),
            matching: matching(rule),
            window: rule.window.to_string(),
            timezone: match &rule.window {
                Window::Calendar(_, zone) => zone.iana_name().map(str::to_owned),
                Window::Total | Window::Rolling(_) => None,
            },
            limits: rule.limits,
            metric: rule.metric.clone(),
            slow_at_permille: rule.slow.map(|slow| slow.from),
            max_delay_us: rule.slow.map(|slow| slow.max_delay_us),
            warn_at_permille: rule.warn_at,
            action: <&str>::from(rule.action).to_owned(),
            on_unpriced: <&str>::from(rule.on_unpriced).to_owned(),
            accounts_total: size(row.total),
            accounts: row.accounts.into_iter().map(account).collect(),
        }
    }
}

fn matching(rule: &Rule) -> String {
    let entries = rule.matching.iter().map(|(dimension, globs)| {
        let globs: Vec<String> = globs.iter().map(ToString::to_string).collect();
        format!("{dimension}={}", globs.join("|"))
    });
    entries.collect::<Vec<_>>().join(", ")
}

impl AccountView {
    pub(in crate::admin) fn new(rule: &Rule, row: AccountRow) -> Self {
        let state = row.state(rule).to_owned();
        let key = row.name.key;
        Self {
            key_text: key_text(&key),
            key: key.into_iter().map(Into::into).collect(),
            measures: row.measures.into_iter().map(Into::into).collect(),
            metric: rule.metric.clone(),
            used_permille: row.used_permille,
            state,
            running: u64::try_from(row.running).unwrap_or(0),
            waiting: size(row.waiting),
            refused: row.refused,
            resets_at: row.resets_at,
            last_at: Some(row.last_at).filter(|at| *at != Timestamp::default()),
        }
    }

    /// Its name as people say it: `run nightly-42, agent (none)`; `all calls` without a key.
    pub fn spoken(&self, rule: &Label) -> String {
        let part = |part: &KeyPart| Some((part.dimension.parse().ok()?, part.value.clone()));
        let name = AccountName {
            rule: rule.clone(),
            key: self.key.iter().filter_map(part).collect(),
        };
        name.to_string()
    }
}

impl From<(Dimension, Option<Label>)> for KeyPart {
    fn from((dimension, value): (Dimension, Option<Label>)) -> Self {
        Self {
            dimension: dimension.to_string(),
            value,
        }
    }
}

impl From<MeasureRow> for MeasureView {
    fn from(row: MeasureRow) -> Self {
        match row.measure {
            Measure::Usd => Self::Usd(UsdMeasure {
                measure: row.measure,
                used_nano_usd: NanoUsd::new(row.used),
                held_nano_usd: NanoUsd::new(row.held),
                limit_nano_usd: NanoUsd::new(row.limit),
                raised_nano_usd: NanoUsd::new(row.raised),
            }),
            measure @ Measure::Metric => Self::Metric(MetricMeasure {
                measure,
                used_micro_metric: row.used,
                held_micro_metric: row.held,
                limit_micro_metric: row.limit,
                raised_micro_metric: row.raised,
            }),
            measure => Self::Counted(CountedMeasure {
                measure,
                used: row.used,
                held: row.held,
                limit: row.limit,
                raised: row.raised,
            }),
        }
    }
}

impl From<MeasureView> for MeasureRow {
    fn from(view: MeasureView) -> Self {
        match view {
            MeasureView::Usd(usd) => Self {
                measure: usd.measure,
                used: usd.used_nano_usd.get(),
                held: usd.held_nano_usd.get(),
                limit: usd.limit_nano_usd.get(),
                raised: usd.raised_nano_usd.get(),
            },
            MeasureView::Metric(metric) => Self {
                measure: metric.measure,
                used: metric.used_micro_metric,
                held: metric.held_micro_metric,
                limit: metric.limit_micro_metric,
                raised: metric.raised_micro_metric,
            },
            MeasureView::Counted(counted) => Self {
                measure: counted.measure,
                used: counted.used,
                held: counted.held,
                limit: counted.limit,
                raised: counted.raised,
            },
        }
    }
}

fn size(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
