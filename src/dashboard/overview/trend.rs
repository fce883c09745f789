//! What was spent over time, in stacked columns: a click on one makes it the range.

use jiff::tz::TimeZone;
use maud::{Markup, html};
use strum::{EnumIter, IntoEnumIterator, IntoStaticStr};

use super::super::chart::{Bar, Columns, swatch};
use super::super::figure;
use super::super::here::Here;
use super::super::link;
use super::super::page::empty;
use super::super::table::{Cell, Column, Row, Table};
use super::super::text;
use super::cells::{self, all_tokens};
use super::tiles::nano;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::ledger::{By, Line, LineOf, Series, Totals};

/// Times below the columns, at most about.
const TIMES: u64 = 8;
/// What lies between two of them.
const ROUND_MINUTES: [u64; 16] = [
    1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080, 20_160, 40_320,
];
const DAY_US: u64 = 86_400_000_000;

/// `?by=`: what the columns are stacked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub(super) enum Split {
    #[default]
    Agent,
    Model,
    Upstream,
}

impl From<Split> for By {
    fn from(split: Split) -> Self {
        match split {
            Split::Agent => Self::Agent,
            Split::Model => Self::Model,
            Split::Upstream => Self::Upstream,
        }
    }
}

/// `?show=`: what the columns measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub(super) enum Measure {
    #[default]
    Cost,
    Calls,
    Tokens,
}

/// Reads one of a few words, or says which there are.
macro_rules! read_words {
    ($of:ty) => {
        impl std::str::FromStr for $of {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let word = |one: &Self| <&str>::from(*one);
                let found = Self::iter().find(|one| word(one) == text);
                found.ok_or_else(|| {
                    let words: Vec<_> = Self::iter().map(|one| word(&one)).collect();
                    format!("found `{text}`, expected one of {}", words.join(", "))
                })
            }
        }
    };
}
read_words!(Split);
read_words!(Measure);

impl Measure {
    fn of(self, totals: &Totals) -> u64 {
        match self {
            Self::Cost => nano(totals),
            Self::Calls => totals.calls,
            Self::Tokens => all_tokens(totals),
        }
    }

    fn unit(self) -> fn(u64) -> String {
        match self {
            Self::Cost => {
                |nano| figure::money(NanoUsd::new(i64::try_from(nano).unwrap_or(i64::MAX)))
            }
            Self::Calls | Self::Tokens => figure::short,
        }
    }

    /// As in `Spend over time`.
    fn title(self) -> &'static str {
        match self {
            Self::Cost => "Spend",
            Self::Calls => "Calls",
            Self::Tokens => "Tokens",
        }
    }
}

pub(super) fn draw(
    series: &Series,
    (split, measure): (Split, Measure),
    here: &Here,
    zone: &TimeZone,
) -> Markup {
    let whole = measure.of(&series.whole.figures.totals);
    html! {
        figure.trend {
            div.table-head {
                h2 { (measure.title()) " over time" }
                div.switches {
                    (switch(here, ("show", "What the chart shows"), measure))
                    (switch(here, ("by", "What it is told apart by"), split))
                }
            }
            @if series.whole.figures.totals.calls == 0 {
                (empty(&format!("No call ended in {}", here.range.words), &html! {
                    p { a href=(here.with(&[("range", Some("all")), ("since", None), ("until", None)])) { "Show all time" } }
                }))
            } @else if whole == 0 {
                (empty(&format!("{} of these calls: none known", measure.title()), &html! {
                    p { "Their models have no price: see " code { "[[price]]" } " in the config. "
                        a href=(here.with(&[("show", Some("tokens"))])) { "Show tokens" } }
                }))
            } @else {
                (columns(series, measure, here, zone))
                (legend(series, measure, split, here))
            }
        }
    }
}

/// Links that choose one of a few.
fn switch<T>(here: &Here, (name, label): (&str, &str), chosen: T) -> Markup
where
    T: IntoEnumIterator + PartialEq + Copy,
    &'static str: From<T>,
{
    html! {
        nav.range aria-label=(label) {
            span.muted { (name) }
            @for one in T::iter() {
                @let word = <&str>::from(one);
                a href=(here.with(&[(name, Some(word))])) aria-current=[(one == chosen).then_some("true")] { (word) }
            }
        }
    }
}

fn columns(series: &Series, measure: Measure, here: &Here, zone: &TimeZone) -> Markup {
    let bars: Vec<Bar> = series
        .buckets
        .iter()
        .enumerate()
        .map(|(number, bucket)| {
            let parts = series.lines.iter().map(|line| {
                let of = line.buckets.get(number);
                of.map_or(0, |figures| measure.of(&figures.totals))
            });
            let mut parts: Vec<u64> = parts.collect();
            if let (Some(last), true) = (parts.pop(), has_others(&series.lines)) {
                // All others have the last place in the stack, whatever there is of named ones.
                parts.resize(5, 0);
                parts.push(last);
            } else {
                parts = series
                    .lines
                    .iter()
                    .filter_map(|line| Some(measure.of(&line.buckets.get(number)?.totals)))
                    .collect();
            }
            let (since, until) = span(series, number);
            Bar {
                title: format!(
                    "{}: {} in {} calls",
                    span_words(since, until, series.step_us, zone),
                    measure.unit()(measure.of(&bucket.totals)),
                    figure::count(bucket.totals.calls)
                ),
                href: zoom(here, since, until),
                parts,
            }
        })
        .collect();
    let most = series
        .buckets
        .iter()
        .map(|bucket| measure.of(&bucket.totals))
        .max();
    let title = format!(
        "{} over {}: {} in all, at most {} in {}",
        measure.title(),
        here.range.words,
        measure.unit()(measure.of(&series.whole.figures.totals)),
        measure.unit()(most.unwrap_or(0)),
        figure::duration(series.step_us),
    );
    let chart = Columns {
        id: "trend-chart",
        title: &title,
        bars,
        times: times(series, zone),
        unit: measure.unit(),
    };
    chart.draw()
}

