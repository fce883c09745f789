//! Differences and their intervals: against scipy, and what must hold of any data.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use super::bootstrap::{Value, difference, holm, median, statistic};
use super::{AgentFigures, Compared, Comparison, RunFigures, Success, Verdict};
use crate::core::id::Label;

/// Made by `tests/compare/scipy_golden.py`.
const GOLDEN: &str = include_str!("../../../tests/compare/golden.json");

#[derive(Deserialize)]
struct Case {
    name: String,
    a: Vec<[f64; 2]>,
    b: Vec<[f64; 2]>,
    difference: f64,
    low: f64,
    high: f64,
    /// How far the ends wander from seed to seed, in scipy itself.
    noise: f64,
}

fn pairs(values: &[[f64; 2]]) -> Vec<Value> {
    let value = |[top, of]: &[f64; 2]| Value { top: *top, of: *of };
    values.iter().map(value).collect()
}

fn plain(values: &[f64]) -> Vec<Value> {
    values.iter().copied().map(Value::new).collect()
}

#[test]
fn differences_and_intervals_are_those_of_scipy() {
    let cases: Vec<Case> = serde_json::from_str(GOLDEN).unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let found = difference(&pairs(&case.a), &pairs(&case.b), 10_000).unwrap();
        let name = &case.name;
        let near = |found: f64, expected: f64, most: f64| (found - expected).abs() <= most;
        let scale = case.difference.abs().max(1.0);
        assert!(
            near(found.difference, case.difference, 1e-9 * scale),
            "{name}"
        );
        // Both wander: what is compared with is the mean of many seeds.
        let most = 5.0 * case.noise + 1e-9 * scale;
        assert!(
            near(found.low, case.low, most),
            "{name}: {found:?} {}",
            case.low
        );
        assert!(
            near(found.high, case.high, most),
            "{name}: {found:?} {}",
            case.high
        );
    }
}

/// Numbers that are spread like costs: many small ones, a few large.
fn skewed(seed: u64, n: usize) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        f64::from(u32::try_from(state >> 33).unwrap()) / f64::from(1_u32 << 31)
    };
    (0..n).map(|_| -next().max(1e-9).ln() * 10.0).collect()
}

#[test]
fn arms_alike_seldom_seem_to_differ() {
    let (mut outside, trials) = (0_u32, 400);
    for trial in 0..trials {
        let (a, b) = (skewed(trial * 2 + 1, 30), skewed(trial * 7919 + 4, 30));
        let found = difference(&plain(&a), &plain(&b), 1000).unwrap();
        outside += u32::from(found.low > 0.0 || found.high < 0.0);
        assert_eq!(
            found.p < 0.05,
            found.low > 0.0 || found.high < 0.0,
            "{found:?}"
        );
    }
    // 5 % of 400 is 20; a little more, as the samples are small.
    assert!((6..=40).contains(&outside), "{outside} of {trials}");
}

#[test]
fn values_all_alike_have_an_interval_without_width() {
    let found = difference(&plain(&[3.0; 25]), &plain(&[5.0; 25]), 1000).unwrap();
    assert_eq!((found.low, found.high, found.difference), (2.0, 2.0, 2.0));
    assert!(found.p < 0.01, "{found:?}");
    let same = difference(&plain(&[3.0; 25]), &plain(&[3.0; 25]), 1000).unwrap();
    assert_eq!((same.low, same.high, same.p), (0.0, 0.0, 1.0));
}

fn run(n: usize, errors: u64, agents: BTreeMap<Label, AgentFigures>) -> RunFigures {
    RunFigures {
        run: Label::parse(&format!("run-{n}")).unwrap(),
        calls: 4,
        errors,
        input_tokens: 0,
        output_tokens: 0,
        cache_read_input_tokens: 0,
        cost: None,
        duration_us: 7,
        first_chunk_us: None,
        is_stopped: errors > 0,
        ended_well: errors == 0,
        metrics: BTreeMap::new(),
        agents,
    }
}

