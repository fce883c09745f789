//! The two facts the ledger keeps of every call: its admission and its settlement.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};
use utoipa::ToSchema;

use super::attribution::Attribution;
use super::budget::{Amounts, Charge, Limits};
use super::digest::Digest;
use super::id::{CallId, Label};
use super::money::NanoUsd;
use super::recorded::{HeaderLines, Kept};
use super::time::Timestamp;
use super::trace::TraceContext;
use super::usage::{Provenance, Usage};

/// What a call asks an upstream to do. GenAI names where the conventions have one.
#[derive(EnumString, IntoStaticStr, ToSchema, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `POST /v1/chat/completions`
    #[n(0)]
    Chat,
    /// `POST /v1/completions`
    #[n(1)]
    TextCompletion,
    /// `POST /v1/responses`
    #[n(2)]
    Responses,
    #[n(3)]
    Embeddings,
    /// `POST /v1/messages` (Anthropic)
    #[n(4)]
    Messages,
    /// `POST .../models/<model>:generateContent` and `:streamGenerateContent` (Gemini)
    #[n(5)]
    GenerateContent,
    #[n(6)]
    Speech,
    #[n(7)]
    Transcription,
    #[n(8)]
    Translation,
    #[n(9)]
    Image,
    #[n(10)]
    Moderation,
    #[n(11)]
    Batch,
    /// An upgraded connection.
    #[n(12)]
    WebSocket,
    /// Everything else: forwarded untouched, recorded, not metered.
    #[n(13)]
    Other,
}

impl Operation {
    /// Its answer is made of tokens, whose number a request can limit.
    pub fn generates(self) -> bool {
        matches!(
            self,
            Self::Chat
                | Self::TextCompletion
                | Self::Responses
                | Self::Messages
                | Self::GenerateContent
        )
    }

    /// What it uses cannot be told from texts: images, sound, what goes through a tunnel.
    pub fn is_media(self) -> bool {
        matches!(
            self,
            Self::Image | Self::Speech | Self::Transcription | Self::Translation | Self::WebSocket
        )
    }

    /// Its tokens are those of texts, and can be counted.
    pub fn is_counted(self) -> bool {
        self.generates() || self == Self::Embeddings
    }
}

/// How a call ended.
#[derive(EnumString, IntoStaticStr, ToSchema, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole response went out; its status is below 400.
    #[n(0)]
    Completed,
    /// The upstream answered with a status of 400 or more, passed on as it came.
    #[n(1)]
    UpstreamError,
    /// The upstream could not be reached or gave no response head in time: 502 or 504 from here.
    #[n(2)]
    UpstreamUnavailable,
    /// The upstream broke off within its response.
    #[n(3)]
    UpstreamCut,
    /// The client went away before the end.
    #[n(4)]
    ClientGone,
    /// Found open at start-up after a crash; usage is the estimate of its admission.
    #[n(5)]
    Recovered,
    /// Ended here: by the drain deadline at shutdown.
    #[n(6)]
    Cut,
    /// Rejected here as malformed or too large after it was admitted (a body that broke a limit).
    #[n(7)]
    Rejected,
}

