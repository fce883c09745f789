//! What could be spared: each finding with its evidence, its saving, and what to do.

use axum::Router;
use maud::{Markup, html};

use super::desk::Desk;
use super::here::Here;
use super::link;
use super::page::{Page, Place, empty, part};
use super::table::{Cell, Column, Row, Table};
use super::{Answer, figure, text, view};
use crate::admin::suggestions::report;
use crate::core::id::CallId;
use crate::core::suggest::{Finding, Report, Rule};
use crate::suggest::Question;

/// Links to calls of one finding.
const LINKS: usize = 10;

const COLUMNS: [Column; 5] = [
    Column::text("rule", "Rule"),
    Column::text("agent", "Agent"),
    Column::number("calls", "Calls"),
    Column::number("tokens", "Tokens"),
    Column::number("nano_usd_per_day", "A day"),
];

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/suggestions", view(page))
}

async fn page(desk: Desk, here: Here) -> Answer {
    let question = Question {
        since: here.range.since,
        until: here.range.until,
        agent: here.read("agent")?,
    };
    let rule: Option<Rule> = here.get("rule").map(str::parse).transpose().map_err(|_| {
        let rules = "the name of a rule, such as cache_broken";
        crate::admin::problem::Problem::bad_request(format!("rule: expected {rules}"))
    })?;
    let found = report(&desk.state.records, question, rule).await?;
    let table = by_rule(&found, &here);
    let main = html! {
        (part("suggestions", &html! {
            p.muted { (looked_at(&found, &here)) }
            section { (table.draw(&here)) }
            @for (number, finding) in found.findings.iter().enumerate() { (card(number, finding)) }
        }))
    };
    Ok(Page::fixed("Suggestions", Place::Suggestions, main)
        .ranged()
        .tables(vec![table]))
}

fn looked_at(found: &Report, here: &Here) -> String {
    let mut words = vec![format!(
        "Looked at {} of {} that cost {}.",
        figure::many(found.calls, "call"),
        here.range.words,
        figure::money(found.spent_nano_usd)
    )];
    if !found.findings.is_empty() {
        let total = found.total.words(figure::duration);
        words.push(format!(
            "Together {total}: of several claims on one call the largest counts."
        ));
    }
    if let Some(bound) = found.cut_by {
        words.push(format!(
            "Older calls of the range were not looked at: no more than {}; from {} on all were.",
            bound.words(),
            found.from
        ));
    }
    words.extend(found.unseen.words().into_iter().map(sentence));
    if found.below > 0 {
        let below = figure::many(found.below, "finding");
        words.push(format!(
            "{below} below what matters, see [suggestions] in the config."
        ));
    }
    words.join(" ")
}

fn sentence(mut line: String) -> String {
    line.push('.');
    line
}

fn by_rule(found: &Report, here: &Here) -> Table {
    let rows = found.findings.iter().enumerate().map(|(number, it)| Row {
        key: number.to_string(),
        class: "",
        cells: vec![
            Cell::new(
                it.rule.name(),
                html! { a href=(format!("#finding-{number}")) { (it.rule.title()) } },
            ),
            Cell::new(it.agent.as_str(), text::name(it.agent.as_str())),
            Cell::new(it.call_count, html! { (figure::count(it.call_count)) }),
            Cell::new(
                it.saving.tokens,
                html! { (figure::count(it.saving.tokens)) },
            ),
            match it.saving.nano_usd_per_day {
                Some(usd) => Cell::new(usd.get(), html! { (figure::money(usd)) }),
                None => Cell::none(),
            },
        ],
    });
    let advice = html! {
        p { "No waste above the threshold was found in " (here.range.words) "." }
    };
    Table {
        name: "suggestions",
        caption: "What could be spared, the dearest first".to_owned(),
        columns: &COLUMNS,
        rows: rows.collect(),
        more: None,
        empty: empty("Nothing found that matters", &advice),
    }
}

fn card(number: usize, finding: &Finding) -> Markup {
    let fix = format!("fix-{number}");
    html! {
        section.card id=(format!("finding-{number}")) {
            h2 { (finding.rule.title()) ": " (finding.saving.words(figure::duration)) }
            p.prose { (text::shown(&finding.sentence)) }
            ul { @for it in &finding.evidence {
                li { (text::shown(&it.what)) ": " (text::shown(&it.value)) }
            } }
            div.copy { pre id=(fix) { (text::shown(&finding.fix)) } button type="button" data-copy hidden { "Copy" } }
            p.muted { (finding.assumption) }
            p { (figure::many(finding.call_count, "call")) ": "
                @for id in finding.calls.iter().take(LINKS) { (call(*id)) " " }
            }
        }
    }
}

fn call(id: CallId) -> Markup {
    let name = id.to_string();
    let end = name.get(name.len().saturating_sub(6)..).unwrap_or_default();
    html! { a href=(link::call(id)) title=(name) { (end) } }
}
