//! A run as one file: a page that opens without a network, or JSON.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};
use serde_json::{Value, json};

use super::super::desk::Desk;
use super::super::export;
use super::super::figure;
use super::super::here::Here;
use super::super::text;
use super::asked::Switch;
use super::costs::{self, usd};
use super::head::tokens;
use super::lacking;
use super::lines::Numbered;
use super::read::{EXPORTED, Facts, Lack, Note, facts};
use super::said::{Room, message};
use super::texts::{self, TEXTS, TEXTS_OF_CALL, Texts};
use super::timeline::outcome_words;
use crate::admin::problem::Problem;
use crate::admin::step::{Options, step_with};
use crate::core::id::{CallId, Label};
use crate::core::loops::refusal::summary;
use crate::core::loops::trip::Trip;
use crate::core::money::NanoUsd;
use crate::ledger::{BodyReader, CallRow, Event, IndexError, View};

/// Of each text in a file so many bytes.
const OF_TEXT: usize = 64 << 10;
/// How long the texts of a file are read.
const READING_US: u64 = 15_000_000;
/// What a file may load: nothing at all, but for the style that it brings along.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

pub(super) fn routes() -> Router<Desk> {
    Router::new()
        .route("/runs/{run}/export.html", get(as_html))
        .route("/runs/{run}/export.json", get(as_json))
}

/// A run and its calls, as they go into a file.
struct Whole {
    facts: Facts,
    calls: Vec<(Numbered, CallRow)>,
    texts: Texts,
    /// Calls whose texts there was no room for.
    untold: usize,
}

async fn as_html(State(desk): State<Desk>, here: Here) -> Result<Response, Problem> {
    let (run, texts) = asked(&here)?;
    let name = format!("run-{}.html", plain(&run));
    let its = desk.clone();
    let draw = move |whole: &Whole| document(whole, texts, &its, &here).into_string();
    let page = written(&desk, &run, texts, draw).await?;
    Ok(export::file(page, "text/html; charset=utf-8", &name))
}

async fn as_json(State(desk): State<Desk>, here: Here) -> Result<Response, Problem> {
    let (run, texts) = asked(&here)?;
    let name = format!("run-{}.json", plain(&run));
    let write = move |whole: &Whole| format!("{:#}\n", value(whole, texts));
    let json = written(&desk, &run, texts, write).await?;
    Ok(export::file(json, "application/json", &name))
}

fn asked(here: &Here) -> Result<(Label, bool), Problem> {
    here.check()?;
    let texts: Option<Switch> = here.read("texts")?;
    Ok((here.named("run")?, texts.is_some_and(|texts| texts.0)))
}

/// A name of a file: what is not plain is left out.
fn plain(run: &Label) -> String {
    let plain = run
        .as_str()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    plain.take(64).collect()
}

/// One file at a time is read and written, also when nobody waits for it any more: pages come first.
async fn written(
    desk: &Desk,
    run: &Label,
    texts: bool,
    write: impl FnOnce(&Whole) -> String + Send + 'static,
) -> Result<String, Problem> {
    let turn = Arc::clone(&desk.files)
        .acquire_owned()
        .await
        .map_err(|error| Problem::internal("the file was not written", &error))?;
    let (name, clock) = (run.clone(), desk.state.clock.clone());
    let query = move |view: &View| {
        let _turn = turn;
        let until = clock.now().plus_micros(READING_US);
        let whole = read(view, &name, texts, || clock.now() > until)?;
        Ok(whole.as_ref().map(write))
    };
    let file = desk.ask(query).await?;
    file.ok_or_else(|| lacking(&Lack::Run, run, desk))
}

fn read(
    view: &View,
    run: &Label,
    texts: bool,
    is_late: impl Fn() -> bool,
) -> Result<Option<Whole>, IndexError> {
    let Some(facts) = facts(view, run)? else {
        return Ok(None);
    };
    let ids: Vec<_> = facts
        .calls
        .iter()
        .take(EXPORTED)
        .map(|call| call.mark.id)
        .collect();
    let rows = view.picked(&ids)?.into_iter();
    let mut rows: HashMap<CallId, CallRow> = rows.map(|row| (row.id, row)).collect();
    let with_row = |call: &Numbered| Some((call.clone(), rows.remove(&call.mark.id)?));
    let calls: Vec<_> = facts
        .calls
        .iter()
        .take(EXPORTED)
        .filter_map(with_row)
        .collect();
    let mut bodies = BodyReader::new(view);
    let options = Options {
        preview: OF_TEXT,
        ..Options::default()
    };
    let told = calls.iter().filter(|_| texts).map(|(_, row)| row.id);
    let found = texts::texts(
        told,
        |id| step_with(view, &mut bodies, id, options),
        is_late,
    )?;
    let untold = if texts {
        calls.len() - found.steps.len()
    } else {
        0
    };
    Ok(Some(Whole {
        facts,
        calls,
        texts: found,
        untold,
    }))
}

