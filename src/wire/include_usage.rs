//! Asking a stream for its usage when the client did not, and hiding the answer from the client.
//!
//! The request is changed by the smallest edit of its text; every other byte stays. Of the
//! response exactly one event is taken out: the one that has no choices and a usage. Everything
//! else passes as it came, and nothing is held back but an event that is not whole yet.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

use super::fields::{Fields, any_key};
use super::scan::RequestFacts;
use super::sse::{self, EventBoundary};

const MEMBER: &str = "\"include_usage\":true";
/// An event longer than this is passed on unread.
const HELD_LIMIT: usize = 1 << 20;
/// Of an error body this much is searched.
const ERROR_LIMIT: usize = 64 << 10;

/// The body of a streaming chat or legacy completions request, changed to ask for usage, given
/// what the scan of it found. None when it asks already, does not stream, or is no JSON object.
pub fn inject(body: &[u8], facts: &RequestFacts) -> Option<Vec<u8>> {
    if !facts.stream {
        return None;
    }
    let Some(range) = facts.stream_options.clone() else {
        let end = body.iter().rposition(|byte| *byte == b'}')?;
        return splice(body, end, 0, &format!(",\"stream_options\":{{{MEMBER}}}"));
    };
    let start = range.start;
    let options = str::from_utf8(body.get(range)?).ok()?;
    if options == "null" {
        return splice(body, start, options.len(), &format!("{{{MEMBER}}}"));
    }
    let fields = Fields::parse_str(options)?;
    match fields.last("include_usage") {
        Some("true") => None,
        Some(other) => splice(body, offset(body, other)?, other.len(), "true"),
        None => {
            let comma = if fields.is_empty() { "" } else { "," };
            splice(body, start + 1, 0, &format!("{MEMBER}{comma}"))
        }
    }
}

/// Where `part`, which is borrowed from `whole`, begins in it.
fn offset(whole: &[u8], part: &str) -> Option<usize> {
    part.as_ptr().addr().checked_sub(whole.as_ptr().addr())
}

fn splice(body: &[u8], at: usize, removed: usize, added: &str) -> Option<Vec<u8>> {
    let (head, tail) = (body.get(..at)?, body.get(at + removed..)?);
    Some([head, added.as_bytes(), tail].concat())
}

/// Whether an upstream's error says that it does not know what [`inject`] added.
pub fn rejects_stream_options(status: u16, body: &[u8]) -> bool {
    let searched = body.get(..ERROR_LIMIT).unwrap_or(body);
    let names = [b"stream_options".as_slice(), b"include_usage"];
    matches!(status, 400 | 422)
        && names
            .iter()
            .any(|name| memmem::find(searched, name).is_some())
}

/// Takes the usage event out of an event stream. Only for streams whose request [`inject`]
/// changed, and only for those that are not compressed.
#[derive(Debug, Default)]
pub struct UsageFilter {
    boundary: EventBoundary,
    /// The start of an event that has not ended yet.
    held: Vec<u8>,
    /// The current event is over the limit: what comes of it goes out.
    passing: bool,
    /// The event before was taken out, and so is what is left of it.
    removed_last: bool,
    joined: Vec<u8>,
}

impl UsageFilter {
    /// The bytes to send on for these; they may be none.
    pub fn push(&mut self, chunk: &Bytes) -> Bytes {
        let mut at = self.boundary.rest_of_last(chunk);
        let mut kept = Kept::default();
        if !self.removed_last {
            kept.keep(0, at);
        }
        let from = |at: usize| chunk.get(at..).unwrap_or_default();
        while let Some(len) = self.boundary.find(from(at)) {
            let event = from(at).get(..len).unwrap_or_default();
            self.removed_last = self.is_usage_event(event);
            if self.removed_last {
                self.held.clear();
            } else {
                kept.before.append(&mut self.held);
                kept.keep(at, at + len);
            }
            at += len;
        }
        if self.holds(from(at)) {
            self.held.extend_from_slice(from(at));
        } else {
            kept.before.append(&mut self.held);
            kept.keep(at, chunk.len());
        }
        kept.of(chunk)
    }

    /// What is still held back when the stream ends.
    pub fn finish(mut self) -> Bytes {
        if self.is_usage_event(&[]) {
            Bytes::new()
        } else {
            Bytes::from(self.held)
        }
    }

    /// Whether the event that ends with `tail` is to be taken out.
    fn is_usage_event(&mut self, tail: &[u8]) -> bool {
        let len = self.held.len() + sse::length_of_end(tail);
        if std::mem::take(&mut self.passing) || len > HELD_LIMIT {
            return false;
        }
        if self.held.is_empty() {
            return is_usage(tail, &mut self.joined);
        }
        let held = self.held.len();
        self.held.extend_from_slice(tail);
        let is_usage = is_usage(&self.held, &mut self.joined);
        self.held.truncate(held);
        is_usage
    }

    fn holds(&mut self, rest: &[u8]) -> bool {
        self.passing |= self.held.len() + rest.len() > HELD_LIMIT;
        !self.passing
    }
}

/// What of one push goes on: bytes held before, then parts of the chunk.
#[derive(Default)]
struct Kept {
    before: Vec<u8>,
    parts: Vec<Range<usize>>,
}

impl Kept {
    fn keep(&mut self, start: usize, end: usize) {
        match self.parts.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ if start == end => {}
            _ => self.parts.push(start..end),
        }
    }

    /// Without a copy when it is one part of the chunk, as it nearly always is.
    fn of(self, chunk: &Bytes) -> Bytes {
        let Self {
            before: mut joined,
            parts,
        } = self;
        match parts.as_slice() {
            [] if joined.is_empty() => Bytes::new(),
            [part] if joined.is_empty() => chunk.slice(part.clone()),
            parts => {
                for part in parts {
                    joined.extend_from_slice(chunk.get(part.clone()).unwrap_or_default());
                }
                Bytes::from(joined)
            }
        }
    }
}

/// An event that is there for its usage alone. A first chunk without choices (Azure) has none,
/// and a last chunk with choices is the client's.
fn is_usage(event: &[u8], joined: &mut Vec<u8>) -> bool {
    let is_key = |key: &[u8]| key.ends_with(b"\"usage");
    if !any_key(event, is_key, |value| value.starts_with(b"{")) {
        return false;
    }
    let Some(chunk) = sse::parse(event, joined).and_then(|event| Fields::parse(event.data)) else {
        return false;
    };
    let no_choices = chunk.raw("choices").is_some_and(|choices| {
        let inner = choices
            .strip_prefix('[')
            .and_then(|choices| choices.strip_suffix(']'));
        inner.is_some_and(|inner| inner.trim().is_empty())
    });
    no_choices && chunk.object("usage").is_some() && chunk.array("prompt_filter_results").is_empty()
}

#[cfg(test)]
mod tests;
