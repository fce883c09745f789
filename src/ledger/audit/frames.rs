//! The frames of one segment, looked at where they lie.

use std::io;

use super::super::log::Window;
use super::super::record::{
    Chain, FRAME_LEN, HEADER_LEN, MARK, frame_chain, frame_len, parse_frame,
};
use super::super::storage::Storage;

pub(super) struct Frames {
    window: Window,
    /// The end of the segment.
    pub(super) limit: u64,
}

/// A frame whose checksum holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    pub(super) kind: u8,
    pub(super) chain: Chain,
    /// Of the whole frame.
    pub(super) len: u64,
    /// It follows from what it was asked to follow from.
    pub(super) follows: bool,
}

/// What lies somewhere.
#[derive(Debug)]
pub(super) enum Peek {
    End,
    /// Something that goes on behind the end.
    Torn,
    /// No frame.
    Unreadable,
    /// A frame of this length whose checksum does not hold.
    Bad(u64),
    Good(Ahead),
}

impl Frames {
    pub(super) fn open(storage: &dyn Storage, (number, limit): (u64, u64)) -> io::Result<Self> {
        Ok(Self {
            window: Window::new(storage.open(number)?, Window::AHEAD),
            limit,
        })
    }

    /// The head of the segment, or what there is of it.
    pub(super) fn head(&mut self) -> io::Result<Vec<u8>> {
        self.window.load(0, HEADER_LEN, self.limit)?;
        let head = self.window.from(0);
        Ok(head.get(..HEADER_LEN).unwrap_or(head).to_vec())
    }

    /// What lies at `offset`, and whether it follows from `chain`; where that is not known, it does.
    pub(super) fn peek(&mut self, offset: u64, chain: Option<Chain>) -> io::Result<Peek> {
        if offset >= self.limit {
            return Ok(Peek::End);
        }
        if !self.window.load(offset, FRAME_LEN, self.limit)? {
            return Ok(Peek::Torn);
        }
        let Some(len) = frame_len(self.window.from(offset)) else {
            return Ok(Peek::Unreadable);
        };
        if !self.window.load(offset, len, self.limit)? {
            return Ok(Peek::Torn);
        }
        let len = len as u64;
        let frame = parse_frame(self.window.from(offset));
        Ok(frame.map_or(Peek::Bad(len), |frame| {
            Peek::Good(Ahead {
                kind: frame.kind,
                chain: frame.chain,
                len,
                follows: chain.is_none_or(|chain| frame.follows(chain)),
            })
        }))
    }

    /// Where the frame at `offset` ends; where there is none, `offset`.
    pub(super) fn end_of(&mut self, offset: u64) -> io::Result<u64> {
        Ok(match self.peek(offset, None)? {
            Peek::Good(ahead) => offset + ahead.len,
            _ => offset,
        })
    }

    /// The payload of the frame at `offset`, at which the last look was.
    pub(super) fn payload(&self, offset: u64) -> &[u8] {
        let bytes = self.window.from(offset);
        let len = frame_len(bytes).unwrap_or_default();
        bytes.get(FRAME_LEN..len).unwrap_or_default()
    }

    /// The chain that the frame at `offset` says and its length, neither of them verified; none where
    /// there is none.
    pub(super) fn chain_at(&mut self, offset: u64) -> io::Result<Option<(Chain, u64)>> {
        if !self.window.load(offset, FRAME_LEN, self.limit)? {
            return Ok(None);
        }
        let bytes = self.window.from(offset);
        let len = frame_len(bytes).map(|len| len as u64);
        Ok(frame_chain(bytes).zip(len))
    }

    /// Where the next frame is whose checksum holds, behind one of `len` at `from` if that is known.
    pub(super) fn resync(&mut self, from: u64, len: Option<u64>) -> io::Result<Option<u64>> {
        if let Some(len) = len
            && let Peek::Good(_) = self.peek(from + len, None)?
        {
            return Ok(Some(from + len));
        }
        let mut offset = from + 1;
        while self.window.load(offset, MARK.len(), self.limit)? {
            let Some(skipped) = memchr::memmem::find(self.window.from(offset), &MARK) else {
                offset = self.window.end().saturating_sub(1).max(offset + 1);
                continue;
            };
            offset += skipped as u64;
            if let Peek::Good(_) = self.peek(offset, None)? {
                return Ok(Some(offset));
            }
            offset += 1;
        }
        Ok(None)
    }
}
