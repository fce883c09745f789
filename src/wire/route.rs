//! From method and path to what a call is.
//!
//! Providers hang the same endpoints under many prefixes (`/v1`, `/openai/v1`, `/api/v1`,
//! `/openai/deployments/<name>`, none), so a path is matched by what follows its prefix. A path
//! that is not known is [`Operation::Other`] and streamed through unread.

use http::Method;

use crate::core::call::Operation;

/// The shape of a request and of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    Chat,
    /// Legacy completions: a prompt instead of messages.
    Completions,
    Responses,
    Embeddings,
    /// Anthropic.
    Messages,
    Gemini,
    Images,
    Speech,
    /// Transcriptions and translations of audio.
    Transcription,
    Moderation,
    Batch,
    /// Ollama's own API: one JSON object per line.
    Ollama,
    /// llama.cpp's own API.
    LlamaCpp,
    Other,
}

impl Dialect {
    /// Whether its responses carry text that output tokens can be counted from.
    pub fn generates_text(self) -> bool {
        match self {
            Self::Chat
            | Self::Completions
            | Self::Responses
            | Self::Messages
            | Self::Gemini
            | Self::Transcription
            | Self::Ollama
            | Self::LlamaCpp => true,
            Self::Embeddings
            | Self::Images
            | Self::Speech
            | Self::Moderation
            | Self::Batch
            | Self::Other => false,
        }
    }
}

/// What is done with the request body before it is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// It is JSON, to be read whole.
    Json,
    /// It is streamed through: an upload, or nothing that is known.
    Opaque,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub operation: Operation,
    pub dialect: Dialect,
    pub reading: Reading,
    /// The model or deployment when the path names it.
    pub path_model: Option<String>,
    /// The response is about work of an earlier call, which its usage has to be settled with:
    /// the same response or batch may be fetched many times.
    pub fetch: bool,
}

/// An endpoint before the model of the path is added.
struct Endpoint {
    operation: Operation,
    dialect: Dialect,
    reading: Reading,
    fetch: bool,
}

pub fn route(method: &Method, path: &str) -> Route {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let (deployment, rest) = strip_prefix(&segments);
    let (path_model, endpoint) = match model_verb(method, rest) {
        Some((model, endpoint)) => (Some(model), endpoint),
        None => (deployment, endpoint(method, rest)),
    };
    Route {
        operation: endpoint.operation,
        dialect: endpoint.dialect,
        reading: endpoint.reading,
        path_model: path_model.map(str::to_owned),
        fetch: endpoint.fetch,
    }
}

/// Splits off everything up to a version (`v1`, `v1beta`, `v4`) or a deployment.
fn strip_prefix<'a, 'b>(segments: &'b [&'a str]) -> (Option<&'a str>, &'b [&'a str]) {
    let deployments = segments
        .iter()
        .position(|segment| *segment == "deployments");
    if let Some([_, deployment, rest @ ..]) = deployments.and_then(|at| segments.get(at..)) {
        return (Some(deployment), rest);
    }
    let version = segments.iter().rposition(|segment| is_version(segment));
    let rest = version
        .and_then(|at| segments.get(at + 1..))
        .unwrap_or(segments);
    (None, rest.strip_prefix(&["openai"]).unwrap_or(rest))
}

fn is_version(segment: &str) -> bool {
    let Some(number) = segment.strip_prefix('v') else {
        return false;
    };
    let suffix = number.trim_start_matches(|c: char| c.is_ascii_digit());
    suffix.len() < number.len()
        && (suffix.is_empty() || suffix.starts_with("alpha") || suffix.starts_with("beta"))
}

/// `.../models/<model>:<verb>`, as Gemini and Vertex AI have it.
fn model_verb<'a>(method: &Method, rest: &[&'a str]) -> Option<(&'a str, Endpoint)> {
    let [before @ .., last] = rest else {
        return None;
    };
    let (model, verb) = last.rsplit_once(':')?;
    if method != Method::POST || !before.iter().any(|segment| segment.ends_with("odels")) {
        return None;
    }
    let endpoint = match verb {
        "generateContent" | "streamGenerateContent" => {
            json(Operation::GenerateContent, Dialect::Gemini)
        }
        "embedContent" | "batchEmbedContents" => json(Operation::Embeddings, Dialect::Gemini),
        "rawPredict" | "streamRawPredict" if before.contains(&"anthropic") => {
            json(Operation::Messages, Dialect::Messages)
        }
        _ => return None,
    };
    Some((model, endpoint))
}

