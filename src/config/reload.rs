//! Noticing that the config file changed, and which changes wait for a restart.
//!
//! A watcher only looks when it is asked to: who asks, and how often, is decided elsewhere.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xxhash_rust::xxh3::xxh3_128;

use super::{Config, DEFAULT_FILE, Problems, problem, variable};

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
    /// Of the ledger, instead of what the file says.
    dir: Option<PathBuf>,
    seen: Seen,
}

/// The state of the file at the last look.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    /// None when the file could not be looked at.
    stamp: Option<Stamp>,
    content: Option<u128>,
}

/// What a file looks like from outside.
#[derive(Clone, Debug, PartialEq)]
struct Stamp {
    changed_at: SystemTime,
    len: u64,
    /// Another one took its place, be it of the same time: some systems give all files one.
    file: u64,
}

impl Watcher {
    /// Reads `path`, else `./config.toml` if there is one, else takes the defaults; the ledger is
    /// in `dir`, if that is given, whatever the file says. The watcher tells of changes to what was
    /// read here: there is no moment in between for one to be missed.
    pub fn load(path: Option<&Path>, dir: Option<&Path>) -> Result<(Config, Self), Problems> {
        let mut watcher = Self {
            path: path.unwrap_or(Path::new(DEFAULT_FILE)).to_owned(),
            dir: dir.map(Path::to_owned),
            seen: Seen::default(),
        };
        match (watcher.look(), path) {
            (Reload::Valid(config), _) => Ok((*config, watcher)),
            (Reload::Unchanged, None) => Ok((watcher.placed(Config::default()), watcher)),
            (Reload::Unchanged, Some(path)) => {
                let absent = io::ErrorKind::NotFound.into();
                Err(problem::unreadable_config(path, &absent))
            }
            (Reload::Invalid(problems), _) => Err(problems),
        }
    }

    /// Looks whether the content changed: cheap as long as the file looks the same from outside.
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
            Ok(config) => Reload::Valid(Box::new(self.placed(config))),
            Err(problems) => Reload::Invalid(problems),
        }
    }

    fn placed(&self, mut config: Config) -> Config {
        if let Some(dir) = &self.dir {
            config.ledger.dir.clone_from(dir);
        }
        config
    }

    fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some(Stamp {
            changed_at: metadata.modified().ok()?,
            len: metadata.len(),
            file: file_number(&metadata),
        })
    }
}

#[cfg(unix)]
fn file_number(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn file_number(_: &fs::Metadata) -> u64 {
    0
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
