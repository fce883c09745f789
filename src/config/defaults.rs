//! Every default, here and nowhere else: a section is read into its default, key by key.
//! docs/configuration.md shows them as one file, checked by a test.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::{
    AccountingConfig, AdminConfig, AlertsConfig, AttributionConfig, Config, Durability,
    FallbackPrice, LedgerConfig, LoopsConfig, OnFailure, ProxyConfig, RecordLevel, UpstreamConfig,
};
use crate::core::id::Label;
use crate::core::loops::guard::Policy;
use crate::core::loops::limits::RunLimits;
use crate::core::loops::settings::Settings;
use crate::core::price::PerMillion;
use crate::core::redaction::Redaction;
use crate::core::suggest;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: u64 = 1 << 30;
const MINUTE: Duration = Duration::from_secs(60);

impl Default for Config {
    /// What an empty file means.
    fn default() -> Self {
        let accounting = AccountingConfig::default();
        Self {
            upstreams: vec![UpstreamConfig::openai(&accounting)],
            proxy: ProxyConfig::default(),
            admin: AdminConfig::default(),
            ledger: LedgerConfig::default(),
            accounting,
            budgets: Vec::new(),
            attribution: AttributionConfig::default(),
            loops: LoopsConfig::default(),
            alerts: AlertsConfig::default(),
            sinks: Vec::new(),
            metrics: super::MetricsConfig::default(),
            suggestions: suggest::Settings::default(),
            otel: super::OtelConfig::default(),
            prices: Vec::new(),
        }
    }
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            listen: loopback(8787),
            tls: None,
            max_connections: 4096,
            max_headers: 128,
            max_head_bytes: 64 * KIB,
            max_body_bytes: GIB,
            max_read_bytes: 64 * MIB,
            max_memory_bytes: 1024 * MIB,
            head_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: loopback(8788),
            allowed_hosts: Vec::new(),
            token: None,
        }
    }
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("open-aiops-data"),
            durability: Durability::Strict,
            record: RecordLevel::Full,
            max_body_bytes: 16 * MIB,
            redact: Redaction::default(),
            show_headers: Vec::new(),
            keep_for: None,
            keep_bytes: Some(20 * GIB),
            segment_bytes: 64 * (MIB as u64),
            on_failure: OnFailure::Serve,
            max_queue_bytes: 64 * MIB,
        }
    }
}

impl Default for AttributionConfig {
    fn default() -> Self {
        Self {
            infer: true,
            agents: Vec::new(),
        }
    }
}

impl Default for LoopsConfig {
    fn default() -> Self {
        Self {
            max_runs: 100_000,
            policy: Policy {
                settings: Settings::default(),
                limits: RunLimits::default(),
                max_delay_ms: 4_000,
                cool_down_us: 300_000_000,
            },
            agents: Vec::new(),
            tools: Vec::new(),
        }
    }
}

impl Default for AccountingConfig {
    fn default() -> Self {
        Self {
            ask_for_usage: true,
            fallback_price: FallbackPrice {
                input: PerMillion::from_pico_usd(5_000_000),
                output: PerMillion::from_pico_usd(25_000_000),
            },
            max_accounts: 100_000,
        }
    }
}

impl UpstreamConfig {
    /// The upstream of a file that names none, and the defaults of one that does. Reasoning models
    /// may think for many minutes before the first byte, hence the long timeouts.
    #[expect(
        clippy::expect_used,
        reason = "a constant, and every test of the defaults reads it"
    )]
    pub(super) fn openai(accounting: &AccountingConfig) -> Self {
        Self {
            name: Label::parse("openai").expect("a label"),
            base_url: Uri::from_static("https://api.openai.com/v1"),
            models: Vec::new(),
            api_key: None,
            accept_client_key: true,
            accept_client_key_written: false,
            extra_ca_file: None,
            ask_for_usage: accounting.ask_for_usage,
            connect_timeout: Duration::from_secs(10),
            response_timeout: 20 * MINUTE,
            idle_timeout: 15 * MINUTE,
        }
    }
}

impl UpstreamConfig {
    /// Whether clients whose key is for another host may be led here unasked: it has a key of its own
    /// that takes the place of theirs, it is of this machine or network, or the file says so.
    pub fn takes_any_key(&self) -> bool {
        let is_meant = self.accept_client_key_written || is_near(&self.base_url);
        self.api_key.is_some() || self.accept_client_key && is_meant
    }

    /// Another endpoint, everything else as by default. Who names it means it with their key.
    pub fn at(name: Label, base_url: Uri, accounting: &AccountingConfig) -> Self {
        Self {
            name,
            base_url,
            accept_client_key: false,
            ..Self::openai(accounting)
        }
    }
}

/// Loopback, a private address, or a name that has no meaning on the Internet.
fn is_near(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
        Err(_) => {
            let host = host.to_ascii_lowercase();
            let of_network = [".localhost", ".local", ".internal"];
            !host.contains('.') || of_network.iter().any(|end| host.ends_with(end))
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
