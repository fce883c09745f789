//! One reading of usage for every dialect.
//!
//! All usage objects are read by one list of names, and reports of one call are laid over each
//! other field by field: each one is cumulative, so the latest value of a field is the right one
//! and nothing is ever summed. What the dialects mean differently is put right at the end.

use super::decimal;
use crate::core::money::NanoUsd;
use crate::core::usage::Usage;
use crate::wire::fields::Fields;
use crate::wire::route::Dialect;

/// What has been reported so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Everything but the totals.
    usage: Usage,
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    /// Anthropic: the input is reported without what was read from and written to the cache.
    input_excludes_cache: bool,
    seen: bool,
    pub(super) cost: Option<NanoUsd>,
}

impl Tally {
    /// Lays a usage object over what is known.
    pub(super) fn report(&mut self, usage: &Fields<'_>) {
        if usage.is_empty() {
            return;
        }
        self.seen = true;
        let input = first(
            usage,
            &["prompt_tokens", "input_tokens", "prompt_eval_count"],
        );
        let output = first(usage, &["completion_tokens", "output_tokens", "eval_count"]);
        self.totals(input, output, usage.count("total_tokens"));
        self.caches(usage);
        for name in [
            "prompt_tokens_details",
            "input_tokens_details",
            "input_token_details",
        ] {
            if let Some(details) = usage.object(name) {
                self.input_details(&details);
            }
        }
        for name in [
            "completion_tokens_details",
            "output_tokens_details",
            "output_token_details",
        ] {
            if let Some(details) = usage.object(name) {
                self.output_details(&details);
            }
        }
        self.by_piece(usage);
        self.cost = reported_cost(usage).or(self.cost);
    }

    /// `usageMetadata` of Gemini.
    pub(super) fn report_gemini(&mut self, usage: &Fields<'_>) {
        self.seen = true;
        let prompt = usage.count("promptTokenCount");
        let tool_use = usage.count("toolUsePromptTokenCount");
        let candidates = first(usage, &["candidatesTokenCount", "responseTokenCount"]);
        let thoughts = usage.count("thoughtsTokenCount");
        let total = usage.count("totalTokenCount");
        self.totals(sum(prompt, tool_use), sum(candidates, thoughts), total);
        let known = &mut self.usage;
        keep(
            &mut known.cache_read_input_tokens,
            usage.count("cachedContentTokenCount"),
        );
        keep(&mut known.reasoning_output_tokens, thoughts);
        let input = modalities(usage, &["promptTokensDetails"]);
        keep(&mut known.audio_input_tokens, input.audio);
        keep(&mut known.image_input_tokens, input.image);
        let output = modalities(usage, &["candidatesTokensDetails", "responseTokensDetails"]);
        keep(&mut known.audio_output_tokens, output.audio);
        keep(&mut known.image_output_tokens, output.image);
    }

    /// What llama.cpp says of its work beside or instead of usage.
    pub(super) fn report_timings(&mut self, timings: &Fields<'_>) {
        self.seen = true;
        let cached = timings.count("cache_n");
        self.totals(
            sum(timings.count("prompt_n"), cached),
            timings.count("predicted_n"),
            None,
        );
        keep(&mut self.usage.cache_read_input_tokens, cached);
    }

    /// The native completion of llama.cpp.
    pub(super) fn report_llama(&mut self, body: &Fields<'_>) {
        self.seen = true;
        self.totals(
            body.count("tokens_evaluated"),
            body.count("tokens_predicted"),
            None,
        );
    }

    pub(super) fn report_audio_seconds(&mut self, seconds: &str) {
        let ms = decimal::scaled(seconds, 3).and_then(|ms| u64::try_from(ms).ok());
        self.seen |= ms.is_some();
        keep(&mut self.usage.audio_input_ms, ms);
    }

    pub(super) fn report_images(&mut self, images: u64) {
        self.seen = true;
        self.usage.images = images;
    }

    pub(super) fn report_web_searches(&mut self, searches: u64) {
        self.usage.web_searches = searches;
    }

    /// The usage as it is billed; none when nothing was reported.
    pub(super) fn finish(&self, dialect: Dialect) -> Option<Usage> {
        if !self.seen {
            return None;
        }
        let mut usage = self.usage;
        let total = self.total.unwrap_or(0);
        let output = self.output.unwrap_or(0);
        usage.input_tokens = self.input.unwrap_or(total.saturating_sub(output));
        if self.input_excludes_cache {
            let cached = usage
                .cache_read_input_tokens
                .saturating_add(usage.cache_write_input_tokens);
            usage.input_tokens = usage.input_tokens.saturating_add(cached);
        }
        // Some report reasoning outside their output, or only within the total.
        usage.output_tokens = output.max(total.saturating_sub(usage.input_tokens));
        match dialect {
            // No prompt is empty: this server fills in zeros for what it does not know.
            Dialect::Chat | Dialect::Completions | Dialect::Messages
                if usage == Usage::default() =>
            {
                return None;
            }
            Dialect::Images if usage.image_output_tokens == 0 => {
                usage.image_output_tokens = usage.output_tokens;
            }
            Dialect::Speech if usage.audio_output_tokens == 0 => {
                usage.audio_output_tokens = usage.output_tokens;
            }
            _ => {}
        }
        Some(usage)
    }

