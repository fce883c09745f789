//! Alerts and where they go: how `[alerts]` is read and written.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use wildmatch::WildMatch;

use super::Secret;
use super::measured;
use super::read::Section;
use super::render::{list, quoted};
use super::sections::Environment;
use super::value::{self, Kind, duration_text, size_text};
use crate::core::alert::measured::MetricRule;
use crate::core::alert::{Rule, Severity};
use crate::core::id::Label;

const MAX_WEBHOOKS: usize = 16;
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_HEADERS: usize = 16;

/// What is worth an alert, and who is told.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertsConfig {
    /// What comes again within this time is the same alert, and is not told again before.
    pub repeat_after: Duration,
    /// Less free space on the disk of the ledger is an alert; none where it does not matter.
    pub min_free_bytes: Option<u64>,
    pub webhooks: Vec<WebhookConfig>,
    /// Where custom metrics should not be.
    pub metrics: Vec<MetricRule>,
}

/// One place that alerts are sent to.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookConfig {
    pub name: Label,
    /// An http or https URL; whoever knows it may write there.
    pub url: Secret,
    pub format: Format,
    pub min_severity: Severity,
    /// Globs of rules; none means all.
    pub rules: Vec<WildMatch>,
    pub bearer: Option<Secret>,
    pub headers: Vec<(HeaderName, Secret)>,
    /// For one attempt.
    pub timeout: Duration,
    /// Messages in any minute; more are summed up.
    pub max_per_minute: usize,
}

/// What a message looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Format {
    #[default]
    Json,
    /// `{"text": ...}`, as Slack and what is compatible with it take it.
    Slack,
}

const FORMAT: Kind<Format> = Kind::new("\"json\" or \"slack\"", "\"slack\"", |value| {
    value.as_str()?.parse().ok()
});

const SEVERITY: Kind<Severity> = Kind::new(
    "\"info\", \"warning\" or \"critical\"",
    "\"warning\"",
    |value| value.as_str()?.parse().ok(),
);

const RULES: Kind<WildMatch> = Kind::new(
    "the name of a rule, in which * and ? are wildcards, that fits at least one",
    "\"budget_*\"",
    |value| {
        let glob = (value::GLOB.parse)(value)?;
        let mut rules = <Rule as strum::VariantNames>::VARIANTS.iter();
        rules.any(|rule| glob.matches(rule)).then_some(glob)
    },
);

/// The value is not shown: it is often a secret itself.
const URL: Kind<String> = Kind {
    hidden: true,
    ..Kind::new(
        "an http or https URL without user and fragment",
        "\"https://alerts.example/hook\"",
        |value| {
            value
                .as_str()
                .filter(|text| is_url(text))
                .map(str::to_owned)
        },
    )
};

const VARIABLE: Kind<String> = Kind {
    example: "\"SLACK_WEBHOOK_URL\"",
    ..value::VARIABLE
};

const TIMEOUT: Kind<Duration> = Kind::new(
    "a duration above zero and up to \"60s\"",
    "\"10s\"",
    |value| (value::DURATION.parse)(value).filter(|time| *time <= MAX_TIMEOUT),
);

const PER_MINUTE: Kind<usize> = Kind::new("a whole number from 1 to 1000", "30", |value| {
    (value::COUNT.parse)(value).filter(|most| *most <= 1000)
});

const FREE: Kind<Option<u64>> = Kind::new(
    "a size like \"1 GiB\", or \"off\"",
    "\"1 GiB\"",
    |value| match value.as_str() {
        Some("off") => Some(None),
        _ => (value::SIZE.parse)(value).map(Some),
    },
);

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            repeat_after: Duration::from_secs(600),
            min_free_bytes: Some(1 << 30),
            webhooks: Vec::new(),
            metrics: Vec::new(),
        }
    }
}

impl WebhookConfig {
    /// Whether an alert of this rule goes here.
    pub fn takes(&self, rule: Rule, severity: Severity) -> bool {
        let of_rule = |glob: &WildMatch| glob.matches(rule.name());
        severity >= self.min_severity && (self.rules.is_empty() || self.rules.iter().any(of_rule))
    }

    /// Whether its URL names one of these listeners of our own: what it is told would come back.
    pub fn is_own(&self, listeners: &[SocketAddr]) -> bool {
        let url = self.url.expose().parse::<Uri>();
        url.is_ok_and(|url| is_own(&url, listeners))
    }
}

