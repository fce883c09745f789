//! How records are cut into batches makes no difference to the index.

use proptest::prelude::*;
use redb::{ReadTransaction, ReadableTable, TableDefinition};

use crate::core::call::Admission;
use crate::core::id::CallId;
use crate::core::time::Timestamp;

use super::super::checkpoint;
use super::super::fake::FakeDisk;
use super::super::index::batch::Batch;
use super::super::index::{
    BY_AGENT, BY_RUN, CALLS, Index, OPEN, Place, RESPONSES, RUNS_BY_ACTIVITY, SLICES, SUMMARIES,
};
use super::super::log::Cursor;
use super::super::record::{Position, kind};
use super::harness::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    Admit(u8),
    Settle(u8),
    Checkpoint,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..6_u8).prop_map(Event::Admit),
        3 => (0..6_u8).prop_map(Event::Settle),
        1 => Just(Event::Checkpoint),
    ]
}

fn call(number: u8) -> Admission {
    let id = CallId::from_bytes([number; 16]);
    let agent = if number < 2 { "planner" } else { "writer" };
    let run = ["root", "other"].get(usize::from(number % 3)).copied();
    let started_at = Timestamp::from_micros(START.micros() + i64::from(number) * HOUR_US);
    admission(id, started_at, run, agent)
}

/// Takes in events, with the end of a batch before those of which `cuts` says so; tells what the
/// index has then.
fn indexed(events: &[Event], cuts: &[bool]) -> Vec<String> {
    let index = Index::create(Place::Memory).unwrap();
    let mut seen = Vec::new();
    let mut at = Position::default();
    let mut rest = events;
    while !rest.is_empty() {
        let done = events.len() - rest.len();
        let next = (done + 1..events.len()).find(|next| cuts[*next]);
        let (batch, behind) = rest.split_at(next.unwrap_or(events.len()) - done);
        let write = index.write(false, |txn| {
            let mut taking = Batch::begin(txn)?;
            for event in batch {
                at.offset += 1;
                seen.extend(take_in(&mut taking, *event, at));
            }
            taking.finish(Cursor::default(), None)
        });
        write.unwrap();
        rest = behind;
    }
    let tables = index.read(|txn| {
        seen.extend(dump(txn, CALLS));
        seen.extend(dump(txn, OPEN));
        seen.extend(dump(txn, BY_RUN));
        seen.extend(dump(txn, BY_AGENT));
        seen.extend(dump(txn, RESPONSES));
        seen.extend(dump(txn, SUMMARIES));
        seen.extend(dump(txn, SLICES));
        seen.extend(dump(txn, RUNS_BY_ACTIVITY));
        Ok(())
    });
    tables.unwrap();
    seen
}

/// What a checkpoint says, if that is the event.
fn take_in(batch: &mut Batch<'_>, event: Event, at: Position) -> Option<String> {
    let (kind, payload) = match event {
        Event::Admit(number) => (kind::ADMISSION, minicbor::to_vec(call(number)).unwrap()),
        Event::Settle(number) => {
            let settlement = settlement(&call(number));
            (kind::SETTLEMENT, minicbor::to_vec(settlement).unwrap())
        }
        Event::Checkpoint => {
            let packed = batch.checkpoint(&FakeDisk::default(), 1, START).unwrap();
            let payload = minicbor::to_vec(packed.unwrap()).unwrap();
            let checkpoint = checkpoint::parse(&payload).unwrap();
            assert_eq!(checkpoint.open, checkpoint::calls(&payload).unwrap().open);
            return Some(format!("{checkpoint:?}"));
        }
    };
    batch.apply(at, kind, &payload).unwrap();
    None
}

fn dump<K: redb::Key, V: redb::Value>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Vec<String> {
    let rows = txn.open_table(table).unwrap();
    let row = |row: Result<(redb::AccessGuard<'_, K>, redb::AccessGuard<'_, V>), _>| {
        let (key, value) = row.unwrap();
        format!("{:?} {:?}", key.value(), value.value())
    };
    rows.iter().unwrap().map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn batches_of_any_size_make_the_same_index(
        events in prop::collection::vec((event(), any::<bool>()), 1..30),
    ) {
        let (events, cuts): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        let alone = indexed(&events, &vec![true; events.len()]);
        let together = indexed(&events, &vec![false; events.len()]);
        prop_assert_eq!(&together, &alone);
        prop_assert_eq!(indexed(&events, &cuts), alone);
    }
}