/// Two arms of runs, each with four calls, so many of which failed; every other figure is alike.
fn told(a: &[u64], b: &[u64]) -> Comparison {
    let arm = |errors: &[u64]| {
        errors
            .iter()
            .enumerate()
            .map(|(n, it)| run(n, *it, BTreeMap::new()))
            .collect()
    };
    let arms = BTreeMap::from([("a".to_owned(), arm(a)), ("b".to_owned(), arm(b))]);
    Comparison::new(
        "variant".to_owned(),
        &arms,
        (None, None),
        (&Success::Outcome, &[]),
    )
}

fn of<'a>(told: &'a Comparison, key: &str) -> &'a Compared {
    told.measures.iter().find(|it| it.key == key).unwrap()
}

#[test]
fn arm_in_which_nothing_failed_is_not_taken_for_certain() {
    let none = [0; 20];
    let mut four = [0; 20];
    four[..4].fill(2);
    let found = told(&none, &four);
    for key in ["trip_rate", "success_rate", "error_rate"] {
        let it = of(&found, key);
        assert_eq!(it.verdict, Verdict::NoDifferenceShown, "{key}: {it:?}");
        // Four of twenty and none of twenty: Fisher's exact test says 0.11.
        assert!(it.p.unwrap() > 0.03, "{key}: {it:?}");
    }
    let mut many = [2; 20];
    many[..4].fill(0);
    let found = told(&none, &many);
    for key in ["trip_rate", "success_rate", "error_rate"] {
        assert_ne!(of(&found, key).verdict, Verdict::NoDifferenceShown, "{key}");
    }
    assert!(
        found
            .sentence
            .contains("share of runs a breaker stopped is higher by 80.0 points")
    );
}

#[test]
fn what_was_read_in_part_is_not_told_as_all() {
    let whole = told(&[0; 20], &[2; 20]);
    let newest = whole.clone().of_the_newest().sentence;
    assert_eq!(
        newest,
        format!(
            "Of the newest, which is all that is read: {}",
            whole.sentence
        )
    );
    let of_time = Comparison {
        by: "time".to_owned(),
        ..whole.clone()
    };
    let sentence = of_time.of_the_newest().sentence;
    assert!(
        sentence.starts_with("Of the newest in each span, "),
        "{sentence}"
    );
    let lacking = Comparison { b: None, ..whole };
    let sentence = lacking.of_the_newest().sentence;
    assert!(sentence.ends_with("choose a shorter span."), "{sentence}");
}

#[test]
fn run_that_a_breaker_stopped_is_no_success_whatever_was_measured() {
    let success: Success = "metric:score>=0.5".parse().unwrap();
    let mut scored = run(1, 0, BTreeMap::new());
    assert_eq!(success.of(&scored), None);
    scored.metrics.insert("score".to_owned(), 0.9);
    assert_eq!(success.of(&scored), Some(true));
    scored.is_stopped = true;
    assert_eq!(success.of(&scored), Some(false));
}

#[test]
fn a_dozen_runs_of_each_conclude_nothing_however_far_apart_they_are() {
    let found = told(&[0; 12], &[4; 12]);
    assert!(
        found
            .sentence
            .starts_with("Too few runs to conclude anything: a has 12, b has 12")
    );
    assert!(found.measures.iter().all(|it| it.p_corrected.is_none()));
    let is_told = |it: &Compared| matches!(it.verdict, Verdict::Lower | Verdict::Higher);
    assert!(!found.measures.iter().any(is_told));
}

