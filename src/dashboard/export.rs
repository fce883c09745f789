//! `?export=<table>.csv` and `.json`: a table of a page as a file.

use std::str::FromStr;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde_json::{Map, Value};

use super::table::Table;
use crate::admin::problem::Problem;
use crate::core::text::{csv_field, csv_quoted};

/// Which table, in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Export {
    table: String,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Csv,
    Json,
}

impl Export {
    /// The parameter of the query.
    pub(super) const NAME: &'static str = "export";

    /// The file, of the tables that the page has.
    pub(super) fn answer(&self, tables: &[Table]) -> Result<Response, Problem> {
        let found = tables.iter().find(|table| table.name == self.table);
        let table = found.ok_or_else(|| {
            let names: Vec<_> = tables.iter().map(|table| table.name).collect();
            let there = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            Problem::not_found(format!(
                "export: this page has no table `{}`; tables here: {there}",
                self.table
            ))
        })?;
        let (body, media_type, suffix) = match self.form {
            Form::Csv => (csv(table), "text/csv; charset=utf-8", "csv"),
            Form::Json => (json(table), "application/json", "json"),
        };
        Ok(file(body, media_type, &format!("{}.{suffix}", table.name)))
    }
}

/// An attachment. `name` is plain ASCII without quotes.
pub(super) fn file(body: String, media_type: &'static str, name: &str) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

impl FromStr for Export {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parted = text.rsplit_once('.');
        let form = parted.and_then(|(_, form)| match form {
            "csv" => Some(Form::Csv),
            "json" => Some(Form::Json),
            _ => None,
        });
        match (parted, form) {
            (Some((table, _)), Some(form)) if !table.is_empty() => Ok(Self {
                table: table.to_owned(),
                form,
            }),
            _ => Err(format!(
                "found `{text}`, expected <table>.csv or <table>.json"
            )),
        }
    }
}

/// RFC 4180, with what a spreadsheet would take for a formula made a text.
fn csv(table: &Table) -> String {
    let mut out = String::new();
    let names = table.columns.iter().map(|column| column.key.to_owned());
    line(&mut out, names);
    for row in &table.rows {
        line(&mut out, row.cells.iter().map(|cell| plain(&cell.value)));
    }
    out
}

fn line(out: &mut String, fields: impl Iterator<Item = String>) {
    for (index, field) in fields.enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&field);
    }
    out.push_str("\r\n");
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => csv_field(text),
        other => csv_quoted(&other.to_string()),
    }
}

fn json(table: &Table) -> String {
    let object = |cells: &[super::table::Cell]| {
        let pairs = table.columns.iter().zip(cells);
        let pairs = pairs.map(|(column, cell)| (column.key.to_owned(), cell.value.clone()));
        Value::Object(pairs.collect::<Map<_, _>>())
    };
    let rows = table.rows.iter().map(|row| object(&row.cells)).collect();
    format!("{:#}\n", Value::Array(rows))
}

#[cfg(test)]
mod tests {
    use maud::html;

    use super::super::table::{Cell, Column, Row};
    use super::*;

    const COLUMNS: [Column; 2] = [
        Column::text("name", "Name"),
        Column::number("calls", "Calls"),
    ];

    fn table(cells: Vec<Cell>) -> Table {
        Table {
            name: "agents",
            caption: String::new(),
            columns: &COLUMNS,
            rows: vec![Row {
                key: String::new(),
                class: "",
                cells,
            }],
            more: None,
            empty: html! {},
        }
    }

    #[test]
    fn csv_quotes_what_would_break_it_and_disarms_formulas() {
        let of = |text: &str| csv(&table(vec![Cell::text(text), Cell::new(3, html! {})]));
        assert_eq!(of("plain"), "name,calls\r\nplain,3\r\n");
        assert_eq!(of("a,\"b\"\n"), "name,calls\r\n\"a,\"\"b\"\"\n\",3\r\n");
        assert_eq!(of("=1+1"), "name,calls\r\n'=1+1,3\r\n");
    }

    #[test]
    fn json_keeps_numbers_and_what_is_unknown() {
        let text = json(&table(vec![Cell::text("a"), Cell::none()]));
        let rows: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(rows, serde_json::json!([{"name": "a", "calls": null}]));
    }

    #[test]
    fn an_export_names_a_table_and_a_form() {
        assert!("runs.csv".parse::<Export>().is_ok());
        for bad in ["", "runs", ".csv", "runs.xls"] {
            let error = bad.parse::<Export>().unwrap_err();
            assert_eq!(
                error,
                format!("found `{bad}`, expected <table>.csv or <table>.json")
            );
        }
    }
}
