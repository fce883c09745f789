//! What the user configured, resolved: defaults filled in, everything parsed, secrets masked.
//!
//! A file becomes a [`Config`] or all of its [`Problems`] at once; nothing else reads TOML. The keys
//! are declared in `sections`, their defaults in `defaults`, docs/configuration.md explains them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use serde::Deserialize;
use wildmatch::WildMatch;

use crate::core::budget::Rule;
use crate::core::id::Label;
use crate::core::price::{PerMillion, PriceRow, PriceTable};
use crate::core::redaction::Redaction;
use crate::core::suggest::Settings;

mod alerts;
mod budget;
mod check;
mod defaults;
mod loops;
mod measured;
mod problem;
mod read;
mod reload;
mod render;
mod sections;
mod shared;
mod suggestions;
mod value;

pub use self::alerts::{AlertsConfig, Format, WebhookConfig};
pub use self::loops::{AgentRule, AttributionConfig, LoopsConfig, ToolRule};
pub use self::measured::MetricsConfig;
pub use self::problem::{Problem, Problems};
pub use self::reload::{Reload, Watcher, hold_back, keep_token};
pub use self::shared::{OnAway, SharedConfig};

/// The file read when none is named.
pub const DEFAULT_FILE: &str = "config.toml";

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub proxy: ProxyConfig,
    pub admin: AdminConfig,
    pub ledger: LedgerConfig,
    pub accounting: AccountingConfig,
    /// At least one; the first is the default.
    pub upstreams: Vec<UpstreamConfig>,
    pub budgets: Vec<Rule>,
    pub attribution: AttributionConfig,
    pub loops: LoopsConfig,
    pub alerts: AlertsConfig,
    pub metrics: MetricsConfig,
    /// None where this instance is alone.
    pub shared: Option<SharedConfig>,
    pub suggestions: Settings,
    pub prices: Vec<PriceOverride>,
}

impl Config {
    /// Reads `path`, else `./config.toml` if there is one, else takes the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, Problems> {
        Watcher::load(path, None).map(|(config, _)| config)
    }

    /// Reads `text`, which came from `file_name`; `env` looks up environment variables. Files that
    /// the text names are opened to see whether they can be used.
    pub fn parse(
        file_name: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        sections::read(read::Source::new(file_name, text), env)
    }

    /// The built-in prices with those of this configuration before them.
    pub fn price_table(&self) -> Result<PriceTable, serde::de::value::Error> {
        let row = |price: &PriceOverride| Ok((price.model.to_string(), price.row()?));
        let rows = self.prices.iter().map(row).collect::<Result<_, _>>()?;
        Ok(PriceTable::builtin().clone().with_overrides(rows))
    }

    /// What is allowed but should be known: one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }
}

/// The environment of this process.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the environment is read"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The listener agents talk to, and its bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfig {
    pub listen: SocketAddr,
    pub tls: Option<TlsConfig>,
    /// Connections at once; more wait in the kernel's queue.
    pub max_connections: usize,
    pub max_headers: usize,
    /// Size of a request head in bytes.
    pub max_head_bytes: usize,
    /// A longer request body is answered 413.
    pub max_body_bytes: u64,
    /// A longer JSON body is forwarded unread: recorded, its tokens estimated.
    pub max_read_bytes: usize,
    /// Bodies of running calls that are held in memory, all together.
    pub max_memory_bytes: usize,
    /// A request head must have arrived within this time, and a body not be silent for longer.
    pub head_timeout: Duration,
    /// How long running calls may go on after SIGTERM.
    pub drain_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TlsConfig {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The second listener: JSON API, metrics, health.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    pub listen: SocketAddr,
    /// Host names other than loopback ones that requests may carry.
    pub allowed_hosts: Vec<String>,
    /// Whoever asks must show it; none lets everybody in who reaches a loopback address.
    pub token: Option<Secret>,
}

