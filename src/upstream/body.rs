//! What we send upstream: a body that was read before, or the client's as it arrives.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::silence::Silence;
use crate::core::space::Room;

/// A request body on its way upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// Read before; what of it is not sent yet.
    Whole {
        data: Option<Bytes>,
        trailers: Option<HeaderMap>,
    },
    /// Passed through chunk by chunk, unread.
    Stream(Box<Stream>),
}

#[derive(Debug)]
pub struct Stream {
    /// Was taken from the body before, and takes that much memory until it is sent.
    first: Option<(Bytes, Room)>,
    body: Incoming,
    upload: Arc<Upload>,
    limit: u64,
    silence: Silence,
}

/// How far a streamed request body got, seen from both sides.
#[derive(Debug)]
pub struct Upload {
    began: Instant,
    bytes: AtomicU64,
    end: AtomicU8,
    /// Since when it is the upstream that we wait for, in milliseconds after `began`;
    /// [`CLIENTS_TURN`] while it is the client.
    upstreams_turn: AtomicU64,
}

const CLIENTS_TURN: u64 = u64::MAX;

/// How a streamed request body ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadEnd {
    ClientGone = 1,
    TooLarge = 2,
    Stalled = 3,
}

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("the client broke off its request body: {0}")]
    Client(hyper::Error),
    #[error("the request body is longer than {0} bytes")]
    TooLarge(u64),
    #[error("the client sent nothing of its request body for {} s", .0.as_secs_f32())]
    Stalled(Duration),
}

impl Upload {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            bytes: AtomicU64::new(0),
            end: AtomicU8::new(0),
            upstreams_turn: AtomicU64::new(0),
        }
    }

    /// Bytes that came from the client so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn broken(&self) -> Option<UploadEnd> {
        match self.end.load(Ordering::Acquire) {
            1 => Some(UploadEnd::ClientGone),
            2 => Some(UploadEnd::TooLarge),
            3 => Some(UploadEnd::Stalled),
            _ => None,
        }
    }

    /// Resolves once the upstream let `limit` pass without taking what there is to take, or
    /// without answering when it has all of it. The time that the client takes does not count.
    pub(super) async fn overdue(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let since = match self.upstreams_turn.load(Ordering::Relaxed) {
                CLIENTS_TURN => now,
                since => self.began + Duration::from_millis(since),
            };
            if since + limit <= now {
                return;
            }
            tokio::time::sleep_until(since + limit).await;
        }
    }

    /// The connection takes what is there and asks for more.
    fn took(&self, bytes: usize) -> u64 {
        let since = self.began.elapsed().as_millis();
        let since = u64::try_from(since).unwrap_or(CLIENTS_TURN);
        self.upstreams_turn.store(since, Ordering::Relaxed);
        let bytes = bytes as u64;
        self.bytes
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes)
    }

    fn waits_for_client(&self) {
        self.upstreams_turn.store(CLIENTS_TURN, Ordering::Relaxed);
    }

    fn end(&self, error: &UploadError) {
        let end = match error {
            UploadError::Client(_) => UploadEnd::ClientGone,
            UploadError::TooLarge(_) => UploadEnd::TooLarge,
            UploadError::Stalled(_) => UploadEnd::Stalled,
        };
        self.end.store(end as u8, Ordering::Release);
    }
}

impl RequestBody {
    pub fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let data = (!data.is_empty()).then_some(data);
        Self::Whole { data, trailers }
    }

    /// `first`, then `body` as it arrives: at most `limit` bytes, and never silent for longer
    /// than `silence`. With it comes what tells how far it got.
    pub fn stream(
        first: Option<(Bytes, Room)>,
        body: Incoming,
        limit: u64,
        silence: Duration,
    ) -> (Self, Arc<Upload>) {
        let upload = Arc::new(Upload::begin());
        let stream = Stream {
            first,
            body,
            upload: Arc::clone(&upload),
            limit,
            silence: Silence::of(silence),
        };
        (Self::Stream(Box::new(stream)), upload)
    }

    pub(super) fn upload(&self) -> Option<Arc<Upload>> {
        match self {
            Self::Whole { .. } => None,
            Self::Stream(stream) => Some(Arc::clone(&stream.upload)),
        }
    }
}

impl Stream {
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let next = match self.first.take() {
            Some((first, _)) => Some(Ok(Frame::data(first))),
            None => match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    self.upload.waits_for_client();
                    let silence = ready!(self.silence.poll(cx));
                    return Poll::Ready(Some(Err(UploadError::Stalled(silence))));
                }
            },
        };
        self.silence.end();
        let len = match &next {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => 0,
        };
        if self.upload.took(len) > self.limit {
            return Poll::Ready(Some(Err(UploadError::TooLarge(self.limit))));
        }
        Poll::Ready(next.map(|frame| frame.map_err(UploadError::Client)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.get_mut() {
            Self::Whole { data, trailers } => {
                let next = data.take().map(Frame::data);
                Poll::Ready(
                    next.or_else(|| trailers.take().map(Frame::trailers))
                        .map(Ok),
                )
            }
            Self::Stream(stream) => {
                let next = ready!(stream.poll_next(cx));
                if let Some(Err(error)) = &next {
                    stream.upload.end(error);
                }
                Poll::Ready(next)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { data, trailers } => data.is_none() && trailers.is_none(),
            Self::Stream(stream) => stream.first.is_none() && stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole {
                data,
                trailers: None,
            } => SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64)),
            Self::Stream(stream) if stream.first.is_none() => stream.body.size_hint(),
            Self::Whole { .. } | Self::Stream(_) => SizeHint::default(),
        }
    }
}
