//! What is recorded can be asked for.

use crate::config::{Durability, RecordLevel};
use crate::core::call::Outcome;
use crate::core::id::CallId;

use super::super::{CallFilter, Ledger, OutcomeFilter, RunFilter, SpanFilter, Unavailable};
use super::harness::*;

#[test]
fn settled_call_is_found_with_its_bodies() {
    let machine = Machine::new(config());
    let (ledger, recovery) = machine.open();
    assert!(recovery.clean);
    let admission = machine.call("r1", "researcher");
    let request = conversation(ledger.seed(), &[message(1), "short".to_owned(), message(2)]);
    let entry = ledger
        .admit(admission.clone(), Some(request.clone()))
        .unwrap();
    block_on(entry.durable());
    let response = plain(message(3).as_bytes());
    let settlement = settlement(&admission);
    entry.settle(settlement.clone(), Some(response.clone()));

    let view = ledger.view();
    let detail = view.call(admission.id).unwrap().unwrap();
    assert_eq!(detail.row.outcome, Some(Outcome::Completed));
    assert_eq!(detail.row.cost_nano_usd, Some(1500));
    assert_eq!(detail.admission.unwrap().attribution, admission.attribution);
    assert_eq!(detail.settlement.unwrap().usage, settlement.usage);
    let body = view.request_body(admission.id).unwrap().unwrap();
    assert!(body.exact && body.bytes == wire(&request));
    let body = view.response_body(admission.id).unwrap().unwrap();
    assert!(body.exact && body.bytes == wire(&response));
    let id = view
        .call_of_response(&settlement.response_id.unwrap())
        .unwrap();
    assert_eq!(id, Some(admission.id));
}

#[test]
fn row_has_the_names_of_the_api() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let _entry = ledger.admit(machine.call("r1", "writer"), None).unwrap();
    let row = serde_json::to_value(&all_calls(ledger.view())[0]).unwrap();
    assert_eq!(row["outcome"], "open");
    assert_eq!(row["agent"], "writer");
    assert_eq!(row["path"], serde_json::json!(["planner", "writer"]));
    assert_eq!(row["started_at"], "2026-01-01T00:00:00.000000Z");
    let runs = ledger.view().runs(&RunFilter::default()).unwrap();
    let run = serde_json::to_value(&runs.items[0]).unwrap();
    assert_eq!((&run["open_calls"], &run["calls"]), (&1.into(), &0.into()));
    assert_eq!(run["parent_run"], "root");
}

/// The ids of the calls that match, and where the next page begins.
fn found(ledger: &Ledger, filter: &CallFilter) -> (Vec<CallId>, Option<CallId>) {
    let page = ledger.view().calls(filter).unwrap();
    (
        page.items.into_iter().map(|row| row.id).collect(),
        page.next,
    )
}

/// Ten calls, an hour after each other, by two agents in turn; the last stays open. Newest first.
fn ten_calls(machine: &Machine, ledger: &Ledger) -> Vec<CallId> {
    let mut ids = Vec::new();
    for number in 0..10 {
        machine.clock.advance_micros(HOUR_US);
        let admission = machine.call(
            "r1",
            if number % 2 == 0 {
                "planner"
            } else {
                "researcher"
            },
        );
        ids.insert(0, admission.id);
        let entry = ledger.admit(admission.clone(), None).unwrap();
        if number < 9 {
            entry.settle(settlement(&admission), None);
        } else {
            std::mem::forget(entry);
        }
    }
    ids
}

#[test]
fn calls_are_paged_newest_first() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let ids = ten_calls(&machine, &ledger);
    let all = CallFilter::default();
    assert_eq!(found(&ledger, &all), (ids.clone(), None));
    let page = CallFilter {
        limit: 4,
        ..all.clone()
    };
    assert_eq!(found(&ledger, &page), (ids[..4].to_vec(), Some(ids[3])));
    let page = CallFilter {
        before: Some(ids[3]),
        ..page
    };
    assert_eq!(found(&ledger, &page).0, ids[4..8]);
    let agent = Some(label("planner"));
    assert_eq!(
        found(
            &ledger,
            &CallFilter {
                agent,
                limit: 2,
                ..all
            }
        )
        .0,
        [ids[1], ids[3]]
    );
}

