//! Recorded rows as files for other programs: Parquet, JSON lines, CSV.
//!
//! A [`Table`] is defined once, by its fields: name, kind, what it means, and how its value is read
//! from a record. Whoever has a record makes rows of it, whoever has rows writes them in any format;
//! neither knows of the other, nor of how the records were found.

mod calls;
mod columnar;
mod content;
mod csv;
mod decisions;
mod jsonl;
mod spent;
mod table;
mod value;
mod writer;

pub use self::calls::{Measured, measured};
pub use self::content::{MAX_TEXT, Said, said};
pub use self::spent::{Charged, StoredBudget, charged};
pub use self::table::{Column, Field, Kind, Table, row};
pub use self::value::{Row, Value};
pub use self::writer::{Format, RowWriter};

pub use self::calls::{CALLS, METRICS};
pub use self::content::CONTENT;
pub use self::decisions::DECISIONS;
pub use self::spent::{BUDGETS, CHARGES};

#[cfg(test)]
mod tests;
