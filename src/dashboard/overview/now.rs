//! What happens now: runs with calls on their way, loops that are stopped, what was warned of,
//! budgets that are nearly spent. None of it depends on the range.

use std::sync::Arc;

use maud::{Markup, html};

use super::super::alerts::severity;
use super::super::desk::Desk;
use super::super::figure;
use super::super::here::Here;
use super::super::link;
use super::super::page::part;
use super::super::text;
use crate::admin::problem::Problem;
use crate::alerts::Alert;
use crate::budgets::{AccountFilter, AccountRow, Budgets, MeasureRow, RuleRow};
use crate::core::budget::amounts::micro_text;
use crate::core::budget::{Dimension, Measure, Rule};
use crate::core::id::Label;
use crate::core::loops::refusal::summary;
use crate::core::loops::trip::Trip;
use crate::core::money::NanoUsd;
use crate::ledger::{IndexError, RunFilter, RunRow, SpanFilter, Standing};

/// Rows of each list.
const RUNS: usize = 8;
const TRIPS: usize = 5;
const ALERTS: usize = 5;
const BUDGETS: usize = 5;

/// A budget and how one account of it stands.
struct Near {
    rule: Arc<Rule>,
    account: AccountRow,
}

pub(super) struct Now {
    /// Each with the budget that is nearest to its limit, if it has one of its own.
    running: Vec<(RunRow, Option<Near>)>,
    are_more_running: bool,
    trips: Vec<Trip>,
    alerts: Vec<Alert>,
    near: Vec<Near>,
}

impl Now {
    pub(super) async fn ask(desk: &Desk) -> Result<Self, Problem> {
        let budgets = Arc::clone(&desk.state.budgets);
        look_at_nearest(desk).await?;
        let trips = desk.state.loops.open_trips();
        let mut alerts = desk.state.alerts.list();
        alerts.sort_by_key(|alert| std::cmp::Reverse(alert.last_at));
        alerts.truncate(ALERTS);
        desk.ask(move |view| {
            let page = view.runs(&RunFilter {
                span: SpanFilter {
                    limit: RUNS,
                    ..SpanFilter::default()
                },
                standing: Some(Standing::Running),
                ..RunFilter::default()
            })?;
            let (near, of_runs) = nearest(&budgets)?;
            let of = |row: RunRow| Ok((budget_of(&budgets, &of_runs, &row.run)?, row));
            let running: Vec<_> = page
                .items
                .into_iter()
                .map(of)
                .collect::<Result<_, IndexError>>()?;
            Ok(Self {
                running: running.into_iter().map(|(near, row)| (row, near)).collect(),
                are_more_running: page.next.is_some(),
                trips,
                alerts,
                near,
            })
        })
        .await
    }

    pub(super) fn has_running_calls(&self) -> bool {
        !self.running.is_empty()
    }

    pub(super) fn draw(&self, desk: &Desk, here: &Here) -> Markup {
        html! {
            section { (part("running", &self.running(desk, here))) }
            section { (part("tripped", &self.tripped(here))) }
            section { (part("warned", &self.warned(desk, here))) }
            section { (part("near", &self.near(here))) }
        }
    }

    fn running(&self, desk: &Desk, here: &Here) -> Markup {
        html! {
            div.table-head {
                h2 { "Running now" }
                @if self.are_more_running { a href=(here.at("/runs", [("state", "running")])) { "all" } }
            }
            @if self.running.is_empty() { p.muted { "No run has a call on its way." } }
            ul.list {
                @for (row, near) in &self.running {
                    @let name = row.run.as_str();
                    li id=(format!("running-{}", link::encode(name))) data-key=(link::encode(name)) {
                        div.list-line {
                            a.cut href=(link::run(&row.run)) title=(name) { (text::name(name)) }
                            span.nowrap { (figure::spent(NanoUsd::new(row.totals.cost_nano_usd), row.totals.unpriced_calls, row.totals.calls)) }
                        }
                        div.list-line.muted {
                            (figure::state("run", &format!("{} open", figure::count(row.open_calls))))
                            span { (figure::count(row.totals.calls)) " ended, since " (figure::clock(row.first_at, &desk.zone)) }
                        }
                        @if let Some(near) = near { (near.draw()) }
                    }
                }
            }
        }
    }

    fn tripped(&self, here: &Here) -> Markup {
        html! {
            div.table-head {
                h2 { "Stopped loops" }
                @if self.trips.len() > TRIPS { a href=(here.at("/loops", [])) { "all " (figure::count(self.trips.len() as u64)) } }
            }
            @if self.trips.is_empty() { p.muted { "No loop is stopped." } }
            ul.list {
                @for trip in self.trips.iter().take(TRIPS) {
                    li id=(format!("trip-{}", trip.id)) data-key=(trip.id) {
                        div.list-line {
                            a href=(format!("{}#trip-{}", here.at("/loops", []), trip.id)) { (text::name(trip.agent.as_str())) }
                            (figure::state("bad", "tripped"))
                        }
                        div.muted { (text::shown(&summary(&trip.evidence))) ", " (figure::many(u64::from(trip.refused), "call")) " refused" }
                    }
                }
            }
        }
    }

    fn warned(&self, desk: &Desk, here: &Here) -> Markup {
        html! {
            div.table-head {
                h2 { "Newest alerts" }
                a href=(here.at("/alerts", [])) { "all" }
            }
            @if self.alerts.is_empty() { p.muted { "Nothing to tell." } }
            ul.list {
                @for alert in &self.alerts {
                    li data-key=(alert.id) {
                        div.list-line { (severity(alert)) span.muted { (figure::time(alert.last_at, &desk.zone)) } }
                        div.clamped { (text::shown(&alert.text)) }
                    }
                }
            }
        }
    }

