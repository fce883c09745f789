//! Rows into a file, in any format.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};

use super::columnar::Columnar;
use super::table::{Column, Table};
use super::value::Value;
use super::{csv, jsonl};

/// How a file is written; also what its name ends with.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Format {
    Parquet,
    Jsonl,
    Csv,
}

/// Writes one table. Memory is bounded whatever the number of rows.
pub struct RowWriter<W: Write + Send> {
    columns: Vec<Column>,
    rows: u64,
    sink: Sink<W>,
}

enum Sink<W: Write + Send> {
    Parquet(Box<Columnar<W>>),
    Jsonl(W),
    Csv(W),
}

impl<W: Write + Send> RowWriter<W> {
    pub fn new(table: Table, format: Format, mut out: W) -> io::Result<Self> {
        let columns = table.columns();
        let sink = match format {
            Format::Parquet => Sink::Parquet(Box::new(Columnar::new(table, &columns, out)?)),
            Format::Jsonl => Sink::Jsonl(out),
            Format::Csv => {
                csv::head(&columns, &mut out)?;
                Sink::Csv(out)
            }
        };
        Ok(Self {
            columns,
            rows: 0,
            sink,
        })
    }

    /// Fails with `InvalidData` where the row is not one of this table.
    pub fn write(&mut self, row: &[Value]) -> io::Result<()> {
        if row.len() != self.columns.len() {
            let (found, expected) = (row.len(), self.columns.len());
            let words = format!("found a row of {found} values, expected {expected}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        self.rows += 1;
        match &mut self.sink {
            Sink::Parquet(file) => file.push(row),
            Sink::Jsonl(out) => jsonl::line(&self.columns, row, out),
            Sink::Csv(out) => csv::line(&self.columns, row, out),
        }
    }

    /// Ends the file; how many rows it has.
    pub fn finish(self) -> io::Result<u64> {
        match self.sink {
            Sink::Parquet(file) => file.finish()?,
            Sink::Jsonl(mut out) | Sink::Csv(mut out) => out.flush()?,
        }
        Ok(self.rows)
    }
}
