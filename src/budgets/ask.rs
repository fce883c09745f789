//! What budgets look at of a call, and which accounts it counts against.

use std::sync::Arc;

use super::bank::{Bank, Claimed, in_order};
use super::runs::Run;
use crate::core::attribution::Attribution;
use crate::core::budget::rule::Subject;
use crate::core::budget::{
    AccountId, AccountName, Action, Dimension, Limits, OnUnpriced, Rule, Window,
};
use crate::core::call::Operation;
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
        let mut claimed = Vec::new();
        let mut claim = |rule: &Arc<Rule>, limits: Limits, run: Option<&Label>| {
            let value = |dimension: &Dimension| match dimension {
                Dimension::Run => run.map(Label::as_str),
                other => ask.value(other),
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
            claimed.push(Claimed {
                rule: Arc::clone(rule),
                limits,
                cell,
            });
        };
        for rule in &self.configured {
            if runs.is_empty() || !rule.looks_at_run() {
                let run = runs.first().map(|run| &run.name);
                if rule.matches(ask, run) {
                    claim(rule, rule.limits, run);
                }
                continue;
            }
            for run in runs {
                if rule.matches(ask, Some(&run.name)) {
                    claim(rule, rule.limits, Some(&run.name));
                }
            }
        }
        for run in runs {
            let tightened = run.tightened();
            if !tightened.is_empty() {
                claim(&self.by_header, tightened, Some(&run.name));
            }
        }
        in_order(&mut claimed);
        // A rule that matches by run but does not count apart by it meets one account many times.
        claimed.dedup_by_key(|claimed| claimed.cell.id);
        claimed
    }
}
