//! What somebody should know of, where it was sent, and what happened to the proxy.

use std::collections::HashMap;

use axum::Router;
use maud::{Markup, html};

use super::deeds;
use super::desk::Desk;
use super::here::Here;
use super::link;
use super::page::{Page, Place, empty, held, part};
use super::table::{Cell, Column, Row, Table};
use super::{Answer, figure, instances, sinks, text, view};
use crate::admin::instances::InstanceList;
use crate::admin::params::When;
use crate::admin::problem::Problem;
use crate::alerts::{About, Alert, Scope, Severity};
use crate::config::WebhookConfig;
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::{Event, SpanFilter};

/// Rows of each table on a page.
const ALERTS: usize = 100;
const EVENTS: usize = 50;

pub(super) const EXAMPLE: &str = "[[alerts.webhook]]
name = \"team\"
url_env = \"SLACK_WEBHOOK_URL\"
format = \"slack\"
min_severity = \"warning\"
";

const COLUMNS: [Column; 10] = [
    Column::text("severity", "Severity"),
    Column::text("rule", "Rule"),
    Column::text("scope", "Of what"),
    Column::text("text", "What happened"),
    Column::number("value", "Value"),
    Column::number("limit", "Limit"),
    Column::text("first_at", "First seen"),
    Column::text("last_at", "Last seen"),
    Column::number("count", "Times"),
    Column::text("sent", "Sent"),
];

const EVENT_COLUMNS: [Column; 4] = [
    Column::text("at", "When"),
    Column::text("who", "By whom"),
    Column::text("what", "What"),
    Column::text("details", "Details"),
];

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/alerts", view(page))
}

async fn page(desk: Desk, here: Here) -> Answer {
    let least = least(&here)?;
    let before: Option<When> = here.read("before")?;
    let filter = SpanFilter {
        since: here.range.since,
        until: Some(here.range.until).filter(|_| !here.range.is_open),
        before: before.map(|before| before.before(here.now)),
        limit: here.rows(EVENTS),
    };
    let events = desk.ask(move |view| view.events(&filter)).await?;
    let mut all = desk.state.alerts.list();
    let known = all.len();
    all.retain(|alert| alert.severity >= least);
    all.sort_by_key(|alert| std::cmp::Reverse(alert.last_at));
    let shown = here.rows(ALERTS);
    let more = all.len().saturating_sub(shown);
    all.truncate(shown);
    let more_events = events
        .next
        .map(|next| here.with(&[("before", Some(&next.to_string()))]));
    let events = event_table(&desk, &events.items, more_events);
    let config = desk.state.config.load();
    let webhooks = &config.alerts.webhooks;
    let table = alert_table(&desk, &here, &all, nothing(known, webhooks, &here));
    let main = html! {
        (severities(&here, least))
        (held("alerts", "alerts", &html! { section {
            (table.draw(&here))
            @if more > 0 { p.muted { (more) " older ones are not shown: export them" } }
        } }))
        section { h2 { "Webhooks" } (hooks(&here, webhooks)) }
        (part("instances", &instances::section(&InstanceList::now(&desk.state), &desk.zone)))
        (part("sinks", &sinks::section(&desk)))
        (part("events", &html! { section { (events.draw(&here)) } }))
    };
    Ok(Page::live("Alerts", Place::Alerts, main)
        .ranged()
        .tables(vec![table, events]))
}

/// The least severity that is shown.
fn least(here: &Here) -> Result<Severity, Problem> {
    let Some(said) = here.get("severity") else {
        return Ok(Severity::Info);
    };
    said.parse().map_err(|_| {
        Problem::bad_request(format!(
            "severity: found `{said}`, expected info, warning or critical"
        ))
    })
}

fn severities(here: &Here, least: Severity) -> Markup {
    let choices = [
        (Severity::Info, "All"),
        (Severity::Warning, "Warnings and worse"),
        (Severity::Critical, "Critical"),
    ];
    html! {
        nav.chips aria-label="How severe" {
            @for (severity, word) in choices {
                a.chip href=(here.with(&[("severity", Some(severity.name()))]))
                    aria-current=[(severity == least).then_some("true")] { (word) }
            }
        }
    }
}

fn alert_table(desk: &Desk, here: &Here, alerts: &[Alert], empty: Markup) -> Table {
    Table {
        name: "alerts",
        caption: "Newest first".to_owned(),
        columns: &COLUMNS,
        rows: alerts.iter().map(|alert| row(desk, here, alert)).collect(),
        more: None,
        empty,
    }
}

fn row(desk: &Desk, here: &Here, alert: &Alert) -> Row {
    let some = |said: &Option<String>| match said {
        Some(said) => Cell::new(said.as_str(), text::name(said)),
        None => Cell::none(),
    };
    let name = scope_text(&alert.scope);
    let sent: Vec<String> = alert
        .sent
        .iter()
        .map(|it| format!("{}: {}", it.webhook, it.answer))
        .collect();
    Row {
        key: alert.id.clone(),
        class: if alert.is_open && alert.severity == Severity::Critical {
            "bad"
        } else {
            ""
        },
        cells: vec![
            Cell::new(alert.severity.name(), severity(alert)),
            Cell::new(
                alert.rule.name(),
                text::name(&alert.rule.name().replace('_', " ")),
            ),
            Cell::new(name.as_str(), scope(here, &alert.scope, &name)),
            Cell::new(alert.text.as_str(), text::shown(&alert.text)),
            some(&alert.value),
            some(&alert.limit),
            Cell::new(
                alert.first_at.to_string(),
                figure::time(alert.first_at, &desk.zone),
            ),
            Cell::new(
                alert.last_at.to_string(),
                figure::time(alert.last_at, &desk.zone),
            ),
            Cell::new(alert.count, html! { (figure::count(alert.count)) }),
            Cell::new(sent.join("; "), deliveries(alert)),
        ],
    }
}

