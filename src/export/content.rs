//! What calls were sent and answered, piece by piece.

use super::table::Kind::{Flag, Integer, Text, Time};
use super::table::{Field, field};
use super::value::Value;
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;
use crate::ledger::CallRow;
use crate::wire::readable::{Message, Piece, Role};

/// Bytes of one text, at most; of a longer one the front is told.
pub const MAX_TEXT: usize = 4 << 20;

/// Why a side of a call is not told as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    pub reason: &'static str,
    /// Only the front of the body was kept.
    pub is_cut: bool,
}

/// One piece of one message, or that there is none.
pub struct Said {
    call: CallId,
    started_at: Timestamp,
    run: Option<Label>,
    agent: Label,
    side: &'static str,
    missing: Option<&'static str>,
    of: Option<Of>,
}

/// The piece, and the message it is of.
struct Of {
    message: u64,
    role: Role,
    speaker: Option<String>,
    digest: Option<String>,
    left_out: u64,
    piece: Piece,
}

#[rustfmt::skip]
pub const CONTENT: &[Field<Said>] = &[
    field("call_id", Text, "the call", |it| it.call.into()),
    field("started_at", Time, "when it started", |it| it.started_at.into()),
    field("run_id", Text, "its run", |it| it.run.as_ref().into()),
    field("agent_name", Text, "its agent", |it| (&it.agent).into()),
    field("side", Text, "request or response", |it| Value::name(it.side)),
    field("missing", Text, "why this side is not whole: truncated, changed (redaction), gone, config, client, ...", |it| Value::name_of(it.missing)),
    field("message", Integer, "number of the message, from 0; instructions come first", |it| of(it, |of| of.message.into())),
    field("role", Text, "system, user, assistant or tool", |it| of(it, |of| Value::name(of.role))),
    field("speaker", Text, "which of several speakers", |it| of(it, |of| of.speaker.as_ref().into())),
    field("digest", Text, "the same for the same message, in whichever call; null in answers", |it| of(it, |of| of.digest.as_ref().into())),
    field("left_out", Integer, "further pieces of the message that are not told: 256 are", |it| of(it, |of| of.left_out.into())),
    field("kind", Text, "text, reasoning, refusal, tool_call, tool_result, media, error, other; missing where nothing can be told", kind),
    field("tool_call_id", Text, "what a tool call and its result have in common; its first 256 bytes", |it| piece(it, |of| of.id.as_ref().into())),
    field("name", Text, "tool, or name of a file; its first 256 bytes", |it| piece(it, |of| of.name.as_ref().into())),
    field("media_type", Text, "of media", |it| piece(it, |of| of.media_type.as_ref().into())),
    field("is_error", Flag, "the tool says that it failed", |it| piece(it, |of| of.is_error.into())),
    field("text", Text, "what is said, as recorded: after redaction", |it| piece(it, |of| (&of.said.text).into())),
    field("text_bytes", Integer, "bytes of the whole text", |it| piece(it, |of| of.said.len.into())),
    field("is_cut", Flag, "there is more of it than text has", |it| piece(it, |of| of.said.is_cut.into())),
];

fn of(said: &Said, value: fn(&Of) -> Value) -> Value {
    said.of.as_ref().map_or(Value::Null, value)
}

fn piece(said: &Said, value: fn(&Piece) -> Value) -> Value {
    let piece = said.of.as_ref().map(|of| &of.piece);
    piece.map_or(Value::Null, value)
}

fn kind(said: &Said) -> Value {
    let kind = said.of.as_ref().map(|of| of.piece.kind.into());
    Value::name(kind.unwrap_or("missing"))
}

/// The pieces of what a call was sent or answered; one that says what is missing where there are none
/// though there was something.
pub fn said(
    call: &CallRow,
    side: &'static str,
    messages: impl IntoIterator<Item = Message>,
    lack: Option<Lack>,
) -> Vec<Said> {
    let with = |of| Said {
        call: call.id,
        started_at: call.started_at,
        run: call.run.clone(),
        agent: call.agent.clone(),
        side,
        missing: lack.map(|lack| lack.reason),
        of,
    };
    let mut said = Vec::new();
    for (number, message) in (0..).zip(messages) {
        said.extend(message.pieces.into_iter().map(|piece| {
            with(Some(Of {
                message: number,
                role: message.role,
                speaker: message.name.clone(),
                digest: message.digest.clone(),
                left_out: message.left_out,
                piece,
            }))
        }));
    }
    if let Some(lack) = lack {
        match said.last_mut().and_then(|said| said.of.as_mut()) {
            Some(last) => last.piece.said.is_cut |= lack.is_cut,
            None => said.push(with(None)),
        }
    }
    said
}
