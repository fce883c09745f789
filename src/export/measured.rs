//! Custom metrics: every measurement, of calls, runs and agents.

use super::table::Kind::{Number, Text, Time};
use super::table::{Field, field};
use super::value::Value;
use crate::core::id::{CallId, Label};
use crate::core::metric::{self, Measurement, Subject};

/// A measurement, and what its call says.
pub struct Measured {
    pub it: Measurement,
    pub user: Option<Label>,
    pub variant: Option<Label>,
}

#[rustfmt::skip]
pub const METRICS: &[Field<Measured>] = &[
    field("measured_at", Time, "when it was measured; of what came with a call, its start", |it| it.it.at.into()),
    field("subject", Text, "what is measured: call, run or agent", |it| Value::name(subject(&it.it.subject))),
    field("call_id", Text, "the call it is of", |it| call(it).into()),
    field("run_id", Text, "the run it is of, or that of the call", |it| it.it.run().into()),
    field("agent_name", Text, "the agent it is of, or that of the call", |it| it.it.agent().into()),
    field("user", Text, "user of the call", |it| it.user.as_ref().into()),
    field("variant", Text, "variant of the call", |it| it.variant.as_ref().into()),
    field("name", Text, "what is measured of it", |it| (&it.it.name).into()),
    field("kind", Text, "number, boolean or category", |it| Value::name(kind(&it.it.value))),
    field("value", Number, "the number; true is 1, false is 0; null of categories", |it| it.it.value.as_number().into()),
    field("category", Text, "the word, of categories", category),
    field("who", Text, "judge, person or program; header of what came with the call", |it| (&it.it.who).into()),
    field("note", Text, "what was said about it", |it| it.it.note.as_ref().into()),
    field("key", Text, "tells it apart from others of this name by the same of the same", |it| it.it.key.as_ref().into()),
];

/// The call that is measured.
fn call(measured: &Measured) -> Option<CallId> {
    match measured.it.subject {
        Subject::Call(id) => Some(id),
        Subject::Run(_) | Subject::Agent(_) => None,
    }
}

fn subject(subject: &Subject) -> &'static str {
    match subject {
        Subject::Call(_) => "call",
        Subject::Run(_) => "run",
        Subject::Agent(_) => "agent",
    }
}

fn kind(value: &metric::Value) -> &'static str {
    match value {
        metric::Value::Number(_) => "number",
        metric::Value::Boolean(_) => "boolean",
        metric::Value::Category(_) => "category",
    }
}

fn category(measured: &Measured) -> Value {
    match &measured.it.value {
        metric::Value::Category(word) => word.into(),
        metric::Value::Number(_) | metric::Value::Boolean(_) => Value::Null,
    }
}
