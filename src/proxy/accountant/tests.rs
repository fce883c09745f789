use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use super::*;
use crate::admin::sample::{PLANNER, Sample, admission};
use crate::alerts::Alerts;
use crate::budgets::Hold;
use crate::config::Config;
use crate::core::id::CallId;
use crate::core::price::PriceTable;
use crate::core::space::Space;
use crate::ledger::rows::CallRow;
use crate::metrics::Exposition;
use crate::proxy::Live;
use crate::proxy::call::Origin;
use crate::upstream::Upstream;
use crate::wire::scan::RequestFacts;

/// A call that was answered and has ended.
fn ended(sample: &Sample, model: &str) -> EndedCall {
    let mut admission = admission(sample.clock.call_id(), sample.clock.now(), PLANNER);
    admission.request_model = Label::parse(model).ok();
    let entry = sample.ledger.admit(admission.clone(), None).unwrap();
    let config = Config::default();
    let upstream = Arc::new(Upstream::new(&config.upstreams[0]).unwrap());
    let live = Live {
        config,
        upstreams: vec![Arc::clone(&upstream)],
        prices: PriceTable::builtin().clone(),
    };
    let origin = Origin {
        live: Arc::new(live),
        upstream,
        started_at: admission.started_at,
        attribution: admission.attribution,
        operation: admission.operation,
        fetch: false,
        model: admission.request_model,
        record: RecordLevel::Full,
        text: bytes::Bytes::new(),
        body_bytes: 0,
        facts: Arc::new(RequestFacts {
            stream: true,
            ..RequestFacts::default()
        }),
        traits: None,
        turn: None,
    };
    EndedCall {
        outcome: Outcome::Completed,
        status: Some(http::StatusCode::OK),
        ..EndedCall::new(
            origin,
            Arc::<Space>::default().room(),
            (entry, Hold::nothing()),
        )
    }
}

fn books(sample: &Sample, metrics: &Arc<Metrics>) -> Books {
    let (ledger, clock) = (sample.ledger.clone(), sample.clock.clone());
    Books {
        counter: Arc::new(Counter::new(10)),
        metrics: Arc::clone(metrics),
        budgets: Arc::new(Budgets::new(&[], 10, ledger.clone(), clock.clone())),
        loops: Arc::new(Loops::new(&Config::default(), clock.clone(), Box::new(()))),
        alerts: Alerts::resting(&ledger, &clock),
        ledger,
        clock,
    }
}

fn row(sample: &Sample, id: CallId) -> CallRow {
    sample.ledger.view().call(id).unwrap().unwrap().row
}

#[tokio::test]
async fn a_call_whose_accounting_panics_is_estimated_and_the_next_is_accounted_for() {
    let (sample, metrics) = (Sample::new(), Arc::new(Metrics::new()));
    let counted = Arc::clone(&metrics);
    let books = books(&sample, &metrics);
    let accountant = Accountant::with(move |call| {
        account(call, &counted, |call| {
            let bad = call
                .origin
                .model
                .as_ref()
                .is_some_and(|m| m.as_str() == "bad");
            assert!(!bad, "bytes of a stranger");
            books.settle(call);
        });
    });
    let calls = ["bad", "gpt-4o-mini"].map(|model| ended(&sample, model));
    let ids = [calls[0].entry.id(), calls[1].entry.id()];
    for call in calls {
        metrics.call_admitted(true);
        accountant.seat().unwrap().settle(call);
    }
    accountant.idle().await;
    let [bad, good] = ids.map(|id| row(&sample, id));
    assert_eq!(bad.outcome, Some(Outcome::Cut));
    assert_eq!(bad.provenance, Some(Provenance::Estimated));
    assert_eq!(bad.usage.input_tokens, 1000);
    assert_eq!(good.outcome, Some(Outcome::Completed));
    for gauge in ["calls_in_flight", "streams_open"] {
        let none = format!("open_aiops_{gauge} 0\n");
        assert!(
            metrics.render(Exposition::OpenMetrics).contains(&none),
            "{}",
            metrics.render(Exposition::OpenMetrics)
        );
    }
}

#[tokio::test]
async fn waiting_for_the_end_of_all_calls_takes_no_seat() {
    let sample = Sample::new();
    let accountant = Accountant::start(books(&sample, &Arc::new(Metrics::new())));
    accountant.idle().await;
    let first = accountant.seat().unwrap();
    let mut idle = std::pin::pin!(accountant.idle());
    assert!(is_pending(idle.as_mut()).await);
    let second = accountant.seat();
    assert!(second.is_some(), "a call that comes meanwhile");
    drop(first);
    assert!(is_pending(idle.as_mut()).await);
    drop(second);
    idle.await;
}

async fn is_pending(mut future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn catching_up_waits_for_all_calls_that_ended() {
    let settled = Arc::new(AtomicUsize::new(0));
    let (count, sample) = (Arc::clone(&settled), Sample::new());
    let accountant = Accountant::with(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    for round in 1..=20 {
        accountant
            .seat()
            .unwrap()
            .settle(ended(&sample, "gpt-4o-mini"));
        accountant.catch_up().await;
        assert_eq!(settled.load(Ordering::SeqCst), round);
    }
}
