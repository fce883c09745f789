//! A resolved config written as TOML: every key, no secret, and it reads back as the same config.
//! What is allowed but should be known stands before it as comments.

use std::fmt::{self, Display, Write};
use std::path::Path;

use super::value::{duration_text, fixed_point_text, limit_text, size_text};
use super::{
    AccountingConfig, AdminConfig, Config, FallbackPrice, LedgerConfig, PriceOverride, ProxyConfig,
    Secret, UpstreamConfig, alerts, budget, loops, measured, otel, sinks, suggestions,
};
use crate::core::price::PerMillion;

impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in self.warnings() {
            writeln!(f, "# warning: {warning}")?;
        }
        proxy(f, &self.proxy)?;
        admin(f, &self.admin)?;
        ledger(f, &self.ledger)?;
        accounting(f, &self.accounting)?;
        self.upstreams
            .iter()
            .try_for_each(|entry| upstream(f, entry))?;
        self.budgets
            .iter()
            .try_for_each(|entry| budget::write(f, entry))?;
        loops::write(f, &self.attribution, &self.loops)?;
        alerts::write(f, &self.alerts)?;
        self.sinks
            .iter()
            .try_for_each(|entry| sinks::write(f, entry))?;
        measured::write(f, &self.metrics)?;
        suggestions::write(f, &self.suggestions)?;
        otel::write(f, &self.otel)?;
        self.prices.iter().try_for_each(|entry| price(f, entry))
    }
}

fn proxy(f: &mut impl Write, proxy: &ProxyConfig) -> fmt::Result {
    writeln!(f, "[proxy]")?;
    writeln!(f, "listen = {}", quoted(proxy.listen))?;
    writeln!(f, "max_connections = {}", proxy.max_connections)?;
    writeln!(f, "max_headers = {}", proxy.max_headers)?;
    writeln!(f, "max_head = {}", size(proxy.max_head_bytes))?;
    writeln!(f, "max_body = {}", quoted(size_text(proxy.max_body_bytes)))?;
    writeln!(f, "max_read = {}", size(proxy.max_read_bytes))?;
    writeln!(f, "max_memory = {}", size(proxy.max_memory_bytes))?;
    writeln!(
        f,
        "head_timeout = {}",
        quoted(duration_text(proxy.head_timeout))
    )?;
    writeln!(
        f,
        "drain_timeout = {}",
        quoted(duration_text(proxy.drain_timeout))
    )?;
    if let Some(tls) = &proxy.tls {
        writeln!(f, "\n[proxy.tls]")?;
        writeln!(f, "certificate = {}", path(&tls.certificate))?;
        writeln!(f, "key = {}", path(&tls.key))?;
    }
    Ok(())
}

fn admin(f: &mut impl Write, admin: &AdminConfig) -> fmt::Result {
    writeln!(f, "\n[admin]")?;
    writeln!(f, "listen = {}", quoted(admin.listen))?;
    writeln!(f, "allowed_hosts = {}", list(&admin.allowed_hosts))?;
    secret(f, "token", admin.token.as_ref())
}

/// Where a secret comes from, never what it is.
fn secret(f: &mut impl Write, name: &str, secret: Option<&Secret>) -> fmt::Result {
    match secret.map(Secret::variable) {
        Some(Some(variable)) => writeln!(f, "{name}_env = {}", quoted(variable)),
        Some(None) => writeln!(f, "# {name} = ****"),
        None => Ok(()),
    }
}

fn ledger(f: &mut impl Write, ledger: &LedgerConfig) -> fmt::Result {
    writeln!(f, "\n[ledger]")?;
    writeln!(f, "dir = {}", path(&ledger.dir))?;
    writeln!(f, "durability = {}", quoted(ledger.durability.name()))?;
    writeln!(f, "record = {}", quoted(ledger.record.name()))?;
    writeln!(f, "max_body = {}", size(ledger.max_body_bytes))?;
    writeln!(
        f,
        "keep_for = {}",
        quoted(limit_text(ledger.keep_for, duration_text))
    )?;
    writeln!(
        f,
        "keep_size = {}",
        quoted(limit_text(ledger.keep_bytes, size_text))
    )?;
    writeln!(
        f,
        "segment_size = {}",
        quoted(size_text(ledger.segment_bytes))
    )?;
    writeln!(f, "on_failure = {}", quoted(ledger.on_failure.name()))?;
    writeln!(f, "max_queue = {}", size(ledger.max_queue_bytes))?;
    writeln!(f, "show_headers = {}", list(&ledger.show_headers))?;
    for rule in ledger.redact.rules() {
        writeln!(f, "\n[[ledger.redact]]")?;
        writeln!(f, "pattern = {}", quoted(&rule.pattern))?;
        writeln!(f, "replace = {}", quoted(&rule.replacement))?;
    }
    Ok(())
}

fn accounting(f: &mut impl Write, accounting: &AccountingConfig) -> fmt::Result {
    let FallbackPrice { input, output } = accounting.fallback_price;
    writeln!(f, "\n[accounting]")?;
    writeln!(f, "ask_for_usage = {}", accounting.ask_for_usage)?;
    writeln!(
        f,
        "fallback_price = {{ input = {}, output = {} }}",
        per_million(input),
        per_million(output)
    )?;
    writeln!(f, "max_accounts = {}", accounting.max_accounts)
}

fn upstream(f: &mut impl Write, upstream: &UpstreamConfig) -> fmt::Result {
    writeln!(f, "\n[[upstream]]")?;
    writeln!(f, "name = {}", quoted(&upstream.name))?;
    writeln!(f, "base_url = {}", quoted(&upstream.base_url))?;
    writeln!(f, "models = {}", list(&upstream.models))?;
    secret(f, "api_key", upstream.api_key.as_ref())?;
    // Written, it says more than the default that it may equal.
    let comment = if upstream.accept_client_key_written {
        ""
    } else {
        "# "
    };
    writeln!(
        f,
        "{comment}accept_client_key = {}",
        upstream.accept_client_key
    )?;
    if let Some(file) = &upstream.extra_ca_file {
        writeln!(f, "extra_ca_file = {}", path(file))?;
    }
    writeln!(f, "ask_for_usage = {}", upstream.ask_for_usage)?;
    writeln!(
        f,
        "connect_timeout = {}",
        quoted(duration_text(upstream.connect_timeout))
    )?;
    writeln!(
        f,
        "response_timeout = {}",
        quoted(duration_text(upstream.response_timeout))
    )?;
    writeln!(
        f,
        "idle_timeout = {}",
        quoted(duration_text(upstream.idle_timeout))
    )
}

fn price(f: &mut impl Write, price: &PriceOverride) -> fmt::Result {
    writeln!(f, "\n[[price]]")?;
    writeln!(f, "model = {}", quoted(&price.model))?;
    price
        .fields
        .iter()
        .try_for_each(|(field, decimal)| writeln!(f, "{field} = {decimal}"))
}

/// Prices of a config have few digits.
fn per_million(price: PerMillion) -> String {
    fixed_point_text(i64::try_from(price.pico_usd()).unwrap_or(i64::MAX), 6, 2)
}

fn size(bytes: usize) -> String {
    quoted(size_text(bytes as u64))
}

/// A path from a config file is text; it came out of TOML.
fn path(path: &Path) -> String {
    quoted(path.display())
}

pub(super) fn list(items: &[impl Display]) -> String {
    let items: Vec<String> = items.iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}

pub(super) fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}
