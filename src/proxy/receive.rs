//! Step one: from a request to [`Received`]: read, routed and attributed, nothing decided.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::allowance::Decision;
use super::attribution::{Attributed, BodyClaims, Claims, Ignored, URL_BUDGET, attribute, client};
use super::headers;
use super::propagation::{self, Onward};
use super::request_body::{ReceivedBody, RequestContent};
use super::request_text::RequestText;
use super::respond::{Fault, Rejection};
use super::tags::{self, Tagged};
use super::{Live, Proxy};
use crate::config::RecordLevel;
use crate::core::attribution::{Attribution, Confidence};
use crate::core::budget::Limits;
use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::id::{CallId, Label};
use crate::core::money::NanoUsd;
use crate::core::space::Room;
use crate::core::time::Timestamp;
use crate::core::trace::TraceContext;
use crate::loops::recognise::{Request as Unrecognised, Turn};
use crate::upstream::Upstream;
use crate::wire::route::{Reading, Route, route};
use crate::wire::scan::RequestFacts;

/// Why a client's limits are of no use.
const NO_RUN: &str = "x-aiops-budget-* is for a run, and this call names none";

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
    /// What the client allows its run at most.
    pub(super) tightened: Limits,
    /// Why that says less than the client may think.
    pub(super) unusable_budget: Option<&'static str>,
    pub(super) method: Method,
    pub(super) version: Version,
    /// Path and query as they go on, tags of the base URL removed.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) client: Option<Label>,
    pub(super) key: Option<Digest>,
    pub(super) body: ReceivedBody,
    /// What was read instead of a body that came encoded.
    pub(super) decoded: Option<Bytes>,
    /// What came after a body that was read.
    pub(super) trailers: Option<HeaderMap>,
    /// What the body takes of the memory for all running calls.
    pub(super) room: Room,
    pub(super) facts: Arc<RequestFacts>,
    /// Its place in a conversation; none where it has no messages to go by.
    pub(super) turn: Option<Arc<Turn>>,
    pub(super) upgrade: Option<OnUpgrade>,
    /// The trace that its client made it a part of.
    pub(super) trace: Option<TraceContext>,
    /// What the upstream is told of the trace; none where it is told what the client said.
    pub(super) onward: Option<Onward>,
}

/// What each answer says about how its call was understood.
pub(super) struct Marks {
    call: CallId,
    run: Option<Label>,
    agent: Label,
    caller: Option<Label>,
    inferred: Confidence,
    pub(super) decision: Decision,
}

impl Received {
    pub(super) async fn read(proxy: &Proxy, request: Request<Incoming>) -> Result<Self, Fault> {
        let started_at = proxy.clock.now();
        let live = proxy.live.load_full();
        let (mut head, body) = request.into_parts();
        let whole_target = target(&head)?;
        let (path, query) = split_query(&whole_target);
        let tagged = tags::take_tags(path);
        let mut route = route(&head.method, tagged.rest);
        let upgrade = take_upgrade(&mut head);
        if upgrade.is_some() {
            route.operation = Operation::WebSocket;
            route.reading = Reading::Opaque;
        }
        let room = proxy.memory.room();
        let content = RequestContent::read(body, &head.headers, &route, &live.config.proxy, room);
        let RequestContent {
            body,
            trailers,
            mut room,
        } = content.await?;
        let memory = (&mut room, &live.config.proxy);
        let text = RequestText::read(proxy, (&route, &head.headers), &body, memory);
        let RequestText { decoded, facts } = text.await?;
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
        let (uri, keeps_key) = choice.uri(&target)?;
        let most = live.config.ledger.record;
        let record = attributed.record.map_or(most, |claim| claim.min(most));
        let received = Self {
            id: proxy.clock.call_id(),
            started_at,
            trace: propagation::read(&head.headers),
            onward: None,
            key: key_hash(proxy.ledger.seed(), &head.headers, query),
            client: client(&head.headers),
            record,
            retry: attributed.retry,
            unusable_budget: unusable_budget(&attributed),
            tightened: attributed.tightened,
            attribution: attributed.attribution,
            upstream: choice.upstream,
            uri,
            keeps_key,
            method: head.method,
            version: head.version,
            headers: head.headers,
            live,
            route,
            target,
            body,
            decoded,
            trailers,
            room,
            facts: Arc::new(facts),
            turn: None,
            upgrade,
        };
        Ok(received.recognised(proxy))
    }

