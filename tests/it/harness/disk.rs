//! The disk of the ledger in a test's hand: it holds syncs up, fails them, or loses its power.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use open_aiops::ledger::storage::{Disk, SegmentFile, Storage};
use tokio::sync::watch;

use super::within;

/// Real files. Clones share them and the hand.
#[derive(Clone)]
pub(crate) struct TestDisk(Arc<Shared>);

struct Shared {
    files: Disk,
    state: Mutex<State>,
    /// For those who wait on a thread, and for those who wait in a task.
    changed: Condvar,
    told: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    mode: Mode,
    /// Syncs that wait.
    held: usize,
    /// Changes that may still be made before the power goes.
    left: Option<u64>,
    survivors: BTreeMap<u64, Survivor>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Works,
    HoldsSyncs,
    FailsSyncs,
    /// Nothing answers any more, as on a machine without power.
    Dark,
    /// Everything fails, so that whoever waits in the dark can go.
    Gone,
}

/// What of a file survives a loss of power.
#[derive(Clone, Copy, Default)]
struct Survivor {
    synced: u64,
    named: bool,
}

/// What a loss of power leaves of the bytes that were not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    Nothing,
    All,
    /// The first half is there.
    Torn,
    /// The first half is zeros, the second is there.
    Reordered,
}

impl TestDisk {
    /// The disk of the ledger whose data are in `dir`; what is there now is safe.
    pub(crate) fn at(dir: &Path) -> Self {
        let files = Disk::create_dir(&dir.join("log")).expect("a directory");
        let mut state = State::default();
        for number in files.list().expect("a directory") {
            let length = fs::metadata(files.path(number)).expect("a segment").len();
            let safe = Survivor {
                synced: length,
                named: true,
            };
            state.survivors.insert(number, safe);
        }
        Self(Arc::new(Shared {
            files,
            state: Mutex::new(state),
            changed: Condvar::new(),
            told: watch::Sender::new(()),
        }))
    }

    /// Syncs wait from now on.
    pub(crate) fn hold(&self) {
        self.change(|state| state.mode = Mode::HoldsSyncs);
    }

    /// Syncs fail from now on.
    pub(crate) fn fail(&self) {
        self.change(|state| state.mode = Mode::FailsSyncs);
    }

    /// All is well again.
    pub(crate) fn release(&self) {
        self.change(|state| state.mode = Mode::Works);
    }

    /// The power goes when this many more changes were made.
    pub(crate) fn cut_power_after(&self, changes: u64) {
        self.change(|state| state.left = Some(changes));
    }

    /// Waits until a sync waits.
    pub(crate) async fn held(&self) {
        self.until("a sync", |state| state.held > 0).await;
    }

    /// Waits until the power is gone.
    pub(crate) async fn dark(&self) {
        self.until("the loss of power", |state| state.mode == Mode::Dark)
            .await;
    }

    /// Lets go whoever waits in the dark: with an error.
    pub(crate) fn give_up(&self) {
        self.change(|state| state.mode = Mode::Gone);
    }

    /// Makes the files what they are when the power comes back.
    pub(crate) fn lose(&self, loss: Loss) {
        let files = &self.0.files;
        for number in files.list().expect("a directory") {
            let path = files.path(number);
            let kept = self.lock().survivors[&number];
            if !kept.named && !matches!(loss, Loss::Nothing) {
                fs::remove_file(path).expect("a segment");
                continue;
            }
            let file = OpenOptions::new()
                .write(true)
                .open(path)
                .expect("a segment");
            lose_unsynced(&file, kept.synced, loss).expect("a segment");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.0.changed.notify_all();
        self.0.told.send_replace(());
        result
    }

    async fn until(&self, what: &'static str, wanted: impl Fn(&State) -> bool) {
        let mut told = self.0.told.subscribe();
        within(what, async {
            while !wanted(&self.lock()) {
                told.changed().await.expect("a disk");
            }
        })
        .await;
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.0.changed.wait(state).unwrap()
    }

    /// What comes before every change.
    fn begin(&self) -> io::Result<()> {
        self.change(|state| match &mut state.left {
            Some(0) if state.mode != Mode::Gone => state.mode = Mode::Dark,
            Some(left) => *left = left.saturating_sub(1),
            None => {}
        });
        let mut state = self.lock();
        while state.mode == Mode::Dark {
            state = self.wait(state);
        }
        if state.mode == Mode::Gone {
            return Err(io::Error::other("there is no power"));
        }
        Ok(())
    }

    fn begin_sync(&self) -> io::Result<()> {
        self.begin()?;
        self.change(|state| state.held += 1);
        let mut state = self.lock();
        while state.mode == Mode::HoldsSyncs {
            state = self.wait(state);
        }
        let fails = state.mode == Mode::FailsSyncs;
        drop(state);
        self.change(|state| state.held -= 1);
        if fails {
            return Err(io::Error::other("the disk does not sync"));
        }
        Ok(())
    }

    fn handle(&self, number: u64, file: Box<dyn SegmentFile>) -> Box<dyn SegmentFile> {
        Box::new(TestFile {
            disk: self.clone(),
            number,
            file,
        })
    }
}

/// A test that failed waits for nothing.
impl Drop for TestDisk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.give_up();
        }
    }
}

fn lose_unsynced(file: &File, synced: u64, loss: Loss) -> io::Result<()> {
    let unsynced = file.metadata()?.len() - synced;
    let half = unsynced / 2;
    match loss {
        Loss::Nothing => Ok(()),
        Loss::All => file.set_len(synced),
        Loss::Torn => file.set_len(synced + half),
        Loss::Reordered => file.write_all_at(&vec![0; usize::try_from(half).unwrap()], synced),
    }
}

impl Storage for TestDisk {
    fn create(&self, number: u64) -> io::Result<Box<dyn SegmentFile>> {
        self.begin()?;
        let file = self.0.files.create(number)?;
        self.change(|state| state.survivors.insert(number, Survivor::default()));
        Ok(self.handle(number, file))
    }

    fn open(&self, number: u64) -> io::Result<Box<dyn SegmentFile>> {
        Ok(self.handle(number, self.0.files.open(number)?))
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        self.begin()?;
        self.0.files.remove(number)
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        self.0.files.list()
    }

    fn stage(&self, number: u64) -> io::Result<Box<dyn SegmentFile>> {
        self.begin()?;
        self.0.files.stage(number)
    }

    fn put_staged(&self, number: u64) -> io::Result<()> {
        self.begin()?;
        self.0.files.put_staged(number)
    }

    fn remove_staged(&self, number: u64) -> io::Result<()> {
        self.begin()?;
        self.0.files.remove_staged(number)
    }

    fn list_staged(&self) -> io::Result<Vec<u64>> {
        self.0.files.list_staged()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.begin_sync()?;
        self.0.files.sync_dir()?;
        self.change(|state| state.survivors.values_mut().for_each(|s| s.named = true));
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.0.files.path(number)
    }
}

struct TestFile {
    disk: TestDisk,
    number: u64,
    file: Box<dyn SegmentFile>,
}

impl SegmentFile for TestFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.begin()?;
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.begin_sync()?;
        self.file.sync()?;
        let length = self.file.len()?;
        self.disk.change(|state| {
            state.survivors.entry(self.number).or_default().synced = length;
        });
        Ok(())
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, into)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.disk.begin()?;
        self.file.truncate(len)?;
        let number = self.number;
        self.disk
            .change(|state| state.survivors.entry(number).or_default().synced = len);
        Ok(())
    }
}
