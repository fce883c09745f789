//! The bank: every account in use, and holding all accounts of a call at one moment, all or none.
//!
//! There is no lock over all accounts. A call locks its own ones, always in the order of their ids,
//! decides, and holds or does not. Nothing here waits, reads a clock or does I/O: who has to wait
//! leaves a waker in the queue of the account that is in the way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use rustc_hash::FxHashMap;

use super::hold::{Contribution, Hold, held_amounts};
use super::remote::{Fleet, Remote};
use crate::core::budget::decide::{Need, Seat, Size, Verdict, Why, decide};
use crate::core::budget::{
    AccountId, AccountName, Amounts, Charge, Limits, Measure, Rule, StoredAccount,
};
use crate::core::time::Timestamp;
use crate::ledger::Ledger;

const SHARDS: usize = 64;

/// All accounts in memory.
pub struct Bank {
    /// Ids are digests made with a secret: the hash need not defend itself.
    shards: [Mutex<FxHashMap<AccountId, Arc<Cell>>>; SHARDS],
    tickets: AtomicU64,
    /// Set where several instances share accounts.
    fleet: Option<Arc<Fleet>>,
}

/// One account in memory.
pub struct Cell {
    pub id: AccountId,
    pub name: AccountName,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// None until it was looked up in the ledger.
    pub(super) account: Option<StoredAccount>,
    pub(super) held: Amounts,
    /// Calls that hold something.
    pub(super) running: i64,
    /// Calls that wait, by the order in which they came.
    queue: BTreeMap<u64, Waker>,
    /// Calls refused because of it since the process started.
    pub(super) refused: u64,
    /// Charges that the ledger could not take yet, by the time they count for.
    pub(super) unrecorded: Vec<Charge>,
    /// The ledger knows its name.
    pub(super) is_opened: bool,
    pub(super) alert: Alert,
    /// That it delays calls was said.
    is_slow: bool,
    /// How much was used, in thousandths, when it was said to be spent.
    spent_at: u32,
    pub(super) last_used: Timestamp,
    /// Goes up with every use.
    pub(super) uses: u64,
    /// What other instances have; none where this one is alone.
    pub(super) remote: Option<Box<Remote>>,
}

/// What was said of an account already, so that it is said once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alert {
    #[default]
    None,
    Warned,
    Spent,
}

/// An account that a call counts against, and by which rule.
#[derive(Clone)]
pub struct Claimed {
    pub rule: Arc<Rule>,
    /// Those of the rule, or what a client allows its run.
    pub limits: Limits,
    pub cell: Arc<Cell>,
    /// What the call adds to the sum of the metric that the rule limits, in millionths.
    pub micro_metric: i64,
}

/// What became of an attempt to hold.
pub enum Attempt {
    Held(Box<Held>),
    Tight,
    /// Woken when there is a chance.
    Waiting,
    Refused(Box<Standing>),
}

/// A hold, and what should be said about it.
pub struct Held {
    pub hold: Hold,
    pub delay_us: u64,
    /// Of the accounts worth a warning the one that is closest to its limit.
    pub warning: Option<Standing>,
    /// The least that is left in any account, not counting what is held.
    pub left_nano_usd: Option<i64>,
    pub left_tokens: Option<i64>,
    /// Accounts that crossed a mark for the first time.
    pub alerts: Vec<Standing>,
    /// Accounts that began to delay calls.
    pub slowing: Vec<Standing>,
}

/// How an account stands, as a decision saw it.
#[derive(Clone, Debug)]
pub struct Standing {
    pub rule: Arc<Rule>,
    pub name: AccountName,
    pub limits: Limits,
    pub used: Amounts,
    pub held: Amounts,
    pub running: i64,
    /// What the decision was about.
    pub why: Option<Why>,
    /// The least that the refused call needs of it.
    pub needs: i64,
    /// When there will be room for the call, as far as only time can make some.
    pub fits_at: Option<Timestamp>,
    /// It was not said before.
    pub is_new: bool,
}

/// A place in the queues: who came first goes first. Dropping it leaves the queue.
pub struct Ticket {
    number: u64,
    queued_at: Option<Arc<Cell>>,
    held_up_by: Option<Measure>,
}

impl Default for Bank {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            tickets: AtomicU64::new(0),
            fleet: None,
        }
    }
}

