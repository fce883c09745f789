//! A short text beside the log that outlives the process, such as how far another reader has come.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// One such text, in a file of its own.
#[derive(Clone, Debug)]
pub struct Note {
    dir: PathBuf,
    name: &'static str,
}

impl Note {
    /// In the directory of a ledger.
    pub fn new(dir: &Path, name: &'static str) -> Self {
        let dir = dir.to_owned();
        Self { dir, name }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.join(self.name)
    }

    /// None where nothing was ever written.
    pub fn read(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.file()) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whole or not at all, whatever happens meanwhile.
    pub fn write(&self, text: &str) -> io::Result<()> {
        let mut new = NamedTempFile::with_prefix_in(self.name, &self.dir)?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_data()?;
        new.persist(self.file())?;
        Ok(())
    }
}
