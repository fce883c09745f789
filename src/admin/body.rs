//! Recorded bodies as bytes.
//!
//! They are made by agents, upstreams and whoever fed those, so a browser must never run one: each
//! is an attachment of no particular type, in a sandbox. What it was on the wire is said in headers.

use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderName, HeaderValue};

use crate::core::id::CallId;
use crate::ledger::Body;

/// `exact` when the bytes are those of the wire, else what was done to them.
pub(super) const STORED: HeaderName = HeaderName::from_static("x-aiops-stored");
/// Length in bytes on the wire.
pub(super) const LENGTH: HeaderName = HeaderName::from_static("x-aiops-length");
pub(super) const CONTENT_TYPE: HeaderName = HeaderName::from_static("x-aiops-content-type");
pub(super) const CONTENT_ENCODING: HeaderName = HeaderName::from_static("x-aiops-content-encoding");

/// Which body of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

pub(super) fn response(id: CallId, side: Side, body: Body) -> Response {
    let stored = fidelity(&body);
    let mut response = body.bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox; frame-ancestors 'none'"),
    );
    let name = format!("attachment; filename=\"{id}.{}\"", side.name());
    let described = [
        (header::CONTENT_DISPOSITION, Some(name)),
        (STORED, Some(stored.to_owned())),
        (LENGTH, Some(body.wire_len.to_string())),
        (CONTENT_TYPE, body.content_type),
        (CONTENT_ENCODING, body.content_encoding),
    ];
    for (name, value) in described {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    response
}

pub(super) fn fidelity(body: &Body) -> &'static str {
    match body {
        Body { exact: true, .. } => "exact",
        Body {
            truncated: true, ..
        } => "truncated",
        Body { .. } => "changed",
    }
}
