//! What an operator does from a page, always in one way: the form says in words what will happen,
//! its button is a POST of our own page, it is done through the engine - which records it - and the
//! reader is sent back with a note of what was done. GET changes nothing; what is sent twice is done
//! once.

pub(super) mod measure;
mod memory;
mod order;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{MethodRouter, get};
use http::StatusCode;
use maud::{Markup, html};
use strum::IntoEnumIterator;

use self::memory::Begun;
pub(super) use self::memory::Memory;
use self::order::{Effect, Fields, Order};
pub(super) use self::order::{KEY, teller};
use super::desk::Desk;
use super::export::Export;
use super::here::Here;
use super::page::{Page, Place};
use super::{Answer, frame, link, text};
use crate::admin::problem::Problem;
use crate::admin::{Form, own_path};
use crate::core::budget::{AccountName, Control};
use crate::core::id::{CallId, Label};
use crate::core::time::Timestamp;

/// The parameter that says which note to show.
pub(super) const DONE: &str = "done";
/// The field that makes a form one that is carried out once.
const ONCE: &str = "once";
const BACK: &str = "back";
/// A form that is older has to be opened again, in microseconds.
const LASTS_US: u64 = 3_600_000_000;

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumIter)]
pub(super) enum Deed {
    Raise,
    Reset,
    Pause,
    Resume,
    Stop,
    LetGo,
    Test,
}

impl Deed {
    fn path(self) -> &'static str {
        match self {
            Self::Raise => "/budgets/raise",
            Self::Reset => "/budgets/reset",
            Self::Pause => "/budgets/pause",
            Self::Resume => "/budgets/resume",
            Self::Stop => "/budgets/stop",
            Self::LetGo => "/loops/reset",
            Self::Test => "/alerts/test",
        }
    }

    fn place(self) -> Place {
        match self {
            Self::LetGo => Place::Loops,
            Self::Test => Place::Alerts,
            _ => Place::Budgets,
        }
    }

    /// What the form is headed by.
    fn title(self) -> &'static str {
        match self {
            Self::Raise => "Raise a budget",
            Self::Reset => "Reset a budget",
            Self::Pause => "Pause a run",
            Self::Resume => "Resume a run",
            Self::Stop => "Stop a run",
            Self::LetGo => "Let a loop go on",
            Self::Test => "Test a webhook",
        }
    }

    /// What its button says.
    fn button(self) -> &'static str {
        match self {
            Self::Raise => "Raise it",
            Self::Reset => "Reset it",
            Self::Pause => "Pause it",
            Self::Resume => "Resume it",
            Self::Stop => "Stop it",
            Self::LetGo => "Let it go on",
            Self::Test => "Send it",
        }
    }

    /// What of it does not come back.
    fn warning(self) -> Option<&'static str> {
        match self {
            Self::Reset => Some("this cannot be undone"),
            Self::Stop => Some("calls that are ended do not come back"),
            _ => None,
        }
    }

    /// Where one goes back to when the form does not say.
    fn home(self) -> &'static str {
        match self {
            Self::LetGo => "/loops",
            Self::Test => "/alerts",
            _ => "/budgets",
        }
    }
}

pub(super) fn routes() -> Router<Desk> {
    let add = |router: Router<Desk>, deed: Deed| router.route(deed.path(), methods(deed));
    Deed::iter().fold(measure::routes(), add)
}

fn methods(deed: Deed) -> MethodRouter<Desk> {
    let ask = move |State(desk): State<Desk>, here: Here| async move {
        let page = match here.check() {
            Ok(()) => form(&desk, &here, deed).await,
            Err(problem) => Err(problem),
        };
        frame::respond(&desk, &here, page)
    };
    let act = move |State(desk): State<Desk>, here: Here, sent: Sent| async move {
        // It goes on though the reader leaves: what was begun must be told as done.
        let doing = tokio::spawn(carried_out(desk.clone(), deed, sent));
        let done = doing.await;
        let done = done.unwrap_or_else(|error| Err(Problem::internal("it was not done", &error)));
        match done {
            Ok(to) => Redirect::to(&to).into_response(),
            Err(problem) => frame::respond(&desk, &here, Err(problem)),
        }
    };
    get(ask).post(act)
}

