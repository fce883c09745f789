//! Agents, models and runs by what they spent.

use maud::{Markup, html};
use serde_json::Value;

use super::super::figure;
use super::super::here::Here;
use super::super::link;
use super::super::table::{Cell, Column, Row, Table};
use super::super::text;
use super::cells;
use super::{RUNS_LOOKED_AT, Spent};
use crate::ledger::{AgentRow, Figures, ModelRow, RunRow};

/// Rows of each on the page.
const ON_PAGE: usize = 10;

const AGENTS: [Column; 7] = with_name(Column::text("agent", "Agent"));
const MODELS: [Column; 7] = with_name(Column::text("model", "Model"));
const RUNS: [Column; 6] = [
    Column::text("run", "Run"),
    Column::text("state", "State"),
    Column::number("calls", "Calls"),
    Column::number("cost_usd", "Spend"),
    Column::number("tokens", "Tokens"),
    Column::number("failed", "Failed"),
];

const fn with_name(name: Column) -> [Column; 7] {
    [
        name,
        Column::number("calls", "Calls"),
        Column::number("cost_usd", "Spend"),
        Column::number("tokens", "Tokens"),
        Column::number("cached_percent", "Cached"),
        Column::number("p95_ms", "p95"),
        Column::number("failed", "Failed"),
    ]
}

pub(super) fn agents(spent: &Spent, here: &Here) -> Table {
    let rows = spent.agents.items.iter().take(here.rows(ON_PAGE));
    let row = |row: &AgentRow| {
        let name = row.agent.as_str();
        let href = here.at("/runs", [("agent", name)]);
        let cell = Cell::new(
            name,
            html! { a.cut href=(href) title=(name) { (text::name(name)) } },
        );
        of_figures(link::encode(name), cell, &row.figures)
    };
    Table {
        name: "agents",
        caption: some_of("Agents", spent.agents.count, here),
        columns: &AGENTS,
        rows: rows.map(row).collect(),
        more: None,
        empty: nothing(here),
    }
}

pub(super) fn models(spent: &Spent, here: &Here) -> Table {
    let rows = spent.models.items.iter().take(here.rows(ON_PAGE));
    let row = |row: &ModelRow| {
        let Some(model) = &row.model else {
            let cell = Cell::new(Value::Null, html! { span.muted { "no model named" } });
            return of_figures(String::new(), cell, &row.figures);
        };
        let name = model.as_str();
        let cell = Cell::new(name, html! { span.cut title=(name) { (text::name(name)) } });
        of_figures(link::encode(name), cell, &row.figures)
    };
    Table {
        name: "models",
        caption: some_of("Models", spent.models.count, here),
        columns: &MODELS,
        rows: rows.map(row).collect(),
        more: None,
        empty: nothing(here),
    }
}

pub(super) fn runs(spent: &Spent, here: &Here) -> Table {
    let rows = spent.runs.iter().take(here.rows(ON_PAGE));
    let mut caption = if spent.runs_are_some {
        let looked_at = figure::count(RUNS_LOOKED_AT as u64);
        format!("Most expensive of the {looked_at} runs that were active last")
    } else {
        some_of("Most expensive runs", spent.runs.len(), here)
    };
    if here.range.since.is_some() || !here.range.is_open {
        caption.push_str(", active in this range, each with all it ever used");
    }
    Table {
        name: "runs",
        caption,
        columns: &RUNS,
        rows: rows.map(run).collect(),
        more: None,
        empty: nothing(here),
    }
}

fn run(row: &RunRow) -> Row {
    let (name, totals) = (row.run.as_str(), &row.totals);
    Row {
        key: link::encode(name),
        class: if row.trips > 0 { "bad" } else { "" },
        cells: vec![
            Cell::new(
                name,
                html! { a.cut href=(link::run(&row.run)) title=(name) { (text::name(name)) } },
            ),
            state(row),
            cells::count(totals.calls),
            cells::spent(totals),
            cells::count(cells::all_tokens(totals)),
            cells::failed(totals),
        ],
    }
}

fn state(row: &RunRow) -> Cell {
    use crate::core::budget::Control;
    let (kind, word) = match row.control {
        Control::Stopped => ("bad", "stopped"),
        Control::Paused => ("warn", "paused"),
        Control::Running if row.open_calls > 0 => ("run", "running"),
        Control::Running if row.trips > 0 => ("bad", "looped"),
        Control::Running => ("ok", "ended"),
    };
    Cell::new(word, figure::state(kind, word))
}

fn of_figures(key: String, name: Cell, figures: &Figures) -> Row {
    let totals = &figures.totals;
    Row {
        key,
        class: "",
        cells: vec![
            name,
            cells::count(totals.calls),
            cells::spent(totals),
            cells::count(cells::all_tokens(totals)),
            cells::cached(totals),
            cells::time(figures.duration.p95_us),
            cells::failed(totals),
        ],
    }
}

fn some_of(what: &str, all: usize, here: &Here) -> String {
    let shown = here.rows(ON_PAGE);
    if all > shown {
        format!("{what}: {shown} of {}", figure::count(all as u64))
    } else {
        what.to_owned()
    }
}

fn nothing(here: &Here) -> Markup {
    html! { p.muted { "None in " (here.range.words) "." } }
}
