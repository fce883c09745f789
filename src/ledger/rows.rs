//! What queries return; the JSON API and the command line show these as they are.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

use crate::core::attribution::{Confidence, Source};
use crate::core::budget::Control;
use crate::core::call::{Admission, CostSource, LateUsage, Operation, Outcome, Settlement};
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;
use crate::core::usage::{Provenance, Usage};

use super::sketch::Latency;
use super::totals::Totals;

/// One call, open or settled.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct CallRow {
    #[n(0)]
    pub id: CallId,
    #[n(1)]
    pub started_at: Timestamp,
    #[n(2)]
    pub run: Option<Label>,
    #[n(3)]
    pub parent_run: Option<Label>,
    #[n(4)]
    pub agent: Label,
    #[n(5)]
    pub caller: Option<Label>,
    #[n(6)]
    pub path: Vec<Label>,
    #[n(7)]
    pub depth: u32,
    #[n(8)]
    pub user: Option<Label>,
    #[n(9)]
    pub variant: Option<Label>,
    #[n(10)]
    pub tags: BTreeMap<String, Label>,
    /// None when its admission is not kept.
    #[n(11)]
    pub agent_source: Option<Source>,
    #[n(12)]
    pub run_source: Option<Source>,
    #[cbor(n(39), default)]
    pub inferred: Confidence,
    #[n(13)]
    pub upstream: Label,
    #[n(14)]
    pub operation: Operation,
    #[n(15)]
    pub method: String,
    #[n(16)]
    pub target: String,
    #[n(17)]
    pub request_model: Option<Label>,
    #[n(18)]
    pub response_model: Option<Label>,
    #[n(19)]
    pub response_id: Option<Label>,
    #[n(20)]
    pub service_tier: Option<Label>,
    #[n(21)]
    pub stream: bool,
    #[n(22)]
    pub status: Option<u16>,
    /// None while it is open.
    #[n(23)]
    #[serde(serialize_with = "outcome_or_open")]
    pub outcome: Option<Outcome>,
    #[n(24)]
    pub finish_reasons: Vec<Label>,
    #[n(25)]
    pub usage: Usage,
    #[n(26)]
    pub provenance: Option<Provenance>,
    #[n(27)]
    pub cost_nano_usd: Option<i64>,
    #[n(28)]
    pub cost_source: Option<CostSource>,
    #[n(29)]
    pub duration_us: Option<u64>,
    #[n(30)]
    pub head_us: Option<u64>,
    #[n(31)]
    pub first_chunk_us: Option<u64>,
    #[n(32)]
    pub request_bytes: u64,
    #[n(33)]
    pub response_bytes: u64,
    #[n(34)]
    pub client: Option<Label>,
    #[n(35)]
    pub retry: u32,
    #[n(36)]
    pub error: Option<String>,
    /// The model it was priced by and is rolled up under.
    #[n(37)]
    pub model: Option<Label>,
    /// Its work goes on at the upstream: what it used is an estimate until the result is fetched.
    #[cbor(n(38), default)]
    pub is_pending: bool,
    /// What its client calls the conversation, else what it was recognised as.
    #[n(50)]
    pub conversation: Option<Label>,
    /// What its budgets and loops did to it, in words; none where it was plainly let through.
    #[n(51)]
    pub decision: Option<String>,
    /// When it left for the upstream, in microseconds after it came.
    #[n(52)]
    pub forwarded_us: Option<u64>,
    /// The instance that served it, where that is another one.
    #[n(53)]
    pub instance: Option<Label>,
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "the derive macro passes a reference"
)]
fn outcome_or_open<S: Serializer>(
    outcome: &Option<Outcome>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match outcome {
        Some(outcome) => outcome.serialize(serializer),
        None => serializer.serialize_str("open"),
    }
}

impl CallRow {
    /// A call that is not settled.
    pub(crate) fn admitted(admission: Admission) -> Self {
        let who = admission.attribution;
        Self {
            run: who.run,
            parent_run: who.parent_run,
            caller: who.caller,
            path: who.path,
            depth: who.depth,
            user: who.user,
            variant: who.variant,
            tags: who.tags,
            agent_source: Some(who.agent_source),
            run_source: who.run_source,
            inferred: who.inferred,
            conversation: who.conversation,
            decision: admission.decision,
            instance: admission.instance,
            method: admission.method,
            target: admission.target,
            request_model: admission.request_model.clone(),
            stream: admission.stream,
            request_bytes: admission.request.map_or(0, |request| request.len),
            client: admission.client,
            retry: admission.retry,
            model: admission.request_model,
            ..Self::bare(
                admission.id,
                admission.started_at,
                who.agent,
                admission.upstream,
                admission.operation,
            )
        }
    }

