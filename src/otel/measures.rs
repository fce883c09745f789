//! Metrics of the conventions: counted from the ledger, gathered by the SDK, told from time to time.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::LOOK;
use super::facts::Facts;
use super::instruments::Instruments;
use super::parts::{halves, points};
use super::reporter::Reporter;
use super::transport::{Kind, MAX_BYTES, Transport};
use crate::config::Config;
use crate::ledger::{CallDetail, Feed, IndexError, Ledger, News};

/// Calls that are read at once.
const CALLS: usize = 512;
const AFTER_A_FAULT: Duration = Duration::from_secs(30);

/// Follows the ledger and counts what ends.
pub(super) struct Measures {
    ledger: Ledger,
    feed: Feed,
    config: Arc<ArcSwap<Config>>,
    instruments: Arc<Instruments>,
    reporter: Arc<Reporter>,
    provider: SdkMeterProvider,
}

impl Measures {
    /// Counts what ends from now on.
    pub(super) fn open(
        ledger: &Ledger,
        config: Arc<ArcSwap<Config>>,
        (transport, reporter): (Arc<Transport>, Reporter),
        resource: Resource,
    ) -> Self {
        let otel = config.load().otel.clone();
        let reporter = Arc::new(reporter);
        let exporter = Exporter {
            transport,
            reporter: Arc::clone(&reporter),
            runtime: Handle::current(),
        };
        let reader = PeriodicReader::builder(exporter)
            .with_interval(otel.metrics_every)
            .build();
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(reader)
            .build();
        Self {
            instruments: Arc::new(Instruments::new(&provider, otel.conventions)),
            feed: Feed::from_end(ledger),
            ledger: ledger.clone(),
            provider,
            reporter,
            config,
        }
    }

    /// The same, where it stands.
    fn again(&self) -> Self {
        Self {
            ledger: self.ledger.clone(),
            feed: Feed::at(&self.ledger, self.feed.bookmark()),
            config: Arc::clone(&self.config),
            instruments: Arc::clone(&self.instruments),
            reporter: Arc::clone(&self.reporter),
            provider: self.provider.clone(),
        }
    }

    /// Goes on until it is told to stop, and then tells all once more.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let is_last = *stop.borrow();
            let again = self.again();
            let looked = tokio::task::spawn_blocking(move || {
                if is_last {
                    self.ledger.sync_index();
                }
                let is_full = self.look();
                (self, is_full)
            });
            let (is_full, pause) = if let Ok((back, is_full)) = looked.await {
                self = back;
                (is_full, LOOK)
            } else {
                self = again;
                self.reporter.broke();
                (false, AFTER_A_FAULT)
            };
            if is_last && !is_full {
                break;
            }
            if !is_full {
                let stopped = stop.wait_for(|is_stopped| *is_stopped);
                let _ = tokio::time::timeout(pause, stopped).await;
            }
        }
        let ended = tokio::task::spawn_blocking(move || self.provider.shutdown());
        if let Ok(Err(error)) = ended.await {
            tracing::debug!(%error, "the last metrics were not told");
        }
    }

    /// Counts what ended since the last look; says whether there is more by now. Where that cannot be
    /// read nothing is counted, and the next look begins there again.
    fn look(&mut self) -> bool {
        let here = self.feed.bookmark();
        let (calls, is_full) = match self.read() {
            Ok(read) => read,
            Err(error) => {
                self.reporter.unread(&error);
                self.feed = Feed::at(&self.ledger, here);
                return false;
            }
        };
        self.reporter.read();
        let config = self.config.load();
        for call in calls {
            let mut upstreams = config.upstreams.iter();
            let upstream = upstreams.find(|it| it.name == call.row.upstream);
            if let Some(facts) = Facts::of(&call, upstream, self.ledger.seed()) {
                self.instruments.record(&facts);
            }
        }
        is_full
    }

    fn read(&mut self) -> Result<(Vec<CallDetail>, bool), IndexError> {
        let batch = self.feed.next(CALLS)?;
        let view = self.ledger.peek();
        let mut calls = Vec::new();
        for (_, news) in batch.news {
            let News::Settled(id) = news else { continue };
            calls.extend(view.call(id)?);
        }
        Ok((calls, batch.is_full))
    }
}

/// Tells of all figures, in parts where they are too many. What is not taken for now is in the next ones.
async fn tell(transport: &Transport, reporter: &Reporter, request: ExportMetricsServiceRequest) {
    let mut waiting = vec![request];
    while let Some(request) = waiting.pop() {
        if request.encoded_len() > MAX_BYTES
            && let Some(parts) = halves(&request)
        {
            waiting.extend(parts);
            continue;
        }
        let count = points(&request);
        match transport.send(request.clone()).await {
            Ok(taken) => reporter.took(count, &taken),
            Err(failure) if matches!(failure.kind, Kind::Later(_)) => {
                return reporter.failed(&failure);
            }
            Err(failure) => match halves(&request).filter(|_| failure.kind == Kind::TooLarge) {
                Some(parts) => waiting.extend(parts),
                None => reporter.refused(count, &failure),
            },
        }
    }
}

/// What the SDK hands its figures to, on a thread of its own.
struct Exporter {
    transport: Arc<Transport>,
    reporter: Arc<Reporter>,
    runtime: Handle,
}

impl PushMetricExporter for Exporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let request = ExportMetricsServiceRequest::from(metrics);
        if points(&request) == 0 {
            return Ok(());
        }
        let (transport, reporter) = (Arc::clone(&self.transport), Arc::clone(&self.reporter));
        let sent = self
            .runtime
            .spawn(async move { tell(&transport, &reporter, request).await });
        sent.await
            .map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}
