//! From a finding to a refusal, and back.

use super::super::super::id::{CallId, Label};
use super::super::super::time::Timestamp;
use super::super::finding::{Scope, Signal};
use super::super::guard::{Caller, Guard, No, Policy, Verdict};
use super::super::limits::{Beyond, RunLimits};
use super::super::settings::{Mode, Settings};
use super::super::trip::{ClosedBy, Trip};
use super::generator::{Rng, Script, Step};

const COOL_DOWN_US: u64 = 60_000_000;

/// A run under watch, and a clock.
struct Desk {
    guard: Guard,
    policy: Policy,
    now: Timestamp,
    calls: u8,
    is_certain: bool,
}

impl Desk {
    fn new() -> Self {
        Self {
            guard: Guard::default(),
            policy: Policy {
                settings: Settings::BALANCED,
                limits: RunLimits::default(),
                max_delay_ms: 4000,
                cool_down_us: COOL_DOWN_US,
            },
            now: Timestamp::from_micros(1_000_000_000_000_000),
            calls: 0,
            is_certain: true,
        }
    }

    fn call(&mut self, step: &Step) -> Verdict {
        self.calls += 1;
        self.now = self.now.plus_micros(1_000_000);
        let label = |text: &str| Label::parse(text).unwrap();
        let (agent, run) = (label(&step.agent), label("r1"));
        let caller = step.caller.as_deref().map(label);
        let caller = Caller {
            call: CallId::from_bytes([self.calls; 16]),
            run: Some(&run),
            conversation: None,
            agent: &agent,
            caller: caller.as_ref(),
            is_run_certain: self.is_certain,
            now: self.now,
        };
        let ask = step.ask();
        let verdict = self.guard.judge(&ask, &caller, &self.policy);
        if verdict.refusal.is_none() {
            self.guard.used(caller.call, 100);
            match step.answer() {
                Some(answer) => self.guard.answer(ask.conversation, &answer, None),
                None => self.guard.fail(ask.conversation),
            }
        }
        verdict
    }

    /// Calls until one is refused.
    fn run(&mut self, script: &Script) -> Option<Trip> {
        script
            .steps
            .iter()
            .find_map(|step| tripped(&self.call(step)))
    }
}

fn tripped(verdict: &Verdict) -> Option<Trip> {
    match &verdict.refusal {
        Some(No::Tripped(trip)) => Some(trip.as_ref().clone()),
        _ => None,
    }
}

fn failing() -> Script {
    super::same_error(&mut Rng::new(3))
}

/// One more round of a script's last step.
fn again(script: &Script) -> &Step {
    script.steps.last().unwrap()
}

#[test]
fn loop_is_warned_about_then_slowed_then_refused_with_its_evidence() {
    let (mut desk, script) = (Desk::new(), failing());
    let mut seen = Vec::new();
    for step in &script.steps {
        let verdict = desk.call(step);
        let is_refused = verdict.refusal.is_some();
        seen.push((verdict.warning.is_some(), verdict.delay_ms > 0, is_refused));
        if is_refused {
            break;
        }
    }
    let last: Vec<_> = seen.iter().rev().take(3).rev().collect();
    assert_eq!(
        last,
        [
            &(true, false, false),
            &(true, true, false),
            &(false, false, true)
        ]
    );
    let trip = tripped(&desk.call(again(&script))).unwrap();
    let evidence = &trip.evidence;
    assert_eq!(
        (evidence.signal, evidence.scope),
        (Signal::Repeat, Scope::Conversation)
    );
    assert_eq!(evidence.count, 6);
    assert_eq!(evidence.calls.len(), 6);
    assert_eq!(evidence.tokens, 600);
    assert_eq!(evidence.agents, [Label::parse("agent").unwrap()]);
    assert_eq!(trip.refused, 2);
}

#[test]
fn warning_is_told_once_for_each_pattern() {
    let (mut desk, script) = (Desk::new(), failing());
    let told = script
        .steps
        .iter()
        .filter(|step| desk.call(step).told.is_some());
    assert_eq!(told.count(), 1);
}

#[test]
fn observing_refuses_and_slows_nothing() {
    let (mut desk, script) = (Desk::new(), failing());
    desk.policy.settings.mode = Mode::Observe;
    let verdicts: Vec<Verdict> = script.steps.iter().map(|step| desk.call(step)).collect();
    assert!(
        verdicts
            .iter()
            .all(|it| it.refusal.is_none() && it.delay_ms == 0)
    );
    assert!(verdicts.iter().any(|it| it.warning.is_some()));
}

