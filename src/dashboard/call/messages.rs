//! The messages of a call: what is new, all of them, or what changed since the call before.

use maud::{Markup, html};

use super::super::here::Here;
use super::super::said::{self, Links};
use super::{Known, diff};
use crate::admin::problem::Problem;

/// Which messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    New,
    All,
    Diff,
    /// One of them, with its whole text.
    One(u64),
}

impl Shown {
    pub(super) fn read(here: &Here) -> Result<Self, Problem> {
        if let Some(index) = here.read("message")? {
            return Ok(Self::One(index));
        }
        match here.get("show") {
            None | Some("new") => Ok(Self::New),
            Some("all") => Ok(Self::All),
            Some("diff") => Ok(Self::Diff),
            Some(other) => Err(Problem::bad_request(format!(
                "show: found `{other}`, expected new, all or diff"
            ))),
        }
    }

    pub(super) fn needs_all(self) -> bool {
        self == Self::All
    }

    pub(super) fn is_one(self) -> bool {
        matches!(self, Self::One(_))
    }

    pub(super) fn message(self) -> Option<u64> {
        match self {
            Self::One(index) => Some(index),
            _ => None,
        }
    }
}

pub(super) fn draw(here: &Here, known: &Known, shown: Shown) -> Markup {
    let Some(step) = &known.step else {
        return html! {};
    };
    let links = Links::of(here, known.detail.row.id);
    html! {
        (choice(here, shown, step.sent.count))
        section {
            h2 { "Sent" @if let Some(caller) = &known.detail.row.caller {
                span.muted { ", set off by " (super::text::name(caller.as_str())) } } }
            @if shown == Shown::Diff { (diff::draw(step, &links)) } @else { (said::sent(step, &links)) }
            @if let Shown::One(index) = shown { @if step.sent.messages.is_empty() {
                p.note { "The request has no message " (index.saturating_add(1)) "." }
            } }
        }
        @if shown.message().is_none() {
            section {
                h2 { "Answered" (finish(step)) }
                (said::answered(step, &links))
            }
        }
    }
}

fn choice(here: &Here, shown: Shown, count: u64) -> Markup {
    let choices = [
        ("new", "New", Shown::New),
        ("all", "All", Shown::All),
        ("diff", "Changes since the call before", Shown::Diff),
    ];
    html! {
        nav.chips aria-label="Which messages" {
            @for (name, word, of) in choices {
                a.chip href=(here.with(&[("show", Some(name)), ("message", None)]))
                    aria-current=[(of == shown).then_some("true")] {
                    (word) @if of == Shown::All { " (" (super::figure::count(count)) ")" }
                }
            }
            @if let Shown::One(index) = shown {
                span.chip aria-current="true" { "Message " (index.saturating_add(1)) }
            }
        }
    }
}

fn finish(step: &crate::admin::step::StepView) -> Markup {
    let reasons = &step.answered.finish_reasons;
    html! {
        @if !reasons.is_empty() {
            span.muted { ", ended by " @for (index, reason) in reasons.iter().enumerate() {
                @if index > 0 { ", " } (super::text::name(reason.as_str()))
            } }
        }
    }
}
