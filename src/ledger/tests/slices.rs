//! Slices: any span of any calls sums up to what the calls say one by one, whether the index followed
//! the log or was made anew, and whatever retention let go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use crate::clock::Clock;
use crate::config::LedgerConfig;
use crate::core::call::{Outcome, Settlement, Timings};
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;

use super::super::fake::IndexDisk;
use super::super::slices::{Grain, Slice};
use super::super::{
    By, Figures, Ledger, LineOf, SeriesFilter, SpanFilter, Spanned, View, query::MAX_BUCKETS,
};
use super::harness::*;

const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 24 * HOUR_US;

#[derive(Clone, Debug)]
struct Made {
    after_us: i64,
    agent: u8,
    caller: Option<u8>,
    model: Option<u8>,
    took_us: u64,
    cost: i64,
    outcome: Outcome,
    /// It names a time this much before the one that it comes at.
    late_us: i64,
}

fn made() -> impl Strategy<Value = Made> {
    let after = prop_oneof![
        4 => 0..MINUTE_US,
        3 => 0..HOUR_US,
        1 => 0..DAY_US,
        1 => Just(25 * DAY_US),
    ];
    let late = prop_oneof![8 => Just(0), 1 => 0..3 * DAY_US];
    let outcome = prop_oneof![4 => Just(Outcome::Completed), 1 => Just(Outcome::UpstreamError)];
    let names = (
        0..3_u8,
        prop::option::of(0..2_u8),
        prop::option::of(0..2_u8),
    );
    (after, late, names, 0..9_000_000_u64, 0..1000_i64, outcome).prop_map(
        |(after_us, late_us, (agent, caller, model), took_us, cost, outcome)| Made {
            after_us,
            agent,
            caller,
            model,
            took_us,
            cost,
            outcome,
            late_us,
        },
    )
}

fn record(machine: &Machine, ledger: &Ledger, made: &Made) -> Settlement {
    machine.clock.advance_micros(made.after_us);
    let mut admission = machine.call("r", &format!("agent{}", made.agent));
    if made.late_us != 0 {
        let earlier = admission.started_at.micros() - made.late_us;
        admission.started_at = Timestamp::from_micros(earlier);
        admission.id = Clock::manual(admission.started_at).call_id();
    }
    admission.attribution.caller = made.caller.map(|caller| label(&format!("caller{caller}")));
    admission.request_model = made.model.map(|model| label(&format!("model{model}")));
    let settlement = Settlement {
        outcome: made.outcome,
        cost: Some(NanoUsd::new(made.cost)),
        timings: Timings {
            total_us: made.took_us,
            first_chunk_us: Some(made.took_us / 2),
            ..Timings::default()
        },
        ..settlement(&admission)
    };
    let entry = ledger.admit(admission, None).unwrap();
    entry.settle(settlement.clone(), None);
    settlement
}

/// What calls that started in a span come to, by what `name` says of each.
fn fold<K: Ord>(
    calls: &[Settlement],
    (since, until): (Option<Timestamp>, Option<Timestamp>),
    name: impl Fn(&Settlement) -> Option<K>,
) -> BTreeMap<K, Figures> {
    let mut sums: BTreeMap<K, Slice> = BTreeMap::new();
    for call in calls {
        let is_in = since.is_none_or(|since| call.started_at >= since)
            && until.is_none_or(|until| call.started_at < until);
        if let Some(name) = name(call).filter(|_| is_in) {
            let totals = super::super::Totals::of(call);
            let ended = call.started_at.plus_micros(call.timings.total_us);
            sums.entry(name).or_default().add(call, ended, &totals);
        }
    }
    let figures = |(name, slice): (K, Slice)| (name, slice.figures());
    sums.into_iter().map(figures).collect()
}

fn answered<T>(list: &Spanned<T>) -> (Option<Timestamp>, Option<Timestamp>) {
    (list.since, list.until)
}

