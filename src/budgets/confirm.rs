//! Holding where several instances count together: what was held here goes on once Redis says that
//! it fits beside what all others have.

use std::sync::Arc;
use std::time::Duration;

use super::bank::{Claimed, Held};
use super::remote::Fleet;
use super::{Budgets, Claim};
use crate::config::OnAway;
use crate::core::budget::decide::Need;
use crate::core::budget::{Action, Amounts, Measure};
use crate::core::time::Timestamp;
use crate::shared::contribution::{Answer, Check, Contribution, Others, Query};
use crate::shared::{Away, Mode, Shared};

/// An answer is good for so long: who is refused was refused by what was so a moment ago.
const FRESH: Duration = Duration::from_millis(20);
/// Who waits for calls of other instances looks again this often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Calls that wait do not all look at one moment.
const SPREAD_MS: u64 = 40;

/// Why a call does not hold what it could here.
pub(super) enum NotHeld {
    /// Others have too much: what they have is known now.
    Full,
    /// It is to be refused while Redis is away.
    Refused,
}

impl Budgets {
    /// Shares what is counted with other instances.
    #[must_use]
    pub fn sharing(mut self, shared: Arc<Shared>) -> Self {
        let fleet = Fleet::new(shared);
        self.bank.share(&fleet);
        self.fleet = Some(fleet);
        self
    }

    pub fn shared(&self) -> Option<&Arc<Shared>> {
        self.fleet.as_ref().map(|fleet| &fleet.shared)
    }

    /// The time that windows go by.
    pub fn now(&self) -> Timestamp {
        self.at(self.clock.now())
    }

    /// A moment of our clock by the one that windows go by.
    pub fn at(&self, at: Timestamp) -> Timestamp {
        match &self.fleet {
            Some(fleet) => fleet.shared.corrected(at),
            None => at,
        }
    }

    /// How long who waits does so before it looks again; `number` spreads them.
    pub(super) fn look_again(&self, number: u64) -> Duration {
        match &self.fleet {
            Some(fleet) if fleet.shared.is_joined() => {
                LOOK_AGAIN + Duration::from_millis(number % SPREAD_MS)
            }
            _ => super::LOOK_AGAIN,
        }
    }

    /// Calls are refused while Redis is away.
    pub fn refuses_all(&self) -> bool {
        self.fleet.as_ref().is_some_and(|fleet| {
            let shared = &fleet.shared;
            !shared.is_joined() && shared.on_away() == OnAway::Refuse
        })
    }

    /// What `Shared::turns` says; nothing changes where this instance is alone.
    pub(super) fn turns(&self) -> u64 {
        self.fleet.as_ref().map_or(0, |fleet| fleet.shared.turns())
    }

    /// Whether what was held here fits beside what others have. `turns` are those before the
    /// decision to hold it.
    pub(super) async fn confirmed(
        &self,
        claim: &Claim,
        need: &Need,
        (mut held, turns): (Box<Held>, u64),
    ) -> Result<Box<Held>, NotHeld> {
        let Some(fleet) = &self.fleet else {
            return Ok(held);
        };
        let now = self.now();
        let asked = if fleet.shared.is_joined() {
            let asked = asked(&claim.accounts, Some((need, &held)), now);
            Some(self.ask(fleet, &claim.accounts, asked, Mode::Reserve).await)
        } else {
            None
        };
        // All of it was decided by this instance's share.
        let is_share = asked.is_none() && turns == fleet.shared.turns();
        match (asked, fleet.shared.on_away()) {
            (Some(Ok(true)), _) => {
                held.hold.confirm();
                Ok(held)
            }
            (Some(Ok(false)), _) => {
                self.tell_marks(&held);
                Err(NotHeld::Full)
            }
            (_, OnAway::LocalShare) if !is_share => Err(NotHeld::Full),
            (_, OnAway::LocalShare | OnAway::Allow) => {
                held.hold.confirm();
                mark(&claim.accounts);
                Ok(held)
            }
            (_, OnAway::Refuse) => Err(NotHeld::Refused),
        }
    }

