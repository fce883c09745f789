//! Checks of values that are right by themselves: against each other, against the files they name,
//! and against what the libraries behind them can bear.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use http::Uri;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::read::Section;
use super::{AdminConfig, Config, LedgerConfig, ProxyConfig, UpstreamConfig, alerts, otel, sinks};

/// hyper refuses to work with less.
const MIN_HEAD_BYTES: usize = 8 << 10;
const MAX_HEAD_BYTES: usize = 16 << 20;
/// A header map cannot hold many more.
const MAX_HEADERS: usize = 10_000;
/// Shorter tokens can be guessed; longer ones do not fit beside other headers.
const TOKEN_BYTES: RangeInclusive<usize> = 16..=1024;
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

/// Only this machine may ask without a token.
pub(super) fn admin(section: &mut Section<'_, '_>, admin: &AdminConfig) {
    if admin.is_open() && !section.has("token_env") {
        let expected = format!(
            "the name of an environment variable with a token, because {} is open to other \
             machines (127.0.0.1 needs none)",
            admin.listen
        );
        section.problem("token_env", &expected, "token_env = \"OPEN_AIOPS_TOKEN\"");
    }
}

pub(super) fn admin_token(section: &mut Section<'_, '_>, variable: &str, token: &str) {
    let (least, most) = (TOKEN_BYTES.start(), TOKEN_BYTES.end());
    if token.is_empty() && variable.contains(|c: char| c.is_ascii_lowercase()) {
        // Perhaps not the name of a variable but the token itself.
        let expected = "the name of an environment variable that is set";
        section.forbid("token_env", expected, "token_env = \"OPEN_AIOPS_TOKEN\"");
    } else if token.is_empty() {
        let expected = format!("an environment variable that is set: {variable} is not");
        section.problem("token_env", &expected, "");
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let expected = format!(
            "a token of visible ASCII characters without spaces: that in {variable} has others"
        );
        section.problem("token_env", &expected, "");
    } else if !TOKEN_BYTES.contains(&token.len()) {
        let expected = format!(
            "a token of {least} to {most} characters: that in {variable} has {} (`openssl rand -hex \
             32` makes a good one)",
            token.len()
        );
        section.problem("token_env", &expected, "");
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
    let (proxy, admin) = (config.proxy.listen, &config.admin);
    let mut warnings = Vec::new();
    if !proxy.ip().is_loopback() {
        warnings.push(format!(
            "proxy.listen: {proxy} is open to other machines; who reaches it can use the keys of the \
             upstreams"
        ));
    }
    if admin.is_open() {
        warnings.push(format!(
            "admin.listen: {} is open to other machines; the token and all that is shown go there \
             unencrypted unless something in front of it speaks TLS",
            admin.listen
        ));
    }
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
    warnings.extend(otel::warnings(&config.otel));
    warnings.extend(sinks::warnings(&config.sinks));
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
