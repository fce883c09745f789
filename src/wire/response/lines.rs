//! JSON lines, pushed in any pieces.

use memchr::memchr;

use crate::wire::sse::EVENT_LIMIT;

/// Lines from bytes; one over the limit is left out and counted.
#[derive(Debug, Default)]
pub(super) struct LineDecoder {
    pending: Vec<u8>,
    skipping: bool,
    skipped: u64,
}

impl LineDecoder {
    pub(super) fn push(&mut self, chunk: &[u8], mut on_line: impl FnMut(&[u8])) {
        let mut rest = chunk;
        while let Some(end) = memchr(b'\n', rest) {
            let (head, tail) = rest.split_at(end);
            self.end_line(head, &mut on_line);
            rest = tail.get(1..).unwrap_or_default();
        }
        self.hold(rest);
    }

    /// The end of the stream: a last line needs no line feed.
    pub(super) fn finish(&mut self, mut on_line: impl FnMut(&[u8])) {
        self.end_line(&[], &mut on_line);
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    fn end_line(&mut self, head: &[u8], on_line: &mut impl FnMut(&[u8])) {
        self.hold_unless_whole(head, on_line);
        self.pending.clear();
        self.skipping = false;
    }

    fn hold_unless_whole(&mut self, head: &[u8], on_line: &mut impl FnMut(&[u8])) {
        if self.pending.is_empty() && !self.skipping && head.len() <= EVENT_LIMIT {
            on_line(head);
            return;
        }
        self.hold(head);
        if !self.skipping {
            on_line(&self.pending);
        }
    }

    fn hold(&mut self, rest: &[u8]) {
        if self.skipping {
            return;
        }
        if self.pending.len() + rest.len() > EVENT_LIMIT {
            self.skipping = true;
            self.skipped += 1;
            self.pending = Vec::new();
        } else {
            self.pending.extend_from_slice(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, u64) {
        let mut decoder = LineDecoder::default();
        let mut lines = Vec::new();
        for piece in pieces {
            decoder.push(piece, |line| lines.push(line.to_vec()));
        }
        decoder.finish(|line| lines.push(line.to_vec()));
        (lines, decoder.skipped())
    }

    #[test]
    fn any_split_gives_the_same_lines() {
        let stream = b"one\ntwo\r\n\nthree";
        let whole = lines([stream.as_slice()]);
        assert_eq!(whole.0, [b"one".as_slice(), b"two\r", b"", b"three"]);
        for size in 1..stream.len() {
            assert_eq!(lines(stream.chunks(size)), whole);
        }
    }

    #[test]
    fn a_line_over_the_limit_is_left_out() {
        let stream = [b"a\n", vec![b'x'; EVENT_LIMIT + 1].as_slice(), b"\nb\n"].concat();
        for size in [1 << 20, usize::MAX >> 1] {
            let (found, skipped) = lines(stream.chunks(size));
            assert_eq!(found, [b"a".as_slice(), b"b", b""]);
            assert_eq!(skipped, 1);
        }
    }
}
