//! What the pages of a run are drawn from: read at once, on a thread that may wait for the disk.

use std::collections::{HashMap, HashSet};

use super::asked::{Asked, Tab};
use super::lines::{Line, Numbered, Window, lines, of_agent, position, span, window};
use crate::admin::step::{Options, StepView, step, step_with};
use crate::core::id::{CallId, Label};
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;
use crate::ledger::totals::is_error;
use crate::ledger::{
    BodyReader, CallRow, Event, IndexError, Mark, RunDetail, RunEvents, RunMarks, RunRow, View,
};

/// Calls that an export of them has.
pub(super) const EXPORTED: usize = 10_000;
/// Steps on a page.
pub(super) const STEPS: usize = 10;
/// Runs below a run that are shown.
const MOST_RUNS: usize = 100;
const DEEPEST: usize = 16;
/// Things that happened to a run which are shown: the last ones.
const MOST_NOTES: usize = 100;
/// What befalls a run after its last call is looked for so long, in microseconds.
const AFTERWARDS: u64 = 3_600_000_000;

/// A run below another one.
pub(super) struct Branch {
    /// 1 for a child of the run itself.
    pub(super) depth: usize,
    pub(super) row: RunRow,
}

/// Everything of one run but its calls one by one.
pub(super) struct Facts {
    pub(super) detail: RunDetail,
    pub(super) parent: Option<RunRow>,
    pub(super) tree: Vec<Branch>,
    /// There are more runs below it than `tree` has.
    pub(super) tree_is_cut: bool,
    /// All its calls, in the order they started in; of very many the first.
    pub(super) calls: Vec<Numbered>,
    pub(super) total: usize,
    /// What happened to it, oldest first.
    pub(super) notes: Vec<Note>,
}

/// Something that happened to a run.
pub(super) enum Note {
    Trip(Box<Trip>),
    Deed(Event),
}

impl Note {
    pub(super) fn at(&self) -> Timestamp {
        match self {
            Self::Trip(trip) => trip.at,
            Self::Deed(event) => event.at,
        }
    }
}

impl Facts {
    pub(super) fn trips(&self) -> impl Iterator<Item = &Trip> {
        self.notes.iter().filter_map(|note| match note {
            Note::Trip(trip) => Some(&**trip),
            Note::Deed(_) => None,
        })
    }
}

/// One page of it.
pub(super) struct Shown {
    pub(super) facts: Facts,
    /// The calls that are shown: all, or those of one agent.
    pub(super) calls: Vec<Numbered>,
    pub(super) lines: Vec<Line>,
    pub(super) window: Window,
    /// Which of the calls are on the page.
    pub(super) on_page: std::ops::Range<usize>,
    /// Of the calls on the page.
    pub(super) rows: HashMap<CallId, CallRow>,
    /// The step that is open in the timeline.
    pub(super) step: Option<StepView>,
    pub(super) steps: Vec<StepView>,
}

/// What there is none of.
#[derive(Debug)]
pub(super) enum Lack {
    Run,
    Call(CallId),
}

/// What is read comes to nothing where the ledger knows no such run, or no such call of it.
pub(super) type Found<T> = Result<Result<T, Lack>, IndexError>;

pub(super) fn shown(view: &View, asked: &Asked) -> Found<Shown> {
    let Some(facts) = facts(view, &asked.run)? else {
        return Ok(Err(Lack::Run));
    };
    let mut calls = of_agent(facts.calls.clone(), asked.agent.as_ref());
    let at = match asked.call {
        Some(call) => match position(&calls, call) {
            Some(at) => at,
            None => return Ok(Err(Lack::Call(call))),
        },
        None => asked
            .from
            .map_or(0, |from| first_from(&calls, &facts.calls, from)),
    };
    let places = note_places(&facts.notes, &calls);
    let folds = asked.folds && asked.tab == Tab::Timeline;
    let mut all = lines(&calls, &places, folds);
    if asked.call.is_some() && is_hidden(&all, at) {
        calls
            .iter_mut()
            .skip(at)
            .take(1)
            .for_each(|call| call.is_loud = true);
        all = lines(&calls, &places, folds);
    }
    let mut shown = Shown {
        lines: all,
        window: Window::default(),
        on_page: 0..0,
        rows: HashMap::new(),
        step: None,
        steps: Vec::new(),
        facts,
        calls,
    };
    match asked.tab {
        _ if asked.is_export => shown.read_rows(view, &shown.ids(0..EXPORTED))?,
        Tab::Timeline => {
            shown.window = window(&shown.lines, at);
            let on_page = shown
                .lines
                .get(shown.window.lines.clone())
                .unwrap_or_default();
            shown.on_page = span(on_page);
            shown.read_rows(view, &shown.ids_of_window())?;
            if let Some(call) = asked.call {
                shown.step = step(view, call, Options::default())?;
            }
        }
        Tab::Steps => shown.read_steps(view, at)?,
    }
    Ok(Ok(shown))
}

impl Shown {
    fn ids(&self, positions: std::ops::Range<usize>) -> Vec<CallId> {
        let end = positions.end.min(self.calls.len());
        let calls = self
            .calls
            .get(positions.start.min(end)..end)
            .unwrap_or_default();
        calls.iter().map(|call| call.mark.id).collect()
    }

