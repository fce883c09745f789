//! Telling an OpenTelemetry collector: how `[otel]` is read and written.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

use super::Secret;
use super::alerts::{is_own, secret};
use super::read::Section;
use super::render::quoted;
use super::sections::Environment;
use super::value::{self, Kind, duration_text, size_text};
use crate::core::recorded::is_secret_name;

const MAX_HEADERS: usize = 16;
const MAX_ATTRIBUTES: usize = 32;
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_CONTENT: usize = 1 << 20;

/// Where spans, metrics and logs go, and what of them.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
#[derive(Clone, Debug, PartialEq)]
pub struct OtelConfig {
    /// Of the collector; none: nothing is told to anybody.
    pub endpoint: Option<Uri>,
    pub protocol: OtelProtocol,
    pub traces: bool,
    pub metrics: bool,
    pub logs: bool,
    pub conventions: Conventions,
    /// What was said goes along, as far as it is recorded.
    pub content: bool,
    /// Bytes of what was said on one side of a call.
    pub max_content_bytes: usize,
    /// Upstreams are told of the span of a call.
    pub propagate: bool,
    /// Upstreams on other machines get the `baggage` of a client, too.
    pub forward_baggage: bool,
    /// Silence after which the spans of a run and its agents are told.
    pub run_idle: Duration,
    /// A call that nobody took for so long after it ended is not told any more.
    pub give_up_after: Duration,
    /// How often metrics are told.
    pub metrics_every: Duration,
    /// For one request to the collector.
    pub timeout: Duration,
    pub compression: Compression,
    pub extra_ca_file: Option<PathBuf>,
    pub service_name: String,
    /// More of what describes this process.
    pub resource: BTreeMap<String, String>,
    pub headers: Vec<(HeaderName, String)>,
    pub secret_headers: Vec<(HeaderName, Secret)>,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum OtelProtocol {
    /// Protobuf over HTTP/1.1.
    #[default]
    Http,
    Grpc,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Compression {
    #[default]
    Gzip,
    None,
}

/// Whose names spans and metrics carry: the conventions change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
pub enum Conventions {
    /// The last version that was part of the general conventions, which most backends know.
    #[default]
    #[strum(serialize = "semconv-1.41")]
    Semconv141,
    /// The first version of the `GenAI` conventions by themselves.
    #[strum(serialize = "genai-0.1")]
    GenAi01,
}

const ENDPOINT: Kind<Uri> = Kind::new(
    "an http or https URL without user, query and fragment; over http the paths /v1/traces, /v1/metrics and \
     /v1/logs are added to it, over grpc it has no path",
    "\"http://127.0.0.1:4318\"",
    value::BASE_URL.parse,
);

const PROTOCOL: Kind<OtelProtocol> = Kind::new("\"http\" or \"grpc\"", "\"http\"", |value| {
    value.as_str()?.parse().ok()
});

const COMPRESSION: Kind<Compression> = Kind::new("\"gzip\" or \"none\"", "\"gzip\"", |value| {
    value.as_str()?.parse().ok()
});

const CONVENTIONS: Kind<Conventions> = Kind::new(
    "\"semconv-1.41\" or \"genai-0.1\"",
    "\"semconv-1.41\"",
    |value| value.as_str()?.parse().ok(),
);

const TIMEOUT: Kind<Duration> = Kind::new(
    "a duration above zero and up to \"60s\"",
    "\"10s\"",
    |value| (value::DURATION.parse)(value).filter(|time| *time <= MAX_TIMEOUT),
);

const PERIOD: Kind<Duration> = Kind::new("a duration of \"1s\" or more", "\"60s\"", |value| {
    (value::DURATION.parse)(value).filter(|time| *time >= Duration::from_secs(1))
});

const CONTENT: Kind<usize> = Kind::new("a size up to \"1 MiB\"", "\"64 KiB\"", |value| {
    (value::MEMORY_SIZE.parse)(value).filter(|size| *size <= MAX_CONTENT)
});

const TEXT: Kind<String> = Kind::new("a text of 1 to 256 bytes", "\"open-aiops\"", |value| {
    let text = value.as_str()?;
    let fits = (1..=256).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
});

/// The value is not shown: people put the secret itself here.
const HEADER: Kind<String> = Kind {
    hidden: true,
    ..Kind::new("a text that fits into a header", "\"4\"", |value| {
        let text = value.as_str()?;
        HeaderValue::from_str(text).ok().map(|_| text.to_owned())
    })
};

impl Default for OtelConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: OtelProtocol::default(),
            traces: true,
            metrics: true,
            logs: false,
            conventions: Conventions::default(),
            content: false,
            max_content_bytes: 64 << 10,
            propagate: true,
            forward_baggage: false,
            run_idle: Duration::from_secs(60),
            give_up_after: Duration::from_secs(3600),
            metrics_every: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            compression: Compression::default(),
            extra_ca_file: None,
            service_name: "open-aiops".to_owned(),
            resource: BTreeMap::new(),
            headers: Vec::new(),
            secret_headers: Vec::new(),
        }
    }
}

