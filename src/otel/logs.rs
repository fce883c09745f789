//! What the program logs, told to the collector too. What sending it logs is left out, for it would
//! never end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord, SdkLogger, SdkLoggerProvider};
use tokio::sync::{mpsc, watch};
use tracing::Metadata;

use super::reporter::Reporter;
use super::transport::{Kind, Transport};
use super::{LOOK, scope};
use crate::metrics::Loss;

/// Lines that wait, and those of one request.
const QUEUE: usize = 4096;
const BATCH: usize = 512;
/// How long a line waits for a collector that takes none.
const ATTEMPTS: u32 = 5;

/// Targets that are heard of while something is sent.
const OWN: [&str; 9] = [
    "hyper",
    "hyper_util",
    "h2",
    "tonic",
    "tower",
    "reqwest",
    "rustls",
    "opentelemetry",
    "open_aiops::otel",
];

/// What a subscriber of `tracing` passes lines on by.
pub type Bridge = OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger>;

/// Lines on their way from the log to the collector.
pub struct LogQueue {
    waiting: mpsc::Receiver<LogRecord>,
    lost: Arc<AtomicU64>,
}

/// A bridge, and the other end of it. Lines beyond what waits are counted and left out.
pub fn bridge() -> (Bridge, LogQueue) {
    let (queue, waiting) = mpsc::channel(QUEUE);
    let lost = Arc::<AtomicU64>::default();
    let processor = Processor {
        queue,
        lost: Arc::clone(&lost),
    };
    let provider = SdkLoggerProvider::builder()
        .with_log_processor(processor)
        .build();
    let bridge = OpenTelemetryTracingBridge::new(&provider);
    (bridge, LogQueue { waiting, lost })
}

/// Whether a line may be told of: none that sending lines makes.
pub fn is_told(line: &Metadata<'_>) -> bool {
    let target = line.target();
    let is_of = |own: &str| {
        let rest = target.strip_prefix(own);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '_', '-']))
    };
    !OWN.iter().any(|own| is_of(own))
}

#[derive(Debug)]
struct Processor {
    queue: mpsc::Sender<LogRecord>,
    lost: Arc<AtomicU64>,
}

impl LogProcessor for Processor {
    fn emit(&self, line: &mut SdkLogRecord, _: &InstrumentationScope) {
        if self.queue.try_send(LogRecord::from(&*line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Brings lines to the collector.
pub(super) struct LogExporter {
    pub(super) transport: Arc<Transport>,
    pub(super) resource: Resource,
    pub(super) reporter: Reporter,
    pub(super) stop: watch::Receiver<bool>,
}

impl LogExporter {
    pub(super) async fn run(mut self, mut lines: LogQueue) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let is_last = *self.stop.borrow();
            self.reporter
                .lost(Loss::Full, lines.lost.swap(0, Ordering::Relaxed));
            while batch.len() < BATCH
                && let Ok(line) = lines.waiting.try_recv()
            {
                batch.push(line);
            }
            if batch.is_empty() {
                if is_last || lines.waiting.is_closed() {
                    return;
                }
                self.pause(LOOK).await;
                continue;
            }
            self.deliver(std::mem::take(&mut batch)).await;
        }
    }

    async fn deliver(&mut self, batch: Vec<LogRecord>) {
        let count = batch.len() as u64;
        for attempt in 1..=ATTEMPTS {
            match self.transport.send(self.request(batch.clone())).await {
                Ok(taken) => return self.reporter.took(count, &taken),
                Err(failure) if !matches!(failure.kind, Kind::Later(_)) => {
                    return self.reporter.refused(count, &failure);
                }
                Err(failure) => self.reporter.failed(&failure),
            }
            if *self.stop.borrow() {
                break;
            }
            self.pause(LOOK * attempt).await;
        }
        self.reporter.lost(Loss::Late, count);
    }

    fn request(&self, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
        let scope_logs = vec![ScopeLogs {
            scope: Some(v1::InstrumentationScope {
                name: scope::NAME.to_owned(),
                version: scope::VERSION.to_owned(),
                ..v1::InstrumentationScope::default()
            }),
            log_records,
            ..ScopeLogs::default()
        }];
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs,
                ..ResourceLogs::default()
            }],
        }
    }

    async fn pause(&mut self, time: Duration) {
        let stopped = self.stop.wait_for(|is_stopped| *is_stopped);
        let _ = tokio::time::timeout(time, stopped).await;
    }
}