fn has_others(lines: &[Line]) -> bool {
    lines.last().is_some_and(|line| line.of == LineOf::Others)
}

fn legend(series: &Series, measure: Measure, split: Split, here: &Here) -> Markup {
    let word = <&str>::from(split);
    html! {
        ul.legend {
            @for (number, line) in series.lines.iter().enumerate() {
                li {
                    (swatch(if line.of == LineOf::Others { 5 } else { number }))
                    @match &line.of {
                        LineOf::Named(name) if split == Split::Agent => {
                            a href=(here.at("/graph", [("agent", name.as_str())])) { (text::name(name.as_str())) }
                        }
                        LineOf::Named(name) => (text::name(name.as_str())),
                        LineOf::Unnamed => { span.muted { "no " (word) " named" } },
                        LineOf::Others => { span.muted { "all others" } },
                    }
                    " "
                    span.muted { (measure.unit()(measure.of(&line.whole.totals))) }
                }
            }
        }
    }
}

/// The first moment of a bucket, and the first after it.
fn span(series: &Series, number: usize) -> (Timestamp, Timestamp) {
    let since = series
        .since
        .plus_micros(series.step_us.saturating_mul(number as u64));
    (since, since.plus_micros(series.step_us))
}

fn zoom(here: &Here, since: Timestamp, until: Timestamp) -> String {
    let iso = |at| figure::local(at, &TimeZone::UTC, "%Y-%m-%dT%H:%M:%SZ");
    here.with(&[
        ("range", None),
        ("since", Some(&iso(since))),
        ("until", Some(&iso(until))),
    ])
}

fn span_words(since: Timestamp, until: Timestamp, step_us: u64, zone: &TimeZone) -> String {
    if step_us.is_multiple_of(DAY_US) {
        return format!("{} (UTC)", figure::local(since, &TimeZone::UTC, "%a %b %d"));
    }
    let from = figure::local(since, zone, "%b %d %H:%M");
    format!("{from} to {}", figure::local(until, zone, "%H:%M"))
}

/// Which times stand below which columns: round ones.
fn times(series: &Series, zone: &TimeZone) -> Vec<(usize, String)> {
    let length = series.until.micros_since(series.since);
    let round = ROUND_MINUTES.iter().map(|minutes| minutes * 60_000_000);
    let round = round.filter(|round| round.is_multiple_of(series.step_us));
    let every = round.into_iter().find(|round| length / round <= TIMES);
    let every = every
        .unwrap_or_else(|| series.step_us * (series.buckets.len() as u64).div_ceil(TIMES).max(1));
    let is_days = every.is_multiple_of(DAY_US);
    // One at the right end would stand out of the chart.
    let last = series.buckets.len() * 19 / 20;
    let starts =
        (0..series.buckets.len().min(last + 1)).map(|number| (number, span(series, number).0));
    let stands = |at: Timestamp| {
        u64::try_from(at.micros())
            .unwrap_or(0)
            .is_multiple_of(every)
    };
    let word = |at: Timestamp| {
        if is_days {
            figure::local(at, &TimeZone::UTC, "%b %d")
        } else if length > DAY_US {
            figure::local(at, zone, "%b %d %H:%M")
        } else {
            figure::local(at, zone, "%H:%M")
        }
    };
    let round: Vec<_> = starts
        .filter(|(_, at)| stands(*at))
        .map(|(number, at)| (number, word(at)))
        .collect();
    if round.is_empty() {
        return vec![(0, word(series.since))];
    }
    round
}

const COLUMNS: [Column; 5] = [
    Column::text("since", "From"),
    Column::number("cost_usd", "Spend"),
    Column::number("calls", "Calls"),
    Column::number("tokens", "Tokens"),
    Column::number("failed", "Failed"),
];

/// The chart's data; stretches of time without calls are left out.
pub(super) fn table(series: &Series, here: &Here, zone: &TimeZone) -> Table {
    let there = series.buckets.iter().enumerate();
    let there = there.filter(|(_, bucket)| bucket.totals.calls > 0);
    let row = |(number, bucket): (usize, &crate::ledger::Figures)| {
        let (since, until) = span(series, number);
        let totals = &bucket.totals;
        let words = span_words(since, until, series.step_us, zone);
        Row {
            key: link::encode(&since.micros().to_string()),
            class: "",
            cells: vec![
                Cell::new(
                    since.to_string(),
                    html! { a href=(zoom(here, since, until)) { (words) } },
                ),
                cells::spent(totals),
                cells::count(totals.calls),
                cells::count(all_tokens(totals)),
                cells::failed(totals),
            ],
        }
    };
    Table {
        name: "trend",
        caption: format!("Over time, by {}", figure::duration(series.step_us)),
        columns: &COLUMNS,
        rows: there.map(row).collect(),
        more: None,
        empty: html! { p.muted { "No call ended in " (here.range.words) "." } },
    }
}
