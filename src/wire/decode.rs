//! Content encodings, decoded piece by piece beside the path of the bytes.
//!
//! Input is worked through in small slices, each slice's output handed on before the next, and the
//! output is bounded for a slice and in all: a decompression bomb ends in
//! [`DecodeError::TooLarge`], not in memory.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use zstd::stream::{raw, zio};

/// What a body may grow to when nothing else is said.
pub const DECODED_LIMIT: usize = 256 << 20;
/// What one slice of input may grow to: honest text stays far below.
const BURST_LIMIT: usize = 8 << 20;
const SLICE: usize = 4 << 10;
/// Nobody encodes a body more often than this.
const MAX_CODINGS: usize = 4;
const BROTLI_BUFFER: usize = 8 << 10;
/// The window that RFC 9659 allows for zstd over HTTP.
const ZSTD_WINDOW_LOG: u32 = 23;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the content encoding is not known")]
    UnknownEncoding,
    #[error("the body is not what its content encoding says")]
    Malformed,
    #[error("the decoded body is over its limit")]
    TooLarge,
    #[error("the encoded body ends too early")]
    Incomplete,
    #[error("there is no memory for the decoded body")]
    NoRoom,
}

/// Undoes the codings of a `Content-Encoding`. After an error nothing more can be had from it.
pub struct Decoder {
    /// In the order of decoding: the coding applied last comes first.
    stages: Vec<Stage>,
    begun: bool,
    left: usize,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// None when an encoding is not known.
    pub fn new(content_encoding: &str) -> Option<Self> {
        Self::with_limits(content_encoding, DECODED_LIMIT, BURST_LIMIT)
    }

    fn with_limits(content_encoding: &str, total: usize, burst: usize) -> Option<Self> {
        let codings = content_encoding.split(',').map(str::trim);
        let mut stages = Vec::new();
        for coding in codings.rev().filter(|coding| !is_identity(coding)) {
            stages.push(Stage::new(coding, burst)?);
        }
        (stages.len() <= MAX_CODINGS).then_some(Self {
            stages,
            begun: false,
            left: total,
            failed: None,
        })
    }

    /// Whether there is nothing to undo.
    pub fn is_identity(&self) -> bool {
        self.stages.is_empty()
    }

    /// Decodes `input` as far as it goes and hands the output to `sink` in pieces.
    pub fn push(&mut self, input: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.begun |= !input.is_empty();
        let Self { stages, left, .. } = self;
        let mut bounded = |output: &[u8]| {
            *left = left
                .checked_sub(output.len())
                .ok_or(DecodeError::TooLarge)?;
            sink(output);
            Ok(())
        };
        let result = feed(stages, input, &mut bounded);
        self.failed = result.err();
        result
    }

    /// Says whether all that was encoded has come, or nothing at all. Nothing may be pushed
    /// after that.
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        if self.failed.is_none() && self.begun && !self.stages.iter_mut().all(Stage::is_complete) {
            self.failed = Some(DecodeError::Incomplete);
        }
        self.failed.map_or(Ok(()), Err)
    }
}

/// Decodes a whole body of at most `limit` bytes.
pub fn decode_all(
    content_encoding: &str,
    body: &[u8],
    limit: usize,
) -> Result<Vec<u8>, DecodeError> {
    let mut decoder =
        Decoder::with_limits(content_encoding, limit, limit).ok_or(DecodeError::UnknownEncoding)?;
    let mut whole = Vec::new();
    decoder.push(body, &mut |output| whole.extend_from_slice(output))?;
    Ok(whole)
}

