//! Recorded bodies as they are stored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::table::Kind::{Integer, Text, Time};
use super::table::{Field, field};
use super::value::Value;
use crate::ledger::{Body, CallRow};

/// One body of a call.
pub struct Recorded {
    pub call: CallRow,
    pub side: &'static str,
    /// How far it is what went over the wire.
    pub stored: &'static str,
    pub body: Body,
}

#[rustfmt::skip]
pub const BODIES: &[Field<Recorded>] = &[
    field("call_id", Text, "the call", |it| it.call.id.into()),
    field("started_at", Time, "when it started", |it| it.call.started_at.into()),
    field("run_id", Text, "its run", |it| it.call.run.as_ref().into()),
    field("agent_name", Text, "its agent", |it| (&it.call.agent).into()),
    field("side", Text, "request or response", |it| Value::name(it.side)),
    field("stored", Text, "exact; changed, by redaction; truncated: only the front was kept", |it| Value::name(it.stored)),
    field("content_type", Text, "as its sender said", |it| it.body.content_type.as_ref().into()),
    field("content_encoding", Text, "of the bytes: gzip, ...", |it| it.body.content_encoding.as_ref().into()),
    field("wire_bytes", Integer, "how many there were on the wire", |it| it.body.wire_len.into()),
    field("text", Text, "what is stored, where it is UTF-8", |it| std::str::from_utf8(&it.body.bytes).ok().map(str::to_owned).into()),
    field("base64", Text, "what is stored, where it is not", base64),
];

fn base64(recorded: &Recorded) -> Value {
    let bytes = &recorded.body.bytes;
    let is_text = std::str::from_utf8(bytes).is_ok();
    Some(bytes)
        .filter(|_| !is_text)
        .map(|bytes| STANDARD.encode(bytes))
        .into()
}
