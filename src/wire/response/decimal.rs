//! Decimal numbers of JSON as whole numbers of a smaller unit, without floating point.

/// More digits than any amount has; more would not fit either.
const MAX_DIGITS: usize = 30;
const MAX_LEN: usize = 128;

/// `text` times ten to the power of `scale`, rounded half away from zero. Takes JSON numbers, with
/// exponents, and the same in quotes.
pub(super) fn scaled(text: &str, scale: i64) -> Option<i64> {
    let text = text.trim_matches('"');
    if text.len() > MAX_LEN {
        return None;
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (number, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let kept = significant.get(..MAX_DIGITS).unwrap_or(significant);
    let power = i64::from(exponent.parse::<i32>().ok()?)
        + scale
        + i64::try_from(significant.len() - kept.len()).ok()?
        - i64::try_from(fraction.len()).ok()?;
    let magnitude = shift(kept.parse().ok()?, power)?;
    i64::try_from(if unsigned == text {
        magnitude
    } else {
        -magnitude
    })
    .ok()
}

/// `value` times ten to the power of `power`.
fn shift(value: i128, power: i64) -> Option<i128> {
    let factor = u32::try_from(power.unsigned_abs())
        .ok()
        .and_then(|by| 10_i128.checked_pow(by));
    match (power < 0, factor) {
        (true, Some(divisor)) => Some((value + divisor / 2) / divisor),
        (true, None) => Some(0),
        (false, factor) => value.checked_mul(factor?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (text, expected) in [
            ("0", 0),
            ("0.0", 0),
            ("1", 1_000_000_000),
            ("0.00014", 140_000),
            ("1.4e-05", 14_000),
            ("1.4E-5", 14_000),
            ("2.5e+1", 25_000_000_000),
            ("0.1", 100_000_000),
            ("0.30000000000000004", 300_000_000),
            ("0.00014000000000000001220703125123456789", 140_000),
            ("0.0000000004", 0),
            ("0.0000000005", 1),
            ("-0.25", -250_000_000),
            ("\"0.02\"", 20_000_000),
            ("1e-40", 0),
            ("0e99", 0),
            ("123456789.123456789", 123_456_789_123_456_789),
        ] {
            assert_eq!(scaled(text, 9), Some(expected), "{text}");
        }
        assert_eq!(scaled("7.2", 3), Some(7200));
    }

    #[test]
    fn what_is_no_amount_is_none() {
        for text in [
            "",
            ".",
            "-",
            "1e",
            "null",
            "{}",
            "abc",
            "1.2.3",
            "1e40",
            "99999999999",
            "1e9999999999",
        ] {
            assert_eq!(scaled(text, 9), None, "{text}");
        }
    }
}