    /// Finds its place in a conversation, and with that what it does not say of itself.
    fn recognised(mut self, proxy: &Proxy) -> Self {
        let Some(text) = read_text(&self.body, self.decoded.as_ref()) else {
            return self;
        };
        let request = Unrecognised {
            call: self.id,
            operation: self.route.operation,
            facts: &self.facts,
            text,
            seed: proxy.ledger.seed(),
            key: self.key,
            retry: self.retry,
            shows: self.record == RecordLevel::Full,
            now: self.started_at,
        };
        let turn = proxy.loops.recognise(&request, &mut self.attribution);
        self.turn = turn.map(Arc::new);
        if self.attribution.run.is_some() {
            self.unusable_budget = self.unusable_budget.filter(|why| *why != NO_RUN);
        }
        self
    }

    pub(super) fn marks(&self) -> Marks {
        Marks {
            call: self.id,
            run: self.attribution.run.clone(),
            agent: self.attribution.agent.clone(),
            caller: self.attribution.caller.clone(),
            inferred: self.attribution.inferred,
            decision: Decision::default(),
        }
    }

    /// What the facts are about, where the body was read.
    pub(super) fn text(&self) -> Option<&Bytes> {
        read_text(&self.body, self.decoded.as_ref())
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
        let put = |map: &mut HeaderMap, name, text: &str| {
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                map.insert(name, value);
            }
        };
        put(map, headers::CALL, &self.call.to_string());
        put(map, headers::AGENT, self.agent.as_str());
        if let Some(run) = &self.run {
            put(map, headers::RUN, run.as_str());
        }
        if let Some(caller) = &self.caller {
            put(map, headers::CALLER, caller.as_str());
        }
        if !self.inferred.is_empty() {
            put(map, headers::INFERRED, &self.inferred.to_string());
        }
        let decision = &self.decision;
        if let Some(left) = decision.left_nano_usd {
            let left = NanoUsd::new(left).to_string();
            put(map, headers::REMAINING_USD, left.trim_start_matches('$'));
        }
        if let Some(left) = decision.left_tokens {
            put(map, headers::REMAINING_TOKENS, &left.to_string());
        }
        // A refusal says so itself.
        if !decision.words.is_empty() && !map.contains_key(headers::DECISION) {
            put(map, headers::DECISION, &decision.words.join(", "));
            put(map, headers::REASON, &decision.reasons.join("; "));
        }
    }
}

fn read_text<'a>(body: &'a ReceivedBody, decoded: Option<&'a Bytes>) -> Option<&'a Bytes> {
    match body {
        ReceivedBody::Read(body) => Some(decoded.unwrap_or(body)),
        ReceivedBody::Unread { .. } => None,
    }
}

fn unusable_budget(attributed: &Attributed) -> Option<&'static str> {
    let ignored = |it: &Ignored| {
        it.header.starts_with(headers::BUDGET_PREFIX) || it.header.starts_with(URL_BUDGET)
    };
    if attributed.ignored.iter().any(ignored) {
        return Some("an x-aiops-budget-* or budget-* of the base URL is not understood");
    }
    let lost = !attributed.tightened.is_empty() && attributed.attribution.run.is_none();
    lost.then_some(NO_RUN)
}

fn take_upgrade(head: &mut request::Parts) -> Option<OnUpgrade> {
    let upgrade = head.extensions.remove::<OnUpgrade>();
    upgrade.filter(|_| headers::is_websocket(head))
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
    let path = if path.is_empty() { "/" } else { path };
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
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

impl Choice {
    /// Where the call goes, and whether the client's key goes along.
    fn uri(&self, target: &str) -> Result<(Uri, bool), Fault> {
        let keeps_key = self.key_allowed && self.upstream.authorization().is_none();
        let uri = if keeps_key {
            self.upstream.uri_for(target)
        } else {
            self.upstream.uri_for(&headers::without_key(target))
        };
        Ok((uri.ok_or(Fault::Rejected(Rejection::Target))?, keeps_key))
    }
}

/// The upstream a client named (path or header, which must not name another), else the first that
/// lists the model, else the default. A client's key is meant for the default upstream and for one it
/// named itself.
fn choose(
    live: &Live,
    attributed: &Attributed,
    tagged: &Tagged<'_>,
    model: Option<&str>,
) -> Result<Choice, Fault> {
    if tagged.is_broken {
        return Err(Fault::Rejected(Rejection::BrokenTags));
    }
    let header = attributed.upstream.as_ref().map(Label::as_str);
    let named = tagged.upstream.as_deref().or(header);
    if let Some(name) = named {
        let upstream = live.upstream(name).ok_or_else(|| {
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
        if let Some(other) = header.filter(|other| *other != name) {
            return Err(Fault::Rejected(Rejection::TwoUpstreams {
                url: name.to_owned(),
                header: other.to_owned(),
            }));
        }
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
