//! Values that hold several claims: lists, JSON, `traceparent`, `baggage`, packed user ids.
//! Each part is taken as if it had come by itself, with the strength of the whole.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::Reason;
use super::gather::{Gathered, Origin};
use super::rules::{self, Meaning, Slot};

/// What Claude Code packs into its user id.
const PACKED_USER: &[(&str, Meaning)] = &[
    ("session_id", Meaning::Name(Slot::Run)),
    ("parent_session_id", Meaning::Name(Slot::ParentRun)),
    ("account_uuid", Meaning::Name(Slot::User)),
    ("device_id", Meaning::Name(Slot::User)),
];

impl Gathered {
    pub(super) fn take_tag_list(&mut self, origin: Origin<'_>, value: &str) {
        for tag in value
            .split(',')
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
        {
            match tag.split_once([':', '=']) {
                Some((name, value)) => self.take_tag(origin, name, value),
                None => self.take_tag(origin, tag, "true"),
            }
        }
    }

    pub(super) fn take_json(
        &mut self,
        origin: Origin<'_>,
        keys: &[(&str, Meaning)],
        others: bool,
        value: &str,
    ) {
        let Ok(Value::Object(object)) = serde_json::from_str(value) else {
            return self.ignore(origin.name, Reason::BadJson);
        };
        for (key, meaning) in keys {
            if let Some(text) = object.get(*key).and_then(scalar) {
                self.take_value(origin, *meaning, &text);
            }
        }
        if others {
            let rest = object
                .iter()
                .filter(|(key, _)| !keys.iter().any(|(known, _)| key == known));
            for (key, value) in rest {
                if let Some(text) = scalar(value) {
                    self.take_tag(origin, key, &text);
                }
            }
        }
    }

    /// `00-<trace id>-<parent span id>-<flags>`
    pub(super) fn take_traceparent(&mut self, origin: Origin<'_>, value: &str) {
        let mut parts = value.trim().split('-');
        let fields = (parts.next(), parts.next(), parts.next(), parts.next());
        match fields {
            (Some(version), Some(trace), Some(span), Some(_))
                if is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) =>
            {
                self.take_name(origin, Slot::Run, trace);
                self.take_tag(origin, "parent_span_id", span);
            }
            _ => self.ignore(origin.name, Reason::BadTraceparent),
        }
    }

    /// `key=value;property,key=value`, values percent-encoded.
    pub(super) fn take_baggage(&mut self, origin: Origin<'_>, value: &str) {
        let entries = value.split(',').filter_map(|entry| {
            let (key, value) = entry.split(';').next()?.split_once('=')?;
            Some((
                key.trim(),
                percent_decode_str(value.trim()).decode_utf8().ok()?,
            ))
        });
        for (key, value) in entries {
            self.take_listed(origin, rules::BAGGAGE, key, &value);
        }
    }

    /// A user, into which Claude Code packs more: as JSON, or as `<user>_session_<id>`.
    pub(super) fn take_user_id(&mut self, origin: Origin<'_>, value: &str) {
        if value.trim_start().starts_with('{') {
            self.take_json(origin, PACKED_USER, false, value);
        } else if let Some((user, session)) = value.rsplit_once("_session_") {
            self.take_name(origin, Slot::User, user);
            self.take_name(origin, Slot::Run, session);
        } else {
            self.take_name(origin, Slot::User, value);
        }
    }
}

/// Lower case, and not all zero, which means there is none.
fn is_hex(text: &str, len: usize) -> bool {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == len && text.bytes().all(is_digit) && (len == 2 || text.bytes().any(|b| b != b'0'))
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(_) | Value::Bool(_) => Some(Cow::Owned(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
