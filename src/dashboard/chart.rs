//! Charts as SVG: geometry in attributes, colours by class, so that both themes share one drawing.

use std::fmt::Write as _;

use maud::{Markup, html};

/// The area of a chart of columns, in its own units.
const WIDTH: u64 = 1120;
const HEIGHT: u64 = 220;
/// Left of it the figures of the axis, below it the times.
const LEFT: u64 = 64;
const BELOW: u64 = 24;
const ABOVE: u64 = 8;

/// A sparkline's.
const SPARK_WIDTH: u64 = 160;
const SPARK_HEIGHT: u64 = 28;

/// Lines of an axis above zero, at most.
const LINES: u64 = 4;

/// Stacked columns over time.
pub(super) struct Columns<'a> {
    /// Unique on the page.
    pub(super) id: &'a str,
    /// What the chart shows, as a finding.
    pub(super) title: &'a str,
    pub(super) bars: Vec<Bar>,
    /// Below which bar stands which time.
    pub(super) times: Vec<(usize, String)>,
    /// How a value of the axis reads.
    pub(super) unit: fn(u64) -> String,
}

/// One column.
pub(super) struct Bar {
    /// What it is of and what it amounts to.
    pub(super) title: String,
    /// Where a click leads.
    pub(super) href: String,
    /// From the bottom up; each place has the same meaning in every bar.
    pub(super) parts: Vec<u64>,
}

impl Bar {
    fn total(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |sum, part| sum.saturating_add(*part))
    }
}

impl Columns<'_> {
    pub(super) fn draw(&self) -> Markup {
        let most = self.bars.iter().map(Bar::total).max().unwrap_or(0);
        let lines = ticks(most);
        let top = lines.last().copied().unwrap_or(1).max(most).max(1);
        let view = format!("0 0 {} {}", LEFT + WIDTH, ABOVE + HEIGHT + BELOW);
        let title = format!("{}-title", self.id);
        // A group and no image: what is in an image cannot be clicked by everybody.
        html! {
            svg.columns-chart viewBox=(view) role="group" aria-labelledby=(title) {
                title id=(title) { (self.title) }
                @for line in &lines {
                    @let y = ABOVE + HEIGHT - scaled(*line, top, HEIGHT);
                    line.grid x1=(LEFT) x2=(LEFT + WIDTH) y1=(y) y2=(y) {}
                    text.muted x=(LEFT - 8) y=(y + 4) text-anchor="end" { ((self.unit)(*line)) }
                }
                line.axis x1=(LEFT) x2=(LEFT + WIDTH) y1=(ABOVE + HEIGHT) y2=(ABOVE + HEIGHT) {}
                @for (number, bar) in self.bars.iter().enumerate() { (self.bar(number, bar, top)) }
                @for (number, time) in &self.times {
                    text.muted x=(LEFT + self.left(*number)) y=(ABOVE + HEIGHT + 18) { (time) }
                }
            }
        }
    }

    /// Where a bar begins.
    fn left(&self, number: usize) -> u64 {
        scaled(number as u64, self.bars.len().max(1) as u64, WIDTH)
    }

    fn bar(&self, number: usize, bar: &Bar, top: u64) -> Markup {
        let (left, right) = (self.left(number), self.left(number + 1));
        let width = right - left;
        let gap = u64::from(width > 3);
        let mut below = 0;
        let mut parts = Vec::new();
        for (place, part) in bar.parts.iter().enumerate() {
            let from = scaled(below, top, HEIGHT);
            below = below.saturating_add(*part);
            let to = scaled(below, top, HEIGHT);
            // What is there is seen, however little it is.
            let height = (to - from).max(u64::from(*part > 0));
            parts.push((place, ABOVE + HEIGHT - from - height, height));
        }
        html! {
            // The table below has the same links for those who go by keys.
            a.bar href=(bar.href) tabindex="-1" {
                title { (bar.title) }
                rect.hit x=(LEFT + left) y=(ABOVE) width=(width) height=(HEIGHT) {}
                @for (place, y, height) in parts {
                    @if height > 0 {
                        rect class=(stack(place)) x=(LEFT + left + gap) y=(y) width=(width.saturating_sub(2 * gap).max(1)) height=(height.saturating_sub(u64::from(height > 3))) {}
                    }
                }
            }
        }
    }
}

