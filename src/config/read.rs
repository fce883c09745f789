//! Reading a TOML file key by key: a wrong value is noted and reading goes on, so that one run
//! shows every problem. Every key that a section is asked for is known; all others are problems.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Problems};
use super::value::Kind;

/// Longer values are cut in problems.
const MAX_EXCERPT_CHARS: usize = 60;

/// What a problem says was found where a secret may be.
const NOT_SHOWN: &str = "a value that is not shown";

/// The text of a config file and its name in problems.
#[derive(Clone, Copy)]
pub(super) struct Source<'t> {
    file: &'t str,
    text: &'t str,
}

impl<'t> Source<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text }
    }

    /// Reads the file by `read`. What that yields counts only when it noted no problem.
    pub(super) fn read<T>(
        self,
        read: impl FnOnce(&mut Section<'_, 't>) -> T,
    ) -> Result<T, Problems> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if !errors.is_empty() {
            return Err(Problems::new(
                errors.iter().map(|error| self.syntax(error)).collect(),
            ));
        }
        let mut reader = Reader {
            source: self,
            spans: BTreeMap::new(),
            problems: Vec::new(),
        };
        let table = table.into_inner();
        reader.locate(&table, "");
        let mut root = Section::new(&mut reader, &table, String::new());
        let value = read(&mut root);
        root.note_unknown_keys();
        if reader.problems.is_empty() {
            Ok(value)
        } else {
            Err(Problems::new(reader.problems))
        }
    }

    fn line_and_column(self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    /// The text of a value, on one line, cut.
    fn excerpt(self, span: &Range<usize>) -> String {
        let text = self.text.get(span.clone()).unwrap_or_default();
        let text = without_secrets(&text.split_whitespace().collect::<Vec<_>>().join(" "));
        match text.char_indices().nth(MAX_EXCERPT_CHARS) {
            Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
            None => text,
        }
    }

    /// The message only: the line itself may hold a secret.
    fn syntax(self, error: &toml::de::Error) -> Problem {
        let place = error.span().map(|span| self.line_and_column(span.start));
        let column = place
            .map(|(_, column)| format!(" at column {column}"))
            .unwrap_or_default();
        let message = error
            .message()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        Problem {
            file: self.file.to_owned(),
            path: String::new(),
            line: place.map(|(line, _)| line),
            found: format!("broken TOML{column} ({message})"),
            expected: "valid TOML".to_owned(),
            example: String::new(),
        }
    }
}

/// Where each path of the file is, and what was wrong so far.
struct Reader<'t> {
    source: Source<'t>,
    spans: BTreeMap<String, Range<usize>>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn locate(&mut self, table: &DeTable<'_>, path: &str) {
        for (key, value) in table {
            self.locate_value(value, join(path, key.get_ref()));
        }
    }

    fn locate_value(&mut self, value: &Spanned<DeValue<'_>>, path: String) {
        match value.get_ref() {
            DeValue::Table(table) => self.locate(table, &path),
            DeValue::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    self.locate_value(item, format!("{path}[{n}]"));
                }
            }
            _ => {}
        }
        self.spans.insert(path, value.span());
    }

    /// Notes that `expected` should be at `path`, where something else or nothing is.
    fn note(&mut self, path: String, expected: String, example: String) {
        let found = match self.spans.get(&path) {
            Some(span) => self.source.excerpt(span),
            None => "nothing".to_owned(),
        };
        self.note_found(path, found, expected, example);
    }

    fn note_found(&mut self, path: String, found: String, expected: String, example: String) {
        let (file, line) = (self.source.file.to_owned(), self.line_of(&path));
        self.problems.push(Problem {
            file,
            path,
            line,
            found,
            expected,
            example,
        });
    }

    /// The line of `path`, or of the nearest table around it.
    fn line_of(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(span) = self.spans.get(path) {
                return Some(self.source.line_and_column(span.start).0);
            }
            path = path.rsplit_once(['.', '[']).map(|(parent, _)| parent)?;
        }
    }
}

/// One table of the file.
pub(super) struct Section<'r, 't> {
    reader: &'r mut Reader<'t>,
    table: &'r DeTable<'t>,
    path: String,
    known: Vec<&'r str>,
}

impl<'r, 't> Section<'r, 't> {
    fn new(reader: &'r mut Reader<'t>, table: &'r DeTable<'t>, path: String) -> Self {
        Self {
            reader,
            table,
            path,
            known: Vec::new(),
        }
    }

    /// Puts the value of `key` into `target`, which keeps its default when there is none.
    pub(super) fn set<T>(&mut self, key: &'r str, kind: &Kind<T>, target: &mut T) {
        if let Some(value) = self.get(key, kind) {
            *target = value;
        }
    }

    pub(super) fn get<T>(&mut self, key: &'r str, kind: &Kind<T>) -> Option<T> {
        let value = self.value(key)?;
        let parsed = (kind.parse)(value);
        if parsed.is_none() {
            self.note_kind(join(&self.path, key), key, kind);
        }
        parsed
    }

    /// Like [`set`](Self::set), but a missing key is a problem.
    pub(super) fn require<T>(&mut self, key: &'r str, kind: &Kind<T>, target: &mut T) {
        if let Some(value) = self.demand(key, kind) {
            *target = value;
        }
    }

    /// Like [`get`](Self::get), but a missing key is a problem.
    pub(super) fn demand<T>(&mut self, key: &'r str, kind: &Kind<T>) -> Option<T> {
        if !self.has(key) {
            self.problem(key, kind.expected, &format!("{key} = {}", kind.example));
        }
        self.get(key, kind)
    }

