//! The file that `--receipt` names: it gets the receipt whole, or stays what it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::clock::Clock;

pub(super) enum ReceiptFile {
    /// A file that is there or not yet.
    Plain(PathBuf),
    /// What is no file, such as `/dev/fd/3`: nothing may take its place.
    Other(File),
}

impl ReceiptFile {
    /// Finds out whether it can be written, and changes nothing yet.
    pub(super) fn at(path: &Path) -> Result<Self, Failure> {
        Self::open(path)
            .map_err(|error| Failure::Impossible(format!("--receipt {}: {error}", path.display())))
    }

    fn open(path: &Path) -> io::Result<Self> {
        // A link stays one.
        let path = match fs::canonicalize(path) {
            Ok(path) if !fs::metadata(&path)?.is_file() => {
                return OpenOptions::new().write(true).open(path).map(Self::Other);
            }
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(path)?,
            Err(error) => return Err(error),
        };
        let beside = beside(&path);
        drop(create(&beside)?);
        fs::remove_file(&beside)?;
        Ok(Self::Plain(path))
    }

    /// Whoever reads it meanwhile sees the old text or the new one.
    pub(super) fn write(self, text: &[u8]) -> io::Result<()> {
        let path = match self {
            Self::Other(mut file) => return file.write_all(text),
            Self::Plain(path) => path,
        };
        let beside = beside(&path);
        let mut file = create(&beside)?;
        let written = file
            .write_all(text)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&beside, &path));
        if written.is_err() {
            // The error says more than that this fails too.
            let _ = fs::remove_file(&beside);
        }
        written
    }
}

/// A file of the same directory, so that a new name is all that is missing at the end.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".open-aiops-{}.tmp", Clock::System.call_id()))
}

/// For its user alone: a receipt names agents and what they cost.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn file_stays_what_it_was_until_the_receipt_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("a.txt"), dir.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        symlink(&path, &link).unwrap();
        let file = ReceiptFile::at(&link)
            .map_err(|error| error.words())
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        file.write(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(names(dir.path()), ["a.txt", "link"]);
    }

    #[test]
    fn what_is_no_file_is_written_to_and_stays() {
        let device = Path::new("/dev/null");
        let file = ReceiptFile::at(device)
            .map_err(|error| error.words())
            .unwrap();
        file.write(b"new").unwrap();
        assert!(!fs::metadata(device).unwrap().is_file());
    }

    #[test]
    fn place_that_cannot_be_written_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().join("no/file"), dir.path().to_owned()] {
            let told = ReceiptFile::at(&path).map(drop).unwrap_err().words();
            assert!(told.starts_with("--receipt /"), "{told}");
        }
        assert!(names(dir.path()).is_empty());
    }
}
