//! Choosing what to compare.

use maud::{Markup, html};

use super::super::here::Here;
use super::super::page::empty;
use crate::core::compare::{Arm, By};

/// Fields that the form sets itself.
const OWN: [&str; 6] = ["by", "a", "b", "agent", "success", "metric"];

const CHOICES: [&str; 7] = [
    "variant", "agent", "model", "upstream", "user", "run", "time",
];

/// Tags are told apart, too: `tag.<name>` is typed, so it is a field with suggestions.
pub(super) fn form(here: &Here, by: &By, arms: &[Arm]) -> Markup {
    let field = |name: &'static str, what: &str, size: u32, hint: &str| {
        html! { label { (what) input name=(name) size=(size) placeholder=(hint) value=[here.get(name)]; } }
    };
    let side = |name: &'static str, what: &str| {
        html! { label { (what) input name=(name) size="16" list="arms" value=[here.get(name)]; } }
    };
    html! {
        form.filters method="get" action=(here.path()) aria-label="What to compare" {
            @for (key, value) in here.kept(&OWN) { input type="hidden" name=(key) value=(value); }
            label { "By" input name="by" size="10" list="dimensions" value=(by) placeholder="tag.prompt"; }
            datalist id="dimensions" { @for choice in CHOICES { option value=(choice) {} } }
            (side("a", "A"))
            (side("b", "B"))
            datalist id="arms" { @for arm in arms { option value=(arm.name) {} } }
            (field("agent", "Only agent", 10, ""))
            (field("success", "Success", 18, "outcome"))
            (field("metric", "Metric", 8, "score"))
            button { "Compare" }
        }
    }
}

pub(super) fn times(here: &Here) -> Markup {
    let weeks = here.with(&[
        ("by", Some("time")),
        ("a", Some("14d..7d")),
        ("b", Some("7d..")),
    ]);
    empty(
        "Which two spans?",
        &html! {
            p { "A span is written " code { "2026-11-01..2026-11-08" } ", or as how long ago: "
                a href=(weeks) { "the week before last against the last 7 days" } "." }
        },
    )
}

/// How runs come into arms.
pub(super) fn advice(here: &Here, by: &By) -> Markup {
    let ever = here.with(&[("range", Some("all")), ("since", None), ("until", None)]);
    let head = match by {
        By::Variant => format!("No two variants ran in {}", here.range.words),
        other => format!("No two of {other} ran in {}", here.range.words),
    };
    empty(
        &head,
        &html! {
            @if here.range.since.is_some() { p { a href=(ever) { "Look at all time" } } }
            p { "Name the variant of a run in any of these ways, then compare them here:" }
            ul {
                li { "a header of its calls: " code { "x-aiops-variant: terse" } }
                li { "the base URL: " code { "http://127.0.0.1:8787/variant/terse/v1" } }
                li { "a launch: " code { "open-aiops run --variant terse -- python crew.py" } }
            }
            p { "Runs can be told apart by model, agent, user, upstream or a tag as well, say "
                code { "tag.prompt" } " for the header " code { "x-aiops-tag-prompt" } "." }
        },
    )
}
