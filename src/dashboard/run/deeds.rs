//! Pausing, resuming and stopping a run: a page that says what that does, and the deed itself.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::Answer;
use super::super::desk::Desk;
use super::super::figure;
use super::super::frame;
use super::super::here::Here;
use super::super::link;
use super::super::page::{Page, Place};
use super::super::text;
use super::lacking;
use super::read::Lack;
use crate::admin::Form;
use crate::admin::problem::Problem;
use crate::budgets::OperateError;
use crate::core::budget::Control;
use crate::core::id::Label;
use crate::ledger::RunRow;

/// Who acts, for the record: pages know nobody by name.
const WHO: &str = "dashboard";

pub(super) fn routes() -> Router<Desk> {
    let deed = |control: Control| {
        let ask = move |State(desk): State<Desk>, here: Here| async move {
            let answer = page(&desk, &here, control).await;
            frame::respond(&desk, &here, answer)
        };
        let act = move |State(desk): State<Desk>,
                        here: Here,
                        run: Path<String>,
                        form: Result<Form<Nothing>, Problem>| async move {
            match act(&desk, &run.0, form, control).await {
                Ok(done) => done,
                Err(problem) => frame::respond(&desk, &here, Err(problem)),
            }
        };
        get(ask).post(act)
    };
    Router::new()
        .route("/runs/{run}/pause", deed(Control::Paused))
        .route("/runs/{run}/resume", deed(Control::Running))
        .route("/runs/{run}/stop", deed(Control::Stopped))
}

/// A form without fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

struct Words {
    title: &'static str,
    button: &'static str,
    class: &'static str,
}

fn words(control: Control) -> Words {
    let of = |title, button, class| Words {
        title,
        button,
        class,
    };
    match control {
        Control::Paused => of("Pause a run", "Pause it", "main"),
        Control::Running => of("Resume a run", "Resume it", "main"),
        Control::Stopped => of("Stop a run", "Stop it", "danger"),
    }
}

async fn page(desk: &Desk, here: &Here, control: Control) -> Answer {
    let run: Label = here.named("run")?;
    let name = run.clone();
    let found = desk
        .ask(move |view| Ok(view.run(&name)?.map(|detail| detail.row)))
        .await?;
    let row = found.ok_or_else(|| lacking(&Lack::Run, &run, desk))?;
    let words = words(control);
    let body = html! {
        p { "Run " a href=(link::run(&run)) { (text::name(run.as_str())) } ", "
            (figure::state(super::head::standing(&row, false).0, super::head::standing(&row, false).1)) "." }
        (effect(control, &row))
        p.muted { "It is recorded as an event, done by " code { (WHO) } "." }
        form method="post" action=(here.path()) {
            button class=(words.class) { (words.button) } " "
            a.button href=(link::run(&run)) { "Back, change nothing" }
        }
    };
    Ok(Page::fixed(words.title, Place::Runs, body))
}

/// What a deed does, in words.
fn effect(control: Control, row: &RunRow) -> Markup {
    let running = row.open_calls;
    let those = if running == 1 {
        "1 call that runs now"
    } else {
        "calls that run now"
    };
    html! {
        p.prose {
            @match control {
                Control::Paused => {
                    "New calls of it, and of runs below it, wait until it is resumed, up to half the time that their \
                     clients would; then they are refused. "
                    @if running > 0 { "The " @if running > 1 { (figure::count(running)) " " } (those) " go on to their end." }
                    @else { "No call of it runs now." }
                }
                Control::Running => {
                    "New calls of it are let through again, and those that wait go on."
                }
                Control::Stopped => {
                    "New calls of it, and of runs below it, are refused until it is resumed. "
                    @if running > 0 { "The " @if running > 1 { (figure::count(running)) " " } (those) " are ended at once: what they have answered so far is charged." }
                    @else { "No call of it runs now." }
                }
            }
        }
    }
}

async fn act(
    desk: &Desk,
    run: &str,
    form: Result<Form<Nothing>, Problem>,
    control: Control,
) -> Result<Response, Problem> {
    let Form(Nothing {}) = form?;
    let run = Label::parse(run).map_err(|error| Problem::bad_request(format!("run: {error}")))?;
    let done = desk.state.budgets.control(&run, control, WHO).await;
    match done {
        Ok(_) => Ok(Redirect::to(&link::run(&run)).into_response()),
        Err(OperateError::NoSuchRun(_)) => Err(lacking(&Lack::Run, &run, desk)),
        Err(error) => Err(Problem::unavailable(format!(
            "nothing was changed: {error}"
        ))),
    }
}
