//! Recorded rows as files for other programs: Parquet, JSON lines, CSV.
//!
//! A [`Table`] is defined once, by its fields: name, kind, what it means, and how its value is read
//! from a record. Whoever has a record makes rows of it, whoever has rows writes them in any format;
//! neither knows of the other, nor of how the records were found.

mod bodies;
mod calls;
mod columnar;
mod content;
mod csv;
mod decisions;
mod jsonl;
mod measured;
mod spent;
mod table;
mod value;
mod writer;

pub use self::bodies::Recorded;
pub use self::content::{Lack, MAX_TEXT, Said, said};
pub use self::decisions::Decided;
pub use self::measured::Measured;
pub use self::spent::{Charged, State, StoredBudget, charged, unrecorded};
pub use self::table::{Column, Field, Kind, Table, row};
pub use self::value::{Row, Value};
pub use self::writer::{Format, RowWriter};

pub use self::bodies::BODIES;
pub use self::calls::CALLS;
pub use self::content::CONTENT;
pub use self::decisions::DECISIONS;
pub use self::measured::METRICS;
pub use self::spent::{BUDGETS, CHARGES};

#[cfg(test)]
mod tests;
