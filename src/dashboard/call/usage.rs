//! What a call used and cost, and how that is known.

use maud::{Markup, html};
use serde_json::Value;

use super::super::desk::Desk;
use super::super::figure;
use super::super::here::Here;
use super::super::table::{Cell, Column, Row, Table};
use super::Known;
use crate::core::call::CostSource;
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::price::{Billed, billed_model};
use crate::core::usage::{Provenance, Usage};
use crate::ledger::CallRow;

const COLUMNS: [Column; 4] = [
    Column::text("kind", "Kind"),
    Column::number("quantity", "Quantity"),
    Column::number("usd_per_million", "USD per 1M"),
    Column::number("cost_usd", "Cost"),
];

pub(super) fn draw(desk: &Desk, here: &Here, known: &Known) -> (Markup, Vec<Table>) {
    let row = &known.detail.row;
    let lines = bill(desk, known);
    let table = table(&lines);
    let usage = &row.usage;
    let markup = html! {
        @if row.outcome.is_none() {
            p.note { "The call has not ended: what it uses is known then." }
        }
        p.adds-up { (sum(usage)) }
        (table.draw(here))
        dl.facts {
            dt { "Tokens are" } dd { (provenance(row.provenance)) }
            dt { "Cost" } dd { (cost(row)) }
            @if let Some(tier) = &row.service_tier { dt { "Service tier" } dd { (super::text::name(tier.as_str())) } }
            @if let Some(admission) = &known.detail.admission {
                dt { "Estimated at the start" } dd { "~" (figure::count(admission.estimated_input_tokens)) " tokens in" }
                @if let Some(limit) = admission.output_limit {
                    dt { "Output limit" } dd { (figure::count(limit)) " tokens" }
                }
            }
        }
        (other_prices(row, &lines))
    };
    (markup, vec![table])
}

/// `new input + cache read + cache write + output (of which reasoning) = total`
fn sum(usage: &Usage) -> Markup {
    let cached = usage.cache_read_input_tokens;
    let written = usage.cache_write_input_tokens;
    let new = usage
        .input_tokens
        .saturating_sub(cached)
        .saturating_sub(written);
    let total = usage.input_tokens.saturating_add(usage.output_tokens);
    let of = |count: u64, what: &str| html! { strong { (figure::count(count)) } " " (what) };
    html! {
        (of(new, "new input"))
        @if cached > 0 { " + " (of(cached, "cache read")) }
        @if written > 0 { " + " (of(written, "cache write")) }
        " + " (of(usage.output_tokens, "output"))
        @if usage.reasoning_output_tokens > 0 {
            " (of which " (figure::count(usage.reasoning_output_tokens)) " reasoning)"
        }
        " = " (of(total, "tokens"))
    }
}

/// What the usage is made of, at the prices of now.
fn bill(desk: &Desk, known: &Known) -> Vec<Billed> {
    let row = &known.detail.row;
    let config = desk.state.config.load();
    let Ok(prices) = config.price_table() else {
        return Vec::new();
    };
    let upstream = config.upstreams.iter().find(|it| it.name == row.upstream);
    let seller = upstream.and_then(|it| it.base_url.host());
    let seller = seller.unwrap_or(row.upstream.as_str());
    let name = |label: &Option<Label>| label.as_ref().map(|it| it.as_str().to_owned());
    let (asked, answered) = (name(&row.request_model), name(&row.response_model));
    let answered = answered.or_else(|| name(&row.model));
    let model = billed_model(asked.as_deref(), answered.as_deref()).unwrap_or_default();
    let tier = row.service_tier.as_ref().map(Label::as_str);
    prices.bill(Some(seller), model, tier, &row.usage)
}

fn amount(line: &Billed) -> Option<NanoUsd> {
    let pico = u128::from(line.quantity) * u128::from(line.pico_usd_each?);
    i64::try_from((pico + 500) / 1000).ok().map(NanoUsd::new)
}

fn table(lines: &[Billed]) -> Table {
    let row = |line: &Billed| Row {
        key: line.what.replace([' ', ','], "-"),
        class: "",
        cells: vec![
            Cell::text(line.what),
            Cell::new(line.quantity, html! { (figure::count(line.quantity)) }),
            rate(line),
            match amount(line) {
                Some(amount) => Cell::new(
                    amount.to_string().trim_start_matches('$'),
                    figure::cost(Some(amount)),
                ),
                None => Cell::new(Value::Null, figure::cost(None)),
            },
        ],
    };
    Table {
        name: "usage",
        caption: "What was used, at the prices of now".to_owned(),
        columns: &COLUMNS,
        rows: lines.iter().map(row).collect(),
        more: None,
        empty: html! { p.muted { "Nothing was used, or nothing is known of it." } },
    }
}

/// The price of a million: pico-USD for one are micro-USD for a million.
fn rate(line: &Billed) -> Cell {
    let Some(pico) = line.pico_usd_each else {
        return Cell::none();
    };
    let nano = i64::try_from(pico).unwrap_or(i64::MAX).saturating_mul(1000);
    let text = NanoUsd::new(nano).to_string();
    Cell::new(text.trim_start_matches('$'), html! { (text) })
}

fn provenance(provenance: Option<Provenance>) -> Markup {
    match provenance {
        Some(Provenance::Reported) => {
            html! { (figure::state("ok", "reported")) " by the upstream" }
        }
        Some(Provenance::Counted) => {
            html! { (figure::state("ok", "counted")) " here with the model's own tokenizer" }
        }
        Some(Provenance::Estimated) => {
            html! { (figure::state("warn", "estimated")) ": counted with another tokenizer, or guessed from sizes" }
        }
        None => html! { span.none { "not known yet" } },
    }
}

fn cost(row: &CallRow) -> Markup {
    let source = match row.cost_source {
        Some(CostSource::Table) => ", by the built-in price table",
        Some(CostSource::Config) => ", by a price of the configuration",
        Some(CostSource::Upstream) => ", as the upstream named it",
        Some(CostSource::Held) => ", which is what its budgets held: nobody knows what it used",
        None => "",
    };
    html! {
        @if row.outcome.is_none() { span.none { "not known yet" } } @else {
            (figure::cost(row.cost_nano_usd.map(NanoUsd::new))) (source)
            @if row.cost_nano_usd.is_none() { ": give the model a price in " code { "[[price]]" } " of the configuration" }
        }
    }
}

/// Says so where the lines do not make what the call cost when it was made.
fn other_prices(row: &CallRow, lines: &[Billed]) -> Markup {
    let Some(cost) = row.cost_nano_usd else {
        return html! {};
    };
    let Some(now) = lines.iter().map(amount).collect::<Option<Vec<_>>>() else {
        return html! {};
    };
    let now = now.into_iter().fold(NanoUsd::ZERO, NanoUsd::saturating_add);
    // Each line is rounded by itself.
    let differs = (now.get() - cost).unsigned_abs() > lines.len() as u64;
    html! {
        @if differs && !lines.is_empty() {
            p.note { "The lines make " (now) ", the call was booked at " (NanoUsd::new(cost))
                ": prices have changed since, or the cost was not found by the token." }
        }
    }
}
