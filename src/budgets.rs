//! Budgets at work: what a call counts against, holding it, waiting for it, and giving it back.
//!
//! The arithmetic is in `core::budget`. Here are the accounts in memory ([`bank`]), the runs and
//! their ancestors ([`runs`]), and the way of a call through both. Accounts and runs that nobody
//! used for a while leave memory and come back from the ledger.

pub mod ask;
pub mod bank;
mod confirm;
mod figures;
pub mod hold;
mod late;
pub mod measured;
mod operate;
pub mod recent;
pub mod refusal;
pub mod refused;
mod remote;
mod replicate;
pub mod runs;
mod shown;
mod stored;
mod sweep;
mod sync;
mod unrecorded;
mod view;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwapOption;

pub use self::ask::Ask;
use self::ask::Rules;
pub use self::bank::Standing;
use self::bank::{Attempt, Bank, Claimed, Held, Ticket};
use self::confirm::NotHeld;
pub use self::hold::{Hold, Used};
pub use self::operate::{Key, OperateError};
use self::recent::Recent;
pub use self::refusal::Refusal;
use self::remote::Fleet;
use self::runs::{Enlisted, Run, Runs};
use self::stored::Stored;
pub use self::view::{AccountFilter, AccountRow, MeasureRow, RuleRow};
use crate::clock::Clock;
use crate::core::alert::{About, Scope, Signal};
use crate::core::budget::decide::{Need, Size};
use crate::core::budget::usual::Usual;
use crate::core::budget::{Act, Control, Deed, Limits, MAX_ANCESTORS, Measure, Rule};
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::ledger::{Event, IndexError, Ledger};

/// Who waits looks again this often though nobody wakes it: time alone makes room in a window too.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// All budgets, for the life of the process.
pub struct Budgets {
    rules: ArcSwapOption<Rules>,
    /// Goes up after every change of the rules.
    edition: AtomicU64,
    bank: Bank,
    runs: Runs,
    stored: Stored,
    /// What calls of one kind usually put out.
    pub usual: Usual,
    pub recent: Recent,
    ledger: Ledger,
    clock: Clock,
    /// Accounts and runs kept in memory while nobody uses them.
    max_idle: AtomicUsize,
    /// Some charges are not in the ledger yet.
    owing: Arc<AtomicBool>,
    /// Held while measurements are recorded: one may take the place of another.
    pub measuring: Arc<tokio::sync::Mutex<()>>,
    /// None where this instance is alone.
    fleet: Option<Arc<Fleet>>,
}

/// The accounts of one call.
#[derive(Default)]
pub struct Claim {
    /// Its run, if it has one.
    own: Option<Arc<Run>>,
    /// That and all ancestors.
    runs: Vec<Arc<Run>>,
    accounts: Vec<Claimed>,
    /// Of the rules it was made by, or of ones before them.
    edition: u64,
}

/// What ended a turn of waiting.
enum Turn {
    /// And what `Shared::turns` said before.
    Held(Box<Held>, u64),
    Refused(Box<Standing>),
    /// There are other rules now.
    Reloaded,
}

/// A call that may go on.
pub struct Granted {
    pub hold: Hold,
    /// How long it waited for others to end.
    pub waited: Duration,
    /// How long it has to be delayed.
    pub delay: Duration,
    /// The least that is left of any of its budgets, not counting what running calls hold.
    pub left_nano_usd: Option<i64>,
    pub left_tokens: Option<i64>,
    /// The account closest to its limit, if it is worth a warning.
    pub warning: Option<Standing>,
}

