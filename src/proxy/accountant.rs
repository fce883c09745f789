//! Step four, beside the path of the call: what an ended call used and cost, into the ledger.
//!
//! Runs on a thread of its own, since parsing and counting may take a while and must not hold up
//! a stream. A seat is taken at admission, so that handing over an ended call cannot fail.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::call::{EndedCall, Observed};
use super::charges::used;
use crate::alerts::Alerts;
use crate::budgets::Budgets;
use crate::clock::Clock;
use crate::config::RecordLevel;
use crate::core::call::{CostSource, Operation, Outcome, Settlement};
use crate::core::id::Label;
use crate::core::metric::Measurement;
use crate::core::money::NanoUsd;
use crate::core::price::billed_model;
use crate::core::usage::{Provenance, Usage};
use crate::ledger::{Capture, Ledger};
use crate::loops::Loops;
use crate::metrics::Metrics;
use crate::tokens::{Counted, Counter};
use crate::wire::response::ResponseFacts;

/// Calls that may be open at once.
const SEATS: usize = 65_536;
/// Calls that end in quick succession are accounted for together: waking a thread for each costs
/// more than the accounting itself.
const BREATHER: Duration = Duration::from_millis(5);
/// For output too long to be kept for counting; English text has about as many.
const BYTES_PER_TOKEN: u64 = 4;

pub(super) struct Accountant {
    /// None once it is being dropped.
    queue: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    /// Every call that is not settled yet holds a receiver of it.
    unsettled: watch::Sender<()>,
}

/// The right to hand over one ended call.
pub(super) struct Seat {
    slot: mpsc::OwnedPermit<Work>,
    unsettled: watch::Receiver<()>,
}

enum Work {
    Call {
        call: Box<EndedCall>,
        /// Dropped when it is settled.
        unsettled: watch::Receiver<()>,
    },
    /// Says that all before it are settled.
    Mark(oneshot::Sender<()>),
}

/// What accounting needs.
pub(super) struct Books {
    pub(super) counter: Arc<Counter>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) budgets: Arc<Budgets>,
    pub(super) loops: Arc<Loops>,
    pub(super) alerts: Arc<Alerts>,
    pub(super) ledger: Ledger,
    pub(super) clock: Clock,
}

impl Accountant {
    pub(super) fn start(books: Books) -> Self {
        Self::with(move |call| account(call, &books.metrics, |call| books.settle(call)))
    }

    fn with(account: impl Fn(EndedCall) + Send + 'static) -> Self {
        let (queue, mut inbox) = mpsc::channel::<Work>(SEATS);
        let work = move || {
            let mut last = Instant::now();
            while let Some(work) = inbox.blocking_recv() {
                match work {
                    Work::Call { call, unsettled } => {
                        account(*call);
                        drop(unsettled);
                    }
                    // Who asked may have gone.
                    Work::Mark(reached) => drop(reached.send(())),
                }
                let since_last = mem::replace(&mut last, Instant::now()).elapsed();
                if inbox.is_empty() && since_last < BREATHER {
                    thread::park_timeout(BREATHER);
                }
            }
        };
        let thread = thread::Builder::new()
            .name("accountant".to_owned())
            .spawn(work)
            .inspect_err(|error| {
                tracing::error!(%error, "no thread for accounting: no call can be taken");
            });
        Self {
            queue: Some(queue),
            thread: thread.ok(),
            unsettled: watch::Sender::new(()),
        }
    }

    /// Waits until every call that ended by now is settled, without the usual breather.
    pub(super) async fn catch_up(&self) {
        let (reached, mark) = oneshot::channel();
        let asked = self
            .queue
            .as_ref()
            .map(|queue| queue.try_send(Work::Mark(reached)));
        if !matches!(asked, Some(Ok(()))) {
            return;
        }
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        // An accountant that is gone settles nothing more.
        let _: Result<(), _> = mark.await;
    }