#[test]
fn slowing_delays_up_to_the_most_and_refuses_nothing() {
    let (mut desk, script) = (Desk::new(), failing());
    desk.policy.settings.mode = Mode::Slow;
    let delays: Vec<u64> = script
        .steps
        .iter()
        .map(|step| desk.call(step).delay_ms)
        .collect();
    let delays: Vec<u64> = delays.into_iter().filter(|delay| *delay > 0).collect();
    assert_eq!(delays[..6], [250, 500, 1000, 2000, 4000, 4000]);
}

#[test]
fn only_the_conversation_that_loops_is_refused() {
    let (mut desk, script) = (Desk::new(), failing());
    assert!(desk.run(&script).is_some());
    let other = Step::of("other")
        .fresh()
        .hears("What else is there?")
        .says("Much.");
    assert!(desk.call(&other).refusal.is_none());
    assert!(desk.call(again(&script)).refusal.is_some());
}

#[test]
fn agents_of_a_run_that_is_guessed_are_not_stopped_for_each_other() {
    let script = super::handed_down(&mut Rng::new(5));
    let mut desk = Desk::new();
    assert_eq!(desk.run(&script).unwrap().evidence.scope, Scope::Run);
    let mut desk = Desk::new();
    desk.is_certain = false;
    let steps = script.steps.iter().take(25);
    let verdicts: Vec<Verdict> = steps.map(|step| desk.call(step)).collect();
    let depth = |it: &Verdict| matches!(it.refusal, Some(No::Beyond(Beyond::Depth(_))));
    assert!(verdicts.iter().all(|it| it.refusal.is_none() || depth(it)));
    assert!(verdicts.iter().any(|it| it.delay_ms > 0));
}

#[test]
fn user_who_says_something_new_ends_a_trip() {
    let (mut desk, script) = (Desk::new(), failing());
    desk.run(&script).unwrap();
    let old = Step::of("agent").hears("Go on.");
    assert!(desk.call(&old).refusal.is_some(), "go on is no news");
    let new = Step::of("agent").hears("Leave that file and read the other one, please.");
    let verdict = desk.call(&new.calls("grep", "{}"));
    assert!(verdict.refusal.is_none());
    let closed = verdict.changed[0].closed.as_ref().unwrap();
    assert_eq!(closed.by, ClosedBy::User);
}

