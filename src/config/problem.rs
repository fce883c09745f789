//! What is wrong with a config file: every problem at once, each with its place, what was found,
//! what was expected, and an example.

use std::fmt;
use std::io;
use std::path::Path;

/// One problem of a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// The key as in `upstream[1].base_url`; empty when the file as a whole is meant.
    pub path: String,
    pub line: Option<usize>,
    pub found: String,
    pub expected: String,
    /// A line that would do; empty when none helps.
    pub example: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": found {}, expected {}", self.found, self.expected)?;
        if !self.example.is_empty() {
            write!(f, ", for example {}", self.example)?;
        }
        Ok(())
    }
}

/// All problems of a config file, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.line);
        Self(problems)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The file is missing, forbidden or not text.
pub(super) fn unreadable_config(file: &Path, error: &io::Error) -> Problems {
    Problems::new(vec![Problem {
        file: file.display().to_string(),
        path: String::new(),
        line: None,
        found: format!("no readable text ({error})"),
        expected: "a TOML file".to_owned(),
        example: String::new(),
    }])
}
