//! From method and path to what a call is.
//!
//! Providers hang the same endpoints under many prefixes (`/v1`, `/openai/v1`, `/api/v1`,
//! `/openai/deployments/<name>`, none), so a path is matched by what follows its prefix. A path
//! that is not known is [`Operation::Other`] and streamed through unread.
//!
//! Servers decode a path, merge its slashes, resolve its dots and pass over the case of its names,
//! some of them this and some of them that. What any of them would take for a call is one.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

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
    let plain = route_of(method, path.split('/').map(decoded));
    if plain.is_made_here() || !path.contains('%') {
        return plain;
    }
    // A slash, too, may be encoded.
    let whole = decoded(path);
    let split = route_of(method, whole.split('/').map(Cow::Borrowed));
    if split.is_made_here() || plain.dialect == Dialect::Other {
        split
    } else {
        plain
    }
}

fn decoded(part: &str) -> Cow<'_, str> {
    percent_decode_str(part).decode_utf8_lossy()
}

fn route_of<'a>(method: &Method, segments: impl Iterator<Item = Cow<'a, str>>) -> Route {
    let segments = without_dots(segments);
    let folded: Vec<String> = segments
        .iter()
        .map(|segment| segment.to_ascii_lowercase())
        .collect();
    let names: Vec<&str> = folded.iter().map(String::as_str).collect();
    let (deployment, start) = prefix(&names);
    let rest = names.get(start..).unwrap_or_default();
    let (path_model, endpoint) = if let Some(endpoint) = model_verb(method, rest) {
        let last = segments.last().and_then(|last| last.rsplit_once(':'));
        (last.map(|(model, _)| model), endpoint)
    } else {
        let deployment = deployment.and_then(|at| segments.get(at));
        (deployment.map(Cow::as_ref), endpoint(method, rest))
    };
    Route {
        operation: endpoint.operation,
        dialect: endpoint.dialect,
        reading: endpoint.reading,
        path_model: path_model.map(str::to_owned),
        fetch: endpoint.fetch,
    }
}

/// The segments that have a name, `.` and `..` resolved.
fn without_dots<'a>(segments: impl Iterator<Item = Cow<'a, str>>) -> Vec<Cow<'a, str>> {
    let mut kept = Vec::new();
    for segment in segments {
        match segment.as_ref() {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    kept
}

impl Route {
    /// A known endpoint that does something, and is not asked for what an earlier call did.
    fn is_made_here(&self) -> bool {
        self.dialect != Dialect::Other && !self.fetch
    }
}

/// Where the deployment stands, and where what follows a deployment or the last version (`v1`,
/// `v1beta`, `v4`) begins.
fn prefix(names: &[&str]) -> (Option<usize>, usize) {
    let deployments = names.iter().position(|name| *name == "deployments");
    if let Some(at) = deployments.filter(|at| at + 1 < names.len()) {
        return (Some(at + 1), at + 2);
    }
    let version = names.iter().rposition(|name| is_version(name));
    let start = version.map_or(0, |at| at + 1);
    let is_openai = names.get(start) == Some(&"openai");
    (None, start + usize::from(is_openai))
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
fn model_verb(method: &Method, rest: &[&str]) -> Option<Endpoint> {
    let [before @ .., last] = rest else {
        return None;
    };
    let (_, verb) = last.rsplit_once(':')?;
    if method != Method::POST || !before.iter().any(|segment| segment.ends_with("odels")) {
        return None;
    }
    match verb {
        "generatecontent" | "streamgeneratecontent" => {
            Some(json(Operation::GenerateContent, Dialect::Gemini))
        }
        "embedcontent" | "batchembedcontents" => Some(json(Operation::Embeddings, Dialect::Gemini)),
        "rawpredict" | "streamrawpredict" if before.contains(&"anthropic") => {
            Some(json(Operation::Messages, Dialect::Messages))
        }
        _ => None,
    }
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

/// Names are in lower case.
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
