//! What a comparison says, in plain words.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people are rounded, and never negative where their sign is taken off"
)]

use super::{Arm, Compared, Comparison, FEW, Unit, Verdict};
use crate::core::money::NanoUsd;
use crate::core::text;

/// Differences that a sentence tells; the table has them all.
const TOLD: usize = 4;

/// A figure in its unit: `$0.02`, `1.20 s`, `12.3`, `45.0 %`.
pub fn spoken(unit: Unit, value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    let size = value.abs();
    match unit {
        Unit::NanoUsd => money(value),
        Unit::Us => format!("{sign}{}", duration(size)),
        Unit::Count if size < 100.0 => format!("{value:.1}"),
        Unit::Count => format!("{sign}{}", text::grouped(size.round() as u64)),
        Unit::Share => format!("{:.1} %", value * 100.0),
        Unit::Number if size >= 1000.0 => format!("{sign}{}", text::grouped(size.round() as u64)),
        Unit::Number => format!("{value:.3}"),
    }
}

/// A difference, with its sign; of shares in points of percent.
pub fn signed(unit: Unit, value: f64) -> String {
    let plus = if value > 0.0 { "+" } else { "" };
    match unit {
        Unit::Share => format!("{plus}{:.1} points", value * 100.0),
        _ => format!("{plus}{}", spoken(unit, value)),
    }
}

/// Differences may be far below what a call costs: two digits of them are told however small they are.
fn money(nano: f64) -> String {
    let size = nano.abs().round();
    if !(1.0..100_000.0).contains(&size) {
        return NanoUsd::new(nano.round() as i64).brief();
    }
    let step = 10_f64.powf((size.log10().floor() - 1.0).max(0.0));
    NanoUsd::new(((nano / step).round() * step) as i64).to_string()
}

fn duration(micros: f64) -> String {
    let millis = micros / 1000.0;
    let seconds = millis / 1000.0;
    match seconds {
        _ if micros == 0.0 => "0 s".to_owned(),
        _ if millis < 1.0 => format!("{micros:.0} us"),
        _ if seconds < 1.0 => format!("{millis:.0} ms"),
        _ if seconds < 60.0 => format!("{seconds:.2} s"),
        _ => {
            let whole = seconds as u64;
            match whole {
                0..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
                _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
            }
        }
    }
}

/// What all of it comes to.
pub(super) fn sentence(of: &Comparison) -> String {
    if !of.partial {
        return of_all(of);
    }
    let has_both = [&of.a, &of.b]
        .into_iter()
        .flatten()
        .filter(|arm| arm.runs > 0)
        .count()
        == 2;
    if !has_both {
        return "There is more than is read, and the newest come first, so that an arm may be read in part \
                or not at all: choose a shorter span."
            .to_owned();
    }
    let newest = if of.by == "time" {
        "Of the newest in each span"
    } else {
        "Of the newest"
    };
    format!("{newest}, which is all that is read: {}", of_all(of))
}

fn of_all(of: &Comparison) -> String {
    let (Some(a), Some(b)) = (&of.a, &of.b) else {
        return nothing(of);
    };
    if a.name == b.name {
        return format!("{} is compared with itself: name another arm.", a.name);
    }
    if let Some(missing) = [a, b].into_iter().find(|arm| arm.runs == 0) {
        return format!("There is no run of {} to compare.", missing.name);
    }
    if of.by == "run" {
        return format!(
            "One run each: {} and {} side by side. A single run has no interval, and what differs \
             between two may be chance.",
            a.name, b.name
        );
    }
    let few = |arm: &Arm| arm.runs < FEW as u64;
    if few(a) || few(b) {
        return format!(
            "Too few runs to conclude anything: {} has {}, {} has {}, and below {FEW} of each a \
             difference may well be chance.",
            a.name, a.runs, b.name, b.runs
        );
    }
    let told = differences(&of.measures);
    let runs = format!(
        "{} against {} ({} and {} runs)",
        b.name, a.name, b.runs, a.runs
    );
    if told.is_empty() {
        return format!(
            "{runs}: no difference is shown. That is not to say that there is none: it may be \
             smaller than so many runs can show."
        );
    }
    format!(
        "{runs}: {}. In all else no difference is shown.",
        told.join("; ")
    )
}

fn nothing(of: &Comparison) -> String {
    match (&of.a, &of.b) {
        (Some(only), None) | (None, Some(only)) => {
            let runs = if only.runs == 1 { "run" } else { "runs" };
            format!(
                "Only one arm was found, {} with {} {runs}: there is nothing to compare it with.",
                only.name, only.runs
            )
        }
        _ => format!("No run names its {}: there is nothing to compare.", of.by),
    }
}

fn differences(measures: &[Compared]) -> Vec<String> {
    let is_told = |it: &&Compared| matches!(it.verdict, Verdict::Lower | Verdict::Higher);
    let all: Vec<&Compared> = measures.iter().filter(is_told).collect();
    let mut told: Vec<String> = all.iter().take(TOLD).map(|it| difference(it)).collect();
    if all.len() > TOLD {
        let rest: Vec<&str> = all.iter().skip(TOLD).map(|it| it.title.as_str()).collect();
        let differ = if rest.len() == 1 && !is_many(rest.concat().as_str()) {
            "differs"
        } else {
            "differ"
        };
        told.push(format!("{} {differ}, too", rest.join(", ")));
    }
    told
}

fn is_many(title: &str) -> bool {
    title.ends_with("tokens") || title == "calls"
}

/// `cost is lower by $0.01 (95 % interval -$0.02 to -$0.0080)`
fn difference(of: &Compared) -> String {
    let word = if of.verdict == Verdict::Lower {
        "lower"
    } else {
        "higher"
    };
    let by = of.difference.unwrap_or(0.0).abs();
    let by = match of.unit {
        Unit::Share => format!("{:.1} points", by * 100.0),
        unit => spoken(unit, by),
    };
    let is = if is_many(&of.title) { "are" } else { "is" };
    let interval = of.low.zip(of.high).map_or_else(String::new, |(low, high)| {
        let unit = of.unit;
        format!(
            " (95 % interval {} to {})",
            signed(unit, low),
            signed(unit, high)
        )
    });
    format!("{} {is} {word} by {by}{interval}", of.title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_in_their_unit_however_small() {
        for (unit, value, text) in [
            (Unit::NanoUsd, 28_123.0, "$0.000028"),
            (Unit::NanoUsd, -7.0, "-$0.000000007"),
            (Unit::NanoUsd, 0.2, "$0"),
            (Unit::NanoUsd, 1_204_000_000.0, "$1.20"),
            (Unit::Us, 240.0, "240 us"),
            (Unit::Us, 125_000_000.0, "2 min 05 s"),
            (Unit::Count, 3.96, "4.0"),
            (Unit::Count, -1234.4, "-1,234"),
            (Unit::Share, 0.545, "54.5 %"),
            (Unit::Number, 0.4659, "0.466"),
        ] {
            assert_eq!(spoken(unit, value), text);
        }
        assert_eq!(signed(Unit::Share, -0.12), "-12.0 points");
        assert_eq!(signed(Unit::Count, 2.0), "+2.0");
    }
}
