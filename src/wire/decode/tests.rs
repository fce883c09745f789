use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::*;

const TEXT: &[u8] = b"data: {\"usage\":{\"prompt_tokens\":3}}\n\n";

fn encode(coding: &str, body: &[u8]) -> Vec<u8> {
    let level = Compression::default();
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "zlib" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
            encoder.write_all(body).unwrap();
            encoder.into_inner()
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        _ => body.to_vec(),
    }
}

fn push_all(decoder: &mut Decoder, body: &[u8], size: usize) -> Result<Vec<u8>, DecodeError> {
    let mut whole = Vec::new();
    for chunk in body.chunks(size) {
        decoder.push(chunk, &mut |output| whole.extend_from_slice(output))?;
    }
    Ok(whole)
}

#[test]
fn every_coding_decodes_in_any_pieces() {
    let body = TEXT.repeat(300);
    for (coding, header) in [
        ("identity", "identity"),
        ("identity", ""),
        ("gzip", "gzip"),
        ("gzip", "X-GZIP"),
        ("zlib", "deflate"),
        ("deflate", "deflate"),
        ("br", "br"),
        ("zstd", "zstd"),
    ] {
        let encoded = encode(coding, &body);
        for size in [1, 2, 3, 100, usize::MAX] {
            let mut decoder = Decoder::new(header).unwrap();
            let output = push_all(&mut decoder, &encoded, size.min(encoded.len()));
            assert_eq!(output.as_deref(), Ok(body.as_slice()), "{coding} by {size}");
        }
        assert_eq!(
            decode_all(header, &encoded, body.len()).as_deref(),
            Ok(body.as_slice())
        );
        if coding != "identity" {
            let error = decode_all(header, &encoded, body.len() - 1);
            assert_eq!(error, Err(DecodeError::TooLarge), "{coding}");
        }
    }
}

#[test]
fn a_whole_body_takes_memory_as_it_grows_and_stays_below_its_limit() {
    let body = b"a".repeat(3 << 20);
    for (coding, header) in [("gzip", "gzip"), ("br", "br"), ("zstd", "zstd")] {
        let encoded = encode(coding, &body);
        assert!(encoded.len() < 8 << 10, "{coding}");
        let decode = |limit: usize, memory: usize| {
            let mut most = 0;
            let mut take = |bytes: usize| {
                most = most.max(bytes);
                bytes <= memory
            };
            let (whole, result) = decode_within(header, &encoded, limit, &mut take);
            assert!(whole.capacity() <= most.min(memory).min(limit), "{coding}");
            (whole, result)
        };
        let (whole, result) = decode(body.len(), body.len());
        assert!(whole == body && result.is_ok(), "{coding}");
        let (_, result) = decode(body.len() - 1, usize::MAX);
        assert_eq!(result, Err(DecodeError::TooLarge), "{coding}");
        let (_, result) = decode(64 << 10, usize::MAX);
        assert_eq!(result, Err(DecodeError::TooLarge), "{coding}");
        let (_, result) = decode(usize::MAX, body.len() - 1);
        assert_eq!(result, Err(DecodeError::NoRoom), "{coding}");
    }
}

#[test]
fn what_came_before_damage_is_there() {
    let mut damaged = encode("gzip", TEXT);
    damaged.extend_from_slice(b"and something after its end");
    let (whole, result) = decode_within("gzip", &damaged, 1 << 10, &mut |_| true);
    assert_eq!(
        (whole.as_slice(), result),
        (TEXT, Err(DecodeError::Malformed))
    );
    let (whole, result) = decode_within("unheard-of", TEXT, 1 << 10, &mut |_| true);
    assert_eq!(
        (whole.len(), result),
        (0, Err(DecodeError::UnknownEncoding))
    );
}

