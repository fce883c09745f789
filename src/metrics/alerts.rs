//! Alerts, and what became of the messages about them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use strum::VariantNames;

use super::Registration;
use super::mirror::Gauges;
use crate::core::alert::Rule;

#[derive(Debug)]
pub(super) struct AlertMetrics {
    told: Family<RuleLabels, Counter>,
    messages: Family<ResultLabels, Counter>,
    missed: Counter,
    open: Gauges<RuleLabels>,
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

impl MessageResult {
    const ALL: [Self; 3] = [Self::Sent, Self::Failed, Self::HeldBack];

    fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::HeldBack => "held_back",
        }
    }
}

impl AlertMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        let open = (
            "open_aiops_alerts_open",
            "Alerts that are open, by what they are about",
        );
        let all = Self {
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
            open: Gauges::new(to, open),
        };
        for rule in Rule::VARIANTS {
            drop(all.told.get_or_create(&RuleLabels { rule }));
        }
        for result in MessageResult::ALL {
            all.messages(result, 0);
        }
        all.open(&[]);
        all
    }

    /// So many are open of each rule, and none of the others.
    pub(super) fn open(&self, open: &[(Rule, usize)]) {
        let of = |rule: &'static str| {
            let found = open.iter().find(|(of, _)| of.name() == rule);
            let count = found.map_or(0, |(_, count)| *count);
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            (RuleLabels { rule }, count)
        };
        self.open
            .set(Rule::VARIANTS.iter().map(|rule| of(rule)).collect());
    }

    pub(super) fn told(&self, rule: Rule) {
        let rule = rule.name();
        self.told.get_or_create(&RuleLabels { rule }).inc();
    }

    pub(super) fn messages(&self, result: MessageResult, count: u64) {
        let result = result.name();
        self.messages
            .get_or_create(&ResultLabels { result })
            .inc_by(count);
    }

    pub(super) fn missed(&self) {
        self.missed.inc();
    }
}
