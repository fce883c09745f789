//! What holds of budgets holds of those that several instances share: the same properties, asked of
//! one instance alone and of three at one Redis.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use open_aiops::budgets::Refusal;
use open_aiops::budgets::ask::Measured;
use open_aiops::clock::Clock;
use open_aiops::core::attribution::Attribution;
use open_aiops::core::budget::Limits;
use open_aiops::core::id::Label;
use open_aiops::core::metric::{Measurement, Subject, Value};

use crate::harness::fleet::{Instance, NOW, Truth, attribution, config, listed};
use crate::harness::redis::Redis;
use crate::harness::within;

const NONE: Duration = Duration::ZERO;
const PATIENT: Duration = Duration::from_secs(20);

/// One instance alone, then three that share; each property is asked of both.
struct World {
    instances: Vec<Arc<Instance>>,
    clock: Clock,
    _redis: Option<Redis>,
}

impl World {
    async fn alone(budgets: &str) -> Self {
        let clock = Clock::manual(NOW);
        let one = Instance::start(&config(budgets), None, &clock).await;
        Self {
            instances: vec![Arc::new(one)],
            clock,
            _redis: None,
        }
    }

    async fn three(budgets: &str) -> Option<Self> {
        let redis = Redis::start()?;
        let (clock, shared) = (Clock::manual(NOW), redis.config());
        let mut instances = Vec::new();
        for _ in 0..3 {
            let one = Instance::start(&config(budgets), Some(&shared), &clock).await;
            instances.push(Arc::new(one));
        }
        Some(Self {
            instances,
            clock,
            _redis: Some(redis),
        })
    }

    fn of(&self, n: usize) -> &Arc<Instance> {
        &self.instances[n % self.instances.len()]
    }

    /// The first is asked last: asking puts in what an instance has.
    async fn all_stand(&self, wanted: (i64, i64, i64)) {
        for instance in self.instances.iter().rev() {
            instance.stands(wanted).await;
        }
    }
}

/// Asks a property of both worlds.
macro_rules! contract {
    ($($name:ident: $budgets:expr, $property:ident;)*) => {
        mod alone {
            $(#[tokio::test]
            async fn $name() {
                super::$property(super::World::alone($budgets).await).await;
            })*
        }
        mod shared {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(world) = super::World::three($budgets).await {
                    super::$property(world).await;
                }
            })*
        }
    };
}

contract! {
    no_limit_is_passed_by_any_number_of_calls_at_once:
        "[[budget]]\nname = \"all\"\ntokens = 3000\n", no_overshoot;
    calls_are_counted_one_by_one:
        "[[budget]]\nname = \"all\"\ncalls = 50\n", counts_calls;
    no_more_calls_run_at_once_than_may:
        "[[budget]]\nname = \"all\"\nconcurrent = 4\n", concurrency;
    all_accounts_are_held_or_none:
        "[[budget]]\nname = \"wide\"\ntokens = 100_000\n[[budget]]\nname = \"narrow\"\ntokens = 20\n",
        all_or_none;
    who_waits_goes_on_when_another_call_ends:
        "[[budget]]\nname = \"all\"\ntokens = 100\n", waiting;
    hold_that_is_dropped_is_given_back:
        "[[budget]]\nname = \"all\"\ntokens = 100\n", released;
    what_was_spent_leaves_with_its_window:
        "[[budget]]\nname = \"all\"\ntokens = 100\nwindow = \"1m\"\n", rolling_window;
    what_was_spent_leaves_with_its_day:
        "[[budget]]\nname = \"all\"\ntokens = 100\nwindow = \"day\"\n", calendar_window;
    no_sum_of_a_metric_is_passed_by_any_number_of_calls_at_once:
        "[[budget]]\nname = \"all\"\nmetric = { documents = 20 }\n", measured_at_once;
    call_that_measures_nothing_finds_that_all_of_a_metric_is_used:
        "[[budget]]\nname = \"all\"\nmetric = { documents = 20 }\n", measured_elsewhere;
    what_is_measured_later_counts_by_its_last_value:
        "[[budget]]\nname = \"all\"\nmetric = { documents = 20 }\n", measured_later;
}