/// One stored body: what it is made of, so that it can be rebuilt byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StoredBody {
    /// Length in bytes as it was on the wire.
    #[n(0)]
    pub len: u64,
    #[n(1)]
    pub parts: Vec<Part>,
    #[n(2)]
    pub content_type: Option<String>,
    /// As on the wire; none when it was removed by decoding (see `changed`).
    #[n(3)]
    pub content_encoding: Option<String>,
    /// Redaction or decoding made the stored bytes differ from the wire.
    #[n(4)]
    pub changed: bool,
    /// Only the first part was kept: the body was longer than the configured limit, or broke off and
    /// lost its end to redaction.
    #[n(5)]
    pub truncated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Part {
    /// Bytes kept in place: the glue between messages, small things.
    #[n(0)]
    Literal(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// A message stored once under its digest.
    #[n(1)]
    Content(#[n(0)] Digest),
    /// Bytes kept in place, compressed by zstd; with their length before that.
    #[n(2)]
    Compressed(#[n(0)] u32, #[cbor(n(1), with = "minicbor::bytes")] Vec<u8>),
    /// A stretch of parts, none of them a group, stored once under the digest of its encoding.
    #[n(3)]
    Group(#[n(0)] Digest),
}

/// A call as it was let through, before anything went upstream.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Admission {
    #[n(0)]
    pub id: CallId,
    /// When its head had arrived.
    #[n(1)]
    pub started_at: Timestamp,
    #[n(2)]
    pub attribution: Attribution,
    #[n(3)]
    pub upstream: Label,
    #[n(4)]
    pub operation: Operation,
    #[n(5)]
    pub method: String,
    /// Path and query as received, tags of the base URL and secrets removed.
    #[n(6)]
    pub target: String,
    #[n(7)]
    pub request_model: Option<Label>,
    #[n(8)]
    pub stream: bool,
    /// The output limit of the request, times its number of choices.
    #[n(9)]
    pub output_limit: Option<u64>,
    #[n(10)]
    pub estimated_input_tokens: u64,
    /// A keyed hash of the client's credential: the same key, the same hash; never the key.
    #[n(11)]
    pub key: Option<Digest>,
    /// The client's `User-Agent`, cut to a label.
    #[n(12)]
    pub client: Option<Label>,
    /// `x-stainless-retry-count`: 0 for a first try.
    #[n(13)]
    pub retry: u32,
    /// `previous_response_id` of the request.
    #[n(14)]
    pub previous_response: Option<Label>,
    /// None at record level `meta`, or when there is no body.
    #[n(15)]
    pub request: Option<StoredBody>,
    /// What it holds of each budget until it settles.
    #[cbor(n(16), default)]
    pub hold: Vec<Charge>,
    /// What its client allows the run by header, at most.
    #[cbor(n(17), default)]
    pub tightened: Limits,
    /// What its budgets did to it, in words: slowed, its output limit lowered, warned of.
    #[n(18)]
    pub decision: Option<String>,
    /// Headers as the client sent them; none at record level `none`.
    #[n(30)]
    pub headers: Option<HeaderLines>,
    /// How much of it was to be kept; none in records of before that was said.
    #[n(31)]
    pub kept: Option<Kept>,
    /// The trace that its client made it a part of.
    #[n(32)]
    pub trace: Option<TraceContext>,
    /// The instance that served it, where that is another one than the one that has this record.
    #[n(33)]
    pub instance: Option<Label>,
}

/// A call as it ended. Repeats of its admission what totals are kept by, so that totals are a
/// fold over settlements alone.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Settlement {
    #[n(0)]
    pub id: CallId,
    #[n(1)]
    pub started_at: Timestamp,
    #[n(2)]
    pub agent: Label,
    #[n(3)]
    pub caller: Option<Label>,
    #[n(4)]
    pub run: Option<Label>,
    #[n(5)]
    pub parent_run: Option<Label>,
    #[n(6)]
    pub upstream: Label,
    #[n(7)]
    pub operation: Operation,
    /// The model that answered, else the one asked for: what is priced and rolled up.
    #[n(8)]
    pub model: Option<Label>,
    #[n(9)]
    pub outcome: Outcome,
    /// The status the client got; none when it left before one.
    #[n(10)]
    pub status: Option<u16>,
    #[n(11)]
    pub usage: Usage,
    #[n(12)]
    pub provenance: Provenance,
    /// None when no price is known: never zero in its place.
    #[n(13)]
    pub cost: Option<NanoUsd>,
    #[n(14)]
    pub cost_source: Option<CostSource>,
    #[n(15)]
    pub response_model: Option<Label>,
    #[n(16)]
    pub response_id: Option<Label>,
    #[n(17)]
    pub service_tier: Option<Label>,
    #[n(18)]
    pub finish_reasons: Vec<Label>,
    #[n(19)]
    pub timings: Timings,
    #[n(20)]
    pub request_bytes: u64,
    #[n(21)]
    pub response_bytes: u64,
    /// One sentence when something went wrong; whose fault it was is in `outcome`.
    #[n(22)]
    pub error: Option<String>,
    #[n(23)]
    pub response: Option<StoredBody>,
    /// When each recorded chunk of the response arrived.
    #[cbor(n(24), default)]
    pub chunks: Vec<ChunkMark>,
    /// What it spent of each budget: takes the place of the hold of its admission.
    #[cbor(n(25), default)]
    pub charges: Vec<Charge>,
    /// When the charges were made; none where it ended without being accounted for.
    #[n(26)]
    pub settled_at: Option<Timestamp>,
    /// Its work goes on at the upstream under `response_id`: what it used is an estimate until a
    /// later call fetches the result.
    #[cbor(n(27), default)]
    pub is_pending: bool,
    /// Headers as the upstream sent them; none at record level `none`, or where there was no answer.
    #[n(40)]
    pub headers: Option<HeaderLines>,
    /// As in its admission.
    #[n(41)]
    pub instance: Option<Label>,
}

impl Settlement {
    /// When its charges were made.
    pub fn charged_at(&self) -> Timestamp {
        self.settled_at.unwrap_or_else(|| {
            let took = self.timings.total_us;
            Timestamp::from_micros(self.started_at.micros().saturating_add_unsigned(took))
        })
    }

    /// Takes what the call held of its budgets for what it used: nothing better is known. Without
    /// budgets nothing was held, and nothing changes.
    pub fn settle_at(&mut self, hold: Vec<Charge>) {
        let most = |of: fn(&Amounts) -> i64| hold.iter().map(|charge| of(&charge.amounts)).max();
        let tokens = |held: Option<i64>, known: u64| held.map_or(known, i64::cast_unsigned);
        let usage = &mut self.usage;
        usage.input_tokens = tokens(most(|it| it.input_tokens.max(0)), usage.input_tokens);
        usage.output_tokens = tokens(most(|it| it.output_tokens.max(0)), usage.output_tokens);
        if let Some(cost) = most(|it| it.nano_usd).filter(|cost| *cost > 0) {
            self.cost = Some(NanoUsd::new(cost));
            self.cost_source = Some(CostSource::Held);
        }
        if !hold.is_empty() {
            self.provenance = Provenance::Estimated;
        }
        self.charges = hold;
    }
}

/// What a call really used, known when a later call fetched its result. Settles it for good: takes
/// the place of the estimate, once.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct LateUsage {
    /// The call that began the work.
    #[n(0)]
    pub id: CallId,
    #[n(1)]
    pub at: Timestamp,
    #[n(2)]
    pub usage: Usage,
    #[n(3)]
    pub cost: Option<NanoUsd>,
    #[n(4)]
    pub cost_source: Option<CostSource>,
    /// What is charged on top of what the settlement charged; negative where that was too much.
    #[n(5)]
    pub charges: Vec<Charge>,
    /// When that was charged.
    #[cbor(n(6), default)]
    pub charged_at: Timestamp,
    /// The upstream did not say what was used before the work came to nothing.
    #[cbor(n(7), default)]
    pub is_estimated: bool,
    /// As in the admission of the call.
    #[n(8)]
    pub instance: Option<Label>,
    /// It became known here of a call of another instance, which has to hear of it.
    #[cbor(n(9), default)]
    pub is_found: bool,
}

impl LateUsage {
    /// Upstreams keep a result for 30 days at most.
    const WITHIN_US: i64 = 30 * 24 * 3_600_000_000;

    /// Whether it may still be known, at `at`, of a call that began at `started_at`.
    pub const fn may_come(started_at: Timestamp, at: Timestamp) -> bool {
        started_at.micros() >= at.micros().saturating_sub(Self::WITHIN_US)
    }
}

#[derive(IntoStaticStr, ToSchema)]
#[strum(serialize_all = "snake_case")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostSource {
    /// The built-in price table.
    #[n(0)]
    Table,
    /// A price of the user's config.
    #[n(1)]
    Config,
    /// The upstream named the cost.
    #[n(2)]
    Upstream,
    /// Nobody knows what it cost: it is what the call's budgets held.
    #[n(3)]
    Held,
}

/// Microseconds after `started_at`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema,
)]
#[cbor(map)]
pub struct Timings {
    /// The request left for the upstream.
    #[n(0)]
    pub forwarded_us: Option<u64>,
    /// The response head arrived.
    #[n(1)]
    pub head_us: Option<u64>,
    /// The first byte of the response body arrived.
    #[n(2)]
    pub first_chunk_us: Option<u64>,
    /// The call ended.
    #[n(3)]
    pub total_us: u64,
}

/// One chunk of a response: microseconds after the previous one (the first: after the head), and
/// its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ChunkMark {
    #[n(0)]
    pub gap_us: u32,
    #[n(1)]
    pub len: u32,
}
