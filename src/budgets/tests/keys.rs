//! Many more keys than may stay in memory, on a real ledger. `AIOPS_KEYS=1000000` asks for a million.

use std::time::Duration;

use super::*;
use crate::admin::sample::{self, PLANNER, Sample};
use crate::budgets::{AccountFilter, Ask, Budgets};
use crate::core::call::{Admission, Outcome, Settlement};

const BOUND: usize = 500;
/// Between two sweeps.
const BATCH: usize = 1_000;

fn keys() -> usize {
    #[expect(clippy::disallowed_methods, reason = "a knob of this test alone")]
    let asked = std::env::var("AIOPS_KEYS");
    asked
        .ok()
        .and_then(|keys| keys.parse().ok())
        .unwrap_or(5_000)
}

pub(super) fn admission(sample: &Sample, key: usize) -> Admission {
    let mut made = sample::admission(sample.clock.call_id(), sample.clock.now(), PLANNER);
    made.attribution.run = Some(label(&format!("run-{key}")));
    made
}

pub(super) fn ask(made: &Admission) -> Ask<'_> {
    Ask {
        attribution: &made.attribution,
        key: None,
        model: None,
        upstream: &made.upstream,
        operation: made.operation,
        tightened: Limits::default(),
    }
}

async fn call(sample: &Sample, budgets: &Budgets, key: usize) {
    let mut made = admission(sample, key);
    let asking = made.clone();
    let ask = ask(&asking);
    let mut claim = budgets.claim(&ask).await.unwrap();
    let (need, exact) = (need(50), async || need(50));
    let hold = budgets.hold((&mut claim, &ask), &need, exact, Duration::ZERO);
    let mut hold = hold
        .await
        .unwrap_or_else(|refusal| panic!("{refusal}"))
        .hold;
    budgets.open_accounts(&claim);
    made.hold = hold.charges();
    let entry = sample.ledger.admit(made.clone(), None).unwrap();
    budgets.admitted((&mut hold, &claim), &Limits::default(), entry.is_recorded());
    let mut settlement: Settlement = sample::settlement(made, PLANNER, Outcome::Completed);
    hold.settle(&used(5), sample.clock.now(), |charges| {
        settlement.charges = charges;
        entry.settle(settlement, None);
    });
}

#[test]
fn keys_beyond_the_bound_leave_memory_and_come_back_with_their_totals() {
    let (sample, keys) = (Sample::new(), keys());
    let each_run = Rule {
        per: vec![Dimension::Run],
        ..rule("each run", tokens(100))
    };
    let (ledger, clock) = (sample.ledger.clone(), sample.clock.clone());
    let budgets = Budgets::new(&[each_run], BOUND, ledger, clock);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for key in 0..keys {
        runtime.block_on(call(&sample, &budgets, key));
        if key % BATCH == 0 {
            budgets.sweep();
            let (accounts, runs) = budgets.in_memory();
            assert!(accounts <= BOUND && runs <= BOUND, "{accounts}, {runs}");
        }
    }
    budgets.sweep();
    for key in (0..keys).step_by((keys / 200).max(1)) {
        runtime.block_on(call(&sample, &budgets, key));
        let made = admission(&sample, key);
        let claim = runtime.block_on(budgets.claim(&ask(&made))).unwrap();
        let state = claim.accounts[0].cell.lock();
        let spent = state.account.as_ref().unwrap().used(&Window::Total, NOW);
        assert_eq!(spent.of(Measure::Tokens), 30, "run-{key}");
    }
    for (run, expected) in [("run-1", vec![15]), ("run-none", Vec::new())] {
        let filter = AccountFilter {
            value: Some(label(run)),
            ..AccountFilter::default()
        };
        let rules = budgets.list(&filter).unwrap();
        let accounts = rules.iter().flat_map(|rule| &rule.accounts);
        let used: Vec<_> = accounts.map(|account| account.measures[0].used).collect();
        assert_eq!(used, expected, "{run}, long out of memory");
    }
}
