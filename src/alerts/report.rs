//! What became of each message: recorded as an event, which the alerts hear of as of any other.

use std::sync::Arc;

use super::post::Answer;
use crate::clock::Clock;
use crate::core::alert::{About, Alert, Scope, Sent, Signal};
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::{Event, Ledger};
use crate::metrics::{MessageResult, Metrics};

pub(super) struct Reporter {
    pub(super) ledger: Ledger,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

impl Reporter {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn count(&self, result: MessageResult) {
        self.metrics.alert_messages(result, 1);
    }

    /// A message about `alert` went to `webhook`, or a summary did.
    pub(super) fn report(&self, webhook: &Label, alert: Option<&Alert>, answer: &Answer) {
        let (what, result) = if answer.is_ok {
            ("alert_sent", MessageResult::Sent)
        } else {
            ("alert_failed", MessageResult::Failed)
        };
        self.count(result);
        let rule = alert.map_or("summary", |alert| alert.rule.name());
        let details = format!("{rule} to webhook {webhook}: {}", answer.text);
        let signal = match alert {
            Some(alert) => Signal {
                delivery: Some(Sent {
                    rule: alert.rule,
                    webhook: webhook.clone(),
                    answer: answer.text.clone(),
                }),
                ..Signal::of(alert.scope.clone())
            },
            None => Signal::of(Scope::new(About::Webhook, webhook)),
        };
        self.tell(what, details, signal);
    }

    pub(super) fn tell(&self, what: &'static str, details: String, signal: Signal) {
        let event = Event::own(self.now(), what, Some(details)).saying(signal);
        self.record(event);
    }

    pub(super) fn record(&self, event: Event) {
        let what = event.what.clone();
        if let Err(error) = self.ledger.event(event) {
            tracing::debug!(%error, "the event {what} is not recorded");
        }
    }
}
