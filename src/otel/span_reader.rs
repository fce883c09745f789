//! Reads calls off the ledger and makes spans of them. Blocks on the disk.

use std::sync::Arc;

use arc_swap::ArcSwap;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::content::Content;
use super::facts::Facts;
use super::run_spans::RunSpans;
use super::span;
use crate::clock::Clock;
use crate::config::{Config, OtelConfig};
use crate::core::call::{Operation, StoredBody};
use crate::core::time::Timestamp;
use crate::core::trace::SAMPLED;
use crate::ledger::{BodyReader, Bookmark, CallDetail, Feed, IndexError, Ledger, News, Note};
use crate::wire::decode::decode_all;
use crate::wire::parameters::Parameters;
use crate::wire::readable::Transcript;
use crate::wire::route::{Dialect, route};

/// Where the reading stood, within the directory of the ledger.
const BOOKMARK: &str = "otel-bookmark";
/// Calls that are read at once: with what was said, each of them may be long.
const CALLS: usize = 64;
/// Bytes of a body with its encoding undone.
const MAX_DECODED: usize = 64 << 20;

pub(super) struct SpanReader {
    ledger: Ledger,
    feed: Feed,
    config: Arc<ArcSwap<Config>>,
    settings: OtelConfig,
    clock: Clock,
    runs: RunSpans,
    note: Note,
    kept: Bookmark,
    /// The place of the process before this one was not to be read.
    is_lost: bool,
    /// That a body cannot be read was said.
    is_told: bool,
}

/// A span, and since when it waits.
pub(super) struct Ready {
    pub(super) span: Span,
    pub(super) since: Timestamp,
}

/// What a look at the ledger gave.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) spans: Vec<Ready>,
    /// There is more by now.
    pub(super) is_full: bool,
    /// Calls whose records were gone; where the log has a gap it is not known how many.
    pub(super) gone: u64,
    pub(super) behind: Bookmark,
    /// Bytes of the log that were not looked at yet.
    pub(super) lag: u64,
}

impl SpanReader {
    /// Goes on where the process before this one stood, else from now on.
    pub(super) fn open(ledger: &Ledger, config: Arc<ArcSwap<Config>>, clock: &Clock) -> Self {
        let now = config.load_full();
        let note = Note::new(&now.ledger.dir, BOOKMARK);
        let (kept, is_lost) = match kept(&note) {
            Ok(kept) => (kept, false),
            Err(error) => {
                let file = note.file();
                let file = file.display();
                tracing::warn!("{file}: {error}; spans begin with what ends from now on");
                (None, true)
            }
        };
        let feed = match kept {
            Some(kept) => Feed::at(ledger, kept),
            None => Feed::from_end(ledger),
        };
        let mut reader = Self {
            runs: RunSpans::new(ledger.seed(), now.otel.conventions),
            settings: now.otel.clone(),
            ledger: ledger.clone(),
            kept: feed.bookmark(),
            clock: clock.clone(),
            config,
            feed,
            note,
            is_lost,
            is_told: false,
        };
        if kept.is_none() {
            let here = reader.kept;
            reader.write(here);
        }
        reader
    }

    /// What ended since the last look. Where that cannot be read the next look begins there again.
    pub(super) fn look(&mut self) -> Result<Looked, IndexError> {
        let here = self.feed.bookmark();
        let mut looked = self.look_on();
        match &mut looked {
            Ok(looked) => looked.gone += u64::from(std::mem::take(&mut self.is_lost)),
            Err(_) => self.feed = Feed::at(&self.ledger, here),
        }
        looked
    }

    fn look_on(&mut self) -> Result<Looked, IndexError> {
        let batch = self.feed.next(CALLS)?;
        let mut looked = Looked {
            is_full: batch.is_full,
            gone: u64::from(batch.missed),
            behind: batch.behind,
            lag: self.feed.lag(),
            ..Looked::default()
        };
        let view = self.ledger.peek().clone();
        let mut calls = Vec::new();
        for (_, news) in batch.news {
            let News::Settled(id) = news else { continue };
            calls.push(view.call(id)?);
        }
        // From here on nothing fails: what is heard twice would be counted twice.
        let mut bodies = BodyReader::new(&view);
        for call in calls {
            match call {
                Some(call) => self.hear(&call, &mut bodies, &mut looked),
                None => looked.gone += 1,
            }
        }
        let now = self.clock.now();
        let idle = i64::try_from(self.settings.run_idle.as_micros()).unwrap_or(i64::MAX);
        let since = now.micros().saturating_sub(idle);
        let silent = self.runs.silent(Timestamp::from_micros(since));
        looked.is_full |= !silent.is_empty();
        looked.spans.extend(made(silent, now));
        Ok(looked)
    }