    pub(super) fn list<T>(&mut self, key: &'r str, kind: &Kind<T>) -> Vec<T> {
        self.items(key, kind).into_iter().flatten().collect()
    }

    /// The items of a list; none where one is a problem.
    pub(super) fn items<T>(&mut self, key: &'r str, kind: &Kind<T>) -> Vec<Option<T>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(items) = value.as_array() else {
            let expected = format!("a list, each {}", kind.expected);
            self.problem(key, &expected, &format!("{key} = [{}]", kind.example));
            return Vec::new();
        };
        let mut parsed = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            let value = (kind.parse)(item.get_ref());
            if value.is_none() {
                let path = format!("{}[{n}]", join(&self.path, key));
                let example = format!("{key} = [{}]", kind.example);
                self.reader.note(path, kind.expected.to_owned(), example);
            }
            parsed.push(value);
        }
        parsed
    }

    /// A list, or a single item in its place.
    pub(super) fn one_or_list<T>(
        &mut self,
        key: &'r str,
        kind: &Kind<T>,
    ) -> Option<Vec<Option<T>>> {
        match self.value(key)? {
            DeValue::Array(_) => Some(self.items(key, kind)),
            _ => Some(vec![self.get(key, kind)]),
        }
    }

    /// Reads the table `[key]` if there is one.
    pub(super) fn table<T>(
        &mut self,
        key: &'r str,
        read: impl FnOnce(&mut Section<'_, 't>) -> T,
    ) -> Option<T> {
        let value = self.value(key)?;
        let path = join(&self.path, key);
        if let Some(table) = value.as_table() {
            return Some(self.open(table, path, read));
        }
        // Without the numbers of tables in lists: TOML means the last one.
        let header: String = path.split(['[', ']']).step_by(2).collect();
        self.problem(key, "a table", &format!("[{header}]"));
        None
    }

    /// Reads every table of the list `[[key]]`; `read` gets its number, from 0.
    pub(super) fn tables<T>(
        &mut self,
        key: &'r str,
        mut read: impl FnMut(usize, &mut Section<'_, 't>) -> T,
    ) -> Vec<T> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let path = join(&self.path, key);
        let example = format!("[[{path}]]");
        let Some(items) = value.as_array() else {
            self.problem(key, "a list of tables", &example);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            let path = format!("{path}[{n}]");
            match item.get_ref().as_table() {
                Some(table) => tables.push(self.open(table, path, |section| read(n, section))),
                None => self
                    .reader
                    .note(path, "a table".to_owned(), example.clone()),
            }
        }
        tables
    }

    /// Notes a problem with the value of `key`; no `key` means the table itself.
    pub(super) fn problem(&mut self, key: &str, expected: &str, example: &str) {
        let path = join(&self.path, key);
        self.reader
            .note(path, expected.to_owned(), example.to_owned());
    }

    /// Makes a key that must not be there a problem, without showing its value.
    pub(super) fn forbid(&mut self, key: &str, expected: &str, example: &str) {
        if self.table.contains_key(key) {
            let path = join(&self.path, key);
            let (expected, example) = (expected.to_owned(), example.to_owned());
            self.reader
                .note_found(path, NOT_SHOWN.to_owned(), expected, example);
        }
    }

    /// Whether the file has `key`, with a good value or a bad one.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// What the file has here, for a table whose keys are names.
    pub(super) fn keys(&self) -> Vec<&'r str> {
        self.table
            .keys()
            .map(|key| key.get_ref().as_ref())
            .collect()
    }

    /// Whether the file has a value at the path below this section.
    pub(super) fn names(&self, path: &str) -> bool {
        self.reader.spans.contains_key(&join(&self.path, path))
    }

    fn open<T>(
        &mut self,
        table: &DeTable<'t>,
        path: String,
        read: impl FnOnce(&mut Section<'_, 't>) -> T,
    ) -> T {
        let mut section = Section::new(self.reader, table, path);
        let value = read(&mut section);
        section.note_unknown_keys();
        value
    }

    fn value(&mut self, key: &'r str) -> Option<&'r DeValue<'t>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key).map(Spanned::get_ref)
    }

    fn note_kind<T>(&mut self, path: String, key: &str, kind: &Kind<T>) {
        let expected = kind.expected.to_owned();
        let example = format!("{key} = {}", kind.example);
        if kind.hidden {
            let found = NOT_SHOWN.to_owned();
            self.reader.note_found(path, found, expected, example);
        } else {
            self.reader.note(path, expected, example);
        }
    }

    fn note_unknown_keys(&mut self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) || self.was_noted(name) {
                continue;
            }
            let expected = match nearest(name, &self.known) {
                Some(known) => format!("\"{known}\""),
                None => format!("one of {}", self.known.join(", ")),
            };
            let path = join(&self.path, name);
            self.reader.spans.insert(path.clone(), key.span());
            self.reader
                .note_found(path, "an unknown key".to_owned(), expected, String::new());
        }
    }

    fn was_noted(&self, key: &str) -> bool {
        let path = join(&self.path, key);
        self.reader
            .problems
            .iter()
            .any(|problem| problem.path == path)
    }
}

/// A URL without the user and the query: people put keys there.
fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (address, query) = rest
        .split_once('?')
        .map_or((rest, ""), |(address, _)| (address, "?****"));
    match address.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://****@{host}{query}"),
        None => format!("{scheme}://{address}{query}"),
    }
}

/// The known key that `key` is probably meant to be.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let distances = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(key, name), *name));
    let (distance, name) = distances.min()?;
    (distance <= name.len().min(key.len()) / 3).then_some(name)
}

fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", _) => key.to_owned(),
        (_, "") => path.to_owned(),
        _ => format!("{path}.{key}"),
    }
}
