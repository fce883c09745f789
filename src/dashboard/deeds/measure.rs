//! A custom metric that a person says of a run or a call: a form on the page of that, and the same
//! form once more where something is wrong with it.
//!
//! Unlike other deeds it asks for no second look: what is said again takes the place of what was said
//! before, so that it can be mended, and a form that is sent twice is done once.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Map, Value as Json};

use super::super::desk::Desk;
use super::super::export::Export;
use super::super::here::Here;
use super::super::link;
use super::super::page::{Page, Place};
use super::super::{frame, text};
use super::memory::Begun;
use super::order::{Fields, WHO};
use super::{BACK, DONE, Sent, back, told_at};
use crate::admin::metrics;
use crate::admin::problem::Problem;
use crate::core::id::Label;
use crate::core::metric::{MAX_BYTES, Subject, Value, parse_name};

const PATH: &str = "/measure";
const TITLE: &str = "Add a metric";

pub(super) fn routes() -> Router<Desk> {
    Router::new().route(PATH, get(ask).post(act))
}

/// The form by itself, as a link may have filled it in.
async fn ask(State(desk): State<Desk>, here: Here) -> Response {
    let passing = [Export::NAME, DONE];
    let kept = here.pairs().iter();
    let kept = kept.filter(|(name, _)| !passing.contains(&name.as_str()));
    let fields = Fields::of(kept.cloned().collect());
    let page = here.check().and_then(|()| page(&fields, None));
    frame::respond(&desk, &here, page)
}

async fn act(State(desk): State<Desk>, here: Here, sent: Sent) -> Response {
    let sent = match sent {
        Ok(form) => form.0,
        Err(problem) => return frame::respond(&desk, &here, Err(problem)),
    };
    let pairs: Vec<_> = here.pairs().iter().cloned().chain(sent).collect();
    let fields = Fields::of(pairs.clone());
    // It goes on though the reader leaves: what was begun must be told as done.
    let doing = tokio::spawn(carried_out(desk.clone(), fields.clone()));
    let done = doing.await;
    let done = done.unwrap_or_else(|error| Err(Problem::internal("it was not done", &error)));
    match done {
        Ok(to) => Redirect::to(&to).into_response(),
        // What was typed stays, with what is wrong with it.
        Err(problem) => {
            let page = page(&fields, Some(&problem));
            frame::respond(&desk, &here.filled_in(pairs), page)
        }
    }
}

/// Records what the form says; says where to go then.
async fn carried_out(desk: Desk, fields: Fields) -> Result<String, Problem> {
    let subject = subject(&fields)?;
    let name = fields.get("name").unwrap_or_default();
    let value: Option<Value> = fields.get("value").and_then(|said| said.parse().ok());
    let (of, whose) = named(&subject);
    let pairs = [
        ("name", Some(Json::from(name))),
        ("value", serde_json::to_value(&value).ok()),
        (of, Some(whose.into())),
        ("who", Some(WHO.into())),
        ("note", fields.get("note").map(Json::from)),
    ];
    let order = pairs.into_iter();
    let order = order.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    metrics::take(&desk.state, Json::Object(order.collect::<Map<_, _>>())).await?;
    let name = parse_name(name).unwrap_or_default();
    let value = value.map_or_else(String::new, |value| value.to_string());
    let words = format!("{name} = {value} was recorded for the {subject}.");
    let once = desk.state.clock.call_id();
    if let Begun::First(doing) = desk.deeds.begin(once) {
        doing.end(Ok(words))?;
    }
    Ok(told_at(&back(fields.get(BACK), &home(&subject)), once))
}

/// What it is said of.
fn subject(fields: &Fields) -> Result<Subject, Problem> {
    let wrong = |of: &str, error: String| Problem::bad_request(format!("{of}: {error}"));
    match (fields.get("run"), fields.get("call")) {
        (Some(run), None) => Label::parse(run)
            .map(Subject::Run)
            .map_err(|error| wrong("run", error.to_string())),
        (None, Some(call)) => call
            .parse()
            .map(Subject::Call)
            .map_err(|error: crate::core::id::CallIdError| wrong("call", error.to_string())),
        _ => Err(wrong(
            "run, call",
            "expected exactly one of them".to_owned(),
        )),
    }
}

/// The field that names it, and its name.
fn named(subject: &Subject) -> (&'static str, String) {
    match subject {
        Subject::Call(id) => ("call", id.to_string()),
        Subject::Run(run) => ("run", run.to_string()),
        Subject::Agent(agent) => ("agent", agent.to_string()),
    }
}

/// Its page.
fn home(subject: &Subject) -> String {
    match subject {
        Subject::Call(id) => link::call(*id),
        Subject::Run(run) => link::run(run),
        Subject::Agent(_) => "/runs".to_owned(),
    }
}

fn page(fields: &Fields, wrong: Option<&Problem>) -> Result<Page, Problem> {
    let subject = subject(fields)?;
    let back = back(fields.get(BACK), &home(&subject));
    let main = html! {
        p { "Of the " (text::shown(&subject.to_string())) }
        @if let Some(wrong) = wrong { p.note.bad role="alert" { (text::shown(&wrong.detail)) } }
        (form(&subject, &back, fields))
        p { a href=(back) { "Back" } }
    };
    let page = Page::fixed(TITLE, Place::Runs, main);
    let status = wrong.map(|wrong| StatusCode::from_u16(wrong.status));
    let failed = StatusCode::INTERNAL_SERVER_ERROR;
    Ok(Page {
        status: status.map_or(page.status, |status| status.unwrap_or(failed)),
        ..page
    })
}

fn form(subject: &Subject, back: &str, fields: &Fields) -> Markup {
    let (of, name) = named(subject);
    html! {
        form.filters method="post" action=(link::to(PATH, [(of, name.as_str())])) aria-label=(TITLE) {
            input type="hidden" name=(BACK) value=(back);
            label { "Metric" input name="name" size="14" maxlength=(MAX_BYTES) required autocomplete="off" placeholder="score" value=[fields.get("name")]; }
            label { "Value" input name="value" size="14" required autocomplete="off" placeholder="0.8, true or a word" value=[fields.get("value")]; }
            label { "Note" input name="note" size="24" autocomplete="off" value=[fields.get("note")]; }
            button { "Add it" }
        }
    }
}

/// The form on the page of what it is said of. It stands in no part that is drawn again, so that
/// nothing of what is being typed is lost.
pub(in crate::dashboard) fn of(here: &Here, subject: &Subject) -> Markup {
    html! {
        details.data {
            summary { (TITLE) }
            (form(subject, &here.with(&[]), &Fields::default()))
        }
    }
}
