//! Step one: from a request to [`Received`]: read, routed and attributed, nothing decided.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, request};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;

use super::attribution::{Attributed, BodyClaims, Claims, attribute, client};
use super::headers;
use super::respond::{Fault, Rejection};
use super::tags::{self, Tagged};
use super::{Live, Proxy};
use crate::config::{ProxyConfig, RecordLevel};
use crate::core::attribution::Attribution;
use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;
use crate::upstream::Upstream;
use crate::wire::route::{Reading, Route, route};
use crate::wire::scan::RequestFacts;

/// A request whose head, and whose body where it is read at all, has arrived.
pub(super) struct Received {
    pub(super) id: CallId,
    pub(super) started_at: Timestamp,
    pub(super) live: Arc<Live>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) uri: Uri,
    /// The client's key goes upstream: it is meant for it, and the upstream has none of its own.
    pub(super) keeps_key: bool,
    pub(super) route: Route,
    pub(super) attribution: Attribution,
    pub(super) record: RecordLevel,
    pub(super) retry: u32,
    pub(super) method: Method,
    pub(super) version: Version,
    /// Path and query as they go on, tags of the base URL removed.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) client: Option<Label>,
    pub(super) key: Option<Digest>,
    pub(super) body: ReceivedBody,
    /// What came after a body that was read.
    pub(super) trailers: Option<HeaderMap>,
    pub(super) facts: RequestFacts,
    pub(super) upgrade: Option<OnUpgrade>,
}

pub(super) enum ReceivedBody {
    Read(Bytes),
    /// Passed on as it arrives, after what was read of it in vain.
    Unread {
        first: Option<Bytes>,
        rest: Incoming,
    },
}

/// What each answer says about how its call was understood.
pub(super) struct Marks {
    call: CallId,
    run: Option<Label>,
    agent: Label,
    caller: Option<Label>,
}

impl Received {
    pub(super) async fn read(proxy: &Proxy, request: Request<Incoming>) -> Result<Self, Fault> {
        let started_at = proxy.clock.now();
        let live = proxy.live.load_full();
        let (mut head, body) = request.into_parts();
        let whole_target = target(&head)?;
        let known = |name: &str| {
            live.upstreams
                .iter()
                .any(|up| up.config().name.as_str() == name)
        };
        let (path, query) = split_query(&whole_target);
        let tagged = tags::take_tags(path, known);
        let mut route = route(&head.method, tagged.rest);
        let upgrade = head
            .extensions
            .remove::<OnUpgrade>()
            .filter(|_| headers::is_websocket(&head));
        if upgrade.is_some() {
            route.operation = Operation::WebSocket;
            route.reading = Reading::Opaque;
        }
        let mut trailers = None;
        let bounds = &live.config.proxy;
        let body = read_body(&route, &head.headers, body, bounds, &mut trailers).await?;
        let seed = proxy.ledger.seed();
        let facts = match &body {
            ReceivedBody::Read(bytes) => proxy.scanner.scan(route.operation, bytes),
            ReceivedBody::Unread { .. } => RequestFacts::default(),
        };
        let attributed = attribute(&Claims {
            headers: &head.headers,
            tags: &tagged,
            body: body_claims(&facts),
        });
        for _ in &attributed.ignored {
            proxy.metrics.ignored_header();
        }
        let model = route.path_model.as_deref().or(facts.model.as_deref());
        let choice = choose(&live, &attributed, &tagged, model)?;
        let target = with_query(tagged.rest, query);
        let keeps_key = choice.key_allowed && choice.upstream.authorization().is_none();
        let uri = if keeps_key {
            choice.upstream.uri_for(&target)
        } else {
            choice.upstream.uri_for(&headers::without_key(&target))
        };
        Ok(Self {
            id: proxy.clock.call_id(),
            started_at,
            key: key_hash(seed, &head.headers, query),
            client: client(&head.headers),
            record: attributed
                .record
                .map_or(live.config.ledger.record, |claim| {
                    claim.min(live.config.ledger.record)
                }),
            retry: attributed.retry,
            attribution: attributed.attribution,
            upstream: choice.upstream,
            uri: uri.ok_or(Fault::Rejected(Rejection::Target))?,
            keeps_key,
            method: head.method,
            version: head.version,
            headers: head.headers,
            live,
            route,
            target,
            body,
            trailers,
            facts,
            upgrade,
        })
    }

    pub(super) fn marks(&self) -> Marks {
        Marks {
            call: self.id,
            run: self.attribution.run.clone(),
            agent: self.attribution.agent.clone(),
            caller: self.attribution.caller.clone(),
        }
    }

    /// The model asked for: in the path where the dialect puts it there, else in the body.
    pub(super) fn model(&self) -> Option<Label> {
        let name = self
            .route
            .path_model
            .as_deref()
            .or(self.facts.model.as_deref())?;
        Label::parse(name).ok()
    }
}

impl Marks {
    pub(super) fn write(&self, map: &mut HeaderMap) {
        let mut put = |name, text: &str| {
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                map.insert(name, value);
            }
        };
        put(headers::CALL, &self.call.to_string());
        put(headers::AGENT, self.agent.as_str());
        if let Some(run) = &self.run {
            put(headers::RUN, run.as_str());
        }
        if let Some(caller) = &self.caller {
            put(headers::CALLER, caller.as_str());
        }
    }
}

