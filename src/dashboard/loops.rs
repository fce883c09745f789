//! Loops that were stopped: on which evidence, what it took, and letting them go on.

mod card;
mod rounds;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use maud::{Markup, html};

use self::card::card;
use self::rounds::Rounds;
use super::desk::Desk;
use super::here::Here;
use super::page::{Page, Place, empty, held, part};
use super::table::{Cell, Column, Row, Table};
use super::{Answer, figure, link, text, view};
use crate::admin::params::When;
use crate::admin::problem::Problem;
use crate::core::id::{CallId, Label};
use crate::core::loops::refusal;
use crate::core::loops::trip::{ClosedBy, Trip};
use crate::core::time::Timestamp;
use crate::ledger::{CallRow, Event, IndexError, Sought, SpanFilter, View};
use crate::loops::Loops;

/// Closed loops on a page.
const CLOSED: usize = 20;
/// Open loops that are drawn; more are counted.
const OPEN: usize = 50;
/// Warnings that are listed.
const WARNED: usize = 50;
/// Calls that are looked up for what they cost, on one page.
const PRICED: usize = 256;

const COLUMNS: [Column; 14] = [
    Column::text("id", "Loop"),
    Column::text("at", "Stopped"),
    Column::text("state", "State"),
    Column::text("run", "Run"),
    Column::text("agent", "Agent"),
    Column::text("caller", "Caller"),
    Column::text("signal", "Signal"),
    Column::text("scope", "Reach"),
    Column::number("period", "Calls a round"),
    Column::number("count", "Rounds"),
    Column::number("tokens", "Tokens"),
    Column::number("refused_calls", "Refused"),
    Column::text("closed_at", "Closed"),
    Column::text("closed_by", "Closed by"),
];

const WARNED_COLUMNS: [Column; 2] = [
    Column::text("at", "When"),
    Column::text("details", "What was seen"),
];

pub(super) fn routes() -> Router<Desk> {
    Router::new()
        .route("/loops", view(page))
        .route("/loops/{id}", view(one))
}

/// A trip as it stands, and what its calls cost.
struct Stopped<'k> {
    trip: &'k Trip,
    /// Calls of it are refused now.
    is_open: bool,
    /// Of this trip and of others, as far as they are kept.
    calls: &'k HashMap<CallId, CallRow>,
}

struct Known {
    closed: Vec<Trip>,
    next: Option<Timestamp>,
    warned: Sought,
    calls: HashMap<CallId, CallRow>,
}

async fn page(desk: Desk, here: Here) -> Answer {
    let (count, open) = desk.state.loops.latest_trips(OPEN);
    let before: Option<When> = here.read("before")?;
    let filter = SpanFilter {
        since: here.range.since,
        until: Some(here.range.until).filter(|_| !here.range.is_open),
        before: before.map(|before| before.before(here.now)),
        limit: here.rows(CLOSED),
    };
    let (asked, loops) = (open.clone(), Arc::clone(&desk.state.loops));
    let asking = desk.ask(move |view| known(view, &filter, (&asked, &loops)));
    let known = asking.await?;
    let stopped = |trip, is_open| Stopped {
        trip,
        is_open,
        calls: &known.calls,
    };
    let open: Vec<Stopped<'_>> = open.iter().map(|trip| stopped(trip, true)).collect();
    let closed: Vec<Stopped<'_>> = known
        .closed
        .iter()
        .map(|trip| stopped(trip, false))
        .collect();
    let table = table(open.iter().chain(&closed));
    let warned = warned(&desk, &known.warned.items);
    let is_empty = open.is_empty() && closed.is_empty();
    let more = known
        .next
        .map(|next| here.with(&[("before", Some(&next.to_string()))]));
    let main = html! {
        (part("open", &html! {
            @if is_empty { (nothing(&desk, &here)) } @else {
                div.table-head { span.muted { "Open ones first, then the latest." } (table.exports(&here)) }
            }
            @if !open.is_empty() { section {
                h2 { "Stopped now" }
                @for it in &open { (card(&desk, &here, it)) }
                @if count > open.len() { p.muted { (count - open.len()) " more" } }
            } }
        }))
        (held("closed", "loops", &html! { @if !closed.is_empty() {
            section {
                h2 { "Closed" }
                @for it in &closed { (card(&desk, &here, it)) }
                @if let Some(more) = more { p.more { a href=(more) rel="next" { "Older" } } }
            }
        } }))
        (part("warned", &html! { @if !known.warned.items.is_empty() { section { (warned.draw(&here)) } } }))
    };
    Ok(Page::live("Loops", Place::Loops, main)
        .ranged()
        .tables(vec![table, warned]))
}

