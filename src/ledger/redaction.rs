//! Redaction of what a record holds beside bodies: targets, values of headers, errors, details of
//! events. Labels stay as they are: calls are told apart by them.

use crate::core::call::{Admission, Settlement};
use crate::core::id::Label;

use super::body::Bodies;
use super::record::Event;

impl Bodies {
    pub(super) fn redact_admission(&self, admission: &mut Admission) {
        self.redact(&mut admission.target);
        let client = admission.client.as_ref().map(Label::as_str);
        if let Some(replaced) = client.and_then(|client| self.replaced(client)) {
            admission.client = Label::parse(&replaced).ok();
        }
        if let Some(headers) = &mut admission.headers
            && self.has_rules()
        {
            headers.replace(|value| self.replaced(value));
        }
    }

    pub(super) fn redact_settlement(&self, settlement: &mut Settlement) {
        settlement.error.iter_mut().for_each(|it| self.redact(it));
        if let Some(headers) = &mut settlement.headers
            && self.has_rules()
        {
            headers.replace(|value| self.replaced(value));
        }
    }

    pub(super) fn redact_event(&self, event: &mut Event) {
        event.details.iter_mut().for_each(|it| self.redact(it));
    }

    fn redact(&self, text: &mut String) {
        if let Some(replaced) = self.replaced(text) {
            *text = replaced;
        }
    }

    /// None where no rule matches.
    fn replaced(&self, text: &str) -> Option<String> {
        let bytes = self.redacted(text.as_bytes())?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}
