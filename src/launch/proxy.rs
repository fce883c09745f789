//! The proxy that a launched program is pointed at: the one that runs on the ledger, else one in this
//! process. The lock of the ledger's directory says which: there is one proxy for each ledger, and only
//! who may write that directory can pretend to be it.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::guests::{self, Locked, Seat};
use crate::app::{App, StartError};
use crate::clock::Clock;
use crate::config::{Config, Watcher};
use crate::ledger::storage::Disk;
use crate::ledger::{self, Doors, OpenError};

/// How long one that is just starting or ending is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
const LOG: &str = "proxy.log";
const MAX_LOG_BYTES: u64 = 8 << 20;

/// Why there is no proxy to use.
#[derive(Debug, thiserror::Error)]
pub enum NoProxy {
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("the ledger directory {} cannot be used: {cause}", .dir.display())]
    Dir { dir: PathBuf, cause: io::Error },
    #[error(
        "another process uses the ledger in {}, and is no proxy that can be used: wait for its end, or \
         give this launch a ledger of its own by --dir", .0.display()
    )]
    Taken(PathBuf),
}

/// A proxy that runs elsewhere, and the place held there.
#[derive(Debug)]
pub struct Running {
    pub doors: Doors,
    pub pid: Option<u32>,
    _seat: Seat,
}

/// A proxy in this process.
pub struct Own {
    app: Arc<App>,
    dir: PathBuf,
    reloads: JoinHandle<()>,
}

/// Which one it is.
pub enum Proxy {
    Running(Running),
    Own(Own),
}

impl Running {
    /// Whether it is still there.
    pub fn is_there(&self, dir: &Path) -> bool {
        let holder = ledger::holder(dir);
        holder.is_some_and(|now| now.pid == self.pid && now.doors() == Some(self.doors))
    }
}

/// The proxy that runs on this ledger; none where no process uses it.
pub async fn running(dir: &Path) -> Result<Option<Running>, NoProxy> {
    let unusable = |cause| NoProxy::Dir {
        dir: dir.to_owned(),
        cause,
    };
    let look = async {
        loop {
            let Some(holder) = ledger::holder(dir) else {
                return Ok(None);
            };
            // Sat down first: who is seen after that does not leave meanwhile.
            if let Some(seat) = guests::sit(dir).map_err(unusable)?
                && let Some(doors) = holder.doors()
                && ledger::holder(dir) == Some(holder)
            {
                return Ok(Some(Running {
                    doors,
                    pid: holder.pid,
                    _seat: seat,
                }));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let looked = tokio::time::timeout(PATIENCE, look).await;
    looked.unwrap_or_else(|_| Err(NoProxy::Taken(dir.to_owned())))
}

/// The proxy that runs on the ledger of `config`, else one that is started with what `prepare` makes
/// of it.
pub async fn reach(
    config: Config,
    mut watcher: Watcher,
    prepare: impl FnOnce(&mut Watcher, Config) -> Config,
) -> Result<Proxy, NoProxy> {
    let dir = config.ledger.dir.clone();
    if let Some(running) = running(&dir).await? {
        return Ok(Proxy::Running(running));
    }
    create_private(&dir)?;
    let config = prepare(&mut watcher, config);
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match Box::pin(App::start(config.clone(), Clock::System)).await {
            Ok(app) => return Ok(Proxy::Own(Own::new(app, dir, watcher))),
            // Another launch was faster.
            Err(StartError::Ledger(OpenError::Locked { .. }))
                if tokio::time::Instant::now() < until => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(running) = running(&dir).await? {
            return Ok(Proxy::Running(running));
        }
    }
}

fn create_private(dir: &Path) -> Result<(), NoProxy> {
    let created = Disk::create_dir(dir);
    created.map(drop).map_err(|cause| NoProxy::Dir {
        dir: dir.to_owned(),
        cause,
    })
}

impl Own {
    fn new(app: App, dir: PathBuf, mut watcher: Watcher) -> Self {
        let app = Arc::new(app);
        let reloaded = Arc::clone(&app);
        let reloads = tokio::spawn(async move {
            let mut tick = tokio::time::interval(RELOAD_INTERVAL);
            loop {
                tick.tick().await;
                reloaded.reload(watcher.poll());
            }
        });
        Self { app, dir, reloads }
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    /// Whether other launches use it.
    pub fn has_guests(&self) -> bool {
        guests::lock(&self.dir).is_ok_and(|locked| locked.is_none())
    }

    /// Resolves when no other launch uses it any more. None can come as long as what is returned is
    /// held.
    pub async fn guests_gone(&self) -> Option<Alone> {
        guests::gone(&self.dir).await.ok().map(Alone)
    }

    /// Ends it: running calls may end, the ledger is flushed.
    pub async fn stop(self) {
        self.reloads.abort();
        // The task lets go of its share when it is gone.
        let _ = self.reloads.await;
        if let Some(app) = Arc::into_inner(self.app) {
            app.stop().await;
        }
    }
}

/// Nobody else is there, and nobody can come.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "it is held for its lock")] Locked);

impl Proxy {
    pub fn doors(&self) -> Doors {
        match self {
            Self::Running(running) => Doors {
                admin: reachable(running.doors.admin),
                proxy: reachable(running.doors.proxy),
                ..running.doors
            },
            Self::Own(own) => Doors {
                admin: own.app.admin_address(),
                proxy: own.app.proxy_address(),
                is_tls: false,
            },
        }
    }
}

/// A listener on all addresses is reached on this machine's own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

/// The log of a proxy in this process: a file beside its ledger, since the terminal is the program's.
/// Nothing is written until there is something to say; a long one begins anew.
#[derive(Clone, Debug)]
pub struct Log {
    path: PathBuf,
    open: Arc<Mutex<Option<(fs::File, u64)>>>,
}

impl Log {
    pub fn of(dir: &Path) -> Self {
        Self {
            path: dir.join(LOG),
            open: Arc::default(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process wrote something.
    pub fn has_entries(&self) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.is_some()
    }

    fn begin(&self) -> io::Result<(fs::File, u64)> {
        let mut options = fs::OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.path)?;
        let len = file.metadata()?.len();
        Ok((file, len))
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, len) = match &mut *open {
            Some(open) => open,
            none => none.insert(self.begin()?),
        };
        if *len > MAX_LOG_BYTES {
            file.set_len(0)?;
            *len = 0;
        }
        file.write_all(line)?;
        *len += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
