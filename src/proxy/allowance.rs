//! What a call may spend: before it goes anywhere it holds what it needs of every budget it counts
//! against, waits for others where only they are in the way, or is refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use tokio::time::Instant;

use super::Proxy;
use super::receive::Received;
use super::request_body::ReceivedBody;
use super::respond::{Fault, Refused, Unavailability};
use crate::budgets::runs::Enlisted;
use crate::budgets::{Ask, Claim, Granted, Hold, Refusal};
use crate::core::budget::decide::{Need, Tariff};
use crate::core::call::Operation;
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::price::Quantities;
use crate::core::usage::Provenance;
use crate::wire::output_limit;
use crate::wire::route::Route;

/// The most output of a model of which nothing is known.
const MOST_OUTPUT: u64 = 131_072;
/// Context of an earlier response that nothing is known of.
const UNKNOWN_CONTEXT: u64 = 131_072;
/// How long a client is made to wait that does not say how long it would.
const PATIENCE: Duration = Duration::from_secs(30);
const MOST_PATIENCE: Duration = Duration::from_secs(300);
/// What is counted for another tokenizer than the model's may be too little by a tenth.
const SAFETY_PART: u64 = 10;
const SAFETY: u64 = 16;

/// A call that may go on, and on which terms.
pub(super) struct Allowance {
    pub(super) hold: Hold,
    pub(super) enlisted: Enlisted,
    /// The request with a lower output limit.
    pub(super) lowered: Option<Bytes>,
    pub(super) claim: Claim,
    pub(super) traits: Option<Traits>,
}

/// What a call has in common with others, where budgets are about it.
#[derive(Clone, Copy)]
pub(super) struct Traits {
    /// With those that are likely to use as much.
    pub(super) kind: Digest,
    /// With repetitions of it; none where its body is not known.
    pub(super) identity: Option<Digest>,
}

/// What a client is told about a decision.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// `warn`, `slow`, `clamp`.
    pub(super) words: Vec<&'static str>,
    pub(super) reasons: Vec<String>,
    pub(super) left_nano_usd: Option<i64>,
    pub(super) left_tokens: Option<i64>,
}

impl Decision {
    fn add(&mut self, word: &'static str, reason: String) {
        if !self.words.contains(&word) {
            self.words.push(word);
        }
        self.reasons.push(reason);
    }
}

impl Received {
    /// Holds what the call needs, after any wait and delay.
    pub(super) async fn allow(
        &self,
        proxy: &Proxy,
        decision: &mut Decision,
    ) -> Result<Allowance, Fault> {
        let model = self.model();
        let key = || Label::parse(&self.key?.to_string()).ok();
        let key = if proxy.budgets.has_rules() {
            key()
        } else {
            None
        };
        let ask = Ask {
            attribution: &self.attribution,
            key: key.as_ref(),
            model: model.as_ref(),
            upstream: &self.upstream.config().name,
            operation: self.route.operation,
            tightened: self.tightened,
        };
        let claim = proxy.budgets.claim(&ask).await.map_err(|error| {
            tracing::error!("{error}");
            Fault::Unavailable(Unavailability::Ledger)
        })?;
        let refused = |refusal| self.refused(proxy, Arc::new(refusal));
        let enlisted = proxy.budgets.enlist(&claim);
        let patience = Patience::of(&self.headers);
        let entered = proxy.budgets.enter(&claim, patience.left()).await;
        entered.map_err(refused)?;
        let mut allowance = Allowance {
            hold: Hold::nothing(),
            enlisted,
            lowered: None,
            claim,
            traits: None,
        };
        if allowance.claim.is_free() {
            return Ok(allowance);
        }
        allowance.traits = Some(Traits {
            kind: self.kind(proxy, model.as_ref()),
            identity: self.identity(proxy),
        });
        let stopped = allowance.enlisted.stopped();
        let granted = tokio::select! {
            biased;
            why = stopped => return Err(self.refused(proxy, why)),
            granted = self.hold(proxy, (&mut allowance, &ask), patience, decision) => granted.map_err(refused)?,
        };
        self.delay(proxy, &granted, patience, decision, &allowance)
            .await?;
        allowance.hold = granted.hold;
        Ok(allowance)
    }

    pub(super) fn refused(&self, proxy: &Proxy, refusal: Arc<Refusal>) -> Fault {
        Fault::Refused(Refused {
            refusal,
            dialect: self.route.dialect,
            at: proxy.clock.now(),
        })
    }

