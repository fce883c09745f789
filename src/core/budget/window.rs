//! The time a budget is for: from when to when what was spent counts.
//!
//! What is spent is kept in buckets finer than the window, so that a rule can get another window
//! and keep what was spent.

use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneTransition};
use jiff::{ToSpan, Zoned};

use super::super::time::Timestamp;

const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3600 * SECOND_US;
const DAY_US: i64 = 24 * HOUR_US;
/// Steps in which a rolling window moves on.
const STEPS: i64 = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// All time.
    Total,
    /// The last so many microseconds, in 60 steps: what was spent counts until the whole step it
    /// fell into has left the window.
    Rolling(i64),
    /// From one turn of a calendar unit to the next.
    Calendar(Unit, TimeZone),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Unit {
    Hour,
    Day,
    /// From Monday on (ISO 8601).
    Week,
    Month,
}

impl Window {
    /// The start of the bucket that a charge at `at` belongs to.
    pub fn bucket(&self, at: Timestamp) -> Timestamp {
        let step = |from: i64, width: i64| {
            let since = at.micros().saturating_sub(from);
            Timestamp::from_micros(
                from.saturating_add(since.div_euclid(width).saturating_mul(width)),
            )
        };
        match self {
            Self::Total => step(0, DAY_US),
            Self::Rolling(length) => step(0, step_width(*length)),
            Self::Calendar(unit, zone) => {
                let (from, _) = turns(*unit, zone, at);
                let width = match unit {
                    Unit::Hour | Unit::Day => HOUR_US,
                    Unit::Week | Unit::Month => DAY_US,
                };
                step(from.micros(), width)
            }
        }
    }

    /// Buckets that start from the first moment on and before the second one count at `now`.
    ///
    /// A rolling window counts what lies ahead of `now` too, when a clock went back, but for no
    /// longer than its own length.
    pub fn counted(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        match self {
            Self::Total => (
                Timestamp::from_micros(i64::MIN),
                Timestamp::from_micros(i64::MAX),
            ),
            Self::Rolling(length) => {
                let whole_step = length.saturating_add(step_width(*length)) - 1;
                let from = now.micros().saturating_sub(whole_step);
                let to = now.micros().saturating_add(*length);
                (Timestamp::from_micros(from), Timestamp::from_micros(to))
            }
            Self::Calendar(unit, zone) => turns(*unit, zone, now),
        }
    }

    /// When nothing of what counts at `now` will count any more: the next turn of the calendar, or
    /// the moment the bucket of `now` leaves. None when that is never.
    pub fn resets_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Total => None,
            Self::Rolling(_) => Some(self.leaves_at(self.bucket(now))),
            Self::Calendar(unit, zone) => Some(turns(*unit, zone, now).1),
        }
    }

    /// When the bucket that starts at `bucket` no longer counts.
    pub fn leaves_at(&self, bucket: Timestamp) -> Timestamp {
        match self {
            Self::Total => Timestamp::from_micros(i64::MAX),
            Self::Rolling(length) => {
                let after = length.saturating_add(step_width(*length));
                Timestamp::from_micros(bucket.micros().saturating_add(after))
            }
            Self::Calendar(unit, zone) => turns(*unit, zone, bucket).1,
        }
    }
}

fn step_width(length: i64) -> i64 {
    (length / STEPS).max(1)
}

/// The turns of the calendar around a moment: the last one at or before it and the next one.
fn turns(unit: Unit, zone: &TimeZone, at: Timestamp) -> (Timestamp, Timestamp) {
    around(unit, zone, at).unwrap_or_else(|_| {
        // Beyond the years that calendars know.
        let far = Timestamp::from_micros(i64::MAX);
        (at.min(far), far)
    })
}

fn around(
    unit: Unit,
    zone: &TimeZone,
    at: Timestamp,
) -> Result<(Timestamp, Timestamp), jiff::Error> {
    let now = jiff::Timestamp::from_microsecond(at.micros())?.to_zoned(zone.clone());
    if unit == Unit::Hour {
        return hours(&now);
    }
    let (first, next) = dates(unit, now.date())?;
    let (from, to) = (start_of_day(first, zone)?, start_of_day(next, zone)?);
    if at < to {
        return Ok((from, to));
    }
    // Clocks that were set back over midnight show the day before again.
    let (_, after) = dates(unit, next)?;
    Ok((to, start_of_day(after, zone)?))
}

/// The first date of the unit that `date` is in, and that of the next one.
fn dates(unit: Unit, date: Date) -> Result<(Date, Date), jiff::Error> {
    Ok(match unit {
        Unit::Week => {
            let monday = date.tomorrow()?.nth_weekday(-1, Weekday::Monday)?;
            (monday, monday.checked_add(7.days())?)
        }
        Unit::Month => {
            let first = date.first_of_month();
            (first, first.checked_add(1.month())?)
        }
        Unit::Hour | Unit::Day => (date, date.tomorrow()?),
    })
}

/// Hours of the clock on the wall. One that is repeated counts anew; half an hour that is left out
/// or repeated cuts its hour.
fn hours(now: &Zoned) -> Result<(Timestamp, Timestamp), jiff::Error> {
    let into = i64::from(now.minute()) * 60 * SECOND_US
        + i64::from(now.second()) * SECOND_US
        + i64::from(now.subsec_nanosecond()) / 1000;
    let at = now.timestamp().as_microsecond();
    let (from, to) = (at - into, at - into + HOUR_US);
    let zone = now.time_zone();
    let just_after = jiff::Timestamp::from_microsecond(at + 1)?;
    let last = zone
        .preceding(just_after)
        .next()
        .and_then(|t| cut(zone, &t));
    let next = zone
        .following(now.timestamp())
        .next()
        .and_then(|t| cut(zone, &t));
    Ok((
        Timestamp::from_micros(last.map_or(from, |last| last.max(from))),
        Timestamp::from_micros(next.map_or(to, |next| next.min(to))),
    ))
}

/// The moment of a change of the clock after which hours begin at another moment.
fn cut(zone: &TimeZone, change: &TimeZoneTransition<'_>) -> Option<i64> {
    let at = change.timestamp().as_microsecond();
    let before = jiff::Timestamp::from_microsecond(at - 1).ok()?;
    let shift = change.offset().seconds() - zone.to_offset(before).seconds();
    (shift % 3600 != 0).then_some(at)
}

/// Where clocks are set forward over midnight, the day begins with that.
fn start_of_day(date: Date, zone: &TimeZone) -> Result<Timestamp, jiff::Error> {
    let midnight = zone.to_ambiguous_timestamp(date.to_datetime(Time::midnight()));
    let is_skipped = matches!(midnight.offset(), AmbiguousOffset::Gap { .. });
    let mut start = midnight.compatible()?;
    if is_skipped {
        let just_after = start.checked_add(1.microsecond())?;
        let change = zone.preceding(just_after).next();
        start = change.map_or(start, |change| change.timestamp());
    }
    Ok(Timestamp::from_micros(start.as_microsecond()))
}

impl fmt::Display for Window {
    /// As it is configured: `total`, `15m`, `day`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total => f.write_str("total"),
            Self::Calendar(unit, _) => f.write_str(unit.into()),
            Self::Rolling(length) => {
                let seconds = length / SECOND_US;
                for (unit, size) in [("d", 86_400), ("h", 3600), ("m", 60)] {
                    if seconds >= size && seconds % size == 0 {
                        return write!(f, "{}{unit}", seconds / size);
                    }
                }
                write!(f, "{seconds}s")
            }
        }
    }
}

#[cfg(test)]
mod tests;
