//! One call: what was sent and answered, what it used, how it was decided.

mod attribution;
mod decisions;
mod diff;
mod headers;
mod messages;
mod raw;
mod timing;
mod usage;

use axum::Router;
use maud::{Markup, html};
use strum::{IntoEnumIterator, IntoStaticStr};

use super::deeds;
use super::desk::Desk;
use super::here::Here;
use super::measured;
use super::page::{Page, Place, part};
use super::table::Table;
use super::{Answer, figure, link, text, view};
use crate::admin::problem::Problem;
use crate::admin::step::{self, Around, MAX_PREVIEW, Options, StepView};
use crate::core::call::Outcome;
use crate::core::id::CallId;
use crate::core::metric::{Measurement, Subject};
use crate::core::money::NanoUsd;
use crate::ledger::{CallDetail, CallRow, MetricFilter, MetricScope};

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/calls/{id}", view(page))
}

/// What of the call is shown.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumIter, strum::EnumString, IntoStaticStr,
)]
#[strum(serialize_all = "lowercase")]
enum Tab {
    #[default]
    Messages,
    Raw,
    Headers,
    Usage,
    Attribution,
    Decisions,
    Timing,
}

impl Tab {
    fn read(here: &Here) -> Result<Self, Problem> {
        let Some(said) = here.get("tab") else {
            return Ok(Self::default());
        };
        said.parse().map_err(|_| {
            let names: Vec<&str> = Self::iter().map(Into::into).collect();
            Problem::bad_request(format!(
                "tab: found `{said}`, expected {}",
                names.join(", ")
            ))
        })
    }

    fn title(self) -> &'static str {
        match self {
            Self::Messages => "Messages",
            Self::Raw => "Raw",
            Self::Headers => "Headers",
            Self::Usage => "Usage",
            Self::Attribution => "Attribution",
            Self::Decisions => "Decisions",
            Self::Timing => "Timing",
        }
    }
}

/// All that is known of the call and that a tab may show.
struct Known {
    detail: CallDetail,
    around: Around,
    /// Only where messages are shown.
    step: Option<StepView>,
    /// Only where bytes are shown.
    raw: Option<raw::Bodies>,
    judged: decisions::Judged,
    /// What was measured of it.
    metrics: Vec<Measurement>,
}

async fn page(desk: Desk, here: Here) -> Answer {
    let id: CallId = here.named("id")?;
    let tab = Tab::read(&here)?;
    let shown = messages::Shown::read(&here)?;
    let options = options(shown);
    let is_long = raw::is_long(&here)?;
    let known = desk.ask(move |view| {
        let Some(detail) = view.call(id)? else {
            return Ok(None);
        };
        let step = match tab {
            Tab::Messages => step::step(view, id, options)?,
            _ => None,
        };
        let around = match &step {
            Some(step) => step.around.clone(),
            None => step::around(view, &detail)?,
        };
        let raw = match tab {
            Tab::Raw => Some(raw::Bodies::read(view, &detail, is_long)?),
            _ => None,
        };
        let judged = match tab {
            Tab::Decisions => decisions::Judged::find(view, &detail)?,
            _ => decisions::Judged::default(),
        };
        Ok(Some(Known {
            detail,
            around,
            step,
            raw,
            judged,
            metrics: view
                .measurements(&MetricFilter::of(MetricScope::Call(id)))?
                .items,
        }))
    });
    let known = known.await?.ok_or_else(|| unknown(id))?;
    let (content, mut tables): (Markup, Vec<Table>) = match tab {
        Tab::Messages => (messages::draw(&here, &known, shown), Vec::new()),
        Tab::Raw => (raw::draw(&here, &known), Vec::new()),
        Tab::Headers => headers::draw(&here, &known),
        Tab::Usage => usage::draw(&desk, &here, &known),
        Tab::Attribution => attribution::draw(&here, &known),
        Tab::Decisions => (decisions::draw(&desk, &here, &known), Vec::new()),
        Tab::Timing => (timing::draw(&known), Vec::new()),
    };
    let measured = measured::of_call(&known.metrics, &desk.zone);
    let main = html! {
        (around(&here, &known))
        (part("head", &facts(&desk, &here, &known.detail.row)))
        (part("metrics", &measured::draw(&measured, &here)))
        (deeds::measure::of(&here, &Subject::Call(id)))
        (tabs(&here, tab))
        (part("content", &content))
    };
    let title = format!("Call of {}", known.detail.row.agent);
    let changes = known.detail.row.outcome.is_none() || known.detail.row.is_pending;
    let page = if changes {
        Page::live(title, Place::Elsewhere, main)
    } else {
        Page::fixed(title, Place::Elsewhere, main)
    };
    tables.push(measured);
    Ok(page.tables(tables))
}

fn options(shown: messages::Shown) -> Options {
    Options {
        full: shown.needs_all(),
        preview: if shown.is_one() {
            MAX_PREVIEW
        } else {
            step::PREVIEW
        },
        message: shown.message(),
    }
}

fn unknown(id: CallId) -> Problem {
    Problem::not_found(format!(
        "no call {id} is recorded: the id may be wrong, or its records are not kept any more (see \
         keep_for and keep_size of [ledger])"
    ))
}

