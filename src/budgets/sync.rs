//! Keeping in step with other instances: connecting, putting in all that this one knows, saying that
//! it lives, and putting in what changes, beside the way of calls.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Budgets;
use super::bank::Cell;
use super::remote::{Fleet, counted, keep};
use crate::core::alert::{About, Scope, Signal};
use crate::core::budget::{AccountId, Amounts, StoredAccount};
use crate::core::time::Timestamp;
use crate::shared::contribution::Contribution;
use crate::shared::peers::{Heartbeat, Peer};
use crate::shared::{Away, Shared};

/// Accounts in one message.
const AT_ONCE: usize = 128;
/// Messages with accounts from the ledger that wait.
const AHEAD: usize = 4;
/// A sign of life comes this often, or three times within a lease.
const BEAT: Duration = Duration::from_secs(1);
/// Whether others have put in what they know is looked at this often.
const WHOLE_AGAIN: Duration = Duration::from_millis(50);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// What lasts longer than this is worth an event, and so is what comes so often within a minute.
const WORTH_TELLING: Duration = Duration::from_secs(1);
const OFTEN: usize = 5;
const A_MINUTE: Duration = Duration::from_secs(60);

/// What outlives a connection.
#[derive(Default)]
struct Memory {
    /// The run of the server and the memory that all was put into.
    server: Option<String>,
    /// `Fleet::lists` when all was put in.
    lists: u64,
    away_since: Option<Instant>,
    has_joined: bool,
    losses: VecDeque<Instant>,
    /// What was told is still so.
    told: Option<&'static str>,
    retry: Duration,
}

impl Memory {
    fn lost(&mut self) {
        if !std::mem::take(&mut self.has_joined) {
            return;
        }
        self.losses.push_back(Instant::now());
        if self.losses.len() > OFTEN {
            self.losses.pop_front();
        }
    }

    /// Redis answers to signs of life and, again and again, not to calls.
    fn is_unsteady(&self) -> bool {
        let oldest = self.losses.front();
        self.losses.len() >= OFTEN && oldest.is_some_and(|it| it.elapsed() < A_MINUTE)
    }
}

/// Accounts that Redis does not have as they are: dropped, they are marked again.
struct Unsent(Vec<Arc<Cell>>);

impl Drop for Unsent {
    fn drop(&mut self) {
        for cell in &self.0 {
            cell.changed(&mut cell.lock());
        }
    }
}

impl Budgets {
    /// Keeps in step for as long as it is polled; at once over where this instance is alone.
    pub async fn keep_in_step(self: Arc<Self>) {
        let Some(fleet) = self.fleet.clone() else {
            return;
        };
        let mut memory = Memory {
            away_since: Some(Instant::now()),
            ..Memory::default()
        };
        loop {
            let Err(away) = self.stay_joined(&fleet, &mut memory).await;
            fleet.shared.lose(&away);
            memory.lost();
            self.tell_away(&mut memory, &away);
            memory.retry = (memory.retry * 2).clamp(FIRST_RETRY, LAST_RETRY);
            tokio::time::sleep(memory.retry).await;
        }
    }

    /// Puts in what is not there yet and says that this instance leaves.
    pub async fn leave_others(&self) {
        let Some(fleet) = &self.fleet else { return };
        let left = async {
            fleet.shared.tell_backlog().await?;
            self.push_changes(fleet).await?;
            fleet.shared.leave().await
        };
        if let Err(away) = left.await {
            tracing::debug!("other instances wait for the lease of this one to end: {away}");
        }
        let untold = fleet.shared.untold_deeds();
        if untold > 0 {
            tracing::error!(
                "Redis is away: {untold} deeds of operators hold on this instance alone, do them again on another one"
            );
        }
    }