impl Bank {
    /// From now on what other instances have counts as well.
    pub(super) fn share(&mut self, fleet: &Arc<Fleet>) {
        self.fleet = Some(Arc::clone(fleet));
    }

    /// The account of this id, made if it is not in memory.
    pub fn cell(&self, id: AccountId, name: impl FnOnce() -> AccountName) -> Arc<Cell> {
        let mut shard = lock(self.shard(id));
        let cell = shard.entry(id).or_insert_with(|| {
            Arc::new(Cell {
                id,
                name: name(),
                state: Mutex::new(State {
                    remote: self.fleet.as_ref().map(Remote::new),
                    ..State::default()
                }),
            })
        });
        Arc::clone(cell)
    }

    pub fn get(&self, id: AccountId) -> Option<Arc<Cell>> {
        lock(self.shard(id)).get(&id).map(Arc::clone)
    }

    pub fn ticket(&self) -> Ticket {
        Ticket {
            number: self.tickets.fetch_add(1, Ordering::Relaxed),
            queued_at: None,
            held_up_by: None,
        }
    }

    /// Every account in memory.
    pub fn cells(&self) -> Vec<Arc<Cell>> {
        let mut cells = Vec::new();
        for shard in &self.shards {
            cells.extend(lock(shard).values().cloned());
        }
        cells
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes whoever waits: limits may have changed.
    pub fn wake_all(&self) {
        for cell in self.cells() {
            cell.lock().wake_first();
        }
    }

    /// Lets go of an account that was not used since `uses`, if nobody has it.
    pub(super) fn forget(&self, id: AccountId, uses: u64) -> bool {
        let mut shard = lock(self.shard(id));
        let idle = shard.get(&id).is_some_and(|cell| {
            let state = cell.lock();
            Arc::strong_count(cell) == 1 && state.uses == uses && state.is_idle()
        });
        idle && shard.remove(&id).is_some()
    }

    fn shard(&self, id: AccountId) -> &Mutex<FxHashMap<AccountId, Arc<Cell>>> {
        let [first, ..] = id.0.to_bytes();
        // The array is never empty, and the index is within it.
        self.shards
            .get(usize::from(first) % SHARDS)
            .unwrap_or(&self.shards[0])
    }
}

/// Brings accounts into the order in which they are locked.
pub fn in_order(claimed: &mut [Claimed]) {
    claimed.sort_unstable_by_key(|claimed| claimed.cell.id);
}

/// Tries to hold what a call needs of all its accounts, which are [in order](in_order) and loaded.
pub fn attempt(
    claimed: &[Claimed],
    need: &Need,
    size: Size,
    now: Timestamp,
    waiting: Option<(&mut Ticket, &Waker)>,
) -> Attempt {
    let mut states: Vec<MutexGuard<'_, State>> =
        claimed.iter().map(|claimed| claimed.cell.lock()).collect();
    let number = waiting.as_ref().map(|(ticket, _)| ticket.number);
    let seats: Vec<Seat<'_>> = claimed
        .iter()
        .zip(&states)
        .map(|(claimed, state)| state.seat(claimed, now, number))
        .collect();
    match decide(&seats, need, size) {
        Verdict::Tight => Attempt::Tight,
        Verdict::Hold { output_tokens } => {
            let mut held = Held {
                hold: Hold::new(need, output_tokens),
                delay_us: 0,
                warning: None,
                left_nano_usd: None,
                left_tokens: None,
                alerts: Vec::new(),
                slowing: Vec::new(),
            };
            for ((claimed, state), seat) in claimed.iter().zip(&mut states).zip(&seats) {
                held.take(claimed, state, seat, (need, output_tokens), now);
            }
            drop(states);
            if let Some((ticket, _)) = waiting {
                ticket.leave();
            }
            Attempt::Held(Box::new(held))
        }
        Verdict::Wait { seat, measure } => {
            let Some((ticket, waker)) = waiting else {
                return Attempt::Tight;
            };
            ticket.held_up_by = measure;
            let before = match (claimed.get(seat), states.get_mut(seat)) {
                (Some(claimed), Some(state)) => {
                    state.queue.insert(ticket.number, waker.clone());
                    let moved = ticket.queued_at.replace(Arc::clone(&claimed.cell));
                    moved.filter(|before| !Arc::ptr_eq(before, &claimed.cell))
                }
                _ => None,
            };
            drop(states);
            if let Some(before) = before {
                before.lock().unqueue(ticket.number);
            }
            Attempt::Waiting
        }
        Verdict::Refuse { seat, why } => {
            let standing = match (claimed.get(seat), states.get_mut(seat), seats.get(seat)) {
                (Some(claimed), Some(state), Some(seat)) => {
                    Some(state.refuse(claimed, seat, need, (why, now)))
                }
                _ => None,
            };
            drop(states);
            if let Some((ticket, _)) = waiting {
                ticket.leave();
            }
            standing.map_or(Attempt::Tight, |standing| {
                Attempt::Refused(Box::new(standing))
            })
        }
    }
}

/// How the account that stands in the way of a waiting call stands.
pub fn standing(claimed: &[Claimed], ticket: &Ticket, now: Timestamp) -> Option<Standing> {
    let in_the_way = ticket.queued_at.as_ref().and_then(|cell| {
        let mut all = claimed.iter();
        all.find(|claimed| Arc::ptr_eq(&claimed.cell, cell))
    });
    let claimed = in_the_way.or(claimed.first())?;
    let mut state = claimed.cell.lock();
    state.refused += 1;
    let seat = state.seat(claimed, now, Some(ticket.number));
    let mut standing = State::standing(claimed, &seat);
    standing.why = ticket.held_up_by.map(Why::Held);
    Some(standing)
}

impl Held {
    fn take(
        &mut self,
        claimed: &Claimed,
        state: &mut State,
        seat: &Seat<'_>,
        (need, output_tokens): (&Need, i64),
        now: Timestamp,
    ) {
        let amounts = Amounts {
            micro_metric: need.micro_metric(claimed.micro_metric),
            ..held_amounts(need, claimed.rule.on_unpriced, output_tokens)
        };
        state.held = state.held.plus(amounts);
        state.running += 1;
        state.touch(now);
        if let Some(remote) = &mut state.remote {
            remote.doubt();
            self.hold.doubt();
        }
        self.hold.add(Contribution {
            rule: Arc::clone(&claimed.rule),
            limits: claimed.limits,
            cell: Arc::clone(&claimed.cell),
            bucket: claimed.rule.window.bucket(now),
            amounts,
        });
        self.delay_us = self.delay_us.max(seat.delay_us());
        for (least, measure) in [
            (&mut self.left_nano_usd, Measure::Usd),
            (&mut self.left_tokens, Measure::Tokens),
        ] {
            let left = seat.left(measure);
            *least = least.map_or(left, |least| {
                Some(left.map_or(least, |left| left.min(least)))
            });
        }
        state.calm(seat);
        if seat.delay_us() > 0 && !state.is_slow {
            state.is_slow = true;
            self.slowing.push(State::standing(claimed, seat));
        }
        if !seat.is_warning() {
            return;
        }
        let standing = State::standing(claimed, seat);
        if state.alert < Alert::Warned {
            state.alert = Alert::Warned;
            self.alerts.push(standing.clone());
        }
        let used = |standing: &Standing| standing.seat().used_permille();
        let before = self.warning.as_ref().map(used);
        if before.is_none_or(|before| before < used(&standing)) {
            self.warning = Some(standing);
        }
    }
}

impl Cell {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What the ledger knows of it was looked up.
    pub fn is_loaded(&self) -> bool {
        self.lock().account.is_some()
    }

