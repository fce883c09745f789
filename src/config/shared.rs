//! Several instances that share their budgets through Redis: how `[shared]` is read and written.

use std::fmt::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::Secret;
use super::check;
use super::read::Section;
use super::render::quoted;
use super::sections::Environment;
use super::value::{self, Kind, duration_text};
use crate::core::id::Label;

const MIN_SECRET_BYTES: usize = 16;
const MAX_NAME_BYTES: usize = 64;

/// How this instance shares what budgets count with others.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedConfig {
    /// Where Redis is; often with a password in it.
    pub url: Secret,
    /// The same on all instances: names of accounts and clients' keys are hashed with it.
    pub secret: Secret,
    /// What all keys in Redis begin with.
    pub namespace: Label,
    /// What people call this instance; a short id where none is given.
    pub instance: Option<Label>,
    pub extra_ca_file: Option<PathBuf>,
    /// How long a call waits for Redis.
    pub timeout: Duration,
    /// An instance that was not heard of for so long is gone.
    pub lease: Duration,
    /// How long Redis keeps accounts of budgets without an end that nobody uses.
    pub keep_for: Duration,
    pub on_failure: OnAway,
    /// Calls are told to the ledgers of all instances.
    pub records: bool,
    /// How many of them Redis keeps for instances that come later.
    pub keep_records: usize,
}

/// What calls with budgets go by while Redis is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum OnAway {
    /// Each instance goes on with its share of what is left.
    #[default]
    LocalShare,
    /// Each instance counts only what it knows itself.
    Allow,
    /// They are answered 503.
    Refuse,
}

/// The value is not shown: there may be a password in it.
const URL: Kind<String> = Kind {
    hidden: true,
    ..Kind::new(
        "a URL like redis://host:6379/0, rediss://host:6379 or unix:///path",
        "\"redis://127.0.0.1:6379\"",
        |value| {
            let text = value.as_str()?;
            (is_url(text) && !has_password(text)).then(|| text.to_owned())
        },
    )
};

const ON_FAILURE: Kind<OnAway> = Kind::new(
    "\"local_share\", \"allow\" or \"refuse\"",
    "\"local_share\"",
    |value| value.as_str()?.parse().ok(),
);

const NAMESPACE: Kind<Label> = Kind::new(
    "1 to 64 letters, digits, - and _",
    "\"open-aiops\"",
    |value| {
        let text = value.as_str()?;
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let is_name = text.chars().all(fits) && text.len() <= MAX_NAME_BYTES;
        is_name.then(|| Label::parse(text).ok()).flatten()
    },
);

const TIMEOUT: Kind<Duration> =
    Kind::new("a duration from \"1ms\" to \"5s\"", "\"50ms\"", |value| {
        let bounds = Duration::from_millis(1)..=Duration::from_secs(5);
        (value::DURATION.parse)(value).filter(|time| bounds.contains(time))
    });

const LEASE: Kind<Duration> = Kind::new("a duration from \"1s\" to \"5m\"", "\"10s\"", |value| {
    let bounds = Duration::from_secs(1)..=Duration::from_secs(300);
    (value::DURATION.parse)(value).filter(|time| bounds.contains(time))
});

const KEEP_FOR: Kind<Duration> = Kind::new("a duration of at least \"1h\"", "\"90d\"", |value| {
    (value::DURATION.parse)(value).filter(|time| *time >= Duration::from_secs(3600))
});

const KEEP_RECORDS: Kind<usize> =
    Kind::new("a whole number from 1000 to 1000000", "20000", |value| {
        (value::COUNT.parse)(value).filter(|count| (1000..=1_000_000).contains(count))
    });

fn is_url(text: &str) -> bool {
    if text.starts_with("unix:///") {
        return true;
    }
    let Ok(url) = text.parse::<Uri>() else {
        return false;
    };
    let is_redis = matches!(
        url.scheme_str(),
        Some("redis" | "rediss" | "valkey" | "valkeys")
    );
    is_redis && url.host().is_some_and(|host| !host.is_empty()) && !text.contains('#')
}

/// Then it belongs into the environment.
fn has_password(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    // A password may have any characters, so that where the host begins is not sure.
    rest.contains('@') || text.contains("pass=")
}

pub(super) fn read(root: &mut Section<'_, '_>, env: Environment<'_>) -> Option<SharedConfig> {
    root.table("shared", |section| {
        let url = url(section, env);
        let secret = secret(section, env);
        let mut config = SharedConfig::new(url, secret)?;
        section.set("namespace", &NAMESPACE, &mut config.namespace);
        config.instance = section.get("instance", &value::NAME.like("\"proxy-1\""));
        config.extra_ca_file = section.get("extra_ca_file", &value::PATH);
        if let Some(file) = &config.extra_ca_file {
            check::certificates(section, "extra_ca_file", file);
        }
        section.set("timeout", &TIMEOUT, &mut config.timeout);
        section.set("lease", &LEASE, &mut config.lease);
        section.set("keep_for", &KEEP_FOR, &mut config.keep_for);
        section.set("on_failure", &ON_FAILURE, &mut config.on_failure);
        section.set("records", &value::BOOL, &mut config.records);
        section.set("keep_records", &KEEP_RECORDS, &mut config.keep_records);
        if config.timeout * 6 > config.lease {
            let expected = "at least six times the timeout";
            section.problem("lease", expected, "lease = \"10s\"");
        }
        Some(config)
    })
    .flatten()
}