    async fn stay_joined(&self, fleet: &Fleet, memory: &mut Memory) -> Result<Infallible, Away> {
        let shared = &fleet.shared;
        let (heard_at, before) = (shared.heard_at(), shared.peers());
        let server = shared.connect().await?;
        let first = shared.heartbeat(false).await?;
        let server = format!("{server} {}", first.memory);
        let is_other = memory.server.as_ref() != Some(&server) || first.is_new;
        let since = if first.is_new || memory.server.is_some() && is_other {
            first.at
        } else if memory.server.is_none() {
            // Whoever lives has said so since then.
            earlier(first.at, BEAT * 2)
        } else {
            heard_at.min(first.at)
        };
        let lists = fleet.lists();
        if is_other || lists != memory.lists {
            self.push_all(fleet).await?;
            memory.lists = lists;
        }
        self.push_changes(fleet).await?;
        shared.tell_backlog().await?;
        memory.server = Some(server);
        let lease = i64::try_from(shared.config().lease.as_micros()).unwrap_or(i64::MAX);
        let until = Timestamp::from_micros(first.at.micros().saturating_add(lease));
        let own = shared.naming().id();
        let lived = |peer: &&Peer| peer.id != own && peer.lives(heard_at);
        let remembered: Vec<&Peer> = before.iter().filter(lived).collect();
        loop {
            let beat = shared.heartbeat(true).await?;
            // No call passes what was done elsewhere before.
            let has_heard = shared.has_heard(&first.deed) || beat.at >= until;
            if has_heard && is_whole(&beat, (own, &remembered), (since, until)) {
                break;
            }
            self.push_changes(fleet).await?;
            tokio::time::sleep(WHOLE_AGAIN).await;
        }
        shared.join();
        memory.has_joined = true;
        self.tell_joined(memory, shared);
        self.serve(fleet, memory).await
    }

    async fn serve(&self, fleet: &Fleet, memory: &mut Memory) -> Result<Infallible, Away> {
        let shared = &fleet.shared;
        let mut beats = tokio::time::interval(BEAT.min(shared.config().lease / 3));
        loop {
            tokio::select! {
                () = fleet.changed.notified() => self.push_changes(fleet).await?,
                // Under other rules more of it may count.
                () = fleet.reloaded.notified() => {
                    let pushed = self.push_all(fleet).await;
                    pushed.inspect_err(|_| fleet.reloaded.notify_one())?;
                }
                () = shared.untold.notified() => shared.tell_backlog().await?,
                // It may tell of a loss before this connection: what follows looks.
                () = shared.lost.notified() => {}
                _ = beats.tick() => {
                    // What changed while nobody was told is put in with the next sign of life.
                    self.push_changes(fleet).await?;
                    shared.tell_backlog().await?;
                    shared.heartbeat(true).await?;
                    self.tell_joined(memory, shared);
                }
            }
            if !shared.is_joined() {
                return Err(Away::Absent);
            }
        }
    }

    /// Puts in what changed. Where that fails, or nobody waits for it any more, it is tried again
    /// with the next connection.
    async fn push_changes(&self, fleet: &Fleet) -> Result<(), Away> {
        let mut unsent = Unsent(fleet.take_dirty());
        while !unsent.0.is_empty() {
            let count = unsent.0.len().min(AT_ONCE);
            let chunk = unsent.0.iter().take(count);
            let parts: Vec<Contribution> = chunk.filter_map(|cell| self.part(cell)).collect();
            fleet.shared.push(&parts).await?;
            drop(unsent.0.drain(..count));
        }
        Ok(())
    }

    fn part(&self, cell: &Cell) -> Option<Contribution> {
        let rule = self.rule(&cell.name.rule).ok();
        let state = cell.lock();
        state.account.as_ref()?;
        state.part(cell, rule.as_ref().map(|rule| &rule.window), self.now())
    }

