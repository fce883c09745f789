//! The shapes of the JSON API, apart from the rows of the ledger: records may change their form on
//! disk, answers keep theirs. The command line reads the same shapes.

mod budgets;
mod figures;
mod from_rows;
mod measured;
mod refusals;
mod runs;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::budgets::{
    AccountAnswer, AccountView, BudgetList, BudgetView, CountedMeasure, KeyPart, MeasureView,
    Raised, RunControlled, UsdMeasure,
};
pub use self::figures::{FiguresView, LineView, ModelList, ModelView, SeriesView, SpanView};
pub use self::measured::{
    MeasurementList, MeasurementView, MetricList, MetricView, Recorded, RunMetricsView,
};
pub use self::refusals::{RefusalList, RefusalView, RunBegun};
pub use self::runs::{MarkList, MarkView, RunCallList};
use crate::core::attribution::{Confidence, Source};
use crate::core::budget::Control;
use crate::core::call::{CostSource, Operation};
use crate::core::id::{CallId, Label};
use crate::core::loops::finding::{Scope, Signal};
use crate::core::loops::trip::{ClosedBy, Trip};
use crate::core::metric::Value;
use crate::core::money::NanoUsd;
use crate::core::recorded::{Header, HeaderLines, Kept};
use crate::core::time::Timestamp;
use crate::core::usage::{Provenance, Usage};
use crate::metrics::LedgerFigures;

/// The outcome of a call that has none yet.
pub const OPEN: &str = "open";

/// What runs here and how it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub version: String,
    /// The commit it was built from, or `unknown`.
    pub commit: String,
    pub started_at: Timestamp,
    pub uptime_us: u64,
    /// The process has been told to end.
    pub draining: bool,
    pub listeners: Listeners,
    pub ledger: LedgerView,
    pub upstreams: Vec<UpstreamView>,
}

/// How the ledger is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerView {
    #[serde(flatten)]
    pub figures: LedgerFigures,
    pub last_error: Option<String>,
}

/// The addresses of the two listeners, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listeners {
    #[schema(value_type = String)]
    pub proxy: SocketAddr,
    #[schema(value_type = String)]
    pub admin: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamView {
    pub name: Label,
    pub base_url: String,
    /// A key of OpenAI's clients may come here although it was made for another host.
    pub takes_any_key: bool,
}

/// Calls, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallList {
    pub calls: Vec<CallView>,
    /// What to pass as `before` for the calls that follow; null when there are none.
    pub next: Option<CallId>,
    /// 10,000 calls were looked at and too few matched: there may be more behind `next`.
    pub partial: bool,
}

/// One call. What is only known at its end is null or zero while it is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallView {
    pub id: CallId,
    pub started_at: Timestamp,
    pub run: Option<Label>,
    pub parent_run: Option<Label>,
    pub agent: Label,
    /// The agent that invoked `agent`.
    pub caller: Option<Label>,
    /// The chain of agents from the root, `agent` last; empty when unknown.
    pub path: Vec<Label>,
    pub depth: u32,
    pub user: Option<Label>,
    pub variant: Option<Label>,
    /// What its client calls the conversation, else what it was recognised as.
    pub conversation: Option<Label>,
    pub tags: BTreeMap<String, Label>,
    pub agent_source: Option<Source>,
    pub run_source: Option<Source>,
    /// How sure it is of what nobody said, in percent.
    pub inferred: Confidence,
    pub upstream: Label,
    pub operation: Operation,
    pub method: String,
    /// Path and query, secrets removed.
    pub target: String,
    pub request_model: Option<Label>,
    pub response_model: Option<Label>,
    /// The model it is priced and summed up by: the one that answered, else the one asked for.
    pub model: Option<Label>,
    pub response_id: Option<Label>,
    pub service_tier: Option<Label>,
    pub stream: bool,
    /// Null when the client left before a status was sent.
    pub status: Option<u16>,
    /// How it ended: `completed`, `upstream_error`, `client_gone`, ...; `open` while it runs.
    pub outcome: String,
    pub finish_reasons: Vec<Label>,
    pub usage: Usage,
    pub provenance: Option<Provenance>,
    /// Null when no price is known.
    pub cost_nano_usd: Option<NanoUsd>,
    pub cost_source: Option<CostSource>,
    /// Times are microseconds after `started_at`: this one to its end.
    pub duration_us: Option<u64>,
    /// To the head of the response.
    pub head_us: Option<u64>,
    /// To the first bytes of the response's body.
    pub first_chunk_us: Option<u64>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub client: Option<Label>,
    /// 0 for a first try.
    pub retry: u32,
    pub error: Option<String>,
    /// The instance that served it, where that is another one than the one asked.
    pub instance: Option<Label>,
    /// Custom metrics: of each name the newest value.
    pub metrics: BTreeMap<String, Value>,
}

