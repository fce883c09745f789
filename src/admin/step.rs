//! A call as a step of its conversation: what is new in it, what it answered, and which calls stand
//! around it.

mod departure;
mod history;
mod missing;
mod pairs;
mod previews;
mod routes;
mod shape;

pub(super) use self::departure::departure;
use self::history::Change;
pub use self::previews::{MAX_PREVIEWS, PreviewList, PreviewView, Said, previews};
pub(super) use self::routes::routes;
pub use self::routes::{PreviewParams, StepParams};
pub use self::shape::{
    Answered, Around, History, Missing, Reason, Sent, SentMessage, StepView, Unchanged,
};
use crate::core::call::{Operation, StoredBody};
use crate::core::digest::Digest;
use crate::core::id::CallId;
use crate::ledger::{Body, BodyReader, CallDetail, CallRow, IndexError, Neighbours, View};
use crate::wire::decode::decode_all;
use crate::wire::readable::{self, Kind, Message, Piece, Transcript};
use crate::wire::route::{Dialect, route};

/// Bytes of each text that are shown when nothing is said.
pub const PREVIEW: usize = 4096;
/// And at most.
pub const MAX_PREVIEW: usize = 256 << 10;
/// New messages that are shown: the last ones.
const MAX_NEW: usize = 200;
/// Messages that are shown of a whole history.
const MAX_FULL: usize = 2000;
const MAX_DROPPED: usize = 16;
/// The call before is looked for among so many of its conversation, and of others of its agent.
const CANDIDATES: usize = 6;
/// What an encoded body may grow to.
const MAX_DECODED: usize = 64 << 20;

/// What of a step is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// All messages of the request, not only the new ones.
    pub full: bool,
    /// Bytes of each text.
    pub preview: usize,
    /// Of the request only this message, by its index, new or not.
    pub message: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            full: false,
            preview: PREVIEW,
            message: None,
        }
    }
}

/// The step that a call is. None where there is no such call.
pub fn step(view: &View, id: CallId, options: Options) -> Result<Option<StepView>, IndexError> {
    step_with(view, &mut BodyReader::new(view), id, options)
}

/// The same, for one of many: what one call's bodies have in common with another's is read once.
pub fn step_with(
    view: &View,
    bodies: &mut BodyReader<'_>,
    id: CallId,
    options: Options,
) -> Result<Option<StepView>, IndexError> {
    let Some(detail) = view.call(id)? else {
        return Ok(None);
    };
    let neighbours = view.neighbours(&detail.row, CANDIDATES)?;
    let request = Request::read(&detail, bodies)?;
    let before = Before::find(view, &detail, &request, &neighbours, bodies)?;
    let around = Around {
        before: before.as_ref().map(|before| before.id),
        after: neighbours.after,
        before_in_run: neighbours.before_in_run,
        after_in_run: neighbours.after_in_run,
    };
    let sent = sent(&detail.row, request, before.as_ref(), options);
    let answered = answered(&detail, bodies, options.preview)?;
    Ok(Some(StepView {
        call: detail.row.into(),
        around,
        sent,
        answered,
    }))
}

/// The calls around one, without reading what they said: the one before only where the client, or
/// the name of the conversation, says which it is.
pub fn around(view: &View, detail: &CallDetail) -> Result<Around, IndexError> {
    let neighbours = view.neighbours(&detail.row, 1)?;
    let named = detail.row.conversation.as_ref();
    let last = neighbours.before.first().filter(|_| named.is_some());
    let before = continued(view, detail)?.map(|before| before.row.id);
    Ok(Around {
        before: before.or(last.map(|row| row.id)),
        after: neighbours.after,
        before_in_run: neighbours.before_in_run,
        after_in_run: neighbours.after_in_run,
    })
}

/// Why a body cannot be shown, or not as it was: of the request, and of the answer.
pub fn lacks(
    detail: &CallDetail,
    (request, response): (Option<&Body>, Option<&Body>),
) -> (Option<Missing>, Option<Missing>) {
    let stored = |body: Option<&StoredBody>| body.is_some_and(|body| body.changed);
    let sent = detail.admission.as_ref().and_then(|it| it.request.as_ref());
    let answered = detail.settlement.as_ref();
    let answered = answered.and_then(|it| it.response.as_ref());
    let of = |body: Option<&Body>, changed, none: fn(&CallDetail) -> Missing| match body {
        Some(body) => missing::of_body(body, changed),
        None => Some(none(detail)),
    };
    (
        of(request, stored(sent), missing::request),
        of(response, stored(answered), missing::response),
    )
}

/// What a call was sent, taken apart.
struct Request {
    bytes: Vec<u8>,
    transcript: Transcript,
    missing: Option<Missing>,
}

