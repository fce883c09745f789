//! Totals are a fold over settlements, whatever becomes of the segments that hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use crate::config::LedgerConfig;
use crate::core::call::{Admission, Outcome, Settlement};
use crate::core::metric::{Measurement, Subject, Value};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::usage::Usage;

use super::super::fake::IndexDisk;
use super::super::record::kind;
use super::super::totals::Totals;
use super::super::{Event, Ledger, RollupRow, RunFilter, SpanFilter, View};
use super::harness::*;

/// The roll-ups that settlements must add up to.
fn fold(settlements: &[Settlement]) -> Vec<RollupRow> {
    let mut totals: BTreeMap<_, Totals> = BTreeMap::new();
    for settlement in settlements {
        let key = (
            settlement.started_at.day(),
            settlement.agent.clone(),
            settlement.model.clone(),
            settlement.upstream.clone(),
        );
        totals.entry(key).or_default().add(&Totals::of(settlement));
    }
    let row = |((day, agent, model, upstream), totals)| RollupRow {
        day,
        agent,
        model,
        upstream,
        totals,
    };
    totals.into_iter().map(row).collect()
}

#[test]
fn a_checkpoint_longer_than_a_segment_does_not_ask_for_another() {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 100,
        ..config()
    });
    let (ledger, _) = machine.open();
    for number in 0..30_u32 {
        let call = machine.call(
            &format!("run-{}", number.wrapping_mul(2_654_435_761)),
            "agent",
        );
        let entry = ledger.admit(call.clone(), None).unwrap();
        entry.settle(settlement(&call), None);
    }
    let segments = || {
        for _ in 0..10 {
            ledger.sync_index();
        }
        ledger.status().segments
    };
    assert_eq!(segments(), segments());
}

#[derive(Clone, Debug)]
struct Step {
    agent: u8,
    run: u8,
    later_hours: i64,
    tokens: u64,
    cost: Option<i64>,
    outcome: Outcome,
    /// Stays open until this many steps later.
    open_for: usize,
    reopen: bool,
    without_index: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        Just(Outcome::Completed),
        Just(Outcome::UpstreamError),
        Just(Outcome::ClientGone)
    ];
    let numbers = (0..3_u8, 0..4_u8, 0..5_i64, 0..1000_u64, 0..4_usize);
    let maybe = (
        proptest::option::of(0..10_000_i64),
        prop::bool::weighted(0.1),
        any::<bool>(),
    );
    (numbers, maybe, outcome).prop_map(
        |((agent, run, later_hours, tokens, open_for), (cost, reopen, without_index), outcome)| {
            Step {
                agent,
                run,
                later_hours,
                tokens,
                cost,
                outcome,
                open_for,
                reopen,
                without_index,
            }
        },
    )
}

/// Lets retention do what it has to; it needs the writer's consent and the index thread's turn.
fn settle_down(ledger: &Ledger, bytes: u64) {
    ledger.sync_index();
    while ledger.status().segments > 1 && ledger.status().log_bytes > bytes {
        ledger.sync_index();
        std::thread::yield_now();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rollups_are_the_fold_of_all_settlements(steps in prop::collection::vec(step(), 1..60)) {
        let mut machine = Machine::new(LedgerConfig {
            segment_bytes: 2500,
            keep_bytes: Some(9000),
            ..config()
        });
        let (mut ledger, _) = machine.open();
        let mut settled = Vec::new();
        let mut open = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            machine.clock.advance_micros(step.later_hours * HOUR_US);
            let admission =
                machine.call(&format!("run{}", step.run), &format!("agent{}", step.agent));
            let entry = ledger.admit(admission.clone(), Some(plain(b"{}"))).unwrap();
            let settlement = Settlement {
                outcome: step.outcome,
                usage: Usage { input_tokens: step.tokens, ..Usage::default() },
                cost: step.cost.map(NanoUsd::new),
                ..settlement(&admission)
            };
            open.push((number + step.open_for, entry, settlement));
            ledger.measured(measured(&admission, step.run, machine.clock.now())).unwrap().block();
            let due: Vec<_> =
                open.extract_if(.., |(at, ..)| *at <= number || step.reopen).collect();
            for (_, entry, settlement) in due {
                entry.settle(settlement.clone(), None);
                settled.push(settlement);
            }
            if step.reopen {
                block_on(ledger.close()).unwrap();
                drop(ledger);
                if step.without_index {
                    machine.index = IndexDisk::default();
                }
                ledger = machine.open().0;
                prop_assert_eq!(all_rollups(ledger.view()), fold(&settled));
            }
        }
        prop_assert_eq!(all_rollups(ledger.view()), fold(&settled));
        for (_, entry, settlement) in open {
            entry.settle(settlement.clone(), None);
            settled.push(settlement);
        }
        prop_assert_eq!(all_rollups(ledger.view()), fold(&settled));
        drop(ledger);
        let keeping = LedgerConfig { keep_bytes: None, ..machine.config.clone() };
        let mut machine = Machine { config: keeping, ..machine };
        let kept = lasting(machine.open().0.view());
        machine.index = IndexDisk::default();
        let (ledger, recovery) = machine.open();
        prop_assert!(recovery.index_rebuilt);
        prop_assert_eq!(lasting(ledger.view()), kept);
    }
}

