//! How fast budgets are used now: what the calls of the last minutes used, by rule and key.

use std::collections::HashMap;
use std::sync::Arc;

use crate::budgets::MeasureRow;
use crate::core::budget::rule::Subject;
use crate::core::budget::{Amounts, Dimension, Measure, Rule};
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::{CallFilter, CallRow, IndexError, View};

/// How far back it is looked.
const SPAN_US: i64 = 900_000_000;
/// Calls that are looked at: where there were more, those of a shorter time.
const CALLS: usize = 1000;
/// A shorter time says little.
const LEAST_US: u64 = 10_000_000;

type Key = Vec<(Dimension, Option<Label>)>;

/// What was used lately.
#[derive(Default)]
pub(super) struct Rates {
    used: HashMap<(Label, Key), Amounts>,
    span_us: u64,
}

impl Rates {
    pub(super) fn read(
        view: &View,
        rules: &[Arc<Rule>],
        now: Timestamp,
    ) -> Result<Self, IndexError> {
        if rules.is_empty() {
            return Ok(Self::default());
        }
        let since = Timestamp::from_micros(now.micros().saturating_sub(SPAN_US));
        let page = view.calls(&CallFilter {
            since: Some(since),
            limit: CALLS,
            ..CallFilter::default()
        })?;
        let oldest = page.items.last().filter(|_| page.next.is_some());
        let from = oldest.map_or(since, |call| call.started_at);
        let mut used = HashMap::new();
        for rule in rules {
            for call in &page.items {
                add(&mut used, rule, call);
            }
        }
        Ok(Self {
            used,
            span_us: now.micros_since(from),
        })
    }

    /// None where nothing is known of it, or nothing was used.
    pub(super) fn seconds_to_limit(
        &self,
        rule: &Label,
        key: &Key,
        row: &MeasureRow,
    ) -> Option<u64> {
        let used = self.used.get(&(rule.clone(), key.clone()))?.of(row.measure);
        let left = row.limit.saturating_sub(row.used);
        if row.measure == Measure::Concurrent || used <= 0 || left <= 0 || self.span_us < LEAST_US {
            return None;
        }
        let us = i128::from(left) * i128::from(self.span_us) / i128::from(used);
        u64::try_from(us / 1_000_000).ok()
    }
}

/// Counts a call for itself and for its parent run, as budgets do.
fn add(used: &mut HashMap<(Label, Key), Amounts>, rule: &Rule, call: &CallRow) {
    let looks_at_key = rule.per.contains(&Dimension::Key)
        || rule.matching.iter().any(|(of, _)| *of == Dimension::Key);
    if looks_at_key || call.outcome.is_none() {
        // The hash of a client's key is not part of what is listed of calls.
        return;
    }
    let amounts = Amounts {
        nano_usd: call.cost_nano_usd.unwrap_or(0),
        input_tokens: i64::try_from(call.usage.input_tokens).unwrap_or(i64::MAX),
        output_tokens: i64::try_from(call.usage.output_tokens).unwrap_or(i64::MAX),
        calls: 1,
        micro_metric: 0,
    };
    let subject = Listed(call);
    let own = call.run.as_ref();
    let parent = call.parent_run.as_ref().filter(|_| rule.looks_at_run());
    let runs = std::iter::once(own).chain(parent.map(Some));
    for run in runs.filter(|run| rule.matches(&subject, *run)) {
        let part = |of: &Dimension| {
            let value = match of {
                Dimension::Run => run.map(Label::as_str),
                other => subject.value(other),
            };
            (of.clone(), value.and_then(|value| Label::parse(value).ok()))
        };
        let key: Key = rule.per.iter().map(part).collect();
        let sum = used.entry((rule.name.clone(), key)).or_default();
        *sum = sum.plus(amounts);
    }
}

/// A call as rules look at it.
struct Listed<'c>(&'c CallRow);

impl Subject for Listed<'_> {
    fn value(&self, dimension: &Dimension) -> Option<&str> {
        let call = self.0;
        let label = match dimension {
            Dimension::Run => call.run.as_ref(),
            Dimension::Agent => Some(&call.agent),
            Dimension::Caller => call.caller.as_ref(),
            Dimension::User => call.user.as_ref(),
            Dimension::Key => None,
            Dimension::Model => call.request_model.as_ref(),
            Dimension::Upstream => Some(&call.upstream),
            Dimension::Operation => return Some(call.operation.into()),
            Dimension::Variant => call.variant.as_ref(),
            Dimension::Tag(name) => {
                let mut tags = call.tags.iter();
                let same = |tag: &str| tag.eq_ignore_ascii_case(name.as_str());
                tags.find(|(tag, _)| same(tag)).map(|(_, value)| value)
            }
        };
        label.map(Label::as_str)
    }
}
