//! What calls used, cost and took. Names and buckets of the `gen_ai_*` histograms are those of the
//! OpenTelemetry conventions, written as Prometheus writes them.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::Registration;
use super::bounded::{Bounded, Labels, OTHER};
use super::buckets::{SECONDS, TOKENS};
use crate::core::call::{Outcome, Settlement};
use crate::core::id::Label;
use crate::core::usage::Usage;

/// Distinct values of one label that clients choose; later ones are counted as [`OTHER`].
const MAX_VALUES: usize = 100;

/// What the proxy itself takes: 50 us to 100 ms.
const OVERHEAD_SECONDS: [f64; 11] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1,
];

type Told = (&'static str, &'static str);

const TOKENS_TOLD: Told = (
    "open_aiops_tokens",
    "Tokens used; cache_read and cache_write are part of input, reasoning of output",
);
const COST_TOLD: Told = (
    "open_aiops_cost_nano_usd",
    "Cost of the calls with a known price in 1e-9 USD",
);
const UNPRICED_TOLD: Told = (
    "open_aiops_unpriced_calls",
    "Calls that used something of unknown price",
);
const DURATION_TOLD: Told = (
    "gen_ai_client_operation_duration_seconds",
    "Time from the head of the request to the end of the response",
);
const USAGE_TOLD: Told = (
    "gen_ai_client_token_usage",
    "Input and output tokens of one call",
);
const FIRST_CHUNK_TOLD: Told = (
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "Time from the forwarded request to the first bytes of a streamed response",
);

