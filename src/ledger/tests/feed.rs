//! Readers that follow the log: nothing is left out, and what is gone is told.

use crate::config::LedgerConfig;
use crate::core::id::CallId;
use crate::core::metric::{Measurement, Subject, Value};

use super::super::erase::{Scope, Wish, erase_on};
use super::super::index::Place;
use super::super::{Batch, Bookmark, Event, Feed, Ledger, News};
use super::harness::*;

fn record(machine: &Machine, ledger: &Ledger, run: &str) -> CallId {
    machine.clock.advance_micros(1_000_000);
    let admission = machine.call(run, "a");
    let entry = ledger.admit(admission.clone(), None).unwrap();
    entry.durable().block();
    entry.settle(settlement(&admission), None);
    admission.id
}

fn small_segments() -> Machine {
    Machine::new(LedgerConfig {
        segment_bytes: 3000,
        ..config()
    })
}

fn settled(batch: &Batch) -> Vec<CallId> {
    let id = |news: &News| match news {
        News::Settled(id) => Some(*id),
        _ => None,
    };
    batch.news.iter().filter_map(|(_, news)| id(news)).collect()
}

/// All calls that ended, `most` pieces of news at a time.
fn drain(feed: &mut Feed, most: usize) -> Vec<CallId> {
    let mut ids = Vec::new();
    loop {
        let batch = feed.next(most).unwrap();
        assert!(batch.news.len() <= most && !batch.missed);
        ids.extend(settled(&batch));
        if !batch.is_full {
            return ids;
        }
    }
}

#[test]
fn every_call_that_ended_is_told_once_and_in_order_whatever_the_size_of_batches() {
    let machine = small_segments();
    let (ledger, _) = machine.open();
    let mut feeds = [1, 2, 7, 1000].map(|most| (Feed::from_start(&ledger), most));
    let mut late = Feed::from_end(&ledger);
    for round in 0..4 {
        let ids: Vec<_> = (0..20).map(|_| record(&machine, &ledger, "r")).collect();
        assert!(ledger.sync_index());
        for (feed, most) in &mut feeds {
            assert_eq!(drain(feed, *most), ids, "round {round}, {most} at a time");
            assert!(feed.next(*most).unwrap().news.is_empty());
            assert_eq!(feed.lag(), 0);
        }
        assert_eq!(drain(&mut late, 5), ids);
    }
    assert!(ledger.status().segments > 5);
}

#[test]
fn news_are_calls_events_and_measurements() {
    let machine = small_segments();
    let (ledger, _) = machine.open();
    let mut feed = Feed::from_end(&ledger);
    let id = record(&machine, &ledger, "r");
    let event = Event::own(machine.clock.now(), "tested", None);
    drop(ledger.event(event.clone()));
    let measurement = Measurement {
        subject: Subject::Call(id),
        name: "score".to_owned(),
        value: Value::Number(0.5),
        at: machine.clock.now(),
        run: None,
        agent: None,
        who: label("tests"),
        note: None,
        key: None,
        charged: None,
        instance: None,
    };
    drop(ledger.measured(measurement.clone()));
    assert!(ledger.sync_index());
    assert!(feed.lag() > 0);
    let news: Vec<_> = feed.next(10).unwrap().news;
    let places: Vec<_> = news.iter().map(|(at, _)| *at).collect();
    assert!(places.is_sorted(), "{places:?}");
    let news: Vec<_> = news.into_iter().map(|(_, news)| news).collect();
    let told = News::Told(Box::new(event));
    assert!(news.contains(&told) && news.contains(&News::Settled(id)));
    assert!(news.contains(&News::Measured(Box::new(measurement))));
    assert_eq!(news.len(), 3);
}

#[test]
fn bookmark_is_found_again_by_the_next_process() {
    let machine = small_segments();
    let (ledger, _) = machine.open();
    for _ in 0..30 {
        record(&machine, &ledger, "r");
    }
    assert!(ledger.sync_index());
    let mut first = Feed::from_start(&ledger);
    let mut ids = settled(&first.next(11).unwrap());
    let bookmark: Bookmark = first.bookmark().to_string().parse().unwrap();
    assert_eq!(bookmark, first.bookmark());
    block_on(ledger.close()).unwrap();
    let (ledger, _) = machine.open();
    let more = record(&machine, &ledger, "r");
    assert!(ledger.sync_index());
    ids.extend(drain(&mut Feed::at(&ledger, bookmark), 4));
    let all = drain(&mut Feed::from_start(&ledger), 1000);
    assert_eq!((ids.len(), ids.last()), (31, Some(&more)));
    assert_eq!(ids, all);
}