    /// None when too many calls are open.
    pub(super) fn seat(&self) -> Option<Seat> {
        let slot = self.queue.clone()?.try_reserve_owned().ok()?;
        let unsettled = self.unsettled.subscribe();
        Some(Seat { slot, unsettled })
    }

    /// Waits until no call is open and every ended one is settled.
    pub(super) async fn idle(&self) {
        self.unsettled.closed().await;
    }
}

impl Drop for Accountant {
    /// What it works with, the ledger among it, is free when this is done. Every open call is gone
    /// by now, so there is little to wait for.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic in it was reported where it happened.
            drop(thread.join());
        }
    }
}

impl Seat {
    pub(super) fn settle(self, call: EndedCall) {
        let Self { slot, unsettled } = self;
        let call = Box::new(call);
        slot.send(Work::Call { call, unsettled });
    }
}

/// Whatever bytes of strangers do to what reads them here, the next call is accounted for: a
/// call that panics settles by the drop of its ledger entry.
fn account(call: EndedCall, metrics: &Metrics, settle: impl FnOnce(EndedCall)) {
    metrics.call_ended(call.origin.facts.stream);
    if catch_unwind(AssertUnwindSafe(|| settle(call))).is_err() {
        tracing::error!("accounting for a call panicked: its record is an estimate");
    }
}

impl Books {
    fn settle(&self, call: EndedCall) {
        settle(call, self);
    }
}

fn settle(mut call: EndedCall, books: &Books) {
    let observed = call.observed.take();
    let (mut facts, mut capture, marks, response_bytes) = match observed {
        None => (ResponseFacts::default(), None, Vec::new(), 0),
        Some(observed) => take_apart(observed, call.origin.record),
    };
    if call.origin.fetch {
        books.settle_late(&call, &facts);
    }
    let mut settlement = settlement(&mut call, &mut facts, books);
    settlement.chunks = marks;
    if let Some(capture) = &mut capture {
        capture.is_broken = matches!(
            settlement.outcome,
            Outcome::UpstreamCut | Outcome::ClientGone | Outcome::Cut | Outcome::Rejected
        );
    }
    settlement.response_bytes = settlement.response_bytes.saturating_add(response_bytes);
    books
        .metrics
        .call_settled(&settlement, call.origin.facts.stream);
    books.alerts.settled(&settlement);
    let origin = &call.origin;
    for it in Measurement::of_call(settlement.id, settlement.started_at, &origin.attribution) {
        books.metrics.measured(&it, None);
        books.alerts.measured(&it, None);
    }
    let now = books.clock.now();
    books.learn(&call.origin, &settlement, now);
    let tokens = settlement
        .usage
        .input_tokens
        .saturating_add(settlement.usage.output_tokens);
    if let Some(turn) = &call.origin.turn {
        let run = settlement.run.as_ref();
        books.loops.used(turn, run, settlement.id, tokens);
    }
    let used = used(&call.origin, &settlement);
    // More is to come, and nobody knows yet how much; or it will never be known.
    let is_guess = settlement.is_pending || is_unknown(&call, &settlement);
    let EndedCall { entry, hold, .. } = call;
    // By the clock that resets are told by.
    settlement.settled_at = Some(books.budgets.at(now));
    if is_guess {
        hold.settle_as_held(books.budgets.at(now), |charges| {
            settlement.settle_at(charges);
            entry.settle(settlement, capture);
        });
    } else {
        hold.settle(&used, books.budgets.at(now), |charges| {
            settlement.charges = charges;
            entry.settle(settlement, capture);
        });
    }
}

