use proptest::prelude::*;
use toml::de::DeValue;

use super::*;

fn read<T>(kind: &Kind<T>, text: &str) -> Option<T> {
    (kind.parse)(DeValue::parse(text).unwrap().get_ref())
}

#[test]
fn sizes_have_decimal_and_binary_units_or_none() {
    assert_eq!(read(&SIZE, "\"64 MiB\""), Some(64 << 20));
    assert_eq!(read(&SIZE, "\"1GB\""), Some(1_000_000_000));
    assert_eq!(read(&SIZE, "\"7 b\""), Some(7));
    assert_eq!(read(&SIZE, "4_096"), Some(4096));
    for bad in [
        "\"64\"",
        "\"64 M\"",
        "\"MiB\"",
        "\"-1 B\"",
        "0",
        "\"1.5 GiB\"",
        "true",
        "1e3",
    ] {
        assert_eq!(read(&SIZE, bad), None, "{bad}");
    }
}

#[test]
fn durations_need_a_unit() {
    assert_eq!(
        read(&DURATION, "\"250ms\""),
        Some(Duration::from_millis(250))
    );
    assert_eq!(read(&DURATION, "\"90 s\""), Some(Duration::from_secs(90)));
    assert_eq!(
        read(&DURATION, "\"30d\""),
        Some(Duration::from_secs(30 * 86_400))
    );
    for bad in [
        "90",
        "\"90\"",
        "\"0s\"",
        "\"1.5h\"",
        "\"1M\"",
        "\"36501d\"",
        "\"-1s\"",
    ] {
        assert_eq!(read(&DURATION, bad), None, "{bad}");
    }
    assert_eq!(read(&DURATION_OR_ZERO, "\"0s\""), Some(Duration::ZERO));
}

#[test]
fn decimals_keep_their_digits() {
    for text in ["0", "2.50", "0.000001", "999999.999999"] {
        assert_eq!(read(&DECIMAL, text).as_deref(), Some(text));
        assert_eq!(
            read(&DECIMAL, &format!("\"{text}\"")).as_deref(),
            Some(text)
        );
    }
    for bad in [
        "-0.1",
        "+1",
        "1e3",
        "nan",
        "\"1.\"",
        "\".5\"",
        "0.0000001",
        "1000000",
        "0x10",
        "\"\"",
    ] {
        assert_eq!(read(&DECIMAL, bad), None, "{bad}");
    }
}

#[test]
fn base_urls_lose_their_trailing_slash() {
    let url = read(&BASE_URL, "\"https://api.openai.com/v1/\"").unwrap();
    assert_eq!(url, "https://api.openai.com/v1");
    for bad in [
        "https://",
        "api.openai.com",
        "/v1",
        "ws://x",
        "http://u@x",
        "http://x?a",
        "http://x#a",
    ] {
        assert_eq!(read(&BASE_URL, &format!("\"{bad}\"")), None, "{bad}");
    }
}

#[test]
fn names_of_variables_are_told_from_keys() {
    assert!(read(&VARIABLE, "\"OPENAI_API_KEY\"").is_some());
    for bad in ["sk-live-1", "1KEY", "", "A B"] {
        assert_eq!(read(&VARIABLE, &format!("\"{bad}\"")), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn a_written_size_is_read_back(bytes in 1_u64..) {
        let text = format!("\"{}\"", size_text(bytes));
        prop_assert_eq!(read(&SIZE, &text), Some(bytes));
    }

    #[test]
    fn a_written_duration_is_read_back(millis in 0..3_153_600_000_000_u64) {
        let duration = Duration::from_millis(millis);
        let text = format!("\"{}\"", duration_text(duration));
        prop_assert_eq!(read(&DURATION_OR_ZERO, &text), Some(duration));
    }
}
