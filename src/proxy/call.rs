//! A call that was admitted and is not settled yet. Whatever ends it - the end of the response,
//! a fault, a client that leaves, a cut - settles it exactly once, at the latest when dropped.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use tokio::sync::watch;

use super::accountant::Seat;
use super::hearing::Hearing;
use super::kept::Kept;
use super::need::Traits;
use super::{Live, Proxy, headers};
use crate::budgets::runs::Enlisted;
use crate::budgets::{Hold, Refusal, Standing};
use crate::config::RecordLevel;
use crate::core::attribution::Attribution;
use crate::core::call::{ChunkMark, Operation, Outcome, Timings};
use crate::core::id::Label;
use crate::core::loops::refusal as loops;
use crate::core::recorded::HeaderLines;
use crate::core::space::Room;
use crate::core::time::Timestamp;
use crate::core::usage::Provenance;
use crate::ledger::{Durable, Entry};
use crate::loops::recognise::Turn;
use crate::upstream::{Upload, UploadEnd, Upstream};
use crate::wire::response::ResponseReader;
use crate::wire::route::Route;
use crate::wire::scan::RequestFacts;

/// Output beyond what was allowed that is not looked at: framing, and events without text.
const OUTPUT_SLACK: u64 = 32;
/// Where another tokenizer than the model's counts, it may count a quarter too many.
const ESTIMATE_PART: u64 = 4;

/// What a settlement needs to know of the request.
pub(super) struct Origin {
    pub(super) live: Arc<Live>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) started_at: Timestamp,
    pub(super) attribution: Attribution,
    pub(super) operation: Operation,
    /// Fetches a response that was paid for when it was made.
    pub(super) fetch: bool,
    pub(super) model: Option<Label>,
    pub(super) record: RecordLevel,
    /// What the facts are about. Empty where the body was not read.
    pub(super) text: Bytes,
    /// Of the body as it came, where it was read.
    pub(super) body_bytes: u64,
    pub(super) facts: Arc<RequestFacts>,
    pub(super) traits: Option<Traits>,
    /// Its place in a conversation.
    pub(super) turn: Option<Arc<Turn>>,
}

/// What was seen of the response so far.
pub(super) struct Observed {
    pub(super) reader: ResponseReader,
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    /// The first chunks, up to the configured size.
    pub(super) kept: Kept,
    pub(super) marks: Vec<ChunkMark>,
    pub(super) bytes: u64,
    /// There was no memory left to keep more of it.
    crowded: bool,
    last_at: Timestamp,
}

/// Everything about a call that ended; what the accountant turns into a settlement.
pub(super) struct EndedCall {
    pub(super) origin: Origin,
    /// What its bodies take of the memory for all running calls; the request's part of it.
    pub(super) room: Room,
    pub(super) request_room: usize,
    pub(super) entry: Entry,
    pub(super) hold: Hold,
    pub(super) outcome: Outcome,
    pub(super) status: Option<StatusCode>,
    pub(super) observed: Option<Observed>,
    pub(super) upload: Option<Arc<Upload>>,
    /// Bytes that went through a tunnel: from the client, from the upstream.
    pub(super) tunnelled: Option<(u64, u64)>,
    /// The upstream had the request and did not answer in time: it may well have worked on it.
    pub(super) timed_out: bool,
    pub(super) timings: Timings,
    pub(super) error: Option<String>,
    /// Of the answer, as far as they are recorded.
    pub(super) headers: Option<HeaderLines>,
}

pub(super) struct OpenCall {
    open: Option<Box<Open>>,
}

struct Open {
    proxy: Arc<Proxy>,
    seat: Seat,
    call: EndedCall,
    enlisted: Enlisted,
    /// Progress of the output at which it is looked whether the answer is longer than was allowed.
    check_after: u64,
    hearing: Hearing,
}

impl EndedCall {
    /// A call of which nothing is known but how it began.
    pub(super) fn new(origin: Origin, room: Room, (entry, hold): (Entry, Hold)) -> Self {
        Self {
            hold,
            origin,
            request_room: room.bytes(),
            room,
            entry,
            outcome: Outcome::ClientGone,
            status: None,
            observed: None,
            upload: None,
            tunnelled: None,
            timed_out: false,
            timings: Timings::default(),
            error: None,
            headers: None,
        }
    }
}

impl OpenCall {
    pub(super) fn new(proxy: &Arc<Proxy>, seat: Seat, call: EndedCall, enlisted: Enlisted) -> Self {
        let allowed = u64::try_from(call.hold.output_tokens()).unwrap_or(0);
        Self {
            open: Some(Box::new(Open {
                proxy: Arc::clone(proxy),
                seat,
                call,
                enlisted,
                check_after: allowed.saturating_add(OUTPUT_SLACK),
                hearing: Hearing::default(),
            })),
        }
    }

    /// Resolves when an operator stops a run of it.
    pub(super) fn stopped(&self) -> impl Future<Output = Arc<Refusal>> + use<> {
        let switch = self
            .open
            .as_ref()
            .map(|open| Arc::clone(open.enlisted.switch()));
        poll_fn(move |context| match &switch {
            Some(switch) => switch.poll_cut(context),
            None => Poll::Pending,
        })
    }

