//! The scan of a request body beside a full `serde_json::Value` of it, at three sizes, and of one
//! whose last message is all that is new.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use open_aiops::core::call::Operation;
use open_aiops::core::digest::DigestSeed;
use open_aiops::wire::route::Dialect;
use open_aiops::wire::scan::{Scanner, scan};
use serde_json::{Value, json};

/// A conversation of about `bytes` bytes: prose, code with escapes, and tool results.
fn body(bytes: usize) -> Vec<u8> {
    let contents = [
        "Please look at the failing test and tell me what has to change, step by step. ".repeat(6),
        "fn main() {\n\tprintln!(\"{:?}\", \"a\\\\b\");\n}\n".repeat(40),
        "{\"path\": \"src/lib.rs\", \"lines\": [1, 2, 3], \"ok\": true}".repeat(30),
    ];
    let mut messages = vec![json!({"role": "system", "content": "Be brief."})];
    let mut length = 0;
    for content in contents.iter().cycle() {
        if length >= bytes {
            break;
        }
        let content = content.get(..bytes - length).unwrap_or(content);
        length += content.len() + 40;
        messages.push(json!({"role": "user", "content": content}));
    }
    json!({"model": "gpt-5.1", "stream": true, "messages": messages})
        .to_string()
        .into_bytes()
}

/// Changes the text of the last message, so that it is a new one every time.
fn change_last_message(body: &mut [u8], turn: u64) {
    let before = br#"{"content":""#;
    let start = body
        .windows(before.len())
        .rposition(|bytes| bytes == before)
        .unwrap_or_default()
        + before.len();
    if let Some(place) = body.get_mut(start..start + 10) {
        place.copy_from_slice(format!("{turn:010}").as_bytes());
    }
}

fn scans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request body");
    for (name, bytes) in [("1 KB", 700), ("40 KB", 37_000), ("400 KB", 370_000)] {
        let body = body(bytes);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("scan", name), &body, |bencher, body| {
            bencher.iter(|| {
                scan(
                    Operation::Chat,
                    Dialect::Chat,
                    black_box(body),
                    DigestSeed(1),
                )
            });
        });
        group.bench_with_input(
            BenchmarkId::new("scan, last message new", name),
            &body,
            |bencher, body| {
                let scanner = Scanner::new(DigestSeed(1));
                let (mut body, mut turn) = (body.clone(), 0);
                bencher.iter(|| {
                    turn += 1;
                    change_last_message(&mut body, turn);
                    let facts = scanner.scan(Operation::Chat, Dialect::Chat, black_box(&body));
                    assert!(facts.readable);
                    facts
                });
            },
        );
        group.bench_with_input(
            BenchmarkId::new("serde_json::Value", name),
            &body,
            |bencher, body| {
                bencher.iter(|| serde_json::from_slice::<Value>(black_box(body)).map(drop));
            },
        );
    }
    group.finish();
}

criterion_group!(benches, scans);
criterion_main!(benches);
