//! How figures read: tokens grouped, durations in the two units that matter, unknown as `?`.

use crate::core::money::NanoUsd;
use crate::core::text;
use crate::core::time::Timestamp;

/// What stands for a figure that is not known; never zero.
pub(super) const UNKNOWN: &str = "?";

pub(super) fn cost(cost: Option<NanoUsd>) -> String {
    cost.map_or_else(|| UNKNOWN.to_owned(), |cost| cost.to_string())
}

/// What is known of the cost of several calls, and whether that is all.
pub(super) fn total_cost(known: NanoUsd, unpriced_calls: u64, calls: u64) -> String {
    match unpriced_calls {
        0 => known.to_string(),
        _ if unpriced_calls >= calls => UNKNOWN.to_owned(),
        _ => format!("{known}+{UNKNOWN}"),
    }
}

/// `1,234,567`
pub(super) fn count(count: u64) -> String {
    text::grouped(count)
}

/// `850us`, `12ms`, `3.4s`, `2m05s`, `1h02m`, `3d04h`
pub(super) fn duration(micros: u64) -> String {
    let millis = micros / 1000;
    let seconds = millis / 1000;
    match seconds {
        0 if millis == 0 => format!("{micros}us"),
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}.{}s", millis % 1000 / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `1.5 MiB`
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, so that no floating point is needed.
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = "KiB";
    for next in UNITS.into_iter().skip(1) {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// `2026-11-01 12:30:05`, UTC
pub(super) fn time(time: Timestamp) -> String {
    let text = time.to_string();
    text.get(..19)
        .map_or(text.clone(), |whole| whole.replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1,000");
        assert_eq!(count(12_345_678), "12,345,678");
    }

    #[test]
    fn durations_show_the_units_that_matter() {
        for (micros, text) in [
            (0, "0us"),
            (850, "850us"),
            (12_345, "12ms"),
            (999_999, "999ms"),
            (3_449_000, "3.4s"),
            (125_000_000, "2m05s"),
            (3_720_000_000, "1h02m"),
            (273_600_000_000, "3d04h"),
        ] {
            assert_eq!(duration(micros), text);
        }
    }

    #[test]
    fn sizes_show_one_decimal_of_the_largest_unit() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 20), "5.0 MiB");
        assert_eq!(bytes(3 << 40), "3.0 TiB");
    }

    #[test]
    fn an_unknown_cost_is_never_zero() {
        assert_eq!(cost(None), "?");
        assert_eq!(cost(Some(NanoUsd::ZERO)), "$0.00");
        let spent = NanoUsd::new(1_500_000_000);
        assert_eq!(total_cost(spent, 0, 3), "$1.50");
        assert_eq!(total_cost(spent, 1, 3), "$1.50+?");
        assert_eq!(total_cost(NanoUsd::ZERO, 3, 3), "?");
    }

    #[test]
    fn times_are_utc_to_the_second() {
        assert_eq!(
            time(Timestamp::from_micros(1_793_536_205_123_456)),
            "2026-11-01 12:30:05"
        );
    }
}
