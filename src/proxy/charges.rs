//! What a settled call means for budgets: what is charged, what is learnt for calls to come, and
//! what is put right when the result of an earlier call is fetched.

use super::accountant::Books;
use super::call::{EndedCall, Origin};
use crate::budgets::Used;
use crate::core::call::{Admission, LateUsage, Operation, Outcome, Settlement};
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::price::billed_model;
use crate::core::time::Timestamp;
use crate::core::usage::Usage;
use crate::wire::response::ResponseFacts;

/// What upstreams call the end of an answer that came to its output limit.
const CUT_OFF: [&str; 4] = ["length", "max_tokens", "max_output_tokens", "MAX_TOKENS"];

/// What upstreams call work that ended without a result.
const CAME_TO_NOTHING: [&str; 4] = ["failed", "cancelled", "canceled", "expired"];

/// What the accounts of a call are charged. A call that never left is no call.
pub(super) fn used(origin: &Origin, settlement: &Settlement) -> Used {
    let free = matches!(origin.operation, Operation::Other);
    let cost = settlement.cost.or(free.then_some(NanoUsd::ZERO));
    let left = settlement.timings.forwarded_us.is_some();
    let price = &origin.live.config.accounting.fallback_price;
    Used::of(&settlement.usage, cost, price, left)
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Books {
    /// Of an answer that comes as a whole nothing is seen when its client leaves before that. The
    /// upstream worked on it: such answers have what is usual.
    pub(super) fn unseen_output(&self, call: &EndedCall) -> u64 {
        let gave_up = matches!(call.outcome, Outcome::ClientGone | Outcome::Cut);
        let Some(traits) = call.origin.traits.filter(|_| gave_up || call.timed_out) else {
            return 0;
        };
        if call.origin.facts.stream || !call.origin.operation.generates() {
            return 0;
        }
        let usual = self.budgets.usual.output(traits.kind).usual;
        u64::try_from(usual.min(call.hold.output_tokens())).unwrap_or(0)
    }

    /// What helps to say what calls to come will need.
    pub(super) fn learn(&self, origin: &Origin, settlement: &Settlement, now: Timestamp) {
        let used = settlement.usage != Usage::default();
        let budgets = &self.budgets;
        let Some(traits) = origin.traits else { return };
        if settlement.outcome == Outcome::Completed && used && !origin.fetch {
            let output = whole(settlement.usage.output_tokens);
            let cut_off = |reason: &Label| CUT_OFF.contains(&reason.as_str());
            let cut_off = settlement.finish_reasons.iter().any(cut_off);
            budgets.usual.learn(traits.kind, output, cut_off);
            if let Some(cost) = settlement.cost {
                budgets.usual.learn_cost(traits.price_kind, cost.get());
            }
        }
        if let (true, Some(identity)) = (may_be_repeated(settlement), traits.identity) {
            budgets.recent.failed(identity, now);
        }
        if origin.operation != Operation::Responses || !used {
            return;
        }
        let tokens = settlement.usage.input_tokens + settlement.usage.output_tokens;
        let ids = [settlement.response_id.as_ref().map(Label::as_str)];
        let conversation = origin.facts.conversation.as_deref();
        for id in ids.into_iter().chain([conversation]).flatten() {
            let id = self.ledger.seed().digest(id.as_bytes());
            budgets.recent.remember_context(id, tokens);
        }
    }

    /// Puts right what a call was estimated at whose result this one fetched.
    pub(super) fn settle_late(&self, call: &EndedCall, facts: &ResponseFacts) {
        let word = facts.status_word.as_deref().unwrap_or_default();
        let came_to_nothing = facts.usage.is_none() && CAME_TO_NOTHING.contains(&word);
        let Some(id) = facts.response_id.as_deref() else {
            return;
        };
        if facts.usage.is_none() && !came_to_nothing {
            return;
        }
        let _turn = self.budgets.recent.turn();
        let done = self.budgets.late(id);
        if self.budgets.recent.is_done(done) {
            return;
        }
        let pending = match self.ledger.view().pending(id) {
            Ok(Some(pending)) => pending,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "whether a fetched result is to be charged is not known");
                return;
            }
        };
        if self.correct(call, facts, &pending) {
            self.budgets.recent.is_first(done);
        }
    }

    /// Says whether that is recorded: if not, the next one who fetches it puts it right.
    fn correct(
        &self,
        call: &EndedCall,
        facts: &ResponseFacts,
        (admission, settlement): &(Admission, Settlement),
    ) -> bool {
        // The prompt was read, whatever became of the answer.
        let usage = facts.usage.unwrap_or_else(|| Usage {
            input_tokens: admission.estimated_input_tokens,
            ..Usage::default()
        });
        let tier = match admission.operation {
            Operation::Batch => Some("batch"),
            _ => facts.service_tier.as_deref(),
        };
        let asked = admission.request_model.as_ref().map(Label::as_str);
        let cost = billed_model(asked, facts.model.as_deref().or(asked)).and_then(|model| {
            let seller = call.origin.upstream.authority().host();
            call.origin
                .live
                .prices
                .price(Some(seller), model, tier, &usage)
        });
        let now = self.clock.now();
        let amount = facts.cost.or(cost.map(|cost| cost.amount));
        let price = &call.origin.live.config.accounting.fallback_price;
        let used = Used::of(&usage, amount, price, true);
        let recorded = self.budgets.charge_late(settlement, &used, now, |charges| {
            self.ledger.late(LateUsage {
                id: admission.id,
                at: now,
                usage,
                cost: amount,
                cost_source: cost.map(|cost| cost.source),
                charges,
                charged_at: settlement.charged_at(),
                is_estimated: facts.usage.is_none(),
                is_found: settlement.instance.is_some(),
                instance: settlement.instance.clone(),
            })
        });
        recorded.is_ok()
    }
}

/// Whether its client is likely to send the same call again: it got no answer, or one that says to.
fn may_be_repeated(settlement: &Settlement) -> bool {
    match settlement.outcome {
        Outcome::UpstreamUnavailable | Outcome::UpstreamCut | Outcome::ClientGone => true,
        Outcome::UpstreamError => settlement
            .status
            .is_some_and(|status| matches!(status, 408 | 409 | 429 | 500..)),
        Outcome::Completed | Outcome::Recovered | Outcome::Cut | Outcome::Rejected => false,
    }
}