/// How severe an alert is, and whether it is over.
pub(super) fn severity(alert: &Alert) -> Markup {
    let kind = match alert.severity {
        Severity::Info => "off",
        Severity::Warning => "warn",
        Severity::Critical => "bad",
    };
    html! {
        (figure::state(kind, alert.severity.name()))
        @if !alert.is_open { " " span.muted { "over" } }
    }
}

fn scope_text(scope: &Scope) -> String {
    let about: &'static str = scope.about.into();
    let name = if scope.name.is_empty() {
        String::new()
    } else {
        format!(" {}", scope.name)
    };
    let key = scope
        .key
        .as_ref()
        .map_or_else(String::new, |key| format!(", {key}"));
    format!("{about}{name}{key}")
}

/// What an alert is about, as a link where it has a page.
fn scope(here: &Here, scope: &Scope, name: &str) -> Markup {
    let page = match scope.about {
        About::Budget => Some(here.at("/budgets", [("rule", scope.name.as_str())])),
        About::Run => Label::parse(&scope.name)
            .ok()
            .map(|run| here.at(&link::run(&run), [])),
        About::Loop => scope
            .name
            .parse()
            .ok()
            .map(|trip| here.at(&link::trip(trip), [])),
        _ => None,
    };
    html! {
        @match page {
            Some(page) => a href=(page) { (text::name(name)) },
            None => (text::name(name)),
        }
    }
}

fn deliveries(alert: &Alert) -> Markup {
    html! {
        @if alert.sent.is_empty() { span.none { "nowhere" } }
        @for it in &alert.sent {
            div {
                (figure::state(if it.is_ok { "ok" } else { "bad" }, if it.is_ok { "taken" } else { "not taken" }))
                " by " (text::name(it.webhook.as_str())) span.muted { ": " (text::shown(&it.answer)) }
            }
        }
    }
}

fn nothing(known: usize, webhooks: &[WebhookConfig], here: &Here) -> Markup {
    if known > 0 {
        return empty(
            "No alert is so severe",
            &html! {
                p { (known) " are less so. " a href=(here.with(&[("severity", None)])) { "Show all" } }
            },
        );
    }
    empty(
        "Nothing to tell",
        &html! {
            p { "Budgets, loops, upstreams and the ledger raise alerts here, and in the log." }
            @if webhooks.is_empty() { p { "They can be sent to a webhook, too: see below." } }
        },
    )
}

/// The webhooks of the configuration, each with its test.
fn hooks(here: &Here, webhooks: &[WebhookConfig]) -> Markup {
    if webhooks.is_empty() {
        return html! {
            p { "Alerts are sent nowhere. To have them sent:" }
            div.copy { pre { (EXAMPLE) } button type="button" data-copy hidden { "Copy" } }
        };
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Webhooks" {
            table {
                thead { tr { th scope="col" { "Webhook" } th scope="col" { "Format" } th scope="col" { "From severity" }
                    th scope="col" { "Rules" } th scope="col" { "Do" } } }
                tbody { @for hook in webhooks {
                    @let format: &'static str = hook.format.into();
                    @let rules: Vec<String> = hook.rules.iter().map(ToString::to_string).collect();
                    tr {
                        th scope="row" { (text::name(hook.name.as_str())) }
                        td { (format) }
                        td { (hook.min_severity.name()) }
                        td { @if rules.is_empty() { "all" } @else { (text::name(&rules.join(", "))) } }
                        td { span.actions { a href=(deeds::of_webhook(here, &hook.name)) { "send a test" } } }
                    }
                } }
            }
        }
    }
}

/// Events as rows: when, who, what, details. A row keeps its key when newer events come: those of one
/// moment are counted from the oldest on.
pub(super) fn event_rows(desk: &Desk, events: &[Event]) -> Vec<Row> {
    let mut before: HashMap<Timestamp, usize> = HashMap::new();
    let keyed = events.iter().rev().map(|event| {
        let count = before.entry(event.at).or_default();
        *count += 1;
        (format!("{}-{count}", event.at.micros()), event)
    });
    let mut rows: Vec<Row> = keyed
        .map(|(key, event)| event_row(desk, key, event))
        .collect();
    rows.reverse();
    rows
}

fn event_row(desk: &Desk, key: String, event: &Event) -> Row {
    let details = event.details.as_deref().unwrap_or_default();
    let what = event.what.replace('_', " ");
    Row {
        key,
        class: "",
        cells: vec![
            Cell::new(event.at.to_string(), figure::time(event.at, &desk.zone)),
            Cell::new(event.who.as_str(), text::name(&event.who)),
            Cell::new(event.what.as_str(), text::name(&what)),
            Cell::new(details, text::shown(details)),
        ],
    }
}

fn event_table(desk: &Desk, events: &[Event], more: Option<String>) -> Table {
    Table {
        name: "events",
        caption: "What happened to the proxy".to_owned(),
        columns: &EVENT_COLUMNS,
        rows: event_rows(desk, events),
        more,
        empty: html! { p.muted { "Nothing in this range." } },
    }
}