async fn no_overshoot(world: World) {
    let truth = Arc::<Truth>::default();
    let calls = (0..240).map(|n| {
        let (instance, truth) = (Arc::clone(world.of(n)), Arc::clone(&truth));
        let most = [30, 200, 100_000][n / 3 % 3];
        let output = i64::try_from(n % 60).unwrap();
        tokio::spawn(async move {
            instance.call(&truth, (most, output)).await;
            let taken = truth.used.load(Ordering::SeqCst) + truth.held.load(Ordering::SeqCst);
            assert!(taken <= 3000, "{taken} are used and held");
        })
    });
    for call in calls.collect::<Vec<_>>() {
        within("a call", call).await.unwrap();
    }
    let used = truth.used.load(Ordering::SeqCst);
    assert!(
        (2900..=3000).contains(&used),
        "{used} used: room was left or passed"
    );
    world.all_stand((used, 0, 0)).await;
}

async fn counts_calls(world: World) {
    let truth = Arc::<Truth>::default();
    let calls = (0..150).map(|n| {
        let (instance, truth) = (Arc::clone(world.of(n)), Arc::clone(&truth));
        tokio::spawn(async move { instance.call(&truth, (30, 5)).await })
    });
    let mut made = 0;
    for call in calls.collect::<Vec<_>>() {
        made += i64::from(within("a call", call).await.unwrap());
    }
    assert_eq!(made, 50);
    world.all_stand((50, 0, 0)).await;
}

