//! A family of metrics that cannot grow without end, whatever its labels say.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::Registration;

/// Label sets of one counter or gauge.
pub(super) const MOST: usize = 2000;
/// Label sets of one histogram, each of which has a series for every bucket.
pub(super) const MOST_HISTOGRAMS: usize = 500;
/// Stands for every value that is not told apart any more.
pub(super) const OTHER: &str = "other";

/// Labels some of which are chosen by clients or by the configuration.
pub(super) trait Labels:
    Clone + Debug + Eq + Hash + Send + Sync + EncodeLabelSet + 'static
{
    /// The same with [`OTHER`] in the place of what others choose: there are few of these.
    fn without_choice(&self) -> Self;
}

/// The first label sets have a metric each; what comes later is counted without what was chosen.
#[derive(Debug)]
pub(super) struct Bounded<L, M = Counter, C = fn() -> M> {
    family: Family<L, M, C>,
    made: Mutex<usize>,
    most: usize,
}

impl<L, M, C> Bounded<L, M, C>
where
    L: Labels,
    C: MetricConstructor<M> + Clone + Send + Sync + Debug + 'static,
    M: TypedMetric + EncodeMetric + Send + Sync + Debug + 'static,
{
    pub(super) fn new(to: &mut Registration, (name, help): (&str, &str), of: C) -> Self {
        let is_histogram = matches!(M::TYPE, MetricType::Histogram);
        Self {
            family: to.add(name, help, Family::new_with_constructor(of)),
            made: Mutex::default(),
            most: if is_histogram { MOST_HISTOGRAMS } else { MOST },
        }
    }

    pub(super) fn with(&self, labels: &L, act: impl FnOnce(&M)) {
        if let Some(metric) = self.family.get(labels) {
            return act(&metric);
        }
        let mut made = self.made();
        // Somebody else may have made it meanwhile.
        let is_there = self.family.get(labels).is_some();
        if is_there || *made < self.most {
            *made += usize::from(!is_there);
            return act(&self.family.get_or_create(labels));
        }
        drop(made);
        act(&self.family.get_or_create(&labels.without_choice()));
    }

    pub(super) fn clear(&self) {
        let mut made = self.made();
        self.family.clear();
        *made = 0;
    }

    fn made(&self) -> MutexGuard<'_, usize> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
