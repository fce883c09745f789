//! Reads one HTTP/1.1 response as its bytes come in, and what its body says.

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use open_aiops_bench::read_stamp;

const MAX_HEADERS: usize = 96;

/// How the rest of the response is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Head,
    Body(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    LastLine,
    Nothing,
}

/// One data event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) first: bool,
    /// When the upstream made it, if it says so.
    pub(crate) made_ns: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Response {
    expect: Expect,
    unread: Vec<u8>,
    pub(crate) status: u16,
    pub(crate) events: u64,
    pub(crate) usage_seen: bool,
    stream: bool,
    done_seen: bool,
    line: Vec<u8>,
    /// The start of a body that is no stream, for checks and error reports.
    pub(crate) text: Vec<u8>,
}

impl Response {
    pub(crate) fn new() -> Self {
        Self {
            expect: Expect::Head,
            unread: Vec::new(),
            status: 0,
            events: 0,
            usage_seen: false,
            stream: false,
            done_seen: false,
            line: Vec::new(),
            text: Vec::new(),
        }
    }

    pub(crate) fn ended(&self) -> bool {
        self.expect == Expect::Nothing
    }

    /// Whether it holds all that an answer must hold.
    pub(crate) fn complete(&self) -> bool {
        self.usage_seen && (self.done_seen || !self.stream)
    }

    /// Takes bytes that came in; tells of each event in them.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut on_event: impl FnMut(Event),
    ) -> anyhow::Result<()> {
        let mut input = std::mem::take(&mut self.unread);
        input.extend_from_slice(bytes);
        let mut rest = input.as_slice();
        while let Some(used) = self.step(rest, &mut on_event)? {
            rest = rest.get(used..).unwrap_or_default();
        }
        ensure!(rest.is_empty() || !self.ended(), "bytes after the response");
        let read = input.len() - rest.len();
        input.drain(..read);
        self.unread = input;
        Ok(())
    }

    /// Reads one part; how long it was, or None when more input is needed.
    fn step(
        &mut self,
        input: &[u8],
        on_event: &mut impl FnMut(Event),
    ) -> anyhow::Result<Option<usize>> {
        match self.expect {
            Expect::Head => self.read_head(input),
            Expect::Body(left) | Expect::Chunk(left) => {
                let part = input.get(..left.min(input.len())).unwrap_or_default();
                self.read_payload(part, on_event);
                let left = left - part.len();
                self.expect = match (self.expect, left) {
                    (Expect::Body(_), 0) => Expect::Nothing,
                    (Expect::Body(_), left) => Expect::Body(left),
                    (_, 0) => Expect::ChunkEnd,
                    (_, left) => Expect::Chunk(left),
                };
                Ok((!part.is_empty()).then_some(part.len()))
            }
            Expect::ChunkSize => match httparse::parse_chunk_size(input) {
                Ok(httparse::Status::Complete((used, size))) => {
                    let size = size as usize;
                    self.expect = if size == 0 {
                        Expect::LastLine
                    } else {
                        Expect::Chunk(size)
                    };
                    Ok(Some(used))
                }
                Ok(httparse::Status::Partial) => Ok(None),
                Err(_) => bail!("bad chunk size"),
            },
            Expect::ChunkEnd => Ok(self.skip_line_end(input, Expect::ChunkSize)),
            Expect::LastLine => Ok(self.skip_line_end(input, Expect::Nothing)),
            Expect::Nothing => Ok(None),
        }
    }

    fn skip_line_end(&mut self, input: &[u8], then: Expect) -> Option<usize> {
        (input.len() >= 2).then(|| {
            self.expect = then;
            2
        })
    }

    fn read_head(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(used) = head.parse(input)? else {
            return Ok(None);
        };
        self.status = head.code.context("no status")?;
        self.expect = Expect::Nothing;
        for header in head.headers.iter() {
            let name = header.name.to_ascii_lowercase();
            match name.as_str() {
                "content-length" => {
                    let length: usize = std::str::from_utf8(header.value)?.trim().parse()?;
                    self.expect = if length == 0 {
                        Expect::Nothing
                    } else {
                        Expect::Body(length)
                    };
                }
                "transfer-encoding" => self.expect = Expect::ChunkSize,
                "content-type" => self.stream = header.value.starts_with(b"text/event-stream"),
                "connection" => {
                    ensure!(
                        !header.value.eq_ignore_ascii_case(b"close"),
                        "connection: close"
                    );
                }
                _ => {}
            }
        }
        Ok(Some(used))
    }

    fn read_payload(&mut self, payload: &[u8], on_event: &mut impl FnMut(Event)) {
        if !self.stream {
            self.text.extend_from_slice(payload);
            if self.ended_by(payload.len()) {
                self.usage_seen = memmem::find(&self.text, b"\"usage\":{").is_some();
            }
            return;
        }
        let mut rest = payload;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            self.line.extend_from_slice(line);
            self.read_line(on_event);
            self.line.clear();
            rest = after.get(1..).unwrap_or_default();
        }
        self.line.extend_from_slice(rest);
    }

    fn ended_by(&self, bytes: usize) -> bool {
        matches!(self.expect, Expect::Body(left) | Expect::Chunk(left) if left == bytes)
    }

    fn read_line(&mut self, on_event: &mut impl FnMut(Event)) {
        let Some(event) = self.line.strip_prefix(b"data: ") else {
            return;
        };
        if event.starts_with(b"[DONE]") {
            self.done_seen = true;
            return;
        }
        self.usage_seen |= memmem::find(event, b"\"usage\":{").is_some();
        self.events += 1;
        on_event(Event {
            first: self.events == 1,
            made_ns: read_stamp(event),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"usage\":{  }}";
    const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
        transfer-encoding: chunked\r\n\r\n19\r\ndata: {\"c\":\"@t42;\"}\n\ndata\r\n\
        23\r\n: {\"usage\":{\"a\":1}}\n\ndata: [DONE]\n\n\r\n0\r\n\r\n";

    fn read_in_pieces(bytes: &[u8], size: usize) -> (Response, Vec<Event>) {
        let (mut response, mut events) = (Response::new(), Vec::new());
        for piece in bytes.chunks(size) {
            response.feed(piece, |event| events.push(event)).unwrap();
        }
        (response, events)
    }

    #[test]
    fn any_split_reads_the_same() {
        for size in 1..STREAM.len() {
            let (response, events) = read_in_pieces(STREAM, size);
            assert!(response.ended() && response.complete(), "pieces of {size}");
            assert_eq!(
                events,
                [
                    Event {
                        first: true,
                        made_ns: Some(42)
                    },
                    Event {
                        first: false,
                        made_ns: None
                    }
                ]
            );
            assert!(read_in_pieces(PLAIN, size).0.complete());
        }
    }

    #[test]
    fn cut_stream_has_not_ended() {
        let (response, _) = read_in_pieces(&STREAM[..STREAM.len() - 8], 9);
        assert!(!response.ended());
    }

    #[test]
    fn stream_without_done_is_not_complete() {
        let text = String::from_utf8(STREAM.to_vec())
            .unwrap()
            .replace("[DONE]", "[NONE]");
        let (response, _) = read_in_pieces(text.as_bytes(), 7);
        assert!(response.ended() && !response.complete());
    }

    #[test]
    fn bytes_after_the_end_are_an_error() {
        let mut response = Response::new();
        let twice = [PLAIN, PLAIN].concat();
        assert!(response.feed(&twice, |_| ()).is_err());
    }
}