    /// Puts in all that this instance knows: what is in memory, then what only the ledger has.
    async fn push_all(&self, fleet: &Fleet) -> Result<(), Away> {
        let mut beats = Instant::now();
        for chunk in self.bank.cells().chunks(AT_ONCE) {
            let parts: Vec<Contribution> =
                chunk.iter().filter_map(|cell| self.part(cell)).collect();
            fleet.shared.push(&parts).await?;
            beats = say_that_it_lives(&fleet.shared, beats).await?;
        }
        let (to, mut from) = mpsc::channel(AHEAD);
        let ledger = self.ledger.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(AT_ONCE);
            let read = ledger.peek().each_account(&mut |id, stored| {
                chunk.push((id, stored));
                if chunk.len() < AT_ONCE {
                    return ControlFlow::Continue(());
                }
                match to.blocking_send(std::mem::take(&mut chunk)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            });
            // Whoever waits for it may be gone.
            drop(to.blocking_send(chunk));
            read.map(drop)
        });
        while let Some(chunk) = from.recv().await {
            let parts: Vec<Contribution> = chunk
                .into_iter()
                .filter_map(|stored| self.stored_part(&fleet.shared, stored))
                .collect();
            fleet.shared.push(&parts).await?;
            beats = say_that_it_lives(&fleet.shared, beats).await?;
        }
        match reading.await {
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "what was spent before is not all known to other instances");
                Ok(())
            }
        }
    }

    /// Of an account that only the ledger has; none where nothing of it counts.
    fn stored_part(
        &self,
        shared: &Shared,
        (id, stored): (AccountId, StoredAccount),
    ) -> Option<Contribution> {
        // It may have come into memory only now, and no call have changed it there.
        if let Some(cell) = self.bank.get(id).filter(|cell| cell.is_loaded()) {
            return self.part(&cell);
        }
        let (name, now) = (stored.name.as_ref()?, self.now());
        let rule = self.rule(&name.rule).ok()?;
        let spent = counted(&stored.spent, Some(&rule.window), now);
        (!spent.is_empty()).then(|| Contribution {
            account: shared.naming().account(name),
            version: shared.version(),
            running: 0,
            held: Amounts::default(),
            bucket: rule.window.bucket(now),
            spent,
            keep: keep(Some(&rule.window), shared.config().keep_for),
        })
    }

    fn tell_away(&self, memory: &mut Memory, away: &Away) {
        let since = *memory.away_since.get_or_insert_with(Instant::now);
        if away.is_lasting() {
            memory.retry = LAST_RETRY;
        }
        let is_long = since.elapsed() >= WORTH_TELLING || away.is_lasting();
        let is_long = is_long || memory.is_unsteady();
        if !is_long || memory.told.is_some() {
            return;
        }
        let what = "shared_away";
        memory.told = Some(what);
        let Some(shared) = self.shared() else { return };
        let on_failure: &'static str = shared.on_away().into();
        let details = format!("{away}; calls with budgets go by on_failure = \"{on_failure}\"");
        let signal = Signal::of(Scope::new(About::Shared, &"redis"));
        self.event(what, details, signal);
    }

    fn tell_joined(&self, memory: &mut Memory, shared: &Shared) {
        if memory.is_unsteady() {
            return;
        }
        memory.retry = Duration::ZERO;
        let away_for = memory.away_since.take().map(|since| since.elapsed());
        let is_first = away_for.is_some() && shared.figures.disconnects() == 0;
        if memory.told.take().is_none() && !is_first {
            return;
        }
        let living = shared.living();
        let live = if living == 1 {
            "instance lives"
        } else {
            "instances live"
        };
        let details = format!("budgets are shared, {living} {live}");
        let signal = Signal::of(Scope::new(About::Shared, &"redis"));
        self.event("shared_joined", details, signal);
    }
}

async fn say_that_it_lives(shared: &Shared, last: Instant) -> Result<Instant, Away> {
    if last.elapsed() < BEAT.min(shared.config().lease / 3) {
        return Ok(last);
    }
    shared.heartbeat(false).await?;
    Ok(Instant::now())
}

/// Whether Redis has what all others knew at `since`: each that lived has put it in, or is gone.
fn is_whole(
    beat: &Heartbeat,
    (own, remembered): (&str, &[&Peer]),
    (since, until): (Timestamp, Timestamp),
) -> bool {
    let is_there = |peer: &Peer| peer.is_synced(since);
    let mut others = beat.peers.iter().filter(|peer| peer.id != own);
    let all_there = others.all(|peer| !peer.lives(beat.at) || is_there(peer));
    let all_back = remembered.iter().all(|peer| {
        let mut others = beat.peers.iter();
        others.any(|other| other.id == peer.id && is_there(other))
    });
    all_there && (all_back || beat.at >= until)
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(at.micros().saturating_sub(by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn redis_that_is_lost_again_and_again_is_unsteady_for_a_minute() {
        let mut memory = Memory::default();
        for _ in 0..OFTEN {
            assert!(!memory.is_unsteady());
            memory.has_joined = true;
            memory.lost();
        }
        assert!(memory.is_unsteady());
        tokio::time::advance(A_MINUTE).await;
        assert!(!memory.is_unsteady());
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_to_reach_it_are_no_losses() {
        let mut memory = Memory::default();
        for _ in 0..OFTEN * 2 {
            memory.lost();
        }
        assert!(!memory.is_unsteady());
    }
}
