//! All calls of a run in little room: how many ran at once, where some failed, what is on the page.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::super::figure;
use super::super::here::Here;
use super::lines::Numbered;
use super::read::{Shown, is_hidden};
use super::scale::{BREAK, Scale, Stretch, UNITS};
use crate::core::time::Timestamp;
use crate::ledger::totals::is_error;

const COLUMNS: usize = 600;
/// Columns that one link covers: targets stay wide enough to be hit.
const LINKED: usize = 15;
const HEIGHT: u64 = 40;

/// What a column shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Column {
    /// Calls that ran at once, at most.
    calls: u32,
    failed: bool,
    /// The first call that runs in it, by its position.
    first: Option<usize>,
}

/// The axis that all calls lie on. What runs ends with whatever is known last.
pub(super) fn scale(calls: &[Numbered], is_true: bool) -> Scale {
    let runs = calls.iter().any(|call| call.mark.outcome.is_none());
    Scale::of(calls.iter().map(stretch), is_true).open(runs)
}

pub(super) fn stretch(call: &Numbered) -> Stretch {
    let from = call.mark.started_at;
    Stretch {
        from,
        to: from.plus_micros(call.mark.duration_us.unwrap_or(0)),
    }
}

fn columns(calls: &[Numbered], scale: &Scale) -> Vec<Column> {
    let mut columns = vec![Column::default(); COLUMNS];
    let place = |at: Timestamp| {
        let column = scale.at(at) * COLUMNS as u64 / (UNITS + 1);
        usize::try_from(column).unwrap_or(0).min(COLUMNS - 1)
    };
    // When, and in which column, one more runs or one less.
    let mut changes: Vec<(Timestamp, usize, i32)> = Vec::with_capacity(calls.len() * 2);
    for (at, call) in calls.iter().enumerate() {
        let its = stretch(call);
        changes.push((its.from, place(its.from), 1));
        if call.mark.outcome.is_some() {
            changes.push((its.to.plus_micros(1), place(its.to), -1));
        }
        if let Some(column) = columns.get_mut(place(its.from)) {
            column.first.get_or_insert(at);
        }
        if call.mark.outcome.is_some_and(is_error)
            && let Some(column) = columns.get_mut(place(its.to))
        {
            column.failed = true;
        }
    }
    changes.sort_unstable();
    let (mut running, mut last) = (0_i32, 0);
    // What still runs, does so up to the end.
    changes.push((Timestamp::from_micros(i64::MAX), COLUMNS - 1, 0));
    for (_, here, change) in changes {
        let so_far = running.unsigned_abs();
        running += change;
        let most = so_far.max(running.unsigned_abs());
        // What ran before this change ran in all columns up to it.
        for (index, column) in columns.iter_mut().enumerate().take(here + 1).skip(last) {
            let ran = if index == here { most } else { so_far };
            column.calls = column.calls.max(ran);
        }
        last = here;
    }
    columns
}

pub(super) fn draw(shown: &Shown, here: &Here, scale: &Scale) -> Markup {
    if shown.calls.is_empty() {
        return html! {};
    }
    let columns = columns(&shown.calls, scale);
    let most = columns.iter().map(|column| column.calls).max().unwrap_or(0);
    let failed = shown
        .calls
        .iter()
        .filter(|call| call.mark.outcome.is_some_and(is_error))
        .count();
    let title = format!(
        "{} calls, at most {most} at once, {failed} failed",
        figure::count(shown.calls.len() as u64)
    );
    html! {
        figure.map {
            svg viewBox=(format!("0 0 {COLUMNS} {HEIGHT}")) preserveAspectRatio="none" role="group" aria-label=(title) {
                title { (title) }
                @if shown.on_page.len() < shown.calls.len() {
                    @let (x, width) = on_page(shown, scale);
                    rect.window x=(x) width=(width) height=(HEIGHT) {}
                }
                path.calls d=(outline(&columns, most)) {}
                path.failed d=(ticks(&columns)) {}
                @for gap in &scale.idle {
                    @let x = scale.at(gap.from) * COLUMNS as u64 / UNITS;
                    rect.idle x=(x) width=(BREAK * COLUMNS as u64 / UNITS) height=(HEIGHT) {
                        title { (figure::duration(gap.micros())) " idle" }
                    }
                }
                @for (index, link) in columns.chunks(LINKED).enumerate() {
                    (jump(shown, here, index, link))
                }
            }
        }
    }
}