/// The class of a place in a stack.
fn stack(place: usize) -> String {
    format!("stack-{}", place.min(5))
}

/// A mark in the colour of a place in a stack, for legends.
pub(super) fn swatch(place: usize) -> Markup {
    html! {
        svg.swatch viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" {
            rect class=(stack(place)) width="12" height="12" {}
        }
    }
}

/// A small line: how something went. Where nothing is known there is a gap.
pub(super) fn sparkline(values: &[Option<u64>], title: &str) -> Markup {
    let top = values.iter().flatten().max().copied().unwrap_or(0).max(1);
    let last = values.len().saturating_sub(1).max(1) as u64;
    let mut path = String::new();
    let mut is_down = false;
    for (number, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_down = false;
            continue;
        };
        let (x, y) = (
            scaled(number as u64, last, SPARK_WIDTH),
            SPARK_HEIGHT - 1 - scaled(*value, top, SPARK_HEIGHT - 2),
        );
        _ = write!(path, "{}{x} {y}", if is_down { "L" } else { "M" });
        // A lone point is a line to itself.
        if !is_down {
            _ = write!(path, "L{x} {y}");
        }
        is_down = true;
    }
    html! {
        svg.spark viewBox=(format!("0 0 {SPARK_WIDTH} {SPARK_HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(title) {
            title { (title) }
            path d=(path) {}
        }
    }
}

/// `value` of `top`, as so many of `size`.
pub(super) fn scaled(value: u64, top: u64, size: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(size) / u128::from(top.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX).min(size)
}

/// Round values of an axis from above zero to `most` or just above: 1, 2 or 5 times a power of ten
/// apart, four or fewer.
pub(super) fn ticks(most: u64) -> Vec<u64> {
    if most == 0 {
        return Vec::new();
    }
    let mut unit = 1_u64;
    loop {
        for step in [1, 2, 5] {
            let step = unit.saturating_mul(step);
            let lines = most.div_ceil(step);
            if lines <= LINES {
                return (1..=lines).map(|line| line.saturating_mul(step)).collect();
            }
        }
        unit = unit.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_axis_has_few_round_values_and_reaches_over_the_highest(most in 1..u64::MAX) {
            let ticks = ticks(most);
            prop_assert!((1..=4).contains(&ticks.len()));
            prop_assert!(*ticks.last().unwrap() >= most);
            let digits = ticks[0].to_string();
            prop_assert!(["1", "2", "5"].contains(&digits.trim_end_matches('0')), "{digits}");
        }

        #[test]
        fn columns_stay_within_their_area_and_what_is_there_is_seen(
            parts in prop::collection::vec(prop::collection::vec(any::<u64>(), 1..6), 1..80),
        ) {
            let bars = parts.iter().map(|parts| Bar {
                title: "t".to_owned(),
                href: "/".to_owned(),
                parts: parts.clone(),
            });
            let chart = Columns {
                id: "c",
                title: "x",
                bars: bars.collect(),
                times: Vec::new(),
                unit: |value| value.to_string(),
            };
            let html = chart.draw().into_string();
            let seen = html.matches("class=\"stack-").count();
            let there = parts.iter().flatten().filter(|part| **part > 0).count();
            prop_assert!(seen >= there, "{seen} of {there}");
            for y in html.split(" y=\"").skip(1) {
                let y: u64 = y.split('"').next().unwrap().parse().unwrap();
                prop_assert!(y <= ABOVE + HEIGHT + BELOW);
            }
        }
    }

    #[test]
    fn an_axis_of_nothing_has_no_lines() {
        assert_eq!(ticks(0), Vec::<u64>::new());
        assert_eq!(ticks(7), [2, 4, 6, 8]);
    }

    #[test]
    fn a_sparkline_has_gaps_where_nothing_is_known() {
        let html = sparkline(&[Some(1), Some(2), None, Some(0)], "t").into_string();
        assert_eq!(html.matches('M').count(), 2, "{html}");
    }
}
