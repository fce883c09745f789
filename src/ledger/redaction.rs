//! Redaction of what a record holds beside bodies. Names stay as they are: calls are told apart by
//! them. So does what operators did, which is told in names and sums alone.

use crate::core::call::{Admission, Settlement, StoredBody};
use crate::core::id::Label;
use crate::core::metric::{MAX_BYTES, Measurement, Value};
use crate::core::recorded::HeaderLines;
use crate::core::redaction::Redaction;
use crate::core::text::front;

use super::record::Event;

pub(super) fn admission(rules: &Redaction, admission: &mut Admission) {
    if rules.is_empty() {
        return;
    }
    text(rules, &mut admission.target);
    text(rules, &mut admission.method);
    // Of a client that was cut off no more is known than its front.
    let client = admission.client.take();
    admission.client = client.and_then(|client| {
        let is_cut = client.as_str().len() == Label::MAX_BYTES;
        let end = if is_cut {
            rules.keeps_of_cut(Label::MAX_BYTES)
        } else {
            Label::MAX_BYTES
        };
        label(rules, front(client.as_str(), end))
    });
    headers(rules, admission.headers.as_mut());
    body(rules, admission.request.as_mut());
}

pub(super) fn settlement(rules: &Redaction, settlement: &mut Settlement) {
    if rules.is_empty() {
        return;
    }
    settlement.error.iter_mut().for_each(|it| text(rules, it));
    headers(rules, settlement.headers.as_mut());
    body(rules, settlement.response.as_mut());
}

pub(super) fn event(rules: &Redaction, event: &mut Event) {
    if let Some(details) = event.details.as_mut() {
        if details.chars().count() >= Event::MAX_DETAILS {
            let end = rules.keeps_of_cut(details.len());
            details.truncate(front(details, end).len());
        }
        text(rules, details);
    }
    let delivery = event.signal.as_mut().and_then(|it| it.delivery.as_mut());
    if let Some(sent) = delivery {
        text(rules, &mut sent.answer);
    }
}

pub(super) fn measurement(rules: &Redaction, measurement: &mut Measurement) {
    measurement.note.iter_mut().for_each(|it| text(rules, it));
    if let Value::Category(word) = &measurement.value
        && let Some(changed) = rules.text(word.as_str())
    {
        let category = Value::category(front(&changed, MAX_BYTES));
        let category = category.or_else(|_| Value::category("redacted"));
        measurement.value = category.unwrap_or(Value::Boolean(true));
    }
}

fn headers(rules: &Redaction, headers: Option<&mut HeaderLines>) {
    if let Some(headers) = headers {
        headers.replace(|value, is_cut| {
            let end = if is_cut {
                rules.keeps_of_cut(value.len())
            } else {
                value.len()
            };
            let kept = front(value, end);
            let changed = rules.text(kept);
            changed.or_else(|| (end < value.len()).then(|| kept.to_owned()))
        });
    }
}

fn body(rules: &Redaction, body: Option<&mut StoredBody>) {
    if let Some(body) = body {
        let types = [&mut body.content_type, &mut body.content_encoding];
        types.into_iter().flatten().for_each(|it| text(rules, it));
    }
}

fn text(rules: &Redaction, text: &mut String) {
    if let Some(changed) = rules.text(text) {
        *text = changed;
    }
}

/// None where what it becomes is no label.
fn label(rules: &Redaction, text: &str) -> Option<Label> {
    let changed = rules.text(text);
    Label::parse(front(changed.as_deref().unwrap_or(text), Label::MAX_BYTES)).ok()
}
