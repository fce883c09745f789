use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::core::digest::Digest;

const REPEAT_US: u64 = 600_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000).plus_micros(seconds * 1_000_000)
}

fn heard<'a>(what: &'a str, signal: &'a Signal, seconds: u64) -> Heard<'a> {
    Heard {
        at: at(seconds),
        what,
        details: "details",
        signal: Some(signal),
        trip: None,
    }
}

fn upstream(name: &str) -> Signal {
    Signal::of(Scope::new(About::Upstream, name))
}

fn news(told: &[Told]) -> Vec<News> {
    told.iter().map(|told| told.news).collect()
}

#[test]
fn same_rule_and_scope_is_one_alert_that_counts_and_is_told_once() {
    let mut book = Book::new(REPEAT_US);
    let signal = upstream("local");
    let told = book.take(&heard("upstream_failing", &signal, 0));
    assert_eq!(news(&told), [News::Begins]);
    for second in 1..5 {
        assert_eq!(book.take(&heard("upstream_failing", &signal, second)), []);
    }
    let other = upstream("far");
    assert_eq!(book.take(&heard("upstream_failing", &other, 5)).len(), 1);
    let list = book.list(at(6));
    let counts: Vec<_> = list
        .iter()
        .map(|it| (it.scope.name.as_str(), it.count))
        .collect();
    assert_eq!(counts, [("far", 1), ("local", 5)]);
    assert_eq!((list[1].first_at, list[1].last_at), (at(0), at(4)));
}

#[test]
fn end_is_told_once_and_only_if_the_beginning_was() {
    let mut book = Book::new(REPEAT_US);
    let signal = upstream("local");
    assert_eq!(book.take(&heard("upstream_recovered", &signal, 0)), []);
    book.take(&heard("upstream_failing", &signal, 1));
    let told = book.take(&heard("upstream_recovered", &signal, 2));
    assert_eq!(news(&told), [News::Over]);
    assert!(!told[0].alert.is_open);
    assert_eq!(told[0].alert.over_at, Some(at(2)));
    assert_eq!(book.take(&heard("upstream_recovered", &signal, 3)), []);
}

#[test]
fn what_flaps_is_told_again_after_a_while_if_it_still_goes_on() {
    let mut book = Book::new(REPEAT_US);
    let signal = upstream("local");
    for second in 0..20 {
        let what = if second % 2 == 0 {
            "upstream_failing"
        } else {
            "upstream_recovered"
        };
        let told = book.take(&heard(what, &signal, second));
        assert_eq!(told.is_empty(), second > 1, "{second}");
    }
    assert_eq!(book.due(at(601)), [], "it is over");
    book.take(&heard("upstream_failing", &signal, 30));
    assert_eq!(book.due(at(599)), []);
    let told = book.due(at(600));
    assert_eq!(news(&told), [News::Begins]);
    assert_eq!(told[0].alert.count, 11);
    assert_eq!(book.due(at(601)), []);
}

#[test]
fn raise_or_reset_ends_the_alerts_of_its_account_and_of_no_other() {
    let mut book = Book::new(REPEAT_US);
    let of = |name: &str, id: u8| Signal {
        account: Some(AccountId(Digest::from_bytes([id; 16]))),
        ..Signal::of(Scope::new(About::Budget, "each run").with_key(name))
    };
    book.take(&heard("budget_warning", &of("run one", 1), 0));
    book.take(&heard("budget_spent", &of("run one", 1), 1));
    book.take(&heard("budget_spent", &of("run two", 2), 2));
    let act = Signal { ..of("", 1) };
    let told = book.take(&heard("budget_reset", &act, 3));
    assert_eq!(news(&told), [News::Over, News::Over]);
    let open: Vec<Alert> = book
        .list(at(4))
        .into_iter()
        .filter(|it| it.is_open)
        .collect();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].scope.key.as_deref(), Some("run two"));
}

#[test]
fn window_that_ends_tells_once_that_its_alert_is_over() {
    let mut book = Book::new(REPEAT_US);
    let signal = Signal {
        until: Some(at(100)),
        ..Signal::of(Scope::new(About::Budget, "a day"))
    };
    book.take(&heard("budget_spent", &signal, 0));
    assert!(book.list(at(99))[0].is_open);
    let alert = book.list(at(100)).remove(0);
    assert_eq!((alert.is_open, alert.over_at), (false, Some(at(100))));
    assert_eq!(book.due(at(99)), []);
    let told = book.due(at(101));
    assert_eq!(news(&told), [News::Over]);
    assert!(!told[0].alert.is_open);
    assert_eq!(told[0].alert.over_at, Some(at(100)));
    assert_eq!(book.due(at(5000)), []);
}

