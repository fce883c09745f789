//! Runs under watch: which conversation a call belongs to, whether it goes round in circles, and what
//! is done about it. The memory and the locks; what is decided is decided in `core::loops`, whose
//! conversation it is in `core::lineage`.

mod attribute;
mod identity;
mod open;
pub mod operate;
pub mod read;
pub mod recognise;
mod remote_trips;
mod transcript;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use self::identity::Identities;
use self::open::{Key, OpenTrips};
use self::read::Reader;
use self::recognise::Turn;
use self::remote_trips::RemoteTrips;
use crate::clock::Clock;
use crate::config::{Config, LoopsConfig};
use crate::core::alert::{About, Scope, Signal};
use crate::core::attribution::{Attribution, Source};
use crate::core::id::{CallId, Label};
use crate::core::lineage::{Answered, Lineage};
use crate::core::loops::guard::{Caller, Guard, No, Verdict};
use crate::core::loops::refusal::{self, Refusal};
use crate::core::loops::trip::Trip;
use crate::core::loops::turn::Answer;
use crate::core::redaction::Redaction;
use crate::core::time::Timestamp;
use crate::ledger::{Durable, Event, Ledger, Unavailable};
use crate::wire::response::Said;

const SHARDS: usize = 16;
/// A guessed run that was not used for so long is over.
const IDLE_US: u64 = 3_600_000_000;
/// Idle runs are looked for so often.
const SWEEP_US: i64 = 60_000_000;

/// Who keeps what happens.
pub trait Keeper: Send + Sync {
    /// Keeps an event if it can. Never waits.
    fn tell(&self, event: Event);

    /// Keeps an event that nothing may happen without; nobody hears of it where it cannot be kept.
    fn keep(&self, event: Event) -> Result<Durable, Unavailable>;
}

impl Keeper for Ledger {
    fn tell(&self, event: Event) {
        if let Err(error) = self.event(event) {
            tracing::warn!(%error, "an event of a loop is not recorded");
        }
    }

    fn keep(&self, event: Event) -> Result<Durable, Unavailable> {
        self.deed(event)
    }
}

/// Keeps nothing.
impl Keeper for () {
    fn tell(&self, _: Event) {}

    fn keep(&self, _: Event) -> Result<Durable, Unavailable> {
        Ok(Durable::READY)
    }
}

/// Everything that is remembered of runs while they are watched.
pub struct Loops {
    lineage: Lineage,
    identities: ArcSwap<Identities>,
    infer: AtomicBool,
    config: ArcSwap<LoopsConfig>,
    runs: [Mutex<Shard>; SHARDS],
    open: OpenTrips,
    /// What other instances stopped.
    remote_trips: RemoteTrips,
    redact: Redaction,
    swept_at: AtomicI64,
    keeper: Box<dyn Keeper>,
    clock: Clock,
}

/// Runs by the client's key and their name: what one client does in a run stops no other.
type Shard = HashMap<Key, Arc<Mutex<Watched>>>;

/// One run.
#[derive(Default)]
struct Watched {
    guard: Guard,
    last_used: Timestamp,
    is_guessed: bool,
    /// It was let go of: its trips are nobody's any more.
    is_over: bool,
}

/// What becomes of a call, as far as loops are concerned.
#[derive(Debug, Default)]
pub struct Judgement {
    /// What the client is told of a call that goes on.
    pub warning: Option<String>,
    pub delay_ms: u64,
    /// It is let through to see whether the loop goes on.
    pub is_probe: bool,
}

/// How an answered call ended.
#[derive(Debug)]
pub struct Ended<'a> {
    pub said: &'a Said,
    pub response_id: Option<&'a str>,
    /// The upstream answered well and to the end.
    pub is_answered: bool,
    /// It said one piece over and over.
    pub chants: bool,
}

impl Loops {
    /// `keeper` keeps what happens.
    pub fn new(config: &Config, clock: Clock, keeper: Box<dyn Keeper>) -> Self {
        let attribution = &config.attribution;
        Self {
            lineage: Lineage::default(),
            identities: ArcSwap::from_pointee(Identities::new(&attribution.agents)),
            infer: AtomicBool::new(attribution.infer),
            config: ArcSwap::from_pointee(config.loops.clone()),
            runs: Default::default(),
            open: OpenTrips::default(),
            remote_trips: RemoteTrips::default(),
            redact: config.ledger.redact.clone(),
            swept_at: AtomicI64::new(0),
            keeper,
            clock,
        }
    }