/// How the call ended and what it used; not yet what it is charged.
fn settlement(call: &mut EndedCall, facts: &mut ResponseFacts, books: &Books) -> Settlement {
    let model = facts
        .model
        .as_deref()
        .and_then(|model| Label::parse(model).ok())
        .or_else(|| call.origin.model.clone());
    let (usage, provenance) = usage(call, facts, model.as_ref(), books);
    let cost = cost(call, facts, model.as_ref(), &usage);
    let (from_client, from_upstream) = call.tunnelled.unwrap_or_default();
    let uploaded = call
        .upload
        .as_ref()
        .map_or(call.origin.body_bytes, |up| up.bytes());
    let label = |text: &Option<String>| text.as_deref().and_then(|text| Label::parse(text).ok());
    let who = &call.origin.attribution;
    Settlement {
        id: call.entry.id(),
        started_at: call.origin.started_at,
        agent: who.agent.clone(),
        caller: who.caller.clone(),
        run: who.run.clone(),
        parent_run: who.parent_run.clone(),
        upstream: call.origin.upstream.config().name.clone(),
        operation: call.origin.operation,
        model,
        outcome: call.outcome,
        status: call.status.map(|status| status.as_u16()),
        usage,
        provenance,
        cost: cost.map(|(amount, _)| amount),
        cost_source: cost.map(|(_, source)| source),
        response_model: label(&facts.model),
        response_id: label(&facts.response_id),
        service_tier: label(&facts.service_tier),
        finish_reasons: facts
            .finish_reasons
            .iter()
            .filter_map(|reason| Label::parse(reason).ok())
            .collect(),
        timings: call.timings,
        request_bytes: uploaded.saturating_add(from_client),
        response_bytes: from_upstream,
        error: call
            .error
            .take()
            .or_else(|| facts.error.take())
            .filter(|_| call.origin.record > RecordLevel::None),
        response: None,
        chunks: Vec::new(),
        charges: Vec::new(),
        settled_at: None,
        is_pending: is_pending(call, facts),
        headers: call.headers.take(),
        instance: None,
    }
}

/// The upstream did something, and nobody says how much of what.
fn is_unknown(call: &EndedCall, settlement: &Settlement) -> bool {
    let usage = &settlement.usage;
    call.origin.operation.is_media()
        && worked(call)
        && settlement.cost.is_none()
        && usage.input_tokens + usage.output_tokens == 0
}

/// The work goes on upstream, and its result is fetched by a later call.
fn is_pending(call: &EndedCall, facts: &ResponseFacts) -> bool {
    let word = facts.status_word.as_deref().unwrap_or_default();
    let begun = match call.origin.operation {
        Operation::Responses => {
            call.origin.facts.background && matches!(word, "queued" | "in_progress")
        }
        Operation::Batch => {
            matches!(
                word,
                "validating" | "in_progress" | "finalizing" | "cancelling"
            )
        }
        _ => false,
    };
    begun && !call.origin.fetch && facts.usage.is_none() && facts.response_id.is_some()
}

type TakenApart = (
    ResponseFacts,
    Option<Capture>,
    Vec<crate::core::call::ChunkMark>,
    u64,
);

fn take_apart(observed: Observed, record: RecordLevel) -> TakenApart {
    let Observed {
        reader,
        content_type,
        content_encoding,
        kept,
        marks,
        bytes,
        ..
    } = observed;
    let capture = (record == RecordLevel::Full && bytes > 0).then(|| Capture {
        chunks: kept.into_chunks(),
        len: bytes,
        segments: Vec::new(),
        content_type,
        content_encoding,
        is_broken: false,
    });
    (reader.finish(), capture, marks, bytes)
}

/// What the upstream reported, else what can be counted of what went through. A report from
/// within a stream that broke off says too little of the output: what was counted may be more.
fn usage(
    call: &EndedCall,
    facts: &mut ResponseFacts,
    model: Option<&Label>,
    books: &Books,
) -> (Usage, Provenance) {
    if call.origin.fetch {
        return (Usage::default(), Provenance::Reported);
    }
    let generates = call.origin.operation.is_counted();
    match facts.usage {
        Some(usage) if facts.ended || call.outcome == Outcome::Completed || !generates => {
            (usage, Provenance::Reported)
        }
        None if call.outcome == Outcome::UpstreamUnavailable && !call.timed_out => {
            (Usage::default(), Provenance::Estimated)
        }
        None if call.origin.operation == Operation::Speech && worked(call) => {
            let usage = Usage {
                input_characters: characters(call),
                ..Usage::default()
            };
            (usage, Provenance::Counted)
        }
        None if !generates || !worked(call) => (Usage::default(), Provenance::Counted),
        early => {
            let (counted, provenance) = count(call, facts, model, books);
            let Some(early) = early else {
                return (counted, provenance);
            };
            let output_tokens = early.output_tokens.max(counted.output_tokens);
            let usage = Usage {
                output_tokens,
                ..early
            };
            (usage, Provenance::Estimated)
        }
    }
}

