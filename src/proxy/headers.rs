//! Header names, and which headers and query values may cross the proxy.
//!
//! What goes upstream is what came in, minus what belongs to one connection, what was meant for us, and
//! the secrets of other proxies. Nothing else is dropped: unknown headers mean something to somebody.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST,
    HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderValue, Method, Version};
use percent_encoding::percent_decode_str;

use super::propagation::Onward;

mod recorded;

pub use recorded::recorded;

/// Every header of our own, both ways, starts like this.
pub const OWN_PREFIX: &str = "x-aiops-";

pub const AGENT: &str = "x-aiops-agent";
pub const CALLER: &str = "x-aiops-caller";
pub const RUN: &str = "x-aiops-run";
/// Another spelling of [`RUN`], in requests only.
pub const RUN_ID: &str = "x-aiops-run-id";
pub const PARENT_RUN: &str = "x-aiops-parent-run";
pub const PATH: &str = "x-aiops-path";
pub const DEPTH: &str = "x-aiops-depth";
pub const USER: &str = "x-aiops-user";
pub const VARIANT: &str = "x-aiops-variant";
pub const RECORD: &str = "x-aiops-record";
pub const UPSTREAM: &str = "x-aiops-upstream";
pub const TAG_PREFIX: &str = "x-aiops-tag-";
pub const METRIC_PREFIX: &str = "x-aiops-metric-";

/// The place of a call in a trace, and what else travels along with that (W3C).
pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";
pub const BAGGAGE: &str = "baggage";

/// What a client allows its run at most, from the first call that says so on.
pub const BUDGET_PREFIX: &str = "x-aiops-budget";
pub const BUDGET_USD: &str = "x-aiops-budget-usd";
pub const BUDGET_TOKENS: &str = "x-aiops-budget-tokens";
pub const BUDGET_CALLS: &str = "x-aiops-budget-calls";

/// Seconds that the client of an `OpenAI` SDK waits for an answer to begin: in Python, in JavaScript.
pub const TIMEOUTS: [&str; 2] = ["x-stainless-read-timeout", "x-stainless-timeout"];

/// On a decision other than plainly letting a call through: what, and why.
pub const DECISION: &str = "x-aiops-decision";
pub const REASON: &str = "x-aiops-reason";
/// What is left of the tightest budget of a call.
pub const REMAINING_USD: &str = "x-aiops-remaining-usd";
pub const REMAINING_TOKENS: &str = "x-aiops-remaining-tokens";
/// When a refused call would fit, as far as time alone makes room.
pub const RESETS_AT: &str = "x-aiops-resets-at";
/// Whether the SDKs of `OpenAI` and Anthropic try again by themselves.
pub const SHOULD_RETRY: &str = "x-should-retry";

/// How sure it is of what of agent, caller, run and conversation nobody said, in percent.
pub const INFERRED: &str = "x-aiops-inferred";

/// Marks a response that we made ourselves, and says what kind of fault it reports.
pub const ERROR: &str = "x-aiops-error";

/// Response headers of our own; a response also carries [`RUN`] and [`AGENT`].
pub const CALL: &str = "x-aiops-call";

static API_KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

const PROTOCOL_KEY_PREFIX: &str = "openai-insecure-api-key.";

/// The query parameter that carries a key in Gemini's API.
const API_KEY_PARAMETER: &str = "key";

/// Headers that concern one connection only; `te` is treated apart, `trailer` announces what
/// the body really carries and stays.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Keys of other gateways: an upstream has no use for them, and should not see them.
static FOREIGN_SECRETS: [HeaderName; 5] = [
    HeaderName::from_static("helicone-auth"),
    HeaderName::from_static("x-portkey-api-key"),
    HeaderName::from_static("x-bf-vk"),
    HeaderName::from_static("x-litellm-api-key"),
    HeaderName::from_static("x-finops-api-key"),
];

/// Query parameters whose values are masked wherever a target is written down.
const SECRET_PARAMETERS: [&str; 18] = [
    API_KEY_PARAMETER,
    "api_key",
    "api-key",
    "apikey",
    "x-api-key",
    "subscription-key",
    "token",
    "access_token",
    "auth_token",
    "id_token",
    "auth",
    "secret",
    "client_secret",
    "password",
    "sig",
    "signature",
    "x-amz-signature",
    "x-amz-security-token",
];

const MASK: &str = "****";

