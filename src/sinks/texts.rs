//! Values as the databases read them: the text of each, and lines of texts for ClickHouse.
//!
//! Nothing a client chose can make a row that a database does not take: what it has no place for is
//! replaced here, by rules that the documentation says.

use std::borrow::Cow;

use crate::core::time::Timestamp;
use crate::export::{Column, Kind, Value};

use super::schema::Times;

/// Who reads a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Postgres,
    ClickHouse(Times),
}

/// The first moments of 1970 and of 2105, 2261 and 9999, in microseconds.
const Y1970: i64 = 0;
const Y2105: i64 = 4_260_211_200_000_000;
const Y2261: i64 = 9_183_110_400_000_000;
const Y9999: i64 = 253_370_764_800_000_000;
/// The first moment of the year 1.
const Y1: i64 = -62_135_596_800_000_000;

impl Reader {
    /// Times are kept within these.
    fn times(self) -> (i64, i64) {
        match self {
            Self::Postgres => (Y1, Y9999),
            Self::ClickHouse(Times::Micros) => (Y1970, Y2261),
            Self::ClickHouse(Times::Seconds) => (Y1970, Y2105),
        }
    }
}

/// What stands for a value; none for null.
pub(super) fn text<'v>(column: &Column, value: &'v Value, reader: Reader) -> Option<Cow<'v, str>> {
    Some(match (value, column.kind) {
        (Value::Null, _) => return None,
        (Value::Text(said), Kind::Json) => json(said, reader),
        (Value::Text(said), _) => plain(said, reader),
        (Value::Integer(at), Kind::Time) => time(*at, reader).into(),
        (Value::Integer(nanos), Kind::Usd) => usd(*nanos).into(),
        (Value::Integer(number), _) => number.to_string().into(),
        (Value::Number(number), _) => format!("{number:?}").into(),
        (Value::Flag(flag), _) => if *flag { "1" } else { "0" }.into(),
    })
}

/// PostgreSQL has no place for NUL in a text.
fn plain(said: &str, reader: Reader) -> Cow<'_, str> {
    if reader == Reader::Postgres && said.contains('\0') {
        said.replace('\0', "\u{fffd}").into()
    } else {
        said.into()
    }
}

/// Nor for an escaped one in JSON.
fn json(said: &str, reader: Reader) -> Cow<'_, str> {
    const NUL: &str = "\\u0000";
    if reader != Reader::Postgres || !said.contains(NUL) {
        return said.into();
    }
    let mut safe = String::with_capacity(said.len());
    let mut rest = said;
    while let Some(at) = rest.find('\\') {
        let (before, escaped) = rest.split_at(at);
        safe.push_str(before);
        if let Some(after) = escaped.strip_prefix(NUL) {
            safe.push_str("\\ufffd");
            rest = after;
            continue;
        }
        // The backslash and what it escapes, which may be one too.
        let end = escaped.chars().take(2).map(char::len_utf8).sum();
        let (pair, after) = escaped.split_at(end);
        safe.push_str(pair);
        rest = after;
    }
    safe.push_str(rest);
    safe.into()
}

fn time(micros: i64, reader: Reader) -> String {
    let (first, last) = reader.times();
    let text = Timestamp::from_micros(micros.clamp(first, last)).to_string();
    let Reader::ClickHouse(times) = reader else {
        return text;
    };
    let text = text.trim_end_matches('Z').replace('T', " ");
    match (times, text.split_once('.')) {
        (Times::Seconds, Some((seconds, _))) => seconds.to_owned(),
        _ => text,
    }
}

/// Nano-USD as USD, all nine decimals.
fn usd(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let all = nanos.unsigned_abs();
    let (whole, part) = (all / 1_000_000_000, all % 1_000_000_000);
    format!("{sign}{whole}.{part:09}")
}

/// Adds one field of a line; the caller parts fields by tabs and ends lines.
pub(super) fn field(text: Option<&str>, out: &mut Vec<u8>) {
    let Some(text) = text else {
        out.extend_from_slice(b"\\N");
        return;
    };
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0 => out.extend_from_slice(b"\\0"),
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests;
