//! How figures read: money, counts, durations, times. Unknown is `-`, zero is `0`.

use jiff::tz::TimeZone;
use maud::{Markup, html};

use crate::core::money::NanoUsd;
use crate::core::text;
use crate::core::time::Timestamp;

pub(super) use crate::core::text::many;

/// `$123`, `$1.20`, `$0.0034`, `<$0.0001`: see [`NanoUsd::brief`].
pub(super) fn money(amount: NanoUsd) -> String {
    amount.brief()
}

/// What several calls cost, and whether that is all of it.
pub(super) fn spent(known: NanoUsd, unpriced: u64, calls: u64) -> Markup {
    let exact = known.to_string();
    html! {
        @if unpriced > 0 && known.get() == 0 {
            @let which = if unpriced < calls { format!("of {} of its {} calls ", count(unpriced), count(calls)) } else { String::new() };
            span.none title=(format!("{which}no price is known")) { "unpriced" }
        } @else {
            span title=(exact) { (money(known)) }
            @if unpriced > 0 {
                span.none title=(format!("without {} of unknown price", many(unpriced, "call"))) { " + ?" }
            }
        }
    }
}

/// What one call cost.
pub(super) fn cost(cost: Option<NanoUsd>) -> Markup {
    html! {
        @match cost {
            Some(cost) => span title=(cost.to_string()) { (money(cost)) },
            None => span.none title="no price is known" { "unpriced" },
        }
    }
}

/// `1,234,567`
pub(super) fn count(count: u64) -> String {
    text::grouped(count)
}

/// `999`, `12.3k`, `4.5M`: for charts and tiles; the exact number belongs into a title.
pub(super) fn short(count: u64) -> String {
    let (unit, sign) = match count {
        0..1000 => return count.to_string(),
        1000..1_000_000 => (1000, "k"),
        1_000_000..1_000_000_000 => (1_000_000, "M"),
        _ => (1_000_000_000, "G"),
    };
    let whole = count / unit;
    if whole >= 100 {
        return format!("{whole}{sign}");
    }
    format!("{whole}.{}{sign}", count % unit * 10 / unit)
}

/// `840 us`, `12 ms`, `3.42 s`, `2 min 05 s`, `3 h 12 min`, `4 d 02 h`
pub(super) fn duration(micros: u64) -> String {
    let (millis, seconds) = (micros / 1000, micros / 1_000_000);
    match seconds {
        0 if micros == 0 => "0 s".to_owned(),
        0 if millis == 0 => format!("{micros} us"),
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{:02} s", millis % 1000 / 10),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Whole percent, with one decimal below 10: `93 %`, `4.2 %`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    if tenths < 100 {
        format!("{}.{} %", tenths / 10, tenths % 10)
    } else {
        format!("{} %", (tenths + 5) / 10)
    }
}

/// `1.5 MB`, powers of ten.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{}.{} KB", bytes / 1000, bytes % 1000 / 100),
        1_000_000..1_000_000_000 => {
            format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
        }
        _ => format!(
            "{}.{} GB",
            bytes / 1_000_000_000,
            bytes % 1_000_000_000 / 100_000_000
        ),
    }
}

/// A time in the zone of the machine, with the whole truth in its title.
pub(super) fn time(at: Timestamp, zone: &TimeZone) -> Markup {
    let iso = at.to_string();
    html! { time datetime=(iso) title=(iso) { (local(at, zone, "%Y-%m-%d %H:%M:%S")) } }
}

/// A time of day, where the day is said elsewhere.
pub(super) fn clock(at: Timestamp, zone: &TimeZone) -> Markup {
    let iso = at.to_string();
    html! { time datetime=(iso) title=(iso) { (local(at, zone, "%H:%M:%S")) } }
}

pub(super) fn local(at: Timestamp, zone: &TimeZone, form: &str) -> String {
    let at = jiff::Timestamp::from_microsecond(at.micros()).unwrap_or_default();
    at.to_zoned(zone.clone()).strftime(form).to_string()
}

/// How much of a limit is used and held, with a mark where it begins to be slowed. In thousandths
/// of the limit.
pub(super) fn meter(used: u64, held: u64, mark: Option<u64>, what: &str) -> Markup {
    let used = used.min(1000);
    let held = held.min(1000 - used);
    let class = match used {
        0..800 => "ok",
        800..1000 => "warn",
        _ => "bad",
    };
    html! {
        svg.meter viewBox="0 0 1000 8" preserveAspectRatio="none" role="img" aria-label=(what) {
            title { (what) }
            rect.track width="1000" height="8" {}
            rect class=(class) width=(used) height="8" {}
            rect.held x=(used) width=(held) height="8" {}
            @if let Some(mark) = mark {
                rect.mark x=(mark.min(996)) width="4" height="8" {}
            }
        }
    }
}

/// A state: word, shape and colour, never colour alone. `kind` is ok, warn, bad, run or off.
pub(super) fn state(kind: &str, word: &str) -> Markup {
    html! { span class=(format!("state {kind}")) { (word) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_durations_read_in_units_that_matter() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!([many(1, "call"), many(0, "call")], ["1 call", "0 calls"]);
        assert_eq!(
            [short(999), short(12_345), short(450_000)],
            ["999", "12.3k", "450k"]
        );
        for (micros, text) in [
            (0, "0 s"),
            (840, "840 us"),
            (840_000, "840 ms"),
            (3_429_000, "3.42 s"),
            (125_000_000, "2 min 05 s"),
            (11_520_000_000, "3 h 12 min"),
        ] {
            assert_eq!(duration(micros), text);
        }
    }

    #[test]
    fn percents_have_a_decimal_below_ten() {
        assert_eq!(
            [percent(42, 1000), percent(93, 100), percent(1, 0)],
            ["4.2 %", "93 %", "-"]
        );
    }
}
