//! The sections of a config file and their keys: the one list of what can be configured.
//!
//! Reading goes on after a problem; the values it then yields are never used, for the file is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use http::HeaderValue;
use wildmatch::WildMatch;

use crate::core::redaction::{self, Redaction};

use super::read::{Section, Source};
use super::value;
use super::{
    AccountingConfig, AdminConfig, Config, FallbackPrice, LedgerConfig, PRICE_FIELDS,
    PriceOverride, Problems, ProxyConfig, Secret, TlsConfig, UpstreamConfig, alerts, budget, check,
    loops, measured, otel, shared, sinks, suggestions,
};

pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

pub(super) fn read(source: Source<'_>, env: Environment<'_>) -> Result<Config, Problems> {
    source.read(|root| {
        let mut config = Config::default();
        root.table("proxy", |section| proxy(section, &mut config.proxy));
        root.table("admin", |section| admin(section, &mut config.admin, env));
        root.table("ledger", |section| ledger(section, &mut config.ledger));
        root.table("accounting", |section| {
            accounting(section, &mut config.accounting);
        });
        config.upstreams = upstreams(root, &config.accounting, env);
        if config.upstreams.is_empty() {
            config
                .upstreams
                .push(UpstreamConfig::openai(&config.accounting));
        }
        config.budgets = budget::read(root);
        config.attribution = loops::attribution(root);
        config.loops = loops::read(root);
        let listeners = [config.proxy.listen, config.admin.listen];
        config.alerts = alerts::read(root, env, listeners);
        config.sinks = sinks::read(root, env);
        config.metrics = measured::read(root);
        config.shared = shared::read(root, env);
        let instance = config.shared.as_ref().and_then(|it| it.instance.as_ref());
        sinks::name_after(&mut config.sinks, instance);
        config.suggestions = suggestions::read(root);
        config.otel = otel::read(root, env, listeners);
        config.prices = prices(root);
        check::across_sections(root, &config);
        config
    })
}

fn proxy(section: &mut Section<'_, '_>, proxy: &mut ProxyConfig) {
    section.set("listen", &value::ADDRESS, &mut proxy.listen);
    section.set("max_connections", &value::COUNT, &mut proxy.max_connections);
    section.set("max_headers", &value::COUNT, &mut proxy.max_headers);
    section.set("max_head", &value::MEMORY_SIZE, &mut proxy.max_head_bytes);
    section.set("max_body", &value::SIZE, &mut proxy.max_body_bytes);
    section.set("max_read", &value::MEMORY_SIZE, &mut proxy.max_read_bytes);
    section.set(
        "max_memory",
        &value::MEMORY_SIZE,
        &mut proxy.max_memory_bytes,
    );
    section.set("head_timeout", &value::DURATION, &mut proxy.head_timeout);
    section.set(
        "drain_timeout",
        &value::DURATION_OR_ZERO,
        &mut proxy.drain_timeout,
    );
    proxy.tls = section.table("tls", tls);
    check::proxy(section, proxy);
}

fn tls(section: &mut Section<'_, '_>) -> TlsConfig {
    let mut tls = TlsConfig {
        certificate: PathBuf::new(),
        key: PathBuf::new(),
    };
    section.require("certificate", &value::PATH, &mut tls.certificate);
    section.require(
        "key",
        &value::PATH.like("\"/etc/ssl/open-aiops.key\""),
        &mut tls.key,
    );
    if section.has("certificate") {
        check::certificates(section, "certificate", &tls.certificate);
    }
    if section.has("key") {
        check::private_key(section, "key", &tls.key);
    }
    tls
}

fn admin(section: &mut Section<'_, '_>, admin: &mut AdminConfig, env: Environment<'_>) {
    section.set(
        "listen",
        &value::ADDRESS.like("\"127.0.0.1:8788\""),
        &mut admin.listen,
    );
    admin.allowed_hosts = section.list("allowed_hosts", &value::HOST);
    admin.token = admin_token(section, env);
    check::admin(section, admin);
}

/// Like a key, it never stands in the file.
fn admin_token(section: &mut Section<'_, '_>, env: Environment<'_>) -> Option<Secret> {
    section.forbid(
        "token",
        "the token in an environment variable and that variable's name as token_env",
        "token_env = \"OPEN_AIOPS_TOKEN\"",
    );
    let variable = section.get("token_env", &value::VARIABLE.like("\"OPEN_AIOPS_TOKEN\""))?;
    let token = env(&variable)
        .map(|token| token.trim().to_owned())
        .unwrap_or_default();
    check::admin_token(section, &variable, &token);
    Some(Secret::from_variable(variable, token))
}

fn ledger(section: &mut Section<'_, '_>, ledger: &mut LedgerConfig) {
    section.set(
        "dir",
        &value::PATH.like("\"open-aiops-data\""),
        &mut ledger.dir,
    );
    section.set("durability", &value::DURABILITY, &mut ledger.durability);
    section.set("record", &value::RECORD, &mut ledger.record);
    section.set("max_body", &value::MEMORY_SIZE, &mut ledger.max_body_bytes);
    section.set("keep_for", &value::AGE_LIMIT, &mut ledger.keep_for);
    section.set("keep_size", &value::SIZE_LIMIT, &mut ledger.keep_bytes);
    section.set("segment_size", &value::SIZE, &mut ledger.segment_bytes);
    section.set("on_failure", &value::ON_FAILURE, &mut ledger.on_failure);
    section.set(
        "max_queue",
        &value::MEMORY_SIZE,
        &mut ledger.max_queue_bytes,
    );
    ledger.show_headers = section.list("show_headers", &value::HEADER_GLOB);
    let rules = section.tables("redact", |_, rule| redaction(rule));
    ledger.redact = Redaction::new(rules.into_iter().flatten().collect());
    check::ledger(section, ledger);
}