impl OtelConfig {
    pub fn traces(&self) -> bool {
        self.endpoint.is_some() && self.traces
    }

    pub fn metrics(&self) -> bool {
        self.endpoint.is_some() && self.metrics
    }

    pub fn logs(&self) -> bool {
        self.endpoint.is_some() && self.logs
    }

    /// Whether upstreams are told of the spans of calls.
    pub fn propagates(&self) -> bool {
        self.traces() && self.propagate
    }
}

/// The collector must not be one of `listeners`, which are our own: what is told would come back.
pub(super) fn read(
    root: &mut Section<'_, '_>,
    env: Environment<'_>,
    listeners: [SocketAddr; 2],
) -> OtelConfig {
    let mut config = OtelConfig::default();
    root.table("otel", |section| {
        config.endpoint = section.get("endpoint", &ENDPOINT);
        section.set("protocol", &PROTOCOL, &mut config.protocol);
        section.set("traces", &value::BOOL, &mut config.traces);
        section.set("metrics", &value::BOOL, &mut config.metrics);
        section.set("logs", &value::BOOL, &mut config.logs);
        section.set("conventions", &CONVENTIONS, &mut config.conventions);
        section.set("content", &value::BOOL, &mut config.content);
        section.set("max_content", &CONTENT, &mut config.max_content_bytes);
        section.set("propagate", &value::BOOL, &mut config.propagate);
        section.set("forward_baggage", &value::BOOL, &mut config.forward_baggage);
        section.set("run_idle", &value::DURATION, &mut config.run_idle);
        section.set("give_up_after", &value::DURATION, &mut config.give_up_after);
        section.set("metrics_every", &PERIOD, &mut config.metrics_every);
        section.set("timeout", &TIMEOUT, &mut config.timeout);
        section.set("compression", &COMPRESSION, &mut config.compression);
        config.extra_ca_file = section.get("extra_ca_file", &value::PATH);
        if let Some(file) = &config.extra_ca_file {
            super::check::certificates(section, "extra_ca_file", file);
        }
        section.set("service_name", &TEXT, &mut config.service_name);
        let resource = section.table("resource", resource);
        config.resource = resource.unwrap_or_default();
        let headers = section.table("headers", headers);
        config.headers = headers.unwrap_or_default();
        let secrets = section.table("headers_env", |section| secret_headers(section, env));
        config.secret_headers = secrets.unwrap_or_default();
        let endpoint = config.endpoint.as_ref();
        if endpoint.is_some_and(|url| is_own(url, &listeners)) {
            let expected = "a collector that is no listener of our own";
            section.problem("endpoint", expected, "endpoint = \"http://127.0.0.1:4318\"");
        }
        let path = config.endpoint.as_ref().map_or("/", Uri::path);
        if config.protocol == OtelProtocol::Grpc && path != "/" {
            section.problem(
                "endpoint",
                "a URL without a path, for protocol is grpc",
                "endpoint = \"http://127.0.0.1:4317\"",
            );
        }
    });
    config
}

fn resource(section: &mut Section<'_, '_>) -> BTreeMap<String, String> {
    let keys = section.keys();
    if keys.len() > MAX_ATTRIBUTES {
        section.problem("", "at most 32 attributes", "");
    }
    let mut attributes = BTreeMap::new();
    for key in keys {
        if key.is_empty() || key.len() > 256 || key == "service.name" {
            let expected =
                "the name of an attribute; the service is named by service_name of [otel]";
            section.problem(
                key,
                expected,
                "\"deployment.environment.name\" = \"production\"",
            );
            continue;
        }
        let value = section.get(key, &TEXT.like("\"production\""));
        attributes.extend(value.map(|value| (key.to_owned(), value)));
    }
    attributes
}

