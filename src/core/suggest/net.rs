//! A change that costs something at first and spares more later, as claims on single calls.

use super::Claim;

/// What the change costs is paid back before anything is claimed.
#[derive(Debug, Default)]
pub(super) struct Net {
    claims: Vec<Claim>,
    debt: i64,
    has_no_price: bool,
}

impl Net {
    /// What a call would have cost less, or more, if `nano` is below 0.
    pub(super) fn push(&mut self, call: usize, nano: Option<i64>, tokens: u64) {
        self.has_no_price |= nano.is_none();
        let left = nano.unwrap_or(0).saturating_sub(self.debt);
        self.debt = left.min(0).saturating_neg();
        self.claims.push(Claim {
            nano: Some(left.max(0)),
            tokens,
            ..Claim::of(call)
        });
    }

    /// Nothing where the change does not pay off. Where a call has no price it cannot be told.
    pub(super) fn claims(mut self) -> Vec<Claim> {
        for claim in self.claims.iter_mut().rev() {
            let nano = claim.nano.unwrap_or(0);
            let paid = nano.min(self.debt);
            self.debt -= paid;
            claim.nano = Some(nano - paid);
        }
        let gain: i64 = self.claims.iter().filter_map(|claim| claim.nano).sum();
        if self.has_no_price || gain <= 0 {
            return Vec::new();
        }
        self.claims
            .retain(|claim| claim.nano != Some(0) || claim.tokens > 0);
        self.claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(nano: &[i64]) -> Vec<Option<i64>> {
        let mut net = Net::default();
        for (call, nano) in nano.iter().enumerate() {
            net.push(call, Some(*nano), 1);
        }
        net.claims().into_iter().map(|claim| claim.nano).collect()
    }

    #[test]
    fn what_a_change_costs_is_paid_back_first_and_last() {
        assert_eq!(claimed(&[-5, 3, 4, 4]), [0, 0, 2, 4].map(Some));
        assert_eq!(claimed(&[4, 4, -3]), [4, 1, 0].map(Some));
        assert_eq!(claimed(&[-5, 3, 2]), []);
    }
}