fn known(
    view: &View,
    filter: &SpanFilter,
    (open, loops): (&[Arc<Trip>], &Loops),
) -> Result<Known, IndexError> {
    let page = view.trips(filter)?;
    let is_open = |trip: &Trip| {
        open.iter().any(|open| open.id == trip.id)
            || (trip.closed.is_none() && loops.open_trip(trip.id).is_some())
    };
    let closed: Vec<Trip> = page
        .items
        .into_iter()
        .filter(|trip| !is_open(trip))
        .collect();
    let warnings = SpanFilter {
        limit: WARNED,
        before: None,
        ..filter.clone()
    };
    let warned = view.events_that(&warnings, |event| event.what == "loop_warning")?;
    let calls = calls(view, open.iter().map(AsRef::as_ref).chain(&closed))?;
    Ok(Known {
        next: page.next,
        warned,
        calls,
        closed,
    })
}

/// The calls that the evidence names, as far as they are kept.
fn calls<'t>(
    view: &View,
    trips: impl Iterator<Item = &'t Trip>,
) -> Result<HashMap<CallId, CallRow>, IndexError> {
    let ids = trips.flat_map(|trip| &trip.evidence.calls).take(PRICED);
    let ids: Vec<CallId> = ids.copied().collect();
    let rows = view.picked(&ids)?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// One loop, with what its calls said side by side.
async fn one(desk: Desk, here: Here) -> Answer {
    let id: CallId = here.named("id")?;
    let open = desk.state.loops.open_trip(id);
    let trip = open.as_deref().cloned();
    let found = desk.ask(move |view| {
        let trip = match trip {
            Some(trip) => Some(trip),
            None => recorded(view, id)?,
        };
        let Some(trip) = trip else {
            return Ok(None);
        };
        let calls = calls(view, std::iter::once(&trip))?;
        let rounds = Rounds::read(view, &trip)?;
        Ok(Some((trip, calls, rounds)))
    });
    let Some((trip, calls, rounds)) = found.await? else {
        return Err(Problem::not_found(format!(
            "no loop {id} is recorded: the id may be wrong, or its records are not kept any more"
        )));
    };
    let stopped = Stopped {
        trip: &trip,
        is_open: open.is_some(),
        calls: &calls,
    };
    let table = table(std::iter::once(&stopped));
    let main = html! {
        p { a href=(here.at("/loops", [])) { "All loops" } }
        (part("loop", &html! { section { h2 { "What happened" } (card(&desk, &here, &stopped)) } }))
        (part("rounds", &rounds.draw(&here, &stopped)))
    };
    let title = format!("Loop of {}", stopped.trip.agent);
    Ok(Page::live(title, Place::Loops, main).tables(vec![table]))
}

/// A trip that is not open, among those recorded around the time of its call.
fn recorded(view: &View, id: CallId) -> Result<Option<Trip>, IndexError> {
    let Some(detail) = view.call(id)? else {
        // The call at which it opened was refused, and is not recorded itself.
        return by_time(view, id);
    };
    find(view, id, detail.row.started_at)
}

fn by_time(view: &View, id: CallId) -> Result<Option<Trip>, IndexError> {
    let bytes = id.to_bytes();
    let millis = bytes
        .iter()
        .take(6)
        .fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte));
    find(
        view,
        id,
        Timestamp::from_micros(millis.saturating_mul(1000)),
    )
}

