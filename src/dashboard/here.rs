//! Where the reader is: the address of a page, and what of it changes from link to link.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;

use super::deeds::{DONE, KEY};
use super::desk::Desk;
use super::export::Export;
use super::link;
use super::range::Range;
use super::theme::Theme;
use crate::admin::problem::Problem;
use crate::core::time::Timestamp;

/// Rows of a table that is exported, at most.
const EXPORTED_ROWS: usize = 1000;

/// The address that a page was asked for by.
#[derive(Clone, Debug)]
pub(super) struct Here {
    path: String,
    named: Vec<(String, String)>,
    query: Vec<(String, String)>,
    pub(super) theme: Theme,
    pub(super) range: Range,
    pub(super) export: Option<Export>,
    /// The time the page is drawn at.
    pub(super) now: Timestamp,
    /// What had happened when drawing began.
    pub(super) snapshot: String,
    /// What of the address cannot be read, where every page reads it.
    pub(super) wrong: Option<Problem>,
}

impl Here {
    /// Reads what every page has.
    fn settle(&mut self) -> Result<(), Problem> {
        self.range = Range::read(self)?;
        self.export = self.read(Export::NAME)?;
        Ok(())
    }

    /// Says what is wrong with the address.
    pub(super) fn check(&self) -> Result<(), Problem> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    /// A parameter of the query that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|v| !v.is_empty())
    }

    /// A parameter of the query, read.
    pub(super) fn read<T>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr<Err: Display>,
    {
        let read = self.get(name).map(str::parse).transpose();
        read.map_err(|error: T::Err| Problem::bad_request(format!("{name}: {error}")))
    }

    /// A part of the path, read: `id` of `/calls/{id}`.
    pub(super) fn named<T>(&self, name: &str) -> Result<T, Problem>
    where
        T: FromStr<Err: Display>,
    {
        let found = self.named.iter().find(|(key, _)| key == name);
        let text = found.map_or("", |(_, value)| value.as_str());
        text.parse()
            .map_err(|error: T::Err| Problem::bad_request(format!("{name}: {error}")))
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Of the rows of a table: so many on a page, more in an export.
    pub(super) fn rows(&self, on_page: usize) -> usize {
        if self.export.is_some() {
            EXPORTED_ROWS
        } else {
            on_page
        }
    }

    /// This page with parameters changed, or removed where there is no value. An empty one may say
    /// something - the account of calls without a user - and is kept.
    pub(super) fn with(&self, changes: &[(&str, Option<&str>)]) -> String {
        let kept = self.query.iter().filter(|(key, value)| {
            let says = !value.is_empty() || key.starts_with(KEY);
            says && !changes.iter().any(|(name, _)| name == key) && !is_passing(key)
        });
        let kept = kept.map(|(key, value)| (key.as_str(), value.as_str()));
        let new = changes
            .iter()
            .filter_map(|(name, value)| Some((*name, (*value)?)));
        link::to(&self.path, kept.chain(new))
    }

    /// Another page, for the same range.
    pub(super) fn at<'a>(
        &'a self,
        path: &str,
        query: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> String {
        let range = Range::NAMES.iter();
        let range = range.filter_map(|name| Some((*name, self.get(name)?)));
        link::to(path, range.chain(query))
    }

    /// The same with what a form was filled in with, so that links of the page lead back to it.
    pub(super) fn filled_in(self, query: Vec<(String, String)>) -> Self {
        Self { query, ..self }
    }

    /// All parameters as they came, empty ones among them.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.query
    }

    /// The parameters that a form keeps as hidden fields, without those it sets itself.
    pub(super) fn kept<'a>(
        &'a self,
        own: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        let kept = self.query.iter().filter(|(key, value)| {
            let says = !value.is_empty() || key.starts_with(KEY);
            says && !own.contains(&key.as_str()) && !is_passing(key)
        });
        kept.map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl FromRequestParts<Desk> for Here {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Problem> {
        let named = RawPathParams::from_request_parts(parts, desk).await;
        let named = named.map_err(|error| Problem::bad_request(format!("path: {error}")))?;
        let query = parts.uri.query().unwrap_or_default();
        let query = serde_urlencoded::from_str::<Vec<(String, String)>>(query)
            .map_err(|error| Problem::bad_request(format!("query parameters: {error}")));
        let (query, wrong) = match query {
            Ok(query) => (query, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        let now = desk.now();
        let mut here = Self {
            path: parts.uri.path().to_owned(),
            named: named
                .iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
            query,
            theme: Theme::of(&parts.headers),
            range: Range::all(now),
            export: None,
            now,
            snapshot: desk.moment(now),
            wrong,
        };
        if let Err(problem) = here.settle() {
            here.wrong.get_or_insert(problem);
        }
        Ok(here)
    }
}

/// What is said once and not kept from link to link.
fn is_passing(key: &str) -> bool {
    key == Export::NAME || key == DONE
}
