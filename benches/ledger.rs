//! What recording costs: per call on the way of the call, and until it is on disk.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use open_aiops::clock::Clock;
use open_aiops::config::{Durability, LedgerConfig, OnFailure, RecordLevel};
use open_aiops::core::attribution::{Attribution, Confidence, Source};
use open_aiops::core::budget::Limits;
use open_aiops::core::call::{Admission, Operation, Outcome, Settlement, Timings};
use open_aiops::core::id::Label;
use open_aiops::core::money::NanoUsd;
use open_aiops::core::usage::{Provenance, Usage};
use open_aiops::ledger::{Capture, Ledger, open};

fn label(text: &str) -> Option<Label> {
    Label::parse(text).ok()
}

fn config(dir: &Path, durability: Durability) -> LedgerConfig {
    LedgerConfig {
        dir: dir.to_owned(),
        durability,
        record: RecordLevel::Full,
        max_body_bytes: 16 << 20,
        redact: open_aiops::core::redaction::Redaction::default(),
        show_headers: Vec::new(),
        keep_for: None,
        keep_bytes: Some(256 << 20),
        segment_bytes: 64 << 20,
        on_failure: OnFailure::Serve,
        max_queue_bytes: 256 << 20,
    }
}

fn admission(clock: &Clock) -> Option<Admission> {
    Some(Admission {
        id: clock.call_id(),
        started_at: clock.now(),
        attribution: Attribution {
            agent: label("researcher")?,
            caller: label("planner"),
            run: label("run-1"),
            parent_run: None,
            path: vec![label("planner")?, label("researcher")?],
            depth: 2,
            user: None,
            variant: None,
            conversation: None,
            tags: BTreeMap::new(),
            metrics: BTreeMap::new(),
            agent_source: Source::Own,
            run_source: Some(Source::Own),
            inferred: Confidence::default(),
        },
        upstream: label("openai")?,
        operation: Operation::Chat,
        method: "POST".to_owned(),
        target: "/v1/chat/completions".to_owned(),
        request_model: label("gpt-5"),
        stream: false,
        output_limit: None,
        estimated_input_tokens: 100,
        key: None,
        client: label("bench"),
        retry: 0,
        previous_response: None,
        request: None,
        hold: Vec::new(),
        tightened: Limits::default(),
        decision: None,
        headers: None,
        kept: None,
        trace: None,
        instance: None,
    })
}

fn settlement(admission: &Admission) -> Settlement {
    let who = &admission.attribution;
    Settlement {
        id: admission.id,
        started_at: admission.started_at,
        agent: who.agent.clone(),
        caller: who.caller.clone(),
        run: who.run.clone(),
        parent_run: None,
        upstream: admission.upstream.clone(),
        operation: admission.operation,
        model: admission.request_model.clone(),
        outcome: Outcome::Completed,
        status: Some(200),
        usage: Usage {
            input_tokens: 100,
            output_tokens: 50,
            ..Usage::default()
        },
        provenance: Provenance::Reported,
        cost: Some(NanoUsd::new(1000)),
        cost_source: None,
        response_model: None,
        response_id: None,
        service_tier: None,
        finish_reasons: Vec::new(),
        timings: Timings {
            total_us: 1000,
            ..Timings::default()
        },
        request_bytes: 0,
        response_bytes: 0,
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

/// Calls recorded at once, few enough that the queue takes them all.
const BURST: u64 = 500;

/// Messages of a conversation: 80 of about 500 bytes, the last two new with every call.
fn long_request(ledger: &Ledger, call: u64) -> Capture {
    let mut bytes = b"{\"messages\":[".to_vec();
    let mut segments = Vec::new();
    for number in 0..80_u64 {
        let seed = if number < 78 {
            number
        } else {
            1000 + 2 * call + number
        };
        let start = bytes.len();
        for part in 0..8_u64 {
            let hash = blake3::hash([seed.to_le_bytes(), part.to_le_bytes()].as_flattened());
            bytes.extend_from_slice(hash.to_hex().as_bytes());
        }
        let message = bytes.get(start..).unwrap_or_default();
        segments.push((start..bytes.len(), ledger.seed().digest(message)));
        bytes.push(b',');
    }
    let len = bytes.len() as u64;
    Capture {
        chunks: vec![Bytes::from(bytes)],
        len,
        segments,
        ..Capture::default()
    }
}

fn small() -> Capture {
    let bytes = Bytes::from_static(b"{\"model\":\"gpt-5\",\"messages\":[{\"role\":\"user\"}]}");
    Capture {
        len: bytes.len() as u64,
        chunks: vec![bytes],
        ..Capture::default()
    }
}

fn record(ledger: &Ledger, clock: &Clock, request: Capture, wait: bool) -> Option<()> {
    let admission = admission(clock)?;
    let settlement = settlement(&admission);
    let entry = ledger.admit(admission, Some(request)).ok()?;
    if wait {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .ok()?
            .block_on(entry.durable());
    }
    entry.settle(settlement, Some(small()));
    Some(())
}

fn ledger(criterion: &mut Criterion) {
    let Ok(dir) = tempfile::tempdir_in(".") else {
        return;
    };
    for (name, durability) in [
        ("relaxed", Durability::Relaxed),
        ("strict", Durability::Strict),
    ] {
        let dir = dir.path().join(name);
        let clock = Clock::System;
        let Ok((ledger, _)) = open(&config(&dir, durability), clock.clone(), |_, _, _| None) else {
            return;
        };
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        // The whole of it: the writer and the index have kept up when the time is taken.
        for (size, long) in [("small", false), ("40 KB, 2 new messages", true)] {
            let mut call = 0;
            group.bench_function(
                format!("admit, settle, written, indexed: {size}"),
                |bencher| {
                    bencher.iter_custom(|calls| {
                        let mut taken = Duration::ZERO;
                        let end = call + calls;
                        while call < end {
                            let until = end.min(call + BURST);
                            let request = |call| {
                                if long {
                                    long_request(&ledger, call)
                                } else {
                                    small()
                                }
                            };
                            let requests: Vec<_> = (call..until).map(request).collect();
                            call = until;
                            let start = Instant::now();
                            for request in requests {
                                black_box(record(&ledger, &clock, request, false));
                            }
                            ledger.sync_index();
                            taken += start.elapsed();
                        }
                        taken
                    });
                },
            );
        }
        if durability == Durability::Strict {
            group.bench_function("one call until it is durable", |bencher| {
                bencher.iter(|| black_box(record(&ledger, &clock, small(), true)));
            });
        }
        group.finish();
        let status = ledger.status();
        assert_eq!(
            (status.dropped_records, status.dropped_bodies),
            (0, 0),
            "{status:?}"
        );
    }
}

criterion_group!(benches, ledger);
criterion_main!(benches);
