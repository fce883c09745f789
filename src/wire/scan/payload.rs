//! Base64 payloads inside a message: found by their marks, not by parsing.
//!
//! An image of a megabyte costs about a thousand tokens, not a quarter of a million: whoever
//! estimates tokens from bytes has to leave payloads out.

use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;

/// A shorter run is text for all that matters.
const MIN_BYTES: usize = 1024;
/// `"data:image/png;base64,..."` of chats and responses.
static URL_MARK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b";base64,"));
/// `"data": "..."` of messages, of Gemini, and of audio in chats.
static FIELD_MARK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"data\""));

/// The number of payloads in `segment` and their bytes.
pub(super) fn measure(segment: &[u8]) -> (u32, usize) {
    if segment.len() < MIN_BYTES {
        return (0, 0);
    }
    let (urls, url_bytes) = runs(segment, &URL_MARK, Some);
    let (fields, field_bytes) = runs(segment, &FIELD_MARK, |after| value_start(segment, after));
    (
        urls.saturating_add(fields),
        (url_bytes + field_bytes).min(segment.len()),
    )
}

/// Runs of base64 after `mark`. Goes on behind each run, so that many marks cost no more than one.
fn runs(
    segment: &[u8],
    mark: &Finder<'_>,
    start_of: impl Fn(usize) -> Option<usize>,
) -> (u32, usize) {
    let (mut count, mut bytes, mut position) = (0u32, 0, 0);
    while let Some(found) = segment.get(position..).and_then(|rest| mark.find(rest)) {
        position += found + mark.needle().len();
        let Some(start) = start_of(position) else {
            continue;
        };
        let length = run_length(segment, start);
        position = start + length;
        if length >= MIN_BYTES {
            count = count.saturating_add(1);
            bytes += length;
        }
    }
    (count, bytes)
}

/// Where the string value after a key begins.
fn value_start(segment: &[u8], after_key: usize) -> Option<usize> {
    let rest = segment.get(after_key..)?;
    let quote = rest.iter().position(|byte| !b": \t\r\n".contains(byte))?;
    (rest.get(quote) == Some(&b'"')).then_some(after_key + quote + 1)
}

/// The bytes up to the closing quote, 0 when the run does not look like base64.
fn run_length(segment: &[u8], start: usize) -> usize {
    let rest = segment.get(start..).unwrap_or_default();
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=\\".contains(byte);
    let head = rest.get(..rest.len().min(64)).unwrap_or_default();
    if head.iter().take_while(|byte| **byte != b'"').all(is_base64) {
        memchr(b'"', rest).unwrap_or(rest.len())
    } else {
        0
    }
}