/// Everything a view says of a span is what the calls of the span that it answered for come to.
fn check_span(view: &View, calls: &[Settlement], filter: &SpanFilter, exact: bool) {
    let agents = view.agents(filter).unwrap();
    let asked = (filter.since, filter.until);
    assert!(!exact || !agents.widened);
    assert_eq!(agents.widened, answered(&agents) != asked);
    let found: BTreeMap<_, _> = agents
        .items
        .iter()
        .map(|row| (row.agent.clone(), row.figures))
        .collect();
    let expected = fold(calls, answered(&agents), |call| Some(call.agent.clone()));
    assert_eq!(found, expected, "agents of {asked:?}");

    let edges = view.edges(filter).unwrap();
    let found: BTreeMap<_, _> = edges
        .items
        .iter()
        .map(|row| ((row.caller.clone(), row.agent.clone()), row.figures))
        .collect();
    let edge = |call: &Settlement| Some((call.caller.clone()?, call.agent.clone()));
    assert_eq!(found, fold(calls, answered(&edges), edge), "edges");

    let models = view.models(filter).unwrap();
    let found: BTreeMap<_, _> = models
        .items
        .iter()
        .map(|row| (row.model.clone(), row.figures))
        .collect();
    let expected = fold(calls, answered(&models), |call| Some(call.model.clone()));
    assert_eq!(found, expected, "models");
    for row in &models.items {
        let users = calls.iter().filter(|call| call.model == row.model);
        let users: BTreeSet<_> = users.map(|call| call.agent.clone()).collect();
        assert!(row.agents.iter().all(|agent| users.contains(agent)));
    }
}

fn check_series(view: &View, calls: &[Settlement], filter: &SeriesFilter) {
    let series = view.series(filter).unwrap();
    assert!(series.since <= filter.since && series.until >= filter.until);
    assert!(series.buckets.len() <= MAX_BUCKETS && !series.buckets.is_empty());
    let agent = |call: &Settlement| call.agent.clone();
    for (at, bucket) in series.buckets.iter().enumerate() {
        let from = series.since.plus_micros(series.step_us * at as u64);
        let span = (Some(from), Some(from.plus_micros(series.step_us)));
        let all = fold(calls, span, |_| Some(()));
        assert_eq!(*bucket, all.get(&()).copied().unwrap_or_default(), "{at}");
        let by_agent = fold(calls, span, |call| Some(agent(call)));
        for line in &series.lines {
            let LineOf::Named(name) = &line.of else {
                panic!("{:?}", line.of)
            };
            let expected = by_agent.get(name).copied().unwrap_or_default();
            assert_eq!(line.buckets[at], expected, "{name} {at}");
        }
    }
    let length = filter.until.micros_since(filter.since);
    let before = Timestamp::from_micros(filter.since.micros() - length.cast_signed());
    for (whole, asked) in [
        (series.whole, (filter.since, filter.until)),
        (series.before, (before, filter.since)),
    ] {
        assert!(whole.since <= asked.0 && whole.until >= asked.1);
        let span = (Some(whole.since), Some(whole.until));
        let expected = fold(calls, span, |_| Some(()));
        assert_eq!(
            whole.figures,
            expected.get(&()).copied().unwrap_or_default()
        );
    }
}

/// Moments that cut everything: calls, minutes, hours, days, what is kept of each.
fn moments(calls: &[Settlement]) -> Vec<Timestamp> {
    let mut moments = BTreeSet::new();
    let step = (calls.len() / 6).max(1);
    for call in calls.iter().step_by(step) {
        moments.insert(call.started_at);
        moments.extend(Grain::ALL.map(|grain| grain.floor(call.started_at)));
        moments.insert(call.started_at.plus_micros(1));
    }
    moments.into_iter().collect()
}