/// How a request goes upstream.
pub struct Upstreamward<'a> {
    pub host: &'a HeaderValue,
    pub key: Key<'a>,
    /// The body is sent in chunks.
    pub chunked: bool,
    /// The connection is to become a WebSocket.
    pub switching: bool,
    /// What is said of the trace in place of what the client said.
    pub trace: Option<&'a Onward>,
}

/// Who pays upstream.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    OfClient,
    /// The upstream's own, in place of the client's.
    Own(&'a HeaderValue),
    None,
}

/// What was done to an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    /// The body was decoded, and is not as long as it was.
    Rewritten,
    /// The connection became a WebSocket.
    Switching,
}

impl Upstreamward<'_> {
    /// The headers of a request as they go upstream: as they came, each in its place, but for
    /// those that do not pass. What the upstream needs and did not come is added: `host` in
    /// front, the rest at the end.
    pub fn headers(&self, from: &HeaderMap) -> HeaderMap {
        let named = named_by_connection(from);
        let mut map = HeaderMap::with_capacity(from.keys_len() + 2);
        if !from.contains_key(HOST) {
            map.insert(HOST, self.host.clone());
        }
        for (name, value) in from {
            match self.passage(name, value, &named) {
                Passage::Gone => {}
                Passage::AsItCame => {
                    map.append(name, value.clone());
                }
                Passage::Rewritten(value) => {
                    map.append(name, value);
                }
                Passage::Replaced(value) => {
                    map.insert(name, value);
                }
            }
        }
        if self.chunked {
            map.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if let Key::Own(own) = self.key {
            map.insert(AUTHORIZATION, own.clone());
        }
        if let Some(trace) = self.trace {
            trace.complete(&mut map);
        }
        map
    }

    fn passage(&self, name: &HeaderName, value: &HeaderValue, named: &[HeaderName]) -> Passage {
        let presents_key = *name == AUTHORIZATION || API_KEY_HEADERS.contains(name);
        match *name {
            HOST => Passage::Replaced(self.host.clone()),
            CONNECTION | UPGRADE if self.switching => Passage::AsItCame,
            TE if accepts_trailers(value) => {
                Passage::Replaced(HeaderValue::from_static("trailers"))
            }
            CONTENT_LENGTH if self.chunked => Passage::Gone,
            // Keeps its place for the one that is put there.
            TRANSFER_ENCODING if self.chunked => Passage::AsItCame,
            _ if presents_key => match self.key {
                Key::OfClient => Passage::AsItCame,
                Key::Own(_) if *name == AUTHORIZATION => Passage::AsItCame,
                Key::Own(_) | Key::None => Passage::Gone,
            },
            _ if is_of_connection(name, named) || stays_here(name) => Passage::Gone,
            _ if self.trace.is_some_and(|it| it.drops(name)) => Passage::Gone,
            SEC_WEBSOCKET_PROTOCOL if !matches!(self.key, Key::OfClient) => {
                without_protocol_key(value)
            }
            _ => Passage::AsItCame,
        }
    }
}

/// What becomes of a header on its way.
enum Passage {
    AsItCame,
    /// This line alone.
    Rewritten(HeaderValue),
    /// All lines of this name, by one.
    Replaced(HeaderValue),
    Gone,
}

/// The headers of a response as they go to the client: as they came, each in its place, but for
/// those that do not pass.
///
/// A length beside a transfer coding is not the body's (RFC 9112, 6.3): kept without the coding, it
/// would cut the body.
pub fn downstreamward(from: &HeaderMap, change: Change) -> HeaderMap {
    let named = named_by_connection(from);
    let rewritten = change == Change::Rewritten;
    let other_length = rewritten || from.contains_key(TRANSFER_ENCODING);
    let mut map = HeaderMap::with_capacity(from.keys_len());
    for (name, value) in from {
        let passes = match *name {
            CONNECTION | UPGRADE if change == Change::Switching => true,
            CONTENT_LENGTH => !other_length,
            CONTENT_ENCODING if rewritten => false,
            _ => !is_of_connection(name, &named),
        };
        if passes {
            map.append(name, value.clone());
        }
    }
    map
}