/// Something that is said of the call, its run or its agent.
fn measured(admission: &Admission, of: u8, at: Timestamp) -> Measurement {
    let who = &admission.attribution;
    let subject = match (of, &who.run) {
        (0, Some(run)) => Subject::Run(run.clone()),
        (1, _) => Subject::Agent(who.agent.clone()),
        _ => Subject::Call(admission.id),
    };
    Measurement {
        at,
        name: "tool_success".to_owned(),
        value: Value::Boolean(of == 0),
        subject,
        who: label("judge"),
        note: None,
        key: None,
        run: who.run.clone(),
        agent: Some(who.agent.clone()),
        charged: None,
        instance: None,
    }
}

/// What does not depend on when segments went: runs count what is known of them.
fn lasting(view: &View) -> String {
    let spans = SpanFilter::default();
    let agents = view.agents(&spans).unwrap().items;
    let agents: Vec<_> = agents
        .iter()
        .map(|row| (&row.agent, &row.figures.totals, &row.models))
        .collect();
    let edges = view.edges(&spans).unwrap();
    format!(
        "{:#?}\n{agents:#?}\n{edges:#?}\n{:#?}\n{:#?}",
        all_calls(view),
        all_rollups(view),
        all_measured(view)
    )
}

#[test]
fn retention_frees_files_and_keeps_totals() {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 4000,
        keep_bytes: Some(30_000),
        ..config()
    });
    let (ledger, _) = machine.open();
    let mut settled = Vec::new();
    for number in 0..60 {
        machine.clock.advance_micros(HOUR_US);
        let admission = machine.call(&format!("run{number}"), "a");
        let request = conversation(ledger.seed(), &[message(number)]);
        let entry = ledger.admit(admission.clone(), Some(request)).unwrap();
        entry.durable().block();
        entry.settle(settlement(&admission), None);
        settled.push(settlement(&admission));
    }
    settle_down(&ledger, 30_000);
    assert!(!machine.disk.segments().contains(&1));
    let view = ledger.view();
    let calls = all_calls(view);
    assert!(calls.len() < 40 && !calls.is_empty());
    assert_eq!(all_rollups(view), fold(&settled));
    let runs = view.runs(&RunFilter::default()).unwrap().items;
    assert!(runs.len() < 60, "runs go with their calls, a day later");
    assert_eq!(view.call(settled[0].id).unwrap(), None);
    let newest = calls[0].id;
    assert!(view.request_body(newest).unwrap().unwrap().exact);
}

#[test]
fn message_near_its_end_is_stored_again() {
    let machine = Machine::new(LedgerConfig {
        keep_for: Some(Duration::from_secs(100 * 3600)),
        ..config()
    });
    let (ledger, _) = machine.open();
    let request = conversation(ledger.seed(), &[message(1)]);
    for copies in [1, 1, 1, 1, 1, 1, 1, 2] {
        let admission = machine.call("r", "a");
        let entry = ledger
            .admit(admission.clone(), Some(request.clone()))
            .unwrap();
        entry.settle(settlement(&admission), None);
        ledger.sync_index();
        assert_eq!(machine.disk.records(kind::CONTENT), copies);
        machine.clock.advance_micros(15 * HOUR_US);
    }
    let newest = all_calls(ledger.view())[0].id;
    assert!(ledger.view().request_body(newest).unwrap().unwrap().exact);
}