impl SharedConfig {
    fn new(url: Option<Secret>, secret: Option<Secret>) -> Option<Self> {
        let none = || Secret::new(String::new());
        Some(Self {
            url: url.unwrap_or_else(none),
            secret: secret.unwrap_or_else(none),
            namespace: Label::parse("open-aiops").ok()?,
            instance: None,
            extra_ca_file: None,
            timeout: Duration::from_millis(50),
            lease: Duration::from_secs(10),
            keep_for: Duration::from_secs(90 * 86_400),
            on_failure: OnAway::default(),
            records: true,
            keep_records: 20_000,
        })
    }

    /// With every default, for what is at `url`.
    pub fn of(url: &str, secret: &str) -> Option<Self> {
        let text = |text: &str| Some(Secret::new(text.to_owned()));
        Self::new(text(url), text(secret))
    }
}

/// Where there is a password in the URL it stands in the environment, never in the file.
fn url(section: &mut Section<'_, '_>, env: Environment<'_>) -> Option<Secret> {
    match (section.has("url"), section.has("url_env")) {
        (true, false) => section.get("url", &URL).map(Secret::new),
        (false, true) => variable(
            section,
            "url_env",
            env,
            ("\"REDIS_URL\"", URL.expected),
            is_url,
        ),
        (true, true) => {
            section.problem("url_env", "either url or url_env, not both", "");
            None
        }
        (false, false) => {
            let expected = "where Redis is: url, or url_env where it has a password";
            section.problem("url", expected, "url = \"redis://127.0.0.1:6379\"");
            None
        }
    }
}

fn secret(section: &mut Section<'_, '_>, env: Environment<'_>) -> Option<Secret> {
    section.forbid(
        "secret",
        "the secret in an environment variable and that variable's name as secret_env",
        "secret_env = \"OPEN_AIOPS_SHARED_SECRET\"",
    );
    let example = "\"OPEN_AIOPS_SHARED_SECRET\"";
    if !section.has("secret_env") {
        let expected = "the name of an environment variable with a secret that all instances have";
        section.problem(
            "secret_env",
            expected,
            "secret_env = \"OPEN_AIOPS_SHARED_SECRET\"",
        );
        return None;
    }
    let expected = "a secret of at least 16 bytes";
    variable(section, "secret_env", env, (example, expected), |secret| {
        secret.len() >= MIN_SECRET_BYTES
    })
}

/// What an environment variable holds, named by `key`.
fn variable<'r>(
    section: &mut Section<'r, '_>,
    key: &'r str,
    env: Environment<'_>,
    (example, expected): (&'static str, &str),
    fits: impl Fn(&str) -> bool,
) -> Option<Secret> {
    let variable = section.get(key, &value::VARIABLE.like(example))?;
    let found = env(&variable).map(|found| found.trim().to_owned());
    let found = found.unwrap_or_default();
    if found.is_empty() {
        let expected = format!("an environment variable that is set: {variable} is not");
        section.problem(key, &expected, "");
    } else if !fits(&found) {
        section.problem(key, &format!("{expected}: that in {variable} is none"), "");
    }
    Some(Secret::from_variable(variable, found))
}

pub(super) fn write(f: &mut impl Write, config: &SharedConfig) -> fmt::Result {
    let on_failure: &'static str = config.on_failure.into();
    writeln!(f, "\n[shared]")?;
    match config.url.variable() {
        Some(variable) => writeln!(f, "url_env = {}", quoted(variable))?,
        None => writeln!(f, "url = {}", quoted(config.url.expose()))?,
    }
    if let Some(variable) = config.secret.variable() {
        writeln!(f, "secret_env = {}", quoted(variable))?;
    }
    writeln!(f, "namespace = {}", quoted(&config.namespace))?;
    if let Some(instance) = &config.instance {
        writeln!(f, "instance = {}", quoted(instance))?;
    }
    if let Some(file) = &config.extra_ca_file {
        writeln!(f, "extra_ca_file = {}", quoted(file.display()))?;
    }
    writeln!(f, "timeout = {}", quoted(duration_text(config.timeout)))?;
    writeln!(f, "lease = {}", quoted(duration_text(config.lease)))?;
    writeln!(f, "keep_for = {}", quoted(duration_text(config.keep_for)))?;
    writeln!(f, "on_failure = {}", quoted(on_failure))?;
    writeln!(f, "records = {}", config.records)?;
    writeln!(f, "keep_records = {}", config.keep_records)
}

/// Whether what goes to Redis can be read on the way.
pub(super) fn warnings(config: Option<&SharedConfig>) -> impl Iterator<Item = String> {
    let in_clear = config.is_some_and(|config| {
        let Ok(url) = config.url.expose().parse::<Uri>() else {
            return false;
        };
        matches!(url.scheme_str(), Some("redis" | "valkey")) && !check::is_local(&url)
    });
    let text = "what goes to Redis ([shared]) is not encrypted: the password and what is spent can be read on the way";
    in_clear.then(|| text.to_owned()).into_iter()
}

#[cfg(test)]
mod tests;