/// The key a client presents, without the scheme: the same key is the same bytes whichever way
/// it comes.
pub fn credential<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<&'a [u8]> {
    let bearer = headers
        .get(AUTHORIZATION)
        .map(|value| without_scheme(value.as_bytes()));
    let others = API_KEY_HEADERS.iter().filter_map(|name| headers.get(name));
    bearer
        .into_iter()
        .chain(others.map(HeaderValue::as_bytes))
        .chain(query.and_then(key_of_query))
        .map(<[u8]>::trim_ascii)
        .find(|key| !key.is_empty())
}

/// Browsers cannot set headers of a WebSocket: OpenAI takes their key as a subprotocol.
fn without_protocol_key(value: &HeaderValue) -> Passage {
    let protocols = value.to_str().unwrap_or_default().split(',').map(str::trim);
    let (keys, others): (Vec<&str>, Vec<&str>) =
        protocols.partition(|protocol| protocol.starts_with(PROTOCOL_KEY_PREFIX));
    if keys.is_empty() {
        return Passage::AsItCame;
    }
    match HeaderValue::from_str(&others.join(", ")) {
        Ok(value) if !others.is_empty() => Passage::Rewritten(value),
        _ => Passage::Gone,
    }
}

/// A target without the parameter that presents a key.
pub fn without_key(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let other = |pair: &&str| {
        !is_named(
            pair.split('=').next().unwrap_or_default(),
            API_KEY_PARAMETER,
        )
    };
    let rest: Vec<&str> = query.split('&').filter(other).collect();
    if rest.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", rest.join("&"))
    }
}

/// Whether a request asks to become a WebSocket (RFC 6455, 4.1). Other upgrades, such as to h2c,
/// are offers that a proxy does not pass on.
pub fn is_websocket(head: &Parts) -> bool {
    head.version == Version::HTTP_11
        && head.method == Method::GET
        && has_token(&head.headers, &CONNECTION, "upgrade")
        && has_token(&head.headers, &UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// The value of a header as text; none when it is absent or not ASCII.
pub fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// A target fit to be written down: the values of parameters that carry secrets are masked.
pub fn redact_target(path_and_query: &str) -> String {
    let Some((path, query)) = path_and_query.split_once('?') else {
        return path_and_query.to_owned();
    };
    let mut target = String::with_capacity(path_and_query.len());
    target.push_str(path);
    let mut separator = '?';
    for pair in query.split('&') {
        target.push(separator);
        separator = '&';
        match pair.split_once('=') {
            Some((name, value)) if !value.is_empty() && is_secret(name) => {
                target.push_str(name);
                target.push('=');
                target.push_str(MASK);
            }
            _ => target.push_str(pair),
        }
    }
    target
}

fn is_of_connection(name: &HeaderName, named: &[HeaderName]) -> bool {
    *name == TE || HOP_BY_HOP.contains(name) || named.contains(name)
}

/// Meant for us, or none of the upstream's business.
fn stays_here(name: &HeaderName) -> bool {
    *name == EXPECT || name.as_str().starts_with(OWN_PREFIX) || FOREIGN_SECRETS.contains(name)
}

/// The headers that `connection` declares to be its own, except those a sender must not be able
/// to take from the request: whom it is from, whom it is for, what it says about itself.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).into_iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !is_end_to_end(name))
        .collect()
}

fn is_end_to_end(name: &HeaderName) -> bool {
    [AUTHORIZATION, HOST, CONTENT_LENGTH, CONTENT_TYPE].contains(name)
        || API_KEY_HEADERS.contains(name)
        || name.as_str().starts_with(OWN_PREFIX)
}

fn accepts_trailers(te: &HeaderValue) -> bool {
    te.as_bytes()
        .split(|byte| *byte == b',')
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn without_scheme(authorization: &[u8]) -> &[u8] {
    match authorization.split_at_checked(b"bearer ".len()) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => key,
        _ => authorization,
    }
}

fn key_of_query(query: &str) -> Option<&[u8]> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(name, _)| is_named(name, API_KEY_PARAMETER))
        .map(|(_, key)| key.as_bytes())
}

fn is_secret(parameter: &str) -> bool {
    let name = percent_decode_str(parameter).decode_utf8_lossy();
    SECRET_PARAMETERS
        .iter()
        .any(|secret| secret.eq_ignore_ascii_case(&name))
}

/// Whether an encoded parameter has this name to whoever decodes it.
fn is_named(parameter: &str, name: &str) -> bool {
    percent_decode_str(parameter).eq(name.bytes())
}

#[cfg(test)]
mod tests;
