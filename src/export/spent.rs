//! Accounts of budgets as they stand, and what each call was charged to them.

use serde_json::{Map, json};
use strum::IntoStaticStr;

use super::table::Kind::{Integer, Json, Text, Time, Usd};
use super::table::{Field, field};
use super::value::Value;
use crate::core::budget::{AccountId, AccountName, Amounts, Charge, Raise, StoredAccount};
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;
use crate::ledger::CallDetail;

/// An account under its id.
pub type StoredBudget = (AccountId, StoredAccount);

/// What is used is all that is remembered of the account since it was reset; what of it counts
/// depends on the window of its budget.
#[rustfmt::skip]
pub const BUDGETS: &[Field<StoredBudget>] = &[
    field("account_id", Text, "the same for the same budget and key", |it| it.0.0.to_string().into()),
    field("budget", Text, "name of the budget", |it| it.1.name.as_ref().map(|it| &it.rule).into()),
    field("key", Json, "object of what it counts apart by; null for calls that do not say", |it| it.1.name.as_ref().map_or(Value::Null, key)),
    field("last_at", Time, "when it was last charged, raised or reset", |it| it.1.last_at.into()),
    field("reset_at", Time, "when it was last reset", |it| it.1.reset_at.into()),
    field("used_nano_usd", Integer, "whole billionths of a USD", |it| used(it).nano_usd.into()),
    field("used_usd", Usd, "the same in USD, nine decimals", |it| used(it).nano_usd.into()),
    field("used_input_tokens", Integer, "input tokens", |it| used(it).input_tokens.into()),
    field("used_output_tokens", Integer, "output tokens", |it| used(it).output_tokens.into()),
    field("used_calls", Integer, "calls", |it| used(it).calls.into()),
    field("used_micro_metric", Integer, "of the custom metric that the budget limits, in millionths", |it| used(it).micro_metric.into()),
    field("used_by_time", Json, "list of the same by the time it counts for", buckets),
    field("raises", Json, "list of what operators put on top", |it| raises(&it.1.raises)),
];

fn key(name: &AccountName) -> Value {
    let parts = name.key.iter();
    let parts = parts.map(|(of, value)| (of.to_string(), json!(value)));
    Value::json(&parts.collect::<Map<_, _>>())
}

fn used(account: &StoredBudget) -> Amounts {
    let (first, last) = (i64::MIN, i64::MAX);
    let spent = &account.1.spent;
    spent.between(Timestamp::from_micros(first), Timestamp::from_micros(last))
}

fn buckets(account: &StoredBudget) -> Value {
    let (first, last) = (i64::MIN, i64::MAX);
    let spent = &account.1.spent;
    let buckets = spent.buckets(Timestamp::from_micros(first), Timestamp::from_micros(last));
    let buckets = buckets.map(|(start, of)| {
        json!({
            "from": start,
            "nano_usd": of.nano_usd,
            "input_tokens": of.input_tokens,
            "output_tokens": of.output_tokens,
            "calls": of.calls,
            "micro_metric": of.micro_metric,
        })
    });
    Value::json(&buckets.collect::<Vec<_>>())
}

fn raises(raises: &[Raise]) -> Value {
    let raises = raises.iter().map(|Raise { by, until }| {
        json!({
            "nano_usd": by.nano_usd,
            "tokens": by.tokens,
            "input_tokens": by.input_tokens,
            "output_tokens": by.output_tokens,
            "calls": by.calls,
            "concurrent": by.concurrent,
            "micro_metric": by.micro_metric,
            "until": until,
        })
    });
    Value::json(&raises.collect::<Vec<_>>())
}

/// What was charged to one account.
pub struct Charged {
    /// None of what was charged while no record could be written.
    pub call: Option<CallId>,
    pub run: Option<Label>,
    pub agent: Option<Label>,
    pub at: Timestamp,
    pub charge: Charge,
    pub state: State,
}

/// What a charge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum State {
    Held,
    Charged,
    Corrected,
    Unrecorded,
}

#[rustfmt::skip]
pub const CHARGES: &[Field<Charged>] = &[
    field("call_id", Text, "the call; null of what is unrecorded", |it| it.call.into()),
    field("run_id", Text, "run of the call", |it| it.run.as_ref().into()),
    field("agent_name", Text, "agent of the call", |it| it.agent.as_ref().into()),
    field("account_id", Text, "the account, as in budgets", |it| it.charge.account.0.to_string().into()),
    field("at", Time, "when it was charged, or held; of a correction, when the call was charged", |it| it.at.into()),
    field("counts_from", Time, "start of the time it counts for", |it| it.charge.bucket.into()),
    field("state", Text, "held while the call runs; charged; corrected: on top of what was charged, or back from it, when it was known what a background call used; unrecorded: charged while no record could be written", |it| Value::name(it.state)),
    field("nano_usd", Integer, "whole billionths of a USD; of corrections also negative, as all that follows", |it| it.charge.amounts.nano_usd.into()),
    field("usd", Usd, "the same in USD, nine decimals", |it| it.charge.amounts.nano_usd.into()),
    field("input_tokens", Integer, "input tokens", |it| it.charge.amounts.input_tokens.into()),
    field("output_tokens", Integer, "output tokens", |it| it.charge.amounts.output_tokens.into()),
    field("calls", Integer, "calls", |it| it.charge.amounts.calls.into()),
    field("micro_metric", Integer, "of the custom metric that the budget limits, in millionths, as far as it came with the call; what is posted is in metrics", |it| it.charge.amounts.micro_metric.into()),
];

/// What a call was charged when it settled, and when it became known what it used; or what it holds.
pub fn charged(call: &CallDetail) -> Vec<Charged> {
    let row = &call.row;
    let one = |at, state| {
        move |charge: &Charge| Charged {
            call: Some(row.id),
            run: row.run.clone(),
            agent: Some(row.agent.clone()),
            at,
            charge: *charge,
            state,
        }
    };
    match (&call.settlement, &call.admission) {
        (Some(settled), _) => {
            let at = settled.charged_at();
            let charges = settled.charges.iter().map(one(at, State::Charged));
            let late = call.late.iter().flat_map(|late| &late.charges);
            charges.chain(late.map(one(at, State::Corrected))).collect()
        }
        (None, Some(admitted)) if row.outcome.is_none() => {
            let held = admitted.hold.iter();
            held.map(one(admitted.started_at, State::Held)).collect()
        }
        _ => Vec::new(),
    }
}

/// What was charged while no record could be written.
pub fn unrecorded(at: Timestamp, charge: Charge) -> Charged {
    Charged {
        call: None,
        run: None,
        agent: None,
        at,
        charge,
        state: State::Unrecorded,
    }
}
