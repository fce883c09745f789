use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;

use super::*;

fn reply(pieces: &[(u64, &'static str)], is_cut: bool) -> Reply {
    let pieces = pieces.iter();
    Reply {
        status: 200,
        headers: Vec::new(),
        head_us: 900_000,
        chunks: pieces
            .map(|(gap_us, piece)| (*gap_us, Bytes::from_static(piece.as_bytes())))
            .collect(),
        is_cut,
    }
}

fn kept() -> Taken {
    Taken::new(|| {})
}

/// When the head came and when each piece did, in milliseconds, on a clock that is driven.
async fn times(reply: &Reply, speed: Speed) -> (u128, Vec<(u128, Bytes)>) {
    let start = Instant::now();
    let response = play(reply, "call", speed, kept()).await;
    let head = start.elapsed().as_millis();
    let mut body = response.into_body();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        let piece = frame.unwrap().into_data().unwrap();
        pieces.push((start.elapsed().as_millis(), piece));
    }
    (head, pieces)
}

#[tokio::test(start_paused = true)]
async fn pieces_come_at_the_times_of_the_record_or_so_many_times_faster() {
    let reply = reply(&[(0, "a"), (400_000, "b"), (2_000_000, "c")], false);
    let piece = |at: u128, text: &'static str| (at, Bytes::from_static(text.as_bytes()));
    let (head, pieces) = times(&reply, Speed::Times(1)).await;
    let as_recorded = [piece(900, "a"), piece(1300, "b"), piece(3300, "c")];
    assert_eq!((head, pieces.as_slice()), (900, as_recorded.as_slice()));
    let (head, pieces) = times(&reply, Speed::Times(10)).await;
    let faster = [piece(90, "a"), piece(130, "b"), piece(330, "c")];
    assert_eq!((head, pieces.as_slice()), (90, faster.as_slice()));
    let (head, pieces) = times(&reply, Speed::Max).await;
    let at_once = [piece(0, "a"), piece(0, "b"), piece(0, "c")];
    assert_eq!((head, pieces.as_slice()), (0, at_once.as_slice()));
}

#[tokio::test(start_paused = true)]
async fn many_short_pauses_take_no_longer_than_they_did() {
    let pieces = vec![(300, "x"); 1000];
    let (_, pieces) = times(&reply(&pieces, false), Speed::Times(1)).await;
    // 900 ms to the head and 300 to the last; a timer is late by a millisecond at most.
    let (last, _) = pieces.last().unwrap();
    assert!((1200..=1201).contains(last), "{last}");
}

#[tokio::test]
async fn cut_answer_gives_the_server_a_turn_to_write_before_it_breaks() {
    let cut = reply(&[(0, "a")], true);
    let mut body = play(&cut, "call", Speed::Max, kept()).await.into_body();
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "a");
    let mut frame = std::pin::pin!(body.frame());
    let turns = std::future::poll_fn(|cx| {
        let is_pending = frame.as_mut().poll(cx).is_pending();
        std::task::Poll::Ready(is_pending)
    });
    assert!(turns.await, "it broke at once");
    assert!(frame.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn call_is_given_back_unless_its_client_had_all_of_it() {
    let given_back = Arc::new(AtomicUsize::new(0));
    let taken = || {
        let count = Arc::clone(&given_back);
        Taken::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        })
    };
    let two = reply(&[(0, "a"), (5, "b")], false);
    // It leaves before the head, within the body, and with all of it but the end.
    drop(play(&two, "call", Speed::Times(1), taken()));
    assert_eq!(given_back.load(Ordering::Relaxed), 1);
    for (pieces, expected) in [(1, 2), (2, 2)] {
        let mut body = play(&two, "call", Speed::Max, taken()).await.into_body();
        for _ in 0..pieces {
            body.frame().await.unwrap().unwrap();
        }
        drop(body);
        assert_eq!(given_back.load(Ordering::Relaxed), expected);
    }
    let whole = reply(&[(0, "a")], false);
    drop(play(&whole, "call", Speed::Max, taken()).await);
    assert_eq!(given_back.load(Ordering::Relaxed), 2);
}
