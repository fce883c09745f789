//! Which segments are old enough to go, and which are near that.

use crate::config::LedgerConfig;
use crate::core::time::Timestamp;

use super::log::Segment;

/// The configured bounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retention {
    keep_us: Option<u64>,
    keep_bytes: Option<u64>,
}

impl Retention {
    pub(crate) fn of(config: &LedgerConfig) -> Self {
        let micros =
            |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self {
            keep_us: config.keep_for.map(micros),
            keep_bytes: config.keep_bytes,
        }
    }

    /// Whether a segment of this age should be followed by a new one although it is not full:
    /// only whole segments can go.
    pub(crate) fn is_old(&self, age_us: u64) -> bool {
        self.keep_us.is_some_and(|keep| age_us >= keep / 8)
    }

    /// The first segment to keep.
    pub(crate) fn keep_from(&self, segments: &[Segment], now: Timestamp) -> u64 {
        first_within(segments, now, self.keep_us, self.keep_bytes)
    }

    /// Contents in segments before this one are in the last quarter of their time: they are
    /// written again when they are seen.
    pub(crate) fn fading_before(&self, segments: &[Segment], now: Timestamp) -> u64 {
        let most = |bound: Option<u64>| bound.map(|bound| bound / 4 * 3);
        first_within(segments, now, most(self.keep_us), most(self.keep_bytes))
    }
}

/// The first segment within both bounds; 0 when all are.
fn first_within(
    segments: &[Segment],
    now: Timestamp,
    age_us: Option<u64>,
    bytes: Option<u64>,
) -> u64 {
    let mut size = 0_u64;
    let mut newer: Option<&Segment> = None;
    for segment in segments.iter().rev() {
        size = size.saturating_add(segment.len);
        // Its last record is as old as the segment after it.
        let ended_at = newer
            .and_then(|newer| newer.header)
            .map(|header| header.created_at);
        let too_old = age_us
            .zip(ended_at)
            .is_some_and(|(bound, ended_at)| now.micros_since(ended_at) > bound);
        let too_much = bytes.is_some_and(|bound| size > bound);
        if let Some(newer) = newer
            && (too_old || too_much)
        {
            return newer.number;
        }
        newer = Some(segment);
    }
    0
}
