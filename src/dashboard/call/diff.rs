//! What changed in the messages since the call before, line by line.

use maud::{Markup, html};

use super::super::said::{self, Links};
use super::super::text;
use crate::admin::step::{History, StepView};
use crate::wire::readable::{Kind, Message};

/// Lines of one difference that are shown.
const MOST: usize = 400;

/// One line of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

pub(super) fn draw(step: &StepView, links: &Links) -> Markup {
    let sent = &step.sent;
    let before = &step.around.before;
    if before.is_none()
        || sent
            .missing
            .as_ref()
            .is_some_and(|missing| missing.is_all())
    {
        return html! {
            p.note { "No call before this one in its conversation is known: nothing to compare with." }
            (said::sent(step, links))
        };
    }
    let changed = matches!(sent.history, History::Rewritten | History::Cut);
    if !changed || sent.dropped.is_empty() {
        return html! {
            p.note { "Nothing of what was sent before was changed: what is new was added behind it." }
            (said::sent(step, links))
        };
    }
    let old: Vec<String> = sent.dropped.iter().map(written).collect();
    let new: Vec<String> = sent
        .messages
        .iter()
        .map(|it| written(&it.message))
        .collect();
    let (old, new) = (old.join("\n"), new.join("\n"));
    let lines = lines(&old, &new);
    let shown = lines.len().min(MOST);
    html! {
        p.note.warn {
            "From message " (sent.changed_at.unwrap_or(0) + 1) " on the history is another. Texts are \
             compared up to their first 4 KB."
        }
        pre.text.diff dir="auto" {
            @for line in lines.iter().take(MOST) {
                @match line {
                    Line::Same(line) => span { "  " (text::shown(line)) "\n" },
                    Line::Gone(line) => del { "- " (text::shown(line)) "\n" },
                    Line::New(line) => ins { "+ " (text::shown(line)) "\n" },
                }
            }
        }
        @if lines.len() > shown { p.muted { (lines.len() - shown) " more lines are not shown" } }
    }
}

/// A message as lines.
fn written(message: &Message) -> String {
    let role = format!("{:?}", message.role).to_lowercase();
    let mut text = format!("[{role}]");
    for piece in &message.pieces {
        let name = piece.name.as_deref().unwrap_or_default();
        match piece.kind {
            Kind::ToolCall => text.push_str(&format!("\ncalls {name}")),
            Kind::ToolResult => text.push_str(&format!("\nresult of {name}")),
            _ => {}
        }
        text.push('\n');
        text.push_str(&piece.said.text);
    }
    text
}

/// What is the same at both ends, and what differs between.
fn lines<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let front = old
        .iter()
        .zip(&new)
        .take_while(|(one, other)| one == other)
        .count();
    let rest = |lines: &[&'a str]| lines.iter().skip(front).copied().collect::<Vec<_>>();
    let (old_rest, new_rest) = (rest(&old), rest(&new));
    let ends = old_rest.iter().rev().zip(new_rest.iter().rev());
    let end = ends.take_while(|(one, other)| one == other).count();
    let (gone, added) = (old_rest.len() - end, new_rest.len() - end);
    let same = |line: &&'a str| Line::Same(line);
    let mut all: Vec<Line<'a>> = old.iter().take(front).map(same).collect();
    all.extend(old_rest.iter().take(gone).map(|line| Line::Gone(line)));
    all.extend(new_rest.iter().take(added).map(|line| Line::New(line)));
    all.extend(old_rest.iter().skip(gone).map(same));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_stands_between_what_is_the_same() {
        let found = lines("a\nb\nc\nd", "a\nx\ny\nd");
        let expected = [
            Line::Same("a"),
            Line::Gone("b"),
            Line::Gone("c"),
            Line::New("x"),
            Line::New("y"),
            Line::Same("d"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn every_line_of_both_is_there_once() {
        for (old, new) in [
            ("", ""),
            ("a", ""),
            ("", "a"),
            ("a\na", "a"),
            ("a\nb", "b\na"),
        ] {
            let found = lines(old, new);
            let of = |wanted: fn(&Line<'_>) -> bool| found.iter().filter(|it| wanted(it)).count();
            let (same, gone, added) = (
                of(|it| matches!(it, Line::Same(_))),
                of(|it| matches!(it, Line::Gone(_))),
                of(|it| matches!(it, Line::New(_))),
            );
            assert_eq!(same + gone, old.lines().count(), "{old:?} {new:?}");
            assert_eq!(same + added, new.lines().count(), "{old:?} {new:?}");
        }
    }
}
