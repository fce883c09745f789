//! Every response we make ourselves, and nothing else: shaped as OpenAI's errors are (a refusal as
//! those of the call's own API), marked by `x-aiops-error`, saying whose fault it was.
//!
//! What an upstream answers passes through byte for byte and never comes here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::headers;
use crate::budgets::Refusal;
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::wire::refusal::{self, RefusalText};
use crate::wire::route::Dialect;

/// Why a call gets an answer of ours.
#[derive(Debug)]
pub(super) enum Fault {
    /// The request is malformed or breaks a bound: the client's fault.
    Rejected(Rejection),
    /// The upstream could not be reached or did not answer: the upstream's fault.
    Upstream(UpstreamFault),
    /// We cannot take the call now.
    Unavailable(Unavailability),
    /// The policy says no: a decision, not an error.
    Refused(Refused),
}

/// A refusal, and how to say it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Arc<Refusal>,
    pub(super) dialect: Dialect,
    pub(super) at: Timestamp,
}

#[derive(Debug)]
pub(super) enum Rejection {
    BodyTooLarge {
        limit: u64,
    },
    BodyIncomplete,
    BodyStalled {
        silence: Duration,
    },
    Target,
    Method,
    UnknownUpstream {
        name: String,
        known: Vec<String>,
    },
    /// The base URL names one, the header another.
    TwoUpstreams {
        url: String,
        header: String,
    },
    /// The base URL names one behind what is no tag.
    BrokenTags,
}

#[derive(Debug)]
pub(super) struct UpstreamFault {
    pub(super) upstream: Label,
    pub(super) authority: String,
    pub(super) kind: UpstreamFaultKind,
}

#[derive(Debug)]
pub(super) enum UpstreamFaultKind {
    Unreachable(String),
    ClosedEarly(String),
    Timeout(Duration),
}

#[derive(Debug)]
pub(super) enum Unavailability {
    Ledger,
    Budgets,
    Memory,
    TooManyCalls,
}

/// Why calls are not let through, besides the reasons of the policy.
pub(super) const UNAVAILABLE: [&str; 4] = [
    "ledger_unavailable",
    "budgets_unreadable",
    "memory_full",
    "too_many_calls",
];

/// What can be wrong with a request.
pub(super) const REJECTIONS: [&str; 8] = [
    "body_too_large",
    "body_incomplete",
    "body_stalled",
    "bad_target",
    "method_not_supported",
    "unknown_upstream",
    "two_upstreams",
    "broken_tags",
];

/// How an upstream can fail.
pub(super) const UPSTREAM_FAULTS: [&str; 3] = [
    "upstream_unreachable",
    "upstream_closed",
    "upstream_timeout",
];

