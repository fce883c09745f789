//! What is gathered of runs to be compared: what breakers did to them, above all.

use std::collections::BTreeMap;

use crate::core::alert::{About, Scope, Signal};
use crate::core::budget::Deed;
use crate::core::compare::By;
use crate::core::id::Label;
use crate::core::loops::finding::{Scope as Reach, Signal as Sign};
use crate::core::loops::trip::{Closed, ClosedBy, Evidence, Trip};
use crate::core::time::Timestamp;

use super::super::fake::{IndexDisk, Loss};
use super::super::{CompareFilter, Event, Ledger};
use super::budgets::act;
use super::harness::*;

fn made(machine: &Machine, ledger: &Ledger, run: &str, agent: &str) {
    machine.clock.advance_micros(10_000);
    let mut admission = machine.call(run, agent);
    admission.attribution.variant = Some(label("base"));
    let entry = ledger.admit(admission.clone(), None).unwrap();
    entry.settle(settlement(&admission), None);
}

fn trip(machine: &Machine, run: &str, agent: &str) -> Trip {
    Trip {
        id: machine.clock.call_id(),
        at: machine.clock.now(),
        run: Some(label(run)),
        conversation: None,
        agent: label(agent),
        caller: None,
        evidence: Evidence {
            signal: Sign::Repeat,
            scope: Reach::Conversation,
            period: 1,
            count: 5,
            agents: vec![label(agent)],
            calls: Vec::new(),
            since: machine.clock.now(),
            tokens: 0,
            sample: Vec::new(),
        },
        refused: 1,
        closed: None,
    }
}

fn tripped(machine: &Machine, ledger: &Ledger, trip: &Trip) {
    let mut event = Event::own(machine.clock.now(), "loop_tripped", None);
    event.trip = Some(Box::new(trip.clone()));
    drop(ledger.event(event).unwrap());
}

fn refused(machine: &Machine, ledger: &Ledger, run: &str, agent: &str) {
    let event = Event::own(machine.clock.now(), Event::RUN_REFUSED, None);
    let scope = Scope::new(About::Run, run).with_key(agent);
    drop(ledger.event(event.saying(Signal::of(scope))).unwrap());
}

/// Of each run of an arm: whether a breaker stopped it, and whether it ended well.
fn fates(ledger: &Ledger, by: By, agent: Option<Label>) -> BTreeMap<String, (bool, bool)> {
    let filter = CompareFilter {
        by,
        agent,
        ..CompareFilter::default()
    };
    let found = ledger.view().gather(&filter).unwrap();
    let runs = found.runs.into_iter();
    let runs = runs.flat_map(|(arm, runs)| runs.into_iter().map(move |run| (arm.clone(), run)));
    runs.map(|(arm, run)| {
        (
            format!("{arm} {}", run.run),
            (run.is_stopped, run.ended_well),
        )
    })
    .collect()
}

fn expected(all: &[(&str, bool, bool)]) -> BTreeMap<String, (bool, bool)> {
    let all = all.iter();
    all.map(|(name, stopped, well)| ((*name).to_owned(), (*stopped, *well)))
        .collect()
}

#[test]
fn breakers_are_told_of_runs_and_of_the_agents_that_they_stopped() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    for run in ["fine", "looping", "spent", "ended"] {
        made(&machine, &ledger, run, "planner");
        made(&machine, &ledger, run, "coder");
    }
    let mut open = trip(&machine, "looping", "coder");
    tripped(&machine, &ledger, &open);
    open.refused = 7;
    open.closed = Some(Closed {
        at: machine.clock.now(),
        by: ClosedBy::End,
    });
    tripped(&machine, &ledger, &open);
    refused(&machine, &ledger, "spent", "planner");
    ledger
        .act(act(&machine, Deed::RunStopped(label("ended"))))
        .unwrap()
        .block();
    let whole = expected(&[
        ("base ended", false, false),
        ("base fine", false, true),
        ("base looping", true, false),
        ("base spent", true, false),
    ]);
    let by_agent = expected(&[
        ("coder ended", false, false),
        ("coder fine", false, true),
        ("coder looping", true, false),
        ("coder spent", false, true),
        ("planner ended", false, false),
        ("planner fine", false, true),
        ("planner looping", false, true),
        ("planner spent", true, false),
    ]);
    drop(ledger);
    // From the index, and from the log alone.
    for index in [machine.index.copy(), IndexDisk::default()] {
        let machine = Machine {
            disk: machine.disk.after(Loss::Nothing),
            index,
            ..machine.clone()
        };
        let (ledger, _) = machine.open();
        assert_eq!(fates(&ledger, By::Variant, None), whole);
        assert_eq!(fates(&ledger, By::Agent, None), by_agent);
        let planner = fates(&ledger, By::Variant, Some(label("planner")));
        assert_eq!(planner["base looping"], (false, true));
        assert_eq!(planner["base spent"], (true, false));
    }
}