fn redaction(section: &mut Section<'_, '_>) -> Option<redaction::Rule> {
    let (mut pattern, mut replacement) = (None, String::new());
    section.require("pattern", &value::PATTERN, &mut pattern);
    section.require("replace", &value::TEXT, &mut replacement);
    Some(redaction::Rule {
        pattern: pattern?,
        replacement,
    })
}

fn accounting(section: &mut Section<'_, '_>, accounting: &mut AccountingConfig) {
    section.set("ask_for_usage", &value::BOOL, &mut accounting.ask_for_usage);
    let price = section.table("fallback_price", |section| {
        let mut price = accounting.fallback_price;
        fallback_price(section, &mut price);
        price
    });
    accounting.fallback_price = price.unwrap_or(accounting.fallback_price);
    section.set(
        "max_accounts",
        &value::COUNT.like("100_000"),
        &mut accounting.max_accounts,
    );
}

/// Both or none: half a price would be the default's other half.
fn fallback_price(section: &mut Section<'_, '_>, price: &mut FallbackPrice) {
    section.require("input", &value::PER_MILLION, &mut price.input);
    section.require(
        "output",
        &value::PER_MILLION.like("10.00"),
        &mut price.output,
    );
}

fn upstreams(
    root: &mut Section<'_, '_>,
    accounting: &AccountingConfig,
    env: Environment<'_>,
) -> Vec<UpstreamConfig> {
    let mut names = BTreeSet::new();
    root.tables("upstream", |n, section| {
        let mut upstream = UpstreamConfig::openai(accounting);
        // Clients that know of one endpoint mean the default upstream with their key.
        upstream.accept_client_key = n == 0;
        section.require("name", &value::NAME, &mut upstream.name);
        if section.has("name") && !names.insert(upstream.name.clone()) {
            section.problem("name", "a name that no other upstream has", "");
        }
        self::upstream(section, &mut upstream, env);
        upstream
    })
}

fn upstream(section: &mut Section<'_, '_>, upstream: &mut UpstreamConfig, env: Environment<'_>) {
    section.require("base_url", &value::BASE_URL, &mut upstream.base_url);
    upstream.models = section.list("models", &value::GLOB);
    upstream.api_key = api_key(section, env);
    section.set(
        "accept_client_key",
        &value::BOOL,
        &mut upstream.accept_client_key,
    );
    upstream.accept_client_key_written = section.has("accept_client_key");
    upstream.extra_ca_file = section.get("extra_ca_file", &value::PATH);
    if let Some(file) = &upstream.extra_ca_file {
        check::certificates(section, "extra_ca_file", file);
    }
    section.set("ask_for_usage", &value::BOOL, &mut upstream.ask_for_usage);
    section.set(
        "connect_timeout",
        &value::DURATION,
        &mut upstream.connect_timeout,
    );
    section.set(
        "response_timeout",
        &value::DURATION,
        &mut upstream.response_timeout,
    );
    section.set("idle_timeout", &value::DURATION, &mut upstream.idle_timeout);
}

/// The key itself never stands in the file: files are shared, copied and printed.
fn api_key(section: &mut Section<'_, '_>, env: Environment<'_>) -> Option<Secret> {
    section.forbid(
        "api_key",
        "the key in an environment variable and that variable's name here",
        "api_key_env = \"OPENAI_API_KEY\"",
    );
    let variable = section.get("api_key_env", &value::VARIABLE)?;
    let key = env(&variable)
        .map(|key| key.trim().to_owned())
        .unwrap_or_default();
    if key.is_empty() {
        let expected = format!("an environment variable that is set: {variable} is not");
        section.problem("api_key_env", &expected, "");
    } else if HeaderValue::from_str(&key).is_err() {
        let expected = format!("a key that fits into a header: that in {variable} does not");
        section.problem("api_key_env", &expected, "");
    }
    Some(Secret::from_variable(variable, key))
}

fn prices(root: &mut Section<'_, '_>) -> Vec<PriceOverride> {
    let mut models = BTreeSet::new();
    root.tables("price", |_, section| {
        let mut price = PriceOverride {
            model: WildMatch::new("*"),
            fields: BTreeMap::new(),
        };
        section.require("model", &value::GLOB, &mut price.model);
        if section.has("model") && !models.insert(price.model.to_string()) {
            section.problem("model", "a model that no other price has", "");
        }
        for field in PRICE_FIELDS {
            if let Some(decimal) = section.get(field, &value::DECIMAL) {
                price.fields.insert(field.to_owned(), decimal);
            }
        }
        if !PRICE_FIELDS.iter().any(|field| section.has(field)) {
            section.problem("", "at least one price", "input = 2.50");
        }
        price
    })
}
