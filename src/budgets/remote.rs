//! What other instances have of an account, beside what this one has: the state of both together is
//! what decisions are made of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::bank::{Cell, State};
use crate::config::OnAway;
use crate::core::budget::decide::Seat;
use crate::core::budget::{Amounts, Limits, Measure, Spent, Unit, Window};
use crate::core::time::Timestamp;
use crate::shared::Shared;
use crate::shared::contribution::{Contribution, Others};

/// Changed accounts that are kept in mind while Redis is away.
const MOST_DIRTY: usize = 1 << 16;
const DAY: Duration = Duration::from_secs(86_400);

/// This instance's accounts among those of others.
pub(super) struct Fleet {
    pub(super) shared: Arc<Shared>,
    /// Accounts whose part in Redis is not what it is here, each once.
    dirty: Mutex<Vec<Arc<Cell>>>,
    /// Goes up when the list is given up: there were too many while Redis was away.
    lists: AtomicU64,
    pub(super) changed: Notify,
    /// Told when rules changed.
    pub(super) reloaded: Notify,
}

/// What is known of an account elsewhere.
pub(super) struct Remote {
    known: Option<Known>,
    /// The list of changed accounts that it is in; 0 where it is in none.
    dirty_in: u64,
    /// Holds that others may not have left room for: until that is known, what is held here is no
    /// news for them.
    unsure: u32,
    fleet: Arc<Fleet>,
}

/// An answer of Redis, and what this instance had then.
struct Known {
    /// Of the part that was asked with: later ones are higher.
    version: u64,
    asked: Instant,
    others: Others,
    taken: Amounts,
    running: i64,
    to: Timestamp,
}

impl Fleet {
    pub(super) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            dirty: Mutex::default(),
            lists: AtomicU64::new(1),
            changed: Notify::new(),
            reloaded: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Cell>>> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All accounts have to be put in again where this is another one than before.
    pub(super) fn lists(&self) -> u64 {
        self.lists.load(Ordering::Acquire)
    }

    /// Says which list it is in.
    fn add(&self, cell: Arc<Cell>) -> u64 {
        let mut dirty = self.lock();
        if dirty.len() >= MOST_DIRTY && !self.shared.is_joined() {
            dirty.clear();
            self.lists.fetch_add(1, Ordering::AcqRel);
        }
        dirty.push(cell);
        let list = self.lists();
        drop(dirty);
        self.changed.notify_one();
        list
    }

    /// The accounts that changed and can be told of. They are not marked any more.
    pub(super) fn take_dirty(&self) -> Vec<Arc<Cell>> {
        let all = std::mem::take(&mut *self.lock());
        let (ready, unsure): (Vec<_>, Vec<_>) = all.into_iter().partition(|cell| {
            let mut state = cell.lock();
            let remote = state.remote.as_mut().filter(|it| !it.is_unsure());
            remote.map(|it| it.dirty_in = 0).is_some()
        });
        // Whoever marks an account has its lock: this one is not held beside that.
        self.lock().extend(unsure);
        ready
    }
}

impl Remote {
    pub(super) fn new(fleet: &Arc<Fleet>) -> Box<Self> {
        Box::new(Self {
            known: None,
            dirty_in: 0,
            unsure: 0,
            fleet: Arc::clone(fleet),
        })
    }

    pub(super) fn is_unsure(&self) -> bool {
        self.unsure > 0
    }

    /// Something is held that others may not have left room for.
    pub(super) fn doubt(&mut self) {
        self.unsure += 1;
    }

    /// They have, or it is given back.
    pub(super) fn settle_doubt(&mut self) {
        self.unsure = self.unsure.saturating_sub(1);
        if self.unsure == 0 && self.dirty_in > 0 {
            self.fleet.changed.notify_one();
        }
    }

    /// How long ago all instances were asked last.
    pub(super) fn age(&self) -> Option<Duration> {
        self.known.as_ref().map(|known| known.asked.elapsed())
    }

    /// Takes in what Redis answered to `part`, unless a later answer is known.
    pub(super) fn learn(
        &mut self,
        others: Others,
        part: &Contribution,
        (from, to): (Timestamp, Timestamp),
    ) {
        if self
            .known
            .as_ref()
            .is_some_and(|known| known.version > part.version)
        {
            return;
        }
        let counts = |(bucket, _): &&(Timestamp, Amounts)| *bucket >= from && *bucket < to;
        let spent = part.spent.iter().filter(counts);
        let taken = spent.fold(part.held, |sum, (_, amounts)| sum.plus(*amounts));
        self.known = Some(Known {
            version: part.version,
            asked: Instant::now(),
            others,
            taken,
            running: part.running,
            to,
        });
    }