#[test]
fn runs_without_a_call_of_the_agent_and_runs_of_late_are_counted() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    made(&machine, &ledger, "old", "planner");
    machine.clock.advance_micros(HOUR_US);
    made(&machine, &ledger, "new", "planner");
    made(&machine, &ledger, "other", "coder");
    let filter = CompareFilter {
        agent: Some(label("planner")),
        fresh_since: Some(Timestamp::from_micros(START.micros() + HOUR_US)),
        ..CompareFilter::default()
    };
    let found = ledger.view().gather(&filter).unwrap();
    assert_eq!((found.runs["base"].len(), found.fresh), (2, 1));
    assert_eq!(found.left_out.absent, 1);
}

#[test]
fn what_never_had_a_call_is_not_made_up_by_its_refusal() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    refused(&machine, &ledger, "never", "planner");
    made(&machine, &ledger, "one", "planner");
    tripped(&machine, &ledger, &trip(&machine, "one", "stranger"));
    refused(&machine, &ledger, "one", "stranger");
    let run = |name| ledger.view().run(&label(name)).unwrap();
    assert!(run("never").is_none());
    let agents = run("one").unwrap().row.agents;
    let agents: Vec<&str> = agents.iter().map(Label::as_str).collect();
    assert_eq!(agents, ["planner"]);
    assert_eq!(
        fates(&ledger, By::Variant, None),
        expected(&[("base one", true, false)])
    );
}

#[test]
fn runs_are_found_by_a_tag_beyond_those_that_are_kept_of_a_run() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    for first in 0..3 {
        machine.clock.advance_micros(10_000);
        let mut admission = machine.call("one", "planner");
        let tags = (first * 8..first * 8 + 8).map(|n| (format!("t{n:02}"), label("x")));
        admission.attribution.tags = tags.collect();
        let entry = ledger.admit(admission.clone(), None).unwrap();
        entry.settle(settlement(&admission), None);
    }
    for (tag, runs) in [("t00", 1), ("t23", 1), ("t24", 0)] {
        let found = fates(&ledger, By::Tag(tag.to_owned()), None);
        assert_eq!(found.len(), runs, "{tag}");
    }
}

#[test]
fn older_of_two_spans_is_read_however_much_the_newer_holds() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let from = machine.clock.now();
    for n in 0..3 {
        made(&machine, &ledger, &format!("old-{n}"), "writer");
    }
    machine.clock.advance_micros(1_000);
    let between = machine.clock.now();
    for n in 0..5_100 {
        made(&machine, &ledger, &format!("new-{n}"), "writer");
    }
    machine.clock.advance_micros(1_000);
    let filter = CompareFilter {
        by: By::Time,
        times: vec![
            ("old".to_owned(), from, between),
            ("new".to_owned(), between, machine.clock.now()),
        ],
        ..CompareFilter::default()
    };
    let found = ledger.view().gather(&filter).unwrap();
    let runs: BTreeMap<_, _> = found.runs.iter().map(|it| (&**it.0, it.1.len())).collect();
    assert_eq!(runs, BTreeMap::from([("new", 5_000), ("old", 3)]));
    assert!(found.partial);
}
