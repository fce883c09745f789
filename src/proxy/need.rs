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
use crate::wire::route::Route;

/// The most output of a model of which nothing is known.
const MOST_OUTPUT: u64 = 131_072;
/// Context of an earlier response that nothing is known of.
const UNKNOWN_CONTEXT: u64 = 131_072;
/// What is counted for another tokenizer than the model's may be too little by a tenth.
const SAFETY_PART: u64 = 10;
const SAFETY: u64 = 16;

/// What a call has in common with others, where budgets are about it.
#[derive(Clone, Copy)]
pub(super) struct Traits {
    /// With those that are likely to use as much.
    pub(super) kind: Digest,
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
        let generates = generates(self.route.operation) && !self.route.fetch;
        let most = if generates { self.most_output(name) } else { 0 };
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
            let usual = NanoUsd::new(budgets.usual.cost(traits.kind));
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

    fn price(&self, need: &mut Need, input: u64) {
        let tokens = if counts_tokens(&self.route) { input } else { 0 };
        need.input_tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        let body_len = self.text().map_or(0, |text| text.len() as u64);
        let quantities = Quantities {
            input_tokens: tokens,
            characters: if self.route.operation == Operation::Speech {
                body_len
            } else {
                0
            },
            images: u64::from(self.route.operation == Operation::Image) * self.facts.choices.max(1),
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

/// What is fetched was paid for by the call that made it.
fn counts_tokens(route: &Route) -> bool {
    !route.fetch && (generates(route.operation) || route.operation == Operation::Embeddings)
}

/// Operations whose answer is made of tokens that can be limited.
fn generates(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Chat
            | Operation::TextCompletion
            | Operation::Responses
            | Operation::Messages
            | Operation::GenerateContent
    )
}

fn content_length(headers: &HeaderMap) -> u64 {
    headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}
