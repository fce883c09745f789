//! Where the next process goes on, as it is kept in the directory of the ledger.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use tempfile::NamedTempFile;

use crate::core::time::Timestamp;
use crate::ledger::{BadBookmark, Bookmark};

/// Its file.
pub(super) const BOOKMARK: &str = "otel-bookmark";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Behind the calls whose spans were told.
    pub(super) told: Bookmark,
    /// Before the calls of the runs whose spans were not: these calls are put together once more.
    pub(super) runs: Bookmark,
    /// What was told of those, too: runs of which no call ended after this.
    pub(super) silent: Timestamp,
}

impl Kept {
    /// All that ended before this place was told.
    pub(super) const fn all(told: Bookmark) -> Self {
        Self {
            told,
            runs: told,
            silent: Timestamp::from_micros(0),
        }
    }

    /// None where nothing was ever kept.
    pub(super) fn read(file: &Path) -> Result<Option<Self>, String> {
        match fs::read_to_string(file) {
            Ok(text) => text
                .parse()
                .map(Some)
                .map_err(|it: BadBookmark| it.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whole or not at all, whatever happens meanwhile.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        let dir = file.parent().unwrap_or(Path::new("."));
        let mut new = NamedTempFile::with_prefix_in(BOOKMARK, dir)?;
        new.write_all(self.to_string().as_bytes())?;
        new.as_file().sync_data()?;
        new.persist(file)?;
        Ok(())
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, runs, silent } = self;
        write!(f, "{told} {runs} {}", silent.micros())
    }
}

impl FromStr for Kept {
    type Err = BadBookmark;

    fn from_str(text: &str) -> Result<Self, BadBookmark> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            [told] => Ok(Self::all(told.parse()?)),
            [told, runs, silent] => Ok(Self {
                told: told.parse()?,
                runs: runs.parse()?,
                silent: Timestamp::from_micros(silent.parse().map_err(|_| BadBookmark)?),
            }),
            _ => Err(BadBookmark),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(BOOKMARK);
        assert_eq!(Kept::read(&file), Ok(None));
        let place = |offset: u64| -> Bookmark {
            let chain = Bookmark::default().to_string();
            let chain = chain.rsplit_once('-').unwrap().1;
            format!("3-{offset}-{chain}").parse().unwrap()
        };
        let kept = Kept {
            told: place(90),
            runs: place(70),
            silent: Timestamp::from_micros(5),
        };
        kept.write(&file).unwrap();
        assert_eq!(Kept::read(&file), Ok(Some(kept)));
        fs::write(&file, format!("{}\n", place(90))).unwrap();
        assert_eq!(Kept::read(&file), Ok(Some(Kept::all(place(90)))));
        fs::write(&file, "12-").unwrap();
        assert!(Kept::read(&file).is_err());
    }
}
