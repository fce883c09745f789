//! Checkpoints as they are stored: compressed, written and read piece by piece. With a million runs
//! and accounts a whole one is large, and mostly only its calls are asked for.

use std::io::{self, Write};

use minicbor::encode::write::Writer;
use minicbor::{Decode, Encode, Encoder};
use zstd::stream::write::Encoder as Compressor;

use crate::core::budget::AccountId;
use crate::core::call::{Admission, Settlement};
use crate::core::time::Timestamp;

use super::record::Checkpoint;
use super::slices::Of;
use super::summary::Key;

const LEVEL: i32 = 3;

/// A checkpoint ready to be written.
#[derive(Clone, Debug, PartialEq, Encode)]
pub(crate) struct Packed {
    #[n(0)]
    unpacked_len: u32,
    #[cbor(n(1), with = "minicbor::bytes")]
    bytes: Vec<u8>,
    #[n(2)]
    calls: Calls,
}

impl Packed {
    /// About what it takes in the log.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Of a checkpoint what is asked for while the log goes on.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Calls {
    #[n(0)]
    pub(crate) before: u64,
    #[n(1)]
    pub(crate) at: Timestamp,
    #[n(2)]
    pub(crate) open: Vec<Admission>,
    #[cbor(n(3), default)]
    pub(crate) pending: Vec<(Admission, Settlement)>,
}

#[derive(Decode)]
struct Stored<'b> {
    #[n(0)]
    unpacked_len: u32,
    #[cbor(b(1), with = "minicbor::bytes")]
    bytes: &'b [u8],
    /// None in what was written before there was this.
    #[n(2)]
    calls: Option<Calls>,
}

/// The whole checkpoint of a record's payload.
pub(crate) fn parse(payload: &[u8]) -> Option<Checkpoint> {
    let stored: Stored<'_> = minicbor::decode(payload).ok()?;
    minicbor::decode(&super::body::unpack(stored.bytes, stored.unpacked_len)?).ok()
}

/// What the checkpoint of a record's payload says of calls.
pub(crate) fn calls(payload: &[u8]) -> Option<Calls> {
    let stored: Stored<'_> = minicbor::decode(payload).ok()?;
    stored.calls.or_else(|| {
        let whole = parse(payload)?;
        Some(Calls {
            before: whole.before,
            at: whole.at,
            open: whole.open,
            pending: whole.pending,
        })
    })
}

/// Packs a checkpoint: first its calls, then summaries, then days, then accounts, one by one as they come out
/// of the index.
pub(crate) struct Packing {
    calls: Calls,
    encoder: Encoder<Writer<Counted>>,
}

struct Counted {
    compressor: Compressor<'static, Vec<u8>>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.compressor.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Encoded = Result<(), minicbor::encode::Error<io::Error>>;

impl Packing {
    pub(crate) fn begin(calls: Calls) -> io::Result<Self> {
        let counted = Counted {
            compressor: Compressor::new(Vec::new(), LEVEL)?,
            bytes: 0,
        };
        let mut packing = Self {
            calls,
            encoder: Encoder::new(Writer::new(counted)),
        };
        packing.head().map_err(io::Error::other)?;
        Ok(packing)
    }

    /// As `Checkpoint` is decoded: a map of its fields by number.
    fn head(&mut self) -> Encoded {
        let Self { calls, encoder } = self;
        encoder.map(7)?.u8(0)?.u64(calls.before)?;
        encoder.u8(1)?.encode(calls.at)?;
        encoder.u8(2)?.encode(&calls.open)?;
        encoder.u8(5)?.encode(&calls.pending)?;
        encoder.u8(3)?.begin_array()?;
        Ok(())
    }

    /// A summary, as it is encoded in the index.
    pub(crate) fn summary(&mut self, key: &Key, encoded: &[u8]) -> io::Result<()> {
        let encoder = self.encoder.array(2).map_err(io::Error::other)?;
        encoder.encode(key).map_err(io::Error::other)?;
        self.raw(encoded)
    }

    pub(crate) fn end_of_summaries(&mut self) -> io::Result<()> {
        let between = |encoder: &mut Encoder<_>| -> Encoded {
            encoder.end()?.u8(6)?.begin_array()?;
            Ok(())
        };
        between(&mut self.encoder).map_err(io::Error::other)
    }

    /// The slice of a day, as it is encoded in the index.
    pub(crate) fn slice(&mut self, start: Timestamp, of: &Of, encoded: &[u8]) -> io::Result<()> {
        let head = |encoder: &mut Encoder<_>| -> Encoded {
            encoder.array(3)?.encode(start)?.encode(of)?;
            Ok(())
        };
        head(&mut self.encoder).map_err(io::Error::other)?;
        self.raw(encoded)
    }

    pub(crate) fn end_of_slices(&mut self) -> io::Result<()> {
        let between = |encoder: &mut Encoder<_>| -> Encoded {
            encoder.end()?.u8(4)?.begin_array()?;
            Ok(())
        };
        between(&mut self.encoder).map_err(io::Error::other)
    }

    /// An account, as it is encoded in the index.
    pub(crate) fn account(&mut self, id: AccountId, encoded: &[u8]) -> io::Result<()> {
        let encoder = self.encoder.array(2).map_err(io::Error::other)?;
        encoder.encode(id).map_err(io::Error::other)?;
        self.raw(encoded)
    }

    fn raw(&mut self, encoded: &[u8]) -> io::Result<()> {
        use minicbor::encode::Write as _;
        self.encoder.writer_mut().write_all(encoded)
    }

    /// None when it is too large to be read again.
    pub(crate) fn finish(mut self) -> io::Result<Option<Packed>> {
        self.encoder.end().map_err(io::Error::other)?;
        let Counted { compressor, bytes } = self.encoder.into_writer().into_inner();
        let packed = compressor.finish()?;
        Ok(u32::try_from(bytes).ok().map(|unpacked_len| Packed {
            unpacked_len,
            bytes: packed,
            calls: self.calls,
        }))
    }
}
