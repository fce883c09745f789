//! What the ledger knows of runs beside their calls: whose children they are, what they may spend,
//! whether they may go on.

use crate::config::LedgerConfig;
use crate::core::budget::{Control, Deed, RunState};

use super::super::fake::{IndexDisk, Loss};
use super::super::{Ledger, RunFilter};
use super::budgets::{act, admit_holding, charge};
use super::harness::*;

#[test]
fn pause_of_a_run_never_seen_survives_reopening_and_retention() {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 1500,
        keep_bytes: Some(5000),
        ..config()
    });
    let (ledger, _) = machine.open();
    let runs = ["paused", "stopped", "resumed"].map(label);
    for deed in [
        Deed::RunPaused(runs[0].clone()),
        Deed::RunStopped(runs[1].clone()),
        Deed::RunPaused(runs[2].clone()),
        Deed::RunResumed(runs[2].clone()),
    ] {
        machine.clock.advance_micros(1);
        ledger.act(act(&machine, deed)).unwrap().block();
    }
    let control = |ledger: &Ledger| {
        let mut found = Vec::new();
        let mut take = |run, state: RunState| found.push((run, state.control));
        ledger.view().each_run(&mut take).unwrap();
        found.retain(|(_, control)| *control != Control::Running);
        found
    };
    let expected = vec![
        (runs[0].clone(), Control::Paused),
        (runs[1].clone(), Control::Stopped),
    ];
    assert_eq!(control(&ledger), expected);
    for _ in 0..60 {
        machine.clock.advance_micros(HOUR_US);
        drop(admit_holding(&machine, &ledger, vec![charge(2, 1)]).1);
        ledger.sync_index();
    }
    while machine.disk.segments().contains(&1) {
        ledger.sync_index();
    }
    drop(ledger);
    for index in [machine.index.copy(), IndexDisk::default()] {
        let machine = Machine {
            disk: machine.disk.after(Loss::Nothing),
            index,
            ..machine.clone()
        };
        assert_eq!(control(&machine.open().0), expected);
    }
}

#[test]
fn run_keeps_its_first_parent_and_its_smallest_limits() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    assert_eq!(ledger.view().run_state(&label("r")).unwrap(), None);
    for (parent, calls) in [(None, Some(5)), (Some("one"), None), (Some("two"), Some(9))] {
        let mut admission = machine.call("r", "a");
        admission.attribution.parent_run = parent.map(label);
        admission.tightened.calls = calls;
        let entry = ledger.admit(admission.clone(), None).unwrap();
        entry.settle(settlement(&admission), None);
    }
    let view = ledger.peek();
    ledger.sync_index();
    let state = view.run_state(&label("r")).unwrap().unwrap();
    assert_eq!(state.parent, Some(label("one")));
    assert_eq!(
        (state.tightened.calls, state.control),
        (Some(5), Control::Running)
    );
    let runs = view.runs(&RunFilter::default()).unwrap().items;
    let own = runs.iter().find(|row| row.run.as_str() == "r").unwrap();
    assert_eq!(own.parent_run, Some(label("one")));
}

#[test]
fn ancestors_of_a_run_are_known_as_long_as_it_goes_on() {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 1500,
        keep_bytes: Some(5000),
        ..config()
    });
    let (ledger, _) = machine.open();
    let call = |run: &str, parent: &str| {
        machine.clock.advance_micros(HOUR_US);
        let mut admission = machine.call(run, "a");
        admission.attribution.parent_run = Some(label(parent));
        let entry = ledger.admit(admission.clone(), None).unwrap();
        entry.settle(settlement(&admission), None);
        ledger.sync_index();
    };
    call("middle", "top");
    call("aside", "top");
    for _ in 0..60 {
        call("low", "middle");
    }
    while machine.disk.segments().contains(&1) {
        ledger.sync_index();
    }
    drop(ledger);
    for index in [machine.index.copy(), IndexDisk::default()] {
        let machine = Machine {
            disk: machine.disk.after(Loss::Nothing),
            index,
            ..machine.clone()
        };
        let (ledger, _) = machine.open();
        let view = ledger.view();
        let parent = |run| view.run_state(&label(run)).unwrap().unwrap().parent;
        assert_eq!(parent("low"), Some(label("middle")));
        assert_eq!(parent("middle"), Some(label("top")));
        assert_eq!(parent("top"), None);
        assert_eq!(view.run_state(&label("aside")).unwrap(), None);
        let top = view.run(&label("top")).unwrap().unwrap();
        let middle = view.run(&label("middle")).unwrap().unwrap();
        assert_eq!(top.row.last_at, middle.row.last_at);
        assert_eq!((top.row.totals.calls, top.children.len()), (0, 1));
    }
}
