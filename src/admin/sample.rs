//! A ledger in a temporary directory with a few calls in it, and budgets at work, for tests.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use jiff::tz::TimeZone;
use tempfile::TempDir;
use wildmatch::WildMatch;

use super::{AdminState, Records};
use crate::alerts::Alerts;
use crate::budgets::{Ask, Budgets, Claim, Hold};
use crate::clock::Clock;
use crate::config::Config;
use crate::core::attribution::{Attribution, Confidence, Source};
use crate::core::budget::decide::{Need, Tariff};
use crate::core::budget::{Action, Dimension, Limits, OnUnpriced, Rule, Slow, Unit, Window};
use crate::core::call::{Admission, Operation, Outcome, Settlement, Timings};
use crate::core::id::{CallId, Label};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::usage::{Provenance, Usage};
use crate::ledger::{self, Capture, Ledger};
use crate::loops::Loops;
use crate::sinks::Sinks;

pub(crate) const REQUEST: &[u8] = br#"{"model":"gpt-5","messages":[]}"#;
pub(crate) const RESPONSE: &[u8] = b"<script>alert(1)</script>";

/// Who makes a call, and how it ends.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) run: &'static str,
    pub(crate) agent: &'static str,
    pub(crate) caller: Option<&'static str>,
    pub(crate) model: &'static str,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) cost: Option<i64>,
}

pub(crate) const PLANNER: Call = Call {
    run: "night/1",
    agent: "planner",
    caller: None,
    model: "gpt-5",
    outcome: Some(Outcome::Completed),
    cost: Some(2_000_000),
};
pub(crate) const RESEARCHER: Call = Call {
    agent: "researcher",
    caller: Some("planner"),
    model: "local-llama",
    cost: None,
    ..PLANNER
};
pub(crate) const FAILED: Call = Call {
    outcome: Some(Outcome::UpstreamCut),
    ..RESEARCHER
};

pub(crate) fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

pub(crate) struct Sample {
    pub(crate) dir: TempDir,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_micros(1_793_536_205_000_000));
        let mut config = Config::default().ledger;
        config.dir = dir.path().to_owned();
        let (ledger, _) = ledger::open(&config, clock.clone(), |_, _, _| None).unwrap();
        Self { dir, clock, ledger }
    }

    /// A listener's state over this ledger, with these budgets in force.
    pub(crate) fn state(&self, rules: &[Rule]) -> AdminState {
        let (ledger, clock) = (self.ledger.clone(), self.clock.clone());
        let keeper = Box::new(ledger.clone());
        let loops = Arc::new(Loops::new(&Config::default(), clock.clone(), keeper));
        let alerts = Alerts::resting(&self.ledger, &self.clock);
        AdminState {
            ledger: ledger.clone(),
            metrics: Arc::default(),
            config: Arc::new(ArcSwap::from_pointee(Config::default())),
            memory: Arc::default(),
            budgets: Arc::new(Budgets::new(rules, 1000, ledger, clock.clone())),
            records: Records::new(
                super::Source::Live(self.ledger.clone()),
                clock.clone(),
                (Some(Arc::clone(&loops)), Some(Arc::clone(&alerts))),
            ),
            loops,
            access: Arc::default(),
            alerts,
            sinks: Sinks::none(&self.ledger, &self.clock),
            draining: Arc::default(),
            started_at: clock.now(),
            clock,
        }
    }

    /// Records a call, a second after the one before.
    pub(crate) fn record(&self, call: Call) -> CallId {
        self.record_saying(call, REQUEST, RESPONSE)
    }

    /// The same, with bodies of its own.
    pub(crate) fn record_saying(&self, call: Call, request: &[u8], response: &[u8]) -> CallId {
        self.clock.advance_micros(1_000_000);
        let admission = admission(self.clock.call_id(), self.clock.now(), call);
        let id = admission.id;
        let entry = self
            .ledger
            .admit(admission.clone(), Some(capture(request)))
            .unwrap();
        if let Some(outcome) = call.outcome {
            entry.settle(
                settlement(admission, call, outcome),
                Some(capture(response)),
            );
        } else {
            // Stays open: an entry that is dropped is settled as cut.
            std::mem::forget(entry);
        }
        id
    }
}

/// A budget of each kind.
pub(crate) fn rules() -> Vec<Rule> {
    let each_run = Rule {
        name: label("each run"),
        per: vec![Dimension::Run],
        matching: Vec::new(),
        limits: Limits {
            nano_usd: Some(2_000_000_000),
            calls: Some(100),
            ..Limits::default()
        },
        window: Window::Total,
        metric: None,
        slow: Some(Slow {
            from: 800,
            max_delay_us: 10_000_000,
        }),
        warn_at: Some(500),
        action: Action::Break,
        on_unpriced: OnUnpriced::FallbackPrice,
    };
    let by_day = Rule {
        name: label("day/all"),
        per: Vec::new(),
        matching: vec![(
            Dimension::Agent,
            ["plan*", "research*"].map(WildMatch::new).to_vec(),
        )],
        limits: Limits {
            tokens: Some(10_000),
            ..Limits::default()
        },
        window: Window::Calendar(Unit::Day, TimeZone::get("Europe/Berlin").unwrap()),
        metric: None,
        slow: None,
        warn_at: None,
        action: Action::Warn,
        ..each_run.clone()
    };
    let team = Rule {
        name: label("team"),
        per: vec![Dimension::User, Dimension::Tag(label("team"))],
        matching: Vec::new(),
        limits: Limits {
            concurrent: Some(2),
            ..Limits::default()
        },
        window: Window::Rolling(900_000_000),
        action: Action::Break,
        on_unpriced: OnUnpriced::CountOnly,
        ..by_day.clone()
    };
    vec![each_run, by_day, team]
}

