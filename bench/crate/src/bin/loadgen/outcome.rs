//! What a run found: counts, quantiles, CPU and memory.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Durations, kept in nanoseconds.
pub(crate) struct Durations(Histogram<u64>);

/// Microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Quantiles {
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Durations {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_max(600_000_000_000, 3)?))
    }

    pub(crate) fn add(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let micros = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        (!self.0.is_empty()).then(|| Quantiles {
            count: self.0.len(),
            p50: micros(0.5),
            p90: micros(0.9),
            p99: micros(0.99),
            max: self.0.max() as f64 / 1e3,
        })
    }
}

/// One tenth of a counted run.
#[derive(Debug, Serialize)]
pub(crate) struct Slice {
    pub(crate) cpu_us_per_call: f64,
    pub(crate) rss_kib: u64,
}

/// Open streams at rest.
#[derive(Debug, Serialize)]
pub(crate) struct Held {
    pub(crate) streams: usize,
    pub(crate) rss_kib: u64,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Length of the measured window.
    pub(crate) seconds: f64,
    /// Calls that were due in the window.
    pub(crate) asked: u64,
    /// Those of them answered well.
    pub(crate) ok: u64,
    pub(crate) calls_per_second: f64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) first_error: Option<String>,
    /// Answers, in and out of the window.
    pub(crate) all_calls: u64,
    pub(crate) mean_request_bytes: u64,
    pub(crate) latency_us: Option<Quantiles>,
    pub(crate) first_chunk_us: Option<Quantiles>,
    pub(crate) chunk_delay_us: Option<Quantiles>,
    pub(crate) cpu_utilisation: f64,
    pub(crate) cpu_us_per_call: Option<f64>,
    pub(crate) cpu_us_per_chunk: Option<f64>,
    pub(crate) rss_before_kib: u64,
    pub(crate) rss_after_kib: u64,
    pub(crate) held: Option<Held>,
    pub(crate) tenths: Vec<Slice>,
}
