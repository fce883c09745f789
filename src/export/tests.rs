//! Each format, with odd values.

use std::collections::HashSet;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field as Read;
use bytes::Bytes;
use strum::VariantNames;

use super::*;

const ODD: [&str; 8] = [
    "",
    "=1+1",
    "a,\"b\"",
    "one\r\ntwo",
    "nul\0nul",
    "\u{1f980} \u{5e9}",
    "null",
    "-1",
];

/// A row of metrics with this name and value.
fn metric(name: &str, value: impl Into<Value>) -> Row {
    let id = Value::from("id".to_owned());
    let at = Value::Integer(1_793_536_205_000_001);
    let (name, none) = (Value::from(name.to_owned()), Value::Null);
    vec![
        id.clone(),
        at,
        none.clone(),
        id,
        none,
        Value::Null,
        name,
        value.into(),
    ]
}

fn written(table: Table, format: Format, rows: &[Row]) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    let mut writer = RowWriter::new(table, format, file.try_clone().unwrap()).unwrap();
    for row in rows {
        writer.write(row).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), rows.len() as u64);
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    bytes
}

#[test]
fn names_of_columns_are_unique_and_said_in_snake_case() {
    for name in Table::VARIANTS {
        let columns = name.parse::<Table>().unwrap().columns();
        let names: HashSet<_> = columns.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), columns.len(), "{name}");
        let is_snake = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(names.into_iter().all(is_snake), "{name}");
        assert!(columns.iter().all(|column| !column.doc.is_empty()));
    }
}

#[test]
fn json_lines_keep_odd_texts_and_unknowns() {
    let rows: Vec<Row> = ODD.iter().map(|odd| metric(odd, 0.5)).collect();
    let text = String::from_utf8(written(Table::Metrics, Format::Jsonl, &rows)).unwrap();
    assert_eq!(text.lines().count(), ODD.len());
    for (line, odd) in text.lines().zip(ODD) {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["name"], odd);
        assert_eq!(row["run_id"], serde_json::Value::Null);
        assert_eq!(row["started_at"], "2026-11-01T12:30:05.000001Z");
    }
}

#[test]
fn csv_quotes_odd_texts_and_disarms_formulas() {
    let of = |odd: &str| {
        let bytes = written(Table::Metrics, Format::Csv, &[metric(odd, 0.5)]);
        let text = String::from_utf8(bytes).unwrap();
        let begin = "id,2026-11-01T12:30:05.000001Z,,id,,,";
        let line = text.split_once("\r\n").unwrap().1;
        line.strip_prefix(begin).unwrap().to_owned()
    };
    assert_eq!(of("plain"), "plain,0.5\r\n");
    assert_eq!(of(""), "\"\",0.5\r\n");
    assert_eq!(of("=1+1"), "'=1+1,0.5\r\n");
    assert_eq!(of("a,\"b\""), "\"a,\"\"b\"\"\",0.5\r\n");
    assert_eq!(of("one\r\ntwo"), "\"one\r\ntwo\",0.5\r\n");
}

#[test]
fn parquet_is_read_back_as_it_was_written() {
    let mut rows: Vec<Row> = ODD
        .iter()
        .map(|odd| metric(odd, f64::MIN_POSITIVE))
        .collect();
    rows.push(metric(&"long ".repeat(1 << 20), f64::NAN));
    let bytes = Bytes::from(written(Table::Metrics, Format::Parquet, &rows));
    let file = SerializedFileReader::new(bytes).unwrap();
    let read: Vec<_> = file
        .get_row_iter(None)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(read.len(), rows.len());
    for (read, row) in read.iter().zip(&rows) {
        let fields: Vec<_> = read.get_column_iter().map(|(_, field)| field).collect();
        let (Value::Text(name), value) = (&row[6], &row[7]) else {
            panic!("{row:?}");
        };
        assert_eq!(*fields[6], Read::Str(name.clone()));
        assert_eq!(*fields[1], Read::TimestampMicros(1_793_536_205_000_001));
        assert_eq!(*fields[2], Read::Null);
        match value {
            Value::Number(number) => assert_eq!(*fields[7], Read::Double(*number)),
            _ => assert_eq!(*fields[7], Read::Null),
        }
    }
}

#[test]
fn a_table_without_rows_is_a_file_with_columns() {
    let bytes = Bytes::from(written(Table::Calls, Format::Parquet, &[]));
    let file = SerializedFileReader::new(bytes).unwrap();
    let schema = file.metadata().file_metadata().schema_descr();
    assert_eq!(schema.num_columns(), Table::Calls.columns().len());
}

#[test]
fn a_row_of_another_table_is_refused() {
    let mut writer = RowWriter::new(Table::Calls, Format::Csv, Vec::new()).unwrap();
    let error = writer.write(&metric("tests", 1.0)).unwrap_err();
    assert!(error.to_string().contains("found a row of 8 values"));
}

#[test]
fn money_is_told_to_the_last_nano() {
    for (nanos, usd) in [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (-1_500_000_000, "-1.500000000"),
        (i64::MIN, "-9223372036.854775808"),
    ] {
        assert_eq!(csv::usd(nanos), usd);
    }
}
