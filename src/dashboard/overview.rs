//! What was spent, by whom, and what happens now.

pub(super) mod cells;
mod now;
mod tables;
mod tiles;
mod trend;

use axum::Router;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use self::now::Now;
use self::trend::{Measure, Split};
use super::desk::Desk;
use super::figure;
use super::here::Here;
use super::measured;
use super::page::{Page, Place, empty, part};
use super::{Answer, view};
use crate::admin::problem::Problem;
use crate::core::time::Timestamp;
use crate::ledger::{
    AgentRow, By, CallFilter, IndexError, MetricFilter, MetricSums, ModelRow, RunFilter, RunRow,
    Series, SeriesFilter, SpanFilter, Tops, Totals, View,
};

/// Runs that the most expensive are looked for among: the last active.
const RUNS_LOOKED_AT: usize = 500;
/// A span of all time that holds nothing shows so much of the past.
const AN_HOUR_US: i64 = 3_600_000_000;

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/", view(page))
}

/// What the page says of its range.
struct Spent {
    series: Series,
    /// What was counted, where that is more than the range.
    counted: Option<(Timestamp, Timestamp)>,
    /// The most expensive first, as are the next.
    agents: Tops<AgentRow>,
    models: Tops<ModelRow>,
    runs: Vec<RunRow>,
    /// There were more runs than were looked at.
    runs_are_some: bool,
    /// Nothing was ever recorded.
    is_first_use: bool,
    metrics: MetricSums,
}

async fn page(desk: Desk, here: Here) -> Answer {
    let (split, measure) = (here.read("by")?, here.read("show")?);
    let (split, measure): (Split, Measure) =
        (split.unwrap_or_default(), measure.unwrap_or_default());
    let spent = ask(&desk, &here, split.into()).await?;
    let now = Now::ask(&desk).await?;
    let tables = vec![
        tables::agents(&spent, &here),
        tables::models(&spent, &here),
        tables::runs(&spent, &here),
        trend::table(&spent.series, &here, &desk.zone),
        measured::of_span(&spent.metrics),
    ];
    let main = html! {
        @if spent.is_first_use && !now.has_running_calls() {
            (part("setup", &setup(&desk)))
        } @else {
            (part("counted", &counted(&spent, &desk.zone)))
            (part("tiles", &tiles::draw(&spent.series, &desk, &here)))
            div.overview {
                div {
                    (part("trend", &trend::draw(&spent.series, (split, measure), &here, &desk.zone)))
                    @if let [agents, models, runs, data, metrics] = tables.as_slice() {
                        details.data id="trend-data" {
                            summary { "The chart as a table" }
                            (part("trend-rows", &data.draw(&here)))
                        }
                        div.columns {
                            section { (part("agents", &agents.draw(&here))) }
                            section { (part("models", &models.draw(&here))) }
                        }
                        section { (part("runs", &runs.draw(&here))) }
                        section { (part("metrics", &measured::draw(metrics, &here))) }
                    }
                }
                aside aria-label="Now" { (now.draw(&desk, &here)) }
            }
        }
    };
    Ok(Page::live("Overview", Place::Overview, main)
        .ranged()
        .tables(tables))
}

async fn ask(desk: &Desk, here: &Here, by: By) -> Result<Spent, Problem> {
    let range = here.range.clone();
    // What began this very moment is in a range that ends now.
    let until = range.until.plus_micros(u64::from(range.is_open));
    desk.ask(move |view| {
        let span = SpanFilter {
            since: range.since,
            until: (!range.is_open).then_some(until),
            ..SpanFilter::default()
        };
        let agents = view.top_agents(&span)?;
        let since = range.since.unwrap_or_else(|| {
            agents.first_at.unwrap_or(Timestamp::from_micros(
                until.micros().saturating_sub(AN_HOUR_US),
            ))
        });
        let end = until.max(since.plus_micros(1));
        let series = view.series(&SeriesFilter {
            since,
            until: end,
            by,
            agent: None,
            model: None,
            step_us: None,
        })?;
        let models = view.top_models(&span)?;
        let page = view.runs(&RunFilter {
            span: SpanFilter {
                limit: RUNS_LOOKED_AT,
                ..span
            },
            ..RunFilter::default()
        })?;
        let mut runs = page.items;
        runs.sort_by_key(|row| std::cmp::Reverse(rank(&row.totals)));
        let is_first_use = agents.items.is_empty() && runs.is_empty() && is_empty(view)?;
        let whole = (series.whole.since, series.whole.until);
        // All time has no beginning that a slice could go beyond.
        let is_wider = whole.1 != end || (range.since.is_some() && whole.0 != since);
        Ok(Spent {
            counted: is_wider.then_some(whole),
            series,
            agents,
            models,
            runs,
            runs_are_some: page.next.is_some(),
            is_first_use,
            metrics: view.metrics(&MetricFilter::default().within(&span))?,
        })
    })
    .await
}

/// Says what the figures are of, where that is not just the range.
fn counted(spent: &Spent, zone: &TimeZone) -> Markup {
    html! {
        @if let Some((since, until)) = spent.counted {
            p.note {
                "Counted in whole slices of time: from " (figure::time(since, zone)) " to " (figure::time(until, zone))
                ", more than the range. So old, or so many at its ends, calls are not looked at one by one."
            }
        }
    }
}

/// By what was spent, then by how much was done.
fn rank(totals: &Totals) -> (i64, u64) {
    (totals.cost_nano_usd, totals.calls)
}

/// Whether no call was ever recorded.
fn is_empty(view: &View) -> Result<bool, IndexError> {
    let filter = CallFilter {
        limit: 1,
        ..CallFilter::default()
    };
    Ok(view.calls(&filter)?.items.is_empty())
}

/// What to do first.
fn setup(desk: &Desk) -> Markup {
    let config = desk.state.config.load();
    let base = format!("http://{}/v1", config.proxy.listen);
    let line = format!("export OPENAI_BASE_URL={base}");
    let advice = html! {
        p.prose { "Point an agent at the proxy and it shows up here at once. Its own key stays its own." }
        div.copy {
            pre { code { (line) } }
            button type="button" data-copy=(line) hidden { "Copy" }
        }
        p.prose {
            "Name your agents by the header " code { "x-aiops-agent" } " and your runs by "
            code { "x-aiops-run" } ", or let the proxy infer them."
        }
        p role="status" { span.live-dot aria-hidden="true" {} " Waiting for the first call" }
    };
    empty("No call yet", &advice)
}
