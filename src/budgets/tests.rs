//! The bank by itself: what can be said of one call, and of any number in any order.

mod keys;
mod simulation;
mod unrecorded;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use super::bank::{Attempt, Bank, Claimed, Held, Standing, Ticket, attempt};
use super::hold::{Hold, Used};
use crate::core::budget::decide::{Need, Size, Tariff, Why};
use crate::core::budget::{
    AccountName, Action, Amounts, Dimension, Limits, Measure, OnUnpriced, Rule, Window,
};
use crate::core::digest::DigestSeed;
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;

const SEED: DigestSeed = DigestSeed(7);
const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// A waker that remembers that it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn rule(name: &str, limits: Limits) -> Rule {
    Rule {
        name: label(name),
        per: Vec::new(),
        matching: Vec::new(),
        limits,
        window: Window::Total,
        metric: None,
        slow: None,
        warn_at: None,
        action: Action::Break,
        on_unpriced: OnUnpriced::default(),
    }
}

fn tokens(limit: i64) -> Limits {
    Limits {
        tokens: Some(limit),
        ..Limits::default()
    }
}

/// The account of a rule that counts all calls together.
fn claimed(bank: &Bank, rule: &Arc<Rule>) -> Claimed {
    let name = AccountName {
        rule: rule.name.clone(),
        key: Vec::new(),
    };
    let cell = bank.cell(name.id(SEED), || name);
    cell.load(None);
    Claimed {
        rule: Arc::clone(rule),
        limits: rule.limits,
        cell,
        micro_metric: 0,
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

/// Worst case first, then a share, as calls do.
fn ask(accounts: &[Claimed], need: &Need, ticket: &mut Ticket, flag: &Arc<Flag>) -> Attempt {
    match attempt(accounts, need, Size::WorstCase, NOW, None) {
        Attempt::Tight => again(accounts, need, ticket, flag),
        done => done,
    }
}

fn again(accounts: &[Claimed], need: &Need, ticket: &mut Ticket, flag: &Arc<Flag>) -> Attempt {
    let waker = Waker::from(Arc::clone(flag));
    attempt(accounts, need, Size::Share, NOW, Some((ticket, &waker)))
}

#[track_caller]
fn held(attempt: Attempt) -> Held {
    match attempt {
        Attempt::Held(held) => *held,
        Attempt::Tight => panic!("found tight"),
        Attempt::Waiting => panic!("found waiting"),
        Attempt::Refused(standing) => panic!("found refused: {standing:?}"),
    }
}

#[track_caller]
fn refused(attempt: Attempt) -> Standing {
    match attempt {
        Attempt::Refused(standing) => *standing,
        Attempt::Held(_) => panic!("found held"),
        Attempt::Tight | Attempt::Waiting => panic!("found neither held nor refused"),
    }
}

/// Asks once, for a new call.
fn once(bank: &Bank, accounts: &[Claimed], need: &Need) -> Attempt {
    ask(accounts, need, &mut bank.ticket(), &Arc::default())
}

#[test]
fn call_holds_its_worst_case_where_that_fits() {
    let bank = Bank::default();
    let accounts = [claimed(&bank, &Arc::new(rule("all", tokens(1000))))];
    let first = held(once(&bank, &accounts, &need(500)));
    assert_eq!(
        (first.hold.output_tokens(), first.hold.is_clamped()),
        (500, false)
    );
    assert_eq!(accounts[0].cell.lock().held.of(Measure::Tokens), 510);
}

#[test]
fn calls_share_what_is_left_and_none_takes_it_all() {
    let bank = Bank::default();
    let accounts = [claimed(&bank, &Arc::new(rule("all", tokens(1000))))];
    let holds: Vec<_> = (0..7)
        .map(|_| held(once(&bank, &accounts, &need(100_000))).hold)
        .collect();
    let outputs: Vec<i64> = holds.iter().map(Hold::output_tokens).collect();
    assert_eq!(outputs[0], (1000 - 10) / 2);
    assert_eq!(outputs[1], (1000 - 10 - 505) / 3);
    assert_eq!(outputs.last(), Some(&40));
    assert!(holds.iter().all(Hold::is_clamped));
    assert!(accounts[0].cell.lock().held.of(Measure::Tokens) <= 1000);
}

#[test]
fn call_waits_for_running_ones_and_goes_on_when_they_used_less() {
    let bank = Bank::default();
    let accounts = [claimed(&bank, &Arc::new(rule("all", tokens(100))))];
    let first = held(once(&bank, &accounts, &need(80))).hold;
    let (mut ticket, flag) = (bank.ticket(), Arc::<Flag>::default());
    assert!(matches!(
        ask(&accounts, &need(80), &mut ticket, &flag),
        Attempt::Waiting
    ));
    assert!(!flag.take());
    first.settle(&used(5), NOW, drop);
    assert!(flag.take(), "told that there is room");
    let second = held(again(&accounts, &need(80), &mut ticket, &flag)).hold;
    assert_eq!(second.output_tokens(), 40, "80 do not fit beside 15 used");
}

#[test]
fn call_is_refused_when_what_is_used_leaves_no_room() {
    let bank = Bank::default();
    let accounts = [claimed(&bank, &Arc::new(rule("all", tokens(100))))];
    held(once(&bank, &accounts, &need(80)))
        .hold
        .settle(&used(60), NOW, drop);
    let standing = refused(once(&bank, &accounts, &need(80)));
    assert_eq!(standing.why, Some(Why::Spent(Measure::Tokens)));
    assert_eq!(standing.used.of(Measure::Tokens), 70);
    assert!(standing.is_new);
    assert!(
        !refused(once(&bank, &accounts, &need(80))).is_new,
        "it is said once"
    );
    assert_eq!(accounts[0].cell.lock().refused, 2);
    held(once(&bank, &accounts, &need(20)));
}

#[test]
fn all_accounts_are_held_or_none() {
    let bank = Bank::default();
    let mut accounts = [
        claimed(&bank, &Arc::new(rule("wide", tokens(100_000)))),
        claimed(&bank, &Arc::new(rule("narrow", tokens(20)))),
    ];
    super::bank::in_order(&mut accounts);
    refused(once(&bank, &accounts, &need(80)));
    for account in &accounts {
        let state = account.cell.lock();
        assert!(state.held.is_zero() && state.running == 0);
    }
}

#[test]
fn dropped_hold_is_given_back_before_it_is_recorded_and_charged_after() {
    let bank = Bank::default();
    let accounts = [claimed(&bank, &Arc::new(rule("all", tokens(1000))))];
    drop(held(once(&bank, &accounts, &need(80))));
    assert!(accounts[0].cell.lock().held.is_zero());
    let spent = |accounts: &[Claimed]| {
        let state = accounts[0].cell.lock();
        let account = state.account.as_ref().unwrap();
        account.used(&Window::Total, NOW).of(Measure::Tokens)
    };
    assert_eq!(spent(&accounts), 0);
    let mut hold = held(once(&bank, &accounts, &need(80))).hold;
    hold.recorded();
    drop(hold);
    assert_eq!(spent(&accounts), 90);
    assert!(accounts[0].cell.lock().held.is_zero());
}

#[test]
fn who_waits_goes_before_who_comes_later() {
    let bank = Bank::default();
    let accounts = [claimed(&bank, &Arc::new(rule("all", tokens(100))))];
    let first = held(once(&bank, &accounts, &need(60))).hold;
    let (mut ticket, flag) = (bank.ticket(), Arc::<Flag>::default());
    assert!(matches!(
        ask(&accounts, &need(80), &mut ticket, &flag),
        Attempt::Waiting
    ));
    let (mut later, later_flag) = (bank.ticket(), Arc::<Flag>::default());
    let small = Need {
        usual_output: 5,
        ample_output: 5,
        ..need(5)
    };
    assert!(
        matches!(
            ask(&accounts, &small, &mut later, &later_flag),
            Attempt::Waiting
        ),
        "it would fit, but another one came first"
    );
    first.settle(&used(0), NOW, drop);
    assert!(flag.take() && !later_flag.take());
    let second = held(again(&accounts, &need(80), &mut ticket, &flag));
    assert!(later_flag.take(), "now it is its turn");
    drop(second);
    held(again(&accounts, &small, &mut later, &later_flag));
}

#[test]
fn who_stops_waiting_lets_the_next_one_try() {
    let bank = Bank::default();
    let accounts = [claimed(&bank, &Arc::new(rule("all", tokens(100))))];
    let _first = held(once(&bank, &accounts, &need(60))).hold;
    let (mut ticket, flag) = (bank.ticket(), Arc::<Flag>::default());
    assert!(matches!(
        ask(&accounts, &need(80), &mut ticket, &flag),
        Attempt::Waiting
    ));
    let (mut later, later_flag) = (bank.ticket(), Arc::<Flag>::default());
    let small = Need {
        usual_output: 5,
        ample_output: 5,
        ..need(5)
    };
    assert!(matches!(
        ask(&accounts, &small, &mut later, &later_flag),
        Attempt::Waiting
    ));
    drop(ticket);
    assert!(later_flag.take());
    held(again(&accounts, &small, &mut later, &later_flag));
}

#[test]
fn calls_at_once_are_limited_and_wait_their_turn() {
    let bank = Bank::default();
    let limits = Limits {
        concurrent: Some(2),
        ..Limits::default()
    };
    let accounts = [claimed(&bank, &Arc::new(rule("two", limits)))];
    let first = held(once(&bank, &accounts, &need(60))).hold;
    let _second = held(once(&bank, &accounts, &need(60))).hold;
    let (mut ticket, flag) = (bank.ticket(), Arc::<Flag>::default());
    assert!(matches!(
        ask(&accounts, &need(60), &mut ticket, &flag),
        Attempt::Waiting
    ));
    first.settle(&used(1), NOW, drop);
    assert!(flag.take());
    held(again(&accounts, &need(60), &mut ticket, &flag));
}

#[test]
fn limit_of_calls_counts_running_ones_as_made() {
    let bank = Bank::default();
    let limits = Limits {
        calls: Some(2),
        ..Limits::default()
    };
    let accounts = [claimed(&bank, &Arc::new(rule("two", limits)))];
    let _first = held(once(&bank, &accounts, &need(60))).hold;
    let second = held(once(&bank, &accounts, &need(60))).hold;
    let standing = refused(once(&bank, &accounts, &need(60)));
    assert_eq!(standing.why, Some(Why::Spent(Measure::Calls)));
    let repeated = Need {
        calls: 0,
        ..need(60)
    };
    held(once(&bank, &accounts, &repeated));
    let failed = Used {
        is_call: false,
        ..Used::default()
    };
    second.settle(&failed, NOW, drop);
    held(once(&bank, &accounts, &need(60)));
}

#[test]
fn call_that_is_made_again_adds_nothing_to_a_metric() {
    let bank = Bank::default();
    let limits = Limits {
        micro_metric: Some(12),
        ..Limits::default()
    };
    let account = Claimed {
        micro_metric: 12,
        ..claimed(&bank, &Arc::new(rule("documents", limits)))
    };
    let accounts = [account];
    let first = held(once(&bank, &accounts, &need(60))).hold;
    let again = Need {
        calls: 0,
        ..need(60)
    };
    let second = held(once(&bank, &accounts, &again)).hold;
    first.settle(&used(10), NOW, drop);
    second.settle(&used(10), NOW, drop);
    let standing = refused(once(&bank, &accounts, &need(60)));
    assert_eq!(standing.used.micro_metric, 12);
    assert_eq!(standing.why, Some(Why::Spent(Measure::Metric)));
}

#[test]
fn answer_longer_than_allowed_takes_more_while_there_is_room() {
    let bank = Bank::default();
    let accounts = [claimed(&bank, &Arc::new(rule("all", tokens(100))))];
    let mut hold = held(once(&bank, &accounts, &need(50))).hold;
    assert!(hold.extend(80, NOW).is_ok());
    assert_eq!(accounts[0].cell.lock().held.of(Measure::Tokens), 90);
    assert!(hold.extend(91, NOW).is_err());
    assert_eq!(accounts[0].cell.lock().held.of(Measure::Tokens), 90);
    hold.settle(&used(80), NOW, drop);
    assert!(accounts[0].cell.lock().held.is_zero());
}

#[test]
fn model_without_a_price_counts_as_its_rule_says() {
    let bank = Bank::default();
    let unpriced = Need {
        tariff: None,
        ..need(50)
    };
    let usd = Limits {
        nano_usd: Some(1_000_000),
        ..Limits::default()
    };
    let spent = |on_unpriced: OnUnpriced| {
        let rule = Rule {
            on_unpriced,
            ..rule(on_unpriced.into(), usd)
        };
        let accounts = [claimed(&bank, &Arc::new(rule))];
        match once(&bank, &accounts, &unpriced) {
            Attempt::Held(held) => {
                let used = Used {
                    cost: None,
                    fallback: NanoUsd::new(777),
                    ..used(5)
                };
                let mut charged = Vec::new();
                held.hold.settle(&used, NOW, |charges| charged = charges);
                Some(charged[0].amounts.nano_usd)
            }
            Attempt::Refused(standing) => {
                assert_eq!(standing.why, Some(Why::Unpriced));
                None
            }
            Attempt::Tight | Attempt::Waiting => panic!("neither held nor refused"),
        }
    };
    assert_eq!(spent(OnUnpriced::Refuse), None);
    assert_eq!(spent(OnUnpriced::FallbackPrice), Some(777));
    assert_eq!(spent(OnUnpriced::CountOnly), Some(0));
}

#[test]
fn rule_that_only_warns_never_stops_a_call() {
    let bank = Bank::default();
    let warning = Rule {
        action: Action::Warn,
        ..rule("all", tokens(50))
    };
    let accounts = [claimed(&bank, &Arc::new(warning))];
    for call in 0..5 {
        let held = held(once(&bank, &accounts, &need(500)));
        assert!(!held.hold.is_clamped());
        assert_eq!(held.alerts.len(), usize::from(call == 1), "it warns once");
        held.hold.settle(&used(90), NOW, drop);
    }
}

#[test]
fn delay_grows_from_the_mark_to_the_limit() {
    let bank = Bank::default();
    let slow = Rule {
        slow: Some(crate::core::budget::Slow {
            from: 800,
            max_delay_us: 10_000_000,
        }),
        ..rule("all", tokens(10_000))
    };
    let accounts = [claimed(&bank, &Arc::new(slow))];
    let mut delays = Vec::new();
    for _ in 0..9 {
        let held = held(once(&bank, &accounts, &need(990)));
        delays.push(held.delay_us);
        held.hold.settle(&used(990), NOW, drop);
    }
    assert_eq!(&delays[..8], &[0; 8]);
    assert!(delays[8] == 0, "80 % exactly: the delay begins here");
    let last = held(once(&bank, &accounts, &need(100)));
    assert_eq!(
        last.delay_us, 2_500_000,
        "half way there is a quarter of it"
    );
}

#[test]
fn account_in_use_is_not_forgotten() {
    let bank = Bank::default();
    let rule = Arc::new(rule("all", tokens(100)));
    let account = claimed(&bank, &rule);
    let id = account.cell.id;
    let uses = account.cell.lock().uses;
    assert!(!bank.forget(id, uses), "somebody has it");
    drop(account);
    assert!(!bank.forget(id, uses + 1), "it was used since");
    assert!(bank.forget(id, uses));
    assert!(bank.is_empty());
}

#[test]
fn calls_that_ask_for_any_length_give_back_what_they_took() {
    let bank = Bank::default();
    let calls = Limits {
        calls: Some(100),
        ..Limits::default()
    };
    let accounts = [claimed(&bank, &Arc::new(rule("all", calls)))];
    let hold = || held(once(&bank, &accounts, &need(i64::MAX))).hold;
    let (first, second) = (hold(), hold());
    let in_use = || accounts[0].cell.lock().held;
    drop(first);
    assert!(in_use().output_tokens > 0 && in_use().nano_usd > 0);
    drop(second);
    assert!(in_use().is_zero(), "{:?}", in_use());
}

fn amounts(input_tokens: i64, output_tokens: i64) -> Amounts {
    Amounts {
        input_tokens,
        output_tokens,
        ..Amounts::default()
    }
}

#[test]
fn refused_call_is_told_when_enough_has_left_the_window() {
    let bank = Bank::default();
    let minute = Rule {
        window: Window::Rolling(60_000_000),
        per: vec![Dimension::Run],
        ..rule("all", tokens(100))
    };
    let accounts = [claimed(&bank, &Arc::new(minute))];
    {
        let mut state = accounts[0].cell.lock();
        let account = state.account.as_mut().unwrap();
        for (seconds, spent) in [(50, 30), (20, 40), (10, 20)] {
            let at = Timestamp::from_micros(NOW.micros() - seconds * 1_000_000);
            account.spent.add(at, amounts(spent, 0));
        }
    }
    let standing = refused(once(&bank, &accounts, &need(40)));
    let seconds = standing.fits_at.unwrap().micros_since(NOW) / 1_000_000;
    assert_eq!(
        seconds, 41,
        "after the second bucket has left, with its own second"
    );
}