/// Trips are listed by when something was said of them last, which is never before they opened.
fn find(view: &View, id: CallId, from: Timestamp) -> Result<Option<Trip>, IndexError> {
    /// Pages of trips that are looked through.
    const PAGES: usize = 20;
    let mut filter = SpanFilter {
        since: Some(Timestamp::from_micros(
            from.micros().saturating_sub(60_000_000),
        )),
        ..SpanFilter::default()
    };
    for _ in 0..PAGES {
        let page = view.trips(&filter)?;
        if let Some(trip) = page.items.into_iter().find(|trip| trip.id == id) {
            return Ok(Some(trip));
        }
        filter.before = page.next;
        if filter.before.is_none() {
            break;
        }
    }
    Ok(None)
}

fn nothing(desk: &Desk, here: &Here) -> Markup {
    use crate::core::loops::settings::Mode;
    let config = desk.state.config.load();
    let mode = config.loops.policy.settings.mode;
    empty(
        "No loop was stopped",
        &html! {
            p { "In " (here.range.words) " nothing went round in circles for so long that it was stopped." }
            @match mode {
                Mode::Break => p { "Loops are watched for, and stopped where they bring nothing new." },
                Mode::Off => p { "Loops are not watched for: " code { "[loops] mode = \"off\"" } " says so." },
                Mode::Observe | Mode::Slow => p { "Loops are told, not stopped: see " code { "[loops] mode" } " in the configuration." },
            }
        },
    )
}

/// Where a loop stands, in words.
fn state(stopped: &Stopped<'_>) -> (&'static str, &'static str) {
    match stopped.trip.closed.as_ref().map(|closed| closed.by) {
        _ if stopped.is_open => ("bad", "open: its calls are refused"),
        None => ("off", "over: the process ended"),
        Some(ClosedBy::Operator) => ("ok", "let go on by an operator"),
        Some(ClosedBy::User) => ("ok", "over: a user said something new"),
        Some(ClosedBy::Probe) => ("ok", "over: a call let through brought something new"),
        Some(ClosedBy::End) => ("off", "over: the run ended"),
    }
}

fn table<'s>(all: impl Iterator<Item = &'s Stopped<'s>>) -> Table {
    Table {
        name: "loops",
        caption: "Loops".to_owned(),
        columns: &COLUMNS,
        rows: all.map(row).collect(),
        more: None,
        empty: html! {},
    }
}

fn row(stopped: &Stopped<'_>) -> Row {
    let (trip, evidence) = (stopped.trip, &stopped.trip.evidence);
    let (_, word) = state(stopped);
    let cell = |value: serde_json::Value| Cell::new(value, html! {});
    let label = |label: Option<&Label>| cell(label.map(Label::as_str).into());
    let (signal, scope): (&str, &str) = (evidence.signal.into(), evidence.scope.into());
    let closed = trip.closed.as_ref();
    let by: Option<&'static str> = closed.map(|closed| closed.by.into());
    Row {
        key: String::new(),
        class: "",
        cells: vec![
            cell(trip.id.to_string().into()),
            cell(trip.at.to_string().into()),
            cell(word.into()),
            label(trip.run.as_ref()),
            label(Some(&trip.agent)),
            label(trip.caller.as_ref()),
            cell(signal.into()),
            cell(scope.into()),
            cell(evidence.period.into()),
            cell(evidence.count.into()),
            cell(evidence.tokens.into()),
            cell(trip.refused.into()),
            cell(closed.map(|closed| closed.at.to_string()).into()),
            cell(by.into()),
        ],
    }
}

fn warned(desk: &Desk, events: &[Event]) -> Table {
    let row = |(index, event): (usize, &Event)| {
        let details = event.details.as_deref().unwrap_or_default();
        Row {
            key: format!("{}-{index}", event.at.micros()),
            class: "",
            cells: vec![
                Cell::new(event.at.to_string(), figure::time(event.at, &desk.zone)),
                Cell::new(details, text::shown(details)),
            ],
        }
    };
    Table {
        name: "warned",
        caption: "Seen, and not stopped".to_owned(),
        columns: &WARNED_COLUMNS,
        rows: events.iter().enumerate().map(row).collect(),
        more: None,
        empty: html! {},
    }
}

/// The head of a card, and what a link to it says.
fn headline(trip: &Trip) -> String {
    refusal::summary(&trip.evidence)
}

/// The page of a loop.
fn page_of(here: &Here, trip: &Trip) -> String {
    here.at(&link::trip(trip.id), [])
}
