//! Disks for tests: they lose what was not synced, tear it, refuse to work from some point on.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use super::log::{LogReader, Step};
use super::storage::{SegmentFile, Storage};

/// A directory of segments in memory. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct FakeDisk(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    files: BTreeMap<u64, FakeFile>,
    /// Removed, but back after a loss of power.
    removed: BTreeMap<u64, FakeFile>,
    /// Beside the segments.
    staged: BTreeMap<u64, FakeFile>,
    removed_staged: BTreeMap<u64, FakeFile>,
    /// What was in the places that staged files took: after a loss of power it may be there again.
    displaced: BTreeMap<u64, Option<FakeFile>>,
    /// Operations that change something, so far.
    operations: u64,
    /// From this operation on everything fails.
    fails_at: Option<u64>,
    /// Only that operation does.
    once: bool,
    /// Whether the operation that fails does half of its work first.
    tears: bool,
}

#[derive(Clone, Default)]
struct FakeFile {
    bytes: Vec<u8>,
    /// How many of the bytes survive a loss of power.
    synced: usize,
    /// Whether the name does.
    named: bool,
}

/// What a loss of power leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Everything is there: only the process died.
    Nothing,
    All,
    /// The first half is there.
    Torn,
    /// The first half is zeros, the second is there.
    Reordered,
}

impl Loss {
    pub(crate) const EACH: [Self; 4] = [Self::Nothing, Self::All, Self::Torn, Self::Reordered];
}

impl FakeDisk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Lets everything fail from the `operation`-th change on; `tears` half-does that one.
    pub(crate) fn fail_at(&self, operation: u64, tears: bool) {
        let mut state = self.lock();
        (state.fails_at, state.tears) = (Some(operation), tears);
    }

    /// Like [`fail_at`](Self::fail_at), but all is well again after that one.
    pub(crate) fn fail_once_at(&self, operation: u64, tears: bool) {
        self.fail_at(operation, tears);
        self.lock().once = true;
    }

    pub(crate) fn fail_now(&self) {
        let mut state = self.lock();
        state.fails_at = Some(state.operations);
    }

    pub(crate) fn heal(&self) {
        self.lock().fails_at = None;
    }

    pub(crate) fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Whether anything has failed.
    pub(crate) fn has_failed(&self) -> bool {
        let state = self.lock();
        state.fails_at.is_some_and(|at| state.operations > at)
    }

    /// What the next process finds.
    pub(crate) fn after(&self, loss: Loss) -> Self {
        let state = self.lock().clone();
        let (mut files, mut staged) = (state.files, state.staged);
        if loss != Loss::Nothing {
            // What was done last may be done for good while what went before is not.
            let back = |len: usize| match loss {
                Loss::All => len,
                _ => len.div_ceil(2),
            };
            let undone = back(state.displaced.len());
            for (nth, (number, before)) in state.displaced.into_iter().enumerate() {
                let new = files.remove(&number).unwrap();
                if nth < undone {
                    files.extend(before.map(|before| (number, before)));
                    staged.insert(number, new);
                } else {
                    files.insert(number, FakeFile { named: true, ..new });
                }
            }
            files.retain(|_, file| file.named);
            staged.retain(|_, file| file.named);
            let removed = state.removed;
            let count = back(removed.len());
            files.extend(removed.into_iter().take(count));
            let removed = state.removed_staged;
            let count = back(removed.len());
            staged.extend(removed.into_iter().take(count));
        }
        for file in files.values_mut().chain(staged.values_mut()) {
            let unsynced = file.bytes.len() - file.synced;
            let half = file.synced + unsynced / 2;
            match loss {
                Loss::Nothing => {}
                Loss::All => file.bytes.truncate(file.synced),
                Loss::Torn => file.bytes.truncate(half),
                Loss::Reordered => file.bytes[file.synced..half].fill(0),
            }
            (file.synced, file.named) = (file.bytes.len(), true);
        }
        Self(Arc::new(Mutex::new(State {
            files,
            staged,
            ..State::default()
        })))
    }

    /// Holds what another one holds from now on.
    pub(crate) fn become_copy_of(&self, other: &Self) {
        let State { files, staged, .. } = other.after(Loss::Nothing).lock().clone();
        let mut state = self.lock();
        (state.files, state.staged) = (files, staged);
    }

    pub(crate) fn segments(&self) -> Vec<u64> {
        self.lock().files.keys().copied().collect()
    }

    pub(crate) fn bytes(&self, number: u64) -> Vec<u8> {
        self.lock().files[&number].bytes.clone()
    }

    /// How many records of a kind there are.
    pub(crate) fn records(&self, wanted: u8) -> usize {
        let segments = super::log::catalog(self).unwrap().all();
        let mut reader = LogReader::from_start(self, &segments);
        let mut count = 0;
        while let Some(step) = reader.next().unwrap() {
            count += usize::from(matches!(step, Step::Record { kind, .. } if kind == wanted));
        }
        count
    }

    pub(crate) fn total_bytes(&self) -> usize {
        self.lock()
            .files
            .values()
            .map(|file| file.bytes.len())
            .sum()
    }

    pub(crate) fn change(&self, number: u64, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.lock().files.get_mut(&number).unwrap().bytes);
    }
}

impl State {
    /// Counts a change; false when it must fail, an error when it must not even be tried.
    fn begin(&mut self) -> io::Result<bool> {
        let operation = self.operations;
        self.operations += 1;
        match self.fails_at {
            Some(at) if operation == at && self.tears => Ok(false),
            Some(at) if operation == at || (operation > at && !self.once) => Err(failed()),
            _ => Ok(true),
        }
    }
}