fn check_all(view: &View, calls: &[Settlement], exact: bool) {
    let moments = moments(calls);
    let ends: Vec<_> = moments.iter().copied().map(Some).chain([None]).collect();
    for since in &ends {
        for until in &ends {
            if since
                .zip(*until)
                .is_some_and(|(since, until)| since >= until)
            {
                continue;
            }
            let filter = SpanFilter {
                since: *since,
                until: *until,
                ..SpanFilter::default()
            };
            check_span(view, calls, &filter, exact);
        }
    }
    for (since, until) in moments.iter().zip(moments.iter().skip(1)) {
        let filter = SeriesFilter {
            since: *since,
            until: *until,
            by: By::Agent,
            agent: None,
            model: None,
            step_us: None,
        };
        check_series(view, calls, &filter);
    }
}

/// What a view tells that must not depend on how its index came about.
fn told(view: &View, calls: &[Settlement]) -> Vec<String> {
    let mut told = Vec::new();
    for since in moments(calls) {
        let filter = SpanFilter {
            since: Some(since),
            ..SpanFilter::default()
        };
        let mut agents = view.agents(&filter).unwrap();
        // A run that went with its calls and goes on counts as new to whoever forgot it by then.
        agents.items.iter_mut().for_each(|row| row.runs = 0);
        let edges = view.edges(&filter).unwrap();
        told.push(format!("{agents:#?}{edges:#?}"));
    }
    told
}

fn reopened(machine: &Machine, index: IndexDisk) -> (Machine, Ledger) {
    let machine = Machine {
        index,
        ..machine.clone()
    };
    let (ledger, _) = machine.open();
    (machine, ledger)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_span_is_what_its_calls_come_to_one_by_one(
        steps in prop::collection::vec(made(), 1..50),
        cut in 0..50_usize,
    ) {
        let machine = Machine::new(config());
        let (ledger, _) = machine.open();
        let mut calls = Vec::new();
        for (number, made) in steps.iter().enumerate() {
            if number == cut {
                ledger.sync_index();
            }
            calls.push(record(&machine, &ledger, made));
        }
        check_all(ledger.view(), &calls, true);
        let followed = (everything(ledger.view()), told(ledger.view(), &calls));
        block_on(ledger.close()).unwrap();
        drop(ledger);
        let (_, ledger) = reopened(&machine, IndexDisk::default());
        let anew = (everything(ledger.view()), told(ledger.view(), &calls));
        prop_assert_eq!(followed, anew);
    }

    #[test]
    fn spans_outlive_the_segments_of_their_calls_by_whole_days(
        steps in prop::collection::vec(made(), 30..80),
    ) {
        let machine = Machine::new(LedgerConfig {
            segment_bytes: 2500,
            keep_bytes: Some(12_000),
            ..config()
        });
        let (ledger, _) = machine.open();
        let mut calls = Vec::new();
        for made in &steps {
            let made = Made { late_us: 0, ..made.clone() };
            calls.push(record(&machine, &ledger, &made));
            ledger.sync_index();
        }
        for _ in 0..20 {
            ledger.sync_index();
        }
        check_all(ledger.view(), &calls, false);
        block_on(ledger.close()).unwrap();
        drop(ledger);
        // Whatever has gone by now: nothing more goes.
        let machine = Machine { config: config(), ..machine };
        let (_, ledger) = reopened(&machine, machine.index.clone());
        let followed = told(ledger.view(), &calls);
        block_on(ledger.close()).unwrap();
        drop(ledger);
        let (_, ledger) = reopened(&machine, IndexDisk::default());
        prop_assert_eq!(followed, told(ledger.view(), &calls));
        check_all(ledger.view(), &calls, false);
    }
}

#[test]
fn ends_with_too_many_calls_count_as_whole_slices_and_say_so() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let call = Made {
        after_us: 1000,
        agent: 0,
        caller: Some(1),
        model: Some(1),
        took_us: 70,
        cost: 3,
        outcome: Outcome::Completed,
        late_us: 0,
    };
    let calls: Vec<_> = (0..4500)
        .map(|_| record(&machine, &ledger, &call))
        .collect();
    let view = ledger.view();
    let since = calls[1000].started_at;
    let span = SpanFilter {
        since: Some(since),
        ..SpanFilter::default()
    };
    let found = view.agents(&span).unwrap();
    assert!(found.widened);
    assert_eq!(found.since, Some(Grain::Minute.floor(since)));
    check_span(view, &calls, &span, false);
    let few = SpanFilter {
        since: Some(calls[4000].started_at),
        until: Some(calls[4400].started_at),
        ..SpanFilter::default()
    };
    let found = view.agents(&few).unwrap();
    assert!(found.widened, "ids are looked at from a minute before on");
}

