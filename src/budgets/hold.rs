//! What a running call has reserved. Settled or released exactly once, at the latest when dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

use super::bank::{Cell, Claimed, Standing, State};
use crate::config::FallbackPrice;
use crate::core::budget::decide::{Need, Tariff};
use crate::core::budget::{Action, Amounts, Charge, Limits, Measure, OnUnpriced, Rule};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::usage::Usage;

/// No call holds more than this of anything. Clients may ask for any length: sums that came to the
/// bound of their type would not be what they were once one of them is given back.
const MOST: i64 = 1 << 46;

/// What a call with so much output holds of one account.
pub(super) fn held_amounts(need: &Need, on_unpriced: OnUnpriced, output_tokens: i64) -> Amounts {
    let amounts = need.amounts(on_unpriced, output_tokens);
    Amounts {
        nano_usd: amounts.nano_usd.min(MOST),
        input_tokens: amounts.input_tokens.min(MOST),
        output_tokens: amounts.output_tokens.min(MOST),
        ..amounts
    }
}

/// A hold on all accounts of one call.
#[must_use = "a hold that is dropped is given back"]
pub struct Hold {
    need: Need,
    output_tokens: i64,
    /// In the order in which accounts are locked.
    parts: Vec<Contribution>,
    record: Record,
    /// Other instances may not have left room for it.
    is_unsure: bool,
}

/// Whether the ledger has the admission of a call. Once that is decided, a call that is lost costs
/// what it holds.
enum Record {
    Undecided,
    Kept,
    /// It cannot take it: its charges wait in memory, and this says that some do.
    Refused(Arc<AtomicBool>),
}

/// A hold on one account.
pub(super) struct Contribution {
    pub(super) rule: Arc<Rule>,
    pub(super) limits: Limits,
    pub(super) cell: Arc<Cell>,
    /// What it counts for as long as nobody says more.
    pub(super) bucket: Timestamp,
    pub(super) amounts: Amounts,
}

/// What a call used, for its accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub input_tokens: i64,
    pub output_tokens: i64,
    /// None when its price is not known.
    pub cost: Option<NanoUsd>,
    /// What it costs at the fallback price.
    pub fallback: NanoUsd,
    /// It counts as a call.
    pub is_call: bool,
}

impl Used {
    /// Where the price is not known, its accounts may count it at this one.
    pub fn of(usage: &Usage, cost: Option<NanoUsd>, price: &FallbackPrice, is_call: bool) -> Self {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (input_tokens, output_tokens) = (whole(usage.input_tokens), whole(usage.output_tokens));
        let tariff = Tariff::of(price.input, price.output, input_tokens);
        Self {
            input_tokens,
            output_tokens,
            cost,
            fallback: NanoUsd::new(tariff.cost(output_tokens)),
            is_call,
        }
    }

    pub(super) fn amounts(&self, on_unpriced: OnUnpriced, calls: i64) -> Amounts {
        let nano_usd = match (self.cost, on_unpriced) {
            (Some(cost), _) => cost.get(),
            (None, OnUnpriced::CountOnly) => 0,
            (None, OnUnpriced::FallbackPrice | OnUnpriced::Refuse) => self.fallback.get(),
        };
        Amounts {
            nano_usd,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            calls: if self.is_call { calls } else { 0 },
            micro_metric: 0,
        }
    }
}

impl Hold {
    pub(super) fn new(need: &Need, output_tokens: i64) -> Self {
        Self {
            need: *need,
            output_tokens,
            parts: Vec::new(),
            record: Record::Undecided,
            is_unsure: false,
        }
    }

    pub(super) fn add(&mut self, part: Contribution) {
        self.parts.push(part);
    }

    /// Whether other instances have left room for it is not known yet.
    pub(super) fn doubt(&mut self) {
        self.is_unsure = true;
    }

    /// They have.
    pub(super) fn confirm(&mut self) {
        if std::mem::take(&mut self.is_unsure) {
            for part in &self.parts {
                part.cell.lock().settle_doubt();
            }
        }
    }

    /// One that holds nothing: for a call that no budget is about.
    pub fn nothing() -> Self {
        Self::new(&Need::default(), i64::MAX)
    }

    pub fn is_nothing(&self) -> bool {
        self.parts.is_empty()
    }

    /// The most output it pays for.
    pub fn output_tokens(&self) -> i64 {
        self.output_tokens
    }

    /// Whether the output limit of its request has to be lowered to [`output_tokens`].
    ///
    /// [`output_tokens`]: Self::output_tokens
    pub fn is_clamped(&self) -> bool {
        !self.parts.is_empty() && self.output_tokens < self.need.most_output
    }

    /// What it holds of one of the accounts, by its place among them.
    pub(super) fn amounts_of(&self, n: usize) -> Option<Amounts> {
        self.parts.get(n).map(|part| part.amounts)
    }

    /// As it goes into the ledger.
    pub fn charges(&self) -> Vec<Charge> {
        let charge = |part: &Contribution| Charge {
            account: part.cell.id,
            bucket: part.bucket,
            amounts: part.amounts,
        };
        self.parts.iter().map(charge).collect()
    }

    /// It is in the ledger now.
    pub fn recorded(&mut self) {
        self.record = Record::Kept;
    }