fn headers(section: &mut Section<'_, '_>) -> Vec<(HeaderName, String)> {
    let mut headers = Vec::new();
    for (key, name) in names(section) {
        if is_secret_name(name.as_str()) {
            section.forbid(
                key,
                "the secret in an environment variable and that variable's name in [otel.headers_env]",
                "authorization = \"OTLP_AUTHORIZATION\"",
            );
            continue;
        }
        let value = section.get(key, &HEADER);
        headers.extend(value.map(|value| (name, value)));
    }
    headers
}

fn secret_headers(
    section: &mut Section<'_, '_>,
    env: Environment<'_>,
) -> Vec<(HeaderName, Secret)> {
    let mut headers = Vec::new();
    for (key, name) in names(section) {
        let fits = |value: &str| HeaderValue::from_str(value).is_ok();
        let value = secret(section, key, env, &fits);
        headers.extend(value.map(|value| (name, value)));
    }
    headers
}

/// The keys that are names of headers.
fn names<'r>(section: &mut Section<'r, '_>) -> Vec<(&'r str, HeaderName)> {
    let keys = section.keys();
    if keys.len() > MAX_HEADERS {
        section.problem("", "at most 16 headers", "");
    }
    let mut names = Vec::new();
    for key in keys {
        match key.parse::<HeaderName>() {
            Ok(name) => names.push((key, name)),
            Err(_) => section.problem(key, "the name of a header", "x-api-key = \"OTLP_KEY\""),
        }
    }
    names
}

/// Secrets and contents that go over the net in clear.
pub(super) fn warnings(config: &OtelConfig) -> Option<String> {
    let endpoint = config.endpoint.as_ref()?;
    let in_clear = endpoint.scheme_str() == Some("http") && !super::check::is_local(endpoint);
    in_clear.then(|| "otel: what the collector is told goes unencrypted".to_owned())
}

pub(super) fn write(f: &mut impl Write, config: &OtelConfig) -> fmt::Result {
    let time = |time| quoted(duration_text(time));
    let protocol: &'static str = config.protocol.into();
    let conventions: &'static str = config.conventions.into();
    let compression: &'static str = config.compression.into();
    let max_content = size_text(config.max_content_bytes as u64);
    writeln!(f, "\n[otel]")?;
    if let Some(endpoint) = &config.endpoint {
        writeln!(f, "endpoint = {}", quoted(endpoint))?;
    }
    writeln!(f, "protocol = {}", quoted(protocol))?;
    writeln!(f, "traces = {}", config.traces)?;
    writeln!(f, "metrics = {}", config.metrics)?;
    writeln!(f, "logs = {}", config.logs)?;
    writeln!(f, "conventions = {}", quoted(conventions))?;
    writeln!(f, "content = {}", config.content)?;
    writeln!(f, "max_content = {}", quoted(max_content))?;
    writeln!(f, "propagate = {}", config.propagate)?;
    writeln!(f, "forward_baggage = {}", config.forward_baggage)?;
    writeln!(f, "run_idle = {}", time(config.run_idle))?;
    writeln!(f, "give_up_after = {}", time(config.give_up_after))?;
    writeln!(f, "metrics_every = {}", time(config.metrics_every))?;
    writeln!(f, "timeout = {}", time(config.timeout))?;
    writeln!(f, "compression = {}", quoted(compression))?;
    if let Some(file) = &config.extra_ca_file {
        writeln!(f, "extra_ca_file = {}", quoted(file.display()))?;
    }
    writeln!(f, "service_name = {}", quoted(&config.service_name))?;
    write_tables(f, config)
}

fn write_tables(f: &mut impl Write, config: &OtelConfig) -> fmt::Result {
    if !config.resource.is_empty() {
        writeln!(f, "\n[otel.resource]")?;
    }
    for (name, text) in &config.resource {
        writeln!(f, "{} = {}", quoted(name), quoted(text))?;
    }
    if !config.headers.is_empty() {
        writeln!(f, "\n[otel.headers]")?;
    }
    for (name, text) in &config.headers {
        writeln!(f, "{name} = {}", quoted(text))?;
    }
    if !config.secret_headers.is_empty() {
        writeln!(f, "\n[otel.headers_env]")?;
    }
    for (name, secret) in &config.secret_headers {
        let variable = secret.variable().unwrap_or_default();
        writeln!(f, "{name} = {}", quoted(variable))?;
    }
    Ok(())
}
