//! The calls before and after a call, and bodies that are read one after the other.

use std::sync::Arc;

use redb::ReadTransaction;
use rustc_hash::FxHashMap;

use crate::core::call::StoredBody;
use crate::core::digest::Digest;
use crate::core::id::{CallId, Label};

use super::super::body::rebuild;
use super::super::index::batch::id_key;
use super::super::index::{BY_AGENT, BY_RUN, IndexError};
use super::super::rows::{Body, CallRow};
use super::{View, stored_call, table};

/// So many calls are looked at, before and after; what lies further away is not found.
const MAX_WALK: usize = 512;

/// The calls around one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neighbours {
    /// In its run, whoever made them.
    pub before_in_run: Option<CallId>,
    pub after_in_run: Option<CallId>,
    /// Calls of the same agent and conversation before it, the last first.
    pub before: Vec<CallRow>,
    /// Other calls of the same agent before it, the last first: a conversation that parts has a name
    /// of its own from there on.
    pub like: Vec<CallRow>,
    /// The next call of its conversation.
    pub after: Option<CallId>,
}

impl Neighbours {
    /// Takes in a call before this one; false when there are enough.
    fn take(&mut self, row: &CallRow, call: CallRow, most: usize) -> bool {
        if goes_with(row, &call) {
            self.before.push(call);
        } else if row.agent == call.agent
            && row.operation == call.operation
            && self.like.len() < most
        {
            self.like.push(call);
        }
        self.before.len() < most
    }
}

impl View {
    /// The calls around this one, up to `most` of a kind before it.
    pub fn neighbours(&self, row: &CallRow, most: usize) -> Result<Neighbours, IndexError> {
        self.index.read(|txn| {
            let mut found = Neighbours::default();
            if let Some(run) = &row.run {
                let named = (BY_RUN, run);
                walk(txn, named, row.id, Direction::Before, |call| {
                    found.before_in_run.get_or_insert(call.id);
                    found.take(row, call, most)
                })?;
                walk(txn, named, row.id, Direction::After, |call| {
                    found.after_in_run.get_or_insert(call.id);
                    found.after = goes_with(row, &call).then_some(call.id);
                    found.after.is_none()
                })?;
            }
            // A conversation may go on in another run.
            let may_wander = row.run.is_none() || row.conversation.is_some();
            let named = (BY_AGENT, &row.agent);
            if found.before.is_empty() && may_wander {
                found.like.clear();
                walk(txn, named, row.id, Direction::Before, |call| {
                    found.take(row, call, most)
                })?;
            }
            if found.after.is_none() && may_wander {
                walk(txn, named, row.id, Direction::After, |call| {
                    found.after = goes_with(row, &call).then_some(call.id);
                    found.after.is_none()
                })?;
            }
            Ok(found)
        })
    }
}

/// Whether two calls are of one conversation, as far as it is known.
fn goes_with(row: &CallRow, other: &CallRow) -> bool {
    row.agent == other.agent
        && row.conversation == other.conversation
        && row.operation == other.operation
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Before,
    After,
}

type Named<'a, V> = (
    redb::TableDefinition<'static, (&'static str, u128), V>,
    &'a Label,
);

/// Calls of a run or an agent, away from `from`, until `take` has enough.
fn walk<V: redb::Value + 'static>(
    txn: &ReadTransaction,
    (definition, label): Named<'_, V>,
    from: CallId,
    direction: Direction,
    mut take: impl FnMut(CallRow) -> bool,
) -> Result<(), IndexError> {
    let Some(ids) = table(txn, definition)? else {
        return Ok(());
    };
    let (name, from) = (label.as_str(), id_key(from));
    let range = match direction {
        Direction::Before => ids.range((name, 0)..(name, from))?,
        Direction::After => ids.range((name, from.saturating_add(1))..=(name, u128::MAX))?,
    };
    let mut look = |entry: Result<(redb::AccessGuard<'_, (&str, u128)>, _), redb::StorageError>| {
        let (key, _): (_, redb::AccessGuard<'_, V>) = entry?;
        let call = stored_call(txn, key.value().1)?;
        Ok::<_, IndexError>(call.is_none_or(|call| take(call.row)))
    };
    match direction {
        Direction::Before => {
            for entry in range.rev().take(MAX_WALK) {
                if !look(entry)? {
                    break;
                }
            }
        }
        Direction::After => {
            for entry in range.take(MAX_WALK) {
                if !look(entry)? {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Puts bodies together, and remembers of one what the next has too.
pub struct BodyReader<'v> {
    view: &'v View,
    known: FxHashMap<Digest, Arc<[u8]>>,
    /// Bytes that are remembered.
    held: usize,
}

impl<'v> BodyReader<'v> {
    const MAX_HELD: usize = 32 << 20;

    pub fn new(view: &'v View) -> Self {
        Self {
            view,
            known: FxHashMap::default(),
            held: 0,
        }
    }

    pub fn read(&mut self, stored: StoredBody) -> Result<Body, IndexError> {
        let rebuilt = rebuild(&stored.parts, &mut |digest| self.content(digest))?;
        Ok(Body {
            bytes: rebuilt.bytes,
            content_type: stored.content_type,
            content_encoding: stored.content_encoding,
            exact: !stored.changed && !stored.truncated && !rebuilt.incomplete,
            truncated: stored.truncated,
            wire_len: stored.len,
        })
    }

    fn content(&mut self, digest: Digest) -> Result<Option<Vec<u8>>, IndexError> {
        if let Some(known) = self.known.get(&digest) {
            return Ok(Some(known.to_vec()));
        }
        let Some(bytes) = self.view.content(digest)? else {
            return Ok(None);
        };
        if self.held + bytes.len() <= Self::MAX_HELD {
            self.held += bytes.len();
            self.known.insert(digest, bytes.as_slice().into());
        }
        Ok(Some(bytes))
    }
}
