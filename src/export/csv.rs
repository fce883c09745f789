//! RFC 4180, with what a spreadsheet would take for a formula made a text, as the tables of pages do.

use std::io::{self, Write};

use super::table::{Column, Kind};
use super::value::Value;
use crate::core::text::csv_field;
use crate::core::time::Timestamp;

pub(super) fn head(columns: &[Column], out: &mut impl Write) -> io::Result<()> {
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    write!(out, "{}\r\n", names.join(","))
}

/// Null is nothing at all, an empty text is quoted.
pub(super) fn line(columns: &[Column], row: &[Value], out: &mut impl Write) -> io::Result<()> {
    for (at, (column, value)) in columns.iter().zip(row).enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        match (value, column.kind) {
            (Value::Null, _) => {}
            (Value::Text(said), _) if said.is_empty() => out.write_all(b"\"\"")?,
            (Value::Text(said), _) => out.write_all(csv_field(said).as_bytes())?,
            (Value::Integer(at), Kind::Time) => write!(out, "{}", Timestamp::from_micros(*at))?,
            (Value::Integer(nanos), Kind::Usd) => write!(out, "{}", usd(*nanos))?,
            (Value::Integer(number), _) => write!(out, "{number}")?,
            (Value::Number(number), _) => write!(out, "{number}")?,
            (Value::Flag(flag), _) => write!(out, "{flag}")?,
        }
    }
    out.write_all(b"\r\n")
}

/// Nano-USD as USD, all nine decimals.
pub(super) fn usd(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, part) = (
        nanos.unsigned_abs() / 1_000_000_000,
        nanos.unsigned_abs() % 1_000_000_000,
    );
    format!("{sign}{whole}.{part:09}")
}
