//! Noticing that the config file changed, and which changes wait for a restart.
//!
//! A watcher only looks when it is asked to: who asks, and how often, is decided elsewhere.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xxhash_rust::xxh3::xxh3_128;

use super::{Config, DEFAULT_FILE, Problems, UpstreamConfig, problem, variable};

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
    launched: Option<Vec<UpstreamConfig>>,
    seen: Seen,
    /// How the file looked at the last look, even of a poll that did not read it.
    polled: Option<Stamp>,
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
            launched: None,
            seen: Seen::default(),
            polled: None,
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

    /// Looks whether the content changed: cheap as long as the file looks the same from outside. A
    /// change counts once the file looks the same at two polls: whoever writes it may be half done.
    pub fn poll(&mut self) -> Reload {
        let stamp = self.stamp();
        let before = std::mem::replace(&mut self.polled, stamp);
        if self.polled == self.seen.stamp || self.polled != before {
            Reload::Unchanged
        } else {
            self.look()
        }
    }

    /// Like [`poll`](Self::poll), but reads the content in any case, as it is now.
    pub fn look(&mut self) -> Reload {
        let stamp = self.stamp();
        let text = fs::read_to_string(&self.path);
        self.polled.clone_from(&stamp);
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

    /// From now on what is read is for a proxy that is there for the programs it was started with:
    /// on free ports of this machine, and with these upstreams too, which the file can neither
    /// remove nor name another endpoint by. Gives `config` as it is then.
    pub fn launch(&mut self, upstreams: Vec<UpstreamConfig>, config: Config) -> Config {
        self.launched = Some(upstreams);
        self.placed(config)
    }

    fn placed(&self, mut config: Config) -> Config {
        if let Some(dir) = &self.dir {
            config.ledger.dir.clone_from(dir);
        }
        let Some(upstreams) = &self.launched else {
            return config;
        };
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.proxy.listen = any_port;
        config.admin.listen = any_port;
        config.proxy.tls = None;
        for upstream in upstreams {
            let mut named = config.upstreams.iter_mut();
            match named.find(|known| known.name == upstream.name) {
                Some(known) => known.clone_from(upstream),
                None => config.upstreams.push(upstream.clone()),
            }
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

/// Puts back in `new` what takes effect only after a restart: what listeners and the ledger were
/// built from when `running` was read. Says which keys those are.
pub fn hold_back(running: &Config, new: &mut Config) -> Vec<&'static str> {
    let mut held = Held(Vec::new());
    let (was, is) = (&running.proxy, &mut new.proxy);
    held.put_back("proxy.listen", &was.listen, &mut is.listen);
    held.put_back("proxy.tls", &was.tls, &mut is.tls);
    held.put_back(
        "proxy.max_connections",
        &was.max_connections,
        &mut is.max_connections,
    );
    held.put_back("proxy.max_headers", &was.max_headers, &mut is.max_headers);
    held.put_back(
        "proxy.max_head",
        &was.max_head_bytes,
        &mut is.max_head_bytes,
    );
    held.put_back(
        "proxy.head_timeout",
        &was.head_timeout,
        &mut is.head_timeout,
    );
    let (was, is) = (&running.admin, &mut new.admin);
    held.put_back("admin.listen", &was.listen, &mut is.listen);
    let (was, is) = (&running.ledger, &mut new.ledger);
    held.put_back("ledger.dir", &was.dir, &mut is.dir);
    held.put_back("ledger.durability", &was.durability, &mut is.durability);
    held.put_back("ledger.record", &was.record, &mut is.record);
    held.put_back(
        "ledger.max_body",
        &was.max_body_bytes,
        &mut is.max_body_bytes,
    );
    held.put_back("ledger.redact", &was.redact, &mut is.redact);
    held.put_back("ledger.keep_for", &was.keep_for, &mut is.keep_for);
    held.put_back("ledger.keep_size", &was.keep_bytes, &mut is.keep_bytes);
    held.put_back("ledger.on_failure", &was.on_failure, &mut is.on_failure);
    held.put_back(
        "ledger.segment_size",
        &was.segment_bytes,
        &mut is.segment_bytes,
    );
    held.put_back(
        "ledger.max_queue",
        &was.max_queue_bytes,
        &mut is.max_queue_bytes,
    );
    held.put_back("otel", &running.otel, &mut new.otel);
    held.0
}

/// Puts back the token in `new`, whose listener is the one that runs: one that is open to other
/// machines keeps the token in force until there is another. Says which key that is.
pub fn keep_token(running: &Config, new: &mut Config) -> Option<&'static str> {
    let is_bare = new.admin.is_open() && new.admin.token.is_none();
    if is_bare {
        new.admin.token.clone_from(&running.admin.token);
    }
    is_bare.then_some("admin.token_env")
}

/// The keys that were put back.
struct Held(Vec<&'static str>);

impl Held {
    fn put_back<T: Clone + PartialEq>(&mut self, key: &'static str, running: &T, new: &mut T) {
        if new != running {
            new.clone_from(running);
            self.0.push(key);
        }
    }
}

#[cfg(test)]
mod tests;
