//! The list of runs.

mod sorted;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use maud::{Markup, html};

use self::sorted::{Found, Sorted};
use super::desk::Desk;
use super::figure;
use super::here::Here;
use super::link;
use super::measured;
use super::page::{Page, Place, empty, held, part};
use super::run::{amount, standing, usd};
use super::table::{Cell, Column, Row, Table};
use super::text;
use super::{Answer, view};
use crate::admin::problem::Problem;
use crate::budgets::{AccountRow, MeasureRow};
use crate::core::budget::Rule;
use crate::core::id::Label;
use crate::core::metric::Summary;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::ledger::{MetricFilter, MetricScope, RunFilter, RunRow, SpanFilter, Standing};

const ROWS: usize = 100;
/// Agents that are named in a row.
const NAMED: usize = 3;

const COLUMNS: [Column; 11] = [
    Column::text("run", "Run"),
    Column::text("state", "State"),
    Column::text("started_at", "Started"),
    Column::number("duration_us", "Duration"),
    Column::number("calls", "Calls"),
    Column::text("agents", "Agents"),
    Column::number("depth", "Depth"),
    Column::number("tokens", "Tokens"),
    Column::number("spend_usd", "Spend"),
    Column::text("flags", "Flags"),
    Column::text("metrics", "Metrics"),
];

/// The parameters that choose runs, and how each is called.
const FILTERS: [(&str, &str); 8] = [
    ("state", "state"),
    ("agent", "agent"),
    ("variant", "variant"),
    ("tag", "tag"),
    ("cost", "cost at least $"),
    ("metric", "metric "),
    ("text", "name contains"),
    ("problems", "only problems"),
];

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/runs", view(page))
}

async fn page(desk: Desk, here: Here) -> Answer {
    let filter = filter(&here)?;
    let sorted = Sorted::read(&here)?;
    let bound = filter.metric.as_ref().map(|bound| bound.name.clone());
    let first = sorted.as_ref().map(|sorted| sorted.name.clone()).or(bound);
    let (order, rows) = (sorted.clone(), here.rows(ROWS));
    let asking = desk.ask(move |view| sorted::find(view, filter, (order.as_ref(), rows)));
    let Found {
        page: found,
        left_out,
    } = asking.await?;
    let open: HashSet<Label> = desk
        .state
        .loops
        .open_trips()
        .into_iter()
        .filter_map(|trip| trip.run)
        .collect();
    let runs: Vec<Label> = found.items.iter().map(|row| row.run.clone()).collect();
    let chosen = measured::chosen(&here)?;
    let metrics = metrics(&desk, runs.clone()).await?;
    let budgets = tightest(&desk, runs).await?;
    let listed = Listed {
        open: &open,
        budgets: &budgets,
        metrics: &metrics,
        chosen: &chosen,
        first: first.as_deref(),
        desk: &desk,
    };
    let next = found.next.map(|next| next.to_string());
    let table = Table {
        name: "runs",
        caption: format!("Runs that were active in {}", here.range.words),
        columns: &COLUMNS,
        rows: found.items.iter().map(|row| listed.row(row)).collect(),
        more: next.map(|next| here.with(&[("before", Some(&next))])),
        empty: nothing(&desk, &here),
    };
    let main = html! {
        (form(&here))
        (part("runs-sort", &sorted::links(&here, sorted.as_ref(), &chosen, &metrics)))
        (held("runs", "runs", &html! {
            (table.draw(&here))
            @if let Some(left_out) = &left_out { p.muted { (text::shown(left_out)) } }
            @if found.partial {
                p.muted { "So many runs did not match that looking for more was put off: go on with Older." }
                @if table.rows.is_empty() && let Some(more) = &table.more {
                    p.more { a href=(more) rel="next" { "Older" } }
                }
            }
            @if here.is_on("before") { p { a href=(here.with(&[("before", None)])) { "To the newest" } } }
        }))
    };
    Ok(Page::live("Runs", Place::Runs, main)
        .ranged()
        .tables(vec![table]))
}

/// How a run may stand, as the query says it.
struct State(Standing);

