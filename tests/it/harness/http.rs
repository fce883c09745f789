//! A plain reader of HTTP/1.1 messages that keeps what it read: the tests' own eyes.

use std::collections::BTreeSet;

/// A start line with its headers, names in lower case, order and duplicates as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Takes a head off the front of `bytes`; the number says how long it was.
    pub(crate) fn take(bytes: &[u8]) -> Option<(Self, usize)> {
        let end = find(bytes, b"\r\n\r\n")?;
        let mut lines = split(&bytes[..end], b"\r\n").into_iter();
        let start = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let headers = lines.map(header).collect();
        Some((Self { start, headers }, end + 4))
    }

    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        let named = self.headers.iter().filter(|(n, _)| n == name);
        named.map(|(_, value)| value.as_slice()).collect()
    }

    /// The only value of a header, as text.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() < 2, "{name} came {} times", values.len());
        values
            .first()
            .map(|value| std::str::from_utf8(value).expect("a text"))
    }

    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.headers.iter().map(|(name, _)| name.clone()).collect()
    }

    /// How the body of a response ends; `None` where there is none.
    pub(crate) fn response_framing(&self, to_head: bool) -> Framing {
        let bodiless = matches!(self.status(), 100..=199 | 204 | 304);
        if to_head || bodiless {
            Framing::Length(0)
        } else {
            self.framing(Framing::UntilClose)
        }
    }

    pub(crate) fn request_framing(&self) -> Framing {
        if self.header("upgrade").is_some() {
            return Framing::UntilClose;
        }
        self.framing(Framing::Length(0))
    }

    pub(crate) fn status(&self) -> u16 {
        let code = self.start.split(' ').nth(1).expect("a status line");
        code.parse().expect("a status")
    }

    fn framing(&self, otherwise: Framing) -> Framing {
        if self.header("transfer-encoding").is_some() {
            return Framing::Chunked;
        }
        match self.header("content-length") {
            Some(length) => Framing::Length(length.parse().expect("a length")),
            None => otherwise,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// A body as it arrives.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) framing: Framing,
    /// What was framed.
    pub(crate) data: Vec<u8>,
    /// The length of each chunk, where there are chunks.
    pub(crate) chunks: Vec<usize>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    pub(crate) done: bool,
    line: Vec<u8>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Size,
    Data(usize),
    End,
    Trailers,
}

impl Body {
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            framing,
            data: Vec::new(),
            chunks: Vec::new(),
            trailers: Vec::new(),
            done: framing == Framing::Length(0),
            line: Vec::new(),
            phase: Phase::Size,
        }
    }

    /// Reads what belongs to this body off the front of `bytes` and says how much that was.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> usize {
        match self.framing {
            Framing::UntilClose => {
                self.data.extend_from_slice(bytes);
                bytes.len()
            }
            Framing::Length(length) => {
                let taken = bytes.len().min(length - self.data.len());
                self.data.extend_from_slice(&bytes[..taken]);
                self.done = self.data.len() == length;
                taken
            }
            Framing::Chunked => {
                let mut at = 0;
                while at < bytes.len() && !self.done {
                    at += self.chunked(&bytes[at..]);
                }
                at
            }
        }
    }

    fn chunked(&mut self, bytes: &[u8]) -> usize {
        if let Phase::Data(left) = self.phase {
            let taken = left.min(bytes.len());
            self.data.extend_from_slice(&bytes[..taken]);
            self.phase = if taken == left {
                Phase::End
            } else {
                Phase::Data(left - taken)
            };
            return taken;
        }
        let taken = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(bytes.len(), |n| n + 1);
        self.line.extend_from_slice(&bytes[..taken]);
        if self.line.ends_with(b"\n") {
            let line = std::mem::take(&mut self.line);
            self.line(
                line.strip_suffix(b"\r\n")
                    .expect("a line that ends in CRLF"),
            );
        }
        taken
    }

    fn line(&mut self, line: &[u8]) {
        match self.phase {
            Phase::Size => {
                let text = std::str::from_utf8(line).expect("a chunk size");
                let size = text.split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size, 16).expect("a chunk size");
                if size == 0 {
                    self.phase = Phase::Trailers;
                } else {
                    self.chunks.push(size);
                    self.phase = Phase::Data(size);
                }
            }
            Phase::End => {
                assert!(line.is_empty(), "a chunk longer than it said");
                self.phase = Phase::Size;
            }
            Phase::Trailers if line.is_empty() => self.done = true,
            Phase::Trailers => self.trailers.push(header(line)),
            Phase::Data(_) => unreachable!("data has no lines"),
        }
    }
}

fn header(line: &[u8]) -> (String, Vec<u8>) {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .unwrap_or(line.len());
    let (name, value) = line.split_at(colon);
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    (
        name,
        value
            .strip_prefix(b":")
            .unwrap_or_default()
            .trim_ascii()
            .to_vec(),
    )
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

fn split<'a>(mut bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = find(bytes, separator) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + separator.len()..];
    }
    parts.push(bytes);
    parts
}
