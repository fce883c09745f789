//! Which segments are old enough to go, and which are near that.

use crate::config::LedgerConfig;
use crate::core::time::Timestamp;

use super::log::Segment;

/// Borders within what is kept, about: more than that goes by so small a part too late.
const BORDERS: u64 = 32;
/// What is kept by default: where there is no bound one may come.
const USUAL_BYTES: u64 = 20 << 30;

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

    /// Whether `segment` begins far enough behind the last border for another one, at which older
    /// segments can go. What outlives them is written at each: with many runs that is much. Where it
    /// took `carried` bytes the last time, so much of other records must have come since, lest
    /// checkpoints call for checkpoints.
    pub(crate) fn is_border(
        &self,
        segments: &[Segment],
        (last, carried): (u64, u64),
        segment: &Segment,
    ) -> bool {
        let since = |other: &&Segment| (last..segment.number).contains(&other.number);
        let bytes: u64 = segments.iter().filter(since).map(|it| it.len).sum();
        let began_at = |segment: &Segment| segment.header.map(|header| header.created_at);
        let first = segments.iter().find(since).and_then(began_at);
        let age = first.zip(began_at(segment));
        let age = age.map_or(0, |(first, at)| at.micros_since(first));
        let is_far = bytes >= self.keep_bytes.unwrap_or(USUAL_BYTES) / BORDERS
            || self.keep_us.is_some_and(|keep| age >= keep / BORDERS);
        is_far && bytes >= carried.saturating_mul(2)
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

#[cfg(test)]
mod tests {
    use super::super::record::{Chain, Header};
    use super::*;
    use crate::core::digest::DigestSeed;

    fn segment(number: u64, len: u64, created_at: i64) -> Segment {
        Segment {
            number,
            len,
            header: Some(Header {
                number,
                created_at: Timestamp::from_micros(created_at),
                seed: DigestSeed(7),
                continues: Chain::GENESIS,
            }),
        }
    }

    #[test]
    fn borders_lie_as_far_apart_as_what_is_kept_allows() {
        let segments: Vec<_> = (1..=100).map(|n| segment(n, 10, 0)).collect();
        let borders_with = |carried: u64, retention: Retention| {
            let mut last = 0;
            let is_border = |it: &&Segment| {
                let is_border = retention.is_border(&segments, (last, carried), it);
                last = if is_border { it.number } else { last };
                is_border
            };
            segments.iter().filter(is_border).count()
        };
        let of = |keep_bytes| Retention {
            keep_us: None,
            keep_bytes,
        };
        let borders = |retention| borders_with(0, retention);
        assert_eq!(borders(of(Some(320))), 99, "each but the first");
        assert_eq!(borders(of(Some(1280))), 24);
        assert_eq!(borders(of(None)), 0);
        assert_eq!(
            borders_with(200, of(Some(320))),
            2,
            "a checkpoint of two thirds of what is kept comes with as much of other records"
        );
    }

    #[test]
    fn border_comes_with_time_too() {
        let segments = [segment(1, 10, 0), segment(2, 10, 99), segment(3, 10, 100)];
        let retention = Retention {
            keep_us: Some(3200),
            keep_bytes: None,
        };
        let is_border = |at: usize| retention.is_border(&segments, (0, 0), &segments[at]);
        assert_eq!([is_border(1), is_border(2)], [false, true]);
    }
}
