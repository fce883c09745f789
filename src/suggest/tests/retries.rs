//! Calls that came to nothing, or to half of it, and were made again.

use super::ledger::{Api, Talk, Work, nano, prose, saved};
use crate::core::call::Outcome;
use crate::core::suggest::Rule;

fn talk(n: usize) -> Talk {
    Talk::new(Api::Chat)
        .system("You write.")
        .user(&prose(n, 5000))
}

#[test]
fn what_was_cut_and_then_answered_whole_is_claimed_at_what_the_cut_call_cost() {
    let mut work = Work::new();
    let mut usd = 0;
    for n in 0..3 {
        usd += work.asks(&talk(n)).output(2000).cut().says("half").get();
        work.asks(&talk(n)).output(4000).says("whole");
    }
    let found = work.one(Rule::CutOutput);
    assert_eq!(saved(&found), (Some(usd), 3 * (talk(0).tokens() + 2000), 3));
    let report = work.report();
    assert_eq!(
        report.findings.first().map(|it| it.rule),
        Some(Rule::CutOutput)
    );
}

#[test]
fn what_is_cut_each_time_has_no_use_for_a_higher_limit() {
    let mut work = Work::new();
    for _ in 0..20 {
        work.asks(&talk(1)).output(1).cut().says("yes");
    }
    assert_eq!(work.found(Rule::CutOutput), []);
}

#[test]
fn a_cut_answer_that_is_gone_on_with_costs_the_input_once_more() {
    let mut work = Work::new();
    let mut tokens = 0;
    let mut usd = 0;
    for n in 0..3 {
        work.asks(&talk(n)).output(4000).cut().says("half of it");
        let more = talk(n).said("half of it").user("Go on.");
        tokens += more.tokens();
        let cost = work
            .asks(&more)
            .cached(0)
            .output(500)
            .says("the rest")
            .get();
        usd += cost - nano(500, 10_000);
        let other = talk(n).said("half of it").user(&prose(n + 90, 900));
        work.asks(&other).says("something else");
    }
    let found = work.one(Rule::CutOutput);
    assert_eq!(saved(&found), (Some(usd), tokens, 3));
}

/// In each of these conversations an answer is cut, and sent back with what is given. How many are claimed.
fn gone_on_with(nexts: &[Option<&str>]) -> u64 {
    let mut work = Work::new();
    for (n, next) in nexts.iter().enumerate() {
        work.run(&format!("chat-{n}"));
        work.asks(&talk(n)).output(4000).cut().says("half of it");
        let mut more = talk(n).said("half of it");
        if let Some(next) = next {
            more = more.user(next);
        }
        work.asks(&more).says("the rest");
    }
    let found = work.found(Rule::CutOutput);
    found.iter().map(|it| it.call_count).sum()
}

#[test]
fn a_short_message_after_a_cut_answer_asks_for_the_rest_only_where_it_says_so_or_comes_again() {
    let own = Some("Only the JSON that is missing.");
    assert_eq!(gone_on_with(&[None]), 1, "the answer is sent back alone");
    assert_eq!(gone_on_with(&[Some("Please continue.")]), 1);
    assert_eq!(gone_on_with(&[own]), 0);
    assert_eq!(gone_on_with(&[Some("And for two?"), Some("In English")]), 0);
    assert_eq!(gone_on_with(&[own, Some("And for two?"), own]), 2);
}

#[test]
fn a_client_that_left_and_asked_again_within_ten_minutes_is_claimed() {
    for (seconds, count) in [(600, 1), (601, 0)] {
        let mut work = Work::new();
        let mut usd = 0;
        for n in 0..3 {
            let late = work
                .asks(&talk(n))
                .for_seconds(60)
                .ends(Outcome::ClientGone, 200);
            usd += late.answers(None).get();
            work.asks(&talk(n)).after_ms(seconds * 1000).says("answer");
        }
        let found = work.found(Rule::TimeoutRetries);
        assert_eq!(found.len(), count, "{seconds}");
        for found in found {
            assert_eq!(saved(&found), (Some(usd), 3 * (talk(0).tokens() + 50), 3));
            assert_eq!(found.saving.duration_us, 180_000_000);
            assert!(found.fix.contains("longer timeout"));
        }
    }
}

#[test]
fn what_the_upstream_gave_up_for_nothing_is_found_by_its_time() {
    let mut work = Work::new();
    for n in 0..3 {
        let late = work.asks(&talk(n)).for_seconds(100).input(0).output(0);
        late.ends(Outcome::UpstreamError, 504).answers(None);
        work.asks(&talk(n)).says(&prose(n + 60, 50));
    }
    let report = work.report();
    let [found] = report.findings.as_slice() else {
        panic!("{report:#?}");
    };
    assert_eq!(found.rule, Rule::TimeoutRetries);
    assert_eq!(saved(found), (Some(0), 0, 3));
    assert_eq!(found.saving.duration_us, 300_000_000);
    assert!(!found.fix.contains("longer timeout"));
    assert_eq!(report.unseen.answers, 0, "there was no answer to record");
}

#[test]
fn a_connection_that_is_refused_at_once_has_not_timed_out() {
    let mut work = Work::new();
    for n in 0..3 {
        let refused = work.asks(&talk(n)).after_ms(10).input(0).output(0);
        refused
            .ends(Outcome::UpstreamUnavailable, 502)
            .answers(None);
        work.asks(&talk(n)).says(&prose(n + 60, 50));
    }
    assert_eq!(work.found(Rule::TimeoutRetries), []);
}
