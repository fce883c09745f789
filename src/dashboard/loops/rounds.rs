//! The rounds of a loop side by side: what each call was sent and answered, equal parts greyed.

use std::collections::HashMap;

use maud::{Markup, html};

use super::super::here::Here;
use super::super::{figure, link, text};
use super::Stopped;
use crate::admin::step::{PreviewView, Said, previews};
use crate::core::id::CallId;
use crate::core::loops::trip::Trip;
use crate::core::money::NanoUsd;
use crate::ledger::{IndexError, View};

/// Rounds that stand side by side: the last ones.
const ROUNDS: usize = 4;
/// Characters of what was said.
const CHARS: usize = 400;

/// What the calls of a loop said.
pub(super) struct Rounds {
    /// The last ones, each the calls of one round, oldest first.
    shown: Vec<Vec<CallId>>,
    /// How many there were.
    count: usize,
    said: HashMap<CallId, PreviewView>,
}

impl Rounds {
    pub(super) fn read(view: &View, trip: &Trip) -> Result<Self, IndexError> {
        let calls = &trip.evidence.calls;
        let period = usize::try_from(trip.evidence.period).unwrap_or(1).max(1);
        let mut rounds: Vec<Vec<CallId>> = calls.rchunks(period).map(<[_]>::to_vec).collect();
        let count = usize::try_from(trip.evidence.count).unwrap_or(usize::MAX);
        let count = count.max(rounds.len());
        rounds.truncate(ROUNDS);
        rounds.reverse();
        let ids: Vec<CallId> = rounds.iter().flatten().copied().collect();
        let said = previews(view, &ids, CHARS)?;
        Ok(Self {
            shown: rounds,
            count,
            said: said.into_iter().map(|said| (said.id, said)).collect(),
        })
    }

    pub(super) fn draw(&self, here: &Here, stopped: &Stopped<'_>) -> Markup {
        let before = self.shown.iter().map(Some);
        let before = std::iter::once(None).chain(before);
        let before_shown = self.count.saturating_sub(self.shown.len());
        html! {
            section {
                h2 { "The last rounds, side by side" }
                p.muted { "What is the same as in the round before is greyed." }
                div.rounds {
                    @for (index, (round, before)) in self.shown.iter().zip(before).enumerate() {
                        div.round {
                            h3 { "Round " (before_shown + index + 1) " of " (self.count) }
                            @for (place, id) in round.iter().enumerate() {
                                // Rounds are aligned at their ends: the first may be a part.
                                @let same = before.and_then(|before| {
                                    let from_end = round.len() - place;
                                    before.len().checked_sub(from_end).and_then(|at| before.get(at))
                                });
                                (self.call(here, stopped, *id, same.copied()))
                            }
                        }
                    }
                }
            }
        }
    }

    fn call(
        &self,
        here: &Here,
        stopped: &Stopped<'_>,
        id: CallId,
        before: Option<CallId>,
    ) -> Markup {
        let said = self.said.get(&id);
        let before = before.and_then(|before| self.said.get(&before));
        let row = stopped.calls.get(&id);
        let is_same = |of: fn(&PreviewView) -> Option<&Said>| {
            let texts = (said.and_then(of), before.and_then(of));
            matches!(texts, (Some(one), Some(other)) if one.text == other.text)
        };
        let sent: fn(&PreviewView) -> Option<&Said> = |it| it.sent.as_ref();
        let answered: fn(&PreviewView) -> Option<&Said> = |it| it.answered.as_ref();
        html! {
            div.of-round {
                p { a href=(here.at(&link::call(id), [])) {
                    @match row { Some(row) => (text::name(row.agent.as_str())), None => "call" }
                } @if let Some(row) = row { span.muted {
                    ", " (figure::count(row.usage.input_tokens + row.usage.output_tokens)) " tokens, "
                    (figure::cost(row.cost_nano_usd.map(NanoUsd::new)))
                } } }
                @match said {
                    None => p.none { "Not recorded any more" },
                    Some(said) => {
                        (piece("sent", said.sent.as_ref(), is_same(sent)))
                        (piece("answered", said.answered.as_ref(), is_same(answered)))
                        @for call in &said.calls {
                            @let same = before.is_some_and(|before| before.calls.contains(call));
                            p.tool { "calls" @if same { " (the same)" } }
                            pre.text.(if same { "same" } else { "differs" }) dir="auto" { (text::shown(call)) }
                        }
                    }
                }
            }
        }
    }
}

fn piece(what: &str, said: Option<&Said>, is_same: bool) -> Markup {
    html! {
        @if let Some(said) = said {
            p.tool { (what) @if let Some(name) = &said.name { " " (text::name(name)) } @if is_same { " (the same)" } }
            pre.text.(if is_same { "same" } else { "differs" }) dir="auto" {
                (text::shown(&said.text)) @if said.is_cut { "\u{2026}" }
            }
        }
    }
}
