//! Addresses of pages. Names of runs and agents hold any character, so all are encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::core::id::{CallId, Label};

/// Everything but what RFC 3986 leaves unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A path with a query.
pub(super) fn to<'a>(path: &str, query: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs = query
        .into_iter()
        .map(|(key, value)| format!("{}={}", encode(key), encode(value)));
    let query = pairs.collect::<Vec<_>>().join("&");
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

pub(super) fn run(run: &Label) -> String {
    format!("/runs/{}", encode(run.as_str()))
}

pub(super) fn call(call: CallId) -> String {
    format!("/calls/{call}")
}

/// The page of one loop that was stopped.
pub(super) fn trip(trip: CallId) -> String {
    format!("/loops/{trip}")
}
