//! What wastes tokens, money or time in recorded calls, and what it would save to change that.
//!
//! Each rule looks at calls in the order of their time and claims what single calls would not have
//! cost. A claim is never more than its call cost. Of several claims on one call the largest counts for
//! the total of a report: to heed them all spares that much at least, while their sum could be more
//! than there is, since one may be part of another.

mod align;
mod cache;
mod carried;
pub mod change;
mod cut;
pub mod facts;
mod least;
mod model;
mod net;
pub mod nudge;
mod parallel;
mod repeated;
mod timeouts;
mod tools;
mod uncached;
mod waiting;
pub mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoEnumIterator, IntoStaticStr};
use utoipa::ToSchema;

use self::facts::{CallFacts, Tariff};
use super::id::{CallId, Label};
use super::money::NanoUsd;
use super::text::{grouped, many};
use super::time::Timestamp;

const DAY_US: u64 = 86_400_000_000;
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
            Self::CutOutput => "Outputs are cut, and calls made to get the rest",
            Self::TimeoutRetries => "Calls come to nothing and are made again",
            Self::SmallerModel => "A cheaper model does the same kind of call",
            Self::Parallel => "Calls of one template run one after the other",
            Self::Waiting => "An agent seems to wait by asking again",
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

/// The span of time that the calls are all of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Window {
    /// In microseconds, for an amount to be divided by.
    fn span(self) -> u64 {
        self.until.micros_since(self.from).max(1)
    }

    /// So much of an amount falls on a day.
    fn daily(self, amount: u64) -> u64 {
        let daily = u128::from(amount) * u128::from(DAY_US) / u128::from(self.span());
        u64::try_from(daily).unwrap_or(u64::MAX)
    }
}

/// What bounds the calls that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Bound {
    /// 20,000 calls.
    Calls,
    /// 2 GiB of recorded bodies.
    Bytes,
    /// What is held in memory of their contents.
    Memory,
}

impl Bound {
    pub fn words(self) -> &'static str {
        match self {
            Self::Calls => "20,000 calls are looked at",
            Self::Bytes => "2 GiB of bodies are read",
            Self::Memory => "256 MiB of their contents are held in memory",
        }
    }
}

/// Calls that some rules could not look into, by what was missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unseen {
    /// The request is not recorded whole, or not understood: only `unused_tools` looks at the answer.
    pub requests: u64,
    /// Answered whole, but the answer is not recorded so: `unused_tools`, `carried_results`, `parallel`
    /// and `waiting` need it.
    pub answers: u64,
    /// With images, files, tools of the provider or a history that it keeps, the tokens of a part cannot
    /// be told: `cache_broken`, `unused_tools` and `carried_results` leave them out.
    pub uncountable: u64,
    /// Agents of which `unused_tools` can say nothing, since an answer of theirs is not recorded.
    pub agents: u64,
}

impl Unseen {
    /// In a line for each kind that there is.
    pub fn words(&self) -> Vec<String> {
        let lines = [
            (
                self.requests,
                "calls have no whole request on record: most rules could not look into them",
            ),
            (
                self.answers,
                "calls have no whole answer on record: unused_tools, carried_results, parallel and waiting \
                 need it",
            ),
            (
                self.uncountable,
                "calls have images, files, tools of the provider or a history that it keeps: what a part of \
                 them cost cannot be told, so that cache_broken, unused_tools and carried_results leave them \
                 out",
            ),
            (
                self.agents,
                "agents may have called tools in answers that are not on record: unused_tools says nothing of \
                 them",
            ),
        ];
        let lines = lines.into_iter().filter(|(count, _)| *count > 0);
        lines
            .map(|(count, words)| format!("{} {words}", grouped(count)))
            .collect()
    }
}