#[derive(Debug)]
pub(super) struct CallMetrics {
    agents: Bound,
    models: Bound,
    calls: Bounded<CallLabels>,
    tokens: Bounded<TokenLabels>,
    cost: Bounded<SpendLabels>,
    unpriced: Bounded<SpendLabels>,
    duration: Bounded<DurationLabels, Histogram>,
    token_usage: Bounded<TokenUsageLabels, Histogram>,
    first_chunk: Bounded<GenAiLabels, Histogram>,
    overhead: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    operation: &'static str,
    upstream: String,
    model: String,
    agent: String,
    outcome: &'static str,
    status_class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    r#type: &'static str,
    provenance: &'static str,
    upstream: String,
    model: String,
    agent: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SpendLabels {
    upstream: String,
    model: String,
    agent: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(clippy::struct_field_names, reason = "field names are label names")]
struct GenAiLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: String,
    gen_ai_response_model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    #[prometheus(flatten)]
    call: GenAiLabels,
    error_type: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenUsageLabels {
    #[prometheus(flatten)]
    call: GenAiLabels,
    gen_ai_token_type: &'static str,
}

impl Labels for CallLabels {
    fn without_choice(&self) -> Self {
        Self {
            upstream: OTHER.to_owned(),
            model: OTHER.to_owned(),
            agent: OTHER.to_owned(),
            ..*self
        }
    }
}

impl Labels for TokenLabels {
    fn without_choice(&self) -> Self {
        Self {
            upstream: OTHER.to_owned(),
            model: OTHER.to_owned(),
            agent: OTHER.to_owned(),
            ..*self
        }
    }
}

impl Labels for SpendLabels {
    fn without_choice(&self) -> Self {
        Self {
            upstream: OTHER.to_owned(),
            model: OTHER.to_owned(),
            agent: OTHER.to_owned(),
        }
    }
}

impl Labels for GenAiLabels {
    fn without_choice(&self) -> Self {
        Self {
            gen_ai_provider_name: OTHER.to_owned(),
            gen_ai_response_model: OTHER.to_owned(),
            ..*self
        }
    }
}

impl Labels for DurationLabels {
    fn without_choice(&self) -> Self {
        Self {
            call: self.call.without_choice(),
            ..*self
        }
    }
}

impl Labels for TokenUsageLabels {
    fn without_choice(&self) -> Self {
        Self {
            call: self.call.without_choice(),
            ..*self
        }
    }
}

impl CallMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let tokens: fn() -> Histogram = || Histogram::new(TOKENS);
        Self {
            agents: Bound::default(),
            models: Bound::default(),
            calls: Bounded::new(
                to,
                ("open_aiops_calls", "Calls that ended"),
                Counter::default,
            ),
            tokens: Bounded::new(to, TOKENS_TOLD, Counter::default),
            cost: Bounded::new(to, COST_TOLD, Counter::default),
            unpriced: Bounded::new(to, UNPRICED_TOLD, Counter::default),
            duration: Bounded::new(to, DURATION_TOLD, seconds),
            token_usage: Bounded::new(to, USAGE_TOLD, tokens),
            first_chunk: Bounded::new(to, FIRST_CHUNK_TOLD, seconds),
            overhead: to.add(
                "open_aiops_overhead_seconds",
                "Time from the head of the request to its departure for the upstream, the wait \
                 for the client's body included",
                Histogram::new(OVERHEAD_SECONDS),
            ),
        }
    }

    pub(super) fn settled(&self, settlement: &Settlement, stream: bool) {
        let model = settlement
            .model
            .as_ref()
            .map_or("", |model| self.models.admit(model));
        let spend = SpendLabels {
            upstream: settlement.upstream.to_string(),
            model: model.to_owned(),
            agent: self.agents.admit(&settlement.agent).to_owned(),
        };
        self.count_call(settlement, &spend);
        self.count_tokens(settlement, &spend);
        self.count_cost(settlement, &spend);
        self.time_call(settlement, spend, stream);
    }

    fn count_call(&self, settlement: &Settlement, spend: &SpendLabels) {
        let labels = CallLabels {
            operation: settlement.operation.into(),
            upstream: spend.upstream.clone(),
            model: spend.model.clone(),
            agent: spend.agent.clone(),
            outcome: settlement.outcome.into(),
            status_class: status_class(settlement.status),
        };
        self.calls.with(&labels, |calls| {
            calls.inc();
        });
    }

    fn count_tokens(&self, settlement: &Settlement, spend: &SpendLabels) {
        for (r#type, tokens) in by_type(&settlement.usage) {
            if tokens > 0 {
                let labels = TokenLabels {
                    r#type,
                    provenance: settlement.provenance.into(),
                    upstream: spend.upstream.clone(),
                    model: spend.model.clone(),
                    agent: spend.agent.clone(),
                };
                self.tokens.with(&labels, |all| {
                    all.inc_by(tokens);
                });
            }
        }
    }

    fn count_cost(&self, settlement: &Settlement, spend: &SpendLabels) {
        match settlement.cost {
            Some(cost) => {
                let nano = u64::try_from(cost.get()).unwrap_or(0);
                self.cost.with(spend, |cost| {
                    cost.inc_by(nano);
                });
            }
            // What used nothing costs nothing, whatever the price.
            None if settlement.usage == Usage::default() => {}
            None => {
                self.unpriced.with(spend, |calls| {
                    calls.inc();
                });
            }
        }
    }

    fn time_call(&self, settlement: &Settlement, spend: SpendLabels, stream: bool) {
        let timings = &settlement.timings;
        let call = GenAiLabels {
            gen_ai_operation_name: settlement.operation.into(),
            gen_ai_provider_name: spend.upstream,
            gen_ai_response_model: spend.model,
        };
        if let Some(forwarded) = timings.forwarded_us {
            self.overhead.observe(seconds(forwarded));
            if let Some(first) = timings.first_chunk_us.filter(|_| stream) {
                let wait = seconds(first.saturating_sub(forwarded));
                self.first_chunk.with(&call, |waits| waits.observe(wait));
            }
        }
        for (gen_ai_token_type, tokens) in by_type(&settlement.usage).into_iter().take(2) {
            if tokens > 0 {
                let labels = TokenUsageLabels {
                    call: call.clone(),
                    gen_ai_token_type,
                };
                self.token_usage
                    .with(&labels, |usage| usage.observe(as_f64(tokens)));
            }
        }
        let failed = settlement.outcome != Outcome::Completed;
        let labels = DurationLabels {
            call,
            error_type: failed.then(|| settlement.outcome.into()),
        };
        let total = seconds(timings.total_us);
        self.duration
            .with(&labels, |durations| durations.observe(total));
    }
}

/// The first [`MAX_VALUES`] values of a label; the others are one.
#[derive(Debug, Default)]
pub(super) struct Bound(Mutex<HashSet<Label>>);

impl Bound {
    pub(super) fn admit<'a>(&self, value: &'a Label) -> &'a str {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(value) {
            return value.as_str();
        }
        if known.len() < MAX_VALUES {
            known.insert(value.clone());
            return value.as_str();
        }
        OTHER
    }
}

/// `input` and `output` first: the others are parts of them.
fn by_type(usage: &Usage) -> [(&'static str, u64); 5] {
    [
        ("input", usage.input_tokens),
        ("output", usage.output_tokens),
        ("cache_read", usage.cache_read_input_tokens),
        ("cache_write", usage.cache_write_input_tokens),
        ("reasoning", usage.reasoning_output_tokens),
    ]
}

fn status_class(status: Option<u16>) -> &'static str {
    match status.map(|status| status / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        _ => "none",
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

/// Beyond 2^32 the largest bucket is the same.
fn as_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
