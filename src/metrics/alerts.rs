//! Alerts, and what became of the messages about them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Registration;
use crate::core::alert::Rule;

#[derive(Debug)]
pub(super) struct AlertMetrics {
    told: Family<RuleLabels, Counter>,
    messages: Family<ResultLabels, Counter>,
    missed: Counter,
}

/// What became of a message to a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageResult {
    Sent,
    Failed,
    /// Beyond what a webhook takes; summed up later.
    HeldBack,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

impl AlertMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        Self {
            told: to.add(
                "open_aiops_alerts",
                "Alerts that began, by what they are about",
                Family::default(),
            ),
            messages: to.add(
                "open_aiops_alert_messages",
                "Messages to webhooks, by what became of them",
                Family::default(),
            ),
            missed: to.add(
                "open_aiops_alert_events_missed",
                "Events that came too fast to be looked at for alerts",
                Counter::default(),
            ),
        }
    }

    pub(super) fn told(&self, rule: Rule) {
        let rule = rule.name();
        self.told.get_or_create(&RuleLabels { rule }).inc();
    }

    pub(super) fn messages(&self, result: MessageResult, count: u64) {
        let result = match result {
            MessageResult::Sent => "sent",
            MessageResult::Failed => "failed",
            MessageResult::HeldBack => "held_back",
        };
        self.messages
            .get_or_create(&ResultLabels { result })
            .inc_by(count);
    }

    pub(super) fn missed(&self) {
        self.missed.inc();
    }
}
