//! The headers of a call: what may be seen of them.

use maud::{Markup, html};

use super::super::here::Here;
use super::super::table::{Cell, Column, Row, Table};
use super::super::{figure, text};
use super::Known;
use crate::core::recorded::{Header, HeaderLines, Level};

const COLUMNS: [Column; 4] = [
    Column::text("name", "Name"),
    Column::text("value", "Value"),
    Column::text("fingerprint", "Fingerprint"),
    Column::number("bytes", "Bytes"),
];

pub(super) fn draw(here: &Here, known: &Known) -> (Markup, Vec<Table>) {
    let admission = known.detail.admission.as_ref();
    let settlement = known.detail.settlement.as_ref();
    let request = admission.and_then(|it| it.headers.as_ref());
    let response = settlement.and_then(|it| it.headers.as_ref());
    let tables = vec![
        table("request-headers", "As the client sent them", request),
        table("response-headers", "As the upstream sent them", response),
    ];
    let markup = html! {
        p.muted.prose {
            "Values are kept of headers that are known to be harmless, and of those that [ledger] show_headers \
             names. Of all others there is a fingerprint: the same for the same value."
        }
        @for (table, lines) in tables.iter().zip([request, response]) {
            section {
                @match lines {
                    Some(lines) => {
                        (table.draw(here))
                        @if lines.left_out() > 0 { p.muted { (lines.left_out()) " more were there than are kept" } }
                    },
                    None => { h2 { (table.caption) } (why_not(known)) },
                }
            }
        }
    };
    (markup, tables)
}

/// Why there are none.
fn why_not(known: &Known) -> Markup {
    let kept = known.detail.admission.as_ref().and_then(|it| it.kept);
    html! {
        @match kept {
            _ if known.detail.row.outcome.is_none() => p.muted { "Not known yet: the call runs." },
            Some(kept) if kept.level == Level::None && kept.by_client => p.muted {
                "Not recorded: the client asked for that by the header " code { "x-aiops-record: none" } "."
            },
            Some(kept) if kept.level == Level::None => p.muted {
                "Not recorded: " code { "[ledger] record = \"none\"" } " in the configuration says so."
            },
            _ => p.muted { "Not recorded: there was no head to record, or it was made by an older version." },
        }
    }
}

fn table(name: &'static str, caption: &str, lines: Option<&HeaderLines>) -> Table {
    let rows = lines.into_iter().flat_map(HeaderLines::iter).enumerate();
    Table {
        name,
        caption: caption.to_owned(),
        columns: &COLUMNS,
        rows: rows.map(|(index, header)| row(index, &header)).collect(),
        more: None,
        empty: html! { p.muted { "There were none." } },
    }
}

fn row(index: usize, header: &Header) -> Row {
    let cut = header.value.as_ref().map(|value| value.len() as u64);
    let is_cut = cut.is_some_and(|shown| shown < header.len);
    let value = match &header.value {
        Some(value) => Cell::new(
            value.as_str(),
            html! {
                (text::name(value)) @if is_cut { "\u{2026}" }
            },
        ),
        None => Cell::new(
            serde_json::Value::Null,
            html! { span.none { "not stored" } },
        ),
    };
    let fingerprint = match &header.fingerprint {
        Some(fingerprint) => Cell::new(
            fingerprint.as_str(),
            html! { code { (text::name(fingerprint)) } },
        ),
        None => Cell::none(),
    };
    Row {
        key: index.to_string(),
        class: "",
        cells: vec![
            Cell::new(
                header.name.as_str(),
                html! { code { (text::name(&header.name)) } },
            ),
            value,
            fingerprint,
            Cell::new(header.len, html! { (figure::count(header.len)) }),
        ],
    }
}
