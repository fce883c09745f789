//! Checks of values that are right by themselves: against each other, against the files they name,
//! and against what the libraries behind them can bear.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use http::Uri;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::read::Section;
use super::{Config, LedgerConfig, ProxyConfig, UpstreamConfig, alerts};

/// hyper refuses to work with less.
const MIN_HEAD_BYTES: usize = 8 << 10;
const MAX_HEAD_BYTES: usize = 16 << 20;
/// A header map cannot hold many more.
const MAX_HEADERS: usize = 10_000;
const MIN_SEGMENT_BYTES: u64 = 64 << 10;
/// A call takes 4 KiB of the queue besides its bodies, an event up to 18 KiB.
const MIN_QUEUE_BYTES: usize = 1 << 20;

pub(super) fn across_sections(root: &mut Section<'_, '_>, config: &Config) {
    let (proxy, admin) = (config.proxy.listen, config.admin.listen);
    if proxy == admin && proxy.port() != 0 {
        let expected = "different addresses for proxy.listen and admin.listen";
        let path = if root.names("admin.listen") {
            "admin.listen"
        } else {
            "proxy.listen"
        };
        root.problem(path, expected, "");
    }
}

pub(super) fn proxy(section: &mut Section<'_, '_>, proxy: &ProxyConfig) {
    if !(MIN_HEAD_BYTES..=MAX_HEAD_BYTES).contains(&proxy.max_head_bytes) {
        section.problem(
            "max_head",
            "a size from 8 KiB to 16 MiB",
            "max_head = \"64 KiB\"",
        );
    }
    if proxy.max_memory_bytes / 2 < proxy.max_read_bytes {
        section.problem(
            "max_memory",
            "at least twice max_read",
            "max_memory = \"4 GiB\"",
        );
    }
    if proxy.max_headers > MAX_HEADERS {
        section.problem("max_headers", "at most 10000 headers", "max_headers = 128");
    }
}

pub(super) fn ledger(section: &mut Section<'_, '_>, ledger: &LedgerConfig) {
    if ledger.segment_bytes < MIN_SEGMENT_BYTES {
        section.problem(
            "segment_size",
            "at least 64 KiB",
            "segment_size = \"64 MiB\"",
        );
    }
    if ledger.max_queue_bytes < MIN_QUEUE_BYTES {
        section.problem("max_queue", "at least 1 MiB", "max_queue = \"64 MiB\"");
    }
    // Whole segments are dropped, and the one being written cannot be.
    if ledger
        .keep_bytes
        .is_none_or(|kept| kept / 2 >= ledger.segment_bytes)
    {
        return;
    }
    if section.has("keep_size") {
        section.problem(
            "keep_size",
            "at least twice segment_size",
            "keep_size = \"20 GiB\"",
        );
    } else {
        section.problem(
            "segment_size",
            "at most half of keep_size",
            "segment_size = \"64 MiB\"",
        );
    }
}

/// Notes a problem unless `file` holds at least one certificate, and only sound ones.
pub(super) fn certificates(section: &mut Section<'_, '_>, key: &str, file: &Path) {
    let found = open(file).and_then(|file| {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(file).collect();
        match certificates {
            Ok(certificates) if certificates.is_empty() => Err("it holds none".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    });
    note(section, key, "a readable PEM file with certificates", found);
}

pub(super) fn private_key(section: &mut Section<'_, '_>, key: &str, file: &Path) {
    let found = open(file).and_then(|file| match PrivateKeyDer::from_pem_reader(file) {
        Ok(_) => Ok(()),
        Err(PemError::NoItemsFound) => Err("it holds none".to_owned()),
        Err(error) => Err(error.to_string()),
    });
    note(
        section,
        key,
        "a readable PEM file with a private key",
        found,
    );
}

pub(super) fn warnings(config: &Config) -> Vec<String> {
    let listeners = [
        (
            "proxy.listen",
            config.proxy.listen,
            "can use the keys of the upstreams",
        ),
        (
            "admin.listen",
            config.admin.listen,
            "can read what was recorded",
        ),
    ];
    let open = listeners
        .into_iter()
        .filter(|(_, address, _)| !address.ip().is_loopback());
    let mut warnings: Vec<String> = open
        .map(|(key, address, power)| {
            format!("{key}: {address} is open to other machines; who reaches it {power}")
        })
        .collect();
    let in_clear = config
        .upstreams
        .iter()
        .filter(|upstream| sends_key_in_clear(upstream));
    warnings.extend(in_clear.map(|upstream| {
        format!(
            "upstream {}: its key goes unencrypted to {}",
            upstream.name, upstream.base_url
        )
    }));
    warnings.extend(alerts::warnings(&config.alerts));
    warnings
}

fn sends_key_in_clear(upstream: &UpstreamConfig) -> bool {
    let url = &upstream.base_url;
    upstream.api_key.is_some() && url.scheme_str() == Some("http") && !is_local(url)
}

/// What goes there does not leave this machine.
pub(super) fn is_local(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Opens a file; directories open too, so they are told apart here.
fn open(path: &Path) -> Result<File, String> {
    let reason = |error: io::Error| error.kind().to_string();
    let file = File::open(path).map_err(reason)?;
    if file.metadata().map_err(reason)?.is_file() {
        Ok(file)
    } else {
        Err("not a file".to_owned())
    }
}

fn note(section: &mut Section<'_, '_>, key: &str, expected: &str, found: Result<(), String>) {
    if let Err(reason) = found {
        section.problem(key, &format!("{expected} ({reason})"), "");
    }
}
