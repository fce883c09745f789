//! One process at a time: a lock file that also says which process, and where to ask it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Held while a directory is in use; the lock goes with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: Mutex<File>,
    left_open: bool,
}

/// Who holds the lock, as far as they said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    pub pid: Option<u32>,
    pub admin: Option<SocketAddr>,
    pub proxy: Option<SocketAddr>,
    /// The proxy takes TLS alone.
    pub is_tls: bool,
}

/// Where a server can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doors {
    pub admin: SocketAddr,
    pub proxy: SocketAddr,
    /// The proxy takes TLS alone.
    pub is_tls: bool,
}

/// Why the lock was not to be had.
#[derive(Debug)]
pub(crate) enum LockError {
    Held(Holder),
    Io(io::Error),
}

impl Holder {
    /// Where its listeners are, once it has said so.
    pub fn doors(&self) -> Option<Doors> {
        Some(Doors {
            admin: self.admin?,
            proxy: self.proxy?,
            is_tls: self.is_tls,
        })
    }
}

impl Lock {
    pub(crate) fn acquire(dir: &Path) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(dir.join("lock")).map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(read(&mut file))),
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        let mut text = String::new();
        let left_open = file.read_to_string(&mut text).map_or(true, |len| len > 0);
        let lock = Self {
            file: Mutex::new(file),
            left_open,
        };
        lock.write(None).map_err(LockError::Io)?;
        Ok(lock)
    }

    /// Whether the one before did not [`leave`](Self::leave).
    pub(crate) fn left_open(&self) -> bool {
        self.left_open
    }

    /// Says that everything was closed properly, once it is.
    pub(crate) fn leave(&self) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Otherwise the next one takes a closer look, that is all.
        let _: io::Result<()> = file.set_len(0);
    }

    /// Says where the listeners of this process are.
    pub(crate) fn write(&self, doors: Option<Doors>) -> io::Result<()> {
        let mut text = format!("pid = {}\n", std::process::id());
        if let Some(Doors {
            admin,
            proxy,
            is_tls,
        }) = doors
        {
            let scheme = if is_tls { "https" } else { "http" };
            let _ = write!(text, "admin = {admin}\nproxy = {scheme}://{proxy}\n");
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())
    }
}

fn read(file: &mut File) -> Holder {
    let mut text = String::new();
    let mut holder = Holder::default();
    if file.read_to_string(&mut text).is_ok() {
        for (name, value) in text.lines().filter_map(|line| line.split_once(" = ")) {
            match name {
                "pid" => holder.pid = value.parse().ok(),
                "admin" => holder.admin = value.parse().ok(),
                "proxy" => (holder.is_tls, holder.proxy) = door(value),
                _ => {}
            }
        }
    }
    holder
}

fn door(url: &str) -> (bool, Option<SocketAddr>) {
    match url.split_once("://") {
        Some((scheme, address)) => (scheme == "https", address.parse().ok()),
        None => (false, None),
    }
}

/// The admin address of the server that uses this directory now.
pub fn running_server(dir: &Path) -> Option<SocketAddr> {
    holder(dir).and_then(|holder| holder.admin)
}

/// Who uses this directory now; none when nobody does. What it says of itself it may not have said
/// yet, or no more.
pub fn holder(dir: &Path) -> Option<Holder> {
    let mut file = File::open(dir.join("lock")).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read(&mut file)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}
