//! What is known of one call, as far as a span or a metric may tell it.

use std::borrow::Cow;

use http::Uri;

use super::content::Content;
use crate::config::{Conventions, UpstreamConfig};
use crate::core::call::{Admission, Operation, Outcome, Settlement};
use crate::core::digest::DigestSeed;
use crate::core::id::Label;
use crate::core::price::{Provider, provider_of};
use crate::core::time::Timestamp;
use crate::core::trace::Place;
use crate::ledger::CallDetail;
use crate::wire::parameters::Parameters;
use crate::wire::route::route;

/// One call that ended.
pub(super) struct Facts<'c> {
    pub(super) admission: &'c Admission,
    pub(super) settlement: &'c Settlement,
    /// What its client calls the conversation, else what it was recognised as.
    pub(super) conversation: Option<&'c Label>,
    pub(super) decision: Option<&'c str>,
    pub(super) place: Place,
    /// Where it went; none where the config does not name its upstream any more.
    pub(super) server: Option<Server>,
    pub(super) provider: Cow<'c, str>,
    /// It asked for what came of an earlier call, or that it end.
    pub(super) is_fetch: bool,
    pub(super) parameters: Parameters,
    pub(super) content: Option<Content>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) address: String,
    pub(super) port: u16,
}

impl<'c> Facts<'c> {
    /// None of a call that has not ended, or whose records are gone.
    pub(super) fn of(
        call: &'c CallDetail,
        upstream: Option<&UpstreamConfig>,
        seed: DigestSeed,
    ) -> Option<Self> {
        let records = (call.admission.as_ref()?, call.settlement.as_ref()?);
        Some(Self {
            conversation: call.row.conversation.as_ref(),
            decision: call.row.decision.as_deref(),
            ..Self::of_records(records, upstream, seed)
        })
    }

    pub(super) fn of_records(
        (admission, settlement): (&'c Admission, &'c Settlement),
        upstream: Option<&UpstreamConfig>,
        seed: DigestSeed,
    ) -> Self {
        let url = upstream.map(|it| &it.base_url);
        let context = admission.trace.as_ref();
        let method = admission.method.parse().unwrap_or_default();
        Self {
            conversation: admission.attribution.conversation.as_ref(),
            decision: admission.decision.as_deref(),
            place: Place::of(seed, admission.id, &admission.attribution, context),
            server: url.and_then(server),
            provider: provider(url, admission),
            is_fetch: route(&method, &admission.target).fetch,
            parameters: Parameters::default(),
            content: None,
            admission,
            settlement,
        }
    }

    /// What the conventions call what it did; none where it is nothing that they are about.
    pub(super) fn operation(&self) -> Option<&'static str> {
        Some(match self.admission.operation {
            Operation::Chat | Operation::Responses | Operation::Messages => "chat",
            Operation::TextCompletion => "text_completion",
            Operation::Embeddings => "embeddings",
            Operation::GenerateContent => "generate_content",
            Operation::Speech => "speech",
            Operation::Transcription => "transcription",
            Operation::Translation => "translation",
            Operation::Image => "image",
            Operation::Moderation => "moderation",
            Operation::Batch => "batch",
            Operation::WebSocket | Operation::Other => return None,
        })
    }

    /// The same, by a generation of them: the later one tells apart what fetches an answer.
    pub(super) fn operation_name(&self, conventions: Conventions) -> Option<&'static str> {
        let admission = self.admission;
        let is_response = matches!(admission.operation, Operation::Chat | Operation::Responses);
        let is_fetched = self.is_fetch && is_response && admission.method == "GET";
        match conventions {
            Conventions::GenAi01 if is_fetched => Some("fetch_response"),
            _ => self.operation(),
        }
    }

    pub(super) fn ended_at(&self) -> Timestamp {
        ended_at(self.settlement)
    }

    /// The class of what went wrong; none where nothing did.
    pub(super) fn error_type(&self) -> Option<Cow<'static, str>> {
        let settlement = self.settlement;
        match (settlement.outcome, settlement.status) {
            (Outcome::Completed, _) => None,
            (Outcome::UpstreamError, Some(status)) => Some(status.to_string().into()),
            (Outcome::UpstreamUnavailable, Some(504)) => Some("timeout".into()),
            (outcome, _) => Some(<&'static str>::from(outcome).into()),
        }
    }

    /// Seconds from the request to the first bytes of its answer, for streams.
    pub(super) fn first_chunk(&self) -> Option<f64> {
        let timings = &self.settlement.timings;
        let first = timings.first_chunk_us.filter(|_| self.admission.stream)?;
        Some(seconds(
            first.saturating_sub(timings.forwarded_us.unwrap_or(0)),
        ))
    }

    /// Whether its tokens are its own, and something is known of them.
    pub(super) fn has_usage(&self) -> bool {
        let usage = &self.settlement.usage;
        let is_used = usage.input_tokens > 0 || usage.output_tokens > 0;
        let is_known = is_used || self.settlement.outcome == Outcome::Completed;
        !self.is_fetch && is_known && (is_used || self.admission.operation.is_counted())
    }
}

