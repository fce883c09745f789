//! Marks in messages that say up to where a cache reaches. Clients move them on with each call, so that a
//! message which is the same as before has other bytes.

use memchr::memmem;

/// A message without the marks that say up to where a cache reaches: they move on with each call.
/// None where there are none.
pub fn without_marks(raw: &[u8]) -> Option<Vec<u8>> {
    const MARK: &[u8] = b"\"cache_control\"";
    let mut at = Some(memmem::find(raw, MARK)?);
    let mut rest = raw;
    let mut kept: Vec<u8> = Vec::new();
    while let Some(start) = at {
        let (front, tail) = rest.split_at(start);
        let front = front.trim_ascii_end();
        rest = tail.get(mark_len(tail)?..)?;
        // One of the commas around it goes too.
        if let Some(front) = front.strip_suffix(b",") {
            kept.extend_from_slice(front);
        } else {
            kept.extend_from_slice(front);
            let next = rest.trim_ascii_start();
            rest = next.strip_prefix(b",").unwrap_or(rest);
        }
        at = memmem::find(rest, MARK);
    }
    kept.extend_from_slice(rest);
    Some(kept)
}

/// The length of a mark with its value, which is an object or one word.
fn mark_len(text: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', text)?;
    let value = text.get(colon + 1..)?;
    let len = match value.trim_ascii_start().first()? {
        b'{' => memchr::memchr(b'}', value)? + 1,
        _ => memchr::memchr2(b',', b'}', value)?,
    };
    Some(colon + 1 + len)
}
