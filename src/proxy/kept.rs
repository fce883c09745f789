//! The bytes of an answer that are kept to be recorded.

use std::mem;

use bytes::Bytes;

/// A shorter chunk is copied: a reference to it would keep the whole buffer alive that it was read
/// into, 8 KiB for a few words.
const MIN_REFERENCED: usize = 4 * 1024;

#[derive(Default)]
pub(super) struct Kept {
    whole: Vec<Bytes>,
    /// Small chunks since the last large one.
    small: Vec<u8>,
    bytes: usize,
}

impl Kept {
    pub(super) fn push(&mut self, chunk: &Bytes) {
        self.bytes += chunk.len();
        if chunk.len() < MIN_REFERENCED {
            self.small.extend_from_slice(chunk);
        } else {
            self.close();
            self.whole.push(chunk.clone());
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn into_chunks(mut self) -> Vec<Bytes> {
        self.close();
        self.whole
    }

    fn close(&mut self) {
        if !self.small.is_empty() {
            self.whole.push(mem::take(&mut self.small).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_chunks_are_copied_together_and_large_ones_are_not() {
        let large = Bytes::from(vec![b'x'; MIN_REFERENCED]);
        let small = Bytes::from_static(b"ab");
        let mut kept = Kept::default();
        for chunk in [&small, &small, &large, &small] {
            kept.push(chunk);
        }
        assert_eq!(kept.bytes(), 6 + MIN_REFERENCED);
        let chunks = kept.into_chunks();
        assert_eq!(chunks, [&b"abab"[..], &large, b"ab"]);
        assert_eq!(chunks[1].as_ptr(), large.as_ptr());
    }
}
