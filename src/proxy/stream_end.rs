//! Ending a running stream from here, in the words of its API: clients that are just cut off cannot
//! tell why, and take a stream that merely ends for a whole answer.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::call::OpenCall;
use super::headers;
use crate::budgets::Refusal;
use crate::core::call::Outcome;
use crate::wire::edge::EventEdge;
use crate::wire::refusal::{self, RefusalText};
use crate::wire::route::Dialect;

/// Watches what goes to the client, to know where it can be ended.
pub(super) struct StreamEnd {
    dialect: Dialect,
    /// None where nothing can be put between what the upstream sends: no event stream, or one that
    /// is compressed.
    edge: Option<EventEdge>,
    why: Option<Arc<Refusal>>,
}

/// What becomes of a piece of the answer.
pub(super) enum Passage {
    Whole,
    /// The first so many bytes; then the end.
    Until(usize),
}

impl StreamEnd {
    /// For an answer that goes out with these headers.
    pub(super) fn of(dialect: Dialect, map: &HeaderMap) -> Self {
        let content_type = headers::text(map, &CONTENT_TYPE).unwrap_or_default();
        let is = |kind: &str| content_type.trim_start().starts_with(kind);
        let is_stream = is("text/event-stream") || is("application/x-ndjson");
        let edge =
            (is_stream && !map.contains_key(CONTENT_ENCODING)).then(|| EventEdge::new(dialect));
        Self {
            dialect,
            edge,
            why: None,
        }
    }

    /// The answer has to end as soon as it can.
    pub(super) fn ask(&mut self, why: Arc<Refusal>) {
        self.why.get_or_insert(why);
    }

    pub(super) fn is_asked(&self) -> bool {
        self.why.is_some()
    }

    /// Nothing of an event is open: the answer can end here, or it cannot be ended well at all.
    pub(super) fn is_at_edge(&self) -> bool {
        self.edge.as_ref().is_none_or(EventEdge::is_at_edge)
    }

    /// How much of the next piece may go out.
    pub(super) fn pass(&mut self, data: &[u8]) -> Passage {
        let Some(edge) = &mut self.edge else {
            return Passage::Whole;
        };
        if self.why.is_some()
            && let Some(end) = edge.finish_event(data)
        {
            edge.push(data.get(..end).unwrap_or_default());
            return Passage::Until(end);
        }
        edge.push(data);
        Passage::Whole
    }

    /// The last bytes of an answer that is ended here, and the settling of its call. None when the
    /// connection has to be broken instead.
    pub(super) fn finish(&self, call: Option<OpenCall>) -> Result<Bytes, String> {
        let Some(why) = &self.why else {
            return Err("it was ended".to_owned());
        };
        let message = format!("open-aiops: {why}");
        if let Some(mut call) = call {
            call.refused(why);
            call.broke_off(Outcome::Cut, message.clone());
        }
        let words = RefusalText {
            message: &message,
            code: why.code(),
        };
        let end = self
            .edge
            .as_ref()
            .and_then(|edge| refusal::stream_end(self.dialect, words, edge.events()));
        end.ok_or(message)
    }
}
