//! A strict reader of HTTP/1 framing in front of the lenient one of the HTTP library.
//!
//! Two parsers that disagree about where a request ends are how requests are smuggled. No line that
//! could be read in two ways gets past this guard whole: bare LF or CR, NUL, folded lines, space
//! before a colon, two lengths, a length beside a transfer coding, any coding but `chunked`.
//! Sans-IO: bytes in, a verdict out. It follows bodies only to find the next head.

/// Follows one connection from its first byte on.
#[derive(Debug)]
pub(super) struct HeadGuard {
    state: State,
    /// The current line, when it began in an earlier piece.
    line: Vec<u8>,
    head: Head,
    /// Bytes of one line with its end. The HTTP library bounds the head as a whole.
    max_line: usize,
    first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Within a request line or header lines.
    Head,
    /// This many bytes of a body are left.
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    /// Not ours to read: HTTP/2, or an upgraded connection.
    Opaque,
}

/// What the framing of the current request depends on.
#[derive(Debug, Default)]
struct Head {
    request_line: bool,
    http_1_1: bool,
    length: Option<u64>,
    chunked: bool,
    hosts: u32,
}

/// Why a line is refused.
type Reason = &'static str;

/// The first line that is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: Reason,
    /// How much of the piece came before that line: 0 when it began in an earlier piece.
    pub(super) at: usize,
}

impl HeadGuard {
    pub(super) fn new(max_line: usize) -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            head: Head::default(),
            max_line,
            first: true,
        }
    }

    /// Whether a request began of which not all was read.
    pub(super) fn is_within_request(&self) -> bool {
        match self.state {
            State::Opaque => false,
            State::Head => self.head.request_line,
            State::Body(_)
            | State::ChunkSize
            | State::ChunkData(_)
            | State::ChunkEnd
            | State::Trailers => true,
        }
    }

    /// The connection was upgraded: what follows is no HTTP.
    pub(super) fn open(&mut self) {
        self.state = State::Opaque;
    }

    /// Reads the next piece of the stream, whatever its cut. After a violation there is nothing
    /// left to read.
    pub(super) fn read(&mut self, piece: &[u8]) -> Result<(), Violation> {
        let mut rest = piece;
        while !rest.is_empty() {
            rest = match self.state {
                State::Opaque => return Ok(()),
                State::Body(left) => self.skip(rest, left, State::Head, State::Body),
                State::ChunkData(left) => self.skip(rest, left, State::ChunkEnd, State::ChunkData),
                State::Head | State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    let at = piece.len() - rest.len();
                    self.line(rest).map_err(|reason| Violation { reason, at })?
                }
            };
        }
        Ok(())
    }

    fn skip<'a>(
        &mut self,
        piece: &'a [u8],
        left: u64,
        then: State,
        within: fn(u64) -> State,
    ) -> &'a [u8] {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let left = left - taken as u64;
        self.state = if left == 0 { then } else { within(left) };
        piece.get(taken..).unwrap_or_default()
    }

    /// Reads up to the end of the current line, or keeps what there is of it.
    fn line<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], Reason> {
        let end = memchr::memchr(b'\n', piece).map(|at| at + 1);
        let (line, rest) = piece.split_at(end.unwrap_or(piece.len()));
        if self.line.len() + line.len() > self.max_line {
            return Err("a line is too long");
        }
        if end.is_none() {
            self.line.extend_from_slice(line);
            return Ok(rest);
        }
        if self.line.is_empty() {
            self.whole_line(line)?;
        } else {
            let mut whole = std::mem::take(&mut self.line);
            whole.extend_from_slice(line);
            self.whole_line(&whole)?;
            whole.clear();
            self.line = whole;
        }
        Ok(rest)
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Reason> {
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err("a line ends without CR");
        };
        if line.iter().any(|byte| matches!(byte, b'\r' | 0)) {
            return Err("a line contains CR or NUL");
        }
        match self.state {
            State::Head => self.head_line(line),
            State::ChunkSize => self.chunk_size(line),
            State::ChunkEnd if line.is_empty() => {
                self.state = State::ChunkSize;
                Ok(())
            }
            State::ChunkEnd => Err("a chunk is longer than its size"),
            State::Trailers if line.is_empty() => {
                self.state = State::Head;
                Ok(())
            }
            State::Trailers => field(line).map(|_| ()),
            State::Body(_) | State::ChunkData(_) | State::Opaque => Ok(()),
        }
    }

    fn head_line(&mut self, line: &[u8]) -> Result<(), Reason> {
        if !self.head.request_line {
            if line.is_empty() {
                return Ok(());
            }
            if self.first && line == b"PRI * HTTP/2.0" {
                self.state = State::Opaque;
                return Ok(());
            }
            self.first = false;
            self.head.request_line = true;
            self.head.http_1_1 = line.ends_with(b" HTTP/1.1");
            return Ok(());
        }
        if line.is_empty() {
            return self.end_of_head();
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.head.length.is_some() {
                return Err("two lengths");
            }
            self.head.length = Some(decimal(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a transfer coding other than chunked");
            }
            self.head.chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            self.head.hosts += 1;
        }
        Ok(())
    }

    fn end_of_head(&mut self) -> Result<(), Reason> {
        let head = std::mem::take(&mut self.head);
        if head.chunked && head.length.is_some() {
            return Err("a length beside a transfer coding");
        }
        if head.chunked && !head.http_1_1 {
            return Err("a transfer coding before HTTP/1.1");
        }
        if head.hosts > 1 || (head.http_1_1 && head.hosts == 0) {
            return Err("not exactly one host");
        }
        self.state = match head.length {
            _ if head.chunked => State::ChunkSize,
            Some(length) if length > 0 => State::Body(length),
            _ => State::Head,
        };
        Ok(())
    }

    fn chunk_size(&mut self, line: &[u8]) -> Result<(), Reason> {
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let (digits, extension) = line.split_at(digits);
        let size = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or("a chunk without a size")?;
        if !(extension.is_empty() || extension.starts_with(b";")) {
            return Err("a chunk size that is not a number");
        }
        self.state = if size == 0 {
            State::Trailers
        } else {
            State::ChunkData(size)
        };
        Ok(())
    }
}