    /// Holds the worst case or a share of what is left, and lowers the request's output limit to
    /// what is held. Where that cannot be done, only the worst case will do.
    async fn hold(
        &self,
        proxy: &Proxy,
        (allowance, ask): (&mut Allowance, &Ask<'_>),
        patience: Patience,
        decision: &mut Decision,
    ) -> Result<Granted, Refusal> {
        let mut need = self.need(proxy, allowance);
        if need.tariff.is_none() && allowance.claim.counts_usd() {
            let model = self.model();
            let model = model.as_ref().map_or("(none)", Label::as_str);
            proxy.budgets.tell_unpriced(model);
            decision.add("warn", format!("the price of {model:?} is not known"));
        }
        loop {
            let exact = async || {
                proxy.accountant.catch_up().await;
                self.counted(proxy, need).await
            };
            let budgets = &proxy.budgets;
            let granted = budgets
                .hold((&mut allowance.claim, ask), &need, exact, patience.left())
                .await?;
            if !granted.hold.is_clamped() {
                return Ok(granted);
            }
            allowance.lowered = self.lowered(granted.hold.output_tokens());
            if allowance.lowered.is_some() {
                return Ok(granted);
            }
            need.is_clampable = false;
        }
    }

    fn lowered(&self, output_tokens: i64) -> Option<Bytes> {
        let ReceivedBody::Read(body) = &self.body else {
            return None;
        };
        let facts = &self.facts;
        let each = u64::try_from(output_tokens).unwrap_or(0) / facts.choices.max(1);
        output_limit::lower(&self.route, body, facts, each).map(Bytes::from)
    }

    async fn delay(
        &self,
        proxy: &Proxy,
        granted: &Granted,
        patience: Patience,
        decision: &mut Decision,
        allowance: &Allowance,
    ) -> Result<(), Fault> {
        if let Some(standing) = &granted.warning {
            let part = standing.seat().used_permille() / 10;
            let rule = &standing.rule.name;
            decision.add("warn", format!("budget \"{rule}\" is used to {part} %"));
        }
        if granted.hold.is_clamped() {
            let most = granted.hold.output_tokens();
            decision.add("clamp", format!("the output limit is {most} tokens"));
        }
        decision.left_nano_usd = granted.left_nano_usd;
        decision.left_tokens = granted.left_tokens;
        let delay = granted.delay.min(patience.left());
        let wait = granted.waited.saturating_add(delay);
        if wait.is_zero() {
            return Ok(());
        }
        decision.add("slow", format!("made to wait for {} ms", wait.as_millis()));
        proxy.metrics.call_slowed(wait);
        tracing::info!(
            agent = %self.attribution.agent,
            waited_ms = granted.waited.as_millis(),
            delay_ms = delay.as_millis(),
            "a call is slowed by its budgets"
        );
        tokio::select! {
            biased;
            why = allowance.enlisted.stopped() => Err(self.refused(proxy, why)),
            () = tokio::time::sleep(delay) => Ok(()),
        }
    }

    fn kind(&self, proxy: &Proxy, model: Option<&Label>) -> Digest {
        let operation: &'static str = self.route.operation.into();
        let model = model.map_or("", Label::as_str);
        let kind = [self.attribution.agent.as_str(), model, operation].join("\0");
        proxy.ledger.seed().digest(kind.as_bytes())
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

    /// An upper bound of what the call needs, quickly.
    fn need(&self, proxy: &Proxy, allowance: &Allowance) -> Need {
        let model = self.model();
        let name = model.as_ref().map_or("", Label::as_str);
        let input = match &self.body {
            ReceivedBody::Read(body) => proxy.counter.upper_bound(name, body.len(), &self.facts),
            ReceivedBody::Unread { .. } => content_length(&self.headers),
        };
        let (budgets, traits) = (&proxy.budgets, allowance.traits);
        let generates = generates(self.route.operation) && !self.route.fetch;
        let most = if generates { self.most_output(name) } else { 0 };
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let identity = traits.and_then(|traits| traits.identity);
        let failed = |identity| budgets.recent.take_failed(identity, proxy.clock.now());
        let repeated = self.retry > 0 && identity.is_some_and(failed);
        let mut need = Need {
            most_output: most,
            usual_output: traits.map_or(most, |it| budgets.usual.output(it.kind).min(most)),
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
    async fn counted(&self, proxy: &Proxy, bound: Need) -> Need {
        let ReceivedBody::Read(body) = &self.body else {
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
        let body_len = match &self.body {
            ReceivedBody::Read(body) => body.len() as u64,
            ReceivedBody::Unread { .. } => 0,
        };
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
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

/// How long a client may be made to wait in all: half of what it would, at most.
#[derive(Clone, Copy)]
struct Patience {
    until: Instant,
}

impl Patience {
    fn of(headers: &HeaderMap) -> Self {
        let said = headers
            .get(super::headers::READ_TIMEOUT)
            .and_then(|value| value.to_str().ok()?.parse::<f64>().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds / 2.0).ok());
        let patience = said.map_or(PATIENCE, |said| said.min(MOST_PATIENCE));
        Self {
            until: Instant::now() + patience,
        }
    }

    fn left(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}