/// One call with all that is recorded of it; its bodies have paths of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallDetail {
    #[serde(flatten)]
    pub call: CallView,
    pub output_limit: Option<u64>,
    pub estimated_input_tokens: Option<u64>,
    /// The same for the same API key; says nothing about the key itself.
    pub key: Option<String>,
    pub previous_response: Option<Label>,
    /// What its budgets did to it: slowed, its output limit lowered, warned of.
    pub decision: Option<String>,
    /// To the departure of the request for the upstream.
    pub forwarded_us: Option<u64>,
    /// How much of it was to be recorded, and whether its client wanted it so; null in older records.
    pub kept: Option<Kept>,
    /// As the client sent them; null when not recorded, as are the next three.
    pub request_headers: Option<HeadersView>,
    /// As the upstream sent them.
    pub response_headers: Option<HeadersView>,
    pub request_body: Option<BodyView>,
    pub response_body: Option<BodyView>,
}

/// The headers of a request or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeadersView {
    /// In the order they came in.
    pub headers: Vec<Header>,
    /// Headers past what is recorded of one head.
    pub left_out: u32,
}

/// What is known of a recorded body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BodyView {
    /// Bytes on the wire.
    pub len: u64,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// Redaction or decoding made the recorded bytes differ from the wire.
    pub changed: bool,
    /// Only the beginning was kept.
    pub truncated: bool,
}

/// One piece of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChunkView {
    /// Microseconds after the piece before it; of the first, after the head.
    pub gap_us: u32,
    /// Bytes of it.
    pub len: u32,
}

/// What a group of calls used and cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TotalsView {
    /// Calls that ended.
    pub calls: u64,
    /// Those that failed, whoever's fault it was.
    pub errors: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Part of `input_tokens`.
    pub cache_read_input_tokens: u64,
    /// Part of `input_tokens`.
    pub cache_write_input_tokens: u64,
    /// Part of `output_tokens`.
    pub reasoning_output_tokens: u64,
    pub cost_nano_usd: NanoUsd,
    /// Calls that used something of unknown price: `cost_nano_usd` is without them.
    pub unpriced_calls: u64,
    /// Calls whose token counts are estimates.
    pub estimated_calls: u64,
    /// Time that all of them took together.
    pub duration_us: u64,
}

/// Runs, the latest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunList {
    pub runs: Vec<RunView>,
    /// What to pass as `before` for those that follow; null when there are none.
    pub next: Option<Timestamp>,
    /// 10,000 runs were looked at and too few matched: there may be more behind `next`.
    pub partial: bool,
}

/// One run as a whole, whatever span was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    pub run: Label,
    pub parent_run: Option<Label>,
    /// Whether it may go on.
    pub control: Control,
    /// Start of the first call of it or of a run that it began.
    pub first_at: Timestamp,
    /// When the latest of these calls started or ended.
    pub last_at: Timestamp,
    pub open_calls: u64,
    pub agents: Vec<Label>,
    /// Agents in the chain of its deepest call; 0 when nobody said.
    pub depth: u32,
    /// The first that was named.
    pub variant: Option<Label>,
    /// Of its calls; of each name the first value.
    pub tags: BTreeMap<String, Label>,
    /// Loops of it that were stopped.
    pub trips: u64,
    #[serde(flatten)]
    pub totals: TotalsView,
    /// Custom metrics of it and of its calls.
    pub metrics: Vec<MetricView>,
}

/// One run, the agents at work in it, who invoked whom, and the runs it began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunDetail {
    #[serde(flatten)]
    pub run: RunView,
    pub by_agent: Vec<RunAgentView>,
    /// Its call tree: who invoked whom.
    pub edges: Vec<RunEdgeView>,
    /// Runs that name this one as their parent.
    pub children: Vec<RunView>,
    /// Custom metrics; what was said of the run itself is of no agent.
    pub metrics_by_agent: Vec<RunMetricsView>,
}

/// What one agent used within one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunAgentView {
    pub agent: Label,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub open_calls: u64,
    #[serde(flatten)]
    pub totals: TotalsView,
}

/// Who invokes whom within one run: the calls that `agent` made for `caller`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunEdgeView {
    /// Null when nobody is known to have invoked it.
    pub caller: Option<Label>,
    pub agent: Label,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub open_calls: u64,
    #[serde(flatten)]
    pub totals: TotalsView,
}

/// Agents, the last active first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentList {
    /// What the figures are of; null is all time.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// That is somewhat more than what was asked for.
    pub widened: bool,
    pub agents: Vec<AgentView>,
    /// What to pass as `before` for those that follow; null when there are none.
    pub next: Option<Timestamp>,
}

