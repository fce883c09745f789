//! The metrics of the conventions, by either of their names, and what a call adds to them.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use super::facts::{Facts, seconds};
use super::scope;
use crate::config::Conventions;
use crate::core::usage::Usage;
use crate::metrics::buckets::{SECONDS, TOKENS};

pub(super) struct Instruments {
    tokens: Tokens,
    /// Of what makes tokens.
    duration: Histogram<f64>,
    /// Of all else.
    other_duration: Histogram<f64>,
    first_chunk: Histogram<f64>,
    per_chunk: Histogram<f64>,
}

enum Tokens {
    /// One histogram of both kinds.
    Semconv141(Histogram<u64>),
    GenAi01(Box<GenAiTokens>),
}

type Of = fn(&Usage) -> u64;

struct GenAiTokens {
    /// What was used, its parts after the whole.
    spent: [(Counter<u64>, Of); 5],
    input: Histogram<u64>,
    output: Histogram<u64>,
}

impl Instruments {
    pub(super) fn new(provider: &SdkMeterProvider, conventions: Conventions) -> Self {
        let meter = provider.meter_with_scope(scope::instrumentation());
        let of = match conventions {
            Conventions::Semconv141 => "operation",
            Conventions::GenAi01 => "inference",
        };
        let timed = |name: String, meaning: &'static str| {
            let histogram = meter.f64_histogram(name).with_unit("s");
            histogram
                .with_description(meaning)
                .with_boundaries(SECONDS.to_vec())
                .build()
        };
        Self {
            tokens: match conventions {
                Conventions::Semconv141 => Tokens::Semconv141(tokens(
                    &meter,
                    "gen_ai.client.token.usage",
                    "Number of input and output tokens used.",
                )),
                Conventions::GenAi01 => Tokens::GenAi01(Box::new(GenAiTokens::new(&meter))),
            },
            duration: timed(
                format!("gen_ai.client.{of}.duration"),
                "GenAI operation duration.",
            ),
            other_duration: timed(
                "gen_ai.client.operation.duration".to_owned(),
                "GenAI operation duration.",
            ),
            first_chunk: timed(
                format!("gen_ai.client.{of}.time_to_first_chunk"),
                "Time to receive the first chunk of a streamed response.",
            ),
            per_chunk: timed(
                format!("gen_ai.client.{of}.time_per_output_chunk"),
                "Time per chunk of a streamed response after the first.",
            ),
        }
    }

    /// Counts a call that is an operation of the conventions.
    pub(super) fn record(&self, facts: &Facts<'_>) {
        let Some(operation) = facts.operation() else {
            return;
        };
        if facts.is_fetch {
            return;
        }
        let attributes = attributes(facts, operation);
        let with = |key: &'static str, value: String| {
            let mut all = attributes.clone();
            all.push(KeyValue::new(key, value));
            all
        };
        let timings = &facts.settlement.timings;
        let timed = match facts.error_type() {
            Some(error) => with("error.type", error.into_owned()),
            None => attributes.clone(),
        };
        let is_inference = facts.admission.operation.generates();
        let duration = if is_inference {
            &self.duration
        } else {
            &self.other_duration
        };
        duration.record(seconds(timings.total_us), &timed);
        if facts.has_usage() {
            self.tokens.record(&facts.settlement.usage, &with);
        }
        if let Some(first) = facts.first_chunk() {
            self.first_chunk.record(first, &attributes);
        }
        if facts.admission.stream && is_inference {
            for chunk in facts.settlement.chunks.iter().skip(1) {
                let gap = seconds(chunk.gap_us.into());
                self.per_chunk.record(gap, &attributes);
            }
        }
    }
}

impl Tokens {
    fn record(&self, usage: &Usage, with: &dyn Fn(&'static str, String) -> Vec<KeyValue>) {
        match self {
            Self::Semconv141(histogram) => {
                let of = |kind: &str| with("gen_ai.token.type", kind.to_owned());
                histogram.record(usage.input_tokens, &of("input"));
                histogram.record(usage.output_tokens, &of("output"));
            }
            Self::GenAi01(of) => {
                // Upstreams seldom say of which modality all of their tokens are.
                let attributes = with("gen_ai.token.modality", "unknown".to_owned());
                for (counter, tokens) in &of.spent {
                    counter.add(tokens(usage), &attributes);
                }
                let plain = attributes.split_last().map_or(&[][..], |(_, plain)| plain);
                of.input.record(usage.input_tokens, plain);
                of.output.record(usage.output_tokens, plain);
            }
        }
    }
}

impl GenAiTokens {
    fn new(meter: &Meter) -> Self {
        let spent = |name: &'static str| {
            let counter = meter.u64_counter(format!("gen_ai.client.inference.usage.{name}"));
            counter
                .with_unit("{token}")
                .with_description("Number of tokens used.")
                .build()
        };
        Self {
            spent: [
                (spent("input_tokens"), |of| of.input_tokens),
                (spent("output_tokens"), |of| of.output_tokens),
                (spent("cache_read.input_tokens"), |of| {
                    of.cache_read_input_tokens
                }),
                (spent("cache_write.input_tokens"), |of| {
                    of.cache_write_input_tokens
                }),
                (spent("reasoning.output_tokens"), |of| {
                    of.reasoning_output_tokens
                }),
            ],
            input: tokens(
                meter,
                "gen_ai.client.inference.operation.input_tokens",
                "Input tokens of one operation.",
            ),
            output: tokens(
                meter,
                "gen_ai.client.inference.operation.output_tokens",
                "Output tokens of one operation.",
            ),
        }
    }
}

fn tokens(meter: &Meter, name: &'static str, meaning: &'static str) -> Histogram<u64> {
    let histogram = meter.u64_histogram(name).with_unit("{token}");
    histogram
        .with_description(meaning)
        .with_boundaries(TOKENS.to_vec())
        .build()
}

fn attributes(facts: &Facts<'_>, operation: &'static str) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("gen_ai.operation.name", operation),
        KeyValue::new("gen_ai.provider.name", facts.provider.to_string()),
    ];
    let models = [
        ("gen_ai.request.model", &facts.admission.request_model),
        ("gen_ai.response.model", &facts.settlement.response_model),
    ];
    for (key, model) in models {
        attributes.extend(
            model
                .as_ref()
                .map(|it| KeyValue::new(key, it.as_str().to_owned())),
        );
    }
    if let Some(server) = &facts.server {
        attributes.push(KeyValue::new("server.address", server.address.clone()));
        attributes.push(KeyValue::new("server.port", i64::from(server.port)));
    }
    attributes
}