    pub(super) fn poll_stopped(&self, context: &Context<'_>) -> Poll<Arc<Refusal>> {
        match &self.open {
            Some(open) => open.enlisted.switch().poll_cut(context),
            None => Poll::Pending,
        }
    }

    /// Whether the answer goes on beyond what its budgets can pay for. It may be longer than it was
    /// allowed to be as long as there is room: then it holds more.
    pub(super) fn overrun(&mut self) -> Option<Refusal> {
        let open = self.open.as_mut()?;
        let observed = open.call.observed.as_ref()?;
        let progress = observed.reader.output_progress();
        // What is fetched was paid for by the call that made it.
        let is_paid = open.call.origin.fetch || open.call.hold.is_nothing();
        if is_paid || progress < open.check_after {
            return None;
        }
        let text = observed.reader.text_so_far();
        let model = open.call.origin.model.as_ref().map_or("", Label::as_str);
        let counted = open.proxy.counter.count_output(model, &text);
        let held = u64::try_from(open.call.hold.output_tokens()).unwrap_or(0);
        let doubt = match counted.provenance {
            Provenance::Counted => 0,
            _ => held / ESTIMATE_PART,
        };
        let allowed = held.saturating_add(OUTPUT_SLACK + doubt);
        let counted = counted.tokens;
        if counted <= allowed {
            open.check_after = progress + (allowed - counted).max(OUTPUT_SLACK);
            return None;
        }
        open.check_after = progress + (counted / 4).max(OUTPUT_SLACK);
        open.hold_more(counted).err().map(Refusal::Overrun)
    }

    /// Whether the answer says one piece over and over, and is to be ended for it.
    pub(super) fn chants(&mut self) -> Option<Refusal> {
        let open = self.open.as_mut()?;
        open.call.origin.turn.as_ref()?;
        let observed = open.call.observed.as_mut()?;
        let chants = open.hearing.listen(&mut observed.reader);
        let agent = &open.call.origin.attribution.agent;
        let ends = chants && open.proxy.loops.ends_chants(agent);
        ends.then(|| Refusal::Loop(Box::new(loops::Refusal::Chant)))
    }

    /// Resolves when the admission is on disk, as far as that is configured.
    pub(super) fn durable(&self) -> Durable {
        let entry = self.open.as_ref().map(|open| &open.call.entry);
        entry.map_or(Durable::READY, Entry::durable)
    }

    /// The request body goes on as it arrives.
    pub(super) fn uploading(&mut self, upload: Arc<Upload>) {
        self.with(|open, _| open.call.upload = Some(upload));
    }

