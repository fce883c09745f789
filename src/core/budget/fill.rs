//! How full a budget is: of each of its limits the account that used the greatest part of it.

use super::amounts::Measure;
use crate::core::id::Label;

/// How a budget stands, for whom one account a limit is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fullest {
    pub budget: Label,
    /// How many accounts there are in memory.
    pub accounts: usize,
    pub fills: Vec<Fill>,
}

/// What one account used of one limit, in the unit of [`Measure`]: nano-USD, tokens, millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    pub measure: Measure,
    pub used: i64,
    pub limit: i64,
}

impl Fullest {
    /// Takes in one account; where it used more of its limit than those before, it is the one.
    pub fn add(&mut self, fill: Fill) {
        let known = self.fills.iter_mut();
        match known.into_iter().find(|it| it.measure == fill.measure) {
            Some(known) if fill.is_fuller_than(known) => *known = fill,
            Some(_) => {}
            None => self.fills.push(fill),
        }
    }
}

impl Fill {
    /// A limit of 0 is used up by nothing; of two of them the one with more used is fuller.
    fn is_fuller_than(&self, other: &Self) -> bool {
        let parts = |one: &Self, of: &Self| i128::from(one.used) * i128::from(of.limit.max(0));
        match (self.limit <= 0, other.limit <= 0) {
            (true, false) => other.used < other.limit,
            (false, true) => self.used > self.limit,
            _ => parts(self, other) > parts(other, self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(used: i64, limit: i64) -> Fill {
        let measure = Measure::Calls;
        Fill {
            measure,
            used,
            limit,
        }
    }

    #[track_caller]
    fn check(fills: &[Fill], fullest: &[Fill]) {
        let mut figures = Fullest {
            budget: Label::parse("each run").unwrap(),
            accounts: 0,
            fills: Vec::new(),
        };
        for fill in fills {
            figures.add(*fill);
        }
        assert_eq!(figures.fills, fullest);
    }

    #[test]
    fn the_account_that_used_the_greatest_part_is_the_fullest() {
        check(
            &[calls(5, 10), calls(30, 100), calls(6, 10), calls(1, 10)],
            &[calls(6, 10)],
        );
        check(
            &[calls(i64::MAX, i64::MAX), calls(11, 10)],
            &[calls(11, 10)],
        );
    }

    #[test]
    fn each_limit_has_a_fullest_of_its_own() {
        let usd = |used| Fill {
            measure: Measure::Usd,
            used,
            limit: 100,
        };
        check(
            &[calls(9, 10), usd(1), calls(1, 10), usd(50)],
            &[calls(9, 10), usd(50)],
        );
    }

    #[test]
    fn a_limit_of_nothing_is_full_but_not_fuller_than_one_that_was_passed() {
        check(&[calls(9, 10), calls(0, 0)], &[calls(0, 0)]);
        check(&[calls(0, 0), calls(9, 10)], &[calls(0, 0)]);
        check(&[calls(0, 0), calls(12, 10)], &[calls(12, 10)]);
    }
}
