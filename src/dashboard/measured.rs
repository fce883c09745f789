//! Custom metrics in tables of pages.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use maud::{Markup, html};
use serde_json::{Map, Number, Value as Json};

use super::figure;
use super::here::Here;
use super::table::{Cell, Column, Row, Table};
use super::text;
use crate::admin::problem::Problem;
use crate::core::id::Label;
use crate::core::metric::{Measurement, Summary, Value, parse_name, short};
use crate::ledger::{MetricSums, RunMetrics};

const SUMS: [Column; 8] = [
    Column::text("metric", "Metric"),
    Column::text("of", "Of"),
    Column::number("count", "Count"),
    Column::text("is", "Is"),
    Column::number("mean", "Mean"),
    Column::number("min", "Least"),
    Column::number("max", "Most"),
    Column::text("last", "Last"),
];

const OF_CALL: [Column; 5] = [
    Column::text("metric", "Metric"),
    Column::number("value", "Value"),
    Column::text("who", "Who"),
    Column::text("at", "When"),
    Column::text("note", "Note"),
];

/// Metrics that one cell shows where none are chosen.
const SHOWN: usize = 3;

/// What the custom metrics of a run come to: of all of it, and of each agent in it.
pub(super) fn of_run(metrics: &RunMetrics) -> Table {
    let all = metrics.all.by_name.iter();
    let mut rows: Vec<Row> = all
        .map(|(name, sum)| row(name, "all of the run", sum))
        .collect();
    for (agent, sums) in &metrics.by_agent {
        let of = agent.as_ref().map_or("the run itself", Label::as_str);
        rows.extend(sums.iter().map(|(name, sum)| row(name, of, sum)));
    }
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    table("Custom metrics", metrics.all.is_cut, rows)
}

/// What the custom metrics of a span come to.
pub(super) fn of_span(sums: &MetricSums) -> Table {
    let rows = sums.by_name.iter();
    let rows = rows.map(|(name, sum)| row(name, "all", sum)).collect();
    table("Custom metrics", sums.is_cut, rows)
}

fn table(caption: &str, is_cut: bool, rows: Vec<Row>) -> Table {
    let more = if is_cut { ", the newest of each" } else { "" };
    Table {
        name: "metrics",
        caption: format!("{caption}{more}"),
        columns: &SUMS,
        rows,
        more: None,
        empty: html! { p.muted { "None." } },
    }
}

fn row(name: &str, of: &str, sum: &Summary) -> Row {
    let last = sum.last.as_ref().map(|(_, value)| value);
    Row {
        key: key(&[name, of]),
        class: "",
        cells: vec![
            Cell::new(name, text::name(name)),
            Cell::new(of, text::name(of)),
            Cell::new(sum.count, html! { (figure::count(sum.count)) }),
            Cell::new(sum.to_string(), text::name(&sum.to_string())),
            number(sum.mean()),
            number(sum.min),
            number(sum.max),
            last.map_or_else(Cell::none, value),
        ],
    }
}

fn key(parts: &[&str]) -> String {
    let hash = blake3::hash(parts.join("\u{0}").as_bytes()).to_hex();
    hash.chars().take(16).collect()
}

fn number(number: Option<f64>) -> Cell {
    number.map_or_else(Cell::none, |it| Cell::new(json(it), html! { (short(it)) }))
}

fn json(number: f64) -> Json {
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}

fn value(value: &Value) -> Cell {
    match value {
        Value::Number(it) => number(Some(*it)),
        Value::Boolean(yes) => Cell::new(*yes, html! { (yes) }),
        Value::Category(word) => Cell::new(word.as_str(), text::name(word.as_str())),
    }
}

/// All that was measured of a call.
pub(super) fn of_call(all: &[Measurement], zone: &TimeZone) -> Table {
    each("metrics", "Custom metrics", all, zone)
}

/// What was said of a run itself, not of its calls.
pub(super) fn of_itself(all: &[Measurement], zone: &TimeZone) -> Table {
    each("said", "Custom metrics of the run itself", all, zone)
}

fn each(name: &'static str, caption: &str, all: &[Measurement], zone: &TimeZone) -> Table {
    let rows = all.iter().map(|it| {
        let of = it.key.as_ref().map_or("", Label::as_str);
        Row {
            key: key(&[&it.name, it.who.as_str(), of]),
            class: "",
            cells: vec![
                Cell::new(it.name.as_str(), text::name(&it.name)),
                value(&it.value),
                Cell::new(it.who.as_str(), text::name(it.who.as_str())),
                Cell::new(it.at.to_string(), figure::time(it.at, zone)),
                it.note.as_ref().map_or_else(Cell::none, |note| {
                    Cell::new(note.as_str(), text::name(note))
                }),
            ],
        }
    });
    Table {
        name,
        caption: caption.to_owned(),
        columns: &OF_CALL,
        rows: rows.collect(),
        more: None,
        empty: html! { p.muted { "None." } },
    }
}

/// The table, where there is anything in it.
pub(super) fn draw(table: &Table, here: &Here) -> Markup {
    html! { @if !table.rows.is_empty() { (table.draw(here)) } }
}

/// The metrics that `?columns=score,docs` chooses; none where nothing is chosen.
pub(super) fn chosen(here: &Here) -> Result<Vec<String>, Problem> {
    let said = here.get("columns").unwrap_or_default();
    let names = said.split(',').filter(|name| !name.trim().is_empty());
    let parse = |name: &str| {
        let wrong = || {
            let found: String = name.chars().take(64).collect();
            Problem::bad_request(format!(
                "columns: found `{found}`, expected names of custom metrics such as \
                 score,docs"
            ))
        };
        parse_name(name).ok_or_else(wrong)
    };
    names.map(parse).collect()
}

/// What metrics come to, in one cell: those that are chosen, else the first few, with one of them
/// before the others.
pub(super) fn sums(
    by_name: &BTreeMap<String, Summary>,
    chosen: &[String],
    first: Option<&str>,
) -> Cell {
    let is_first = |name: &str| first == Some(name);
    let wanted: Vec<(&String, &Summary)> = if chosen.is_empty() {
        let before = by_name.iter().filter(|(name, _)| is_first(name));
        let others = by_name.iter().filter(|(name, _)| !is_first(name));
        before.chain(others).take(SHOWN).collect()
    } else {
        let known = |name| by_name.get_key_value(name);
        chosen.iter().filter_map(known).collect()
    };
    if wanted.is_empty() {
        return Cell::none();
    }
    let more = if chosen.is_empty() {
        by_name.len() - wanted.len()
    } else {
        0
    };
    let shown = html! {
        @for (index, (name, sum)) in wanted.iter().enumerate() {
            @if index > 0 { ", " }
            (text::name(name)) " " (text::name(&sum.to_string()))
        }
        @if more > 0 { span.muted { " +" (more) } }
    };
    let exported: Vec<_> = if chosen.is_empty() {
        by_name.iter().collect()
    } else {
        wanted
    };
    let of = |(name, sum): (&String, &Summary)| {
        let is = sum.mean().map_or_else(|| sum.to_string().into(), json);
        (name.clone(), is)
    };
    let values: Map<String, Json> = exported.into_iter().map(of).collect();
    Cell::new(values, shown)
}

/// The newest values of a call, as they are exported.
pub(super) fn values(by_name: &BTreeMap<String, Value>) -> Json {
    if by_name.is_empty() {
        return Json::Null;
    }
    let of = |(name, it): (&String, &Value)| (name.clone(), value(it).value);
    Json::Object(by_name.iter().map(of).collect())
}
