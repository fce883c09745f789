//! What wastes tokens, money or time in recorded calls, and what it would save to change that.
//!
//! Each rule looks at calls in the order of their time and claims what single calls would not have
//! cost. A claim is never more than its call cost, and all claims on one call together neither: so the
//! total of a report is never more than was spent. What findings claim of the same call is counted once
//! in that total, so that it may be less than their sum.

mod cache;
mod carried;
pub mod change;
mod cut;
pub mod facts;
mod model;
mod parallel;
mod repeated;
mod timeouts;
mod tools;
mod waiting;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoEnumIterator, IntoStaticStr};
use utoipa::ToSchema;

use self::facts::CallFacts;
use super::id::{CallId, Label};
use super::money::NanoUsd;
use super::time::Timestamp;

const DAY_US: i64 = 86_400_000_000;
/// Calls that a finding names; all are counted.
const NAMED: usize = 20;
/// Where no price is known: about the size of one long request each day.
const MIN_TOKENS_PER_DAY: u64 = 50_000;
/// Of a finding that saves time alone.
const MIN_US_PER_DAY: u64 = 30_000_000;

#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    IntoStaticStr,
    EnumString,
    EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Rule {
    CacheBroken,
    RepeatedRequest,
    UnusedTools,
    CarriedResults,
    CutOutput,
    TimeoutRetries,
    SmallerModel,
    Parallel,
    Waiting,
}

impl Rule {
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What it finds, as a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::CacheBroken => "The prompt cache is broken",
            Self::RepeatedRequest => "The same request is answered again and again",
            Self::UnusedTools => "Tools are sent and never called",
            Self::CarriedResults => "Tool results are carried along",
            Self::CutOutput => "Outputs are cut and asked for again",
            Self::TimeoutRetries => "Calls are tried again after timeouts",
            Self::SmallerModel => "A cheaper model does the same kind of call",
            Self::Parallel => "Independent calls run one after the other",
            Self::Waiting => "An agent mostly waits",
        }
    }
}

/// From where on a finding matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is saved on a day, at least.
    pub min_usd_per_day: NanoUsd,
    /// Calls it rests on, at least: fewer may be chance.
    pub min_calls: usize,
    pub ignore: Vec<Rule>,
}

impl Settings {
    /// Looks for one rule, and for no other.
    pub fn only(&mut self, rule: Rule) {
        self.ignore = Rule::iter().filter(|it| *it != rule).collect();
    }
}

impl Default for Settings {
    /// A cent a day is what nobody would change a prompt for; three calls are the fewest that show
    /// a habit.
    fn default() -> Self {
        Self {
            min_usd_per_day: NanoUsd::new(10_000_000),
            min_calls: 3,
            ignore: Vec::new(),
        }
    }
}

/// What a finding would have saved in the calls that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Saving {
    /// Null where a call of it has no price, or where only time is saved.
    pub nano_usd: Option<NanoUsd>,
    /// By the days looked at, which count as one at least.
    pub nano_usd_per_day: Option<NanoUsd>,
    pub tokens: u64,
    /// Of time, in microseconds; 0 where only tokens are saved.
    pub duration_us: u64,
}

/// A figure that a finding rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    pub what: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    pub rule: Rule,
    pub agent: Label,
    pub model: Option<Label>,
    pub sentence: String,
    pub saving: Saving,
    pub evidence: Vec<Evidence>,
    /// What is taken for granted in the figures.
    pub assumption: String,
    pub fix: String,
    /// The first 20 of the calls it rests on.
    pub calls: Vec<CallId>,
    pub call_count: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// Two calls and the part of the request in which they differ, to be looked at closer.
    #[serde(skip)]
    pub pair: Option<Pair>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub before: CallId,
    pub after: CallId,
    pub part: usize,
}

