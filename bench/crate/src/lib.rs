//! What the mock upstream and the load generator share: one clock and one way to stamp a chunk.
//!
//! Both run on one machine and read the same monotonic clock, so a stamp written by the mock and
//! read by the generator gives the one-way delay of a chunk, free of timer jitter.

use memchr::memmem;
use rustix::time::{ClockId, clock_gettime};

const STAMP: &str = "@t";

/// Nanoseconds of the machine's monotonic clock.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Text that carries a moment through a JSON string.
pub fn stamp(ns: u64) -> String {
    format!("{STAMP}{ns};")
}

/// The moment in the first stamp of a line.
pub fn read_stamp(line: &[u8]) -> Option<u64> {
    let start = memmem::find(line, STAMP.as_bytes())? + STAMP.len();
    let digits = line.get(start..)?;
    let end = memchr::memchr(b';', digits)?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_is_read_back_from_a_line() {
        let line = format!("data: {{\"content\":\"{}\"}}", stamp(1234));
        assert_eq!(read_stamp(line.as_bytes()), Some(1234));
    }

    #[test]
    fn line_without_a_stamp_has_no_moment() {
        assert_eq!(read_stamp(b"data: {\"content\":\" the\"}"), None);
        assert_eq!(read_stamp(b"@tnever;"), None);
    }
}
