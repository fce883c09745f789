//! 128-bit digests of message bytes.

use std::fmt;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

/// xxh3-128 of a byte range, seeded.
///
/// Collision-safe against accidents. The seed is random and private to one data directory, so
/// that nobody outside can prepare two texts with one digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(u128);

/// The secret that makes digests of one installation unpredictable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DigestSeed(pub u64);

impl fmt::Debug for DigestSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestSeed(..)")
    }
}

impl DigestSeed {
    pub fn digest(self, bytes: &[u8]) -> Digest {
        Digest(xxhash_rust::xxh3::xxh3_128_with_seed(bytes, self.0))
    }
}

/// Digests of the growing front of a byte string.
pub struct PrefixDigests(xxhash_rust::xxh3::Xxh3);

impl DigestSeed {
    pub fn prefixes(self) -> PrefixDigests {
        PrefixDigests(xxhash_rust::xxh3::Xxh3::with_seed(self.0))
    }
}

impl PrefixDigests {
    /// The digest of everything pushed so far, these bytes included.
    pub fn push(&mut self, bytes: &[u8]) -> Digest {
        self.0.update(bytes);
        Digest(self.0.digest128())
    }
}

impl Digest {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl<C> Encode<C> for Digest {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.bytes(&self.to_bytes())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Digest {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let bytes: [u8; 16] = d
            .bytes()?
            .try_into()
            .map_err(|_| decode::Error::message("a digest has 16 bytes"))?;
        Ok(Self::from_bytes(bytes))
    }
}
