//! Load generator: one thread, epoll, raw HTTP/1.1, one JSON report on stdout.
//!
//! `closed`: each connection sends as soon as it has its answer. `open`: a constant rate, and a
//! call's latency counts from the moment it was due, so that a stalled proxy cannot hide behind its
//! own back-pressure. `once`: one call a connection, the starts spread over `--ramp-ms`.

mod connection;
mod engine;
mod outcome;
mod process;
mod response;
mod schedule;
mod traffic;

use std::net::SocketAddr;
use std::num::NonZeroU64;

use anyhow::ensure;
use clap::{Parser, ValueEnum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Closed,
    Open,
    Once,
}

/// Load generator for the benchmark.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// The target, a loopback address.
    #[arg(long, default_value = "127.0.0.1:18080")]
    target: SocketAddr,
    #[arg(long, value_enum, default_value = "closed")]
    mode: Mode,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Calls a second (open).
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Seconds before anything is measured.
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Measured seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Stop after so many calls instead (closed); CPU and memory are reported per tenth of them.
    #[arg(long)]
    calls: Option<u64>,
    /// Spread of the starts (once).
    #[arg(long, default_value_t = 500)]
    ramp_ms: u64,
    /// Once every stream has its first chunk, hold them so long, measure memory and leave (once).
    #[arg(long)]
    hold_ms: Option<u64>,
    /// Give up so long after the last call was due.
    #[arg(long, default_value_t = 2.0)]
    grace: f64,
    /// Histories grow up to about so many bytes; 0 sends small bodies.
    #[arg(long, default_value_t = 0)]
    history: usize,
    /// Size at which a history starts.
    #[arg(long, default_value_t = 0)]
    history_from: usize,
    /// New bytes a call of a history brings.
    #[arg(long, default_value_t = 2000)]
    turn: usize,
    /// Histories that grow side by side.
    #[arg(long, default_value_t = 16)]
    conversations: usize,
    /// Small calls in a row that are of one run.
    #[arg(long, default_value = "20")]
    calls_per_run: NonZeroU64,
    /// Ask for a stream with usage.
    #[arg(long)]
    stream: bool,
    /// Length of the answers.
    #[arg(long, default_value_t = 16)]
    tokens: usize,
    /// The same seed sends the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Report CPU and memory of this process and its children.
    #[arg(long)]
    pid: Option<u32>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(
        options.target.ip().is_loopback(),
        "the target must be on loopback"
    );
    ensure!(
        options.connections > 0 && options.rate > 0.0,
        "nothing to send"
    );
    let report = engine::Engine::new(&options)?.run()?;
    serde_json::to_writer(std::io::stdout().lock(), &report)?;
    Ok(())
}