    /// Takes over changed settings. What was counted so far stays.
    pub fn reload(&self, config: &Config) {
        let attribution = &config.attribution;
        let identities = Identities::new(&attribution.agents);
        self.identities.store(Arc::new(identities));
        self.infer.store(attribution.infer, Ordering::Relaxed);
        self.config.store(Arc::new(config.loops.clone()));
    }

    /// Judges a call that is about to go upstream.
    pub fn judge(
        &self,
        turn: &Turn,
        who: &Attribution,
        call: CallId,
    ) -> Result<Judgement, Box<Refusal>> {
        let config = self.config.load();
        let Some(run) = &who.run else {
            return Ok(Judgement::default());
        };
        let policy = config.policy_for(&who.agent);
        let now = self.clock.now();
        let caller = Caller {
            call,
            run: Some(run),
            conversation: who.conversation.as_ref(),
            agent: &who.agent,
            caller: who.caller.as_ref(),
            is_run_certain: who
                .run_source
                .is_some_and(|source| source < Source::Inferred),
            now,
        };
        let key = (turn.space.tenant, run.clone());
        if let Some(trip) = self.remote_trips.bars(&key, who, now) {
            return Err(Box::new(Refusal::Tripped(Box::new(trip))));
        }
        let watched = self.watched(&key);
        let verdict = {
            let mut watched = lock(&watched);
            watched.last_used = now;
            watched.is_guessed = !caller.is_run_certain;
            let verdict = if turn.is_retry {
                watched.guard.judge_retry(&turn.ask, &caller, policy)
            } else {
                watched.guard.judge(&turn.ask, &caller, policy)
            };
            if !watched.is_over {
                self.open.note(&key, &verdict);
            }
            verdict
        };
        self.tell(&verdict, (run, who));
        for trip in &verdict.changed {
            self.tell_remote(key.0, trip);
        }
        match verdict.refusal {
            Some(No::Tripped(trip)) => Err(Box::new(Refusal::Tripped(trip))),
            Some(No::Beyond(beyond)) => Err(Box::new(Refusal::Beyond(beyond, run.clone()))),
            None => Ok(Judgement {
                warning: verdict.warning.as_ref().map(refusal::describe),
                delay_ms: verdict.delay_ms,
                is_probe: verdict.is_probe,
            }),
        }
    }

    /// A call ended and nothing was heard of its answer.
    pub fn failed(&self, turn: &Turn, run: Option<&Label>) {
        let tenant = turn.space.tenant;
        if let Some(watched) = run.and_then(|run| self.known(tenant, run)) {
            lock(&watched).guard.fail(turn.ask.conversation);
        }
        let at = u64::try_from(self.clock.now().micros()).unwrap_or(0);
        Lineage::failed(&turn.thread, at);
        turn.end();
    }

    /// Takes the answer to a call in, as soon as it is there.
    pub fn ended(&self, turn: &Turn, run: Option<&Label>, ended: &Ended<'_>) {
        if !ended.is_answered {
            return self.failed(turn, run);
        }
        if ended.said.is_cut() {
            // What the next request repeats of it will be heard instead.
            self.failed(turn, run);
        }
        let at = u64::try_from(self.clock.now().micros()).unwrap_or(0);
        let calls: Vec<_> = ended.said.calls().collect();
        let made = read::calls_made(&calls);
        let answered = Answered {
            text: ended.said.text(),
            calls: &made,
            response_id: ended.response_id,
        };
        self.lineage
            .answered((turn.space, &turn.thread), turn.front, &answered, at);
        turn.end();
        if ended.said.is_cut() {
            return;
        }
        let answer = self.answer(turn, ended.said, ended.chants);
        let tenant = turn.space.tenant;
        if let Some(watched) = run.and_then(|run| self.known(tenant, run)) {
            let mut watched = lock(&watched);
            watched
                .guard
                .answer(turn.ask.conversation, &answer, turn.ask.idle_ms);
        }
    }

    /// An answer as it is compared.
    pub fn answer(&self, turn: &Turn, said: &Said, chants: bool) -> Answer {
        let config = self.config.load();
        let calls: Vec<_> = said.calls().collect();
        let reader = self.reader(&config, turn.shows);
        let mut answer = reader.answer(said.text(), &calls);
        answer.chants = chants;
        answer
    }

    /// What a call used, for the evidence of loops it may be part of.
    pub fn used(&self, turn: &Turn, run: Option<&Label>, call: CallId, tokens: u64) {
        let tenant = turn.space.tenant;
        if let Some(watched) = run.and_then(|run| self.known(tenant, run)) {
            lock(&watched).guard.used(call, tokens);
        }
    }

