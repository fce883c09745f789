//! The five figures at the top, each with how it went and how it was before.

use std::cmp::Ordering;

use maud::{Markup, html};

use super::super::chart::sparkline;
use super::super::desk::Desk;
use super::super::figure;
use super::super::here::Here;
use super::cells::all_tokens;
use crate::core::money::NanoUsd;
use crate::ledger::{Figures, Series, Totals};

/// One of them.
struct Tile {
    name: &'static str,
    number: Markup,
    more: Markup,
    /// What the line shows, bucket by bucket.
    line: Vec<Option<u64>>,
    /// Against the span before; none where there is nothing to compare.
    change: Option<(u64, u64)>,
    /// Less of it is better.
    is_burden: bool,
    href: String,
}

pub(super) fn draw(series: &Series, desk: &Desk, here: &Here) -> Markup {
    let tiles = [
        spend(series, here),
        calls(series, here),
        tokens(series, here),
        latency(series, here),
        failed(series, desk, here),
    ];
    html! {
        div.tiles { @for tile in &tiles { (tile.draw(here)) } }
    }
}

impl Tile {
    fn draw(&self, here: &Here) -> Markup {
        let title = format!("{} over {}", self.name, here.range.words);
        html! {
            a.tile href=(self.href) {
                div.tile-name { (self.name) }
                div.tile-number { (self.number) }
                (sparkline(&self.line, &title))
                div.tile-more { (self.more) }
                div.tile-more { (self.change(here)) }
            }
        }
    }

    fn change(&self, here: &Here) -> Markup {
        let before = match &here.range.since {
            None => return html! { "since ever" },
            Some(_) => "the span before",
        };
        let Some((now, then)) = self.change else {
            return html! { "no calls in " (before) };
        };
        let (mark, class) = match now.cmp(&then) {
            Ordering::Equal => return html! { "as in " (before) },
            Ordering::Greater => ("\u{2191}", self.is_burden.then_some("up")),
            Ordering::Less => ("\u{2193}", self.is_burden.then_some("down")),
        };
        let amount = if then == 0 {
            "from 0".to_owned()
        } else if now / then >= 10 {
            format!("{} times", figure::count(now / then))
        } else {
            figure::percent(now.abs_diff(then), then)
        };
        html! { span class=[class] { (mark) " " (amount) } " against " (before) }
    }
}

/// Something of each bucket.
fn line(series: &Series, of: impl Fn(&Figures) -> Option<u64>) -> Vec<Option<u64>> {
    series.buckets.iter().map(of).collect()
}

fn compared(series: &Series, of: impl Fn(&Figures) -> Option<u64>) -> Option<(u64, u64)> {
    let before = &series.before.figures;
    let now = of(&series.whole.figures)?;
    (before.totals.calls > 0).then_some((now, of(before)?))
}

pub(super) fn nano(totals: &Totals) -> u64 {
    u64::try_from(totals.cost_nano_usd).unwrap_or(0)
}

fn spend(series: &Series, here: &Here) -> Tile {
    let totals = &series.whole.figures.totals;
    let known = NanoUsd::new(totals.cost_nano_usd);
    let of = |figures: &Figures| Some(nano(&figures.totals));
    Tile {
        name: "Spend",
        number: figure::spent(known, totals.unpriced_calls, totals.calls),
        more: html! {
            @if totals.unpriced_calls > 0 {
                (figure::count(totals.unpriced_calls)) " calls unpriced"
            } @else if totals.calls > 0 {
                (figure::money(NanoUsd::new(totals.cost_nano_usd / i64::try_from(totals.calls).unwrap_or(i64::MAX)))) " a call"
            } @else { "no calls" }
        },
        line: line(series, of),
        change: compared(series, of),
        is_burden: false,
        href: here.at("/runs", []),
    }
}

fn calls(series: &Series, here: &Here) -> Tile {
    let totals = &series.whole.figures.totals;
    let of = |figures: &Figures| Some(figures.totals.calls);
    Tile {
        name: "Calls",
        number: html! { span title=(figure::count(totals.calls)) { (figure::short(totals.calls)) } },
        more: html! { (figure::count(totals.calls)) " ended" },
        line: line(series, of),
        change: compared(series, of),
        is_burden: false,
        href: here.at("/runs", []),
    }
}

fn tokens(series: &Series, here: &Here) -> Tile {
    let totals = &series.whole.figures.totals;
    let cached = totals.cache_read_input_tokens;
    let new = totals.input_tokens.saturating_sub(cached);
    let of = |figures: &Figures| Some(all_tokens(&figures.totals));
    let exact = format!(
        "{} new input, {} cached input, {} output",
        figure::count(new),
        figure::count(cached),
        figure::count(totals.output_tokens)
    );
    Tile {
        name: "Tokens",
        number: html! { span title=(exact) { (figure::short(all_tokens(totals))) } },
        more: html! {
            (figure::short(new)) " new, " (figure::short(cached)) " cached, " (figure::short(totals.output_tokens)) " out"
        },
        line: line(series, of),
        change: compared(series, of),
        is_burden: false,
        href: here.at("/runs", []),
    }
}

fn latency(series: &Series, here: &Here) -> Tile {
    let figures = &series.whole.figures;
    let time = |micros: Option<u64>| micros.map_or_else(|| "-".to_owned(), figure::duration);
    let of = |figures: &Figures| figures.duration.p95_us;
    Tile {
        name: "Latency p95",
        number: html! { (time(figures.duration.p95_us)) },
        more: html! {
            @if figures.duration.p95_us.is_none() {
                "known from 20 answers on"
            } @else {
                "p50 " (time(figures.duration.p50_us)) "; first chunk p50 " (time(figures.first_chunk.p50_us))
                ", p95 " (time(figures.first_chunk.p95_us))
            }
        },
        line: line(series, of),
        change: compared(series, of),
        is_burden: true,
        href: here.at("/graph", [("sort", "p95_ms")]),
    }
}

fn failed(series: &Series, desk: &Desk, here: &Here) -> Tile {
    let totals = &series.whole.figures.totals;
    let of = |figures: &Figures| Some(figures.totals.errors);
    let refused = desk.state.metrics.refused_calls();
    Tile {
        name: "Failed and refused",
        number: html! {
            @if totals.errors > 0 { span.up { (figure::count(totals.errors)) } } @else { "0" }
            @if totals.calls > 0 { span.tile-unit { " " (figure::percent(totals.errors, totals.calls)) " failed" } }
        },
        more: html! {
            (figure::count(refused)) " refused since " (figure::local(desk.state.started_at, &desk.zone, "%b %d %H:%M"))
        },
        line: line(series, of),
        change: compared(series, of),
        is_burden: true,
        href: here.at("/runs", [("problems", "only")]),
    }
}