/// What a call claims whose client allows its run `tightened`.
pub(crate) async fn claim(budgets: &Budgets, call: Call, tightened: Limits) -> Claim {
    let made = admission(CallId::from_bytes([7; 16]), Timestamp::default(), call);
    budgets.claim(&ask(&made, tightened)).await.unwrap()
}

fn ask(made: &Admission, tightened: Limits) -> Ask<'_> {
    Ask {
        attribution: &made.attribution,
        key: None,
        model: made.request_model.as_ref(),
        upstream: &made.upstream,
        operation: made.operation,
        tightened,
    }
}

/// A hold of 1000 tokens in, up to 100 out, $0.02 and one call.
pub(crate) async fn hold(budgets: &Budgets, claim: &mut Claim) -> Hold {
    let tariff = Tariff {
        before_output: NanoUsd::new(10_000_000),
        pico_usd_per_output_token: 100_000_000,
    };
    let need = Need {
        input_tokens: 1000,
        most_output: 100,
        usual_output: 40,
        ample_output: 40,
        is_clampable: true,
        tariff: Some(tariff),
        fallback: tariff,
        calls: 1,
    };
    let patience = std::time::Duration::ZERO;
    // It does not wait, so nobody looks at who asks.
    let made = admission(CallId::from_bytes([7; 16]), Timestamp::default(), PLANNER);
    let ask = ask(&made, Limits::default());
    let exact = async || need;
    let granted = budgets.hold((claim, &ask), &need, exact, patience).await;
    granted.unwrap_or_else(|refusal| panic!("{refusal}")).hold
}

fn capture(bytes: &[u8]) -> Capture {
    Capture {
        is_broken: false,
        chunks: vec![Bytes::copy_from_slice(bytes)],
        len: bytes.len() as u64,
        segments: Vec::new(),
        content_type: Some("text/html".to_owned()),
        content_encoding: None,
    }
}

pub(crate) fn admission(id: CallId, started_at: Timestamp, call: Call) -> Admission {
    Admission {
        id,
        started_at,
        attribution: Attribution {
            agent: label(call.agent),
            caller: call.caller.map(label),
            run: Some(label(call.run)),
            parent_run: None,
            path: Vec::new(),
            depth: 1,
            user: None,
            variant: None,
            conversation: Some(label("thread-7")),
            tags: [("team".to_owned(), label("search"))].into(),
            metrics: [("score".to_owned(), crate::core::metric::Value::Number(0.5))].into(),
            agent_source: Source::Own,
            run_source: Some(Source::Own),
            inferred: Confidence::default(),
        },
        upstream: label("openai"),
        operation: Operation::Chat,
        method: "POST".to_owned(),
        target: "/v1/chat/completions".to_owned(),
        request_model: Some(label(call.model)),
        stream: true,
        output_limit: Some(100),
        estimated_input_tokens: 1000,
        key: None,
        client: None,
        retry: 0,
        previous_response: None,
        request: None,
        hold: Vec::new(),
        tightened: Limits::default(),
        decision: None,
        headers: None,
        kept: None,
        instance: None,
        trace: None,
    }
}

pub(crate) fn settlement(admission: Admission, call: Call, outcome: Outcome) -> Settlement {
    Settlement {
        id: admission.id,
        started_at: admission.started_at,
        agent: admission.attribution.agent,
        caller: admission.attribution.caller,
        run: admission.attribution.run,
        parent_run: None,
        upstream: admission.upstream,
        operation: admission.operation,
        model: admission.request_model,
        outcome,
        status: Some(200),
        usage: Usage {
            input_tokens: 1000,
            output_tokens: 50,
            ..Usage::default()
        },
        provenance: Provenance::Reported,
        cost: call.cost.map(NanoUsd::new),
        cost_source: None,
        response_model: None,
        response_id: None,
        service_tier: None,
        finish_reasons: vec![label("stop")],
        timings: Timings {
            forwarded_us: Some(100),
            total_us: 2_000_000,
            ..Timings::default()
        },
        request_bytes: REQUEST.len() as u64,
        response_bytes: RESPONSE.len() as u64,
        error: None,
        response: None,
        chunks: Vec::new(),
        charges: Vec::new(),
        settled_at: None,
        is_pending: false,
        headers: None,
        instance: None,
    }
}