    /// Takes memory for another form of the request body; false if there is none.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        let call = &mut open.call;
        let limit = call.origin.live.config.proxy.max_memory_bytes;
        let held = call.room.grow(bytes, limit);
        if held {
            call.request_room += bytes;
        }
        held
    }

    /// The request leaves for the upstream.
    pub(super) fn forwarded(&mut self) {
        self.with(|open, now| open.call.timings.forwarded_us = Some(now));
    }

    /// The head of the response arrived.
    pub(super) fn answered(&mut self, route: &Route, status: StatusCode, map: &HeaderMap) {
        let content_type = headers::text(map, &header::CONTENT_TYPE);
        let content_encoding = headers::text(map, &header::CONTENT_ENCODING);
        let reader = ResponseReader::new(
            route.dialect,
            content_type.as_deref(),
            content_encoding.as_deref(),
            status.as_u16(),
        );
        self.with(|open, now| {
            open.call.timings.head_us = Some(now);
            open.call.status = Some(status);
            let origin = &open.call.origin;
            open.call.headers = (origin.record > RecordLevel::None).then(|| {
                let also = &origin.live.config.ledger.show_headers;
                headers::recorded(map, also, open.proxy.ledger.seed())
            });
            open.call.observed = Some(Observed {
                reader,
                content_type,
                content_encoding,
                kept: Kept::default(),
                marks: Vec::new(),
                bytes: 0,
                crowded: false,
                last_at: open.proxy.clock.now(),
            });
        });
    }

    /// A chunk of the response arrived, as the upstream sent it.
    pub(super) fn chunk(&mut self, chunk: &Bytes) {
        let Some(open) = &mut self.open else { return };
        let now = open.proxy.clock.now();
        let call = &mut open.call;
        call.timings
            .first_chunk_us
            .get_or_insert_with(|| now.micros_since(call.origin.started_at));
        let full = call.origin.record == RecordLevel::Full;
        let config = &call.origin.live.config;
        let most = if full {
            config.ledger.max_body_bytes
        } else {
            0
        };
        let Some(observed) = &mut call.observed else {
            return;
        };
        observed.push(chunk, now, most);
        let held = call.request_room + observed.kept.bytes() + observed.reader.held_bytes();
        if !call.room.resize(held, config.proxy.max_memory_bytes) {
            observed.keep_less();
        }
    }

    /// Whether the terminal event of the answer was seen.
    pub(super) fn has_ended(&self) -> bool {
        self.open
            .as_ref()
            .and_then(|open| open.call.observed.as_ref())
            .is_some_and(|observed| observed.reader.ended())
    }

    /// Turns true when running calls must end.
    pub(super) fn cut_signal(&self) -> watch::Receiver<bool> {
        match &self.open {
            Some(open) => open.proxy.cut_signal(),
            None => watch::Sender::new(true).subscribe(),
        }
    }

    pub(super) fn timed_out(&mut self) {
        self.with(|open, _| open.call.timed_out = true);
    }

    /// What the client got in place of an upstream's answer.
    pub(super) fn failed(&mut self, outcome: Outcome, status: StatusCode, error: String) {
        self.with(|open, _| {
            open.call.status = Some(status);
            open.call.error = Some(error);
        });
        self.end(outcome);
    }

    /// The answer ended before its time: by the upstream, unless it is the client that broke off
    /// the request the upstream was still reading.
    pub(super) fn broke_off(&mut self, outcome: Outcome, error: String) {
        let mut outcome = outcome;
        self.with(|open, _| {
            match open.call.upload.as_ref().and_then(|upload| upload.broken()) {
                Some(UploadEnd::TooLarge | UploadEnd::Stalled) => outcome = Outcome::Rejected,
                Some(UploadEnd::ClientGone) => outcome = Outcome::ClientGone,
                None => {}
            }
            open.call.error = Some(error);
        });
        self.end(outcome);
    }

    /// It is ended for a reason of ours.
    pub(super) fn refused(&self, why: &Refusal) {
        if let Some(open) = &self.open {
            let who = &open.call.origin.attribution;
            open.proxy
                .budgets
                .note_refusal(who.run.as_ref(), &who.agent, why);
        }
    }

    pub(super) fn tunnelled(&mut self, from_client: u64, from_upstream: u64) {
        self.with(|open, _| open.call.tunnelled = Some((from_client, from_upstream)));
    }

    /// The whole response was there.
    pub(super) fn complete(&mut self) {
        let error = self
            .open
            .as_ref()
            .and_then(|open| open.call.status)
            .is_some_and(|status| status.as_u16() >= 400);
        self.end(if error {
            Outcome::UpstreamError
        } else {
            Outcome::Completed
        });
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        self.settle(outcome);
    }

    fn with(&mut self, act: impl FnOnce(&mut Open, u64)) {
        if let Some(open) = &mut self.open {
            let now = open
                .proxy
                .clock
                .now()
                .micros_since(open.call.origin.started_at);
            act(open, now);
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        let Some(open) = self.open.take() else { return };
        let Open {
            proxy,
            seat,
            mut call,
            enlisted,
            hearing,
            ..
        } = *open;
        drop(enlisted);
        call.outcome = outcome;
        hearing.end(&proxy.loops, &mut call);
        call.timings.total_us = proxy.clock.now().micros_since(call.origin.started_at);
        seat.settle(call);
    }
}

impl Open {
    /// Holds so much output, and what is to come soon where there is room for that too.
    fn hold_more(&mut self, output_tokens: u64) -> Result<(), Box<Standing>> {
        let now = self.proxy.budgets.now();
        let whole = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        let hold = &mut self.call.hold;
        let ample = output_tokens.saturating_add(output_tokens / 4);
        if hold.extend(whole(ample), now).is_err() {
            hold.extend(whole(output_tokens), now)?;
        }
        self.call.entry.now_holds(self.call.hold.charges());
        Ok(())
    }
}

impl Drop for OpenCall {
    /// Nobody ended it: its future or body was dropped, since the client left or we cut it. A
    /// client that hangs up after the terminal event has all it wanted.
    fn drop(&mut self) {
        if self.has_ended() {
            return self.complete();
        }
        let stopped = self
            .open
            .as_ref()
            .and_then(|open| open.enlisted.switch().why().cloned());
        if let Some(why) = stopped {
            return self.broke_off(Outcome::Cut, why.to_string());
        }
        let cut = self
            .open
            .as_ref()
            .is_some_and(|open| *open.proxy.cut.borrow());
        self.settle(if cut {
            Outcome::Cut
        } else {
            Outcome::ClientGone
        });
    }
}

impl Observed {
    fn push(&mut self, chunk: &Bytes, now: Timestamp, most: usize) {
        self.reader.push(chunk);
        self.bytes += chunk.len() as u64;
        if self.kept.bytes() < most && !self.crowded {
            self.kept.push(chunk);
            self.marks.push(ChunkMark {
                gap_us: u32::try_from(now.micros_since(self.last_at)).unwrap_or(u32::MAX),
                len: u32::try_from(chunk.len()).unwrap_or(u32::MAX),
            });
        }
        self.last_at = now;
    }

    fn keep_less(&mut self) {
        self.crowded = true;
        self.reader.keep_less();
    }
}