    /// The ledger cannot take it. `owing` is set when charges of it wait for that.
    pub(super) fn unrecorded(&mut self, owing: &Arc<AtomicBool>) {
        self.record = Record::Refused(Arc::clone(owing));
    }

    /// Holds output beyond what it held, for an answer longer than was allowed; else says which
    /// account has no room for it.
    pub fn extend(&mut self, output_tokens: i64, now: Timestamp) -> Result<(), Box<Standing>> {
        let mut states = lock_all(&self.parts);
        let more: Vec<Amounts> = self
            .parts
            .iter()
            .map(|part| part.more(&self.need, self.output_tokens, output_tokens))
            .collect();
        for ((part, state), more) in self.parts.iter().zip(&states).zip(&more) {
            if !part.has_room(state, *more, now) {
                return Err(Box::new(state.standing_of(part, now)));
            }
        }
        for ((part, state), more) in self.parts.iter().zip(&mut states).zip(&more) {
            state.held = state.held.plus(*more);
            part.cell.changed(state);
        }
        drop(states);
        for (part, more) in self.parts.iter_mut().zip(more) {
            part.amounts = part.amounts.plus(more);
        }
        self.output_tokens = output_tokens;
        Ok(())
    }

    /// Puts what was used in the place of what was held, in every account at one moment. `record`
    /// gets the charges before anybody else can see them.
    pub fn settle(mut self, used: &Used, now: Timestamp, record: impl FnOnce(Vec<Charge>)) {
        let calls = self.need.calls;
        self.end(now, record, |part| {
            let amounts = Amounts {
                // What it said of itself is said.
                micro_metric: part.amounts.micro_metric,
                ..used.amounts(part.rule.on_unpriced, calls)
            };
            (part.rule.window.bucket(now), amounts)
        });
    }

    /// Settles at what is held.
    pub fn settle_as_held(mut self, now: Timestamp, record: impl FnOnce(Vec<Charge>)) {
        self.end(now, record, |part| (part.bucket, part.amounts));
    }

    fn end(
        &mut self,
        now: Timestamp,
        record: impl FnOnce(Vec<Charge>),
        charge: impl Fn(&Contribution) -> (Timestamp, Amounts),
    ) {
        let mut states = lock_all(&self.parts);
        let mut charges = Vec::with_capacity(self.parts.len());
        for (part, state) in self.parts.iter().zip(&mut states) {
            let (bucket, amounts) = charge(part);
            state.give_back(part);
            if self.is_unsure {
                state.settle_doubt();
            }
            state.touch(now);
            let charge = Charge {
                account: part.cell.id,
                bucket,
                amounts,
            };
            if let Some(account) = &mut state.account {
                account.charge(&charge, now);
            }
            part.cell.changed(state);
            if let Record::Refused(owing) = &self.record {
                state.owe(charge);
                owing.store(true, Ordering::Release);
            }
            charges.push(charge);
        }
        record(charges);
        for state in &states {
            state.wake_first();
        }
        drop(states);
        self.parts.clear();
    }

    fn release(&mut self) {
        for (part, state) in self.parts.iter().zip(&mut lock_all(&self.parts)) {
            state.give_back(part);
            part.cell.changed(state);
            if self.is_unsure {
                state.settle_doubt();
            }
            state.wake_first();
        }
        self.parts.clear();
    }
}

impl Contribution {
    fn more(&self, need: &Need, held: i64, wanted: i64) -> Amounts {
        let on_unpriced = self.rule.on_unpriced;
        let wanted = held_amounts(need, on_unpriced, wanted);
        wanted.minus(held_amounts(need, on_unpriced, held))
    }

    fn has_room(&self, state: &State, more: Amounts, now: Timestamp) -> bool {
        if self.rule.action != Action::Break || state.account.is_none() {
            return true;
        }
        let seat = state.seat_of(&self.rule, self.limits, now);
        let taken = seat.used.plus(seat.held).plus(more);
        // More output is neither another call nor more of a metric.
        let is_beside = |of: Measure| matches!(of, Measure::Concurrent | Measure::Metric);
        seat.limits
            .each()
            .all(|(measure, limit)| is_beside(measure) || taken.of(measure) <= limit)
    }
}

impl State {
    fn standing_of(&self, part: &Contribution, now: Timestamp) -> Standing {
        let claimed = Claimed {
            rule: Arc::clone(&part.rule),
            limits: part.limits,
            cell: Arc::clone(&part.cell),
            micro_metric: 0,
        };
        Self::standing(&claimed, &self.seat(&claimed, now, None))
    }

    fn settle_doubt(&mut self) {
        if let Some(remote) = &mut self.remote {
            remote.settle_doubt();
        }
    }

    fn give_back(&mut self, part: &Contribution) {
        self.held = self.held.minus(part.amounts);
        self.running -= 1;
    }
}

fn lock_all(parts: &[Contribution]) -> Vec<MutexGuard<'_, State>> {
    parts.iter().map(|part| part.cell.lock()).collect()
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.parts.is_empty() {
            return;
        }
        if matches!(self.record, Record::Undecided) {
            return self.release();
        }
        // The ledger settles such a call at its hold as well.
        let first = self.parts.first();
        let at = first.map_or_else(Timestamp::default, |part| part.bucket);
        self.end(at, drop, |part| (part.bucket, part.amounts));
    }
}