/// One agent: what its calls of the span used, or those of all time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    pub agent: Label,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub open_calls: u64,
    pub models: Vec<Label>,
    /// In how many runs it was seen; of a span, in how many for the first time.
    pub runs: u64,
    #[serde(flatten)]
    pub figures: FiguresView,
    /// Custom metrics of it and of its calls in the span.
    pub metrics: Vec<MetricView>,
}

/// Edges, the last active first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EdgeList {
    /// What the figures are of; null is all time.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// That is somewhat more than what was asked for.
    pub widened: bool,
    pub edges: Vec<EdgeView>,
    /// What to pass as `before` for those that follow; null when there are none.
    pub next: Option<Timestamp>,
}

/// Who invokes whom: the calls that `agent` made for `caller`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EdgeView {
    pub caller: Label,
    pub agent: Label,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    #[serde(flatten)]
    pub figures: FiguresView,
}

/// Events, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    pub events: Vec<EventView>,
    /// What to pass as `before` for those that follow; null when there are none.
    pub next: Option<Timestamp>,
}

/// Loops, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoopList {
    pub loops: Vec<LoopView>,
    /// What to pass as `before` for those that follow; null when there are none.
    pub next: Option<Timestamp>,
}

/// A loop that was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoopView {
    /// The call at which it was stopped, which is also its name.
    pub id: CallId,
    pub at: Timestamp,
    /// Calls of it are refused.
    pub is_open: bool,
    pub run: Option<Label>,
    pub conversation: Option<Label>,
    pub agent: Label,
    pub caller: Option<Label>,
    pub signal: Signal,
    /// What is refused: a conversation, an edge, a run.
    pub scope: Scope,
    /// Calls of one round of the pattern.
    pub period: u32,
    /// Rounds, or what else the signal counts.
    pub count: u32,
    pub agents: Vec<Label>,
    /// The last of its calls, oldest first.
    pub calls: Vec<CallId>,
    /// When the first of these calls began.
    pub since: Timestamp,
    /// What these calls used, as far as it was known.
    pub tokens: u64,
    /// What was done again, and what came of it; empty where bodies are not recorded.
    pub sample: Vec<String>,
    pub refused: u32,
    pub closed_at: Option<Timestamp>,
    /// Null while it is open, and when the process ended meanwhile.
    pub closed_by: Option<ClosedBy>,
}

/// Something that is no call: what was done to the proxy, or befell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    pub at: Timestamp,
    /// Who did or saw it: `open-aiops` itself, or an operator.
    pub who: String,
    /// `started`, `stopping`, `stopped`, `recovered`, `config_reloaded`, `config_refused`,
    /// `ledger_failed`, `ledger_resumed`, `index_failed`, `index_resumed`, `disk_low`, `disk_freed`,
    /// `budget_warning`, `budget_slowed`, `budget_spent`, `budget_raised`, `budget_reset`,
    /// `run_paused`, `run_resumed`, `run_stopped`, `run_tightened`, `charges_recorded`,
    /// `unpriced_model`, `loop_warning`, `loop_slowed`, `loop_tripped`, `loop_closed`,
    /// `upstream_failing`, `upstream_recovered`, `alert_sent`, `alert_failed`, `alert_test`,
    /// `run_begun`, `run_refused`, `sink_failing`, `sink_recovered`, `sink_incomplete`.
    pub what: String,
    pub details: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RollupList {
    pub rollups: Vec<RollupView>,
}

/// What one agent used of one model at one upstream on one day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RollupView {
    /// The day in UTC, as 2026-11-01.
    pub day: String,
    pub agent: Label,
    pub model: Option<Label>,
    pub upstream: Label,
    #[serde(flatten)]
    pub totals: TotalsView,
}

impl From<HeaderLines> for HeadersView {
    fn from(lines: HeaderLines) -> Self {
        Self {
            headers: lines.iter().collect(),
            left_out: lines.left_out(),
        }
    }
}

impl LoopView {
    pub(super) fn new(trip: Trip, is_open: bool) -> Self {
        let evidence = trip.evidence;
        Self {
            id: trip.id,
            at: trip.at,
            is_open,
            run: trip.run,
            conversation: trip.conversation,
            agent: trip.agent,
            caller: trip.caller,
            signal: evidence.signal,
            scope: evidence.scope,
            period: evidence.period,
            count: evidence.count,
            agents: evidence.agents,
            calls: evidence.calls,
            since: evidence.since,
            tokens: evidence.tokens,
            sample: evidence.sample,
            refused: trip.refused,
            closed_at: trip.closed.as_ref().map(|closed| closed.at),
            closed_by: trip.closed.map(|closed| closed.by),
        }
    }
}