    /// Asks what others have, unless that was asked just now: nobody is refused by old news.
    pub(super) async fn look(&self, claim: &Claim) {
        let Some(fleet) = &self.fleet else { return };
        if !fleet.shared.is_joined() {
            return;
        }
        let now = self.now();
        let is_fresh = |claimed: &Claimed| {
            let state = claimed.cell.lock();
            let age = state.remote.as_ref().and_then(|it| it.age());
            age.is_some_and(|age| age < FRESH)
        };
        if claim.accounts.iter().all(is_fresh) {
            return;
        }
        let asked = asked(&claim.accounts, None, now);
        // Where it fails, calls go by what holds while Redis is away.
        let how = how(&claim.accounts);
        let _ = self.ask(fleet, &claim.accounts, asked, how).await;
    }

    async fn ask(
        &self,
        fleet: &Fleet,
        accounts: &[Claimed],
        asked: Vec<(Query, Contribution)>,
        how: Mode,
    ) -> Result<bool, Away> {
        let answer = fleet.shared.reserve(&asked, how).await?;
        let Answer {
            fits, deed, others, ..
        } = answer;
        learn(accounts, asked, others);
        fleet.shared.catch_up(&deed).await;
        Ok(fits)
    }

    fn tell_marks(&self, held: &Held) {
        for standing in &held.alerts {
            self.tell("budget_warning", standing);
        }
        for standing in &held.slowing {
            self.tell("budget_slowed", standing);
        }
    }
}

pub(super) fn learn(accounts: &[Claimed], asked: Vec<(Query, Contribution)>, others: Vec<Others>) {
    let all = accounts.iter().zip(asked).zip(others);
    for ((claimed, (question, part)), others) in all {
        let mut state = claimed.cell.lock();
        if let Some(remote) = &mut state.remote {
            remote.learn(others, &part, (question.from, question.to));
        }
    }
}

/// What is asked of each account, with what this instance has of it: all of that at one moment.
pub(super) fn asked(
    accounts: &[Claimed],
    held: Option<(&Need, &Held)>,
    now: Timestamp,
) -> Vec<(Query, Contribution)> {
    let states: Vec<_> = accounts.iter().map(|claimed| claimed.cell.lock()).collect();
    let asked = accounts.iter().zip(&states).enumerate();
    let asked = asked.filter_map(|(n, (claimed, state))| {
        let window = &claimed.rule.window;
        let part = state.part(&claimed.cell, Some(window), now)?;
        let (from, to) = window.counted(now);
        let checks = held.and_then(|(need, held)| {
            let limits = state.account.as_ref()?.limits(&claimed.limits, now);
            let amounts = held.hold.amounts_of(n)?;
            (claimed.rule.action == Action::Break).then(|| {
                let check = |(measure, limit)| check((measure, limit), need, amounts);
                limits.each().filter_map(check).collect()
            })
        });
        let question = Query {
            from,
            to,
            keep: part.keep,
            checks: checks.unwrap_or_default(),
        };
        Some((question, part))
    });
    asked.collect()
}

/// A limit that the call has to fit under, if it takes anything of what is limited.
fn check((measure, limit): (Measure, i64), need: &Need, amounts: Amounts) -> Option<Check> {
    let wanted = match measure {
        Measure::Concurrent => 1,
        counted => amounts.of(counted),
    };
    let counts = match measure {
        Measure::Metric => need.calls > 0,
        _ => wanted > 0,
    };
    counts.then_some(Check {
        measure,
        limit,
        wanted,
    })
}

/// What others have not left room for yet is not put in.
fn how(accounts: &[Claimed]) -> Mode {
    let is_unsure = |claimed: &Claimed| {
        let state = claimed.cell.lock();
        state.remote.as_ref().is_some_and(|it| it.is_unsure())
    };
    if accounts.iter().any(is_unsure) {
        Mode::Peek
    } else {
        Mode::Look
    }
}

fn mark(accounts: &[Claimed]) {
    for claimed in accounts {
        claimed.cell.changed(&mut claimed.cell.lock());
    }
}