impl State {
    const ALL: [(&'static str, Standing); 5] = [
        ("running", Standing::Running),
        ("ended", Standing::Ended),
        ("paused", Standing::Paused),
        ("stopped", Standing::Stopped),
        ("tripped", Standing::Tripped),
    ];
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, standing)| Self(*standing)).ok_or_else(|| {
            format!("found `{text}`, expected running, ended, paused, stopped or tripped")
        })
    }
}

/// `team=search`
struct Tag(String, Label);

impl FromStr for Tag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("found `{text}`, expected <name>=<value>, such as team=search");
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let value = Label::parse(value).map_err(|_| wrong())?;
        Ok(Self(name.trim().to_owned(), value))
    }
}

/// `1.50`, with or without the sign of the currency.
struct Usd(NanoUsd);

impl FromStr for Usd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.trim().trim_start_matches('$');
        NanoUsd::parse(plain)
            .map(Self)
            .ok_or_else(|| format!("found `{text}`, expected an amount in USD, such as 1.50"))
    }
}

fn filter(here: &Here) -> Result<RunFilter, Problem> {
    let before: Option<Moment> = here.read("before")?;
    let state: Option<State> = here.read("state")?;
    let tag: Option<Tag> = here.read("tag")?;
    let least: Option<Usd> = here.read("cost")?;
    Ok(RunFilter {
        span: SpanFilter {
            since: here.range.since,
            until: Some(here.range.until).filter(|_| !here.range.is_open),
            before: before.map(|before| before.0),
            limit: here.rows(ROWS),
        },
        standing: state.map(|state| state.0),
        agent: here.read("agent")?,
        variant: here.read("variant")?,
        tag: tag.map(|Tag(name, value)| (name, value)),
        text: here.get("text").map(str::to_owned),
        min_cost: least.map(|least| least.0),
        only_problems: here.is_on("problems"),
        metric: here.read("metric")?,
    })
}

/// Where a page begins: exact, as a link has it.
struct Moment(Timestamp);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at: Result<jiff::Timestamp, _> = text.parse();
        at.map(|at| Self(Timestamp::from_micros(at.as_microsecond())))
            .map_err(|_| format!("found `{text}`, expected a time, such as 2026-11-01T12:30:00Z"))
    }
}

/// A plain form: what it asks for is in the address.
fn form(here: &Here) -> Markup {
    let own: Vec<&str> = FILTERS
        .iter()
        .map(|(name, _)| *name)
        .chain(["columns", "before"])
        .collect();
    let field = |name: &'static str, what: &str, size: u32, hint: &str| {
        html! { label { (what) input name=(name) size=(size) placeholder=(hint) value=[here.get(name)]; } }
    };
    html! {
        form.filters method="get" action=(here.path()) role="search" aria-label="Filter runs" {
            @for (key, value) in here.kept(&own) { input type="hidden" name=(key) value=(value); }
            label {
                "State"
                select name="state" {
                    option value="" { "any" }
                    @for (name, _) in State::ALL { option value=(name) selected[here.get("state") == Some(name)] { (name) } }
                }
            }
            (field("text", "Name", 14, "contains"))
            (field("agent", "Agent", 12, ""))
            (field("variant", "Variant", 8, ""))
            (field("tag", "Tag", 12, "team=search"))
            (field("cost", "Cost \u{2265} $", 6, "1.50"))
            (field("metric", "Metric", 10, "score<0.5"))
            (field("columns", "Show metrics", 12, "score,docs"))
            label { input type="checkbox" name="problems" value="on" checked[here.is_on("problems")]; "only problems" }
            button { "Filter" }
            @if is_filtered(here) { a href=(cleared(here)) { "Clear" } }
        }
    }
}

fn is_filtered(here: &Here) -> bool {
    FILTERS.iter().any(|(name, _)| here.is_on(name))
}

fn cleared(here: &Here) -> String {
    let none: Vec<(&str, Option<&str>)> = FILTERS
        .iter()
        .map(|(name, _)| (*name, None))
        .chain([("before", None)])
        .collect();
    here.with(&none)
}