/// A link to the first call of some columns.
fn jump(shown: &Shown, here: &Here, index: usize, columns: &[Column]) -> Markup {
    let first = columns.iter().find_map(|column| column.first);
    let Some((at, call)) = first.and_then(|at| Some((at, shown.calls.get(at)?))) else {
        return html! {};
    };
    let id = call.mark.id.to_string();
    let mut changes = vec![("from", Some(id.as_str())), ("call", None)];
    if is_hidden(&shown.lines, at) {
        changes.push(("fold", Some("false")));
    }
    let to = here.with(&changes);
    let name = format!("to call {}", call.number);
    html! {
        a href=(format!("{to}#call-{id}")) aria-label=(name) {
            rect.jump x=(index * LINKED) width=(columns.len()) height=(HEIGHT) { title { (name) } }
        }
    }
}

/// How high the calls stand, as one line with right angles.
fn outline(columns: &[Column], most: u32) -> String {
    let mut path = format!("M0 {HEIGHT}");
    let mut last = None;
    for (x, column) in columns.iter().enumerate() {
        if last == Some(column.calls) {
            continue;
        }
        last = Some(column.calls);
        let room = HEIGHT - 4;
        let high = u64::from(column.calls) * room / u64::from(most.max(1));
        let high = high.max(u64::from(column.calls.min(1)) * 2);
        // Writing into a text does not fail.
        let _ = write!(path, "H{x}V{}", HEIGHT - high);
    }
    let _ = write!(path, "H{COLUMNS}V{HEIGHT}Z");
    path
}

fn ticks(columns: &[Column]) -> String {
    let mut path = String::new();
    for (x, _) in columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.failed)
    {
        let _ = write!(path, "M{x} 0h2v6h-2Z");
    }
    path
}

/// From where to where the calls on the page lie.
fn on_page(shown: &Shown, scale: &Scale) -> (u64, u64) {
    let calls = shown.calls.get(shown.on_page.clone()).unwrap_or_default();
    let Some((first, last)) = calls.first().map(stretch).zip(calls.last().map(stretch)) else {
        return (0, 0);
    };
    let x = |at| scale.at(at) * COLUMNS as u64 / UNITS;
    let from = x(first.from);
    (from, x(last.to).saturating_sub(from).max(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::call::Outcome;
    use crate::core::id::{CallId, Label};
    use crate::ledger::Mark;

    fn call(from: i64, to: Option<i64>, outcome: Option<Outcome>) -> Numbered {
        Numbered {
            number: 1,
            mark: Mark {
                id: CallId::from_bytes([0; 16]),
                started_at: Timestamp::from_micros(from * 1_000_000),
                duration_us: to.map(|to| u64::try_from(to - from).unwrap() * 1_000_000),
                outcome,
                cost_nano_usd: None,
                agent: Label::parse("a").unwrap(),
            },
            is_loud: false,
        }
    }

    #[test]
    fn a_column_is_as_high_as_calls_ran_at_once() {
        let done = Some(Outcome::Completed);
        let calls = [
            call(0, Some(600), done),
            call(100, Some(200), done),
            call(150, Some(160), Some(Outcome::UpstreamCut)),
            call(500, None, None),
        ];
        let columns = columns(&calls, &scale(&calls, true));
        // What runs has room behind all that is known.
        let high = |second: usize| columns[second * 94 / 100].calls;
        assert_eq!(
            [high(50), high(120), high(155), high(180), high(300)],
            [1, 2, 3, 2, 1]
        );
        // What runs goes on to the end.
        assert_eq!([high(550), columns[599].calls], [2, 1]);
        assert_eq!(columns.iter().position(|column| column.failed), Some(149));
        assert_eq!(
            columns
                .iter()
                .filter(|column| column.first.is_some())
                .count(),
            4
        );
    }

    #[test]
    fn many_short_calls_one_after_the_other_are_one_high() {
        let calls: Vec<Numbered> = (0..5000)
            .map(|n| call(2 * n, Some(2 * n + 1), Some(Outcome::Completed)))
            .collect();
        let columns = columns(&calls, &scale(&calls, true));
        assert!(
            columns.iter().all(|column| column.calls == 1),
            "{columns:?}"
        );
    }
}
