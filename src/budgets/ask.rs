//! What budgets look at of a call, and which accounts it counts against.

use std::sync::Arc;

use super::bank::{Bank, Claimed, in_order};
use super::runs::Run;
use crate::core::attribution::Attribution;
use crate::core::budget::rule::Subject;
use crate::core::budget::{
    AccountId, AccountName, Action, Dimension, Limits, OnUnpriced, Rule, Window,
};
use crate::core::call::{Admission, Operation};
use crate::core::digest::DigestSeed;
use crate::core::id::Label;

/// A call, as budgets see it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub attribution: &'a Attribution,
    /// The client's credential, as a keyed hash.
    pub key: Option<&'a Label>,
    pub model: Option<&'a Label>,
    pub upstream: &'a Label,
    pub operation: Operation,
    /// What the client allows the run by header.
    pub tightened: Limits,
}

impl<'a> Ask<'a> {
    /// A call that was admitted, with its key as a label.
    pub fn of(admission: &'a Admission, key: Option<&'a Label>) -> Self {
        Self {
            attribution: &admission.attribution,
            key,
            model: admission.request_model.as_ref(),
            upstream: &admission.upstream,
            operation: admission.operation,
            tightened: admission.tightened,
        }
    }
}

impl Subject for Ask<'_> {
    fn value(&self, dimension: &Dimension) -> Option<&str> {
        let who = self.attribution;
        let label = match dimension {
            Dimension::Run => who.run.as_ref(),
            Dimension::Agent => Some(&who.agent),
            Dimension::Caller => who.caller.as_ref(),
            Dimension::User => who.user.as_ref(),
            Dimension::Key => self.key,
            Dimension::Model => self.model,
            Dimension::Upstream => Some(self.upstream),
            Dimension::Operation => return Some(self.operation.into()),
            Dimension::Variant => who.variant.as_ref(),
            // Names of headers come in lower case.
            Dimension::Tag(name) => who.tags.get(name.as_str()).or_else(|| {
                let mut tags = who.tags.iter();
                let same = |tag: &str| tag.eq_ignore_ascii_case(name.as_str());
                tags.find(|(tag, _)| same(tag)).map(|(_, value)| value)
            }),
        };
        label.map(Label::as_str)
    }
}

/// The rules in force.
pub(super) struct Rules {
    pub(super) configured: Vec<Arc<Rule>>,
    /// The rule behind `x-aiops-budget-*`: each run for itself, by the limits it brought.
    by_header: Arc<Rule>,
}

/// The name of the rule behind the headers by which a client tightens its own run.
pub const BY_HEADER: &str = "x-aiops-budget";