/// What was found in some calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// The dearest first.
    pub findings: Vec<Finding>,
    /// All of them together, what two claim of one call counted once.
    pub total: Saving,
    /// Calls that were looked at.
    pub calls: u64,
    /// Calls of which the request or the answer is not recorded: no rule could look into them.
    pub unread: u64,
    /// There were more calls; the newest were looked at.
    pub is_cut: bool,
    pub spent_nano_usd: NanoUsd,
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    /// Days that savings are divided by, in microseconds; a day at least.
    pub span_us: u64,
    /// Findings that are below what matters.
    pub below: u64,
    pub ignored: Vec<Rule>,
}

/// What one call would not have cost.
#[derive(Clone, Copy, Debug)]
struct Claim {
    /// Index of the call.
    call: usize,
    nano: Option<i64>,
    tokens: u64,
}

/// A finding before it is weighed.
#[derive(Clone, Debug)]
struct Draft {
    rule: Rule,
    agent: Label,
    model: Option<Label>,
    sentence: String,
    evidence: Vec<Evidence>,
    assumption: &'static str,
    fix: String,
    claims: Vec<Claim>,
    duration_us: u64,
    pair: Option<Pair>,
}

impl Draft {
    fn new(rule: Rule, call: &CallFacts) -> Self {
        Self {
            rule,
            agent: call.agent.clone(),
            model: call.model.clone(),
            sentence: String::new(),
            evidence: Vec::new(),
            assumption: "",
            fix: String::new(),
            claims: Vec::new(),
            duration_us: 0,
            pair: None,
        }
    }

    fn claim(&mut self, call: usize, nano: Option<i64>, tokens: u64) {
        self.claims.push(Claim { call, nano, tokens });
    }

    fn fix(&mut self, text: &str) {
        self.fix.push_str(text);
    }

    fn evidence(&mut self, what: &str, value: &impl ToString) {
        self.evidence.push(Evidence {
            what: what.to_owned(),
            value: value.to_string(),
        });
    }
}

/// Looks at calls, the oldest first.
pub fn look(calls: &[CallFacts], settings: &Settings) -> Report {
    let mut report = Report {
        calls: calls.len() as u64,
        unread: calls
            .iter()
            .filter(|it| it.sent.is_none() || it.answered.is_none())
            .count() as u64,
        spent_nano_usd: NanoUsd::new(calls.iter().filter_map(cost).fold(0, i64::saturating_add)),
        first_at: calls.first().map(|call| call.at),
        last_at: calls.last().map(|call| call.at),
        ignored: settings.ignore.clone(),
        ..Report::default()
    };
    let span = match (report.first_at, report.last_at) {
        (Some(first), Some(last)) => last.micros().saturating_sub(first.micros()),
        _ => 0,
    };
    let span = span.max(DAY_US);
    report.span_us = span.unsigned_abs();
    let mut claimed: BTreeMap<usize, (Option<i64>, u64)> = BTreeMap::new();
    for rule in Rule::iter().filter(|rule| !settings.ignore.contains(rule)) {
        for mut draft in drafts(rule, calls) {
            cap(&mut draft.claims, calls);
            let finding = weigh(&draft, calls, span);
            if !matters(&finding, settings, span) {
                report.below += 1;
                continue;
            }
            for claim in &draft.claims {
                let (nano, tokens) = claimed.entry(claim.call).or_default();
                *nano = sum(*nano, claim.nano);
                *tokens = tokens.saturating_add(claim.tokens);
            }
            report.total.duration_us = report.total.duration_us.saturating_add(draft.duration_us);
            report.findings.push(finding);
        }
    }
    total(&mut report.total, claimed, calls, span);
    report.findings.sort_by_key(|it| {
        let saving = it.saving;
        std::cmp::Reverse((saving.nano_usd, saving.tokens, saving.duration_us))
    });
    report
}