#[test]
fn start_ends_what_the_process_before_knew_but_not_what_the_ledger_keeps() {
    let mut book = Book::new(REPEAT_US);
    book.take(&heard("upstream_failing", &upstream("local"), 0));
    let budget = Signal::of(Scope::new(About::Budget, "a day"));
    book.take(&heard("budget_spent", &budget, 1));
    // Whether it is still off is known at a start.
    let metric = Signal::of(Scope::new(About::Metric, "low score"));
    book.take(&heard("metric_off", &metric, 1));
    let started = Heard {
        signal: None,
        ..heard("started", &budget, 2)
    };
    let told = book.take(&started);
    assert_eq!(news(&told), [News::Over], "whoever was told that it begins");
    assert_eq!(told[0].alert.rule, Rule::UpstreamFailing);
    assert_eq!(book.take(&started), []);
    let open: Vec<Rule> = book
        .list(at(3))
        .iter()
        .filter(|it| it.is_open)
        .map(|it| it.rule)
        .collect();
    assert_eq!(open.len(), 2, "{open:?}");
    assert!(!open.contains(&Rule::UpstreamFailing), "{open:?}");
}

#[test]
fn deliveries_belong_to_their_alert_and_a_failed_one_is_an_alert_itself() {
    let mut book = Book::new(REPEAT_US);
    let signal = upstream("local");
    book.take(&heard("upstream_failing", &signal, 0));
    let sent = |answer: &str| Signal {
        delivery: Some(Sent {
            rule: Rule::UpstreamFailing,
            webhook: "ops".parse().unwrap(),
            answer: answer.to_owned(),
        }),
        ..signal.clone()
    };
    let told = book.take(&heard("alert_failed", &sent("cannot be reached"), 1));
    assert_eq!(told[0].alert.rule, Rule::AlertFailed);
    assert_eq!(told[0].alert.scope, Scope::new(About::Webhook, "ops"));
    let told = book.take(&heard("alert_sent", &sent("200"), 2));
    assert_eq!(news(&told), [News::Over]);
    let list = book.list(at(3));
    let failing = list
        .iter()
        .find(|it| it.rule == Rule::UpstreamFailing)
        .unwrap();
    assert!(failing.is_open, "an alert that was sent goes on");
    assert_eq!(failing.sent.len(), 1);
    assert!(failing.sent[0].is_ok);
    assert_eq!(failing.sent[0].answer, "200");
}

#[test]
fn every_rule_is_an_event_by_its_name() {
    use strum::IntoEnumIterator;
    for rule in Rule::iter() {
        assert_eq!(rule.name().parse(), Ok(rule));
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin(u8),
    End(u8),
    Due,
}

fn step() -> impl Strategy<Value = (u64, Step)> {
    let what = prop_oneof![
        4 => (0_u8..8).prop_map(Step::Begin),
        2 => (0_u8..8).prop_map(Step::End),
        2 => Just(Step::Due),
    ];
    (0_u64..400, what)
}

proptest! {
    #[test]
    fn nothing_is_told_too_often_and_nothing_that_goes_on_stays_untold(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut book = Book::new(REPEAT_US);
        book.most = 5;
        let mut second = 0;
        let mut begun: HashMap<String, u64> = HashMap::new();
        let mut told_open: HashMap<String, bool> = HashMap::new();
        for (pause, step) in steps {
            second += pause;
            let told = match step {
                Step::Begin(of) => book.take(&heard("upstream_failing", &upstream(&of.to_string()), second)),
                Step::End(of) => book.take(&heard("upstream_recovered", &upstream(&of.to_string()), second)),
                Step::Due => book.due(at(second)),
            };
            for told in told {
                let name = told.alert.scope.name.clone();
                match told.news {
                    News::Begins => {
                        prop_assert!(told.alert.is_open);
                        begun.insert(name.clone(), second);
                        told_open.insert(name, true);
                    }
                    News::Over => {
                        prop_assert_eq!(told_open.insert(name, false), Some(true));
                    }
                }
            }
            let list = book.list(at(second));
            prop_assert!(list.len() <= 5 && book.latest.len() <= 5);
            if matches!(step, Step::Due) {
                for alert in list.iter().filter(|it| it.is_open) {
                    let told_at = begun.get(&alert.scope.name).copied();
                    let is_early = told_at.is_some_and(|at| second - at < 600);
                    prop_assert!(is_early || told_open[&alert.scope.name], "{alert:?}");
                }
            }
        }
    }

    #[test]
    fn one_alert_is_not_told_twice_within_its_window(
        pauses in prop::collection::vec(0_u64..300, 1..100),
    ) {
        let mut book = Book::new(REPEAT_US);
        let signal = upstream("local");
        let (mut second, mut last) = (0, None);
        for (n, pause) in pauses.into_iter().enumerate() {
            second += pause;
            let what = if n % 3 == 2 { "upstream_recovered" } else { "upstream_failing" };
            let mut told = book.take(&heard(what, &signal, second));
            told.extend(book.due(at(second)));
            for _ in told.iter().filter(|told| told.news == News::Begins) {
                let is_late = last.is_none_or(|last| second - last >= 600);
                prop_assert!(is_late, "told at {last:?} and {second}");
                last = Some(second);
            }
        }
    }
}
