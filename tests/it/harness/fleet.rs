//! Budgets without a proxy around them, on one instance or on several that share a Redis.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use open_aiops::budgets::{AccountFilter, Ask, Budgets, Granted, Refusal, RuleRow, Used};
use open_aiops::clock::Clock;
use open_aiops::config::{Config, LedgerConfig, SharedConfig};
use open_aiops::core::attribution::{Attribution, Confidence, Source};
use open_aiops::core::budget::decide::{Need, Tariff};
use open_aiops::core::budget::{AccountName, Limits};
use open_aiops::core::call::Operation;
use open_aiops::core::money::NanoUsd;
use open_aiops::core::time::Timestamp;
use open_aiops::ledger::{self, Ledger, OpenError};
use open_aiops::shared::reader::{Follow, Heard};
use open_aiops::shared::{Shared, Standing};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::accounts::label;
use super::within;

const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// One process, as far as budgets are concerned.
pub(crate) struct Instance {
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) shared: Option<Arc<Shared>>,
    step: Step,
    hears: Mutex<Vec<Step>>,
    config: Config,
    clock: Clock,
    dir: Arc<TempDir>,
}

struct Follower(Arc<Budgets>);

impl Follow for Follower {
    async fn follow(&self, heard: Heard) {
        self.0.follow(heard).await;
    }
}

/// What keeps an instance in step. Dropping it ends that.
struct Step(JoinHandle<()>);

/// What all calls of a test used and hold together, as they know it.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) used: AtomicI64,
    pub(crate) held: AtomicI64,
    pub(crate) running: AtomicI64,
    pub(crate) most_running: AtomicI64,
    pub(crate) calls: AtomicI64,
}

pub(crate) fn config(budgets: &str) -> Config {
    Config::parse("test", budgets, &|_| None).unwrap()
}

impl Instance {
    pub(crate) async fn start(
        config: &Config,
        shared: Option<&SharedConfig>,
        clock: &Clock,
    ) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let instance = Self::open(config, shared, clock, dir);
        instance.joined().await;
        instance
    }

    fn open(
        config: &Config,
        shared: Option<&SharedConfig>,
        clock: &Clock,
        dir: Arc<TempDir>,
    ) -> Self {
        let mut config = config.clone();
        dir.path().clone_into(&mut config.ledger.dir);
        config.shared = shared.cloned();
        let ledger = open_ledger(&config.ledger, clock);
        let seed = ledger.seed();
        let shared = shared.map(|it| Arc::new(Shared::new(it, seed.0, clock.clone()).unwrap()));
        let mut budgets = Budgets::new(&config.budgets, 1000, ledger, clock.clone());
        if let Some(shared) = &shared {
            budgets = budgets.sharing(Arc::clone(shared));
        }
        let budgets = Arc::new(budgets);
        let step = Step(tokio::spawn(Arc::clone(&budgets).keep_in_step()));
        Self {
            budgets,
            shared,
            step,
            hears: Mutex::default(),
            config,
            clock: clock.clone(),
            dir,
        }
    }

    pub(crate) async fn joined(&self) {
        if let Some(shared) = &self.shared {
            within("joining", shared.until(Standing::Joined)).await;
        }
    }

    pub(crate) async fn away(&self) {
        if let Some(shared) = &self.shared {
            within("losing Redis", shared.until(Standing::Away)).await;
        }
    }

    /// Hears of deeds of others from now on.
    pub(crate) fn hear(&self, budgets: Arc<Budgets>) {
        let shared = self.shared.clone().unwrap();
        let hears = tokio::spawn(async move { shared.hear(&Follower(budgets)).await });
        self.hears.lock().unwrap().push(Step(hears));
    }

    /// It is gone without a word: what it holds stays where it is.
    pub(crate) fn die(&self) {
        self.step.0.abort();
    }

    /// Another process on the same ledger.
    pub(crate) async fn again(self) -> Self {
        self.die();
        let Self {
            budgets,
            config,
            clock,
            dir,
            mut step,
            hears,
            ..
        } = self;
        for mut hears in hears.into_inner().unwrap() {
            hears.0.abort();
            let _ = (&mut hears.0).await;
        }
        let _ = (&mut step.0).await;
        drop((step, budgets));
        // An incarnation is told from the one before by its time.
        clock.advance_micros(1);
        let again = Self::open(&config, config.shared.as_ref(), &clock, dir);
        again.joined().await;
        again
    }

    /// One call, held; `most` tokens of output.
    pub(crate) async fn hold(
        &self,
        agent: &str,
        most: i64,
        patience: Duration,
    ) -> Result<Granted, Refusal> {
        let said = (&attribution(agent), Limits::default());
        self.hold_as(said, most, patience).await
    }

    /// The same, of a call that says this of itself and allows its run no more than that.
    pub(crate) async fn hold_as(
        &self,
        (attribution, tightened): (&Attribution, Limits),
        most: i64,
        patience: Duration,
    ) -> Result<Granted, Refusal> {
        let (model, upstream) = (label("gpt-5"), label("openai"));
        let ask = Ask {
            attribution,
            key: None,
            model: Some(&model),
            upstream: &upstream,
            operation: Operation::Chat,
            tightened,
        };
        let need = need(most);
        let mut claim = self.budgets.claim(&ask).await.unwrap();
        self.budgets.enter(&claim, patience).await?;
        let granted = self
            .budgets
            .hold((&mut claim, &ask), &need, async || need, patience)
            .await?;
        self.budgets.open_accounts(&claim);
        Ok(granted)
    }

    pub(crate) fn settle(&self, granted: Granted, output: i64) {
        let now = self.budgets.now();
        granted.hold.settle(&used(output), now, |charges| {
            let act = open_aiops::core::budget::Act {
                at: self.clock.now(),
                who: "test".to_owned(),
                deed: open_aiops::core::budget::Deed::ChargesRecorded(charges),
                details: format!("{:?}", self.clock.call_id()),
            };
            drop(self.budgets.ledger().act(act).unwrap());
        });
    }

    /// Holds, and keeps the books of the test.
    pub(crate) async fn call(&self, truth: &Truth, (most, output): (i64, i64)) -> bool {
        let Ok(granted) = self.hold("a", most, Duration::from_secs(20)).await else {
            return false;
        };
        let held = 10 + granted.hold.output_tokens();
        truth.held.fetch_add(held, Ordering::SeqCst);
        let running = truth.running.fetch_add(1, Ordering::SeqCst) + 1;
        truth.most_running.fetch_max(running, Ordering::SeqCst);
        truth.calls.fetch_add(1, Ordering::SeqCst);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let output = output.min(granted.hold.output_tokens());
        truth.used.fetch_add(10 + output, Ordering::SeqCst);
        truth.held.fetch_sub(held, Ordering::SeqCst);
        truth.running.fetch_sub(1, Ordering::SeqCst);
        self.settle(granted, output);
        true
    }

    /// What all instances used and hold of the first account of this kind, and how many calls run, as
    /// this one is told when it asks.
    async fn standing(&self, is_it: impl Fn(&AccountName) -> bool) -> (i64, i64, i64) {
        let rows = listed(&self.budgets).await;
        let mut accounts = rows.iter().flat_map(|row| &row.accounts);
        let account = accounts.find(|account| is_it(&account.name));
        account.map_or((0, 0, 0), |account| {
            let measure = &account.measures[0];
            (measure.used, measure.held, account.running)
        })
    }

    /// Resolves when the first account stands so.
    pub(crate) async fn stands(&self, wanted: (i64, i64, i64)) {
        self.until(|_| true, wanted).await;
    }

    /// Resolves when the account of a run stands so.
    pub(crate) async fn run_stands(&self, run: &str, wanted: (i64, i64, i64)) {
        let run = label(run);
        let is_it = |name: &AccountName| {
            let mut key = name.key.iter();
            key.any(|(_, value)| value.as_ref() == Some(&run))
        };
        self.until(is_it, wanted).await;
    }

    async fn until(&self, is_it: impl Fn(&AccountName) -> bool, wanted: (i64, i64, i64)) {
        let stands = async {
            while self.standing(&is_it).await != wanted {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), stands)
            .await
            .is_err()
        {
            panic!(
                "stands at {:?}, not at {wanted:?}",
                self.standing(&is_it).await
            );
        }
    }
}

