//! The calls of a run as a table for other programs.

use std::collections::{BTreeMap, HashMap};

use maud::html;
use serde_json::Value;

use super::super::measured;
use super::super::table::{Cell, Column, Row, Table};
use super::costs::usd;
use super::read::Shown;
use crate::core::id::{CallId, Label};
use crate::core::metric::Value as Metric;
use crate::core::money::NanoUsd;
use crate::ledger::CallRow;

const COLUMNS: [Column; 29] = [
    Column::number("number", ""),
    Column::text("id", ""),
    Column::text("started_at", ""),
    Column::text("run", ""),
    Column::text("parent_run", ""),
    Column::text("agent", ""),
    Column::text("caller", ""),
    Column::number("depth", ""),
    Column::text("user", ""),
    Column::text("variant", ""),
    Column::text("upstream", ""),
    Column::text("instance", ""),
    Column::text("operation", ""),
    Column::text("model", ""),
    Column::text("outcome", ""),
    Column::number("status", ""),
    Column::number("duration_us", ""),
    Column::number("forwarded_us", ""),
    Column::number("first_chunk_us", ""),
    Column::number("input_tokens", ""),
    Column::number("cache_read_input_tokens", ""),
    Column::number("cache_write_input_tokens", ""),
    Column::number("output_tokens", ""),
    Column::number("reasoning_output_tokens", ""),
    Column::number("cost_usd", ""),
    Column::text("finish_reasons", ""),
    Column::text("decision", ""),
    Column::text("error", ""),
    Column::text("metrics", ""),
];

/// Those that were read.
pub(super) fn table(shown: &Shown, metrics: &HashMap<CallId, BTreeMap<String, Metric>>) -> Table {
    let rows = shown.calls.iter().filter_map(|call| {
        let row = shown.rows.get(&call.mark.id)?;
        let metrics = metrics.get(&row.id).map_or(Value::Null, measured::values);
        let values = values(call.number as u64, row, metrics).into_iter();
        Some(Row {
            key: String::new(),
            class: "",
            cells: values.map(|value| Cell::new(value, html! {})).collect(),
        })
    });
    Table {
        name: "calls",
        caption: "Calls".to_owned(),
        columns: &COLUMNS,
        rows: rows.collect(),
        more: None,
        empty: html! {},
    }
}

fn values(number: u64, row: &CallRow, metrics: Value) -> [Value; COLUMNS.len()] {
    let name = |label: &Option<Label>| label.as_ref().map(Label::as_str).into();
    let usage = &row.usage;
    let reasons: Vec<&str> = row.finish_reasons.iter().map(Label::as_str).collect();
    let operation: &str = row.operation.into();
    let outcome: &str = row.outcome.map_or("open", Into::into);
    [
        number.into(),
        row.id.to_string().into(),
        row.started_at.to_string().into(),
        name(&row.run),
        name(&row.parent_run),
        row.agent.as_str().into(),
        name(&row.caller),
        row.depth.into(),
        name(&row.user),
        name(&row.variant),
        row.upstream.as_str().into(),
        name(&row.instance),
        operation.into(),
        name(&row.model),
        outcome.into(),
        row.status.into(),
        row.duration_us.into(),
        row.forwarded_us.into(),
        row.first_chunk_us.into(),
        usage.input_tokens.into(),
        usage.cache_read_input_tokens.into(),
        usage.cache_write_input_tokens.into(),
        usage.output_tokens.into(),
        usage.reasoning_output_tokens.into(),
        row.cost_nano_usd.map(|cost| usd(NanoUsd::new(cost))).into(),
        reasons.join(" ").into(),
        row.decision.as_deref().into(),
        row.error.as_deref().into(),
        metrics,
    ]
}