    /// A call whose admission is not kept.
    pub(crate) fn settled(settlement: &Settlement) -> Self {
        let mut row = Self {
            run: settlement.run.clone(),
            parent_run: settlement.parent_run.clone(),
            caller: settlement.caller.clone(),
            instance: settlement.instance.clone(),
            ..Self::bare(
                settlement.id,
                settlement.started_at,
                settlement.agent.clone(),
                settlement.upstream.clone(),
                settlement.operation,
            )
        };
        row.settle(settlement);
        row
    }

    fn bare(
        id: CallId,
        started_at: Timestamp,
        agent: Label,
        upstream: Label,
        operation: Operation,
    ) -> Self {
        Self {
            id,
            started_at,
            run: None,
            parent_run: None,
            agent,
            caller: None,
            path: Vec::new(),
            depth: 0,
            user: None,
            variant: None,
            tags: BTreeMap::new(),
            agent_source: None,
            run_source: None,
            inferred: Confidence::default(),
            upstream,
            operation,
            method: String::new(),
            target: String::new(),
            request_model: None,
            response_model: None,
            response_id: None,
            service_tier: None,
            stream: false,
            status: None,
            outcome: None,
            finish_reasons: Vec::new(),
            usage: Usage::default(),
            provenance: None,
            cost_nano_usd: None,
            cost_source: None,
            duration_us: None,
            head_us: None,
            first_chunk_us: None,
            request_bytes: 0,
            response_bytes: 0,
            client: None,
            retry: 0,
            error: None,
            model: None,
            is_pending: false,
            conversation: None,
            decision: None,
            forwarded_us: None,
            instance: None,
        }
    }

    /// When it ended; while it is open, when it started.
    pub(super) fn last_at(&self) -> Timestamp {
        let took = self.duration_us.unwrap_or(0);
        Timestamp::from_micros(self.started_at.micros().saturating_add_unsigned(took))
    }

    /// Fills in how the call ended.
    pub(crate) fn settle(&mut self, settlement: &Settlement) {
        self.model.clone_from(&settlement.model);
        self.response_model.clone_from(&settlement.response_model);
        self.response_id.clone_from(&settlement.response_id);
        self.service_tier.clone_from(&settlement.service_tier);
        self.finish_reasons.clone_from(&settlement.finish_reasons);
        self.error.clone_from(&settlement.error);
        self.status = settlement.status;
        self.outcome = Some(settlement.outcome);
        self.usage = settlement.usage;
        self.provenance = Some(settlement.provenance);
        self.cost_nano_usd = settlement.cost.map(crate::core::money::NanoUsd::get);
        self.cost_source = settlement.cost_source;
        self.duration_us = Some(settlement.timings.total_us);
        self.forwarded_us = settlement.timings.forwarded_us;
        self.head_us = settlement.timings.head_us;
        self.first_chunk_us = settlement.timings.first_chunk_us;
        self.request_bytes = settlement.request_bytes;
        self.response_bytes = settlement.response_bytes;
        self.is_pending = settlement.is_pending;
    }

    /// Puts what the call really used in the place of the estimate.
    pub(crate) fn settle_late(&mut self, late: &LateUsage) {
        self.usage = late.usage;
        self.provenance = Some(if late.is_estimated {
            Provenance::Estimated
        } else {
            Provenance::Reported
        });
        self.cost_nano_usd = late.cost.map(crate::core::money::NanoUsd::get);
        self.cost_source = late.cost_source;
        self.is_pending = false;
    }
}

/// A call with everything the log has of it.
#[derive(Clone, Debug, PartialEq)]
pub struct CallDetail {
    pub row: CallRow,
    pub admission: Option<Admission>,
    pub settlement: Option<Settlement>,
    /// What it really used, where that became known later.
    pub late: Option<LateUsage>,
}

/// A stored body, put together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// These are the bytes of the wire: nothing was redacted, decoded, cut off or lost.
    pub exact: bool,
    /// Only the first part was kept.
    pub truncated: bool,
    /// Length on the wire.
    pub wire_len: u64,
}

/// Some rows, and where the next page begins.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page<T, C = CallId> {
    pub items: Vec<T>,
    /// What to give as `before` for the next page; none when this is the last.
    pub next: Option<C>,
    /// Looking ended before there were as many as asked for: so many rows did not match. There may
    /// be more behind `next`.
    pub partial: bool,
}

/// Some rows that sum up a span of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    /// What the rows are of; none is all time.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// That is more than what was asked for.
    pub widened: bool,
    pub items: Vec<T>,
    /// What to give as `before` for the next page; none when this is the last.
    pub next: Option<Timestamp>,
}