#[test]
fn calls_are_filtered_by_state_time_and_run() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let ids = ten_calls(&machine, &ledger);
    let all = CallFilter::default();
    let outcome = Some(OutcomeFilter::Open);
    assert_eq!(
        found(
            &ledger,
            &CallFilter {
                outcome,
                ..all.clone()
            }
        )
        .0,
        [ids[0]]
    );
    let since = Some(machine.clock.now());
    let run = Some(label("r1"));
    assert_eq!(
        found(
            &ledger,
            &CallFilter {
                run,
                since,
                ..all.clone()
            }
        )
        .0,
        [ids[0]]
    );
    let until = Some(START);
    assert_eq!(
        found(
            &ledger,
            &CallFilter {
                until,
                ..all.clone()
            }
        )
        .0,
        []
    );
    let run = Some(label("none"));
    assert_eq!(found(&ledger, &CallFilter { run, ..all }).0, []);
}

#[test]
fn runs_agents_and_edges_sum_up_their_calls() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    for (run, agent) in [
        ("root", "planner"),
        ("a", "researcher"),
        ("a", "researcher"),
        ("b", "writer"),
    ] {
        machine.clock.advance_micros(1_000_000);
        let admission = machine.call(run, agent);
        let entry = ledger.admit(admission.clone(), None).unwrap();
        entry.settle(settlement(&admission), None);
    }
    let view = ledger.view();
    let root = view.run(&label("root")).unwrap().unwrap();
    let children: Vec<_> = root
        .children
        .iter()
        .map(|child| child.run.as_str())
        .collect();
    assert_eq!(children, ["a", "b"]);
    let run = view.run(&label("a")).unwrap().unwrap();
    assert_eq!(run.row.totals.calls, 2);
    assert_eq!(run.row.totals.cost_nano_usd, 3000);
    assert_eq!(run.by_agent.len(), 1);
    assert_eq!(run.by_agent[0].totals.input_tokens, 20);
    let agents = view.agents(&SpanFilter::default()).unwrap().items;
    assert_eq!(agents[0].agent, label("writer"));
    assert_eq!(
        (agents[1].runs, &agents[1].models),
        (1, &vec![label("gpt-5")])
    );
    let edges = view
        .edges(&SpanFilter {
            limit: 1,
            ..SpanFilter::default()
        })
        .unwrap();
    assert_eq!(
        (edges.items.len(), edges.next),
        (1, Some(edges.items[0].last_at))
    );
    let edges = SpanFilter {
        before: edges.next,
        ..SpanFilter::default()
    };
    assert_eq!(view.edges(&edges).unwrap().items[0].figures.totals.calls, 2);
}

#[test]
fn entry_dropped_without_settlement_is_recorded_as_cut() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let entry = ledger.admit(machine.call("r", "a"), None).unwrap();
    machine.clock.advance_micros(5);
    drop(entry);
    let row = all_calls(ledger.view()).remove(0);
    assert_eq!(
        (row.outcome, row.duration_us),
        (Some(Outcome::Cut), Some(5))
    );
    assert_eq!(row.usage.input_tokens, 11);
}

#[test]
fn record_level_bounds_what_is_kept() {
    for (level, target, error) in [
        (RecordLevel::None, "/v1/chat/completions", None),
        (
            RecordLevel::Meta,
            "/v1/chat/completions?key=1",
            Some("broken"),
        ),
    ] {
        let machine = Machine::new(crate::config::LedgerConfig {
            record: level,
            ..config()
        });
        let (ledger, _) = machine.open();
        let admission = machine.call("r", "a");
        let entry = ledger
            .admit(admission.clone(), Some(plain(b"secret")))
            .unwrap();
        let mut settlement = settlement(&admission);
        settlement.error = Some("broken".to_owned());
        entry.settle(settlement, Some(plain(b"secret")));
        let view = ledger.view();
        let row = all_calls(view).remove(0);
        assert_eq!((row.target.as_str(), row.error.as_deref()), (target, error));
        assert_eq!(view.request_body(admission.id).unwrap(), None);
        assert_eq!(view.response_body(admission.id).unwrap(), None);
        let log = machine.disk.bytes(1);
        assert_eq!(memchr::memmem::find(&log, b"secret"), None);
    }
}

