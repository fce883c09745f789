//! What the pages of the dashboard ask of the ledger, over one with many calls.
//!
//! `PAGES_CALLS` says how many it has (20,000 when not given), `PAGES_DIR` names a ledger made by the
//! example `fill_ledger` instead.

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};

use open_aiops::clock::Clock;
use open_aiops::core::compare::{By as Arms, Comparison, Success};
use open_aiops::core::id::Label;
use open_aiops::core::time::Timestamp;
use open_aiops::ledger::check::open_read_only;
use open_aiops::ledger::{
    By, CallFilter, CompareFilter, RunFilter, SeriesFilter, SpanFilter, Standing, View,
};

#[path = "../examples/fill_ledger/made.rs"]
mod made;

const HOUR_US: u64 = 3_600_000_000;

fn series(since: Timestamp, until: Timestamp, by: By) -> SeriesFilter {
    SeriesFilter {
        since,
        until,
        by,
        agent: None,
        model: None,
        step_us: None,
    }
}

/// The ranges of the range picker.
const SPANS: [(&str, u64); 5] = [
    ("15m", HOUR_US / 4),
    ("1h", HOUR_US),
    ("24h", 24 * HOUR_US),
    ("7d", 7 * 24 * HOUR_US),
    ("30d", 30 * 24 * HOUR_US),
];

fn spans(criterion: &mut Criterion, view: &View, now: Timestamp) {
    for (name, length) in SPANS {
        let since = Timestamp::from_micros(now.micros().saturating_sub_unsigned(length));
        let span = SpanFilter {
            since: Some(since),
            ..SpanFilter::default()
        };
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        let drawn = series(since, now, By::Agent);
        group.bench_function("series by agent, totals, span before", |bencher| {
            bencher.iter(|| black_box(view.series(&drawn).ok()));
        });
        group.bench_function("agents", |bencher| {
            bencher.iter(|| black_box(view.agents(&span).ok()));
        });
        group.bench_function("edges", |bencher| {
            bencher.iter(|| black_box(view.edges(&span).ok()));
        });
        group.bench_function("models", |bencher| {
            bencher.iter(|| black_box(view.models(&span).ok()));
        });
        group.finish();
    }
}

fn runs(criterion: &mut Criterion, view: &View) {
    let span = SpanFilter {
        limit: 100,
        ..SpanFilter::default()
    };
    let all = RunFilter {
        span,
        ..RunFilter::default()
    };
    let mut group = criterion.benchmark_group("runs");
    group.sample_size(10);
    let filters = [
        ("newest 100", all.clone()),
        (
            "of an agent",
            RunFilter {
                agent: Label::parse("lawyer").ok(),
                ..all.clone()
            },
        ),
        (
            "none matches",
            RunFilter {
                standing: Some(Standing::Stopped),
                ..all.clone()
            },
        ),
        (
            "text",
            RunFilter {
                text: Some("9999".to_owned()),
                ..all
            },
        ),
    ];
    for (name, filter) in filters {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(view.runs(&filter).ok()));
        });
    }
    // The first run is of ten thousand calls.
    for name in [
        "planner",
        "supervisor",
        "triage",
        "editor",
        "analyst",
        "crawler",
        "coordinator",
        "tutor",
    ] {
        let Ok(run) = Label::parse(&format!("{name}-00000")) else {
            continue;
        };
        if !matches!(view.run(&run), Ok(Some(_))) {
            continue;
        }
        group.bench_function("long run: agents, edges, children", |bencher| {
            bencher.iter(|| black_box(view.run(&run).ok()));
        });
        group.bench_function("long run: a window of 200 calls in its middle", |bencher| {
            bencher.iter(|| black_box(view.run_calls(&run, 5000, 200).ok()));
        });
        group.bench_function("long run: all its marks", |bencher| {
            bencher.iter(|| black_box(view.run_marks(&run).ok()));
        });
    }
    group.finish();
}

fn calls(criterion: &mut Criterion, view: &View) {
    let all = CallFilter {
        limit: 100,
        ..CallFilter::default()
    };
    let mut group = criterion.benchmark_group("calls");
    group.sample_size(10);
    let filters = [
        ("newest 100", all.clone()),
        (
            "of an agent",
            CallFilter {
                agent: Label::parse("lawyer").ok(),
                ..all.clone()
            },
        ),
        (
            "failed",
            CallFilter {
                failed: true,
                ..all.clone()
            },
        ),
        (
            "none matches",
            CallFilter {
                text: Some("nowhere to be found".to_owned()),
                ..all
            },
        ),
    ];
    for (name, filter) in filters {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(view.calls(&filter).ok()));
        });
    }
    group.finish();
}

fn comparisons(criterion: &mut Criterion, view: &View, now: Timestamp) {
    let mut group = criterion.benchmark_group("compare, 7d");
    group.sample_size(10);
    let week = now.micros().saturating_sub_unsigned(7 * 24 * HOUR_US);
    for by in [Arms::Variant, Arms::Agent] {
        let filter = CompareFilter {
            by: by.clone(),
            since: Some(Timestamp::from_micros(week)),
            ..CompareFilter::default()
        };
        group.bench_function(format!("runs gathered by {by}"), |bencher| {
            bencher.iter(|| black_box(view.gather(&filter).ok()));
        });
        let Ok(gathered) = view.gather(&filter) else {
            continue;
        };
        group.bench_function(format!("figures and intervals by {by}"), |bencher| {
            bencher.iter(|| {
                let how = (&Success::Outcome, [].as_slice());
                black_box(Comparison::new(
                    by.to_string(),
                    &gathered.runs,
                    (None, None),
                    how,
                ))
            });
        });
    }
    group.finish();
}

#[expect(clippy::disallowed_methods, reason = "a bench has no other options")]
fn option(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn pages(criterion: &mut Criterion) {
    let named = option("PAGES_DIR").map(PathBuf::from);
    let count = option("PAGES_CALLS");
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(20_000);
    let Ok(temporary) = tempfile::tempdir_in(".") else {
        return;
    };
    let dir = named.clone().unwrap_or_else(|| temporary.path().to_owned());
    if named.is_none() {
        let plan = made::Plan {
            calls: count,
            days: 30,
            seed: 1,
            until: Clock::System.now(),
        };
        let filled = made::fill(&dir, plan, |_| ());
        assert!(filled.is_ok_and(|dropped| dropped == 0), "a ledger is made");
    }
    let Ok(ledger) = open_read_only(&dir) else {
        return;
    };
    let view = ledger.view();
    // A page of now: of a ledger made earlier, the time of its last call.
    let newest = CallFilter {
        limit: 1,
        ..CallFilter::default()
    };
    let newest = view.calls(&newest).ok();
    let newest = newest.and_then(|page| page.items.into_iter().next());
    let Some(newest) = newest else { return };
    let now = newest.started_at.plus_micros(60_000_000);
    spans(criterion, view, now);
    runs(criterion, view);
    calls(criterion, view);
    comparisons(criterion, view, now);
}

criterion_group!(benches, pages);
criterion_main!(benches);
