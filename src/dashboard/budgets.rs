//! Budgets and their accounts: how they stand, and what can be done about it.

mod accounts;
mod rate;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use maud::{Markup, html};

use self::accounts::{exported, section};
use self::rate::Rates;
use super::alerts::event_rows;
use super::deeds::{self, Deed};
use super::desk::Desk;
use super::here::Here;
use super::page::{Page, Place, empty, part};
use super::table::{Column, Table};
use super::{Answer, text, view};
use crate::admin::problem::Problem;
use crate::budgets::ask::BY_HEADER;
use crate::budgets::{AccountFilter, RuleRow};
use crate::core::budget::{Control, Dimension, Rule};
use crate::core::id::Label;
use crate::ledger::{IndexError, Sought, SpanFilter, View};

/// Accounts of one rule on a page, and where one rule alone is shown.
const ACCOUNTS: (usize, usize) = (25, 200);
/// Deeds in the list below.
const DEEDS: usize = 50;

pub(super) const EXAMPLE: &str = "[[budget]]
name = \"each run\"
per = [\"run\"]
usd = 2.00
slow_at = 0.8
";

const DEED_COLUMNS: [Column; 4] = [
    Column::text("at", "When"),
    Column::text("who", "By whom"),
    Column::text("what", "What"),
    Column::text("details", "Of what"),
];

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/budgets", view(page))
}

/// What the page is drawn from, beside the accounts.
struct Known {
    rates: Rates,
    controls: HashMap<Label, Control>,
    deeds: Sought,
}

async fn page(desk: Desk, here: Here) -> Answer {
    let filter = filter(&desk, &here)?;
    let is_filtered = filter.rule.is_some() || filter.value.is_some();
    let teller = deeds::teller(&desk);
    let mut rows = teller.list(filter).await?;
    // The rule behind the headers of clients is there always, and mostly of no account.
    rows.retain(|row| row.rule.name.as_str() != BY_HEADER || row.total > 0);
    let known = {
        let rules: Vec<Arc<Rule>> = rows.iter().map(|row| Arc::clone(&row.rule)).collect();
        let runs = runs(&rows);
        let now = here.now;
        desk.ask(move |view| {
            Ok(Known {
                rates: Rates::read(view, &rules, now)?,
                controls: controls(view, runs)?,
                deeds: log(view)?,
            })
        })
        .await?
    };
    let log = deed_table(&desk, &known.deeds);
    let table = exported(&rows, &known);
    let main = html! {
        (filters(&here, is_filtered))
        (part("budgets", &html! {
            @if rows.is_empty() { (nothing(is_filtered, &here)) }
            @else { div.table-head { span.muted { "Most used first." } (table.exports(&here)) } }
            @for (number, row) in rows.iter().enumerate() { (section(&desk, &here, (number, row), &known)) }
        }))
        (part("deeds", &html! { section { (log.draw(&here)) } }))
    };
    Ok(Page::live("Budgets", Place::Budgets, main).tables(vec![table, log]))
}

fn filter(desk: &Desk, here: &Here) -> Result<AccountFilter, Problem> {
    let label = |name: &str| {
        let said = here.get(name).map(Label::parse).transpose();
        said.map_err(|error| Problem::bad_request(format!("{name}: {error}")))
    };
    let (rule, value) = (label("rule")?, label("value")?);
    if let Some(rule) = &rule {
        let known = desk.state.budgets.rule(rule);
        known.map_err(|error| Problem::not_found(error.to_string()))?;
    }
    let on_page = if rule.is_some() {
        ACCOUNTS.1
    } else {
        ACCOUNTS.0
    };
    Ok(AccountFilter {
        limit: here.rows(on_page),
        rule,
        value,
    })
}

fn filters(here: &Here, is_filtered: bool) -> Markup {
    html! {
        form.filters method="get" action="/budgets" {
            @if let Some(rule) = here.get("rule") { input type="hidden" name="rule" value=(rule); }
            label { "Accounts of " input name="value" placeholder="a run, an agent, a user ..." value=[here.get("value")]; }
            button { "Find" }
            @if is_filtered {
                @if let Some(rule) = here.get("rule") { span.chip { "budget " (text::name(rule)) } }
                a href=(here.with(&[("rule", None), ("value", None)])) { "Show all" }
            }
        }
    }
}

fn nothing(is_filtered: bool, here: &Here) -> Markup {
    if is_filtered {
        return empty(
            "No account fits",
            &html! {
                p { "No account has this value in its key. " a href=(here.with(&[("rule", None), ("value", None)])) { "Show all" } }
            },
        );
    }
    empty(
        "No budget is configured",
        &html! {
            p { "Put one into the configuration; a running server takes it over when it is told to reload." }
            div.copy { pre { (EXAMPLE) } button type="button" data-copy hidden { "Copy" } }
        },
    )
}

/// The runs that accounts are of.
fn runs(rows: &[RuleRow]) -> Vec<Label> {
    let accounts = rows.iter().flat_map(|row| &row.accounts);
    let runs = accounts
        .filter_map(|account| run_of(&account.name.key))
        .cloned();
    let mut runs: Vec<Label> = runs.collect();
    runs.sort_unstable();
    runs.dedup();
    runs
}

fn run_of(key: &[(Dimension, Option<Label>)]) -> Option<&Label> {
    let run = key.iter().find(|(of, _)| *of == Dimension::Run);
    run.and_then(|(_, run)| run.as_ref())
}

fn controls(view: &View, runs: Vec<Label>) -> Result<HashMap<Label, Control>, IndexError> {
    let mut controls = HashMap::new();
    for run in runs {
        if let Some(state) = view.run_state(&run)? {
            controls.insert(run, state.control);
        }
    }
    Ok(controls)
}

/// The last things that operators did to budgets and runs.
fn log(view: &View) -> Result<Sought, IndexError> {
    const WHAT: [&str; 5] = [
        "budget_raised",
        "budget_reset",
        "run_paused",
        "run_resumed",
        "run_stopped",
    ];
    let filter = SpanFilter {
        limit: DEEDS,
        ..SpanFilter::default()
    };
    view.events_that(&filter, |event| WHAT.contains(&event.what.as_str()))
}

fn deed_table(desk: &Desk, deeds: &Sought) -> Table {
    Table {
        name: "deeds",
        caption: "What operators did".to_owned(),
        columns: &DEED_COLUMNS,
        rows: event_rows(desk, &deeds.items),
        more: None,
        empty: html! { p.muted {
            "Nobody raised, reset, paused or stopped anything "
            @if deeds.is_all { "yet." } @else { "lately." }
        } },
    }
}

/// The links to what can be done to an account, and to its run.
fn actions(here: &Here, account: &crate::budgets::AccountRow, known: &Known) -> Markup {
    let run = run_of(&account.name.key);
    let control = run.map(|run| known.controls.get(run).copied().unwrap_or_default());
    html! {
        span.actions {
            a href=(deeds::of_account(here, Deed::Raise, &account.name)) { "raise" } " "
            a href=(deeds::of_account(here, Deed::Reset, &account.name)) { "reset" }
            @if let (Some(run), Some(control)) = (run, control) {
                @if control == Control::Running {
                    " " a href=(deeds::of_run(here, Control::Paused, run)) { "pause" }
                } @else {
                    " " a href=(deeds::of_run(here, Control::Running, run)) { "resume" }
                }
                @if control != Control::Stopped {
                    " " a href=(deeds::of_run(here, Control::Stopped, run)) { "stop" }
                }
            }
        }
    }
}
