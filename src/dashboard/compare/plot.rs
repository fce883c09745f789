//! Differences as dots with their intervals, in percent of A, so that all share one axis.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "places on a chart, within its bounds"
)]

use maud::{Markup, html};

use crate::core::compare::{Compared, Verdict};

const LEFT: u64 = 260;
const WIDTH: u64 = 760;
const ROW: u64 = 28;
const ABOVE: u64 = 12;
const BELOW: u64 = 28;

/// The widest axis, as a share of A: what goes beyond ends at its edge.
const WIDEST: f64 = 2.0;

/// One line of the plot, in shares of A.
struct Line<'a> {
    of: &'a Compared,
    at: f64,
    low: f64,
    high: f64,
}

impl<'a> Line<'a> {
    /// None where there is no interval, or A is zero.
    fn new(of: &'a Compared) -> Option<Self> {
        let base = of.a.value.filter(|value| *value > 0.0)?;
        Some(Self {
            of,
            at: of.difference? / base,
            low: of.low? / base,
            high: of.high? / base,
        })
    }

    fn words(&self) -> String {
        let percent = |share: f64| format!("{:+.0} %", share * 100.0);
        format!(
            "{}: {}, 95 % interval {} to {}",
            self.of.title,
            percent(self.at),
            percent(self.low),
            percent(self.high)
        )
    }
}

pub(super) fn draw(measures: &[Compared]) -> Markup {
    let lines: Vec<Line<'_>> = measures.iter().filter_map(Line::new).collect();
    if lines.is_empty() {
        return html! {};
    }
    let reach = |line: &Line<'_>| line.low.abs().max(line.high.abs());
    let most = lines.iter().map(reach).fold(0.1, f64::max).min(WIDEST);
    let bottom = ABOVE + ROW * lines.len() as u64;
    let view = format!("0 0 {} {}", LEFT + WIDTH + 16, bottom + BELOW);
    let ends = [(-most, "start"), (0.0, "middle"), (most, "end")];
    html! {
        section {
            h2 { "Difference of B, in percent of A" }
            svg.intervals viewBox=(view) role="img" aria-labelledby="intervals-title" {
                title id="intervals-title" { (finding(&lines)) }
                line.axis x1=(place(0.0, most)) x2=(place(0.0, most)) y1=(ABOVE) y2=(bottom) {}
                @for (number, line) in lines.iter().enumerate() {
                    (row(line, ABOVE + ROW * number as u64 + ROW / 2, most))
                }
                @for (share, anchor) in ends {
                    text.muted x=(place(share, most)) y=(bottom + 20) text-anchor=(anchor) { (format!("{:+.0} %", share * 100.0)) }
                }
            }
            p.muted { "A dot is the difference, its line the 95 % interval. A line that crosses zero shows no difference." }
        }
    }
}

fn row(line: &Line<'_>, y: u64, most: f64) -> Markup {
    let (low, at, high) = (
        place(line.low, most),
        place(line.at, most),
        place(line.high, most),
    );
    let class = match line.of.verdict {
        Verdict::Lower | Verdict::Higher => "shown",
        _ => "unsure",
    };
    html! {
        g class=(class) {
            title { (line.words()) }
            text x=(LEFT - 12) y=(y + 4) text-anchor="end" { (line.of.title) }
            line.interval x1=(low) x2=(high.max(low + 1)) y1=(y) y2=(y) {}
            circle cx=(at) cy=(y) r="5" {}
        }
    }
}

/// Where a share of A stands on an axis from `-most` to `most`.
fn place(share: f64, most: f64) -> u64 {
    let within = f64::midpoint(share.clamp(-most, most) / most, 1.0);
    LEFT + (within * WIDTH as f64).round() as u64
}

fn finding(lines: &[Line<'_>]) -> String {
    let words: Vec<String> = lines.iter().map(Line::words).collect();
    words.join("; ")
}