/// The accounts that an instance knows, with what all have of them.
pub(crate) async fn listed(budgets: &Budgets) -> Vec<RuleRow> {
    let list = || budgets.list(&AccountFilter::default()).unwrap();
    budgets.look_at(RuleRow::names(&list())).await;
    list()
}

/// The process before may have let go of it hardly yet: what it read on other threads goes on.
fn open_ledger(config: &LedgerConfig, clock: &Clock) -> Ledger {
    let start = std::time::Instant::now();
    loop {
        match ledger::open(config, clock.clone(), |_, _, _| None) {
            Err(OpenError::Locked { .. }) if start.elapsed() < PATIENCE => {
                std::thread::yield_now();
            }
            opened => return opened.unwrap().0,
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a call says of itself.
pub(crate) fn attribution(agent: &str) -> Attribution {
    Attribution {
        agent: label(agent),
        caller: None,
        run: Some(label("run-1")),
        parent_run: None,
        path: Vec::new(),
        depth: 1,
        user: None,
        variant: None,
        conversation: None,
        tags: BTreeMap::new(),
        metrics: BTreeMap::new(),
        agent_source: Source::Own,
        run_source: Some(Source::Own),
        inferred: Confidence::default(),
    }
}

/// 10 tokens in, up to `most` out, 40 as a rule.
fn need(most: i64) -> Need {
    let tariff = Tariff {
        before_output: NanoUsd::new(10_000),
        pico_usd_per_output_token: 2_000_000,
    };
    Need {
        input_tokens: 10,
        most_output: most,
        usual_output: 40.min(most),
        ample_output: 40.min(most),
        is_clampable: true,
        tariff: Some(tariff),
        fallback: tariff,
        calls: 1,
    }
}

fn used(output_tokens: i64) -> Used {
    Used {
        input_tokens: 10,
        output_tokens,
        cost: Some(NanoUsd::new(10_000 + 2_000 * output_tokens)),
        fallback: NanoUsd::ZERO,
        is_call: true,
    }
}