    /// Whether answers that chant are ended while they run.
    pub fn ends_chants(&self, agent: &Label) -> bool {
        let config = self.config.load();
        let settings = &config.policy_for(agent).settings;
        settings.mode == crate::core::loops::settings::Mode::Break && settings.chant.trip > 0
    }

    /// Lets go of guessed runs that were not used for an hour, and of those that were not used for
    /// longest beyond the configured number.
    pub fn sweep(&self) {
        let now = self.clock.now();
        let most = self.config.load().max_runs;
        let last = self.swept_at.load(Ordering::Relaxed);
        let is_due = now.micros().saturating_sub(last) > SWEEP_US;
        if self.watched_runs() <= most && !is_due {
            return;
        }
        self.swept_at.store(now.micros(), Ordering::Relaxed);
        let mut all = Vec::new();
        for shard in &self.runs {
            let runs: Vec<_> = lock(shard)
                .iter()
                .map(|(key, watched)| (key.clone(), Arc::clone(watched)))
                .collect();
            for (key, watched) in runs {
                let watched = lock(&watched);
                let idle_us = now.micros_since(watched.last_used);
                let is_over = watched.is_guessed && idle_us > IDLE_US;
                all.push((is_over, idle_us, key));
            }
        }
        let surplus = all.len().saturating_sub(most);
        let over = all.iter().filter(|(is_over, ..)| *is_over).count();
        let surplus = surplus.max(over);
        if surplus == 0 {
            return;
        }
        all.sort_unstable_by(|one, other| other.cmp(one));
        for (.., key) in all.into_iter().take(surplus) {
            let forgotten = lock(self.shard(&key)).remove(&key);
            let ended = forgotten.map(|watched| {
                let mut watched = lock(&watched);
                watched.is_over = true;
                let ended = watched.guard.end(now);
                self.open.close(&ended);
                ended
            });
            for trip in ended.into_iter().flatten() {
                self.tell_remote(0, &trip);
                self.event("loop_closed", refusal::closed(&trip), Some(trip));
            }
        }
    }

    /// Runs that are watched now.
    pub fn watched_runs(&self) -> usize {
        self.runs.iter().map(|shard| lock(shard).len()).sum()
    }

    fn reader<'a>(&'a self, config: &'a LoopsConfig, shows: bool) -> Reader<'a> {
        Reader {
            tools: &config.tools,
            redact: &self.redact,
            shows,
        }
    }

    fn tell(&self, verdict: &Verdict, (run, who): (&Label, &Attribution)) {
        let warnings = [
            ("loop_warning", &verdict.told),
            ("loop_slowed", &verdict.slowed),
        ];
        for (what, evidence) in warnings {
            let Some(evidence) = evidence else { continue };
            let (agent, text) = (&who.agent, refusal::evidence(evidence));
            let details = format!("{text}; agent {agent}, run {run}");
            let scope = Scope::new(About::Run, run).with_key(agent);
            let event = Event::own(self.clock.now(), what, Some(details));
            self.keeper.tell(event.saying(Signal {
                value: Some(format!("{} times", evidence.count)),
                ..Signal::of(scope)
            }));
        }
        for trip in &verdict.changed {
            let (what, details) = match &trip.closed {
                None => ("loop_tripped", refusal::opened(trip)),
                Some(_) => ("loop_closed", refusal::closed(trip)),
            };
            self.event(what, details, Some(trip.clone()));
        }
    }

    fn event(&self, what: &'static str, details: String, trip: Option<Trip>) {
        let mut event = Event::own(self.clock.now(), what, Some(details));
        event.trip = trip.map(Box::new);
        self.keeper.tell(event);
    }

    /// The run of this name, watched from now on.
    fn watched(&self, key: &Key) -> Arc<Mutex<Watched>> {
        let mut shard = lock(self.shard(key));
        if let Some(known) = shard.get(key) {
            return Arc::clone(known);
        }
        Arc::clone(shard.entry(key.clone()).or_default())
    }

    fn known(&self, tenant: u64, run: &Label) -> Option<Arc<Mutex<Watched>>> {
        let key = (tenant, run.clone());
        lock(self.shard(&key)).get(&key).map(Arc::clone)
    }

    fn shard(&self, (_, run): &Key) -> &Mutex<Shard> {
        let hash = xxhash_rust::xxh3::xxh3_64(run.as_str().as_bytes());
        let at = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        self.runs.get(at).unwrap_or(&self.runs[0])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
