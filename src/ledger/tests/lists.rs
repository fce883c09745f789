//! Lists of runs and calls: filters, and pages without loss or doubles.

use std::collections::BTreeMap;

use crate::core::budget::Deed;
use crate::core::call::{Outcome, Settlement};
use crate::core::id::{CallId, Label};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;

use super::super::query::MAX_SCANNED;
use super::super::{CallFilter, Ledger, RunFilter, SpanFilter, Standing};
use super::budgets::act;
use super::harness::*;

fn made(machine: &Machine, ledger: &Ledger, run: &str, change: impl FnOnce(&mut Settlement)) {
    let mut admission = machine.call(run, "writer");
    admission.attribution.parent_run = None;
    if run.starts_with('v') {
        admission.attribution.variant = Some(label("blue"));
        admission.attribution.tags = BTreeMap::from([("team".to_owned(), label("red"))]);
        admission.attribution.user = Some(label("ada"));
    }
    let mut settlement = settlement(&admission);
    change(&mut settlement);
    let entry = ledger.admit(admission, None).unwrap();
    entry.settle(settlement, None);
}

fn span(limit: usize) -> SpanFilter {
    SpanFilter {
        limit,
        ..SpanFilter::default()
    }
}

/// All runs that match, page by page.
fn runs(ledger: &Ledger, filter: &RunFilter) -> Vec<String> {
    let mut filter = filter.clone();
    let mut found = Vec::new();
    loop {
        let page = ledger.view().runs(&filter).unwrap();
        found.extend(page.items.into_iter().map(|row| row.run.to_string()));
        match page.next {
            Some(next) => filter.span.before = Some(next),
            None => return found,
        }
    }
}

#[test]
fn pages_of_runs_hold_each_run_once_the_last_active_first() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    for number in 0..60 {
        // Three of them end in the same moment.
        machine.clock.advance_micros(i64::from(number % 3 == 0));
        made(&machine, &ledger, &format!("r{number:02}"), |_| ());
    }
    made(&machine, &ledger, "r00", |end| {
        end.timings.total_us = 999_999
    });
    let expected: Vec<_> = {
        let mut rows = ledger.view().runs(&RunFilter::default()).unwrap().items;
        rows.sort_by(|a, b| b.last_at.cmp(&a.last_at).then_with(|| a.run.cmp(&b.run)));
        rows.into_iter().map(|row| row.run.to_string()).collect()
    };
    assert_eq!((expected.len(), expected[0].as_str()), (60, "r00"));
    for limit in [1, 2, 7, 59, 60, 61] {
        let filter = RunFilter {
            span: span(limit),
            ..RunFilter::default()
        };
        assert_eq!(runs(&ledger, &filter), expected, "{limit} a page");
    }
}

#[test]
fn runs_are_found_by_what_is_known_of_them() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    for run in ["one", "Two", "v-three"] {
        machine.clock.advance_micros(10_000);
        made(&machine, &ledger, run, |_| ());
    }
    made(&machine, &ledger, "Two", |end| {
        end.outcome = Outcome::UpstreamCut
    });
    made(&machine, &ledger, "one", |end| {
        end.cost = Some(NanoUsd::new(2_000_000))
    });
    let open = ledger.admit(machine.call("open", "planner"), None).unwrap();
    let stop = act(&machine, Deed::RunStopped(label("one")));
    ledger.act(stop).unwrap().block();
    let found = |change: &dyn Fn(&mut RunFilter)| {
        let mut filter = RunFilter::default();
        change(&mut filter);
        let mut found = runs(&ledger, &filter);
        found.sort();
        found
    };
    assert_eq!(found(&|it| it.standing = Some(Standing::Running)), ["open"]);
    assert_eq!(found(&|it| it.standing = Some(Standing::Stopped)), ["one"]);
    let ended = found(&|it| it.standing = Some(Standing::Ended));
    assert_eq!(ended, ["Two", "root", "v-three"]);
    assert!(found(&|it| it.standing = Some(Standing::Paused)).is_empty());
    assert!(found(&|it| it.standing = Some(Standing::Tripped)).is_empty());
    assert_eq!(found(&|it| it.agent = Some(label("planner"))), ["open"]);
    assert_eq!(found(&|it| it.variant = Some(label("blue"))), ["v-three"]);
    let tag = |value: &str| Some(("team".to_owned(), label(value)));
    assert_eq!(found(&|it| it.tag = tag("red")), ["v-three"]);
    assert!(found(&|it| it.tag = tag("green")).is_empty());
    assert_eq!(found(&|it| it.text = Some("tW".to_owned())), ["Two"]);
    let least = Some(NanoUsd::new(2_000_000));
    assert_eq!(found(&|it| it.min_cost = least), ["one"]);
    assert_eq!(found(&|it| it.only_problems = true), ["Two"]);
    drop(open);
    assert!(found(&|it| it.standing = Some(Standing::Running)).is_empty());
}