#[test]
fn each_message_of_a_growing_history_is_stored_once() {
    let machine = Machine::new(config());
    let (ledger, _) = machine.open();
    let mut messages = Vec::new();
    let mut calls = Vec::new();
    for turn in 0..100 {
        messages.extend([message(2 * turn), message(2 * turn + 1)]);
        let admission = machine.call("r", "a");
        machine.clock.advance_micros(1000);
        let request = conversation(ledger.seed(), &messages);
        let entry = ledger
            .admit(admission.clone(), Some(request.clone()))
            .unwrap();
        // All of them together would not fit into the queue.
        entry.durable().block();
        entry.settle(settlement(&admission), None);
        calls.push((admission.id, request));
    }
    let content: usize = messages.iter().map(String::len).sum();
    let view = ledger.view();
    let spent = machine.disk.total_bytes() - content / 2;
    assert!(spent < content, "{spent} bytes beside {content} of content");
    for (id, request) in calls {
        let body = view.request_body(id).unwrap().unwrap();
        assert!(body.exact && body.bytes == wire(&request));
    }
}

#[test]
fn body_beyond_the_limit_keeps_its_first_part() {
    let machine = Machine::new(crate::config::LedgerConfig {
        max_body_bytes: 1000,
        ..config()
    });
    let (ledger, _) = machine.open();
    let admission = machine.call("r", "a");
    let request = conversation(ledger.seed(), &[message(1), message(2)]);
    ledger
        .admit(admission.clone(), Some(request.clone()))
        .unwrap()
        .settle(settlement(&admission), None);
    let body = ledger.view().request_body(admission.id).unwrap().unwrap();
    assert_eq!(body.bytes, wire(&request)[..1000]);
    assert!(body.truncated && !body.exact);
    assert_eq!(body.wire_len, request.len);
}

#[test]
fn body_without_room_is_left_out_but_its_call_recorded() {
    let machine = Machine::new(crate::config::LedgerConfig {
        max_queue_bytes: 5000,
        ..config()
    });
    let (ledger, _) = machine.open();
    let admission = machine.call("r", "a");
    let entry = ledger
        .admit(admission.clone(), Some(plain(&[b'x'; 6000])))
        .unwrap();
    entry.settle(settlement(&admission), Some(plain(&[b'x'; 6000])));
    let body = ledger.view().request_body(admission.id).unwrap().unwrap();
    assert!(body.truncated && body.bytes.is_empty() && body.wire_len == 6000);
    assert_eq!(
        all_calls(ledger.view())[0].outcome,
        Some(Outcome::Completed)
    );
    assert_eq!(ledger.status().dropped_bodies, 2);
    assert_eq!(ledger.status().reserved_bytes, 0, "all room is given back");
}

#[test]
fn relaxed_ledger_waits_for_nothing_and_loses_nothing_on_close() {
    let relaxed = crate::config::LedgerConfig {
        durability: Durability::Relaxed,
        ..config()
    };
    let machine = Machine::new(relaxed);
    let (ledger, _) = machine.open();
    let admission = machine.call("r", "a");
    let entry = ledger.admit(admission.clone(), None).unwrap();
    assert!(entry.durable().is_done());
    entry.settle(settlement(&admission), None);
    block_on(ledger.close()).unwrap();
    assert!(!ledger.admit(admission, None).unwrap().is_recorded());
    drop(ledger);
    let machine = machine.with_disk(machine.disk.after(super::super::fake::Loss::All));
    let (ledger, recovery) = machine.open();
    assert!(recovery.clean, "{recovery}");
    assert_eq!(all_calls(ledger.view()).len(), 1);
}

#[test]
fn written_records_hold_no_more_room_than_their_bytes() {
    let relaxed = crate::config::LedgerConfig {
        durability: Durability::Relaxed,
        max_queue_bytes: 100_000,
        ..config()
    };
    let machine = Machine::new(relaxed);
    let (ledger, _) = machine.open();
    let messages: Vec<String> = (0..30).map(message).collect();
    let request = conversation(ledger.seed(), &messages);
    assert!(request.len > 30_000);
    for _ in 0..20 {
        let admission = machine.call("r", "a");
        let entry = ledger
            .admit(admission.clone(), Some(request.clone()))
            .unwrap();
        entry.settle(settlement(&admission), None);
        ledger.sync_index();
    }
    let status = ledger.status();
    assert_eq!((status.dropped_records, status.dropped_bodies), (0, 0));
}

#[test]
fn closed_ledger_that_may_not_lose_calls_refuses_them() {
    let refusing = crate::config::LedgerConfig {
        on_failure: crate::config::OnFailure::Refuse,
        ..config()
    };
    let machine = Machine::new(refusing);
    let (ledger, _) = machine.open();
    block_on(ledger.close()).unwrap();
    let refused = ledger.admit(machine.call("r", "a"), None).unwrap_err();
    assert_eq!(refused, Unavailable::Closed);
}
