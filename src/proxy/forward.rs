//! Step three: from [`Admitted`] to [`Forwarded`]: the request goes upstream, its answer begins.
//!
//! Bytes are not touched, with one exception: `stream_options.include_usage` is added when the
//! client did not ask, and what it adds to the answer is taken out again on the way back.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, TRAILER};
use http::{Extensions, HeaderMap, HeaderValue, Request, Response, StatusCode, Version, response};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;

use super::Proxy;
use super::admit::Admitted;
use super::body::{Absent, Answer, BodyError, MeteredBody, ResponseBody, Rewriter};
use super::call::OpenCall;
use super::headers::{self, Change, Key, Upstreamward};
use super::receive::Received;
use super::request_body::ReceivedBody;
use super::respond::{Fault, Refused, Rejection, UpstreamFault, UpstreamFaultKind};
use super::stream_end::StreamEnd;
use super::tunnel;
use crate::core::call::{Operation, Outcome};
use crate::core::space::Room;
use crate::upstream::{RequestBody, SendError, UploadEnd};
use crate::wire::decode::decode_all;
use crate::wire::include_usage;
use crate::wire::route::Dialect;

/// An error body longer than this says more than that a field is unknown.
const MAX_REJECTION_BYTES: usize = 64 * 1024;

/// A call whose response has begun.
pub(super) struct Forwarded {
    parts: response::Parts,
    answer: Answer,
    rewriter: Option<Rewriter>,
    call: OpenCall,
    idle: Duration,
    /// The version that the client speaks.
    client: Version,
    dialect: Dialect,
    tunnel: Option<tunnel::Ends>,
}

/// The request of a call on its way; it may be sent a second time.
struct Exchange {
    received: Received,
    headers: HeaderMap,
    call: OpenCall,
}

impl Admitted {
    /// Forwards the call, unless an operator stops it before its answer begins.
    pub(super) async fn forward_unless_stopped(self, proxy: &Proxy) -> Result<Forwarded, Fault> {
        let stopped = self.call.stopped();
        let dialect = self.received.route.dialect;
        tokio::select! {
            biased;
            refusal = stopped => Err(Fault::Refused(Refused {
                refusal,
                dialect,
                at: proxy.clock.now(),
            })),
            forwarded = self.forward() => forwarded,
        }
    }

    async fn forward(self) -> Result<Forwarded, Fault> {
        let Self { mut received, call } = self;
        let upgrade = received.upgrade.take();
        let headers = outgoing_headers(&received, upgrade.is_some());
        let body = std::mem::replace(&mut received.body, ReceivedBody::Read(Bytes::new()));
        let trailers = received.trailers.take();
        let mut exchange = Exchange {
            received,
            headers,
            call,
        };
        let (mut response, asked) = match body {
            ReceivedBody::Unread { first, rest } => (exchange.stream(first, rest).await?, false),
            ReceivedBody::Read(body) => match exchange.asking_for_usage(&body, trailers.as_ref()) {
                None => {
                    let body = RequestBody::whole(body, trailers);
                    (exchange.send(body).await?, false)
                }
                Some(asking) => exchange.ask_for_usage(asking, body).await?,
            },
        };
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switching && upgrade.is_none() {
            let why = "it switched protocols unasked".to_owned();
            return Err(exchange.fail(SendError::Closed(why)).await);
        }
        let tunnel = upgrade
            .filter(|_| switching)
            .map(|client| tunnel::Ends::new(client, hyper::upgrade::on(&mut response)));
        let (parts, answer) = response.into_parts();
        let Exchange {
            received, mut call, ..
        } = exchange;
        call.answered(&received.route, parts.status, &parts.headers);
        let rewriter = asked
            .then(|| Rewriter::for_answer(&parts.headers))
            .flatten();
        Ok(Forwarded {
            parts,
            answer,
            rewriter,
            call,
            idle: received.upstream.config().idle_timeout,
            client: received.version,
            dialect: received.route.dialect,
            tunnel,
        })
    }
}