#[test]
fn calls_are_found_by_what_they_say() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    made(&machine, &ledger, "plain", |_| ());
    made(&machine, &ledger, "v-three", |end| {
        end.outcome = Outcome::UpstreamError;
        end.error = Some("Out of LUCK".to_owned());
        end.cost = Some(NanoUsd::new(5000));
    });
    let found = |change: &dyn Fn(&mut CallFilter)| {
        let mut filter = CallFilter::default();
        change(&mut filter);
        let page = ledger.view().calls(&filter).unwrap();
        let names = page.items.into_iter().filter_map(|row| row.run);
        names.map(|run| run.to_string()).collect::<Vec<_>>()
    };
    let v = ["v-three"];
    assert_eq!(found(&|it| it.user = Some(label("ada"))), v);
    assert_eq!(found(&|it| it.variant = Some(label("blue"))), v);
    assert_eq!(
        found(&|it| it.tag = Some(("team".to_owned(), label("red")))),
        v
    );
    assert_eq!(found(&|it| it.failed = true), v);
    assert_eq!(found(&|it| it.min_cost = Some(NanoUsd::new(5000))), v);
    for text in ["luck", "V-THREE"] {
        assert_eq!(found(&|it| it.text = Some(text.to_owned())), v, "{text}");
    }
    assert_eq!(found(&|it| it.text = Some("WRITER".to_owned())).len(), 2);
    assert!(found(&|it| it.text = Some("nowhere".to_owned())).is_empty());
}

#[test]
fn looking_for_what_is_rare_ends_early_says_so_and_goes_on() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    made(&machine, &ledger, "v-first", |_| ());
    for number in 0..MAX_SCANNED + 100 {
        if number % 1000 == 0 {
            ledger.sync_index();
        }
        machine.clock.advance_micros(2000);
        made(&machine, &ledger, &format!("r{number}"), |_| ());
    }
    let mut filter = CallFilter {
        user: Some(label("ada")),
        ..CallFilter::default()
    };
    let page = ledger.view().calls(&filter).unwrap();
    assert!(page.partial && page.items.is_empty());
    filter.before = page.next;
    let page = ledger.view().calls(&filter).unwrap();
    assert_eq!(
        (page.partial, page.next, page.items.len()),
        (false, None, 1)
    );
    let mut filter = RunFilter {
        variant: Some(label("blue")),
        ..RunFilter::default()
    };
    let page = ledger.view().runs(&filter).unwrap();
    assert!(page.partial && page.items.is_empty());
    filter.span.before = page.next;
    let page = ledger.view().runs(&filter).unwrap();
    assert_eq!(
        (page.partial, page.next, page.items.len()),
        (false, None, 1)
    );
}

#[test]
fn calls_of_a_run_are_numbered_in_the_order_they_came() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    for number in 0..25_i64 {
        machine.clock.advance_micros(2000);
        let run = if number % 5 == 4 { "other" } else { "r" };
        made(&machine, &ledger, run, |end| {
            end.cost = (number != 3).then(|| NanoUsd::new(number));
        });
    }
    machine.clock.advance_micros(2000);
    let open = ledger.admit(machine.call("r", "planner"), None).unwrap();
    let run = label("r");
    let view = ledger.view();
    let marks = view.run_marks(&run).unwrap();
    assert_eq!((marks.total, marks.marks.len()), (21, 21));
    let ids =
        |rows: &[super::super::CallRow]| -> Vec<CallId> { rows.iter().map(|row| row.id).collect() };
    let all = view.run_calls(&run, 0, 0).unwrap();
    assert!(all.calls.is_sorted_by_key(|row| row.started_at));
    for (mark, row) in marks.marks.iter().zip(&all.calls) {
        assert_eq!(mark.id, row.id);
        assert_eq!(
            (mark.started_at, mark.duration_us),
            (row.started_at, row.duration_us)
        );
        assert_eq!(
            (mark.outcome, mark.cost_nano_usd),
            (row.outcome, row.cost_nano_usd)
        );
        assert_eq!(mark.agent, row.agent);
    }
    let mut paged = Vec::new();
    for from in (0..28).step_by(4) {
        let window = view.run_calls(&run, from, 4).unwrap();
        assert_eq!((window.from, window.total), (from, 21));
        paged.extend(ids(&window.calls));
    }
    assert_eq!(paged, ids(&all.calls));
    for (number, id) in (0_u64..).zip(&paged) {
        assert_eq!(view.run_call_number(&run, *id).unwrap(), Some(number));
    }
    assert_eq!(
        view.run_call_number(&label("other"), paged[0]).unwrap(),
        None
    );
    let detail = view.run(&run).unwrap().unwrap();
    assert_eq!((detail.row.open_calls, detail.row.totals.calls), (1, 20));
    assert_eq!((detail.row.depth, detail.edges.len()), (2, 2));
    drop(open);
    let view = ledger.view();
    assert_eq!(view.run(&run).unwrap().unwrap().row.open_calls, 0);
    let last = view.run_marks(&run).unwrap().marks.pop().unwrap();
    assert_eq!(last.outcome, Some(Outcome::Cut));
    let nobody: Label = label("nobody");
    assert_eq!(view.run_marks(&nobody).unwrap().total, 0);
    assert!(last.started_at > Timestamp::default());
}
