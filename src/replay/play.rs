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
    async fn wait(self, micros: u64) {
        if let Self::Times(times) = self
            && micros > 0
        {
            tokio::time::sleep(Duration::from_micros(micros / u64::from(times))).await;
        }
    }
}

/// The answer; its head is given when its time has come.
pub(super) async fn play(reply: &Reply, call: &str, speed: Speed) -> Response {
    speed.wait(reply.head_us).await;
    let mut response = Response::new(body(reply, speed));
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

fn body(reply: &Reply, speed: Speed) -> Body {
    match reply.chunks.as_slice() {
        [] if !reply.is_cut => return Body::empty(),
        [(0, whole)] if !reply.is_cut => return Body::from(whole.clone()),
        [(_, whole)] if !reply.is_cut && speed == Speed::Max => return Body::from(whole.clone()),
        _ => {}
    }
    let mut pieces: VecDeque<(u64, io::Result<Bytes>)> = reply
        .chunks
        .iter()
        .cloned()
        .map(|(gap, piece)| (gap, Ok(piece)))
        .collect();
    if reply.is_cut {
        let cut = io::Error::other("the record breaks off here");
        pieces.push_back((0, Err(cut)));
    }
    Body::from_stream(stream::unfold(pieces, move |mut pieces| async move {
        let (gap_us, piece) = pieces.pop_front()?;
        speed.wait(gap_us).await;
        Some((piece, pieces))
    }))
}
