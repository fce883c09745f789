use proptest::prelude::*;

use super::*;
use crate::core::attribution::{Confidence, Source};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn parse(parents: &[&str], states: &[&str]) -> Option<TraceContext> {
    TraceContext::parse(
        parents.iter().map(|it| it.as_bytes()),
        states.iter().map(|it| it.as_bytes()),
    )
}

fn state(lines: &[&str]) -> Option<String> {
    parse(&[&format!("00-{TRACE}-{SPAN}-01")], lines)?.state
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn attribution(run: Option<&str>, path: &[&str]) -> Attribution {
    Attribution {
        agent: label(path.last().unwrap()),
        caller: None,
        run: run.map(label),
        parent_run: None,
        path: path.iter().map(|it| label(it)).collect(),
        depth: 1,
        user: None,
        variant: None,
        conversation: None,
        tags: std::collections::BTreeMap::new(),
        metrics: std::collections::BTreeMap::new(),
        agent_source: Source::Own,
        run_source: None,
        inferred: Confidence::default(),
    }
}

#[test]
fn a_traceparent_reads_back_as_it_was_written() {
    for flags in ["00", "01", "03"] {
        let text = format!("00-{TRACE}-{SPAN}-{flags}");
        let read = parse(&[&text], &[]).unwrap();
        assert_eq!(read.to_string(), text);
        assert_eq!(read.is_sampled(), flags != "00");
    }
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    let text = format!("cc-{TRACE}-{SPAN}-ff-what-comes-next");
    let read = parse(&[&text], &[]).unwrap();
    assert_eq!(read.to_string(), format!("00-{TRACE}-{SPAN}-01"));
}

#[test]
fn a_malformed_traceparent_is_none() {
    let upper = TRACE.to_ascii_uppercase();
    for text in [
        String::new(),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}-01-more"),
        format!("00-{TRACE}-{SPAN}-1"),
        format!("00-{TRACE}-{SPAN}-0g"),
        format!("00-{upper}-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("0-0{TRACE}-{SPAN}-01"),
        format!("cc-{TRACE}-{SPAN}-01.more"),
        format!("00_{TRACE}_{SPAN}_01"),
    ] {
        assert_eq!(parse(&[&text], &[]), None, "{text}");
    }
    let good = format!("00-{TRACE}-{SPAN}-01");
    assert_eq!(parse(&[&good, &good], &[]), None, "two of them");
    assert_eq!(parse(&[], &["a=1"]), None);
}

#[test]
fn members_of_tracestate_keep_their_order_over_all_lines() {
    assert_eq!(
        state(&["b=2 , a=1", "", "t@v=x:y"]).as_deref(),
        Some("b=2,a=1,t@v=x:y")
    );
    assert_eq!(state(&[" , "]), None);
}

#[test]
fn a_malformed_tracestate_is_dropped_whole() {
    for line in ["a", "A=1", "a=1,a=2", "a=1=2", "a=\u{e9}", "=1", "a="] {
        assert_eq!(state(&["ok=1", line]), None, "{line}");
    }
}

#[test]
fn a_tracestate_too_long_loses_long_members_first_and_then_the_last() {
    let many: Vec<String> = (0..40).map(|n| format!("k{n}=v")).collect();
    let kept = state(&[&many.join(",")]).unwrap();
    assert_eq!(kept, many[..32].join(","));
    let long = format!("long={}", "x".repeat(200));
    let some: Vec<String> = (0..30)
        .map(|n| format!("m{n}={}", "y".repeat(10)))
        .collect();
    let kept = state(&[&long, &some.join(",")]).unwrap();
    assert!(kept.starts_with("m0=") && kept.len() <= MAX_STATE, "{kept}");
}

#[test]
fn a_call_stands_below_the_span_of_its_client() {
    let context = parse(&[&format!("00-{TRACE}-{SPAN}-00")], &[]).unwrap();
    let id = CallId::from_bytes([7; 16]);
    let of = attribution(Some("nightly"), &["planner"]);
    let place = Place::of(DigestSeed(1), id, &of, Some(&context));
    assert!(place.is_clients);
    assert_eq!(
        (place.trace, place.parent),
        (context.trace, Some(context.parent))
    );
    let onward = place.onward();
    assert_eq!(
        (onward.trace, onward.parent, onward.flags),
        (context.trace, place.span, 0)
    );
}

#[test]
fn calls_of_one_run_share_a_trace_and_those_of_one_agent_a_parent() {
    let seed = DigestSeed(1);
    let place = |id: u8, run: Option<&str>, path: &[&str]| {
        let id = CallId::from_bytes([id; 16]);
        Place::of(seed, id, &attribution(run, path), None)
    };
    let one = place(1, Some("r"), &["a", "b"]);
    let two = place(2, Some("r"), &["a", "b"]);
    let other = place(3, Some("r"), &["b"]);
    assert_eq!((one.trace, one.parent), (two.trace, two.parent));
    assert_ne!(one.span, two.span);
    assert_eq!(one.trace, other.trace);
    assert_ne!(one.parent, other.parent);
    assert_eq!(one, place(1, Some("r"), &["a", "b"]), "the same again");
    let alone = place(1, None, &["a"]);
    assert_eq!(alone.parent, None);
    assert_ne!(alone.trace, one.trace);
    let elsewhere = Place::of(
        DigestSeed(2),
        CallId::from_bytes([1; 16]),
        &attribution(Some("r"), &["a", "b"]),
        None,
    );
    assert_ne!(elsewhere.trace, one.trace, "another installation");
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(
        parent in prop::collection::vec(any::<u8>(), 0..80),
        states in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4),
    ) {
        let read = TraceContext::parse([&*parent], states.iter().map(Vec::as_slice));
        if let Some(read) = read {
            prop_assert!(read.to_string().len() == 55);
        }
    }

    #[test]
    fn texts_like_a_traceparent_do_not_make_it_panic(text in "[0-9a-f\u{e9}-]{0,70}") {
        parse(&[&text], &[&text]);
    }

    #[test]
    fn what_is_read_is_written_and_stored_without_loss(
        trace: [u8; 16], parent: [u8; 8], flags: u8,
        members in prop::collection::vec("[a-z0-9][a-z0-9_@/*-]{0,8}=[!-+./-<>-~]{1,9}", 0..40),
    ) {
        prop_assume!(trace != [0; 16] && parent != [0; 8]);
        let written = TraceContext { trace: TraceId(trace), parent: SpanId(parent), flags, state: None };
        let text = written.to_string();
        let read = parse(&[&text], &[&members.join(",")]).unwrap();
        prop_assert_eq!((read.trace, read.parent, read.flags), (written.trace, written.parent, flags));
        let state = read.state.clone().unwrap_or_default();
        prop_assert!(state.len() <= MAX_STATE && state.split(',').count() <= MAX_MEMBERS);
        let again = parse(&[&read.to_string()], &[&state]).unwrap();
        prop_assert_eq!(&again, &read);
        let stored = minicbor::to_vec(&read).unwrap();
        prop_assert_eq!(minicbor::decode::<TraceContext>(&stored).unwrap(), read);
    }
}
