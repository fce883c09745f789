//! Spans of calls, of agents and of runs.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::SpanKind};

use super::conventions::{SAID, TABLE};
use super::facts::Facts;
use super::value::attribute;
use crate::config::Conventions;
use crate::core::time::Timestamp;
use crate::core::trace::{SpanId, TraceId};

/// Of OTLP: whether the parent is elsewhere is known, and so it is.
const HAS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// The span of a call.
pub(super) fn of_call(facts: &Facts<'_>, conventions: Conventions) -> Span {
    let place = &facts.place;
    let remote = if place.is_clients { IS_REMOTE } else { 0 };
    let context = facts.admission.trace.as_ref();
    Span {
        trace_id: place.trace.to_bytes().into(),
        span_id: place.span.to_bytes().into(),
        parent_span_id: place
            .parent
            .map(SpanId::to_bytes)
            .map_or_else(Vec::new, Vec::from),
        trace_state: context.and_then(|it| it.state.clone()).unwrap_or_default(),
        flags: u32::from(place.flags) | HAS_REMOTE | remote,
        name: name(facts, conventions),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: nanos(facts.admission.started_at),
        end_time_unix_nano: nanos(facts.ended_at()),
        attributes: attributes(facts, conventions),
        status: facts.error_type().map(|error| Status {
            message: facts
                .settlement
                .error
                .clone()
                .unwrap_or_else(|| error.into_owned()),
            code: StatusCode::Error.into(),
        }),
        ..Span::default()
    }
}

fn name(facts: &Facts<'_>, conventions: Conventions) -> String {
    let Some(operation) = facts.operation_name(conventions) else {
        return facts.admission.method.clone();
    };
    match &facts.admission.request_model {
        Some(model) => format!("{operation} {model}"),
        None => operation.to_owned(),
    }
}

fn attributes(facts: &Facts<'_>, conventions: Conventions) -> Vec<KeyValue> {
    let rows = TABLE.into_iter().flatten();
    rows.filter_map(|row| {
        let name = row.name(conventions)?;
        Some(attribute(name, row.value(facts)?))
    })
    .collect()
}

/// Makes a span of a call smaller; says whether there was anything of what was said.
pub(super) fn leave_out_content(span: &mut Span) -> bool {
    let before = span.attributes.len();
    span.attributes
        .retain(|it| !SAID.contains(&it.key.as_str()));
    span.attributes.len() < before
}

/// A span that was put together of calls.
pub(super) struct Made {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) name: String,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) attributes: Vec<KeyValue>,
}

impl Made {
    pub(super) fn span(self) -> Span {
        Span {
            trace_id: self.trace.to_bytes().into(),
            span_id: self.span.to_bytes().into(),
            parent_span_id: self
                .parent
                .map(SpanId::to_bytes)
                .map_or_else(Vec::new, Vec::from),
            flags: u32::from(crate::core::trace::SAMPLED) | HAS_REMOTE,
            name: self.name,
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: nanos(self.from),
            end_time_unix_nano: nanos(self.to),
            attributes: self.attributes,
            ..Span::default()
        }
    }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.micros()).unwrap_or(0).saturating_mul(1000)
}
