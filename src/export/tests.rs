//! Each format, with odd values.

use std::collections::HashSet;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field as Read;
use bytes::Bytes;
use strum::VariantNames;

use super::*;
use crate::core::budget::{AccountId, Amounts, Charge, Limits, Raise, StoredAccount};
use crate::core::digest::Digest;
use crate::core::time::Timestamp;

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
    let text = |text: &str| Value::from(text);
    let at = Value::Integer(1_793_536_205_000_001);
    let (name, value) = (text(name), value.into());
    let none = || Value::Null;
    vec![
        at,
        text("call"),
        text("id"),
        none(),
        text("a"),
        none(),
        none(),
        name,
        text("number"),
        value,
        none(),
        text("header"),
        none(),
        none(),
    ]
}

const AT: usize = 0;
const RUN: usize = 3;
const NAME: usize = 7;
const VALUE: usize = 9;

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
        let is_snake = |name: &str| {
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
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
        assert_eq!(row["measured_at"], "2026-11-01T12:30:05.000001Z");
    }
}

#[test]
fn csv_quotes_odd_texts_and_disarms_formulas() {
    let of = |odd: &str| {
        let bytes = written(Table::Metrics, Format::Csv, &[metric(odd, 0.5)]);
        let text = String::from_utf8(bytes).unwrap();
        let begin = "2026-11-01T12:30:05.000001Z,call,id,,a,,,";
        let line = text.split_once("\r\n").unwrap().1;
        let line = line.strip_prefix(begin).unwrap();
        line.strip_suffix(",number,0.5,,header,,\r\n")
            .unwrap()
            .to_owned()
    };
    assert_eq!(of("plain"), "plain");
    assert_eq!(of(""), "\"\"");
    assert_eq!(of("=1+1"), "'=1+1");
    assert_eq!(of("a,\"b\""), "\"a,\"\"b\"\"\"");
    assert_eq!(of("one\r\ntwo"), "\"one\r\ntwo\"");
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
        let (Value::Text(name), value) = (&row[NAME], &row[VALUE]) else {
            panic!("{row:?}");
        };
        assert_eq!(*fields[NAME], Read::Str(name.clone()));
        assert_eq!(*fields[AT], Read::TimestampMicros(1_793_536_205_000_001));
        assert_eq!(*fields[RUN], Read::Null);
        match value {
            Value::Number(number) => assert_eq!(*fields[VALUE], Read::Double(*number)),
            _ => assert_eq!(*fields[VALUE], Read::Null),
        }
    }
}

#[test]
fn what_is_used_of_a_custom_metric_is_in_every_format() {
    let charge = Charge {
        account: AccountId(Digest::from_bytes([7; 16])),
        bucket: Timestamp::default(),
        amounts: Amounts {
            micro_metric: 2_500_000,
            ..Amounts::default()
        },
    };
    let mut account = StoredAccount::new(None);
    account.charge(&charge, Timestamp::default());
    let by = Limits {
        micro_metric: Some(9),
        ..Limits::default()
    };
    account.raises.push(Raise { by, until: None });
    let budget = row(BUDGETS, &(charge.account, account));
    let charged = row(CHARGES, &unrecorded(Timestamp::default(), charge));
    for (table, row, column) in [
        (Table::Budgets, budget, "used_micro_metric"),
        (Table::Charges, charged, "micro_metric"),
    ] {
        let rows = [row];
        let lines = written(table, Format::Jsonl, &rows);
        let line: serde_json::Value = serde_json::from_slice(&lines).unwrap();
        assert_eq!(line[column], 2_500_000);
        if table == Table::Budgets {
            assert_eq!(line["used_by_time"][0]["micro_metric"], 2_500_000);
            assert_eq!(line["raises"][0]["micro_metric"], 9);
        }
        let at = table.columns().iter().position(|it| it.name == column);
        let csv = String::from_utf8(written(table, Format::Csv, &rows)).unwrap();
        let (head, line) = csv.split_once("\r\n").unwrap();
        assert_eq!(head.split(',').position(|it| it == column), at);
        assert!(
            line.contains(",2500000,") || line.ends_with(",2500000\r\n"),
            "{line}"
        );
        let file = Bytes::from(written(table, Format::Parquet, &rows));
        let file = SerializedFileReader::new(file).unwrap();
        let read = file.get_row_iter(None).unwrap().next().unwrap().unwrap();
        let found = read.get_column_iter().find(|(name, _)| *name == column);
        assert_eq!(found.unwrap().1, &Read::Long(2_500_000));
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
    assert!(error.to_string().contains("found a row of 14 values"));
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

#[test]
fn numbers_keep_every_bit_on_their_way_through_json() {
    let mut bits: u64 = 0x3fd5_5555_5555_5555;
    for _ in 0..10_000 {
        bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let number = f64::from_bits(bits);
        let Value::Number(number) = Value::from(number) else {
            continue;
        };
        let json = serde_json::to_string(&[Value::Number(number)]).unwrap();
        let read: Row = serde_json::from_str(&json).unwrap();
        let [Value::Number(read)] = read.as_slice() else {
            panic!("{json} is {read:?}");
        };
        assert_eq!(read.to_bits(), number.to_bits(), "{json}");
    }
}

#[test]
fn values_of_each_kind_are_read_as_they_were_written() {
    let row: Row = vec![
        Value::Null,
        Value::Flag(true),
        Value::Integer(-7),
        Value::Integer(i64::MAX),
        Value::Number(5.0),
        Value::Text("a \"b\"".to_owned()),
    ];
    let json = serde_json::to_string(&row).unwrap();
    assert_eq!(json, r#"[null,true,-7,9223372036854775807,5.0,"a \"b\""]"#);
    assert_eq!(serde_json::from_str::<Row>(&json).unwrap(), row);
    let error = serde_json::from_str::<Row>("[{}]").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected null, a truth, a number or a text")
    );
}

#[test]
fn rows_beyond_one_row_group_are_all_there() {
    let count = 100_003_i64;
    let rows: Vec<Row> = (0..count)
        .map(|number| metric(&number.to_string(), 0.5))
        .collect();
    let bytes = Bytes::from(written(Table::Metrics, Format::Parquet, &rows));
    let file = SerializedFileReader::new(bytes).unwrap();
    assert_eq!(file.num_row_groups(), 2);
    let names = file.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        let (_, name) = row.get_column_iter().nth(NAME).unwrap();
        name.to_string()
    });
    assert!(names.eq((0..count).map(|number| format!("\"{number}\""))));
}