pub(super) fn ended_at(settlement: &Settlement) -> Timestamp {
    let took = settlement.timings.total_us;
    settlement.started_at.plus_micros(took)
}

pub(super) fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}

fn server(url: &Uri) -> Option<Server> {
    let is_secure = url.scheme_str() == Some("https");
    Some(Server {
        address: url.host()?.trim_matches(['[', ']']).to_owned(),
        port: url.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
    })
}

/// As the conventions call it where they do; else the upstream's name in the config.
fn provider<'c>(url: Option<&Uri>, admission: &'c Admission) -> Cow<'c, str> {
    let host = url.and_then(Uri::host).unwrap_or_default();
    if let Some(known) = named(host) {
        return known.into();
    }
    match admission.operation {
        Operation::Messages => "anthropic".into(),
        Operation::GenerateContent => "gcp.gemini".into(),
        _ => admission.upstream.as_str().into(),
    }
}

fn named(host: &str) -> Option<&'static str> {
    const OTHERS: [(&str, &str); 5] = [
        (".amazonaws.com", "aws.bedrock"),
        (".ml.cloud.ibm.com", "ibm.watsonx.ai"),
        ("aiplatform.googleapis.com", "gcp.vertex_ai"),
        (".services.ai.azure.com", "azure.ai.inference"),
        ("openrouter.ai", "openrouter"),
    ];
    let other = OTHERS.iter().find(|(suffix, _)| host.ends_with(suffix));
    if let Some((_, name)) = other {
        return Some(name);
    }
    Some(match provider_of(host)? {
        Provider::OpenAi => "openai",
        Provider::Anthropic => "anthropic",
        Provider::Google => "gcp.gemini",
        Provider::Xai => "x_ai",
        Provider::Deepseek => "deepseek",
        Provider::Moonshot => "moonshot_ai",
        Provider::Zai => "z_ai",
        Provider::Minimax => "minimax",
        Provider::Cohere => "cohere",
        Provider::Perplexity => "perplexity",
        Provider::Voyage => "voyage",
        Provider::Mistral => "mistral_ai",
        Provider::Dashscope => "dashscope",
        Provider::Azure => "azure.ai.openai",
        Provider::Bedrock => "aws.bedrock",
        Provider::Groq => "groq",
        Provider::Cerebras => "cerebras",
        Provider::Together => "together",
        Provider::Fireworks => "fireworks",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_told_by_their_hosts() {
        for (host, name) in [
            ("api.openai.com", "openai"),
            ("eu.api.openai.com", "openai"),
            ("mine.openai.azure.com", "azure.ai.openai"),
            ("generativelanguage.googleapis.com", "gcp.gemini"),
            ("europe-west1-aiplatform.googleapis.com", "gcp.vertex_ai"),
            ("bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
            ("api.mistral.ai", "mistral_ai"),
        ] {
            assert_eq!(named(host), Some(name), "{host}");
        }
        for host in ["127.0.0.1", "openai.com.evil.test", ""] {
            assert_eq!(named(host), None, "{host}");
        }
    }

    #[test]
    fn the_port_of_a_server_follows_from_its_scheme() {
        let of = |url: &str| server(&url.parse().unwrap()).unwrap();
        assert_eq!(of("https://api.openai.com/v1").port, 443);
        assert_eq!(of("http://[::1]:8000/v1").port, 8000);
        assert_eq!(of("http://[::1]:8000/v1").address, "::1");
    }
}