impl Request {
    fn read(detail: &CallDetail, bodies: &mut BodyReader<'_>) -> Result<Self, IndexError> {
        let stored = detail.admission.as_ref().and_then(|it| it.request.clone());
        let (body, missing) = match stored {
            None => (None, Some(missing::request(detail))),
            Some(stored) => plain(stored, bodies)?,
        };
        let bytes = body.map(|body| body.bytes).unwrap_or_default();
        let transcript = Transcript::of(detail.row.operation, dialect(&detail.row), &bytes);
        Ok(Self {
            bytes,
            transcript,
            missing,
        })
    }

    /// Nothing of it is missing, though rules may have changed it.
    fn is_whole(&self) -> bool {
        let missing = self.missing.as_ref();
        missing.is_none_or(|it| it.reason == Reason::Changed)
    }

    fn digests(&self) -> Vec<Digest> {
        let entries = self.transcript.entries().iter();
        entries.map(|entry| entry.digest).collect()
    }
}

/// The call before in the conversation.
struct Before {
    id: CallId,
    change: Change,
    /// None where it is not known what it was sent.
    request: Option<Request>,
    /// What it answered.
    answer: Vec<Message>,
}

impl Before {
    /// Of the calls that may be it, the one that this call repeats most of.
    fn find(
        view: &View,
        detail: &CallDetail,
        request: &Request,
        neighbours: &Neighbours,
        bodies: &mut BodyReader<'_>,
    ) -> Result<Option<Self>, IndexError> {
        let digests = request.digests();
        if let Some(before) = continued(view, detail)? {
            let change = Change {
                history: History::Continued,
                ..Change::first(digests.len())
            };
            return Self::of(&before, None, change, bodies).map(Some);
        }
        // Without a name of the conversation only what repeats all of a call goes on with it.
        let is_named = detail.row.conversation.is_some();
        let of_it = neighbours.before.iter().map(|row| (row, is_named));
        let like = neighbours.like.iter().map(|row| (row, false));
        // What has another name goes before only where nothing of the same name does.
        let mut best: Option<(_, CallDetail, Request, Change)> = None;
        let mut is_blind = true;
        for (row, may_change) in of_it.chain(like) {
            let Some(before) = view.call(row.id)? else {
                continue;
            };
            let its = Request::read(&before, bodies)?;
            if its.bytes.is_empty() || digests.is_empty() {
                continue;
            }
            is_blind &= !may_change;
            let change = Change::between(&its.digests(), &digests);
            let is_of_it = may_change && change.kept() > 0;
            let rank = (is_of_it, change.likeness());
            let is_it = is_of_it || change.goes_on();
            let is_better = |(best, ..): &(_, _, _, Change)| rank > *best;
            if is_it && best.as_ref().is_none_or(is_better) {
                best = Some((rank, before, its, change));
            }
        }
        if let Some((_, before, its, change)) = best {
            return Self::of(&before, Some(its), change, bodies).map(Some);
        }
        let last = neighbours.before.first().filter(|_| is_named && is_blind);
        let Some(before) = last.map(|row| view.call(row.id)).transpose()?.flatten() else {
            return Ok(None);
        };
        let change = Change {
            history: History::Unknown,
            ..Change::default()
        };
        Self::of(&before, None, change, bodies).map(Some)
    }

    fn of(
        detail: &CallDetail,
        request: Option<Request>,
        change: Change,
        bodies: &mut BodyReader<'_>,
    ) -> Result<Self, IndexError> {
        let answer = answered(detail, bodies, PREVIEW)?.messages;
        Ok(Self {
            id: detail.row.id,
            change,
            request,
            answer,
        })
    }

    /// Whether a message is what this call answered, sent back.
    fn said(&self, message: &Message) -> bool {
        let same = |one: &Piece, other: &Piece| {
            one.kind == other.kind
                && match (&one.id, &other.id) {
                    (Some(id), Some(other)) => id == other,
                    _ => one.said == other.said && one.name == other.name,
                }
        };
        let mut said = self.answer.iter().flat_map(|message| &message.pieces);
        let mut said_so =
            |piece: &Piece| piece.kind == Kind::Reasoning || said.any(|other| same(piece, other));
        !message.pieces.is_empty()
            && message.role == readable::Role::Assistant
            && message.pieces.iter().all(&mut said_so)
    }
}

/// The call whose response this one names as the one it goes on from.
fn continued(view: &View, detail: &CallDetail) -> Result<Option<CallDetail>, IndexError> {
    let named = detail
        .admission
        .as_ref()
        .and_then(|it| it.previous_response.as_ref());
    let Some(response) = named else {
        return Ok(None);
    };
    let before = view.call_of_response(response)?;
    Ok(before.map(|id| view.call(id)).transpose()?.flatten())
}

