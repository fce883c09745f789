//! Spans of runs and agents, put together of their calls.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::super::run_spans::{Heard, RunSpans};
use super::super::span::of_call;
use super::{BOTH, PLANNER, SEED, at, label, number, of, records, text};
use crate::config::Conventions;
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::core::trace::SpanId;
use crate::ledger::Bookmark;

pub(super) fn none(conventions: Conventions) -> RunSpans {
    RunSpans::new(SEED, conventions, Timestamp::default())
}

fn place(offset: &str) -> Bookmark {
    let chain = Bookmark::default().to_string();
    let (_, chain) = chain.rsplit_once('-').unwrap();
    format!("1-{offset}-{chain}").parse().unwrap()
}

/// From a place that is never too far back.
pub(super) fn heard(offset: &str) -> Heard {
    Heard {
        place: place(offset),
        outdated: Timestamp::default(),
    }
}

fn silent(tree: &mut RunSpans, since: i64) -> Vec<Span> {
    tree.silent(at(since), &BTreeSet::new())
}

/// The runs that spans are about.
fn runs_of(spans: &[Span]) -> BTreeSet<String> {
    spans.iter().map(|it| text(it, "aiops.run")).collect()
}

/// Hears of a call of an agent by its path.
fn hear(tree: &mut RunSpans, seconds: i64, run: &str, path: &[&str]) -> (Vec<Span>, Span) {
    let mut records = records(seconds, PLANNER);
    let attribution = &mut records.0.attribution;
    attribution.run = Some(label(run));
    attribution.path = path.iter().map(|it| label(it)).collect();
    attribution.agent = label(path.last().unwrap());
    attribution.user = Some(label("ada"));
    let facts = of(&records, None);
    let span = of_call(&facts, Conventions::Semconv141);
    (tree.hear(&facts, heard(&seconds.to_string())), span)
}

#[test]
fn agents_of_a_run_are_spans_below_those_that_called_them() {
    let mut tree = none(Conventions::Semconv141);
    let (_, planned) = hear(&mut tree, 10, "r", &["planner"]);
    let (_, looked_up) = hear(&mut tree, 20, "r", &["planner", "researcher"]);
    assert!(silent(&mut tree, 21).is_empty(), "it goes on");
    let spans = silent(&mut tree, 22);
    let [root, planner, researcher] = &spans[..] else {
        panic!("{spans:?}");
    };
    assert_eq!(root.name, "invoke_workflow");
    assert_eq!(text(root, "openinference.span.kind"), "CHAIN");
    assert!(root.parent_span_id.is_empty());
    assert_eq!(planner.name, "invoke_agent planner");
    assert_eq!(planner.kind, i32::from(SpanKind::Internal));
    assert_eq!(planner.parent_span_id, root.span_id);
    assert_eq!(researcher.parent_span_id, planner.span_id);
    assert_eq!(planned.parent_span_id, planner.span_id);
    assert_eq!(looked_up.parent_span_id, researcher.span_id);
    assert_eq!(planned.trace_id, root.trace_id);
    assert_eq!(planner.start_time_unix_nano, 10_000_000_000);
    assert_eq!(
        planner.end_time_unix_nano, 22_000_000_000,
        "with what it called"
    );
    assert_eq!(researcher.start_time_unix_nano, 20_000_000_000);
    assert_eq!(text(researcher, "aiops.path"), "/planner/researcher");
    assert_eq!(number(planner, "aiops.calls"), 1);
    assert_eq!(number(root, "aiops.calls"), 2);
    assert_eq!(text(root, "user.id"), "ada");
    assert!(silent(&mut tree, 99).is_empty(), "told once");
}

