//! Deeds that all instances follow: what operators do to budgets and runs, what clients say of runs,
//! loops that were stopped.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use minicbor::{Decode, Encode};

use super::Shared;
use super::redis_error::Away;
use crate::core::budget::{AccountName, Control, Limits, Raise};
use crate::core::id::{CallId, Label};
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;

/// Deeds that Redis keeps for instances that come later.
const MAX_DEEDS: u64 = 10_000;
/// Deeds that wait while Redis is away.
const MAX_BACKLOG: usize = 1024;

/// One deed, as all instances hear of it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Told {
    #[n(0)]
    pub at: Timestamp,
    #[n(1)]
    pub who: String,
    #[n(2)]
    pub deed: SharedDeed,
    /// In one sentence, for people.
    #[n(3)]
    pub details: String,
    /// What people call the instance where it was done.
    #[n(4)]
    pub place: String,
}

/// What was done. Accounts are named: their ids differ from ledger to ledger.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum SharedDeed {
    #[n(0)]
    Raised(#[n(0)] AccountName, #[n(1)] Raise),
    #[n(1)]
    Reset(#[n(0)] AccountName),
    #[n(2)]
    Controlled(#[n(0)] Label, #[n(1)] Control),
    /// What a client says of its run.
    #[n(3)]
    RunClaimed(#[n(0)] Label, #[n(1)] Option<Label>, #[n(2)] Limits),
    /// A loop was stopped: the hash of the client's key that the run belongs to, and the trip.
    #[n(4)]
    Tripped(#[n(0)] u64, #[n(1)] Box<Trip>),
    /// It is stopped no longer.
    #[n(5)]
    Closed(#[n(0)] CallId),
}

/// Deeds that Redis does not have yet.
#[derive(Debug, Default)]
pub(super) struct Backlog(Mutex<VecDeque<Vec<u8>>>);

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Tells all other instances. What Redis cannot take now it is told when it is back.
    pub async fn tell(&self, told: &Told) {
        let Ok(bytes) = minicbor::to_vec(told) else {
            return;
        };
        self.keep_for_later(bytes);
        if let Err(away) = self.tell_backlog().await {
            tracing::warn!("other instances are told later: {away}");
        }
    }

    /// The same for who cannot wait.
    pub fn tell_soon(&self, told: &Told) {
        if let Ok(bytes) = minicbor::to_vec(told) {
            self.keep_for_later(bytes);
            self.untold.notify_one();
        }
    }

    fn keep_for_later(&self, bytes: Vec<u8>) {
        let mut backlog = self.backlog.lock();
        if backlog.len() >= MAX_BACKLOG {
            tracing::error!("Redis is away for so long that other instances miss a deed");
            backlog.pop_front();
        }
        backlog.push_back(bytes);
    }

    /// Tells what was not told yet, in the order it was done.
    pub async fn tell_backlog(&self) -> Result<(), Away> {
        let _telling = self.telling.lock().await;
        loop {
            let Some(next) = self.backlog.lock().front().cloned() else {
                return Ok(());
            };
            let sealed = self.seal.seal(&next).ok_or(Away::Absent)?;
            let mut line = self.line()?;
            let mut call = self.tell.prepare_invoke();
            call.key(self.naming.key("deeds"))
                .key(self.naming.key("deed"));
            call.arg(self.naming.id()).arg(MAX_DEEDS).arg(sealed);
            let _: String = call.invoke_async(&mut line).await?;
            let mut backlog = self.backlog.lock();
            if backlog.front() == Some(&next) {
                backlog.pop_front();
            }
        }
    }
}
