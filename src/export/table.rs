//! Tables: which there are, and the columns of each.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};
use utoipa::ToSchema;

use super::value::{Row, Value};
use super::{BODIES, BUDGETS, CALLS, CHARGES, CONTENT, DECISIONS, METRICS};

/// What can be exported.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Table {
    /// One row for each call.
    Calls,
    /// One row for each event: trips with their evidence, budgets that were spent, what operators
    /// did, starts and stops.
    Decisions,
    /// One row for each account of a budget, as it stands.
    Budgets,
    /// One row for each account that a call was charged to.
    Charges,
    /// One row for each measurement of a call, a run or an agent.
    Metrics,
    /// One row for each piece of each message of a call, sent and answered.
    Content,
    /// One row for each recorded body of a call, as it is stored.
    Bodies,
}

/// What a column holds, the same in all formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// JSON: a list or an object.
    Json,
    /// A whole number of 64 bits.
    Integer,
    /// A floating number of 64 bits.
    Number,
    Flag,
    /// A point in time in UTC, in microseconds since the epoch.
    Time,
    /// USD with nine decimals, from whole nano-USD.
    Usd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// One line.
    pub doc: &'static str,
}

/// A column, and its value in a record.
pub struct Field<T: 'static> {
    pub column: Column,
    pub value: fn(&T) -> Value,
}

pub(super) const fn field<T>(
    name: &'static str,
    kind: Kind,
    doc: &'static str,
    value: fn(&T) -> Value,
) -> Field<T> {
    let column = Column { name, kind, doc };
    Field { column, value }
}

/// The row of a record.
pub fn row<T>(fields: &[Field<T>], record: &T) -> Row {
    fields.iter().map(|field| (field.value)(record)).collect()
}

fn columns<T>(fields: &[Field<T>]) -> Vec<Column> {
    fields.iter().map(|field| field.column).collect()
}

impl Table {
    pub fn columns(self) -> Vec<Column> {
        match self {
            Self::Calls => columns(CALLS),
            Self::Decisions => columns(DECISIONS),
            Self::Budgets => columns(BUDGETS),
            Self::Charges => columns(CHARGES),
            Self::Metrics => columns(METRICS),
            Self::Content => columns(CONTENT),
            Self::Bodies => columns(BODIES),
        }
    }

    pub fn name(self) -> &'static str {
        self.into()
    }
}