    fn ids_of_window(&self) -> Vec<CallId> {
        let lines = self
            .lines
            .get(self.window.lines.clone())
            .unwrap_or_default();
        let of = |line: &Line| match line {
            Line::Call(at) => self.ids(*at..*at + 1),
            Line::Fold(calls) if Line::unfolds(calls) => self.ids(calls.clone()),
            Line::Fold(_) | Line::Note(_) => Vec::new(),
        };
        lines.iter().flat_map(of).collect()
    }

    fn read_rows(&mut self, view: &View, ids: &[CallId]) -> Result<(), IndexError> {
        let rows = view.picked(ids)?;
        self.rows = rows.into_iter().map(|row| (row.id, row)).collect();
        Ok(())
    }

    fn read_steps(&mut self, view: &View, at: usize) -> Result<(), IndexError> {
        let start = at / STEPS * STEPS;
        let last = self.calls.len().saturating_sub(1) / STEPS * STEPS;
        let other = |start: usize| Some(start).filter(|start| *start < self.calls.len());
        self.window = Window {
            lines: 0..0,
            earlier: start.checked_sub(STEPS),
            later: other(start + STEPS),
            last: Some(last).filter(|last| *last > start + STEPS),
        };
        self.on_page = start..(start + STEPS).min(self.calls.len());
        let ids = self.ids(self.on_page.clone());
        self.read_rows(view, &ids)?;
        let mut bodies = BodyReader::new(view);
        for id in ids {
            let step = step_with(view, &mut bodies, id, Options::default())?;
            self.steps.extend(step);
        }
        Ok(())
    }
}

/// Whether the call is in a line that does not have its calls with it.
pub(super) fn is_hidden(lines: &[Line], position: usize) -> bool {
    let its = lines.iter().find(|line| line.holds(position));
    matches!(its, Some(Line::Fold(calls)) if !Line::unfolds(calls))
}

/// The first shown call at or after the one a link leads to, which may be of another agent.
fn first_from(shown: &[Numbered], all: &[Numbered], from: CallId) -> usize {
    let number = position(all, from).map_or(0, |at| at + 1);
    let at = shown.partition_point(|call| call.number < number);
    at.min(shown.len().saturating_sub(1))
}

/// Before which of the calls each note stands.
fn note_places(notes: &[Note], calls: &[Numbered]) -> Vec<usize> {
    let before = |at: Timestamp| calls.partition_point(|call| call.mark.started_at <= at);
    notes.iter().map(|note| before(note.at())).collect()
}

pub(super) fn facts(view: &View, run: &Label) -> Result<Option<Facts>, IndexError> {
    let Some(detail) = view.run(run)? else {
        return Ok(None);
    };
    let parent = match &detail.row.parent_run {
        Some(parent) => view.run(parent)?.map(|detail| detail.row),
        None => None,
    };
    let (tree, tree_is_cut) = tree(view, &detail)?;
    let notes = notes(view, &detail.row)?;
    let RunMarks { mut marks, total } = view.run_marks(run)?;
    marks.sort_by_key(|mark| (mark.started_at, mark.id));
    let in_loops: HashSet<CallId> = notes.iter().flat_map(calls_of).collect();
    let number = |(at, mark): (usize, Mark)| Numbered {
        number: at + 1,
        is_loud: mark.outcome.is_none_or(is_error) || in_loops.contains(&mark.id),
        mark,
    };
    Ok(Some(Facts {
        parent,
        tree,
        tree_is_cut,
        notes,
        calls: marks.into_iter().enumerate().map(number).collect(),
        total: usize::try_from(total).unwrap_or(usize::MAX),
        detail,
    }))
}

fn calls_of(note: &Note) -> Vec<CallId> {
    match note {
        Note::Trip(trip) => trip
            .evidence
            .calls
            .iter()
            .copied()
            .chain([trip.id])
            .collect(),
        Note::Deed(_) => Vec::new(),
    }
}

/// The runs below a run, each before its own.
fn tree(view: &View, detail: &RunDetail) -> Result<(Vec<Branch>, bool), IndexError> {
    let mut seen = HashSet::from([detail.row.run.clone()]);
    let mut tree: Vec<Branch> = Vec::new();
    let below = |depth: usize, children: &[RunRow]| {
        let rows = children.iter().rev().cloned();
        rows.map(|row| Branch { depth, row }).collect::<Vec<_>>()
    };
    let mut waiting = below(1, &detail.children);
    while let Some(next) = waiting.pop() {
        if !seen.insert(next.row.run.clone()) {
            continue;
        }
        if tree.len() == MOST_RUNS || next.depth > DEEPEST {
            return Ok((tree, true));
        }
        if let Some(detail) = view.run(&next.row.run)? {
            waiting.extend(below(next.depth + 1, &detail.children));
        }
        tree.push(next);
    }
    Ok((tree, false))
}

fn notes(view: &View, row: &RunRow) -> Result<Vec<Note>, IndexError> {
    let span = (row.first_at, row.last_at.plus_micros(AFTERWARDS));
    let RunEvents { trips, deeds } = view.events_of_run(&row.run, span)?;
    let trips = trips.into_iter().map(|trip| Note::Trip(Box::new(trip)));
    let mut notes: Vec<Note> = trips.chain(deeds.into_iter().map(Note::Deed)).collect();
    notes.sort_by_key(Note::at);
    let too_many = notes.len().saturating_sub(MOST_NOTES);
    notes.drain(..too_many);
    Ok(notes)
}