#[test]
fn minutes_are_kept_for_two_days_and_hours_for_sixty() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let call = Made {
        after_us: 5 * HOUR_US + MINUTE_US,
        agent: 0,
        caller: Some(1),
        model: Some(1),
        took_us: 70,
        cost: 3,
        outcome: Outcome::Completed,
        late_us: 0,
    };
    for _ in 0..400 {
        record(&machine, &ledger, &call);
    }
    let count = |grain: Grain| {
        let view = ledger.view();
        let tag = super::super::slices::SliceKey::first_of(grain);
        let counted = view.index.read(|txn| {
            let slices = txn.open_table(super::super::index::SLICES)?;
            let mut count = 0;
            for entry in slices.range(tag.as_slice()..)? {
                count += usize::from(entry?.0.value().starts_with(&tag));
            }
            Ok(count)
        });
        counted.unwrap()
    };
    let minutes = count(Grain::Minute);
    assert!((2 * 9..=2 * 11).contains(&minutes), "{minutes}");
    let hours = count(Grain::Hour);
    assert!((2 * 280..=2 * 300).contains(&hours), "{hours}");
    assert!(count(Grain::Day) > 2 * 80);
}

#[test]
fn one_call_of_a_wrong_clock_costs_no_slice_of_others() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let call = Made {
        after_us: HOUR_US,
        agent: 0,
        caller: None,
        model: Some(1),
        took_us: 70,
        cost: 3,
        outcome: Outcome::Completed,
        late_us: 0,
    };
    let mut calls: Vec<_> = (0..30).map(|_| record(&machine, &ledger, &call)).collect();
    let wrong = Made {
        late_us: -365 * DAY_US,
        ..call.clone()
    };
    record(&machine, &ledger, &wrong);
    calls.extend((0..5).map(|_| record(&machine, &ledger, &call)));
    let filter = SeriesFilter {
        since: calls[25].started_at,
        until: calls[34].started_at.plus_micros(1),
        by: By::None,
        agent: None,
        model: None,
        step_us: None,
    };
    let (again, rebuilt) = {
        drop(ledger);
        reopened(&machine, IndexDisk::default())
    };
    let series = rebuilt.view().series(&filter).unwrap();
    assert!(series.step_us < 3_600_000_000, "{}", series.step_us);
    let drawn: u64 = series.buckets.iter().map(|it| it.totals.calls).sum();
    assert_eq!(drawn, 10);
    drop(again);
}

#[test]
fn series_shows_the_most_expensive_and_all_others_together() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let agents: Vec<u8> = (0..8).collect();
    for agent in &agents {
        let call = Made {
            after_us: 1,
            agent: *agent,
            caller: None,
            model: (agent % 2 == 0).then_some(0),
            took_us: 70,
            cost: i64::from(*agent) + 1,
            outcome: Outcome::Completed,
            late_us: 0,
        };
        record(&machine, &ledger, &call);
    }
    let mut filter = SeriesFilter {
        since: START,
        until: Timestamp::from_micros(START.micros() + HOUR_US),
        by: By::Agent,
        agent: None,
        model: None,
        step_us: None,
    };
    let names = |filter: &SeriesFilter| -> Vec<(String, i64)> {
        let lines = ledger.view().series(filter).unwrap().lines;
        let name = |of| match of {
            LineOf::Named(name) => name.to_string(),
            LineOf::Unnamed => "unnamed".to_owned(),
            LineOf::Others => "others".to_owned(),
        };
        let line = |line: super::super::Line| (name(line.of), line.whole.totals.cost_nano_usd);
        lines.into_iter().map(line).collect()
    };
    let expected = [
        ("agent7", 8),
        ("agent6", 7),
        ("agent5", 6),
        ("agent4", 5),
        ("agent3", 4),
        ("others", 6),
    ];
    let expected: Vec<_> = expected.map(|(name, cost)| (name.to_owned(), cost)).into();
    assert_eq!(names(&filter), expected);
    filter.by = By::Model;
    let unnamed = ("unnamed".to_owned(), 2 + 4 + 6 + 8);
    assert_eq!(names(&filter), [unnamed, ("model0".to_owned(), 16)]);
    filter.agent = Some(label("agent6"));
    assert_eq!(names(&filter), [("model0".to_owned(), 7)]);
    filter.model = Some(label("model1"));
    assert_eq!(names(&filter), []);
}

