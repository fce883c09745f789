//! Whether an upstream fails, by what became of its calls lately.

use super::super::time::Timestamp;
use super::MINUTE_US;

const SLOTS: usize = 6;
const SLOT_US: u64 = MINUTE_US / SLOTS as u64;
/// Fewer failures than this are no reason to wake anybody.
const LEAST: u32 = 5;
/// Answers in a row after which it works again.
const ANSWERS: u32 = 3;

/// The outcomes of one upstream in the last minute.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    slots: [Slot; SLOTS],
    answers: u32,
    is_failing: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: u64,
    failed: u32,
    all: u32,
}

/// What changed with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// So many of so many calls of the last minute failed: five or more, and half of them or more.
    Fails { failed: u32, all: u32 },
    /// It answered three calls in a row.
    Works,
}

impl Outcomes {
    /// Takes in how a call ended at `now`.
    pub fn note(&mut self, now: Timestamp, is_answered: bool) -> Option<Turn> {
        let number = u64::try_from(now.micros()).unwrap_or(0) / SLOT_US;
        let at = usize::try_from(number % SLOTS as u64).unwrap_or(0);
        if let Some(slot) = self.slots.get_mut(at) {
            if slot.number != number {
                *slot = Slot {
                    number,
                    ..Slot::default()
                };
            }
            slot.all = slot.all.saturating_add(1);
            slot.failed = slot.failed.saturating_add(u32::from(!is_answered));
        }
        self.answers = if is_answered {
            self.answers.saturating_add(1)
        } else {
            0
        };
        if self.is_failing {
            return self.works();
        }
        let (failed, all) = self.lately(number);
        let fails = !is_answered && failed >= LEAST && failed.saturating_mul(2) >= all;
        self.is_failing = fails;
        fails.then_some(Turn::Fails { failed, all })
    }

    /// It was said to fail and not yet to work again.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }

    fn works(&mut self) -> Option<Turn> {
        (self.answers >= ANSWERS).then(|| {
            *self = Self::default();
            Turn::Works
        })
    }

    fn lately(&self, number: u64) -> (u32, u32) {
        let recent = |slot: &&Slot| number.abs_diff(slot.number) < SLOTS as u64;
        let sum = |(failed, all): (u32, u32), slot: &Slot| {
            (
                failed.saturating_add(slot.failed),
                all.saturating_add(slot.all),
            )
        };
        self.slots.iter().filter(recent).fold((0, 0), sum)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000).plus_micros(seconds * 1_000_000)
    }

    #[test]
    fn five_failures_that_are_half_of_a_minute_fail_and_three_answers_mend() {
        let mut outcomes = Outcomes::default();
        for second in 0..4 {
            assert_eq!(outcomes.note(at(second), true), None);
            assert_eq!(outcomes.note(at(second), false), None);
        }
        assert_eq!(outcomes.note(at(5), true), None);
        let turn = outcomes.note(at(6), false);
        assert_eq!(turn, Some(Turn::Fails { failed: 5, all: 10 }));
        assert_eq!(outcomes.note(at(7), false), None, "it is said once");
        assert_eq!(outcomes.note(at(8), true), None);
        assert_eq!(outcomes.note(at(8), true), None);
        assert_eq!(outcomes.note(at(9), true), Some(Turn::Works));
        assert_eq!(outcomes.note(at(9), false), None, "it begins anew");
    }

    #[test]
    fn failures_of_a_minute_ago_are_forgotten() {
        let mut outcomes = Outcomes::default();
        for call in 0..40 {
            assert_eq!(outcomes.note(at(call * 20), false), None);
        }
    }

    proptest! {
        #[test]
        fn turns_alternate_and_few_failures_never_turn(
            calls in prop::collection::vec((0_u64..8, prop::bool::weighted(0.6)), 1..300),
        ) {
            let mut outcomes = Outcomes::default();
            let (mut second, mut is_failing, mut failures) = (0, false, 0);
            for (step, is_answered) in calls {
                second += step;
                failures += u32::from(!is_answered);
                match outcomes.note(at(second), is_answered) {
                    Some(Turn::Fails { failed, all }) => {
                        prop_assert!(!is_failing && failures >= LEAST);
                        prop_assert!(failed >= LEAST && failed <= all && failed * 2 >= all);
                        is_failing = true;
                    }
                    Some(Turn::Works) => {
                        prop_assert!(is_failing && is_answered);
                        (is_failing, failures) = (false, 0);
                    }
                    None => {}
                }
            }
        }
    }
}
