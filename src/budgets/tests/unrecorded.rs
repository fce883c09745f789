//! Charges that the ledger could not take when they were made.

use super::keys::{admission, ask};
use super::*;
use crate::admin::sample::Sample;
use crate::budgets::Budgets;
use crate::core::budget::AccountId;

struct World {
    sample: Sample,
    budgets: Budgets,
}

impl World {
    fn new() -> Self {
        let sample = Sample::new();
        let each_run = Rule {
            per: vec![Dimension::Run],
            ..rule("each run", tokens(1000))
        };
        let (ledger, clock) = (sample.ledger.clone(), sample.clock.clone());
        let budgets = Budgets::new(&[each_run], 100, ledger, clock);
        Self { sample, budgets }
    }

    /// A call of 15 tokens that the ledger cannot take.
    async fn unrecorded_call(&self, run: usize) -> AccountId {
        let made = admission(&self.sample, run);
        let ask = ask(&made);
        let mut claim = self.budgets.claim(&ask).await.unwrap();
        let (need, exact) = (need(50), async || need(50));
        let granted = self
            .budgets
            .hold((&mut claim, &ask), &need, exact, std::time::Duration::ZERO)
            .await;
        let mut hold = granted.unwrap_or_else(|refusal| panic!("{refusal}")).hold;
        self.budgets
            .admitted((&mut hold, &claim), &Limits::default(), false);
        hold.settle(&used(5), self.sample.clock.now(), drop);
        claim.accounts[0].cell.id
    }

    fn recorded_tokens(&self, account: AccountId) -> Option<i64> {
        let stored = self.sample.ledger.view().account(account).unwrap()?;
        assert!(stored.name.is_some());
        let used = stored.used(&Window::Total, NOW);
        Some(used.of(Measure::Tokens))
    }
}

#[tokio::test]
async fn charges_go_into_the_ledger_once_when_it_takes_them_again() {
    let world = World::new();
    let mut accounts = Vec::new();
    for run in 0..600 {
        accounts.push(world.unrecorded_call(run).await);
        if run % 2 == 0 {
            world.unrecorded_call(run).await;
        }
    }
    assert_eq!(world.recorded_tokens(accounts[0]), None);
    for _ in 0..2 {
        world.budgets.hand_over();
        for (run, account) in accounts.iter().enumerate() {
            let expected = if run % 2 == 0 { 30 } else { 15 };
            assert_eq!(world.recorded_tokens(*account), Some(expected), "{run}");
        }
    }
    world.unrecorded_call(1).await;
    world.budgets.hand_over();
    assert_eq!(world.recorded_tokens(accounts[1]), Some(30));
}

#[tokio::test]
async fn what_was_reset_before_it_was_recorded_does_not_come_back() {
    let world = World::new();
    let (reset, other) = (
        world.unrecorded_call(1).await,
        world.unrecorded_call(2).await,
    );
    let key = vec![(Dimension::Run, Some(label("run-1")))];
    let done = world.budgets.reset(&label("each run"), &key, "me").await;
    done.unwrap();
    world.budgets.hand_over();
    let spent = |account| {
        let stored = world.sample.ledger.view().account(account).unwrap();
        stored.map(|stored| stored.used(&Window::Total, NOW).of(Measure::Tokens))
    };
    assert_eq!((spent(reset), spent(other)), (Some(0), Some(15)));
}
