//! What it takes to let one call through its budgets - find its accounts, hold all of them, settle
//! them - by the number of rules, and by how many of them are about the call.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use open_aiops::budgets::{Ask, Budgets, Used};
use open_aiops::clock::Clock;
use open_aiops::config::Config;
use open_aiops::core::attribution::{Attribution, Confidence, Source};
use open_aiops::core::budget::decide::{Need, Tariff};
use open_aiops::core::budget::{Limits, Rule};
use open_aiops::core::call::Operation;
use open_aiops::core::id::Label;
use open_aiops::core::money::NanoUsd;
use open_aiops::ledger;
use tokio::runtime::{Builder, Runtime};

fn label(text: &str) -> Option<Label> {
    Label::parse(text).ok()
}

fn attribution() -> Option<Attribution> {
    Some(Attribution {
        agent: label("researcher")?,
        caller: label("planner"),
        run: label("run-1"),
        parent_run: label("run-0"),
        path: Vec::new(),
        depth: 2,
        user: label("ada"),
        variant: None,
        conversation: None,
        tags: BTreeMap::new(),
        metrics: BTreeMap::new(),
        agent_source: Source::Own,
        run_source: Some(Source::Own),
        inferred: Confidence::default(),
    })
}

/// Rules as people write them: by agent and user, over a day, in dollars and tokens.
fn rules(count: usize, agent: &str) -> Vec<Rule> {
    let budget = |number: usize| {
        format!(
            "[[budget]]\nname = \"rule {number}\"\nper = [\"agent\", \"user\"]\n\
             match = {{ agent = \"{agent}\" }}\nusd = 900000\ntokens = 900_000_000_000\n\
             window = \"day\"\ntimezone = \"Europe/Berlin\"\nslow_at = 0.8\n"
        )
    };
    let text: String = (0..count).map(budget).collect();
    Config::parse("bench", &text, &|_| None)
        .map(|config| config.budgets)
        .unwrap_or_default()
}

fn engine(rules: &[Rule], dir: &Path) -> Option<Budgets> {
    let mut config = Config::default();
    dir.clone_into(&mut config.ledger.dir);
    let clock = Clock::System;
    let (ledger, _) = ledger::open(&config.ledger, clock.clone(), |_, _, _| None).ok()?;
    Some(Budgets::new(rules, 100_000, ledger, clock))
}

async fn one_call(budgets: &Budgets, ask: &Ask<'_>, need: &Need, clock: &Clock) -> bool {
    let Ok(mut claim) = budgets.claim(ask).await else {
        return false;
    };
    let exact = async || *need;
    let Ok(granted) = budgets
        .hold((&mut claim, ask), need, exact, Duration::ZERO)
        .await
    else {
        return false;
    };
    let used = Used {
        input_tokens: 900,
        output_tokens: 100,
        cost: Some(NanoUsd::new(2_000_000)),
        fallback: NanoUsd::ZERO,
        is_call: true,
    };
    granted
        .hold
        .settle(&used, clock.now(), |charges| drop(black_box(charges)));
    true
}

fn admissions(criterion: &mut Criterion) {
    let Some(runtime) = runtime() else { return };
    let (Some(who), Some(model), Some(upstream)) = (attribution(), label("gpt-5"), label("openai"))
    else {
        return;
    };
    let tariff = Tariff {
        before_output: NanoUsd::new(1_000_000),
        pico_usd_per_output_token: 10_000_000,
    };
    let need = Need {
        input_tokens: 1000,
        most_output: 4000,
        usual_output: 200,
        ample_output: 400,
        is_clampable: true,
        tariff: Some(tariff),
        fallback: tariff,
        calls: 1,
    };
    let ask = Ask {
        attribution: &who,
        key: None,
        model: Some(&model),
        upstream: &upstream,
        operation: Operation::Chat,
        tightened: Limits::default(),
    };
    let mut group = criterion.benchmark_group("call through its budgets");
    for (kind, agent) in [
        ("rules about it", "research*"),
        ("rules about others", "writer"),
    ] {
        for count in [0, 1, 20, 200] {
            let Ok(dir) = tempfile::tempdir() else { return };
            let Some(budgets) = engine(&rules(count, agent), dir.path()) else {
                return;
            };
            let clock = Clock::System;
            group.bench_function(BenchmarkId::new(kind, count), |bencher| {
                bencher.iter(|| runtime.block_on(one_call(&budgets, &ask, &need, &clock)));
            });
        }
    }
}

fn runtime() -> Option<Runtime> {
    Builder::new_current_thread().enable_all().build().ok()
}

criterion_group!(benches, admissions);
criterion_main!(benches);