/// The calls before and after, in the conversation and in the run.
fn around(here: &Here, known: &Known) -> Markup {
    let (around, id) = (&known.around, known.detail.row.id);
    let tab = here.get("tab").unwrap_or_default();
    let to = |call: Option<CallId>, word: &'static str| {
        call.map(|call| {
            let query = [("tab", tab)]
                .into_iter()
                .filter(|(_, tab)| !tab.is_empty());
            (here.at(&link::call(call), query), word)
        })
    };
    let pairs = [
        (
            "In the conversation",
            to(around.before, "previous"),
            to(around.after, "next"),
        ),
        (
            "In the run",
            to(around.before_in_run, "previous"),
            to(around.after_in_run, "next"),
        ),
    ];
    html! {
        nav.around aria-label="Calls around this one" {
            @for (what, before, after) in pairs {
                span {
                    span.muted { (what) ": " }
                    @for link in [before, after].into_iter().flatten() {
                        a href=(link.0) rel=(if link.1 == "next" { "next" } else { "prev" }) { (link.1) } " "
                    }
                    @if to_none(known, what) { span.none { "none" } }
                }
            }
            span.mono.muted { (id) " "
                button type="button" data-copy=(id) hidden { "Copy id" } }
        }
    }
}

/// Whether there is none, as far as it was looked for: without a name of the conversation the call
/// before is only known where messages are compared.
fn to_none(known: &Known, what: &str) -> bool {
    let around = &known.around;
    if what == "In the run" {
        around.before_in_run.is_none() && around.after_in_run.is_none()
    } else {
        let is_known = known.step.is_some() || known.detail.row.conversation.is_some();
        is_known && around.before.is_none() && around.after.is_none()
    }
}

fn tabs(here: &Here, now: Tab) -> Markup {
    html! {
        nav.tabs aria-label="What of the call" {
            @for tab in Tab::iter() {
                @let name: &'static str = tab.into();
                a href=(here.with(&[("tab", Some(name)), ("show", None), ("message", None)]))
                    aria-current=[(tab == now).then_some("page")] { (tab.title()) }
            }
        }
    }
}

/// What is asked first of a call.
fn facts(desk: &Desk, here: &Here, row: &CallRow) -> Markup {
    let (kind, word) = outcome(row.outcome);
    let usage = &row.usage;
    let fact = |name: &str, value: Markup| html! { div { dt { (name) } dd { (value) } } };
    html! {
        dl.strip {
            (fact("Outcome", html! {
                (figure::state(kind, word))
                @if row.is_pending { " " (figure::state("run", "goes on at the upstream")) }
            }))
            (fact("Status", html! { @match row.status { Some(status) => (status), None => span.none { "-" } } }))
            (fact("Agent", html! {
                a href=(here.at("/runs", [("agent", row.agent.as_str())])) { (text::name(row.agent.as_str())) }
                @if let Some(caller) = &row.caller { span.muted { " for " } (text::name(caller.as_str())) }
            }))
            (fact("Run", html! { @match &row.run {
                Some(run) => a href=(here.at(&link::run(run), [("call", row.id.to_string().as_str())])) { (text::name(run.as_str())) },
                None => span.none { "-" },
            } }))
            (fact("Model", model(row)))
            (fact("Started", figure::time(row.started_at, &desk.zone)))
            (fact("Duration", html! { @match row.duration_us {
                Some(took) => (figure::duration(took)),
                None => { "running since " (figure::clock(row.started_at, &desk.zone)) },
            } }))
            (fact("Tokens", html! {
                (figure::count(usage.input_tokens)) " in, " (figure::count(usage.output_tokens)) " out"
            }))
            (fact("Cost", html! { @if row.outcome.is_some() {
                (figure::cost(row.cost_nano_usd.map(NanoUsd::new)))
            } @else { span.none { "-" } } }))
        }
        @if let Some(error) = &row.error { p.note.bad { (text::shown(error)) } }
    }
}

fn model(row: &CallRow) -> Markup {
    html! {
        @match (&row.request_model, &row.response_model) {
            (Some(asked), Some(answered)) if asked != answered => {
                (text::name(asked.as_str())) span.muted { " answered by " } (text::name(answered.as_str()))
            },
            (Some(one), _) | (None, Some(one)) => (text::name(one.as_str())),
            (None, None) => span.none { "-" },
        }
    }
}

/// How a call ended: the kind of state, and in words.
pub(super) fn outcome(outcome: Option<Outcome>) -> (&'static str, &'static str) {
    match outcome {
        None => ("run", "running"),
        Some(Outcome::Completed) => ("ok", "completed"),
        Some(Outcome::UpstreamError) => ("bad", "upstream error"),
        Some(Outcome::UpstreamUnavailable) => ("bad", "upstream unavailable"),
        Some(Outcome::UpstreamCut) => ("bad", "cut off by the upstream"),
        Some(Outcome::ClientGone) => ("warn", "the client left"),
        Some(Outcome::Recovered) => ("warn", "open at a crash"),
        Some(Outcome::Cut) => ("warn", "cut off at shutdown"),
        Some(Outcome::Rejected) => ("bad", "rejected"),
    }
}