fn document(whole: &Whole, texts: bool, desk: &Desk, here: &Here) -> Markup {
    let row = &whole.facts.detail.row;
    let zone = &desk.zone;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { "Run " (text::plain(row.run.as_str())) }
                style { (STYLE) }
            }
            body {
                main {
                    h1 { "Run " (text::name(row.run.as_str())) }
                    p.muted {
                        "Written by " (crate::core::build::DESCRIPTION) " at " (figure::time(here.now, zone)) " " (figure::local(here.now, zone, "%Z")) ". "
                        @if texts { "With the texts of messages." } @else { "Without the texts of messages." }
                    }
                    (limits(whole))
                    dl.facts {
                        dt { "Time" } dd { (figure::time(row.first_at, zone)) " to " (figure::time(row.last_at, zone)) ", " (figure::duration(row.last_at.micros_since(row.first_at))) }
                        dt { "Spend" } dd { (figure::spent(NanoUsd::new(row.totals.cost_nano_usd), row.totals.unpriced_calls, row.totals.calls)) }
                        dt { "Tokens" } dd { (tokens(&row.totals)) }
                        dt { "Calls" } dd { (figure::count(row.totals.calls)) ", " (figure::count(row.totals.errors)) " failed" @if row.open_calls > 0 { ", " (figure::count(row.open_calls)) " running" } }
                        @if let Some(parent) = &row.parent_run { dt { "Part of" } dd { (text::name(parent.as_str())) } }
                        @if !whole.facts.tree.is_empty() {
                            dt { "Runs below it" }
                            dd { @for branch in &whole.facts.tree { (text::name(branch.row.run.as_str())) " " } }
                        }
                    }
                    (happened(&whole.facts, desk))
                    (agents(whole))
                    (list(whole, desk))
                    @if texts { (told(whole)) }
                }
            }
        }
    }
}

/// What of the run is not in the file.
fn limits(whole: &Whole) -> Markup {
    let (shown, total) = (whole.calls.len(), whole.facts.total);
    html! {
        @if shown < total {
            p.note { "Only the first " (figure::count(shown as u64)) " of " (figure::count(total as u64)) " calls are in this file." }
        }
        @if whole.untold > 0 {
            p.note { "Of the last " (figure::count(whole.untold as u64)) " calls the texts are left out: "
                @if whole.texts.is_late { "reading all of them takes too long." }
                @else { "a file holds " (figure::bytes(TEXTS as u64)) " of them." }
            }
        }
    }
}

fn happened(facts: &Facts, desk: &Desk) -> Markup {
    html! {
        @if !facts.notes.is_empty() {
            h2 { "What happened" }
            ul {
                @for note in &facts.notes {
                    li {
                        (figure::time(note.at(), &desk.zone)) ": "
                        @match note {
                            Note::Deed(event) => (super::head::deed(event)),
                            Note::Trip(trip) => { "a loop was stopped: " (text::shown(&summary(&trip.evidence))) ", " (figure::count(u64::from(trip.refused))) " calls refused" }
                        }
                    }
                }
            }
        }
    }
}

fn agents(whole: &Whole) -> Markup {
    html! {
        h2 { "Cost by agent" }
        table {
            thead { tr { th { "Agent" } th.n { "Calls" } th.n { "Failed" } th.n { "Own $" } th.n { "With callees $" } } }
            tbody {
                @for cost in costs::costs(&whole.facts.detail) {
                    @let its = &cost.row.totals;
                    @let all = &cost.with_callees;
                    tr {
                        th scope="row" { (text::name(cost.row.agent.as_str())) }
                        td.n { (figure::count(its.calls)) }
                        td.n { (figure::count(its.errors)) }
                        td.n { (figure::spent(NanoUsd::new(its.cost_nano_usd), its.unpriced_calls, its.calls)) }
                        td.n { (figure::spent(NanoUsd::new(all.cost_nano_usd), all.unpriced_calls, all.calls)) }
                    }
                }
            }
        }
    }
}

