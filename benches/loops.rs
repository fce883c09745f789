//! What it takes to recognise a call, judge it and take its answer in, by the length of its history;
//! and what a run takes of memory while it is watched.

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use open_aiops::clock::Clock;
use open_aiops::config::Config;
use open_aiops::core::attribution::{Attribution, Confidence, Source};
use open_aiops::core::call::Operation;
use open_aiops::core::digest::{Digest, DigestSeed};
use open_aiops::core::id::Label;
use open_aiops::loops::recognise::{Request, Turn};
use open_aiops::loops::{Ended, Loops};
use open_aiops::wire::response::ResponseReader;
use open_aiops::wire::route::Dialect;
use open_aiops::wire::scan::{RequestFacts, scan};

const SEED: DigestSeed = DigestSeed(7);
const RUNS: u32 = 100_000;
const CALLS: usize = 8;

/// A chat of so many messages of some 100 bytes; the last ones are a tool call and its result.
fn body(messages: usize) -> Bytes {
    let mut text = String::from(
        r#"{"model":"m","messages":[{"role":"system","content":"You are the coder."}"#,
    );
    for n in 0..messages {
        let role = if n % 2 == 0 { "user" } else { "assistant" };
        // Writing into a text does not fail.
        let _ = write!(
            text,
            r#",{{"role":"{role}","content":"Message {n} of a long talk about tides, winds and boats."}}"#
        );
    }
    text.push_str(
        r#",{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":
        {"name":"grep","arguments":"{\"path\":\"src/main.rs\",\"pattern\":\"fn main\"}"}}]},
        {"role":"tool","tool_call_id":"c1","content":"12: fn main() { run(); }"}]}"#,
    );
    Bytes::from(text)
}

fn who(run: Option<&str>) -> Option<Attribution> {
    Some(Attribution {
        agent: Label::parse("coder").ok()?,
        caller: None,
        run: run.and_then(|run| Label::parse(run).ok()),
        parent_run: None,
        path: Vec::new(),
        depth: 1,
        user: None,
        variant: None,
        conversation: None,
        tags: std::collections::BTreeMap::new(),
        metrics: std::collections::BTreeMap::new(),
        agent_source: Source::Own,
        run_source: run.map(|_| Source::Own),
        inferred: Confidence::default(),
    })
}

fn engine() -> Loops {
    Loops::new(&Config::default(), Clock::System, Box::new(()))
}

fn recognise(
    loops: &Loops,
    (text, facts): (&Bytes, &RequestFacts),
    who: &mut Attribution,
) -> Option<Turn> {
    let clock = Clock::System;
    let request = Request {
        call: clock.call_id(),
        operation: Operation::Chat,
        facts,
        text,
        seed: SEED,
        key: None,
        retry: 0,
        shows: true,
        now: clock.now(),
    };
    loops.recognise(&request, who)
}

/// Judges a call and takes its answer in.
fn judge(loops: &Loops, turn: &Turn, who: &Attribution, said: &mut ResponseReader) {
    let judged = loops.judge(turn, who, Clock::System.call_id());
    black_box(judged.is_ok());
    let ended = Ended {
        said: said.said(),
        response_id: None,
        is_answered: true,
        chants: false,
    };
    loops.ended(turn, who.run.as_ref(), &ended);
}

/// A call and its answer.
fn call(loops: &Loops, body: (&Bytes, &RequestFacts), run: &str, said: &mut ResponseReader) {
    let Some(mut who) = who(Some(run)) else {
        return;
    };
    if let Some(turn) = recognise(loops, body, &mut who) {
        judge(loops, &turn, &who, said);
    }
}

fn answer() -> ResponseReader {
    let mut reader = ResponseReader::new(Dialect::Chat, None, None, 200);
    reader.push(
        br#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","tool_calls":[{"id":"c2",
        "type":"function","function":{"name":"grep","arguments":"{\"path\":\"src/lib.rs\"}"}}]}}]}"#,
    );
    reader
}

/// The facts of a body, made new by the digest of its last message.
fn renewed(facts: &mut RequestFacts, number: u64) {
    if let Some(last) = facts.segments.last_mut() {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(number.to_le_bytes()) {
            *to = from;
        }
        last.digest = Digest::from_bytes(bytes);
    }
}

fn by_history(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("call");
    for messages in [10, 100, 1_000, 10_000] {
        let text = body(messages);
        let mut facts = scan(Operation::Chat, Dialect::Chat, &text, SEED);
        let mut known = facts.clone();
        known.segments.truncate(facts.segments.len() - 2);
        let loops = engine();
        let mut said = answer();
        call(&loops, (&text, &known), "r1", &mut said);
        let mut number = 0;
        group.bench_function(BenchmarkId::new("recognised", messages), |bench| {
            bench.iter(|| {
                number += 1;
                renewed(&mut facts, number);
                let mut who = who(Some("r1"))?;
                recognise(&loops, (&text, &facts), &mut who)
            });
        });
        let mut next = || {
            number += 1;
            renewed(&mut facts, number);
            let mut who = who(Some("r1"))?;
            let turn = recognise(&loops, (&text, &facts), &mut who)?;
            Some((turn, who))
        };
        group.bench_function(BenchmarkId::new("judged", messages), |bench| {
            bench.iter_batched(
                &mut next,
                |made| {
                    if let Some((turn, who)) = made {
                        judge(&loops, &turn, &who, &mut said);
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * 4096
}

fn of_many_runs(_: &mut Criterion) {
    // One conversation that grows: each request begins as the one before.
    let text = body(2 * CALLS);
    let whole = scan(Operation::Chat, Dialect::Chat, &text, SEED);
    let facts: Vec<RequestFacts> = (0..CALLS)
        .map(|n| {
            let mut facts = whole.clone();
            facts.segments.truncate(2 + 2 * n);
            facts
        })
        .collect();
    let loops = engine();
    let before = resident();
    let mut said = answer();
    for run in 0..RUNS {
        let run = format!("run-{run}");
        for facts in &facts {
            call(&loops, (&text, facts), &run, &mut said);
        }
    }
    let taken = resident().saturating_sub(before);
    #[expect(clippy::print_stdout, reason = "it is what this measures")]
    {
        println!(
            "{RUNS} runs of {CALLS} calls take {} MiB, {} bytes each",
            taken >> 20,
            taken / u64::from(RUNS)
        );
    }
    black_box(loops);
}

criterion_group!(benches, by_history, of_many_runs);
criterion_main!(benches);
