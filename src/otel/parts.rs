//! Requests of metrics that are too large, parted.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;

/// How many data points it has.
pub(super) fn points(request: &ExportMetricsServiceRequest) -> u64 {
    let resources = request.resource_metrics.iter();
    let scopes = resources.flat_map(|it| &it.scope_metrics);
    let metrics = scopes.flat_map(|it| &it.metrics);
    metrics.map(|metric| of_metric(metric) as u64).sum()
}

fn of_metric(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(of)) => of.data_points.len(),
        Some(Data::Sum(of)) => of.data_points.len(),
        Some(Data::Histogram(of)) => of.data_points.len(),
        Some(Data::ExponentialHistogram(of)) => of.data_points.len(),
        Some(Data::Summary(of)) => of.data_points.len(),
        None => 0,
    }
}

/// The same data points in two requests; none where it has but one.
pub(super) fn halves(
    request: &ExportMetricsServiceRequest,
) -> Option<[ExportMetricsServiceRequest; 2]> {
    let all = usize::try_from(points(request))
        .ok()
        .filter(|all| *all > 1)?;
    let half = all / 2;
    Some([part(request, 0, half), part(request, half, all)])
}

/// The data points from one on, up to another.
fn part(
    request: &ExportMetricsServiceRequest,
    from: usize,
    to: usize,
) -> ExportMetricsServiceRequest {
    let mut part = request.clone();
    let mut at = 0;
    for resource in &mut part.resource_metrics {
        for scope in &mut resource.scope_metrics {
            scope.metrics.retain_mut(|metric| {
                let here = at;
                at += of_metric(metric);
                keep(metric, from.saturating_sub(here), to.saturating_sub(here));
                of_metric(metric) > 0
            });
        }
    }
    part
}

fn keep(metric: &mut Metric, from: usize, to: usize) {
    match &mut metric.data {
        Some(Data::Gauge(of)) => cut(&mut of.data_points, from, to),
        Some(Data::Sum(of)) => cut(&mut of.data_points, from, to),
        Some(Data::Histogram(of)) => cut(&mut of.data_points, from, to),
        Some(Data::ExponentialHistogram(of)) => cut(&mut of.data_points, from, to),
        Some(Data::Summary(of)) => cut(&mut of.data_points, from, to),
        None => {}
    }
}

fn cut<P>(points: &mut Vec<P>, from: usize, to: usize) {
    points.truncate(to);
    points.drain(..from.min(points.len()));
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::{
        Histogram, HistogramDataPoint, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    };

    use super::*;

    /// A sum of three points and a histogram of four, whose times are numbers.
    fn seven() -> ExportMetricsServiceRequest {
        let point = |n| NumberDataPoint {
            time_unix_nano: n,
            ..NumberDataPoint::default()
        };
        let bars = |n| HistogramDataPoint {
            time_unix_nano: n,
            ..HistogramDataPoint::default()
        };
        let metric = |name: &str, data| Metric {
            name: name.to_owned(),
            data: Some(data),
            ..Metric::default()
        };
        let sum = Data::Sum(Sum {
            data_points: (0..3).map(point).collect(),
            is_monotonic: true,
            ..Sum::default()
        });
        let histogram = Data::Histogram(Histogram {
            data_points: (3..7).map(bars).collect(),
            ..Histogram::default()
        });
        let scope = ScopeMetrics {
            metrics: vec![metric("spent", sum), metric("took", histogram)],
            ..ScopeMetrics::default()
        };
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                scope_metrics: vec![scope],
                ..ResourceMetrics::default()
            }],
        }
    }

    /// Names of metrics, and the times of their points.
    fn told(request: &ExportMetricsServiceRequest) -> Vec<(String, Vec<u64>)> {
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let times = |metric: &Metric| match metric.data.as_ref().unwrap() {
            Data::Sum(of) => {
                assert!(of.is_monotonic, "it stays what it is");
                of.data_points.iter().map(|it| it.time_unix_nano).collect()
            }
            Data::Histogram(of) => of.data_points.iter().map(|it| it.time_unix_nano).collect(),
            other => panic!("{other:?}"),
        };
        metrics
            .iter()
            .map(|it| (it.name.clone(), times(it)))
            .collect()
    }

    #[test]
    fn metrics_are_parted_by_their_data_points_and_none_is_lost() {
        let own = |name: &str, times: &[u64]| (name.to_owned(), times.to_vec());
        let [front, back] = halves(&seven()).unwrap();
        assert_eq!(told(&front), [own("spent", &[0, 1, 2])]);
        assert_eq!(told(&back), [own("took", &[3, 4, 5, 6])]);
        let [_, end] = halves(&front).unwrap();
        assert_eq!(told(&end), [own("spent", &[1, 2])]);
        let mut waiting = vec![seven()];
        let mut last = Vec::new();
        while let Some(request) = waiting.pop() {
            match halves(&request) {
                Some(parts) => waiting.extend(parts),
                None => last.extend(told(&request)),
            }
        }
        let times: Vec<u64> = last
            .into_iter()
            .rev()
            .flat_map(|(_, times)| times)
            .collect();
        assert_eq!(times, [0, 1, 2, 3, 4, 5, 6]);
    }
}