/// Why there is no run: none at all, or which filter hides them.
fn nothing(desk: &Desk, here: &Here) -> Markup {
    if here.is_on("before") {
        return empty(
            "No older runs",
            &html! { p { a href=(here.with(&[("before", None)])) { "To the newest" } } },
        );
    }
    let ever = here.with(&[("range", Some("all")), ("since", None), ("until", None)]);
    if !is_filtered(here) && here.range.since.is_some() {
        return empty(
            &format!("No run was active in {}", here.range.words),
            &html! { p { a href=(ever) { "Look at all time" } } (setup(desk)) },
        );
    }
    if !is_filtered(here) {
        return empty("No run yet", &setup(desk));
    }
    empty(
        "No run matches",
        &html! {
            ul {
                @for (name, what) in FILTERS {
                    @if let Some(value) = here.get(name) {
                        li {
                            (what) @if name != "problems" { " " strong { (text::name(value)) } } ": "
                            a href=(here.with(&[(name, None), ("before", None)])) { "clear" }
                        }
                    }
                }
                @if here.range.since.is_some() { li { "active in " (here.range.words) ": " a href=(ever) { "all time" } } }
            }
            p { a href=(cleared(here)) { "Clear all filters" } }
        },
    )
}

fn setup(desk: &Desk) -> Markup {
    let address = desk.state.config.load().proxy.listen;
    html! {
        p { "A run appears with its first call. Send one through the proxy:" }
        div.copy {
            code { "OPENAI_BASE_URL=http://" (address) "/v1" }
            button type="button" data-copy="" hidden { "Copy" }
        }
        p.muted { "A run is named by the header " code { "x-aiops-run" } ", or recognised from what its calls repeat." }
    }
}

/// What of the tightest budget that counts a run alone is used.
struct Used {
    rule: Label,
    permille: u32,
    measure: Option<MeasureRow>,
}

/// For those of the runs that have a budget to themselves.
async fn tightest(desk: &Desk, runs: Vec<Label>) -> Result<HashMap<Label, Used>, Problem> {
    let budgets = Arc::clone(&desk.state.budgets);
    let accounts = runs.iter().flat_map(|run| budgets.accounts_of_run(run));
    budgets.look_at(accounts.collect()).await;
    let read = move || {
        let mut used = HashMap::new();
        for run in runs {
            let rows = budgets.of_run(&run)?;
            let accounts = rows
                .iter()
                .flat_map(|row| row.accounts.iter().map(|it| (&row.rule, it)));
            let tightest = accounts.max_by_key(|(_, account)| account.used_permille);
            if let Some((rule, account)) = tightest {
                used.insert(run, Used::of(rule, account));
            }
        }
        Ok(used)
    };
    desk.state.records.read(read).await
}

/// What the custom metrics of each run come to.
async fn metrics(
    desk: &Desk,
    runs: Vec<Label>,
) -> Result<HashMap<Label, BTreeMap<String, Summary>>, Problem> {
    desk.ask(move |view| {
        let of = |run: &Label| MetricFilter::of(MetricScope::Run(run.clone()));
        let filters: Vec<_> = runs.iter().map(of).collect();
        let sums = view.metrics_of(&filters)?.into_iter().map(|it| it.by_name);
        let all = runs.into_iter().zip(sums);
        Ok(all.filter(|(_, sums)| !sums.is_empty()).collect())
    })
    .await
}

impl Used {
    fn of(rule: &Rule, account: &AccountRow) -> Self {
        let part =
            |row: &&MeasureRow| i128::from(row.used.max(0)) * 1000 / i128::from(row.limit.max(1));
        Self {
            rule: rule.name.clone(),
            permille: account.used_permille,
            measure: account.measures.iter().max_by_key(part).copied(),
        }
    }
}

/// What rows are drawn with.
struct Listed<'a> {
    /// Runs with a loop that is stopped now.
    open: &'a HashSet<Label>,
    budgets: &'a HashMap<Label, Used>,
    metrics: &'a HashMap<Label, BTreeMap<String, Summary>>,
    /// Metrics that are shown; the first few where there are none.
    chosen: &'a [String],
    /// The metric that is sorted or filtered by: among those that are shown.
    first: Option<&'a str>,
    desk: &'a Desk,
}