#[test]
fn one_call_is_let_through_after_the_cool_down() {
    let (mut desk, script) = (Desk::new(), failing());
    desk.run(&script).unwrap();
    desk.now = desk.now.plus_micros(COOL_DOWN_US);
    let probe = desk.call(again(&script));
    assert!(probe.is_probe && probe.refusal.is_none());
    // It did the same once more: the trip stays, and for longer.
    assert!(desk.call(again(&script)).refusal.is_some());
    desk.now = desk.now.plus_micros(COOL_DOWN_US);
    assert!(desk.call(again(&script)).refusal.is_some());
    desk.now = desk.now.plus_micros(COOL_DOWN_US);
    let probe = again(&script)
        .clone()
        .calls("list", r#"{"path":"elsewhere/entirely"}"#);
    assert!(desk.call(&probe).is_probe);
    let better = Step::of("agent").brings(
        super::super::turn::From::Tool {
            call: 1,
            is_error: false,
        },
        "main.rs lib.rs and a good many other files",
    );
    let verdict = desk.call(&better.says("Found it."));
    assert!(verdict.refusal.is_none());
    assert_eq!(
        verdict.changed[0].closed.as_ref().unwrap().by,
        ClosedBy::Probe
    );
}

#[test]
fn reset_is_an_allowance_and_no_immunity() {
    let (mut desk, script) = (Desk::new(), failing());
    let trip = desk.run(&script).unwrap();
    assert!(
        desk.guard
            .reset(CallId::from_bytes([9; 16]), 0, desk.now)
            .is_none()
    );
    assert!(desk.guard.reset(trip.id, 0, desk.now).is_some());
    let passed = (0..20).take_while(|_| desk.call(again(&script)).refusal.is_none());
    assert_eq!(passed.count(), 5);
    let trip = desk.guard.open_trips().next().unwrap().id;
    assert!(desk.guard.reset(trip, 10, desk.now).is_some());
    let passed = (0..30).take_while(|_| desk.call(again(&script)).refusal.is_none());
    assert_eq!(passed.count(), 15);
}

#[test]
fn limits_of_a_run_are_kept() {
    let mut desk = Desk::new();
    desk.policy.limits = RunLimits {
        max_depth: Some(3),
        max_fan_out: Some(2),
        max_calls: Some(6),
        max_calls_per_minute: None,
    };
    let beyond = |verdict: Verdict| match verdict.refusal {
        Some(No::Beyond(beyond)) => Some(beyond),
        _ => None,
    };
    let child = |name: &str| {
        Step::of(name)
            .from("boss")
            .fresh()
            .hears("Do it.")
            .says("Done.")
    };
    assert_eq!(
        beyond(desk.call(&child("a").deep(4))),
        Some(Beyond::Depth(3))
    );
    assert_eq!(beyond(desk.call(&child("a"))), None);
    assert_eq!(beyond(desk.call(&child("b"))), None);
    assert_eq!(beyond(desk.call(&child("c"))), Some(Beyond::FanOut(2)));
    let mut rng = Rng::new(1);
    for _ in 0..4 {
        let step = Step::of("boss")
            .hears(&rng.sentence(9))
            .says(&rng.sentence(9));
        assert_eq!(beyond(desk.call(&step)), None);
    }
    let last = Step::of("boss").hears("And now?");
    assert_eq!(beyond(desk.call(&last)), Some(Beyond::Calls(6)));
}

#[test]
fn calls_of_a_minute_are_bounded_and_there_is_room_again() {
    let mut desk = Desk::new();
    desk.policy.limits.max_calls_per_minute = Some(5);
    let mut rng = Rng::new(1);
    let mut call = |desk: &mut Desk| {
        let step = Step::of("boss")
            .hears(&rng.sentence(9))
            .says(&rng.sentence(9));
        desk.call(&step).refusal
    };
    let passed = (0..10).take_while(|_| call(&mut desk).is_none());
    assert_eq!(passed.count(), 5);
    desk.now = desk.now.plus_micros(130_000_000);
    assert!(call(&mut desk).is_none());
}

#[test]
fn trip_bars_nothing_once_only_observing_is_asked_for() {
    let (mut desk, script) = (Desk::new(), failing());
    desk.run(&script).unwrap();
    desk.policy.settings.mode = Mode::Observe;
    assert!(desk.call(again(&script)).refusal.is_none());
}

#[test]
fn probe_that_fails_is_tried_again_after_another_cool_down() {
    let mut desk = Desk::new();
    let request = Step::of("agent")
        .fresh()
        .hears("Is anybody there at this hour?");
    desk.call(&request.clone().fails());
    let resent = Step::of("agent").again().fails();
    while desk.call(&resent).refusal.is_none() {}
    for _ in 0..3 {
        assert!(desk.call(&resent).refusal.is_some());
        desk.now = desk.now.plus_micros(4 * COOL_DOWN_US);
        assert!(
            desk.call(&resent).refusal.is_none(),
            "one is let through to see"
        );
        assert!(desk.call(&resent).refusal.is_some(), "it failed again");
    }
    desk.now = desk.now.plus_micros(16 * COOL_DOWN_US);
    let answered = Step::of("agent")
        .again()
        .says("I am, and have been all the time.");
    assert!(desk.call(&answered).refusal.is_none());
    let next = Step::of("agent").hears("Go on.").says("I do.");
    assert!(desk.call(&next).refusal.is_none());
    assert_eq!(desk.guard.open_trips().count(), 0);
}

#[test]
fn errors_are_told_from_their_denial() {
    use super::super::turn::is_error;
    for error in [
        "Error: no route to host",
        "error: no matching package named x",
        "app.py:10:0: error",
        "exit code: 0\nerror: it broke",
        "foo 1.0.0 not found",
        "{\"error\": \"none of the hosts answered\"}",
        "1 failed",
    ] {
        assert!(is_error(error), "{error}");
    }
    for fine in [
        "{\"success\": true, \"error\": null}",
        "{\\\"isError\\\":false}",
        "0 errors, 3 warnings",
        "no errors",
        "errors=[]",
        "12 passed, 0 failed",
    ] {
        assert!(!is_error(fine), "{fine}");
    }
}
