//! Brings spans to the collector. What waits for it is the ledger itself: as long as the collector
//! takes nothing, no more than one batch is read ahead.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::sync::watch;

use super::reporter::Reporter;
use super::span::leave_out_content;
use super::span_reader::{Looked, Ready, SpanReader};
use super::transport::{Kind, MAX_BYTES, Transport};
use super::{LOOK, scope};
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::{Bookmark, IndexError, Ledger};
use crate::metrics::{Loss, Metrics};

/// Spans of one request.
const MAX_SPANS: usize = 512;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// A collector that asks for more patience than this does not get it.
const MOST_PATIENCE: Duration = Duration::from_secs(300);

pub(super) struct SpanExporter {
    pub(super) ledger: Ledger,
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) transport: Arc<Transport>,
    pub(super) resource: Resource,
    pub(super) reporter: Reporter,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) give_up_after: Duration,
    pub(super) stop: watch::Receiver<bool>,
}

impl SpanExporter {
    /// None where that broke.
    pub(super) async fn open(&self) -> Option<SpanReader> {
        let (ledger, config) = (self.ledger.clone(), Arc::clone(&self.config));
        let clock = self.clock.clone();
        let reader = tokio::task::spawn_blocking(move || SpanReader::open(&ledger, config, &clock));
        reader.await.ok()
    }

    /// Goes on until it is told to stop, and then until all is told that was recorded by then. What
    /// breaks begins again where the bookmark is.
    pub(super) async fn run(mut self, mut reader: Option<SpanReader>) {
        loop {
            if let Some(reader) = reader
                && self.follow(reader).await.is_some()
            {
                return;
            }
            self.reporter.broke();
            self.pause(LAST_PAUSE).await;
            if *self.stop.borrow() {
                return;
            }
            reader = self.open().await;
        }
    }

    /// Ends when it has to stop; with none where reading the ledger broke.
    async fn follow(&mut self, mut reader: SpanReader) -> Option<()> {
        let mut waiting = VecDeque::new();
        loop {
            let is_last = *self.stop.borrow();
            let looked;
            (reader, looked) = look(reader, is_last).await?;
            let looked = match looked {
                Ok(looked) => looked,
                Err(error) => {
                    self.reporter.unread(&error);
                    self.metrics.otel_lag(reader.lag());
                    if is_last {
                        return Some(());
                    }
                    self.pause(LOOK).await;
                    continue;
                }
            };
            self.reporter.read();
            self.reporter.lost(Loss::Gone, looked.gone);
            self.metrics.otel_lag(looked.lag);
            waiting.extend(looked.spans);
            let is_over = is_last && !looked.is_full;
            loop {
                if !self.deliver(&mut waiting, &reader).await {
                    return Some(());
                }
                if is_over {
                    waiting.extend(reader.rest());
                }
                if waiting.is_empty() {
                    break;
                }
            }
            reader = keep(reader, looked.behind).await?;
            if is_over {
                return Some(());
            }
            if !looked.is_full && !is_last {
                self.pause(LOOK).await;
            }
        }
    }

    /// Sends all that waits, as often as it takes. False when it has to stop before that.
    async fn deliver(&mut self, waiting: &mut VecDeque<Ready>, reader: &SpanReader) -> bool {
        let mut most = MAX_SPANS;
        let mut pause = FIRST_PAUSE;
        loop {
            self.give_up(waiting);
            let batch = front(waiting, most);
            if batch.is_empty() {
                return true;
            }
            let count = batch.len();
            match self.transport.send(self.request(batch)).await {
                Ok(taken) => {
                    self.reporter.took(count as u64, &taken);
                    waiting.drain(..count);
                    pause = FIRST_PAUSE;
                }
                Err(failure) => match failure.kind {
                    Kind::TooLarge if count > 1 => most = count.div_ceil(2),
                    Kind::TooLarge if lighten(waiting) => {}
                    Kind::TooLarge | Kind::Never => {
                        self.reporter.refused(count as u64, &failure);
                        waiting.drain(..count);
                    }
                    Kind::Later(_) if *self.stop.borrow() => {
                        self.reporter.failed(&failure);
                        return false;
                    }
                    Kind::Later(after) => {
                        self.reporter.failed(&failure);
                        self.metrics.otel_lag(reader.lag());
                        let asked = after.unwrap_or_default().min(MOST_PATIENCE);
                        self.pause(asked.max(self.jittered(pause))).await;
                        pause = (pause * 2).min(LAST_PAUSE);
                    }
                },
            }
        }
    }

    /// What ended too long ago is not told any more.
    fn give_up(&self, waiting: &mut VecDeque<Ready>) {
        let patience = i64::try_from(self.give_up_after.as_micros()).unwrap_or(i64::MAX);
        let since = self.clock.now().micros().saturating_sub(patience);
        let before = waiting.len();
        waiting.retain(|ready| ready.since.micros() >= since);
        let lost = before.saturating_sub(waiting.len());
        self.reporter.lost(Loss::Late, lost as u64);
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope_spans = vec![ScopeSpans {
            scope: Some(instrumentation()),
            spans,
            ..ScopeSpans::default()
        }];
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans,
                ..ResourceSpans::default()
            }],
        }
    }

    /// Half of it at least, so that those who failed together do not come together again.
    fn jittered(&self, pause: Duration) -> Duration {
        let jitter = self.clock.now().micros().unsigned_abs() % 1000;
        pause / 2 + pause / 2 * u32::try_from(jitter).unwrap_or(0) / 1000
    }

    /// Waits, unless it is time to stop.
    async fn pause(&mut self, time: Duration) {
        let stopped = self.stop.wait_for(|is_stopped| *is_stopped);
        let _ = tokio::time::timeout(time, stopped).await;
    }
}

fn instrumentation() -> InstrumentationScope {
    InstrumentationScope {
        name: scope::NAME.to_owned(),
        version: scope::VERSION.to_owned(),
        ..InstrumentationScope::default()
    }
}

/// What goes into one request.
fn front(waiting: &VecDeque<Ready>, most: usize) -> Vec<Span> {
    let mut bytes = 0;
    let mut batch = Vec::new();
    for ready in waiting.iter().take(most) {
        bytes += ready.span.encoded_len();
        if bytes > MAX_BYTES && !batch.is_empty() {
            break;
        }
        batch.push(ready.span.clone());
    }
    batch
}

/// Leaves out what was said in the call that is next; false where that is nothing.
fn lighten(waiting: &mut VecDeque<Ready>) -> bool {
    let next = waiting.front_mut();
    next.is_some_and(|ready| leave_out_content(&mut ready.span))
}

/// None where that broke.
async fn look(
    mut reader: SpanReader,
    is_last: bool,
) -> Option<(SpanReader, Result<Looked, IndexError>)> {
    let looked = tokio::task::spawn_blocking(move || {
        if is_last {
            reader.catch_up();
        }
        let looked = reader.look();
        (reader, looked)
    });
    looked.await.ok()
}

async fn keep(mut reader: SpanReader, behind: Bookmark) -> Option<SpanReader> {
    let kept = tokio::task::spawn_blocking(move || {
        reader.keep(behind);
        reader
    });
    kept.await.ok()
}