#[test]
fn what_ends_too_early_is_told_from_what_is_complete() {
    let body = TEXT.repeat(30);
    for (coding, header) in [
        ("gzip", "gzip"),
        ("zlib", "deflate"),
        ("deflate", "deflate"),
        ("br", "br"),
        ("zstd", "zstd"),
    ] {
        let encoded = encode(coding, &body);
        for end in 0..=encoded.len() {
            let mut decoder = Decoder::new(header).unwrap();
            push_all(&mut decoder, &encoded[..end], 7).unwrap();
            let complete = end == 0 || end == encoded.len();
            let expected = complete.then_some(()).ok_or(DecodeError::Incomplete);
            assert_eq!(decoder.finish(), expected, "{coding} up to {end}");
            assert_eq!(decoder.finish(), expected, "{coding} asked twice");
        }
    }
    let mut plain = Decoder::new("identity").unwrap();
    push_all(&mut plain, TEXT, 7).unwrap();
    assert_eq!(plain.finish(), Ok(()));
    let mut broken = Decoder::new("gzip").unwrap();
    push_all(&mut broken, TEXT, 7).unwrap_err();
    assert_eq!(broken.finish(), Err(DecodeError::Malformed));
}

#[test]
fn codings_are_undone_from_last_to_first() {
    let encoded = encode("br", &encode("gzip", TEXT));
    assert_eq!(
        decode_all("gzip, br", &encoded, 1 << 20).as_deref(),
        Ok(TEXT)
    );
    assert_eq!(
        decode_all("br, gzip", &encoded, 1 << 20),
        Err(DecodeError::Malformed)
    );
}

#[test]
fn flushed_parts_come_out_at_once() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
    gzip.write_all(TEXT).unwrap();
    gzip.flush().unwrap();
    zstd.write_all(TEXT).unwrap();
    zstd.flush().unwrap();
    brotli.write_all(TEXT).unwrap();
    brotli.flush().unwrap();
    for (coding, encoded) in [
        ("gzip", gzip.get_ref()),
        ("zstd", zstd.get_ref()),
        ("br", brotli.get_ref()),
    ] {
        let mut decoder = Decoder::new(coding).unwrap();
        let output = push_all(&mut decoder, encoded, 5);
        assert_eq!(output.as_deref(), Ok(TEXT), "{coding}");
    }
}

#[test]
fn gzip_members_follow_each_other() {
    let encoded = [encode("gzip", TEXT), encode("gzip", TEXT)].concat();
    assert_eq!(
        decode_all("gzip", &encoded, 1 << 20).unwrap(),
        TEXT.repeat(2)
    );
}

#[test]
fn an_unknown_encoding_is_not_guessed() {
    assert!(Decoder::new("compress").is_none());
    assert!(Decoder::new("gzip, exotic").is_none());
    assert!(Decoder::new("gzip,gzip,gzip,gzip,gzip").is_none());
    assert_eq!(
        decode_all("compress", TEXT, 100),
        Err(DecodeError::UnknownEncoding)
    );
}

#[test]
fn a_bomb_ends_in_an_error_and_stays_there() {
    let zeros = vec![0; 16 << 20];
    for coding in ["gzip", "zstd", "br"] {
        let bomb = encode(coding, &encode(coding, &zeros));
        let list = format!("{coding}, {coding}");
        let mut decoder = Decoder::with_limits(&list, 1 << 20, BURST_LIMIT).unwrap();
        let mut largest = 0;
        let mut ignore = |output: &[u8]| largest = largest.max(output.len());
        assert_eq!(
            decoder.push(&bomb, &mut ignore),
            Err(DecodeError::TooLarge),
            "{coding}"
        );
        assert_eq!(
            decoder.push(&bomb, &mut ignore),
            Err(DecodeError::TooLarge),
            "{coding}"
        );
        assert!(largest <= BURST_LIMIT);
    }
}

#[test]
fn garbage_is_malformed() {
    for coding in ["gzip", "zstd", "br"] {
        let garbage = vec![0xff; 4096];
        assert_eq!(
            decode_all(coding, &garbage, 1 << 20),
            Err(DecodeError::Malformed),
            "{coding}"
        );
    }
}
