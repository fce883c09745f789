//! Server-sent events, pushed in any pieces.
//!
//! [`EventBoundary`] finds where events end and is all that is needed to cut a stream without
//! changing it; [`SseDecoder`] reads the events between the cuts. However the bytes are split,
//! the events are the same. An event that lies whole in one push is not copied.

use memchr::{memchr, memchr2};

/// An event longer than this is skipped by default.
pub const EVENT_LIMIT: usize = 4 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One event: its `event:` field if it had one, and its `data:` lines joined by line feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub name: Option<&'a [u8]>,
    pub data: &'a [u8],
}

/// Finds the ends of events: an empty line, where lines end in CR, LF or CRLF.
#[derive(Clone, Debug, Default)]
pub struct EventBoundary {
    /// Something other than a line end has been seen on this line.
    in_line: bool,
    /// The last byte was a CR, so a LF still belongs to it.
    after_cr: bool,
    /// The CR before ended an event.
    event_ended: bool,
}

impl EventBoundary {
    /// How many of these bytes still belong to the event that ended before: the LF of a CRLF
    /// that was split. To be asked before [`EventBoundary::find`] for each new piece of input.
    pub fn rest_of_last(&mut self, bytes: &[u8]) -> usize {
        if self.after_cr && self.event_ended && bytes.first() == Some(&b'\n') {
            self.after_cr = false;
            return 1;
        }
        0
    }

    /// The length of `bytes` up to and with the end of the current event, if it ends here. The
    /// next call goes on with the bytes after it; bytes are given once only.
    pub fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if std::mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
                at += 1;
                continue;
            }
            let Some(found) = memchr2(b'\n', b'\r', rest) else {
                self.in_line = true;
                return None;
            };
            let empty = found == 0 && !self.in_line;
            self.after_cr = rest.get(found) == Some(&b'\r');
            self.in_line = false;
            self.event_ended = empty;
            at += found + 1;
            if empty {
                return Some(at + self.line_feed_after(bytes, at));
            }
        }
        None
    }

    fn line_feed_after(&mut self, bytes: &[u8], at: usize) -> usize {
        match bytes.get(at) {
            Some(b'\n') if self.after_cr => {
                self.after_cr = false;
                1
            }
            _ => 0,
        }
    }
}

/// Events from bytes.
#[derive(Debug)]
pub struct SseDecoder {
    boundary: EventBoundary,
    /// The start of an event that has not ended yet.
    pending: Vec<u8>,
    joined: Vec<u8>,
    limit: usize,
    /// The current event is over the limit.
    skipping: bool,
    skipped: u64,
    started: bool,
}

impl Default for SseDecoder {
    fn default() -> Self {
        Self::with_limit(EVENT_LIMIT)
    }
}

impl SseDecoder {
    pub fn with_limit(limit: usize) -> Self {
        Self {
            boundary: EventBoundary::default(),
            pending: Vec::new(),
            joined: Vec::new(),
            limit,
            skipping: false,
            skipped: 0,
            started: false,
        }
    }

    /// How many events were over the limit and left out.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    pub fn push(&mut self, chunk: &[u8], mut on_event: impl FnMut(Event<'_>)) {
        let after_last = self.boundary.rest_of_last(chunk);
        let mut rest = chunk.get(after_last..).unwrap_or_default();
        while let Some(end) = self.boundary.find(rest) {
            let (head, tail) = rest.split_at(end);
            self.end_event(head, &mut on_event);
            rest = tail;
        }
        self.hold(rest);
    }

    /// The end of the stream: what has no empty line after it is taken as an event all the same.
    pub fn finish(&mut self, mut on_event: impl FnMut(Event<'_>)) {
        self.end_event(&[], &mut on_event);
    }

    fn end_event(&mut self, head: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        let too_long = self.pending.len() + length_of_end(head) > self.limit;
        if std::mem::take(&mut self.skipping) || too_long {
            self.skipped += 1;
            self.pending = Vec::new();
            self.started = true;
            return;
        }
        let mut frame = head;
        if !self.pending.is_empty() {
            self.pending.extend_from_slice(head);
            frame = &self.pending;
        }
        if !std::mem::replace(&mut self.started, true) {
            frame = frame.strip_prefix(BYTE_ORDER_MARK).unwrap_or(frame);
        }
        if let Some(event) = parse(frame, &mut self.joined) {
            on_event(event);
        }
        self.pending.clear();
    }

    fn hold(&mut self, rest: &[u8]) {
        if self.skipping {
            return;
        }
        if self.pending.len() + rest.len() > self.limit {
            self.skipping = true;
            self.pending = Vec::new();
        } else {
            self.pending.extend_from_slice(rest);
        }
    }
}

/// Reads one whole event; none when it has no data, like a comment that keeps a connection open.
pub fn parse<'a>(frame: &'a [u8], joined: &'a mut Vec<u8>) -> Option<Event<'a>> {
    let mut name = None;
    let mut first: Option<&[u8]> = None;
    let mut lines = 0_usize;
    joined.clear();
    let mut rest = frame;
    while !rest.is_empty() {
        let line;
        (line, rest) = split_line(rest);
        match field(line) {
            (b"event", value) => name = Some(value),
            (b"data", value) => {
                if let Some(first) = first {
                    if lines == 1 {
                        joined.extend_from_slice(first);
                    }
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                }
                first = first.or(Some(value));
                lines += 1;
            }
            _ => {}
        }
    }
    let data = if lines > 1 { joined.as_slice() } else { first? };
    Some(Event { name, data })
}

/// The length of the last piece of an event as far as limits go: the LF of its last CRLF may come
/// in a later piece or not, which must not matter.
pub(super) fn length_of_end(piece: &[u8]) -> usize {
    piece.len() - usize::from(piece.ends_with(b"\r\n"))
}

fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(end);
    let rest = rest
        .strip_prefix(b"\r\n")
        .or_else(|| rest.get(1..))
        .unwrap_or_default();
    (line, rest)
}

/// Name and value of a line; a comment has an empty name.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = memchr(b':', line) else {
        return (line, &[]);
    };
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    (name, value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests;