fn count(
    call: &EndedCall,
    facts: &mut ResponseFacts,
    model: Option<&Label>,
    books: &Books,
) -> (Usage, Provenance) {
    let (origin, counter) = (&call.origin, &books.counter);
    let model = model.map_or("", |model| model.as_str());
    let prompt = match &call.upload {
        None => counter.count_prompt(origin.operation, model, &origin.text, &origin.facts),
        Some(upload) => {
            let bytes = usize::try_from(upload.bytes()).unwrap_or(usize::MAX);
            Counted {
                tokens: counter.quick_estimate(model, bytes, &origin.facts),
                provenance: Provenance::Estimated,
            }
        }
    };
    let text = std::mem::take(&mut facts.output_text);
    let unseen = text.uncounted_bytes();
    let output = counter.count_output(model, &text.into_text());
    let exact = call.outcome == Outcome::Completed
        && !facts.unread
        && unseen == 0
        && prompt.provenance == Provenance::Counted
        && output.provenance == Provenance::Counted;
    let output_tokens = match output.tokens.saturating_add(unseen / BYTES_PER_TOKEN) {
        0 => books.unseen_output(call),
        seen => seen,
    };
    let usage = Usage {
        input_tokens: prompt.tokens,
        output_tokens,
        ..Usage::default()
    };
    let provenance = if exact {
        Provenance::Counted
    } else {
        Provenance::Estimated
    };
    (usage, provenance)
}

/// Of the text that is to be spoken.
fn characters(call: &EndedCall) -> u64 {
    let segments = call.origin.facts.segments.iter();
    let texts = segments.filter_map(|segment| {
        let raw = call.origin.text.get(segment.range.clone())?;
        serde_json::from_slice::<String>(raw).ok()
    });
    texts.map(|text| text.chars().count() as u64).sum()
}

/// Whether the upstream is likely to have begun, and so to bill: it answered well, or it had the
/// request when the call ended for another reason.
fn worked(call: &EndedCall) -> bool {
    match call.status {
        Some(status) if call.outcome != Outcome::UpstreamUnavailable => status.as_u16() < 400,
        _ => {
            call.timings.forwarded_us.is_some()
                && (call.timed_out || matches!(call.outcome, Outcome::ClientGone | Outcome::Cut))
        }
    }
}

fn cost(
    call: &EndedCall,
    facts: &ResponseFacts,
    model: Option<&Label>,
    usage: &Usage,
) -> Option<(NanoUsd, CostSource)> {
    if call.origin.fetch {
        return Some((NanoUsd::ZERO, CostSource::Table));
    }
    if let Some(cost) = facts.cost {
        return Some((cost, CostSource::Upstream));
    }
    if matches!(
        call.origin.operation,
        Operation::Other | Operation::WebSocket
    ) {
        return None;
    }
    if *usage == Usage::default() {
        let unknown = call.origin.operation.is_media() && worked(call);
        return (!unknown).then_some((NanoUsd::ZERO, CostSource::Table));
    }
    let seller = call.origin.upstream.authority().host();
    let tier = facts
        .service_tier
        .as_deref()
        .or(call.origin.facts.service_tier.as_deref());
    let asked = call.origin.model.as_ref().map(Label::as_str);
    let billed = billed_model(asked, model.map(Label::as_str))?;
    let cost = call
        .origin
        .live
        .prices
        .price(Some(seller), billed, tier, usage)?;
    Some((cost.amount, cost.source))
}

#[cfg(test)]
mod tests;
