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
    let client = admission.client.take();
    admission.client = client.and_then(|client| {
        let is_cut = client.as_str().len() == Label::MAX_BYTES;
        let mut client = client.as_str().to_owned();
        maybe_cut(rules, &mut client, is_cut);
        Label::parse(front(&client, Label::MAX_BYTES)).ok()
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
        let is_cut = details.chars().count() >= Event::MAX_DETAILS;
        maybe_cut(rules, details, is_cut);
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
            let mut kept = value.to_owned();
            maybe_cut(rules, &mut kept, is_cut);
            (kept != value).then_some(kept)
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

/// Of what was cut off no more is known than its front.
fn maybe_cut(rules: &Redaction, kept: &mut String, is_cut: bool) {
    if is_cut {
        *kept = rules.front_of_text(kept);
    } else {
        text(rules, kept);
    }
}
