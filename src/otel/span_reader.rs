//! Reads calls off the ledger and makes spans of them. Blocks on the disk.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::content::Content;
use super::facts::Facts;
use super::kept::{BOOKMARK, Kept};
use super::run_spans::{Heard, RunSpans};
use super::span;
use crate::clock::Clock;
use crate::config::{Config, OtelConfig};
use crate::core::call::{Operation, StoredBody};
use crate::core::time::Timestamp;
use crate::core::trace::SAMPLED;
use crate::ledger::{
    Batch, BodyReader, Bookmark, CallDetail, Feed, IndexError, Ledger, News, Note, Position,
};
use crate::wire::decode::decode_all;
use crate::wire::parameters::Parameters;
use crate::wire::readable::Transcript;
use crate::wire::route::{Dialect, route};

/// Calls that are read at once: with what was said, each of them may be long.
const CALLS: usize = 64;
/// Bytes of a body with its encoding undone.
const MAX_DECODED: usize = 64 << 20;

pub(super) struct SpanReader {
    ledger: Ledger,
    feed: Feed,
    /// Reads again what runs did that were not told; none once that is done.
    past: Option<Feed>,
    config: Arc<ArcSwap<Config>>,
    settings: OtelConfig,
    clock: Clock,
    runs: RunSpans,
    note: Note,
    kept: Kept,
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
        let (kept, is_lost) = match Kept::read(&note) {
            Ok(kept) => (kept, false),
            Err(error) => {
                let file = note.file();
                let file = file.display();
                tracing::warn!("{file}: {error}; spans begin with what ends from now on");
                (None, true)
            }
        };
        let feed = match kept {
            Some(kept) => Feed::at(ledger, kept.told),
            None => Feed::from_end(ledger),
        };
        let here = kept.unwrap_or_else(|| Kept::all(feed.bookmark()));
        let has_past = here.runs != here.told;
        let mut reader = Self {
            runs: RunSpans::new(ledger.seed(), now.otel.conventions, here.silent),
            settings: now.otel.clone(),
            ledger: ledger.clone(),
            past: has_past.then(|| Feed::at(ledger, here.runs)),
            kept: here,
            clock: clock.clone(),
            config,
            feed,
            note,
            is_lost,
            is_told: false,
        };
        if kept.is_none() {
            reader.write(here);
        }
        reader
    }

    /// What ended since the last look. Where that cannot be read the next look begins there again.
    pub(super) fn look(&mut self) -> Result<Looked, IndexError> {
        let here = self.feed.bookmark();
        let past = self.past.as_ref().map(Feed::bookmark);
        let mut looked = if past.is_some() {
            self.look_back()
        } else {
            self.look_on()
        };
        if let Ok(looked) = &mut looked {
            looked.gone += u64::from(std::mem::take(&mut self.is_lost));
        } else {
            self.feed = Feed::at(&self.ledger, here);
            self.past = past.map(|place| Feed::at(&self.ledger, place));
        }
        looked
    }

    /// What runs did that the process before this one did not tell. The calls it told.
    fn look_back(&mut self) -> Result<Looked, IndexError> {
        // Where it told up to is found first: it lies elsewhere once something was erased.
        let end = self.feed.next(0)?;
        let mut looked = Looked {
            gone: u64::from(end.missed),
            behind: self.kept.told,
            lag: self.feed.lag(),
            ..Looked::default()
        };
        let Some(past) = &mut self.past else {
            return Ok(looked);
        };
        let place = past.bookmark();
        let batch = past.next(CALLS)?;
        let is_over = !past.is_behind(end.behind);
        let calls = self.calls(&batch, |at| end.behind.is_behind(at))?;
        let now = self.clock.now();
        let heard = self.heard(place, now);
        for call in calls.iter().flatten() {
            if let Some(facts) = Facts::of(call, None, self.ledger.seed()) {
                let pushed_out = self.runs.hear(&facts, heard);
                looked.spans.extend(made(pushed_out, now));
            }
        }
        if is_over {
            self.past = None;
            self.runs.were_told();
        }
        looked.is_full = is_over || batch.is_full;
        Ok(looked)
    }

    fn look_on(&mut self) -> Result<Looked, IndexError> {
        let idle_since = before(self.clock.now(), self.settings.run_idle);
        // Before what ended is read: what ends meanwhile is heard of as open, or as ended.
        let open = if self.runs.has_silent(idle_since) {
            Some(self.ledger.peek().open_runs()?)
        } else {
            None
        };
        let place = self.feed.bookmark();
        let batch = self.feed.next(CALLS)?;
        let mut looked = Looked {
            is_full: batch.is_full,
            gone: u64::from(batch.missed),
            behind: batch.behind,
            lag: self.feed.lag(),
            ..Looked::default()
        };
        let view = self.ledger.peek().clone();
        let calls = self.calls(&batch, |_| true)?;
        // From here on nothing fails: what is heard twice would be counted twice.
        let mut bodies = BodyReader::new(&view);
        for call in calls {
            match call {
                Some(call) => self.hear(&call, (&mut bodies, place), &mut looked),
                None => looked.gone += 1,
            }
        }
        // As long as there is more to hear no run is known to be silent.
        if let Some(open) = open.filter(|_| !batch.is_full) {
            let silent = self.runs.silent(idle_since, &open);
            looked.is_full = !silent.is_empty();
            looked.spans.extend(made(silent, self.clock.now()));
        }
        Ok(looked)
    }

    /// Calls that ended, where that was recorded at a place that is `wanted`; none of those that are gone.
    fn calls(
        &self,
        batch: &Batch,
        wanted: impl Fn(Position) -> bool,
    ) -> Result<Vec<Option<CallDetail>>, IndexError> {
        let view = self.ledger.peek();
        let news = batch.news.iter().filter(|(at, _)| wanted(*at));
        let ids = news.filter_map(|(_, news)| match news {
            News::Settled(id) => Some(*id),
            _ => None,
        });
        ids.map(|id| view.call(id)).collect()
    }

    fn heard(&self, place: Bookmark, now: Timestamp) -> Heard {
        Heard {
            place,
            outdated: before(now, self.settings.give_up_after),
        }
    }

    /// Bytes of the log behind what was told.
    pub(super) fn lag(&self) -> u64 {
        Feed::at(&self.ledger, self.kept.told).lag()
    }

    /// Spans of runs that were not told yet, some of them; none when all were.
    pub(super) fn rest(&mut self) -> Vec<Ready> {
        made(self.runs.rest(), self.clock.now()).collect()
    }

    /// Waits until all that was recorded by now can be looked at.
    pub(super) fn catch_up(&self) {
        self.ledger.sync_index();
    }

    /// All up to here was told, but for the runs that go on.
    pub(super) fn keep(&mut self, behind: Bookmark) {
        let kept = Kept {
            told: behind,
            runs: self.runs.oldest().unwrap_or(behind),
            silent: self.runs.told_until(),
        };
        // While it looks back it knows less of them than what is kept.
        if self.past.is_none() && kept != self.kept {
            self.write(kept);
        }
    }

    fn write(&mut self, kept: Kept) {
        match kept.write(&self.note) {
            Ok(()) => self.kept = kept,
            Err(error) => tracing::debug!(%error, "the place in the ledger is not kept"),
        }
    }

    fn hear(
        &mut self,
        call: &CallDetail,
        (bodies, place): (&mut BodyReader<'_>, Bookmark),
        looked: &mut Looked,
    ) {
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
        let heard = self.heard(place, now);
        let pushed_out = self.runs.hear(&facts, heard);
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
            let reason = match facts.error_type() {
                None => "stop",
                Some(_) => "error",
            };
            content.hear_answer((&body, kind.as_deref()), (reasons, reason), most);
        }
        facts.content = Some(content);
        Ok(())
    }
}

/// So long before.
fn before(now: Timestamp, time: Duration) -> Timestamp {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(micros))
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
