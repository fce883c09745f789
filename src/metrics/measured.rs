//! Custom metrics: what clients, judges and people say of calls, runs and agents.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::Registration;
use super::bounded::{Bounded, Labels as Bounds, OTHER};
use super::calls::Bound;
use crate::core::metric::{Measurement, Value};

/// Names that are told where the config names none.
const MAX_NAMES: usize = 20;

type Float = Gauge<f64, AtomicU64>;
type Told = (&'static str, &'static str);

const VALUES_TOLD: Told = (
    "open_aiops_custom_metric_values",
    "Measurements of custom metrics, by what their values are",
);
const SUM_TOLD: Told = (
    "open_aiops_custom_metric_summed",
    "Sum of the numbers of a custom metric, yes and no as 1 and 0",
);
const LAST_TOLD: Told = (
    "open_aiops_custom_metric_last",
    "The last number of a custom metric, yes and no as 1 and 0",
);

#[derive(Debug)]
pub(super) struct MeasuredMetrics {
    names: Mutex<Names>,
    agents: Bound,
    values: Bounded<KindLabels>,
    sum: Bounded<Labels, Float>,
    last: Bounded<Labels, Float>,
    dropped: Counter,
}

/// Which names are told.
#[derive(Debug, Default)]
struct Names {
    /// As the config has them; none: the first that come.
    wanted: Option<BTreeSet<String>>,
    seen: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    metric: String,
    agent: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    metric: String,
    agent: String,
    kind: &'static str,
}

/// How many names there are is bounded by itself.
impl Bounds for Labels {
    fn without_choice(&self) -> Self {
        Self {
            metric: self.metric.clone(),
            agent: OTHER.to_owned(),
        }
    }
}

impl Bounds for KindLabels {
    fn without_choice(&self) -> Self {
        Self {
            metric: self.metric.clone(),
            agent: OTHER.to_owned(),
            ..*self
        }
    }
}

impl Names {
    fn admit(&mut self, name: &str) -> bool {
        if let Some(wanted) = &self.wanted {
            return wanted.contains(name);
        }
        if self.seen.contains(name) {
            return true;
        }
        self.seen.len() < MAX_NAMES && self.seen.insert(name.to_owned())
    }
}

impl MeasuredMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        Self {
            names: Mutex::default(),
            agents: Bound::default(),
            values: Bounded::new(to, VALUES_TOLD, Counter::default),
            sum: Bounded::new(to, SUM_TOLD, Float::default),
            last: Bounded::new(to, LAST_TOLD, Float::default),
            dropped: to.add(
                "open_aiops_custom_metric_dropped",
                "Measurements of custom metrics whose names are not exported",
                Counter::default(),
            ),
        }
    }

    /// Tells of these names from now on; none: of the first that come.
    pub(super) fn export(&self, names: Option<&[String]>) {
        let mut known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = names.map(|names| names.iter().cloned().collect());
        if known.wanted != wanted {
            *known = Names {
                wanted,
                seen: BTreeSet::new(),
            };
            // What is not told any more goes, so that reloads do not add up.
            self.values.clear();
            self.sum.clear();
            self.last.clear();
        }
    }

    /// What says the same of the same as `before` takes its place and is no other measurement.
    pub(super) fn measured(&self, it: &Measurement, before: Option<&Measurement>) {
        if before.is_some_and(|before| before.value == it.value) {
            return;
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.admit(&it.name) {
            if before.is_none() {
                self.dropped.inc();
            }
            return;
        }
        let agent = it.agent().map_or("", |agent| self.agents.admit(agent));
        let labels = Labels {
            metric: it.name.clone(),
            agent: agent.to_owned(),
        };
        if let Some(number) = it.value.as_number() {
            let before = before.and_then(|before| before.value.as_number());
            let more = number - before.unwrap_or(0.0);
            self.sum.with(&labels, |sum| {
                sum.inc_by(more);
            });
            self.last.with(&labels, |last| {
                last.set(number);
            });
        }
        if before.is_some() {
            return;
        }
        let kind = match it.value {
            Value::Number(_) => "number",
            Value::Boolean(_) => "boolean",
            Value::Category(_) => "category",
        };
        let Labels { metric, agent } = labels;
        let labels = KindLabels {
            metric,
            agent,
            kind,
        };
        self.values.with(&labels, |values| {
            values.inc();
        });
    }
}