#[test]
fn a_run_that_goes_on_is_told_again_with_the_same_ids() {
    let mut tree = none(Conventions::Semconv141);
    hear(&mut tree, 10, "r", &["planner"]);
    let first = silent(&mut tree, 12);
    hear(&mut tree, 50, "r", &["planner"]);
    let again = tree.rest();
    assert_eq!(first.len(), again.len());
    for (was, is) in first.iter().zip(&again) {
        assert_eq!(was.span_id, is.span_id);
        assert_eq!(was.start_time_unix_nano, is.start_time_unix_nano);
        assert!(was.end_time_unix_nano < is.end_time_unix_nano);
    }
}

#[test]
fn a_run_names_its_workflow_and_is_linked_to_its_parent() {
    for (conventions, key) in BOTH
        .into_iter()
        .zip(["gen_ai.workflow.name", "gen_ai.agent.name"])
    {
        let mut records = records(1, PLANNER);
        let attribution = &mut records.0.attribution;
        attribution.parent_run = Some(label("week"));
        attribution
            .tags
            .insert("run_name".to_owned(), label("nightly"));
        let mut tree = none(conventions);
        tree.hear(&of(&records, None), heard("0"));
        let root = tree.rest().remove(0);
        assert_eq!(root.name, "invoke_workflow nightly");
        assert_eq!(text(&root, key), "nightly");
        assert_eq!(text(&root, "langfuse.trace.name"), "nightly");
        let parent = SpanId::of_run(SEED, &label("week")).to_bytes();
        assert_eq!(root.links[0].span_id, parent);
    }
}

#[test]
fn memory_for_runs_is_bounded_and_what_makes_room_is_told_first() {
    let mut tree = none(Conventions::Semconv141);
    let mut told = BTreeSet::new();
    let mut keep = |spans: Vec<Span>| {
        let roots = spans.into_iter().filter(|it| it.parent_span_id.is_empty());
        told.extend(roots.map(|it| text(&it, "aiops.run")));
    };
    let runs: BTreeSet<String> = (0..6000).map(|n| format!("run-{n}")).collect();
    for (seconds, run) in (0..).zip(&runs) {
        let (pushed_out, _) = hear(&mut tree, seconds, run, &["a"]);
        keep(pushed_out);
    }
    let mut left = 0;
    loop {
        let portion = tree.rest();
        if portion.is_empty() {
            break;
        }
        left += portion.len();
        assert!(portion.len() <= 2048 + 2, "{}", portion.len());
        keep(portion);
    }
    assert!(left <= 2 * 4096, "{left}");
    assert_eq!(told, runs, "each was told");
}

#[test]
fn agents_of_one_run_are_bounded_and_those_left_out_counted() {
    let mut tree = none(Conventions::Semconv141);
    for n in 0..1100 {
        hear(&mut tree, n, "r", &[&format!("agent-{n}")]);
    }
    let spans = tree.rest();
    assert_eq!(spans.len(), 1 + 1024);
    assert_eq!(number(&spans[0], "aiops.agents.left_out"), 76);
}

#[test]
fn agents_of_all_runs_are_bounded_together() {
    let mut tree = none(Conventions::Semconv141);
    let mut pushed_out = 0;
    for n in 0..36_000 {
        let run = format!("run-{}", n / 1000);
        pushed_out += hear(&mut tree, n, &run, &[&format!("agent-{n}")]).0.len();
    }
    let mut left = 0;
    loop {
        let portion = tree.rest();
        if portion.is_empty() {
            break;
        }
        left += portion.len();
    }
    assert!(left <= 32 * 1024 + 4096, "{left}");
    assert_eq!(pushed_out + left, 36_000 + 36, "each is told once");
}

#[test]
fn names_of_agents_cannot_be_written_so_that_two_paths_are_one() {
    let span = |path: &[&str]| {
        let path: Vec<Label> = path.iter().map(|it| label(it)).collect();
        SpanId::of_agent(SEED, &label("r"), &path)
    };
    assert_ne!(span(&["a/b"]), span(&["a", "b"]));
    assert_ne!(span(&["a", "b"]), span(&["ab"]));
}

