//! What each agent did in both arms.

use maud::html;

use super::super::table::{Cell, Column, Row, Table};
use super::super::text;
use super::{difference, interval, side};
use crate::core::compare::Comparison;

const COLUMNS: [Column; 6] = [
    Column::text("agent", "Agent"),
    Column::text("measure", "Figure"),
    Column::number("a", "A"),
    Column::number("b", "B"),
    Column::number("difference", "Difference"),
    Column::number("interval_95", "95 % interval"),
];

pub(super) fn table(told: &Comparison) -> Table {
    let mut rows = Vec::new();
    for (number, agent) in told.agents.iter().enumerate() {
        for it in &agent.measures {
            let name = agent.agent.as_str();
            rows.push(Row {
                key: format!("{number}-{}", it.key),
                class: "",
                cells: vec![
                    Cell::new(name, text::name(name)),
                    Cell::new(it.key.as_str(), html! { (it.title) }),
                    side(it, it.a.value, it.a.median),
                    side(it, it.b.value, it.b.median),
                    difference(it),
                    interval(it),
                ],
            });
        }
    }
    Table {
        name: "agents",
        caption: "By agent, in mean over all runs".to_owned(),
        columns: &COLUMNS,
        rows,
        more: None,
        empty: html! {},
    }
}