    fn near(&self, here: &Here) -> Markup {
        html! {
            div.table-head {
                h2 { "Budgets nearest to their limits" }
                a href=(here.at("/budgets", [])) { "all" }
            }
            @if self.near.is_empty() {
                p.muted { "No budget has been used. " code { "[[budget]]" } " in the config sets them." }
            }
            ul.list {
                @for near in &self.near {
                    li {
                        div.list-line {
                            span.cut title=(near.account.name.to_string()) { (text::name(near.rule.name.as_str())) span.muted { " " (text::name(&near.key())) } }
                            (figure::state(near.kind(), near.account.state(&near.rule)))
                        }
                        (near.draw())
                    }
                }
            }
        }
    }
}

/// What others have of the accounts that are shown.
async fn look_at_nearest(desk: &Desk) -> Result<(), Problem> {
    let budgets = Arc::clone(&desk.state.budgets);
    if budgets.shared().is_none() {
        return Ok(());
    }
    let (near, _) = desk.state.records.read(move || nearest(&budgets)).await?;
    let names = near.into_iter().map(|near| near.account.name);
    desk.state.budgets.look_at(names.collect()).await;
    Ok(())
}

/// The accounts nearest to their limits, and the rules that have one for each run.
fn nearest(budgets: &Budgets) -> Result<(Vec<Near>, Vec<Arc<Rule>>), IndexError> {
    let rows = budgets.list(&AccountFilter {
        limit: BUDGETS,
        ..AccountFilter::default()
    })?;
    let of_runs = rows.iter().filter(|row| row.rule.per == [Dimension::Run]);
    let of_runs = of_runs.map(|row| Arc::clone(&row.rule)).collect();
    let mut near: Vec<Near> = rows
        .into_iter()
        .flat_map(Near::all)
        .filter(|near| near.account.used_permille > 0)
        .collect();
    near.sort_by_key(|near| std::cmp::Reverse((near.account.used_permille, near.account.last_at)));
    near.truncate(BUDGETS);
    Ok((near, of_runs))
}

/// What the run may still use by the budget that leaves it least.
fn budget_of(
    budgets: &Budgets,
    rules: &[Arc<Rule>],
    run: &Label,
) -> Result<Option<Near>, IndexError> {
    let mut nearest: Option<Near> = None;
    for rule in rules {
        let rows = budgets.list(&AccountFilter {
            rule: Some(rule.name.clone()),
            value: Some(run.clone()),
            limit: 1,
        })?;
        for near in rows.into_iter().flat_map(Near::all) {
            if nearest
                .as_ref()
                .is_none_or(|known| known.account.used_permille < near.account.used_permille)
            {
                nearest = Some(near);
            }
        }
    }
    Ok(nearest)
}

impl Near {
    fn all(row: RuleRow) -> impl Iterator<Item = Self> {
        let rule = row.rule;
        row.accounts.into_iter().map(move |account| Self {
            rule: Arc::clone(&rule),
            account,
        })
    }

    fn key(&self) -> String {
        let values = self
            .account
            .name
            .key
            .iter()
            .map(|(_, value)| value.as_ref().map_or("(none)", Label::as_str));
        values.collect::<Vec<_>>().join(", ")
    }

    fn kind(&self) -> &'static str {
        match self.account.used_permille {
            0..800 => "ok",
            800..1000 => "warn",
            _ => "bad",
        }
    }

    /// The limit that is nearest: how much of it is used.
    fn draw(&self) -> Markup {
        let measures = self.account.measures.iter();
        let tightest =
            measures.max_by_key(|of| permille(of.used.saturating_add(of.held), of.limit));
        let Some(of) = tightest else {
            return html! {};
        };
        let (used, limit) = (amount(of, of.used), amount(of, of.limit));
        let unit = match (&self.rule.metric, of.measure) {
            (Some(metric), Measure::Metric) => format!(" {metric}"),
            (_, measure) => unit(measure).to_owned(),
        };
        let words = format!("{used} of {limit}{unit}");
        let mark = self.rule.slow.map(|slow| u64::from(slow.from));
        html! {
            (figure::meter(permille(of.used, of.limit), permille(of.held, of.limit), mark, &words))
            div.list-line.muted { span { (words) } span { (figure::percent(positive(of.used), positive(of.limit))) } }
        }
    }
}

fn positive(amount: i64) -> u64 {
    u64::try_from(amount).unwrap_or(0)
}

/// Thousandths of a limit.
fn permille(part: i64, limit: i64) -> u64 {
    if limit <= 0 {
        return 1000;
    }
    let permille = u128::from(positive(part)) * 1000 / u128::from(positive(limit));
    u64::try_from(permille).unwrap_or(u64::MAX)
}

fn amount(of: &MeasureRow, amount: i64) -> String {
    match of.measure {
        Measure::Usd => figure::money(NanoUsd::new(amount)),
        Measure::Metric => micro_text(amount),
        _ => figure::count(positive(amount)),
    }
}

const fn unit(of: Measure) -> &'static str {
    match of {
        Measure::Usd | Measure::Metric => "",
        Measure::Tokens => " tokens",
        Measure::InputTokens => " input tokens",
        Measure::OutputTokens => " output tokens",
        Measure::Calls => " calls",
        Measure::Concurrent => " calls at once",
    }
}
