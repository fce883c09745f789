//! Where a moment lies on an axis of time on which long idle stretches are short.

use crate::core::time::Timestamp;

/// Units from one end of an axis to the other.
pub(super) const UNITS: u64 = 1000;
/// What an idle stretch takes that is folded.
pub(super) const BREAK: u64 = 16;
/// What is kept free behind the last known moment for what still runs.
const TAIL: u64 = 60;
/// Idle stretches fold that are longer than this, in microseconds, ...
const IDLE: u64 = 5_000_000;
/// ... and than this part of the whole.
const PART: u64 = 10;

/// From one moment to the one of another piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl Stretch {
    pub(super) fn micros(self) -> u64 {
        self.to.micros_since(self.from)
    }
}

/// An axis of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    /// What lies in between is drawn in proportion.
    whole: Stretch,
    /// Folded, ascending.
    pub(super) idle: Vec<Stretch>,
    /// Microseconds that are drawn in proportion.
    busy: u64,
    tail: u64,
}

impl Scale {
    /// For stretches in the order they begin in. Idle is what lies in none of them.
    pub(super) fn of(stretches: impl Iterator<Item = Stretch>, is_true: bool) -> Self {
        let mut gaps = Vec::new();
        let mut whole: Option<Stretch> = None;
        for next in stretches {
            let Some(known) = &mut whole else {
                whole = Some(next);
                continue;
            };
            known.from = known.from.min(next.from);
            if next.from > known.to {
                gaps.push(Stretch {
                    from: known.to,
                    to: next.from,
                });
            }
            known.to = known.to.max(next.to);
        }
        let whole = whole.unwrap_or(Stretch {
            from: Timestamp::default(),
            to: Timestamp::default(),
        });
        let least = IDLE.max(whole.micros() / PART);
        gaps.retain(|gap| !is_true && gap.micros() > least);
        let folded: u64 = gaps.iter().map(|gap| gap.micros()).sum();
        Self {
            busy: whole.micros().saturating_sub(folded),
            idle: gaps,
            whole,
            tail: 0,
        }
    }

    /// With room at its end for what still runs.
    pub(super) fn open(self, is_open: bool) -> Self {
        let tail = if is_open { TAIL } else { 0 };
        Self { tail, ..self }
    }

    /// Where it lies, 0 to [`UNITS`].
    pub(super) fn at(&self, moment: Timestamp) -> u64 {
        let breaks = BREAK * self.idle.len() as u64;
        let room = UNITS.saturating_sub(breaks + self.tail);
        let mut before = moment.min(self.whole.to).micros_since(self.whole.from);
        let mut passed = 0;
        for gap in &self.idle {
            if moment >= gap.to {
                before = before.saturating_sub(gap.micros());
                passed += BREAK;
            } else if moment > gap.from {
                before = before.saturating_sub(moment.micros_since(gap.from));
            }
        }
        let share = u128::from(before) * u128::from(room) / u128::from(self.busy.max(1));
        (u64::try_from(share).unwrap_or(UNITS) + passed).min(UNITS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn scale(stretches: &[(i64, i64)], is_true: bool) -> Scale {
        let stretches = stretches.iter().map(|(from, to)| Stretch {
            from: at(*from),
            to: at(*to),
        });
        Scale::of(stretches, is_true)
    }

    #[test]
    fn long_idle_stretches_fold_and_short_ones_do_not() {
        let folded = scale(&[(0, 10), (14, 20), (740, 760)], false);
        assert_eq!(
            folded.idle,
            [Stretch {
                from: at(20),
                to: at(740)
            }]
        );
        // 40 s in all are drawn, 20 of them before the break.
        assert_eq!(folded.at(at(20)), 492);
        assert_eq!(folded.at(at(740)), 508);
        assert_eq!([folded.at(at(0)), folded.at(at(760))], [0, UNITS]);
        let open = folded.clone().open(true);
        assert_eq!(open.at(at(760)), UNITS - TAIL);
        let true_scale = scale(&[(0, 10), (14, 20), (740, 760)], true);
        assert_eq!(true_scale.idle, []);
        assert_eq!(true_scale.at(at(380)), 500);
    }

    #[test]
    fn a_gap_in_the_shadow_of_a_longer_call_is_not_idle() {
        assert_eq!(scale(&[(0, 100), (1, 2), (90, 110)], false).idle, []);
    }

    #[test]
    fn nothing_and_a_moment_have_a_place_too() {
        assert_eq!(scale(&[], false).at(at(5)), 0);
        assert_eq!(scale(&[(7, 7)], false).at(at(7)), 0);
    }

    proptest! {
        #[test]
        fn later_moments_never_lie_further_left(
            mut stretches in proptest::collection::vec((0..5000_i64, 0..300_i64), 1..40),
            mut moments in proptest::collection::vec(-10..6000_i64, 2..40),
            is_true: bool,
        ) {
            stretches.sort_unstable();
            let ends: Vec<(i64, i64)> = stretches.iter().map(|(from, len)| (*from, from + len)).collect();
            let scale = scale(&ends, is_true);
            moments.sort_unstable();
            let places: Vec<u64> = moments.iter().map(|moment| scale.at(at(*moment))).collect();
            prop_assert!(places.is_sorted(), "{places:?}");
            prop_assert!(places.iter().all(|place| *place <= UNITS));
            prop_assert!(is_true || scale.idle.len() < 10);
        }
    }
}
