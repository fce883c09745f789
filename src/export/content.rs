//! What calls were sent and answered, piece by piece.

use super::table::Kind::{Flag, Integer, Text, Time};
use super::table::{Field, field};
use super::value::Value;
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;
use crate::ledger::CallRow;
use crate::wire::readable::{Kind, Message, Piece, Role};

/// Bytes of one text, at most; of a longer one the front is told.
pub const MAX_TEXT: usize = 4 << 20;

/// One piece of one message.
pub struct Said {
    call: CallId,
    started_at: Timestamp,
    run: Option<Label>,
    agent: Label,
    side: &'static str,
    message: u64,
    role: Role,
    speaker: Option<String>,
    digest: Option<String>,
    piece: Piece,
}

#[rustfmt::skip]
pub const CONTENT: &[Field<Said>] = &[
    field("call_id", Text, "the call", |it| it.call.into()),
    field("started_at", Time, "when it started", |it| it.started_at.into()),
    field("run_id", Text, "its run", |it| it.run.as_ref().into()),
    field("agent_name", Text, "its agent", |it| (&it.agent).into()),
    field("side", Text, "request or response", |it| Value::name(it.side)),
    field("message", Integer, "number of the message, from 0; instructions come first", |it| it.message.into()),
    field("role", Text, "system, user, assistant or tool", |it| Value::name(role(it.role))),
    field("speaker", Text, "which of several speakers", |it| it.speaker.as_ref().into()),
    field("digest", Text, "the same for the same message; null in answers", |it| it.digest.as_ref().into()),
    field("kind", Text, "text, reasoning, refusal, tool_call, tool_result, media, error or other", |it| Value::name(kind(it.piece.kind))),
    field("tool_call_id", Text, "what a tool call and its result have in common", |it| it.piece.id.as_ref().into()),
    field("name", Text, "tool, or name of a file", |it| it.piece.name.as_ref().into()),
    field("media_type", Text, "of media", |it| it.piece.media_type.as_ref().into()),
    field("is_error", Flag, "the tool says that it failed", |it| it.piece.is_error.into()),
    field("text", Text, "what is said, as recorded: after redaction", |it| (&it.piece.said.text).into()),
    field("text_bytes", Integer, "bytes of the whole text", |it| it.piece.said.len.into()),
    field("is_cut", Flag, "there is more of it than text has", |it| it.piece.said.is_cut.into()),
];

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Reasoning => "reasoning",
        Kind::Refusal => "refusal",
        Kind::ToolCall => "tool_call",
        Kind::ToolResult => "tool_result",
        Kind::Media => "media",
        Kind::Error => "error",
        Kind::Other => "other",
    }
}

/// The pieces of what a call was sent or answered.
pub fn said(
    call: &CallRow,
    side: &'static str,
    messages: impl IntoIterator<Item = Message>,
) -> Vec<Said> {
    let mut said = Vec::new();
    for (number, message) in (0..).zip(messages) {
        said.extend(message.pieces.into_iter().map(|piece| Said {
            call: call.id,
            started_at: call.started_at,
            run: call.run.clone(),
            agent: call.agent.clone(),
            side,
            message: number,
            role: message.role,
            speaker: message.name.clone(),
            digest: message.digest.clone(),
            piece,
        }));
    }
    said
}
