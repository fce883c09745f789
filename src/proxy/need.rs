//! What a call is going to need of its budgets, as far as can be known before it is made.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};

use super::Proxy;
use super::receive::Received;
use super::request_body::ReceivedBody;
use crate::budgets::{Ask, Budgets};
use crate::core::budget::decide::{Need, Tariff};
use crate::core::call::Operation;
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::price::Quantities;
use crate::core::time::Timestamp;
use crate::core::usage::Provenance;
use crate::wire::scan::SegmentKind;

/// The most output of a model of which nothing is known.
const MOST_OUTPUT: u64 = 131_072;
/// Context of an earlier response that nothing is known of.
const UNKNOWN_CONTEXT: u64 = 131_072;
/// What a tool that the upstream runs by itself puts into the prompt, and how often it searches.
const HOSTED_TOOL_INPUT: u64 = 16_384;
const HOSTED_SEARCHES: u64 = 4;
/// Tokens of the largest image that is made, and of one that comes as an upload.
const IMAGE_OUTPUT: u64 = 8_192;
const IMAGE_INPUT: u64 = 8_192;
/// Tokens of speech for a byte of text, of sound for a second of it, of what was said at most.
const SPEECH_TOKENS_PER_BYTE: u64 = 3;
const SOUND_TOKENS_PER_SECOND: u64 = 17;
const TRANSCRIPT_OUTPUT: u64 = 2_000;
/// Sound that is compressed as speech mostly is.
const SOUND_BYTES_PER_SECOND: u64 = 8_000;
/// What goes through a tunnel is not metered: each way counts as so many tokens.
const TUNNEL_TOKENS: u64 = 4_096;
/// What is counted for another tokenizer than the model's may be too little by a tenth.
const SAFETY_PART: u64 = 10;
const SAFETY: u64 = 16;

/// What a call has in common with others, where budgets are about it.
#[derive(Clone, Copy)]
pub(super) struct Traits {
    /// With those that are likely to put out as much.
    pub(super) kind: Digest,
    /// With those that are likely to cost as much, whoever makes them.
    pub(super) price_kind: Digest,
    /// With repetitions of it; none where its body is not known.
    pub(super) identity: Option<Digest>,
}

/// A failure that a call makes good. Given back when the call gets nowhere, for the next attempt.
pub(super) struct Repeated {
    budgets: Arc<Budgets>,
    identity: Digest,
    failed_at: Option<Timestamp>,
}

impl Repeated {
    /// The call goes on.
    pub(super) fn use_up(mut self) {
        self.failed_at = None;
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        if let Some(at) = self.failed_at {
            self.budgets.recent.failed(self.identity, at);
        }
    }
}

impl Received {
    pub(super) fn traits(&self, proxy: &Proxy, ask: &Ask<'_>) -> Traits {
        Traits {
            kind: proxy.budgets.kind(ask),
            price_kind: proxy.budgets.price_kind(ask),
            identity: self.identity(proxy),
        }
    }

