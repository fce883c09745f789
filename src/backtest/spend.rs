//! What budgets would have come to: each account charged with what was used, in order.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Call, Who};
use crate::core::budget::rule::Subject;
use crate::core::budget::{
    AccountName, Action, Amounts, Charge, Dimension, Measure, Rule, StoredAccount,
};
use crate::core::digest::DigestSeed;
use crate::core::id::{CallId, Label};

/// An account that would have been spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spent {
    pub budget: Label,
    /// `run nightly-42, agent (none)`
    pub account: String,
    /// The first call that would not have fitted.
    pub call: CallId,
    pub is_refused: bool,
    /// Calls that would not have fitted, and what they used.
    pub calls: u64,
    pub tokens: u64,
    pub nano_usd: u64,
}

pub(super) struct Spending<'a> {
    rules: &'a [Rule],
    accounts: BTreeMap<String, (StoredAccount, Option<Spent>)>,
}

impl Subject for Who {
    fn value(&self, dimension: &Dimension) -> Option<&str> {
        let label = match dimension {
            Dimension::Run => self.run.as_ref(),
            Dimension::Agent => Some(&self.agent),
            Dimension::Caller => self.caller.as_ref(),
            Dimension::User => self.user.as_ref(),
            Dimension::Model => self.model.as_ref(),
            Dimension::Upstream => self.upstream.as_ref(),
            Dimension::Variant => self.variant.as_ref(),
            Dimension::Key | Dimension::Operation | Dimension::Tag(_) => None,
        };
        label.map(Label::as_str)
    }
}

impl<'a> Spending<'a> {
    pub(super) fn new(rules: &'a [Rule]) -> Self {
        Self {
            rules,
            accounts: BTreeMap::new(),
        }
    }

    pub(super) fn charge(&mut self, call: &Call) {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let amounts = Amounts {
            nano_usd: whole(call.nano_usd),
            input_tokens: whole(call.input_tokens),
            output_tokens: whole(call.output_tokens),
            calls: i64::from(!call.is_retry),
            // Which custom metrics a call had is not looked at.
            micro_metric: 0,
        };
        for rule in self.rules {
            if rule.matches(&call.who, call.who.run.as_ref()) {
                self.charge_account(rule, call, amounts);
            }
        }
    }

    fn charge_account(&mut self, rule: &Rule, call: &Call, amounts: Amounts) {
        let label = |dimension: &Dimension| {
            let value = call.who.value(dimension);
            value.and_then(|value| Label::parse(value).ok())
        };
        let name = AccountName {
            rule: rule.name.clone(),
            key: rule.per.iter().map(|of| (of.clone(), label(of))).collect(),
        };
        let text = name.to_string();
        let id = name.id(DigestSeed(0));
        let (account, spent) = self
            .accounts
            .entry(format!("{} {text}", rule.name))
            .or_insert_with(|| (StoredAccount::new(None), None));
        let after = account.used(&rule.window, call.at).plus(amounts);
        let passes = |(measure, limit): (Measure, i64)| after.of(measure) > limit;
        if !rule.limits.each().any(passes) {
            let charge = Charge {
                account: id,
                bucket: rule.window.bucket(call.at),
                amounts,
            };
            return account.charge(&charge, call.at);
        }
        // What does not fit is refused, and so not charged.
        let spent = spent.get_or_insert_with(|| Spent {
            budget: rule.name.clone(),
            account: text,
            call: call.id,
            is_refused: rule.action == Action::Break,
            calls: 0,
            tokens: 0,
            nano_usd: 0,
        });
        spent.calls += 1;
        spent.tokens += super::tokens(call);
        spent.nano_usd += call.nano_usd;
    }

    pub(super) fn finish(self) -> Vec<Spent> {
        let accounts = self.accounts.into_values();
        accounts.filter_map(|(_, spent)| spent).collect()
    }
}