    /// Makes of what this instance has what all have. While that is not known, what this instance
    /// may go on to is its limit.
    pub(super) fn weigh(&self, seat: &mut Seat<'_>, now: Timestamp) {
        let shared = &self.fleet.shared;
        if !shared.is_joined() && shared.on_away() == OnAway::LocalShare {
            let living = i64::try_from(shared.living()).unwrap_or(1).max(1);
            // What was known of a window that is over says nothing of the next.
            let known = self.known.as_ref().filter(|known| known.to > now);
            seat.limits = share(known, &seat.limits, &seat.rule.window, (living, now));
            return;
        }
        let Some(Known { others, .. }) = &self.known else {
            return;
        };
        let (used, running) = self.of_others(&seat.rule.window, now);
        seat.used = seat.used.plus(used);
        seat.held = seat.held.plus(others.held);
        seat.running = seat.running.saturating_add(running);
    }

    /// What others spent of the window that `now` is in, and how many calls of theirs run, as far as
    /// it is known.
    pub(super) fn of_others(&self, window: &Window, now: Timestamp) -> (Amounts, i64) {
        let Some(Known { others, .. }) = &self.known else {
            return (Amounts::default(), 0);
        };
        let (from, to) = window.counted(now);
        (others.spent.between(from, to), others.running)
    }

    /// What all spent, as far as it is known: `own` and what others did.
    pub(super) fn spent(&self, own: &Spent) -> Spent {
        let mut spent = own.clone();
        if let Some(Known { others, .. }) = &self.known {
            let all = Timestamp::from_micros(i64::MIN)..Timestamp::from_micros(i64::MAX);
            for (bucket, amounts) in others.spent.buckets(all.start, all.end) {
                spent.add(bucket, amounts);
            }
        }
        spent
    }
}

/// How far this instance may go of each limit: what it had, and its part of what was left.
fn share(
    known: Option<&Known>,
    limits: &Limits,
    window: &Window,
    (living, now): (i64, Timestamp),
) -> Limits {
    let mut shares = Limits::default();
    for (measure, limit) in limits.each() {
        let part = limit / living;
        let share = known.map_or(part, |known| {
            let (from, to) = window.counted(now);
            let of = &known.others;
            let (own, others) = if measure == Measure::Concurrent {
                (known.running, of.running)
            } else {
                let spent = of.spent.between(from, to);
                (known.taken.of(measure), spent.plus(of.held).of(measure))
            };
            let left = limit.saturating_sub(own).saturating_sub(others).max(0);
            // Calls end by themselves: who has more than a part of them begins no others.
            let most = if measure == Measure::Concurrent {
                part
            } else {
                own.max(part)
            };
            own.saturating_add(left / living).min(most)
        });
        shares.set(measure, Some(share));
    }
    shares
}

impl Cell {
    /// What it is here is not what Redis has of it.
    pub(super) fn changed(self: &Arc<Self>, state: &mut State) {
        if let Some(remote) = &mut state.remote
            && remote.dirty_in != remote.fleet.lists()
        {
            remote.dirty_in = remote.fleet.add(Arc::clone(self));
        }
    }
}

impl State {
    /// What this instance has of it; none where nobody shares it.
    pub(super) fn part(
        &self,
        cell: &Cell,
        window: Option<&Window>,
        now: Timestamp,
    ) -> Option<Contribution> {
        let shared = &self.remote.as_ref()?.fleet.shared;
        let spent = self.account.as_ref().map(|account| &account.spent);
        Some(Contribution {
            account: shared.naming().account(&cell.name),
            version: shared.version(),
            running: self.running,
            held: self.held,
            bucket: window.map_or(now, |window| window.bucket(now)),
            spent: spent.map_or_else(Vec::new, |spent| counted(spent, window, now)),
            keep: keep(window, shared.config().keep_for),
        })
    }
}

/// What counts now, in as few sums as tell when it no longer does.
pub(super) fn counted(
    spent: &Spent,
    window: Option<&Window>,
    now: Timestamp,
) -> Vec<(Timestamp, Amounts)> {
    let all = (
        Timestamp::from_micros(i64::MIN),
        Timestamp::from_micros(i64::MAX),
    );
    let (from, to) = window.map_or(all, |window| window.counted(now));
    let buckets: Vec<_> = spent.buckets(from, to).collect();
    if let None | Some(Window::Rolling(_)) = window {
        return buckets;
    }
    let Some((last, _)) = buckets.last().copied() else {
        return Vec::new();
    };
    let sum = buckets
        .into_iter()
        .fold(Amounts::default(), |sum, (_, amounts)| sum.plus(amounts));
    vec![(last, sum)]
}

/// Longer than anything of it counts.
pub(super) fn keep(window: Option<&Window>, keep_for: Duration) -> Duration {
    match window {
        None | Some(Window::Total) => keep_for,
        Some(Window::Rolling(length)) => {
            DAY + Duration::from_micros(u64::try_from(*length).unwrap_or(0)) * 2
        }
        Some(Window::Calendar(Unit::Hour | Unit::Day, _)) => DAY * 3,
        Some(Window::Calendar(Unit::Week, _)) => DAY * 15,
        Some(Window::Calendar(Unit::Month, _)) => DAY * 63,
    }
}