async fn concurrency(world: World) {
    let truth = Arc::<Truth>::default();
    let calls = (0..60).map(|n| {
        let (instance, truth) = (Arc::clone(world.of(n)), Arc::clone(&truth));
        tokio::spawn(async move { instance.call(&truth, (30, 5)).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(within("a call", call).await.unwrap(), "each has its turn");
    }
    let most = truth.most_running.load(Ordering::SeqCst);
    assert!(most <= 4, "{most} ran at once");
    world.all_stand((0, 0, 0)).await;
}

async fn all_or_none(world: World) {
    for n in 0..world.instances.len() {
        assert!(world.of(n).hold("a", 80, NONE).await.is_err());
    }
    for instance in &world.instances {
        for row in listed(&instance.budgets).await {
            for account in row.accounts {
                assert_eq!(account.running, 0, "{}", account.name);
                assert!(
                    account
                        .measures
                        .iter()
                        .all(|it| it.held == 0 && it.used == 0)
                );
            }
        }
    }
}

async fn waiting(world: World) {
    let first = world.of(0).hold("a", 90, NONE).await.unwrap();
    assert_eq!(first.hold.output_tokens(), 90);
    let waits = Arc::clone(world.of(1));
    let second = tokio::spawn(async move { waits.hold("a", 60, Duration::from_secs(20)).await });
    let busy = world.of(2).hold("a", 60, Duration::from_millis(1)).await;
    assert!(
        matches!(busy, Err(Refusal::Busy(_))),
        "it waits, and is not refused for good"
    );
    world.of(0).settle(first, 5);
    let second = within("its turn", second).await.unwrap().unwrap();
    assert_eq!(second.hold.output_tokens(), 60);
    world.of(1).settle(second, 60);
    let third = world.of(2).hold("a", 60, PATIENT).await;
    assert!(
        matches!(third, Err(Refusal::Spent(_))),
        "85 of 100 are used"
    );
    world.all_stand((85, 0, 0)).await;
}

async fn released(world: World) {
    for n in 0..6 {
        let granted = world
            .of(n)
            .hold("a", 90, Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(granted.hold.output_tokens(), 90);
        drop(granted);
        world.of(n + 1).stands((0, 0, 0)).await;
    }
}

async fn rolling_window(world: World) {
    drop(world.of(1).hold("a", 80, NONE).await.unwrap());
    let first = world.of(0).hold("a", 80, PATIENT).await.unwrap();
    world.of(0).settle(first, 80);
    world.of(1).stands((90, 0, 0)).await;
    let Err(Refusal::Spent(standing)) = world.of(1).hold("a", 80, NONE).await else {
        panic!("90 of 100 are used");
    };
    let fits_at = standing.fits_at.unwrap();
    assert_eq!(
        fits_at.micros_since(NOW) / 1_000_000,
        61,
        "all of it leaves at once"
    );
    world.clock.advance_micros(62_000_000);
    let second = world.of(1).hold("a", 80, NONE).await.unwrap();
    assert_eq!(second.hold.output_tokens(), 80);
}

async fn calendar_window(world: World) {
    drop(world.of(1).hold("a", 80, NONE).await.unwrap());
    let first = world.of(0).hold("a", 80, PATIENT).await.unwrap();
    world.of(0).settle(first, 80);
    world.of(1).stands((90, 0, 0)).await;
    assert!(world.of(1).hold("a", 80, NONE).await.is_err());
    world.clock.advance_micros(86_400_000_000);
    let second = world.of(1).hold("a", 80, NONE).await.unwrap();
    assert_eq!(second.hold.output_tokens(), 80);
    drop(second);
    world.all_stand((0, 0, 0)).await;
}

/// A call that says that it read so many documents.
fn reading(documents: f64) -> Attribution {
    let documents = Value::number(documents).unwrap();
    Attribution {
        metrics: BTreeMap::from([("documents".to_owned(), documents)]),
        ..attribution("a")
    }
}

async fn read(instance: &Instance, documents: f64) -> Result<(), Refusal> {
    let said = (&reading(documents), Limits::default());
    let granted = instance.hold_as(said, 5, PATIENT).await?;
    instance.settle(granted, 5);
    Ok(())
}

async fn measured_at_once(world: World) {
    let calls = (0..24).map(|n| {
        let instance = Arc::clone(world.of(n));
        tokio::spawn(async move { read(&instance, 3.0).await })
    });
    let mut made = 0;
    for call in calls.collect::<Vec<_>>() {
        made += i64::from(within("a call", call).await.unwrap().is_ok());
    }
    assert_eq!(made, 6, "one more would pass it");
    world.all_stand((18_000_000, 0, 0)).await;
}

async fn measured_elsewhere(world: World) {
    for n in 0..3 {
        read(world.of(n), 1.0).await.unwrap();
    }
    world.all_stand((3_000_000, 0, 0)).await;
    read(world.of(0), 17.0).await.unwrap();
    // When it asked last there were 17 left.
    let spent = world.of(2).hold("a", 5, PATIENT).await;
    assert!(matches!(spent, Err(Refusal::Spent(_))));
    world.all_stand((20_000_000, 0, 0)).await;
}

/// Somebody says this of a run, in the place of what was said before.
fn measure(instance: &Instance, documents: f64, before: Option<&Measurement>) -> Measurement {
    let run = Label::parse("run-1").unwrap();
    let it = Measurement {
        at: NOW,
        name: "documents".to_owned(),
        value: Value::number(documents).unwrap(),
        subject: Subject::Run(run.clone()),
        who: Label::parse("judge").unwrap(),
        note: None,
        key: None,
        run: Some(run.clone()),
        agent: None,
        charged: None,
        instance: None,
    };
    let whose = Measured {
        run: Some(&run),
        ..Measured::default()
    };
    let budgets = &instance.budgets;
    budgets
        .charge_measured(it, before, &whose, Ok::<_, ()>)
        .unwrap()
}

async fn measured_later(world: World) {
    for n in 0..3 {
        read(world.of(n), 1.0).await.unwrap();
    }
    world.all_stand((3_000_000, 0, 0)).await;
    let before = measure(world.of(0), 18.0, None);
    world.all_stand((21_000_000, 0, 0)).await;
    let spent = read(world.of(1), 1.0).await;
    assert!(matches!(spent, Err(Refusal::Spent(_))), "it was too much");
    measure(world.of(0), 5.0, Some(&before));
    world.all_stand((8_000_000, 0, 0)).await;
    read(world.of(1), 12.0).await.unwrap();
    world.all_stand((20_000_000, 0, 0)).await;
}