/// What a finding would have saved in the calls that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Saving {
    /// Of the calls that have a price; null where none has, or where only time is saved.
    pub nano_usd: Option<NanoUsd>,
    /// Divided by the span that `from` and `until` of the report say.
    pub nano_usd_per_day: Option<NanoUsd>,
    pub tokens: u64,
    /// Calls that save tokens and have no price: what they save in USD is not in the amounts.
    pub unpriced: u64,
    /// Of time, in microseconds; 0 where only tokens are saved.
    pub duration_us: u64,
}

impl Saving {
    /// As `$1.20 ($0.60 a day), 12,345 tokens`, with `duration` to say microseconds.
    pub fn words(&self, duration: impl Fn(u64) -> String) -> String {
        let usd = self.nano_usd.map(|usd| {
            let daily = self.nano_usd_per_day.unwrap_or(NanoUsd::ZERO);
            format!("{} ({} a day)", usd.brief(), daily.brief())
        });
        let tokens = (self.tokens > 0).then(|| many(self.tokens, "token"));
        let time = (self.duration_us > 0).then(|| duration(self.duration_us));
        let unpriced = (self.unpriced > 0)
            .then(|| format!("of {} no price is known", many(self.unpriced, "call")));
        let parts: Vec<String> = [usd, tokens, time, unpriced]
            .into_iter()
            .flatten()
            .collect();
        if parts.is_empty() {
            return "nothing".to_owned();
        }
        parts.join(", ")
    }
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
    /// All of them together; of several claims on one call the largest counts.
    pub total: Saving,
    /// Calls that were looked at.
    pub calls: u64,
    pub unseen: Unseen,
    /// Why older calls of the span were not looked at; null where all were.
    pub cut_by: Option<Bound>,
    pub spent_nano_usd: NanoUsd,
    /// The span that was looked at.
    pub from: Timestamp,
    pub until: Timestamp,
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
    /// Of time, in microseconds.
    us: u64,
}

impl Claim {
    fn of(call: usize) -> Self {
        Self {
            call,
            nano: None,
            tokens: 0,
            us: 0,
        }
    }