#[test]
fn series_of_any_span_has_buckets_that_fit_and_no_narrower_than_asked() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    for (length, asked, step) in [
        (MINUTE_US, None, MINUTE_US),
        (HOUR_US, None, MINUTE_US),
        (HOUR_US, Some(5 * MINUTE_US), 5 * MINUTE_US),
        (DAY_US, None, 15 * MINUTE_US),
        (7 * DAY_US, None, 2 * HOUR_US),
        (30 * DAY_US, None, 6 * HOUR_US),
        (30 * DAY_US, Some(DAY_US), DAY_US),
        (3650 * DAY_US, None, 90 * DAY_US),
    ] {
        let filter = SeriesFilter {
            since: START,
            until: Timestamp::from_micros(START.micros() + length),
            by: By::None,
            agent: None,
            model: None,
            step_us: asked.map(i64::cast_unsigned),
        };
        let series = ledger.view().series(&filter).unwrap();
        assert_eq!(series.step_us, step.cast_unsigned(), "{length}");
        assert!(series.buckets.len() <= MAX_BUCKETS && series.lines.is_empty());
    }
    let ages = SeriesFilter {
        since: Timestamp::from_micros(-100 * 365 * DAY_US),
        until: Timestamp::from_micros(800 * 365 * DAY_US),
        by: By::None,
        agent: None,
        model: None,
        step_us: Some(u64::MAX),
    };
    assert_eq!(ledger.view().series(&ages).unwrap().buckets.len(), 1);
}

#[test]
fn a_checkpoint_larger_than_what_is_kept_does_not_call_for_another() {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 2000,
        keep_bytes: Some(6000),
        keep_for: Some(Duration::from_secs(3600)),
        ..config()
    });
    let (ledger, _) = machine.open();
    // So many days of so many agents make a checkpoint that is larger than all that is kept.
    for number in 0..400_u32 {
        machine.clock.advance_micros(HOUR_US * 9);
        let name = format!("agent-{}", number.wrapping_mul(2_654_435_761));
        let call = machine.call("r", &name);
        let entry = ledger.admit(call.clone(), None).unwrap();
        entry.settle(settlement(&call), None);
        ledger.sync_index();
    }
    let written = || machine.disk.segments().last().copied();
    for _ in 0..20 {
        ledger.sync_index();
    }
    let rested = written();
    for _ in 0..50 {
        ledger.sync_index();
    }
    assert_eq!(
        written(),
        rested,
        "nothing is written while nothing happens"
    );
    let before = rested.unwrap();
    for _ in 0..100 {
        let call = machine.call("r", "a");
        let entry = ledger.admit(call.clone(), None).unwrap();
        entry.settle(settlement(&call), None);
        ledger.sync_index();
    }
    let grown = written().unwrap() - before;
    assert!(grown < 120, "{grown} segments for a hundred calls");
    let days: BTreeSet<Label> = all_rollups(ledger.view())
        .into_iter()
        .map(|row| row.agent)
        .collect();
    assert_eq!(days.len(), 401, "days outlive their calls");
}
