//! Who tells the collector, and about which process.

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1;
use opentelemetry_sdk::Resource;

use crate::config::OtelConfig;
use crate::core::build;

pub(super) const NAME: &str = "open-aiops";
pub(super) const VERSION: &str = build::VERSION;

pub(super) fn instrumentation() -> InstrumentationScope {
    InstrumentationScope::builder(NAME)
        .with_version(VERSION)
        .build()
}

/// What describes this process.
pub(super) fn resource(config: &OtelConfig) -> Resource {
    let own = [
        KeyValue::new("service.version", VERSION),
        KeyValue::new("telemetry.sdk.name", "opentelemetry"),
        KeyValue::new("telemetry.sdk.language", "rust"),
    ];
    let more = config.resource.iter();
    let more = more.map(|(name, text)| KeyValue::new(name.clone(), text.clone()));
    // What the environment says of it is not asked: the config is the one place.
    Resource::builder_empty()
        .with_service_name(config.service_name.clone())
        .with_attributes(own)
        .with_attributes(more)
        .build()
}

/// The same, as OTLP has it.
pub(super) fn told(resource: &Resource) -> v1::Resource {
    v1::Resource::from(resource)
}