/// Calls about eight hours apart over some days, so that spans cut days everywhere.
fn days_of_calls(machine: &Machine, ledger: &Ledger) -> Vec<Settlement> {
    let mut settled = Vec::new();
    for number in 0..14_i64 {
        machine.clock.advance_micros(8 * HOUR_US + number);
        let agent = if number % 3 == 0 { "a" } else { "b" };
        let admission = machine.call(&format!("r{}", number % 4), agent);
        let entry = ledger.admit(admission.clone(), None).unwrap();
        let settlement = Settlement {
            cost: Some(NanoUsd::new(1 << number)),
            ..settlement(&admission)
        };
        entry.settle(settlement.clone(), None);
        settled.push(settlement);
    }
    settled
}

#[test]
fn totals_of_a_span_are_the_fold_of_the_calls_that_started_in_it() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let settled = days_of_calls(&machine, &ledger);
    let view = ledger.view();
    let day = |day: i32| Timestamp::of_day(START.day() + day);
    let mut edges: Vec<_> = settled.iter().map(|call| call.started_at).collect();
    edges.extend((-1..6).map(day));
    edges.extend((0..5).map(|of| Timestamp::from_micros(day(of).micros() + 1)));
    let edges: Vec<_> = edges.into_iter().map(Some).chain([None]).collect();
    for since in &edges {
        for until in &edges {
            let span = SpanFilter {
                since: *since,
                until: *until,
                ..SpanFilter::default()
            };
            let mut expected: BTreeMap<_, (Totals, BTreeSet<_>)> = BTreeMap::new();
            for call in &settled {
                if since.is_none_or(|since| call.started_at >= since)
                    && until.is_none_or(|until| call.started_at < until)
                {
                    let (totals, models) = expected.entry(call.agent.clone()).or_default();
                    totals.add(&Totals::of(call));
                    models.extend(call.model.clone());
                }
            }
            let found: BTreeMap<_, _> = view
                .agents(&span)
                .unwrap()
                .items
                .into_iter()
                .map(|row| {
                    (
                        row.agent,
                        (row.figures.totals, row.models.into_iter().collect()),
                    )
                })
                .collect();
            assert_eq!(found, expected, "{span:?}");
        }
    }
}

#[test]
fn events_are_paged_and_go_with_their_segments() {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 4000,
        keep_bytes: Some(20_000),
        ..config()
    });
    let (ledger, _) = machine.open();
    let tell = |what: &'static str| {
        let event = Event::own(machine.clock.now(), what, Some("a\nb".to_owned()));
        ledger.event(event).unwrap().block();
    };
    let told = |span: &SpanFilter| {
        let page = ledger.view().events(span).unwrap();
        let told: Vec<_> = page.items.into_iter().map(|event| event.what).collect();
        (told, page.next)
    };
    let all = SpanFilter::default();
    for what in ["one", "two", "three"] {
        machine.clock.advance_micros(HOUR_US);
        tell(what);
    }
    tell("with three");
    let first = SpanFilter {
        limit: 1,
        ..SpanFilter::default()
    };
    let (page, next) = told(&first);
    assert_eq!(page, ["with three", "three"], "one moment is one page");
    let rest = SpanFilter {
        before: next,
        until: next,
        since: Some(Timestamp::from_micros(START.micros() + 2 * HOUR_US)),
        ..SpanFilter::default()
    };
    assert_eq!(told(&rest), (vec!["two".to_owned()], None));
    let details = ledger.view().events(&all).unwrap().items.swap_remove(0);
    assert_eq!(details.details.unwrap(), "a; b");

    for number in 0..60 {
        machine.clock.advance_micros(HOUR_US);
        let admission = machine.call(&format!("run{number}"), "a");
        let entry = ledger.admit(admission.clone(), None).unwrap();
        entry.durable().block();
        entry.settle(settlement(&admission), None);
    }
    tell("last");
    settle_down(&ledger, 20_000);
    assert!(!machine.disk.segments().contains(&1));
    let (mut left, _) = told(&all);
    left.retain(|what| what != "segments_retired");
    assert_eq!(left, ["last"]);
}
