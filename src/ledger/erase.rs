//! Taking calls out of the log for good, at somebody's wish.
//!
//! What is taken out leaves a tombstone, which keeps the place in the chain and what was spent, and
//! nothing of what was said or by whom. Each segment that changes is written anew beside itself; a
//! record says which records go, and what is left in the place of each; once all of that is on disk,
//! the new segments take the places of the old ones. A process that ends meanwhile leaves nothing
//! changed, or what the next one finishes by giving names alone.

mod checkpoints;
mod plan;
mod rules;
mod stage;

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::core::budget::{Act, Deed};
use crate::core::digest::DigestSeed;
use crate::core::id::Label;
use crate::core::time::Timestamp;

use super::OpenError;
use super::audit::Anchor;
use super::check::existing;
use super::index::Place;
use super::lock::Lock;
use super::log::Segment;
use super::record::{Header, kind};
use super::recovery::open_catalog;
#[cfg(test)]
use super::removal::Erased;
use super::removal::{Removal, Removed};
use super::storage::Storage;
use plan::Plan;
use stage::{Edits, Staging, carry_out, commit, discard, each_edited};

/// Which calls are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Run(Label),
    User(Label),
    /// All that began before this.
    Before(Timestamp),
}

/// What is wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub scope: Scope,
    /// Also where parts of a segment with what is meant cannot be read: those stay.
    pub despite_damage: bool,
}

/// What was deleted, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErasedReport {
    pub calls: u64,
    /// Calls among them that other instances served: their ledgers have them as well.
    pub adopted_calls: u64,
    /// Calls that are meant but did not end yet, or whose work goes on at the upstream so that what
    /// they used may still become known: they stay, and so does what is kept of a run as a whole
    /// that has one.
    pub running_calls: u64,
    /// Records of which a tombstone is left.
    pub records: u64,
    /// Messages and other contents among them; those that other calls share stay.
    pub contents: u64,
    pub segments: u64,
    /// By how much the log gets smaller.
    pub freed_bytes: u64,
    /// What cannot be read anywhere in the log: it stays, whatever it is.
    pub unreadable_bytes: u64,
    /// The end of the log after a deletion: keep it elsewhere, and verify against it later.
    pub anchor: Option<Anchor>,
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "segment {0} holds some of what is meant, and parts of it cannot be read, which may be more of \
         it (see `open-aiops audit verify`): with --despite-damage what can be read goes, and those \
         parts stay on the disk"
    )]
    Damaged(u64),
    #[error("the log cannot be changed: {0}")]
    Io(#[from] io::Error),
}

/// Says what [`erase`] would do at `at`, and changes nothing.
pub fn preview(dir: &Path, wish: &Wish, at: Timestamp) -> Result<ErasedReport, EraseError> {
    let (storage, lock) = existing(dir)?;
    let found = foreseen(&*storage, wish, at);
    leave(lock.as_ref());
    found
}

fn foreseen(storage: &dyn Storage, wish: &Wish, at: Timestamp) -> Result<ErasedReport, EraseError> {
    let segments = open_catalog(storage)?.all();
    let plan = Plan::read(storage, &segments, (&wish.scope, at))?;
    let mut report = ErasedReport::of(&plan);
    each_edited((storage, &segments), &plan, |edits| {
        report.add(&edits, wish)
    })?;
    Ok(report)
}

/// Nothing of the index was looked at: what a crash left in doubt stays so.
fn leave(lock: Option<&Lock>) {
    if let Some(lock) = lock.filter(|lock| !lock.left_open()) {
        lock.leave();
    }
}

/// Deletes the calls of `wish` from a ledger that no process uses and that was closed properly.
pub fn erase(
    dir: &Path,
    wish: &Wish,
    who: &str,
    at: Timestamp,
) -> Result<ErasedReport, EraseError> {
    let (storage, lock) = existing(dir)?;
    let place = Place::File(dir.join("index.redb"));
    let done = resume(&*storage, &place).map_err(EraseError::from);
    let done = done.and_then(|()| erase_on(&*storage, &place, wish, (who, at)));
    let made = match &done {
        Ok(report) if report.records > 0 => super::check::rebuild_on(dir, &storage).map(drop),
        _ => Ok(()),
    };
    leave(lock.as_ref());
    made?;
    done
}

pub(super) fn erase_on(
    storage: &dyn Storage,
    place: &Place,
    wish: &Wish,
    (who, at): (&str, Timestamp),
) -> Result<ErasedReport, EraseError> {
    let segments = open_catalog(storage)?.all();
    let plan = Plan::read(storage, &segments, (&wish.scope, at))?;
    let (header, removal) = beginning(&segments, &plan, (who, at));
    let Some(header) = header else {
        return Ok(ErasedReport::of(&plan));
    };
    let number = header.number;
    let begin = || Staging::begin(storage, header, removal);
    let staged = stage_all((storage, &segments), &plan, wish, begin);
    match staged {
        Ok((report, true)) => {
            place.clear()?;
            commit(storage, number)?;
            carry_out(storage, place)?;
            Ok(report)
        }
        Ok((report, false)) => Ok(report),
        Err(error) => {
            // If that fails as well, the next start does it.
            let staged = storage.list_staged();
            let _left = staged.and_then(|staged| discard(storage, &staged));
            Err(error)
        }
    }
}