    /// The larger of each figure.
    fn or(self, other: Self) -> Self {
        Self {
            call: self.call,
            nano: self.nano.max(other.nano),
            tokens: self.tokens.max(other.tokens),
            us: self.us.max(other.us),
        }
    }
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
            pair: None,
        }
    }

    fn claim(&mut self, call: usize, nano: Option<i64>, tokens: u64) {
        self.claims.push(Claim {
            nano,
            tokens,
            ..Claim::of(call)
        });
    }

    fn claim_time(&mut self, call: usize, us: u64) {
        self.claims.push(Claim {
            us,
            ..Claim::of(call)
        });
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

/// Looks at calls, the oldest first, which are all of `window`.
pub fn look(
    calls: &[CallFacts],
    window: Window,
    settings: &Settings,
    tariff: &dyn Tariff,
) -> Report {
    let mut report = Report {
        calls: calls.len() as u64,
        unseen: unseen(calls),
        spent_nano_usd: NanoUsd::new(calls.iter().filter_map(cost).fold(0, i64::saturating_add)),
        from: window.from,
        until: window.until,
        ignored: settings.ignore.clone(),
        ..Report::default()
    };
    let mut largest: BTreeMap<usize, Claim> = BTreeMap::new();
    for rule in Rule::iter().filter(|rule| !settings.ignore.contains(rule)) {
        for mut draft in drafts(rule, calls, tariff) {
            cap(&mut draft.claims, calls);
            let finding = weigh(&draft, calls, window);
            if !matters(&finding, settings, window) {
                report.below += 1;
                continue;
            }
            for claim in &draft.claims {
                let all = largest.entry(claim.call).or_insert(*claim);
                *all = all.or(*claim);
            }
            report.findings.push(finding);
        }
    }
    let largest: Vec<Claim> = largest.into_values().collect();
    report.total = saving(&largest, window);
    report.findings.sort_by_key(|it| {
        let saving = it.saving;
        std::cmp::Reverse((saving.nano_usd, saving.tokens, saving.duration_us))
    });
    report
}

fn drafts(rule: Rule, calls: &[CallFacts], tariff: &dyn Tariff) -> Vec<Draft> {
    match rule {
        Rule::CacheBroken => cache::find(calls),
        Rule::RepeatedRequest => repeated::find(calls),
        Rule::UnusedTools => tools::find(calls),
        Rule::CarriedResults => carried::find(calls),
        Rule::CutOutput => cut::find(calls),
        Rule::TimeoutRetries => timeouts::find(calls),
        Rule::SmallerModel => model::find(calls, tariff),
        Rule::Parallel => parallel::find(calls),
        Rule::Waiting => waiting::find(calls),
    }
}

fn unseen(calls: &[CallFacts]) -> Unseen {
    let count = |is: fn(&&CallFacts) -> bool| calls.iter().filter(is).count() as u64;
    Unseen {
        requests: count(|call| call.sent.is_none()),
        answers: count(|call| call.answered.is_none() && call.is_done()),
        uncountable: count(|call| call.sent.as_ref().is_some_and(|sent| !sent.is_countable())),
        agents: tools::blind(calls),
    }
}

fn cost(call: &CallFacts) -> Option<i64> {
    call.cost.map(NanoUsd::get)
}

/// No call can save more than it took.
fn cap(claims: &mut [Claim], calls: &[CallFacts]) {
    for claim in claims {
        let Some(call) = calls.get(claim.call) else {
            continue;
        };
        claim.tokens = claim.tokens.min(call.tokens());
        claim.us = claim.us.min(call.duration_us);
        claim.nano = claim
            .nano
            .zip(cost(call))
            .map(|(nano, cost)| nano.clamp(0, cost.max(0)));
    }
}

fn weigh(draft: &Draft, calls: &[CallFacts], window: Window) -> Finding {
    let its = || {
        let claims = draft.claims.iter();
        claims.filter_map(|claim| calls.get(claim.call))
    };
    Finding {
        rule: draft.rule,
        agent: draft.agent.clone(),
        model: draft.model.clone(),
        sentence: draft.sentence.clone(),
        saving: saving(&draft.claims, window),
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

fn saving(claims: &[Claim], window: Window) -> Saving {
    let priced = claims.iter().filter_map(|claim| claim.nano);
    let nano = priced.fold(None, |all: Option<i64>, nano| {
        Some(all.unwrap_or(0).saturating_add(nano))
    });
    let sum = |of: fn(&Claim) -> u64| claims.iter().map(of).fold(0, u64::saturating_add);
    let unpriced = claims
        .iter()
        .filter(|it| it.nano.is_none() && it.tokens > 0);
    let daily = |nano: i64| {
        let daily = window.daily(nano.max(0).unsigned_abs());
        NanoUsd::new(i64::try_from(daily).unwrap_or(i64::MAX))
    };
    Saving {
        nano_usd: nano.map(NanoUsd::new),
        nano_usd_per_day: nano.map(daily),
        tokens: sum(|claim| claim.tokens),
        unpriced: unpriced.count() as u64,
        duration_us: sum(|claim| claim.us),
    }
}

/// By its amount; by its tokens where no call has a price; or by its time.
fn matters(finding: &Finding, settings: &Settings, window: Window) -> bool {
    let saving = &finding.saving;
    let by_amount = match saving.nano_usd_per_day {
        Some(usd) => usd >= settings.min_usd_per_day && usd > NanoUsd::ZERO,
        None => saving.tokens > 0 && window.daily(saving.tokens) >= MIN_TOKENS_PER_DAY,
    };
    let by_time = saving.duration_us > 0 && window.daily(saving.duration_us) >= MIN_US_PER_DAY;
    finding.call_count >= settings.min_calls as u64 && (by_amount || by_time)
}

#[cfg(test)]
mod tests;
