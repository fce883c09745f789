//! Two groups of runs side by side, or two runs.

mod agents;
mod pick;
mod plot;

use axum::Router;
use maud::{Markup, html};

use super::desk::Desk;
use super::differs;
use super::here::Here;
use super::page::{Page, Place};
use super::table::{Cell, Column, Row, Table};
use super::{Answer, figure, link, text, view};
use crate::admin::compare::CompareParams;
use crate::admin::problem::Problem;
use crate::core::compare::{
    Arm, By, Compared, Comparison, FirstDifference, Unit, Verdict, signed, spoken,
};
use crate::core::id::{CallId, Label};
use crate::ledger::{RunFilter, RunRow, SpanFilter};

/// Runs that are offered as the other one.
const OFFERED: usize = 30;

const COLUMNS: [Column; 7] = [
    Column::text("measure", "Figure"),
    Column::number("a", "A"),
    Column::number("b", "B"),
    Column::number("difference", "Difference"),
    Column::number("interval_95", "95 % interval"),
    Column::number("runs", "Runs"),
    Column::text("verdict", "What the data says of B"),
];

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/compare", view(page))
}

async fn page(desk: Desk, here: Here) -> Answer {
    let params = params(&here)?;
    let by = params.by.clone().unwrap_or(By::Variant);
    if by == By::Run && (params.a.is_none() || params.b.is_none()) {
        return pick_run(&desk, &here, &params).await;
    }
    if by == By::Time && (params.a.is_none() || params.b.is_none()) {
        let main = html! { (pick::form(&here, &by, &[])) (pick::times(&here)) };
        return Ok(Page::fixed("Compare", Place::Compare, main));
    }
    let until = Some(here.range.until).filter(|_| !here.range.is_open);
    let ask = params.ask(here.now)?.within(here.range.since, until);
    let asked = ask.clone();
    let told = desk.ask(move |view| asked.answer(view)).await?;
    ask.check(&told)?;
    let shown = Shown {
        here: &here,
        by: &by,
        told: &told,
    };
    let (table, agents) = (shown.table(), agents::table(&told));
    let main = shown.draw(&table, &agents);
    let page = Page::fixed("Compare", Place::Compare, main).tables(vec![table, agents]);
    Ok(if matches!(by, By::Run | By::Time) {
        page
    } else {
        page.ranged()
    })
}

/// What the address asks for. A name alone is that of a run: the page of a run leads here.
fn params(here: &Here) -> Result<CompareParams, Problem> {
    let name = |name: &str| here.get(name).map(str::to_owned);
    let mut params = CompareParams {
        a: name("a"),
        b: name("b"),
        by: here.read("by")?,
        agent: here.read("agent")?,
        success: here.read("success")?,
        metric: name("metric"),
        ..CompareParams::default()
    };
    if params.by.is_none() && params.a.is_some() {
        params.by = Some(By::Run);
    }
    Ok(params)
}

/// Offers the latest runs as the other one.
async fn pick_run(desk: &Desk, here: &Here, params: &CompareParams) -> Answer {
    let filter = RunFilter {
        span: SpanFilter {
            limit: OFFERED,
            ..SpanFilter::default()
        },
        ..RunFilter::default()
    };
    let runs = desk.ask(move |view| view.runs(&filter)).await?.items;
    let one = params.a.as_ref().or(params.b.as_ref());
    let other = |row: &&RunRow| one.is_none_or(|one| one != row.run.as_str());
    let slot = if params.a.is_none() { "a" } else { "b" };
    let main = html! {
        (pick::form(here, &By::Run, &[]))
        section {
            h2 { @match one {
                Some(one) => { "Compare " (text::name(one)) " with" },
                None => "Which run?",
            } }
            ul.plain {
                @for row in runs.iter().filter(other) {
                    li { a href=(here.with(&[("by", Some("run")), (slot, Some(row.run.as_str()))])) { (text::name(row.run.as_str())) }
                        span.muted { ", " (figure::time(row.first_at, &desk.zone)) ", " (figure::many(row.totals.calls, "call")) } }
                }
            }
            @if !runs.iter().any(|row| other(&row)) { p.muted { "There is no other run yet." } }
        }
    };
    Ok(Page::fixed("Compare", Place::Compare, main))
}

struct Shown<'a> {
    here: &'a Here,
    by: &'a By,
    told: &'a Comparison,
}