impl Fault {
    /// Low-cardinality name: the error `code`, the header and the metric label.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => match rejection {
                Rejection::BodyTooLarge { .. } => "body_too_large",
                Rejection::BodyIncomplete => "body_incomplete",
                Rejection::BodyStalled { .. } => "body_stalled",
                Rejection::Target => "bad_target",
                Rejection::Method => "method_not_supported",
                Rejection::UnknownUpstream { .. } => "unknown_upstream",
                Rejection::TwoUpstreams { .. } => "two_upstreams",
                Rejection::BrokenTags => "broken_tags",
            },
            Self::Upstream(fault) => match fault.kind {
                UpstreamFaultKind::Unreachable(_) => "upstream_unreachable",
                UpstreamFaultKind::ClosedEarly(_) => "upstream_closed",
                UpstreamFaultKind::Timeout(_) => "upstream_timeout",
            },
            Self::Refused(refused) => refused.refusal.kind(),
            Self::Unavailable(reason) => match reason {
                Unavailability::Ledger => "ledger_unavailable",
                Unavailability::Budgets => "budgets_unreadable",
                Unavailability::Memory => "memory_full",
                Unavailability::TooManyCalls => "too_many_calls",
            },
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Rejected(rejection) => match rejection {
                Rejection::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                Rejection::BodyIncomplete
                | Rejection::Target
                | Rejection::UnknownUpstream { .. }
                | Rejection::TwoUpstreams { .. }
                | Rejection::BrokenTags => StatusCode::BAD_REQUEST,
                Rejection::BodyStalled { .. } => StatusCode::REQUEST_TIMEOUT,
                Rejection::Method => StatusCode::METHOD_NOT_ALLOWED,
            },
            Self::Upstream(fault) => match fault.kind {
                UpstreamFaultKind::Unreachable(_) | UpstreamFaultKind::ClosedEarly(_) => {
                    StatusCode::BAD_GATEWAY
                }
                UpstreamFaultKind::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            },
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// The `type` of the error object, in the words of OpenAI's API.
    fn error_type(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "invalid_request_error",
            Self::Upstream(_) => "upstream_error",
            Self::Unavailable(_) => "service_unavailable_error",
            Self::Refused(_) => "insufficient_quota",
        }
    }

    /// The answer. The connection of a request that was not read to its end cannot go on.
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let text = self.body();
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = self.status();
        let map = response.headers_mut();
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        map.insert(headers::ERROR, HeaderValue::from_static(self.kind()));
        match self {
            Self::Unavailable(reason) => {
                map.insert(RETRY_AFTER, HeaderValue::from_static("1"));
                if matches!(reason, Unavailability::Memory) {
                    map.insert(CONNECTION, HeaderValue::from_static("close"));
                }
            }
            Self::Rejected(_) => {
                map.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::Upstream(_) => {}
            Self::Refused(refused) => refused.mark(map),
        }
        response
    }

    fn body(&self) -> Vec<u8> {
        let message = self.to_string();
        if let Self::Refused(refused) = self {
            let code = refused.refusal.code();
            let words = RefusalText {
                message: &message,
                code,
            };
            return refusal::body(refused.dialect, words);
        }
        let body = ErrorBody {
            error: ErrorObject {
                message,
                r#type: self.error_type(),
                param: None,
                code: self.kind(),
            },
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl Refused {
    /// SDKs go by `x-should-retry` before anything else. `retry-after` only where waiting helps, and
    /// soon: some clients sleep it whatever it says.
    fn mark(&self, map: &mut HeaderMap) {
        let put = |map: &mut HeaderMap, name: &'static str, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                map.insert(name, value);
            }
        };
        put(map, headers::DECISION, "refuse");
        put(map, headers::REASON, self.refusal.kind());
        match self.refusal.retry_after(self.at) {
            Some(seconds) => put(map, RETRY_AFTER.as_str(), &seconds.to_string()),
            None => put(map, headers::SHOULD_RETRY, "false"),
        }
        if let Some(at) = self.refusal.resets_at() {
            put(map, headers::RESETS_AT, &at.to_string());
        }
    }
}

#[derive(Serialize)]
struct ErrorBody {
    error: ErrorObject,
}

#[derive(Serialize)]
struct ErrorObject {
    message: String,
    r#type: &'static str,
    param: Option<()>,
    code: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("open-aiops: ")?;
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Upstream(fault) => fault.fmt(f),
            Self::Unavailable(reason) => reason.fmt(f),
            Self::Refused(refused) => refused.refusal.fmt(f),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BodyTooLarge { limit } => write!(
                f,
                "the request body is longer than {limit} bytes; raise [proxy] max_body to allow it"
            ),
            Self::BodyIncomplete => f.write_str("the request body ended before its length"),
            Self::BodyStalled { silence } => write!(
                f,
                "the request body stalled: nothing of it came for {} s",
                silence.as_secs_f32()
            ),
            Self::Target => f.write_str("the request target is not a path"),
            Self::Method => f.write_str("this method cannot be proxied"),
            Self::TwoUpstreams { url, header } => write!(
                f,
                "the base URL names the upstream {url:?} and {} names {header:?}; leave one of them out",
                headers::UPSTREAM
            ),
            Self::BrokenTags => f.write_str(
                "the base URL names an upstream behind a tag that is empty, given twice or not understood; \
                 expected /<tag>/<name> pairs with percent-encoded names, such as /run/a%2Fb/upstream/x/v1",
            ),
            Self::UnknownUpstream { name, known } => {
                write!(
                    f,
                    "no upstream is named {name:?}; configured: {}",
                    known.join(", ")
                )
            }
        }
    }
}

impl fmt::Display for UpstreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            upstream,
            authority,
            kind,
        } = self;
        match kind {
            UpstreamFaultKind::Unreachable(why) => {
                write!(
                    f,
                    "the upstream {upstream} ({authority}) could not be reached: {why}"
                )
            }
            UpstreamFaultKind::ClosedEarly(why) => write!(
                f,
                "the upstream {upstream} ({authority}) broke off before it answered: {why}"
            ),
            UpstreamFaultKind::Timeout(after) => write!(
                f,
                "the upstream {upstream} ({authority}) did not answer within {} s",
                after.as_secs_f32()
            ),
        }
    }
}

impl fmt::Display for Unavailability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ledger => {
                "calls cannot be recorded now and [ledger] on_failure is \"refuse\"; see the log"
            }
            Self::Budgets => "what was spent cannot be read from the ledger now; see the log",
            Self::Memory => {
                "the bodies of running calls take all memory they may; raise [proxy] max_memory"
            }
            Self::TooManyCalls => "too many calls at once",
        })
    }
}
