//! W3C trace context on its way through: what a client says is read, and where calls are traced the
//! upstream is told of the span of the call. Where they are not, nothing is touched.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers::{BAGGAGE, TRACEPARENT, TRACESTATE};
use super::receive::Received;
use crate::core::digest::DigestSeed;
use crate::core::trace::{Place, TraceContext};

static PARENT: HeaderName = HeaderName::from_static(TRACEPARENT);
static STATE: HeaderName = HeaderName::from_static(TRACESTATE);
static BAGGAGE_NAME: HeaderName = HeaderName::from_static(BAGGAGE);

/// The trace that a request is part of; none where it does not say so, or says it wrongly.
pub(super) fn read(headers: &HeaderMap) -> Option<TraceContext> {
    let lines = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    TraceContext::parse(lines(&PARENT), lines(&STATE))
}

/// What an upstream is told of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onward {
    parent: HeaderValue,
    state: Option<HeaderValue>,
    /// What else the client says of its work goes along.
    with_baggage: bool,
}

impl Onward {
    /// None where the config leaves the headers of the client as they are.
    pub(super) fn of(received: &Received, seed: DigestSeed) -> Option<Self> {
        let otel = &received.live.config.otel;
        if !otel.propagates() {
            return None;
        }
        let context = received.trace.as_ref();
        let place = Place::of(seed, received.id, &received.attribution, context);
        let state = context.and_then(|it| it.state.as_deref());
        Some(Self {
            parent: HeaderValue::from_str(&place.onward().to_string()).ok()?,
            state: state.and_then(|it| HeaderValue::from_str(it).ok()),
            with_baggage: otel.forward_baggage || received.upstream.config().is_local(),
        })
    }

    /// Whether a header of the client is not for the upstream.
    pub(super) fn drops(&self, name: &HeaderName) -> bool {
        *name == PARENT || *name == STATE || !self.with_baggage && *name == BAGGAGE_NAME
    }

    pub(super) fn complete(&self, headers: &mut HeaderMap) {
        headers.insert(PARENT.clone(), self.parent.clone());
        if let Some(state) = &self.state {
            headers.insert(STATE.clone(), state.clone());
        }
    }
}
