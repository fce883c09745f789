//! Tables: one description that is drawn on the page and exported as CSV or JSON.

use maud::{Markup, html};
use serde_json::Value;

use super::here::Here;

/// One column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Its name in exports, with the unit: `cost_usd`.
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    /// Numbers stand to the right.
    pub(super) right: bool,
    /// What `?sort=` calls it, if one may sort by it.
    pub(super) sort: Option<&'static str>,
}

impl Column {
    pub(super) const fn text(key: &'static str, title: &'static str) -> Self {
        Self {
            key,
            title,
            right: false,
            sort: None,
        }
    }

    pub(super) const fn number(key: &'static str, title: &'static str) -> Self {
        Self {
            right: true,
            ..Self::text(key, title)
        }
    }

    /// Sorted by a link in its head: `?sort=<key>`.
    pub(super) const fn sorted(self) -> Self {
        Self {
            sort: Some(self.key),
            ..self
        }
    }
}

/// What a cell shows, and what it is in an export.
pub(super) struct Cell {
    pub(super) shown: Markup,
    pub(super) value: Value,
}

impl Cell {
    pub(super) fn new(value: impl Into<Value>, shown: Markup) -> Self {
        Self {
            shown,
            value: value.into(),
        }
    }

    /// A text that is shown as it is exported.
    pub(super) fn text(text: &str) -> Self {
        Self::new(text, html! { (text) })
    }

    /// Nothing known.
    pub(super) fn none() -> Self {
        Self::new(Value::Null, html! { span.none { "-" } })
    }
}

pub(super) struct Row {
    /// The same row has the same key the next time.
    pub(super) key: String,
    /// Such as `bad`.
    pub(super) class: &'static str,
    /// One for each column; the first holds the link of the row.
    pub(super) cells: Vec<Cell>,
}

/// A table, with what it is exported as.
pub(super) struct Table {
    /// In `?export=<name>.csv`.
    pub(super) name: &'static str,
    pub(super) caption: String,
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row>,
    /// Leads to the rows that follow.
    pub(super) more: Option<String>,
    /// What is shown where there are no rows.
    pub(super) empty: Markup,
}

impl Table {
    /// The table, its caption, and links to its exports.
    pub(super) fn draw(&self, here: &Here) -> Markup {
        if self.rows.is_empty() {
            return html! { (self.head(here, false)) (self.empty) };
        }
        html! {
            (self.head(here, true))
            div.scroll tabindex="0" role="region" aria-label=(self.caption) {
                table {
                    thead { tr { @for column in self.columns { (head_cell(column, here)) } } }
                    tbody { @for row in &self.rows { (self.row(row)) } }
                }
            }
            @if let Some(more) = &self.more {
                p.more { a href=(more) rel="next" { "Older" } }
            }
        }
    }

    fn head(&self, here: &Here, with_exports: bool) -> Markup {
        html! {
            div.table-head {
                h2 id=(format!("table-{}", self.name)) { (self.caption) }
                @if with_exports { (self.exports(here)) }
            }
        }
    }

    /// The links to its exports, for a page that draws it in its own way.
    pub(super) fn exports(&self, here: &Here) -> Markup {
        let file = |kind: &str| format!("{}.{kind}", self.name);
        html! {
            span.exports {
                "Export "
                a href=(here.with(&[("export", Some(&file("csv")))])) { "CSV" }
                " "
                a href=(here.with(&[("export", Some(&file("json")))])) { "JSON" }
            }
        }
    }

    fn row(&self, row: &Row) -> Markup {
        let cells = self.columns.iter().zip(&row.cells);
        html! {
            tr id=(format!("{}-{}", self.name, row.key)) data-key=(row.key) class=[(!row.class.is_empty()).then_some(row.class)] {
                @for (index, (column, cell)) in cells.enumerate() {
                    @if index == 0 {
                        th scope="row" { (cell.shown) }
                    } @else {
                        td class=[column.right.then_some("n")] { (cell.shown) }
                    }
                }
            }
        }
    }
}

/// How rows are sorted now: `?sort=<key>`, downward, or upward as `?sort=-<key>`.
pub(super) fn sort(here: &Here) -> Option<(&str, bool)> {
    let said = here.get("sort")?;
    Some(
        said.strip_prefix('-')
            .map_or((said, false), |key| (key, true)),
    )
}

fn head_cell(column: &Column, here: &Here) -> Markup {
    let class = column.right.then_some("n");
    let Some(key) = column.sort else {
        return html! { th scope="col" class=[class] { (column.title) } };
    };
    let now = sort(here).filter(|(sorted, _)| *sorted == key);
    let word = now.map(|(_, upward)| if upward { "ascending" } else { "descending" });
    let next = match now {
        Some((_, false)) => format!("-{key}"),
        _ => key.to_owned(),
    };
    html! {
        th scope="col" class=[class] aria-sort=[word] {
            a href=(here.with(&[("sort", Some(&next)), ("before", None)])) { (column.title) }
        }
    }
}