#[test]
fn a_run_is_not_silent_while_a_call_of_it_is_open() {
    let mut tree = none(Conventions::Semconv141);
    hear(&mut tree, 10, "busy", &["a"]);
    hear(&mut tree, 20, "done", &["a"]);
    let open = BTreeSet::from([label("busy")]);
    assert!(!tree.has_silent(at(11)) && tree.has_silent(at(12)));
    let told = runs_of(&tree.silent(at(99), &open));
    assert_eq!(told, BTreeSet::from(["done".to_owned()]));
    hear(&mut tree, 95, "busy", &["a"]);
    let spans = silent(&mut tree, 97);
    assert_eq!(number(&spans[0], "aiops.calls"), 2, "told once, in whole");
}

#[test]
fn what_was_not_told_is_heard_of_again_from_before_the_first_of_it() {
    let mut tree = none(Conventions::Semconv141);
    assert_eq!(tree.oldest(), None);
    for (seconds, run) in [(10, "z"), (20, "a"), (30, "z")] {
        hear(&mut tree, seconds, run, &["a"]);
    }
    assert_eq!(tree.oldest(), Some(place("10")));
    hear(&mut tree, 90, "a", &["a"]);
    silent(&mut tree, 40);
    assert_eq!(tree.oldest(), Some(place("20")), "one was told");
    hear(&mut tree, 95, "z", &["a"]);
    assert_eq!(tree.oldest(), Some(place("10")), "it goes on");
    while !tree.rest().is_empty() {}
    assert_eq!(tree.oldest(), None);
}

#[test]
fn a_run_that_goes_on_for_long_is_not_heard_of_again_from_its_beginning() {
    let mut tree = none(Conventions::Semconv141);
    let records = records(10, PLANNER);
    let outdated = |seconds| Heard {
        outdated: at(seconds),
        ..heard(&seconds.to_string())
    };
    tree.hear(&of(&records, None), outdated(1));
    tree.hear(&of(&records, None), outdated(12));
    assert_eq!(tree.oldest(), Some(place("1")));
    tree.hear(&of(&records, None), outdated(13));
    assert_eq!(tree.oldest(), Some(place("13")));
}

#[test]
fn the_next_process_tells_runs_that_were_not_told_and_no_others() {
    let calls = [(10, "told"), (20, "goes on"), (80, "goes on")];
    let mut tree = none(Conventions::Semconv141);
    for (seconds, run) in calls {
        hear(&mut tree, seconds, run, &["a"]);
    }
    silent(&mut tree, 40);
    let mut next = RunSpans::new(SEED, Conventions::Semconv141, tree.told_until());
    for (seconds, run) in calls {
        hear(&mut next, seconds, run, &["a"]);
    }
    next.were_told();
    let spans = next.rest();
    assert_eq!(runs_of(&spans), BTreeSet::from(["goes on".to_owned()]));
    assert_eq!(number(&spans[0], "aiops.calls"), 2);
    hear(&mut next, 90, "told", &["a"]);
    let spans = next.rest();
    assert_eq!(number(&spans[0], "aiops.calls"), 2, "with what was before");
}

#[test]
fn a_portion_of_silent_runs_is_not_all_of_them() {
    let mut tree = none(Conventions::Semconv141);
    for n in 0..2000 {
        hear(&mut tree, n, &format!("run-{n}"), &["a"]);
    }
    silent(&mut tree, 9999);
    assert_eq!(tree.told_until(), Timestamp::default());
    silent(&mut tree, 9999);
    assert_eq!(tree.told_until(), at(2001));
}

#[test]
fn runs_that_ended_at_one_time_do_not_all_make_room() {
    let mut tree = none(Conventions::Semconv141);
    let mut pushed_out = BTreeSet::new();
    for n in 0..4097 {
        let (spans, _) = hear(&mut tree, 7, &format!("run-{n}"), &["a"]);
        pushed_out.extend(runs_of(&spans));
    }
    assert_eq!(pushed_out.len(), 4096 / 8 + 1);
}
