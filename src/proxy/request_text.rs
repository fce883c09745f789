//! What a request says. A body that came encoded is read from a copy; what goes on, and what is
//! recorded, is the body as it came.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::Proxy;
use super::request_body::ReceivedBody;
use super::respond::{Fault, Unavailability};
use crate::config::ProxyConfig;
use crate::core::space::Room;
use crate::wire::decode::{DecodeError, decode_within};
use crate::wire::route::Route;
use crate::wire::scan::RequestFacts;

/// A body as it was understood.
#[derive(Default)]
pub(super) struct RequestText {
    /// The decoded copy of a body that came encoded; the facts are those of it.
    pub(super) decoded: Option<Bytes>,
    pub(super) facts: RequestFacts,
}

impl RequestText {
    /// Reads what is there of a body. The memory for a copy is taken for `room`.
    pub(super) async fn read(
        proxy: &Proxy,
        (route, headers): (&Route, &HeaderMap),
        body: &ReceivedBody,
        (room, bounds): (&mut Room, &ProxyConfig),
    ) -> Result<Self, Fault> {
        let ReceivedBody::Read(body) = body else {
            return Ok(Self::default());
        };
        let scan = |text: &[u8]| proxy.scanner.scan(route.operation, route.dialect, text);
        let facts = scan(body);
        let plain = Self {
            decoded: None,
            facts,
        };
        // Many servers do not look whether a body is said to be encoded.
        if plain.facts.readable || body.is_empty() {
            return Ok(plain);
        }
        let Some(encoding) = encoding(headers) else {
            return Ok(plain);
        };
        let before = room.bytes();
        let copying = Copying {
            encoding,
            body: body.clone(),
            room: std::mem::replace(room, room.another()),
            most: bounds.max_read_bytes,
            most_memory: bounds.max_memory_bytes,
        };
        let copied = copying.run(proxy).await?;
        *room = copied.room;
        let facts = scan(&copied.text);
        match copied.result {
            Err(DecodeError::NoRoom) => return Err(Fault::Unavailable(Unavailability::Memory)),
            Ok(()) => {}
            // Servers differ in whether they mind what comes after the end.
            Err(DecodeError::Malformed) if facts.readable => {}
            Err(_) => {
                room.shrink_to(before);
                return Ok(plain);
            }
        }
        Ok(Self {
            decoded: Some(copied.text),
            facts,
        })
    }
}

fn encoding(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let values: Result<Vec<_>, _> = values.map(|value| value.to_str()).collect();
    let values = values.ok().filter(|values| !values.is_empty())?;
    Some(values.join(","))
}

/// A copy about to be made, and the memory that body and copy take.
struct Copying {
    encoding: String,
    body: Bytes,
    room: Room,
    most: usize,
    most_memory: usize,
}

struct Copied {
    text: Bytes,
    result: Result<(), DecodeError>,
    room: Room,
}

impl Copying {
    /// As many at once as there are processors: what decoders need beside the copy is not counted.
    async fn run(self, proxy: &Proxy) -> Result<Copied, Fault> {
        let unavailable = || Fault::Unavailable(Unavailability::Memory);
        let seat = Arc::clone(&proxy.decoders).acquire_owned().await;
        let seat = seat.map_err(|_| unavailable())?;
        let copied = tokio::task::spawn_blocking(move || {
            let copied = self.copied();
            drop(seat);
            copied
        });
        copied.await.map_err(|_| unavailable())
    }

    fn copied(mut self) -> Copied {
        let before = self.room.bytes();
        let (room, most_memory) = (&mut self.room, self.most_memory);
        let mut take = |bytes: usize| room.resize(before + bytes, most_memory);
        let (mut text, result) = decode_within(&self.encoding, &self.body, self.most, &mut take);
        text.shrink_to_fit();
        self.room.shrink_to(before + text.capacity());
        Copied {
            text: text.into(),
            result,
            room: self.room,
        }
    }
}
