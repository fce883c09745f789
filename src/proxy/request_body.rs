//! The body of a request, taken in: read where it is to be understood, as far as the bounds allow.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::respond::{Fault, Rejection, Unavailability};
use crate::config::ProxyConfig;
use crate::core::space::Room;
use crate::wire::route::{Reading, Route};

/// Not more is set aside at once, whatever length a client announces.
const MAX_AHEAD: usize = 1 << 20;

pub(super) enum ReceivedBody {
    Read(Bytes),
    /// Passed on as it arrives, after what was read of it in vain.
    Unread {
        first: Option<Bytes>,
        rest: Incoming,
    },
}

pub(super) struct RequestContent {
    pub(super) body: ReceivedBody,
    /// What came after a body that was read.
    pub(super) trailers: Option<HeaderMap>,
    /// What of the memory for all running calls the body takes.
    pub(super) room: Room,
}

impl RequestContent {
    /// Reads a body that is to be understood; leaves the others alone.
    pub(super) async fn read(
        body: Incoming,
        headers: &HeaderMap,
        route: &Route,
        bounds: &ProxyConfig,
        room: Room,
    ) -> Result<Self, Fault> {
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse::<u64>().ok());
        within_limit(length.unwrap_or(0), bounds)?;
        let too_long = length.is_some_and(|length| length > bounds.max_read_bytes as u64);
        let unread = route.reading == Reading::Opaque || too_long;
        if unread && !body.is_end_stream() {
            return Ok(Self {
                body: ReceivedBody::Unread {
                    first: None,
                    rest: body,
                },
                trailers: None,
                room,
            });
        }
        let expected = length.and_then(|length| usize::try_from(length).ok());
        let reader = Reader {
            body,
            bounds,
            room,
            trailers: None,
        };
        reader.collect(expected.unwrap_or(0)).await
    }
}

struct Reader<'a> {
    body: Incoming,
    bounds: &'a ProxyConfig,
    room: Room,
    trailers: Option<HeaderMap>,
}

impl Reader<'_> {
    async fn collect(mut self, expected: usize) -> Result<RequestContent, Fault> {
        let Some(first) = self.chunk(self.bounds.head_timeout).await? else {
            return Ok(self.content(Bytes::new()));
        };
        if self.body.is_end_stream() {
            return Ok(self.content(first));
        }
        let mut whole = BytesMut::with_capacity(expected.min(MAX_AHEAD).max(first.len()));
        whole.extend_from_slice(&first);
        while whole.len() <= self.bounds.max_read_bytes {
            match self.chunk(self.bounds.head_timeout).await? {
                Some(chunk) => whole.extend_from_slice(&chunk),
                None => return Ok(self.content(whole.freeze())),
            }
        }
        Ok(RequestContent {
            body: ReceivedBody::Unread {
                first: Some(whole.freeze()),
                rest: self.body,
            },
            trailers: None,
            room: self.room,
        })
    }

    fn content(self, body: Bytes) -> RequestContent {
        RequestContent {
            body: ReceivedBody::Read(body),
            trailers: self.trailers,
            room: self.room,
        }
    }

    /// The next bytes, within the bounds.
    async fn chunk(&mut self, silence: Duration) -> Result<Option<Bytes>, Fault> {
        loop {
            let Ok(frame) = tokio::time::timeout(silence, self.body.frame()).await else {
                return Err(Fault::Rejected(Rejection::BodyStalled { silence }));
            };
            let frame = match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(Fault::Rejected(Rejection::BodyIncomplete)),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => return self.take(data).map(Some),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    /// A body need not say its length beforehand.
    fn take(&mut self, data: Bytes) -> Result<Bytes, Fault> {
        if !self.room.grow(data.len(), self.bounds.max_memory_bytes) {
            return Err(Fault::Unavailable(Unavailability::Memory));
        }
        within_limit(self.room.bytes() as u64, self.bounds)?;
        Ok(data)
    }
}

fn within_limit(bytes: u64, bounds: &ProxyConfig) -> Result<(), Fault> {
    let limit = bounds.max_body_bytes;
    if bytes > limit {
        return Err(Fault::Rejected(Rejection::BodyTooLarge { limit }));
    }
    Ok(())
}