/// The first of rows that are sorted by what was spent.
#[derive(Clone, Debug, PartialEq)]
pub struct Tops<T> {
    pub items: Vec<T>,
    /// How many there are in all.
    pub count: usize,
    /// When the first call of all of them started; none where there was none.
    pub first_at: Option<Timestamp>,
}

/// What a group of calls used and how long they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub totals: Totals,
    pub duration: Latency,
    pub first_chunk: Latency,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRow {
    pub run: Label,
    pub parent_run: Option<Label>,
    /// Whether it may go on.
    pub control: Control,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub open_calls: u64,
    /// By name.
    pub agents: Vec<Label>,
    /// Of its deepest call; 0 when nobody said.
    pub depth: u32,
    /// The first that was named.
    pub variant: Option<Label>,
    /// Of its calls; of each name the first value.
    pub tags: BTreeMap<String, Label>,
    /// Loops of it that were stopped.
    pub trips: u64,
    #[serde(flatten)]
    pub totals: Totals,
}

/// A run, its agents, who invoked whom in it, and its child runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunDetail {
    #[serde(flatten)]
    pub row: RunRow,
    pub by_agent: Vec<RunAgentRow>,
    /// By caller; those that nobody invoked first. Of the calls that are still recorded.
    pub edges: Vec<RunEdgeRow>,
    pub children: Vec<RunRow>,
}

/// What one agent did in one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunAgentRow {
    pub agent: Label,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub open_calls: u64,
    #[serde(flatten)]
    pub totals: Totals,
}

/// Calls of one agent on behalf of another, or of nobody, in one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunEdgeRow {
    pub caller: Option<Label>,
    pub agent: Label,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub open_calls: u64,
    #[serde(flatten)]
    pub totals: Totals,
}

/// One agent, over all its runs.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRow {
    pub agent: Label,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub open_calls: u64,
    pub models: Vec<Label>,
    /// In how many runs it was seen; of a span, in how many for the first time.
    pub runs: u64,
    pub figures: Figures,
}

/// Calls of one agent on behalf of another.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeRow {
    pub caller: Label,
    pub agent: Label,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub figures: Figures,
}

/// Calls that were answered by one model, or asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRow {
    /// None of calls that name no model.
    pub model: Option<Label>,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// Who used it.
    pub agents: Vec<Label>,
    /// Where.
    pub upstreams: Vec<Label>,
    pub figures: Figures,
}

/// What calls of a span used over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The first moment of the first bucket, and the first one after the last: as wide as what was
    /// asked for, or a bit wider.
    pub since: Timestamp,
    pub until: Timestamp,
    /// How wide each bucket is.
    pub step_us: u64,
    /// All calls, bucket by bucket.
    pub buckets: Vec<Figures>,
    /// The same taken apart, the most expensive first, at most five and then all others together;
    /// empty when nothing was to be told apart.
    pub lines: Vec<Line>,
    /// What was asked for as a whole.
    pub whole: SpanFigures,
    /// The span of the same length just before it.
    pub before: SpanFigures,
}

/// One line of a [`Series`].
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub of: LineOf,
    pub whole: Figures,
    /// As many as the series has.
    pub buckets: Vec<Figures>,
}

/// Whose line it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineOf {
    Named(Label),
    /// Calls that name none.
    Unnamed,
    /// All that have no line of their own.
    Others,
}

/// What the calls of a span used as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanFigures {
    /// What the figures are of, which may be wider than what was asked for.
    pub since: Timestamp,
    pub until: Timestamp,
    pub figures: Figures,
}

/// Some of the calls of a run in the order they came.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCalls {
    /// The number of the first of `calls` among those of the run that are still recorded, from 0.
    pub from: u64,
    /// How many there are.
    pub total: u64,
    pub calls: Vec<CallRow>,
}

/// All calls of a run in the order they came, with little of each.
#[derive(Clone, Debug, PartialEq)]
pub struct RunMarks {
    /// The first so many.
    pub marks: Vec<Mark>,
    /// How many there are.
    pub total: u64,
}

/// One call of a run, for an overview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub id: CallId,
    pub started_at: Timestamp,
    /// None while it is open, as is the next.
    pub duration_us: Option<u64>,
    pub outcome: Option<Outcome>,
    /// None when no price is known.
    pub cost_nano_usd: Option<i64>,
    pub agent: Label,
}

/// One day's totals of an agent, model and upstream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RollupRow {
    /// Days since the epoch, UTC.
    pub day: i32,
    pub agent: Label,
    pub model: Option<Label>,
    pub upstream: Label,
    #[serde(flatten)]
    pub totals: Totals,
}
