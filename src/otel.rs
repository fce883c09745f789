//! Telling an OpenTelemetry collector: spans of calls, agents and runs, the metrics of the `GenAI`
//! conventions, and the log.
//!
//! Nothing here is on the way of a call. Spans and metrics are made of what the ledger has recorded, by
//! readers that follow it; the one thing done while a call runs is to tell the upstream of its span,
//! and that is done by `proxy`, with the same ids.

mod content;
mod conventions;
mod facts;
mod instruments;
mod kept;
pub mod logs;
mod measures;
mod parts;
mod reporter;
mod run_spans;
mod scope;
mod span;
mod span_exporter;
mod span_reader;
mod transport;
mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use opentelemetry_sdk::Resource;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::logs::{LogExporter, LogQueue};
use self::measures::Measures;
use self::reporter::Reporter;
use self::span_exporter::SpanExporter;
use self::transport::Transport;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::metrics::{Metrics, Otel as Signal};
use crate::upstream::UpstreamError;

/// How often it is looked for something new.
const LOOK: Duration = Duration::from_secs(1);
/// What is left to tell at the end takes no longer than this.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Why a collector cannot be told anything at all.
#[derive(Debug, thiserror::Error)]
pub enum OtelError {
    #[error("[otel] endpoint is not set")]
    NoEndpoint,
    #[error("[otel] {0}")]
    Trust(#[from] UpstreamError),
    #[error("[otel] the collector cannot be spoken to: {0}")]
    Client(String),
}

/// Everything that tells the collector.
pub struct Otel {
    config: Arc<ArcSwap<Config>>,
    metrics: Arc<Metrics>,
    transport: Arc<Transport>,
    resource: Resource,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Otel {
    /// Begins to tell of what ends from now on; none where there is no collector.
    pub async fn start(
        config: &Arc<ArcSwap<Config>>,
        ledger: &Ledger,
        (clock, metrics): (&Clock, &Arc<Metrics>),
    ) -> Result<Option<Self>, OtelError> {
        let otel = config.load().otel.clone();
        if otel.endpoint.is_none() {
            return Ok(None);
        }
        let named = config
            .load()
            .shared
            .as_ref()
            .and_then(|it| it.instance.clone());
        let instance = named.map_or_else(|| ledger.name(), |name| name.to_string());
        let mut this = Self {
            transport: Arc::new(Transport::new(&otel)?),
            resource: scope::resource(&otel, instance),
            config: Arc::clone(config),
            metrics: Arc::clone(metrics),
            stop: watch::Sender::new(false),
            tasks: Vec::new(),
        };
        if otel.traces() {
            this.trace(ledger, clock).await;
        }
        if otel.metrics() {
            this.measure(ledger);
        }
        Ok(Some(this))
    }

    async fn trace(&mut self, ledger: &Ledger, clock: &Clock) {
        let exporter = SpanExporter {
            ledger: ledger.clone(),
            config: Arc::clone(&self.config),
            transport: Arc::clone(&self.transport),
            resource: scope::told(&self.resource),
            reporter: Reporter::new(Signal::Traces, &self.metrics),
            metrics: Arc::clone(&self.metrics),
            clock: clock.clone(),
            give_up_after: self.config.load().otel.give_up_after,
            stop: self.stop.subscribe(),
        };
        // Now, so that nothing ends unseen before it reads.
        let reader = exporter.open().await;
        self.tasks.push(tokio::spawn(exporter.run(reader)));
    }

    fn measure(&mut self, ledger: &Ledger) {
        let resource = self.resource.clone();
        let reporter = Reporter::new(Signal::Metrics, &self.metrics);
        let way = (Arc::clone(&self.transport), reporter);
        let measures = Measures::open(ledger, Arc::clone(&self.config), way, resource);
        let task = measures.run(self.stop.subscribe());
        self.tasks.push(tokio::spawn(task));
    }

    /// Tells of what is logged, too.
    pub fn carry(&mut self, lines: LogQueue) {
        let exporter = LogExporter {
            transport: Arc::clone(&self.transport),
            resource: scope::told(&self.resource),
            reporter: Reporter::new(Signal::Logs, &self.metrics),
            stop: self.stop.subscribe(),
        };
        self.tasks.push(tokio::spawn(exporter.run(lines)));
    }

    /// Tells what is left, if the collector takes it soon. What it does not is told by the next
    /// process.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + STOP_LIMIT;
        for task in &mut self.tasks {
            // Those that take longer end when this is dropped.
            let _ = tokio::time::timeout_at(deadline, task).await;
        }
    }
}

impl Drop for Otel {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
