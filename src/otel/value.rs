//! Values of attributes, as OTLP has them.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};

use crate::core::id::Label;
use crate::core::money::NanoUsd;

pub(super) type Value = Any;

pub(super) fn text(text: impl Into<String>) -> Value {
    Any::StringValue(text.into())
}

pub(super) fn label(label: Option<&Label>) -> Option<Value> {
    label.map(|it| text(it.as_str()))
}

pub(super) fn count(count: u64) -> Value {
    Any::IntValue(i64::try_from(count).unwrap_or(i64::MAX))
}

pub(super) fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Option<Value> {
    let values = texts.into_iter().map(|it| any(text(it)));
    let values: Vec<AnyValue> = values.collect();
    (!values.is_empty()).then_some(Any::ArrayValue(ArrayValue { values }))
}

/// US dollars: backends take no other money.
pub(super) fn usd(cost: NanoUsd) -> f64 {
    let (sign, nano) = (cost.get().signum(), cost.get().unsigned_abs());
    let written = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    let usd: f64 = written.parse().unwrap_or(0.0);
    if sign < 0 { -usd } else { usd }
}

pub(super) fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

pub(super) fn attribute(key: impl Into<String>, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_the_nearest_that_a_float_has() {
        let of = |nano| usd(NanoUsd::new(nano));
        assert_eq!(of(1).to_bits(), 1e-9_f64.to_bits());
        assert_eq!(of(2_500_000).to_bits(), 0.0025_f64.to_bits());
        assert_eq!(of(-1_500_000_000).to_bits(), (-1.5_f64).to_bits());
    }
}
