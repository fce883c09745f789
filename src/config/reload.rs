//! Noticing that the config file changed, and which changes wait for a restart.
//!
//! A watcher only looks when it is asked to: who asks, and how often, is decided elsewhere.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use xxhash_rust::xxh3::xxh3_128;

use super::{Config, Problems, problem, variable};

/// What a look at the file gave.
#[derive(Debug, PartialEq)]
pub enum Reload {
    Unchanged,
    Valid(Box<Config>),
    /// Keep the config that is running.
    Invalid(Problems),
}

/// Watches one file. A problem is told once, not at every look.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    seen: Seen,
}

/// The state of the file at the last look.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    /// Time of change and length; none when the file could not be looked at.
    stamp: Option<(SystemTime, u64)>,
    content: Option<u128>,
}

impl Watcher {
    /// Starts from the file as it is now: the next [`poll`](Self::poll) tells of changes from here.
    /// Make the watcher before the config is loaded, so that no change in between is missed.
    pub fn new(path: PathBuf) -> Self {
        let mut watcher = Self {
            path,
            seen: Seen::default(),
        };
        watcher.seen.stamp = watcher.stamp();
        watcher.seen.content = fs::read(&watcher.path)
            .ok()
            .map(|content| xxh3_128(&content));
        watcher
    }

    /// Looks whether the content changed: cheap as long as time of change and length did not.
    pub fn poll(&mut self) -> Reload {
        if self.stamp() == self.seen.stamp {
            Reload::Unchanged
        } else {
            self.look()
        }
    }

    /// Like [`poll`](Self::poll), but reads the content in any case.
    pub fn look(&mut self) -> Reload {
        let stamp = self.stamp();
        let text = fs::read_to_string(&self.path);
        let content = text.as_ref().ok().map(|text| xxh3_128(text.as_bytes()));
        let before = std::mem::replace(&mut self.seen, Seen { stamp, content });
        match text {
            Ok(_) if content == before.content => Reload::Unchanged,
            Ok(text) => self.parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && before.stamp.is_none() => {
                Reload::Unchanged
            }
            Err(error) => Reload::Invalid(problem::unreadable_config(&self.path, &error)),
        }
    }

    fn parse(&self, text: &str) -> Reload {
        match Config::parse(&self.path.display().to_string(), text, &variable) {
            Ok(config) => Reload::Valid(Box::new(config)),
            Err(problems) => Reload::Invalid(problems),
        }
    }

    fn stamp(&self) -> Option<(SystemTime, u64)> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }
}

/// The keys that differ and take effect only after a restart: what listeners, pools of memory and
/// the ledger are built from.
pub fn restart_needed(old: &Config, new: &Config) -> Vec<&'static str> {
    let (from, to) = (&old.proxy, &new.proxy);
    let (ledger_from, ledger_to) = (&old.ledger, &new.ledger);
    let changes = [
        ("proxy.listen", from.listen != to.listen),
        ("proxy.tls", from.tls != to.tls),
        (
            "proxy.max_connections",
            from.max_connections != to.max_connections,
        ),
        ("proxy.max_headers", from.max_headers != to.max_headers),
        ("proxy.max_head", from.max_head_bytes != to.max_head_bytes),
        ("proxy.head_timeout", from.head_timeout != to.head_timeout),
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("ledger.dir", ledger_from.dir != ledger_to.dir),
        (
            "ledger.durability",
            ledger_from.durability != ledger_to.durability,
        ),
        ("ledger.record", ledger_from.record != ledger_to.record),
        (
            "ledger.max_body",
            ledger_from.max_body_bytes != ledger_to.max_body_bytes,
        ),
        ("ledger.redact", ledger_from.redact != ledger_to.redact),
        (
            "ledger.keep_for",
            ledger_from.keep_for != ledger_to.keep_for,
        ),
        (
            "ledger.keep_size",
            ledger_from.keep_bytes != ledger_to.keep_bytes,
        ),
        (
            "ledger.on_failure",
            ledger_from.on_failure != ledger_to.on_failure,
        ),
        (
            "ledger.segment_size",
            ledger_from.segment_bytes != ledger_to.segment_bytes,
        ),
        (
            "ledger.max_queue",
            ledger_from.max_queue_bytes != ledger_to.max_queue_bytes,
        ),
    ];
    changes
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| key)
        .collect()
}

#[cfg(test)]
mod tests;
