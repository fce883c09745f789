//! A recorded answer given once more.

use std::collections::VecDeque;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::tape::Reply;

/// Which recorded call an answer is of.
const REPLAYED: &str = "x-aiops-replayed";

/// How fast answers come: as they came, so many times faster, or at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    Times(u32),
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let times = text.parse().ok().filter(|times| *times > 0);
        match (text, times) {
            ("max", _) => Ok(Self::Max),
            (_, Some(times)) => Ok(Self::Times(times)),
            _ => Err(format!(
                "found `{text}`, expected a whole number from 1 on, or max"
            )),
        }
    }
}

impl Speed {
    /// Waits until what was recorded at `micros` after `start` is due. Times are told from the start,
    /// so that what a timer is late by does not add up.
    async fn until(self, start: Instant, micros: u64) {
        if let Self::Times(times) = self
            && micros > 0
        {
            let due = Duration::from_micros(micros / u64::from(times));
            tokio::time::sleep_until(start + due).await;
        }
    }
}

/// A call that is being played. It is given back to the record when its client leaves before it has
/// all of the answer: who asks again gets it then.
pub(super) struct Taken(Option<Box<dyn FnOnce() + Send>>);

impl Taken {
    pub(super) fn new(give_back: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(give_back)))
    }

    fn delivered(mut self) {
        self.0 = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

/// The answer; its head is given when its time has come.
pub(super) async fn play(reply: &Reply, call: &str, speed: Speed, taken: Taken) -> Response {
    let start = Instant::now();
    speed.until(start, reply.head_us).await;
    let mut response = Response::new(body(reply, speed, start, taken));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in &reply.headers {
        headers.append(name.clone(), value.clone());
    }
    if let Ok(call) = HeaderValue::try_from(call) {
        headers.insert(REPLAYED, call);
    }
    response
}

fn body(reply: &Reply, speed: Speed, start: Instant, taken: Taken) -> Body {
    let whole = match reply.chunks.as_slice() {
        _ if reply.is_cut => None,
        [] => Some(Bytes::new()),
        [(gap_us, whole)] if *gap_us == 0 || speed == Speed::Max => Some(whole.clone()),
        _ => None,
    };
    if let Some(whole) = whole {
        taken.delivered();
        return Body::from(whole);
    }
    let mut at_us = reply.head_us;
    let pieces = reply.chunks.iter().map(|(gap_us, piece)| {
        at_us += gap_us;
        (at_us, piece.clone())
    });
    let playing = Playing {
        pieces: pieces.collect(),
        is_cut: reply.is_cut,
        speed,
        start,
        taken: Some(taken),
    };
    Body::from_stream(stream::unfold(playing, Playing::next))
}

/// What is still to come of an answer.
struct Playing {
    /// Each with the microseconds from the start to it.
    pieces: VecDeque<(u64, Bytes)>,
    is_cut: bool,
    speed: Speed,
    start: Instant,
    taken: Option<Taken>,
}

impl Playing {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        if let Some((at_us, piece)) = self.pieces.pop_front() {
            self.speed.until(self.start, at_us).await;
            // One that is cut may have been left by its client in the record already.
            if self.pieces.is_empty() || self.is_cut {
                self.is_given();
            }
            return Some((Ok(piece), self));
        }
        if !std::mem::take(&mut self.is_cut) {
            return None;
        }
        // A retry gets what came after it in the record.
        self.is_given();
        broken_off().await;
        Some((Err(io::Error::other("the record breaks off here")), self))
    }

    fn is_given(&mut self) {
        if let Some(taken) = self.taken.take() {
            taken.delivered();
        }
    }
}

/// The server throws away what it has not written yet when it learns that a body broke off, so it gets
/// one more turn to write.
pub(super) async fn broken_off() {
    tokio::task::yield_now().await;
}

#[cfg(test)]
mod tests;