fn list(whole: &Whole, desk: &Desk) -> Markup {
    let told = |row: &CallRow| whole.texts.steps.contains_key(&row.id);
    html! {
        h2 { "Calls" }
        table {
            thead { tr { th.n { "Call" } th { "Started" } th { "Caller" } th { "Agent" } th { "Model" } th { "Outcome" } th.n { "Took" } th.n { "Tokens in" } th.n { "Tokens out" } th.n { "Own $" } th { "Decision" } } }
            tbody {
                @for (call, row) in &whole.calls {
                    tr {
                        td.n { @if told(row) { a href=(format!("#call-{}", row.id)) { (call.number) } } @else { (call.number) } }
                        td { (figure::time(row.started_at, &desk.zone)) }
                        td { @if let Some(caller) = &row.caller { (text::name(caller.as_str())) } }
                        td { (text::name(row.agent.as_str())) }
                        td { @if let Some(model) = &row.model { (text::name(model.as_str())) } }
                        td { @match row.outcome { Some(outcome) => (outcome_words(outcome)), None => "running" } }
                        td.n { @if let Some(took) = row.duration_us { (figure::duration(took)) } }
                        td.n { (figure::count(row.usage.input_tokens)) }
                        td.n { (figure::count(row.usage.output_tokens)) }
                        td.n { @if row.outcome.is_some() { (figure::cost(row.cost_nano_usd.map(NanoUsd::new))) } }
                        td { @if let Some(decision) = &row.decision { (text::shown(decision)) } }
                    }
                }
            }
        }
    }
}

fn told(whole: &Whole) -> Markup {
    let steps = whole
        .calls
        .iter()
        .filter_map(|(call, row)| Some((call.number, whole.texts.steps.get(&row.id)?)));
    html! {
        h2 { "What was said" }
        @for (number, step) in steps {
            @let anchor = format!("#call-{}", step.call.id);
            @let mut room = Room(TEXTS_OF_CALL);
            section id=(format!("call-{}", step.call.id)) {
                h3 { "Call " (number) ", " (text::name(step.call.agent.as_str())) }
                @if step.sent.unchanged.messages > 0 { p.muted { (figure::count(step.sent.unchanged.messages)) " earlier messages, unchanged" } }
                h4 { "Newly sent" }
                @for sent in &step.sent.messages { (message(&sent.message, None, &anchor, &mut room)) }
                @if let Some(missing) = &step.sent.missing { p.muted { (missing.detail) } }
                h4 { "Answered" }
                @for answer in &step.answered.messages { (message(answer, None, &anchor, &mut room)) }
                @if let Some(missing) = &step.answered.missing { p.muted { (missing.detail) } }
            }
        }
    }
}

/// A trip; what the agent did and what came of it are texts of messages, too.
fn shown(trip: &Trip, texts: bool) -> Trip {
    let mut trip = trip.clone();
    if !texts {
        trip.evidence.sample.clear();
    }
    trip
}

fn value(whole: &Whole, texts: bool) -> Value {
    let facts = &whole.facts;
    let agents: Vec<Value> = costs::costs(&facts.detail)
        .iter()
        .map(|cost| {
            json!({
                "agent": cost.row.agent,
                "own": cost.row.totals,
                "with_callees": cost.with_callees,
            })
        })
        .collect();
    let notes: Vec<Value> = facts
        .notes
        .iter()
        .map(|note| match note {
            Note::Trip(trip) => json!({ "at": trip.at, "trip": shown(trip, texts) }),
            Note::Deed(event) => {
                let trip = event
                    .trip
                    .as_deref()
                    .map(|trip| Box::new(shown(trip, texts)));
                let event = Event {
                    trip,
                    ..event.clone()
                };
                json!({ "at": event.at, "event": event })
            }
        })
        .collect();
    let calls: Vec<Value> = whole
        .calls
        .iter()
        .map(|(call, row)| {
            let mut value = json!({
                "number": call.number,
                "call": crate::admin::view::CallView::from(row.clone()),
                "decision": row.decision,
                "cost_usd": row.cost_nano_usd.map(|cost| usd(NanoUsd::new(cost))),
            });
            let step = whole.texts.steps.get(&row.id);
            if let (Some(step), Some(fields)) = (step, value.as_object_mut()) {
                fields.insert("sent".to_owned(), json!(step.sent));
                fields.insert("answered".to_owned(), json!(step.answered));
            }
            value
        })
        .collect();
    json!({
        "run": facts.detail.row,
        "children": facts.tree.iter().map(|branch| &branch.row).collect::<Vec<_>>(),
        "agents": agents,
        "edges": facts.detail.edges,
        "happened": notes,
        "calls": calls,
        "calls_in_all": facts.total,
        "with_texts": texts,
        "calls_without_texts": whole.untold,
    })
}

/// The look of a file, which brings its own.
const STYLE: &str = include_str!("file.css");
