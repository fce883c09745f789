//! Deeds that all instances follow: what operators do to budgets and runs, what clients say of runs,
//! loops that were stopped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use minicbor::{Decode, Encode};
use redis::streams::StreamMaxlen;

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
const MAX_CLAIMS: usize = 1000;
const CLAIMS_AT_ONCE: usize = 128;
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
    /// The number of the next of both.
    numbers: AtomicU64,
}

/// In the order in which they were done.
#[derive(Debug, Default)]
struct Waiting(Mutex<VecDeque<Untold>>);

#[derive(Clone, Debug, PartialEq)]
struct Untold {
    number: u64,
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

    pub(super) fn controlled(&self) -> Option<&Label> {
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
        let number = self.backlog.numbers.fetch_add(1, Ordering::Relaxed);
        let untold = Untold {
            number,
            bytes,
            controlled,
        };
        if told.deed.is_claim() {
            if self.backlog.claims.add(untold).is_some() {
                tracing::debug!("other instances miss what a client said of a run");
            }
        } else if let Some(missed) = self.backlog.deeds.add(untold) {
            tracing::error!("Redis is away for so long that other instances miss a deed");
            if let Some(run) = &missed.controlled {
                self.controls.give_up(run);
            }
        }
        self.untold.notify_one();
    }

    /// Tells what was not told yet, in the order it was done: deeds all, of claims so many as one
    /// message takes.
    pub async fn tell_backlog(&self) -> Result<(), Away> {
        let _telling = self.telling.lock().await;
        loop {
            let Some(next) = self.backlog.deeds.lock().front().cloned() else {
                break;
            };
            let id = self.tell_deed(&next).await?;
            let mut waiting = self.backlog.deeds.lock();
            if waiting.front() == Some(&next) {
                waiting.pop_front();
            }
            if let (Some(run), Some(id)) = (&next.controlled, id) {
                self.controls.told(run, id);
            }
        }
        self.tell_claims().await
    }

    async fn tell_deed(&self, untold: &Untold) -> Result<Option<DeedId>, Away> {
        let sealed = self.seal.seal(&untold.bytes).ok_or(Away::Absent)?;
        let mut line = self.line()?;
        line.set_response_timeout(PUSH_TIMEOUT.max(self.config.timeout));
        let mut call = self.tell.prepare_invoke();
        for key in ["deeds", "deed", "told"] {
            call.key(self.naming.key(key));
        }
        let number = format!("{}:{}", self.naming.incarnation(), untold.number);
        call.arg(self.naming.id()).arg(number);
        call.arg(MAX_DEEDS).arg(sealed);
        let id: String = call.invoke_async(&mut line).await?;
        Ok(DeedId::parse(&id))
    }

    /// What is told twice does no harm.
    async fn tell_claims(&self) -> Result<(), Away> {
        let waiting = &self.backlog.claims;
        let next: Vec<Untold> = waiting
            .lock()
            .iter()
            .take(CLAIMS_AT_ONCE)
            .cloned()
            .collect();
        let Some(last) = next.last() else {
            return Ok(());
        };
        let mut line = self.line()?;
        line.set_response_timeout(PUSH_TIMEOUT.max(self.config.timeout));
        let key = self.naming.key("claims");
        let most = StreamMaxlen::Approx(MAX_CLAIMS);
        let mut pipe = redis::pipe();
        for claim in &next {
            let sealed = self.seal.seal(&claim.bytes).ok_or(Away::Absent)?;
            let fields = [("o", self.naming.id().as_bytes()), ("d", &sealed)];
            pipe.xadd_maxlen(&key, most, "*", &fields).ignore();
        }
        let () = pipe.query_async(&mut line).await?;
        let mut waiting = waiting.lock();
        while waiting.front().is_some_and(|it| it.number <= last.number) {
            waiting.pop_front();
        }
        if !waiting.is_empty() {
            self.untold.notify_one();
        }
        Ok(())
    }

    /// How many deeds others were not told of.
    pub fn untold_deeds(&self) -> usize {
        self.backlog.deeds.lock().len()
    }
}