/// What a form sends.
type Sent = Result<Form<Vec<(String, String)>>, Problem>;

/// Does what a form asks for, once; says where to go then.
async fn carried_out(desk: Desk, deed: Deed, sent: Sent) -> Result<String, Problem> {
    let fields = Fields::of(sent?.0);
    let once = once(&desk, &fields)?;
    let order = Order::read(deed, &fields)?;
    let order = order.ok_or_else(|| Problem::bad_request(order::nothing(deed)))?;
    match desk.deeds.begin(once) {
        Begun::First(doing) => doing.end(order.carry_out(&desk).await)?,
        Begun::Again(told) => told.result().await?,
    }
    Ok(told_at(&back(fields.get(BACK), deed.home()), once))
}

/// Where the reader came from, with the note of what was done.
fn told_at(back: &str, once: CallId) -> String {
    let mark = if back.contains('?') { '&' } else { '?' };
    format!("{back}{mark}{DONE}={once}")
}

/// Which form was sent.
fn once(desk: &Desk, fields: &Fields) -> Result<CallId, Problem> {
    let said = fields
        .get(ONCE)
        .and_then(|said| said.parse::<CallId>().ok());
    let Some(once) = said else {
        return Err(Problem::bad_request(
            "once: a form of this listener carries its number; open the form again",
        ));
    };
    let bytes = once.to_bytes();
    let millis = bytes
        .iter()
        .take(6)
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let micros = |at: Timestamp| u64::try_from(at.micros()).unwrap_or(0);
    let now = micros(desk.now());
    if now.saturating_sub(millis.saturating_mul(1000)) > LASTS_US {
        return Err(Problem::bad_request(
            "this form is more than an hour old, and things may stand differently now: nothing was \
             done; open the form again",
        ));
    }
    // What was carried out is only remembered by the process that did it.
    if millis < micros(desk.state.started_at) / 1000 || millis > now / 1000 {
        return Err(Problem::bad_request(
            "this form is too old: it is from before the server was started, or its clock was set \
             back. This time nothing was done; look whether it was done before, then open the form again \
             and send that",
        ));
    }
    Ok(once)
}

/// Where the reader came from: one of our pages, without what is there once only.
fn back(said: Option<&str>, home: &str) -> String {
    let said = said.and_then(own_path).unwrap_or(home);
    let said = said.split('#').next().unwrap_or_default();
    let (path, query) = said.split_once('?').unwrap_or((said, ""));
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
    let kept = pairs
        .iter()
        .filter(|(key, _)| key != Export::NAME && key != DONE);
    link::to(
        path,
        kept.map(|(key, value)| (key.as_str(), value.as_str())),
    )
}

/// The page that says what will happen, with the button that makes it happen.
async fn form(desk: &Desk, here: &Here, deed: Deed) -> Answer {
    let passing = [Export::NAME, DONE];
    let kept = here.pairs().iter();
    let kept = kept.filter(|(name, _)| !passing.contains(&name.as_str()));
    let fields = Fields::of(kept.cloned().collect());
    let inputs = order::inputs(desk, deed, &fields).await?;
    let effect = match effect(desk, deed, &fields).await {
        // What was typed stays, with what is wrong with it.
        Err(problem) if problem.status == StatusCode::BAD_REQUEST && inputs.is_some() => {
            Err(problem)
        }
        other => Ok(other?),
    };
    let status = match effect {
        Ok(_) => StatusCode::OK,
        Err(_) => StatusCode::BAD_REQUEST,
    };
    let back = back(fields.get(BACK), deed.home());
    let main = html! {
        @if let Some(inputs) = inputs { (inputs) }
        @match effect {
            Ok(Some(effect)) => (confirm(desk, deed, (&fields, &back), &effect)),
            Ok(None) => p { a href=(back) { "Back" } },
            Err(problem) => {
                p.note.bad role="alert" { (text::shown(&problem.detail)) }
                p { a href=(back) { "Back" } }
            },
        }
    };
    let page = Page::fixed(deed.title(), deed.place(), main);
    Ok(Page { status, ..page })
}