/// Decodes a whole body of at most `limit` bytes, as far as it goes. `take` is told how many bytes
/// are to be set aside in all before they are, and may refuse.
pub fn decode_within(
    content_encoding: &str,
    body: &[u8],
    limit: usize,
    take: &mut dyn FnMut(usize) -> bool,
) -> (Vec<u8>, Result<(), DecodeError>) {
    let mut whole = Vec::new();
    let Some(mut decoder) = Decoder::with_limits(content_encoding, limit, limit.min(BURST_LIMIT))
    else {
        return (whole, Err(DecodeError::UnknownEncoding));
    };
    let mut append = |output: &[u8]| {
        let needed = whole.len() + output.len();
        if needed > limit {
            return Err(DecodeError::TooLarge);
        }
        if needed > whole.capacity() {
            let capacity = needed.max(limit.min(2 * whole.capacity()));
            if !take(capacity) {
                return Err(DecodeError::NoRoom);
            }
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(output);
        Ok(())
    };
    let result = feed(&mut decoder.stages, body, &mut append);
    (whole, result)
}

fn is_identity(coding: &str) -> bool {
    coding.is_empty() || coding.eq_ignore_ascii_case("identity")
}

type Output<'a> = dyn FnMut(&[u8]) -> Result<(), DecodeError> + 'a;

/// Leads `input` through all stages, slice by slice.
fn feed(stages: &mut [Stage], input: &[u8], output: &mut Output<'_>) -> Result<(), DecodeError> {
    let Some((first, later)) = stages.split_first_mut() else {
        return output(input);
    };
    for slice in input.chunks(SLICE) {
        let (decoded, result) = first.decode(slice);
        if !decoded.is_empty() {
            feed(later, &decoded, output)?;
        }
        first.reuse(decoded);
        result?;
    }
    Ok(())
}

enum Stage {
    Gzip(MultiGzDecoder<Bounded>),
    /// Which of the two meanings of `deflate` it is shows in the first two bytes.
    DeflateStart(Vec<u8>, Bounded),
    Zlib(ZlibDecoder<Bounded>),
    Deflate(DeflateDecoder<Bounded>),
    Brotli(Box<brotli::DecompressorWriter<Bounded>>),
    Zstd(zio::Writer<Bounded, raw::Decoder<'static>>),
}

impl Stage {
    fn new(coding: &str, burst: usize) -> Option<Self> {
        let output = Bounded {
            bytes: Vec::new(),
            limit: burst,
            over: false,
        };
        match coding.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Self::Gzip(MultiGzDecoder::new(output))),
            "deflate" => Some(Self::DeflateStart(Vec::new(), output)),
            "br" => {
                let decoder = brotli::DecompressorWriter::new(output, BROTLI_BUFFER);
                Some(Self::Brotli(Box::new(decoder)))
            }
            "zstd" => zstd_stage(output).ok(),
            _ => None,
        }
    }

    /// What came of `slice`, also of the part before an error.
    fn decode(&mut self, slice: &[u8]) -> (Vec<u8>, Result<(), DecodeError>) {
        if let Some(started) = self.started(slice) {
            return started;
        }
        let result = write_all(self.writer(), slice);
        let output = self.output();
        let result = match result {
            Ok(()) => Ok(()),
            Err(_) if output.over => Err(DecodeError::TooLarge),
            Err(_) => Err(DecodeError::Malformed),
        };
        (std::mem::take(&mut output.bytes), result)
    }

    /// Gives a buffer back, so that the next slice need not allocate one.
    fn reuse(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.output().bytes = buffer;
    }

    /// At the start of a `deflate` body: what came of `slice`.
    fn started(&mut self, slice: &[u8]) -> Option<(Vec<u8>, Result<(), DecodeError>)> {
        let Self::DeflateStart(held, output) = self else {
            return None;
        };
        held.extend_from_slice(slice);
        let &[method, flags, ..] = held.as_slice() else {
            return Some((Vec::new(), Ok(())));
        };
        let held = std::mem::take(held);
        let output = std::mem::take(output);
        let is_zlib = method & 0x0f == 8 && u16::from_be_bytes([method, flags]) % 31 == 0;
        *self = if is_zlib {
            Self::Zlib(ZlibDecoder::new(output))
        } else {
            Self::Deflate(DeflateDecoder::new(output))
        };
        Some(self.decode(&held))
    }

    fn is_complete(&mut self) -> bool {
        match self {
            Self::Gzip(decoder) => decoder.try_finish().is_ok(),
            Self::DeflateStart(..) => false,
            Self::Zlib(decoder) => decoder.try_finish().is_ok(),
            Self::Deflate(decoder) => decoder.try_finish().is_ok(),
            Self::Brotli(decoder) => decoder.close().is_ok(),
            Self::Zstd(decoder) => decoder.finish().is_ok(),
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Gzip(decoder) => decoder,
            Self::DeflateStart(held, _) => held,
            Self::Zlib(decoder) => decoder,
            Self::Deflate(decoder) => decoder,
            Self::Brotli(decoder) => decoder,
            Self::Zstd(decoder) => decoder,
        }
    }

    fn output(&mut self) -> &mut Bounded {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::DeflateStart(_, output) => output,
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.writer_mut(),
        }
    }
}

/// The flush brings out what a decoder has ready, which a stream must not wait for.
fn write_all(writer: &mut dyn Write, slice: &[u8]) -> io::Result<()> {
    writer.write_all(slice)?;
    writer.flush()
}

fn zstd_stage(output: Bounded) -> io::Result<Stage> {
    let mut decoder = raw::Decoder::new()?;
    decoder.set_parameter(raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
    Ok(Stage::Zstd(zio::Writer::new(output, decoder)))
}

/// Takes what a decoder writes, up to a limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            self.over = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
