//! What was recorded of a run: its calls in their order, and what answered each.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::asked::Request;
use crate::core::id::{CallId, Label};

/// Calls of one tape.
pub const MAX_CALLS: usize = 10_000;
/// Bytes of all bodies of one tape together.
pub const MAX_BYTES: u64 = 1 << 30;

/// One run.
#[derive(Debug)]
pub struct Tape {
    pub run: Label,
    /// The earliest first.
    pub calls: Vec<Call>,
}

/// One recorded call.
#[derive(Debug)]
pub struct Call {
    pub id: CallId,
    pub agent: Label,
    pub model: Option<Label>,
    pub request: Request,
    /// Or why it cannot be played, in words.
    pub reply: Result<Reply, String>,
}

/// What answered a call.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Without those that are of one connection.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Microseconds to the head.
    pub head_us: u64,
    /// Each with the microseconds that it came after what was before it.
    pub chunks: Vec<(u64, Bytes)>,
    /// The upstream broke off.
    pub is_cut: bool,
}

impl Tape {
    pub fn playable(&self) -> usize {
        self.calls.iter().filter(|call| call.reply.is_ok()).count()
    }
}

impl Reply {
    /// A body in the pieces that it came in: lengths, and the time before each. What no piece is
    /// known of comes with the last.
    pub fn pieces(
        body: &Bytes,
        marks: impl IntoIterator<Item = (u64, usize)>,
    ) -> Vec<(u64, Bytes)> {
        let mut rest = body.clone();
        let mut pieces = Vec::new();
        for (gap_us, len) in marks {
            let piece = rest.split_to(len.min(rest.len()));
            if !piece.is_empty() {
                pieces.push((gap_us, piece));
            }
        }
        if !rest.is_empty() {
            pieces.push((0, rest));
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_body_whatever_the_marks_say() {
        let body = Bytes::from_static(b"abcdef");
        for marks in [
            vec![],
            vec![(1, 2), (3, 4)],
            vec![(1, 2)],
            vec![(1, 9), (2, 9)],
        ] {
            let pieces = Reply::pieces(&body, marks);
            let whole: Vec<u8> = pieces
                .iter()
                .flat_map(|(_, piece)| piece.to_vec())
                .collect();
            assert_eq!(whole, b"abcdef");
        }
        let pieces = Reply::pieces(&body, [(5, 2), (7, 4)]);
        assert_eq!(pieces[1], (7, Bytes::from_static(b"cdef")));
    }
}
