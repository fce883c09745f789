use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::{Amounts, Spent};
use super::*;

const UNITS: [Unit; 4] = [Unit::Hour, Unit::Day, Unit::Week, Unit::Month];
const YEAR_US: i64 = 365 * DAY_US;

/// Halves and quarters of hours, midnights that are left out or come twice, a day that never was.
const ZONES: [&str; 13] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "America/St_Johns",
    "America/Toronto",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Cairo",
    "Africa/Monrovia",
];

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    let time: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_micros(time.as_microsecond())
}

fn later(time: Timestamp, micros: i64) -> Timestamp {
    Timestamp::from_micros(time.micros() + micros)
}

fn counts(window: &Window, bucket: Timestamp, now: Timestamp) -> bool {
    let (from, to) = window.counted(now);
    (from..to).contains(&bucket)
}

#[track_caller]
fn check(name: &str, unit: Unit, now: &str, from: &str, to: &str) {
    let window = Window::Calendar(unit, zone(name));
    let counted = window.counted(at(now));
    assert_eq!(
        counted,
        (at(from), at(to)),
        "{} to {}",
        counted.0,
        counted.1
    );
    assert_eq!(window.resets_at(at(now)), Some(at(to)));
}

/// Any moment of 1880 to 2100, often one close to a change of the clock.
fn moments() -> impl Strategy<Value = (TimeZone, Timestamp)> {
    let instant = -90 * YEAR_US..130 * YEAR_US;
    let off = prop_oneof![
        -3 * HOUR_US..3 * HOUR_US,
        -40 * DAY_US..40 * DAY_US,
        -2..=2_i64
    ];
    let names = proptest::sample::select(ZONES.to_vec());
    (names, instant, off, any::<bool>()).prop_map(|(name, instant, off, is_near)| {
        let zone = zone(name);
        let time = jiff::Timestamp::from_microsecond(instant).unwrap();
        let change = zone.following(time).next().filter(|_| is_near);
        let micros = change.map_or(instant, |change| change.timestamp().as_microsecond() + off);
        (zone, Timestamp::from_micros(micros))
    })
}