/// Writes all that a deletion takes beside the log; says whether there is any.
fn stage_all<'s>(
    (storage, segments): (&'s dyn Storage, &[Segment]),
    plan: &Plan,
    wish: &Wish,
    begin: impl FnOnce() -> io::Result<Staging<'s>>,
) -> Result<(ErasedReport, bool), EraseError> {
    let mut report = ErasedReport::of(plan);
    let (mut begin, mut staging) = (Some(begin), None);
    // What failed writes left behind goes as well, but is no reason by itself.
    let mut ends: Vec<Edits> = Vec::new();
    each_edited((storage, segments), plan, |edits| {
        report.add(&edits, wish)?;
        if edits.graves.is_empty() {
            ends.push(edits);
            return Ok(());
        }
        if let Some(begin) = begin.take() {
            staging = Some(begin()?);
        }
        if let Some(staging) = &mut staging {
            staging.segment(&edits)?;
        }
        Ok::<_, EraseError>(())
    })?;
    let Some(mut staging) = staging else {
        return Ok((report, false));
    };
    for edits in &ends {
        staging.segment(edits)?;
    }
    for (run, limits) in &plan.tightened {
        let act = Act {
            at: staging.removal().at,
            who: staging.removal().who.clone(),
            deed: Deed::RunTightened(run.clone(), *limits),
            details: "as calls said that were deleted".to_owned(),
        };
        if !plan.forgets(run, act.at) {
            staging.record(kind::ACT, &act);
        }
    }
    report.anchor = Some(Anchor::of(staging.finish()?));
    Ok((report, true))
}

/// How the segment begins that has the record of a deletion, and what all of these say.
fn beginning(
    segments: &[Segment],
    plan: &Plan,
    (who, at): (&str, Timestamp),
) -> (Option<Header>, Removal) {
    let last = segments.last().map_or(0, |last| last.number);
    let header = segments.iter().rev().find_map(|it| it.header);
    let seed = header.map_or(DigestSeed(0), |header| header.seed);
    let header = header.map(|header| Header {
        number: last + 1,
        created_at: at,
        continues: plan.end.chain,
        ..header
    });
    let removal = Removal {
        at,
        who: who.to_owned(),
        details: words(plan, seed),
        what: Removed::Records {
            segments: Vec::new(),
        },
    };
    (header, removal)
}

/// Does not repeat the name that was to be forgotten.
fn words(plan: &Plan, seed: DigestSeed) -> String {
    let named = |what: &str, name: &Label| {
        let digest = seed.digest(name.as_str().as_bytes());
        format!("one {what} (digest {digest})")
    };
    let meant = match &plan.scope {
        Scope::Run(run) => named("run", run),
        Scope::User(user) => named("user", user),
        Scope::Before(at) => format!("all that began before {at}"),
    };
    format!("deleted {meant}: {} calls", plan.going.len())
}

/// Finishes a deletion that was under way when its process ended; one of which nothing is on record
/// did not happen.
pub(super) fn resume(storage: &dyn Storage, place: &Place) -> io::Result<()> {
    let staged = storage.list_staged()?;
    let Some(last) = staged.last() else {
        return Ok(());
    };
    if storage.list()?.iter().any(|number| number >= last) {
        carry_out(storage, place)
    } else {
        discard(storage, &staged)
    }
}

impl ErasedReport {
    fn of(plan: &Plan) -> Self {
        Self {
            calls: plan.going.len() as u64,
            adopted_calls: plan.adopted,
            running_calls: plan.running,
            ..Self::default()
        }
    }

    fn add(&mut self, edits: &Edits, wish: &Wish) -> Result<(), EraseError> {
        self.unreadable_bytes += edits.unreadable;
        if edits.graves.is_empty() {
            return Ok(());
        }
        let is_damaged = edits.unreadable > 0 || edits.segment.header.is_none();
        if is_damaged && !wish.despite_damage {
            return Err(EraseError::Damaged(edits.segment.number));
        }
        self.records += edits.graves.len() as u64;
        self.contents += edits.contents;
        self.segments += 1;
        self.freed_bytes += edits.freed();
        Ok(())
    }
}

#[cfg(test)]
impl Removal {
    /// Which records of a segment go.
    pub(super) fn erased(&self) -> &[Erased] {
        match &self.what {
            Removed::Records { segments } => segments,
            Removed::Front { .. } => &[],
        }
    }
}
