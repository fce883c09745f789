//! How two texts differ, word by word.

use maud::{Markup, html};

use super::text;
use crate::core::diff::{Diff, Side};

/// What the first says is struck, what the second says instead is marked; nothing where they are alike.
pub(super) fn draw(diff: &Diff) -> Markup {
    html! {
        @if !diff.pieces.is_empty() {
            pre.text.diff dir="auto" {
                @for piece in &diff.pieces {
                    @match piece.of {
                        Side::Both => (text::shown(&piece.text)),
                        Side::First => del { (text::shown(&piece.text)) },
                        Side::Second => ins { (text::shown(&piece.text)) },
                    }
                }
            }
        }
        @if diff.is_cut { p.muted { "The texts go on after that; see the calls themselves." } }
    }
}
