//! Accounts: what one rule counts for one key.

use std::collections::BTreeSet;
use std::fmt;

use minicbor::{Decode, Encode};
use serde::Serialize;

use super::super::digest::{Digest, DigestSeed};
use super::super::id::Label;
use super::super::time::Timestamp;
use super::amounts::{Amounts, Limits};
use super::rule::Dimension;
use super::spent::Spent;
use super::window::Window;

/// An account's name in the ledger: the digest of its rule's name and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct AccountId(#[n(0)] pub Digest);

impl AccountId {
    /// The id of the account of `rule` with this key.
    pub fn of<'k>(
        seed: DigestSeed,
        rule: &Label,
        key: impl Iterator<Item = (&'k Dimension, Option<&'k str>)>,
    ) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(rule.as_str().as_bytes());
        for (dimension, value) in key {
            dimension.write(&mut bytes);
            if let Some(value) = value {
                // Labels hold no control characters.
                bytes.push(1);
                bytes.extend_from_slice(value.as_bytes());
            }
        }
        Self(seed.digest(&bytes))
    }
}

/// Which account: its rule, and the value of each dimension that rule counts apart by.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct AccountName {
    #[n(0)]
    pub rule: Label,
    /// None where a call does not say: all such calls share an account.
    #[n(1)]
    pub key: Vec<(Dimension, Option<Label>)>,
}

impl AccountName {
    pub fn id(&self, seed: DigestSeed) -> AccountId {
        let key = self.key.iter();
        let key = key.map(|(dimension, value)| (dimension, value.as_ref().map(Label::as_str)));
        AccountId::of(seed, &self.rule, key)
    }
}

impl fmt::Display for AccountName {
    /// The key alone: `run nightly-42, agent (none)`; `all calls` when there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return f.write_str("all calls");
        }
        for (n, (dimension, value)) in self.key.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            let value = value.as_ref().map_or("(none)", Label::as_str);
            write!(f, "{comma}{dimension} {value}")?;
        }
        Ok(())
    }
}

/// What one call holds of an account, or has spent of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Charge {
    #[n(0)]
    pub account: AccountId,
    /// The start of the time it counts for.
    #[n(1)]
    pub bucket: Timestamp,
    #[n(2)]
    pub amounts: Amounts,
}

/// What budgets that limit a metric were charged for one measurement.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Charged {
    /// When it was said; later than of the measurement that this one took the place of.
    #[n(0)]
    pub at: Timestamp,
    #[n(1)]
    pub charges: Vec<Charge>,
    /// What the one it took the place of was charged, and when: no longer counts.
    #[n(2)]
    pub replaced: Option<(Timestamp, Vec<Charge>)>,
}

impl Charged {
    /// It was said then, and nothing is charged for it here.
    pub const fn nothing(at: Timestamp) -> Self {
        Self {
            at,
            charges: Vec::new(),
            replaced: None,
        }
    }

    /// The accounts it changes, each once.
    pub fn accounts(&self) -> BTreeSet<AccountId> {
        let replaced = self.replaced.iter().flat_map(|(_, charges)| charges);
        let all = self.charges.iter().chain(replaced);
        all.map(|charge| charge.account).collect()
    }

    /// Changes one of the accounts.
    pub fn apply(&self, id: AccountId, account: &mut StoredAccount) {
        let of = |charge: &&Charge| charge.account == id;
        if let Some((at, charges)) = &self.replaced {
            for charge in charges.iter().filter(of) {
                let back = Charge {
                    amounts: Amounts::default().minus(charge.amounts),
                    ..*charge
                };
                account.correct(&back, *at, self.at);
            }
        }
        for charge in self.charges.iter().filter(of) {
            account.charge(charge, self.at);
        }
    }
}

/// What an operator put on top of the limits of one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Raise {
    #[n(0)]
    pub by: Limits,
    /// For good when none.
    #[n(1)]
    pub until: Option<Timestamp>,
}

/// An account as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StoredAccount {
    /// None when the record that opened it is lost.
    #[n(0)]
    pub name: Option<AccountName>,
    #[n(1)]
    pub spent: Spent,
    #[n(2)]
    pub raises: Vec<Raise>,
    /// When it was last charged, raised or reset.
    #[n(3)]
    pub last_at: Timestamp,
    #[n(4)]
    pub reset_at: Option<Timestamp>,
}

impl StoredAccount {
    pub fn new(name: Option<AccountName>) -> Self {
        Self {
            name,
            spent: Spent::default(),
            raises: Vec::new(),
            last_at: Timestamp::default(),
            reset_at: None,
        }
    }

    pub fn charge(&mut self, charge: &Charge, at: Timestamp) {
        self.spent.add(charge.bucket, charge.amounts);
        self.last_at = self.last_at.max(at);
    }