impl Exchange {
    /// Passes a body on as it arrives.
    async fn stream(
        &mut self,
        first: Option<(Bytes, Room)>,
        rest: Incoming,
    ) -> Result<Response<Answer>, Fault> {
        let bounds = &self.received.live.config.proxy;
        let (limit, silence) = (bounds.max_body_bytes, bounds.head_timeout);
        let (body, upload) = RequestBody::stream(first, rest, limit, silence);
        self.call.uploading(Arc::clone(&upload));
        let error = match self.request(body).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let (outcome, rejection) = match upload.broken() {
            None => return Err(self.fail(error).await),
            Some(UploadEnd::TooLarge) => (Outcome::Rejected, Rejection::BodyTooLarge { limit }),
            Some(UploadEnd::Stalled) => (Outcome::Rejected, Rejection::BodyStalled { silence }),
            Some(UploadEnd::ClientGone) => (Outcome::ClientGone, Rejection::BodyIncomplete),
        };
        Err(self.end(outcome, Fault::Rejected(rejection)).await)
    }

    async fn send(&mut self, body: RequestBody) -> Result<Response<Answer>, Fault> {
        match self.request(body).await {
            Ok(response) => Ok(response),
            Err(error) => Err(self.fail(error).await),
        }
    }

    /// Sends the body that asks for usage. When the upstream seems to reject that, the original
    /// one decides: an error that merely repeats the request proves nothing. Also says whether
    /// the answer has what was asked for.
    async fn ask_for_usage(
        &mut self,
        asking: Bytes,
        original: Bytes,
    ) -> Result<(Response<Answer>, bool), Fault> {
        let headers = self.headers.clone();
        let response = self.send(RequestBody::whole(asking, None)).await?;
        if !may_be_rejection(response.status()) {
            return Ok((response, true));
        }
        let upstream = Arc::clone(&self.received.upstream);
        let response = match read_rejection(response, upstream.config().idle_timeout).await {
            Rejected::Other(response) => *response,
            Rejected::Field => {
                self.headers = headers;
                self.send(RequestBody::whole(original, None)).await?
            }
        };
        if !may_be_rejection(response.status()) {
            upstream.stop_asking_for_usage();
            tracing::info!(
                upstream = %upstream.config().name,
                "rejects stream_options: usage is counted here from now on"
            );
        }
        Ok((response, false))
    }

    /// The body with usage asked for, where the client did not, the upstream may be asked and there
    /// is memory for it. Trailers may hold a sum of the body, which must then stay as it is.
    fn asking_for_usage(&mut self, body: &Bytes, trailers: Option<&HeaderMap>) -> Option<Bytes> {
        let received = &self.received;
        let operation = received.route.operation;
        let wanted = received.facts.stream
            && matches!(operation, Operation::Chat | Operation::TextCompletion)
            && received.live.config.accounting.ask_for_usage
            && received.upstream.asks_for_usage()
            && !received.headers.contains_key(CONTENT_ENCODING)
            && trailers.is_none();
        if !wanted {
            return None;
        }
        let asking = include_usage::inject(body, &received.facts)?;
        self.call.hold(asking.len()).then(|| asking.into())
    }