    fn identity(&self, proxy: &Proxy) -> Option<Digest> {
        if self.facts.segments.is_empty() {
            return None;
        }
        let mut bytes = Vec::with_capacity(16 * self.facts.segments.len() + 64);
        for segment in &self.facts.segments {
            bytes.extend_from_slice(&segment.digest.to_bytes());
        }
        let run = self.attribution.run.as_ref().map_or("", Label::as_str);
        for text in [run, self.attribution.agent.as_str(), &self.target] {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        Some(proxy.ledger.seed().digest(&bytes))
    }

    /// The failure that this call repeats, taken so that no other one repeats it too.
    pub(super) fn repeated(&self, proxy: &Proxy, traits: Option<Traits>) -> Option<Repeated> {
        let identity = traits?.identity.filter(|_| self.retry > 0)?;
        let budgets = Arc::clone(&proxy.budgets);
        let failed_at = budgets.recent.take_failed(identity, proxy.clock.now())?;
        Some(Repeated {
            budgets,
            identity,
            failed_at: Some(failed_at),
        })
    }

    /// An upper bound of what the call needs, quickly.
    pub(super) fn need(&self, proxy: &Proxy, (traits, repeated): (Option<Traits>, bool)) -> Need {
        let model = self.model();
        let name = model.as_ref().map_or("", Label::as_str);
        let input = match self.text() {
            Some(text) => proxy.counter.upper_bound(name, text.len(), &self.facts),
            None => content_length(&self.headers),
        };
        let budgets = &proxy.budgets;
        let generates = self.route.operation.generates() && !self.route.fetch;
        let most = if generates {
            self.most_output(name)
        } else {
            self.media_output()
        };
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let expected = traits.map(|traits| budgets.usual.output(traits.kind));
        let mut need = Need {
            most_output: most,
            usual_output: expected.map_or(most, |it| it.usual.min(most)),
            ample_output: expected.map_or(most, |it| it.ample.min(most)),
            is_clampable: generates && self.is_editable(),
            calls: i64::from(!repeated),
            ..Need::default()
        };
        self.price(&mut need, input.saturating_add(self.context(proxy)));
        if !generates && let (Some(tariff), Some(traits)) = (&mut need.tariff, traits) {
            // What it costs does not follow from what is asked: what such calls usually cost.
            let usual = NanoUsd::new(budgets.usual.cost(traits.price_kind));
            tariff.before_output = tariff.before_output.max(usual);
        }
        need
    }

    /// The same with its input counted exactly. Counting a long text takes a while.
    pub(super) async fn counted(&self, proxy: &Proxy, bound: Need) -> Need {
        let Some(body) = self.text() else {
            return bound;
        };
        let (counter, facts) = (Arc::clone(&proxy.counter), Arc::clone(&self.facts));
        let (operation, body) = (self.route.operation, body.clone());
        let model = self.model();
        let count = move || {
            let name = model.as_ref().map_or("", Label::as_str);
            counter.count_prompt(operation, name, &body, &facts)
        };
        let Ok(counted) = tokio::task::spawn_blocking(count).await else {
            return bound;
        };
        let input = match counted.provenance {
            Provenance::Estimated => counted.tokens + counted.tokens / SAFETY_PART + SAFETY,
            _ => counted.tokens,
        };
        let mut need = bound;
        self.price(&mut need, input.saturating_add(self.context(proxy)));
        need
    }

    /// Whether the bytes of the request bound its tokens.
    pub(super) fn is_bounded(&self) -> bool {
        let mut segments = self.facts.segments.iter();
        segments.all(|it| it.payloads == 0 && it.unseen == 0)
    }

    fn price(&self, need: &mut Need, input: u64) {
        let searches = self.hosted_tools().min(1) * HOSTED_SEARCHES;
        let tokens = match self.route.operation {
            _ if self.route.fetch => 0,
            it if it.is_counted() => input + self.hosted_tools() * HOSTED_TOOL_INPUT,
            Operation::Image | Operation::Speech => self.media_input(input),
            Operation::Transcription | Operation::Translation => {
                self.seconds() * SOUND_TOKENS_PER_SECOND
            }
            Operation::WebSocket => TUNNEL_TOKENS,
            _ => 0,
        };
        need.input_tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        let is = |operation| u64::from(self.route.operation == operation);
        let quantities = Quantities {
            input_tokens: tokens,
            characters: is(Operation::Speech) * self.text_bytes(),
            images: is(Operation::Image) * self.facts.choices.max(1),
            seconds: self.seconds(),
            web_searches: searches,
            service_tier: self.facts.service_tier.as_deref(),
        };
        let model = self.model();
        let seller = self.upstream.authority().host();
        need.tariff = match (&model, self.route.operation) {
            (_, Operation::Other | Operation::Batch) => Some(Tariff::default()),
            // What goes through a tunnel is not metered: its price is not known.
            (_, Operation::WebSocket) => None,
            _ if self.route.fetch => Some(Tariff::default()),
            (Some(model), _) => {
                let prices = &self.live.prices;
                prices.quote(Some(seller), model.as_str(), &quantities)
            }
            (None, _) => None,
        };
        let fallback = &self.live.config.accounting.fallback_price;
        need.fallback = Tariff::of(fallback.input, fallback.output, need.input_tokens);
    }

    /// Tokens of what the upstream remembers and puts before this request.
    fn context(&self, proxy: &Proxy) -> u64 {
        let named = [&self.facts.previous_response_id, &self.facts.conversation];
        let Some(id) = named.into_iter().flatten().next() else {
            return 0;
        };
        let id = proxy.ledger.seed().digest(id.as_bytes());
        proxy.budgets.recent.context(id).unwrap_or_else(|| {
            let model = self.model();
            let name = model.as_ref().map_or("", Label::as_str);
            let seller = self.upstream.authority().host();
            let most = self.live.prices.context(Some(seller), name);
            most.unwrap_or(UNKNOWN_CONTEXT).min(UNKNOWN_CONTEXT)
        })
    }

    /// Tools that the upstream runs by itself.
    fn hosted_tools(&self) -> u64 {
        let segments = self.facts.segments.iter();
        let tools = segments.filter(|it| it.kind == SegmentKind::Tools);
        tools.map(|it| u64::from(it.unseen)).sum()
    }

    fn text_bytes(&self) -> u64 {
        let segments = self.facts.segments.iter();
        segments.map(|it| it.range.len() as u64).sum()
    }

    /// Of sound that is to be written down, by its size.
    fn seconds(&self) -> u64 {
        match self.route.operation {
            Operation::Transcription | Operation::Translation => {
                content_length(&self.headers) / SOUND_BYTES_PER_SECOND + 1
            }
            _ => 0,
        }
    }

    /// An upload is no text of as many tokens as it has bytes.
    fn media_input(&self, input: u64) -> u64 {
        match &self.body {
            ReceivedBody::Read(_) => input,
            ReceivedBody::Unread { .. } => IMAGE_INPUT,
        }
    }

    /// The most output of what is not made of text.
    fn media_output(&self) -> u64 {
        match self.route.operation {
            Operation::Image => IMAGE_OUTPUT.saturating_mul(self.facts.choices.max(1)),
            Operation::Speech => self.text_bytes() * SPEECH_TOKENS_PER_BYTE,
            Operation::Transcription | Operation::Translation => TRANSCRIPT_OUTPUT,
            Operation::WebSocket => TUNNEL_TOKENS,
            _ => 0,
        }
    }

    fn most_output(&self, model: &str) -> u64 {
        let seller = self.upstream.authority().host();
        let by_model = || {
            let most = self.live.prices.max_output(Some(seller), model);
            let most = most.unwrap_or(MOST_OUTPUT);
            most.saturating_mul(self.facts.choices.max(1))
        };
        self.facts.output_limit.unwrap_or_else(by_model)
    }

    /// The request can be changed: its body is known, and nothing vouches for its bytes.
    fn is_editable(&self) -> bool {
        matches!(self.body, ReceivedBody::Read(_))
            && self.facts.readable
            && self.trailers.is_none()
            && !self.headers.contains_key(CONTENT_ENCODING)
    }
}

fn content_length(headers: &HeaderMap) -> u64 {
    headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}
