//! Bodies on their way to the client: passed on chunk by chunk, observed on the side.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode, Version, response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use super::call::OpenCall;
use super::headers;
use super::stream_end::{Passage, StreamEnd};
use crate::core::call::Outcome;
use crate::ledger::Durable;
use crate::upstream::Silence;
use crate::wire::decode::{DecodeError, Decoder};
use crate::wire::include_usage::UsageFilter;

/// An answer that is to be ended may bring the event to its end that is open.
const END_OF_EVENT: Duration = Duration::from_secs(2);

/// Every body that goes to a client.
pub enum ResponseBody {
    Metered(Box<MeteredBody>),
    Ours(Full<Bytes>),
    Absent(Absent),
}

/// No body. A head may speak of the length it would have had: the server of HTTP/1 writes a
/// `content-length` only when the body claims it, and drops the body where none may be.
#[derive(Default)]
pub struct Absent {
    length: u64,
}

/// What an upstream answered: the rest as it arrives, after what was read of it before.
#[derive(Default)]
pub(super) struct Answer {
    first: Option<Bytes>,
    /// What went wrong while `first` was read.
    broken: Option<BodyError>,
    rest: Option<Incoming>,
}

/// Why a body ends early. The server breaks the connection then, so that the client sees a cut
/// as a cut and never as a clean end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the upstream broke off: {0}")]
    Upstream(#[from] hyper::Error),
    #[error("the upstream sent nothing for {} s", .0.as_secs_f32())]
    Idle(Duration),
    #[error("{0}")]
    Ended(String),
    #[error("the compressed answer cannot be decoded: {0}")]
    Decode(#[from] DecodeError),
}

/// An upstream's body with its call. Settles the call when it ends, fails or is dropped.
pub struct MeteredBody {
    answer: Answer,
    rewriter: Option<Rewriter>,
    trailers: Option<Frame<Bytes>>,
    call: Option<OpenCall>,
    durable: Option<Durable>,
    idle: Silence,
    end: StreamEnd,
    state: State,
}

enum State {
    Streaming,
    /// This frame may go out.
    Ready(Frame<Bytes>),
    /// This frame ends the answer for the client; it waits for the admission to be on disk.
    Held(Frame<Bytes>),
    /// All was sent but the end itself.
    Ending,
    /// The answer broke. The server throws away what it has not sent yet when it learns of that,
    /// so it gets one more turn to send.
    Broken(BodyError),
    Failing(BodyError),
    Done,
}

impl MeteredBody {
    pub(super) fn new(
        answer: Answer,
        rewriter: Option<Rewriter>,
        call: OpenCall,
        (idle, end): (Duration, StreamEnd),
    ) -> Self {
        let durable = call.durable();
        Self {
            answer,
            rewriter,
            end,
            trailers: None,
            call: Some(call),
            durable: Some(durable),
            idle: Silence::of(idle),
            state: State::Streaming,
        }
    }

    fn poll_durable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(durable) = &mut self.durable {
            ready!(Pin::new(durable).poll(cx));
            self.durable = None;
        }
        Poll::Ready(())
    }

    /// One frame of the answer, observed and rewritten; `None` when it is over.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(trailers)));
        }
        loop {
            let frame = match self.answer.poll_frame(cx) {
                Poll::Pending => {
                    let silence = ready!(self.idle.poll(cx));
                    return Poll::Ready(Some(Err(BodyError::Idle(silence))));
                }
                Poll::Ready(None) => {
                    let rest = self.finish_rewriting().transpose();
                    return Poll::Ready(rest.map(|rest| rest.map(Frame::data)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            self.idle.end();
            let Some(data) = frame.data_ref() else {
                return Poll::Ready(Some(self.before_trailers(frame)));
            };
            if let Some(call) = &mut self.call {
                call.chunk(data);
                if let Some(overrun) = call.overrun() {
                    self.end.ask(Arc::new(overrun));
                }
                if let Some(chant) = call.chants() {
                    self.end.ask(Arc::new(chant));
                }
            }
            let Some(rewriter) = &mut self.rewriter else {
                return Poll::Ready(Some(Ok(frame)));
            };
            let (data, result) = rewriter.push(data);
            if let Err(error) = result
                && !self.has_ended()
            {
                self.answer.broken = Some(error.into());
            }
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    /// What the rewriter still holds goes out before the trailers do.
    fn before_trailers(&mut self, trailers: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        Ok(match self.finish_rewriting()? {
            None => trailers,
            Some(rest) => {
                self.trailers = Some(trailers);
                Frame::data(rest)
            }
        })
    }

    /// What the rewriter still holds. A client that gets an answer decoded cannot see that what
    /// was encoded ended too early: it must be told, unless the terminal event came.
    fn finish_rewriting(&mut self) -> Result<Option<Bytes>, BodyError> {
        let ended = self.has_ended();
        let Some(rewriter) = &mut self.rewriter else {
            return Ok(None);
        };
        match rewriter.complete() {
            Err(error) if !ended => Err(error.into()),
            Err(_) | Ok(()) => Ok(rewriter.finish()),
        }
    }

    /// Whether the client has all it waits for once it gets what was read so far. Many clients
    /// hang up at the terminal event, before the body's own end.
    fn has_ended(&self) -> bool {
        self.call.as_ref().is_some_and(OpenCall::has_ended)
    }

    /// Nothing follows what was read so far.
    fn is_over(&self) -> bool {
        self.answer.is_empty() && self.rewriter.is_none()
    }

    /// Waits until an answer that is here in whole may go out, head and body with one write. Any
    /// other begins at once.
    pub(super) async fn gather(&mut self) {
        poll_fn(|cx| {
            let begins = matches!(self.state, State::Streaming) && self.advance(cx).is_pending();
            if !begins && matches!(self.state, State::Held(_)) {
                return self.advance(cx);
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Reads on, or waits for the disk: whichever the state says.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.state = match std::mem::replace(&mut self.state, State::Streaming) {
            State::Streaming if self.must_end(cx) => self.end_here(None),
            State::Streaming => match ready!(self.poll_answer(cx)) {
                Some(Ok(frame)) => self.pass(frame),
                Some(Err(error)) => State::Broken(self.fail(error)),
                None => {
                    self.complete();
                    State::Ending
                }
            },
            State::Held(frame) => {
                if self.poll_durable(cx).is_pending() {
                    self.state = State::Held(frame);
                    return Poll::Pending;
                }
                State::Ready(frame)
            }
            other => other,
        };
        Poll::Ready(())
    }

    /// Whether the answer is to be ended from here, and can be ended now.
    fn must_end(&mut self, cx: &Context<'_>) -> bool {
        if !self.end.is_asked()
            && let Some(call) = &self.call
            && let Poll::Ready(why) = call.poll_stopped(cx)
        {
            self.end.ask(why);
            self.idle = Silence::of(END_OF_EVENT);
        }
        self.end.is_asked() && self.end.is_at_edge()
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> State {
        let Some(data) = frame.data_ref() else {
            return self.next(frame);
        };
        match self.end.pass(data) {
            Passage::Whole => self.next(frame),
            Passage::Until(end) => self.end_here(Some(data.slice(..end))),
        }
    }

    /// Ends the answer in the words of its API, after these last bytes of it.
    fn end_here(&mut self, last: Option<Bytes>) -> State {
        self.answer = Answer::default();
        self.rewriter = None;
        self.trailers = None;
        match self.end.finish(self.call.take()) {
            Ok(end) => {
                let last = last.unwrap_or_default();
                State::Held(Frame::data([last, end].concat().into()))
            }
            Err(why) => State::Broken(BodyError::Ended(why)),
        }
    }

    fn next(&mut self, frame: Frame<Bytes>) -> State {
        if self.is_over() {
            self.complete();
            State::Held(frame)
        } else if self.durable.is_some() && self.has_ended() {
            State::Held(frame)
        } else {
            State::Ready(frame)
        }
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        if let Some(mut call) = self.call.take() {
            call.broke_off(Outcome::UpstreamCut, error.to_string());
        }
        error
    }

    fn complete(&mut self) {
        if let Some(mut call) = self.call.take() {
            call.complete();
        }
    }
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            match std::mem::replace(&mut this.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::Broken(error) => {
                    this.state = State::Failing(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Failing(error) => return Poll::Ready(Some(Err(error))),
                State::Ready(frame) => {
                    if !this.is_over() {
                        this.state = State::Streaming;
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                State::Ending => {
                    if this.poll_durable(cx).is_pending() {
                        this.state = State::Ending;
                        return Poll::Pending;
                    }
                }
                before => {
                    this.state = before;
                    ready!(this.advance(cx));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.state, &self.rewriter) {
            (State::Streaming, None) => self.answer.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl From<Incoming> for Answer {
    fn from(body: Incoming) -> Self {
        Self {
            rest: Some(body),
            ..Self::default()
        }
    }
}

impl Answer {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
            && self.broken.is_none()
            && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(error) = self.broken.take() {
            self.rest = None;
            return Poll::Ready(Some(Err(error)));
        }
        match &mut self.rest {
            None => Poll::Ready(None),
            Some(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(BodyError::from))),
        }
    }

    /// This answer with what was read of it put back, and how the reading went.
    pub(super) fn after(self, first: Bytes, broken: Option<BodyError>) -> Self {
        Self {
            first: Some(first).filter(|first| !first.is_empty()),
            broken,
            rest: self.rest,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.first, &self.rest) {
            (None, Some(body)) => body.size_hint(),
            (Some(_), Some(body)) if !body.is_end_stream() => SizeHint::default(),
            (first, _) => SizeHint::with_exact(first.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

impl Absent {
    /// What stands in for the body of an answer that has none, such as a 304 or one to HEAD.
    /// HTTP/2 says by itself that nothing follows; a 204 may speak of no length (RFC 9110, 8.6).
    pub(super) fn of(answer: &response::Parts, client: Version) -> Self {
        let length = answer
            .headers
            .get(CONTENT_LENGTH)
            .filter(|_| client < Version::HTTP_2 && answer.status != StatusCode::NO_CONTENT)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Self {
            length: length.unwrap_or(0),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Metered(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Self::Ours(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Absent(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Metered(body) => body.is_end_stream(),
            Self::Ours(body) => body.is_end_stream(),
            Self::Absent(absent) => absent.length == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Metered(body) => body.size_hint(),
            Self::Ours(body) => body.size_hint(),
            Self::Absent(absent) => SizeHint::with_exact(absent.length),
        }
    }
}

/// Takes out of an answer what our asking for usage put in. A compressed answer is decoded for
/// it: the client must not meet a chunk it did not ask for.
pub(crate) struct Rewriter {
    decoder: Option<Decoder>,
    filter: UsageFilter,
}

impl Rewriter {
    /// None where there is nothing to take out, or no way to.
    pub(crate) fn for_answer(map: &HeaderMap) -> Option<Self> {
        let content_type = headers::text(map, &CONTENT_TYPE)?;
        if !content_type.trim_start().starts_with("text/event-stream") {
            return None;
        }
        let decoder = match map.get(CONTENT_ENCODING) {
            None => None,
            Some(encoding) => Some(Decoder::new(encoding.to_str().ok()?)?),
        };
        Some(Self {
            decoder,
            filter: UsageFilter::default(),
        })
    }

    /// What goes out for `data`, and whether that was all that could be had of it.
    pub(crate) fn push(&mut self, data: &Bytes) -> (Bytes, Result<(), DecodeError>) {
        let Some(decoder) = &mut self.decoder else {
            return (self.filter.push(data), Ok(()));
        };
        let mut decoded = Vec::new();
        let result = decoder.push(data, &mut |piece| decoded.extend_from_slice(piece));
        (self.filter.push(&Bytes::from(decoded)), result)
    }

    fn complete(&mut self) -> Result<(), DecodeError> {
        self.decoder.as_mut().map_or(Ok(()), Decoder::finish)
    }

    pub(crate) fn finish(&mut self) -> Option<Bytes> {
        Some(std::mem::take(&mut self.filter).finish()).filter(|rest| !rest.is_empty())
    }
}
