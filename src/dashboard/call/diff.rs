//! What changed in the messages since the call before, word by word.

use maud::{Markup, html};

use super::super::differs;
use super::super::said::{self, Links};
use crate::admin::step::{History, Missing, StepView};
use crate::core::diff::Diff;
use crate::wire::readable::{Kind, Message};

pub(super) fn draw(step: &StepView, links: &Links) -> Markup {
    let sent = &step.sent;
    let before = &step.around.before;
    if before.is_none() || sent.missing.as_ref().is_some_and(Missing::is_all) {
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
    html! {
        p.note.warn {
            "From message " (sent.changed_at.unwrap_or(0) + 1) " on the history is another. Texts are \
             compared up to their first 4 KB."
        }
        (differs::draw(&Diff::of(&old, &new)))
    }
}

/// A message as lines.
fn written(message: &Message) -> String {
    let role = format!("{:?}", message.role).to_lowercase();
    let mut text = format!("[{role}]");
    for piece in &message.pieces {
        let name = piece.name.as_deref().unwrap_or_default();
        match piece.kind {
            Kind::ToolCall => text.extend(["\ncalls ", name]),
            Kind::ToolResult => text.extend(["\nresult of ", name]),
            _ => {}
        }
        text.extend(["\n", piece.said.text.as_str()]);
    }
    text
}