    /// Takes over what the ledger knows, unless somebody else did.
    pub fn load(&self, stored: Option<StoredAccount>) {
        let mut state = self.lock();
        if state.account.is_none() {
            state.is_opened = stored.as_ref().is_some_and(|stored| stored.name.is_some());
            let fresh = || StoredAccount::new(Some(self.name.clone()));
            state.account = Some(stored.unwrap_or_else(fresh));
        }
    }
}

impl State {
    pub(super) fn seat<'r>(
        &self,
        claimed: &'r Claimed,
        now: Timestamp,
        ticket: Option<u64>,
    ) -> Seat<'r> {
        let seat = self.seat_of(&claimed.rule, claimed.limits, now);
        Seat {
            is_queued: match (self.queue.first_key_value(), ticket) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some((first, _)), Some(own)) => *first < own,
            },
            micro_metric: claimed.micro_metric,
            ..seat
        }
    }

    /// How it stands by a rule with these limits, for nobody in particular.
    pub(super) fn seat_of<'r>(&self, rule: &'r Rule, limits: Limits, now: Timestamp) -> Seat<'r> {
        let account = self.account.as_ref();
        let mut seat = Seat {
            rule,
            limits: account.map_or(limits, |account| account.limits(&limits, now)),
            used: account.map_or_else(Amounts::default, |account| account.used(&rule.window, now)),
            held: self.held,
            running: self.running,
            is_queued: false,
            micro_metric: 0,
        };
        if let Some(remote) = &self.remote {
            remote.weigh(&mut seat, now);
        }
        seat
    }

    pub(super) fn standing(claimed: &Claimed, seat: &Seat<'_>) -> Standing {
        Standing {
            rule: Arc::clone(&claimed.rule),
            name: claimed.cell.name.clone(),
            limits: seat.limits,
            used: seat.used,
            held: seat.held,
            running: seat.running,
            why: None,
            needs: 0,
            fits_at: None,
            is_new: false,
        }
    }

    /// What was said may be said again once less is used of the limit. A call that is refused for
    /// its size does not stop smaller ones from passing.
    fn calm(&mut self, seat: &Seat<'_>) {
        self.is_slow &= seat.delay_us() > 0;
        let is_still_spent = self.alert == Alert::Spent && seat.used_permille() >= self.spent_at;
        if !is_still_spent {
            let most = if seat.is_warning() {
                Alert::Warned
            } else {
                Alert::None
            };
            self.alert = self.alert.min(most);
        }
    }

    fn refuse(
        &mut self,
        claimed: &Claimed,
        seat: &Seat<'_>,
        need: &Need,
        (why, now): (Why, Timestamp),
    ) -> Standing {
        self.refused += 1;
        self.touch(now);
        let mut standing = Self::standing(claimed, seat);
        standing.why = Some(why);
        if let Why::Spent(measure) = why {
            let least = need.amounts(claimed.rule.on_unpriced, need.least_output());
            standing.needs = match measure {
                Measure::Metric => claimed.micro_metric,
                of => least.of(of),
            };
            self.calm(seat);
            standing.is_new = self.alert < Alert::Spent;
            self.alert = Alert::Spent;
            self.spent_at = seat.used_permille();
            let own = self.account.as_ref().map(|account| &account.spent);
            standing.fits_at = own.and_then(|own| match &self.remote {
                Some(remote) => seat.fits_at(need, &remote.spent(own), now),
                None => seat.fits_at(need, own, now),
            });
        }
        standing
    }

    /// Makes the account known to the ledger by its name, once.
    pub(super) fn open(&mut self, cell: &Cell, ledger: &Ledger) {
        if !self.is_opened {
            self.is_opened = ledger.open_account(cell.id, &cell.name);
        }
    }

    pub(super) fn touch(&mut self, now: Timestamp) {
        self.last_used = self.last_used.max(now);
        self.uses += 1;
    }

    /// Nothing is held and nobody waits: the ledger knows all there is to know.
    pub(super) fn is_idle(&self) -> bool {
        self.running == 0 && self.queue.is_empty() && self.unrecorded.is_empty()
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn wake_first(&self) {
        if let Some((_, waker)) = self.queue.first_key_value() {
            waker.wake_by_ref();
        }
    }

    fn unqueue(&mut self, number: u64) {
        if self.queue.remove(&number).is_some() {
            self.wake_first();
        }
    }
}

impl Standing {
    /// What the decision was about, as far as it was about one measure.
    pub fn measure(&self) -> Option<Measure> {
        match self.why {
            Some(Why::Spent(measure) | Why::Held(measure)) => Some(measure),
            Some(Why::Unpriced) | None => None,
        }
    }

    /// The call needs more than the whole limit.
    pub fn is_beyond_limit(&self) -> bool {
        let limit = self.measure().and_then(|measure| self.limits.of(measure));
        limit.is_some_and(|limit| self.needs > limit)
    }

    pub fn seat(&self) -> Seat<'_> {
        Seat {
            rule: &self.rule,
            limits: self.limits,
            used: self.used,
            held: self.held,
            running: self.running,
            is_queued: false,
            micro_metric: 0,
        }
    }
}

impl Ticket {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Goes out of the queue; the next one may have a chance.
    pub(super) fn leave(&mut self) {
        if let Some(cell) = self.queued_at.take() {
            cell.lock().unqueue(self.number);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A thread that panicked left the maps and sums whole: each change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