fn failed() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "the fake disk is full")
}

impl Storage for FakeDisk {
    fn create(&self, number: u64) -> io::Result<Box<dyn SegmentFile>> {
        let mut state = self.lock();
        let whole = state.begin()?;
        state.removed.remove(&number);
        assert!(
            state.files.insert(number, FakeFile::default()).is_none(),
            "created twice"
        );
        if whole {
            Ok(Box::new(self.handle(number, false)))
        } else {
            Err(failed())
        }
    }

    fn open(&self, number: u64) -> io::Result<Box<dyn SegmentFile>> {
        if self.lock().files.contains_key(&number) {
            Ok(Box::new(self.handle(number, false)))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        let mut state = self.lock();
        if !state.begin()? {
            return Err(failed());
        }
        let file = state.files.remove(&number).ok_or(io::ErrorKind::NotFound)?;
        if file.named {
            state.removed.insert(number, file);
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.segments())
    }

    fn stage(&self, number: u64) -> io::Result<Box<dyn SegmentFile>> {
        let mut state = self.lock();
        let whole = state.begin()?;
        state.removed_staged.remove(&number);
        assert!(
            state.staged.insert(number, FakeFile::default()).is_none(),
            "staged twice"
        );
        if whole {
            Ok(Box::new(self.handle(number, true)))
        } else {
            Err(failed())
        }
    }

    fn put_staged(&self, number: u64) -> io::Result<()> {
        let mut state = self.lock();
        let whole = state.begin()?;
        let new = state
            .staged
            .remove(&number)
            .ok_or(io::ErrorKind::NotFound)?;
        let old = state.files.insert(number, new);
        state.displaced.insert(number, old);
        if whole { Ok(()) } else { Err(failed()) }
    }

    fn remove_staged(&self, number: u64) -> io::Result<()> {
        let mut state = self.lock();
        let whole = state.begin()?;
        let file = state
            .staged
            .remove(&number)
            .ok_or(io::ErrorKind::NotFound)?;
        if file.named {
            state.removed_staged.insert(number, file);
        }
        if whole { Ok(()) } else { Err(failed()) }
    }

    fn list_staged(&self) -> io::Result<Vec<u64>> {
        Ok(self.lock().staged.keys().copied().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.lock();
        if !state.begin()? {
            return Err(failed());
        }
        state.files.values_mut().for_each(|file| file.named = true);
        state.staged.values_mut().for_each(|file| file.named = true);
        state.removed.clear();
        state.removed_staged.clear();
        state.displaced.clear();
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        format!("{number}.seg").into()
    }
}

struct Handle {
    disk: FakeDisk,
    number: u64,
    is_staged: bool,
}

impl State {
    fn file(&mut self, number: u64, is_staged: bool) -> io::Result<&mut FakeFile> {
        let files = if is_staged {
            &mut self.staged
        } else {
            &mut self.files
        };
        files
            .get_mut(&number)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl FakeDisk {
    fn handle(&self, number: u64, is_staged: bool) -> Handle {
        Handle {
            disk: self.clone(),
            number,
            is_staged,
        }
    }
}

impl Handle {
    fn change<T>(&self, change: impl FnOnce(&mut FakeFile, bool) -> T) -> io::Result<T> {
        let mut state = self.disk.lock();
        let whole = state.begin()?;
        let result = change(state.file(self.number, self.is_staged)?, whole);
        if whole { Ok(result) } else { Err(failed()) }
    }
}

impl SegmentFile for Handle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.change(|file, whole| {
            let len = if whole { bytes.len() } else { bytes.len() / 2 };
            file.bytes.extend_from_slice(&bytes[..len]);
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.change(|file, whole| {
            if whole {
                file.synced = file.bytes.len();
            }
        })
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.lock();
        let file = state.file(self.number, self.is_staged)?;
        let rest = file
            .bytes
            .get(usize::try_from(offset).unwrap()..)
            .unwrap_or_default();
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.lock();
        let file = state.file(self.number, self.is_staged)?;
        Ok(file.bytes.len() as u64)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.change(|file, whole| {
            if whole {
                file.bytes.truncate(usize::try_from(len).unwrap());
                file.synced = file.synced.min(file.bytes.len());
            }
        })
    }
}

/// Where the index is kept in tests: survives the ledger that writes it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct IndexDisk {
    bytes: Arc<Mutex<Vec<u8>>>,
    fails: Arc<AtomicBool>,
}

impl IndexDisk {
    pub(crate) fn backend(&self) -> Self {
        self.clone()
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        self.try_lock()?.clear();
        Ok(())
    }

    /// Lets everything fail from now on, or nothing any more.
    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().clone()
    }

    /// One that holds the same now.
    pub(crate) fn copy(&self) -> Self {
        Self {
            bytes: Arc::new(Mutex::new(self.lock().clone())),
            fails: Arc::default(),
        }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap()
    }

    fn try_lock(&self) -> io::Result<MutexGuard<'_, Vec<u8>>> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(failed());
        }
        Ok(self.lock())
    }
}

impl StorageBackend for IndexDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.try_lock()?.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let bytes = self.try_lock()?;
        let end = offset.checked_add(out.len());
        let range = end
            .and_then(|end| bytes.get(offset..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(range);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        self.try_lock()?.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.try_lock().map(drop)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.try_lock()?[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}