/// What the order would do, where it says how much.
async fn effect(desk: &Desk, deed: Deed, fields: &Fields) -> Result<Option<Effect>, Problem> {
    match Order::read(deed, fields)? {
        Some(order) => order.effect(desk).await.map(Some),
        None => Ok(None),
    }
}

fn confirm(desk: &Desk, deed: Deed, (fields, back): (&Fields, &str), effect: &Effect) -> Markup {
    let warning = deed.warning();
    let class = if warning.is_some() { "danger" } else { "main" };
    html! {
        section.card.deed {
            h2 { "What this does" }
            @for line in &effect.lines { p { (text::shown(line)) } }
            @if let Some(warning) = warning { p { (super::figure::state("warn", warning)) } }
            form method="post" action=(deed.path()) {
                input type="hidden" name=(ONCE) value=(desk.state.clock.call_id());
                input type="hidden" name=(BACK) value=(back);
                @for (name, value) in fields.besides(&[ONCE, BACK]) {
                    input type="hidden" name=(name) value=(value);
                }
                button class=(class) { (deed.button()) }
                " " a.button href=(back) { "Leave it as it is" }
            }
        }
    }
}

/// What was done, on the page that the reader was sent back to.
pub(super) fn note(desk: &Desk, here: &Here) -> Markup {
    let done = here.get(DONE).and_then(|said| said.parse().ok());
    let words = done.and_then(|done| desk.deeds.words(done));
    html! {
        @if let Some(words) = words {
            div.note.ok role="status" { strong { "Done" } ": " (text::shown(&words)) " "
                a href=(here.with(&[])) { "Hide" } }
        }
    }
}

/// Leads to the form that raises an account, or resets it.
pub(super) fn of_account(here: &Here, deed: Deed, name: &AccountName) -> String {
    let back = here.with(&[]);
    let key: Vec<(String, &str)> = name
        .key
        .iter()
        .map(|(of, value)| {
            (
                format!("{}{of}", order::KEY),
                value.as_ref().map_or("", Label::as_str),
            )
        })
        .collect();
    let key = key.iter().map(|(of, value)| (of.as_str(), *value));
    let of = [("rule", name.rule.as_str()), (BACK, back.as_str())];
    link::to(deed.path(), of.into_iter().chain(key))
}

/// Leads to the form that pauses a run, lets it go on, or stops it.
pub(super) fn of_run(here: &Here, control: Control, run: &Label) -> String {
    let deed = match control {
        Control::Running => Deed::Resume,
        Control::Paused => Deed::Pause,
        Control::Stopped => Deed::Stop,
    };
    let back = here.with(&[]);
    link::to(deed.path(), [("run", run.as_str()), (BACK, back.as_str())])
}

/// Leads to the form that lets a loop go on.
pub(super) fn of_loop(here: &Here, trip: CallId) -> String {
    let (back, trip) = (here.with(&[]), trip.to_string());
    link::to(
        Deed::LetGo.path(),
        [("loop", trip.as_str()), (BACK, back.as_str())],
    )
}

/// Leads to the form that sends a test to a webhook.
pub(super) fn of_webhook(here: &Here, webhook: &Label) -> String {
    let back = here.with(&[]);
    link::to(
        Deed::Test.path(),
        [("webhook", webhook.as_str()), (BACK, back.as_str())],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_leads_to_our_own_pages_and_to_no_export() {
        let of = |said: &str| back(Some(said), Deed::Raise.home());
        assert_eq!(of("/budgets?rule=a%2Fb"), "/budgets?rule=a%2Fb");
        assert_eq!(of("/budgets?export=budgets.csv&rule=a"), "/budgets?rule=a");
        assert_eq!(of("/runs/a%2Fb?done=x#top"), "/runs/a%2Fb");
        for foreign in ["//evil.example", "https://evil.example", "javascript:x", ""] {
            assert_eq!(of(foreign), "/budgets", "{foreign}");
        }
        assert_eq!(back(None, Deed::LetGo.home()), "/loops");
    }
}