#[test]
fn agent_whose_price_is_not_known_does_not_seem_to_be_free() {
    let run = |n: usize, unpriced_calls: u64| {
        let agent = AgentFigures {
            calls: unpriced_calls,
            unpriced_calls,
            ..AgentFigures::default()
        };
        run(n, 0, [(Label::parse("tutor").unwrap(), agent)].into())
    };
    let arm = |unpriced: u64| {
        (0..8)
            .map(|n| run(n, if n == 0 { unpriced } else { 0 }))
            .collect()
    };
    let cost = |unpriced: u64| {
        let arms = BTreeMap::from([("a".to_owned(), arm(0)), ("b".to_owned(), arm(unpriced))]);
        let how = (&Success::Outcome, [].as_slice());
        let told = Comparison::new("variant".to_owned(), &arms, (None, None), how);
        told.agents[0].measures[0].clone()
    };
    assert_eq!((cost(0).a.value, cost(0).b.value), (Some(0.0), Some(0.0)));
    assert_eq!((cost(3).a.value, cost(3).b.value), (None, None));
    assert_eq!(cost(3).verdict, Verdict::NotComparable);
}

#[test]
fn one_run_has_no_interval_and_nothing_no_value() {
    assert_eq!(difference(&plain(&[1.0]), &plain(&[2.0, 3.0]), 1000), None);
    assert_eq!(statistic(&[]), None);
    assert_eq!(statistic(&[Value { top: 0.0, of: 0.0 }]), None);
    assert_eq!(median(vec![3.0, 1.0, 2.0, 10.0]), Some(2.5));
}

#[test]
fn levels_are_corrected_as_holm_did() {
    let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
    for (found, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
        assert!((found - expected).abs() < 1e-12, "{corrected:?}");
    }
    assert_eq!(holm(&[]), Vec::<f64>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn arms_the_other_way_round_differ_by_the_opposite(
        a in prop::collection::vec(0.0..100.0_f64, 5..40),
        b in prop::collection::vec(0.0..100.0_f64, 5..40),
    ) {
        let there = difference(&plain(&a), &plain(&b), 1000).unwrap();
        let back = difference(&plain(&b), &plain(&a), 1000).unwrap();
        prop_assert!((there.difference + back.difference).abs() < 1e-12);
        prop_assert!((there.low + back.high).abs() < 1e-6, "{:?} {:?}", there, back);
        prop_assert!((there.high + back.low).abs() < 1e-6, "{:?} {:?}", there, back);
        prop_assert!((there.p - back.p).abs() < 1e-6);
    }

    #[test]
    fn another_unit_gives_the_same_interval_in_that_unit(
        a in prop::collection::vec(1.0..100.0_f64, 20..40),
        b in prop::collection::vec(1.0..100.0_f64, 20..40),
        scale in 0.01..1000.0_f64,
    ) {
        let scaled = |values: &[f64]| values.iter().map(|it| it * scale).collect::<Vec<_>>();
        let one = difference(&plain(&a), &plain(&b), 4000).unwrap();
        let other = difference(&plain(&scaled(&a)), &plain(&scaled(&b)), 4000).unwrap();
        // Other draws: as near as draws are to one another.
        let width = one.high - one.low;
        for (one, other) in [(one.low, other.low), (one.high, other.high)] {
            prop_assert!((one - other / scale).abs() < 0.12 * width, "{} {}", one, other / scale);
        }
        prop_assert!((one.difference - other.difference / scale).abs() < 1e-6);
    }

    #[test]
    fn intervals_are_in_order_and_within_what_can_be_drawn(
        a in prop::collection::vec((0.0..9.0_f64, 1.0..9.0_f64), 2..30),
        b in prop::collection::vec((0.0..9.0_f64, 1.0..9.0_f64), 2..30),
    ) {
        let values = |all: &[(f64, f64)]| -> Vec<Value> {
            all.iter().map(|(top, of)| Value { top: *top, of: *of }).collect()
        };
        let found = difference(&values(&a), &values(&b), 1000).unwrap();
        prop_assert!(found.low <= found.high && (0.0..=1.0).contains(&found.p), "{:?}", found);
        prop_assert!(found.low.is_finite() && found.high.is_finite());
        prop_assert!(found.low >= -9.0 && found.high <= 9.0);
    }
}