impl Rules {
    pub(super) fn new(configured: &[Rule]) -> Option<Self> {
        let by_header = Rule {
            name: Label::parse(BY_HEADER).ok()?,
            per: vec![Dimension::Run],
            matching: Vec::new(),
            limits: Limits::default(),
            metric: None,
            window: Window::Total,
            slow: None,
            warn_at: None,
            action: Action::Break,
            on_unpriced: OnUnpriced::default(),
        };
        Some(Self {
            configured: configured.iter().cloned().map(Arc::new).collect(),
            by_header: Arc::new(by_header),
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.configured.iter().chain([&self.by_header])
    }

    pub(super) fn is_by_header(&self, rule: &Rule) -> bool {
        rule.name == self.by_header.name
    }

    /// The accounts of a call whose run and ancestors are `runs`, in the order they are locked.
    pub(super) fn accounts(
        &self,
        bank: &Bank,
        seed: DigestSeed,
        ask: &Ask<'_>,
        runs: &[Arc<Run>],
    ) -> Vec<Claimed> {
        let metrics = &ask.attribution.metrics;
        let by_header = runs.iter().filter_map(|run| {
            let tightened = run.tightened();
            let by_header = &self.by_header;
            (!tightened.is_empty()).then_some((by_header, tightened, Some(&run.name)))
        });
        let all = self.configured.iter();
        let claims = all
            .flat_map(|rule| claims(rule, ask, runs))
            .chain(by_header);
        open(bank, seed, ask, claims, |rule| rule.micro_metric(metrics))
    }

    /// The accounts that a measurement of something counts against, whose run and its ancestors
    /// are `runs`: of budgets that limit this metric and look at nothing that it does not say.
    pub(super) fn accounts_of_metric(
        &self,
        bank: &Bank,
        seed: DigestSeed,
        (name, micro): (&str, i64),
        (of, runs): (&Measured<'_>, &[Arc<Run>]),
    ) -> Vec<Claimed> {
        let rules = self.configured.iter();
        let rules = rules.filter(|rule| rule.metric.as_deref() == Some(name) && of.says(rule));
        let claims = rules.flat_map(|rule| claims(rule, of, runs));
        open(bank, seed, of, claims, |_| micro)
    }

    /// Whether a budget limits this metric.
    pub(super) fn count_metric(&self, name: &str) -> bool {
        let mut rules = self.configured.iter();
        rules.any(|rule| rule.metric.as_deref() == Some(name))
    }
}

/// What somebody measured something of, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured<'a> {
    /// A call as it was admitted: says all there is to say.
    pub call: Option<Ask<'a>>,
    pub run: Option<&'a Label>,
    pub agent: Option<&'a Label>,
}

impl Measured<'_> {
    /// It says all that the rule looks at.
    fn says(&self, rule: &Rule) -> bool {
        self.call.is_some()
            || rule.dimensions().all(|of| match of {
                Dimension::Run => self.run.is_some(),
                other => self.value(other).is_some(),
            })
    }
}

impl Subject for Measured<'_> {
    fn value(&self, dimension: &Dimension) -> Option<&str> {
        match &self.call {
            Some(ask) => ask.value(dimension),
            None if *dimension == Dimension::Agent => self.agent.map(Label::as_str),
            None => None,
        }
    }
}

/// What one account is claimed by: a rule with its limits, for a run.
type OneClaim<'r> = (&'r Arc<Rule>, Limits, Option<&'r Label>);

/// A rule that looks at runs meets a call once for each of them.
fn claims<'r>(
    rule: &'r Arc<Rule>,
    subject: &impl Subject,
    runs: &'r [Arc<Run>],
) -> impl Iterator<Item = OneClaim<'r>> {
    let count = if rule.looks_at_run() { runs.len() } else { 1 };
    let names = runs.iter().take(count).map(|run| Some(&run.name));
    let none = runs.is_empty().then_some(None);
    names
        .chain(none)
        .filter(|run| rule.matches(subject, *run))
        .map(move |run| (rule, rule.limits, run))
}

/// The accounts that are claimed, each once, in the order they are locked.
fn open<'r>(
    bank: &Bank,
    seed: DigestSeed,
    subject: &impl Subject,
    claims: impl Iterator<Item = OneClaim<'r>>,
    micro_metric: impl Fn(&Rule) -> i64,
) -> Vec<Claimed> {
    let mut claimed: Vec<Claimed> = claims
        .map(|(rule, limits, run)| {
            let value = |dimension: &Dimension| match dimension {
                Dimension::Run => run.map(Label::as_str),
                other => subject.value(other),
            };
            let key = rule.per.iter().map(|of| (of, value(of)));
            let cell = bank.cell(AccountId::of(seed, &rule.name, key), || AccountName {
                rule: rule.name.clone(),
                key: rule
                    .per
                    .iter()
                    .map(|of| {
                        let label = value(of).and_then(|value| Label::parse(value).ok());
                        (of.clone(), label)
                    })
                    .collect(),
            });
            Claimed {
                rule: Arc::clone(rule),
                limits,
                cell,
                micro_metric: micro_metric(rule),
            }
        })
        .collect();
    in_order(&mut claimed);
    // A rule that matches by run but does not count apart by it meets one account many times.
    claimed.dedup_by_key(|claimed| claimed.cell.id);
    claimed
}
