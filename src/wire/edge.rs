//! Where a running stream may be ended: behind a whole event or line, never within one.
//!
//! Knows only what went to the client. Meant for event streams and JSON lines that are not
//! compressed: no other body has a place where something can be added.

use memchr::{memchr, memchr_iter};

use super::route::Dialect;
use super::sse::EventBoundary;

/// Follows a stream from its first byte on.
#[derive(Clone, Debug)]
pub struct EventEdge {
    framing: Framing,
    /// Bytes went out that no end has followed yet.
    open: bool,
    events: u64,
}

#[derive(Clone, Debug)]
enum Framing {
    Events(EventBoundary),
    Lines,
}

impl EventEdge {
    /// Ollama streams lines, every other dialect events.
    pub fn new(dialect: Dialect) -> Self {
        let framing = match dialect {
            Dialect::Ollama => Framing::Lines,
            _ => Framing::Events(EventBoundary::default()),
        };
        Self {
            framing,
            open: false,
            events: 0,
        }
    }

    /// Takes the bytes that went to the client, in any pieces.
    pub fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        match &mut self.framing {
            Framing::Lines => {
                for end in memchr_iter(b'\n', chunk) {
                    rest = chunk.get(end + 1..).unwrap_or_default();
                    self.events += 1;
                    self.open = false;
                }
            }
            Framing::Events(boundary) => {
                let after_last = boundary.rest_of_last(rest);
                rest = rest.get(after_last..).unwrap_or_default();
                while let Some(len) = boundary.find(rest) {
                    rest = rest.get(len..).unwrap_or_default();
                    self.events += 1;
                    self.open = false;
                }
            }
        }
        self.open |= !rest.is_empty();
    }

    /// Nothing is open: what is sent now is read by itself.
    pub fn is_at_edge(&self) -> bool {
        !self.open
    }

    /// How many of the bytes that come next complete what is open; none of them at an edge, but
    /// for the LF of a CRLF that was split. None when it does not end in them.
    pub fn finish_event(&self, chunk: &[u8]) -> Option<usize> {
        match &self.framing {
            Framing::Lines if self.open => memchr(b'\n', chunk).map(|end| end + 1),
            Framing::Lines => Some(0),
            Framing::Events(boundary) => {
                let mut boundary = boundary.clone();
                let after_last = boundary.rest_of_last(chunk);
                if self.open {
                    boundary.find(chunk)
                } else {
                    Some(after_last)
                }
            }
        }
    }

    /// How many events went out whole, which is the `sequence_number` that comes next in a stream
    /// of a response: those count from 0, one for each event. Comments and empty events count here
    /// too, as nothing is parsed; that leaves a gap, where a number too low would be taken for an
    /// event that was seen before.
    pub fn events(&self) -> u64 {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::sse::SseDecoder;

    fn events(stream: &[u8]) -> Vec<String> {
        let mut events = Vec::new();
        let mut decoder = SseDecoder::default();
        decoder.push(stream, |event| events.push(format!("{event:?}")));
        decoder.finish(|event| events.push(format!("{event:?}")));
        events
    }

    fn after<'a>(dialect: Dialect, pieces: impl IntoIterator<Item = &'a [u8]>) -> EventEdge {
        let mut edge = EventEdge::new(dialect);
        pieces.into_iter().for_each(|piece| edge.push(piece));
        edge
    }

    /// Whether the stream is at an edge behind each of its bytes, however it comes.
    #[track_caller]
    fn check(dialect: Dialect, stream: &str, edges: &[usize]) {
        let bytes = stream.as_bytes();
        for at in 0..=bytes.len() {
            let (sent, next) = bytes.split_at(at);
            for size in 1..=at.max(1) {
                let edge = after(dialect, sent.chunks(size));
                assert_eq!(edge.is_at_edge(), edges.contains(&at), "{at} by {size}");
                let next_edge = edges.iter().find(|edge| **edge >= at);
                if !edge.is_at_edge() {
                    assert_eq!(edge.finish_event(next), next_edge.map(|end| end - at));
                }
            }
        }
    }

    #[test]
    fn events_end_at_empty_lines() {
        check(Dialect::Chat, "data: a\n\n: ping\n\ndata: b", &[0, 9, 17]);
        check(Dialect::Messages, "event: x\ndata: a\r\r", &[0, 18]);
        check(Dialect::Responses, "id: 1\ndata: a\n", &[0]);
    }

    #[test]
    fn a_line_feed_that_is_split_off_belongs_to_the_event() {
        let stream = b"data: a\r\n\r\ndata: b\r\n\r\n";
        assert_eq!(after(Dialect::Chat, []).finish_event(stream), Some(0));
        let edge = after(Dialect::Chat, [b"data: a".as_slice()]);
        assert_eq!(edge.finish_event(b"\r\n\r\ndata: b"), Some(4));
        assert_eq!(edge.finish_event(b"\r\n"), None);
        let edge = after(Dialect::Chat, [b"data: a\r\n\r".as_slice()]);
        assert!(edge.is_at_edge());
        assert_eq!(edge.finish_event(b"\ndata: b"), Some(1));
        assert_eq!(edge.finish_event(b"data: b"), Some(0));
        let edge = after(Dialect::Chat, [b"data: a\r".as_slice()]);
        assert_eq!(edge.finish_event(b"\n\n"), Some(2));
        assert_eq!(edge.finish_event(b"\n"), None);
        for size in 1..stream.len() {
            let edge = after(Dialect::Chat, stream.chunks(size));
            assert_eq!((edge.is_at_edge(), edge.events()), (true, 2));
        }
    }

    #[test]
    fn lines_end_at_line_feeds() {
        check(Dialect::Ollama, "{\"a\":1}\n{}\r\n{\"b", &[0, 8, 12]);
        let edge = after(Dialect::Ollama, [b"{}\n{".as_slice(), b"}\n"]);
        assert_eq!((edge.events(), edge.finish_event(b"{}\n")), (2, Some(0)));
    }

    #[test]
    fn the_number_of_events_is_the_next_sequence_number() {
        let event = |n: u64| format!("event: e\ndata: {{\"sequence_number\":{n}}}\n\n");
        let stream: String = (0..5).map(event).collect();
        for size in 1..stream.len() {
            let edge = after(Dialect::Responses, stream.as_bytes().chunks(size));
            assert_eq!(edge.events(), 5);
        }
        assert_eq!(
            after(Dialect::Responses, [b"data: {".as_slice()]).events(),
            0
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn what_is_added_at_an_edge_is_read_by_itself(
            stream in "(data: ?[ab]{0,3}|event: x|:|[\r\n]|\r\n|\n\n){0,20}",
            cut in any::<prop::sample::Index>(),
            size in 1..8_usize,
        ) {
            const END: &[u8] = b"event: error\ndata: end\n\n";
            let (sent, next) = stream.as_bytes().split_at(cut.index(stream.len() + 1));
            let edge = after(Dialect::Chat, sent.chunks(size));
            let whole = after(Dialect::Chat, [sent]);
            prop_assert_eq!(edge.is_at_edge(), whole.is_at_edge());
            prop_assert_eq!(edge.events(), whole.events());
            let Some(more) = edge.finish_event(next) else {
                prop_assert_eq!(after(Dialect::Chat, [sent, next]).events(), edge.events());
                return Ok(());
            };
            let ended = [sent, &next[..more]].concat();
            prop_assert!(after(Dialect::Chat, ended.chunks(size)).is_at_edge());
            let mut expected = events(&ended);
            expected.extend(events(END));
            prop_assert_eq!(events(&[ended.as_slice(), END].concat()), expected);
            prop_assert_eq!(events(&ended).len() + events(&next[more..]).len(),
                events(stream.as_bytes()).len());
        }
    }
}
