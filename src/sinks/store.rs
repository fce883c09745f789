//! A database as the rest sees it: opened, it says how far it is; written to, it takes rows and the
//! place behind them.

use std::error::Error;

use super::clickhouse::ClickHouse;
use super::postgres::Postgres;
use super::rows::Lot;
use crate::config::{SinkConfig, SinkKind};
use crate::core::text::is_steering;
use crate::upstream::UpstreamError;

/// Characters of what a database says that are shown.
const MAX_SAID: usize = 300;

pub(super) enum Store {
    Postgres(Box<Postgres>),
    ClickHouse(Box<ClickHouse>),
}

/// Whose rows these are: the name of the instance, and the ledger, which may be another one under a
/// name that was used before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) instance: String,
    pub(super) ledger: String,
}

/// What a database knows of an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// How far the rows of each configured table are, in their order.
    pub(super) places: Vec<Option<String>>,
    /// The greatest version written with one; zero where rows have none.
    pub(super) version: u64,
}

/// Why something was not written. Never shows a URL or a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) text: String,
    /// The database works but does not take these rows: trying again is of no use.
    pub(super) is_about_rows: bool,
}

/// Why a sink cannot be used as it is configured. Never shows a URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("{0}")]
    Trust(#[from] UpstreamError),
    #[error("{0}")]
    Url(String),
}

impl Store {
    pub(super) fn new(config: &SinkConfig) -> Result<Self, Unusable> {
        Ok(match config.kind() {
            SinkKind::Postgres => Self::Postgres(Box::new(Postgres::new(config)?)),
            SinkKind::ClickHouse => Self::ClickHouse(Box::new(ClickHouse::new(config)?)),
        })
    }

    /// Connects, creates or completes the tables, and says how far this owner's rows are.
    pub(super) async fn open(&mut self, owner: &Owner) -> Result<Known, Trouble> {
        match self {
            Self::Postgres(it) => it.open(owner).await,
            Self::ClickHouse(it) => it.open(owner).await,
        }
    }

    /// Writes rows, and that all of the configured tables is there before `place`. What was written before stays as it is or
    /// is written over by the same: this may be done again after any failure. `version` grows.
    pub(super) async fn write(
        &mut self,
        owner: &Owner,
        lots: &[Lot],
        place: Option<&str>,
        version: u64,
    ) -> Result<(), Trouble> {
        match self {
            Self::Postgres(it) => it.write(owner, lots, place).await,
            Self::ClickHouse(it) => it.write(owner, lots, place, version).await,
        }
    }

    /// Lets go of the connection.
    pub(super) fn close(&mut self) {
        if let Self::Postgres(it) = self {
            it.close();
        }
    }
}

impl Trouble {
    /// Trying again later may help.
    pub(super) fn passing(text: &str) -> Self {
        Self {
            text: one_line(text),
            is_about_rows: false,
        }
    }

    pub(super) fn with_rows(text: &str) -> Self {
        Self {
            is_about_rows: true,
            ..Self::passing(text)
        }
    }
}

/// What somebody else said, on one line and not all of it.
fn one_line(text: &str) -> String {
    let plain = text
        .chars()
        .map(|c| if is_steering(c) || c == '\n' { ' ' } else { c });
    plain.take(MAX_SAID).collect()
}

/// An error with all that is behind it, once each.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
