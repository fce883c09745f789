use std::thread::JoinHandle;

use super::super::checkpoint::{Calls, Packing};
use super::super::tests::harness::{Machine, config, plain};
use super::*;

const LIMIT: usize = 1 << 20;

/// A queue whose writer came just now and looks again by itself after an hour only.
fn gathering() -> Arc<Queue> {
    let mut queue = Queue::new(LIMIT);
    Arc::get_mut(&mut queue).unwrap().gather = Duration::from_secs(3600);
    queue.lock().taken_at = Some(Instant::now());
    queue
}

/// Something nobody waits for.
fn idle() -> Op {
    let packing = Packing::begin(Calls::default()).unwrap();
    Op::Checkpoint(Box::new(packing.finish().unwrap().unwrap()))
}

/// Something somebody waits for.
fn awaited() -> Op {
    Op::Barrier(commit().0)
}

fn taken(queue: &Arc<Queue>) -> JoinHandle<usize> {
    let queue = Arc::clone(queue);
    thread::spawn(move || queue.take(None, LIMIT).ops.len())
}

/// Waits until the writer waits for more to come.
#[track_caller]
fn until_it_gathers(queue: &Queue, writer: &JoinHandle<usize>) {
    while queue.lock().writer != Writer::Gathering {
        assert!(!writer.is_finished(), "it does not gather");
        thread::yield_now();
    }
}

#[test]
fn what_nobody_waits_for_gathers_until_something_urgent_comes() {
    let queue = gathering();
    let writer = taken(&queue);
    queue.push(idle());
    until_it_gathers(&queue, &writer);
    queue.push(idle());
    assert_eq!(queue.lock().writer, Writer::Gathering);
    queue.push(awaited());
    assert_eq!(queue.lock().writer, Writer::Awake);
    assert_eq!(writer.join().unwrap(), 3);
    assert!(!queue.lock().urgent, "all of it was taken");
}

#[test]
fn much_taken_room_is_urgent() {
    let queue = gathering();
    let writer = taken(&queue);
    queue.push(idle());
    until_it_gathers(&queue, &writer);
    let _room = queue.reserve(LIMIT / 2 + 1).unwrap();
    queue.push(idle());
    assert_eq!(queue.lock().writer, Writer::Awake);
    assert_eq!(writer.join().unwrap(), 2);
}

#[test]
fn closing_ends_the_gathering() {
    let queue = gathering();
    let writer = taken(&queue);
    queue.push(idle());
    until_it_gathers(&queue, &writer);
    queue.close();
    assert_eq!(writer.join().unwrap(), 1);
}

#[test]
fn what_is_left_of_something_urgent_stays_urgent() {
    let queue = gathering();
    let receipt = Receipt {
        room: queue.reserve(0).unwrap(),
        commit: None,
    };
    let admission = Box::new(Machine::new(config()).call("r", "a"));
    queue.push(Op::Admit(admission, Some(plain(&[0; 100])), receipt));
    queue.push(awaited());
    assert_eq!(queue.take(None, 100).ops.len(), 1);
    assert!(queue.lock().urgent);
    assert_eq!(queue.take(None, 100).ops.len(), 1, "without delay");
    assert!(!queue.lock().urgent);
}