/// One header line: a token, a colon right after it, a value with its outer spaces removed.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Reason> {
    if line
        .first()
        .is_some_and(|byte| matches!(byte, b' ' | b'\t'))
    {
        return Err("a folded line");
    }
    let colon = memchr::memchr(b':', line).ok_or("a line without a colon")?;
    let (name, value) = line.split_at(colon);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(token) {
        return Err("a header name that is not a token");
    }
    Ok((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

fn decimal(value: &[u8]) -> Result<u64, Reason> {
    let bad = "a length that is not a number";
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    std::str::from_utf8(value)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(bad)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &[u8] = b"POST /v1/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe\nloGET / \
        HTTP/1.1\r\nhost: x\r\nX-A: b\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \
        Chunked\r\n\r\n3;a=b\r\n\n\0\n\r\n0\r\nTrailer-A: b\r\n\r\nGET / HTTP/1.0\r\n\r\n";

    fn verdict(stream: &[u8]) -> Option<&'static str> {
        HeadGuard::new(8192)
            .read(stream)
            .err()
            .map(|violation| violation.reason)
    }

    fn request(headers: &str) -> Vec<u8> {
        format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n").into_bytes()
    }

    #[test]
    fn well_formed_requests_pass_at_any_cut() {
        for cut in 0..GOOD.len() {
            let mut guard = HeadGuard::new(8192);
            guard.read(&GOOD[..cut]).unwrap();
            guard.read(&GOOD[cut..]).unwrap();
            assert_eq!(guard.state, State::Head, "cut at {cut}");
            assert!(!guard.is_within_request());
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (headers, reason) in [
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                "a length beside a transfer coding",
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 5",
                "a length beside a transfer coding",
            ),
            ("Content-Length: 5\r\nContent-Length: 5", "two lengths"),
            ("Content-Length: 5\r\nContent-Length: 6", "two lengths"),
            ("Content-Length: 5, 5", "a length that is not a number"),
            ("Content-Length: +5", "a length that is not a number"),
            (
                "Transfer-Encoding: gzip, chunked",
                "a transfer coding other than chunked",
            ),
            (
                "Transfer-Encoding: \x0bchunked",
                "a transfer coding other than chunked",
            ),
            ("A: b\r\n folded", "a folded line"),
            ("A : b", "a header name that is not a token"),
            ("A: b\nB: c", "a line ends without CR"),
            ("A: b\rB: c", "a line contains CR or NUL"),
            ("A: b\0", "a line contains CR or NUL"),
            ("Host: y", "not exactly one host"),
            ("no colon", "a line without a colon"),
        ] {
            assert_eq!(verdict(&request(headers)), Some(reason), "{headers:?}");
        }
        assert_eq!(
            verdict(b"GET / HTTP/1.1\r\n\r\n"),
            Some("not exactly one host")
        );
        assert_eq!(
            verdict(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Some("a transfer coding before HTTP/1.1")
        );
    }

    #[test]
    fn chunks_must_be_what_they_say() {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (body, reason) in [
            ("5\r\nhello!\r\n", "a chunk is longer than its size"),
            ("5 \r\nhello\r\n", "a chunk size that is not a number"),
            ("\r\n", "a chunk without a size"),
            ("5\nhello\r\n", "a line ends without CR"),
            ("fffffffffffffffff\r\n", "a chunk without a size"),
        ] {
            assert_eq!(
                verdict(format!("{head}{body}").as_bytes()),
                Some(reason),
                "{body:?}"
            );
        }
    }

    #[test]
    fn a_violation_says_where_its_line_began() {
        let good = request("Content-Length: 2");
        let stream = [&good[..], b"{}\nGET /hidden HTTP/1.1\r\n"].concat();
        let refused = |at| {
            Err(Violation {
                reason: "a line ends without CR",
                at,
            })
        };
        assert_eq!(HeadGuard::new(8192).read(&stream), refused(good.len() + 2));
        let mut guard = HeadGuard::new(8192);
        guard.read(&good).unwrap();
        assert_eq!(guard.read(b"{}\n"), refused(2));
        let mut guard = HeadGuard::new(8192);
        guard.read(b"GET / HT").unwrap();
        assert_eq!(guard.read(b"TP/1.1\nHost: x\r\n"), refused(0));
    }

    #[test]
    fn a_line_is_measured_whole_at_any_cut() {
        let line = b"GET /abcdefg HTTP/1.1\r\n";
        for cut in 0..line.len() {
            for (max, fits) in [(line.len(), true), (line.len() - 1, false)] {
                let mut guard = HeadGuard::new(max);
                let read = guard
                    .read(&line[..cut])
                    .and_then(|()| guard.read(&line[cut..]));
                assert_eq!(read.is_ok(), fits, "cut at {cut}, max {max}");
            }
        }
    }

    #[test]
    fn empty_lines_before_a_request_are_passed_over_but_no_bare_lf() {
        assert_eq!(verdict(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), None);
        assert_eq!(
            verdict(b"\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            Some("a line ends without CR")
        );
    }

    #[test]
    fn http2_and_upgrades_are_left_alone() {
        assert_eq!(verdict(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\n"), None);
        let mut guard = HeadGuard::new(8192);
        guard.read(&request("Upgrade: websocket")).unwrap();
        guard.open();
        guard.read(b"\x81\n\0\r").unwrap();
    }

    proptest! {
        #[test]
        fn verdict_does_not_depend_on_the_cut(
            stream in proptest::collection::vec(
                prop_oneof![
                    Just("GET / HTTP/1.1\r\n"), Just("Host: x\r\n"), Just("\r\n"), Just("\n"),
                    Just("Content-Length: 3\r\n"), Just("Transfer-Encoding: chunked\r\n"),
                    Just("3\r\nabc\r\n"), Just("0\r\n"), Just("abc"), Just("\r"), Just(" "),
                ],
                0..12,
            ),
            cut in 0_usize..200,
        ) {
            let stream = stream.concat().into_bytes();
            let cut = cut.min(stream.len());
            let whole = HeadGuard::new(24).read(&stream).err();
            let mut guard = HeadGuard::new(24);
            if let Err(first) = guard.read(&stream[..cut]) {
                prop_assert_eq!(Some(first), whole);
                return Ok(());
            }
            let second = guard.read(&stream[cut..]).err();
            // What was let through of a line cannot be taken back.
            let from_start = second.map(|found| (found.reason, cut + found.at));
            prop_assert_eq!(from_start, whole.map(|found| (found.reason, cut.max(found.at))));
        }
    }
}
