//! One run: its calls over time, its agents, what was said.

mod asked;
mod costs;
mod file;
mod head;
mod lines;
mod listed;
mod map;
mod read;
mod said;
mod scale;
mod steps;
mod texts;
mod timeline;

use std::sync::Arc;

use axum::Router;
use maud::{Markup, html};

use self::asked::{Asked, Tab};
use self::head::Head;
use self::read::{Lack, Shown};
use self::timeline::Timeline;
use super::deeds;
use super::desk::Desk;
use super::figure;
use super::here::Here;
use super::measured;
use super::page::{Page, Place, held, part};
use super::table::Table;
use super::text;
use super::{Answer, view};
use crate::admin::problem::Problem;
use crate::budgets::RuleRow;
use crate::core::id::Label;
use crate::core::loops::trip::Trip;
use crate::core::metric::Subject;

pub(super) use self::costs::usd;
pub(super) use self::head::{amount, standing};

pub(super) fn routes() -> Router<Desk> {
    Router::new()
        .route("/runs/{run}", view(page))
        .merge(file::routes())
}

async fn page(desk: Desk, here: Here) -> Answer {
    let asked = Asked::read(&here)?;
    let question = asked.clone();
    let found = desk.ask(move |view| read::shown(view, &question)).await?;
    let shown = found.map_err(|lack| lacking(&lack, &asked.run, &desk))?;
    let budgets = budgets(&desk, &asked.run).await?;
    let open = open_trips(&desk, &asked.run);
    let head = Head {
        facts: &shown.facts,
        budgets: &budgets,
        open: &open,
        desk: &desk,
        here: &here,
    };
    let agents = costs::table(&shown.facts.detail, &here);
    let (measured, said) = measured(&desk, &asked.run).await?;
    let main = html! {
        (timeline::patterns())
        div.columns {
            (part("run-head", &head.draw()))
            (part("run-agents", &html! {
                div.box { (agents.draw(&here)) }
                @if costs::is_shared(&shown.facts.detail) {
                    p.muted { "What an agent sets off that several others call counts with each of those." }
                }
            }))
        }
        (part("run-metrics", &html! {
            (measured::draw(&measured, &here))
            (measured::draw(&said, &here))
        }))
        (deeds::measure::of(&here, &Subject::Run(asked.run.clone())))
        (part("run-trips", &head.trips()))
        (part("run-chips", &head.chips(asked.agent.as_ref())))
        (part("run-map", &map::draw(&shown, &here, &map::scale(&shown.calls, asked.true_scale))))
        (tabs(&here, asked.tab))
        (calls(&shown, &asked, &head))
    };
    let mut tables = vec![agents, measured, said];
    if asked.is_export {
        let ids: Vec<_> = shown.rows.keys().copied().collect();
        let metrics = desk.ask(move |view| {
            let metrics = view.metrics_of_calls(&ids)?;
            Ok(ids.into_iter().zip(metrics).collect())
        });
        tables.push(listed::table(&shown, &metrics.await?));
    }
    let title = format!("Run {}", text::plain(asked.run.as_str()));
    Ok(Page::live(title, Place::Runs, main).tables(tables))
}

fn tabs(here: &Here, now: Tab) -> Markup {
    let to = |tab: Tab| here.with(&[("view", Some(tab.name()).filter(|_| tab != Tab::default()))]);
    let current = |tab: Tab| (tab == now).then_some("page");
    let file = |form: &str| here.with(&[("export", Some(&format!("calls.{form}")))]);
    html! {
        nav.tabs aria-label="How the calls are shown" {
            a href=(to(Tab::Timeline)) aria-current=[current(Tab::Timeline)] { "Timeline" }
            a href=(to(Tab::Steps)) aria-current=[current(Tab::Steps)] { "Steps" }
            span.exports { "Export calls " a href=(file("csv")) { "CSV" } " " a href=(file("json")) { "JSON" } }
        }
    }
}

fn calls(shown: &Shown, asked: &Asked, head: &Head<'_>) -> Markup {
    match asked.tab {
        Tab::Timeline => held(
            "run-calls",
            "calls",
            &Timeline::new(shown, asked, head).draw(),
        ),
        Tab::Steps => held("run-steps", "steps", &steps::draw(shown, asked, head)),
    }
}

/// What its custom metrics come to, and what was said of the run itself.
async fn measured(desk: &Desk, run: &Label) -> Result<(Table, Table), Problem> {
    let run = run.clone();
    let metrics = desk.ask(move |view| view.run_metrics(&run)).await?;
    let said = measured::of_itself(&metrics.own, &desk.zone);
    Ok((measured::of_run(&metrics), said))
}

/// The budgets that this run has to itself.
async fn budgets(desk: &Desk, run: &Label) -> Result<Vec<RuleRow>, Problem> {
    let budgets = Arc::clone(&desk.state.budgets);
    let run = run.clone();
    budgets.look_at(budgets.accounts_of_run(&run)).await;
    desk.state.records.read(move || budgets.of_run(&run)).await
}

fn open_trips(desk: &Desk, run: &Label) -> Vec<Trip> {
    let open = desk.state.loops.open_trips().into_iter();
    open.filter(|trip| trip.run.as_ref() == Some(run)).collect()
}

/// That there is no such run, or no such call of it, and since when there could be.
fn lacking(lack: &Lack, run: &Label, desk: &Desk) -> Problem {
    let kept = desk.state.config.load().ledger.keep_for;
    let kept = kept.map_or_else(
        || "as long as keep_size of [ledger] leaves room for them".to_owned(),
        |kept| {
            let micros = u64::try_from(kept.as_micros()).unwrap_or(u64::MAX);
            format!("for {}, see keep_for of [ledger]", figure::duration(micros))
        },
    );
    Problem::not_found(match lack {
        Lack::Run => format!("no call of a run {run} is recorded; records are kept {kept}"),
        Lack::Call(call) => format!(
            "the run {run} has no call {call} here: it may belong to another run or agent; records are kept {kept}"
        ),
    })
}