    /// Puts right what was charged at `of`, unless that was forgotten since.
    pub fn correct(&mut self, charge: &Charge, of: Timestamp, at: Timestamp) {
        if self.reset_at.is_none_or(|reset_at| reset_at < of) {
            self.charge(charge, at);
        }
    }

    /// Puts `raise` on top of the limits, and forgets those that ended.
    pub fn raise(&mut self, raise: Raise, at: Timestamp) {
        self.raises
            .retain(|raise| raise.until.is_none_or(|until| until > at));
        match self.raises.iter_mut().find(|it| it.until == raise.until) {
            Some(same) => same.by = sum(&same.by, &raise.by),
            None => self.raises.push(raise),
        }
        self.last_at = self.last_at.max(at);
    }

    /// Nothing was spent by then; raises go too. A reset on another instance may be heard of late:
    /// what was spent in the time after it stays.
    pub fn reset(&mut self, at: Timestamp) {
        self.spent.forget_until(at);
        self.raises.clear();
        self.reset_at = Some(at);
        self.last_at = self.last_at.max(at);
    }

    /// What was spent of the window that `now` is in.
    pub fn used(&self, window: &Window, now: Timestamp) -> Amounts {
        let (from, to) = window.counted(now);
        self.spent.between(from, to)
    }

    /// When nothing of what counts at `now` will count any more; none if that is never, or if
    /// nothing counts.
    pub fn resets_at(&self, window: &Window, now: Timestamp) -> Option<Timestamp> {
        let (from, to) = window.counted(now);
        let (newest, _) = self.spent.buckets(from, to).last()?;
        let at = window.leaves_at(newest);
        (at.micros() < i64::MAX).then_some(at)
    }

    /// `limits` with what was put on top of them.
    pub fn limits(&self, limits: &Limits, now: Timestamp) -> Limits {
        self.raises
            .iter()
            .filter(|raise| raise.until.is_none_or(|until| until > now))
            .fold(*limits, |limits, raise| limits.raised(&raise.by))
    }
}