impl Listed<'_> {
    fn row(&self, row: &RunRow) -> Row {
        let totals = &row.totals;
        let (kind, word) = standing(row, self.open.contains(&row.run));
        let tokens = totals.input_tokens.saturating_add(totals.output_tokens);
        let known = NanoUsd::new(totals.cost_nano_usd);
        let is_priced = totals.unpriced_calls < totals.calls.max(1) || known != NanoUsd::ZERO;
        Row {
            key: blake3::hash(row.run.as_str().as_bytes())
                .to_hex()
                .chars()
                .take(16)
                .collect(),
            class: if kind == "bad" { "bad" } else { "" },
            cells: vec![
                Cell::new(row.run.as_str(), Self::name(row)),
                Cell::new(word, figure::state(kind, word)),
                Cell::new(
                    row.first_at.to_string(),
                    figure::time(row.first_at, &self.desk.zone),
                ),
                self.duration(row),
                Cell::new(
                    totals.calls + row.open_calls,
                    html! { (figure::count(totals.calls + row.open_calls)) },
                ),
                Self::agents(row),
                if row.depth == 0 {
                    Cell::none()
                } else {
                    Cell::new(row.depth, html! { (row.depth) })
                },
                Cell::new(tokens, html! { (figure::count(tokens)) }),
                Cell::new(is_priced.then(|| usd(known)), self.spend(row)),
                Self::flags(row),
                self.metrics
                    .get(&row.run)
                    .map_or_else(Cell::none, |of| measured::sums(of, self.chosen, self.first)),
            ],
        }
    }

    fn name(row: &RunRow) -> Markup {
        html! {
            a href=(link::run(&row.run)) title=(text::plain(row.run.as_str())) { (text::name(row.run.as_str())) }
            @if let Some(parent) = &row.parent_run {
                span.muted { " in " a href=(link::run(parent)) { (text::name(parent.as_str())) } }
            }
            @if let Some(variant) = &row.variant { " " span.chip { (text::name(variant.as_str())) } }
        }
    }

    fn duration(&self, row: &RunRow) -> Cell {
        let took = row.last_at.micros_since(row.first_at);
        let shown = html! {
            @if row.open_calls > 0 { "since " (figure::clock(row.first_at, &self.desk.zone)) }
            @else { (figure::duration(took)) }
        };
        Cell::new(Some(took).filter(|_| row.open_calls == 0), shown)
    }

    fn agents(row: &RunRow) -> Cell {
        let names: Vec<&str> = row.agents.iter().map(Label::as_str).collect();
        let more = names.len().saturating_sub(NAMED);
        let shown = html! {
            @for (index, name) in names.iter().take(NAMED).enumerate() {
                @if index > 0 { ", " }
                (text::name(name))
            }
            @if more > 0 { span.muted title=(text::plain(&names.join(", "))) { " +" (more) } }
        };
        Cell::new(names.join(" "), shown)
    }

    fn spend(&self, row: &RunRow) -> Markup {
        let totals = &row.totals;
        let used = self.budgets.get(&row.run);
        html! {
            (figure::spent(NanoUsd::new(totals.cost_nano_usd), totals.unpriced_calls, totals.calls))
            @if let Some((used, measure)) = used.and_then(|used| Some((used, used.measure?))) {
                @let words = format!("budget {}: {} of {}", text::plain(used.rule.as_str()), amount(measure.measure, measure.used), amount(measure.measure, measure.limit));
                (figure::meter(u64::from(used.permille), 0, None, &words))
            }
        }
    }

    fn flags(row: &RunRow) -> Cell {
        let mut words = Vec::new();
        if row.trips > 0 {
            words.push(("bad", format!("{} tripped", figure::count(row.trips))));
        }
        if row.totals.errors > 0 {
            words.push((
                "bad",
                format!("{} failed", figure::count(row.totals.errors)),
            ));
        }
        let plain: Vec<&str> = words.iter().map(|(_, word)| word.as_str()).collect();
        let shown = html! { @for (kind, word) in &words { (figure::state(kind, word)) " " } };
        Cell::new(plain.join(", "), shown)
    }
}