/// Whether a URL names one of these listeners of our own.
pub(super) fn is_own(url: &Uri, listeners: &[SocketAddr]) -> bool {
    let host = url.host().unwrap_or_default();
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    let is_https = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    let is_local = host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || ip.is_some_and(|ip| ip.is_loopback() || ip.is_unspecified());
    let names = |own: &SocketAddr| {
        let reaches = ip.is_some_and(|ip| ip == own.ip().to_canonical());
        let hears_local = own.ip().is_loopback() || own.ip().is_unspecified();
        own.port() == port && (reaches || is_local && hears_local)
    };
    listeners.iter().any(names)
}

fn is_url(text: &str) -> bool {
    let Ok(url) = text.parse::<Uri>() else {
        return false;
    };
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let has_host = url.host().is_some_and(|host| !host.is_empty());
    is_http && has_host && !authority.contains('@') && !text.contains('#')
}

/// No webhook may send to `listeners`, which are our own.
pub(super) fn read(
    root: &mut Section<'_, '_>,
    env: Environment<'_>,
    listeners: [SocketAddr; 2],
) -> AlertsConfig {
    let mut config = AlertsConfig::default();
    root.table("alerts", |section| {
        section.set(
            "repeat_after",
            &value::DURATION.like("\"10m\""),
            &mut config.repeat_after,
        );
        section.set("min_free_disk", &FREE, &mut config.min_free_bytes);
        let mut names = BTreeSet::new();
        config.webhooks = section
            .tables("webhook", |n, section| {
                if n == MAX_WEBHOOKS {
                    section.problem("name", "at most 16 webhooks", "");
                }
                let name = section.demand("name", &value::NAME.like("\"ops\""));
                if name
                    .as_ref()
                    .is_some_and(|name| !names.insert(name.clone()))
                {
                    section.problem("name", "a name that no other webhook has", "");
                }
                let webhook = webhook(section, name, env);
                if webhook.as_ref().is_some_and(|it| it.is_own(&listeners)) {
                    let expected = "a webhook whose URL is no listener of our own";
                    section.problem("name", expected, "");
                }
                webhook
            })
            .into_iter()
            .flatten()
            .collect();
        config.metrics = measured::rules(section);
    });
    config
}

fn webhook(
    section: &mut Section<'_, '_>,
    name: Option<Label>,
    env: Environment<'_>,
) -> Option<WebhookConfig> {
    let url = url(section, env);
    let format = section.get("format", &FORMAT).unwrap_or_default();
    let min_severity = section.get("min_severity", &SEVERITY).unwrap_or_default();
    let rules = section.list("rules", &RULES);
    section.forbid(
        "bearer",
        "the token in an environment variable and that variable's name here",
        "bearer_env = \"ALERTS_TOKEN\"",
    );
    let bearer = secret(section, "bearer_env", env, &|token| {
        HeaderValue::from_str(token).is_ok()
    });
    let headers = section.table("headers_env", |section| headers(section, env));
    let mut timeout = Duration::from_secs(10);
    section.set("timeout", &TIMEOUT, &mut timeout);
    let mut max_per_minute = 30;
    section.set("max_per_minute", &PER_MINUTE, &mut max_per_minute);
    Some(WebhookConfig {
        name: name?,
        url: url?,
        format,
        min_severity,
        rules,
        bearer,
        headers: headers.unwrap_or_default(),
        timeout,
        max_per_minute,
    })
}

/// Where the URL is a secret it stands in the environment, never in the file.
fn url(section: &mut Section<'_, '_>, env: Environment<'_>) -> Option<Secret> {
    match (section.has("url"), section.has("url_env")) {
        (true, false) => section.get("url", &URL).map(Secret::new),
        (false, true) => secret(section, "url_env", env, &is_url),
        (true, true) => {
            let both = (section.get("url", &URL), section.get("url_env", &VARIABLE));
            let expected = "either url or url_env, not both";
            section.problem("url_env", expected, "");
            both.0.map(Secret::new)
        }
        (false, false) => {
            let expected = "the name of an environment variable with an http or https URL, or url";
            section.problem("url_env", expected, "url_env = \"SLACK_WEBHOOK_URL\"");
            None
        }
    }
}

