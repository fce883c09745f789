use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::*;
use crate::replay::asked::Request;

const STOP: Rules = Rules {
    on_divergence: OnDivergence::Stop,
    fork_at: None,
    repeats: false,
};

fn asked(texts: &[&str]) -> Asked {
    let messages: Vec<serde_json::Value> = texts
        .iter()
        .map(|text| json!({"role": "user", "content": text}))
        .collect();
    let body = json!({"model": "m", "messages": messages}).to_string();
    let request = Request {
        method: Method::POST,
        path: "/v1/chat/completions".to_owned(),
        agent: None,
        encoding: None,
        query: String::new(),
        body: Bytes::from(body),
    };
    request.asked()
}

fn progress(calls: &[&[&str]]) -> Progress {
    let calls: Vec<Asked> = calls.iter().map(|texts| asked(texts)).collect();
    let unplayable = vec![None; calls.len()];
    Progress::new(calls, &unplayable, false)
}

fn step(progress: &mut Progress, texts: &[&str], rules: Rules) -> Step {
    progress.decide(&asked(texts), false, rules).0
}

#[test]
fn call_is_played_once_unless_it_was_given_back() {
    let mut it = progress(&[&["a"], &["b"]]);
    assert_eq!(step(&mut it, &["a"], STOP), Step::Play(0));
    assert_eq!(step(&mut it, &["a"], STOP), Step::Stop);
    it.give_back(0);
    assert_eq!(it.played(), 0);
    assert_eq!(step(&mut it, &["a"], STOP), Step::Play(0));
    assert_eq!(it.unplayed(usize::MAX).collect::<Vec<_>>(), [1]);
}

#[test]
fn client_that_asks_once_more_gets_the_answer_again() {
    let mut it = progress(&[&["a"], &["a"], &["b"]]);
    assert_eq!(step(&mut it, &["a"], STOP), Step::Play(0));
    assert_eq!(step(&mut it, &["a"], STOP), Step::Play(1));
    let again = it.decide(&asked(&["a"]), true, STOP);
    assert_eq!(again, (Step::Play(0), None));
    assert_eq!(step(&mut it, &["a"], STOP), Step::Stop);
    assert_eq!(it.repeated(), 1);
}

#[test]
fn program_that_runs_twice_is_answered_twice_in_the_same_order_where_calls_repeat() {
    let repeats = Rules {
        repeats: true,
        ..STOP
    };
    let mut it = progress(&[&["a"], &["a"], &["b"]]);
    for _ in 0..3 {
        for (text, at) in [("a", 0), ("a", 1), ("b", 2)] {
            assert_eq!(step(&mut it, &[text], repeats), Step::Play(at));
        }
    }
    assert_eq!((it.played(), it.repeated()), (3, 6));
    assert_eq!(step(&mut it, &["c"], repeats), Step::Stop);
}

#[test]
fn change_before_the_fork_departs_though_another_conversation_went_live() {
    let fork = Rules {
        fork_at: Some(2),
        ..STOP
    };
    let mut it = progress(&[&["a"], &["b"], &["a", "a2"], &["b", "b2"]]);
    assert_eq!(step(&mut it, &["a"], fork), Step::Play(0));
    assert_eq!(step(&mut it, &["a", "a2"], fork), Step::Live);
    // The live conversation goes on as it likes; the other is not yet at the fork.
    assert_eq!(step(&mut it, &["a", "a2", "new"], fork), Step::Live);
    assert_eq!(step(&mut it, &["b changed"], fork), Step::Stop);
    assert_eq!(step(&mut it, &["b"], fork), Step::Play(1));
    assert_eq!(step(&mut it, &["whatever"], fork), Step::Live);
    assert_eq!((it.live, it.refused), (3, 1));
}

#[test]
fn only_the_first_departure_is_the_first() {
    let mut it = progress(&[&["a"]]);
    let first = |decided: Decided| decided.1.map(|(_, is_first)| is_first);
    assert_eq!(first(it.decide(&asked(&["x"]), false, STOP)), Some(true));
    assert_eq!(first(it.decide(&asked(&["y"]), false, STOP)), Some(false));
}
