//! What calls take of the queue's room.

use bytes::Bytes;

use crate::clock::Clock;
use crate::config::{Durability, LedgerConfig, OnFailure, RecordLevel};
use crate::core::call::ChunkMark;

use super::super::queue::{Op, Queue};
use super::super::{Capture, Entry, Policy, RECORD_ROOM};
use super::harness::*;

const POLICY: Policy = Policy {
    durability: Durability::Relaxed,
    on_failure: OnFailure::Serve,
    record: RecordLevel::Full,
    max_body_bytes: 1000,
};

#[test]
fn bodies_leave_a_quarter_of_the_room_to_records() {
    let queue = Queue::new(1000);
    let mut room = queue.reserve(100).unwrap();
    assert!(!queue.extend(&mut room, 651), "more than three quarters");
    assert!(queue.extend(&mut room, 650));
    assert!(!queue.extend(&mut room, 1) && queue.extend(&mut room, 0));
    let records = queue.reserve(250).unwrap();
    assert!(queue.reserve(1).is_none());
    drop((room, records));
    assert_eq!(queue.reserved_bytes(), 0);
}

#[test]
fn body_takes_the_room_of_what_is_stored_of_it() {
    let queue = Queue::new(1 << 20);
    let clock = Clock::manual(START);
    let admission = admission(clock.call_id(), START, None, "a");
    let digest = crate::core::digest::DigestSeed(1).digest(b"");
    let request = Capture {
        chunks: vec![Bytes::from(vec![b'x'; 400]); 5],
        len: 2000,
        segments: vec![(0..1000, digest), (900..1001, digest)],
        ..Capture::default()
    };
    let kept = size_of_val(&request.segments[0]) + 1000;
    let entry = Entry::record(&queue, POLICY, &clock, admission, Some(request)).unwrap();
    assert_eq!(queue.reserved_bytes(), 2 * RECORD_ROOM + kept);
    let ops = queue.take(None, usize::MAX).ops;
    let Some(Op::Admit(_, Some(body), _)) = ops.first() else {
        panic!("{ops:?}");
    };
    assert_eq!((body.chunks.concat(), body.len), (vec![b'x'; 1000], 2000));
    assert_eq!(body.segments, [(0..1000, digest)]);
    drop(entry);
}

#[test]
fn marks_of_chunks_take_room_or_are_left_out() {
    let marks = vec![ChunkMark { gap_us: 1, len: 1 }; 100];
    for (limit, kept) in [(10_000, 100), (2 * RECORD_ROOM, 0)] {
        let queue = Queue::new(limit);
        let clock = Clock::manual(START);
        let admission = admission(clock.call_id(), START, None, "a");
        let entry = Entry::record(&queue, POLICY, &clock, admission.clone(), None).unwrap();
        let mut settlement = settlement(&admission);
        settlement.chunks.clone_from(&marks);
        entry.settle(settlement, None);
        let room = 2 * RECORD_ROOM + kept * size_of::<ChunkMark>();
        assert_eq!(queue.reserved_bytes(), room);
        let ops = queue.take(None, usize::MAX).ops;
        let Some(Op::Settle(settlement, ..)) = ops.last() else {
            panic!("{ops:?}");
        };
        assert_eq!(settlement.chunks.len(), kept);
    }
}

#[test]
fn body_larger_than_the_queue_keeps_its_first_part() {
    let machine = Machine::new(LedgerConfig {
        max_body_bytes: 1000,
        max_queue_bytes: 20_000,
        ..config()
    });
    let (ledger, _) = machine.open();
    let admission = machine.call("r", "a");
    let request = plain(&vec![b'x'; 64_000]);
    let entry = ledger.admit(admission.clone(), Some(request)).unwrap();
    entry.settle(settlement(&admission), None);
    let body = ledger.view().request_body(admission.id).unwrap().unwrap();
    assert_eq!((body.bytes, body.wire_len), (vec![b'x'; 1000], 64_000));
    assert!(body.truncated && !body.exact);
    assert_eq!(ledger.status().dropped_bodies, 0);
}

#[test]
fn only_bodies_that_need_not_be_decoded_are_cut() {
    for (encoding, len) in [(None, 1000), (Some("identity"), 1000), (Some("gzip"), 2000)] {
        let mut body = Capture {
            content_encoding: encoding.map(str::to_owned),
            ..plain(&[b'x'; 2000])
        };
        body.cut(1000);
        assert_eq!(body.chunks.concat().len(), len, "{encoding:?}");
    }
}