fn headers(section: &mut Section<'_, '_>, env: Environment<'_>) -> Vec<(HeaderName, Secret)> {
    let keys = section.keys();
    if keys.len() > MAX_HEADERS {
        section.problem("", "at most 16 headers", "");
    }
    let mut headers = Vec::new();
    for key in keys {
        let Ok(name) = key.parse::<HeaderName>() else {
            section.problem(key, "the name of a header", "x-api-key = \"ALERTS_KEY\"");
            continue;
        };
        let value = secret(section, key, env, &|value| {
            HeaderValue::from_str(value).is_ok()
        });
        headers.extend(value.map(|value| (name, value)));
    }
    headers
}

/// What an environment variable holds, named by `key`.
pub(super) fn secret<'r>(
    section: &mut Section<'r, '_>,
    key: &'r str,
    env: Environment<'_>,
    fits: &dyn Fn(&str) -> bool,
) -> Option<Secret> {
    let variable = section.get(key, &VARIABLE)?;
    let found = env(&variable).map(|found| found.trim().to_owned());
    let found = found.unwrap_or_default();
    if found.is_empty() {
        let expected = format!("an environment variable that is set: {variable} is not");
        section.problem(key, &expected, "");
    } else if !fits(&found) {
        let expected = if key == "url_env" {
            format!("{}: that in {variable} is none", URL.expected)
        } else {
            format!("a value that fits into a header: that in {variable} does not")
        };
        section.problem(key, &expected, "");
    }
    Some(Secret::from_variable(variable, found))
}

/// Webhooks whose secrets go over the net in clear.
pub(super) fn warnings(config: &AlertsConfig) -> impl Iterator<Item = String> + '_ {
    let in_clear = |webhook: &&WebhookConfig| {
        let Ok(url) = webhook.url.expose().parse::<Uri>() else {
            return false;
        };
        url.scheme_str() == Some("http") && !super::check::is_local(&url)
    };
    let webhooks = config.webhooks.iter().filter(in_clear);
    webhooks.map(|webhook| format!("webhook {}: its alerts go unencrypted", webhook.name))
}

pub(super) fn write(f: &mut impl Write, config: &AlertsConfig) -> fmt::Result {
    writeln!(f, "\n[alerts]")?;
    writeln!(
        f,
        "repeat_after = {}",
        quoted(duration_text(config.repeat_after))
    )?;
    let free = config
        .min_free_bytes
        .map_or_else(|| "off".to_owned(), size_text);
    writeln!(f, "min_free_disk = {}", quoted(free))?;
    config
        .webhooks
        .iter()
        .try_for_each(|entry| write_webhook(f, entry))?;
    measured::write_rules(f, &config.metrics)
}

fn write_webhook(f: &mut impl Write, webhook: &WebhookConfig) -> fmt::Result {
    let format: &'static str = webhook.format.into();
    writeln!(f, "\n[[alerts.webhook]]")?;
    writeln!(f, "name = {}", quoted(&webhook.name))?;
    match webhook.url.variable() {
        Some(variable) => writeln!(f, "url_env = {}", quoted(variable))?,
        None => writeln!(f, "url = {}", quoted(masked(webhook.url.expose())))?,
    }
    writeln!(f, "format = {}", quoted(format))?;
    writeln!(f, "min_severity = {}", quoted(webhook.min_severity.name()))?;
    writeln!(f, "rules = {}", list(&webhook.rules))?;
    if let Some(variable) = webhook.bearer.as_ref().and_then(Secret::variable) {
        writeln!(f, "bearer_env = {}", quoted(variable))?;
    }
    writeln!(f, "timeout = {}", quoted(duration_text(webhook.timeout)))?;
    writeln!(f, "max_per_minute = {}", webhook.max_per_minute)?;
    if !webhook.headers.is_empty() {
        writeln!(f, "\n[alerts.webhook.headers_env]")?;
    }
    for (name, secret) in &webhook.headers {
        writeln!(
            f,
            "{name} = {}",
            quoted(secret.variable().unwrap_or_default())
        )?;
    }
    Ok(())
}

/// Of a URL that stands in the file no more is shown than where it leads.
fn masked(url: &str) -> String {
    let Ok(url) = url.parse::<Uri>() else {
        return "****".to_owned();
    };
    let scheme = url.scheme_str().unwrap_or("https");
    let rest = if url.path() == "/" && url.query().is_none() {
        ""
    } else {
        "/****"
    };
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{authority}{rest}")
}

#[cfg(test)]
mod tests;
