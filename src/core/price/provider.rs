//! Who sells a model, told by the host of an upstream or the prefix of a model id.

use serde::Deserialize;

/// The sellers the price table knows. Makers of models come before those who host them: a model
/// of an unknown seller has the price of the first that lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    OpenAi,
    Anthropic,
    Google,
    Xai,
    Deepseek,
    Moonshot,
    Zai,
    Minimax,
    Cohere,
    Perplexity,
    Voyage,
    Mistral,
    Dashscope,
    Azure,
    Bedrock,
    Groq,
    Cerebras,
    Together,
    Fireworks,
}

/// Hosts by suffix. A suffix matches whole labels only.
const HOSTS: &[(&str, Provider)] = &[
    ("api.openai.com", Provider::OpenAi),
    ("openai.azure.com", Provider::Azure),
    ("services.ai.azure.com", Provider::Azure),
    ("cognitiveservices.azure.com", Provider::Azure),
    ("anthropic.com", Provider::Anthropic),
    ("googleapis.com", Provider::Google),
    ("x.ai", Provider::Xai),
    ("deepseek.com", Provider::Deepseek),
    ("moonshot.ai", Provider::Moonshot),
    ("moonshot.cn", Provider::Moonshot),
    ("z.ai", Provider::Zai),
    ("bigmodel.cn", Provider::Zai),
    ("minimax.io", Provider::Minimax),
    ("minimax.chat", Provider::Minimax),
    ("minimaxi.com", Provider::Minimax),
    ("cohere.com", Provider::Cohere),
    ("cohere.ai", Provider::Cohere),
    ("perplexity.ai", Provider::Perplexity),
    ("voyageai.com", Provider::Voyage),
    ("mistral.ai", Provider::Mistral),
    ("aliyuncs.com", Provider::Dashscope),
    ("api.groq.com", Provider::Groq),
    ("cerebras.ai", Provider::Cerebras),
    ("together.xyz", Provider::Together),
    ("together.ai", Provider::Together),
    ("fireworks.ai", Provider::Fireworks),
];

/// The seller behind a host name, with or without a port.
pub fn provider_of(host: &str) -> Option<Provider> {
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, _)| name)
        .to_ascii_lowercase();
    HOSTS.iter().find_map(|(suffix, provider)| {
        let before = name.strip_suffix(suffix)?;
        (before.is_empty() || before.ends_with('.')).then_some(*provider)
    })
}

impl Provider {
    pub(super) const ALL: [Self; 19] = [
        Self::OpenAi,
        Self::Anthropic,
        Self::Google,
        Self::Xai,
        Self::Deepseek,
        Self::Moonshot,
        Self::Zai,
        Self::Minimax,
        Self::Cohere,
        Self::Perplexity,
        Self::Voyage,
        Self::Mistral,
        Self::Dashscope,
        Self::Azure,
        Self::Bedrock,
        Self::Groq,
        Self::Cerebras,
        Self::Together,
        Self::Fireworks,
    ];

    /// Reads the name of a seller as it appears in configs and before the slash of a model id.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "openai" => Self::OpenAi,
            "azure" | "azure_ai" => Self::Azure,
            "bedrock" => Self::Bedrock,
            "anthropic" => Self::Anthropic,
            "google" | "gemini" | "vertex_ai" => Self::Google,
            "xai" | "x-ai" => Self::Xai,
            "deepseek" | "deepseek-ai" => Self::Deepseek,
            "moonshot" | "moonshotai" => Self::Moonshot,
            "zai" | "z-ai" | "zai-org" => Self::Zai,
            "minimax" | "minimaxai" => Self::Minimax,
            "cohere" => Self::Cohere,
            "perplexity" => Self::Perplexity,
            "voyage" => Self::Voyage,
            "mistral" | "mistralai" => Self::Mistral,
            "dashscope" | "qwen" | "alibaba" => Self::Dashscope,
            "groq" => Self::Groq,
            "cerebras" => Self::Cerebras,
            "together" | "together_ai" => Self::Together,
            "fireworks" | "fireworks_ai" => Self::Fireworks,
            _ => return None,
        })
    }
}