    /// Whether tokens of any kind were reported.
    pub(super) fn has_tokens(&self) -> bool {
        self.input.or(self.output).or(self.total).is_some()
    }

    fn totals(&mut self, input: Option<u64>, output: Option<u64>, total: Option<u64>) {
        self.input = input.or(self.input);
        self.output = output.or(self.output);
        self.total = total.or(self.total);
    }

    fn caches(&mut self, usage: &Fields<'_>) {
        let lifetimes = usage.object("cache_creation");
        let of = |name| {
            lifetimes
                .as_ref()
                .and_then(|lifetimes| lifetimes.count(name))
        };
        let one_hour = of("ephemeral_1h_input_tokens");
        let written = usage
            .count("cache_creation_input_tokens")
            .or_else(|| sum(of("ephemeral_5m_input_tokens"), one_hour));
        let read = first(usage, &["cache_read_input_tokens"]);
        let has_total = usage.has("prompt_tokens") || usage.has("total_tokens");
        self.input_excludes_cache |= !has_total && (read.is_some() || written.is_some());
        let read = read.or_else(|| first(usage, &["prompt_cache_hit_tokens", "cached_tokens"]));
        keep(&mut self.usage.cache_read_input_tokens, read);
        keep(&mut self.usage.cache_write_input_tokens, written);
        keep(&mut self.usage.cache_write_1h_input_tokens, one_hour);
    }

    fn input_details(&mut self, details: &Fields<'_>) {
        let usage = &mut self.usage;
        keep(
            &mut usage.cache_read_input_tokens,
            details.count("cached_tokens"),
        );
        keep(
            &mut usage.cache_write_input_tokens,
            details.count("cache_write_tokens"),
        );
        if let Some(lifetimes) = details.object("cache_write_tokens_details") {
            keep(
                &mut usage.cache_write_12h_input_tokens,
                lifetimes.count("ttl_12h_tokens"),
            );
        }
        keep(&mut usage.audio_input_tokens, details.count("audio_tokens"));
        keep(&mut usage.image_input_tokens, details.count("image_tokens"));
    }

    fn output_details(&mut self, details: &Fields<'_>) {
        let usage = &mut self.usage;
        let reasoning = first(details, &["reasoning_tokens", "thinking_tokens"]);
        keep(&mut usage.reasoning_output_tokens, reasoning);
        keep(
            &mut usage.audio_output_tokens,
            details.count("audio_tokens"),
        );
        keep(
            &mut usage.image_output_tokens,
            details.count("image_tokens"),
        );
    }

    /// What is not billed by token.
    fn by_piece(&mut self, usage: &Fields<'_>) {
        if let Some(tools) = usage.object("server_tool_use") {
            keep(
                &mut self.usage.web_searches,
                tools.count("web_search_requests"),
            );
        }
        let searches = first(usage, &["num_search_queries", "num_sources_used"]);
        keep(&mut self.usage.web_searches, searches);
        if let Some(seconds) = usage.raw("seconds") {
            self.report_audio_seconds(seconds);
        }
    }
}

/// `OpenRouter` names one amount; with a key of the user's own the provider's bill comes on top.
/// Perplexity names a total among its parts.
fn reported_cost(usage: &Fields<'_>) -> Option<NanoUsd> {
    if let Some(parts) = usage.object("cost") {
        return nano_usd(&parts, "total_cost");
    }
    let cost = nano_usd(usage, "cost")?;
    let upstream = usage
        .object("cost_details")
        .filter(|_| usage.is_true("is_byok"));
    let upstream = upstream.and_then(|details| nano_usd(&details, "upstream_inference_cost"));
    Some(cost.saturating_add(upstream.unwrap_or_default()))
}

fn nano_usd(fields: &Fields<'_>, name: &str) -> Option<NanoUsd> {
    decimal::scaled(fields.raw(name)?, 9)
        .filter(|nano| *nano >= 0)
        .map(NanoUsd::new)
}

#[derive(Default)]
struct Modalities {
    audio: Option<u64>,
    image: Option<u64>,
}

fn modalities(usage: &Fields<'_>, names: &[&str]) -> Modalities {
    let mut found = Modalities::default();
    for entry in names.iter().flat_map(|name| usage.objects(name)) {
        match entry.string("modality").as_deref() {
            Some("AUDIO") => found.audio = entry.count("tokenCount"),
            Some("IMAGE") => found.image = entry.count("tokenCount"),
            _ => {}
        }
    }
    found
}

fn keep(slot: &mut u64, newer: Option<u64>) {
    *slot = newer.unwrap_or(*slot);
}

fn first(fields: &Fields<'_>, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| fields.count(name))
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}