impl AdminConfig {
    /// Whether other machines can reach it.
    pub fn is_open(&self) -> bool {
        !self.listen.ip().is_loopback()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct LedgerConfig {
    pub dir: PathBuf,
    pub durability: Durability,
    pub record: RecordLevel,
    /// Bytes of one body that are kept; the rest of it is not stored.
    pub max_body_bytes: usize,
    pub redact: Redaction,
    /// Globs of headers whose values are recorded, besides those known to be harmless.
    pub show_headers: Vec<WildMatch>,
    /// Segments older than this are dropped; none keeps them.
    pub keep_for: Option<Duration>,
    /// Oldest segments are dropped beyond this many bytes; none keeps them.
    pub keep_bytes: Option<u64>,
    pub segment_bytes: u64,
    pub on_failure: OnFailure,
    /// Bytes of records that may wait for the disk.
    pub max_queue_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of a response waits until its call is on disk.
    Strict,
    /// The disk is synced at least once a second; responses wait for nothing.
    Relaxed,
}

/// How much of a call is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordLevel {
    /// Only who, when, what it used and cost: no target query, no error text, no headers, no bodies.
    None,
    /// All but the bodies.
    Meta,
    Full,
}

/// What to do when records cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Go on without recording; count and shout.
    Serve,
    /// Answer 503 until the ledger works again.
    Refuse,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AccountingConfig {
    /// Ask upstreams for usage in streams where the client did not.
    pub ask_for_usage: bool,
    /// Where a budget counts USD and the model has no price.
    pub fallback_price: FallbackPrice,
    /// Accounts of budgets, and runs, that are kept in memory while idle.
    pub max_accounts: usize,
}

/// US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FallbackPrice {
    pub input: PerMillion,
    pub output: PerMillion,
}

#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    pub name: Label,
    /// What one would write into `OPENAI_BASE_URL`; no trailing slash.
    pub base_url: Uri,
    /// Globs of models that go here.
    pub models: Vec<WildMatch>,
    /// Replaces the client's key.
    pub api_key: Option<Secret>,
    /// Whether a client's key may go here although the client did not choose this upstream.
    pub accept_client_key: bool,
    /// Whether the file says so, and not the place of the upstream in it.
    pub accept_client_key_written: bool,
    pub extra_ca_file: Option<PathBuf>,
    pub ask_for_usage: bool,
    pub connect_timeout: Duration,
    /// From the request's end to the response head.
    pub response_timeout: Duration,
    /// Silence within a response.
    pub idle_timeout: Duration,
}

/// A secret that cannot be printed, and the environment variable it came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    secret: String,
    variable: Option<String>,
}

impl Secret {
    pub fn new(secret: String) -> Self {
        Self {
            secret,
            variable: None,
        }
    }

    pub fn from_variable(variable: String, secret: String) -> Self {
        Self {
            secret,
            variable: Some(variable),
        }
    }

    pub fn expose(&self) -> &str {
        &self.secret
    }

    pub fn variable(&self) -> Option<&str> {
        self.variable.as_deref()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// A price of the user's own, by model glob. The first that matches counts.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceOverride {
    pub model: WildMatch,
    /// One of [`PRICE_FIELDS`] -> a non-negative decimal, exactly as written.
    pub fields: BTreeMap<String, String>,
}

impl PriceOverride {
    /// The row that goes before the built-in table for `model`.
    pub fn row(&self) -> Result<PriceRow, serde::de::value::Error> {
        let texts = self
            .fields
            .iter()
            .map(|(name, text)| (name.clone(), text.as_str().into()));
        PriceRow::deserialize(serde_json::Value::Object(texts.collect()))
            .map_err(serde::de::Error::custom)
    }
}

/// What a price can be given for: USD per million tokens unless the name says otherwise.
pub const PRICE_FIELDS: [&str; 15] = [
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "cache_write_12h",
    "reasoning",
    "audio_input",
    "audio_output",
    "image_input",
    "image_output",
    "second",
    "characters",
    "image",
    "web_search",
];

#[cfg(test)]
mod tests;
