//! Deeds that all instances follow: what operators do to budgets and runs, what clients say of runs,
//! loops that were stopped.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use minicbor::{Decode, Encode};

use super::reader::DeedId;
use super::redis_error::Away;
use super::{PUSH_TIMEOUT, Shared};
use crate::core::budget::{AccountName, Control, Limits, Raise};
use crate::core::id::{CallId, Label};
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;

/// Deeds that Redis keeps for instances that come later.
const MAX_DEEDS: u64 = 10_000;
/// What clients said of runs is of use while those run.
const MAX_CLAIMS: u64 = 1000;
/// Deeds, and claims, that wait while Redis is away.
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
pub(super) struct Backlog {
    deeds: Waiting,
    /// Any client can have many of them told: they take no place of what operators do.
    claims: Waiting,
}

/// In the order in which they were done.
#[derive(Debug, Default)]
struct Waiting(Mutex<VecDeque<Untold>>);

#[derive(Clone, Debug, PartialEq)]
struct Untold {
    bytes: Vec<u8>,
    /// The run that it pauses, resumes or stops.
    controlled: Option<Label>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Untold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the oldest if that had to leave.
    fn add(&self, untold: Untold) -> Option<Untold> {
        let mut waiting = self.lock();
        let is_full = waiting.len() >= MAX_BACKLOG;
        let left = is_full.then(|| waiting.pop_front()).flatten();
        waiting.push_back(untold);
        left
    }
}

impl SharedDeed {
    fn is_claim(&self) -> bool {
        matches!(self, Self::RunClaimed(..))
    }

    fn controlled(&self) -> Option<&Label> {
        match self {
            Self::Controlled(run, _) => Some(run),
            _ => None,
        }
    }
}

impl Shared {
    /// A run is paused, resumed or stopped here, which is told right after: what others did before
    /// that in the stream is not followed any more.
    pub fn begin_control(&self, run: &Label) {
        self.controls.begin(run);
    }

    /// Tells all other instances as soon as that can be; `tell_backlog` waits for it.
    pub fn tell_soon(&self, told: &Told) {
        let Ok(bytes) = minicbor::to_vec(told) else {
            return;
        };
        let controlled = told.deed.controlled().cloned();
        let untold = Untold { bytes, controlled };
        if told.deed.is_claim() {
            if self.backlog.claims.add(untold).is_some() {
                tracing::debug!("other instances miss what a client said of a run");
            }
        } else if let Some(missed) = self.backlog.deeds.add(untold) {
            tracing::error!("Redis is away for so long that other instances miss a deed");
            self.end_control(&missed, None);
        }
        self.untold.notify_one();
    }

    /// Tells what was not told yet, in the order it was done. What Redis did not answer to in time is
    /// told again: who follows it asks whether that was done before.
    pub async fn tell_backlog(&self) -> Result<(), Away> {
        let _telling = self.telling.lock().await;
        let deeds = (&self.backlog.deeds, MAX_DEEDS);
        self.tell_all(deeds, &["deeds", "deed"]).await?;
        let claims = (&self.backlog.claims, MAX_CLAIMS);
        self.tell_all(claims, &["claims"]).await
    }

    async fn tell_all(&self, (waiting, most): (&Waiting, u64), keys: &[&str]) -> Result<(), Away> {
        loop {
            let Some(next) = waiting.lock().front().cloned() else {
                return Ok(());
            };
            let sealed = self.seal.seal(&next.bytes).ok_or(Away::Absent)?;
            let mut line = self.line()?;
            line.set_response_timeout(PUSH_TIMEOUT.max(self.config.timeout));
            let mut call = self.tell.prepare_invoke();
            for key in keys {
                call.key(self.naming.key(key));
            }
            call.arg(self.naming.id()).arg(most).arg(sealed);
            let id: String = call.invoke_async(&mut line).await?;
            let mut waiting = waiting.lock();
            if waiting.front() == Some(&next) {
                waiting.pop_front();
                self.end_control(&next, DeedId::parse(&id));
            }
        }
    }

    fn end_control(&self, untold: &Untold, told: Option<DeedId>) {
        if let Some(run) = &untold.controlled {
            self.controls.end(run, told);
        }
    }
}
