//! Cells that several tables of figures have.

use maud::html;
use serde_json::Value;

use super::super::figure;
use super::super::table::Cell;
use crate::core::money::NanoUsd;
use crate::ledger::Totals;

pub(in crate::dashboard) fn count(of: u64) -> Cell {
    Cell::new(of, html! { (figure::count(of)) })
}

/// Input and output.
pub(in crate::dashboard) fn all_tokens(totals: &Totals) -> u64 {
    totals.input_tokens.saturating_add(totals.output_tokens)
}

pub(in crate::dashboard) fn cached(totals: &Totals) -> Cell {
    let (part, whole) = (totals.cache_read_input_tokens, totals.input_tokens);
    if whole == 0 {
        return Cell::none();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    let percent = format!("{}.{}", tenths / 10, tenths % 10);
    Cell::new(percent, html! { (figure::percent(part, whole)) })
}

/// A duration in microseconds, exported in milliseconds.
pub(in crate::dashboard) fn time(micros: Option<u64>) -> Cell {
    match micros {
        None => Cell::none(),
        Some(micros) => Cell::new(micros / 1000, html! { (figure::duration(micros)) }),
    }
}

pub(in crate::dashboard) fn failed(totals: &Totals) -> Cell {
    let shown = html! {
        @if totals.errors > 0 { span.up { (figure::count(totals.errors)) } } @else { "0" }
    };
    Cell::new(totals.errors, shown)
}

/// In USD with all nine decimals.
fn usd(nano: i64) -> String {
    let (sign, size) = (if nano < 0 { "-" } else { "" }, nano.unsigned_abs());
    format!("{sign}{}.{:09}", size / 1_000_000_000, size % 1_000_000_000)
}

/// What calls cost; in an export in USD, exactly.
pub(in crate::dashboard) fn spent(totals: &Totals) -> Cell {
    let known = NanoUsd::new(totals.cost_nano_usd);
    let is_unknown = totals.unpriced_calls > 0 && totals.cost_nano_usd == 0;
    let value = if is_unknown {
        Value::Null
    } else {
        Value::String(usd(totals.cost_nano_usd))
    };
    let shown = figure::spent(known, totals.unpriced_calls, totals.calls);
    Cell::new(value, shown)
}
