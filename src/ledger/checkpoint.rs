//! Checkpoints as they are stored: compressed.

use minicbor::{Decode, Encode};

use super::record::Checkpoint;

#[derive(Debug, Encode, Decode)]
pub(crate) struct Packed {
    #[n(0)]
    unpacked_len: u32,
    #[cbor(n(1), with = "minicbor::bytes")]
    bytes: Vec<u8>,
}

pub(crate) fn pack(encoded: &[u8]) -> Option<Packed> {
    let unpacked_len = u32::try_from(encoded.len()).ok()?;
    let bytes = zstd::bulk::compress(encoded, 3).ok()?;
    Some(Packed {
        unpacked_len,
        bytes,
    })
}

/// The checkpoint of a record's payload.
pub(crate) fn parse(payload: &[u8]) -> Option<Checkpoint> {
    let packed: Packed = minicbor::decode(payload).ok()?;
    minicbor::decode(&super::body::unpack(&packed.bytes, packed.unpacked_len)?).ok()
}
