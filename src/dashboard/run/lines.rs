//! Which row of the timeline holds which call: pure, and the same for ever once calls have ended.

use std::ops::Range;

use crate::core::id::{CallId, Label};
use crate::ledger::Mark;

/// Similar calls in a row, from so many on, are one line.
const FOLDED_FROM: usize = 4;
/// Calls of a line that are on the page with it; of longer ones another view has them.
const UNFOLDS: usize = 40;
/// Calls on a page, at most.
const ROWS: usize = 200;

/// A call and its number among those of the run, from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Numbered {
    pub(super) number: usize,
    pub(super) mark: Mark,
    /// It stands alone: it failed, runs, or belongs to a loop that was stopped.
    pub(super) is_loud: bool,
}

/// One line of the timeline. Positions are those among the calls that are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Call(usize),
    /// Calls of one agent, one after the other, of which nothing is to be said.
    Fold(Range<usize>),
    /// Something that happened to the run, by its place among the notes.
    Note(usize),
}

impl Line {
    /// The call it begins with.
    fn first(&self) -> Option<usize> {
        match self {
            Self::Call(at) => Some(*at),
            Self::Fold(calls) => Some(calls.start),
            Self::Note(_) => None,
        }
    }

    pub(super) fn holds(&self, position: usize) -> bool {
        match self {
            Self::Call(at) => *at == position,
            Self::Fold(calls) => calls.contains(&position),
            Self::Note(_) => false,
        }
    }

    /// Its calls are on the page.
    pub(super) fn unfolds(calls: &Range<usize>) -> bool {
        calls.len() <= UNFOLDS
    }

    fn rows(&self) -> usize {
        match self {
            Self::Fold(calls) if Self::unfolds(calls) => calls.len(),
            Self::Call(_) | Self::Fold(_) => 1,
            // It stays on the page of what is before it.
            Self::Note(_) => 0,
        }
    }
}

/// All calls in lines, in their order. `notes` says before which call each note stands, ascending.
pub(super) fn lines(calls: &[Numbered], notes: &[usize], folds: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut note = 0;
    let mut at = 0;
    while at < calls.len() {
        while notes.get(note).is_some_and(|before| *before <= at) {
            lines.push(Line::Note(note));
            note += 1;
        }
        let bound = notes
            .get(note)
            .map_or(calls.len(), |next| (*next).min(calls.len()));
        let end = if folds {
            alike(calls, at, bound)
        } else {
            at + 1
        };
        if end - at >= FOLDED_FROM {
            lines.push(Line::Fold(at..end));
        } else {
            lines.extend((at..end).map(Line::Call));
        }
        at = end;
    }
    lines.extend((note..notes.len()).map(Line::Note));
    lines
}

/// Where the calls that are like the one at `at` end.
fn alike(calls: &[Numbered], at: usize, bound: usize) -> usize {
    let agent = calls
        .get(at)
        .filter(|call| !call.is_loud)
        .map(|call| &call.mark.agent);
    let Some(agent) = agent else {
        return at + 1;
    };
    let rest = calls.get(at..bound).unwrap_or_default().iter();
    let same = |call: &&Numbered| !call.is_loud && call.mark.agent == *agent;
    at + rest.take_while(same).count().max(1)
}

/// The lines of one page, and the calls that the pages around it begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) lines: Range<usize>,
    pub(super) earlier: Option<usize>,
    pub(super) later: Option<usize>,
    /// Where the last page begins, if that is another one.
    pub(super) last: Option<usize>,
}

/// The page that shows the call at `position`. Pages are counted from the first call on, so that
/// they stay the same while a run goes on.
pub(super) fn window(lines: &[Line], position: usize) -> Window {
    let pages = pages(lines);
    let holds = |page: &Range<usize>| {
        let mut its = lines.get(page.clone()).unwrap_or_default().iter();
        its.any(|line| line.holds(position))
    };
    let at = pages.iter().position(holds).unwrap_or(0);
    let first = |page: usize| {
        let page = pages.get(page)?;
        lines.get(page.clone())?.iter().find_map(Line::first)
    };
    let last = pages.len().saturating_sub(1);
    Window {
        lines: pages.get(at).cloned().unwrap_or_default(),
        earlier: at.checked_sub(1).and_then(first),
        later: first(at + 1),
        last: if last > at + 1 { first(last) } else { None },
    }
}

/// The positions of the calls in these lines.
pub(super) fn span(lines: &[Line]) -> Range<usize> {
    let first = lines.iter().find_map(Line::first);
    let last = lines.iter().rev().find_map(|line| match line {
        Line::Call(at) => Some(at + 1),
        Line::Fold(calls) => Some(calls.end),
        Line::Note(_) => None,
    });
    first.zip(last).map_or(0..0, |(first, last)| first..last)
}