/// Path and query of any request form that names a resource.
fn target(head: &request::Parts) -> Result<String, Fault> {
    if head.method == Method::CONNECT {
        return Err(Fault::Rejected(Rejection::Method));
    }
    match head.uri.path_and_query() {
        Some(target) if target.as_str().starts_with('/') => Ok(target.as_str().to_owned()),
        _ => Err(Fault::Rejected(Rejection::Target)),
    }
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// Reads a body that is to be understood, as far as the bounds allow; leaves the others alone.
async fn read_body(
    route: &Route,
    headers: &HeaderMap,
    body: Incoming,
    bounds: &ProxyConfig,
    trailers: &mut Option<HeaderMap>,
) -> Result<ReceivedBody, Fault> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if length.is_some_and(|length| length > bounds.max_body_bytes) {
        let limit = bounds.max_body_bytes;
        return Err(Fault::Rejected(Rejection::BodyTooLarge { limit }));
    }
    if body.is_end_stream() {
        return Ok(ReceivedBody::Read(Bytes::new()));
    }
    let too_long = length.is_some_and(|length| length > bounds.max_read_bytes as u64);
    if route.reading == Reading::Opaque || too_long {
        return Ok(ReceivedBody::Unread {
            first: None,
            rest: body,
        });
    }
    collect(body, length, bounds, trailers).await
}

async fn collect(
    mut body: Incoming,
    length: Option<u64>,
    bounds: &ProxyConfig,
    trailers: &mut Option<HeaderMap>,
) -> Result<ReceivedBody, Fault> {
    let Some(mut first) = next_chunk(&mut body, bounds.head_timeout, trailers).await? else {
        return Ok(ReceivedBody::Read(Bytes::new()));
    };
    if body.is_end_stream() {
        return within_limit(first.len(), bounds).map(|()| ReceivedBody::Read(first));
    }
    let expected = length
        .and_then(|length| usize::try_from(length).ok())
        .unwrap_or(0);
    let mut whole = BytesMut::with_capacity(expected.max(first.len()));
    loop {
        whole.extend_from_slice(&first);
        within_limit(whole.len(), bounds)?;
        if whole.len() > bounds.max_read_bytes {
            return Ok(ReceivedBody::Unread {
                first: Some(whole.freeze()),
                rest: body,
            });
        }
        first = match next_chunk(&mut body, bounds.head_timeout, trailers).await? {
            Some(chunk) => chunk,
            None => return Ok(ReceivedBody::Read(whole.freeze())),
        };
    }
}

/// A body need not say its length beforehand.
fn within_limit(read: usize, bounds: &ProxyConfig) -> Result<(), Fault> {
    let limit = bounds.max_body_bytes;
    if read as u64 > limit {
        return Err(Fault::Rejected(Rejection::BodyTooLarge { limit }));
    }
    Ok(())
}

async fn next_chunk(
    body: &mut Incoming,
    silence: Duration,
    trailers: &mut Option<HeaderMap>,
) -> Result<Option<Bytes>, Fault> {
    loop {
        let Ok(frame) = tokio::time::timeout(silence, body.frame()).await else {
            return Err(Fault::Rejected(Rejection::BodyStalled { silence }));
        };
        let frame = match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Fault::Rejected(Rejection::BodyIncomplete)),
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => return Ok(Some(data)),
            Err(frame) => *trailers = frame.into_trailers().ok(),
        }
    }
}

fn body_claims(facts: &RequestFacts) -> BodyClaims<'_> {
    BodyClaims {
        user: facts.user.as_deref(),
        safety_identifier: facts.safety_identifier.as_deref(),
        session_id: facts.session_id.as_deref(),
        conversation: facts.conversation.as_deref(),
        prompt_cache_key: facts.prompt_cache_key.as_deref(),
        metadata: Some(&facts.metadata),
    }
}

struct Choice {
    upstream: Arc<Upstream>,
    key_allowed: bool,
}

/// The upstream a client named (header or path), else the first that lists the model, else the
/// default. A client's key is meant for the default upstream and for one it named itself.
fn choose(
    live: &Live,
    attributed: &Attributed,
    tagged: &Tagged<'_>,
    model: Option<&str>,
) -> Result<Choice, Fault> {
    let by_name = |name: &str| {
        live.upstreams
            .iter()
            .find(|up| up.config().name.as_str() == name)
    };
    let named = attributed
        .upstream
        .as_ref()
        .map(Label::as_str)
        .or(tagged.upstream.as_deref());
    if let Some(name) = named {
        let upstream = by_name(name).ok_or_else(|| {
            let known = live
                .upstreams
                .iter()
                .map(|up| up.config().name.to_string())
                .collect();
            Fault::Rejected(Rejection::UnknownUpstream {
                name: name.to_owned(),
                known,
            })
        })?;
        return Ok(Choice {
            upstream: Arc::clone(upstream),
            key_allowed: true,
        });
    }
    let default = live
        .upstreams
        .first()
        .ok_or(Fault::Rejected(Rejection::Target))?;
    let listed = model.and_then(|model| live.upstreams.iter().find(|up| up.serves(model)));
    let upstream = listed.unwrap_or(default);
    let key_allowed = upstream.config().accept_client_key;
    Ok(Choice {
        upstream: Arc::clone(upstream),
        key_allowed,
    })
}

/// The same key gives the same hash within one installation; the key cannot be got back.
fn key_hash(seed: DigestSeed, map: &HeaderMap, query: Option<&str>) -> Option<Digest> {
    let key = headers::credential(map, query)?;
    let mut hasher = blake3::Hasher::new_derive_key("open-aiops 2026 client key");
    hasher.update(&seed.0.to_le_bytes());
    hasher.update(key);
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    Some(Digest::from_bytes(bytes))
}