fn endpoint(method: &Method, rest: &[&str]) -> Endpoint {
    if method == Method::POST {
        post(rest)
    } else if method == Method::GET {
        get(rest)
    } else {
        other()
    }
}

fn post(rest: &[&str]) -> Endpoint {
    match rest {
        ["chat", "completions", _] => fetch(Operation::Chat, Dialect::Chat),
        ["agents", "completions"] | [.., "chat", "completions"] => {
            json(Operation::Chat, Dialect::Chat)
        }
        ["completions"] | ["fim", "completions"] => {
            json(Operation::TextCompletion, Dialect::Completions)
        }
        ["completion" | "infill"] => json(Operation::TextCompletion, Dialect::LlamaCpp),
        ["responses"] | ["responses", "compact"] => json(Operation::Responses, Dialect::Responses),
        ["responses", _, "cancel"] => fetch(Operation::Responses, Dialect::Responses),
        ["decisions"] => json(Operation::Other, Dialect::Responses),
        ["embeddings"] => json(Operation::Embeddings, Dialect::Embeddings),
        ["messages"] => json(Operation::Messages, Dialect::Messages),
        ["moderations"] => json(Operation::Moderation, Dialect::Moderation),
        ["images", "generations"] => json(Operation::Image, Dialect::Images),
        ["images", "edits" | "variations"] => upload(Operation::Image, Dialect::Images),
        ["audio", "speech"] => json(Operation::Speech, Dialect::Speech),
        ["audio", "transcriptions"] => upload(Operation::Transcription, Dialect::Transcription),
        ["audio", "translations"] => upload(Operation::Translation, Dialect::Transcription),
        ["batches"] => json(Operation::Batch, Dialect::Batch),
        ["batches", _, "cancel"] => fetch(Operation::Batch, Dialect::Batch),
        ["api", "chat"] => json(Operation::Chat, Dialect::Ollama),
        ["api", "generate"] => json(Operation::TextCompletion, Dialect::Ollama),
        ["api", "embed" | "embeddings"] => json(Operation::Embeddings, Dialect::Ollama),
        _ => other(),
    }
}

fn get(rest: &[&str]) -> Endpoint {
    match rest {
        // These two are only ever opened to be upgraded.
        ["responses"] => upload(Operation::WebSocket, Dialect::Responses),
        ["realtime"] => upload(Operation::WebSocket, Dialect::Other),
        ["responses", _] => fetch(Operation::Responses, Dialect::Responses),
        ["chat", "completions", _] => fetch(Operation::Chat, Dialect::Chat),
        ["batches", _] => fetch(Operation::Batch, Dialect::Batch),
        _ => other(),
    }
}

fn json(operation: Operation, dialect: Dialect) -> Endpoint {
    Endpoint {
        operation,
        dialect,
        reading: Reading::Json,
        fetch: false,
    }
}

fn upload(operation: Operation, dialect: Dialect) -> Endpoint {
    Endpoint {
        operation,
        dialect,
        reading: Reading::Opaque,
        fetch: false,
    }
}

fn fetch(operation: Operation, dialect: Dialect) -> Endpoint {
    Endpoint {
        operation,
        dialect,
        reading: Reading::Opaque,
        fetch: true,
    }
}

fn other() -> Endpoint {
    upload(Operation::Other, Dialect::Other)
}

#[cfg(test)]
mod tests;
