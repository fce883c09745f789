use proptest::prelude::*;

use super::*;

const POSTGRES: Reader = Reader::Postgres;
const CLICKHOUSE: Reader = Reader::ClickHouse(Times::Micros);

fn column(kind: Kind) -> Column {
    Column {
        name: "it",
        kind,
        doc: "it",
    }
}

#[track_caller]
fn check(kind: Kind, value: Value, reader: Reader, expected: &str) {
    let column = column(kind);
    assert_eq!(text(&column, &value, reader).as_deref(), Some(expected));
}

#[test]
fn numbers_are_told_to_the_last_digit() {
    for reader in [POSTGRES, CLICKHOUSE] {
        let integer = |it, expected| check(Kind::Integer, Value::Integer(it), reader, expected);
        integer(i64::MIN, "-9223372036854775808");
        integer(i64::MAX, "9223372036854775807");
        let usd = |it, expected| check(Kind::Usd, Value::Integer(it), reader, expected);
        usd(i64::MIN, "-9223372036.854775808");
        usd(1, "0.000000001");
        usd(-1, "-0.000000001");
        check(Kind::Number, Value::Number(0.1), reader, "0.1");
        check(Kind::Number, Value::Number(-1e300), reader, "-1e300");
        check(Kind::Flag, Value::Flag(true), reader, "1");
        check(Kind::Flag, Value::Flag(false), reader, "0");
        assert_eq!(text(&column(Kind::Usd), &Value::Null, reader), None);
    }
}

#[test]
fn times_are_told_as_each_reads_them_and_kept_in_its_range() {
    let at = Value::Integer(1_764_500_000_123_456);
    let check =
        |value: &Value, reader, expected| check(Kind::Time, value.clone(), reader, expected);
    check(&at, POSTGRES, "2025-11-30T10:53:20.123456Z");
    check(&at, CLICKHOUSE, "2025-11-30 10:53:20.123456");
    check(
        &at,
        Reader::ClickHouse(Times::Seconds),
        "2025-11-30 10:53:20",
    );
    check(&Value::Integer(0), CLICKHOUSE, "1970-01-01 00:00:00.000000");
    let (first, last) = (Value::Integer(i64::MIN), Value::Integer(i64::MAX));
    check(&first, POSTGRES, "0001-01-01T00:00:00.000000Z");
    check(&last, POSTGRES, "9999-01-01T00:00:00.000000Z");
    check(&first, CLICKHOUSE, "1970-01-01 00:00:00.000000");
    check(&last, CLICKHOUSE, "2261-01-01 00:00:00.000000");
    check(
        &last,
        Reader::ClickHouse(Times::Seconds),
        "2105-01-01 00:00:00",
    );
}

#[test]
fn postgres_gets_no_nul_neither_plain_nor_escaped() {
    let text = Value::Text("a\0b\u{1f600}".to_owned());
    check(Kind::Text, text.clone(), POSTGRES, "a\u{fffd}b\u{1f600}");
    check(Kind::Text, text, CLICKHOUSE, "a\0b\u{1f600}");
    let json = |it: &str, expected| {
        check(Kind::Json, Value::Text(it.to_owned()), POSTGRES, expected);
    };
    json(r#"["a\u0000b"]"#, r#"["a\ufffdb"]"#);
    json(r#"["a\\u0000b"]"#, r#"["a\\u0000b"]"#);
    json(r#"["\\\u0000\n\u0000"]"#, r#"["\\\ufffd\n\ufffd"]"#);
    json(r#"["\u00001"]"#, r#"["\ufffd1"]"#);
}

proptest! {
    #[test]
    fn any_json_stays_the_same_json_but_for_nul(said: Vec<String>) {
        let text = serde_json::to_string(&said).unwrap();
        let safe = json(&text, POSTGRES);
        prop_assert!(!safe.contains('\0'));
        let back: Vec<String> = serde_json::from_str(&safe).unwrap();
        let expected: Vec<_> = said.iter().map(|it| it.replace('\0', "\u{fffd}")).collect();
        prop_assert_eq!(back, expected);
    }

    #[test]
    fn any_text_is_one_field_of_one_line(said in "[\\x00-\\x1f\\\\a\u{e9}\u{1f600}]{0,20}") {
        let mut out = Vec::new();
        field(Some(&said), &mut out);
        prop_assert!(!out.iter().any(|byte| matches!(byte, b'\t' | b'\n' | 0)));
        prop_assert_eq!(unescaped(&out), said.as_bytes());
    }
}

#[test]
fn null_is_no_text_that_there_is() {
    let mut out = Vec::new();
    field(None, &mut out);
    field(Some("\\N"), &mut out);
    assert_eq!(out, b"\\N\\\\N");
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = field.iter().copied();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next().unwrap() {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'0' => 0,
                other => other,
            },
            byte => byte,
        });
    }
    out
}
