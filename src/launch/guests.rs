//! Who else uses the proxy of a launch: each guest holds a lock on one file, together with others,
//! and whoever hosts the proxy can have it alone only when they are gone. A lock goes with its
//! process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

const FILE: &str = "guests";
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A place at the proxy of another process.
#[derive(Debug)]
pub(super) struct Seat(#[expect(dead_code, reason = "it is held for its lock")] File);

fn open(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(dir.join(FILE))
}

/// A seat; none when the host is about to leave.
pub(super) fn sit(dir: &Path) -> io::Result<Option<Seat>> {
    let file = open(dir)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(Seat(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The door, locked: no guest is there and none can come as long as it is held.
#[derive(Debug)]
pub(super) struct Locked(#[expect(dead_code, reason = "it is held for its lock")] File);

/// Locks the door at once, if nobody is there.
pub(super) fn lock(dir: &Path) -> io::Result<Option<Locked>> {
    let file = open(dir)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Locked(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Locks the door as soon as nobody is there.
pub(super) async fn gone(dir: &Path) -> io::Result<Locked> {
    loop {
        if let Some(locked) = lock(dir)? {
            return Ok(locked);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_leaves_when_the_last_guest_is_gone_and_lets_none_in_then() {
        let dir = tempfile::tempdir().unwrap();
        let one = sit(dir.path()).unwrap().unwrap();
        let two = sit(dir.path()).unwrap().unwrap();
        drop(one);
        assert!(lock(dir.path()).unwrap().is_none(), "one is still there");
        drop(two);
        let locked = lock(dir.path()).unwrap().unwrap();
        assert!(sit(dir.path()).unwrap().is_none(), "the host is leaving");
        drop(locked);
        assert!(sit(dir.path()).unwrap().is_some());
    }
}