#[test]
fn bookmark_is_found_by_its_hash_where_a_deletion_made_the_segment_shorter() {
    let machine = small_segments();
    let (ledger, _) = machine.open();
    let runs = ["keep", "go"];
    let ids: Vec<_> = (0..40)
        .map(|n| record(&machine, &ledger, runs[n % 2]))
        .collect();
    assert!(ledger.sync_index());
    let mut feed = Feed::from_start(&ledger);
    let read = settled(&feed.next(37).unwrap());
    block_on(ledger.close()).unwrap();
    drop(ledger);
    let wish = Wish {
        scope: Scope::Run(label("go")),
        despite_damage: false,
    };
    let place = Place::Fake(machine.index.clone());
    let now = machine.clock.now();
    erase_on(&machine.disk, &place, &wish, ("tests", now)).unwrap();
    let (ledger, _) = machine.open();
    assert!(ledger.sync_index());
    let rest = drain(&mut Feed::at(&ledger, feed.bookmark()), 1000);
    let kept = |id: &&CallId| ids.iter().step_by(2).any(|kept| kept == *id);
    let expected: Vec<_> = ids[read.len()..].iter().filter(kept).copied().collect();
    assert!(!expected.is_empty() && !read.is_empty());
    assert_eq!(rest, expected);
}

#[test]
fn what_retention_dropped_unread_is_told_and_reading_goes_on_behind_it() {
    let machine = Machine::new(LedgerConfig {
        segment_bytes: 3000,
        keep_bytes: Some(12_000),
        ..config()
    });
    let (ledger, _) = machine.open();
    let mut follower = Feed::from_start(&ledger);
    let mut sleeper = Feed::from_start(&ledger);
    let first = record(&machine, &ledger, "r");
    assert!(ledger.sync_index());
    assert_eq!(settled(&sleeper.next(100).unwrap()), [first]);
    let mut seen = Vec::new();
    let mut ids = vec![first];
    while ledger.status().segments < 5 || ledger.open.catalog.first().unwrap().number < 4 {
        ids.push(record(&machine, &ledger, "r"));
        assert!(ledger.sync_index());
        seen.extend(drain(&mut follower, 100));
        assert!(ids.len() < 10_000, "retention does not work");
    }
    assert_eq!(seen, ids, "who keeps up misses nothing");
    let batch = sleeper.next(10_000).unwrap();
    assert!(batch.missed);
    let rest = settled(&batch);
    assert!(!rest.is_empty() && ids.ends_with(&rest) && rest.len() < ids.len() - 1);
    assert!(!sleeper.next(100).unwrap().missed, "it is told once");
    let new = drain(&mut Feed::from_start(&ledger), 10_000);
    assert_eq!(new, rest, "who begins now has missed nothing");
}

#[test]
fn bookmark_of_another_log_begins_anew() {
    let machine = small_segments();
    let (ledger, _) = machine.open();
    let ids: Vec<_> = (0..10).map(|_| record(&machine, &ledger, "r")).collect();
    assert!(ledger.sync_index());
    let chain = "0123456789abcdef0123456789abcdef";
    let elsewhere: Bookmark = format!("77-100-{chain}").parse().unwrap();
    let batch = Feed::at(&ledger, elsewhere).next(1000).unwrap();
    assert_eq!((batch.missed, settled(&batch)), (true, ids.clone()));
    let unknown: Bookmark = format!("1-100-{chain}").parse().unwrap();
    assert_eq!(drain(&mut Feed::at(&ledger, unknown), 1000), ids);
}

#[test]
fn what_is_no_bookmark_is_refused() {
    for text in [
        "",
        "1",
        "1-2",
        "1-2-3",
        "-1-2-0",
        "a-b-c",
        "1-2-0123456789abcdef0123456789abcdeg",
    ] {
        let error = text.parse::<Bookmark>().unwrap_err();
        assert!(error.to_string().contains("segment, offset and hash"));
    }
}