    async fn request(&mut self, body: RequestBody) -> Result<Response<Answer>, SendError> {
        let mut headers = std::mem::take(&mut self.headers);
        if let RequestBody::Whole { data, .. } = &body
            && headers.contains_key(CONTENT_LENGTH)
        {
            let length = data.as_ref().map_or(0, Bytes::len);
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.received.method.clone();
        *request.uri_mut() = self.received.uri.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        self.call.forwarded();
        let response = self.received.upstream.send(request).await?;
        Ok(response.map(Answer::from))
    }

    /// There is no response, and it is the upstream's fault.
    async fn fail(&mut self, error: SendError) -> Fault {
        if matches!(error, SendError::Timeout(_)) {
            self.call.timed_out();
        }
        let upstream = &self.received.upstream;
        let fault = UpstreamFault {
            upstream: upstream.config().name.clone(),
            authority: upstream.authority().to_string(),
            kind: match error {
                SendError::Connect(why) => UpstreamFaultKind::Unreachable(why),
                SendError::Closed(why) => UpstreamFaultKind::ClosedEarly(why),
                SendError::Timeout(after) => UpstreamFaultKind::Timeout(after),
            },
        };
        self.end(Outcome::UpstreamUnavailable, Fault::Upstream(fault))
            .await
    }

    /// Our own answer, too, waits until its call is on disk.
    async fn end(&mut self, outcome: Outcome, fault: Fault) -> Fault {
        let durable = self.call.durable();
        self.call.failed(outcome, fault.status(), fault.to_string());
        durable.await;
        fault
    }
}

impl Forwarded {
    /// The response as the client gets it. The call settles with its body.
    pub(super) async fn into_response(self) -> Response<ResponseBody> {
        let Self {
            mut parts,
            answer,
            rewriter,
            mut call,
            idle,
            client,
            dialect,
            tunnel,
        } = self;
        let change = match (&tunnel, &rewriter) {
            (Some(_), _) => Change::Switching,
            (None, Some(_)) => Change::Rewritten,
            (None, None) => Change::None,
        };
        parts.headers = headers::downstreamward(&parts.headers, change);
        parts.version = Version::HTTP_11;
        keep_only_reason(&mut parts.extensions);
        let durable = call.durable();
        let body = match tunnel {
            Some(ends) => {
                durable.await;
                tokio::spawn(ends.join(call));
                ResponseBody::Absent(Absent::default())
            }
            None if answer.is_empty() => {
                call.complete();
                durable.await;
                ResponseBody::Absent(Absent::of(&parts, client))
            }
            None => {
                let end = StreamEnd::of(dialect, &parts.headers);
                let mut body = Box::new(MeteredBody::new(answer, rewriter, call, (idle, end)));
                body.gather().await;
                ResponseBody::Metered(body)
            }
        };
        Response::from_parts(parts, body)
    }
}

/// The client's headers as they go upstream.
fn outgoing_headers(received: &Received, switching: bool) -> HeaderMap {
    let upstream = &received.upstream;
    let chunked = match &received.body {
        ReceivedBody::Read(_) => received.trailers.is_some(),
        ReceivedBody::Unread { .. } => {
            let from = &received.headers;
            let trailers = received.version == Version::HTTP_2 && from.contains_key(TRAILER);
            trailers || !from.contains_key(CONTENT_LENGTH)
        }
    };
    let key = match upstream.authorization() {
        Some(own) => Key::Own(own),
        None if received.keeps_key => Key::OfClient,
        None => Key::None,
    };
    let passage = Upstreamward {
        host: upstream.host(),
        key,
        chunked,
        switching,
        trace: received.onward.as_ref(),
    };
    let mut map = passage.headers(&received.headers);
    if let Some(trailers) = &received.trailers {
        announce(trailers, &mut map);
    }
    if received.version == Version::HTTP_2 {
        join_cookies(&mut map);
    }
    map
}

/// HTTP/1.1 carries only trailers that were announced, which HTTP/2 does not ask for.
fn announce(trailers: &HeaderMap, map: &mut HeaderMap) {
    if !map.contains_key(TRAILER) {
        for name in trailers.keys() {
            map.append(TRAILER, HeaderValue::from(name.clone()));
        }
    }
}

/// HTTP/2 may split one cookie header into several; HTTP/1.1 knows only one (RFC 9113, 8.2.3).
fn join_cookies(map: &mut HeaderMap) {
    if map.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = map
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        map.insert(COOKIE, joined);
    }
}

/// A reason phrase other than the usual one is part of what the client gets.
fn keep_only_reason(extensions: &mut Extensions) {
    let reason = extensions.remove::<ReasonPhrase>();
    extensions.clear();
    if let Some(reason) = reason {
        extensions.insert(reason);
    }
}

fn may_be_rejection(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
    )
}

enum Rejected {
    /// The upstream does not know the field we added.
    Field,
    /// Another error: as it came.
    Other(Box<Response<Answer>>),
}

async fn read_rejection(response: Response<Answer>, silence: Duration) -> Rejected {
    let (parts, mut answer) = response.into_parts();
    let mut read = BytesMut::new();
    let mut broken = None;
    let mut whole = false;
    while read.len() <= MAX_REJECTION_BYTES && broken.is_none() && !whole {
        let frame = tokio::time::timeout(silence, poll_fn(|cx| answer.poll_frame(cx)));
        match frame.await {
            Ok(None) => whole = true,
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    read.extend_from_slice(&data);
                }
            }
            Ok(Some(Err(error))) => broken = Some(error),
            Err(_) => broken = Some(BodyError::Idle(silence)),
        }
    }
    let encoding = headers::text(&parts.headers, &CONTENT_ENCODING).unwrap_or_default();
    let text = decode_all(&encoding, &read, MAX_REJECTION_BYTES * 16).unwrap_or_default();
    if whole && include_usage::rejects_stream_options(parts.status.as_u16(), &text) {
        return Rejected::Field;
    }
    let answer = answer.after(read.freeze(), broken);
    Rejected::Other(Box::new(Response::from_parts(parts, answer)))
}