fn any_window() -> impl Strategy<Value = (Window, Timestamp)> {
    (moments(), 0..6_usize, 1..=2_592_000_i64).prop_map(|((zone, at), kind, seconds)| {
        let window = match UNITS.get(kind) {
            Some(unit) => Window::Calendar(*unit, zone),
            None if kind == 4 => Window::Total,
            None => Window::Rolling(seconds * SECOND_US),
        };
        (window, at)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_charged_now_counts_now((window, at) in any_window()) {
        let bucket = window.bucket(at);
        prop_assert!(bucket <= at);
        let (from, to) = window.counted(at);
        prop_assert!(from <= at && at < to, "{from} {at} {to}");
        prop_assert!(counts(&window, bucket, at));
        prop_assert_eq!(window.bucket(bucket), bucket);
    }

    #[test]
    fn calendar_windows_follow_each_other_without_gap_or_overlap(
        (zone, at) in moments(), unit in proptest::sample::select(UNITS.to_vec())
    ) {
        let window = Window::Calendar(unit, zone);
        let (from, to) = window.counted(at);
        prop_assert_eq!(window.counted(from), (from, to));
        prop_assert_eq!(window.counted(later(to, -1)), (from, to));
        prop_assert_eq!(window.counted(to).0, to);
        prop_assert_eq!(window.counted(later(from, -1)).1, from);
        let seconds = (to.micros() - from.micros()) / SECOND_US;
        // Apia had a day of 48 hours, too.
        let usual = match unit {
            Unit::Hour => 0..=3600,
            Unit::Day => 20 * 3600..=48 * 3600,
            Unit::Week => 140 * 3600..=192 * 3600,
            Unit::Month => 640 * 3600..=768 * 3600,
        };
        prop_assert!(usual.contains(&seconds), "{} seconds", seconds);
    }

    #[test]
    fn bucket_lies_within_one_calendar_window(
        (zone, at) in moments(), unit in proptest::sample::select(UNITS.to_vec()), part in 0..1000_i64
    ) {
        let window = Window::Calendar(unit, zone);
        let (from, to) = window.counted(at);
        prop_assert_eq!(window.counted(window.bucket(at)), (from, to));
        let other = later(from, (to.micros() - from.micros()) / 1000 * part);
        let (low, high) = (at.min(other), at.max(other));
        prop_assert!(window.bucket(low) <= window.bucket(high));
        prop_assert!(window.bucket(later(to, 0)) >= to && window.bucket(later(from, -1)) < from);
    }

    #[test]
    fn calendar_bucket_counts_until_it_leaves_and_not_before_its_window(
        (zone, at) in moments(), unit in proptest::sample::select(UNITS.to_vec())
    ) {
        let window = Window::Calendar(unit, zone);
        let (bucket, (from, to)) = (window.bucket(at), window.counted(at));
        prop_assert_eq!(window.leaves_at(bucket), to);
        prop_assert_eq!(window.resets_at(at), Some(to));
        prop_assert!(counts(&window, bucket, later(to, -1)) && !counts(&window, bucket, to));
        prop_assert!(!counts(&window, bucket, later(from, -1)));
    }

    #[test]
    fn rolling_charge_counts_for_its_length_and_at_most_a_step_more(
        charged in 0..130 * YEAR_US, seconds in 1..=2_592_000_i64, part in 0..1000_i64
    ) {
        let length = seconds * SECOND_US;
        let window = Window::Rolling(length);
        let charged = Timestamp::from_micros(charged);
        let bucket = window.bucket(charged);
        let now = later(charged, length / 1000 * part);
        prop_assert!(counts(&window, bucket, now.min(later(charged, length - 1))));
        let gone = later(charged, length + step_width(length));
        prop_assert!(!counts(&window, bucket, gone));
        prop_assert!(!counts(&window, bucket, later(gone, now.micros() - charged.micros())));
        let leaves = window.leaves_at(bucket);
        prop_assert!(leaves > later(charged, length - 1) && leaves <= gone);
        prop_assert!(counts(&window, bucket, later(leaves, -1)));
        prop_assert!(!counts(&window, bucket, leaves));
        prop_assert_eq!(window.resets_at(charged), Some(leaves));
    }

    #[test]
    fn rolling_sums_are_those_of_single_charges_give_or_take_a_step(
        gaps in proptest::collection::vec(0..10 * SECOND_US, 1..200), length in 1..200_i64
    ) {
        let length = length * SECOND_US;
        let (window, mut spent) = (Window::Rolling(length), Spent::default());
        let (mut now, mut times) = (0, Vec::new());
        for gap in gaps {
            now += gap;
            times.push(now);
            spent.add(window.bucket(Timestamp::from_micros(now)), call());
            let (from, to) = window.counted(Timestamp::from_micros(now));
            let counted = spent.between(from, to).calls;
            let within = |age: i64| {
                let recent = times.iter().filter(|time| now - **time < age);
                i64::try_from(recent.count()).unwrap()
            };
            prop_assert!(counted >= within(length), "{counted} < {}", within(length));
            prop_assert!(counted <= within(length + step_width(length)));
        }
    }
}

fn call() -> Amounts {
    Amounts {
        calls: 1,
        ..Amounts::default()
    }
}

#[test]
fn utc_day_turns_at_midnight() {
    let (day, next) = ("2026-05-04T00:00:00Z", "2026-05-05T00:00:00Z");
    check("UTC", Unit::Day, "2026-05-04T23:59:59.999999Z", day, next);
    check("UTC", Unit::Day, day, day, next);
    check("UTC", Unit::Day, next, next, "2026-05-06T00:00:00Z");
    let hour = "2026-05-04T12:00:00Z";
    check(
        "UTC",
        Unit::Hour,
        "2026-05-04T12:59:59.999999Z",
        hour,
        "2026-05-04T13:00:00Z",
    );
}

#[test]
fn months_end_when_they_end() {
    let march = "2028-03-01T00:00:00Z";
    check(
        "UTC",
        Unit::Month,
        "2028-02-29T12:00:00Z",
        "2028-02-01T00:00:00Z",
        march,
    );
    let march = "2026-03-01T00:00:00Z";
    check(
        "UTC",
        Unit::Month,
        "2026-02-28T23:59:59Z",
        "2026-02-01T00:00:00Z",
        march,
    );
    check(
        "UTC",
        Unit::Month,
        "2026-12-31T23:00:00Z",
        "2026-12-01T00:00:00Z",
        "2027-01-01T00:00:00Z",
    );
    // Berlin is an hour ahead at the beginning of March 2026 and two at its end.
    let (march, april) = ("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
    check(
        "Europe/Berlin",
        Unit::Month,
        "2026-02-28T23:00:00Z",
        march,
        april,
    );
}

#[test]
fn berlin_days_of_23_and_25_hours_are_one_day_each() {
    let (spring, after) = ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    check(
        "Europe/Berlin",
        Unit::Day,
        "2026-03-29T12:00:00Z",
        spring,
        after,
    );
    let (autumn, after) = ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
    check(
        "Europe/Berlin",
        Unit::Day,
        "2026-10-25T22:59:59Z",
        autumn,
        after,
    );
    // The hour from 2 to 3 comes twice, each time as an hour of its own.
    let (first, second) = ("2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z");
    check(
        "Europe/Berlin",
        Unit::Hour,
        "2026-10-25T00:30:00Z",
        first,
        second,
    );
    check(
        "Europe/Berlin",
        Unit::Hour,
        "2026-10-25T01:30:00Z",
        second,
        "2026-10-25T02:00:00Z",
    );
    let buckets = |window: &Window, from: &str| -> usize {
        let (from, to) = window.counted(at(from));
        let halves = (from.micros()..to.micros()).step_by(1_800_000_000);
        let buckets = halves.map(|micros| window.bucket(Timestamp::from_micros(micros)));
        buckets.collect::<BTreeSet<_>>().len()
    };
    let day = Window::Calendar(Unit::Day, zone("Europe/Berlin"));
    assert_eq!((buckets(&day, spring), buckets(&day, autumn)), (23, 25));
}

#[test]
fn day_whose_midnight_is_left_out_begins_after_the_gap() {
    // Clocks went from 00:00 to 01:00.
    let (day, next) = ("2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z");
    check("America/Sao_Paulo", Unit::Day, day, day, next);
    check(
        "America/Sao_Paulo",
        Unit::Day,
        "2018-11-04T02:59:59Z",
        "2018-11-03T03:00:00Z",
        day,
    );
    // From 23:30 to 00:30: the day begins at 00:30, not at 01:00.
    let (day, next) = ("1919-03-31T04:30:00Z", "1919-04-01T04:00:00Z");
    check(
        "America/Toronto",
        Unit::Day,
        "1919-03-31T04:45:00Z",
        day,
        next,
    );
}

#[test]
fn day_that_is_shown_again_after_midnight_is_not_opened_again() {
    // Clocks went back from 00:01 to 23:01 of the day before.
    let (day, next) = ("2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z");
    check(
        "America/St_Johns",
        Unit::Day,
        "2010-11-07T02:29:59Z",
        "2010-11-06T02:30:00Z",
        day,
    );
    check(
        "America/St_Johns",
        Unit::Day,
        "2010-11-07T02:31:00Z",
        day,
        next,
    );
    check(
        "America/St_Johns",
        Unit::Day,
        "2010-11-07T03:30:00Z",
        day,
        next,
    );
}

#[test]
fn day_that_never_was_is_skipped() {
    let (from, to) = ("2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
    check("Pacific/Apia", Unit::Day, "2011-12-30T09:59:59Z", from, to);
    check("Pacific/Apia", Unit::Day, to, to, "2011-12-31T10:00:00Z");
    let (monday, next) = ("2011-12-26T10:00:00Z", "2012-01-01T10:00:00Z");
    check(
        "Pacific/Apia",
        Unit::Week,
        "2011-12-30T12:00:00Z",
        monday,
        next,
    );
}

#[test]
fn half_an_hour_left_out_or_repeated_cuts_its_hour() {
    let check = |now, from, to| check("Australia/Lord_Howe", Unit::Hour, now, from, to);
    // Forward from 02:00 to 02:30.
    let change = "2026-10-03T15:30:00Z";
    check("2026-10-03T15:29:00Z", "2026-10-03T14:30:00Z", change);
    check("2026-10-03T15:45:00Z", change, "2026-10-03T16:00:00Z");
    // Back from 02:00 to 01:30.
    let change = "2026-04-04T15:00:00Z";
    check("2026-04-04T14:45:00Z", "2026-04-04T14:00:00Z", change);
    check("2026-04-04T15:15:00Z", change, "2026-04-04T15:30:00Z");
}

#[test]
fn hours_of_kolkata_turn_at_half_past() {
    let (from, to) = ("2026-05-04T12:30:00Z", "2026-05-04T13:30:00Z");
    check("Asia/Kolkata", Unit::Hour, "2026-05-04T13:00:00Z", from, to);
}

#[test]
fn week_goes_from_monday_over_new_year() {
    let (monday, next) = ("2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z");
    check("UTC", Unit::Week, monday, monday, next);
    check("UTC", Unit::Week, "2027-01-03T23:59:59Z", monday, next);
}

#[test]
fn clock_that_was_a_year_ahead_leaves_calendar_windows_right() {
    let now = at("2026-05-04T12:00:00Z");
    for unit in UNITS {
        let window = Window::Calendar(unit, zone("Europe/Berlin"));
        let mut spent = Spent::default();
        for moment in [now, later(now, YEAR_US), later(now, SECOND_US)] {
            spent.add(window.bucket(moment), call());
        }
        let (from, to) = window.counted(later(now, SECOND_US));
        assert_eq!(spent.between(from, to).calls, 2, "{unit:?}");
        let (from, to) = window.counted(later(now, YEAR_US));
        assert_eq!(spent.between(from, to).calls, 1, "{unit:?}");
    }
}

#[test]
fn clock_that_was_ahead_makes_a_rolling_window_count_too_much_for_no_longer_than_its_length() {
    let length = HOUR_US;
    let window = Window::Rolling(length);
    let now = at("2026-05-04T12:00:00Z");
    assert!(!counts(&window, window.bucket(later(now, YEAR_US)), now));
    let ahead = window.bucket(later(now, length - 1));
    assert!(counts(&window, ahead, now));
    let too_long = later(now, 2 * length + step_width(length));
    assert!(!counts(&window, ahead, too_long));
    // Without the jump it would have counted until then, too: what is too much is its length.
    assert!(counts(
        &window,
        ahead,
        later(too_long, -2 * step_width(length))
    ));
}

#[test]
fn moments_beyond_all_calendars_are_answered() {
    for micros in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
        let now = Timestamp::from_micros(micros);
        for unit in UNITS {
            let window = Window::Calendar(unit, zone("Europe/Berlin"));
            assert!(window.bucket(now) <= now && window.counted(now).0 <= now);
            window.leaves_at(window.bucket(now));
        }
        for window in [Window::Total, Window::Rolling(90 * SECOND_US)] {
            window.leaves_at(window.bucket(now));
            window.counted(now);
        }
    }
}

#[test]
fn windows_are_shown_as_they_are_configured() {
    for (seconds, text) in [
        (1, "1s"),
        (90, "90s"),
        (900, "15m"),
        (7200, "2h"),
        (86_400, "1d"),
    ] {
        assert_eq!(Window::Rolling(seconds * SECOND_US).to_string(), text);
    }
    assert_eq!(Window::Total.to_string(), "total");
    assert_eq!(
        Window::Calendar(Unit::Week, TimeZone::UTC).to_string(),
        "week"
    );
}