/// What the ledger knows of an account or a run cannot be read now.
#[derive(Debug, thiserror::Error)]
#[error("what was spent cannot be read from the ledger now: {0}")]
pub struct Unreadable(#[from] IndexError);

impl Budgets {
    pub fn new(rules: &[Rule], max_idle: usize, ledger: Ledger, clock: Clock) -> Self {
        Self {
            rules: ArcSwapOption::from_pointee(Rules::new(rules)),
            edition: AtomicU64::new(0),
            bank: Bank::default(),
            runs: Runs::default(),
            stored: Stored::new(ledger.seed()),
            usual: Usual::default(),
            recent: Recent::default(),
            ledger,
            clock,
            max_idle: AtomicUsize::new(max_idle),
            owing: Arc::default(),
            measuring: Arc::default(),
            fleet: None,
        }
    }

    /// Takes over other rules. What was spent belongs to the names of rules and stays.
    pub fn reload(&self, rules: &[Rule], max_idle: usize) {
        self.rules.store(Rules::new(rules).map(Arc::new));
        self.max_idle.store(max_idle, Ordering::Relaxed);
        self.edition.fetch_add(1, Ordering::SeqCst);
        self.bank.wake_all();
        if let Some(fleet) = &self.fleet {
            fleet.reloaded.notify_one();
        }
    }

    /// Where all of it is recorded.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What calls have in common that are likely to use as much.
    pub fn kind(&self, ask: &Ask<'_>) -> Digest {
        let operation: &'static str = ask.operation.into();
        let model = ask.model.map_or("", Label::as_str);
        let kind = [ask.attribution.agent.as_str(), model, operation].join("\0");
        self.ledger.seed().digest(kind.as_bytes())
    }

    /// What calls have in common that are likely to cost as much, whoever makes them.
    pub fn price_kind(&self, ask: &Ask<'_>) -> Digest {
        let operation: &'static str = ask.operation.into();
        let model = ask.model.map_or("", Label::as_str);
        let kind = [model, operation].join("\0");
        self.ledger.seed().digest(kind.as_bytes())
    }

    /// Whether any rule is configured.
    pub fn has_rules(&self) -> bool {
        let rules = self.rules.load();
        rules
            .as_ref()
            .is_some_and(|rules| !rules.configured.is_empty())
    }

    /// The accounts that a call counts against, its runs among them, all of them in memory.
    pub async fn claim(&self, ask: &Ask<'_>) -> Result<Claim, Unreadable> {
        let runs = self.chain(ask).await?;
        let has_own = ask.attribution.run.is_some();
        let own = runs.first().filter(|_| has_own).cloned();
        // Before the rules: a claim may be taken for older than it is, never for newer.
        let edition = self.edition.load(Ordering::SeqCst);
        let accounts = match self.rules.load().as_ref() {
            Some(rules) => rules.accounts(&self.bank, self.ledger.seed(), ask, &runs),
            None => Vec::new(),
        };
        self.load(&accounts).await?;
        Ok(Claim {
            own,
            runs,
            accounts,
            edition,
        })
    }

    /// The run of a call and all its ancestors, with what this call claims of them.
    async fn chain(&self, ask: &Ask<'_>) -> Result<Vec<Arc<Run>>, Unreadable> {
        let now = self.now();
        let claimed = ask.attribution.parent_run.as_ref();
        let (mut chain, mut parents) = (Vec::new(), Vec::new());
        if let Some(own) = &ask.attribution.run {
            let own = self.known_run(own).await?;
            parents.extend(own.claim(claimed, &ask.tightened, now));
            if self.fleet.is_some()
                && let Some((parent, limits)) = own.news()
            {
                self.tell_of_run(&own.name, parent, limits);
            }
            chain.push(own);
        }
        // Another parent than the one it has does not take it from that one.
        parents.extend(claimed.cloned());
        while let Some(parent) = parents.pop() {
            let known = chain.iter().any(|run| run.name == parent);
            if known || chain.len() > MAX_ANCESTORS {
                continue;
            }
            let run = self.known_run(&parent).await?;
            parents.extend(run.claim(None, &Limits::default(), now));
            chain.push(run);
        }
        Ok(chain)
    }

    async fn known_run(&self, name: &Label) -> Result<Arc<Run>, Unreadable> {
        let run = self.runs.run(name);
        if !run.is_loaded() && !self.stored.may_have_run(name) {
            run.load(None);
        }
        if !run.is_loaded() {
            let (ledger, name) = (self.ledger.clone(), name.clone());
            run.load(blocking(move || ledger.peek().run_state(&name)).await?);
        }
        Ok(run)
    }

    async fn load(&self, accounts: &[Claimed]) -> Result<(), Unreadable> {
        let mut missing = Vec::new();
        for Claimed { cell, .. } in accounts {
            if cell.is_loaded() {
                continue;
            }
            if self.stored.may_have_account(cell.id) {
                missing.push(Arc::clone(cell));
            } else {
                cell.load(None);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let ledger = self.ledger.clone();
        blocking(move || {
            for cell in missing {
                cell.load(ledger.peek().account(cell.id)?);
            }
            Ok(())
        })
        .await
    }

    /// Waits while a run of the call is paused, for as long as `patience` lasts.
    pub async fn enter(&self, claim: &Claim, patience: Duration) -> Result<(), Refusal> {
        let open = async {
            // One may be paused again while another one is waited for.
            while claim.is_paused() {
                for run in &claim.runs {
                    run.until_resumed().await;
                }
            }
        };
        if claim.is_paused() && tokio::time::timeout(patience, open).await.is_err() {
            let paused = claim
                .runs
                .iter()
                .find(|run| run.control() == Control::Paused);
            if let Some(run) = paused {
                return Err(Refusal::Paused(run.name.clone()));
            }
        }
        let mut runs = claim.runs.iter();
        match runs.find(|run| run.control() == Control::Stopped) {
            Some(run) => Err(Refusal::Stopped(run.name.clone())),
            None => Ok(()),
        }
    }

    /// Holds what a call needs, at its worst if that fits. If it does not, `exact` says what it
    /// needs more exactly, after all calls that ended have been settled; where only running calls
    /// are in the way, it waits for them as long as `patience` lasts. Rules that change meanwhile
    /// are the ones that count.
    pub async fn hold(
        &self,
        (claim, ask): (&mut Claim, &Ask<'_>),
        bound: &Need,
        exact: impl AsyncFnOnce() -> Need,
        patience: Duration,
    ) -> Result<Granted, Refusal> {
        if claim.accounts.is_empty() {
            return Ok(Granted::nothing());
        }
        if self.refuses_all() {
            return Err(Refusal::Away);
        }
        let (began, turns) = (self.now(), self.turns());
        match bank::attempt(&claim.accounts, bound, Size::WorstCase, began, None) {
            Attempt::Held(held) => match self.confirmed(claim, bound, (held, turns)).await {
                Ok(held) => return Ok(self.granted(*held, Duration::ZERO)),
                Err(NotHeld::Refused) => return Err(Refusal::Away),
                Err(NotHeld::Full) => {}
            },
            Attempt::Refused(standing) => return Err(self.refused(standing)),
            Attempt::Tight | Attempt::Waiting => {}
        }
        let need = exact().await;
        let mut ticket = self.bank.ticket();
        let mut has_waited = false;
        let waiting = self.wait((&mut *claim, ask), &need, (&mut ticket, &mut has_waited));
        let outcome = tokio::time::timeout(patience, waiting).await;
        let now = self.now();
        match outcome {
            Ok(Some(Ok(held))) => {
                let waited = if has_waited {
                    now.micros_since(began)
                } else {
                    0
                };
                Ok(self.granted(*held, Duration::from_micros(waited)))
            }
            Ok(Some(Err(Some(standing)))) => Err(self.refused(standing)),
            Ok(Some(Err(None))) => Err(Refusal::Away),
            Ok(None) => Ok(Granted::nothing()),
            Err(_) => match bank::standing(&claim.accounts, &ticket, now) {
                Some(standing) => Err(Refusal::Busy(Box::new(standing))),
                None => Ok(Granted::nothing()),
            },
        }
    }

    /// Waits for its turn and for room, by the rules that are in force when there is some. None
    /// when no budget is about the call any more; refused without a standing where Redis is away.
    async fn wait(
        &self,
        (claim, ask): (&mut Claim, &Ask<'_>),
        need: &Need,
        (ticket, has_waited): (&mut Ticket, &mut bool),
    ) -> Option<Result<Box<Held>, Option<Box<Standing>>>> {
        let kind = self.kind(ask);
        loop {
            self.look(claim).await;
            let look_again = self.look_again(ticket.number());
            let turn = self.turn((claim, kind), need, (&mut *ticket, &mut *has_waited));
            match tokio::time::timeout(look_again, turn).await {
                Err(_) => {}
                Ok(Turn::Held(held, turns)) => {
                    match self.confirmed(claim, need, (held, turns)).await {
                        Ok(held) => return Some(Ok(held)),
                        Err(NotHeld::Refused) => return Some(Err(None)),
                        Err(NotHeld::Full) => tokio::task::yield_now().await,
                    }
                }
                Ok(Turn::Refused(standing)) => return Some(Err(Some(standing))),
                Ok(Turn::Reloaded) => {
                    ticket.leave();
                    self.renew(claim, ask).await;
                    if claim.accounts.is_empty() {
                        return None;
                    }
                }
            }
        }
    }

    /// There are other rules than those it was made by.
    fn is_outdated(&self, claim: &Claim) -> bool {
        self.edition.load(Ordering::SeqCst) != claim.edition
    }

    /// Has the rules of now count for a call that waited.
    pub async fn renew(&self, claim: &mut Claim, ask: &Ask<'_>) {
        let edition = self.edition.load(Ordering::SeqCst);
        if edition == claim.edition {
            return;
        }
        match self.claim(ask).await {
            Ok(now) => *claim = now,
            Err(error) => {
                tracing::warn!("a call that waits keeps to the rules it came under: {error}");
                claim.edition = edition;
            }
        }
    }

    /// The need with what is known by now of such calls: those it waits for may have taught it.
    fn expecting(&self, need: &Need, kind: Digest) -> Need {
        let expected = self.usual.output(kind);
        if !need.is_clampable {
            return *need;
        }
        Need {
            usual_output: expected.usual.min(need.most_output),
            ample_output: expected.ample.min(need.most_output),
            ..*need
        }
    }

    /// Resolves when the call holds what it needs, is refused, or came under other rules.
    fn turn(
        &self,
        (claim, kind): (&Claim, Digest),
        need: &Need,
        (ticket, has_waited): (&mut Ticket, &mut bool),
    ) -> impl Future<Output = Turn> {
        poll_fn(move |context| {
            if self.is_outdated(claim) {
                return Poll::Ready(Turn::Reloaded);
            }
            let waiting = Some((&mut *ticket, context.waker()));
            let (now, turns) = (self.now(), self.turns());
            let need = self.expecting(need, kind);
            match bank::attempt(&claim.accounts, &need, Size::Share, now, waiting) {
                Attempt::Held(held) => Poll::Ready(Turn::Held(held, turns)),
                Attempt::Refused(standing) => Poll::Ready(Turn::Refused(standing)),
                // It is in the queue by now: a reload after this look wakes it.
                Attempt::Waiting | Attempt::Tight if self.is_outdated(claim) => {
                    Poll::Ready(Turn::Reloaded)
                }
                Attempt::Waiting | Attempt::Tight => {
                    *has_waited = true;
                    Poll::Pending
                }
            }
        })
    }

    fn granted(&self, held: Held, waited: Duration) -> Granted {
        for standing in &held.alerts {
            self.tell("budget_warning", standing);
        }
        for standing in &held.slowing {
            self.tell("budget_slowed", standing);
        }
        Granted {
            hold: held.hold,
            waited,
            delay: Duration::from_micros(held.delay_us),
            left_nano_usd: held.left_nano_usd,
            left_tokens: held.left_tokens,
            warning: held.warning,
        }
    }

    fn refused(&self, standing: Box<Standing>) -> Refusal {
        if standing.is_new {
            self.tell("budget_spent", &standing);
        }
        Refusal::of(standing)
    }

    /// Said once for each account, until it is below its marks again.
    fn tell(&self, what: &'static str, standing: &Standing) {
        let counted = || {
            let all = standing.limits.each();
            all.filter(|(measure, _)| *measure != Measure::Concurrent)
        };
        let text = |measure: Measure, amount| standing.rule.text(measure, amount);
        let used = |measure: Measure| text(measure, standing.used.of(measure));
        let measures: Vec<String> = counted()
            .map(|(measure, limit)| format!("{} of {}", used(measure), text(measure, limit)))
            .collect();
        let part = |(measure, limit): &(Measure, i64)| {
            i128::from(standing.used.of(*measure)) * 1000 / i128::from((*limit).max(1))
        };
        let nearest = counted().max_by_key(part);
        let now = self.now();
        let rule = &standing.rule.name;
        let signal = Signal {
            value: nearest.map(|(measure, _)| used(measure)),
            limit: nearest.map(|(measure, limit)| text(measure, limit)),
            until: standing.rule.window.resets_at(now),
            account: Some(standing.name.id(self.ledger.seed())),
            ..Signal::of(Scope::new(About::Budget, rule).with_key(&standing.name))
        };
        let details = format!(
            "budget \"{rule}\", {}: used {}",
            standing.name,
            measures.join(", ")
        );
        self.event(what, details, signal);
    }

    /// Keeps what the clients of a run allow it, where no record says it yet.
    fn keep_limits(&self, run: &Run) {
        let Some(limits) = run.new_limits() else {
            return;
        };
        let sums: Vec<String> = limits.each().map(|(of, sum)| of.text(sum)).collect();
        let act = Act {
            at: self.now(),
            who: "client".to_owned(),
            deed: Deed::RunTightened(run.name.clone(), limits),
            details: format!("run {}: to {}", run.name, sums.join(", ")),
        };
        match self.ledger.act(act) {
            Ok(_) => run.recorded(&limits),
            Err(error) => tracing::warn!(%error, "what a client allows its run is not recorded"),
        }
    }

    /// Says, once for each model, that its price is not known and its calls count all the same.
    pub fn tell_unpriced(&self, model: &str) {
        let what = self
            .ledger
            .seed()
            .digest(format!("unpriced {model}").as_bytes());
        if self.recent.is_first(what) {
            let details = format!(
                "the price of {model:?} is not known; budgets in USD count it as on_unpriced says"
            );
            let signal = Signal::of(Scope::new(About::Model, model));
            self.event("unpriced_model", details, signal);
        }
    }

    /// Who hears of it tells it to people, in the log too.
    fn event(&self, what: &'static str, details: String, signal: Signal) {
        let event = Event::own(self.now(), what, Some(details)).saying(signal);
        if let Err(error) = self.ledger.event(event) {
            tracing::warn!(%error, "the event {what} is not recorded");
        }
    }

    /// Makes the accounts of a hold known to the ledger, which must happen before it gets a charge
    /// of them.
    pub fn open_accounts(&self, claim: &Claim) {
        for Claimed { cell, .. } in &claim.accounts {
            cell.lock().open(cell, &self.ledger);
        }
    }

    /// The admission of a call, which says `limits` of its run, is in the ledger, or the ledger cannot
    /// take it.
    pub fn admitted(&self, (hold, claim): (&mut Hold, &Claim), limits: &Limits, recorded: bool) {
        if !recorded {
            return hold.unrecorded(&self.owing);
        }
        hold.recorded();
        if let Some(own) = &claim.own {
            own.recorded(limits);
        }
    }

    /// Enlists a call to be ended when one of its runs is stopped.
    pub fn enlist(&self, claim: &Claim) -> Enlisted {
        self.runs.enlist(claim.runs.clone())
    }
}

/// Keeps what the client of a call allows its run, whatever becomes of the call: dropped before an
/// admission says it, it has the ledger say it.
#[must_use = "it keeps when it is dropped"]
pub struct Keeping {
    budgets: Arc<Budgets>,
    run: Option<Arc<Run>>,
}

impl Keeping {
    pub fn limits_of(claim: &Claim, budgets: &Arc<Budgets>) -> Self {
        Self {
            budgets: Arc::clone(budgets),
            run: claim.own.clone(),
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(run) = &self.run {
            self.budgets.keep_limits(run);
        }
    }
}

impl Claim {
    /// New calls of one of its runs have to wait.
    pub fn is_paused(&self) -> bool {
        self.runs.iter().any(|run| run.control() == Control::Paused)
    }

    /// What the clients of its run allow that.
    pub fn tightened(&self) -> Limits {
        let own = self.own.as_ref();
        own.map_or_else(Limits::default, |run| run.tightened())
    }

    /// One of its budgets is in USD.
    pub fn counts_usd(&self) -> bool {
        let usd = |claimed: &Claimed| claimed.limits.nano_usd.is_some();
        self.accounts.iter().any(usd)
    }

    /// No budget is about this call.
    pub fn is_free(&self) -> bool {
        self.accounts.is_empty()
    }
}

impl Granted {
    fn nothing() -> Self {
        Self {
            hold: Hold::nothing(),
            waited: Duration::ZERO,
            delay: Duration::ZERO,
            left_nano_usd: None,
            left_tokens: None,
            warning: None,
        }
    }
}

/// Runs what may wait for the disk on a thread that may.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, Unreadable> {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Unreadable(IndexError::Closed)),
    }
}

#[cfg(test)]
mod tests;
