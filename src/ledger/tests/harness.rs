//! A ledger on fake disks, and calls to record.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Clock;
use crate::config::{Durability, LedgerConfig, OnFailure, RecordLevel};
use crate::core::attribution::{Attribution, Confidence, Source};
use crate::core::budget::{AccountId, Limits, RunState, StoredAccount};
use crate::core::call::{Admission, Operation, Outcome, Settlement, Timings};
use crate::core::digest::DigestSeed;
use crate::core::id::{CallId, Label};
use crate::core::metric::{Measurement, Value};
use crate::core::money::NanoUsd;
use crate::core::redaction::Redaction;
use crate::core::time::Timestamp;
use crate::core::usage::{Provenance, Usage};

use super::super::fake::{FakeDisk, IndexDisk};
use super::super::index::Place;
use super::super::recovery::unsettled;
use super::super::writer::Settings;
use super::super::{
    CallFilter, CallRow, Capture, Ledger, MetricFilter, OpenError, Parts, Recovery, RollupRow,
    View, open_parts,
};

/// 2026-01-01.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
pub(crate) const HOUR_US: i64 = 3_600_000_000;

pub(crate) fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

pub(crate) fn config() -> LedgerConfig {
    LedgerConfig {
        dir: "unused".into(),
        durability: Durability::Strict,
        record: RecordLevel::Full,
        max_body_bytes: 1 << 20,
        redact: Redaction::default(),
        show_headers: Vec::new(),
        keep_for: None,
        keep_bytes: None,
        segment_bytes: 1 << 20,
        on_failure: OnFailure::Serve,
        max_queue_bytes: 16 << 20,
    }
}

/// What a process leaves behind for the next one.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) disk: FakeDisk,
    pub(crate) index: IndexDisk,
    pub(crate) clock: Clock,
    pub(crate) config: LedgerConfig,
}

impl Machine {
    pub(crate) fn new(config: LedgerConfig) -> Self {
        let clock = Clock::manual(START);
        Self {
            disk: FakeDisk::default(),
            index: IndexDisk::default(),
            clock,
            config,
        }
    }

    pub(crate) fn try_open(&self) -> Result<(Ledger, Recovery), OpenError> {
        let parts = Parts {
            storage: Arc::new(self.disk.clone()),
            place: Place::Fake(self.index.clone()),
            lock: None,
        };
        let retry = Duration::from_millis(1);
        let settings = Settings {
            retry,
            ..Settings::of(&self.config)
        };
        open_parts(parts, &self.config, self.clock.clone(), undo, settings)
    }

    #[track_caller]
    pub(crate) fn open(&self) -> (Ledger, Recovery) {
        self.try_open().unwrap()
    }

    /// The same disks with everything copied.
    pub(crate) fn with_disk(&self, disk: FakeDisk) -> Self {
        Self {
            disk,
            index: self.index.copy(),
            ..self.clone()
        }
    }

    pub(crate) fn call(&self, run: &str, agent: &str) -> Admission {
        admission(self.clock.call_id(), self.clock.now(), Some(run), agent)
    }
}

/// The encoding `reversed` of tests; none other can be undone.
pub(crate) fn undo(encoding: &str, bytes: &[u8], most: usize) -> Option<Vec<u8>> {
    let reversed = || bytes.iter().rev().copied().take(most).collect();
    (encoding == "reversed").then(reversed)
}

