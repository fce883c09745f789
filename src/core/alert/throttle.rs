//! So many a minute, and no more: what comes beyond is counted.

use super::super::time::Timestamp;
use super::MINUTE_US;

/// Lets `most` through in any minute. What it holds back is for the caller to count.
#[derive(Clone, Debug)]
pub struct Throttle {
    most: usize,
    /// When the last ones went through, oldest first; never more than `most`.
    passed: std::collections::VecDeque<Timestamp>,
}

impl Throttle {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            passed: std::collections::VecDeque::new(),
        }
    }

    /// Whether one more may pass at `now`, which it then did.
    pub fn passes(&mut self, now: Timestamp) -> bool {
        // A clock that went back must not hold everything up until it has caught up.
        let is_past = |at: &Timestamp| *at > now || now.micros_since(*at) >= MINUTE_US;
        while self.passed.front().is_some_and(is_past) {
            self.passed.pop_front();
        }
        let passes = self.passed.len() < self.most;
        if passes {
            self.passed.push_back(now);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn in_no_minute_more_than_so_many_pass(
            most in 1_usize..6,
            steps in prop::collection::vec(0_u64..90_000_000, 1..80),
        ) {
            let mut throttle = Throttle::new(most);
            let mut now = Timestamp::default();
            let mut passed: Vec<Timestamp> = Vec::new();
            for step in steps {
                now = now.plus_micros(step);
                let recent = passed.iter().filter(|at| now.micros_since(**at) < MINUTE_US);
                let free = recent.count() < most;
                prop_assert_eq!(throttle.passes(now), free);
                if free {
                    passed.push(now);
                }
            }
        }
    }

    #[test]
    fn clock_that_goes_back_holds_nothing_up() {
        let mut throttle = Throttle::new(1);
        assert!(throttle.passes(Timestamp::from_micros(5_000_000_000)));
        assert!(throttle.passes(Timestamp::from_micros(1_000_000)));
        assert!(!throttle.passes(Timestamp::from_micros(2_000_000)));
    }
}