impl Shown<'_> {
    fn draw(&self, table: &Table, agents: &Table) -> Markup {
        let told = self.told;
        html! {
            (pick::form(self.here, self.by, &told.arms))
            @if told.arms.is_empty() { (pick::advice(self.here, self.by)) } @else {
                p.note { strong { (text::shown(&told.sentence)) } }
                @if self.has_both() { (self.both(table, agents)) } @else { (self.found()) }
            }
            @if !told.notes.is_empty() { ul.plain.muted { @for note in &told.notes { li { (note) } } } }
        }
    }

    fn has_both(&self) -> bool {
        let has = |arm: &Option<Arm>| arm.as_ref().is_some_and(|arm| arm.runs > 0);
        has(&self.told.a) && has(&self.told.b)
    }

    fn both(&self, table: &Table, agents: &Table) -> Markup {
        html! {
            p { "A is " (self.name(self.told.a.as_ref())) ", B is " (self.name(self.told.b.as_ref())) ". "
                a href=(self.turned()) { "The other way round" } }
            @if let Some(difference) = &self.told.first_difference { (parting(self.here, difference)) }
            section { (table.draw(self.here)) }
            (plot::draw(&self.told.measures))
            @if !agents.rows.is_empty() { section { (agents.draw(self.here)) } }
        }
    }

    /// An arm, with what leads to its runs.
    fn name(&self, arm: Option<&Arm>) -> Markup {
        let Some(arm) = arm else {
            return html! { "-" };
        };
        let to = match self.by {
            By::Run => Label::parse(&arm.name).ok().map(|run| link::run(&run)),
            By::Variant => Some(self.here.at("/runs", [("variant", arm.name.as_str())])),
            By::Agent => Some(self.here.at("/runs", [("agent", arm.name.as_str())])),
            By::Tag(tag) => {
                let tag = format!("{tag}={}", arm.name);
                Some(self.here.at("/runs", [("tag", tag.as_str())]))
            }
            _ => None,
        };
        html! {
            @match to {
                Some(to) => a href=(to) { (text::name(&arm.name)) },
                None => (text::name(&arm.name)),
            }
            @if *self.by != By::Run { " (" (figure::many(arm.runs, "run")) ")" }
        }
    }

    fn turned(&self) -> String {
        let name = |arm: &Option<Arm>| arm.as_ref().map(|arm| arm.name.clone());
        let (a, b) = (name(&self.told.a), name(&self.told.b));
        self.here.with(&[
            ("by", Some(&self.by.to_string())),
            ("a", b.as_deref()),
            ("b", a.as_deref()),
        ])
    }

    /// The arms that there are, where two cannot be compared.
    fn found(&self) -> Markup {
        html! {
            section { h2 { "Found" } ul.plain {
                @for arm in &self.told.arms { li { (self.name(Some(arm))) } }
            } }
            (pick::advice(self.here, self.by))
        }
    }

    fn table(&self) -> Table {
        let single = self.told.by == "run";
        let measures = if self.has_both() {
            self.told.measures.as_slice()
        } else {
            &[]
        };
        Table {
            name: "figures",
            caption: if single {
                "Of each run"
            } else {
                "In mean over runs"
            }
            .to_owned(),
            columns: &COLUMNS,
            rows: measures.iter().map(row).collect(),
            more: None,
            empty: html! {},
        }
    }
}

fn row(it: &Compared) -> Row {
    let n = format!("{} / {}", it.a.n, it.b.n);
    let (kind, word) = verdict(it.verdict);
    Row {
        key: it.key.clone(),
        class: "",
        cells: vec![
            Cell::new(it.key.as_str(), html! { (it.title) }),
            side(it, it.a.value, it.a.median),
            side(it, it.b.value, it.b.median),
            difference(it),
            interval(it),
            Cell::new(n.as_str(), html! { (n) }),
            Cell::new(word, figure::state(kind, word)),
        ],
    }
}

fn side(it: &Compared, value: Option<f64>, median: Option<f64>) -> Cell {
    let Some(value) = value else {
        return Cell::none();
    };
    let median = median.map(|median| format!("median of the runs {}", spoken(it.unit, median)));
    Cell::new(
        value,
        html! { span title=[median] { (spoken(it.unit, value)) } },
    )
}

fn difference(it: &Compared) -> Cell {
    let Some(by) = it.difference else {
        return Cell::none();
    };
    let share = it.ratio.filter(|_| it.unit != Unit::Share);
    Cell::new(
        by,
        html! {
            (signed(it.unit, by))
            @if let Some(ratio) = share { span.muted { " (" (format!("{:+.0} %", (ratio - 1.0) * 100.0)) ")" } }
        },
    )
}

fn interval(it: &Compared) -> Cell {
    let Some((low, high)) = it.low.zip(it.high) else {
        return Cell::none();
    };
    let value = serde_json::json!(format!("{low} to {high}"));
    let p = it.p_corrected;
    let p = p.map(|p| format!("corrected level of significance {p:.4}"));
    Cell::new(
        value,
        html! { span title=[p] { (signed(it.unit, low)) " to " (signed(it.unit, high)) } },
    )
}

/// Neither direction is good or bad by itself: the shape says that there is one.
fn verdict(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Lower => ("run", "lower"),
        Verdict::Higher => ("run", "higher"),
        Verdict::NoDifferenceShown => ("off", "no difference shown"),
        Verdict::TooFewRuns => ("off", "too few runs"),
        Verdict::NotComparable => ("off", "nothing to compare"),
    }
}

/// Where two runs part, with the calls to look at.
fn parting(here: &Here, it: &FirstDifference) -> Markup {
    let to = |id: CallId| here.at(&link::call(id), [("show", "all")]);
    html! {
        section {
            h2 { "Where they part" }
            p {
                @if it.number > 0 { "Up to here they are the same but for times and identifiers; " }
                @else { "They part at the beginning: " }
                (it.sentence()) ". "
                @if let Some(a) = it.a { a href=(to(a)) { "The call of A" } }
                @if it.a.is_some() && it.b.is_some() { ", " }
                @if let Some(b) = it.b { a href=(to(b)) { "the call of B" } }
            }
            (differs::draw(&it.departure.said))
        }
    }
}
