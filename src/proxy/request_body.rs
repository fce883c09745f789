//! The body of a request, taken in: read where it is to be understood, as far as the bounds allow.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::respond::{Fault, Rejection, Unavailability};
use crate::config::ProxyConfig;
use crate::core::space::Room;
use crate::wire::route::{Reading, Route};

/// As much may be set aside on a client's word alone.
const MAX_AHEAD: usize = 1 << 20;

pub(super) enum ReceivedBody {
    Read(Bytes),
    /// Passed on as it arrives, after what was read of it in vain.
    Unread {
        first: Option<(Bytes, Room)>,
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
        let reader = Reader {
            body,
            expected: length.and_then(|length| usize::try_from(length).ok()),
            bounds,
            room,
            trailers: None,
        };
        reader.collect().await
    }
}

struct Reader<'a> {
    body: Incoming,
    /// What the client says there will be.
    expected: Option<usize>,
    bounds: &'a ProxyConfig,
    room: Room,
    trailers: Option<HeaderMap>,
}

impl Reader<'_> {
    async fn collect(mut self) -> Result<RequestContent, Fault> {
        let Some(first) = self.chunk(self.bounds.head_timeout).await? else {
            return Ok(self.content(Bytes::new()));
        };
        if self.body.is_end_stream() {
            within_limit(first.len() as u64, self.bounds)?;
            self.take(first.len())?;
            return Ok(self.content(first));
        }
        let mut whole = Vec::new();
        self.append(&mut whole, &first)?;
        while whole.len() <= self.bounds.max_read_bytes {
            match self.chunk(self.bounds.head_timeout).await? {
                Some(chunk) => self.append(&mut whole, &chunk)?,
                None => return Ok(self.content(whole.into())),
            }
        }
        Ok(RequestContent {
            room: self.room.another(),
            body: ReceivedBody::Unread {
                first: Some((whole.into(), self.room)),
                rest: self.body,
            },
            trailers: None,
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
                Ok(data) => return Ok(Some(data)),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    /// Sets aside what is announced, but not much more than has come.
    fn append(&mut self, whole: &mut Vec<u8>, chunk: &[u8]) -> Result<(), Fault> {
        let needed = whole.len() + chunk.len();
        within_limit(needed as u64, self.bounds)?;
        if needed > whole.capacity() {
            let double = needed.saturating_mul(2);
            let ahead = self
                .expected
                .map_or(double, |expected| expected.min(double.max(MAX_AHEAD)));
            let capacity = needed.max(ahead.min(self.bounds.max_read_bytes));
            self.take(capacity)?;
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(chunk);
        Ok(())
    }

    /// Takes `bytes` of the memory in all.
    fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        if self.room.resize(bytes, self.bounds.max_memory_bytes) {
            Ok(())
        } else {
            Err(Fault::Unavailable(Unavailability::Memory))
        }
    }
}

/// A body need not say its length beforehand.
fn within_limit(bytes: u64, bounds: &ProxyConfig) -> Result<(), Fault> {
    let limit = bounds.max_body_bytes;
    if bytes > limit {
        return Err(Fault::Rejected(Rejection::BodyTooLarge { limit }));
    }
    Ok(())
}
