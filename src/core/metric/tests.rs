use super::*;

fn summary(values: &[&str]) -> Summary {
    let mut summary = Summary::default();
    for (n, value) in (0..).zip(values) {
        summary.add(Timestamp::from_micros(n), &value.parse().unwrap());
    }
    summary
}

#[test]
fn a_text_is_a_number_a_truth_or_a_category() {
    let category = |text| Value::Category(Label::parse(text).unwrap());
    for (text, value) in [
        ("0.5", Value::Number(0.5)),
        (" -3 ", Value::Number(-3.0)),
        ("1e3", Value::Number(1000.0)),
        ("True", Value::Boolean(true)),
        ("false", Value::Boolean(false)),
        ("good", category("good")),
        ("0.5 of 1", category("0.5 of 1")),
    ] {
        assert_eq!(text.parse(), Ok(value), "{text}");
    }
    for text in ["", " ", "nan", "inf", "-Infinity", "1e999", "a\tb"] {
        assert_eq!(text.parse::<Value>(), Err(ValueError), "{text}");
    }
    assert!("x".repeat(MAX_BYTES).parse::<Value>().is_ok());
    assert!("x".repeat(MAX_BYTES + 1).parse::<Value>().is_err());
}

#[test]
fn a_number_is_stored_as_it_was_when_there_were_only_numbers() {
    let old: BTreeMap<String, f64> = [("score".to_owned(), 0.25), ("n".to_owned(), 12.0)].into();
    let bytes = minicbor::to_vec(&old).unwrap();
    let new: BTreeMap<String, Value> = minicbor::decode(&bytes).unwrap();
    assert_eq!(new["score"], Value::Number(0.25));
    assert_eq!(minicbor::to_vec(&new).unwrap(), bytes);
    for value in ["true", "good", "-1.5"] {
        let value: Value = value.parse().unwrap();
        let bytes = minicbor::to_vec(&value).unwrap();
        assert_eq!(minicbor::decode::<Value>(&bytes).unwrap(), value);
    }
}

#[test]
fn a_value_is_what_it_is_in_json() {
    for (json, value) in [
        ("1", "1"),
        ("0.5", "0.5"),
        ("true", "true"),
        ("\"good\"", "good"),
    ] {
        let read: Value = serde_json::from_str(json).unwrap();
        assert_eq!(read, value.parse().unwrap());
    }
    // What is written as a text stays one.
    let text: Value = serde_json::from_str("\"7\"").unwrap();
    assert_eq!(text, Value::category("7").unwrap());
    for json in ["null", "[]", "{}", "\"\"", "1e999"] {
        assert!(serde_json::from_str::<Value>(json).is_err(), "{json}");
    }
    let error = serde_json::from_str::<Value>("null")
        .unwrap_err()
        .to_string();
    assert!(error.starts_with(&ValueError.to_string()), "{error}");
}

#[test]
fn a_name_has_letters_digits_and_little_else() {
    assert_eq!(
        parse_name(" Retrieved_Docs "),
        Some("retrieved_docs".to_owned())
    );
    for text in ["", "a b", "a/b", "caf\u{e9}", &"x".repeat(MAX_BYTES + 1)] {
        assert_eq!(parse_name(text), None, "{text}");
    }
}

#[test]
fn a_summary_says_what_fits_its_values() {
    let numbers = summary(&["1", "2", "6"]);
    assert_eq!(numbers.mean(), Some(3.0));
    assert_eq!((numbers.min, numbers.max), (Some(1.0), Some(6.0)));
    assert_eq!(numbers.to_string(), "3");
    let truths = summary(&["true", "true", "false", "true"]);
    assert_eq!(truths.share_true(), Some(0.75));
    assert_eq!(truths.to_string(), "75 % true");
    let words = summary(&["bad", "good", "good"]);
    assert_eq!((words.mean(), words.count), (None, 3));
    assert_eq!(words.to_string(), "good 2, bad 1");
    assert_eq!(
        words.last,
        Some((Timestamp::from_micros(2), Value::category("good").unwrap()))
    );
}

#[test]
fn a_summary_tells_no_more_categories_apart_than_it_may() {
    let mut summary = Summary::default();
    for n in 0..100 {
        let word = Value::category(&format!("word {n}")).unwrap();
        summary.add(Timestamp::from_micros(0), &word);
    }
    assert_eq!(summary.categories.len(), MAX_CATEGORIES);
    assert_eq!(summary.other_categories, 100 - 32);
}

#[test]
fn numbers_are_shown_with_no_more_digits_than_anybody_reads() {
    for (number, text) in [
        (0.5, "0.5"),
        (12.0, "12"),
        (0.123_456, "0.123"),
        (0.0001, "1.00e-4"),
        (0.0, "0"),
        (1e20, "1.00e20"),
        (-3.25, "-3.25"),
    ] {
        assert_eq!(short(number), text);
    }
}
