//! What we send upstream: a body that was read before, or the client's as it arrives.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// A request body on its way upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// Read before; none when empty or sent.
    Whole(Option<Bytes>),
    /// Passed through chunk by chunk, unread; `first` was taken from the body before.
    Stream {
        first: Option<Bytes>,
        body: Incoming,
        upload: Arc<Upload>,
        limit: u64,
    },
}

/// How far a streamed request body got, seen from both sides.
#[derive(Debug, Default)]
pub struct Upload {
    bytes: AtomicU64,
    end: AtomicU8,
}

/// How a streamed request body ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadEnd {
    ClientGone = 1,
    TooLarge = 2,
}

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("the client broke off its request body: {0}")]
    Client(hyper::Error),
    #[error("the request body is longer than {0} bytes")]
    TooLarge(u64),
}

impl Upload {
    /// Bytes that came from the client so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn broken(&self) -> Option<UploadEnd> {
        match self.end.load(Ordering::Acquire) {
            1 => Some(UploadEnd::ClientGone),
            2 => Some(UploadEnd::TooLarge),
            _ => None,
        }
    }

    fn end(&self, end: UploadEnd) {
        self.end.store(end as u8, Ordering::Release);
    }
}

impl RequestBody {
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
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
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream {
                first,
                body,
                upload,
                limit,
            } => {
                let next = match first.take() {
                    Some(first) => Some(Ok(Frame::data(first))),
                    None => std::task::ready!(Pin::new(body).poll_frame(cx)),
                };
                let frame = match next {
                    None => return Poll::Ready(None),
                    Some(Ok(frame)) => frame,
                    Some(Err(error)) => {
                        upload.end(UploadEnd::ClientGone);
                        return Poll::Ready(Some(Err(UploadError::Client(error))));
                    }
                };
                let len = frame.data_ref().map_or(0, |data| data.len() as u64);
                let total = upload
                    .bytes
                    .fetch_add(len, Ordering::Relaxed)
                    .saturating_add(len);
                if total > *limit {
                    upload.end(UploadEnd::TooLarge);
                    return Poll::Ready(Some(Err(UploadError::TooLarge(*limit))));
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream { first, body, .. } => first.is_none() && body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream {
                first: None, body, ..
            } => body.size_hint(),
            Self::Stream { first: Some(_), .. } => SizeHint::default(),
        }
    }
}
