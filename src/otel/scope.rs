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

/// What describes this process, which `instance` tells from others that do the same.
pub(super) fn resource(config: &OtelConfig, instance: String) -> Resource {
    let own = [
        KeyValue::new("service.instance.id", instance),
        KeyValue::new("service.version", VERSION),
        // Not `opentelemetry`, which stands for its own SDK: spans are made here.
        KeyValue::new("telemetry.sdk.name", NAME),
        KeyValue::new("telemetry.sdk.version", VERSION),
        KeyValue::new("telemetry.sdk.language", "rust"),
    ];
    let more = config.resource.iter();
    let more = more.map(|(name, text)| KeyValue::new(name.clone(), text.clone()));
    // What the environment says of it is not asked: the config is the one place, and has the last word.
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

#[cfg(test)]
mod tests {
    use opentelemetry::{Key, Value};

    use super::*;

    #[test]
    fn an_instance_is_told_from_others_as_the_config_says_else_as_it_is_called() {
        let id = |config: &OtelConfig| {
            let resource = resource(config, "eu-1".to_owned());
            resource.get(&Key::new("service.instance.id"))
        };
        let mut config = OtelConfig::default();
        assert_eq!(id(&config), Some(Value::from("eu-1")));
        let own = ("service.instance.id".to_owned(), "mine".to_owned());
        config.resource.extend([own]);
        assert_eq!(id(&config), Some(Value::from("mine")));
    }

    #[test]
    fn what_makes_spans_says_so_with_its_version() {
        let resource = resource(&OtelConfig::default(), "a".to_owned());
        let of = |key: &'static str| resource.get(&Key::new(key));
        assert_eq!(of("telemetry.sdk.name"), Some(Value::from(NAME)));
        assert_eq!(of("telemetry.sdk.version"), Some(Value::from(VERSION)));
        assert_eq!(of("telemetry.sdk.language"), Some(Value::from("rust")));
    }
}
