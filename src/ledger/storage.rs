//! The seam between the log and the disk: numbered segment files in one directory.
//!
//! Everything the log does to files goes through here, so that tests can hold, lose, tear and refuse
//! writes: see [`open_on`](super::open_on). A file is appended to, cut at its
//! end, or replaced as a whole by one that was made beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A directory of segment files, each named by its number.
pub trait Storage: Send + Sync {
    /// A new, empty segment; an error if there is one of this number.
    fn create(&self, number: u64) -> io::Result<Box<dyn SegmentFile>>;
    fn open(&self, number: u64) -> io::Result<Box<dyn SegmentFile>>;
    fn remove(&self, number: u64) -> io::Result<()>;
    /// Numbers of all segment files, ascending.
    fn list(&self) -> io::Result<Vec<u64>>;
    /// A new, empty file that is no segment yet, beside that of this number if there is one.
    fn stage(&self, number: u64) -> io::Result<Box<dyn SegmentFile>>;
    /// Makes what was staged the segment of this number, in the place of one there is: all or none.
    fn put_staged(&self, number: u64) -> io::Result<()>;
    fn remove_staged(&self, number: u64) -> io::Result<()>;
    /// Numbers of all that is staged, ascending.
    fn list_staged(&self) -> io::Result<Vec<u64>>;
    /// Makes creations, removals and changes of names durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Where a segment lies, for messages.
    fn path(&self, number: u64) -> PathBuf;
}

/// One open segment file.
#[expect(clippy::len_without_is_empty, reason = "nobody asks for that")]
pub trait SegmentFile: Send {
    /// Writes all of `bytes` at the end; after an error some of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was appended survive a loss of power.
    fn sync(&mut self) -> io::Result<()>;
    /// Fills `into` from `offset` on; returns less only at the end of the file.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    fn len(&self) -> io::Result<u64>;
    /// Cuts the end off, durably.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// The real thing.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
}

impl Disk {
    /// The segments under `dir`, which is created if need be, readable by its owner only.
    pub fn create_dir(dir: &Path) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let parents = parents_of_new(dir);
        builder.create(dir)?;
        for parent in parents {
            sync_dir(&parent)?;
        }
        Ok(Self::at(dir))
    }

    /// The segments under `dir`, which may not exist.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    fn staged(&self, number: u64) -> PathBuf {
        self.path(number).with_extension("new")
    }

    /// The numbers of files whose names end so.
    fn numbers(&self, end: &str) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(end));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

fn create(path: &Path) -> io::Result<Box<dyn SegmentFile>> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .append(true)
        .create_new(true)
        .open(path)?;
    Ok(Box::new(DiskFile { file }))
}

/// The directories in which an entry is new when `dir` is created with all that leads to it; the
/// last step may have been made before.
pub(crate) fn parents_of_new(dir: &Path) -> Vec<PathBuf> {
    let mut parents = Vec::new();
    for parent in dir.ancestors().skip(1) {
        let here = parent.as_os_str().is_empty();
        let parent = if here { Path::new(".") } else { parent };
        parents.push(parent.to_owned());
        if parent.exists() {
            break;
        }
    }
    parents
}

/// A directory cannot be opened for syncing on Windows; there its entries are journalled.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(dir)?.sync_all()
    } else {
        Ok(())
    }
}

impl Storage for Disk {
    fn create(&self, number: u64) -> io::Result<Box<dyn SegmentFile>> {
        create(&self.path(number))
    }

    fn open(&self, number: u64) -> io::Result<Box<dyn SegmentFile>> {
        let path = self.path(number);
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(&path)?,
            file => file?,
        };
        Ok(Box::new(DiskFile { file }))
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        fs::remove_file(self.path(number))
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        self.numbers(".seg")
    }

    fn stage(&self, number: u64) -> io::Result<Box<dyn SegmentFile>> {
        create(&self.staged(number))
    }

    fn put_staged(&self, number: u64) -> io::Result<()> {
        fs::rename(self.staged(number), self.path(number))
    }

    fn remove_staged(&self, number: u64) -> io::Result<()> {
        fs::remove_file(self.staged(number))
    }

    fn list_staged(&self) -> io::Result<Vec<u64>> {
        self.numbers(".new")
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_dir(&self.dir)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:020}.seg"))
    }
}

#[derive(Debug)]
struct DiskFile {
    file: File,
}

impl SegmentFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.file.sync_all()
    }
}
