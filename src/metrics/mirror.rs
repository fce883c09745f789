//! Figures that are kept elsewhere and looked up whenever metrics are scraped, all at once, so that
//! a series is never half of one look and half of another.

use std::fmt;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::Registration;
use crate::core::latencies::Latencies;

/// A gauge, or a counter, without labels; it has no series where the figure is not known.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    kind: MetricType,
    value: Arc<Mutex<Option<f64>>>,
}

/// A gauge with a series for each label set that there is at the moment.
#[derive(Clone, Debug)]
pub(super) struct Gauges<L>(Arc<Mutex<Vec<(L, f64)>>>);

/// A histogram without labels; it has no series where nothing is known.
#[derive(Clone, Debug)]
pub(super) struct Times(Arc<Mutex<Option<Latencies>>>);

impl Figure {
    pub(super) fn gauge(to: &mut Registration, (name, help): (&str, &str)) -> Self {
        Self::new(to, (name, help), MetricType::Gauge)
    }

    pub(super) fn counter(to: &mut Registration, (name, help): (&str, &str)) -> Self {
        Self::new(to, (name, help), MetricType::Counter)
    }

    fn new(to: &mut Registration, (name, help): (&str, &str), kind: MetricType) -> Self {
        let value = Arc::default();
        to.add(name, help, Self { kind, value })
    }

    pub(super) fn set(&self, value: Option<f64>) {
        *lock(&self.value) = value;
    }
}

impl<L: EncodeLabelSet + Clone + Debug + Send + Sync + 'static> Gauges<L> {
    pub(super) fn new(to: &mut Registration, (name, help): (&str, &str)) -> Self {
        to.add(name, help, Self(Arc::default()))
    }

    pub(super) fn set(&self, values: Vec<(L, f64)>) {
        *lock(&self.0) = values;
    }
}

impl Times {
    pub(super) fn new(to: &mut Registration, (name, help): (&str, &str)) -> Self {
        to.add(name, help, Self(Arc::default()))
    }

    pub(super) fn set(&self, times: Latencies) {
        *lock(&self.0) = Some(times);
    }
}

impl EncodeMetric for Figure {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match (*lock(&self.value), self.kind) {
            (None, _) => Ok(()),
            (Some(value), MetricType::Counter) => {
                encoder.encode_counter::<NoLabelSet, f64, f64>(&value, None)
            }
            (Some(value), _) => encoder.encode_gauge(&value),
        }
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }
}

impl<L: EncodeLabelSet> EncodeMetric for Gauges<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, value) in lock(&self.0).iter() {
            encoder.encode_family(labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl EncodeMetric for Times {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Some(times) = *lock(&self.0) else {
            return Ok(());
        };
        let classes = times
            .classes()
            .map(|(bound, count)| (bound.map_or(f64::INFINITY, seconds), count));
        let classes: Vec<(f64, u64)> = classes.collect();
        let total = seconds(times.total_us);
        encoder.encode_histogram::<NoLabelSet>(total, times.count(), &classes, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
