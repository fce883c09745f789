//! Who made a call, for whom, in which run, and how that is known.

use maud::{Markup, html};
use serde_json::Value;

use super::super::here::Here;
use super::super::table::{Cell, Column, Row, Table};
use super::super::{link, text};
use super::Known;
use crate::core::attribution::{Percent, Source};
use crate::core::id::Label;
use crate::ledger::CallRow;

const COLUMNS: [Column; 3] = [
    Column::text("what", "What"),
    Column::text("value", "Value"),
    Column::text("known_by", "How it is known"),
];

pub(super) fn draw(here: &Here, known: &Known) -> (Markup, Vec<Table>) {
    let table = table(here, known);
    (html! { (table.draw(here)) }, vec![table])
}

fn table(here: &Here, known: &Known) -> Table {
    let mut rows = who(here, &known.detail.row);
    rows.extend(said_by_the_client(known));
    rows.retain(|row| {
        let is_known = row.cells.get(1).is_some_and(|cell| !cell.value.is_null());
        is_known || row.key == "run" || row.key == "caller"
    });
    Table {
        name: "attribution",
        caption: "Whose call it is".to_owned(),
        columns: &COLUMNS,
        rows,
        more: None,
        empty: html! {},
    }
}

/// Who makes it, for whom, in which run and conversation.
fn who(here: &Here, row: &CallRow) -> Vec<Row> {
    let sure = row.inferred;
    let page = |run: &Option<Label>| run.as_ref().map(|run| here.at(&link::run(run), []));
    let (caller, conversation) = (row.caller.as_ref(), row.conversation.as_ref());
    let by_caller = how_caller(caller.is_some(), sure.caller);
    let by_talk = how_caller(conversation.is_some(), sure.conversation);
    vec![
        line(
            "agent",
            Some(&row.agent),
            None,
            &how(row.agent_source, sure.agent),
        ),
        line("caller", caller, None, &by_caller),
        line(
            "run",
            row.run.as_ref(),
            page(&row.run),
            &how(row.run_source, sure.run),
        ),
        line(
            "parent run",
            row.parent_run.as_ref(),
            page(&row.parent_run),
            "",
        ),
        line("conversation", conversation, None, &by_talk),
        plain("path", &path(&row.path), &format!("depth {}", row.depth)),
        line("user", row.user.as_ref(), None, ""),
        line("variant", row.variant.as_ref(), None, ""),
        line("upstream", Some(&row.upstream), None, ""),
        line(
            "instance",
            row.instance.as_ref(),
            None,
            "served it, and keeps what was said",
        ),
        line("client", row.client.as_ref(), None, "its User-Agent"),
    ]
}

/// Tags, the key.
fn said_by_the_client(known: &Known) -> Vec<Row> {
    const SAID: &str = "said by the client";
    let tags = known.detail.row.tags.iter();
    let mut rows: Vec<Row> = tags
        .map(|(name, value)| line(&format!("tag {name}"), Some(value), None, SAID))
        .collect();
    if let Some(admission) = &known.detail.admission {
        let key = admission.key.map(|key| key.to_string()).unwrap_or_default();
        let hashed = "a keyed hash of the client's API key: the key is not stored";
        rows.push(plain("key", &key, hashed));
        let before = admission.previous_response.as_ref();
        rows.push(line(
            "goes on from",
            before,
            None,
            "previous_response_id of the request",
        ));
    }
    rows
}

fn line(what: &str, value: Option<&Label>, link: Option<String>, how: &str) -> Row {
    let value = match value {
        None => Cell::none(),
        Some(value) => {
            let name = text::name(value.as_str());
            let shown = match link {
                Some(link) => html! { a href=(link) { (name) } },
                None => name,
            };
            Cell::new(value.as_str(), shown)
        }
    };
    row(what, value, how)
}

fn plain(what: &str, value: &str, how: &str) -> Row {
    let value = if value.is_empty() {
        Cell::new(Value::Null, html! {})
    } else {
        Cell::new(value, text::name(value))
    };
    row(what, value, how)
}

fn row(what: &str, value: Cell, how: &str) -> Row {
    Row {
        key: what.to_owned(),
        class: "",
        cells: vec![
            Cell::new(what, text::name(what)),
            value,
            Cell::new(how, html! { (how) }),
        ],
    }
}

fn path(path: &[Label]) -> String {
    let names: Vec<&str> = path.iter().map(Label::as_str).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("/{}", names.join("/"))
    }
}

/// How something is known, in words.
fn how(source: Option<Source>, sure: Option<Percent>) -> String {
    match source {
        Some(Source::Own) => "said by an x-aiops header or in the base URL".to_owned(),
        Some(Source::Alias) => "said by a header of another gateway or tracing product".to_owned(),
        Some(Source::Harness) => {
            "said by a header that the coding agent sends by itself".to_owned()
        }
        Some(Source::W3c) => "said by traceparent or baggage".to_owned(),
        Some(Source::Body) => "said by a field of the request".to_owned(),
        Some(Source::Inferred) => inferred(sure),
        Some(Source::Unknown) => "nobody said: a placeholder".to_owned(),
        None if sure.is_some() => inferred(sure),
        None => "nobody said".to_owned(),
    }
}

/// Of what carries no source of its own: inferred where there is a percentage.
fn how_caller(is_there: bool, sure: Option<Percent>) -> String {
    match (is_there, sure) {
        (_, Some(_)) => inferred(sure),
        (true, None) => "said by the client".to_owned(),
        (false, None) => "nobody said, and nothing led to it".to_owned(),
    }
}

fn inferred(sure: Option<Percent>) -> String {
    let sure = sure.map_or_else(String::new, |sure| format!(", {} % sure", sure.get()));
    format!("inferred from what the call repeats and begins with{sure}")
}
