//! One JSON object a line, its keys in the order of the columns. Times are RFC 3339, sums in USD are
//! texts, so that no reader makes a floating number of them.

use std::io::{self, Write};

use serde_json::value::RawValue;

use super::csv::usd;
use super::table::{Column, Kind};
use super::value::Value;
use crate::core::time::Timestamp;

pub(super) fn line(columns: &[Column], row: &[Value], out: &mut impl Write) -> io::Result<()> {
    for (at, (column, value)) in columns.iter().zip(row).enumerate() {
        let begin = if at == 0 { "{" } else { "," };
        write!(out, "{begin}\"{}\":", column.name)?;
        match (value, column.kind) {
            (Value::Integer(at), Kind::Time) => write!(out, "\"{}\"", Timestamp::from_micros(*at))?,
            (Value::Integer(nanos), Kind::Usd) => write!(out, "\"{}\"", usd(*nanos))?,
            (Value::Text(json), Kind::Json) if is_json(json) => out.write_all(json.as_bytes())?,
            _ => serde_json::to_writer(&mut *out, value)?,
        }
    }
    out.write_all(b"}\n")
}

/// On one line, which what is made here always is.
fn is_json(text: &str) -> bool {
    !text.contains('\n') && serde_json::from_str::<&RawValue>(text).is_ok()
}