pub(crate) fn admission(
    id: CallId,
    started_at: Timestamp,
    run: Option<&str>,
    agent: &str,
) -> Admission {
    Admission {
        id,
        started_at,
        attribution: Attribution {
            agent: label(agent),
            caller: (agent != "planner").then(|| label("planner")),
            run: run.map(label),
            parent_run: run.filter(|run| *run != "root").map(|_| label("root")),
            path: vec![label("planner"), label(agent)],
            depth: 2,
            user: None,
            variant: None,
            conversation: None,
            tags: BTreeMap::from([("team".to_owned(), label("blue"))]),
            metrics: BTreeMap::from([("score".to_owned(), Value::Number(0.5))]),
            agent_source: Source::Own,
            run_source: Some(Source::Own),
            inferred: Confidence::default(),
        },
        upstream: label("openai"),
        operation: Operation::Chat,
        method: "POST".to_owned(),
        target: "/v1/chat/completions?key=1".to_owned(),
        request_model: Some(label("gpt-5")),
        stream: true,
        output_limit: None,
        estimated_input_tokens: 11,
        key: None,
        client: Some(label("tests")),
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

/// How a call ends that went well.
pub(crate) fn settlement(admission: &Admission) -> Settlement {
    Settlement {
        status: Some(200),
        usage: Usage {
            input_tokens: 10,
            output_tokens: 5,
            ..Usage::default()
        },
        provenance: Provenance::Reported,
        cost: Some(NanoUsd::new(1500)),
        response_id: Label::parse(&format!("resp-{}", admission.id)).ok(),
        timings: Timings {
            total_us: 1000,
            ..Timings::default()
        },
        ..unsettled(admission, Outcome::Completed)
    }
}

/// A body without known messages.
pub(crate) fn plain(bytes: &[u8]) -> Capture {
    Capture {
        chunks: vec![Bytes::copy_from_slice(bytes)],
        len: bytes.len() as u64,
        ..Capture::default()
    }
}

/// A request body made of messages, each of which has its digest.
pub(crate) fn conversation(seed: DigestSeed, messages: &[String]) -> Capture {
    let mut bytes = b"{\"messages\":[".to_vec();
    let mut segments = Vec::new();
    for message in messages {
        let start = bytes.len();
        bytes.extend_from_slice(message.as_bytes());
        segments.push((start..bytes.len(), seed.digest(message.as_bytes())));
        bytes.push(b',');
    }
    bytes.extend_from_slice(b"]}");
    Capture {
        segments,
        ..plain(&bytes)
    }
}

pub(crate) fn wire(capture: &Capture) -> Vec<u8> {
    capture.chunks.concat()
}

/// Text that does not compress to nothing.
pub(crate) fn message(number: usize) -> String {
    let words = (0..20).map(|word| blake3::hash(&[number.to_le_bytes(), [word; 8]].concat()));
    words.map(|word| word.to_hex().to_string()).collect()
}

pub(crate) fn all_calls(view: &View) -> Vec<CallRow> {
    let page = view.calls(&CallFilter::default()).unwrap();
    assert_eq!(page.next, None);
    page.items
}

pub(crate) fn all_rollups(view: &View) -> Vec<RollupRow> {
    view.rollups(i32::MIN, i32::MAX).unwrap()
}

pub(crate) fn all_accounts(view: &View) -> BTreeMap<AccountId, StoredAccount> {
    let mut accounts = BTreeMap::new();
    let mut take = |id, account| {
        accounts.insert(id, account);
        ControlFlow::Continue(())
    };
    view.each_account(&mut take).unwrap();
    accounts
}

fn all_runs(view: &View) -> Vec<(Label, RunState)> {
    let mut runs = Vec::new();
    view.each_run(&mut |run, state| runs.push((run, state)))
        .unwrap();
    runs
}

/// Everything queries can tell, to compare two states.
pub(crate) fn everything(view: &View) -> String {
    let spans = super::super::SpanFilter::default();
    format!(
        "{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}",
        all_accounts(view),
        all_runs(view),
        view.events(&spans).unwrap(),
        all_calls(view),
        view.runs(&super::super::RunFilter::default()).unwrap(),
        view.agents(&spans).unwrap(),
        view.edges(&spans).unwrap(),
        all_rollups(view),
        view.metrics(&MetricFilter::default()).unwrap(),
        all_measured(view),
    )
}

/// All that was measured, newest first within each name.
pub(crate) fn all_measured(view: &View) -> Vec<Measurement> {
    let page = view.measurements(&MetricFilter::default()).unwrap();
    page.items
}

/// Waits for a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}