fn pages(lines: &[Line]) -> Vec<Range<usize>> {
    let mut pages: Vec<Range<usize>> = Vec::new();
    let (mut start, mut rows) = (0, 0);
    for (at, line) in lines.iter().enumerate() {
        if rows > 0 && rows + line.rows() > ROWS {
            pages.push(start..at);
            (start, rows) = (at, 0);
        }
        rows += line.rows();
    }
    if start < lines.len() {
        pages.push(start..lines.len());
    }
    pages
}

/// The calls of one agent, or all.
pub(super) fn of_agent(calls: Vec<Numbered>, agent: Option<&Label>) -> Vec<Numbered> {
    match agent {
        Some(agent) => calls
            .into_iter()
            .filter(|call| call.mark.agent == *agent)
            .collect(),
        None => calls,
    }
}

pub(super) fn position(calls: &[Numbered], id: CallId) -> Option<usize> {
    calls.iter().position(|call| call.mark.id == id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::time::Timestamp;

    fn call(number: usize, agent: u8, is_loud: bool) -> Numbered {
        Numbered {
            number,
            mark: Mark {
                id: CallId::from_bytes((number as u128).to_be_bytes()),
                started_at: Timestamp::from_micros(i64::try_from(number).unwrap()),
                duration_us: Some(1),
                outcome: None,
                cost_nano_usd: None,
                agent: Label::parse(&format!("a{agent}")).unwrap(),
            },
            is_loud,
        }
    }

    fn calls() -> impl Strategy<Value = Vec<Numbered>> {
        let one = (0..2_u8, 0..12_u8);
        proptest::collection::vec(one, 0..900).prop_map(|all| {
            let numbered = all.into_iter().enumerate();
            // Long stretches of one agent, and a few that are loud.
            numbered
                .map(|(n, (agent, loud))| call(n + 1, agent * u8::from(n % 97 < 9), loud == 0))
                .collect()
        })
    }

    fn held(lines: &[Line]) -> Vec<usize> {
        let of = |line: &Line| match line {
            Line::Call(at) => *at..*at + 1,
            Line::Fold(calls) => calls.clone(),
            Line::Note(_) => 0..0,
        };
        lines.iter().flat_map(of).collect()
    }

    proptest! {
        #[test]
        fn every_call_is_in_exactly_one_line_in_order(
            calls in calls(), mut notes in proptest::collection::vec(0..950_usize, 0..6), folds: bool,
        ) {
            notes.sort_unstable();
            let lines = lines(&calls, &notes, folds);
            prop_assert_eq!(held(&lines), (0..calls.len()).collect::<Vec<_>>());
            let told: Vec<usize> = lines.iter().filter_map(|line| match line {
                Line::Note(note) => Some(*note),
                _ => None,
            }).collect();
            prop_assert_eq!(told, (0..notes.len()).collect::<Vec<_>>());
            for line in &lines {
                if let Line::Fold(range) = line {
                    prop_assert!(folds && range.len() >= FOLDED_FROM);
                    let its = &calls[range.clone()];
                    prop_assert!(its.iter().all(|it| !it.is_loud && it.mark.agent == its[0].mark.agent));
                    prop_assert!(notes.iter().all(|note| *note <= range.start || *note >= range.end));
                }
            }
        }

        #[test]
        fn pages_hold_every_line_once_and_lead_to_each_other(calls in calls(), folds: bool) {
            let lines = lines(&calls, &[3, 500], folds);
            let mut seen = Vec::new();
            let mut at = Some(0).filter(|_| !calls.is_empty());
            let mut before = None;
            while let Some(position) = at {
                let page = window(&lines, position);
                let its = &lines[page.lines.clone()];
                prop_assert!(its.iter().map(Line::rows).sum::<usize>() <= ROWS);
                prop_assert_eq!(page.earlier, before);
                for holds in held(its) {
                    prop_assert_eq!(&window(&lines, holds), &page);
                }
                before = its.iter().find_map(Line::first);
                seen.extend(page.lines);
                at = page.later;
            }
            let all = if calls.is_empty() { 0 } else { lines.len() };
            prop_assert_eq!(seen, (0..all).collect::<Vec<_>>());
        }
    }

    #[test]
    fn similar_calls_fold_and_loud_ones_stand_alone() {
        let mut calls: Vec<Numbered> = (1..=10).map(|n| call(n, 0, false)).collect();
        calls[4].is_loud = true;
        assert_eq!(
            lines(&calls, &[], true),
            [Line::Fold(0..4), Line::Call(4), Line::Fold(5..10)]
        );
        // What happened in between parts them.
        assert_eq!(
            lines(&calls[5..], &[1], true),
            [Line::Call(0), Line::Note(0), Line::Fold(1..5)]
        );
    }
}