    /// Bytes of the log behind what was told.
    pub(super) fn lag(&self) -> u64 {
        Feed::at(&self.ledger, self.kept).lag()
    }

    /// Spans of runs that were not told yet, some of them; none when all were.
    pub(super) fn rest(&mut self) -> Vec<Ready> {
        made(self.runs.rest(), self.clock.now()).collect()
    }

    /// Waits until all that was recorded by now can be looked at.
    pub(super) fn catch_up(&self) {
        self.ledger.sync_index();
    }

    /// All up to here was told.
    pub(super) fn keep(&mut self, behind: Bookmark) {
        if behind != self.kept {
            self.write(behind);
        }
    }

    fn write(&mut self, behind: Bookmark) {
        match self.note.write(&behind.to_string()) {
            Ok(()) => self.kept = behind,
            Err(error) => tracing::debug!(%error, "the place in the ledger is not kept"),
        }
    }

    fn hear(&mut self, call: &CallDetail, bodies: &mut BodyReader<'_>, looked: &mut Looked) {
        let config = self.config.load();
        let mut upstreams = config.upstreams.iter();
        let upstream = upstreams.find(|it| it.name == call.row.upstream);
        let Some(mut facts) = Facts::of(call, upstream, self.ledger.seed()) else {
            looked.gone += 1;
            return;
        };
        if facts.place.flags & SAMPLED == 0 {
            return;
        }
        if let Err(error) = self.read(&mut facts, bodies)
            && !std::mem::replace(&mut self.is_told, true)
        {
            let call = call.row.id;
            tracing::warn!(
                "what was said in call {call} cannot be read ({error}); such spans are told without it, \
                 and not told of here again"
            );
        }
        let now = self.clock.now();
        looked.spans.push(Ready {
            since: facts.ended_at(),
            span: span::of_call(&facts, self.settings.conventions),
        });
        let pushed_out = self.runs.hear(&facts, now);
        looked.spans.extend(made(pushed_out, now));
    }

    /// What its bodies say, as far as they are recorded.
    fn read(&self, facts: &mut Facts<'_>, bodies: &mut BodyReader<'_>) -> Result<(), IndexError> {
        let settings = &self.settings;
        let most = settings.max_content_bytes;
        let mut content = Content::default();
        if let Some((body, _)) = plain(facts.admission.request.as_ref(), bodies)? {
            facts.parameters = Parameters::of(&body);
            if settings.content {
                let operation = facts.admission.operation;
                let transcript = Transcript::of(operation, dialect(facts), &body);
                content.hear(&transcript, &body, most);
            }
        }
        if !settings.content {
            return Ok(());
        }
        if let Some((body, kind)) = plain(facts.settlement.response.as_ref(), bodies)? {
            let reasons = &facts.settlement.finish_reasons;
            content.hear_answer((&body, kind.as_deref()), reasons, most);
        }
        facts.content = Some(content);
        Ok(())
    }
}

fn made(spans: Vec<Span>, now: Timestamp) -> impl Iterator<Item = Ready> {
    spans
        .into_iter()
        .map(move |span| Ready { span, since: now })
}

fn dialect(facts: &Facts<'_>) -> Dialect {
    let admission = facts.admission;
    match (admission.operation, admission.method.parse()) {
        (Operation::Other | Operation::WebSocket, _) | (_, Err(_)) => Dialect::Other,
        (_, Ok(method)) => route(&method, &admission.target).dialect,
    }
}

type Plain = (Vec<u8>, Option<String>);

/// A body with its encoding undone, and its type.
fn plain(
    stored: Option<&StoredBody>,
    bodies: &mut BodyReader<'_>,
) -> Result<Option<Plain>, IndexError> {
    let Some(stored) = stored else {
        return Ok(None);
    };
    let body = bodies.read(stored.clone())?;
    let bytes = match &body.content_encoding {
        None => Some(body.bytes),
        Some(encoding) => decode_all(encoding, &body.bytes, MAX_DECODED).ok(),
    };
    Ok(bytes.map(|bytes| (bytes, body.content_type)))
}

/// Where the process before this one stood; none where there was none.
fn kept(note: &Note) -> Result<Option<Bookmark>, String> {
    let text = note.read().map_err(|error| error.to_string())?;
    let place = text.map(|text| text.parse::<Bookmark>()).transpose();
    place.map_err(|error| error.to_string())
}
