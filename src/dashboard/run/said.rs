//! Messages as they stand in a step: verbatim texts, tool calls, results, each cut to what a page
//! has room for.

use maud::{Markup, html};

use super::super::figure;
use super::super::text;
use crate::wire::readable::{Kind, Message, Piece, Role};

/// What is left of a page for texts, in bytes of HTML.
#[derive(Debug)]
pub(super) struct Room(pub(super) usize);

impl Room {
    /// Draws as long as there is room; none when there was none left.
    fn spend(&mut self, draw: impl FnOnce(usize) -> Markup) -> Option<Markup> {
        if self.0 == 0 {
            return None;
        }
        let drawn = draw(self.0);
        self.0 = self.0.saturating_sub(drawn.0.len());
        Some(drawn)
    }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// A message, or that there is no room for it. `mark` is said beside its role.
pub(super) fn message(
    message: &Message,
    mark: Option<&str>,
    whole: &str,
    room: &mut Room,
) -> Markup {
    let drawn: Vec<Option<Markup>> = message
        .pieces
        .iter()
        .map(|its| room.spend(|left| piece(its, whole, left)))
        .collect();
    let hidden = drawn.iter().filter(|drawn| drawn.is_none()).count() as u64 + message.left_out;
    html! {
        div class=(format!("message {}", role(message.role))) {
            div.message-head {
                strong { (role(message.role)) }
                @if let Some(name) = &message.name { " " (text::name(name)) }
                ", " (figure::bytes(message.bytes))
                @if let Some(mark) = mark { " \u{b7} " (mark) }
            }
            @for drawn in drawn.into_iter().flatten() { (drawn) }
            @if hidden > 0 {
                p.muted { (figure::many(hidden, "more part")) " not shown here: " a href=(whole) { "all of it" } }
            }
        }
    }
}

fn piece(piece: &Piece, whole: &str, left: usize) -> Markup {
    let name = piece.name.as_deref().unwrap_or("a tool");
    html! {
        @match piece.kind {
            Kind::Text => (said(piece, whole, left)),
            Kind::Reasoning => div.thought { span.piece-head { "reasoning" } (said(piece, whole, left)) },
            Kind::Refusal => div { (figure::state("warn", "refusal")) (said(piece, whole, left)) },
            Kind::Error => div { (figure::state("bad", "error")) (said(piece, whole, left)) },
            Kind::ToolCall => div.tool { span.piece-head { "calls " strong { (text::name(name)) } } (said(piece, whole, left)) },
            Kind::ToolResult => div.tool {
                span.piece-head {
                    "result of " strong { (text::name(name)) }
                    @if let Some(asked) = &piece.asked {
                        @let front: String = asked.text.chars().take(120).collect();
                        " (" span.mono { (text::shown(&front)) @if asked.is_cut || front.len() < asked.text.len() { "\u{2026}" } } ")"
                    }
                    @if piece.is_error { " " (figure::state("bad", "failed")) }
                }
                (said(piece, whole, left))
            },
            Kind::Media => span.chip.media {
                (text::shown(piece.media_type.as_deref().unwrap_or("media")))
                @if let Some(name) = &piece.name { " " (text::name(name)) }
                ", " (figure::bytes(piece.said.len))
            },
            Kind::Other => div { span.piece-head { (text::shown(piece.name.as_deref().unwrap_or("not understood"))) } (said(piece, whole, left)) },
        }
    }
}

fn said(piece: &Piece, whole: &str, left: usize) -> Markup {
    let text = fitting(&piece.said.text, left);
    let is_cut = piece.said.is_cut || text.len() < piece.said.text.len();
    html! {
        @if !text.is_empty() {
            pre.text dir="auto" { (text::shown(text)) @if is_cut { "\u{2026}" } }
        }
        @if is_cut {
            p.muted { (figure::bytes(piece.said.len)) " in all: " a href=(whole) { "all of it" } }
        }
    }
}

/// As much of a text as there is room for: some characters take much more of it than others.
fn fitting(text: &str, left: usize) -> &str {
    const LEAST: usize = 256;
    let mut text = text;
    while text.len() > LEAST && text::shown(text).0.len() > left {
        let half = (text.len() / 2..text.len()).find(|at| text.is_char_boundary(*at));
        text = half.and_then(|half| text.get(..half)).unwrap_or_default();
    }
    text
}