fn sent(row: &CallRow, request: Request, before: Option<&Before>, options: Options) -> Sent {
    let entries = request.transcript.entries();
    let first = Change::first(entries.len());
    let change = before.map_or(&first, |before| &before.change);
    let is_new = |index: usize| change.is_new.get(index).copied().unwrap_or(true);
    let shown: Vec<usize> = (0..entries.len())
        .filter(|index| match options.message {
            Some(only) => *index as u64 == only,
            None => options.full || is_new(*index),
        })
        .collect();
    let most = if options.full { MAX_FULL } else { MAX_NEW };
    let left_out = shown.len().saturating_sub(most);
    let mut messages: Vec<SentMessage> = shown
        .into_iter()
        .skip(left_out)
        .filter_map(|index| {
            let message = entries.get(index)?.read(&request.bytes, options.preview);
            Some(SentMessage {
                index: index as u64,
                is_new: is_new(index),
                is_echo: before.is_some_and(|before| before.said(&message)),
                message,
            })
        })
        .collect();
    pairs::pair(&mut messages, &request, before);
    let tools = request.transcript.tools(&request.bytes);
    let its = before.and_then(|before| before.request.as_ref());
    let tools_before = its.map(|its| its.transcript.tools(&its.bytes));
    let dropped = its.map(|its| dropped(its, change, options.preview));
    Sent {
        history: change.history,
        count: entries.len() as u64,
        unchanged: unchanged(row, &request, change),
        changed_at: change.changed_at.map(|at| at as u64),
        dropped: dropped.unwrap_or_default(),
        dropped_count: change.dropped.len() as u64,
        messages,
        left_out: left_out as u64,
        tools_changed: tools_before.is_some_and(|before| before.digest != tools.digest),
        tools,
        missing: request.missing,
    }
}

fn dropped(before: &Request, change: &Change, preview: usize) -> Vec<Message> {
    let gone = change.dropped.iter().take(MAX_DROPPED);
    let entries = gone.filter_map(|index| before.transcript.entries().get(*index));
    entries
        .map(|entry| entry.read(&before.bytes, preview))
        .collect()
}

/// What was sent before, too, and its share of the input tokens.
fn unchanged(row: &CallRow, request: &Request, change: &Change) -> Unchanged {
    let entries = request.transcript.entries().iter().zip(&change.is_new);
    let old = entries
        .filter(|(_, new)| !**new)
        .map(|(entry, _)| entry.range.len() as u64);
    let bytes: u64 = old.clone().sum();
    let all: u64 = request
        .transcript
        .entries()
        .iter()
        .map(|it| it.range.len() as u64)
        .sum();
    let input = row.usage.input_tokens;
    let share = |tokens: u64| u128::from(tokens) * u128::from(bytes) / u128::from(all.max(1));
    Unchanged {
        messages: old.count() as u64,
        bytes,
        tokens: u64::try_from(share(input)).ok().filter(|_| input > 0),
    }
}

/// What was said one way.
pub(super) struct Told {
    pub(super) messages: Vec<Message>,
    /// Why nothing, or not all, can be told.
    pub(super) missing: Option<Missing>,
}

/// All that a call was sent, and what it answered, with up to `most` bytes of each text.
pub(super) fn messages(
    detail: &CallDetail,
    bodies: &mut BodyReader<'_>,
    most: usize,
) -> Result<(Told, Told), IndexError> {
    let request = Request::read(detail, bodies)?;
    let entries = request.transcript.entries().iter();
    let sent = entries.map(|entry| entry.read(&request.bytes, most));
    let sent = Told {
        messages: sent.collect(),
        missing: request.missing,
    };
    let Answered {
        messages, missing, ..
    } = answered(detail, bodies, most)?;
    Ok((sent, Told { messages, missing }))
}

fn answered(
    detail: &CallDetail,
    bodies: &mut BodyReader<'_>,
    preview: usize,
) -> Result<Answered, IndexError> {
    let stored = detail
        .settlement
        .as_ref()
        .and_then(|it| it.response.clone());
    let (body, missing) = match stored {
        None => (None, Some(missing::response(detail))),
        Some(stored) => plain(stored, bodies)?,
    };
    let messages =
        body.map(|body| readable::answer(&body.bytes, body.content_type.as_deref(), preview));
    Ok(Answered {
        messages: messages.unwrap_or_default(),
        finish_reasons: detail.row.finish_reasons.clone(),
        missing,
    })
}

/// A body with its encoding undone, and what is to be said of it.
fn plain(
    stored: StoredBody,
    bodies: &mut BodyReader<'_>,
) -> Result<(Option<Body>, Option<Missing>), IndexError> {
    let is_changed = stored.changed;
    let mut body = bodies.read(stored)?;
    let mut missing = missing::of_body(&body, is_changed);
    if let Some(encoding) = body.content_encoding.take() {
        match decode_all(&encoding, &body.bytes, MAX_DECODED) {
            Ok(decoded) => body.bytes = decoded,
            Err(error) => {
                missing = Some(missing::encoded(&encoding, &error.to_string()));
                body.bytes.clear();
            }
        }
    }
    let is_there = !body.bytes.is_empty();
    Ok((Some(body).filter(|_| is_there), missing))
}

fn dialect(row: &CallRow) -> Dialect {
    match row.operation {
        Operation::Other | Operation::WebSocket => Dialect::Other,
        _ => row
            .method
            .parse()
            .map_or(Dialect::Other, |method| route(&method, &row.target).dialect),
    }
}
