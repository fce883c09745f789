//! Where the next process goes on, as it is kept in the directory of the ledger.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::core::time::Timestamp;
use crate::ledger::{BadBookmark, Bookmark, Note};

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
    pub(super) fn read(note: &Note) -> Result<Option<Self>, String> {
        let text = note.read().map_err(|error| error.to_string())?;
        let kept = text.map(|text| text.parse()).transpose();
        kept.map_err(|error: BadBookmark| error.to_string())
    }

    pub(super) fn write(&self, note: &Note) -> io::Result<()> {
        note.write(&self.to_string())
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
        let note = Note::new(dir.path(), BOOKMARK);
        assert_eq!(Kept::read(&note), Ok(None));
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
        kept.write(&note).unwrap();
        assert_eq!(Kept::read(&note), Ok(Some(kept)));
        note.write(&format!("{}\n", place(90))).unwrap();
        assert_eq!(Kept::read(&note), Ok(Some(Kept::all(place(90)))));
        note.write("12-").unwrap();
        assert!(Kept::read(&note).is_err());
    }
}