fn drafts(rule: Rule, calls: &[CallFacts]) -> Vec<Draft> {
    match rule {
        Rule::CacheBroken => cache::find(calls),
        Rule::RepeatedRequest => repeated::find(calls),
        Rule::UnusedTools => tools::find(calls),
        Rule::CarriedResults => carried::find(calls),
        Rule::CutOutput => cut::find(calls),
        Rule::TimeoutRetries => timeouts::find(calls),
        Rule::SmallerModel => model::find(calls),
        Rule::Parallel => parallel::find(calls),
        Rule::Waiting => waiting::find(calls),
    }
}

fn cost(call: &CallFacts) -> Option<i64> {
    call.cost.map(NanoUsd::get)
}

fn sum(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

/// No call can save more than it took.
fn cap(claims: &mut [Claim], calls: &[CallFacts]) {
    for claim in claims {
        let Some(call) = calls.get(claim.call) else {
            continue;
        };
        claim.tokens = claim.tokens.min(call.tokens());
        claim.nano = claim
            .nano
            .zip(cost(call))
            .map(|(nano, cost)| nano.clamp(0, cost.max(0)));
    }
}

fn weigh(draft: &Draft, calls: &[CallFacts], span: i64) -> Finding {
    let nano = draft
        .claims
        .iter()
        .fold(None, |all, claim| sum(all, claim.nano));
    let tokens = draft
        .claims
        .iter()
        .map(|claim| claim.tokens)
        .fold(0, u64::saturating_add);
    let of = |claim: &Claim| calls.get(claim.call);
    let its = || draft.claims.iter().filter_map(of);
    Finding {
        rule: draft.rule,
        agent: draft.agent.clone(),
        model: draft.model.clone(),
        sentence: draft.sentence.clone(),
        saving: saving(nano, tokens, draft.duration_us, span),
        evidence: draft.evidence.clone(),
        assumption: draft.assumption.to_owned(),
        fix: draft.fix.clone(),
        calls: its().take(NAMED).map(|call| call.id).collect(),
        call_count: draft.claims.len() as u64,
        first_at: its().map(|call| call.at).min().unwrap_or_default(),
        last_at: its().map(|call| call.at).max().unwrap_or_default(),
        pair: draft.pair,
    }
}

fn saving(nano: Option<i64>, tokens: u64, duration_us: u64, span: i64) -> Saving {
    let daily = |nano: i64| {
        let daily = i128::from(nano) * i128::from(DAY_US) / i128::from(span.max(1));
        NanoUsd::new(i64::try_from(daily).unwrap_or(i64::MAX))
    };
    Saving {
        nano_usd: nano.map(NanoUsd::new),
        nano_usd_per_day: nano.map(daily),
        tokens,
        duration_us,
    }
}

fn matters(finding: &Finding, settings: &Settings, span: i64) -> bool {
    let daily = |amount: u64| {
        let daily = u128::from(amount) * u128::from(DAY_US.unsigned_abs());
        daily / u128::from(span.unsigned_abs().max(1))
    };
    let saving = &finding.saving;
    if finding.call_count < settings.min_calls as u64 {
        return false;
    }
    match saving.nano_usd_per_day {
        Some(usd) => usd >= settings.min_usd_per_day && usd > NanoUsd::ZERO,
        None if saving.tokens > 0 => daily(saving.tokens) >= u128::from(MIN_TOKENS_PER_DAY),
        None => daily(saving.duration_us) >= u128::from(MIN_US_PER_DAY),
    }
}

fn total(
    total: &mut Saving,
    claimed: BTreeMap<usize, (Option<i64>, u64)>,
    calls: &[CallFacts],
    span: i64,
) {
    let mut claims: Vec<Claim> = claimed
        .into_iter()
        .map(|(call, (nano, tokens))| Claim { call, nano, tokens })
        .collect();
    cap(&mut claims, calls);
    let nano = claims.iter().fold(None, |all, claim| sum(all, claim.nano));
    let tokens = claims
        .iter()
        .map(|claim| claim.tokens)
        .fold(0, u64::saturating_add);
    *total = saving(nano, tokens, total.duration_us, span);
}

#[cfg(test)]
mod tests;