fn sum(one: &Limits, other: &Limits) -> Limits {
    let mut sum = *one;
    for (measure, more) in other.each() {
        let own = sum.of(measure).unwrap_or(0);
        sum.set(measure, Some(own.saturating_add(more)));
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usd(nano_usd: i64) -> Limits {
        Limits {
            nano_usd: Some(nano_usd),
            ..Limits::default()
        }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn raise(nano_usd: i64, until: Option<i64>) -> Raise {
        Raise {
            by: usd(nano_usd),
            until: until.map(at),
        }
    }

    fn charge(nano_usd: i64, bucket: i64) -> Charge {
        Charge {
            account: AccountId(Digest::from_bytes([1; 16])),
            bucket: at(bucket),
            amounts: Amounts {
                nano_usd,
                ..Amounts::default()
            },
        }
    }

    #[test]
    fn raises_add_up_until_they_end() {
        let mut account = StoredAccount::new(None);
        account.raise(raise(10, None), at(0));
        account.raise(raise(5, Some(100)), at(1));
        account.raise(raise(1, Some(50)), at(2));
        let limit = |now| account.limits(&usd(100), at(now)).nano_usd.unwrap();
        assert_eq!([limit(3), limit(49), limit(50)], [116, 116, 115]);
        assert_eq!([limit(99), limit(100), limit(i64::MAX)], [115, 110, 110]);
        assert_eq!(account.last_at, at(2));
    }

    #[test]
    fn raises_with_the_same_end_are_kept_as_one_and_ended_ones_are_forgotten() {
        let mut account = StoredAccount::new(None);
        for _ in 0..3 {
            account.raise(raise(1, None), at(0));
            account.raise(raise(1, Some(10)), at(0));
        }
        assert_eq!(account.raises, [raise(3, None), raise(3, Some(10))]);
        account.raise(raise(1, Some(20)), at(10));
        assert_eq!(account.raises, [raise(3, None), raise(1, Some(20))]);
    }

    #[test]
    fn raises_of_several_measures_are_summed_one_by_one() {
        let mut account = StoredAccount::new(None);
        let tokens = Limits {
            tokens: Some(7),
            ..Limits::default()
        };
        let by_tokens = Raise {
            by: tokens,
            until: None,
        };
        account.raise(raise(1, None), at(0));
        account.raise(by_tokens, at(0));
        let both = Limits {
            nano_usd: Some(101),
            tokens: Some(8),
            ..Limits::default()
        };
        let of = Limits {
            tokens: Some(1),
            ..usd(100)
        };
        assert_eq!(account.limits(&of, at(1)), both);
        assert_eq!(account.limits(&usd(100), at(1)), usd(101));
    }

    #[test]
    fn reset_forgets_what_was_spent_and_all_raises() {
        let mut account = StoredAccount::new(None);
        account.charge(&charge(30, 5), at(6));
        account.charge(&charge(12, 7), at(3));
        account.raise(raise(10, None), at(8));
        assert_eq!(account.used(&Window::Total, at(9)).nano_usd, 42);
        assert_eq!(account.last_at, at(8));
        account.reset(at(20));
        assert!(account.used(&Window::Total, at(21)).is_zero());
        assert_eq!(account.limits(&usd(100), at(21)), usd(100));
        assert_eq!(account.last_at, at(20));
    }

    #[test]
    fn reset_that_is_heard_late_leaves_what_was_spent_after_it() {
        let mut account = StoredAccount::new(None);
        account.charge(&charge(30, 5), at(5));
        account.charge(&charge(12, 7), at(7));
        account.reset(at(6));
        assert_eq!(account.used(&Window::Total, at(9)).nano_usd, 12);
    }

    #[test]
    fn correction_of_what_was_reset_changes_nothing() {
        let mut account = StoredAccount::new(None);
        account.charge(&charge(30, 5), at(6));
        account.reset(at(20));
        account.charge(&charge(40, 5), at(21));
        account.correct(&charge(-25, 5), at(6), at(30));
        assert_eq!(account.used(&Window::Total, at(31)).nano_usd, 40);
        account.correct(&charge(-25, 5), at(21), at(32));
        assert_eq!(account.used(&Window::Total, at(33)).nano_usd, 15);
    }

    #[test]
    fn another_window_counts_what_falls_into_it() {
        let minute = 60_000_000;
        let mut account = StoredAccount::new(None);
        let window = Window::Rolling(60 * minute);
        for n in 0..30 {
            let now = at(n * minute);
            let bucket = window.bucket(now).micros();
            account.charge(&charge(1, bucket), now);
        }
        let used = |window: &Window| account.used(window, at(29 * minute)).nano_usd;
        assert_eq!((used(&window), used(&Window::Total)), (30, 30));
        assert_eq!(used(&Window::Rolling(10 * minute)), 11);
    }

    fn of_metric(micro_metric: i64, bucket: i64) -> Charge {
        Charge {
            amounts: Amounts {
                micro_metric,
                ..Amounts::default()
            },
            ..charge(0, bucket)
        }
    }

    proptest! {
        #[test]
        fn measurements_that_take_each_others_place_come_to_the_last_of_each(
            said in proptest::collection::vec((0usize..4, -50i64..50, 0i64..20), 0..60)
        ) {
            let mut account = StoredAccount::new(None);
            let mut last: [Option<Charged>; 4] = Default::default();
            for (n, (which, micro, bucket)) in (1..).zip(said) {
                let before = last[which].take();
                let charged = Charged {
                    at: at(n),
                    charges: vec![of_metric(micro, bucket)],
                    replaced: before.map(|before| (before.at, before.charges)),
                };
                charged.apply(charge(0, 0).account, &mut account);
                last[which] = Some(charged);
            }
            for bucket in 0..20 {
                let all = last.iter().flatten().flat_map(|it| &it.charges);
                let of = all.filter(|charge| charge.bucket == at(bucket));
                let sum: i64 = of.map(|charge| charge.amounts.micro_metric).sum();
                let spent = account.spent.between(at(bucket), at(bucket + 1));
                prop_assert_eq!(spent.micro_metric, sum);
            }
        }
    }

    #[test]
    fn measurement_that_takes_the_place_of_one_before_a_reset_gives_nothing_back() {
        let mut account = StoredAccount::new(None);
        let id = charge(0, 0).account;
        let first = Charged {
            at: at(1),
            charges: vec![of_metric(10, 0)],
            replaced: None,
        };
        first.apply(id, &mut account);
        account.reset(at(2));
        let second = Charged {
            at: at(3),
            charges: vec![of_metric(4, 0)],
            replaced: Some((first.at, first.charges)),
        };
        second.apply(id, &mut account);
        let used = account.used(&Window::Total, at(4)).micro_metric;
        assert_eq!(used, 4, "what was reset is forgotten");
        let other = AccountId(Digest::from_bytes([2; 16]));
        second.apply(other, &mut account);
        assert_eq!(account.used(&Window::Total, at(4)).micro_metric, 4);
    }

    #[test]
    fn account_is_stored_and_read_back() {
        let rule = Label::parse("each run").unwrap();
        let key = vec![(Dimension::Run, None)];
        let mut account = StoredAccount::new(Some(AccountName { rule, key }));
        account.charge(&charge(30, 5), at(6));
        account.raise(raise(10, Some(9)), at(8));
        let bytes = minicbor::to_vec(&account).unwrap();
        assert_eq!(minicbor::decode::<StoredAccount>(&bytes).unwrap(), account);
    }
}
